//! Nodes of extent trees (ifork.rst, "Extent Tree").

use super::{Ext4Error, crc32c, short};
use crate::formats::block::Block;

const MAGIC: u16 = 0xf30a;
/// Deepest tree that the kernel makes.
pub const DEEPEST: u16 = 5;
/// Length of the header and of each entry.
const ENTRY: usize = 12;
/// Longest written extent in blocks; longer ones are unwritten.
const LONGEST: u32 = 32768;

/// One node of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// Nodes below, by the first block of the file that they are about.
    Index(Vec<(u64, u64)>),
    /// Extents.
    Leaf(Vec<Extent>),
}

/// A stretch of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// First block of the file.
    pub logical: u64,
    /// Length in blocks.
    pub length: u64,
    /// First block on the filesystem.
    pub physical: u64,
    /// Whether it was written; otherwise it reads as zeros, whatever is on the disk.
    pub written: bool,
}

impl Node {
    /// Parses a node; `expected` is its height above the leaves, `None` for a root, which tells it.
    pub fn parse(raw: &Block, expected: Option<u16>, seed: Option<u32>) -> Result<(u16, Node), Ext4Error> {
        let what = "a node of an extent tree";
        let half = |at: usize| raw.le16(at).ok_or_else(short(what));
        let word = |at: usize| raw.le32(at).ok_or_else(short(what));
        let (count, most, depth) = (usize::from(half(2)?), usize::from(half(4)?), half(6)?);
        let end = ENTRY + most * ENTRY;
        if half(0)? != MAGIC || count > most || end > raw.bytes().len() || depth > DEEPEST {
            return Err(Ext4Error::damaged("a node of an extent tree is none"));
        }
        if expected.is_some_and(|expected| expected != depth) {
            return Err(Ext4Error::damaged("a node of an extent tree has the wrong depth"));
        }
        // A root lies in its inode, whose checksum covers it.
        if let (Some(seed), Some(_)) = (seed, expected)
            && crc32c(seed, raw.part(0, end).unwrap_or_default()) != word(end)?
        {
            return Err(Ext4Error::damaged("the checksum of a node of an extent tree is wrong"));
        }
        let places = (1..=count).map(|entry| entry * ENTRY);
        if depth > 0 {
            let entry = |at: usize| Ok((word(at)?.into(), u64::from(word(at + 4)?) | u64::from(half(at + 8)?) << 32));
            return Ok((depth, Node::Index(places.map(entry).collect::<Result<_, Ext4Error>>()?)));
        }
        let extent = |at: usize| {
            let length = u32::from(half(at + 4)?);
            let written = length <= LONGEST;
            Ok(Extent {
                logical: word(at)?.into(),
                length: u64::from(if written { length } else { length - LONGEST }),
                physical: u64::from(word(at + 8)?) | u64::from(half(at + 6)?) << 32,
                written,
            })
        };
        Ok((depth, Node::Leaf(places.map(extent).collect::<Result<_, Ext4Error>>()?)))
    }
}
