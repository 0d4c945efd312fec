//! The superblock: geometry and features (super.rst).
//!
//! It lies at byte 1024; copies of it begin some block groups. A copy knows the geometry but not whether the journal
//! has to be replayed: the kernel updates only the first one.

use super::{Ext4Error, crc32c, short};
use crate::formats::ReadAt;
use crate::formats::block::Block;

/// Where the first superblock lies, and how long one is.
pub const PLACE: u64 = 1024;
/// Length of a superblock.
pub const LENGTH: usize = 1024;
const MAGIC: u16 = 0xef53;

/// Features that older systems may ignore.
pub mod compat {
    /// There is a journal.
    pub const HAS_JOURNAL: u32 = 0x4;
    /// Only two groups have copies of the superblock.
    pub const SPARSE_SUPER2: u32 = 0x200;
}

/// Features that a reader must know.
pub mod incompat {
    /// The journal has to be replayed.
    pub const RECOVER: u32 = 0x4;
    /// It is the journal of another filesystem.
    pub const JOURNAL_DEVICE: u32 = 0x8;
    /// Group descriptors lie in the groups that they describe.
    pub const META_GROUPS: u32 = 0x10;
    /// Block numbers have 48 bits and more.
    pub const WIDE: u32 = 0x80;
    /// The seed of the checksums is in the superblock.
    pub const CHECKSUM_SEED: u32 = 0x2000;
    /// Directories over 2 GiB.
    pub const LARGE_DIRECTORIES: u32 = 0x4000;
    /// FILETYPE, RECOVER, META_BG, EXTENTS, 64BIT, MMP, FLEX_BG, EA_INODE, CSUM_SEED, LARGEDIR, INLINE_DATA, ENCRYPT,
    /// CASEFOLD.
    pub const KNOWN: u32 = 0x2 | 0x4 | 0x10 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x2000 | 0x4000 | 0x8000 | 0x30000;
}

/// Features that only a writer must know.
pub mod ro_compat {
    /// Only some groups have copies of the superblock.
    pub const SPARSE_SUPER: u32 = 0x1;
    /// Group descriptors have a CRC-16.
    pub const GROUP_CHECKSUM: u32 = 0x10;
    /// All metadata has a CRC-32C.
    pub const METADATA_CHECKSUM: u32 = 0x400;
}

/// What a superblock says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    /// Block length in bytes: 1 KiB to 64 KiB.
    pub block_size: u64,
    /// Length of the filesystem in blocks.
    pub blocks: u64,
    /// Number of inodes.
    pub inodes: u32,
    /// First block of group 0: 1 with blocks of 1 KiB, else 0.
    pub first_block: u64,
    /// Blocks in a group.
    pub blocks_per_group: u64,
    /// Inodes in a group.
    pub inodes_per_group: u32,
    /// Length of an inode in bytes.
    pub inode_size: u64,
    /// Length of a group descriptor in bytes.
    pub descriptor_size: u64,
    /// The three words of features.
    pub compat: u32,
    /// See [`incompat`].
    pub incompat: u32,
    /// See [`ro_compat`].
    pub ro_compat: u32,
    /// The filesystem's UUID.
    pub uuid: [u8; 16],
    /// What all checksums begin with; `None` where the filesystem has none.
    pub seed: Option<u32>,
    /// The inode of the journal; 0 where it is on another device.
    pub journal_inode: u32,
    /// The journal's inode once more: its block map and its size.
    pub journal_copy: Option<([u8; 60], u64)>,
    /// First of the groups whose descriptors lie among them, in blocks of descriptors.
    pub first_meta_group: u64,
    /// The two groups with copies (SPARSE_SUPER2).
    pub copies: [u32; 2],
    /// The group that this superblock begins.
    pub group: u16,
    /// Inodes of the filesystem's own that may have any number: project quotas and orphans.
    pub own_inodes: [u32; 2],
}

impl Superblock {
    /// Parses 1024 bytes.
    pub fn parse(raw: &Block) -> Result<Superblock, Ext4Error> {
        let word = |at: usize| raw.le32(at).ok_or_else(short("the superblock"));
        let half = |at: usize| raw.le16(at).ok_or_else(short("the superblock"));
        if half(0x38)? != MAGIC {
            return Err(Ext4Error::NotExt);
        }
        let (compat, features, ro_compat) = (word(0x5c)?, word(0x60)?, word(0x64)?);
        let checked = ro_compat & ro_compat::METADATA_CHECKSUM != 0;
        if checked && crc32c(!0, raw.part(0, 0x3fc).unwrap_or_default()) != word(0x3fc)? {
            return Err(Ext4Error::damaged("the superblock's checksum is wrong"));
        }
        if features & incompat::JOURNAL_DEVICE != 0 {
            return Err(Ext4Error::NotExt);
        }
        if features & !incompat::KNOWN != 0 {
            return Err(Ext4Error::Unsupported(format!("the features {:#x}", features & !incompat::KNOWN)));
        }
        let bad = |what: &str| Ext4Error::damaged(format!("the superblock's {what} is impossible"));
        let shift = word(0x18)?;
        if shift > 6 {
            return Err(bad("block size"));
        }
        let block_size = 1024u64 << shift;
        let wide = features & incompat::WIDE != 0;
        let descriptor_size = if wide { u64::from(half(0xfe)?) } else { 32 };
        let is_old = word(0x4c)? == 0;
        let inode_size = if is_old { 128 } else { u64::from(half(0x58)?) };
        let high = if wide { u64::from(word(0x150)?) << 32 } else { 0 };
        let uuid: [u8; 16] =
            raw.part(0x68, 16).and_then(|uuid| uuid.try_into().ok()).ok_or_else(short("the superblock"))?;
        let seed = match checked {
            false => None,
            true if features & incompat::CHECKSUM_SEED != 0 => Some(word(0x270)?),
            true => Some(crc32c(!0, &uuid)),
        };
        let journal_copy = (raw.u8(0xfd) == Some(1)).then(|| {
            let map = raw.part(0x10c, 60)?.try_into().ok()?;
            Some((map, u64::from(raw.le32(0x14c)?) | u64::from(raw.le32(0x148)?) << 32))
        });
        let own = Superblock {
            block_size,
            blocks: u64::from(word(0x4)?) | high,
            inodes: word(0)?,
            first_block: u64::from(word(0x14)?),
            blocks_per_group: u64::from(word(0x20)?),
            inodes_per_group: word(0x28)?,
            inode_size,
            descriptor_size,
            compat,
            incompat: features,
            ro_compat,
            uuid,
            seed,
            journal_inode: word(0xe0)?,
            journal_copy: journal_copy.flatten(),
            first_meta_group: u64::from(word(0x104)?),
            copies: [word(0x24c)?, word(0x250)?],
            group: half(0x5a)?,
            own_inodes: [word(0x26c)?, word(0x280)?],
        };
        if own.blocks_per_group == 0 || own.inodes_per_group == 0 || own.first_block > 1 {
            return Err(bad("geometry"));
        }
        if !inode_size.is_power_of_two() || inode_size < 128 || inode_size > block_size {
            return Err(bad("inode size"));
        }
        if descriptor_size < 32 || !descriptor_size.is_power_of_two() || descriptor_size > block_size.min(1024) {
            return Err(bad("descriptor size"));
        }
        if own.blocks <= own.first_block || own.blocks > 1 << 48 {
            return Err(bad("number of blocks"));
        }
        let inodes = own.groups().checked_mul(u64::from(own.inodes_per_group));
        if inodes != Some(u64::from(own.inodes)) || own.inodes < 11 {
            return Err(bad("number of inodes"));
        }
        Ok(own)
    }

    /// Number of block groups.
    pub fn groups(&self) -> u64 {
        (self.blocks - self.first_block).div_ceil(self.blocks_per_group)
    }

    /// The first block of a group.
    pub fn group_start(&self, group: u64) -> u64 {
        self.first_block.saturating_add(group.saturating_mul(self.blocks_per_group))
    }

    /// Whether a group begins with a superblock.
    pub fn has_superblock(&self, group: u64) -> bool {
        if group == 0 {
            return true;
        }
        if self.compat & compat::SPARSE_SUPER2 != 0 {
            return self.copies.iter().any(|copy| u64::from(*copy) == group);
        }
        self.ro_compat & ro_compat::SPARSE_SUPER == 0 || is_sparse_copy(group)
    }

    /// Whether a feature of the second word is on.
    pub fn has(&self, feature: u32) -> bool {
        self.incompat & feature != 0
    }

    /// Whether a feature of the third word is on.
    pub fn has_ro(&self, feature: u32) -> bool {
        self.ro_compat & feature != 0
    }
}

/// Whether a group has a copy of the superblock where only some have: 1 and the powers of 3, 5 and 7.
fn is_sparse_copy(group: u64) -> bool {
    let power_of = |base: u64| {
        let mut rest = group;
        while rest > 1 && rest.is_multiple_of(base) {
            rest /= base;
        }
        rest == 1
    };
    group == 1 || [3, 5, 7].into_iter().any(power_of)
}

/// Where copies of the superblock lie on a filesystem of which nothing is known: mke2fs gives a group as many blocks as
/// a block has bits.
fn places_of_copies() -> impl Iterator<Item = (u64, u64)> {
    let sizes = [4096, 1024, 2048, 65536, 16384, 8192, 32768u64];
    let groups = (1..200).filter(|group| is_sparse_copy(*group));
    sizes.into_iter().flat_map(move |size| {
        let first = u64::from(size == 1024);
        groups.clone().map(move |group| ((first + group * size * 8) * size, size))
    })
}

/// Finds a superblock: the first one, or the first good copy. With it comes whether it is a copy.
pub fn find(volume: &dyn ReadAt) -> Result<(Superblock, bool), Ext4Error> {
    let at = |place| match Block::read(volume, place, LENGTH) {
        Ok(Some(raw)) => Superblock::parse(&raw),
        Ok(None) => Err(Ext4Error::NotExt),
        Err(source) => Err(Ext4Error::Io { at: place, source }),
    };
    let first = match at(PLACE) {
        Ok(superblock) => return Ok((superblock, false)),
        Err(error @ Ext4Error::Unsupported(_)) => return Err(error),
        Err(error) => error,
    };
    for (place, size) in places_of_copies().filter(|(place, _)| *place < volume.length()) {
        let Ok(found) = at(place) else { continue };
        // A copy says which group it begins, so that one inside of a file or of another filesystem is not taken.
        if found.block_size == size && found.group_start(u64::from(found.group)).checked_mul(size) == Some(place) {
            return Ok((found, true));
        }
    }
    Err(first)
}
