//! Extended attributes (attributes.rst), in the form in which the kernel hands them out.

use super::{Ext4Error, crc32c, short};
use crate::formats::block::Block;

/// Begins the attributes in an inode and in a block.
const MAGIC: u32 = 0xea02_0000;
/// Length of the header of a block of attributes.
const HEADER: usize = 32;
/// Length of an entry without its name.
const ENTRY: usize = 16;
/// Longest value that the kernel takes.
pub const LONGEST_VALUE: u32 = 64 << 10;
/// The content of inline files and directories that does not fit into the block map.
pub const INLINE_DATA: &[u8] = b"system.data";

/// A name with its namespace, and a value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// One attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    /// Its name with the namespace.
    pub name: Vec<u8>,
    /// Where its value is.
    pub value: Value,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Here it is.
    Here(Vec<u8>),
    /// The content of another inode.
    In {
        /// Which one.
        inode: u32,
        /// Its length.
        size: u32,
    },
}

/// The attributes after the fields of an inode.
pub fn in_inode(tail: &[u8]) -> Result<Vec<Attribute>, Ext4Error> {
    match tail.split_first_chunk::<4>() {
        Some((magic, entries)) if u32::from_le_bytes(*magic) == MAGIC => parse(entries, entries),
        _ => Ok(Vec::new()),
    }
}

/// The attributes in a block of their own.
pub fn in_block(raw: &Block, number: u64, seed: Option<u32>) -> Result<Vec<Attribute>, Ext4Error> {
    let what = "a block of attributes";
    if raw.le32(0) != Some(MAGIC) {
        return Err(Ext4Error::damaged("a block of attributes is none"));
    }
    if let Some(seed) = seed {
        let (before, after) = (raw.part(0, 16).unwrap_or_default(), raw.bytes().get(20..).unwrap_or_default());
        let number = number.to_le_bytes();
        let found = [&number[..], before, &[0; 4], after].iter().fold(seed, |crc, part| crc32c(crc, part));
        if raw.le32(16).ok_or_else(short(what))? != found {
            return Err(Ext4Error::damaged("the checksum of a block of attributes is wrong"));
        }
    }
    parse(raw.bytes().get(HEADER..).unwrap_or_default(), raw.bytes())
}

/// Entries up to one that is all zeros; their values lie at offsets in `base`.
fn parse(mut entries: &[u8], base: &[u8]) -> Result<Vec<Attribute>, Ext4Error> {
    let bad = || Ext4Error::damaged("an attribute is damaged");
    let mut found = Vec::new();
    while entries.get(..4).is_some_and(|first| first != [0; 4]) {
        let head = Block::from(entries.get(..ENTRY).ok_or_else(bad)?.to_vec());
        let length = usize::from(head.u8(0).unwrap_or(0));
        let name = entries.get(ENTRY..ENTRY + length).ok_or_else(bad)?;
        let start = usize::from(head.le16(2).ok_or_else(bad)?);
        let (inode, size) = (head.le32(4).ok_or_else(bad)?, head.le32(8).ok_or_else(bad)?);
        let prefix: &[u8] = match head.u8(1) {
            Some(1) => b"user.",
            Some(2) => b"system.posix_acl_access",
            Some(3) => b"system.posix_acl_default",
            Some(4) => b"trusted.",
            Some(6) => b"security.",
            Some(7) => b"system.",
            Some(8) => b"system.richacl",
            Some(9) => b"encryption.",
            _ => return Err(Ext4Error::damaged("an attribute is of no known kind")),
        };
        if size > LONGEST_VALUE {
            return Err(bad());
        }
        let value = if inode != 0 {
            Value::In { inode, size }
        } else {
            let end = start.checked_add(size as usize).ok_or_else(bad)?;
            Value::Here(base.get(start..end).ok_or_else(bad)?.to_vec())
        };
        found.push(Attribute { name: [prefix, name].concat(), value });
        entries = entries.get((ENTRY + length).next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(found)
}

/// An access control list as the kernel hands it out (posix_acl_xattr.h), from the form on the disk: entries for the
/// owner, the group, the mask and all others have no id there.
pub fn acl(raw: &[u8]) -> Result<Vec<u8>, Ext4Error> {
    let bad = || Ext4Error::damaged("an access control list is damaged");
    let (version, mut rest) = raw.split_first_chunk::<4>().ok_or_else(bad)?;
    if u32::from_le_bytes(*version) != 1 {
        return Err(bad());
    }
    let mut list = 2u32.to_le_bytes().to_vec();
    while let Some((entry, after)) = rest.split_first_chunk::<4>() {
        list.extend_from_slice(entry);
        let has_id = matches!(entry, [2 | 8, 0, ..]);
        let (id, after) = match after.split_first_chunk::<4>() {
            Some((id, after)) if has_id => (*id, after),
            None if has_id => return Err(bad()),
            _ => ([0xff; 4], after),
        };
        list.extend_from_slice(&id);
        rest = after;
    }
    if rest.is_empty() { Ok(list) } else { Err(bad()) }
}
