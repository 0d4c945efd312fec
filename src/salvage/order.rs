//! What matters most on a FreedomBox's disk, and where it lies: secrets and FreedomBox's own database first, then the
//! data of the apps, then the users' files.
//!
//! ext2, ext3 and ext4 are read here; btrfs, which is FreedomBox's own choice, by the kernel through an overlay. On
//! others, and where the kernel is not allowed to, the order is that of the disk.

use super::SalvageError;
use super::copy::Copier;
use super::kernel;
use super::through::Through;
use super::volume;
use crate::formats::Slice;
use crate::formats::btrfs;
use crate::formats::ext4::Filesystem;
use crate::formats::ext4::tree::Found;
use crate::model::manifest::{self, Backup, Section};
use crate::sys::host::Host;
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;

/// What no app owns and nothing works without: FreedomBox's database and settings, accounts, keys.
const SECRETS: [&str; 14] = [
    "var/lib/plinth",
    "var/lib/freedombox",
    "etc/plinth",
    "etc/freedombox",
    "root/.config/borg",
    "root/.ssh",
    "etc/passwd",
    "etc/group",
    "etc/shadow",
    "etc/gshadow",
    "var/lib/ldap",
    "etc/letsencrypt",
    "etc/NetworkManager",
    "var/lib/dpkg/status",
];
/// What comes after the apps.
const AFTER: [&str; 6] = ["home", "srv", "root", "etc", "var/lib", "var/www"];
/// Most stretches that are remembered: 64 MiB of them.
const MOST_RANGES: usize = 4 << 20;

/// The stretches of the disk to read first, in their order. What has to be read to find them is copied on the way, and
/// so is what only the kernel finds.
pub(super) fn valuable(host: &Host, disk: &Path, copier: &mut Copier<'_>) -> Result<Vec<Range<u64>>, SalvageError> {
    let through = Through::new(copier);
    let mut ranges = Vec::new();
    let mut for_kernel = Vec::new();
    for volume in volume::of_table(&through) {
        let part = Slice::new(&through, volume.start, volume.length);
        if let Ok(filesystem) = Filesystem::open(&part) {
            for path in paths() {
                add(&filesystem, volume.start, path.as_bytes(), &mut ranges);
            }
        } else if let Ok(Some(found)) = btrfs::probe(&part) {
            for_kernel.push((volume, found.kind));
        }
    }
    through.finish()?;
    for (volume, kind) in for_kernel {
        kernel::copy_in_order(host, disk, (&volume, kind), &paths(), copier)?;
    }
    Ok(ranges)
}

/// Paths in the order of their value.
fn paths() -> Vec<String> {
    let of_section = |secrets: bool| {
        let backups = manifest::all().iter().flat_map(|app| &app.backups).flat_map(Backup::places);
        backups.filter(move |place| (place.section == Section::Secrets) == secrets).map(|place| place.path.to_string())
    };
    let fixed = |list: &[&str]| list.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>();
    let mut seen = BTreeSet::new();
    let all = fixed(&SECRETS).into_iter().chain(of_section(true)).chain(of_section(false)).chain(fixed(&AFTER));
    all.filter(|path| seen.insert(path.clone())).collect()
}

/// Adds where everything at and below a path lies. What cannot be read is left to the copy of the whole disk.
fn add(filesystem: &Filesystem<'_>, start: u64, path: &[u8], ranges: &mut Vec<Range<u64>>) {
    let Ok(Some(inode)) = filesystem.find(path) else { return };
    let size = filesystem.superblock().block_size;
    filesystem.walk_below(inode.number, path, &mut |found| {
        let Found::Entry { inode, .. } = found else { return };
        let _ = filesystem.extents(inode, &mut |extent| {
            let place = |block: u64| start.saturating_add(block.saturating_mul(size));
            let range = place(extent.physical)..place(extent.physical.saturating_add(extent.length));
            if let Some(last) = ranges.last_mut().filter(|last| last.end == range.start) {
                last.end = range.end;
            } else if ranges.len() < MOST_RANGES {
                ranges.push(range);
            }
            Ok(())
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_come_before_data_and_data_before_the_rest() {
        let paths = paths();
        let place = |path: &str| paths.iter().position(|own| own == path);
        let (database, rest) = (place("var/lib/plinth"), place("var/lib"));
        let data = place("var/lib/radicale/collections").or(place("var/lib/radicale"));
        assert!(database.is_some() && data.is_some() && rest.is_some(), "{paths:?}");
        assert!(database < data && data < rest);
    }
}
