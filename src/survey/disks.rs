//! Disks and their volumes, with the signatures on them.

use super::opening;
use crate::formats::{ReadAt, Slice, scan, signature, table};
use crate::model::bytes;
use crate::model::disk::{Disk, Volume};
use crate::model::finding::{Finding, Severity};
use crate::model::size::ByteSize;
use crate::sys::SysError;
use crate::sys::block::{self, BlockDevice, Partition};
use crate::sys::file::Source;
use crate::sys::host::Host;
use crate::sys::mount::{self, Extent, MountLine};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Label of the filesystem that Lifeboat's own medium carries.
pub const MEDIUM_LABEL: &str = "LIFEBOAT";

/// What a volume lies on.
pub fn extent(volume: &Volume) -> Extent {
    Extent { path: volume.path.clone(), offset: volume.offset(), length: volume.size.0 }
}

/// All disks of the machine. A disk that cannot be read is listed with a finding.
pub fn machine(host: &Host, findings: &mut Vec<Finding>) -> Result<Vec<Disk>, SysError> {
    let mounts = mount::mounted(host)?;
    let medium = medium_device(host, &mounts);
    let devices = block::devices(host)?;
    Ok(devices.iter().map(|device| disk_of(host, device, &mounts, medium, findings)).collect())
}

/// The device that Lifeboat was started from, as far as it is mounted.
fn medium_device(host: &Host, mounts: &[MountLine]) -> Option<(u32, u32)> {
    let point = host.run("lifeboat/medium");
    let logical = Path::new("/run/lifeboat/medium");
    mounts.iter().find(|line| line.point == point || line.point == logical).map(|line| line.device)
}

fn disk_of(
    host: &Host,
    device: &BlockDevice,
    mounts: &[MountLine],
    medium: Option<(u32, u32)>,
    findings: &mut Vec<Finding>,
) -> Disk {
    let mut disk = Disk {
        name: device.mapper_name.clone().unwrap_or_else(|| device.name.clone()),
        path: device.node.clone(),
        size: ByteSize(device.size),
        sector_size: device.sector_size,
        model: device.model.clone(),
        serial: device.serial.clone(),
        removable: device.removable,
        read_only: device.read_only,
        boot_medium: false,
        table: None,
        volumes: Vec::new(),
    };
    match Source::open(&device.node).and_then(|source| {
        volumes(&source, &device.node, &disk.name, Some(device.sector_size), findings)
            .map_err(|error| SysError::new("reading", &device.node, error))
    }) {
        Ok(layout) => (disk.table, disk.volumes) = (layout.table, layout.volumes),
        Err(error) => findings.push(failing(&disk.name, &error)),
    }
    adopt(&mut disk, device, findings);
    for volume in &mut disk.volumes {
        let number = device.partitions.iter().find(|p| p.node == volume.path).map_or(device.number, |p| p.device);
        volume.mounted_at = mounted_at(host, mounts, number, &volume.path);
    }
    disk.boot_medium = disk.volumes.iter().any(|volume| {
        let number = device.partitions.iter().find(|p| p.node == volume.path).map_or(device.number, |p| p.device);
        medium == Some(number)
            || volume.signatures.iter().any(|signature| signature.label.as_deref() == Some(MEDIUM_LABEL))
    });
    disk
}

/// Gives the volumes the kernel's names and nodes; what only one of the two sees is kept as well.
fn adopt(disk: &mut Disk, device: &BlockDevice, findings: &mut Vec<Finding>) {
    if device.partitions.is_empty() {
        if let [whole] = disk.volumes.as_mut_slice()
            && whole.number.is_none()
        {
            whole.name.clone_from(&disk.name);
        }
        return;
    }
    disk.volumes.retain(|volume| volume.number.is_some());
    for partition in &device.partitions {
        match disk.volumes.iter_mut().find(|volume| volume.start == partition.start) {
            Some(volume) => take_names(volume, partition),
            None => {
                let mut volume = bare(&partition.name, &partition.node, partition.size);
                take_names(&mut volume, partition);
                match Source::open(&partition.node).map(|source| signature::read(&source)) {
                    Ok(Ok(signatures)) => volume.signatures = signatures,
                    Ok(Err(error)) => {
                        findings.push(failing(&partition.name, &SysError::new("reading", &partition.node, error)));
                    }
                    Err(error) => findings.push(failing(&partition.name, &error)),
                }
                disk.volumes.push(volume);
            }
        }
    }
    disk.volumes.sort_by_key(|volume| volume.number);
}

fn take_names(volume: &mut Volume, partition: &Partition) {
    volume.name.clone_from(&partition.name);
    volume.path.clone_from(&partition.node);
    volume.number = Some(partition.number);
    volume.start = partition.start;
    volume.size = ByteSize(partition.size);
}

fn mounted_at(host: &Host, mounts: &[MountLine], number: (u32, u32), node: &Path) -> Vec<PathBuf> {
    let own = host.mount_points();
    let here = |line: &&MountLine| line.device == number || (line.device.0 == 0 && same_node(&line.source, node));
    // The widest view first: a mount of the filesystem's own root.
    let mut lines: Vec<_> = mounts.iter().filter(here).filter(|line| !line.point.starts_with(&own)).collect();
    lines.sort_by_key(|line| line.root.components().count());
    lines.into_iter().map(|line| line.point.clone()).collect()
}

/// Whether a mount's source is this node; btrfs has device numbers of its own, so the name has to do.
fn same_node(source: &Path, node: &Path) -> bool {
    source == node
        || std::fs::canonicalize(source).is_ok_and(|path| std::fs::canonicalize(node).is_ok_and(|n| n == path))
}

/// A disk image file.
pub fn image(path: &Path, findings: &mut Vec<Finding>) -> Result<Disk, SysError> {
    let path = std::fs::canonicalize(path).map_err(|error| SysError::new("opening", path, error))?;
    let source = opening::source(&path)?;
    let name = bytes::path::shown(&path);
    let mut layout =
        volumes(&*source, &path, &name, None, findings).map_err(|error| SysError::new("reading", &path, error))?;
    let found_nothing = layout.table.is_none() && layout.volumes.iter().all(|volume| volume.signatures.is_empty());
    if found_nothing {
        find_without_table(&*source, &path, &name, &mut layout, findings);
    }
    let boot_medium = layout
        .volumes
        .iter()
        .flat_map(|volume| &volume.signatures)
        .any(|signature| signature.label.as_deref() == Some(MEDIUM_LABEL));
    let read_only = std::fs::metadata(&path).is_ok_and(|meta| meta.permissions().readonly());
    Ok(Disk {
        name,
        size: ByteSize(source.length()),
        path,
        sector_size: layout.sector_size.unwrap_or(512),
        model: None,
        serial: None,
        removable: false,
        read_only,
        boot_medium,
        table: layout.table,
        volumes: layout.volumes,
    })
}

struct Layout {
    table: Option<String>,
    sector_size: Option<u32>,
    volumes: Vec<Volume>,
}

/// The table of a disk and its volumes, each with its signatures.
fn volumes(
    source: &dyn ReadAt,
    path: &Path,
    name: &str,
    sector_size: Option<u32>,
    findings: &mut Vec<Finding>,
) -> io::Result<Layout> {
    // Where the begin of an image is lost, what else is there is still looked for.
    let or_lost = |error: io::Error| if error.raw_os_error().is_none() { Ok(()) } else { Err(error) };
    let whole = signature::read(source).or_else(|error| or_lost(error).map(|()| Vec::new()))?;
    let table = table::read(source, sector_size, name).or_else(|error| or_lost(error).map(|()| None))?;
    // A filesystem on the whole disk can have a boot sector that looks like an MBR; an MBR cannot look like a filesystem.
    let table = table.filter(|table| table.kind == "gpt" || whole.iter().all(|found| found.kind.name() == "iso9660"));
    let Some(table) = table else {
        let mut volume = bare(name, path, source.length());
        volume.signatures = whole;
        return Ok(Layout { table: None, sector_size: None, volumes: vec![volume] });
    };
    findings.extend(table.findings);
    let mut volumes = Vec::with_capacity(table.entries.len());
    for entry in table.entries {
        let mut volume = bare(&format!("{name}#{}", entry.number), path, entry.length);
        volume.number = Some(entry.number);
        volume.start = entry.start;
        volume.partuuid = Some(entry.partuuid);
        match signature::read(&Slice::new(source, entry.start, entry.length)) {
            Ok(signatures) => volume.signatures = signatures,
            Err(error) => findings.push(failing(&volume.name, &SysError::new("reading", path, error))),
        }
        volumes.push(volume);
    }
    Ok(Layout { table: Some(table.kind.to_owned()), sector_size: Some(table.sector_size), volumes })
}

/// Finds filesystems whose partition table is lost.
fn find_without_table(source: &dyn ReadAt, path: &Path, name: &str, layout: &mut Layout, findings: &mut Vec<Finding>) {
    let found = scan::filesystems(source);
    if found.is_empty() {
        return;
    }
    let what = "it has no partition table that can be read; the filesystems were found without it";
    findings.push(Finding::new(Severity::Damage, name, what, ""));
    let volume = |(number, (start, length)): (u32, (u64, u64))| {
        let mut volume = bare(&format!("{name}#{number}"), path, length);
        (volume.number, volume.start) = (Some(number), start);
        volume.signatures = signature::read(&Slice::new(source, start, length)).unwrap_or_default();
        volume
    };
    layout.volumes = (1..).zip(found).map(volume).collect();
}

fn bare(name: &str, path: &Path, size: u64) -> Volume {
    Volume {
        name: name.to_owned(),
        path: path.to_path_buf(),
        number: None,
        start: 0,
        size: ByteSize(size),
        partuuid: None,
        signatures: Vec::new(),
        mounted_at: Vec::new(),
    }
}

fn failing(name: &str, error: &SysError) -> Finding {
    let (severity, advice) = match error.source.kind() {
        ErrorKind::PermissionDenied => (Severity::Warning, "run Lifeboat as root"),
        _ => (Severity::Damage, "the disk may be failing: save what is on it before anything else"),
    };
    Finding::new(severity, name, error.to_string(), advice)
}
