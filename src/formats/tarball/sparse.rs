//! Maps of sparse files: which parts of a file the archive holds; the rest is holes.

use super::field::{decimal, number};
use super::{BLOCK, MOST_SEGMENTS};

/// One part of the file that has data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    /// Where it begins in the file.
    pub(super) offset: u64,
    /// Its length.
    pub(super) length: u64,
}

/// A checked map: segments ascend, do not touch each other's bytes, and end within the file.
#[derive(Debug, Default)]
pub(super) struct Map {
    segments: Vec<Segment>,
    size: u64,
}

impl Map {
    /// Checks `segments` against the file's `size` and the `packed` bytes that the archive holds for it.
    pub(super) fn new(mut segments: Vec<Segment>, size: u64, packed: u64) -> Result<Self, &'static str> {
        segments.retain(|segment| segment.length > 0);
        let (mut end, mut data) = (0u64, 0u64);
        for segment in &segments {
            if segment.offset < end {
                return Err("the parts of a sparse file overlap");
            }
            end = segment.offset.checked_add(segment.length).ok_or("a sparse file's map overflows")?;
            data = data.checked_add(segment.length).ok_or("a sparse file's map overflows")?;
        }
        if end > size {
            return Err("a sparse file's map reaches beyond its end");
        }
        if data != packed {
            return Err("a sparse file's map and its content differ in length");
        }
        Ok(Self { segments, size })
    }

    /// A file without holes.
    pub(super) fn dense(size: u64) -> Self {
        Self { segments: if size > 0 { vec![Segment { offset: 0, length: size }] } else { Vec::new() }, size }
    }

    /// Length of the file.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// What lies at `at`, in the segment `index` or before it: the hole's or the data's length up to its end.
    pub(super) fn run(&self, at: u64, index: usize) -> Run {
        match self.segments.get(index) {
            Some(segment) if at < segment.offset => Run::Hole(segment.offset - at),
            Some(segment) => Run::Data(segment.offset.saturating_add(segment.length).saturating_sub(at)),
            None => Run::Hole(self.size.saturating_sub(at)),
        }
    }
}

/// A stretch of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Run {
    /// Zeros that the archive does not hold.
    Hole(u64),
    /// Bytes that it holds.
    Data(u64),
}

/// Adds a segment, within the limit.
pub(super) fn push(segments: &mut Vec<Segment>, offset: u64, length: u64) -> Result<(), &'static str> {
    if segments.len() >= MOST_SEGMENTS {
        return Err("a sparse file has more parts than can be read");
    }
    segments.push(Segment { offset, length });
    Ok(())
}

/// Adds the descriptors of an old GNU header or of its extension blocks: pairs of 12-byte number fields, ended by an
/// empty one.
pub(super) fn push_old(segments: &mut Vec<Segment>, descriptors: &[tar::GnuSparseHeader]) -> Result<(), &'static str> {
    for descriptor in descriptors.iter().take_while(|descriptor| !descriptor.is_empty()) {
        let unsigned = |field| number(field).and_then(|value| u64::try_from(value).ok());
        let (offset, length) = unsigned(&descriptor.offset)
            .zip(unsigned(&descriptor.numbytes))
            .ok_or("a sparse file's map holds something that is not a number")?;
        push(segments, offset, length)?;
    }
    Ok(())
}

/// Reads the map of PAX sparse format 0.1: `offset,length,offset,length…`.
pub(super) fn parse_list(text: &[u8]) -> Result<Vec<Segment>, &'static str> {
    let mut segments = Vec::new();
    if text.is_empty() {
        return Ok(segments);
    }
    let mut numbers = text.split(|&b| b == b',').map(decimal);
    while let Some(offset) = numbers.next() {
        let pair = offset.zip(numbers.next().flatten());
        let (offset, length) = pair.ok_or("a sparse file's map is not a list of pairs of numbers")?;
        push(&mut segments, offset, length)?;
    }
    Ok(segments)
}

/// Reads the map of PAX sparse format 1.0, which precedes the content: decimal lines, first their number of pairs.
/// `next` yields the next block of the content.
pub(super) fn read_lines<E>(
    mut next: impl FnMut() -> Result<[u8; BLOCK], E>,
    bad: impl Fn(&'static str) -> E,
) -> Result<Vec<Segment>, E> {
    let mut segments = Vec::new();
    let (mut wanted, mut offset, mut line) = (None, None, Vec::new());
    loop {
        for byte in next()? {
            if byte != b'\n' {
                line.push(byte);
                if line.len() > 20 {
                    return Err(bad("a sparse file's map holds something that is not a number"));
                }
                continue;
            }
            let value =
                decimal(&line).ok_or_else(|| bad("a sparse file's map holds something that is not a number"))?;
            line.clear();
            match (wanted, offset.take()) {
                (None, _) if value > MOST_SEGMENTS as u64 => {
                    return Err(bad("a sparse file has more parts than can be read"));
                }
                (None, _) => wanted = Some(value),
                (Some(_), None) => offset = Some(value),
                (Some(_), Some(begin)) => push(&mut segments, begin, value).map_err(&bad)?,
            }
            if wanted == Some(segments.len() as u64) {
                // The rest of this block is padding.
                return Ok(segments);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(offset: u64, length: u64) -> Segment {
        Segment { offset, length }
    }

    #[test]
    fn a_map_that_overlaps_overflows_or_does_not_fit_is_refused() {
        assert!(Map::new(vec![segment(0, 10), segment(5, 10)], 100, 20).is_err());
        assert!(Map::new(vec![segment(u64::MAX, 10)], 100, 10).is_err());
        assert!(Map::new(vec![segment(95, 10)], 100, 10).is_err());
        assert!(Map::new(vec![segment(0, 10)], 100, 11).is_err());
        let map = Map::new(vec![segment(10, 5), segment(100, 0)], 100, 5).unwrap();
        assert_eq!(map.run(0, 0), Run::Hole(10));
        assert_eq!(map.run(12, 0), Run::Data(3));
        assert_eq!(map.run(15, 1), Run::Hole(85));
    }

    #[test]
    fn a_list_of_odd_length_is_refused() {
        assert_eq!(parse_list(b"0,1,5,2").unwrap(), vec![segment(0, 1), segment(5, 2)]);
        assert_eq!(parse_list(b"").unwrap(), vec![]);
        for bad in [&b"0"[..], b"0,1,", b"0,1,2", b"a,b", b","] {
            assert!(parse_list(bad).is_err());
        }
    }
}
