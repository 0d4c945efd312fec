//! NTFS boot sector and volume name (ntfs-3g, layout.h).

use super::ReadAt;
use super::block::Block;
use crate::model::disk::{FilesystemKind, FilesystemState, Signature};
use std::io;

/// Number of the file record that describes the volume.
const VOLUME_RECORD: u64 = 3;
const ATTRIBUTE_VOLUME_NAME: u32 = 0x60;
const ATTRIBUTES_END: u32 = 0xffff_ffff;
const LARGEST_RECORD: u64 = 4096;
const LONGEST_LABEL: u32 = 256;

/// Recognises NTFS.
pub fn probe(volume: &dyn ReadAt) -> io::Result<Option<Signature>> {
    let Some(boot) = Block::read(volume, 0, 512)? else { return Ok(None) };
    let Some((signature, place, length)) = parse(&boot) else { return Ok(None) };
    let label = Block::read(volume, place, length)?.and_then(|record| volume_name(&record));
    Ok(Some(Signature { label, ..signature }))
}

fn parse(boot: &Block) -> Option<(Signature, u64, usize)> {
    if !boot.has(3, b"NTFS    ") || !boot.has(510, &[0x55, 0xaa]) {
        return None;
    }
    let sector = u64::from(boot.le16(11)?);
    let per_cluster = match boot.u8(13)? {
        count @ 0..=128 => u64::from(count),
        // Above 128 the byte is a negative power of two.
        negative => 1 << (256 - u32::from(negative)).min(20),
    };
    let cluster = sector * per_cluster;
    let record = match boot.u8(64)?.cast_signed() {
        count @ 0.. => cluster.checked_mul(u64::from(count.unsigned_abs()))?,
        power => 1 << u32::from(power.unsigned_abs()).min(20),
    };
    if cluster == 0 || !(512..=LARGEST_RECORD).contains(&record) {
        return None;
    }
    let place = boot.le64(48)?.checked_mul(cluster)?.checked_add(record * VOLUME_RECORD)?;
    let uuid = Some(format!("{:016X}", boot.le64(72)?));
    let state = FilesystemState::Unknown;
    Some((Signature { kind: FilesystemKind::Ntfs, uuid, label: None, state }, place, usize::try_from(record).ok()?))
}

fn volume_name(record: &Block) -> Option<String> {
    if !record.has(0, b"FILE") {
        return None;
    }
    let mut at = usize::from(record.le16(20)?);
    loop {
        let (kind, length) = (record.le32(at)?, record.le32(at + 4)?);
        if kind == ATTRIBUTES_END || length < 24 {
            return None;
        }
        // Only a resident attribute has its value here.
        if kind == ATTRIBUTE_VOLUME_NAME && record.u8(at + 8)? == 0 {
            let (size, offset) = (record.le32(at + 16)?.min(LONGEST_LABEL), usize::from(record.le16(at + 20)?));
            return record.utf16(at + offset, size as usize / 2);
        }
        at = at.checked_add(length as usize)?;
    }
}
