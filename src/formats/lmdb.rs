//! LMDB files, version 1: the memory-mapped trees in which slapd keeps people.
//!
//! Source: OpenLDAP, libraries/liblmdb/mdb.c and lmdb.h 0.9. The file is a dump of the memory of its machine: page numbers
//! and sizes have the word size of the program that wrote it. Both are read on any machine; only little-endian ones.
//! Reads the newest complete transaction. Foreign numbers never lead to a panic, an endless loop or much memory.

use super::ReadAt;
use super::block::Block;
use std::io;

const MAGIC: u32 = 0xbeef_c0de;
const VERSION: u32 = 1;
const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;
const OVERFLOW: u16 = 0x04;
const BIG_DATA: u16 = 0x01;
const SUB_DATABASE: u16 = 0x02;
const DEEPEST: u32 = 32;
/// Most pages of one tree that are visited: 4 GiB of them.
const MOST_PAGES: u64 = 1 << 20;
/// Longest value that is read.
const LONGEST: usize = (1 << 20) - 64;

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LmdbError {
    /// The disk refused.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is no such file, or contradicts itself.
    #[error("the database is damaged: {0}")]
    Damaged(&'static str),
}

/// Takes a key, a value and the flags of the pair.
type Visit<'v> = &'v mut dyn FnMut(&[u8], &[u8], u16);

/// A database file.
pub struct Lmdb<'a> {
    file: &'a dyn ReadAt,
    page: u64,
    /// 4 or 8 bytes.
    word: usize,
    main: Option<u64>,
}

impl<'a> Lmdb<'a> {
    /// Finds the newest complete transaction.
    pub fn open(file: &'a dyn ReadAt) -> Result<Lmdb<'a>, LmdbError> {
        let first = read(file, 0, 256)?;
        let word = match (first.le32(16), first.le32(12)) {
            (Some(MAGIC), _) => 8,
            (_, Some(MAGIC)) => 4,
            _ => return Err(LmdbError::Damaged("it has no mark of LMDB at its beginning")),
        };
        let mut lmdb = Lmdb { file, page: 0, word, main: None };
        // The size of pages stands where the first tree's description has no other use for it.
        let size = first.le32(lmdb.trees()).unwrap_or(0);
        if !(512..=65536).contains(&size) || !size.is_power_of_two() {
            return Err(LmdbError::Damaged("its pages have an impossible size"));
        }
        lmdb.page = size.into();
        let newest = [0, 1].into_iter().filter_map(|number| lmdb.transaction(number)).max();
        let (_, root) = newest.ok_or(LmdbError::Damaged("it has no complete transaction"))?;
        lmdb.main = lmdb.root(root);
        Ok(lmdb)
    }

    /// Length of a page's header.
    fn header(&self) -> usize {
        self.word + 8
    }

    /// Where the descriptions of the two trees are in a page of transactions.
    fn trees(&self) -> usize {
        self.header() + 8 + 2 * self.word
    }

    /// Length of a tree's description: flags and depth, five words of counts and the root among them.
    fn description(&self) -> usize {
        8 + 5 * self.word
    }

    fn word_at(&self, raw: &Block, at: usize) -> Option<u64> {
        if self.word == 8 { raw.le64(at) } else { raw.le32(at).map(u64::from) }
    }

    /// A root, where the tree has any page.
    fn root(&self, number: u64) -> Option<u64> {
        let none = if self.word == 8 { u64::MAX } else { u32::MAX.into() };
        (number != none).then_some(number)
    }

    /// The number of the transaction that one of the first two pages describes, and the root of its main tree.
    fn transaction(&self, number: u64) -> Option<(u64, u64)> {
        let raw = read(self.file, number * self.page, 256).ok()?;
        let begin = self.header();
        if raw.le32(begin)? != MAGIC || raw.le32(begin + 4)? & 0xffff != VERSION {
            return None;
        }
        let main = self.trees() + self.description();
        let root = self.word_at(&raw, main + 8 + 4 * self.word)?;
        let end = main + self.description();
        Some((self.word_at(&raw, end + self.word)?, root))
    }

    /// Visits every pair of the named table, in the order of its keys. `false` where there is no such table.
    pub fn each(&self, table: &str, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<bool, LmdbError> {
        let Some(main) = self.main else { return Ok(false) };
        let mut found = None;
        self.walk(main, &mut |key, value, flags| {
            // Some programs count the NUL after a name, some do not.
            if flags & SUB_DATABASE != 0 && key.strip_suffix(b"\0").unwrap_or(key) == table.as_bytes() {
                found = Some(value.to_vec());
            }
        })?;
        let Some(description) = found else { return Ok(false) };
        let raw = Block::from(description);
        let root = self.word_at(&raw, 8 + 4 * self.word).ok_or(LmdbError::Damaged("a table's description is cut"))?;
        if let Some(root) = self.root(root) {
            self.walk(root, &mut |key, value, _| visit(key, value))?;
        }
        Ok(true)
    }

    fn walk(&self, root: u64, visit: Visit<'_>) -> Result<(), LmdbError> {
        let mut left = MOST_PAGES;
        let mut ahead = vec![(root, 0)];
        while let Some((number, depth)) = ahead.pop() {
            left = left.checked_sub(1).ok_or(LmdbError::Damaged("a tree has too many pages"))?;
            if depth > DEEPEST {
                return Err(LmdbError::Damaged("a tree is too deep"));
            }
            let page = self.read_page(number, self.page)?;
            let flags = page.le16(self.word + 2).unwrap_or(0);
            let lower = usize::from(page.le16(self.word + 4).unwrap_or(0));
            let mut below = Vec::new();
            for at in (self.header()..lower).step_by(2) {
                let node = usize::from(page.le16(at).ok_or(LmdbError::Damaged("a page's list of entries is cut"))?);
                match flags & (BRANCH | LEAF) {
                    BRANCH => below.push((self.child(&page, node)?, depth + 1)),
                    LEAF => self.leaf(&page, node, visit)?,
                    _ => return Err(LmdbError::Damaged("a page of a tree is of another kind")),
                }
            }
            ahead.extend(below.into_iter().rev());
        }
        Ok(())
    }

    fn child(&self, page: &Block, node: usize) -> Result<u64, LmdbError> {
        let part = |at| page.le16(at).map(u64::from).ok_or(LmdbError::Damaged("an entry is cut"));
        let high = if self.word == 8 { part(node + 4)? << 32 } else { 0 };
        Ok(part(node)? | part(node + 2)? << 16 | high)
    }

    fn leaf(&self, page: &Block, node: usize, visit: Visit<'_>) -> Result<(), LmdbError> {
        let cut = || LmdbError::Damaged("an entry is cut");
        let size = page.le32(node).ok_or_else(cut)? as usize;
        let flags = page.le16(node + 4).ok_or_else(cut)?;
        let key_size = usize::from(page.le16(node + 6).ok_or_else(cut)?);
        let key = page.part(node + 8, key_size).ok_or_else(cut)?;
        let at = node + 8 + key_size;
        if flags & BIG_DATA == 0 {
            visit(key, page.part(at, size).ok_or_else(cut)?, flags);
            return Ok(());
        }
        if size > LONGEST {
            return Err(LmdbError::Damaged("a value is too long"));
        }
        let number = self.word_at(page, at).ok_or_else(cut)?;
        let big = self.read_page(number, (self.header() + size) as u64)?;
        if big.le16(self.word + 2) != Some(OVERFLOW) {
            return Err(LmdbError::Damaged("a long value is not where it should be"));
        }
        visit(key, big.part(self.header(), size).ok_or_else(cut)?, flags);
        Ok(())
    }

    fn read_page(&self, number: u64, length: u64) -> Result<Block, LmdbError> {
        let at = number.checked_mul(self.page).ok_or(LmdbError::Damaged("a page's number is impossible"))?;
        read(self.file, at, usize::try_from(length).unwrap_or(LONGEST))
    }
}

fn read(file: &dyn ReadAt, at: u64, length: usize) -> Result<Block, LmdbError> {
    Block::read(file, at, length)?.ok_or(LmdbError::Damaged("it is cut"))
}
