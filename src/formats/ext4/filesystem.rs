//! A whole filesystem: finds its superblock, replays its journal in memory, and reads inodes, names and attributes.

use super::attribute::{self, Attribute, Value};
use super::content::Content;
use super::directory::{self, Name};
use super::extent::Extent;
use super::group::{self, Group};
use super::indirect;
use super::inode::{Inode, Kind};
use super::journal::{self, ESCAPED_BYTES, Newest};
use super::mapping::Mapping;
use super::superblock::{self, Superblock, compat, incompat};
use super::{Ext4Error, short};
use crate::formats::ReadAt;
use crate::formats::block::Block;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;

/// The root directory's inode.
pub const ROOT: u32 = 2;
/// Inodes below this one belong to the filesystem itself, but for the root.
pub const FIRST_FREE: u32 = 11;
/// Blocks of metadata that are kept in memory, in bytes.
const CACHE: u64 = 2 << 20;
/// Most symbolic links on one path, as the kernel has it.
const MOST_LINKS: u32 = 40;
/// Longest target of a symbolic link.
const LONGEST_TARGET: u64 = 4096;

/// A filesystem on a volume. Nothing is ever written.
pub struct Filesystem<'a> {
    volume: &'a dyn ReadAt,
    superblock: Superblock,
    newest: BTreeMap<u64, Newer>,
    cache: RefCell<Cache>,
    notes: Vec<String>,
}

/// A block with a newer content in the journal; the place is one on the volume.
#[derive(Debug, Clone, Copy)]
enum Newer {
    At { block: u64, escaped: bool },
    Lost,
}

#[derive(Default)]
struct Cache {
    blocks: HashMap<u64, Rc<Block>>,
    order: VecDeque<u64>,
}

impl std::fmt::Debug for Filesystem<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Filesystem").field("superblock", &self.superblock).finish_non_exhaustive()
    }
}

impl<'a> Filesystem<'a> {
    /// Opens the filesystem on a volume, by a copy of its superblock where the first one is damaged.
    pub fn open(volume: &'a dyn ReadAt) -> Result<Self, Ext4Error> {
        let (superblock, is_copy) = superblock::find(volume)?;
        let mut own =
            Self { volume, superblock, newest: BTreeMap::new(), cache: RefCell::default(), notes: Vec::new() };
        if is_copy {
            own.note("its superblock is damaged; a copy was used");
        }
        if own.superblock.blocks.saturating_mul(own.superblock.block_size) > volume.length() {
            own.note("it is longer than the volume that it lies on; its end is missing");
        }
        own.replay(is_copy);
        Ok(own)
    }

    fn note(&mut self, what: impl Into<String>) {
        self.notes.push(what.into());
    }

    /// What is not as it should be, though the filesystem could be opened.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The superblock.
    pub fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// Takes the newest content of blocks from the journal. What cannot be replayed becomes a note.
    fn replay(&mut self, is_copy: bool) {
        let needed = self.superblock.has(incompat::RECOVER);
        // Only the first superblock tells; with a copy, the journal itself has to.
        if self.superblock.compat & compat::HAS_JOURNAL == 0 || !(needed || is_copy) {
            return;
        }
        match self.read_journal() {
            Ok(None) => {}
            Ok(Some(note)) => self.note(note),
            Err(error) => self.note(format!(
                "its journal cannot be replayed ({error}), so the last changes before it was cut off are not seen here"
            )),
        }
    }

    fn read_journal(&mut self) -> Result<Option<String>, Ext4Error> {
        let number = self.superblock.journal_inode;
        if number == 0 {
            return Err(Ext4Error::Unsupported("a journal on another device".into()));
        }
        let copy = self.superblock.journal_copy.map(|(core, size)| Inode::of_journal(number, core, size));
        let inode = match (self.inode(number), copy) {
            (Ok(inode), _) => inode,
            (Err(_), Some(copy)) => copy,
            (Err(error), None) => return Err(error),
        };
        let mut runs = Vec::new();
        self.extents(&inode, &mut |run| {
            runs.push(run);
            Ok(())
        })?;
        let place = |block: u32| -> Result<u64, Ext4Error> {
            let block = u64::from(block);
            let at = runs.partition_point(|run| run.logical + run.length <= block);
            let run = runs.get(at).filter(|run| run.logical <= block && run.written);
            run.map(|run| run.physical + (block - run.logical))
                .ok_or_else(|| Ext4Error::damaged("a block of the journal is missing"))
        };
        let (head, replay) = {
            let read = |block: u32| self.read_block(place(block)?);
            let head = journal::Head::parse(&read(0)?, self.superblock.block_size)?;
            let replay = journal::replay(&head, &read)?;
            (head, replay)
        };
        for (target, newest) in replay.blocks {
            let newer = match newest {
                Newest::At { block, escaped } => Newer::At { block: place(block)?, escaped },
                Newest::Lost => Newer::Lost,
            };
            self.newest.insert(target, newer);
        }
        *self.cache.borrow_mut() = Cache::default();
        // The superblock is among the blocks that a journal brings up to date.
        let first = self.superblock.block_size.max(superblock::PLACE) / self.superblock.block_size;
        let (block, within) = if self.superblock.block_size == 1024 { (first, 0) } else { (0, 1024) };
        if self.newest.contains_key(&block) {
            let raw = self.block(block)?;
            let raw = raw.part(within, superblock::LENGTH).ok_or_else(short("the superblock"))?;
            let newer = Superblock::parse(&Block::from(raw.to_vec()))?;
            if (newer.block_size, newer.inode_size) == (self.superblock.block_size, self.superblock.inode_size) {
                self.superblock = newer;
            }
        }
        Ok(match (replay.cut, replay.lost, head.has_fast_commits && head.is_dirty) {
            (Some(error), ..) => Some(format!(
                "its journal can be replayed only in part ({error}), so files that were changed last may be old here"
            )),
            (None, 0, false) => None,
            (None, 0, true) => {
                Some("its journal may hold short records of last changes, which are not seen here".into())
            }
            (None, lost, _) => Some(format!("{lost} blocks in its journal are damaged and cannot be read")),
        })
    }

    /// How many blocks are taken from the journal.
    pub fn replayed(&self) -> usize {
        self.newest.len()
    }

    /// A block as it is on the volume, whatever the journal says.
    fn read_block(&self, number: u64) -> Result<Block, Ext4Error> {
        let size = self.superblock.block_size;
        if number >= self.superblock.blocks {
            return Err(Ext4Error::damaged(format!("block {number} lies outside of the filesystem")));
        }
        let at = number.saturating_mul(size);
        let length = usize::try_from(size).unwrap_or(usize::MAX);
        match Block::read(self.volume, at, length) {
            Ok(Some(block)) => Ok(block),
            Ok(None) => Err(Ext4Error::damaged(format!("block {number} lies behind the end of the volume"))),
            Err(source) => Err(Ext4Error::Io { at, source }),
        }
    }

    /// A block of metadata, in its newest content.
    pub(super) fn block(&self, number: u64) -> Result<Rc<Block>, Ext4Error> {
        if let Some(block) = self.cache.borrow().blocks.get(&number) {
            return Ok(Rc::clone(block));
        }
        let block = Rc::new(match self.newest.get(&number) {
            None => self.read_block(number)?,
            Some(Newer::Lost) => {
                return Err(Ext4Error::damaged(format!("block {number} is damaged in the journal")));
            }
            Some(Newer::At { block, escaped: false }) => self.read_block(*block)?,
            Some(Newer::At { block, escaped: true }) => {
                let mut bytes = self.read_block(*block)?.bytes().to_vec();
                if let Some(first) = bytes.first_chunk_mut() {
                    *first = ESCAPED_BYTES;
                }
                Block::from(bytes)
            }
        });
        let mut cache = self.cache.borrow_mut();
        let most = usize::try_from(CACHE / self.superblock.block_size).unwrap_or(8).max(8);
        if cache.order.len() >= most
            && let Some(oldest) = cache.order.pop_front()
        {
            cache.blocks.remove(&oldest);
        }
        cache.order.push_back(number);
        cache.blocks.insert(number, Rc::clone(&block));
        Ok(block)
    }

    /// Whether a stretch of blocks is as it is on the volume, so that it can be read in one piece.
    pub(super) fn is_in_place(&self, first: u64, count: u64) -> bool {
        self.newest.range(first..first.saturating_add(count)).next().is_none()
    }

    pub(super) fn volume(&self) -> &'a dyn ReadAt {
        self.volume
    }

    /// Where a group's inodes are: from its descriptor, or from the first good copy of that.
    pub(super) fn group(&self, number: u64) -> Result<Group, Ext4Error> {
        let mut first = None;
        for (nth, block) in group::places(&self.superblock, number).into_iter().enumerate() {
            match self.block(block).and_then(|raw| Group::parse(&self.superblock, number, &raw)) {
                // Nobody brings the numbers in copies up to date, only the places.
                Ok(group) if nth > 0 => return Ok(Group { inodes_written: self.superblock.inodes_per_group, ..group }),
                Ok(group) => return Ok(group),
                Err(error) => drop(first.get_or_insert(error)),
            }
        }
        Err(first.unwrap_or_else(|| Ext4Error::damaged(format!("group {number} has no descriptor"))))
    }

    /// The block that holds an inode, and its place there.
    fn place_of_inode(&self, number: u32) -> Result<(u64, usize), Ext4Error> {
        let own = &self.superblock;
        let index = u64::from(
            number
                .checked_sub(1)
                .filter(|_| number <= own.inodes)
                .ok_or_else(|| Ext4Error::damaged(format!("inode {number} does not exist")))?,
        );
        let per_group = u64::from(own.inodes_per_group);
        let table = self.group(index / per_group)?.inode_table;
        let at = (index % per_group).saturating_mul(own.inode_size);
        let within = usize::try_from(at % own.block_size).unwrap_or(usize::MAX);
        Ok((table.saturating_add(at / own.block_size), within))
    }

    /// An inode that is in use; `None` when it is not.
    pub fn find_inode(&self, number: u32) -> Result<Option<Inode>, Ext4Error> {
        let (block, within) = self.place_of_inode(number)?;
        let block = self.block(block)?;
        let length = usize::try_from(self.superblock.inode_size).unwrap_or(usize::MAX);
        let raw = block.part(within, length).ok_or_else(short("the inode table"))?;
        Inode::parse(&self.superblock, number, &Block::from(raw.to_vec()))
    }

    /// An inode that must be in use.
    pub fn inode(&self, number: u32) -> Result<Inode, Ext4Error> {
        self.find_inode(number)?.ok_or_else(|| Ext4Error::damaged(format!("inode {number} is not in use")))
    }

    /// The root directory.
    pub fn root(&self) -> Result<Inode, Ext4Error> {
        self.inode(ROOT)
    }

    /// Where an inode's content lies, in order and without overlaps; what is between is a hole. Nothing for inline
    /// content and short links.
    pub fn extents(
        &self,
        inode: &Inode,
        visit: &mut dyn FnMut(Extent) -> Result<(), Ext4Error>,
    ) -> Result<(), Ext4Error> {
        if inode.is_inline() || self.is_short_link(inode) || inode.device().is_some() {
            return Ok(());
        }
        let mut walk = Mapping::new(self, inode, visit);
        if inode.has_extents() {
            walk.node(&Block::from(inode.core.to_vec()), None, u64::MAX)?;
        } else {
            for pointer in indirect::pointers(&inode.core, self.superblock.block_size) {
                walk.pointer(pointer)?;
            }
        }
        walk.end()
    }

    /// Whether a symbolic link's target lies in the inode.
    fn is_short_link(&self, inode: &Inode) -> bool {
        let attributes = if inode.attribute_block == 0 { 0 } else { self.superblock.block_size / 512 };
        inode.kind == Kind::Symlink && !inode.has_extents() && inode.size < 60 && inode.sectors <= attributes
    }

    /// The names in a directory but for `.` and `..`. A part of it that cannot be read is an error in the list, and the
    /// names in the other parts are found all the same.
    pub fn names(&self, inode: &Inode, visit: &mut dyn FnMut(Result<Name, Ext4Error>)) {
        let mut keep = |found: Result<Vec<Name>, Ext4Error>| match found {
            Ok(names) => names
                .into_iter()
                .filter(|name| name.name != b"." && name.name != b"..")
                .for_each(|name| visit(Ok(name))),
            Err(error) => visit(Err(error)),
        };
        let encrypted = inode.refuse_transformed();
        if inode.kind != Kind::Directory || encrypted.is_err() {
            return keep(encrypted.and(Err(Ext4Error::damaged(format!("inode {} is no directory", inode.number)))));
        }
        if inode.is_inline() {
            // Its first four bytes name the directory above.
            keep(directory::names(&Block::from(inode.core.get(4..).unwrap_or_default().to_vec())));
            return match self.inline_rest(inode) {
                Ok(rest) => keep(directory::names(&Block::from(rest))),
                Err(error) => keep(Err(error)),
            };
        }
        let blocks = inode.size.div_ceil(self.superblock.block_size);
        let mut seen = 0;
        let walked = self.extents(inode, &mut |extent| {
            if !extent.written {
                return Err(Ext4Error::damaged("a part of the directory was never written"));
            }
            for nth in 0..extent.length {
                let logical = extent.logical + nth;
                if logical < blocks {
                    seen += 1;
                    keep(self.names_in_block(inode, logical, extent.physical + nth));
                }
            }
            Ok(())
        });
        if let Err(error) = walked {
            keep(Err(error));
        } else if seen != blocks {
            keep(Err(Ext4Error::damaged("a part of the directory is missing")));
        }
    }

    fn names_in_block(&self, inode: &Inode, logical: u64, physical: u64) -> Result<Vec<Name>, Ext4Error> {
        let raw = self.block(physical)?;
        if let Some(seed) = inode.seed {
            directory::check(&raw, inode.is_indexed(), logical == 0, seed)?;
        }
        directory::names(&raw)
    }

    /// The directory that a directory says it lies in.
    pub fn parent(&self, inode: &Inode) -> Result<u32, Ext4Error> {
        let missing = || Ext4Error::damaged(format!("directory {} does not name the one above", inode.number));
        if inode.is_inline() {
            return inode.core.first_chunk().map(|raw| u32::from_le_bytes(*raw)).ok_or_else(missing);
        }
        let mut found = None;
        self.extents(inode, &mut |extent| {
            if extent.logical == 0 && extent.written {
                let names = self.names_in_block(inode, 0, extent.physical)?;
                found = names.into_iter().find(|name| name.name == b"..").map(|name| name.inode);
            }
            Ok(())
        })?;
        found.ok_or_else(missing)
    }

    /// An inode's extended attributes, in the kernel's form, sorted by name.
    pub fn attributes(&self, inode: &Inode) -> Result<Vec<attribute::Pair>, Ext4Error> {
        let mut found = Vec::new();
        for Attribute { name, value } in self.raw_attributes(inode)? {
            if name == attribute::INLINE_DATA || name.starts_with(b"encryption.") {
                continue;
            }
            let value = self.value(value)?;
            let is_list = name.starts_with(b"system.posix_acl_");
            found.push((name, if is_list { attribute::acl(&value)? } else { value }));
        }
        found.sort();
        Ok(found)
    }

    fn raw_attributes(&self, inode: &Inode) -> Result<Vec<Attribute>, Ext4Error> {
        let mut found = attribute::in_inode(inode.tail())?;
        if inode.attribute_block != 0 {
            let raw = self.block(inode.attribute_block)?;
            found.extend(attribute::in_block(&raw, inode.attribute_block, self.superblock.seed)?);
        }
        Ok(found)
    }

    fn value(&self, value: Value) -> Result<Vec<u8>, Ext4Error> {
        let (inode, size) = match value {
            Value::Here(bytes) => return Ok(bytes),
            Value::In { inode, size } => (self.inode(inode)?, size),
        };
        if !inode.is_attribute_value() || inode.size != u64::from(size) {
            return Err(Ext4Error::damaged("the value of an attribute is not where it should be"));
        }
        Content::open(self, &inode)?.read_all(u64::from(attribute::LONGEST_VALUE))
    }

    /// The part of inline content that is kept as an attribute.
    pub(super) fn inline_rest(&self, inode: &Inode) -> Result<Vec<u8>, Ext4Error> {
        let found = attribute::in_inode(inode.tail())?;
        match found.into_iter().find(|attribute| attribute.name == attribute::INLINE_DATA) {
            Some(attribute) => self.value(attribute.value),
            None => Ok(Vec::new()),
        }
    }

    /// The target of a symbolic link.
    pub fn target(&self, inode: &Inode) -> Result<Vec<u8>, Ext4Error> {
        if inode.kind != Kind::Symlink {
            return Err(Ext4Error::damaged(format!("inode {} is no symbolic link", inode.number)));
        }
        inode.refuse_transformed()?;
        if self.is_short_link(inode) {
            let length = usize::try_from(inode.size).unwrap_or(usize::MAX);
            return inode.core.get(..length).map(<[u8]>::to_vec).ok_or_else(short("a symbolic link"));
        }
        Content::open(self, inode)?.read_all(LONGEST_TARGET)
    }

    /// The inode at a path below the root; links on the way are followed as the system itself would, and never lead out.
    /// `None` when there is none of that name.
    pub fn find(&self, path: &[u8]) -> Result<Option<Inode>, Ext4Error> {
        self.look_up(path, true)
    }

    /// As [`Filesystem::find`], but a link at the end of the path is not followed.
    pub fn find_link(&self, path: &[u8]) -> Result<Option<Inode>, Ext4Error> {
        self.look_up(path, false)
    }

    fn look_up(&self, path: &[u8], follow_last: bool) -> Result<Option<Inode>, Ext4Error> {
        let mut above: Vec<Inode> = Vec::new();
        let mut here = self.root()?;
        let mut links = 0;
        let mut left: Vec<Vec<u8>> = path.split(|&b| b == b'/').rev().map(<[u8]>::to_vec).collect();
        while let Some(name) = left.pop() {
            match name.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    here = above.pop().unwrap_or(here);
                    continue;
                }
                _ if here.kind != Kind::Directory => return Ok(None),
                _ => {}
            }
            let Some(number) = self.child(&here, &name)? else { return Ok(None) };
            let next = self.inode(number)?;
            let is_last = left.iter().all(|name| name.is_empty());
            if next.kind == Kind::Symlink && (follow_last || !is_last) {
                links += 1;
                if links > MOST_LINKS {
                    return Err(Ext4Error::damaged("too many symbolic links on a path"));
                }
                let target = self.target(&next)?;
                if target.first() == Some(&b'/') {
                    above.clear();
                    here = self.root()?;
                }
                left.extend(target.split(|&b| b == b'/').rev().map(<[u8]>::to_vec));
            } else {
                above.push(std::mem::replace(&mut here, next));
            }
        }
        Ok(Some(here))
    }

    fn child(&self, directory: &Inode, wanted: &[u8]) -> Result<Option<u32>, Ext4Error> {
        let (mut found, mut failed) = (None, None);
        self.names(directory, &mut |name| match name {
            Ok(name) if name.name == wanted => found = found.or(Some(name.inode)),
            Ok(_) => {}
            Err(error) => failed = Some(error),
        });
        match (found, failed) {
            (Some(inode), _) => Ok(Some(inode)),
            // Whether the name is there cannot be told.
            (None, Some(error)) => Err(error),
            (None, None) => Ok(None),
        }
    }
}
