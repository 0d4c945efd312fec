//! A thread that writes to the medium what was staged so far, while more is being staged.
//!
//! For speed alone: everything is synced once more at the end. An error of the medium stops the restore earlier.

use crate::sys::dir::Dir;
use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

/// How many bytes, and how many files, are worth a start.
const BYTES: u64 = 32 << 20;
const FILES: u64 = 4096;

/// The thread, and what was staged since it was called last.
pub(in crate::restore) struct Writeback {
    calls: Option<SyncSender<()>>,
    thread: Option<JoinHandle<io::Result<()>>>,
    bytes: u64,
    files: u64,
}

impl Writeback {
    /// A thread for the filesystems that the directories lie on.
    pub(in crate::restore) fn start<'a>(stages: impl Iterator<Item = &'a Dir>) -> io::Result<Writeback> {
        let (mut filesystems, mut devices) = (Vec::new(), Vec::new());
        for stage in stages {
            let device = stage.stat_self()?.dev;
            if !devices.contains(&device) {
                devices.push(device);
                filesystems.push(stage.again()?);
            }
        }
        let (calls, called) = sync_channel(1);
        let thread = std::thread::Builder::new().name("write-back".into()).spawn(move || {
            while called.recv().is_ok() {
                filesystems.iter().try_for_each(Dir::begin_sync)?;
            }
            Ok(())
        })?;
        Ok(Writeback { calls: Some(calls), thread: Some(thread), bytes: 0, files: 0 })
    }

    /// Says that another file of this length was staged.
    pub(super) fn staged(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        if (self.bytes >= BYTES || self.files >= FILES)
            && let Some(calls) = &self.calls
        {
            // When it is still busy, it will be called by one of the next files.
            if calls.try_send(()).is_ok() {
                (self.bytes, self.files) = (0, 0);
            }
        }
    }

    /// Ends the thread; an error is one of the medium.
    pub(in crate::restore) fn end(&mut self) -> io::Result<()> {
        self.calls = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(ended)) => ended,
            Some(Err(_)) => Err(io::Error::other("the thread that writes back ended")),
            None => Ok(()),
        }
    }
}

impl Drop for Writeback {
    fn drop(&mut self) {
        // What stopped the restore matters more.
        let _ = self.end();
    }
}
