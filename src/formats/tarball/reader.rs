//! The walk over the blocks of an archive.

use super::extended::Extended;
use super::field::checksum_is_right;
use super::sparse::{Map, Run};
use super::{BLOCK, LONGEST_EXTENSION, TarError};
use crate::model::entry::Entry;
use crate::model::finding::{Finding, Severity};
use std::collections::BTreeSet;
use std::io::{self, BufRead, Read};
use tar::{EntryType, Header};

/// Most notes that are kept; what they are about is not restored and not missed.
const MOST_NOTES: usize = 64;
/// What holes are made of.
static ZEROS: [u8; 16 << 10] = [0; 16 << 10];

/// How the archive says that it is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marker {
    /// Two zero blocks, as POSIX demands.
    Complete,
    /// One zero block; GNU tar warns of it.
    Single,
    /// None; the input just ends after a member. GNU tar says nothing.
    Missing,
}

/// Whether `block` begins like a tar archive: a header with the right checksum.
pub fn looks_like_tar(block: &[u8; BLOCK]) -> bool {
    block.first().is_some_and(|&first| first != 0) && checksum_is_right(block)
}

/// Reads one archive from beginning to end. [`next_entry`](Self::next_entry) gives the next entry, and reading from the
/// value itself gives that entry's content; what is not read is passed over.
#[derive(Debug)]
pub struct Tarball<R> {
    input: R,
    pub(super) offset: u64,
    pub(super) globals: Extended,
    pub(super) content: Content,
    /// The member that is being read, as text, for messages.
    pub(super) member: String,
    /// Why reading the content failed; it is given out by the next call.
    failure: Option<TarError>,
    marker: Option<Marker>,
    pub(super) holes: u64,
    notes: Vec<Finding>,
    unknown: BTreeSet<String>,
}

/// The content that is being read.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) map: Map,
    pub(super) at: u64,
    pub(super) index: usize,
    /// Bytes up to the next header, data and padding.
    pub(super) left: u64,
}

/// The extension headers that wait for their member.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) extended: Option<Extended>,
    pub(super) name: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
}

impl<R: BufRead> Tarball<R> {
    /// Starts at the first block of `input`.
    pub fn new(input: R) -> Self {
        Self {
            input,
            offset: 0,
            globals: Extended::default(),
            content: Content::default(),
            member: String::new(),
            failure: None,
            marker: None,
            holes: 0,
            notes: Vec::new(),
            unknown: BTreeSet::new(),
        }
    }

    /// The next entry; `None` after the last one, when the input was read to its end and nothing but zeros followed.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        self.pass_over_content()?;
        let mut pending = Pending::default();
        while self.marker.is_none() {
            let mut block = [0; BLOCK];
            match self.fill(&mut block)? {
                0 if pending.is_empty() => {
                    self.marker = Some(Marker::Missing);
                    break;
                }
                BLOCK => {}
                _ => return Err(self.truncated()),
            }
            if block.iter().all(|&byte| byte == 0) {
                if !pending.is_empty() {
                    return Err(self.corrupt("an extension header has no member"));
                }
                self.read_to_end()?;
                break;
            }
            if !checksum_is_right(&block) {
                return Err(self.corrupt("the checksum of a header is wrong"));
            }
            let mut header = Header::new_old();
            header.as_mut_bytes().copy_from_slice(&block);
            if let Some(entry) = self.take_header(&header, &mut pending)? {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// Why reading the content failed, if it did.
    pub fn failure(&mut self) -> Option<TarError> {
        self.failure.take()
    }

    /// How the archive ended; `None` before the end.
    pub fn marker(&self) -> Option<Marker> {
        self.marker
    }

    /// The input.
    pub fn input(&mut self) -> &mut R {
        &mut self.input
    }

    /// What was noticed on the way, none of it damage.
    pub fn findings(&self) -> Vec<Finding> {
        let unknown: Vec<&str> = self.unknown.iter().map(String::as_str).collect();
        let ignored = (!unknown.is_empty()).then(|| {
            let what = format!("PAX records that are not known were left out: {}", unknown.join(", "));
            Finding::new(Severity::Note, "archive", what, "")
        });
        self.notes.iter().cloned().chain(ignored).collect()
    }

    /// Deals with one header: an extension header waits in `pending`, any other takes what waits.
    fn take_header(&mut self, header: &Header, pending: &mut Pending) -> Result<Option<Entry>, TarError> {
        match header.entry_type() {
            EntryType::XHeader => {
                let raw = self.read_extension(header)?;
                let extended = Extended::parse(&raw).map_err(|what| self.corrupt(what))?;
                self.unknown.extend(extended.unknown.iter().cloned());
                self.wait(&mut pending.extended, extended)?;
            }
            EntryType::XGlobalHeader => {
                if !pending.is_empty() {
                    return Err(self.corrupt("an extension header has no member"));
                }
                let raw = self.read_extension(header)?;
                self.globals.merge_global(&raw).map_err(|what| self.corrupt(what))?;
                self.unknown.extend(std::mem::take(&mut self.globals.unknown));
            }
            EntryType::GNULongName => {
                let name = self.read_long_name(header)?;
                self.wait(&mut pending.name, name)?;
            }
            EntryType::GNULongLink => {
                let link = self.read_long_name(header)?;
                self.wait(&mut pending.link, link)?;
            }
            _ => return self.take_member(header, std::mem::take(pending)),
        }
        Ok(None)
    }

    fn wait<T>(&self, slot: &mut Option<T>, value: T) -> Result<(), TarError> {
        match slot.replace(value) {
            None => Ok(()),
            Some(_) => Err(self.corrupt("one member has two extension headers of the same kind")),
        }
    }

    /// The bytes of an extension header; its length is its own header's, never a PAX record's.
    fn read_extension(&mut self, header: &Header) -> Result<Vec<u8>, TarError> {
        let size = self.unsigned(&header.as_old().size)?;
        if size > LONGEST_EXTENSION {
            return Err(self.corrupt("an extension header is longer than 1 MiB"));
        }
        let mut raw = Vec::new();
        for _ in 0..size.div_ceil(BLOCK as u64) {
            raw.extend_from_slice(&self.block()?);
        }
        raw.truncate(usize::try_from(size).unwrap_or_default());
        Ok(raw)
    }

    fn read_long_name(&mut self, header: &Header) -> Result<Vec<u8>, TarError> {
        let mut name = self.read_extension(header)?;
        if name.last() == Some(&0) {
            name.pop();
        }
        if name.is_empty() || name.contains(&0) {
            return Err(self.corrupt("a long name is empty or contains a NUL byte"));
        }
        Ok(name)
    }

    fn pass_over_content(&mut self) -> Result<(), TarError> {
        // Mostly only padding is left.
        let (mut short, mut long) = ([0; BLOCK], Vec::new());
        while self.content.left > 0 {
            if self.content.left > BLOCK as u64 && long.is_empty() {
                long.resize(64 * BLOCK, 0);
            }
            let scratch = if long.is_empty() { &mut short[..] } else { &mut long[..] };
            let wanted = usize::try_from(self.content.left).unwrap_or(usize::MAX).min(scratch.len());
            let part = scratch.get_mut(..wanted).unwrap_or_default();
            if self.fill(part)? < wanted {
                return Err(self.truncated());
            }
            self.content.left -= wanted as u64;
        }
        self.content = Content::default();
        Ok(())
    }

    /// After the first zero block: nothing but zeros may follow.
    fn read_to_end(&mut self) -> Result<(), TarError> {
        let mut marker = Marker::Single;
        let mut blocks = [0; 64 * BLOCK];
        loop {
            let begin = self.offset;
            let got = self.fill(&mut blocks)?;
            if let Some(at) = blocks.iter().take(got).position(|&byte| byte != 0) {
                let place = format!("at byte {} of the unpacked archive", begin + at as u64);
                return Err(TarError::Corrupt { place, what: "there is data after the archive's end marker".into() });
            }
            if got >= BLOCK {
                marker = Marker::Complete;
            }
            if got < blocks.len() {
                break;
            }
        }
        self.marker = Some(marker);
        if marker == Marker::Single {
            let what = "the archive ends with one zero block where there should be two";
            self.note("archive", what);
        }
        Ok(())
    }

    pub(super) fn block(&mut self) -> Result<[u8; BLOCK], TarError> {
        let mut block = [0; BLOCK];
        if self.fill(&mut block)? < BLOCK {
            return Err(self.truncated());
        }
        Ok(block)
    }

    /// Reads until `buffer` is full or the input ends.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.input.read(rest) {
                Ok(0) => break,
                Ok(count) => {
                    filled += count;
                    self.offset = self.offset.saturating_add(count as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(TarError::Io(error)),
            }
        }
        Ok(filled)
    }

    pub(super) fn note(&mut self, subject: &str, what: &str) {
        if self.notes.len() < MOST_NOTES {
            self.notes.push(Finding::new(Severity::Note, subject, what, ""));
        }
    }

    fn place(&self) -> String {
        if self.member.is_empty() {
            format!("at byte {} of the unpacked archive", self.offset)
        } else {
            format!("at byte {} of the unpacked archive, in or after '{}'", self.offset, self.member)
        }
    }

    fn truncated(&self) -> TarError {
        TarError::Truncated { place: self.place() }
    }

    pub(super) fn corrupt(&self, what: impl Into<String>) -> TarError {
        TarError::Corrupt { place: self.place(), what: what.into() }
    }

    pub(super) fn unsupported(&self, what: impl Into<String>) -> TarError {
        TarError::Unsupported { entry: self.member.clone(), what: what.into() }
    }

    /// Comes to the next bytes of the current entry's content and says where they are, how many at most, and whether
    /// they are there at all.
    fn find_content(&mut self) -> Result<Run, TarError> {
        loop {
            let content = &mut self.content;
            if content.at >= content.map.size() {
                return Ok(Run::Hole(0));
            }
            match content.map.run(content.at, content.index) {
                Run::Hole(0) | Run::Data(0) => content.index += 1,
                Run::Hole(length) => return Ok(Run::Hole(length)),
                Run::Data(length) => match self.input.fill_buf() {
                    Ok([]) => return Err(self.truncated()),
                    Ok(_) => return Ok(Run::Data(length)),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(TarError::Io(error)),
                },
            }
        }
    }
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.extended.is_none() && self.name.is_none() && self.link.is_none()
    }
}

impl<R: BufRead> Read for Tarball<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Tarball<R> {
    /// The current entry's content, holes as zeros.
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let failed = || io::Error::other("the archive cannot be read further");
        if self.failure.is_some() {
            return Err(failed());
        }
        match self.find_content() {
            Ok(Run::Hole(length)) => {
                let length = usize::try_from(length).unwrap_or(usize::MAX).min(ZEROS.len());
                Ok(ZEROS.get(..length).unwrap_or_default())
            }
            Ok(Run::Data(length)) => {
                let piece = self.input.fill_buf()?;
                let length = usize::try_from(length).unwrap_or(usize::MAX).min(piece.len());
                Ok(piece.get(..length).unwrap_or_default())
            }
            Err(failure) => {
                self.failure = Some(failure);
                Err(failed())
            }
        }
    }

    fn consume(&mut self, count: usize) {
        let content = &mut self.content;
        if let Run::Data(_) = content.map.run(content.at, content.index) {
            self.input.consume(count);
            self.offset = self.offset.saturating_add(count as u64);
            content.left = content.left.saturating_sub(count as u64);
        }
        content.at = content.at.saturating_add(count as u64);
    }
}
