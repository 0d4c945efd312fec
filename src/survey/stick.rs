//! Where a backup of a box may be written: a folder, or a stick that is mounted for it.
//!
//! Refuses every place on the disk that is backed up, also through loop devices and what is made of its partitions,
//! and the medium that Lifeboat was started from. A stick that is mounted already is used where it is.

use super::disks;
use super::failing;
use super::target::TargetError;
use crate::model::bytes;
use crate::model::disk::{FilesystemKind, Volume};
use crate::model::finding::Finding;
use crate::sys::SysError;
use crate::sys::block;
use crate::sys::file::{self, device_number};
use crate::sys::host::Host;
use crate::sys::mount::{self, Mounted};
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

/// A place to write to. What was mounted for it is unmounted when it is dropped.
#[derive(Debug)]
pub struct Stick {
    /// The folder; the root of the stick where that was named.
    pub folder: PathBuf,
    /// What is worth knowing of it.
    pub findings: Vec<Finding>,
    mounted: Option<Mounted>,
}

/// What a stick may be formatted with.
const WRITABLE: [FilesystemKind; 9] = [
    FilesystemKind::Vfat,
    FilesystemKind::Exfat,
    FilesystemKind::Ext2,
    FilesystemKind::Ext3,
    FilesystemKind::Ext4,
    FilesystemKind::Btrfs,
    FilesystemKind::Ntfs,
    FilesystemKind::Xfs,
    FilesystemKind::F2fs,
];

/// Opens `to` for a backup of `from`.
pub fn open(host: &Host, from: &Path, to: &Path) -> Result<Stick, TargetError> {
    let failed = |error| SysError::new("opening", to, error);
    let real = std::fs::canonicalize(to).map_err(failed)?;
    let (folder, mounted) = if std::fs::metadata(&real).map_err(failed)?.is_dir() {
        (real, None)
    } else {
        failing::check_stick(host, from, &real)?;
        match mounted_already(host, &real)? {
            Some(point) => (point, None),
            None => {
                let mounted = mount_stick(host, &real)?;
                (mounted.path().to_path_buf(), Some(mounted))
            }
        }
    };
    let findings = failing::check_folder(host, from, &folder)?;
    if file::is_read_only(&folder)? {
        return Err(TargetError::WriteProtected(bytes::path::shown(to)));
    }
    Ok(Stick { folder, findings, mounted })
}

impl Stick {
    /// Whether it was mounted for this, so that nobody else sees the folder.
    pub fn is_own_mount(&self) -> bool {
        self.mounted.is_some()
    }

    /// Unmounts it, after which it may be taken out; and tells when that is not possible.
    pub fn release(self) -> Result<(), SysError> {
        self.mounted.map_or(Ok(()), Mounted::release)
    }
}

/// The only place where a stick is mounted, if it is.
fn mounted_already(host: &Host, stick: &Path) -> Result<Option<PathBuf>, TargetError> {
    let in_use = |by: &Path| TargetError::InUse { target: bytes::path::shown(stick), by: bytes::path::shown(by) };
    let Some(number) = device_number(stick) else {
        let used = block::loops(host).into_iter().find(|one| one.path == stick && !one.overlaid);
        return used.map_or(Ok(None), |used| Err(in_use(&Path::new("/dev").join(used.name))));
    };
    let parts = block::with_all_on_it(host, number);
    let lines = mount::mounted(host)?;
    let mut points = lines.iter().filter(|line| {
        let own = if line.device.0 != 0 { Some(line.device) } else { device_number(&line.source) };
        own.is_some_and(|own| parts.contains(&own))
    });
    let Some(first) = points.next() else { return Ok(None) };
    match points.find(|other| other.source != first.source) {
        Some(other) => Err(in_use(&other.point)),
        None => Ok(Some(first.point.clone())),
    }
}

fn mount_stick(host: &Host, stick: &Path) -> Result<Mounted, TargetError> {
    let shown = || bytes::path::shown(stick);
    let disk = disks::image(stick, &mut Vec::new())?;
    if disk.boot_medium {
        return Err(TargetError::BootMedium(shown()));
    }
    let kind = |volume: &Volume| volume.filesystem().map(|found| found.kind).filter(|kind| WRITABLE.contains(kind));
    let fitting: Vec<(&Volume, FilesystemKind)> =
        disk.volumes.iter().filter_map(|volume| Some((volume, kind(volume)?))).collect();
    let (volume, kind) = match fitting.as_slice() {
        [] => return Err(TargetError::NoStick(shown())),
        [one] => *one,
        several => {
            let places: Vec<&str> = several.iter().map(|(volume, _)| volume.name.as_str()).collect();
            return Err(TargetError::SeveralPlaces { target: shown(), places: places.join(", ") });
        }
    };
    // A file can be protected by its filesystem; asking for its mode alone would not tell.
    if OpenOptions::new().read(true).write(true).open(stick).is_err() {
        return Err(TargetError::WriteProtected(shown()));
    }
    Ok(mount::writable(host, &disks::extent(volume), kind)?)
}
