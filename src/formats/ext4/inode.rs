//! Inodes (inodes.rst).

use super::superblock::{Superblock, incompat};
use super::{Ext4Error, crc32c, short};
use crate::formats::block::Block;
use crate::model::entry::Mtime;

/// Length of the part that every inode has.
const BASE: usize = 128;
/// Length of the block map, or of what lies in its place.
pub const CORE: usize = 60;

const COMPRESSED: u32 = 0x4;
const ENCRYPTED: u32 = 0x800;
const INDEXED: u32 = 0x1000;
const HUGE: u32 = 0x4_0000;
const EXTENTS: u32 = 0x8_0000;
const ATTRIBUTE_VALUE: u32 = 0x20_0000;
const INLINE: u32 = 0x1000_0000;
/// The superblock's flag for lengths in blocks.
const RO_HUGE_FILE: u32 = 0x8;

/// What an inode is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
}

/// An inode.
#[derive(Debug, Clone)]
pub struct Inode {
    /// Its number.
    pub number: u32,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, 0 to 0o7777.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Length of the content in bytes.
    pub size: u64,
    /// Number of names.
    pub links: u16,
    /// Modification time.
    pub mtime: Mtime,
    /// The block map, the root of the extent tree, a short link or a device number.
    pub core: [u8; CORE],
    /// Blocks of 512 bytes that it takes, attributes included.
    pub sectors: u64,
    /// The block with its attributes; 0 for none.
    pub attribute_block: u64,
    /// What the checksums of its blocks begin with.
    pub seed: Option<u32>,
    flags: u32,
    // What comes after the known fields: attributes.
    tail: Vec<u8>,
}

impl Inode {
    /// Parses an inode and checks its checksum; `None` when it is not in use.
    pub fn parse(superblock: &Superblock, number: u32, raw: &Block) -> Result<Option<Inode>, Ext4Error> {
        let what = format!("inode {number}");
        let word = |at: usize| raw.le32(at).ok_or_else(short(&what));
        let half = |at: usize| raw.le16(at).ok_or_else(short(&what));
        let (mode, links) = (half(0)?, half(0x1a)?);
        if mode == 0 || links == 0 {
            return Ok(None);
        }
        let extra = if raw.bytes().len() > BASE { usize::from(half(0x80)?) } else { 0 };
        let end = BASE + extra;
        if !extra.is_multiple_of(4) || end > raw.bytes().len() {
            return Err(Ext4Error::damaged(format!("{what} has an impossible length")));
        }
        let seed = superblock.seed.map(|seed| {
            let generation = raw.part(0x64, 4).unwrap_or_default();
            crc32c(crc32c(seed, &number.to_le_bytes()), generation)
        });
        if let Some(seed) = seed {
            let is_long = extra >= 4;
            let expected = u32::from(half(0x7c)?) | if is_long { u32::from(half(0x82)?) << 16 } else { 0 };
            let mut bytes = raw.bytes().to_vec();
            let fields = if is_long { &[0x7c, 0x7d, 0x82, 0x83][..] } else { &[0x7c, 0x7d] };
            for at in fields {
                if let Some(byte) = bytes.get_mut(*at) {
                    *byte = 0;
                }
            }
            let found = crc32c(seed, &bytes);
            if (if is_long { found } else { found & 0xffff }) != expected {
                return Err(Ext4Error::damaged(format!("the checksum of {what} is wrong")));
            }
        }
        let kind = match mode & 0o170_000 {
            0o100_000 => Kind::File,
            0o040_000 => Kind::Directory,
            0o120_000 => Kind::Symlink,
            0o010_000 => Kind::Fifo,
            0o140_000 => Kind::Socket,
            0o020_000 => Kind::CharacterDevice,
            0o060_000 => Kind::BlockDevice,
            _ => return Err(Ext4Error::damaged(format!("{what} is of no known kind"))),
        };
        let flags = word(0x20)?;
        let high = kind == Kind::File || superblock.has(incompat::LARGE_DIRECTORIES);
        let size = u64::from(word(0x4)?) | if high { u64::from(word(0x6c)?) << 32 } else { 0 };
        let sectors = u64::from(word(0x1c)?) | u64::from(half(0x74)?) << 32;
        let in_blocks = flags & HUGE != 0 && superblock.has_ro(RO_HUGE_FILE);
        let core = raw.part(0x28, CORE).and_then(|core| core.try_into().ok()).ok_or_else(short(&what))?;
        // Seconds have 32 bits and a sign; two more bits count the times that they ran over.
        let more = if extra >= 12 { word(0x88)? } else { 0 };
        let [a, b, c, d] = word(0x10)?.to_le_bytes();
        let secs = i64::from(i32::from_le_bytes([a, b, c, d])) + (i64::from(more & 3) << 32);
        Ok(Some(Inode {
            number,
            kind,
            mode: u32::from(mode & 0o7777),
            uid: u32::from(half(0x2)?) | u32::from(half(0x78)?) << 16,
            gid: u32::from(half(0x18)?) | u32::from(half(0x7a)?) << 16,
            size,
            links,
            mtime: Mtime { secs, nanos: (more >> 2).min(999_999_999) },
            core,
            sectors: if in_blocks { sectors.saturating_mul(superblock.block_size / 512) } else { sectors },
            attribute_block: u64::from(word(0x68)?) | u64::from(half(0x76)?) << 32,
            seed,
            flags,
            tail: raw.bytes().get(end..).unwrap_or_default().to_vec(),
        }))
    }

    /// Made up from the copy of the journal's inode in the superblock.
    pub(super) fn of_journal(number: u32, core: [u8; CORE], size: u64) -> Inode {
        let is_tree = core.first_chunk() == Some(&[0x0a, 0xf3]);
        Inode {
            number,
            kind: Kind::File,
            mode: 0,
            uid: 0,
            gid: 0,
            size,
            links: 1,
            mtime: Mtime::default(),
            core,
            sectors: 0,
            attribute_block: 0,
            // The checksums of its blocks begin with a number that the copy does not have.
            seed: None,
            flags: if is_tree { EXTENTS } else { 0 },
            tail: Vec::new(),
        }
    }

    /// Whether its blocks are found by extents.
    pub fn has_extents(&self) -> bool {
        self.flags & EXTENTS != 0
    }

    /// Whether its content lies in the inode itself.
    pub fn is_inline(&self) -> bool {
        self.flags & INLINE != 0
    }

    /// Whether it is a directory with an index by hash.
    pub fn is_indexed(&self) -> bool {
        self.flags & INDEXED != 0
    }

    /// Whether it holds the value of another inode's attribute.
    pub fn is_attribute_value(&self) -> bool {
        self.flags & ATTRIBUTE_VALUE != 0
    }

    /// Refuses content that would be read as other bytes than were written.
    pub fn refuse_transformed(&self) -> Result<(), Ext4Error> {
        if self.flags & ENCRYPTED != 0 {
            return Err(Ext4Error::Unsupported(format!("encryption in inode {}", self.number)));
        }
        if self.flags & COMPRESSED != 0 {
            return Err(Ext4Error::Unsupported(format!("compression in inode {}", self.number)));
        }
        Ok(())
    }

    /// The bytes after its fields.
    pub(super) fn tail(&self) -> &[u8] {
        &self.tail
    }

    /// Major and minor number of a device.
    pub fn device(&self) -> Option<(u32, u32)> {
        if !matches!(self.kind, Kind::CharacterDevice | Kind::BlockDevice) {
            return None;
        }
        let word = |at: usize| self.core.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
        match (word(0)?, word(4)?) {
            (0, new) => Some(((new & 0xfff00) >> 8, (new & 0xff) | ((new >> 12) & 0xfff00))),
            (old, _) => Some(((old >> 8) & 0xff, old & 0xff)),
        }
    }
}
