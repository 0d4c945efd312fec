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
use std::path::{Path, PathBuf};

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
        if !block::kin(host, number).is_disjoint(&place.devices) {
            return Err(TargetError::OnSource(shown()));
        }
        refuse_mounted(&lines, &block::with_all_on_it(host, number), disk)?;
    }
    refuse_medium(host, &lines, &place, image)?;
    Ok(in_memory(&lines, &folder, image))
}

/// Refuses to write a backup of the box at `from`, a disk, an image or a directory, into `folder`, where that lies on
/// the box itself or on Lifeboat's medium. What is worth knowing of the folder otherwise is returned.
pub fn check_folder(host: &Host, from: &Path, folder: &Path) -> Result<Vec<Finding>, TargetError> {
    let lines = mount::mounted(host)?;
    let place = everything_below(host, &lines, folder);
    if is_on_box(host, &lines, from, &place)? {
        return Err(TargetError::OnBox(bytes::path::shown(folder)));
    }
    refuse_medium(host, &lines, &place, folder)?;
    Ok(in_memory(&lines, folder, folder))
}

/// Refuses a stick, a device or an image, that is the box at `from` or lies on its disk.
pub fn check_stick(host: &Host, from: &Path, stick: &Path) -> Result<(), TargetError> {
    let lines = mount::mounted(host)?;
    let mut place = Below::default();
    place.add(
        host,
        &lines,
        match device_number(stick) {
            Some((major, minor)) => Holder::Device(major, minor),
            None => Holder::File(stick.to_path_buf(), 0),
        },
    );
    if is_on_box(host, &lines, from, &place)? {
        return Err(TargetError::OnBox(bytes::path::shown(stick)));
    }
    refuse_medium(host, &lines, &place, stick)
}

/// Whether a place lies on the disk or the image of the box at `from`. The image of a box may lie on the stick.
fn is_on_box(host: &Host, lines: &[MountLine], from: &Path, place: &Below) -> Result<bool, TargetError> {
    let real = std::fs::canonicalize(from).map_err(|error| SysError::new("opening", from, error))?;
    let of_line = |line: &MountLine| {
        if line.device.0 != 0 { Some(line.device) } else { device_number(&line.source) }
    };
    let own = match device_number(&real) {
        // A directory lies on what is mounted there.
        None if real.is_dir() => mount_of(lines, &real).and_then(of_line),
        number => number,
    };
    let kin = own.map(|own| block::kin(host, own)).unwrap_or_default();
    let mut behind = block::loops(host).into_iter().filter(|one| kin.contains(&one.number));
    Ok(place.files.contains(&real)
        || !kin.is_disjoint(&place.devices)
        || behind.any(|one| place.files.contains(&one.path)))
}

fn refuse_medium(host: &Host, lines: &[MountLine], place: &Below, shown: &Path) -> Result<(), TargetError> {
    let medium = lines.iter().filter(|line| line.point == Path::new("/run/lifeboat/medium"));
    let medium: BTreeSet<_> = medium.filter(|line| line.device.0 != 0).map(|line| line.device).collect();
    for number in place.devices.iter().flat_map(|number| block::kin(host, *number)) {
        if medium.contains(&number) || is_medium(host, number) {
            return Err(TargetError::BootMedium(bytes::path::shown(shown)));
        }
    }
    Ok(())
}

fn in_memory(lines: &[MountLine], folder: &Path, shown: &Path) -> Vec<Finding> {
    let in_memory = mount_of(lines, folder)
        .is_some_and(|line| matches!(line.kind.as_str(), "tmpfs" | "ramfs" | "overlay" | "rootfs"));
    let what = "it may lie in this computer's memory, where it is lost when the power goes";
    let advice = "name a folder on another disk";
    let finding = || Finding::new(Severity::Warning, bytes::path::shown(shown), what, advice);
    in_memory.then(finding).into_iter().collect()
}

/// What something lies on, through loop devices and the files behind them.
#[derive(Default)]
struct Below {
    devices: BTreeSet<(u32, u32)>,
    files: BTreeSet<PathBuf>,
}

impl Below {
    fn add(&mut self, host: &Host, lines: &[MountLine], holder: Holder) {
        let mut left = vec![holder];
        while let Some(holder) = left.pop() {
            match holder {
                Holder::Device(major, minor) => {
                    if self.devices.insert((major, minor)) {
                        // A partition of a loop device lies on what the loop device shows.
                        let kin = block::kin(host, (major, minor));
                        let behind = block::loops(host).into_iter().filter(|one| kin.contains(&one.number));
                        left.extend(behind.map(|one| Holder::File(one.path, one.offset)));
                    }
                }
                Holder::File(file, _) => match device_number(&file) {
                    Some((major, minor)) => left.push(Holder::Device(major, minor)),
                    None if self.files.insert(file.clone()) => left.extend(holders_of_path(host, lines, &file)),
                    None => {}
                },
            }
        }
    }
}

fn everything_below(host: &Host, lines: &[MountLine], folder: &Path) -> Below {
    let mut below = Below::default();
    for holder in holders_of_path(host, lines, folder) {
        below.add(host, lines, holder);
    }
    below
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
