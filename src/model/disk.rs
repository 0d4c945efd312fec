//! Disks, partitions and the filesystems on them, as a survey sees them.

use super::size::ByteSize;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A whole disk, or a disk image file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Kernel name (`sda`, `mmcblk0`) or the image's path.
    pub name: String,
    /// Device node or image file.
    #[serde(with = "super::bytes::path")]
    pub path: PathBuf,
    /// Length.
    pub size: ByteSize,
    /// Logical sector size in bytes.
    pub sector_size: u32,
    /// Model as the device tells it.
    pub model: Option<String>,
    /// Serial number or world-wide name.
    pub serial: Option<String>,
    /// Whether the kernel calls it removable.
    pub removable: bool,
    /// Whether it is write-protected.
    pub read_only: bool,
    /// Whether Lifeboat itself was started from it.
    pub boot_medium: bool,
    /// Partition table found: `gpt`, `mbr` or none (a filesystem on the whole disk).
    pub table: Option<String>,
    /// Its volumes: partitions, or one volume that is the whole disk.
    pub volumes: Vec<Volume>,
}

/// A partition, a whole unpartitioned disk, or a device-mapper volume on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Kernel name (`sda2`) or image path with `#2`.
    pub name: String,
    /// Device node, or the image file.
    #[serde(with = "super::bytes::path")]
    pub path: PathBuf,
    /// Partition number; `None` for a whole disk.
    pub number: Option<u32>,
    /// First byte on the disk.
    pub start: u64,
    /// Length.
    pub size: ByteSize,
    /// PARTUUID as the kernel and udev write it.
    pub partuuid: Option<String>,
    /// All signatures found; two mean that it is ambiguous.
    pub signatures: Vec<Signature>,
    /// Where it is mounted now.
    #[serde(with = "super::bytes::paths")]
    pub mounted_at: Vec<PathBuf>,
}

impl Volume {
    /// Where its first byte is in `path`: 0 when it has a device node of its own, `start` when `path` is the disk or
    /// the image that it is a part of (its name then contains `#`).
    pub fn offset(&self) -> u64 {
        if self.name.contains('#') { self.start } else { 0 }
    }

    /// Its only signature that holds files; `None` when there is none or when two contradict each other.
    pub fn filesystem(&self) -> Option<&Signature> {
        match self.signatures.as_slice() {
            [one] if one.kind.holds_files() => Some(one),
            _ => None,
        }
    }
}

/// What a volume holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// The format.
    pub kind: FilesystemKind,
    /// UUID as `blkid` writes it.
    pub uuid: Option<String>,
    /// Label.
    pub label: Option<String>,
    /// Whether it was unmounted cleanly.
    pub state: FilesystemState,
}

/// Formats that are recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "each is the name of a format")]
pub enum FilesystemKind {
    Ext2,
    Ext3,
    Ext4,
    Btrfs,
    Vfat,
    Exfat,
    Ntfs,
    Xfs,
    F2fs,
    Squashfs,
    Iso9660,
    Swap,
    Luks,
    Lvm,
    MdRaid,
}

impl FilesystemKind {
    /// The name that mount(8) and blkid(8) use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext2 => "ext2",
            Self::Ext3 => "ext3",
            Self::Ext4 => "ext4",
            Self::Btrfs => "btrfs",
            Self::Vfat => "vfat",
            Self::Exfat => "exfat",
            Self::Ntfs => "ntfs",
            Self::Xfs => "xfs",
            Self::F2fs => "f2fs",
            Self::Squashfs => "squashfs",
            Self::Iso9660 => "iso9660",
            Self::Swap => "swap",
            Self::Luks => "luks",
            Self::Lvm => "lvm",
            Self::MdRaid => "mdraid",
        }
    }

    /// Whether it holds files, so that it can be mounted and searched.
    pub fn holds_files(self) -> bool {
        !matches!(self, Self::Swap | Self::Luks | Self::Lvm | Self::MdRaid)
    }
}

/// How a filesystem was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FilesystemState {
    /// Unmounted cleanly, as far as its superblock tells.
    Clean,
    /// Its journal holds changes that are not in place yet.
    NeedsRecovery,
    /// Its superblock's checksum is wrong, no copy of btrfs's chunk tree is right, or it is marked as having errors.
    Damaged,
    /// The format does not tell.
    Unknown,
}
