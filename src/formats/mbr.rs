//! MBR partition tables with logical partitions, as Linux numbers them (block/partitions/msdos.c).

use super::ReadAt;
use super::block::Block;
use super::table::{Entry, PartitionTable};
use crate::model::finding::{Finding, Severity};
use std::collections::BTreeSet;
use std::io;

pub(super) const EXTENDED: [u8; 3] = [0x05, 0x0f, 0x85];
const MOST_LOGICAL: usize = 128;

/// One of the four entries of a sector, in sectors.
pub(super) struct Slot {
    pub(super) kind: u8,
    pub(super) start: u64,
    pub(super) count: u64,
}

/// Reads an MBR table; `None` when sector 0 does not hold a plausible one (a FAT boot sector ends alike).
pub fn read(source: &dyn ReadAt, sector_size: Option<u32>, subject: &str) -> io::Result<Option<PartitionTable>> {
    let sector_size = sector_size.unwrap_or(512);
    let Some(sector) = Block::read(source, 0, 512)? else { return Ok(None) };
    let Some(slots) = slots(&sector) else { return Ok(None) };
    if slots.iter().all(|slot| slot.kind == 0 || slot.count == 0) || slots.iter().any(|slot| slot.kind == 0xee) {
        return Ok(None);
    }
    let id = sector.le32(440).unwrap_or(0);
    let entry = |number: u32, start: u64, count: u64| {
        let start = start.checked_mul(u64::from(sector_size))?;
        let room = source.length().checked_sub(start).filter(|room| *room > 0)?;
        let length = count.saturating_mul(u64::from(sector_size)).min(room);
        Some(Entry { number, start, length, partuuid: format!("{id:08x}-{number:02x}"), name: None })
    };
    let mut entries = Vec::new();
    let mut findings = Vec::new();
    let mut logical = 5;
    for (number, slot) in (1..).zip(&slots) {
        if slot.kind == 0 || slot.count == 0 {
            continue;
        }
        if !EXTENDED.contains(&slot.kind) {
            entries.extend(entry(number, slot.start, slot.count));
            continue;
        }
        let chain = logical_slots(source, sector_size, slot.start)?;
        for (start, count) in chain.slots {
            entries.extend(entry(logical, start, count));
            logical += 1;
        }
        if chain.broken {
            findings.push(Finding::new(
                Severity::Warning,
                subject,
                "the list of logical partitions is damaged, some of them may be missing here",
                "the disk may be failing: save what is on it before anything else",
            ));
        }
    }
    entries.sort_by_key(|entry| entry.number);
    Ok(Some(PartitionTable { kind: "mbr", entries, sector_size, findings }))
}

/// The four slots of a sector with the signature; `None` when it cannot be a partition table.
pub(super) fn slots(sector: &Block) -> Option<Vec<Slot>> {
    if !sector.has(510, &[0x55, 0xaa]) {
        return None;
    }
    let slot = |at: usize| {
        let plausible = matches!(sector.u8(at)?, 0x00 | 0x80);
        let (kind, start, count) = (sector.u8(at + 4)?, sector.le32(at + 8)?, sector.le32(at + 12)?);
        plausible.then_some(Slot { kind, start: start.into(), count: count.into() })
    };
    (0..4).map(|i| slot(446 + 16 * i)).collect()
}

#[derive(Default)]
struct Chain {
    slots: Vec<(u64, u64)>,
    broken: bool,
}

/// Follows the chain of extended boot records. The first slot is relative to its own record, the link to the start of
/// the extended partition.
fn logical_slots(source: &dyn ReadAt, sector_size: u32, extended: u64) -> io::Result<Chain> {
    let mut chain = Chain::default();
    let mut seen = BTreeSet::new();
    let mut record = extended;
    loop {
        if !seen.insert(record) || seen.len() > MOST_LOGICAL {
            chain.broken = true;
            return Ok(chain);
        }
        let place = record.saturating_mul(u64::from(sector_size));
        let sector = Block::read(source, place, 512)?;
        let Some(slots) = sector.as_ref().and_then(slots) else {
            chain.broken = true;
            return Ok(chain);
        };
        let mut next = None;
        for slot in slots.iter().filter(|slot| slot.kind != 0 && slot.count != 0) {
            if EXTENDED.contains(&slot.kind) {
                next = next.or(Some(extended.saturating_add(slot.start)));
            } else {
                chain.slots.push((record.saturating_add(slot.start), slot.count));
            }
        }
        match next {
            Some(next) => record = next,
            None => return Ok(chain),
        }
    }
}
