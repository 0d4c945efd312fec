//! The index file `index.T`: where each object lies after transaction T. Only a hint: whoever reads an object checks it.
//!
//! `"BORG_IDX"`, i32 number of entries, i32 number of buckets, i8 length of a key (32), i8 length of a value (8), then
//! the buckets: id, u32 segment, u32 offset. Segment 0xffffffff is an empty bucket, 0xfffffffe a deleted entry.

use super::{Malformed, ObjectId};
use std::io::{self, Read};

const MAGIC: &[u8] = b"BORG_IDX";
const HEAD: usize = 18;
const BUCKET: usize = 40;
/// Segment numbers above this mark buckets without an object.
const LAST_SEGMENT: u32 = 0xffff_fbff;
/// Most buckets that are accepted: 2.5 GiB of index, more than a petabyte of data.
const MOST_BUCKETS: u64 = 1 << 26;

/// Where an object lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Number of the segment file.
    pub segment: u32,
    /// Offset of the entry in it.
    pub offset: u32,
}

/// Reads an index of `length` bytes and tells each object; they come in no order.
pub fn parse(mut from: impl Read, length: u64, mut tell: impl FnMut(ObjectId, Place)) -> io::Result<()> {
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, Malformed::new(what));
    let mut head = [0; HEAD];
    from.read_exact(&mut head)?;
    let word = |at: usize| head.get(at..at + 4).and_then(|raw| raw.try_into().ok()).map(u32::from_le_bytes);
    let (Some(entries), Some(buckets)) = (word(8), word(12)) else { return Err(wrong("the index is too short")) };
    let fits = u64::from(buckets) * BUCKET as u64 + HEAD as u64 == length;
    if !head.starts_with(MAGIC) || !head.ends_with(&[32, 8]) || !fits || u64::from(buckets) > MOST_BUCKETS {
        return Err(wrong("the index has another form or length"));
    }
    let mut told = 0;
    let mut buffer = vec![0; BUCKET * 1024];
    let mut left = buckets as usize;
    while left > 0 {
        let count = left.min(1024);
        let part = buffer.get_mut(..count * BUCKET).unwrap_or_default();
        from.read_exact(part)?;
        for bucket in part.chunks_exact(BUCKET) {
            if let Some((id, place)) = entry(bucket).filter(|(_, place)| place.segment <= LAST_SEGMENT) {
                told += 1;
                tell(id, place);
            }
        }
        left -= count;
    }
    if told != entries {
        return Err(wrong("the index has more or fewer entries than it says"));
    }
    Ok(())
}

fn entry(bucket: &[u8]) -> Option<(ObjectId, Place)> {
    let (id, value) = bucket.split_first_chunk::<32>()?;
    let (segment, offset) = value.split_first_chunk::<4>()?;
    let place = Place { segment: u32::from_le_bytes(*segment), offset: u32::from_le_bytes(offset.try_into().ok()?) };
    Some((*id, place))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(entries: u32, buckets: &[(u8, u32, u32)]) -> Vec<u8> {
        let mut raw = MAGIC.to_vec();
        raw.extend(entries.to_le_bytes());
        raw.extend((buckets.len() as u32).to_le_bytes());
        raw.extend([32, 8]);
        for (id, segment, offset) in buckets {
            raw.extend([*id; 32]);
            raw.extend(segment.to_le_bytes());
            raw.extend(offset.to_le_bytes());
        }
        raw
    }

    fn places(raw: &[u8], length: u64) -> io::Result<Vec<(ObjectId, Place)>> {
        let mut told = Vec::new();
        parse(raw, length, |id, place| told.push((id, place))).map(|()| told)
    }

    #[test]
    fn empty_and_deleted_buckets_are_left_out() {
        let raw = file(2, &[(1, 7, 8), (2, u32::MAX, 0), (3, 0, 50), (4, u32::MAX - 1, 0)]);
        let places = places(&raw, raw.len() as u64).unwrap();
        assert_eq!(places, [([1; 32], Place { segment: 7, offset: 8 }), ([3; 32], Place { segment: 0, offset: 50 })]);
    }

    #[test]
    fn an_index_of_another_length_is_refused() {
        let raw = file(1, &[(1, 7, 8)]);
        assert!(places(&raw, raw.len() as u64 + 1).is_err());
        assert!(places(&raw[..raw.len() - 1], raw.len() as u64).is_err());
        assert!(places(&file(2, &[(1, 7, 8)]), raw.len() as u64).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_index_or_an_error(tail in proptest::collection::vec(any::<u8>(), 0..120)) {
            let raw = [MAGIC, &tail].concat();
            let _ = places(&raw, raw.len() as u64);
        }
    }
}
