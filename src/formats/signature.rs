//! What a volume holds, told by the signatures in it.
//!
//! Reports every match: two signatures mean that one of them is left over from an earlier use, and the reader must not
//! guess which one.

use super::{ReadAt, btrfs, container, exfat, ext, fat, magic, ntfs};
use crate::model::disk::Signature;
use std::io;

type Probe = fn(&dyn ReadAt) -> io::Result<Option<Signature>>;

const PROBES: [Probe; 14] = [
    ext::probe,
    btrfs::probe,
    fat::probe,
    exfat::probe,
    ntfs::probe,
    magic::xfs,
    magic::f2fs,
    magic::squashfs,
    magic::iso9660,
    container::swap,
    container::luks,
    container::lvm,
    container::md_old,
    container::md,
];

/// All signatures found in a volume.
pub fn read(volume: &dyn ReadAt) -> io::Result<Vec<Signature>> {
    let mut found = Vec::new();
    for probe in PROBES {
        found.extend(probe(volume)?);
    }
    if found.is_empty() {
        for probe in [btrfs::probe_copy, ext::probe_copy] {
            found.extend(probe(volume)?);
        }
        found.truncate(1);
    }
    Ok(found)
}
