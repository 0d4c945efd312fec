//! The parts of a disk that may hold filesystems.

use crate::formats::block::Block;
use crate::formats::ext4::superblock::{self, Superblock};
use crate::formats::{ReadAt, table};

/// A stretch of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stretch {
    /// `partition 2`, or what else tells it from others.
    pub(super) name: String,
    /// First byte.
    pub(super) start: u64,
    /// Length in bytes.
    pub(super) length: u64,
}

/// Partitions begin at multiples of this, since more than ten years.
const STEP: u64 = 1 << 20;

/// What the partition table says; the whole disk where there is none, or where it cannot be read.
pub(super) fn of_table(disk: &dyn ReadAt) -> Vec<Stretch> {
    let whole = || Stretch { name: "the disk".into(), start: 0, length: disk.length() };
    // A boot sector in front of a filesystem can look like a table.
    if first_superblock(disk, 0).is_some() {
        return vec![whole()];
    }
    match table::read(disk, None, "the disk") {
        Ok(Some(table)) => {
            let name = |number: u32| format!("partition {number}");
            let entries = table.entries.into_iter();
            entries
                .map(|entry| Stretch { name: name(entry.number), start: entry.start, length: entry.length })
                .collect()
        }
        _ => vec![whole()],
    }
}

/// As [`of_table`]; where no table can be read, the ext2, ext3 and ext4 filesystems that are found without it.
pub(super) fn found(image: &dyn ReadAt) -> Vec<Stretch> {
    let listed = of_table(image);
    let is_unknown = matches!(listed.as_slice(), [whole] if whole.length == image.length());
    if !is_unknown || first_superblock(image, 0).is_some() {
        return listed;
    }
    let mut stretches: Vec<Stretch> = Vec::new();
    let mut at = 0;
    while at < image.length() {
        let next = match first_superblock(image, at) {
            Some(found) => {
                let length = found.blocks.saturating_mul(found.block_size);
                stretches.push(Stretch { name: format!("the filesystem at byte {at}"), start: at, length });
                at.saturating_add(length).next_multiple_of(STEP)
            }
            None => at.saturating_add(STEP),
        };
        at = next.max(at.saturating_add(STEP));
    }
    if stretches.is_empty() { listed } else { stretches }
}

/// The superblock of a filesystem that begins here.
fn first_superblock(disk: &dyn ReadAt, start: u64) -> Option<Superblock> {
    let raw = Block::read(disk, start.checked_add(superblock::PLACE)?, superblock::LENGTH).ok()??;
    Superblock::parse(&raw).ok().filter(|found| found.group == 0)
}
