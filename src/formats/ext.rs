//! ext2, ext3 and ext4 superblocks (Linux, Documentation/filesystems/ext4/super.rst).

use super::ReadAt;
use super::block::Block;
use crate::model::disk::{FilesystemKind, FilesystemState, Signature};
use std::io;

const COMPAT_HAS_JOURNAL: u32 = 0x4;
const INCOMPAT_RECOVER: u32 = 0x4;
const INCOMPAT_JOURNAL_DEVICE: u32 = 0x8;
/// What ext3 knows: FILETYPE, RECOVER, META_BG.
const INCOMPAT_EXT3: u32 = 0x2 | 0x4 | 0x10;
/// What ext3 knows: SPARSE_SUPER, LARGE_FILE, BTREE_DIR.
const RO_COMPAT_EXT3: u32 = 0x1 | 0x2 | 0x4;
const RO_COMPAT_METADATA_CSUM: u32 = 0x400;
const STATE_ERRORS: u16 = 0x2;

/// Where the second group begins with blocks of 4, 2 and 1 KiB, as mke2fs makes it.
const COPIES: [u64; 3] = [32768 * 4096, 16384 * 2048, 8193 * 1024];

/// Recognises ext2, ext3 and ext4. Where the superblock cannot be read, by a copy.
pub fn probe(volume: &dyn ReadAt) -> io::Result<Option<Signature>> {
    match Block::read(volume, 1024, 1024) {
        Ok(block) => Ok(block.and_then(|block| parse(&block))),
        Err(error) => probe_copy(volume).ok().flatten().map_or(Err(error), |found| Ok(Some(found))),
    }
}

/// Recognises them by a copy of the superblock: they are damaged then. A copy can be left over from an earlier use, so
/// it counts only where nothing else is found.
pub fn probe_copy(volume: &dyn ReadAt) -> io::Result<Option<Signature>> {
    for place in COPIES {
        let Some(block) = Block::read(volume, place, 1024)? else { continue };
        let is_copy = block.le16(0x5a) == Some(1) && block.le32(0x18).is_some_and(|shift| is_place(place, shift));
        if let Some(found) = parse(&block).filter(|_| is_copy) {
            return Ok(Some(Signature { state: FilesystemState::Damaged, ..found }));
        }
    }
    Ok(None)
}

/// Whether the second group begins here with blocks of `1024 << shift` bytes.
fn is_place(place: u64, shift: u32) -> bool {
    COPIES.iter().zip([2, 1, 0]).any(|(own, of)| *own == place && of == shift)
}

fn parse(block: &Block) -> Option<Signature> {
    if block.le16(0x38)? != 0xef53 {
        return None;
    }
    let (compat, incompat, ro_compat) = (block.le32(0x5c)?, block.le32(0x60)?, block.le32(0x64)?);
    if incompat & INCOMPAT_JOURNAL_DEVICE != 0 {
        return None;
    }
    let kind = if incompat & !INCOMPAT_EXT3 != 0 || ro_compat & !RO_COMPAT_EXT3 != 0 {
        FilesystemKind::Ext4
    } else if compat & COMPAT_HAS_JOURNAL != 0 {
        FilesystemKind::Ext3
    } else {
        FilesystemKind::Ext2
    };
    let checked = ro_compat & RO_COMPAT_METADATA_CSUM == 0
        || ext4::parse::ext4_style_crc32c_le(!0, block.part(0, 0x3fc)?) == block.le32(0x3fc)?;
    let state = if !checked || block.le16(0x3a)? & STATE_ERRORS != 0 {
        FilesystemState::Damaged
    } else if incompat & INCOMPAT_RECOVER != 0 {
        FilesystemState::NeedsRecovery
    } else {
        FilesystemState::Clean
    };
    Some(Signature { kind, uuid: block.uuid(0x68), label: block.text(0x78, 16), state })
}
