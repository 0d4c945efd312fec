//! Where each object lies, in little memory; and how that is found out from the segments alone.

use super::storage::fill_around;
use crate::formats::borg::ObjectId;
use crate::formats::borg::index::{self, Place};
use crate::formats::borg::segment::{self, HEAD, Head, Kind, MAGIC};
use std::fs::File;
use std::io::{self, Read};

/// How much is read at once while looking for the heads of entries.
const WINDOW: usize = 16 << 10;
/// How many bytes of possible entries are summed up in one file while looking for the next sound one.
const MOST_TRIED: u64 = 16 << 30;

/// The first half of an id. Two objects never share one by accident, and whoever makes two that do loses one of them:
/// what is read at a place must have the whole id.
type Key = [u8; 16];

fn key(id: &ObjectId) -> Key {
    id.first_chunk().copied().unwrap_or_default()
}

/// Sorted by id: 24 bytes for each object.
#[derive(Debug)]
pub(super) struct Index(Vec<(Key, Place)>);

impl Index {
    /// From an index file.
    pub(super) fn read(from: impl Read, length: u64) -> io::Result<Index> {
        let mut objects = Vec::new();
        index::parse(from, length, |id, place| {
            if objects.len() == objects.capacity() {
                // Twice as long would be twice as much as is needed.
                objects.reserve_exact((objects.len() / 8).max(1024));
            }
            objects.push((key(&id), place));
        })?;
        objects.sort_unstable();
        Ok(Index(objects))
    }

    pub(super) fn find(&self, id: &ObjectId) -> Option<Place> {
        self.0.get(self.position(id)?).map(|(_, place)| *place)
    }

    /// The how manieth object it is, in the order of their ids.
    pub(super) fn position(&self, id: &ObjectId) -> Option<usize> {
        let key = key(id);
        self.0.binary_search_by(|(other, _)| other.cmp(&key)).ok()
    }

    /// How many objects there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Where there are objects, in the order of the files.
    pub(super) fn places(&self) -> Vec<Place> {
        let mut places: Vec<Place> = self.0.iter().map(|(_, place)| *place).collect();
        places.sort_unstable();
        places
    }
}

/// What a deletion in the log means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deletions {
    /// The object is gone.
    Count,
    /// Nothing: until the repository is compacted, the object is still there.
    AreIgnored,
}

/// Reads the heads of all entries, in order: the last word on an object counts. What is broken is passed over; whoever
/// misses an object notices.
pub(super) fn replay(segments: impl Iterator<Item = (u32, File)>, deletions: Deletions) -> Index {
    let (mut put, mut deleted) = (Vec::new(), Vec::new());
    for (number, file) in segments {
        let mut walk = Walk { file: &file, window: Vec::new(), start: 0, tried: 0 };
        // A file that cannot be read has no objects; each of them will be reported as missing.
        let _ = walk.run(|offset, head| {
            let place = Place { segment: number, offset };
            match head.kind {
                Kind::Put(id) => put.push((key(&id), place)),
                Kind::Delete(id) if deletions == Deletions::Count => deleted.push((key(&id), place)),
                Kind::Delete(_) | Kind::Commit => {}
            }
        });
    }
    // The numbers of segments grow with time, so places are in the order of time. The latest first.
    for log in [&mut put, &mut deleted] {
        log.sort_unstable_by(|a, b| b.cmp(a));
        log.dedup_by_key(|(key, _)| *key);
    }
    put.retain(|(key, place)| {
        let at = deleted.binary_search_by(|(other, _)| key.cmp(other)).ok();
        at.and_then(|at| deleted.get(at)).is_none_or(|(_, end)| end < place)
    });
    put.reverse();
    Index(put)
}

/// Goes from entry to entry of one segment file.
struct Walk<'a> {
    file: &'a File,
    window: Vec<u8>,
    start: u64,
    tried: u64,
}

impl Walk<'_> {
    fn run(&mut self, mut seen: impl FnMut(u32, &Head)) -> io::Result<()> {
        let length = self.file.metadata()?.len();
        let mut at = MAGIC.len() as u64;
        let mut before: Option<(u64, Head)> = None;
        while at < length {
            let head = segment::parse(self.bytes(at, HEAD)?).ok();
            let Some(head) = head.filter(|head| at + u64::from(head.size) <= length) else {
                // Either this head is broken, or the length of the entry before led astray.
                let astray = match before.take() {
                    Some((start, head)) if !self.is_sound(start, &head)? => start,
                    _ => at,
                };
                match self.next_sound(astray + 1, length)? {
                    Some(next) => at = next,
                    None => return Ok(()),
                }
                continue;
            };
            if let Ok(offset) = u32::try_from(at) {
                seen(offset, &head);
            }
            before = Some((at, head));
            at += u64::from(head.size);
        }
        Ok(())
    }

    /// The next place with an entry whose checksum is right.
    fn next_sound(&mut self, from: u64, length: u64) -> io::Result<Option<u64>> {
        for at in from..length {
            let Ok(head) = segment::parse(self.bytes(at, HEAD)?) else { continue };
            if at + u64::from(head.size) > length {
                continue;
            }
            self.tried += u64::from(head.size);
            if self.tried > MOST_TRIED {
                return Ok(None);
            }
            if self.is_sound(at, &head)? {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    fn is_sound(&self, at: u64, head: &Head) -> io::Result<bool> {
        let mut entry = vec![0; head.size as usize];
        let (got, is_whole) = fill_around(self.file, &mut entry, at)?;
        Ok(is_whole && got == entry.len() && segment::is_sound(&entry, head))
    }

    /// Up to `count` bytes from `at`; fewer where the file ends.
    fn bytes(&mut self, at: u64, count: usize) -> io::Result<&[u8]> {
        let inside = at.checked_sub(self.start).and_then(|skip| usize::try_from(skip).ok());
        let is_there = inside.is_some_and(|skip| skip + count <= self.window.len());
        if !is_there {
            self.window.resize(WINDOW, 0);
            let (got, _) = fill_around(self.file, &mut self.window, at)?;
            self.window.truncate(got);
            self.start = at;
        }
        let skip = usize::try_from(at - self.start).unwrap_or(usize::MAX);
        let end = skip.saturating_add(count).min(self.window.len());
        Ok(self.window.get(skip..end).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn entry(tag: u8, id: u8, content: &[u8]) -> Vec<u8> {
        let mut rest = ((HEAD + content.len()) as u32).to_le_bytes().to_vec();
        rest.push(tag);
        rest.extend([id; 32]);
        rest.extend(content);
        [&crc32fast::hash(&rest).to_le_bytes()[..], &rest].concat()
    }

    fn index_of(entries: &[Vec<u8>]) -> Index {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(MAGIC).unwrap();
        file.write_all(&entries.concat()).unwrap();
        replay([(5, file)].into_iter(), Deletions::Count)
    }

    fn has(index: &Index, id: u8) -> bool {
        index.find(&[id; 32]).is_some()
    }

    #[test]
    fn the_last_word_on_an_object_counts() {
        let entries = [entry(0, 1, b"old"), entry(0, 2, b"x"), entry(1, 2, b""), entry(0, 1, b"new")];
        let index = index_of(&entries);
        let offset = 8 + entries[..3].iter().map(Vec::len).sum::<usize>() as u32;
        assert_eq!(index.find(&[1; 32]), Some(Place { segment: 5, offset }));
        assert!(!has(&index, 2));
    }

    #[test]
    fn objects_after_a_broken_head_or_a_wrong_length_are_found_again() {
        let good = [entry(0, 1, b"first"), entry(0, 2, &[7; 300]), entry(0, 3, b"third"), entry(0, 4, b"fourth")];
        let mut broken = good.clone();
        broken[1][8] = 9;
        let index = index_of(&broken);
        assert!(has(&index, 1) && !has(&index, 2) && has(&index, 3) && has(&index, 4));
        for length in [42u32, 341 + 10, 341 + 60, 10_000, 0, u32::MAX] {
            let mut broken = good.clone();
            broken[1][4..8].copy_from_slice(&length.to_le_bytes());
            let index = index_of(&broken);
            assert!(has(&index, 1) && has(&index, 3) && has(&index, 4), "{length}");
        }
        let index = index_of(&[good[0].clone(), good[1][..100].to_vec()]);
        assert!(has(&index, 1) && !has(&index, 2));
    }
}
