//! The items of one archive, one after the other.

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
}

impl<'a> Items<'a> {
    pub(super) fn new(repository: &'a Repository, pieces: &'a [ObjectId]) -> Items<'a> {
        Items { decoder: repository.decoder(), pieces, next: 0, stream: ItemStream::default(), piece: Vec::new() }
    }

    /// The next item; `None` at the end.
    pub(super) fn next_item(&mut self) -> Result<Option<Item>, ReadError> {
        loop {
            let found = self.stream.next_item().map_err(|bad| self.damage(&bad))?;
            if found.is_some() {
                return Ok(found);
            }
            let Some(id) = self.pieces.get(self.next) else {
                return if self.stream.is_open() { Err(self.damage(&"the last entry is cut off")) } else { Ok(None) };
            };
            self.next += 1;
            let decoded = self.decoder.decode(id, 0, Length::AtMost(LONGEST_CHUNK), &mut self.piece);
            decoded.map_err(|fault| self.damage(&fault))?;
            self.stream.push(&self.piece);
        }
    }

    fn damage(&self, what: &dyn std::fmt::Display) -> ReadError {
        ReadError::Corrupt {
            place: format!("in part {} of {} of the list of files", self.next, self.pieces.len()),
            what: what.to_string(),
        }
    }
}
