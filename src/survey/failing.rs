//! Where the image of a failing disk may go.
//!
//! Refuses every place that lies on the failing disk itself, also through loop devices and what is made of its
//! partitions, and the medium that Lifeboat was started from. A disk that is mounted for writing is refused too: its
//! image would be a mixture of several moments.

use super::disks::MEDIUM_LABEL;
use super::holder::{Holder, holders_of_path, mount_of};
use super::target::TargetError;
use crate::formats::signature;
use crate::model::bytes;
use crate::model::finding::{Finding, Severity};
use crate::sys::SysError;
use crate::sys::block;
use crate::sys::file::{self, Source, device_number};
use crate::sys::host::Host;
use crate::sys::mount::{self, MountLine};
use std::collections::BTreeSet;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// Refuses to salvage `disk` into the folder of `image`, where that would harm one of them. What is worth knowing of
/// the place otherwise is returned.
pub fn check_place(host: &Host, disk: &Path, image: &Path) -> Result<Vec<Finding>, TargetError> {
    let shown = || bytes::path::shown(image);
    let meta = std::fs::metadata(disk).map_err(|error| SysError::new("opening", disk, error))?;
    if !meta.is_file() && !meta.file_type().is_block_device() {
        return Err(TargetError::NoDisk(bytes::path::shown(disk)));
    }
    if std::fs::metadata(image).is_ok_and(|own| (own.dev(), own.ino()) == (meta.dev(), meta.ino())) {
        return Err(TargetError::OnSource(shown()));
    }
    if std::fs::metadata(image).is_ok_and(|own| !own.is_file()) {
        return Err(TargetError::NotAFile(shown()));
    }
    let folder = image.parent().unwrap_or(Path::new("/"));
    let folder = std::fs::canonicalize(folder).map_err(|error| SysError::new("opening", folder, error))?;
    let lines = mount::mounted(host)?;
    let place = everything_below(host, &lines, &folder);
    if let Some(number) = device_number(disk) {
        if !block::kin(host, number).is_disjoint(&place) {
            return Err(TargetError::OnSource(shown()));
        }
        refuse_mounted(&lines, &block::with_all_on_it(host, number), disk)?;
    }
    let medium = lines.iter().filter(|line| line.point == Path::new("/run/lifeboat/medium"));
    let medium: BTreeSet<_> = medium.filter(|line| line.device.0 != 0).map(|line| line.device).collect();
    for number in place.iter().flat_map(|number| block::kin(host, *number)) {
        if medium.contains(&number) || is_medium(host, number) {
            return Err(TargetError::BootMedium(shown()));
        }
    }
    let in_memory = mount_of(&lines, &folder)
        .is_some_and(|line| matches!(line.kind.as_str(), "tmpfs" | "ramfs" | "overlay" | "rootfs"));
    let what = "it may lie in this computer's memory, where it is lost when the power goes";
    let finding = || Finding::new(Severity::Warning, shown(), what, "name a folder on another disk");
    Ok(in_memory.then(finding).into_iter().collect())
}

/// The devices on which a folder lies, through loop devices and the files behind them.
fn everything_below(host: &Host, lines: &[MountLine], folder: &Path) -> BTreeSet<(u32, u32)> {
    let mut devices = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let mut left = vec![folder.to_path_buf()];
    while let Some(path) = left.pop() {
        if !seen.insert(path.clone()) {
            continue;
        }
        for holder in holders_of_path(host, lines, &path) {
            match holder {
                Holder::Device(major, minor) => drop(devices.insert((major, minor))),
                Holder::File(file, _) => match device_number(&file) {
                    Some(number) => drop(devices.insert(number)),
                    None => left.push(file),
                },
            }
        }
    }
    devices
}

fn refuse_mounted(lines: &[MountLine], parts: &BTreeSet<(u32, u32)>, disk: &Path) -> Result<(), TargetError> {
    for line in lines {
        let number = if line.device.0 != 0 { Some(line.device) } else { device_number(&line.source) };
        if number.is_some_and(|number| parts.contains(&number)) && !file::is_read_only(&line.point)? {
            let (disk, at) = (bytes::path::shown(disk), bytes::path::shown(&line.point));
            return Err(TargetError::Mounted { disk, at });
        }
    }
    Ok(())
}

fn is_medium(host: &Host, number: (u32, u32)) -> bool {
    let signatures = block::node(host, number)
        .and_then(|node| Source::open(&node).ok())
        .and_then(|source| signature::read(&source).ok())
        .unwrap_or_default();
    signatures.iter().any(|signature| signature.label.as_deref() == Some(MEDIUM_LABEL))
}
