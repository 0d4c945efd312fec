//! btrfs superblocks (btrfs on-disk format, "Superblock").

use super::ReadAt;
use super::block::Block;
use crate::model::disk::{FilesystemKind, FilesystemState, Signature};
use std::io;

const PLACE: u64 = 0x1_0000;
const LENGTH: usize = 0x1000;
const CSUM_CRC32C: u16 = 0;

/// Recognises btrfs.
pub fn probe(volume: &dyn ReadAt) -> io::Result<Option<Signature>> {
    let Some(block) = Block::read(volume, PLACE, LENGTH)? else { return Ok(None) };
    Ok(parse(&block))
}

fn parse(block: &Block) -> Option<Signature> {
    if !block.has(0x40, b"_BHRfS_M") {
        return None;
    }
    let checked = block.le16(0xc4)? != CSUM_CRC32C
        || !ext4::parse::ext4_style_crc32c_le(!0, block.part(0x20, LENGTH - 0x20)?) == block.le32(0)?;
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
