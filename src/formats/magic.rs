//! Filesystems that are told by a magic number alone: xfs, f2fs, squashfs, iso9660.

use super::ReadAt;
use super::block::Block;
use crate::model::disk::{FilesystemKind, FilesystemState, Signature};
use std::io;

fn signature(kind: FilesystemKind, uuid: Option<String>, label: Option<String>, state: FilesystemState) -> Signature {
    Signature { kind, uuid, label, state }
}

/// Recognises xfs (XFS Algorithms & Data Structures, "Superblocks"); its log tells the state, which is not read here.
pub fn xfs(volume: &dyn ReadAt) -> io::Result<Option<Signature>> {
    let block = Block::read(volume, 0, 512)?.filter(|block| block.has(0, b"XFSB"));
    Ok(block.map(|block| signature(FilesystemKind::Xfs, block.uuid(32), block.text(108, 12), FilesystemState::Unknown)))
}

/// Recognises f2fs (Linux, include/linux/f2fs_fs.h).
pub fn f2fs(volume: &dyn ReadAt) -> io::Result<Option<Signature>> {
    let block = Block::read(volume, 1024, 2048)?.filter(|block| block.le32(0) == Some(0xf2f5_2010));
    Ok(block
        .map(|block| signature(FilesystemKind::F2fs, block.uuid(108), block.utf16(124, 512), FilesystemState::Unknown)))
}

/// Recognises squashfs 4 (Linux, fs/squashfs/squashfs_fs.h).
pub fn squashfs(volume: &dyn ReadAt) -> io::Result<Option<Signature>> {
    let block = Block::read(volume, 0, 96)?.filter(|block| block.has(0, b"hsqs") && block.le16(28) == Some(4));
    Ok(block.map(|_| signature(FilesystemKind::Squashfs, None, None, FilesystemState::Clean)))
}

/// Recognises ISO 9660 (ECMA-119, 8.4). Its UUID is the time of its last change, or of its making.
pub fn iso9660(volume: &dyn ReadAt) -> io::Result<Option<Signature>> {
    let block = Block::read(volume, 0x8000, 2048)?.filter(|block| block.has(0, b"\x01CD001"));
    Ok(block.map(|block| {
        let uuid = iso_time(&block, 830).or_else(|| iso_time(&block, 813));
        signature(FilesystemKind::Iso9660, uuid, block.text(40, 32), FilesystemState::Clean)
    }))
}

fn iso_time(block: &Block, at: usize) -> Option<String> {
    let digits = block.part(at, 16)?;
    if !digits.iter().all(u8::is_ascii_digit) || digits.iter().all(|digit| *digit == b'0') {
        return None;
    }
    let text = std::str::from_utf8(digits).ok()?;
    let fields = [0..4, 4..6, 6..8, 8..10, 10..12, 12..14, 14..16].map(|range| text.get(range).unwrap_or_default());
    Some(fields.join("-"))
}
