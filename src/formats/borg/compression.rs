//! Compressed data: two bytes tell the method, the data follows.
//!
//! 00 00 stored, 01 00 an LZ4 block without a length, 02 00 an .xz stream, 03 00 a Zstandard frame, 04 00 obfuscated
//! (u32 big-endian length, then again method and data, then padding); anything else is a zlib stream whose own first two
//! bytes these are. Methods mix freely inside one repository.

use super::Malformed;
use flate2::{Decompress, FlushDecompress, Status};
use lz4_flex::block::DecompressError;
use lzma_rust2::XzReader;
use std::io::Read;
use std::ops::Range;
use zstd::bulk::Decompressor;

/// What an .xz dictionary may take: borg's strongest level uses 64 MiB.
const MOST_LZMA_KIB: u32 = 66 << 10;
/// Length of what tells the method.
pub const METHOD: usize = 2;
/// Method and length before obfuscated data.
const OBFUSCATED: usize = 6;

/// How long the plain content is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// Exactly so long.
    Exactly(usize),
    /// Unknown, but not longer.
    AtMost(usize),
}

impl Length {
    fn limit(self) -> usize {
        match self {
            Length::Exactly(length) | Length::AtMost(length) => length,
        }
    }
}

/// Whether the plain content is stored as it is, behind its first [`METHOD`] bytes.
pub fn is_stored(packed: &[u8]) -> bool {
    packed.starts_with(&[0; METHOD])
}

/// Unpacks; one per thread, because Zstandard keeps its working memory.
#[derive(Default)]
pub struct Unpacker {
    zstd: Option<Decompressor<'static>>,
}

impl Unpacker {
    /// Unpacks `packed` into `plain`, whose old content is dropped.
    pub fn unpack(&mut self, packed: &[u8], length: Length, plain: &mut Vec<u8>) -> Result<(), Malformed> {
        if let Some(range) = self.unpack_unless_stored(packed, length, plain)? {
            plain.clear();
            plain.extend_from_slice(packed.get(range).unwrap_or_default());
        }
        Ok(())
    }

    /// Unpacks `packed` into `plain`, which it must fill exactly.
    pub fn unpack_exactly(&mut self, packed: &[u8], plain: &mut [u8]) -> Result<(), Malformed> {
        let made = match self.method(packed, plain, false).map_err(Failure::told)? {
            Made::Plain(made) => made,
            Made::Stored(range) => {
                let stored = packed.get(range).unwrap_or_default();
                if let Some(plain) = plain.get_mut(..stored.len()) {
                    plain.copy_from_slice(stored);
                }
                stored.len()
            }
        };
        require(made, plain.len())
    }

    /// Unpacks `packed` into `plain`; says where in `packed` the plain content is when it is stored there as it is.
    pub fn unpack_unless_stored(
        &mut self,
        packed: &[u8],
        length: Length,
        plain: &mut Vec<u8>,
    ) -> Result<Option<Range<usize>>, Malformed> {
        // Few methods say how long the content is; metadata rarely shrinks to less than a third.
        let mut room = match length {
            Length::Exactly(length) => length,
            Length::AtMost(limit) => packed.len().saturating_mul(3).max(256 << 10).min(limit),
        };
        let made = loop {
            if plain.capacity() < room {
                // Growing would copy, and keep twice as much as is needed.
                *plain = Vec::with_capacity(room);
            }
            plain.resize(room, 0);
            match self.method(packed, plain, false) {
                Err(Failure::TooLong) if room < length.limit() => room = room.saturating_mul(2).min(length.limit()),
                other => break other.map_err(Failure::told)?,
            }
        };
        let (made, stored) = match made {
            Made::Plain(made) => (made, None),
            Made::Stored(range) => (range.len(), Some(range)),
        };
        plain.truncate(made);
        match length {
            Length::Exactly(expected) => require(made, expected).map(|()| stored),
            Length::AtMost(_) => Ok(stored),
        }
    }

    fn method(&mut self, packed: &[u8], plain: &mut [u8], inner: bool) -> Result<Made, Failure> {
        let Some((&[method, flags], data)) = packed.split_first_chunk::<METHOD>() else {
            return Err(Failure::bad("it is too short for compressed data"));
        };
        match (method, flags) {
            (0, 0) if data.len() > plain.len() => Err(Failure::TooLong),
            (0, 0) => Ok(Made::Stored(METHOD..packed.len())),
            (1, 0) => lz4(data, plain).map(Made::Plain),
            (2, 0) => stream(XzReader::new_mem_limit(data, false, MOST_LZMA_KIB), plain, "xz").map(Made::Plain),
            (3, 0) => self.zstd(data, plain).map(Made::Plain),
            (4, 0) if !inner => {
                let (size, rest) = data.split_first_chunk::<4>().ok_or_else(too_short)?;
                let size = usize::try_from(u32::from_be_bytes(*size)).map_err(|_| too_short())?;
                Ok(match self.method(rest.get(..size).ok_or_else(too_short)?, plain, true)? {
                    Made::Stored(range) => Made::Stored(OBFUSCATED + range.start..OBFUSCATED + range.end),
                    made => made,
                })
            }
            _ if method & 0x0f == 8 && (u16::from(method) << 8 | u16::from(flags)) % 31 == 0 => {
                zlib(packed, plain).map(Made::Plain)
            }
            _ => Err(Failure::bad(format!("it is compressed in an unknown way ({method}, {flags})"))),
        }
    }

    fn zstd(&mut self, data: &[u8], plain: &mut [u8]) -> Result<usize, Failure> {
        let wrong = |error: std::io::Error| Failure::bad(format!("the zstd data is damaged: {error}"));
        let size = zstd::zstd_safe::get_frame_content_size(data).ok().flatten();
        let size = size.and_then(|size| usize::try_from(size).ok());
        if size.ok_or_else(|| Failure::bad("the zstd data does not say its length"))? > plain.len() {
            return Err(Failure::TooLong);
        }
        let zstd = match &mut self.zstd {
            Some(zstd) => zstd,
            empty => empty.insert(Decompressor::new().map_err(wrong)?),
        };
        zstd.decompress_to_buffer(data, plain).map_err(wrong)
    }
}

/// Where the plain content is.
enum Made {
    /// So long, where it was to be put.
    Plain(usize),
    /// Still in the packed data.
    Stored(Range<usize>),
}

/// Why there is no plain content.
enum Failure {
    /// There is more of it than room.
    TooLong,
    Bad(Malformed),
}

impl Failure {
    fn bad(what: impl Into<String>) -> Failure {
        Failure::Bad(Malformed::new(what))
    }

    fn told(self) -> Malformed {
        match self {
            Failure::TooLong => Malformed::new("it unpacks to more than it may"),
            Failure::Bad(bad) => bad,
        }
    }
}

fn require(made: usize, expected: usize) -> Result<(), Malformed> {
    match made == expected {
        true => Ok(()),
        false => Err(Malformed::new(format!("it unpacks to {made} bytes instead of {expected}"))),
    }
}

fn too_short() -> Failure {
    Failure::bad("the compressed data ends early")
}

fn lz4(data: &[u8], plain: &mut [u8]) -> Result<usize, Failure> {
    lz4_flex::block::decompress_into(data, plain).map_err(|error| match error {
        DecompressError::OutputTooSmall { .. } => Failure::TooLong,
        error => Failure::bad(format!("the lz4 data is damaged: {error}")),
    })
}

fn zlib(data: &[u8], plain: &mut [u8]) -> Result<usize, Failure> {
    let mut inflate = Decompress::new(true);
    // One byte more than there is room for shows content that is too long.
    let mut beyond = [0];
    loop {
        let (from, to) = (count(inflate.total_in()), count(inflate.total_out()));
        let rest = data.get(from..).unwrap_or_default();
        let room = plain.get_mut(to..).filter(|room| !room.is_empty()).unwrap_or(&mut beyond);
        let status = inflate
            .decompress(rest, room, FlushDecompress::Finish)
            .map_err(|error| Failure::bad(format!("the zlib data is damaged: {error}")))?;
        let made = count(inflate.total_out());
        if made > plain.len() {
            return Err(Failure::TooLong);
        }
        match status {
            Status::StreamEnd => return Ok(made),
            _ if made == to && count(inflate.total_in()) == from => return Err(too_short()),
            _ => {}
        }
    }
}

fn count(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn stream(mut reader: impl Read, plain: &mut [u8], name: &str) -> Result<usize, Failure> {
    let mut made = 0;
    let mut beyond = [0];
    loop {
        let room = plain.get_mut(made..).filter(|room| !room.is_empty());
        let is_full = room.is_none();
        match reader.read(room.unwrap_or(&mut beyond)) {
            Ok(0) => return Ok(made),
            Ok(_) if is_full => return Err(Failure::TooLong),
            Ok(count) => made += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Failure::bad(format!("the {name} data is damaged: {error}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    fn unpack(packed: &[u8], length: Length) -> Result<Vec<u8>, Malformed> {
        let mut plain = Vec::new();
        Unpacker::default().unpack(packed, length, &mut plain).map(|()| plain)
    }

    fn forms(plain: &[u8]) -> Vec<Vec<u8>> {
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::new(6));
        zlib.write_all(plain).unwrap();
        let stored = [&[0, 0][..], plain].concat();
        let zstd = [&[3, 0][..], &zstd::bulk::compress(plain, 3).unwrap()].concat();
        let lz4 = [&[1, 0][..], &lz4_flex::block::compress(plain)].concat();
        let hidden = [&[4, 0][..], &(lz4.len() as u32).to_be_bytes(), &lz4, &[0; 9]].concat();
        vec![stored, zstd, lz4, hidden, zlib.finish().unwrap()]
    }

    #[test]
    fn every_method_gives_the_content_back_and_keeps_to_the_limit() {
        let plain: Vec<u8> = (0..500_000u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        for packed in forms(&plain) {
            assert!(unpack(&packed, Length::Exactly(plain.len())).unwrap() == plain);
            assert!(unpack(&packed, Length::AtMost(plain.len())).unwrap() == plain);
            assert!(unpack(&packed, Length::AtMost(plain.len() - 1)).is_err());
            assert!(unpack(&packed, Length::Exactly(plain.len() + 1)).is_err());
            assert!(unpack(&packed[..packed.len() / 2], Length::Exactly(plain.len())).is_err());
            let mut room = vec![1; plain.len()];
            Unpacker::default().unpack_exactly(&packed, &mut room).unwrap();
            assert!(room == plain);
            for wrong in [plain.len() - 1, plain.len() + 1] {
                assert!(Unpacker::default().unpack_exactly(&packed, &mut vec![0; wrong]).is_err());
            }
        }
    }

    #[test]
    fn nested_obfuscation_and_unknown_methods_are_refused() {
        let inner = [&[4, 0][..], &8u32.to_be_bytes(), &[4, 0, 0, 0, 0, 2, 0, 0]].concat();
        assert!(unpack(&inner, Length::AtMost(100)).is_err());
        assert!(unpack(&[9, 9, 1], Length::AtMost(100)).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_unpack_or_are_an_error(method in 0u8..5, raw in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = unpack(&[&[method, 0][..], &raw].concat(), Length::AtMost(10_000));
            let _ = unpack(&[&[0x78, 0x9c][..], &raw].concat(), Length::AtMost(10_000));
            let _ = unpack(&raw, Length::Exactly(50));
        }
    }
}
