//! The items of one archive, one after the other, around pieces of the list of files that are damaged.

use super::object::Decoder;
use super::repository::Repository;
use crate::formats::borg::compression::Length;
use crate::formats::borg::item::{Item, ItemStream};
use crate::formats::borg::{LONGEST_CHUNK, ObjectId};
use crate::source::ReadError;

/// Reads items from their pieces.
pub(super) struct Items<'a> {
    decoder: Decoder<'a>,
    pieces: &'a [ObjectId],
    next: usize,
    stream: ItemStream,
    piece: Vec<u8>,
    is_over: bool,
}

/// What comes next.
pub(super) enum Step {
    /// An item.
    Item(Box<Item>),
    /// Items that cannot be read, however many; the next one comes after them.
    Lost(Lost),
}

/// A part of the list of files that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("part {part} of {of} of the list of files is lost: {why}")]
pub(super) struct Lost {
    part: usize,
    of: usize,
    why: String,
}

impl From<Lost> for ReadError {
    fn from(lost: Lost) -> ReadError {
        ReadError::Corrupt {
            place: format!("in part {} of {} of the list of files", lost.part, lost.of),
            what: lost.why,
        }
    }
}

impl<'a> Items<'a> {
    pub(super) fn new(repository: &'a Repository, pieces: &'a [ObjectId]) -> Items<'a> {
        let (decoder, stream) = (repository.decoder(), ItemStream::default());
        Items { decoder, pieces, next: 0, stream, piece: Vec::new(), is_over: false }
    }

    /// The next item, or what is lost before it; `None` at the end.
    pub(super) fn next_item(&mut self) -> Option<Step> {
        while !self.is_over {
            match self.stream.next_item() {
                Ok(Some(item)) => return Some(Step::Item(Box::new(item))),
                Ok(None) => {}
                Err(bad) => return Some(self.lose(&bad)),
            }
            let Some(id) = self.pieces.get(self.next) else {
                self.is_over = true;
                return self.stream.is_open().then(|| self.lose(&"the last entry is cut off"));
            };
            self.next += 1;
            match self.decoder.decode(id, 0, Length::AtMost(LONGEST_CHUNK), &mut self.piece) {
                Ok(()) => self.stream.push(&self.piece),
                Err(fault) => return Some(self.lose(&fault)),
            }
        }
        None
    }

    fn lose(&mut self, why: &dyn std::fmt::Display) -> Step {
        self.stream.lose();
        Step::Lost(Lost { part: self.next, of: self.pieces.len(), why: why.to_string() })
    }
}
