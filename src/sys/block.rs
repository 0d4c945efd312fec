//! Block devices as sysfs shows them; no udev and no lsblk is needed.
//!
//! Source of the layout: Linux, Documentation/ABI/stable/sysfs-block. Sizes there are in units of 512 bytes whatever
//! the sector size is.

use super::SysError;
use super::command::succeed;
use super::host::Host;
use super::overlay;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// A whole disk, or a device-mapper or RAID volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockDevice {
    /// Kernel name.
    pub name: String,
    /// Its node in `/dev`.
    pub node: PathBuf,
    /// Device number.
    pub number: (u32, u32),
    /// Length in bytes.
    pub size: u64,
    /// Logical sector size in bytes.
    pub sector_size: u32,
    /// Vendor and model.
    pub model: Option<String>,
    /// Serial number or world-wide name.
    pub serial: Option<String>,
    /// Whether the kernel calls it removable.
    pub removable: bool,
    /// Whether it is write-protected.
    pub read_only: bool,
    /// Name of a device-mapper volume, as below `/dev/mapper`.
    pub mapper_name: Option<String>,
    /// Kernel names of the devices that it is made of.
    pub slaves: Vec<String>,
    /// Its partitions as the kernel read them, in order of number.
    pub partitions: Vec<Partition>,
}

/// A partition that the kernel knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Kernel name.
    pub name: String,
    /// Its node in `/dev`.
    pub node: PathBuf,
    /// Device number.
    pub device: (u32, u32),
    /// Partition number.
    pub number: u32,
    /// First byte on the disk.
    pub start: u64,
    /// Length in bytes.
    pub size: u64,
    /// Whether it is write-protected.
    pub read_only: bool,
}

/// All block devices that may hold data: no loop devices, RAM disks, floppies, and nothing without a size.
pub fn devices(host: &Host) -> Result<Vec<BlockDevice>, SysError> {
    let folder = host.sys("block");
    let failed = |error| SysError::new("reading", &folder, error);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        let passing = ["loop", "ram", "zram", "fd", "mtdblock"].iter().any(|prefix| is_numbered(&name, prefix));
        if !passing && text(&folder.join(&name).join("hidden")).as_deref() != Some("1") {
            found.extend(device(host, &name));
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// A device by its kernel name; `None` when it is gone or has no size.
fn device(host: &Host, name: &str) -> Option<BlockDevice> {
    let folder = host.sys("block").join(name);
    let size = sectors(&folder.join("size"))?;
    if size == 0 {
        return None;
    }
    let words = |file: &str| text(&folder.join(file)).filter(|words| !words.is_empty());
    let model = match (words("device/vendor"), words("device/model").or_else(|| words("device/name"))) {
        // "ATA" is what libata puts in place of a vendor.
        (Some(vendor), Some(model)) if vendor != "ATA" && !vendor.starts_with("0x") => {
            Some(format!("{vendor} {model}"))
        }
        (_, model) => model,
    };
    Some(BlockDevice {
        node: host.dev(name.replace('!', "/")),
        number: device_number(&folder)?,
        size,
        sector_size: words("queue/logical_block_size").and_then(|size| size.parse().ok()).unwrap_or(512),
        model,
        serial: words("device/serial")
            .or_else(|| words("serial"))
            .or_else(|| words("wwid"))
            .or_else(|| words("device/wwid")),
        removable: words("removable").as_deref() == Some("1"),
        read_only: words("ro").as_deref() == Some("1"),
        mapper_name: words("dm/name"),
        slaves: names(&folder.join("slaves")),
        partitions: partitions(host, &folder),
        name: name.to_owned(),
    })
}

fn partitions(host: &Host, folder: &Path) -> Vec<Partition> {
    let mut found: Vec<Partition> = names(folder)
        .into_iter()
        .filter_map(|name| {
            let folder = folder.join(&name);
            Some(Partition {
                number: text(&folder.join("partition"))?.parse().ok()?,
                device: device_number(&folder)?,
                start: sectors(&folder.join("start"))?,
                size: sectors(&folder.join("size"))?,
                read_only: text(&folder.join("ro")).as_deref() == Some("1"),
                node: host.dev(name.replace('!', "/")),
                name,
            })
        })
        .collect();
    found.sort_by_key(|partition| partition.number);
    found
}

/// What a loop device shows: the file behind it and the offset of its first byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backing {
    /// Kernel name of the loop device.
    pub name: String,
    /// Device number of the loop device.
    pub number: (u32, u32),
    /// The file or device behind it.
    pub path: PathBuf,
    /// Offset of its first byte there.
    pub offset: u64,
    /// Whether it goes with its last user.
    pub autoclear: bool,
    /// Whether it is write-protected.
    pub read_only: bool,
    /// Whether an overlay lies between them, so that nothing that is written comes down.
    pub overlaid: bool,
}

/// All loop devices in use; behind an overlay is what it shows.
pub fn loops(host: &Host) -> Vec<Backing> {
    let folder = host.sys("block");
    names(&folder)
        .into_iter()
        .filter(|name| is_numbered(name, "loop"))
        .filter_map(|name| {
            let folder = folder.join(&name);
            let path = std::fs::read(folder.join("loop/backing_file")).ok()?;
            let path = path.strip_suffix(b"\n").unwrap_or(&path);
            Some(Backing {
                number: device_number(&folder)?,
                path: PathBuf::from(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(path)),
                offset: text(&folder.join("loop/offset"))?.parse().ok()?,
                autoclear: text(&folder.join("loop/autoclear")).as_deref() == Some("1"),
                read_only: text(&folder.join("ro")).as_deref() == Some("1"),
                overlaid: false,
                name,
            })
        })
        .map(|backing| overlay::behind(host, backing))
        .collect()
}

/// Whether a block device is write-protected.
pub fn is_read_only(host: &Host, (major, minor): (u32, u32)) -> bool {
    text(&host.sys(format!("dev/block/{major}:{minor}/ro"))).as_deref() == Some("1")
}

/// Length of a device's logical sectors in bytes.
pub fn sector_size(host: &Host, number: (u32, u32)) -> Option<u32> {
    let folder = folder_of(host, number)?;
    let of_disk = if folder.join("partition").exists() { folder.parent()? } else { &folder };
    text(&of_disk.join("queue/logical_block_size"))?.parse().ok()
}

/// Everything that shares a disk with a device: the disks below it, all of their partitions, and what is made of them.
pub fn kin(host: &Host, number: (u32, u32)) -> BTreeSet<(u32, u32)> {
    let mut all = BTreeSet::from([number]);
    let mut left: Vec<PathBuf> = folder_of(host, number).into_iter().collect();
    while let Some(folder) = left.pop() {
        let disk = if folder.join("partition").exists() { folder.parent().map(Path::to_path_buf) } else { None };
        let disk = disk.unwrap_or(folder);
        let below = names(&disk.join("slaves"));
        left.extend(below.iter().filter_map(|name| std::fs::canonicalize(disk.join("slaves").join(name)).ok()));
        all.extend(made_of(host, disk));
    }
    all
}

/// A device itself, its partitions, and what is made of them.
pub fn with_all_on_it(host: &Host, number: (u32, u32)) -> BTreeSet<(u32, u32)> {
    folder_of(host, number).map_or_else(|| BTreeSet::from([number]), |folder| made_of(host, folder))
}

fn folder_of(host: &Host, (major, minor): (u32, u32)) -> Option<PathBuf> {
    std::fs::canonicalize(host.sys(format!("dev/block/{major}:{minor}"))).ok()
}

fn made_of(host: &Host, folder: PathBuf) -> BTreeSet<(u32, u32)> {
    let mut all = BTreeSet::new();
    let mut left = vec![folder];
    while let Some(folder) = left.pop() {
        if device_number(&folder).is_some_and(|number| all.insert(number)) {
            let parts = names(&folder).into_iter().map(|name| folder.join(name));
            left.extend(parts.filter(|part| part.join("partition").exists()));
            left.extend(names(&folder.join("holders")).into_iter().map(|name| host.sys("block").join(name)));
        }
    }
    all
}

/// The node of a device, as the kernel names it.
pub fn node(host: &Host, (major, minor): (u32, u32)) -> Option<PathBuf> {
    let uevent = text(&host.sys(format!("dev/block/{major}:{minor}/uevent")))?;
    let name = uevent.lines().find_map(|line| line.strip_prefix("DEVNAME="))?;
    Some(host.dev(name))
}

/// Has the kernel look again how long a partition of a disk is; nothing is written to the disk.
pub fn look_at_length(host: &Host, disk: &Path, number: u32) -> Result<(), SysError> {
    let number = number.to_string();
    let args = [OsStr::new("--update"), OsStr::new("--nr"), OsStr::new(&number), disk.as_os_str()];
    succeed(host.commands().as_ref(), "partx", &args).map(|_| ())
}

fn is_numbered(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn text(path: &Path) -> Option<String> {
    std::fs::read(path).ok().map(|raw| String::from_utf8_lossy(&raw).trim_matches(['\0', ' ', '\n', '\t']).to_owned())
}

fn sectors(path: &Path) -> Option<u64> {
    text(path)?.parse::<u64>().ok()?.checked_mul(512)
}

fn device_number(folder: &Path) -> Option<(u32, u32)> {
    let text = text(&folder.join("dev"))?;
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
