//! The record of one entry in a tree's digest.

use crate::model::digest::Sha256Digest;
use crate::model::entry::EntryKind;
use crate::model::path::RelPath;
use sha2::{Digest as _, Sha256};

/// The digest of what an entry *is*: its path below `root`, its kind, and a file's length and content, a symbolic
/// link's target or a hard link's other name (below `root`, or from the archive's root where it lies outside). Owner,
/// mode and times are not part of it: they are compared one by one elsewhere. `content` is the
/// [fingerprint](crate::model::entry::Entry::fingerprint) of a file, or the digest of its bytes where it has none; `None`
/// for other kinds.
pub fn content_record(
    root: &RelPath,
    relative: &[u8],
    kind: &EntryKind,
    content: Option<Sha256Digest>,
) -> Sha256Digest {
    let mut hasher = Sha256::new();
    hasher.update(b"lifeboat entry 1\0");
    text(&mut hasher, relative);
    match kind {
        EntryKind::File { size, .. } => {
            hasher.update(b"f");
            hasher.update(size.to_le_bytes());
            hasher.update(content.as_ref().map_or(&[][..], |digest| digest.as_bytes()));
        }
        EntryKind::Directory => hasher.update(b"d"),
        EntryKind::Symlink { target } => {
            hasher.update(b"l");
            text(&mut hasher, target);
        }
        EntryKind::HardLink { to } => match to.relative_to(root) {
            Some(inside) => {
                hasher.update(b"h");
                text(&mut hasher, inside);
            }
            None => {
                hasher.update(b"H");
                text(&mut hasher, to.as_bytes());
            }
        },
        EntryKind::Fifo => hasher.update(b"p"),
    }
    Sha256Digest::from_hasher(hasher)
}

/// Length first, so that two texts in a row cannot be taken for two others.
fn text(hasher: &mut Sha256, bytes: &[u8]) {
    hasher.update((bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_an_entry_changes_its_record_and_holes_do_not() {
        let path = |text: &str| text.parse::<RelPath>().unwrap();
        let (root, content) = (path("a"), Some(Sha256Digest::of(b"x")));
        let file = |size, sparse| EntryKind::File { size, sparse };
        let base = content_record(&root, b"f", &file(1, false), content);
        assert_eq!(base, content_record(&root, b"f", &file(1, true), content));
        assert_eq!(base, content_record(&path("elsewhere"), b"f", &file(1, false), content));
        let records = [
            base,
            content_record(&root, b"g", &file(1, false), content),
            content_record(&root, b"f", &file(2, false), content),
            content_record(&root, b"f", &file(1, false), Some(Sha256Digest::of(b"y"))),
            content_record(&root, b"f", &EntryKind::Directory, None),
            content_record(&root, b"f", &EntryKind::Fifo, None),
            content_record(&root, b"f", &EntryKind::Symlink { target: b"t".to_vec() }, None),
            content_record(&root, b"ft", &EntryKind::Symlink { target: vec![] }, None),
            content_record(&root, b"f", &EntryKind::HardLink { to: path("a/t") }, None),
            content_record(&root, b"f", &EntryKind::HardLink { to: path("t") }, None),
        ];
        let distinct: std::collections::BTreeSet<_> = records.iter().collect();
        assert_eq!(distinct.len(), records.len());
    }
}
