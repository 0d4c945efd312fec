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

    /// Unpacks `packed` into `plain`; says where in `packed` the plain content is when it is stored there as it is.
    pub fn unpack_unless_stored(
        &mut self,
        packed: &[u8],
        length: Length,
        plain: &mut Vec<u8>,
    ) -> Result<Option<Range<usize>>, Malformed> {
        let stored = self.method(packed, length, plain, false)?;
        let made = stored.as_ref().map_or(plain.len(), ExactSizeIterator::len);
        match length {
            Length::Exactly(expected) if made != expected => {
                Err(Malformed::new(format!("it unpacks to {made} bytes instead of {expected}")))
            }
            _ => Ok(stored),
        }
    }

    fn method(
        &mut self,
        packed: &[u8],
        length: Length,
        plain: &mut Vec<u8>,
        inner: bool,
    ) -> Result<Option<Range<usize>>, Malformed> {
        let Some((&[method, flags], data)) = packed.split_first_chunk::<METHOD>() else {
            return Err(Malformed::new("it is too short for compressed data"));
        };
        let limit = length.limit();
        match (method, flags) {
            (0, 0) if data.len() > limit => Err(too_long()),
            (0, 0) => Ok(Some(METHOD..packed.len())),
            (1, 0) => lz4(data, length, plain).map(|()| None),
            (2, 0) => stream(XzReader::new_mem_limit(data, false, MOST_LZMA_KIB), limit, plain, "xz").map(|()| None),
            (3, 0) => self.zstd(data, limit, plain).map(|()| None),
            (4, 0) if !inner => {
                let (size, rest) = data.split_first_chunk::<4>().ok_or_else(too_short)?;
                let size = usize::try_from(u32::from_be_bytes(*size)).map_err(|_| too_short())?;
                let stored = self.method(rest.get(..size).ok_or_else(too_short)?, length, plain, true)?;
                Ok(stored.map(|range| OBFUSCATED + range.start..OBFUSCATED + range.end))
            }
            _ if method & 0x0f == 8 && (u16::from(method) << 8 | u16::from(flags)) % 31 == 0 => {
                zlib(packed, limit, plain).map(|()| None)
            }
            _ => Err(Malformed::new(format!("it is compressed in an unknown way ({method}, {flags})"))),
        }
    }

    fn zstd(&mut self, data: &[u8], limit: usize, plain: &mut Vec<u8>) -> Result<(), Malformed> {
        let wrong = |error: std::io::Error| Malformed::new(format!("the zstd data is damaged: {error}"));
        let size = zstd::zstd_safe::get_frame_content_size(data).ok().flatten();
        let size = size.and_then(|size| usize::try_from(size).ok());
        let size = size.ok_or_else(|| Malformed::new("the zstd data does not say its length"))?;
        if size > limit {
            return Err(too_long());
        }
        plain.clear();
        plain.reserve_exact(size);
        let zstd = match &mut self.zstd {
            Some(zstd) => zstd,
            empty => empty.insert(Decompressor::new().map_err(wrong)?),
        };
        zstd.decompress_to_buffer(data, plain).map(|_| ()).map_err(wrong)
    }
}

fn too_long() -> Malformed {
    Malformed::new("it unpacks to more than it may")
}

fn too_short() -> Malformed {
    Malformed::new("the compressed data ends early")
}

fn lz4(data: &[u8], length: Length, plain: &mut Vec<u8>) -> Result<(), Malformed> {
    // The block does not say how long it is; metadata rarely shrinks to less than a third.
    let mut room = match length {
        Length::Exactly(length) => length,
        Length::AtMost(limit) => data.len().saturating_mul(3).max(256 << 10).min(limit),
    };
    loop {
        if plain.capacity() < room {
            // Growing would copy, and keep twice as much as is needed.
            *plain = Vec::with_capacity(room);
        }
        plain.resize(room, 0);
        match lz4_flex::block::decompress_into(data, plain) {
            Ok(made) => {
                plain.truncate(made);
                return Ok(());
            }
            Err(DecompressError::OutputTooSmall { .. }) if room < length.limit() => {
                room = room.saturating_mul(2).min(length.limit());
            }
            Err(error) => return Err(Malformed::new(format!("the lz4 data is damaged: {error}"))),
        }
    }
}

fn zlib(data: &[u8], limit: usize, plain: &mut Vec<u8>) -> Result<(), Malformed> {
    plain.clear();
    let mut inflate = Decompress::new(true);
    loop {
        let at = usize::try_from(inflate.total_in()).unwrap_or(usize::MAX);
        let made = plain.len();
        if plain.capacity() == made {
            // One byte more than allowed shows content that is too long.
            plain.reserve_exact((made.max(64 << 10)).min((limit + 1).saturating_sub(made)));
        }
        let rest = data.get(at..).unwrap_or_default();
        let status = inflate
            .decompress_vec(rest, plain, FlushDecompress::Finish)
            .map_err(|error| Malformed::new(format!("the zlib data is damaged: {error}")))?;
        if plain.len() > limit {
            return Err(too_long());
        }
        match status {
            Status::StreamEnd => return Ok(()),
            _ if plain.len() == made && inflate.total_in() as usize == at => return Err(too_short()),
            _ => {}
        }
    }
}

fn stream(reader: impl Read, limit: usize, plain: &mut Vec<u8>, name: &str) -> Result<(), Malformed> {
    plain.clear();
    let most = (limit as u64).saturating_add(1);
    reader
        .take(most)
        .read_to_end(plain)
        .map_err(|error| Malformed::new(format!("the {name} data is damaged: {error}")))?;
    if plain.len() > limit { Err(too_long()) } else { Ok(()) }
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
