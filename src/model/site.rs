//! What lies at a destination on the target: facts that a plan needs and that only the target can tell.

use super::entry::{Entry, EntryKind};
use super::path::RelPath;
use super::plan::Changes;
use super::size::ByteSize;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Lifeboat's own directory on the target's root filesystem.
pub const AREA: &str = "var/lib/lifeboat";
/// Lifeboat's own directory on another filesystem or subvolume of the target, below its top.
pub const OTHER_AREA: &str = ".lifeboat";
/// Suffixes of the files that SQLite keeps beside a database; they belong to that one database and to no other.
pub const SIDECARS: [&[u8]; 3] = [b"-wal", b"-shm", b"-journal"];

/// One destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    /// Lifeboat's directory on the same filesystem and subvolume, where the data is staged.
    pub area: RelPath,
    /// What is there now.
    pub live: Option<LiveKind>,
    /// FreedomBox's own drop-in files below it, which stay.
    pub dropins: Vec<RelPath>,
    /// What makes way for it: files beside it that belong to it and are not in a backup (`-wal`, `-shm`, `-journal`), and a
    /// directory in the place of systemd's link to it.
    pub sidecars: Vec<RelPath>,
    /// Why nothing can be restored here.
    pub refusal: Option<String>,
}

/// What a destination is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LiveKind {
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A file or anything else that is neither a directory nor a link.
    Other,
}

/// Free room of one filesystem of the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Free {
    /// Free bytes.
    pub bytes: ByteSize,
    /// Free inodes, where there is a limit.
    pub inodes: Option<u64>,
}

/// Everything that the comparison of an archive with a target found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ground {
    /// Facts by destination.
    pub sites: BTreeMap<RelPath, Site>,
    /// Previews by path in the archive and destination.
    pub changes: BTreeMap<(RelPath, RelPath), Changes>,
    /// Free room by area.
    pub free: BTreeMap<RelPath, Free>,
}

/// Whether an archived entry is one of FreedomBox's own drop-in files, which are never restored: they belong to the
/// installed version. `known` tells whether a path is a drop-in of any version.
pub fn is_dropin(entry: &Entry, known: impl Fn(&RelPath) -> bool) -> bool {
    let points_into_package =
        matches!(&entry.kind, EntryKind::Symlink { target } if target.starts_with(b"/usr/share/freedombox/"));
    points_into_package || known(&entry.path)
}
