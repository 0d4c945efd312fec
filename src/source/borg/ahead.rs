//! Asks for the content of files ahead of the visitor, so that the threads always have something to decode.
//!
//! Memory is bounded by what is on its way, not by what the archive holds.

use super::Fault;
use super::entry::Meaning;
use super::listing::{Listed, Listing, More};
use super::object::{Decoder, MARGIN};
use super::pipeline::Pipeline;
use super::repository::Repository;
use super::ring::Ring;
use crate::formats::borg::LONGEST_CHUNK;
use crate::formats::borg::item::Chunk;
use crate::model::entry::EntryKind;
use crate::source::{ReadError, Visitor};
use bytes::BytesMut;
use std::collections::VecDeque;

/// How many bytes of content are on their way for each thread; what is only checked takes none. Two threads, which is
/// the least there are, must have room for the longest piece.
const WINDOW: usize = 11 << 20;
const _: () = assert!(2 * WINDOW >= MARGIN + LONGEST_CHUNK);
/// How many pieces are on their way.
const MOST_PIECES: usize = 512;
/// How many items are read ahead.
const MOST_ITEMS: usize = 512;
/// How long they may be together, packed.
const MOST_LENGTH: usize = 4 << 20;

/// An item whose content is on its way.
pub(super) struct Planned {
    pub(super) meaning: Meaning,
    /// BSD file flags.
    pub(super) flags: i128,
    /// Lengths of the pieces of its content, each of which has to be taken.
    pub(super) chunks: Vec<u32>,
    /// Whether the visitor will read them.
    pub(super) is_needed: bool,
    /// Why its content is not what was backed up, where that is known before.
    pub(super) damage: Option<String>,
    /// How long the item is, packed, and its content.
    length: usize,
    bytes: u64,
}

/// The items that were read ahead.
pub(super) struct Ahead<'a> {
    pipeline: &'a Pipeline<'a>,
    decoder: Decoder<'a>,
    /// The memory of the pieces on their way.
    ring: Ring,
    window: u64,
    listing: Listing,
    queue: VecDeque<Planned>,
    /// How long the items in it are, packed, and their content.
    length: usize,
    content: u64,
    /// Pieces that were not asked for yet, and whether they are needed.
    waiting: VecDeque<(Chunk, bool)>,
    pieces: usize,
}

impl<'a> Ahead<'a> {
    /// For so many threads that decode.
    pub(super) fn new(
        repository: &'a Repository,
        pipeline: &'a Pipeline<'a>,
        listing: Listing,
        threads: usize,
    ) -> Ahead<'a> {
        let (queue, waiting) = (VecDeque::new(), VecDeque::new());
        Ahead {
            pipeline,
            decoder: repository.decoder(),
            ring: Ring::new(WINDOW * threads),
            window: (WINDOW * threads) as u64,
            listing,
            queue,
            length: 0,
            content: 0,
            waiting,
            pieces: 0,
        }
    }

    /// The next item, whose pieces are the next ones to take.
    pub(super) fn next_item(&mut self, visitor: &mut dyn Visitor) -> Result<Option<Planned>, ReadError> {
        // Beyond the next item, however long it is, there must be enough to keep the threads busy until the one after.
        let is_enough = |ahead: &Self| {
            let next = ahead.queue.front().map_or(0, |next| next.bytes);
            let beyond = ahead.content.saturating_sub(next);
            ahead.queue.len() >= MOST_ITEMS || ahead.length >= MOST_LENGTH || beyond >= ahead.window
        };
        while !is_enough(self) || self.queue.is_empty() {
            match self.listing.next(self.queue.is_empty()) {
                More::Listed(listed) => self.plan(listed, visitor),
                More::Later | More::Nothing => break,
            }
        }
        self.submit();
        // What comes before the end is handed out first.
        let Some(planned) = self.queue.pop_front() else { return self.listing.end().map(|()| None) };
        self.length = self.length.saturating_sub(planned.length);
        self.content = self.content.saturating_sub(planned.bytes);
        Ok(Some(planned))
    }

    /// Takes the next piece of content. Its memory has to be given back before the next one is taken, whole or in parts.
    pub(super) fn take(&mut self) -> Result<BytesMut, Fault> {
        self.submit();
        let (mut room, decoded) = self.pipeline.take(&mut self.decoder);
        self.pieces = self.pieces.saturating_sub(1);
        let margin = if decoded.is_ok() { MARGIN.min(room.len()) } else { room.len() };
        self.ring.give_back(room.split_to(margin));
        decoded.map(|()| room)
    }

    /// Takes back memory that was used up, for the next pieces.
    pub(super) fn give_back(&mut self, part: BytesMut) {
        self.ring.give_back(part);
        self.submit();
    }

    /// Asks for as much as may be on its way.
    fn submit(&mut self) {
        while self.pieces < MOST_PIECES
            && let Some((chunk, is_needed)) = self.waiting.front()
            && let Some(room) = self.ring.take(if *is_needed { MARGIN + chunk.size as usize } else { 0 })
        {
            self.pipeline.submit(*chunk, room);
            self.waiting.pop_front();
            self.pieces += 1;
        }
    }

    fn plan(&mut self, listed: Listed, visitor: &mut dyn Visitor) {
        let Listed { meaning, flags, chunks, damage, length } = listed;
        let is_needed = match &meaning {
            Meaning::Entry(entry) if matches!(entry.kind, EntryKind::File { .. }) => visitor.needs_content(entry),
            Meaning::Entry(_) => true,
            Meaning::Nothing(_) | Meaning::Lost(_) => false,
        };
        let lengths: Vec<u32> = chunks.iter().map(|chunk| chunk.size).collect();
        let bytes = lengths.iter().map(|size| u64::from(*size)).sum();
        self.waiting.extend(chunks.into_iter().map(|chunk| (chunk, is_needed)));
        self.length += length;
        self.content += bytes;
        self.queue.push_back(Planned { meaning, flags, chunks: lengths, is_needed, damage, length, bytes });
    }
}
