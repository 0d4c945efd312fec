//! The walk over the blocks of an archive.

use super::extended::Extended;
use super::field::{checksum_is_right, has_digits, number};
use super::sparse::{Map, Run, Segment, push_old, read_lines};
use super::{BLOCK, LONGEST_EXTENSION, MOST_HOLES, TarError};
use crate::model::bytes;
use crate::model::entry::{Entry, EntryKind, Mtime, Owner};
use crate::model::finding::{Finding, Severity};
use crate::model::path::{LONGEST_PATH, RelPath};
use std::collections::BTreeSet;
use std::io::{self, Read};
use tar::{EntryType, GnuExtSparseHeader, Header};

/// Most notes that are kept; what they are about is not restored and not missed.
const MOST_NOTES: usize = 64;

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
    offset: u64,
    globals: Extended,
    content: Content,
    /// The member that is being read, as text, for messages.
    member: String,
    /// Why reading the content failed; it is given out by the next call.
    failure: Option<TarError>,
    marker: Option<Marker>,
    holes: u64,
    notes: Vec<Finding>,
    unknown: BTreeSet<String>,
}

/// The content that is being read.
#[derive(Debug, Default)]
struct Content {
    map: Map,
    at: u64,
    index: usize,
    /// Bytes up to the next header, data and padding.
    left: u64,
}

/// The extension headers that wait for their member.
#[derive(Debug, Default)]
struct Pending {
    extended: Option<Extended>,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl<R: Read> Tarball<R> {
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

    /// Reads a member's header and prepares its content. `None` for a member that says nothing (the root itself).
    fn take_member(&mut self, header: &Header, pending: Pending) -> Result<Option<Entry>, TarError> {
        let mut extended = pending.extended.unwrap_or_default();
        let raw = self.name_of(header, &mut extended, pending.name)?;
        self.member = bytes::escape(&raw);
        if header.as_ustar().is_none() && header.as_gnu().is_none() && header.as_old().pad.starts_with(b"ustar") {
            return Err(self.unsupported("a header of an unknown kind of tar"));
        }

        let packed = self.size_of(header, &extended)?;
        let is_file = matches!(header.entry_type(), EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse);
        let is_directory = header.entry_type() == EntryType::Directory || (is_file && raw.ends_with(b"/"));
        let is_sparse = header.entry_type() == EntryType::GNUSparse || extended.sparse.is_some();
        if is_sparse && (!is_file || is_directory) {
            return Err(self.corrupt("something that is not a file is marked as sparse"));
        }
        if packed > 0 && (!is_file || is_directory) {
            return Err(self.unsupported("something that is not a file has content"));
        }

        let path = match RelPath::parse(&raw) {
            Ok(path) => path,
            Err(crate::model::path::BadPath::Empty) if is_directory => {
                let what = "the entry of the root directory itself is not restored";
                self.note("archive", what);
                return Ok(None);
            }
            Err(bad) => return Err(self.corrupt(bad.to_string())),
        };
        let kind = if is_directory {
            EntryKind::Directory
        } else if is_file {
            self.prepare_content(header, &mut extended, packed, is_sparse)?
        } else {
            let link = self.link_of(header, &mut extended, pending.link)?;
            self.kind_of_other(header.entry_type(), link)?
        };
        if matches!(&kind, EntryKind::HardLink { to } if *to == path) {
            // Borg writes a file with several names this way when two of the paths to back up overlap.
            let what = "a hard link to itself was left out; the file came before";
            self.note(&self.member.clone(), what);
            return Ok(None);
        }
        let entry = Entry {
            path,
            kind,
            mode: u32::try_from(self.field(&header.as_old().mode)? & 0o7777).unwrap_or_default(),
            owner: self.owner_of(header, &mut extended)?,
            mtime: match extended.mtime.or(self.globals.mtime) {
                Some(time) => time,
                None => Mtime { secs: self.field(&header.as_old().mtime)?, nanos: 0 },
            },
            xattrs: extended.xattrs,
            acl_access: extended.acl_access,
            acl_default: extended.acl_default,
        };
        Ok(Some(entry))
    }

    fn name_of(&self, header: &Header, extended: &mut Extended, long: Option<Vec<u8>>) -> Result<Vec<u8>, TarError> {
        match (extended.path.take(), long) {
            (Some(path), Some(name)) if path != name => {
                Err(self.corrupt("a PAX header and a GNU header name the same member differently"))
            }
            (path, name) => {
                Ok(extended.sparse.name.take().or(path).or(name).unwrap_or_else(|| header.path_bytes().into_owned()))
            }
        }
    }

    fn link_of(&self, header: &Header, extended: &mut Extended, long: Option<Vec<u8>>) -> Result<Vec<u8>, TarError> {
        match (extended.linkpath.take(), long) {
            (Some(path), Some(name)) if path != name => {
                Err(self.corrupt("a PAX header and a GNU header give the same link different targets"))
            }
            (path, name) => {
                Ok(path.or(name).or_else(|| header.link_name_bytes().map(|name| name.into_owned())).unwrap_or_default())
            }
        }
    }

    fn kind_of_other(&self, kind: EntryType, link: Vec<u8>) -> Result<EntryKind, TarError> {
        match kind {
            EntryType::Symlink if link.is_empty() || link.len() > LONGEST_PATH => {
                Err(self.corrupt("a symbolic link's target is empty or too long"))
            }
            EntryType::Symlink => Ok(EntryKind::Symlink { target: link }),
            EntryType::Link => match RelPath::parse(&link) {
                Ok(to) => Ok(EntryKind::HardLink { to }),
                Err(bad) => Err(self.corrupt(format!("a hard link to '{}': {bad}", bytes::escape(&link)))),
            },
            EntryType::Fifo => Ok(EntryKind::Fifo),
            EntryType::Char => Err(self.unsupported("a character device")),
            EntryType::Block => Err(self.unsupported("a block device")),
            other => {
                Err(self.unsupported(format!("an entry of the unknown type '{}'", bytes::escape(&[other.as_byte()]))))
            }
        }
    }

    /// Reads a file's map and makes its content ready.
    fn prepare_content(
        &mut self,
        header: &Header,
        extended: &mut Extended,
        packed: u64,
        sparse: bool,
    ) -> Result<EntryKind, TarError> {
        let mut data = packed;
        let map = if header.entry_type() == EntryType::GNUSparse {
            if extended.sparse.is_some() {
                return Err(self.corrupt("a sparse file has two maps"));
            }
            let (segments, size) = self.read_old_map(header)?;
            Map::new(segments, size, packed)
        } else if sparse {
            let size = extended.sparse.size.ok_or_else(|| self.corrupt("a sparse file has no length"))?;
            let segments = match (extended.sparse.major, extended.sparse.minor, extended.sparse.map.take()) {
                (Some(1), Some(0), None) => {
                    let at = self.offset;
                    let segments = self.read_leading_map(packed)?;
                    data = packed.saturating_sub(self.offset.saturating_sub(at));
                    segments
                }
                (None | Some(0), None | Some(0..=1), Some(map)) => map,
                // GNU tar writes no pair for a file that is one hole.
                (None | Some(0), None | Some(0..=1), None) if extended.sparse.blocks == Some(0) => Vec::new(),
                _ => return Err(self.unsupported("a sparse file in a form that is not known")),
            };
            if extended.sparse.blocks.is_some_and(|blocks| blocks != segments.len() as u64) {
                return Err(self.corrupt("a sparse file's map has another length than it says"));
            }
            Map::new(segments, size, data)
        } else {
            Ok(Map::dense(packed))
        };
        let map = map.map_err(|what| self.corrupt(what))?;
        self.holes = self.holes.saturating_add(map.size().saturating_sub(data));
        if self.holes > MOST_HOLES {
            return Err(self.unsupported("the holes of the archive's sparse files add up to more than 1 TiB"));
        }
        let padding = data.next_multiple_of(BLOCK as u64) - data;
        let size = map.size();
        self.content = Content { map, at: 0, index: 0, left: data.saturating_add(padding) };
        Ok(EntryKind::File { size, sparse })
    }

    /// The map in an old GNU sparse header and the blocks that follow it.
    fn read_old_map(&mut self, header: &Header) -> Result<(Vec<Segment>, u64), TarError> {
        let Some(gnu) = header.as_gnu() else {
            return Err(self.corrupt("a sparse file's header is not a GNU header"));
        };
        let size = self.unsigned(&gnu.realsize)?;
        let mut segments = Vec::new();
        push_old(&mut segments, &gnu.sparse).map_err(|what| self.corrupt(what))?;
        let mut more = gnu.is_extended();
        while more {
            let mut extension = GnuExtSparseHeader::new();
            *extension.as_mut_bytes() = self.block()?;
            push_old(&mut segments, extension.sparse()).map_err(|what| self.corrupt(what))?;
            more = extension.is_extended();
            if more && extension.sparse().iter().all(tar::GnuSparseHeader::is_empty) {
                return Err(self.corrupt("a sparse file's map goes on without end"));
            }
        }
        Ok((segments, size))
    }

    /// The map that precedes the content of a sparse file in format 1.0; it is part of the `packed` bytes.
    fn read_leading_map(&mut self, packed: u64) -> Result<Vec<Segment>, TarError> {
        let member = self.member.clone();
        let mut left = packed;
        read_lines(
            || {
                left = left.checked_sub(BLOCK as u64).ok_or_else(|| self.corrupt("a sparse file's map is cut"))?;
                self.block()
            },
            |what| TarError::Corrupt { place: format!("in '{member}'"), what: what.into() },
        )
    }

    fn size_of(&self, header: &Header, extended: &Extended) -> Result<u64, TarError> {
        if let Some(size) = extended.size {
            return Ok(size);
        }
        // Old writers put the first name's length into a hard link's header, without content (POSIX.1-1988 allows it).
        if header.entry_type() == EntryType::Link {
            return Ok(0);
        }
        self.unsigned(&header.as_old().size)
    }

    fn owner_of(&self, header: &Header, extended: &mut Extended) -> Result<Owner, TarError> {
        let id = |given: Option<u64>, field: &[u8]| {
            let value = given.map_or_else(|| self.unsigned_or_blank(field), Ok)?;
            u32::try_from(value).map_err(|_| self.corrupt("an owner's number is too large"))
        };
        let name = |given: Option<Vec<u8>>, field: Option<&[u8]>| {
            given.or_else(|| field.map(<[u8]>::to_vec)).filter(|name| !name.is_empty())
        };
        Ok(Owner {
            uid: id(extended.uid.or(self.globals.uid), &header.as_old().uid)?,
            gid: id(extended.gid.or(self.globals.gid), &header.as_old().gid)?,
            user: name(extended.uname.take().or_else(|| self.globals.uname.clone()), header.username_bytes()),
            group: name(extended.gname.take().or_else(|| self.globals.gname.clone()), header.groupname_bytes()),
        })
    }

    fn field(&self, field: &[u8]) -> Result<i64, TarError> {
        number(field).ok_or_else(|| self.corrupt("a header field is not a number"))
    }

    fn unsigned_or_blank(&self, field: &[u8]) -> Result<u64, TarError> {
        u64::try_from(self.field(field)?).map_err(|_| self.corrupt("a header field is negative"))
    }

    fn unsigned(&self, field: &[u8]) -> Result<u64, TarError> {
        if has_digits(field) { self.unsigned_or_blank(field) } else { Err(self.corrupt("a header has no length")) }
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
        let mut scratch = [0; 64 * BLOCK];
        while self.content.left > 0 {
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

    fn block(&mut self) -> Result<[u8; BLOCK], TarError> {
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

    fn note(&mut self, subject: &str, what: &str) {
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

    fn corrupt(&self, what: impl Into<String>) -> TarError {
        TarError::Corrupt { place: self.place(), what: what.into() }
    }

    fn unsupported(&self, what: impl Into<String>) -> TarError {
        TarError::Unsupported { entry: self.member.clone(), what: what.into() }
    }

    fn read_content(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        loop {
            let content = &mut self.content;
            if content.at >= content.map.size() || buffer.is_empty() {
                return Ok(0);
            }
            let run = content.map.run(content.at, content.index);
            let (Run::Hole(length) | Run::Data(length)) = run;
            if length == 0 {
                content.index += 1;
                continue;
            }
            let wanted = usize::try_from(length).unwrap_or(usize::MAX).min(buffer.len());
            let part = buffer.get_mut(..wanted).unwrap_or_default();
            let count = match run {
                Run::Hole(_) => {
                    part.fill(0);
                    wanted
                }
                Run::Data(_) => match self.input.read(part) {
                    Ok(0) => return Err(self.truncated()),
                    Ok(count) => {
                        self.offset = self.offset.saturating_add(count as u64);
                        self.content.left = self.content.left.saturating_sub(count as u64);
                        count
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => return Err(TarError::Io(error)),
                },
            };
            self.content.at = self.content.at.saturating_add(count as u64);
            return Ok(count);
        }
    }
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.extended.is_none() && self.name.is_none() && self.link.is_none()
    }
}

impl<R: Read> Read for Tarball<R> {
    /// The current entry's content, holes as zeros.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.failure.is_none() {
            match self.read_content(buffer) {
                Ok(count) => return Ok(count),
                Err(failure) => self.failure = Some(failure),
            }
        }
        Err(io::Error::other("the archive cannot be read further"))
    }
}
