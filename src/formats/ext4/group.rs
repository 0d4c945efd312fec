//! Group descriptors: where each group's part of the inode table lies (group_descr.rst).

use super::superblock::{Superblock, incompat, ro_compat};
use super::{Ext4Error, crc32c, short};
use crate::formats::block::Block;

/// The group's inode table was never written.
const INODES_UNINITIALISED: u16 = 0x1;

/// What is needed of a group descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// First block of its inode table.
    pub inode_table: u64,
    /// How many of its inodes may be in use: those after were never written.
    pub inodes_written: u32,
}

impl Group {
    /// Parses one descriptor of a block of them and checks its checksum.
    pub fn parse(superblock: &Superblock, number: u64, block: &Block) -> Result<Group, Ext4Error> {
        let size = superblock.descriptor_size;
        let per_block = superblock.block_size / size;
        let place = usize::try_from((number % per_block) * size).unwrap_or(usize::MAX);
        let length = usize::try_from(size).unwrap_or(usize::MAX);
        let what = format!("the descriptor of group {number}");
        let raw = block.part(place, length).ok_or_else(short(&what))?;
        let raw = Block::from(raw.to_vec());
        let word = |at: usize| raw.le32(at).ok_or_else(short(&what));
        let half = |at: usize| raw.le16(at).ok_or_else(short(&what));
        let wide = size >= 64;
        if let Some(expected) = checksum(superblock, number, raw.bytes())
            && expected != half(0x1e)?
        {
            return Err(Ext4Error::damaged(format!("the checksum of {what} is wrong")));
        }
        let inode_table = u64::from(word(0x8)?) | if wide { u64::from(word(0x28)?) << 32 } else { 0 };
        let bytes = u64::from(superblock.inodes_per_group) * superblock.inode_size;
        let end = inode_table.checked_add(bytes.div_ceil(superblock.block_size));
        if inode_table <= superblock.first_block || end.is_none_or(|end| end > superblock.blocks) {
            return Err(Ext4Error::damaged(format!("{what} has an inode table outside of the filesystem")));
        }
        let counted = superblock.has_ro(ro_compat::METADATA_CHECKSUM | ro_compat::GROUP_CHECKSUM);
        let unused = u32::from(half(0x1c)?) | if wide { u32::from(half(0x32)?) << 16 } else { 0 };
        let all = superblock.inodes_per_group;
        let inodes_written = match counted {
            false => all,
            true if half(0x12)? & INODES_UNINITIALISED != 0 => 0,
            true => all.saturating_sub(unused),
        };
        Ok(Group { inode_table, inodes_written })
    }
}

/// The checksum that a descriptor must have; `None` where there are none.
fn checksum(superblock: &Superblock, number: u64, raw: &[u8]) -> Option<u16> {
    let number = u32::try_from(number).ok()?.to_le_bytes();
    let (before, after) = (raw.get(..0x1e)?, raw.get(0x20..)?);
    if let Some(seed) = superblock.seed {
        let whole = [&number[..], before, &[0, 0], after].concat();
        let [low, high, ..] = crc32c(seed, &whole).to_le_bytes();
        return Some(u16::from_le_bytes([low, high]));
    }
    // Without 64-bit numbers the descriptor ends with its checksum.
    let after = if superblock.has(incompat::WIDE) { after } else { &[] };
    superblock
        .has_ro(ro_compat::GROUP_CHECKSUM)
        .then(|| [&superblock.uuid[..], &number, before, after].iter().fold(!0, |crc, part| crc16(crc, part)))
}

/// CRC-16 with the polynomial 0x8005, reflected.
fn crc16(seed: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(seed, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xa001 } else { crc >> 1 })
    })
}

/// The blocks in which a group's descriptor can be found: the one in use first, then its copies.
pub fn places(superblock: &Superblock, number: u64) -> Vec<u64> {
    let per_block = superblock.block_size / superblock.descriptor_size;
    let index = number / per_block;
    // With bigalloc, blocks of 1 KiB begin at 0 and the superblock lies in block 1.
    let shifted = u64::from(superblock.first_block == 0 && superblock.block_size == 1024);
    let after_superblock = |group: u64| {
        let start = superblock.group_start(group);
        start.saturating_add(u64::from(superblock.has_superblock(group))).saturating_add(if group == 0 {
            shifted
        } else {
            0
        })
    };
    if superblock.has(incompat::META_GROUPS) && index >= superblock.first_meta_group {
        let first = index * per_block;
        let groups = [first, first + 1, first + per_block - 1];
        return groups.into_iter().filter(|group| *group < superblock.groups()).map(after_superblock).collect();
    }
    let with_copy = (0..superblock.groups().min(10_000)).filter(|group| superblock.has_superblock(*group));
    with_copy.take(8).map(|group| after_superblock(group).saturating_add(index)).collect()
}
