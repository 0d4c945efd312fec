//! Writing a backup as one file in the form of FreedomBox's own downloads, with its checksum beside it.
//!
//! The file gets its name only when all of it is on the medium, was read back, and holds the entries that were written.
//! An existing file is never replaced. A file whose content is damaged is never filled up with anything: without
//! consent nothing is written, with it the file is left out and named. The form has no place for extended attributes,
//! access lists, and parts of a second; how many entries lose them is said.

mod member;
mod parcel;

use crate::formats::dump::{Dump, Tail, is_dump};
use crate::model::archive::{ArchiveId, ArchiveSummary, ArchivedApp, Generation};
use crate::model::bytes;
use crate::model::digest::{Sha256Digest, TreeDigest};
use crate::model::entry::{Entry, EntryKind};
use crate::model::finding::{Finding, Severity};
use crate::model::manifest;
use crate::model::path::RelPath;
use crate::model::progress::{Event, Phase, Progress};
use crate::model::secret::Secret;
use crate::model::size::ByteSize;
use crate::source::{self, Archive, OnePassphrase, ReadError, VisitError, Visitor, for_each_piece};
use flate2::Compression;
use flate2::write::GzEncoder;
use parcel::{GZIP_LEVEL, Hashed, Packing, Parcel, Sealed};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};

/// How often it is begun anew when more damage shows up: a medium that dies while it is read.
const ATTEMPTS: usize = 3;

/// What was written.
#[derive(Debug, Clone, Serialize)]
pub struct Exported {
    /// The file.
    #[serde(with = "crate::model::bytes::path")]
    pub file: PathBuf,
    /// Which backup is in it.
    pub archive: ArchiveId,
    /// Its length.
    pub size: ByteSize,
    /// The SHA-256 of the file, as in the file with the checksum.
    pub sha256: Sha256Digest,
    /// How many entries it holds.
    pub entries: u64,
    /// Damaged files that are not in it.
    pub left_out: Vec<RelPath>,
    /// What was noticed.
    pub findings: Vec<Finding>,
}

impl Exported {
    /// Whether the file holds all that the backup held, or should have held.
    pub fn is_whole(&self) -> bool {
        self.left_out.is_empty() && self.findings.iter().all(|finding| finding.severity < Severity::Damage)
    }
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The name does not say how to pack.
    #[error("\"{0}\" does not end with .tar.gz or .tar.zst")]
    Name(String),
    /// The file is there.
    #[error("\"{0}\" exists already")]
    Exists(String),
    /// The file would lie inside the backup.
    #[error("\"{0}\" lies inside the backup itself")]
    Inside(String),
    /// The backup could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Files in the backup are damaged, and nobody agreed to leave them out.
    #[error("the backup is damaged: {files} cannot be read whole, the first is \"{first}\"")]
    Damaged {
        /// How many files, in words.
        files: String,
        /// The first of them.
        first: RelPath,
    },
    /// The file could not be written.
    #[error("writing \"{file}\"")]
    Writing {
        /// The file.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// The backup's list of files has gaps, and nobody agreed to leave out what it named there.
    #[error("the backup is damaged: parts of its list of files are lost, and nobody knows which files they named")]
    Incomplete,
    /// What was read back is not what was written.
    #[error("\"{0}\" does not read back as it was written; the medium is failing")]
    ReadBack(String),
}

/// How a backup is to be written.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wish<'a> {
    /// Leave damaged files out instead of writing nothing.
    pub accept_damage: bool,
    /// What the file is sealed with, where its name ends with `.age`.
    pub passphrase: Option<&'a Secret>,
}

/// Writes `archive`, which lies at `location`, to `file`.
pub fn export(
    archive: &mut dyn Archive,
    location: &Path,
    file: &Path,
    wish: Wish<'_>,
    progress: &dyn Progress,
) -> Result<Exported, ExportError> {
    let shown = || bytes::path::shown(file);
    let packing = Packing::of(file).filter(|packing| packing.sealed == wish.passphrase.is_some());
    let packing = packing.ok_or_else(|| ExportError::Name(shown()))?;
    if file.symlink_metadata().is_ok() {
        return Err(ExportError::Exists(shown()));
    }
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let writing = |source| ExportError::Writing { file: shown(), source };
    if let (Ok(folder), Ok(location)) = (folder.canonicalize(), location.canonicalize())
        && location.is_dir()
        && is_backup_folder(&folder, &location)
    {
        return Err(ExportError::Inside(shown()));
    }
    let mut damaged = BTreeSet::new();
    for _ in 0..ATTEMPTS {
        let before = damaged.len();
        let mut parcel = Parcel::new(file, packing, wish.passphrase).map_err(writing)?;
        let mut pass = Pass::new(&mut parcel, std::mem::take(&mut damaged));
        progress.event(Event::Phase { phase: Phase::Export, total: archive.size().map(|size| size.0) });
        let ending = archive.read(&mut pass, progress);
        if let Some(source) = pass.failure.take() {
            return Err(writing(source));
        }
        let Pass { damaged: found, has_gaps, tally, dumps, .. } = pass;
        damaged = found;
        let mut findings = ending?.findings;
        match damaged.first() {
            Some(first) if !wish.accept_damage => {
                return Err(ExportError::Damaged { files: files(damaged.len()), first: first.clone() });
            }
            None if has_gaps && !wish.accept_damage => return Err(ExportError::Incomplete),
            // What was damaged is in the middle of what was written: once more without it.
            _ if damaged.len() > before => continue,
            _ => {}
        }
        member::end(&mut parcel).map_err(writing)?;
        let sealed = parcel.seal().map_err(writing)?;
        read_back(file, &tally, &sealed, wish.passphrase, progress)?;
        findings.extend(tally.findings());
        let summary = match archive.summary() {
            // The manifest may be in what is lost.
            Err(ReadError::Corrupt { .. }) if wish.accept_damage => None,
            other => Some(other?),
        };
        if summary.as_ref().is_none_or(|summary| summary.generation == Generation::None) {
            let what = "the backup has no FreedomBox manifest; FreedomBox's upload page will not take the file";
            findings.push(Finding::new(Severity::Warning, archive.id().as_str(), what, ""));
        }
        findings.extend(summary.iter().flat_map(|summary| lacking(summary, &dumps)));
        parcel.deliver(file, &sealed).map_err(writing)?;
        return Ok(Exported {
            file: file.to_owned(),
            archive: archive.id().clone(),
            size: ByteSize(sealed.length),
            sha256: sealed.digest,
            entries: tally.entries,
            left_out: damaged.into_iter().collect(),
            findings,
        });
    }
    let first = damaged.pop_first().ok_or_else(|| writing(io::Error::other("it was begun anew too often")))?;
    Err(ExportError::Damaged { files: files(damaged.len() + 1), first })
}

/// What was sent.
#[derive(Debug, Clone, Serialize)]
pub struct Streamed {
    /// Its length.
    pub size: ByteSize,
    /// The SHA-256 of the file.
    pub sha256: Sha256Digest,
    /// How many entries it holds.
    pub entries: u64,
}

/// Packs `archive` as a `.tar.gz` into `to`, which somebody receives. A damaged backup is an error, and what was sent of
/// it until then is not ended as a whole file is.
pub fn stream(archive: &mut dyn Archive, to: &mut dyn Write, progress: &dyn Progress) -> Result<Streamed, ExportError> {
    let writing = |source| ExportError::Writing { file: "what is sent".to_owned(), source };
    let mut packed = GzEncoder::new(Hashed::new(to), Compression::new(GZIP_LEVEL));
    let mut pass = Pass::new(&mut packed, BTreeSet::new());
    progress.event(Event::Phase { phase: Phase::Export, total: archive.size().map(|size| size.0) });
    let ending = archive.read(&mut pass, progress);
    if let Some(source) = pass.failure.take() {
        return Err(writing(source));
    }
    let Pass { damaged, has_gaps, tally, .. } = pass;
    ending?;
    if let Some(first) = damaged.first() {
        return Err(ExportError::Damaged { files: files(damaged.len()), first: first.clone() });
    }
    if has_gaps {
        return Err(ExportError::Incomplete);
    }
    member::end(&mut packed).map_err(writing)?;
    let (_, sealed) = packed.finish().map_err(writing)?.sealed();
    Ok(Streamed { size: ByteSize(sealed.length), sha256: sealed.digest, entries: tally.entries })
}

/// Whether `folder` is the repository at `location`, or inside it. A plain folder with backups in it is not one.
fn is_backup_folder(folder: &Path, location: &Path) -> bool {
    let is_meant = || location.join("config").is_file() && location.join("data").is_dir();
    folder.starts_with(location) && (is_meant() || source::is_repository(location))
}

fn files(count: usize) -> String {
    if count == 1 { "1 file".to_owned() } else { format!("{count} files") }
}

/// Databases of an installed system that are not in its backup, or not as they were last: only FreedomBox itself writes
/// their dumps, when it makes a backup.
fn lacking(summary: &ArchiveSummary, dumps: &BTreeMap<RelPath, Dump>) -> Vec<Finding> {
    let of_app = |app: &ArchivedApp| {
        let what = match dumps.get(&manifest::find(&app.name)?.database.as_ref()?.dump) {
            None => "its database is not in the file, because there is no dump of it".to_owned(),
            Some(dump) if !dump.is_complete => {
                "its database is not whole in the file: the dump of it is cut off".into()
            }
            Some(dump) => {
                let hours = dump.stale_in(summary)?;
                format!("its database is in the file as it was {hours} hours before the system was last used")
            }
        };
        let advice = "where the box still starts, let FreedomBox make a backup there first; 'lifeboat restore' from its \
                      disk itself takes the files of the database server along";
        Some(Finding::new(Severity::Damage, app.name.as_str(), what, advice))
    };
    let apps = summary.apps.iter().filter(|_| summary.generation == Generation::System);
    apps.filter_map(of_app).collect()
}

/// Reads the finished file to its end and compares.
fn read_back(
    file: &Path,
    written: &Tally,
    sealed: &Sealed,
    passphrase: Option<&Secret>,
    progress: &dyn Progress,
) -> Result<(), ExportError> {
    let place = Parcel::place(file);
    let mut back = match passphrase {
        Some(passphrase) => source::open_file(&place, &mut OnePassphrase(passphrase))?,
        None => source::open(&place)?,
    };
    progress.event(Event::Phase { phase: Phase::ReadBack, total: back.size().map(|size| size.0) });
    let mut count = Count { tally: Tally::default() };
    let ending = back.read(&mut count, progress);
    let is_same =
        ending.is_ok() && back.size() == Some(ByteSize(sealed.length)) && count.tally.digest == written.digest;
    if is_same { Ok(()) } else { Err(ExportError::ReadBack(bytes::path::shown(file))) }
}

/// What went through.
#[derive(Default)]
struct Tally {
    entries: u64,
    digest: TreeDigest,
    /// Entries with something that the form has no place for.
    attributes: u64,
    long_owners: u64,
}

impl Tally {
    /// Takes one entry, as the written form can hold it, with the digest of its content.
    fn add(&mut self, entry: &Entry, content: Sha256Digest) {
        self.entries += 1;
        let has_more = !entry.xattrs.is_empty() || entry.acl_access.is_some() || entry.acl_default.is_some();
        self.attributes += u64::from(has_more);
        let names = [entry.owner.user.as_ref(), entry.owner.group.as_ref()];
        self.long_owners += u64::from(names.iter().flatten().any(|name| !member::fits(name)));
        let mut hasher = Sha256::new();
        let mut field = |bytes: &[u8]| {
            hasher.update((bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        field(entry.path.as_bytes());
        field(entry.kind.name().as_bytes());
        field(match &entry.kind {
            EntryKind::Symlink { target } => target,
            EntryKind::HardLink { to } => to.as_bytes(),
            _ => &[],
        });
        field(content.as_bytes());
        field(&entry.mode.to_le_bytes());
        field(&entry.owner.uid.to_le_bytes());
        field(&entry.owner.gid.to_le_bytes());
        for name in names {
            field(name.filter(|name| member::fits(name)).map_or(&[][..], Vec::as_slice));
        }
        field(&entry.mtime.secs.to_le_bytes());
        self.digest.add(Sha256Digest::from_hasher(hasher));
    }

    fn findings(&self) -> Vec<Finding> {
        let note = |count: u64, what: &str| {
            (count > 0).then(|| Finding::new(Severity::Note, format!("{count} entries"), what, ""))
        };
        let attributes = "extended attributes and access lists are not in the file: its form has no place for them";
        let owners = "the owner is in the file by number only: the name is too long for its form";
        [note(self.attributes, attributes), note(self.long_owners, owners)].into_iter().flatten().collect()
    }
}

/// One reading of the backup.
struct Pass<'a> {
    output: &'a mut dyn Write,
    /// Left out; grows.
    damaged: BTreeSet<RelPath>,
    /// Whether entries are lost, nobody knows which.
    has_gaps: bool,
    tally: Tally,
    dumps: BTreeMap<RelPath, Dump>,
    failure: Option<io::Error>,
}

impl<'a> Pass<'a> {
    fn new(output: &'a mut dyn Write, damaged: BTreeSet<RelPath>) -> Pass<'a> {
        let (tally, dumps) = (Tally::default(), BTreeMap::new());
        Pass { output, damaged, has_gaps: false, tally, dumps, failure: None }
    }

    fn write(&mut self, entry: &Entry, content: &mut dyn BufRead) -> Result<Sha256Digest, Trouble> {
        member::begin(self.output, entry).map_err(Trouble::Output)?;
        let mut length = 0;
        let mut tail = is_dump(&entry.path).then(Tail::default);
        let digest = hash(content, |piece| {
            length += piece.len() as u64;
            tail.iter_mut().for_each(|tail| tail.push(piece));
            self.output.write_all(piece)
        })?;
        member::pad(self.output, length).map_err(Trouble::Output)?;
        if let Some(tail) = tail {
            self.dumps.insert(entry.path.clone(), Dump { is_complete: tail.is_complete(), written: entry.mtime });
        }
        Ok(digest)
    }
}

enum Trouble {
    Content(io::Error),
    Output(io::Error),
}

/// Hands `content` to `take`, piece by piece; its digest.
fn hash(content: &mut dyn BufRead, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> Result<Sha256Digest, Trouble> {
    let mut hasher = Sha256::new();
    for_each_piece(content, Trouble::Content, |piece| {
        hasher.update(piece);
        take(piece).map_err(Trouble::Output)
    })?;
    Ok(Sha256Digest::from_hasher(hasher))
}

impl Visitor for Pass<'_> {
    fn visit(&mut self, entry: &Entry, content: &mut dyn BufRead) -> Result<(), VisitError> {
        if self.damaged.contains(&entry.path) {
            return Ok(());
        }
        match self.write(entry, content) {
            Ok(digest) => {
                self.tally.add(entry, digest);
                Ok(())
            }
            Err(Trouble::Content(error)) => Err(VisitError::Content(error)),
            Err(Trouble::Output(error)) => {
                self.failure = Some(error);
                Err(VisitError::Stop)
            }
        }
    }

    fn damaged(&mut self, entry: &Entry) {
        self.damaged.insert(entry.path.clone());
    }

    fn lost(&mut self) {
        self.has_gaps = true;
    }
}

/// Counts what is read back.
struct Count {
    tally: Tally,
}

impl Visitor for Count {
    fn visit(&mut self, entry: &Entry, content: &mut dyn BufRead) -> Result<(), VisitError> {
        match hash(content, |_| Ok(())) {
            Ok(digest) => {
                self.tally.add(entry, digest);
                Ok(())
            }
            Err(Trouble::Content(error) | Trouble::Output(error)) => Err(VisitError::Content(error)),
        }
    }
}
