//! A backup in a borg 1.x repository.
//!
//! Every object goes through the same checks: CRC-32 of its entry, authentication code, decryption, unpacking, and last
//! its id, which is a digest of its plain content. What reading needs is kept in memory; nothing is ever written.

mod ahead;
mod archive;
mod entry;
mod index;
mod items;
mod listing;
mod object;
mod pipeline;
mod repository;
mod ring;
mod storage;

use super::unlock::Unlock;
use super::{Archive, ReadError, Take};
use crate::model::archive::{ArchiveId, ArchiveSummary};
use crate::model::finding::{Finding, Severity};
use archive::BorgArchive;
use repository::Repository;
use std::path::Path;
use std::sync::Arc;

/// How many backups that cannot be read are listed one by one.
const MOST_UNREADABLE: usize = 100;

/// Why an object cannot be had.
#[derive(Debug, thiserror::Error)]
enum Fault {
    /// It is nowhere in the repository.
    #[error("it is missing from the repository")]
    Missing,
    /// It is there, and damaged.
    #[error("{0}")]
    Bad(String),
    /// The medium fails.
    #[error("reading it: {0}")]
    Io(#[from] std::io::Error),
}

impl Fault {
    fn bad(what: impl std::fmt::Display) -> Fault {
        Fault::Bad(what.to_string())
    }
}

/// Which archives of a repository are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// Those that it lists.
    Listed,
    /// Those that were deleted and whose data is still there, whole or in part.
    Deleted,
}

/// All archives of the repository at `path`, and what was noticed.
pub(super) fn summaries(
    path: &Path,
    which: Which,
    unlock: &mut dyn Unlock,
) -> Result<(Vec<ArchiveSummary>, Vec<Finding>), ReadError> {
    let opened = Repository::open(path, unlock)?;
    let repository = Arc::new(if which == Which::Deleted { opened.deleted() } else { opened });
    let (mut summaries, mut findings) = (Vec::new(), repository.findings().to_vec());
    let mut unreadable = 0;
    for listed in repository.archives() {
        let name = listed.shown_name();
        if listed.is_checkpoint() {
            let what = format!("it has an unfinished backup, '{name}', which is not listed");
            let advice = format!("what it holds can be read with '--archive {}'", listed.id);
            findings.push(Finding::new(Severity::Note, super::tar_export::shown(path), what, advice));
            continue;
        }
        let summary = BorgArchive::open(&repository, listed).and_then(|mut archive| archive.summary());
        match summary {
            Ok(summary) => summaries.push(summary),
            Err(error) => {
                unreadable += 1;
                if unreadable <= MOST_UNREADABLE {
                    let advice = "other backups in the repository may be whole";
                    findings.push(Finding::new(Severity::Damage, name, error.to_string(), advice));
                }
            }
        }
    }
    if unreadable > MOST_UNREADABLE {
        let what = format!("{unreadable} of its backups cannot be read, not all of them are listed");
        findings.push(Finding::new(Severity::Damage, super::tar_export::shown(path), what, ""));
    }
    Ok((summaries, findings))
}

/// Opens one archive of the repository at `path`, by its id or its name, a deleted one by its id; `None` when it has none
/// of that.
pub(super) fn open(
    path: &Path,
    id: &ArchiveId,
    unlock: &mut dyn Unlock,
) -> Result<Option<Box<dyn Archive>>, ReadError> {
    let repository = Repository::open(path, unlock)?;
    if let Some(archive) = pick(&Arc::new(repository), |listed| listed.id == *id || listed.shown_name() == id.as_str())?
    {
        return Ok(Some(archive));
    }
    // Nobody names what is no longer listed by chance; looking for it takes long.
    if !repository::is_object_id(id) {
        return Ok(None);
    }
    pick(&Arc::new(Repository::open(path, unlock)?.deleted()), |listed| listed.id == *id)
}

/// Opens the archive of a repository that lists no other one; `None` where there is not exactly one that can be read.
pub(super) fn open_only(path: &Path, unlock: &mut dyn Unlock) -> Result<Option<Box<dyn Archive>>, ReadError> {
    let repository = Arc::new(Repository::open(path, unlock)?);
    let mut listed = repository.archives().iter().filter(|listed| !listed.is_checkpoint());
    let (Some(only), None) = (listed.next(), listed.next()) else { return Ok(None) };
    let opened = BorgArchive::open(&repository, only).and_then(|mut archive| archive.summary().map(|_| archive));
    // Why one cannot be read is told by whoever lists them.
    Ok(opened.ok().map(|archive| Box::new(archive) as Box<dyn Archive>))
}

/// Opens all archives of the repository at `path` that it lists, one after the other, and says what was noticed. What
/// several of them share is checked only once.
pub(super) fn each(path: &Path, unlock: &mut dyn Unlock, take: &mut Take<'_>) -> Result<Vec<Finding>, ReadError> {
    let repository = Arc::new(Repository::open(path, unlock)?);
    for listed in repository.archives().iter().filter(|listed| !listed.is_checkpoint()) {
        let opened = BorgArchive::open(&repository, listed);
        take(&listed.shown_name(), opened.map(|archive| Box::new(archive) as Box<dyn Archive>));
    }
    Ok(repository.findings().to_vec())
}

fn pick(
    repository: &Arc<Repository>,
    is_meant: impl Fn(&repository::Named) -> bool,
) -> Result<Option<Box<dyn Archive>>, ReadError> {
    match repository.archives().iter().find(|listed| is_meant(listed)) {
        None => Ok(None),
        Some(listed) => Ok(Some(Box::new(BorgArchive::open(repository, listed)?))),
    }
}

/// Says what a folder is that looks like a repository and is none that can be read.
pub(super) fn refusal(path: &Path) -> Option<ReadError> {
    repository::refusal(path)
}
