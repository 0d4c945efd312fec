//! A backup in one file: a tar archive, packed or not.

use super::medium::Medium;
use super::scan::Scan;
use super::sidecar::{self, Expected};
use super::stream::Stream;
use super::unlock::{NoPassphrase, Unlock};
use super::unpack::peek_content;
use super::{Archive, Ending, Proof, ReadError, VisitError, Visitor};
use crate::formats::backup_manifest::{self, LONGEST_MANIFEST};
use crate::formats::tarball::{BLOCK, Marker, TarError, Tarball, looks_like_tar};
use crate::model::archive::{ArchiveId, ArchiveSummary, Generation};
use crate::model::bytes;
use crate::model::entry::{Entry, EntryKind};
use crate::model::finding::{Finding, Severity};
use crate::model::progress::{Event, Progress, Silent};
use crate::model::size::ByteSize;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, Cursor, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

/// `O_NOATIME` and `O_NONBLOCK` of Linux' `asm-generic/fcntl.h`, which x86, ARM and RISC-V use.
const O_NOATIME: i32 = 0o1_000_000;
const O_NONBLOCK: i32 = 0o4000;
/// How many bytes of the file go by before progress is reported from inside one entry.
const PACE: u64 = 1 << 20;

/// One archive file, open for reading.
#[derive(Debug)]
struct TarExport {
    medium: Arc<Medium>,
    id: ArchiveId,
    size: ByteSize,
    expected: Vec<Expected>,
    /// What is wrong with the checksum files.
    findings: Vec<Finding>,
    scan: Option<Scan>,
}

/// Opens one archive file that is not encrypted; its id is the file's name.
pub fn open(path: &Path) -> Result<Box<dyn Archive>, ReadError> {
    open_file(path, &mut NoPassphrase)
}

/// Opens one archive file; its id is the file's name.
pub fn open_file(path: &Path, unlock: &mut dyn Unlock) -> Result<Box<dyn Archive>, ReadError> {
    let name = path.file_name().unwrap_or(path.as_os_str());
    let id = ArchiveId::of_name(name.as_bytes())
        .map_err(|bad| ReadError::NotABackup(format!("'{}': {bad}", shown(path))))?;
    open_as(path, id, unlock)
}

/// Opens one archive file under a given id.
pub(super) fn open_as(path: &Path, id: ArchiveId, unlock: &mut dyn Unlock) -> Result<Box<dyn Archive>, ReadError> {
    let medium = Medium::open(path, unlock)?;
    let size = ByteSize(medium.length());
    let first = peek_content(&medium, BLOCK)?;
    let block = <&[u8; BLOCK]>::try_from(first.as_slice()).ok();
    if !block.is_some_and(looks_like_tar) {
        let what = "is not a tar archive, or is damaged at its very beginning";
        return Err(ReadError::NotABackup(format!("'{}' {what}", shown(path))));
    }
    let (expected, findings) = sidecar::look(path);
    Ok(Box::new(TarExport { medium: Arc::new(medium), id, size, expected, findings, scan: None }))
}

/// Opens a regular file without changing its access time where that is allowed, and never waits on a pipe or touches a
/// device.
pub(super) fn open_regular(path: &Path) -> Result<File, ReadError> {
    let refuse = || ReadError::NotABackup(format!("'{}' is not a regular file", shown(path)));
    if !std::fs::metadata(path).map_err(|error| at(path, &error))?.is_file() {
        return Err(refuse());
    }
    let open = |flags| OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = match open(O_NONBLOCK | O_NOATIME) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => open(O_NONBLOCK),
        other => other,
    }
    .map_err(|error| at(path, &error))?;
    if file.metadata().map_err(|error| at(path, &error))?.is_file() { Ok(file) } else { Err(refuse()) }
}

pub(super) fn shown(path: &Path) -> String {
    bytes::escape(path.as_os_str().as_bytes())
}

pub(super) fn at(path: &Path, error: &io::Error) -> ReadError {
    ReadError::Io(io::Error::new(error.kind(), format!("'{}': {error}", shown(path))))
}

impl Archive for TarExport {
    fn id(&self) -> &ArchiveId {
        &self.id
    }

    fn summary(&mut self) -> Result<ArchiveSummary, ReadError> {
        let known = self.scan.as_ref().is_some_and(|scan| scan.complete || scan.has_manifest());
        let damage = if known { None } else { self.read(&mut PassOver, &Silent).err() };
        let manifest = match (self.scan.as_ref().map(Scan::manifest), damage) {
            (Some(manifest), None) => manifest?,
            // Damage behind the manifest does not matter here.
            (Some(Ok(Some(manifest))), Some(_)) => Some(manifest),
            (_, Some(damage)) => return Err(damage),
            (None, None) => None,
        };
        let time = self.scan.as_ref().and_then(Scan::time);
        Ok(ArchiveSummary {
            id: self.id.clone(),
            name: None,
            time: time.and_then(|time| jiff::Timestamp::from_second(time.secs).ok()).map(|time| time.to_string()),
            generation: manifest.map_or(Generation::None, |manifest| manifest.generation),
            apps: manifest.map(|manifest| manifest.apps.clone()).unwrap_or_default(),
            size: Some(self.size),
        })
    }

    fn read(&mut self, visitor: &mut dyn Visitor, progress: &dyn Progress) -> Result<Ending, ReadError> {
        let stream = Stream::start(&self.medium, !self.expected.is_empty()).map_err(ReadError::Io)?;
        let mut tarball = Tarball::new(stream);
        let mut scan = Scan::default();
        let result = walk(&mut tarball, visitor, &mut scan, progress);
        // What was seen of a damaged archive still names its apps; a visitor that stops early proves nothing.
        if !matches!(result, Err(ReadError::Stopped)) {
            self.scan = Some(scan);
        }
        result?;
        self.judge(&mut tarball)
    }

    fn size(&self) -> Option<ByteSize> {
        Some(self.size)
    }
}

impl TarExport {
    /// What the end of the file and of the archive say together.
    fn judge(&self, tarball: &mut Tarball<Stream>) -> Result<Ending, ReadError> {
        let marker = tarball.marker();
        let mut findings = self.findings.clone();
        findings.extend(tarball.findings());
        let Some(end) = tarball.input().end().cloned() else {
            return Err(ReadError::Io(io::Error::other("the archive was not read to its end")));
        };
        if let Some(what) = end.mismatch {
            return Err(ReadError::Mismatch { what });
        }
        let mut proof = end.proof;
        for expected in &self.expected {
            if end.digest != Some(expected.digest) {
                let what = format!("the file's SHA-256 is not the one in '{}'", expected.from);
                return Err(ReadError::Mismatch { what });
            }
            proof = Proof::Checked(format!("SHA-256 in '{}'", expected.from));
        }
        findings.extend(end.findings);
        let is_proven = |proof: &Proof| matches!(proof, Proof::Checked(_));
        let missing_marker = marker == Some(Marker::Missing);
        if let Some(cut) = end.cut {
            if missing_marker {
                return Err(ReadError::Corrupt {
                    place: format!("at byte {cut} of the file"),
                    what: "the compressed data ends early".into(),
                });
            }
            if self.expected.is_empty() {
                proof = Proof::Unproven("the gzip stream has no end, and so no checksum".into());
            }
            findings.push(Finding::new(
                Severity::Warning,
                self.id.as_str(),
                "the compressed data lacks its end; the archive in it is complete, but nothing proves its content",
                "FreedomBox 0.43 to 0.48 made such files; a file from another version was cut and should be fetched again",
            ));
        } else if missing_marker {
            let what = "the archive has no end marker";
            if !is_proven(&proof) {
                return Err(ReadError::Corrupt {
                    place: format!("at byte {} of the file", self.size.0),
                    what: format!("{what}: it was probably cut between two files"),
                });
            }
            findings.push(Finding::new(Severity::Warning, self.id.as_str(), what, ""));
        }
        findings.extend(self.scan.iter().flat_map(Scan::findings));
        Ok(Ending { proof, findings })
    }
}

/// Hands all entries to `visitor`, and keeps what tells about the archive as a whole.
fn walk(
    tarball: &mut Tarball<Stream>,
    visitor: &mut dyn Visitor,
    scan: &mut Scan,
    progress: &dyn Progress,
) -> Result<(), ReadError> {
    let mut reported = 0;
    while let Some(entry) = match tarball.next_entry() {
        Ok(next) => next,
        Err(error) => return Err(explain(error, tarball.input())),
    } {
        scan.newest = scan.newest.max(Some(entry.mtime));
        let mut content = Watched { tarball, progress, reported: &mut reported };
        let visited = match &entry.kind {
            EntryKind::File { size, .. } if backup_manifest::is_manifest(&entry.path) => {
                let mut raw = Vec::new();
                let whole = content.by_ref().take(LONGEST_MANIFEST).read_to_end(&mut raw).map_err(VisitError::Content);
                if whole.is_ok() {
                    scan.take_manifest(&entry.path, entry.mtime, *size, &raw);
                }
                whole.and_then(|_| visitor.visit(&entry, &mut Cursor::new(raw).chain(content)))
            }
            _ => visitor.visit(&entry, &mut content),
        };
        if let Some(failure) = tarball.failure() {
            return Err(explain(failure, tarball.input()));
        }
        match visited {
            Ok(()) => {}
            Err(VisitError::Content(error)) => return Err(unwrap(error)),
            Err(VisitError::Stop) => return Err(ReadError::Stopped),
        }
        advance(progress, tarball.input(), &mut reported, 1);
    }
    advance(progress, tarball.input(), &mut reported, 0);
    scan.complete = true;
    Ok(())
}

fn advance(progress: &dyn Progress, stream: &Stream, reported: &mut u64, entries: u64) {
    let bytes = stream.consumed().saturating_sub(*reported);
    *reported = (*reported).max(stream.consumed());
    progress.event(Event::Advance { bytes, entries });
}

/// Says what an error of the tar format means for the file.
fn explain(error: TarError, stream: &Stream) -> ReadError {
    match error {
        TarError::Io(error) => unwrap(error),
        TarError::Unsupported { entry, what } => ReadError::Unsupported { entry, what },
        TarError::Corrupt { place, what } => ReadError::Corrupt { place, what },
        TarError::Truncated { place } => match stream.end().and_then(|end| end.mismatch.clone()) {
            Some(what) => ReadError::Corrupt { place, what: format!("the archive ends early; {what}") },
            None => ReadError::Corrupt { place, what: "the archive ends early".into() },
        },
    }
}

/// Errors of the stream carry a [`ReadError`].
fn unwrap(error: io::Error) -> ReadError {
    error.downcast::<ReadError>().unwrap_or_else(ReadError::Io)
}

/// Content on its way to a visitor, with progress.
struct Watched<'a> {
    tarball: &'a mut Tarball<Stream>,
    progress: &'a dyn Progress,
    reported: &'a mut u64,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Watched<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.tarball.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.tarball.consume(count);
        if self.tarball.input().consumed().saturating_sub(*self.reported) >= PACE {
            advance(self.progress, self.tarball.input(), self.reported, 0);
        }
    }
}

/// Wants nothing but the reading itself.
pub(super) struct PassOver;

impl Visitor for PassOver {
    fn visit(&mut self, _: &Entry, _: &mut dyn BufRead) -> Result<(), VisitError> {
        Ok(())
    }
}
