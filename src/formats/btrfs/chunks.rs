//! The chunk tree of btrfs, made anew where no copy of it can be read.
//!
//! Only it says where on the device each chunk of the filesystem lies, so without it nothing else is found. All that it
//! says stands elsewhere as well: the superblock has the device and the chunk with this tree, the device tree has the
//! place of every chunk (DEV_EXTENT), the extent or block group tree has its kind (BLOCK_GROUP_ITEM). The leaf of the
//! device tree is found by its number, which the superblock keeps, and known by its checksum.
//!
//! What is made is whole and in itself right, or nothing: one device, one leaf, chunks that are single or DUP, and
//! extents that add up to what the superblock says of the device. Source: btrfs on-disk format; fs/btrfs/ctree.h.

use super::{COPY, CSUM_CRC32C, LENGTH, PLACE, checksum, is_at, is_right};
use crate::formats::ReadAt;
use crate::formats::block::{Block, LARGEST_BLOCK};
use std::collections::BTreeMap;

/// Trees by number.
const CHUNK_TREE: u64 = 3;
const EXTENT_TREE: u64 = 2;
const DEV_TREE: u64 = 4;
const BLOCK_GROUP_TREE: u64 = 11;
/// Kinds of items.
const ROOT_ITEM: u8 = 132;
const BLOCK_GROUP_ITEM: u8 = 192;
const DEV_EXTENT: u8 = 204;
const DEV_ITEM: u8 = 216;
const CHUNK_ITEM: u8 = 228;
/// The number that all chunks are filed under, and the one for devices.
const CHUNKS: u64 = 256;
const DEVICES: u64 = 1;
/// Lengths of a node's header, of an item's and of a child's entry behind it, of a key.
const HEADER: usize = 101;
const ITEM: usize = 25;
const CHILD: usize = 33;
const KEY: usize = 17;
/// Chunks lie at multiples of this in both numberings, so a node's place has the same remainder as its number.
const STRIPE: u64 = 64 << 10;
/// The bits of a chunk's kind that say how it is spread, and the one for two copies on one device.
const PROFILES: u64 = 0x7f8;
const DUP: u64 = 0x20;
/// Features: a UUID of its own for metadata; block groups in a tree of their own.
const METADATA_UUID: u64 = 0x400;
const HAS_BLOCK_GROUP_TREE: u64 = 0x8;
/// Deepest tree.
const LEVELS: u8 = 8;

/// What the superblock says.
struct Super {
    block: Block,
    fsid: Vec<u8>,
    nodesize: usize,
}

/// Where a node is, and which state of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pointer {
    logical: u64,
    generation: u64,
    level: u8,
}

/// One chunk: where it lies on the device, once or twice.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Chunk {
    length: u64,
    places: Vec<u64>,
}

/// Chunks by their number.
type Chunks = BTreeMap<u64, Chunk>;
/// Object, kind, offset.
type Key = (u64, u8, u64);

/// Whether a filesystem on one device has lost every copy of its chunk tree's root. `false` where that is not known.
pub(super) fn is_lost(volume: &dyn ReadAt, superblock: &Block) -> bool {
    let lost = || -> Option<bool> {
        let own = Super::of(superblock.clone())?;
        let (chunks, _) = own.system_chunk()?;
        Some(own.node(volume, &chunks, own.chunk_root()?, CHUNK_TREE).is_none())
    };
    lost().unwrap_or(false)
}

/// What belongs where the chunk tree is lost: places on the volume, with the leaf. Empty where it is not lost or cannot
/// be made. May read all of the volume, a page in each 64 KiB.
pub fn rebuilt(volume: &dyn ReadAt) -> Vec<(u64, Vec<u8>)> {
    let superblock = [PLACE, COPY].into_iter().find_map(|place| {
        Block::read(volume, place, LENGTH).ok().flatten().filter(|block| is_right(block) && is_at(block, place))
    });
    superblock.filter(|block| is_lost(volume, block)).and_then(|block| rebuild(volume, block)).unwrap_or_default()
}

fn rebuild(volume: &dyn ReadAt, superblock: Block) -> Option<Vec<(u64, Vec<u8>)>> {
    let own = Super::of(superblock)?;
    let root = own.chunk_root()?;
    let (system, item) = own.system_chunk()?;
    let dev_root = own.dev_root().filter(|dev_root| (dev_root.level, root.level) == (0, 0))?;
    let dev_leaf = own.find(volume, dev_root)?;
    let chunks = own.chunks(&dev_leaf)?;
    // The chunk that the superblock describes is one of them, or the two do not belong together.
    let (number, known) = system.iter().next()?;
    if chunks.get(number).is_none_or(|chunk| !is_same(chunk, known)) {
        return None;
    }
    let tree =
        Pointer { logical: own.block.le64(0x50)?, generation: own.block.le64(0x48)?, level: own.block.u8(0xc6)? };
    let find = |tree_number: u64| -> Option<Pointer> {
        let item = own.first(volume, &chunks, tree, 1, (tree_number, ROOT_ITEM, 0))?.1;
        let item = Block::of(item);
        Some(Pointer { logical: item.le64(176)?, generation: item.le64(160)?, level: item.u8(238)? })
    };
    // A leaf of an earlier state would say where chunks were then.
    if find(DEV_TREE)? != dev_root {
        return None;
    }
    let has_own_tree = own.block.le64(0xb4)? & HAS_BLOCK_GROUP_TREE != 0;
    let number = if has_own_tree { BLOCK_GROUP_TREE } else { EXTENT_TREE };
    let groups = find(number)?;
    let device = own.block.part(0xc9, 98)?;
    let mut items: Vec<(Key, Vec<u8>)> = vec![((DEVICES, DEV_ITEM, own.block.le64(0xc9)?), device.to_vec())];
    for (logical, chunk) in &chunks {
        let key = (*logical, BLOCK_GROUP_ITEM, chunk.length);
        let (found, group) = own.first(volume, &chunks, groups, number, key)?;
        let kind = Block::of(group).le64(16).filter(|_| found == key)?;
        let copies = match kind & PROFILES {
            0 => 1,
            DUP => 2,
            _ => return None,
        };
        if chunk.places.len() != copies {
            return None;
        }
        let content = match system.contains_key(logical) {
            true => item.clone(),
            false => own.chunk_item(chunk, kind)?,
        };
        items.push(((CHUNKS, CHUNK_ITEM, *logical), content));
    }
    let leaf = own.leaf(root, dev_leaf.part(0x40, 16)?, &items)?;
    let places = places(&chunks, root.logical, own.nodesize as u64)?;
    Some(places.into_iter().map(|place| (place, leaf.clone())).collect())
}

fn is_same(one: &Chunk, other: &Chunk) -> bool {
    let sorted = |chunk: &Chunk| {
        let mut places = chunk.places.clone();
        places.sort_unstable();
        places
    };
    one.length == other.length && sorted(one) == sorted(other)
}

/// Where the copies of `length` bytes at `logical` lie.
fn places(chunks: &Chunks, logical: u64, length: u64) -> Option<Vec<u64>> {
    let (start, chunk) = chunks.range(..=logical).next_back()?;
    let within = logical.checked_sub(*start)?;
    (within.checked_add(length)? <= chunk.length).then_some(())?;
    chunk.places.iter().map(|place| place.checked_add(within)).collect()
}

impl Super {
    /// The superblock of a filesystem that can be understood here: on one device, with CRC-32C.
    fn of(block: Block) -> Option<Super> {
        let nodesize = block.le32(0x94)? as usize;
        let is_ours = block.le64(0x88)? == 1
            && block.le16(0xc4)? == CSUM_CRC32C
            && nodesize.is_power_of_two()
            && (4096..=65536).contains(&nodesize);
        let own = block.le64(0xbc)? & METADATA_UUID != 0;
        let fsid = block.part(if own { 0x23b } else { 0x20 }, 16)?.to_vec();
        is_ours.then_some(Super { fsid, nodesize, block })
    }

    fn chunk_root(&self) -> Option<Pointer> {
        let (logical, generation) = (self.block.le64(0x58)?, self.block.le64(0xa4)?);
        Some(Pointer { logical, generation, level: self.block.u8(0xc7)? })
    }

    /// The root of the device tree, from what the superblock keeps of this very state.
    fn dev_root(&self) -> Option<Pointer> {
        let now = (self.block.le64(0x50)?, self.block.le64(0x48)?);
        (0..4_usize).map(|nth| 0xb2b + 168 * nth).find_map(|at| {
            let is_now = (self.block.le64(at)?, self.block.le64(at + 8)?) == now;
            let (logical, generation) = (self.block.le64(at + 64)?, self.block.le64(at + 72)?);
            is_now.then_some(Pointer { logical, generation, level: self.block.u8(at + 156)? })
        })
    }

    /// The only chunk that the superblock describes, which holds the chunk tree, with its item.
    fn system_chunk(&self) -> Option<(Chunks, Vec<u8>)> {
        let length = self.block.le32(0xa0)? as usize;
        let array = Block::of(self.block.part(0x32b, length)?.to_vec());
        let copies = array.le16(KEY + 44)?;
        let size = 48_usize.checked_add(32_usize.checked_mul(copies.into())?)?;
        let is_single = (array.le64(0)?, array.u8(8)?) == (CHUNKS, CHUNK_ITEM) && length == KEY + size;
        let devid = self.block.le64(0xc9)?;
        let mut places = Vec::new();
        for at in (0..usize::from(copies)).map(|nth| KEY + 48 + 32 * nth) {
            places.push(array.le64(at + 8).filter(|_| array.le64(at) == Some(devid))?);
        }
        let chunk = Chunk { length: array.le64(KEY)?, places };
        is_single.then_some((Chunks::from([(array.le64(9)?, chunk)]), array.part(KEY, size)?.to_vec()))
    }

    /// Whether a node's bytes are what is meant.
    fn is_node(&self, node: &Block, wanted: Pointer, owner: u64) -> bool {
        let sum = node.bytes().get(0x20..).map(checksum);
        sum.is_some()
            && node.le32(0) == sum
            && node.has(0x20, &self.fsid)
            && node.le64(0x30) == Some(wanted.logical)
            && node.le64(0x50) == Some(wanted.generation)
            && node.le64(0x58) == Some(owner)
            && node.u8(0x64) == Some(wanted.level)
    }

    /// The first copy of a node that is right.
    fn node(&self, volume: &dyn ReadAt, chunks: &Chunks, wanted: Pointer, owner: u64) -> Option<Block> {
        let places = places(chunks, wanted.logical, self.nodesize as u64)?;
        let read = |place: &u64| Block::read(volume, *place, self.nodesize).ok().flatten();
        places.iter().filter_map(read).find(|node| self.is_node(node, wanted, owner))
    }

    /// A node of which only the number is known: looked for at every place that it could have.
    fn find(&self, volume: &dyn ReadAt, wanted: Pointer) -> Option<Block> {
        let end = self.block.le64(0x70)?.min(volume.length());
        let first = wanted.logical % STRIPE;
        let places = (0..).map_while(|nth: u64| nth.checked_mul(STRIPE)?.checked_add(first)).take_while(|at| *at < end);
        places.filter(|at| self.may_begin(volume, *at, wanted)).find_map(|at| {
            let node = Block::read(volume, at, self.nodesize).ok().flatten()?;
            self.is_node(&node, wanted, DEV_TREE).then_some(node)
        })
    }

    fn may_begin(&self, volume: &dyn ReadAt, at: u64, wanted: Pointer) -> bool {
        let head = Block::read(volume, at, 4096).ok().flatten();
        head.is_some_and(|head| head.has(0x20, &self.fsid) && head.le64(0x30) == Some(wanted.logical))
    }

    /// The chunks that a leaf of the device tree names. They do not overlap, and together are as long as the superblock
    /// says that the device is in use.
    fn chunks(&self, leaf: &Block) -> Option<Chunks> {
        let (devid, end) = (self.block.le64(0xc9)?, self.block.le64(0xd1)?);
        let (mut chunks, mut behind, mut sum) = (Chunks::new(), 0_u64, 0_u64);
        for (key, item) in items(leaf)? {
            if key.1 != DEV_EXTENT {
                continue;
            }
            let item = Block::of(item);
            let (logical, length) = (item.le64(16)?, item.le64(24)?);
            let is_right = key.0 == devid
                && (item.le64(0)?, item.le64(8)?) == (CHUNK_TREE, CHUNKS)
                && length > 0
                && key.2 >= behind
                && [key.2, length, logical].iter().all(|number| number % STRIPE == 0);
            behind = key.2.checked_add(length).filter(|behind| is_right && *behind <= end)?;
            sum = sum.checked_add(length)?;
            let chunk = chunks.entry(logical).or_insert_with(|| Chunk { length, places: Vec::new() });
            (chunk.length == length).then(|| chunk.places.push(key.2))?;
        }
        let mut reached = 0;
        for (logical, chunk) in &chunks {
            (*logical >= reached).then_some(())?;
            reached = logical.checked_add(chunk.length)?;
        }
        (Some(sum) == self.block.le64(0xd9)).then_some(chunks)
    }

    /// The first item from `key` on with the same object and kind.
    fn first(
        &self,
        volume: &dyn ReadAt,
        chunks: &Chunks,
        root: Pointer,
        owner: u64,
        key: Key,
    ) -> Option<(Key, Vec<u8>)> {
        let mut at = root;
        for _ in 0..LEVELS {
            let node = self.node(volume, chunks, at, owner)?;
            if at.level == 0 {
                let found = items(&node)?.into_iter().find(|(found, _)| *found >= key)?;
                return Some(found).filter(|((object, kind, _), _)| (*object, *kind) == (key.0, key.1));
            }
            let count = node.le32(0x60)? as usize;
            let children = (0..count).map(|nth| HEADER + CHILD * nth);
            let below = children.take_while(|at| key_at(&node, *at).is_some_and(|first| first <= key)).last()?;
            let (logical, generation) = (node.le64(below + KEY)?, node.le64(below + KEY + 8)?);
            at = Pointer { logical, generation, level: at.level.checked_sub(1)? };
        }
        None
    }

    fn chunk_item(&self, chunk: &Chunk, kind: u64) -> Option<Vec<u8>> {
        let (devid, uuid) = (self.block.le64(0xc9)?, self.block.part(0xc9 + 66, 16)?);
        let mut item = Vec::new();
        for number in [chunk.length, EXTENT_TREE, STRIPE, kind] {
            item.extend(number.to_le_bytes());
        }
        let sector = self.block.le32(0x90)?;
        for number in [STRIPE as u32, STRIPE as u32, sector] {
            item.extend(number.to_le_bytes());
        }
        item.extend(u16::try_from(chunk.places.len()).ok()?.to_le_bytes());
        item.extend(1_u16.to_le_bytes());
        for place in &chunk.places {
            item.extend(devid.to_le_bytes());
            item.extend(place.to_le_bytes());
            item.extend(uuid);
        }
        Some(item)
    }

    /// The leaf with these items, which are in the order of their keys; `None` where they do not fit.
    fn leaf(&self, root: Pointer, tree: &[u8], items: &[(Key, Vec<u8>)]) -> Option<Vec<u8>> {
        let mut head = self.fsid.clone();
        head.extend(root.logical.to_le_bytes());
        // Written, and references of the newer form, as all trees have them since 2007.
        head.extend((1_u64 | 1 << 56).to_le_bytes());
        head.extend(tree);
        head.extend(root.generation.to_le_bytes());
        head.extend(CHUNK_TREE.to_le_bytes());
        head.extend(u32::try_from(items.len()).ok()?.to_le_bytes());
        head.push(root.level);
        let room = self.nodesize.checked_sub(HEADER)?;
        let (mut end, mut contents) = (room, Vec::new());
        for ((object, kind, offset), content) in items {
            end = end.checked_sub(content.len())?;
            head.extend(object.to_le_bytes());
            head.push(*kind);
            head.extend(offset.to_le_bytes());
            head.extend(u32::try_from(end).ok()?.to_le_bytes());
            head.extend(u32::try_from(content.len()).ok()?.to_le_bytes());
            contents.push(content);
        }
        let between =
            self.nodesize.checked_sub(0x20 + head.len() + contents.iter().map(|one| one.len()).sum::<usize>())?;
        head.resize(head.len() + between, 0);
        contents.into_iter().rev().for_each(|content| head.extend(content));
        let sum = checksum(&head);
        let mut leaf = sum.to_le_bytes().to_vec();
        leaf.resize(0x20, 0);
        leaf.extend(head);
        Some(leaf)
    }
}

fn key_at(node: &Block, at: usize) -> Option<Key> {
    Some((node.le64(at)?, node.u8(at + 8)?, node.le64(at + 9)?))
}

/// The items of a leaf.
fn items(leaf: &Block) -> Option<Vec<(Key, Vec<u8>)>> {
    let count = leaf.le32(0x60)? as usize;
    if leaf.u8(0x64)? != 0 || count > LARGEST_BLOCK / ITEM {
        return None;
    }
    let item = |nth: usize| {
        let at = HEADER + ITEM * nth;
        let (offset, size) = (leaf.le32(at + KEY)? as usize, leaf.le32(at + KEY + 4)? as usize);
        Some((key_at(leaf, at)?, leaf.part(HEADER.checked_add(offset)?, size)?.to_vec()))
    };
    (0..count).map(item).collect()
}
