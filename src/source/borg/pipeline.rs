//! Decodes pieces of content in several threads, and hands them out in order.
//!
//! Whoever submits decides how much is on its way; nothing here grows by itself. Who waits for a piece decodes others
//! meanwhile, so with as many threads as processors, its own included, none sleeps while there is work.

use super::Fault;
use super::object::{Decoder, Piece};
use super::repository::Repository;
use crate::formats::borg::item::Chunk;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// How many bytes of buffers wait to be used again.
const MOST_SPARE: usize = 4 << 20;
/// Shorter buffers are cheaper to make than to keep.
const WORTH_KEEPING: usize = 64 << 10;

/// The threads' meeting point.
pub(super) struct Pipeline<'a> {
    repository: &'a Repository,
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
    spare: Vec<Vec<u8>>,
    /// How many threads wait for tasks; waking nobody costs a system call as well.
    idle: usize,
    is_closed: bool,
}

impl State {
    /// A buffer that is long enough, and not much too long: that would hold memory that nobody counts.
    fn spare(&mut self, length: usize) -> Option<Vec<u8>> {
        let at = self.spare.iter().position(|spare| (length..=2 * length).contains(&spare.capacity()))?;
        Some(self.spare.swap_remove(at))
    }
}

impl<'a> Pipeline<'a> {
    pub(super) fn new(repository: &'a Repository) -> Pipeline<'a> {
        Pipeline { repository, state: Mutex::default(), wanted: Condvar::new(), made: Condvar::new() }
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
        let is_idle = state.idle > 0;
        drop(state);
        if is_idle {
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

    /// Gives a piece's memory back.
    pub(super) fn give_back(&self, piece: Piece) {
        let buffer = piece.into_buffer();
        if (WORTH_KEEPING..=MOST_SPARE).contains(&buffer.capacity()) {
            let mut state = self.state();
            let mut sum = buffer.capacity();
            state.spare.push(buffer);
            // The newest are the likeliest to fit, and still in the processor's cache.
            let keep = state.spare.iter().rev().skip(1).take_while(|spare| {
                sum += spare.capacity();
                sum <= MOST_SPARE
            });
            let drop = state.spare.len() - 1 - keep.count();
            state.spare.drain(..drop);
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
            true => decoder.piece(&task.chunk, |length| self.state().spare(length)),
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
