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

/// Recognises ext2, ext3 and ext4.
pub fn probe(volume: &dyn ReadAt) -> io::Result<Option<Signature>> {
    let Some(block) = Block::read(volume, 1024, 1024)? else { return Ok(None) };
    Ok(parse(&block))
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
