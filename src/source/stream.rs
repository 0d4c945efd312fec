//! The unpacked bytes of an archive file, made by a second thread.
//!
//! Inflating and what is done with the result take about the same time, so they get a core each. Buffers go round
//! between the two threads: memory stays at [`BUFFERS`] × [`BUFFER`] bytes whatever the archive holds.

use super::ReadError;
use super::medium::Medium;
use super::unpack::{Unpacked, unpack};
use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

/// Length of one buffer.
const BUFFER: usize = 256 << 10;
/// How many are on their way at most.
const BUFFERS: usize = 8;

/// What the reading thread sends.
enum Message {
    /// The next unpacked bytes, and how far the file was read for them.
    Data { bytes: Vec<u8>, length: usize, consumed: u64 },
    /// The end, good or bad; nothing follows.
    End(Result<Unpacked, ReadError>),
}

/// The reading end.
#[derive(Debug)]
pub(super) struct Stream {
    messages: Option<Receiver<Message>>,
    empties: Sender<Vec<u8>>,
    thread: Option<JoinHandle<()>>,
    buffer: Vec<u8>,
    at: usize,
    length: usize,
    consumed: u64,
    end: Option<Unpacked>,
}

/// The writing end, in the other thread.
pub(super) struct Sink {
    messages: SyncSender<Message>,
    empties: Receiver<Vec<u8>>,
    buffer: Vec<u8>,
    filled: usize,
    made: usize,
}

impl Stream {
    /// Starts reading `medium` from its beginning. `hash` asks for the SHA-256 of the file itself.
    pub(super) fn start(medium: &Arc<Medium>, hash: bool) -> io::Result<Self> {
        let medium = medium.clone();
        let (messages, receiver) = sync_channel(BUFFERS - 2);
        let (empties, returned) = channel();
        let thread = std::thread::Builder::new().name("unpack".into()).spawn(move || {
            let mut sink = Sink { messages, empties: returned, buffer: vec![0; BUFFER], filled: 0, made: 1 };
            let end = unpack(&medium, hash, &mut sink);
            // When nobody listens any more, there is nobody to tell.
            let _ = sink.messages.send(Message::End(end));
        })?;
        Ok(Self {
            messages: Some(receiver),
            empties,
            thread: Some(thread),
            buffer: Vec::new(),
            at: 0,
            length: 0,
            consumed: 0,
            end: None,
        })
    }

    /// How much of the file was read for what was handed out.
    pub(super) fn consumed(&self) -> u64 {
        self.consumed
    }

    /// How the file ended, after the last byte was handed out.
    pub(super) fn end(&self) -> Option<&Unpacked> {
        self.end.as_ref()
    }

    /// Waits for the next buffer; `false` at the end.
    fn refill(&mut self) -> io::Result<bool> {
        let stopped = || io::Error::other("the thread that unpacks the backup ended without a word");
        let message = match &self.messages {
            Some(messages) => messages.recv().map_err(|_| stopped())?,
            None => return Ok(false),
        };
        match message {
            Message::Data { bytes, length, consumed } => {
                // The first one given back is empty, and a thread that is gone needs none: both do no harm.
                let _ = self.empties.send(std::mem::replace(&mut self.buffer, bytes));
                (self.at, self.length, self.consumed) = (0, length, consumed);
                Ok(true)
            }
            Message::End(end) => {
                self.messages = None;
                let end = end.map_err(io::Error::other)?;
                self.consumed = end.length;
                self.end = Some(end);
                Ok(false)
            }
        }
    }
}

impl Read for Stream {
    /// Errors carry a [`ReadError`] inside.
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(target)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Stream {
    /// Errors carry a [`ReadError`] inside.
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at >= self.length {
            if !self.refill()? {
                return Ok(&[]);
            }
        }
        Ok(self.buffer.get(self.at..self.length).unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        self.at = self.at.saturating_add(count).min(self.length);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // The thread ends at its next send, once nobody receives.
        self.messages = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Sink {
    /// Room for unpacked bytes, never empty.
    pub(super) fn room(&mut self) -> &mut [u8] {
        self.buffer.get_mut(self.filled..).unwrap_or_default()
    }

    /// Says that `count` bytes of the room are filled, and that the file was read up to `consumed`.
    pub(super) fn advance(&mut self, count: usize, consumed: u64) -> Result<(), ReadError> {
        self.filled += count;
        if self.filled >= self.buffer.len() { self.flush(consumed) } else { Ok(()) }
    }

    /// Sends what there is.
    pub(super) fn flush(&mut self, consumed: u64) -> Result<(), ReadError> {
        if self.filled == 0 {
            return Ok(());
        }
        let fresh = match self.empties.try_recv() {
            Ok(buffer) if buffer.len() == BUFFER => buffer,
            _ if self.made < BUFFERS => {
                self.made += 1;
                vec![0; BUFFER]
            }
            // All are on their way: the next one that comes back is waited for after sending.
            _ => Vec::new(),
        };
        let bytes = std::mem::replace(&mut self.buffer, fresh);
        let message = Message::Data { bytes, length: self.filled, consumed };
        self.filled = 0;
        self.messages.send(message).map_err(|_| ReadError::Stopped)?;
        while self.buffer.len() != BUFFER {
            self.buffer = self.empties.recv().map_err(|_| ReadError::Stopped)?;
        }
        Ok(())
    }
}
