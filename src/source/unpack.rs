//! Decompression: gzip (RFC 1952), Zstandard (RFC 8878) or none, told apart by their first bytes.
//!
//! Reads to the true end of the file and checks every checksum that the format has. What is wrong with the end of the
//! file, but may leave the content whole, is told in [`Unpacked`]; the reader of the content decides.

use super::medium::{Feed, Medium};
use super::stream::Sink;
use super::{Proof, ReadError};
use crate::model::digest::Sha256Digest;
use crate::model::finding::{Finding, Severity};
use flate2::{Decompress, FlushDecompress, Status};
use std::io::{self, Read};
use zstd::stream::raw::{DParameter, Decoder, Operation};

/// Longest gzip header: its name and comment have no limit of their own.
const LONGEST_HEADER: usize = 128 << 10;
/// Largest Zstandard window, as a power of two. `zstd -19` uses 2^23; more than this would not fit a small board.
const WINDOW: u32 = 24;

/// How a file ended.
#[derive(Debug, Clone)]
pub(super) struct Unpacked {
    /// What the format's own checksums prove.
    pub(super) proof: Proof,
    /// Oddities after the content.
    pub(super) findings: Vec<Finding>,
    /// Where the file ended although its gzip stream did not; all that was packed up to there was handed out.
    pub(super) cut: Option<u64>,
    /// A checksum that was wrong, in words.
    pub(super) mismatch: Option<String>,
    /// The file's own digest, when it was asked for.
    pub(super) digest: Option<Sha256Digest>,
    /// How long the file is.
    pub(super) length: u64,
}

/// The formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    Gzip,
    Zstd,
    None,
}

/// Unpacks the whole of `file` into `sink`.
pub(super) fn unpack(medium: &Medium, hash: bool, sink: &mut Sink) -> Result<Unpacked, ReadError> {
    let mut input = Input::new(medium, hash);
    let mut unpacked = match packing(input.peek(4)?) {
        Packing::Gzip => gunzip(&mut input, sink)?,
        Packing::Zstd => unzstd(&mut input, sink)?,
        Packing::None => copy(&mut input, sink)?,
    };
    sink.flush(input.offset)?;
    unpacked.length = input.feed.at();
    unpacked.digest = input.feed.take_hasher().map(Sha256Digest::from_hasher);
    if medium.is_sealed() {
        unpacked.proof = Proof::Checked("age's authentication code of every part".into());
    }
    Ok(unpacked)
}

fn packing(magic: &[u8]) -> Packing {
    match magic {
        [0x1f, 0x8b, ..] => Packing::Gzip,
        _ if is_zstd(magic) => Packing::Zstd,
        _ => Packing::None,
    }
}

/// A frame of Zstandard, or one of its skippable frames.
fn is_zstd(magic: &[u8]) -> bool {
    matches!(magic, [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
}

impl Unpacked {
    fn proven(proof: Proof) -> Self {
        Self { proof, findings: Vec::new(), cut: None, mismatch: None, digest: None, length: 0 }
    }
}

fn copy(input: &mut Input, sink: &mut Sink) -> Result<Unpacked, ReadError> {
    loop {
        let part = input.peek(1)?;
        if part.is_empty() {
            return Ok(Unpacked::proven(Proof::Unproven("a plain tar archive has no checksum of its content".into())));
        }
        let room = sink.room();
        let count = part.len().min(room.len());
        if let (Some(to), Some(from)) = (room.get_mut(..count), part.get(..count)) {
            to.copy_from_slice(from);
        }
        input.consume(count);
        sink.advance(count, input.offset)?;
    }
}

fn gunzip(input: &mut Input, sink: &mut Sink) -> Result<Unpacked, ReadError> {
    let mut unpacked = Unpacked::proven(Proof::Checked("gzip CRC-32".into()));
    let mut inflate = Decompress::new(false);
    loop {
        read_gzip_header(input)?;
        inflate.reset(false);
        let mut crc = crc32fast::Hasher::new();
        if !inflate_member(input, sink, &mut inflate, &mut crc)? {
            unpacked.cut = Some(input.offset);
            return Ok(unpacked);
        }
        let (crc, length) = (crc.finalize(), inflate.total_out() as u32);
        let place = input.offset;
        let trailer = input.next(8)?;
        // Of a cut trailer, what is there must be right.
        let expected = [crc.to_le_bytes(), length.to_le_bytes()].concat();
        if !expected.starts_with(&trailer) && unpacked.mismatch.is_none() {
            unpacked.mismatch = Some(format!("the gzip checksum at byte {place} of the file is wrong"));
        }
        if trailer.len() < expected.len() {
            unpacked.cut = Some(input.offset);
            return Ok(unpacked);
        }
        if !matches!(input.peek(2)?, [0x1f, 0x8b, ..]) {
            unpacked.findings.extend(read_rest(input)?);
            return Ok(unpacked);
        }
    }
}

/// Inflates one member; `false` when the file ends before the member does.
fn inflate_member(
    input: &mut Input,
    sink: &mut Sink,
    inflate: &mut Decompress,
    crc: &mut crc32fast::Hasher,
) -> Result<bool, ReadError> {
    loop {
        let at = input.offset;
        let part = input.peek(1)?;
        let at_end = part.is_empty();
        let room = sink.room();
        let (before_in, before_out) = (inflate.total_in(), inflate.total_out());
        let status = inflate
            .decompress(part, room, FlushDecompress::None)
            .map_err(|_| corrupt(at, "the compressed data cannot be unpacked"))?;
        let consumed = usize::try_from(inflate.total_in() - before_in).unwrap_or_default();
        let produced = usize::try_from(inflate.total_out() - before_out).unwrap_or_default();
        crc.update(room.get(..produced).unwrap_or_default());
        input.consume(consumed);
        sink.advance(produced, input.offset)?;
        match status {
            Status::StreamEnd => return Ok(true),
            _ if consumed > 0 || produced > 0 => {}
            _ if at_end => return Ok(false),
            _ => return Err(corrupt(at, "the compressed data cannot be unpacked")),
        }
    }
}

/// RFC 1952, 2.3.
fn read_gzip_header(input: &mut Input) -> Result<(), ReadError> {
    let at = input.offset;
    let cut = || corrupt(at, "the file ends inside a gzip header");
    let mut header = input.next(10)?;
    let &[0x1f, 0x8b, method, flags, ..] = header.as_slice() else { return Err(cut()) };
    if header.len() < 10 {
        return Err(cut());
    }
    if method != 8 || flags & 0xe0 != 0 {
        return Err(corrupt(at, "a gzip header has an unknown method or unknown flags"));
    }
    if flags & 4 != 0 {
        let length = input.next(2)?;
        let &[low, high] = length.as_slice() else { return Err(cut()) };
        let wanted = usize::from(u16::from_le_bytes([low, high]));
        let extra = input.next(wanted)?;
        if extra.len() < wanted {
            return Err(cut());
        }
        header.extend(length);
        header.extend(extra);
    }
    // The file's name and a comment, each ended by a NUL byte.
    for flag in [8, 16] {
        let mut open = flags & flag != 0;
        while open {
            let next = input.next(1)?;
            let &[byte] = next.as_slice() else { return Err(cut()) };
            header.push(byte);
            if header.len() > LONGEST_HEADER {
                return Err(corrupt(at, "a gzip header is too long"));
            }
            open = byte != 0;
        }
    }
    if flags & 2 != 0 {
        let stored = input.next(2)?;
        let crc = crc32fast::hash(&header) as u16;
        if stored != crc.to_le_bytes() {
            return Err(corrupt(at, "the checksum of a gzip header is wrong"));
        }
    }
    Ok(())
}

fn unzstd(input: &mut Input, sink: &mut Sink) -> Result<Unpacked, ReadError> {
    let mut decoder = Decoder::new().map_err(ReadError::Io)?;
    decoder.set_parameter(DParameter::WindowLogMax(WINDOW)).map_err(ReadError::Io)?;
    let (mut unchecked, mut frames) = (false, 0u64);
    loop {
        // RFC 8878, 3.1.1.1.1: the third bit of the descriptor says that a checksum follows the frame.
        match input.peek(5)? {
            [0x28, 0xb5, 0x2f, 0xfd, descriptor, ..] => {
                unchecked |= descriptor & 4 == 0;
                frames += 1;
            }
            magic if is_zstd(magic) => {}
            _ => break,
        }
        decoder.reinit().map_err(ReadError::Io)?;
        loop {
            let at = input.offset;
            let part = input.peek(1)?;
            let at_end = part.is_empty();
            let status = decoder.run_on_buffers(part, sink.room()).map_err(|error| describe_zstd(at, &error))?;
            input.consume(status.bytes_read);
            sink.advance(status.bytes_written, input.offset)?;
            if status.remaining == 0 {
                break;
            }
            if status.bytes_read == 0 && status.bytes_written == 0 {
                let what =
                    if at_end { "the compressed data ends early" } else { "the compressed data cannot be unpacked" };
                return Err(corrupt(at, what));
            }
        }
    }
    let proof = match (frames, unchecked) {
        (0, _) => Proof::Unproven("the file holds no Zstandard frame with content".into()),
        (_, true) => Proof::Unproven("the Zstandard frames carry no checksum".into()),
        (_, false) => Proof::Checked("Zstandard XXH64".into()),
    };
    let mut unpacked = Unpacked::proven(proof);
    unpacked.findings.extend(read_rest(input)?);
    Ok(unpacked)
}

fn describe_zstd(at: u64, error: &io::Error) -> ReadError {
    let what = error.to_string();
    if what.contains("too much memory") {
        let what = "is packed with a Zstandard window of more than 16 MiB; unpack it with 'zstd -d --long=31' first";
        return ReadError::Unsupported { entry: "the archive".into(), what: what.into() };
    }
    corrupt(at, format!("the compressed data cannot be unpacked ({what})"))
}

/// What follows the last compressed stream: nothing, padding, or something that does not belong there.
fn read_rest(input: &mut Input) -> Result<Option<Finding>, ReadError> {
    let at = input.offset;
    let (mut length, mut zero) = (0u64, true);
    loop {
        let part = input.peek(1)?;
        if part.is_empty() {
            break;
        }
        zero &= part.iter().all(|&byte| byte == 0);
        let count = part.len();
        length += count as u64;
        input.consume(count);
    }
    Ok(match (length, zero) {
        (0, _) => None,
        (_, true) => {
            Some(Finding::new(Severity::Note, "archive", format!("{length} zero bytes follow the archive"), ""))
        }
        (_, false) => Some(Finding::new(
            Severity::Warning,
            "archive",
            format!("{length} bytes that are not part of the archive follow it, from byte {at} of the file"),
            "the content is complete and agrees with its checksum; compare with the place where the file comes from",
        )),
    })
}

fn corrupt(at: u64, what: impl Into<String>) -> ReadError {
    ReadError::Corrupt { place: format!("at byte {at} of the file"), what: what.into() }
}

/// The file, read in order, from its beginning.
struct Input<'a> {
    feed: Feed<'a>,
    /// Where the next byte that is handed out lies in the file; in what was sealed, where that is the case.
    offset: u64,
    buffer: Vec<u8>,
    start: usize,
}

impl<'a> Input<'a> {
    fn new(medium: &'a Medium, hash: bool) -> Self {
        Self { feed: Feed::new(medium, hash), offset: 0, buffer: Vec::new(), start: 0 }
    }

    /// What comes next: at least `wanted` bytes unless the file ends before, nothing at its end.
    fn peek(&mut self, wanted: usize) -> Result<&[u8], ReadError> {
        while self.buffer.len() - self.start < wanted {
            self.buffer.drain(..self.start);
            self.start = 0;
            if self.feed.more(&mut self.buffer)? == 0 {
                break;
            }
        }
        Ok(self.buffer.get(self.start..).unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        self.start += count;
        self.offset += count as u64;
    }

    /// The next `wanted` bytes, fewer where the file ends.
    fn next(&mut self, wanted: usize) -> Result<Vec<u8>, ReadError> {
        let rest = self.peek(wanted)?;
        let bytes = rest.get(..wanted.min(rest.len())).unwrap_or_default().to_vec();
        self.consume(bytes.len());
        Ok(bytes)
    }
}

/// The first bytes of the unpacked content, for a look at what the file is. Fewer where it ends or cannot be unpacked.
pub(super) fn peek_content(medium: &Medium, wanted: usize) -> Result<Vec<u8>, ReadError> {
    let mut input = Input::new(medium, false);
    let mut content = vec![0; wanted];
    let count = match packing(input.peek(4)?) {
        Packing::None => {
            content = input.next(wanted)?;
            content.len()
        }
        Packing::Gzip => {
            read_gzip_header(&mut input)?;
            let mut inflate = Decompress::new(false);
            loop {
                let (part, made) = (input.peek(1)?, inflate.total_out() as usize);
                let room = content.get_mut(made..).unwrap_or_default();
                let before = inflate.total_in();
                let status = inflate.decompress(part, room, FlushDecompress::None);
                let consumed = (inflate.total_in() - before) as usize;
                input.consume(consumed);
                let now = inflate.total_out() as usize;
                if now == wanted
                    || (consumed == 0 && now == made)
                    || !matches!(status, Ok(Status::Ok | Status::BufError))
                {
                    break now;
                }
            }
        }
        Packing::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::new(input).map_err(ReadError::Io)?;
            decoder.window_log_max(WINDOW).map_err(ReadError::Io)?;
            let mut made = 0;
            while let Some(room) = content.get_mut(made..).filter(|room| !room.is_empty()) {
                match decoder.read(room) {
                    Ok(0) | Err(_) => break,
                    Ok(count) => made += count,
                }
            }
            made
        }
    };
    content.truncate(count);
    Ok(content)
}

impl Read for Input<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let part = self.peek(1).map_err(io::Error::other)?;
        let count = part.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(part) {
            *to = *from;
        }
        self.consume(count);
        Ok(count)
    }
}
