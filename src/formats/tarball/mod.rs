//! Tar archives: v7, POSIX.1-1988 ustar, GNU (long names, base-256 numbers, sparse files) and PAX (POSIX.1-2001).
//!
//! Owns the walk over 512-byte blocks and hands out one [`Entry`](crate::model::entry::Entry) after the other, with
//! exactly its content. Field layout comes from the `tar` crate's header types; numbers, checksums, PAX records and
//! sparse maps are read here, because what is restored must never depend on a lenient reading.
//!
//! Sources: POSIX.1-2017 `pax` ("ustar Interchange Format", "pax Extended Header"); the GNU tar manual, appendix
//! "Tar Internals" ("Basic Tar Format", "GNU Extensions", "Storing Sparse Files").
//!
//! Invariants:
//! - an entry of a kind that is not restored is [`TarError::Unsupported`], never skipped;
//! - extension headers (`x`, `L`, `K`) belong to exactly the next member, a PAX size never to another extension header
//!   (CVE-2025-62518); a doubled, contradicting or dangling one is [`TarError::Corrupt`];
//! - memory does not grow with the archive: see the limits below.

mod extended;
mod field;
mod member;
mod reader;
mod sparse;

pub use reader::{Marker, Tarball, looks_like_tar};

/// Length of a tar block.
pub const BLOCK: usize = 512;
/// Longest extension header accepted (PAX records, long names). Linux allows one extended attribute 64 KiB, and names
/// 4 KiB; GNU tar refuses nothing, so a limit has to be chosen.
pub const LONGEST_EXTENSION: u64 = 1 << 20;
/// Most data segments of one sparse file: 4 MiB of memory.
pub const MOST_SEGMENTS: usize = 1 << 18;
/// Most bytes of holes in one archive. Reading yields them as zeros, so they bound the time that a small archive can
/// cost.
pub const MOST_HOLES: u64 = 1 << 40;

/// Why an archive could not be read further. Offsets count bytes of the tar stream itself, after decompression.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The input failed.
    #[error("reading the archive: {0}")]
    Io(#[source] std::io::Error),
    /// The archive has something that is not restored.
    #[error("{entry}: {what}")]
    Unsupported {
        /// The member's name as text.
        entry: String,
        /// What is not supported.
        what: String,
    },
    /// The bytes are not what the format allows.
    #[error("damaged {place}: {what}")]
    Corrupt {
        /// Where, in words that fit after "damaged".
        place: String,
        /// What is wrong.
        what: String,
    },
    /// The input ended inside a member or its headers.
    #[error("the archive ends early {place}")]
    Truncated {
        /// Where, in words.
        place: String,
    },
}
