//! Decodes pieces of content in several threads, and hands them out in order.
//!
//! Whoever submits decides how much is on its way; nothing here grows by itself. Who waits for a piece decodes others
//! meanwhile, so with as many threads as processors, its own included, none sleeps while there is work.

use super::Fault;
use super::object::Decoder;
use super::repository::Repository;
use crate::formats::borg::item::Chunk;
use bytes::BytesMut;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Pieces up to this length are decoded faster than a thread wakes up; who waits for them decodes them as well.
const SHORT: u32 = 64 << 10;
/// How many short pieces are worth waking a thread.
const WORTH_WAKING: usize = 32;

/// The threads' meeting point.
pub(super) struct Pipeline<'a> {
    repository: &'a Repository,
    state: Mutex<State>,
    wanted: Condvar,
    made: Condvar,
}

/// A piece to decode, and the room for it; one that is only checked has none.
struct Task {
    number: u64,
    chunk: Chunk,
    room: BytesMut,
}

/// The room of a piece, and whether its content is in it.
pub(super) type Decoded = (BytesMut, Result<(), Fault>);

#[derive(Default)]
struct State {
    tasks: VecDeque<Task>,
    /// From the oldest that was not taken on.
    results: VecDeque<Option<Decoded>>,
    /// Number of the first of them.
    first: u64,
    /// How many threads wait for tasks; waking nobody costs a system call as well.
    idle: usize,
    is_closed: bool,
}

impl<'a> Pipeline<'a> {
    pub(super) fn new(repository: &'a Repository) -> Pipeline<'a> {
        Pipeline { repository, state: Mutex::default(), wanted: Condvar::new(), made: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a piece, with the room for it behind [`MARGIN`](super::object::MARGIN) bytes. Without room it is only
    /// checked.
    pub(super) fn submit(&self, chunk: Chunk, room: BytesMut) {
        let mut state = self.state();
        let number = state.first + state.results.len() as u64;
        state.results.push_back(None);
        state.tasks.push_back(Task { number, chunk, room });
        let is_work = chunk.size > SHORT || state.tasks.len() >= WORTH_WAKING;
        let wakes = is_work && state.idle > 0;
        drop(state);
        if wakes {
            self.wanted.notify_one();
        }
    }

    /// The oldest piece that was asked for. Decodes with `decoder` until it is there.
    pub(super) fn take(&self, decoder: &mut Decoder<'_>) -> Decoded {
        let failed = |what: &str| (BytesMut::new(), Err(Fault::Bad(what.into())));
        let mut state = self.state();
        loop {
            match state.results.front_mut().map(Option::take) {
                None => return failed("it was never asked for"),
                Some(Some(result)) => {
                    state.results.pop_front();
                    state.first += 1;
                    return result;
                }
                Some(None) if state.is_closed => return failed("a thread that decodes pieces ended"),
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
        let Task { number, chunk, mut room } = task;
        let decoded = match room.is_empty() {
            true => decoder.check(&chunk),
            false => decoder.fetch(&chunk, &mut room),
        };
        let mut state = self.state();
        let is_first = number == state.first;
        let at = usize::try_from(number.saturating_sub(state.first)).unwrap_or(usize::MAX);
        if let Some(slot) = state.results.get_mut(at) {
            *slot = Some((room, decoded));
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
