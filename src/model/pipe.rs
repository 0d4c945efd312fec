//! Bytes on their way between two threads: a file that somebody sends, or is sent.
//!
//! Holds a few pieces and then waits for the slower side. The end is said, never guessed: whoever reads can tell a file
//! that is complete from one whose sender went away.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Pieces that may lie in it.
const PIECES: usize = 4;
/// Bytes that are collected for a piece.
const PIECE: usize = 256 << 10;

enum Piece {
    Bytes(Vec<u8>),
    End,
}

/// The side that bytes go into.
pub struct Inlet {
    sender: SyncSender<Piece>,
    collected: Vec<u8>,
}

/// The side that they come out of.
pub struct Outlet {
    receiver: Receiver<Piece>,
    piece: Vec<u8>,
    at: usize,
    is_over: bool,
}

/// A file that somebody sends.
#[derive(Debug)]
pub struct Incoming {
    /// Its name as the sender calls it; only a hint.
    pub name: String,
    /// How long it is, as the sender says.
    pub length: Option<u64>,
    /// Its content.
    pub content: Outlet,
}

/// A new one.
pub fn pipe() -> (Inlet, Outlet) {
    let (sender, receiver) = sync_channel(PIECES);
    let outlet = Outlet { receiver, piece: Vec::new(), at: 0, is_over: false };
    (Inlet { sender, collected: Vec::new() }, outlet)
}

impl std::fmt::Debug for Inlet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Inlet")
    }
}

impl std::fmt::Debug for Outlet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Outlet")
    }
}

impl Inlet {
    /// Says that everything was written.
    pub fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        self.sender.send(Piece::End).map_err(|_| ErrorKind::BrokenPipe.into())
    }
}

impl Write for Inlet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.collected.extend_from_slice(bytes);
        if self.collected.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.collected.is_empty() {
            return Ok(());
        }
        let piece = Piece::Bytes(std::mem::take(&mut self.collected));
        self.sender.send(piece).map_err(|_| ErrorKind::BrokenPipe.into())
    }
}

impl Outlet {
    /// The next piece; `None` at the end, an error when the other side went away before it.
    pub fn piece(&mut self) -> io::Result<Option<Vec<u8>>> {
        if self.is_over {
            return Ok(None);
        }
        match self.receiver.recv() {
            Ok(Piece::Bytes(bytes)) => Ok(Some(bytes)),
            Ok(Piece::End) => {
                self.is_over = true;
                Ok(None)
            }
            Err(_) => Err(io::Error::new(ErrorKind::UnexpectedEof, "it was broken off before its end")),
        }
    }
}

impl Read for Outlet {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at >= self.piece.len() {
            match self.piece()? {
                Some(piece) => (self.piece, self.at) = (piece, 0),
                None => return Ok(0),
            }
        }
        let count = self.piece.get(self.at..).unwrap_or_default().read(buffer)?;
        self.at += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn everything_arrives_and_the_end_is_known() {
        let (mut inlet, mut outlet) = pipe();
        let content: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
        let sent = content.clone();
        let writer = thread::spawn(move || inlet.write_all(&sent).and_then(|()| inlet.finish()));
        let mut back = Vec::new();
        outlet.read_to_end(&mut back).unwrap();
        writer.join().unwrap().unwrap();
        assert!(back == content);
    }

    #[test]
    fn what_is_broken_off_is_an_error_on_both_sides() {
        let (mut inlet, mut outlet) = pipe();
        inlet.write_all(b"begun").unwrap();
        inlet.flush().unwrap();
        drop(inlet);
        let error = outlet.read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
        let (mut inlet, outlet) = pipe();
        drop(outlet);
        assert_eq!(inlet.write_all(&vec![0; PIECE]).unwrap_err().kind(), ErrorKind::BrokenPipe);
    }
}
