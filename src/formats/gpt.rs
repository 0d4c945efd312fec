//! GUID partition tables (UEFI Specification 2.10, section 5.3).
//!
//! Uses the primary header, and the backup when the primary or its entries are damaged. The backup is looked for at
//! the disk's last sector and where the disk ended when it was partitioned (a disk image that was written to a larger
//! disk), which the protective MBR tells.

use super::ReadAt;
use super::block::{Block, uuid_text};
use super::table::{Entry, PartitionTable};
use crate::model::finding::{Finding, Severity};
use std::io;

const SECTOR_SIZES: [u32; 2] = [512, 4096];
/// UEFI asks for at least 128; no tool writes more than 1024.
const MOST_ENTRIES: u32 = 1024;
const LARGEST_ENTRY: u32 = 512;

/// Reads a GPT; `None` when neither header can be used.
pub fn read(source: &dyn ReadAt, sector_size: Option<u32>, subject: &str) -> io::Result<Option<PartitionTable>> {
    for size in SECTOR_SIZES {
        if sector_size.is_some_and(|given| given != size) {
            continue;
        }
        if let Some(entries) = entries_from(source, size, 1)? {
            return Ok(Some(PartitionTable { kind: "gpt", entries, sector_size: size, findings: Vec::new() }));
        }
    }
    // Without a protective MBR the backup belongs to a table that was replaced on purpose.
    let Some(protective) = protective_end(source)? else { return Ok(None) };
    for size in SECTOR_SIZES {
        if sector_size.is_some_and(|given| given != size) {
            continue;
        }
        let last = (source.length() / u64::from(size)).saturating_sub(1);
        for sector in [last, protective] {
            if sector > 1
                && let Some(entries) = entries_from(source, size, sector)?
            {
                let findings = vec![Finding::new(
                    Severity::Warning,
                    subject,
                    "the primary partition table is damaged, its backup was used",
                    "the disk may be failing: save what is on it before anything else",
                )];
                return Ok(Some(PartitionTable { kind: "gpt", entries, sector_size: size, findings }));
            }
        }
    }
    Ok(None)
}

/// What the primary header says, and the entries that it leads to.
pub(super) struct Primary {
    /// The header's sector.
    pub(super) header: Block,
    /// All entries, also the unused ones.
    pub(super) entries: Vec<u8>,
    /// Length of one.
    pub(super) entry_size: usize,
    /// First sector that a partition may have.
    pub(super) first_usable: u64,
    /// First sector of the entries.
    pub(super) entries_at: u64,
}

/// The primary table as it is; `None` where it is damaged.
pub(super) fn primary(source: &dyn ReadAt, sector_size: u32) -> io::Result<Option<Primary>> {
    let unit = u64::from(sector_size);
    let Some(header) = Block::read(source, unit, sector_size as usize)? else { return Ok(None) };
    let (Some(array), Some(first_usable)) = (array_of(&header, 1), header.le64(40)) else { return Ok(None) };
    let place = array.first_sector.saturating_mul(unit);
    let length = (array.count as usize).saturating_mul(array.entry_size as usize);
    let entries = Block::read(source, place, length)?.filter(|read| crc32fast::hash(read.bytes()) == array.crc);
    Ok(entries.map(|entries| Primary {
        entries: entries.bytes().to_vec(),
        entry_size: array.entry_size as usize,
        entries_at: array.first_sector,
        header,
        first_usable,
    }))
}

/// Last sector of the disk as the protective MBR tells it: of the disk that was partitioned.
fn protective_end(source: &dyn ReadAt) -> io::Result<Option<u64>> {
    let Some(sector) = Block::read(source, 0, 512)? else { return Ok(None) };
    if !sector.has(510, &[0x55, 0xaa]) {
        return Ok(None);
    }
    let end = (0..4).map(|i| 446 + 16 * i).find_map(|at| {
        let (kind, start, count) = (sector.u8(at + 4)?, sector.le32(at + 8)?, sector.le32(at + 12)?);
        (kind == 0xee).then(|| u64::from(start) + u64::from(count).saturating_sub(1))
    });
    Ok(end)
}

/// The entries that a header at `sector` leads to; `None` when the header or the entries are not right.
fn entries_from(source: &dyn ReadAt, sector_size: u32, sector: u64) -> io::Result<Option<Vec<Entry>>> {
    let place = sector.saturating_mul(u64::from(sector_size));
    let Some(header) = Block::read(source, place, sector_size as usize)? else { return Ok(None) };
    let Some(array) = array_of(&header, sector) else { return Ok(None) };
    let start = array.first_sector.saturating_mul(u64::from(sector_size));
    let Some(entries) = Block::read(source, start, (array.count * array.entry_size) as usize)? else {
        return Ok(None);
    };
    if crc32fast::hash(entries.bytes()) != array.crc {
        return Ok(None);
    }
    let numbered = (1..).zip(entries.bytes().chunks(array.entry_size as usize));
    let parsed = numbered.filter_map(|(number, raw)| {
        let raw = Block::from(raw.to_vec());
        if raw.has(0, &[0; 16]) {
            return None;
        }
        let (first, last) = (raw.le64(32)?, raw.le64(40)?);
        let start = first.checked_mul(u64::from(sector_size))?;
        let length = last.checked_sub(first)?.checked_add(1)?.checked_mul(u64::from(sector_size))?;
        let room = source.length().checked_sub(start).filter(|room| *room > 0)?;
        Some(Entry {
            number,
            start,
            length: length.min(room),
            partuuid: uuid_text(raw.guid(16)?),
            name: raw.utf16(56, 36),
        })
    });
    Ok(Some(parsed.collect()))
}

struct Array {
    first_sector: u64,
    count: u32,
    entry_size: u32,
    crc: u32,
}

fn array_of(header: &Block, sector: u64) -> Option<Array> {
    let size = header.le32(12)? as usize;
    if !header.has(0, b"EFI PART") || !(92..=header.bytes().len()).contains(&size) || header.le64(24)? != sector {
        return None;
    }
    // The header's checksum is taken with its own field as zero.
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header.part(0, 16)?);
    hasher.update(&[0; 4]);
    hasher.update(header.part(20, size.checked_sub(20)?)?);
    if hasher.finalize() != header.le32(16)? {
        return None;
    }
    let array = Array {
        first_sector: header.le64(72)?,
        count: header.le32(80)?,
        entry_size: header.le32(84)?,
        crc: header.le32(88)?,
    };
    let fits = array.count <= MOST_ENTRIES && (128..=LARGEST_ENTRY).contains(&array.entry_size);
    fits.then_some(array)
}
