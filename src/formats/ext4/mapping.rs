//! Where the blocks of one inode lie, by extents or by a block map.

use super::Ext4Error;
use super::extent::{Extent, Node};
use super::filesystem::Filesystem;
use super::indirect::{self, Pointer};
use super::inode::Inode;
use crate::formats::block::Block;

/// Walks the map of one inode. The file's blocks must come in order, and there cannot be more of them than the
/// filesystem has: this is what ends a walk through a map that leads into itself.
pub(super) struct Mapping<'m, 'a> {
    filesystem: &'m Filesystem<'a>,
    inode: &'m Inode,
    visit: &'m mut dyn FnMut(Extent) -> Result<(), Ext4Error>,
    next: u64,
    last: Option<Extent>,
    blocks: u64,
    nodes: u64,
}

impl<'m, 'a> Mapping<'m, 'a> {
    pub(super) fn new(
        filesystem: &'m Filesystem<'a>,
        inode: &'m Inode,
        visit: &'m mut dyn FnMut(Extent) -> Result<(), Ext4Error>,
    ) -> Self {
        Self { filesystem, inode, visit, next: 0, last: None, blocks: 0, nodes: 0 }
    }

    pub(super) fn node(&mut self, raw: &Block, expected: Option<u16>, end: u64) -> Result<(), Ext4Error> {
        let (depth, node) = Node::parse(raw, expected, self.inode.seed)?;
        match node {
            Node::Leaf(extents) => extents.into_iter().try_for_each(|extent| self.extent(extent, end)),
            Node::Index(below) => {
                let ends = below.iter().skip(1).map(|(logical, _)| *logical).chain([end]);
                for ((logical, block), end) in below.iter().zip(ends) {
                    if *logical < self.next || end <= *logical {
                        return Err(Ext4Error::damaged("the nodes of an extent tree are out of order"));
                    }
                    self.count_node()?;
                    let raw = self.filesystem.block(*block)?;
                    self.node(&raw, depth.checked_sub(1), end)?;
                    self.next = self.next.max(*logical + 1);
                }
                Ok(())
            }
        }
    }

    pub(super) fn pointer(&mut self, pointer: Pointer) -> Result<(), Ext4Error> {
        let size = self.filesystem.superblock().block_size;
        let end = self.inode.size.div_ceil(size);
        if pointer.block == 0 || pointer.logical >= end {
            return Ok(());
        }
        if pointer.level == 0 {
            let (logical, physical) = (pointer.logical, pointer.block);
            return self.extent(Extent { logical, length: 1, physical, written: true }, u64::MAX);
        }
        self.count_node()?;
        let raw = self.filesystem.block(pointer.block)?;
        indirect::inside(raw.bytes(), pointer, size).try_for_each(|pointer| self.pointer(pointer))
    }

    fn count_node(&mut self) -> Result<(), Ext4Error> {
        self.nodes += 1;
        if self.nodes > self.filesystem.superblock().blocks { Err(self.endless()) } else { Ok(()) }
    }

    fn endless(&self) -> Ext4Error {
        Ext4Error::damaged(format!("inode {} claims more blocks than the filesystem has", self.inode.number))
    }

    fn extent(&mut self, extent: Extent, end: u64) -> Result<(), Ext4Error> {
        let after = extent.logical + extent.length;
        let physical_end = extent.physical.saturating_add(extent.length);
        let blocks = self.filesystem.superblock().blocks;
        if extent.length == 0 || extent.logical < self.next || after > end {
            return Err(Ext4Error::damaged("the extents of a file are out of order"));
        }
        if extent.physical <= self.filesystem.superblock().first_block || physical_end > blocks {
            return Err(Ext4Error::damaged("a file has blocks outside of the filesystem"));
        }
        self.next = after;
        self.blocks = self.blocks.saturating_add(extent.length);
        if self.blocks > blocks {
            return Err(self.endless());
        }
        match &mut self.last {
            Some(last)
                if last.written == extent.written
                    && last.logical + last.length == extent.logical
                    && last.physical + last.length == extent.physical =>
            {
                last.length += extent.length;
                Ok(())
            }
            last => last.replace(extent).map_or(Ok(()), |done| (self.visit)(done)),
        }
    }

    pub(super) fn end(&mut self) -> Result<(), Ext4Error> {
        self.last.take().map_or(Ok(()), |last| (self.visit)(last))
    }
}
