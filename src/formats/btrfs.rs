//! btrfs superblocks (btrfs on-disk format, "Superblock"), and the chunk tree that they lead to.

mod chunks;

pub use chunks::rebuilt;

use super::ReadAt;
use super::block::Block;
use crate::model::disk::{FilesystemKind, FilesystemState, Signature};
use std::io;

const PLACE: u64 = 0x1_0000;
/// Where the first copy lies, on volumes that are longer.
const COPY: u64 = 64 << 20;
const LENGTH: usize = 0x1000;
const CSUM_CRC32C: u16 = 0;

/// Recognises btrfs. Where its superblock cannot be read, by the copy.
pub fn probe(volume: &dyn ReadAt) -> io::Result<Option<Signature>> {
    match Block::read(volume, PLACE, LENGTH) {
        Ok(block) => Ok(block.and_then(|block| {
            let found = parse(&block)?;
            let state = if chunks::is_lost(volume, &block) { FilesystemState::Damaged } else { found.state };
            Some(Signature { state, ..found })
        })),
        Err(error) => probe_copy(volume).ok().flatten().map_or(Err(error), |found| Ok(Some(found))),
    }
}

/// Recognises btrfs by the copy of its superblock: it is damaged then. A copy can be left over from an earlier use, so
/// it counts only where nothing else is found.
pub fn probe_copy(volume: &dyn ReadAt) -> io::Result<Option<Signature>> {
    let Some(block) = Block::read(volume, COPY, LENGTH)? else { return Ok(None) };
    let found = parse(&block).filter(|found| is_at(&block, COPY) && found.state != FilesystemState::Damaged);
    Ok(found.map(|found| Signature { state: FilesystemState::Damaged, ..found }))
}

/// Where the superblock belongs, and what belongs there, made from the copy; `None` where the superblock is right, or
/// the copy is no better, or has another checksum than CRC-32C.
pub fn superblock_from_copy(volume: &dyn ReadAt) -> Option<(u64, Vec<u8>)> {
    if Block::read(volume, PLACE, LENGTH).ok().flatten().is_some_and(|block| is_right(&block)) {
        return None;
    }
    let copy = Block::read(volume, COPY, LENGTH).ok()??;
    if !is_right(&copy) || !is_at(&copy, COPY) || copy.le16(0xc4)? != CSUM_CRC32C {
        return None;
    }
    let mut bytes = copy.bytes().to_vec();
    bytes.get_mut(0x30..0x38)?.copy_from_slice(&PLACE.to_le_bytes());
    let sum = checksum(bytes.get(0x20..)?);
    bytes.get_mut(..4)?.copy_from_slice(&sum.to_le_bytes());
    Some((PLACE, bytes))
}

/// How long the filesystem is that begins at a place of a disk; `None` where none begins.
pub fn length_at(disk: &dyn ReadAt, start: u64) -> Option<u64> {
    [PLACE, COPY].into_iter().find_map(|place| {
        let block = Block::read(disk, start.checked_add(place)?, LENGTH).ok()??;
        let is_whole = parse(&block).is_some_and(|found| found.state != FilesystemState::Damaged);
        // On several devices it is longer than this one.
        (is_whole && is_at(&block, place)).then(|| block.le64(0x70)).flatten()
    })
}

/// How long the filesystem of one device is; `None` where there is none, or one on several devices.
pub fn length_of_single(volume: &dyn ReadAt) -> io::Result<Option<u64>> {
    let Some(block) = Block::read(volume, PLACE, LENGTH)? else { return Ok(None) };
    let is_whole = parse(&block).is_some_and(|found| found.state != FilesystemState::Damaged);
    Ok((is_whole && block.le64(0x88) == Some(1)).then(|| block.le64(0x70)).flatten())
}

/// CRC-32C of what follows the field for it.
fn checksum(bytes: &[u8]) -> u32 {
    !ext4::parse::ext4_style_crc32c_le(!0, bytes)
}

fn is_right(block: &Block) -> bool {
    parse(block).is_some_and(|found| found.state != FilesystemState::Damaged)
}

/// Every superblock says where it lies.
fn is_at(block: &Block, place: u64) -> bool {
    block.le64(0x30) == Some(place)
}

fn parse(block: &Block) -> Option<Signature> {
    if !block.has(0x40, b"_BHRfS_M") {
        return None;
    }
    let checked = block.le16(0xc4)? != CSUM_CRC32C || checksum(block.part(0x20, LENGTH - 0x20)?) == block.le32(0)?;
    let state = if !checked {
        FilesystemState::Damaged
    } else if block.le64(0x60)? != 0 {
        // A log tree: writes that were synced since the last commit.
        FilesystemState::NeedsRecovery
    } else {
        FilesystemState::Clean
    };
    Some(Signature { kind: FilesystemKind::Btrfs, uuid: block.uuid(0x20), label: block.text(0x12b, 256), state })
}
