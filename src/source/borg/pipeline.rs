//! Decodes pieces of content in several threads, and hands them out in order.
//!
//! Whoever submits decides how much is on its way; nothing here grows by itself. Who waits for a piece decodes others
//! meanwhile, so with as many threads as processors, its own included, none sleeps while there is work.

use super::Fault;
use super::blocks::{Blocks, Piece};
use super::object::{Decoder, SHORT};
use super::repository::Repository;
use crate::formats::borg::item::Chunk;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// How many short pieces are worth waking a thread.
const WORTH_WAKING: usize = 32;

/// The threads' meeting point.
pub(super) struct Pipeline<'a> {
    repository: &'a Repository,
    /// What the pieces are made of.
    pub(super) blocks: Blocks,
    state: Mutex<State>,
    wanted: Condvar,
    made: Condvar,
}

/// A piece to decode, and whether it is to be handed out or only checked.
#[derive(Clone, Copy)]
struct Task {
    number: u64,
    chunk: Chunk,
    is_needed: bool,
}

#[derive(Default)]
struct State {
    tasks: VecDeque<Task>,
    /// From the oldest that was not taken on.
    results: VecDeque<Option<Result<Piece, Fault>>>,
    /// Number of the first of them.
    first: u64,
    /// How many threads wait for tasks; waking nobody costs a system call as well.
    idle: usize,
    is_closed: bool,
}

impl<'a> Pipeline<'a> {
    pub(super) fn new(repository: &'a Repository) -> Pipeline<'a> {
        let (blocks, state) = (Blocks::default(), Mutex::default());
        Pipeline { repository, blocks, state, wanted: Condvar::new(), made: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a piece; one that is not needed is checked, and comes without content.
    pub(super) fn submit(&self, chunk: Chunk, is_needed: bool) {
        let mut state = self.state();
        let number = state.first + state.results.len() as u64;
        state.results.push_back(None);
        state.tasks.push_back(Task { number, chunk, is_needed });
        // Short ones are decoded faster than a thread wakes up; who waits for them decodes them as well.
        let is_work = chunk.size as usize > SHORT || state.tasks.len() >= WORTH_WAKING;
        let wakes = is_work && state.idle > 0;
        drop(state);
        if wakes {
            self.wanted.notify_one();
        }
    }

    /// The oldest piece that was asked for. Decodes with `decoder` until it is there.
    pub(super) fn take(&self, decoder: &mut Decoder<'_>) -> Result<Piece, Fault> {
        let mut state = self.state();
        loop {
            match state.results.front_mut().map(Option::take) {
                None => return Err(Fault::Bad("it was never asked for".into())),
                Some(Some(result)) => {
                    state.results.pop_front();
                    state.first += 1;
                    return result;
                }
                Some(None) if state.is_closed => return Err(Fault::Bad("a thread that decodes pieces ended".into())),
                Some(None) => {
                    state = match state.tasks.pop_front() {
                        Some(task) => self.decode(state, task, decoder),
                        None => self.made.wait(state).unwrap_or_else(PoisonError::into_inner),
                    };
                }
            }
        }
    }

    /// Ends all threads.
    pub(super) fn close(&self) {
        self.state().is_closed = true;
        self.wanted.notify_all();
        self.made.notify_all();
    }

    /// What each thread does until the end.
    pub(super) fn work(&self) {
        // When this thread ends, nobody may wait for it, not even after a panic.
        let _end = Closing(self);
        let mut decoder = self.repository.decoder();
        let mut state = self.state();
        while !state.is_closed {
            state = match state.tasks.pop_front() {
                Some(task) => self.decode(state, task, &mut decoder),
                None => {
                    state.idle += 1;
                    let mut state = self.wanted.wait(state).unwrap_or_else(PoisonError::into_inner);
                    state.idle -= 1;
                    state
                }
            };
        }
    }

    /// Carries out one task; the lock is released meanwhile.
    fn decode<'b>(
        &'b self,
        state: MutexGuard<'b, State>,
        task: Task,
        decoder: &mut Decoder<'_>,
    ) -> MutexGuard<'b, State> {
        drop(state);
        let decoded = match task.is_needed {
            true => decoder.piece(&task.chunk, &self.blocks),
            false => decoder.check(&task.chunk).map(|()| Piece::default()),
        };
        let mut state = self.state();
        let is_first = task.number == state.first;
        let at = usize::try_from(task.number.saturating_sub(state.first)).unwrap_or(usize::MAX);
        if let Some(slot) = state.results.get_mut(at) {
            *slot = Some(decoded);
        }
        if is_first {
            self.made.notify_one();
        }
        state
    }
}

/// Closes the pipeline when it goes.
pub(super) struct Closing<'a, 'b>(pub(super) &'a Pipeline<'b>);

impl Drop for Closing<'_, '_> {
    fn drop(&mut self) {
        self.0.close();
    }
}
