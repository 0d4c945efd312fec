//! The journal (journal.rst; jbd2): which blocks have a newer content in it than at their place.
//!
//! Only whole transactions count, up to the first one without a commit. A block that a later transaction revokes is not
//! taken from an earlier one. A content whose checksum is wrong makes its block unreadable: the old content is not what
//! belongs there.

use super::{Ext4Error, crc32c, short};
use crate::formats::block::Block;
use std::collections::{BTreeMap, HashMap};

const MAGIC: u32 = 0xc03b_3998;
const DESCRIPTOR: u32 = 1;
const COMMIT: u32 = 2;
const SUPERBLOCK: [u32; 2] = [3, 4];
const REVOKE: u32 = 5;
/// Length of the header of every block of the journal's own.
const HEADER: usize = 12;

const REVOKES: u32 = 0x1;
const WIDE: u32 = 0x2;
const ASYNC_COMMIT: u32 = 0x4;
const CHECKSUM_2: u32 = 0x8;
const CHECKSUM_3: u32 = 0x10;
const FAST_COMMIT: u32 = 0x20;
const KNOWN: u32 = REVOKES | WIDE | ASYNC_COMMIT | CHECKSUM_2 | CHECKSUM_3 | FAST_COMMIT;
/// Blocks of fast commits where the superblock does not say.
const FAST_BLOCKS: u32 = 256;

const ESCAPED: u32 = 1;
const SAME_UUID: u32 = 2;
const LAST_TAG: u32 = 8;

/// The journal's superblock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Whether transactions wait to be replayed.
    pub is_dirty: bool,
    /// Whether short records may follow the last transaction, which are not replayed here.
    pub has_fast_commits: bool,
    block_size: u32,
    first: u32,
    end: u32,
    start: u32,
    sequence: u32,
    features: u32,
    seed: u32,
}

impl Head {
    /// Parses the first block of the journal.
    pub fn parse(raw: &Block, block_size: u64) -> Result<Head, Ext4Error> {
        let word = |at: usize| raw.be32(at).ok_or_else(short("the journal's superblock"));
        if word(0)? != MAGIC || !SUPERBLOCK.contains(&word(4)?) {
            return Err(Ext4Error::damaged("the journal's superblock is none"));
        }
        let features = if word(4)? == SUPERBLOCK[1] { word(0x28)? } else { 0 };
        if features & !KNOWN != 0 {
            return Err(Ext4Error::Unsupported(format!("the journal's features {:#x}", features & !KNOWN)));
        }
        if features & (CHECKSUM_2 | CHECKSUM_3) != 0 {
            let (before, after) = (raw.part(0, 0xfc).unwrap_or_default(), raw.part(0x100, 0x300).unwrap_or_default());
            let found = [before, &[0; 4], after].iter().fold(!0, |crc, part| crc32c(crc, part));
            if word(0xfc)? != found {
                return Err(Ext4Error::damaged("the checksum of the journal's superblock is wrong"));
            }
        }
        let fast = match (features & FAST_COMMIT != 0, word(0x54)?) {
            (false, _) => 0,
            (true, 0) => FAST_BLOCKS,
            (true, count) => count,
        };
        let head = Head {
            is_dirty: word(0x1c)? != 0,
            has_fast_commits: features & FAST_COMMIT != 0,
            block_size: word(0xc)?,
            first: word(0x14)?,
            end: word(0x10)?.saturating_sub(fast),
            start: word(0x1c)?,
            sequence: word(0x18)?,
            features,
            seed: crc32c(!0, raw.part(0x30, 16).unwrap_or_default()),
        };
        let inside = head.first..head.end;
        if u64::from(head.block_size) != block_size || head.first == 0 || head.is_dirty && !inside.contains(&head.start)
        {
            return Err(Ext4Error::damaged("the journal's superblock is impossible"));
        }
        Ok(head)
    }

    fn has(&self, feature: u32) -> bool {
        self.features & feature != 0
    }

    fn checksums(&self) -> bool {
        self.has(CHECKSUM_2 | CHECKSUM_3)
    }
}

/// Where the newest content of a block of the filesystem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Newest {
    /// In this block of the journal; its first four bytes may have been replaced because they looked like a header.
    At {
        /// Block of the journal.
        block: u32,
        /// Whether the first four bytes have to be put back.
        escaped: bool,
    },
    /// Nowhere any more.
    Lost,
}

/// The four bytes that an escaped content begins with.
pub const ESCAPED_BYTES: [u8; 4] = MAGIC.to_be_bytes();

/// What a journal holds.
#[derive(Debug, Default)]
pub struct Replay {
    /// The newest content of each block that has one in the journal.
    pub blocks: BTreeMap<u64, Newest>,
    /// Number of whole transactions.
    pub transactions: u32,
    /// Contents with a wrong checksum.
    pub lost: u32,
    /// Why what follows the last whole transaction could not be read.
    pub cut: Option<Ext4Error>,
}

struct Tag {
    target: u64,
    block: u32,
    flags: u32,
    checksum: u32,
}

/// Reads all transactions that wait. `read` gives a block of the journal.
pub fn replay(head: &Head, read: &dyn Fn(u32) -> Result<Block, Ext4Error>) -> Result<Replay, Ext4Error> {
    let mut replay = Replay::default();
    if !head.is_dirty {
        return Ok(replay);
    }
    let mut applied: Vec<(u32, Tag)> = Vec::new();
    let mut revoked: HashMap<u64, u32> = HashMap::new();
    let (mut tags, mut revokes) = (Vec::new(), Vec::new());
    let (mut at, mut sequence) = (head.start, head.sequence);
    // A journal that is full of itself ends after one round.
    let mut left = head.end - head.first;
    let next = |at: u32, by: u32| {
        let at = at.saturating_add(by);
        if at >= head.end { head.first.saturating_add(at - head.end) } else { at }
    };
    while left > 0 {
        let raw = match read(at) {
            Ok(raw) => raw,
            Err(error) => {
                replay.cut = Some(error);
                break;
            }
        };
        if raw.be32(0) != Some(MAGIC) || raw.be32(8) != Some(sequence) {
            break;
        }
        match raw.be32(4) {
            Some(DESCRIPTOR) => {
                if head.checksums() && !has_good_tail(head, &raw) {
                    break;
                }
                let found = parse_tags(head, &raw)?;
                let count = u32::try_from(found.len()).unwrap_or(u32::MAX);
                for (nth, mut tag) in (1u32..).zip(found) {
                    tag.block = next(at, nth);
                    tags.push(tag);
                }
                at = next(at, count);
                left = left.saturating_sub(count);
            }
            Some(REVOKE) => {
                if head.checksums() && !has_good_tail(head, &raw) {
                    break;
                }
                revokes.extend(parse_revokes(head, &raw)?);
            }
            Some(COMMIT) => {
                if head.checksums() && !is_good_commit(head, &raw) {
                    break;
                }
                applied.extend(tags.drain(..).map(|tag| (sequence, tag)));
                for block in revokes.drain(..) {
                    revoked.insert(block, sequence);
                }
                replay.transactions = replay.transactions.saturating_add(1);
                sequence = sequence.wrapping_add(1);
            }
            _ => break,
        }
        at = next(at, 1);
        left = left.saturating_sub(1);
    }
    for (sequence, tag) in applied {
        // Sequence numbers run over: later means less than half a turn ahead.
        let is_later = |revoke: u32| revoke.wrapping_sub(sequence) < 1 << 31;
        if revoked.get(&tag.target).is_some_and(|revoke| is_later(*revoke)) {
            continue;
        }
        let good = match head.checksums() {
            true => read(tag.block).is_ok_and(|raw| is_good_content(head, sequence, &tag, raw.bytes())),
            false => true,
        };
        replay.lost = replay.lost.saturating_add(u32::from(!good));
        let escaped = tag.flags & ESCAPED != 0;
        replay.blocks.insert(tag.target, if good { Newest::At { block: tag.block, escaped } } else { Newest::Lost });
    }
    Ok(replay)
}

fn parse_tags(head: &Head, raw: &Block) -> Result<Vec<Tag>, Ext4Error> {
    let word = |at: usize| raw.be32(at).ok_or_else(short("a descriptor of the journal"));
    let length = match head.has(CHECKSUM_3) {
        true => 16,
        false => 8 + if head.has(CHECKSUM_2) { 2 } else { 0 } + if head.has(WIDE) { 4 } else { 0 },
    };
    let end = raw.bytes().len() - if head.checksums() { 4 } else { 0 };
    let mut found = Vec::new();
    let mut at = HEADER;
    while at + length <= end {
        let low = u64::from(word(at)?);
        let high = |place: usize| if head.has(WIDE) { word(place).map(|high| u64::from(high) << 32) } else { Ok(0) };
        let (flags, checksum) = match head.has(CHECKSUM_3) {
            true => (word(at + 4)?, word(at + 12)?),
            false => (word(at + 4)? & 0xffff, word(at + 4)? >> 16),
        };
        found.push(Tag { target: low | high(at + 8)?, block: 0, flags, checksum });
        at += length + if flags & SAME_UUID == 0 { 16 } else { 0 };
        if flags & LAST_TAG != 0 {
            break;
        }
    }
    Ok(found)
}

fn parse_revokes(head: &Head, raw: &Block) -> Result<Vec<u64>, Ext4Error> {
    let used = raw.be32(HEADER).ok_or_else(short("a revocation of the journal"))? as usize;
    let entries = raw.bytes().get(HEADER + 4..used).ok_or_else(|| Ext4Error::damaged("a revocation is damaged"))?;
    Ok(match head.has(WIDE) {
        true => entries.as_chunks::<8>().0.iter().map(|raw| u64::from_be_bytes(*raw)).collect(),
        false => entries.as_chunks::<4>().0.iter().map(|raw| u32::from_be_bytes(*raw).into()).collect(),
    })
}

/// Descriptors and revocations end with their checksum.
fn has_good_tail(head: &Head, raw: &Block) -> bool {
    let tail = raw.bytes().len() - 4;
    let found = [raw.part(0, tail).unwrap_or_default(), &[0; 4]].iter().fold(head.seed, |crc, part| crc32c(crc, part));
    raw.be32(tail) == Some(found)
}

fn is_good_commit(head: &Head, raw: &Block) -> bool {
    let (before, after) = (raw.part(0, 16).unwrap_or_default(), raw.bytes().get(20..).unwrap_or_default());
    raw.be32(16) == Some([before, &[0; 4], after].iter().fold(head.seed, |crc, part| crc32c(crc, part)))
}

fn is_good_content(head: &Head, sequence: u32, tag: &Tag, raw: &[u8]) -> bool {
    let found = crc32c(crc32c(head.seed, &sequence.to_be_bytes()), raw);
    if head.has(CHECKSUM_3) { found == tag.checksum } else { found & 0xffff == tag.checksum }
}
