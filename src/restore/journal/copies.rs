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
    pub(super) text: Vec<u8>,
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

    /// How much of `text` it begins with.
    pub(super) fn common(&self, text: &[u8]) -> usize {
        text.iter().zip(&self.text).take_while(|(wanted, found)| wanted == found).count()
    }

    /// Whether something is wrong with it that is more than the end of it, which a power cut may take or leave half.
    pub(super) fn is_damaged(&self, text: &[u8]) -> bool {
        self.unread.is_some() || !is_torn(self.text.get(self.common(text)..).unwrap_or_default())
    }
}

/// Replaces a damaged copy by a new one with all of `text`, in one moment: what is good in it is there until then. Says
/// whether there was one.
pub(super) fn renew(dir: &Dir, copies: &[Copy; 2], text: &[u8]) -> io::Result<bool> {
    tree::remove(dir, NEW)?;
    let mut renewed = false;
    for (name, _) in COPIES.into_iter().zip(copies).filter(|(_, copy)| copy.is_damaged(text)) {
        let mut file = dir.create_file(NEW)?;
        file.write_all(text)?;
        dir::sync_file(&file)?;
        dir.replace(NEW, name)?;
        dir.sync()?;
        renewed = true;
    }
    Ok(renewed)
}
