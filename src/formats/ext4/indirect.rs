//! Block maps of ext2 and ext3 (ifork.rst, "Direct/Indirect Block Addressing").

use super::inode::CORE;

/// Blocks that are named in the inode itself.
const DIRECT: u64 = 12;

/// One pointer of an inode's block map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pointer {
    /// The block that it points to; 0 is a hole.
    pub block: u64,
    /// How many levels of blocks with pointers are between it and the content.
    pub level: u32,
    /// The first block of the file that it is about.
    pub logical: u64,
}

/// The fifteen pointers of an inode.
pub fn pointers(core: &[u8; CORE], block_size: u64) -> Vec<Pointer> {
    let mut logical = 0u64;
    let mut found = Vec::with_capacity(15);
    for (at, raw) in core.as_chunks::<4>().0.iter().enumerate() {
        let level = u32::try_from((at as u64 + 1).saturating_sub(DIRECT)).unwrap_or(0);
        found.push(Pointer { block: u32::from_le_bytes(*raw).into(), level, logical });
        logical = logical.saturating_add(span(block_size, level));
    }
    found
}

/// How many blocks of content lie below a pointer of this level.
pub fn span(block_size: u64, level: u32) -> u64 {
    (block_size / 4).saturating_pow(level)
}

/// The pointers in a block of them.
pub fn inside(raw: &[u8], above: Pointer, block_size: u64) -> impl Iterator<Item = Pointer> + '_ {
    let level = above.level.saturating_sub(1);
    let step = span(block_size, level);
    raw.as_chunks::<4>().0.iter().zip(0u64..).map(move |(raw, at)| Pointer {
        block: u32::from_le_bytes(*raw).into(),
        level,
        logical: above.logical.saturating_add(at.saturating_mul(step)),
    })
}
