//! The two copies of the journal as files: reading what they say together, and making them whole again.
//!
//! Takes nothing away from one before the other holds it.

use super::{JournalError, Record, failed, is_torn, merge};
use crate::sys::dir::{self, Dir};
use crate::sys::tree;
use std::io::{self, Read, Write};

/// Longest journal that is read back: a plan of every app is far below.
const LARGEST: u64 = 64 << 20;
/// The two copies, in the order in which they are written.
pub(super) const COPIES: [&[u8]; 2] = [b"journal", b"journal-copy"];
/// What a copy is called while it is made anew.
const NEW: &[u8] = b"journal-new";

/// One of the two files as it lies on the disk; empty where there is none.
#[derive(Debug, Default)]
pub(super) struct Copy {
    text: Vec<u8>,
    /// Why it could not be read to its end.
    unread: Option<io::Error>,
}

impl Copy {
    /// Both copies as they lie on the disk; an error when neither is there.
    pub(super) fn both(dir: &Dir) -> Result<[Copy; 2], JournalError> {
        let read = COPIES.map(|name| Copy::read(dir, name));
        match read {
            [Err(error), Err(_)] => Err(failed("opening")(error)),
            [one, other] => Ok([one, other].map(Result::unwrap_or_default)),
        }
    }

    /// Reads one; an error only when it is not there.
    fn read(dir: &Dir, name: &[u8]) -> io::Result<Copy> {
        let mut copy = Copy::default();
        let read = dir.read_file(name).and_then(|file| file.take(LARGEST).read_to_end(&mut copy.text));
        match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(error),
            other => {
                copy.unread = other.err();
                Ok(copy)
            }
        }
    }

    /// What the two say together.
    pub(super) fn agree([one, other]: &[Copy; 2]) -> Result<(Vec<Record>, Vec<u8>), JournalError> {
        let merged = merge([&one.text, &other.text]);
        // What could not be read may be what is missing.
        let unread = one.unread.as_ref().or(other.unread.as_ref());
        match (merged, unread) {
            (Err(_), Some(error)) => Err(failed("reading")(io::Error::new(error.kind(), error.to_string()))),
            (merged, _) => merged,
        }
    }

    /// Gives the file all of `text`; says whether it was damaged, and not only shorter or longer at its end. A damaged one
    /// is replaced by a new one in one moment, so that what is good in it is there until then.
    fn mend(&self, dir: &Dir, name: &[u8], text: &[u8]) -> io::Result<bool> {
        let common = text.iter().zip(&self.text).take_while(|(wanted, found)| wanted == found).count();
        let is_damaged = self.unread.is_some() || !is_torn(self.text.get(common..).unwrap_or_default());
        if is_damaged {
            let mut file = dir.create_file(NEW)?;
            file.write_all(text)?;
            dir::sync_file(&file)?;
            dir.replace(NEW, name)?;
            dir.sync()?;
        } else if self.text != text {
            let mut file = dir.append_file(name)?;
            file.set_len(common as u64)?;
            file.write_all(text.get(common..).unwrap_or_default())?;
            dir::sync_file(&file)?;
            dir.sync()?;
        }
        Ok(is_damaged)
    }
}

/// Gives both files all of `text`; says whether one of them was damaged.
pub(super) fn mend(dir: &Dir, copies: &[Copy; 2], text: &[u8]) -> io::Result<bool> {
    tree::remove(dir, NEW)?;
    let mut mended = false;
    for (name, copy) in COPIES.into_iter().zip(copies) {
        mended |= copy.mend(dir, name, text)?;
    }
    Ok(mended)
}
