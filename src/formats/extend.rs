//! Making the last partition of a disk longer: what to write into its partition table, and in which order.
//!
//! Opens and writes nothing. Each [`Patch`] is written and synced before the next one, and after each of them the primary
//! table is valid for the kernel, which looks at no other: with the old end of the partition or with the new one, never
//! torn. The tools write the entries of a GPT first and their checksum after them, and a power cut between the two leaves
//! a box that does not start. Here the primary header is pointed at the entries of the backup, which were written before;
//! only then the primary entries change, and the header is pointed back at them. Every write of a header is one sector.
//! An MBR is one sector anyway. What is right already is left out, so the same call takes up what was interrupted.
//!
//! Sources: UEFI Specification 2.10, section 5.3; Linux, block/partitions/efi.c and msdos.c.

use super::ReadAt;
use super::block::Block;
use super::{gpt, mbr};
use std::io;

/// Partitions end at a multiple of this, as all tools of today make them.
const ALIGNMENT: u64 = 1 << 20;

/// Bytes and where they belong on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    /// First byte.
    pub place: u64,
    /// What is to be there.
    pub bytes: Vec<u8>,
}

/// A longer last partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    /// First byte of the partition.
    pub start: u64,
    /// Its new length in bytes; never shorter than before.
    pub length: u64,
    /// What is still to be written; nothing where the table is right already.
    pub patches: Vec<Patch>,
}

/// Why a partition cannot be made longer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fixed {
    /// There is no table, or one that is damaged.
    #[error("its partition table is damaged, or of a kind that cannot be changed here")]
    Table,
    /// It is one of those inside of an extended partition.
    #[error("the partition lies inside of an extended one")]
    Logical,
    /// Another partition lies behind it.
    #[error("partition {0} lies behind it")]
    Behind(u32),
}

/// What makes partition `number` reach to the end of the disk; `kind` is the table's, as a survey names it.
pub fn last_partition(
    disk: &dyn ReadAt,
    kind: &str,
    sector_size: u32,
    number: u32,
) -> io::Result<Result<Extension, Fixed>> {
    let extended = match kind {
        "gpt" => in_gpt(disk, sector_size, number)?,
        "mbr" => in_mbr(disk, sector_size, number)?,
        _ => Err(Fixed::Table),
    };
    let Ok(extension) = extended else { return Ok(extended) };
    let mut missing = Vec::new();
    for patch in extension.patches {
        let there = Block::read(disk, patch.place, patch.bytes.len())?;
        if there.is_none_or(|there| there.bytes() != patch.bytes) {
            missing.push(patch);
        }
    }
    Ok(Ok(Extension { patches: missing, ..extension }))
}

/// How many of so many sectors end at a multiple of [`ALIGNMENT`].
fn aligned(sectors: u64, sector_size: u32) -> u64 {
    let step = (ALIGNMENT / u64::from(sector_size.max(1))).max(1);
    sectors / step * step
}

fn in_mbr(disk: &dyn ReadAt, sector_size: u32, number: u32) -> io::Result<Result<Extension, Fixed>> {
    let Some(sector) = Block::read(disk, 0, 512)? else { return Ok(Err(Fixed::Table)) };
    let Some(slots) = mbr::slots(&sector) else { return Ok(Err(Fixed::Table)) };
    let used = (1u32..).zip(&slots).filter(|(_, slot)| slot.kind != 0 && slot.count != 0);
    let used: Vec<_> = used.collect();
    if number > 4 {
        return Ok(Err(Fixed::Logical));
    }
    let Some((_, own)) = used.iter().find(|(at, slot)| *at == number && !mbr::EXTENDED.contains(&slot.kind)) else {
        return Ok(Err(Fixed::Table));
    };
    if let Some((behind, _)) = used.iter().find(|(at, slot)| *at != number && slot.start >= own.start) {
        return Ok(Err(Fixed::Behind(*behind)));
    }
    let last = aligned(disk.length() / u64::from(sector_size), sector_size);
    // Both fields have 32 bits.
    let count = last.saturating_sub(own.start).min(u64::from(u32::MAX)).max(own.count);
    let mut bytes = sector.bytes().to_vec();
    let at = 446 + 16 * (number as usize - 1);
    let low = u32::try_from(count).unwrap_or(u32::MAX);
    let written = count > own.count && put(&mut bytes, at + 12, &low.to_le_bytes())
        // An end that does not fit cylinders, heads and sectors, as every tool writes it.
        && put(&mut bytes, at + 5, &[0xfe, 0xff, 0xff]);
    let patches = if written { vec![Patch { place: 0, bytes }] } else { Vec::new() };
    let bytes = |sectors: u64| sectors.saturating_mul(u64::from(sector_size));
    Ok(Ok(Extension { start: bytes(own.start), length: bytes(count), patches }))
}

fn in_gpt(disk: &dyn ReadAt, sector_size: u32, number: u32) -> io::Result<Result<Extension, Fixed>> {
    let unit = u64::from(sector_size);
    let Some(protective) = Block::read(disk, 0, 512)? else { return Ok(Err(Fixed::Table)) };
    // A hybrid table has a second opinion of where partitions end.
    let is_plain = mbr::slots(&protective).is_some_and(|slots| {
        slots.iter().enumerate().all(|(at, slot)| if at == 0 { slot.kind == 0xee } else { slot.kind == 0 })
    });
    let Some(table) = gpt::primary(disk, sector_size)?.filter(|_| is_plain) else { return Ok(Err(Fixed::Table)) };
    let gpt::Primary { header, mut entries, entry_size, first_usable, entries_at } = table;
    let sectors = disk.length() / unit;
    let array = (entries.len() as u64).div_ceil(unit);
    let (Some(last), Some(usable)) = (sectors.checked_sub(1), sectors.checked_sub(array + 2)) else {
        return Ok(Err(Fixed::Table));
    };
    // Where the entries belong; elsewhere they are only while this is going on.
    let home = if entries_at < first_usable { entries_at } else { 2 };
    let Some(at) = (number as usize).checked_sub(1).and_then(|at| at.checked_mul(entry_size)) else {
        return Ok(Err(Fixed::Table));
    };
    let span = |at: usize| {
        let block = Block::from(entries.get(at..at.checked_add(entry_size)?)?.to_vec());
        (!block.has(0, &[0; 16])).then_some((block.le64(32)?, block.le64(40)?))
    };
    let Some((start, end)) = span(at) else { return Ok(Err(Fixed::Table)) };
    let others = (1u32..).zip((0..entries.len()).step_by(entry_size)).filter(|(_, other)| *other != at);
    for (behind, other) in others {
        if span(other).is_some_and(|(first, last)| first >= start || last >= start) {
            return Ok(Err(Fixed::Behind(behind)));
        }
    }
    // It reaches past the end, or the entries would reach into the partitions.
    if end < start || end > usable || home.checked_add(array).is_none_or(|behind| behind > first_usable) {
        return Ok(Err(Fixed::Table));
    }
    let end = aligned(usable.saturating_add(1), sector_size).saturating_sub(1).max(end);
    if !put(&mut entries, at + 40, &end.to_le_bytes()) {
        return Ok(Err(Fixed::Table));
    }
    let made = |own: u64, other: u64, array_at: u64| {
        header_with(&header, sector_size, own, other, usable, array_at, crc32fast::hash(&entries))
    };
    let behind = last.saturating_sub(array);
    let headers = (made(last, 1, behind), made(1, last, behind), made(1, last, home));
    let (Some(backup), Some(passing), Some(primary)) = headers else { return Ok(Err(Fixed::Table)) };
    let mut mbr = protective.bytes().to_vec();
    let covered = u32::try_from(last).unwrap_or(u32::MAX);
    if !put(&mut mbr, 446 + 12, &covered.to_le_bytes()) {
        return Ok(Err(Fixed::Table));
    }
    let patch = |sector: u64, bytes: &[u8]| Patch { place: sector.saturating_mul(unit), bytes: bytes.to_vec() };
    let mut patches = vec![patch(behind, &entries), patch(last, &backup)];
    let is_home = Block::read(disk, home.saturating_mul(unit), entries.len())?;
    if is_home.is_none_or(|there| there.bytes() != entries) {
        patches.extend([patch(1, &passing), patch(home, &entries)]);
    }
    patches.extend([patch(1, &primary), patch(0, &mbr)]);
    let length = (end - start + 1).saturating_mul(unit);
    Ok(Ok(Extension { start: start.saturating_mul(unit), length, patches }))
}

/// A header as `template`, for its place and that of its entries.
fn header_with(
    template: &Block,
    sector_size: u32,
    own: u64,
    other: u64,
    last_usable: u64,
    entries_at: u64,
    crc: u32,
) -> Option<Vec<u8>> {
    let mut bytes = template.bytes().to_vec();
    bytes.resize(sector_size as usize, 0);
    let size = template.le32(12)? as usize;
    let numbers = [(24, own), (32, other), (48, last_usable), (72, entries_at)];
    let mut is_put = numbers.iter().all(|(at, number)| put(&mut bytes, *at, &number.to_le_bytes()));
    is_put &= put(&mut bytes, 88, &crc.to_le_bytes()) && put(&mut bytes, 16, &[0; 4]);
    let sum = crc32fast::hash(bytes.get(..size)?);
    (is_put && put(&mut bytes, 16, &sum.to_le_bytes())).then_some(bytes)
}

/// Puts bytes into others; `false` where they do not fit.
fn put(bytes: &mut [u8], at: usize, part: &[u8]) -> bool {
    let Some(place) = at.checked_add(part.len()).and_then(|end| bytes.get_mut(at..end)) else { return false };
    place.copy_from_slice(part);
    true
}
