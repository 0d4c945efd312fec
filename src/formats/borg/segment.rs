//! Segment files: the log of everything that was put into a repository.
//!
//! `"BORG_SEG"`, then entries: u32 CRC-32 of all that follows in the entry, u32 size of the whole entry, u8 tag (0 put,
//! 1 delete, 2 commit), for put and delete the 32 bytes of the object's id, for put the object.

use super::{LONGEST_ENTRY, Malformed, ObjectId};

/// The first bytes of a segment file.
pub const MAGIC: &[u8; 8] = b"BORG_SEG";
/// Where a repository keeps its segment files, in folders with numbers for names (Borg documentation, "Data structures
/// and file formats", "Segments").
pub const FOLDER: &str = "data";
/// The first bytes of a segment file of Attic, whose successor borg is.
pub const MAGIC_OF_ATTIC: &[u8; 8] = b"ATTICSEG";
/// The entry that completes a transaction.
pub const COMMIT: [u8; 9] = [0x40, 0xf4, 0x3c, 0x25, 9, 0, 0, 0, 2];
/// Length of the part that every entry has.
const SHORTEST: u32 = 9;
/// Length of an entry's head with an id.
pub const HEAD: usize = 41;

/// The head of one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The checksum that the rest of the entry must have.
    pub crc: u32,
    /// Length of the whole entry.
    pub size: u32,
    /// What it says.
    pub kind: Kind,
}

/// What an entry says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The object has the content that follows.
    Put(ObjectId),
    /// The object is gone.
    Delete(ObjectId),
    /// Everything up to here belongs together.
    Commit,
}

/// Reads the head of an entry; `raw` may be shorter than [`HEAD`] only where the entry is.
pub fn parse(raw: &[u8]) -> Result<Head, Malformed> {
    let word = |at: usize| -> Option<u32> { Some(u32::from_le_bytes(raw.get(at..at + 4)?.try_into().ok()?)) };
    let early = || Malformed::new("the file ends inside an entry");
    let (crc, size) = (word(0).ok_or_else(early)?, word(4).ok_or_else(early)?);
    if !(SHORTEST..=LONGEST_ENTRY).contains(&size) {
        return Err(Malformed::new(format!("an entry claims to have {size} bytes")));
    }
    let id = || -> Result<ObjectId, Malformed> {
        if size < HEAD as u32 {
            return Err(Malformed::new("an entry is too short for the id of its object"));
        }
        raw.get(9..HEAD).and_then(|id| id.try_into().ok()).ok_or_else(early)
    };
    let kind = match raw.get(8) {
        Some(0) => Kind::Put(id()?),
        Some(1) if size == HEAD as u32 => Kind::Delete(id()?),
        Some(2) if size == SHORTEST => Kind::Commit,
        Some(other) => return Err(Malformed::new(format!("an entry of the unknown kind {other}"))),
        None => return Err(early()),
    };
    Ok(Head { crc, size, kind })
}

/// Whether a whole entry has the checksum that its head names.
pub fn is_sound(entry: &[u8], head: &Head) -> bool {
    let mut checksum = Checksum::default();
    checksum.update(entry.get(4..).unwrap_or_default());
    entry.len() >= 4 && checksum.fits(head)
}

/// The checksum of an entry that comes in parts; its own four bytes at the begin do not count.
#[derive(Debug, Default)]
pub struct Checksum(crc32fast::Hasher);

impl Checksum {
    /// Takes the next part.
    pub fn update(&mut self, part: &[u8]) {
        self.0.update(part);
    }

    /// Whether it is the one that the head names.
    pub fn fits(self, head: &Head) -> bool {
        self.0.finalize() == head.crc
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_commit_entry_is_sound_and_every_flipped_byte_is_noticed() {
        let head = parse(&COMMIT).unwrap();
        assert_eq!((head.kind, head.size), (Kind::Commit, 9));
        assert!(is_sound(&COMMIT, &head));
        for at in 0..9 {
            let mut bad = COMMIT;
            bad[at] ^= 1;
            assert!(parse(&bad).map_or(true, |head| !is_sound(&bad, &head)), "byte {at}");
        }
    }

    #[test]
    fn sizes_outside_the_limits_are_refused() {
        for (size, tag) in [(8u32, 2u8), (LONGEST_ENTRY + 1, 0), (40, 0), (42, 1), (10, 2), (41, 3)] {
            let mut raw = vec![0; HEAD];
            raw[4..8].copy_from_slice(&size.to_le_bytes());
            raw[8] = tag;
            assert!(parse(&raw).is_err(), "{size} {tag}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_head_or_an_error(raw in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = parse(&raw);
        }
    }
}
