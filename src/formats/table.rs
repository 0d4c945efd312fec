//! The partition table of a disk, whichever kind it has.

use super::{ReadAt, gpt, mbr};
use crate::model::finding::Finding;
use std::io;

/// A partition table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionTable {
    /// `gpt` or `mbr`.
    pub kind: &'static str,
    /// Its entries in order of number.
    pub entries: Vec<Entry>,
    /// Sector size that the table is written for.
    pub sector_size: u32,
    /// What is wrong with it, though it could be read.
    pub findings: Vec<Finding>,
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number, counted as the kernel does.
    pub number: u32,
    /// First byte on the disk.
    pub start: u64,
    /// Length in bytes, cut at the end of the disk.
    pub length: u64,
    /// PARTUUID.
    pub partuuid: String,
    /// Partition name (GPT only).
    pub name: Option<String>,
}

/// Reads the partition table of a disk; `None` when there is none. `subject` names the disk in findings; the sector
/// size is the device's own, or `None` for an image file, whose table then tells it.
pub fn read(source: &dyn ReadAt, sector_size: Option<u32>, subject: &str) -> io::Result<Option<PartitionTable>> {
    if let Some(table) = gpt::read(source, sector_size, subject)? {
        return Ok(Some(table));
    }
    mbr::read(source, sector_size, subject)
}
