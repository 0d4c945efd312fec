//! The files of an installed system by name, however its filesystem is read: by the kernel, or by Lifeboat itself where
//! the kernel cannot mount it, or must not.
//!
//! Symbolic links are resolved as that system would, and never lead out of it.

use crate::formats::ext4::content::Content;
use crate::formats::ext4::{Ext4Error, Filesystem, Kind};
use crate::sys::file::ForeignRoot;
use std::io::{self, Read};
use std::path::Path;

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

    /// The names in a directory, sorted; none when there is no such directory.
    fn names(&self, path: &str) -> io::Result<Vec<Vec<u8>>>;

    /// Whether a regular file of that name is below the root.
    fn has(&self, path: &str) -> bool {
        matches!(self.open(path), Ok(Some(_)))
    }
}

impl Files for ForeignRoot {
    fn open(&self, path: &str) -> io::Result<Option<Box<dyn Read + '_>>> {
        Ok(self.file(path)?.map(|file| Box::new(file) as Box<dyn Read>))
    }

    fn names(&self, path: &str) -> io::Result<Vec<Vec<u8>>> {
        let mut names = self.directory(Path::new(path))?.map_or(Ok(Vec::new()), |directory| directory.names())?;
        names.sort();
        Ok(names)
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

    fn names(&self, path: &str) -> io::Result<Vec<Vec<u8>>> {
        let Some(inode) = self.find(path.as_bytes()).map_err(io::Error::other)? else { return Ok(Vec::new()) };
        let mut found: Result<Vec<Vec<u8>>, Ext4Error> = Ok(Vec::new());
        Filesystem::names(self, &inode, &mut |name| match (name, &mut found) {
            (Ok(name), Ok(names)) => names.push(name.name),
            (Err(error), _) => found = Err(error),
            _ => {}
        });
        let mut names = found.map_err(io::Error::other)?;
        names.sort();
        Ok(names)
    }
}
