//! Views of a disk that is being salvaged, for readers of filesystems.
//!
//! A reader that comes to a lost sector gets an error, never the zeros that stand for it in the image.

use super::SalvageError;
use super::copy::Copier;
use crate::formats::ReadAt;
use crate::formats::mapfile::{self, Map, lost};
use std::cell::RefCell;
use std::io;

/// The image, as far as it was read.
pub(super) type Readable<'a> = mapfile::Readable<&'a dyn ReadAt, &'a Map>;

/// The disk, read through its copy: what is asked for is copied first, so that it is read from the disk only once.
pub(super) struct Through<'a, 'b> {
    copier: RefCell<&'a mut Copier<'b>>,
    // What stops the copy as a whole; a reader of a filesystem knows only io errors.
    stopped: RefCell<Option<SalvageError>>,
    length: u64,
}

impl<'a, 'b> Through<'a, 'b> {
    pub(super) fn new(copier: &'a mut Copier<'b>) -> Self {
        let length = copier.map().length();
        Self { copier: RefCell::new(copier), stopped: RefCell::new(None), length }
    }

    /// Whether the copy can go on.
    pub(super) fn finish(self) -> Result<(), SalvageError> {
        self.stopped.into_inner().map_or(Ok(()), Err)
    }
}

impl ReadAt for Through<'_, '_> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let end = offset.saturating_add(buf.len() as u64).min(self.length);
        if offset >= end {
            return Ok(0);
        }
        if self.stopped.borrow().is_some() {
            return Err(lost());
        }
        let mut copier = self.copier.borrow_mut();
        match copier.fetch(offset..end) {
            Ok(true) => copier.read_image(offset, buf),
            Ok(false) => Err(lost()),
            Err(error) => {
                *self.stopped.borrow_mut() = Some(error);
                Err(lost())
            }
        }
    }

    fn length(&self) -> u64 {
        self.length
    }
}
