//! The parts of a disk that may hold filesystems.

use crate::formats::{ReadAt, scan, table};

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

/// What the partition table says; the whole disk where there is none, or where it cannot be read.
pub(super) fn of_table(disk: &dyn ReadAt) -> Vec<Stretch> {
    let whole = || Stretch { name: "the disk".into(), start: 0, length: disk.length() };
    // A boot sector in front of a filesystem can look like a table.
    if scan::length_at(disk, 0).is_some() {
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

/// As [`of_table`]; where no table can be read, the filesystems that are found without it.
pub(super) fn found(image: &dyn ReadAt) -> Vec<Stretch> {
    let listed = of_table(image);
    let is_unknown = matches!(listed.as_slice(), [whole] if whole.length == image.length());
    if !is_unknown || scan::length_at(image, 0).is_some() {
        return listed;
    }
    let named = |(start, length)| Stretch { name: format!("the filesystem at byte {start}"), start, length };
    let stretches: Vec<Stretch> = scan::filesystems(image).into_iter().map(named).collect();
    if stretches.is_empty() { listed } else { stretches }
}
