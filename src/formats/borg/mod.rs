//! The on-disk structures of borg 1.x repositories, one per file.
//!
//! Source: Borg documentation, "Internals", "Data structures and file formats" and "Security"; the repository format is
//! the same from 1.0 to 1.4. Integers are little-endian where nothing else is said. Every parser takes bytes that may be
//! anything: lengths are checked against limits before memory is taken for them.

pub mod archive;
pub mod compression;
pub mod envelope;
pub mod index;
pub mod item;
pub mod key;
pub mod manifest;
pub mod msgpack;
pub mod segment;
pub mod tam;

/// Names one object: a keyed or plain digest of its content.
pub type ObjectId = [u8; 32];

/// The object that lists the archives.
pub const MANIFEST: ObjectId = [0; 32];

/// Longest entry of a segment file, header included.
pub const LONGEST_ENTRY: u32 = 20 << 20;
/// Longest plain content of one piece of a file or of the item stream.
pub const LONGEST_CHUNK: usize = 20 << 20;
/// Longest plain content of the manifest or of one archive's description. Both are mostly ids, which do not shrink, so
/// that an entry holds little more than [`LONGEST_ENTRY`] of them.
pub const LONGEST_DESCRIPTION: usize = 64 << 20;

/// Why bytes are not the structure that was expected; the text says what is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);

impl Malformed {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}
