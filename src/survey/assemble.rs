//! The filesystems that belong to one system: its root, and what its fstab lists below it.

use super::disks;
use super::holder::same_device;
use super::opening;
use super::target::{Access, TargetError};
use crate::formats::fstab::{self, DeviceName, FstabEntry};
use crate::model::disk::{Signature, Volume};
use crate::model::finding::{Finding, Severity};
use crate::model::path::RelPath;
use crate::sys::SysError;
use crate::sys::block;
use crate::sys::file::{ForeignRoot, device_number};
use crate::sys::host::Host;
use crate::sys::mount::{self, Extent, MountLine, Mounted, Point};
use std::io;
use std::path::{Path, PathBuf};

const LARGEST_FSTAB: u64 = 1 << 20;

/// What was mounted below a root.
#[derive(Debug, Default)]
pub(super) struct Below<'v> {
    /// The mounts, innermost first, so that dropping unmounts in the right order.
    pub(super) mounts: Vec<Mounted>,
    /// Their volumes.
    pub(super) volumes: Vec<&'v Volume>,
    /// What is missing or could not be mounted, though the system can do without.
    pub(super) findings: Vec<Finding>,
}

/// Mounts what the fstab below `root` lists, as far as it is on one of `volumes`. `home` is the root's own volume.
pub(super) fn mount_below<'v>(
    host: &Host,
    root: &Path,
    volumes: &[&'v Volume],
    home: &Volume,
    access: Access,
) -> Result<Below<'v>, TargetError> {
    let text = ForeignRoot::open(root)?
        .read("etc/fstab", LARGEST_FSTAB)
        .map_err(|error| SysError::new("reading", &root.join("etc/fstab"), error))?
        .unwrap_or_default();
    let mut entries = fstab::parse(&text);
    entries.retain(|entry| !entry.has("noauto") && !entry.has("bind") && !matches!(entry.device, DeviceName::Other(_)));
    entries.sort_by_key(|entry| entry.point.as_ref().map(|point| point.components().count()));
    let mut below = Below::default();
    for entry in entries {
        let Some(point) = entry.point.clone() else { continue };
        match meant(volumes, &entry.device, home) {
            Some(volume) => below.mount(host, root, volume, &entry, &point, access)?,
            None => below.missing(&entry, &point)?,
        }
    }
    Ok(below)
}

/// Whether a root lacks its package database, but has an fstab that may say where the rest of it is.
pub(super) fn is_part_of_a_system(root: &Path) -> bool {
    ForeignRoot::open(root).is_ok_and(|files| files.has("etc/fstab") && !files.has("var/lib/dpkg/status"))
}

impl<'v> Below<'v> {
    fn mount(
        &mut self,
        host: &Host,
        root: &Path,
        volume: &'v Volume,
        entry: &FstabEntry,
        point: &RelPath,
        access: Access,
    ) -> Result<(), TargetError> {
        let Some(signature) = volume.filesystem() else { return self.missing(entry, point) };
        // The way to a mount point is never followed through links of the target.
        let Some(place) = plain_directory(root, point) else {
            self.findings.push(Finding::new(
                Severity::Warning,
                &volume.name,
                format!("its mount point '/{point}' is missing on the target, it was not mounted"),
                "",
            ));
            return Ok(());
        };
        let subvolume = entry.option("subvol");
        let mounted = match access {
            Access::Read => open_for_reading(host, volume, subvolume, Point::At(&place)),
            Access::Write => {
                mount::writable_with(host, &disks::extent(volume), signature.kind, subvolume, Point::At(&place))
            }
        };
        match mounted {
            Ok(mounted) => {
                self.volumes.push(volume);
                self.mounts.insert(0, mounted);
                Ok(())
            }
            Err(error) if needed(entry, point) => Err(error.into()),
            Err(error) => {
                self.findings.push(Finding::new(Severity::Warning, &volume.name, error.to_string(), ""));
                Ok(())
            }
        }
    }

    fn missing(&mut self, entry: &FstabEntry, point: &RelPath) -> Result<(), TargetError> {
        let device = shown_device(&entry.device);
        if needed(entry, point) {
            return Err(TargetError::MissingFilesystem { device, point: point.to_string() });
        }
        self.findings.push(Finding::new(
            Severity::Warning,
            format!("/{point}"),
            format!("the system mounts {device} there, and that filesystem was not found"),
            "apps with data there cannot be restored without it",
        ));
        Ok(())
    }
}

/// Mounts a volume for reading. btrfs cannot be mounted twice from two devices, so a mount of our own is shown again.
pub(super) fn open_for_reading(
    host: &Host,
    volume: &Volume,
    subvolume: Option<&str>,
    point: Point<'_>,
) -> Result<Mounted, SysError> {
    let Some(signature) = volume.filesystem() else {
        return Err(SysError::new("mounting", &volume.path, io::Error::other("it holds no single filesystem")));
    };
    let extent = disks::extent(volume);
    // A subvolume is another view: it is mounted by itself, from the same device.
    match own_mount(host, &extent).filter(|_| subvolume.is_none()) {
        Some(shown) => mount::shown_read_only(host, &shown, point),
        None => opening::mount(host, &extent, (signature.kind, signature.state), subvolume, point),
    }
}

/// Where Lifeboat itself has this extent mounted.
fn own_mount(host: &Host, extent: &Extent) -> Option<PathBuf> {
    let own = host.mount_points();
    let backing: Vec<_> = block::loops(host)
        .into_iter()
        .filter(|one| same_device(&one.path, &extent.path) && one.offset == extent.offset)
        .collect();
    let lines = mount::mounted(host).ok()?;
    let number = device_number(&extent.path).filter(|_| extent.offset == 0);
    let here = |line: &&MountLine| {
        let direct = number.is_some_and(|number| line.device == number || device_number(&line.source) == Some(number));
        line.point.starts_with(&own) && (direct || backing.iter().any(|one| line.is_of(one)))
    };
    // The first one is the volume's own view, before any subvolume that an fstab adds.
    lines.iter().find(here).map(|line| line.point.clone())
}

/// Whether the system cannot do without this filesystem: it holds data that a restore replaces, or programs.
fn needed(entry: &FstabEntry, point: &RelPath) -> bool {
    let first = point.components().next().unwrap_or_default();
    !entry.has("nofail") && [&b"var"[..], b"etc", b"usr"].contains(&first)
}

fn shown_device(device: &DeviceName) -> String {
    match device {
        DeviceName::Uuid(uuid) => format!("UUID={uuid}"),
        DeviceName::Label(label) => format!("LABEL={label}"),
        DeviceName::PartUuid(uuid) => format!("PARTUUID={uuid}"),
        DeviceName::Node(node) => format!("/dev/{node}"),
        DeviceName::Other(name) => name.clone(),
    }
}

/// The volume that an fstab means: on the root's own disk where there is one. Boxes that were made of the same image have
/// the same names, and the other one may be what is restored from.
fn meant<'v>(volumes: &[&'v Volume], device: &DeviceName, root: &Volume) -> Option<&'v Volume> {
    let mut named = volumes.iter().copied().filter(|volume| is_named(volume, device, root));
    named.clone().find(|volume| same_disk(volume, root)).or_else(|| named.next())
}

/// Whether an fstab means this volume. Kernel names differ from machine to machine: of `/dev/sda3` only the number
/// counts, on the disk that holds the root.
fn is_named(volume: &Volume, device: &DeviceName, root: &Volume) -> bool {
    let any = |test: &dyn Fn(&Signature) -> bool| volume.signatures.iter().any(test);
    match device {
        DeviceName::Uuid(uuid) => any(&|s| s.uuid.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(uuid))),
        DeviceName::Label(label) => any(&|s| s.label.as_deref() == Some(label)),
        DeviceName::PartUuid(uuid) => volume.partuuid.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(uuid)),
        DeviceName::Node(node) => match node.strip_prefix("mapper/") {
            Some(name) => volume.name == name,
            None => volume.number.is_some() && volume.number == trailing_number(node) && same_disk(volume, root),
        },
        DeviceName::Other(_) => false,
    }
}

fn trailing_number(node: &str) -> Option<u32> {
    let digits = node.len() - node.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    node.get(node.len() - digits..)?.parse().ok()
}

fn same_disk(one: &Volume, other: &Volume) -> bool {
    let disk = |volume: &Volume| match volume.name.split_once('#') {
        Some((disk, _)) => disk.to_owned(),
        None => volume.name.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned(),
    };
    disk(one) == disk(other)
}

/// The directory at `point`, when every step to it is a directory and no link.
fn plain_directory(root: &Path, point: &RelPath) -> Option<PathBuf> {
    let mut ways = point.ancestors();
    ways.push(point.clone());
    let plain = |way: &RelPath| root.join(way.as_path()).symlink_metadata().is_ok_and(|meta| meta.is_dir());
    ways.iter().all(plain).then(|| root.join(point.as_path()))
}
