//! The files of an installed system by name, however its filesystem is read: by the kernel, or by Lifeboat itself where
//! the kernel cannot mount it, or must not.
//!
//! Symbolic links are resolved as that system would, and never lead out of it.

use crate::formats::ext4::content::Content;
use crate::formats::ext4::{Filesystem, Kind};
use crate::sys::file::ForeignRoot;
use std::io::{self, Read};

/// Files of one system.
pub trait Files {
    /// Opens a regular file below the root; `None` when there is none of that name.
    fn open(&self, path: &str) -> io::Result<Option<Box<dyn Read + '_>>>;

    /// Reads a file of at most `limit` bytes; `None` when there is none of that name.
    fn read(&self, path: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let Some(file) = self.open(path)? else { return Ok(None) };
        let mut content = Vec::new();
        file.take(limit.saturating_add(1)).read_to_end(&mut content)?;
        if content.len() as u64 > limit {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is longer than {limit} bytes")));
        }
        Ok(Some(content))
    }

    /// Whether a regular file of that name is below the root.
    fn has(&self, path: &str) -> bool {
        matches!(self.open(path), Ok(Some(_)))
    }
}

impl Files for ForeignRoot {
    fn open(&self, path: &str) -> io::Result<Option<Box<dyn Read + '_>>> {
        Ok(self.file(path)?.map(|file| Box::new(file) as Box<dyn Read>))
    }
}

impl Files for Filesystem<'_> {
    fn open(&self, path: &str) -> io::Result<Option<Box<dyn Read + '_>>> {
        let Some(inode) = self.find(path.as_bytes()).map_err(io::Error::other)? else { return Ok(None) };
        if inode.kind != Kind::File {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not a regular file"));
        }
        let content = Content::open(self, &inode).map_err(io::Error::other)?;
        Ok(Some(Box::new(content)))
    }
}
