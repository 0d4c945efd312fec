//! Memory for content on its way, in blocks of one length that go round among the threads.
//!
//! Fresh memory costs more than most of what is done with it, because the kernel clears it page by page. So there are
//! never more blocks than were on their way at once, whatever lengths the pieces have.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// How much content a block holds.
pub(super) const BLOCK: usize = 128 << 10;
/// Room before the content: an object is read with its head, and its content lies at the same place in each block.
pub(super) const MARGIN: usize = 128;

/// [`MARGIN`] and [`BLOCK`] bytes.
pub(super) type Block = Box<[u8]>;

/// The blocks that nobody uses.
#[derive(Default)]
pub(super) struct Blocks(Mutex<Vec<Block>>);

impl Blocks {
    pub(super) fn take(&self) -> Block {
        let spare = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        spare.unwrap_or_else(fresh)
    }

    pub(super) fn give_back(&self, block: Block) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(block);
    }
}

/// A block that holds anything.
pub(super) fn fresh() -> Block {
    vec![0; MARGIN + BLOCK].into_boxed_slice()
}

/// A piece of plain content, used up from its begin.
#[derive(Default)]
pub(super) struct Piece {
    /// A short one is not worth a block.
    short: Vec<u8>,
    blocks: VecDeque<Block>,
    /// How much of the first part is used, and how much is left in all.
    at: usize,
    left: usize,
}

impl Piece {
    pub(super) fn short(content: Vec<u8>) -> Piece {
        Piece { left: content.len(), short: content, ..Piece::default() }
    }

    /// Of blocks that are full, but for the last one.
    pub(super) fn long(blocks: VecDeque<Block>, length: usize) -> Piece {
        Piece { blocks, left: length, ..Piece::default() }
    }

    /// Copied into blocks.
    pub(super) fn copied(content: &[u8], pool: &Blocks) -> Piece {
        let filled = content.chunks(BLOCK).map(|part| {
            let mut block = pool.take();
            if let Some(to) = block.get_mut(MARGIN..MARGIN + part.len()) {
                to.copy_from_slice(part);
            }
            block
        });
        Piece::long(filled.collect(), content.len())
    }

    /// What comes next, as far as it lies together; nothing at the end.
    pub(super) fn part(&self) -> &[u8] {
        let part = match self.blocks.front() {
            Some(block) => block.get(MARGIN + self.at..).unwrap_or_default(),
            None => self.short.get(self.at..).unwrap_or_default(),
        };
        part.get(..self.left).unwrap_or(part)
    }

    /// Takes note that so much of the part was used. Returns the block that was used up.
    pub(super) fn consume(&mut self, count: usize) -> Option<Block> {
        self.at += count;
        self.left = self.left.saturating_sub(count);
        if self.at < BLOCK && self.left > 0 {
            return None;
        }
        let block = self.blocks.pop_front();
        if block.is_some() {
            self.at = 0;
        }
        block
    }

    /// Everything that is left of it: the blocks, and the length of a short one.
    pub(super) fn into_rest(self) -> (VecDeque<Block>, usize) {
        (self.blocks, self.short.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_gives_its_content_and_its_blocks_back_in_steps_of_any_length() {
        let pool = Blocks::default();
        for length in [1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 3 * BLOCK + 7] {
            let content: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
            for step in [1000, BLOCK / 2, BLOCK, 2 * BLOCK] {
                for mut piece in [Piece::copied(&content, &pool), Piece::short(content.clone())] {
                    let (mut seen, mut returned) = (Vec::new(), 0);
                    let blocks = piece.blocks.len();
                    while let Some(count) = Some(piece.part().len().min(step)).filter(|count| *count > 0) {
                        seen.extend_from_slice(&piece.part()[..count]);
                        returned += piece.consume(count).map_or(0, |block| {
                            pool.give_back(block);
                            1
                        });
                    }
                    assert!(seen == content, "{length} in steps of {step}");
                    assert_eq!(returned, blocks, "{length} in steps of {step}");
                }
            }
        }
        assert_eq!(pool.0.lock().unwrap().len(), 4, "no more blocks than the longest piece has");
    }
}
