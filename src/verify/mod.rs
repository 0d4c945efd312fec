//! Reading a backup once, to its end, and saying what it holds and whether it is whole.
//!
//! Owns the verdicts. Never writes anything, and never calls an app intact that no checksum proves. Damage is a
//! finding, not an error; an error means that the check could not be made. Memory does not depend on the size of files;
//! 16 bytes per entry are kept to notice repeats.

mod census;
pub mod compare;
mod ground;
mod record;
mod span;
mod verdict;

pub use record::content_record;

use crate::model::app::AppId;
use crate::model::archive::{ArchiveSummary, Generation};
use crate::model::digest::{Sha256Digest, TreeDigest};
use crate::model::entry::{Entry, EntryKind};
use crate::model::finding::Report;
use crate::model::path::RelPath;
use crate::model::progress::{Event, Phase, Progress};
use crate::model::size::ByteSize;
use crate::source::{Archive, Ending, ReadError};
use census::Census;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What is looked at.
pub struct Scope<'a> {
    /// Every path that may belong to an app. Paths that only the archive's own manifest names are added, at the cost of
    /// a second read.
    pub roots: &'a [RelPath],
    /// The apps that get a verdict; all of the archive when absent.
    pub apps: Option<&'a [AppId]>,
    /// The database dumps that a backup of these apps must have, besides those that the archive's manifest names.
    pub dumps: &'a [(AppId, RelPath)],
    /// Entries that are never restored: FreedomBox's own files. Symbolic links into `/usr/share/freedombox/` are always
    /// left out.
    pub skip: &'a dyn Fn(&Entry) -> bool,
}

/// Looks on while entries are verified, to compare them with something else in the same pass.
pub trait Observer {
    /// Whether [`seen`](Self::seen) makes use of the digest of this file's content. It is not computed for this alone
    /// where the archive has a [fingerprint](Entry::fingerprint).
    fn needs_digest(&mut self, root: &RelPath, entry: &Entry) -> bool;

    /// Takes one entry below `root`, with the digest of a file's content where it was computed. An entry below several
    /// roots comes once for each; a repeated one does not come again. What comes before a read error is not proven.
    fn seen(&mut self, root: &RelPath, entry: &Entry, content: Option<Sha256Digest>);
}

/// Nobody looks on.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoObserver;

impl Observer for NoObserver {
    fn needs_digest(&mut self, _: &RelPath, _: &Entry) -> bool {
        false
    }

    fn seen(&mut self, _: &RelPath, _: &Entry, _: Option<Sha256Digest>) {}
}

/// The result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// What the archive says of itself. Without apps when damage hides its manifest.
    pub summary: ArchiveSummary,
    /// Verdicts and findings.
    pub report: Report,
    /// What lies below each root.
    pub contents: Contents,
}

/// What an archive holds, by root.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// One per root, sorted by path, also those of which the archive has nothing.
    pub roots: Vec<RootContent>,
}

impl Contents {
    /// What lies at and below `path`, which must be one of the roots.
    pub fn root(&self, path: &RelPath) -> Option<&RootContent> {
        self.roots.iter().find(|root| root.path == *path)
    }
}

/// What an archive holds at and below one path, without what is never restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootContent {
    /// The path.
    pub path: RelPath,
    /// What the path itself is; `None` when the archive has no entry for it.
    pub kind: Option<RootKind>,
    /// How many entries, the path itself included.
    pub entries: u64,
    /// How many of them are files.
    pub files: u64,
    /// Length of all files, holes included.
    pub bytes: ByteSize,
    /// Sum of [`content_record`] of all entries.
    pub digest: TreeDigest,
    /// User names of owners, escaped as [`bytes::escape`](crate::model::bytes::escape) does, at most 1024.
    pub users: BTreeSet<String>,
    /// Group names of owners, likewise.
    pub groups: BTreeSet<String>,
    /// Names of people: owners who are no service's, and whom an app has a folder for.
    pub people: BTreeSet<String>,
}

/// What a root itself is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RootKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// Another name of a file.
    HardLink,
    /// A named pipe.
    Fifo,
}

impl RootKind {
    /// The kind of an entry.
    pub fn of(kind: &EntryKind) -> Self {
        match kind {
            EntryKind::File { .. } => RootKind::File,
            EntryKind::Directory => RootKind::Directory,
            EntryKind::Symlink { .. } => RootKind::Symlink,
            EntryKind::HardLink { .. } => RootKind::HardLink,
            EntryKind::Fifo => RootKind::Fifo,
        }
    }
}

/// Why a backup could not be verified. Damage is not among the reasons.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It does not hold an app that was asked for.
    #[error("the backup does not contain the app '{0}'")]
    NoSuchApp(AppId),
}

/// Reads all of `archive` and judges it.
pub fn verify(
    archive: &mut dyn Archive,
    scope: &Scope<'_>,
    observer: &mut dyn Observer,
    progress: &dyn Progress,
) -> Result<Verified, VerifyError> {
    let mut census = Census::new(scope.roots, scope, observer, progress);
    let outcome = pass(archive, &mut census, progress)?;
    census.finish();
    let mut evidence = verdict::Evidence::new(census, outcome);

    let summary = match archive.summary() {
        Ok(summary) => summary,
        Err(error @ (ReadError::Corrupt { .. } | ReadError::Mismatch { .. })) => {
            evidence.hide_manifest(error);
            let id = archive.id().clone();
            let (generation, size) = (Generation::None, archive.size());
            ArchiveSummary { id, name: None, time: None, generation, apps: Vec::new(), size }
        }
        Err(error) => return Err(error.into()),
    };
    let is_there = |name: &AppId| summary.apps.iter().any(|app| app.name == *name);
    let missing = scope.apps.unwrap_or_default().iter().find(|name| !is_there(name));
    if let (Some(missing), false) = (missing, evidence.is_manifest_hidden()) {
        return Err(VerifyError::NoSuchApp(missing.clone()));
    }

    let unknown: BTreeSet<RelPath> =
        summary.apps.iter().flat_map(|app| &app.paths).filter(|path| evidence.root(path).is_none()).cloned().collect();
    if !unknown.is_empty() {
        let unknown: Vec<RelPath> = unknown.into_iter().collect();
        let mut census = Census::new(&unknown, scope, observer, progress);
        let outcome = pass(archive, &mut census, progress)?;
        evidence.add_roots(census, outcome);
    }
    let report = verdict::judge(&mut evidence, &summary, scope);
    Ok(Verified { summary, report, contents: Contents { roots: evidence.into_roots() } })
}

/// One read. Damage is a result, everything else that stops it an error.
fn pass(
    archive: &mut dyn Archive,
    census: &mut Census<'_>,
    progress: &dyn Progress,
) -> Result<Result<Ending, ReadError>, ReadError> {
    progress.event(Event::Phase { phase: Phase::Verify, total: archive.size().map(|size| size.0) });
    match archive.read(census, progress) {
        Err(error @ (ReadError::Corrupt { .. } | ReadError::Mismatch { .. })) => Ok(Err(error)),
        Err(error) => Err(error),
        Ok(ending) => Ok(Ok(ending)),
    }
}
