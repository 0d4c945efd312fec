//! What an item means as an entry.

use crate::formats::borg::ObjectId;
use crate::formats::borg::item::{Chunk, Item};
use crate::model::bytes;
use crate::model::digest::Sha256Digest;
use crate::model::entry::{Entry, EntryKind, Mtime, Owner};
use crate::model::path::{BadPath, RelPath};
use crate::source::ReadError;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;

/// The bits of a mode that tell the type of a file (inode(7)).
const TYPE: u32 = 0o170_000;
const NANOS: i128 = 1_000_000_000;
/// Holes are cut into pieces of the greatest length, which is a power of two; shorter ones are not worth a look.
const SHORTEST_HOLE: u32 = 64 << 10;

/// An item as an entry, or why it is none.
pub(super) enum Meaning {
    /// An entry.
    Entry(Box<Entry>),
    /// Nothing to restore, in words.
    Nothing(&'static str),
    /// Entries that cannot be read, and why.
    Lost(String),
}

/// Says what an item means; `is_sparse` tells whether its content has holes.
pub(super) fn meaning(item: &mut Item, is_sparse: bool) -> Result<Meaning, ReadError> {
    let name = bytes::escape(&item.path);
    let unsupported = |what: String| ReadError::Unsupported { entry: name.clone(), what };
    let corrupt = |what: &str| ReadError::Corrupt { place: format!("in '{name}'"), what: what.to_owned() };
    if item.is_part {
        return Ok(Meaning::Nothing("parts of a file whose backup was interrupted were left out"));
    }
    let path = match RelPath::parse(&item.path) {
        Ok(path) => path,
        Err(BadPath::Empty) => return Ok(Meaning::Nothing("the entry of the root folder itself was left out")),
        Err(bad) => return Err(corrupt(&bad.to_string())),
    };
    let another_name = |first: &[u8]| -> Result<EntryKind, ReadError> {
        Ok(EntryKind::HardLink { to: RelPath::parse(first).map_err(|bad| corrupt(&bad.to_string()))? })
    };
    let kind = match item.mode & TYPE {
        0o100_000 => match item.source.take().filter(|_| item.chunks.is_none()) {
            None => EntryKind::File {
                size: size(item).ok_or_else(|| corrupt("its length is not that of its content"))?,
                sparse: is_sparse,
            },
            Some(first) => another_name(&first)?,
        },
        0o040_000 => EntryKind::Directory,
        0o120_000 => {
            let target = item.source.take().filter(|target| !target.is_empty() && !target.contains(&0));
            EntryKind::Symlink { target: target.ok_or_else(|| corrupt("it is a symbolic link to nothing"))? }
        }
        0o010_000 => match item.source.take() {
            None => EntryKind::Fifo,
            Some(first) => another_name(&first)?,
        },
        0o020_000 | 0o060_000 => return Err(unsupported("device files are not restored".into())),
        other => return Err(unsupported(format!("files of type {:o} are not restored", other >> 12))),
    };
    if matches!(&kind, EntryKind::HardLink { to } if *to == path) {
        // A path of several names comes again where two of the paths to back up overlap.
        return Ok(Meaning::Nothing("a hard link to itself was left out; the file came before"));
    }
    let id = |value: i128| u32::try_from(value).map_err(|_| corrupt("its owner is out of range"));
    let secs = i64::try_from(item.mtime.div_euclid(NANOS)).map_err(|_| corrupt("its time is out of range"))?;
    let nanos = u32::try_from(item.mtime.rem_euclid(NANOS)).unwrap_or_default();
    Ok(Meaning::Entry(Box::new(Entry {
        path,
        kind,
        mode: item.mode & 0o7777,
        owner: Owner { uid: id(item.uid)?, gid: id(item.gid)?, user: item.user.take(), group: item.group.take() },
        mtime: Mtime { secs, nanos },
        xattrs: std::mem::take(&mut item.xattrs),
        acl_access: item.acl_access.take(),
        acl_default: item.acl_default.take(),
        fingerprint: item.chunks.as_deref().filter(|_| item.mode & TYPE == 0o100_000).map(fingerprint),
    })))
}

/// The digest of the ids and lengths of a file's pieces. Reading checks each piece against its id.
fn fingerprint(chunks: &[Chunk]) -> Sha256Digest {
    let mut hasher = Sha256::new();
    hasher.update(b"lifeboat pieces 1\0");
    for chunk in chunks {
        hasher.update(chunk.id);
        hasher.update(chunk.size.to_le_bytes());
    }
    Sha256Digest::from_hasher(hasher)
}

/// The length of a file: that of all its pieces, which the item must agree with.
fn size(item: &Item) -> Option<u64> {
    let sum = item.chunks.iter().flatten().map(|chunk| u64::from(chunk.size)).sum();
    item.size.is_none_or(|size| size == i128::from(sum)).then_some(sum)
}

/// Knows the ids of pieces that are all zeros.
#[derive(Default)]
pub(super) struct Holes(HashMap<u32, ObjectId>);

impl Holes {
    /// Whether one of the pieces is a hole.
    pub(super) fn is_in(&mut self, chunks: &[Chunk], id_of: impl Fn(&[u8]) -> ObjectId) -> bool {
        chunks.iter().any(|chunk| {
            chunk.size >= SHORTEST_HOLE
                && chunk.size.is_power_of_two()
                && *self.0.entry(chunk.size).or_insert_with(|| id_of(&vec![0; chunk.size as usize])) == chunk.id
        })
    }
}
