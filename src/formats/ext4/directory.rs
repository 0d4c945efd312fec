//! Blocks of directories (directory.rst): lists of names, also in directories with an index by hash.
//!
//! Blocks of the index look like a list with one unused entry, so that every block can be read as a list.

use super::{Ext4Error, crc32c, short};
use crate::formats::block::Block;

/// Length of the part that every entry has.
const HEAD: usize = 8;
/// Length of the entry that holds the checksum at the end of a block.
const TAIL: usize = 12;
/// Marks that entry.
const TAIL_KIND: u8 = 0xde;

/// One name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// The inode that it names.
    pub inode: u32,
    /// The name, never empty, without a slash or a NUL.
    pub name: Vec<u8>,
}

/// Whether a block belongs to the index: the first block of an indexed directory, or one without a single name.
fn is_index(raw: &Block, first: bool) -> bool {
    let whole = record_length(raw, 0) == Some(raw.bytes().len());
    first || (raw.le32(0) == Some(0) && whole)
}

/// Checks the checksum of one block of a directory.
pub fn check(raw: &Block, indexed: bool, first: bool, seed: u32) -> Result<(), Ext4Error> {
    let wrong = || Ext4Error::damaged("the checksum of a block of the directory is wrong");
    let size = raw.bytes().len();
    if indexed && is_index(raw, first) {
        // After two entries (or one that takes the whole block) come the limit and the count of the index.
        let head = if first { 0x20 } else { HEAD };
        let field = |at: usize| raw.le16(at).map(usize::from).ok_or_else(short("a block of a directory"));
        let (limit, count) = (field(head)?, field(head + 2)?);
        let tail = head + limit * 8;
        let used = raw.part(0, head + count * 8).ok_or_else(wrong)?;
        let reserved = raw.part(tail, 4).ok_or_else(wrong)?;
        let found = [used, reserved, &[0; 4]].iter().fold(seed, |crc, part| crc32c(crc, part));
        return if count <= limit && raw.le32(tail + 4) == Some(found) { Ok(()) } else { Err(wrong()) };
    }
    let tail = size.saturating_sub(TAIL);
    let is_tail = raw.le32(tail) == Some(0) && raw.le16(tail + 4) == Some(12) && raw.u8(tail + 7) == Some(TAIL_KIND);
    let found = crc32c(seed, raw.part(0, tail).unwrap_or_default());
    if is_tail && raw.le32(tail + HEAD) == Some(found) { Ok(()) } else { Err(wrong()) }
}

/// The length of an entry: 65,536 does not fit into the field.
fn record_length(raw: &Block, at: usize) -> Option<usize> {
    Some(match raw.le16(at + 4)? {
        0 | 65535 if raw.bytes().len() == 65536 => 65536,
        length => usize::from(length),
    })
}

/// The names in one block, or in a directory that lies in its inode; `.` and `..` are among them.
pub fn names(raw: &Block) -> Result<Vec<Name>, Ext4Error> {
    let bad = |what: &str| Ext4Error::damaged(format!("a block of the directory is damaged: {what}"));
    let mut found = Vec::new();
    let mut at = 0;
    while at + HEAD <= raw.bytes().len() {
        let inode = raw.le32(at).ok_or_else(|| bad("it is too short"))?;
        let length = record_length(raw, at).ok_or_else(|| bad("it is too short"))?;
        let name_length = usize::from(raw.u8(at + 6).unwrap_or(0));
        if length < HEAD || !length.is_multiple_of(4) || at + length > raw.bytes().len() {
            return Err(bad("an entry has an impossible length"));
        }
        if inode != 0 {
            let fits = name_length + HEAD <= length;
            let name = raw.part(at + HEAD, name_length).filter(|_| fits).ok_or_else(|| bad("a name is too long"))?;
            if name.is_empty() || name.contains(&b'/') || name.contains(&0) {
                return Err(bad("a name is impossible"));
            }
            found.push(Name { inode, name: name.to_vec() });
        }
        at += length;
    }
    Ok(found)
}
