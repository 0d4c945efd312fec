//! Decodes pieces of content in several threads, and hands them out in order.
//!
//! Whoever submits decides how much is on its way; nothing here grows by itself.

use super::Fault;
use super::repository::Repository;
use crate::formats::borg::compression::Length;
use crate::formats::borg::item::Chunk;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// How many buffers wait to be used again.
const MOST_SPARE: usize = 2;
/// Shorter buffers are cheaper to make than to keep.
const WORTH_KEEPING: usize = 64 << 10;

/// The threads' meeting point.
pub(super) struct Pipeline<'a> {
    repository: &'a Repository,
    state: Mutex<State>,
    wanted: Condvar,
    made: Condvar,
}

#[derive(Default)]
struct State {
    tasks: VecDeque<(u64, Chunk)>,
    /// From the oldest that was not taken on.
    results: VecDeque<Option<Result<Vec<u8>, Fault>>>,
    /// Number of the first of them.
    first: u64,
    spare: Vec<Vec<u8>>,
    is_closed: bool,
}

impl<'a> Pipeline<'a> {
    pub(super) fn new(repository: &'a Repository) -> Pipeline<'a> {
        Pipeline { repository, state: Mutex::default(), wanted: Condvar::new(), made: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a piece.
    pub(super) fn submit(&self, chunk: Chunk) {
        let mut state = self.state();
        let number = state.first + state.results.len() as u64;
        state.results.push_back(None);
        state.tasks.push_back((number, chunk));
        drop(state);
        self.wanted.notify_one();
    }

    /// Waits for the oldest piece that was asked for.
    pub(super) fn take(&self) -> Result<Vec<u8>, Fault> {
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
                Some(None) => state = self.made.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Gives a buffer back.
    pub(super) fn give_back(&self, buffer: Vec<u8>) {
        if buffer.capacity() >= WORTH_KEEPING {
            let mut state = self.state();
            if state.spare.len() >= MOST_SPARE {
                state.spare.remove(0);
            }
            state.spare.push(buffer);
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
        loop {
            if state.is_closed {
                return;
            }
            let Some((number, chunk)) = state.tasks.pop_front() else {
                state = self.wanted.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            // One that is much too long would hold memory that nobody counts.
            let size = chunk.size as usize;
            let fitting = state.spare.iter().position(|spare| (size..=2 * size).contains(&spare.capacity()));
            let spare = fitting.map(|at| state.spare.swap_remove(at));
            drop(state);
            let mut plain = spare.unwrap_or_else(|| Vec::with_capacity(size));
            let decoded = decoder.decode(&chunk.id, chunk.stored, Length::Exactly(chunk.size as usize), &mut plain);
            state = self.state();
            let first = state.first;
            let at = usize::try_from(number.saturating_sub(first)).unwrap_or(usize::MAX);
            if let Some(slot) = state.results.get_mut(at) {
                *slot = Some(decoded.map(|()| plain));
            }
            if number == first {
                self.made.notify_one();
            }
        }
    }
}

/// Closes the pipeline when it goes.
pub(super) struct Closing<'a, 'b>(pub(super) &'a Pipeline<'b>);

impl Drop for Closing<'_, '_> {
    fn drop(&mut self) {
        self.0.close();
    }
}
