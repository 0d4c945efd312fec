//! What a path lies on: the devices and image files from its mount down to the disk.

use crate::sys::block;
use crate::sys::file::device_number;
use crate::sys::host::Host;
use crate::sys::mount::MountLine;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A thing that bytes lie on: a device by number, or a part of an image file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Holder {
    Device(u32, u32),
    File(PathBuf, u64),
}

/// The mount that a path lies in: the one with the longest mount point, the latest of several on the same one.
pub(super) fn mount_of<'a>(lines: &'a [MountLine], path: &Path) -> Option<&'a MountLine> {
    lines.iter().filter(|line| path.starts_with(&line.point)).max_by_key(|line| line.point.components().count())
}

/// Everything that a path lies on, down to the disk.
pub(super) fn holders_of_path(host: &Host, lines: &[MountLine], path: &Path) -> BTreeSet<Holder> {
    let mut all = BTreeSet::new();
    let Some(line) = mount_of(lines, path) else { return all };
    let number = if line.device.0 != 0 { Some(line.device) } else { device_number(&line.source) };
    if let Some((major, minor)) = number {
        all.insert(Holder::Device(major, minor));
        if let Some(backing) = block::loops(host).into_iter().find(|one| one.number == (major, minor)) {
            all.extend(holders_of_extent(host, &backing.path, backing.offset));
        }
    }
    all
}

/// What an extent is, in the terms in which a path's holders are told.
pub(super) fn holders_of_extent(host: &Host, path: &Path, offset: u64) -> BTreeSet<Holder> {
    let mut all = BTreeSet::new();
    match device_number(path) {
        Some((major, minor)) => {
            all.insert(Holder::Device(major, minor));
            if let Some(backing) = block::loops(host).into_iter().find(|one| one.number == (major, minor)) {
                all.insert(Holder::File(backing.path, backing.offset));
            }
        }
        None => drop(all.insert(Holder::File(path.to_path_buf(), offset))),
    }
    all
}

/// Whether two names mean the same file or device; the second one is free of links.
pub(super) fn same_device(one: &Path, other: &Path) -> bool {
    one == other || std::fs::canonicalize(one).is_ok_and(|path| path == other)
}
