//! One entry of an archive, whatever the archive's format.

use super::digest::Sha256Digest;
use super::path::RelPath;

/// What an archive says about one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it lies, below the root.
    pub path: RelPath,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits, 0 to 0o7777.
    pub mode: u32,
    /// Who owns it, by name and by number.
    pub owner: Owner,
    /// Modification time.
    pub mtime: Mtime,
    /// Extended attributes, without POSIX ACLs.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Access ACL in text form (acl(5), short or long, entries separated by commas or newlines).
    pub acl_access: Option<Vec<u8>>,
    /// Default ACL of a directory in text form.
    pub acl_default: Option<Vec<u8>>,
    /// What stands for a file's content in archives whose format names it by digests: those of its pieces, digested.
    /// Reading to the end proves it, and files with equal ones have equal content. `None` where only the content tells.
    pub fingerprint: Option<Sha256Digest>,
}

/// The kinds of entry that may be restored; an archive's other kinds are errors in its reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file; `size` is the length that its content must have. Sparse files may be restored with holes.
    File {
        /// Length in bytes.
        size: u64,
        /// Whether the archive marked holes.
        sparse: bool,
    },
    /// A directory.
    Directory,
    /// A symbolic link with its target, which is never followed while restoring.
    Symlink {
        /// The text of the link.
        target: Vec<u8>,
    },
    /// Another name of a regular file that came earlier in the same archive.
    HardLink {
        /// The first name.
        to: RelPath,
    },
    /// A named pipe.
    Fifo,
}

/// An owner as the archive names it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owner {
    /// Numeric user id on the machine that was backed up.
    pub uid: u32,
    /// Numeric group id on that machine.
    pub gid: u32,
    /// User name there, where the archive has it.
    pub user: Option<Vec<u8>>,
    /// Group name there, where the archive has it.
    pub group: Option<Vec<u8>>,
}

/// A point in time as filesystems keep it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mtime {
    /// Seconds since 1970-01-01 UTC; negative before.
    pub secs: i64,
    /// Nanoseconds, 0 to 999,999,999.
    pub nanos: u32,
}

impl EntryKind {
    /// The word shown to people.
    pub fn name(&self) -> &'static str {
        match self {
            EntryKind::File { .. } => "file",
            EntryKind::Directory => "directory",
            EntryKind::Symlink { .. } => "symbolic link",
            EntryKind::HardLink { .. } => "hard link",
            EntryKind::Fifo => "named pipe",
        }
    }
}
