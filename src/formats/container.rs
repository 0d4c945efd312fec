//! What is no filesystem itself: swap space, LUKS, LVM physical volumes, md RAID members.

use super::ReadAt;
use super::block::Block;
use crate::model::disk::{FilesystemKind, FilesystemState, Signature};
use std::io;

const MD_MAGIC: u32 = 0xa92b_4efc;

fn signature(kind: FilesystemKind, uuid: Option<String>, label: Option<String>) -> Signature {
    Signature { kind, uuid, label, state: FilesystemState::Unknown }
}

/// Recognises swap space (Linux, include/linux/swap.h); the signature is at the end of the first page, whose size is
/// that of the machine which made it.
pub fn swap(volume: &dyn ReadAt) -> io::Result<Option<Signature>> {
    for page in [0x1000, 0x2000, 0x4000, 0x1_0000] {
        if let Some(end) = Block::read(volume, page - 10, 10)?
            && (end.has(0, b"SWAPSPACE2") || end.has(0, b"SWAP-SPACE"))
        {
            let head = Block::read(volume, 1024, 64)?;
            let (uuid, label) = head.map_or((None, None), |head| (head.uuid(12), head.text(28, 16)));
            return Ok(Some(signature(FilesystemKind::Swap, uuid, label)));
        }
    }
    Ok(None)
}

/// Recognises LUKS 1 and 2 (LUKS2 On-Disk Format Specification 1.1, section 2.1).
pub fn luks(volume: &dyn ReadAt) -> io::Result<Option<Signature>> {
    let block = Block::read(volume, 0, 512)?.filter(|block| block.has(0, b"LUKS\xba\xbe"));
    Ok(block.and_then(|block| {
        let label = match block.be16(6)? {
            1 => None,
            2 => block.text(24, 48),
            _ => return None,
        };
        Some(signature(FilesystemKind::Luks, block.text(168, 40), label))
    }))
}

/// Recognises an LVM2 physical volume (lvm2, lib/format_text/layout.h); its label is in one of the first four sectors.
pub fn lvm(volume: &dyn ReadAt) -> io::Result<Option<Signature>> {
    for sector in 0..4 {
        let block = Block::read(volume, sector * 512, 512)?;
        let Some(block) = block.filter(|block| block.has(0, b"LABELONE") && block.has(24, b"LVM2 001")) else {
            continue;
        };
        let uuid =
            block.le32(20).and_then(|at| block.text(at as usize, 32)).filter(|id| id.is_ascii() && id.len() == 32);
        let groups = [0..6, 6..10, 10..14, 14..18, 18..22, 22..26, 26..32];
        let uuid = uuid.map(|id| groups.map(|range| id.get(range).unwrap_or_default().to_owned()).join("-"));
        return Ok(Some(signature(FilesystemKind::Lvm, uuid, None)));
    }
    Ok(None)
}

/// Recognises an md RAID member with metadata 1.x (Linux, include/uapi/linux/raid/md_p.h): version 1.1 at the start,
/// 1.2 at 4 KiB, 1.0 near the end.
pub fn md(volume: &dyn ReadAt) -> io::Result<Option<Signature>> {
    let sectors = volume.length() / 512;
    let last = (sectors.saturating_sub(16) & !7) * 512;
    for place in [0, 4096, last] {
        let block = Block::read(volume, place, 256)?;
        // The superblock names its own place, in sectors.
        let block =
            block.filter(|b| b.le32(0) == Some(MD_MAGIC) && b.le32(4) == Some(1) && b.le64(144) == Some(place / 512));
        if let Some(block) = block {
            return Ok(Some(signature(FilesystemKind::MdRaid, block.uuid(16), block.text(32, 32))));
        }
    }
    Ok(None)
}

/// Recognises an md RAID member with metadata 0.90, which is in the last 64 KiB block but one.
pub fn md_old(volume: &dyn ReadAt) -> io::Result<Option<Signature>> {
    let Some(place) = (volume.length() & !0xffff).checked_sub(0x1_0000) else { return Ok(None) };
    let block = Block::read(volume, place, 256)?;
    let block = block.filter(|block| block.le32(0) == Some(MD_MAGIC) && block.le32(4) == Some(0));
    Ok(block.map(|block| {
        let words = [20, 52, 56, 60].map(|at| block.le32(at).unwrap_or(0).to_be_bytes());
        let mut raw = [0; 16];
        raw.iter_mut().zip(words.as_flattened()).for_each(|(to, from)| *to = *from);
        signature(FilesystemKind::MdRaid, Some(super::block::uuid_text(raw)), None)
    }))
}
