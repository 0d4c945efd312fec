//! The content of an entry on its way from an archive to a visitor.
//!
//! Pieces are handed out where they lie in memory; whoever takes them says how much it has used. An interrupted call is
//! the archive's own matter and never shows.

use std::io::{self, BufRead, Read};

/// Length of the pieces of content that has to be copied to lie in memory.
const PIECE: usize = 128 << 10;

/// Hands all of `content` to `take`, piece by piece, up to the first error; `failed` names one of the content.
pub fn for_each_piece<E>(
    content: &mut dyn BufRead,
    failed: impl Fn(io::Error) -> E,
    mut take: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    loop {
        let piece = content.fill_buf().map_err(&failed)?;
        if piece.is_empty() {
            return Ok(());
        }
        take(piece)?;
        let length = piece.len();
        content.consume(length);
    }
}

/// Memory that a reader's content is read into, to be used for one after the other.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    at: usize,
    end: usize,
}

impl Buffer {
    /// Reads, unless something that was read was not used yet; says how much there is.
    pub(super) fn fill(&mut self, reader: &mut dyn Read) -> io::Result<usize> {
        if self.at >= self.end {
            self.bytes.resize(PIECE, 0);
            let end = loop {
                match reader.read(&mut self.bytes) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    other => break other?,
                }
            };
            (self.at, self.end) = (0, end);
        }
        Ok(self.end - self.at)
    }

    /// What was read and not used yet.
    pub(super) fn rest(&self) -> &[u8] {
        self.bytes.get(self.at..self.end).unwrap_or_default()
    }

    /// Says how much was used.
    pub(super) fn consume(&mut self, count: usize) {
        self.at = self.at.saturating_add(count).min(self.end);
    }

    /// Forgets what was read.
    pub(super) fn clear(&mut self) {
        (self.at, self.end) = (0, 0);
    }
}
