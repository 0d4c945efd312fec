//! Reads the list of files ahead of the visitor, so that the threads always have something to decode.
//!
//! Memory is bounded by what is on its way, not by what the archive holds.

use super::Fault;
use super::entry::Holes;
use super::items::Items;
use super::pipeline::Pipeline;
use super::repository::Repository;
use crate::formats::borg::item::{Chunk, Item};
use crate::source::ReadError;
use std::collections::VecDeque;

/// How many bytes of content are on their way, unless a single piece is longer.
const WINDOW: u64 = 12 << 20;
/// How many pieces are on their way.
const MOST_PIECES: usize = 512;
/// How many items are read ahead.
const MOST_ITEMS: usize = 512;
/// How long they may be together, packed.
const MOST_LENGTH: usize = 4 << 20;

/// An item whose content is on its way.
pub(super) struct Planned {
    pub(super) item: Item,
    /// Lengths of the pieces of its content, each of which has to be taken.
    pub(super) chunks: Vec<u32>,
    pub(super) is_sparse: bool,
    /// Why its content is not what was backed up, where that is known before.
    pub(super) damage: Option<String>,
}

/// The items that were read ahead.
pub(super) struct Ahead<'a> {
    repository: &'a Repository,
    pipeline: &'a Pipeline<'a>,
    items: Items<'a>,
    holes: Holes,
    queue: VecDeque<Planned>,
    /// How long the items in it are, packed.
    length: usize,
    /// Pieces that were not asked for yet.
    waiting: VecDeque<Chunk>,
    pieces: usize,
    bytes: u64,
    /// Length of the piece that was taken last.
    held: u64,
    /// How the list of files ended.
    end: Option<Option<ReadError>>,
}

impl<'a> Ahead<'a> {
    pub(super) fn new(repository: &'a Repository, pipeline: &'a Pipeline<'a>, items: Items<'a>) -> Ahead<'a> {
        let (queue, waiting) = (VecDeque::new(), VecDeque::new());
        Ahead {
            repository,
            pipeline,
            items,
            holes: Holes::default(),
            queue,
            length: 0,
            waiting,
            pieces: 0,
            bytes: 0,
            held: 0,
            end: None,
        }
    }

    /// The next item, whose pieces are the next ones to take.
    pub(super) fn next_item(&mut self) -> Result<Option<Planned>, ReadError> {
        self.fill();
        match (self.queue.pop_front(), &mut self.end) {
            (Some(planned), _) => {
                self.length = self.length.saturating_sub(planned.item.length);
                Ok(Some(planned))
            }
            (None, Some(end)) => end.take().map_or(Ok(None), Err),
            (None, None) => Ok(None),
        }
    }

    /// Takes the next piece of content.
    pub(super) fn take(&mut self, size: u32) -> Result<Vec<u8>, Fault> {
        self.fill();
        let taken = self.pipeline.take();
        self.pieces = self.pieces.saturating_sub(1);
        // What the visitor holds counts until it takes the next one.
        self.bytes = self.bytes.saturating_sub(std::mem::replace(&mut self.held, u64::from(size)));
        taken
    }

    pub(super) fn give_back(&self, buffer: Vec<u8>) {
        self.pipeline.give_back(buffer);
    }

    /// Asks for as much as may be on its way, and reads the list of files as far as that needs.
    fn fill(&mut self) {
        loop {
            while let Some(chunk) = self.waiting.front().copied() {
                let fits = self.bytes + u64::from(chunk.size) <= WINDOW && self.pieces < MOST_PIECES;
                if !fits && self.pieces > 0 {
                    return;
                }
                self.waiting.pop_front();
                self.pieces += 1;
                self.bytes += u64::from(chunk.size);
                self.pipeline.submit(chunk);
            }
            if self.end.is_some() || self.queue.len() >= MOST_ITEMS || self.length >= MOST_LENGTH {
                return;
            }
            match self.items.next_item() {
                Ok(Some(item)) => self.plan(item),
                Ok(None) => self.end = Some(None),
                Err(error) => self.end = Some(Some(error)),
            }
        }
    }

    fn plan(&mut self, mut item: Item) {
        let mut damage = None;
        let mut chunks = item.chunks.clone().unwrap_or_default();
        if let Some(healthy) = item.healthy.take() {
            // `borg check --repair` had put zeros in the place of pieces that were lost; they may have come back.
            if healthy.iter().all(|chunk| self.repository.has(&chunk.id)) {
                chunks.clone_from(&healthy);
                item.chunks = Some(healthy);
            } else {
                damage = Some("a piece of its content was lost, and 'borg check' put zeros in its place".to_owned());
            }
        }
        let is_sparse = self.holes.is_in(&chunks, |content| self.repository.id_of(content));
        let lengths = chunks.iter().map(|chunk| chunk.size).collect();
        self.waiting.extend(chunks);
        self.length += item.length;
        self.queue.push_back(Planned { item, chunks: lengths, is_sparse, damage });
    }
}
