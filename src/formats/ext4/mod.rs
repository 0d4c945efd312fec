//! The on-disk structures of ext2, ext3 and ext4, one per file, and a reader of whole filesystems.
//!
//! Source: Linux, Documentation/filesystems/ext4 and Documentation/filesystems/journalling.rst (jbd2). Integers are
//! little-endian, the journal's are big-endian.
//!
//! The reader works without the kernel, on filesystems that the kernel refuses or that must not be recovered in place.
//! It never writes: a journal is replayed in memory. Where the filesystem has checksums, every structure is checked
//! before it is believed, and what is wrong is an error: no bytes are better than wrong bytes. Foreign numbers never
//! lead to a panic, to an endless loop or to memory in proportion to what they claim.

pub mod attribute;
pub mod content;
pub mod directory;
pub mod extent;
pub mod filesystem;
pub mod group;
pub mod indirect;
pub mod inode;
pub mod journal;
mod mapping;
pub mod superblock;
pub mod tree;

pub use filesystem::Filesystem;
pub use inode::{Inode, Kind};

use std::io;

/// Why something on a filesystem cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Ext4Error {
    /// No superblock was found, not even a copy.
    #[error("no ext2, ext3 or ext4 superblock was found")]
    NotExt,
    /// The disk refused.
    #[error("reading byte {at} of the filesystem: {source}")]
    Io {
        /// Where on the volume.
        at: u64,
        /// The system's answer.
        source: io::Error,
    },
    /// A feature that changes the meaning of the bytes.
    #[error("it uses {0}, which cannot be read")]
    Unsupported(String),
    /// The bytes contradict their checksum or each other.
    #[error("{0}")]
    Damaged(String),
}

impl Ext4Error {
    pub(crate) fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged(what.into())
    }
}

impl From<Ext4Error> for io::Error {
    fn from(error: Ext4Error) -> io::Error {
        match error {
            Ext4Error::Io { source, .. } => source,
            other => io::Error::new(io::ErrorKind::InvalidData, other.to_string()),
        }
    }
}

/// A structure ended before a field of it.
fn short(what: &str) -> impl Fn() -> Ext4Error + '_ {
    move || Ext4Error::damaged(format!("{what} is too short"))
}

/// CRC-32C as ext4 and jbd2 use it: not inverted at the end, so that it can be continued.
fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    ::ext4::parse::ext4_style_crc32c_le(seed, bytes)
}
