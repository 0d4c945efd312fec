//! One member's header, with the extension headers that belong to it, becomes an entry.

use super::extended::Extended;
use super::field::{has_digits, number};
use super::reader::{Content, Pending, Tarball};
use super::sparse::{Map, Segment, push_old, read_lines};
use super::{BLOCK, MOST_HOLES, TarError};
use crate::model::bytes;
use crate::model::entry::{Entry, EntryKind, Mtime, Owner};
use crate::model::path::{BadPath, LONGEST_PATH, RelPath};
use std::io::BufRead;
use tar::{EntryType, GnuExtSparseHeader, Header};

impl<R: BufRead> Tarball<R> {
    /// Reads a member's header and prepares its content. `None` for a member that says nothing (the root itself).
    pub(super) fn take_member(&mut self, header: &Header, pending: Pending) -> Result<Option<Entry>, TarError> {
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
            Err(BadPath::Empty) if is_directory => {
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
            fingerprint: None,
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
            EntryType::Char => Err(self.unsupported("a character device, which is not restored")),
            EntryType::Block => Err(self.unsupported("a block device, which is not restored")),
            other => Err(self.unsupported(format!(
                "an entry of the unknown type '{}', which is not restored",
                bytes::escape(&[other.as_byte()])
            ))),
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

    pub(super) fn unsigned(&self, field: &[u8]) -> Result<u64, TarError> {
        if has_digits(field) { self.unsigned_or_blank(field) } else { Err(self.corrupt("a header has no length")) }
    }
}
