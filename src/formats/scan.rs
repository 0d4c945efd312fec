//! Filesystems on a disk whose partition table is lost, found by their superblocks.

use super::ReadAt;
use super::block::Block;
use super::btrfs;
use super::ext4::superblock::{self, Superblock};

/// Partitions begin at multiples of this, since more than ten years.
const STEP: u64 = 1 << 20;

/// Where an ext2, ext3, ext4 or btrfs begins, and how long it is; one after the other. Reads a little of every
/// mebibyte of the disk.
pub fn filesystems(disk: &dyn ReadAt) -> Vec<(u64, u64)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < disk.length() {
        let length = length_at(disk, at).map(|length| length.min(disk.length().saturating_sub(at)));
        if let Some(length) = length {
            found.push((at, length));
        }
        let next = at.saturating_add(length.unwrap_or_default()).max(at.saturating_add(1));
        at = next.checked_next_multiple_of(STEP).unwrap_or(u64::MAX);
    }
    found
}

/// How long the filesystem is that begins here; `None` where none begins.
pub fn length_at(disk: &dyn ReadAt, start: u64) -> Option<u64> {
    let of_ext = || {
        let raw = Block::read(disk, start.checked_add(superblock::PLACE)?, superblock::LENGTH).ok()??;
        let found = Superblock::parse(&raw).ok().filter(|found| found.group == 0)?;
        found.blocks.checked_mul(found.block_size)
    };
    of_ext().or_else(|| btrfs::length_at(disk, start))
}
