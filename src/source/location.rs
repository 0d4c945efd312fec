//! Places with backups: one file, a repository, or a folder to search.

use super::borg::Which;
use super::tar_export::{PassOver, at, open_as, shown};
use super::unlock::Unlock;
use super::{Archive, ReadError, Take, borg, open_file};
use crate::formats::borg_config::BorgConfig;
use crate::model::archive::{ArchiveId, ArchiveSummary, BackupLocation, FoundAs, Generation};
use crate::model::finding::{Finding, Severity};
use crate::model::progress::Silent;
use crate::model::size::ByteSize;
use crate::survey::locations::repository_config;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// How deep a folder is searched.
const DEPTH: usize = 6;
/// Names of tar exports. In a search the name decides, because a system disk holds thousands of other packed files.
const ENDINGS: [&str; 8] = [".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst", ".tar.age", ".tar.gz.age", ".tar.zst.age"];

/// What is said of a file with the name of an archive that is none: so it looks when its beginning is lost.
const NO_TAR: &str = "if it was a backup, use another one, or fetch it again from where it comes from";

/// What a place holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The backups that can be opened, by id, in the order of their times, oldest first.
    pub archives: Vec<ArchiveSummary>,
    /// Borg repositories found there; their archives are among the others.
    pub repositories: Vec<BackupLocation>,
    /// Files that look like backups and could not be read, and folders that could not be searched.
    pub findings: Vec<Finding>,
}

/// The archive files and repositories at or below `location`, without a look inside the files. A file is itself.
pub fn find(location: &Path) -> Result<(Vec<BackupLocation>, Vec<Finding>), ReadError> {
    let meta = std::fs::metadata(location).map_err(|error| at(location, &error))?;
    if !meta.is_dir() {
        let size = ByteSize(meta.len());
        let named = BackupLocation::TarExport { path: location.to_owned(), size, found_as: FoundAs::Named };
        return Ok((vec![named], Vec::new()));
    }
    let (mut found, mut findings) = (Vec::new(), Vec::new());
    let mut walk = walkdir::WalkDir::new(location).max_depth(DEPTH).sort_by_file_name().into_iter();
    while let Some(step) = walk.next() {
        let step = match step {
            Ok(step) => step,
            Err(error) => {
                let place = error.path().unwrap_or(location);
                let what = format!("the folder cannot be searched: {error}");
                findings.push(Finding::new(Severity::Warning, shown(place), what, ""));
                continue;
            }
        };
        if step.file_type().is_dir() {
            if let Some(repository) = recognise_repository(step.path(), location) {
                found.push(repository);
                walk.skip_current_dir();
            }
        } else if step.file_type().is_file() && is_export_name(step.file_name().as_bytes()) {
            match step.metadata() {
                Ok(meta) => found.push(BackupLocation::TarExport {
                    path: step.path().to_owned(),
                    size: ByteSize(meta.len()),
                    found_as: found_as(step.path()),
                }),
                Err(error) => {
                    let what = format!("the file cannot be looked at: {error}");
                    findings.push(Finding::new(Severity::Warning, shown(step.path()), what, ""));
                }
            }
        }
    }
    Ok((found, findings))
}

/// All backups at or below `location`. Reads every archive file to its end, because FreedomBox writes the manifest last;
/// one that is damaged behind its manifest is listed with a finding. Of a repository, only the lists of files are read.
/// In a folder, tar archives without a manifest are not backups; a file that the user names is one in any case.
pub fn list(location: &Path, unlock: &mut dyn Unlock) -> Result<Listing, ReadError> {
    collect(location, Which::Listed, unlock)
}

/// The archives that were deleted from repositories at or below `location`, and that are still there, whole or in part.
/// Reads the repositories to their ends.
pub fn list_deleted(location: &Path, unlock: &mut dyn Unlock) -> Result<Listing, ReadError> {
    collect(location, Which::Deleted, unlock)
}

fn collect(location: &Path, which: Which, unlock: &mut dyn Unlock) -> Result<Listing, ReadError> {
    if let Some(refusal) = borg::refusal(location) {
        return Err(refusal);
    }
    let (found, findings) = find(location)?;
    let mut listing = Listing { archives: Vec::new(), repositories: Vec::new(), findings };
    let mut locked = None;
    for place in found {
        match &place {
            BackupLocation::TarExport { .. } if which == Which::Deleted => {}
            // Systems are opened by themselves, see `old_system`; a search finds none.
            BackupLocation::OldSystem { .. } => {}
            BackupLocation::TarExport { path, .. } => {
                let sealed = list_export(path, &place, location, &mut listing, unlock)?;
                locked = locked.or(sealed);
            }
            BackupLocation::BorgRepository { path, .. } => {
                match borg::summaries(path, which, unlock) {
                    Ok((archives, findings)) => {
                        listing.archives.extend(archives);
                        listing.findings.extend(findings);
                    }
                    Err(error) if path == location => return Err(error),
                    Err(error) => {
                        let advice = "other backups are not affected";
                        listing.findings.push(Finding::new(Severity::Warning, shown(path), error.to_string(), advice));
                        locked = locked.or(Some(error));
                    }
                }
                listing.repositories.push(place);
            }
        }
    }
    // Where there is nothing but what could not be opened, the reason is the answer.
    if let (true, Some(error)) = (listing.archives.is_empty(), locked) {
        return Err(error);
    }
    listing.archives.sort_by(|a, b| (&a.time, &a.id).cmp(&(&b.time, &b.id)));
    Ok(listing)
}

/// Lists one archive file; why it cannot be opened, where a passphrase is missing.
fn list_export(
    path: &Path,
    place: &BackupLocation,
    location: &Path,
    listing: &mut Listing,
    unlock: &mut dyn Unlock,
) -> Result<Option<ReadError>, ReadError> {
    let is_named = path == location;
    let mut damage = None;
    let summary = id_of(path, location).and_then(|id| open_as(path, id, unlock)).and_then(|mut archive| {
        damage = archive.read(&mut PassOver, &Silent).err();
        archive.summary()
    });
    if let (Ok(_), Some(error)) = (&summary, damage) {
        listing.findings.push(Finding::new(Severity::Warning, shown(path), error.to_string(), ""));
    }
    match summary {
        Ok(summary) if summary.generation == Generation::None && !is_named && !in_legacy_folder(path) => {}
        Ok(summary) => listing.archives.push(summary),
        Err(error) if is_named => return Err(error),
        Err(error) => {
            let advice = match &error {
                ReadError::NotABackup(_) if !is_export_of_freedombox(place) => NO_TAR,
                _ => "look at the disk and the file; other backups are not affected",
            };
            listing.findings.push(Finding::new(Severity::Warning, shown(path), error.to_string(), advice));
            let is_locked = matches!(error, ReadError::NeedsPassphrase(_) | ReadError::WrongPassphrase(_));
            return Ok(is_locked.then_some(error));
        }
    }
    Ok(None)
}

/// Opens one archive at `location`. Without an id, the place must hold exactly one backup.
pub fn open_location(
    location: &Path,
    archive: Option<&ArchiveId>,
    unlock: &mut dyn Unlock,
) -> Result<Box<dyn Archive>, ReadError> {
    let meta = std::fs::metadata(location).map_err(|error| at(location, &error))?;
    if !meta.is_dir() {
        if let Some(id) = archive.filter(|id| id_of(location, location).ok().as_ref() != Some(*id)) {
            return Err(ReadError::NotABackup(format!(
                "'{}' is one archive, which is not called '{id}'",
                shown(location)
            )));
        }
        return open_file(location, unlock);
    }
    if let Some(refusal) = borg::refusal(location) {
        return Err(refusal);
    }
    let id = match archive {
        Some(id) => id.clone(),
        None => {
            if is_repository(location)
                && let Some(archive) = borg::open_only(location, unlock)?
            {
                return Ok(archive);
            }
            only_archive(location, unlock)?
        }
    };
    let mut failed = None;
    for place in find(location)?.0 {
        match &place {
            BackupLocation::TarExport { path, .. } if id_of(path, location).ok().as_ref() == Some(&id) => {
                return open_as(path, id, unlock);
            }
            BackupLocation::TarExport { .. } | BackupLocation::OldSystem { .. } => {}
            BackupLocation::BorgRepository { path, .. } => match borg::open(path, &id, unlock) {
                Ok(Some(archive)) => return Ok(archive),
                Ok(None) => {}
                Err(error) => failed = failed.or(Some(error)),
            },
        }
    }
    Err(failed
        .unwrap_or_else(|| ReadError::NotABackup(format!("'{}' holds no archive called '{id}'", shown(location)))))
}

/// Opens every backup at or below `location`, one after the other, and says what was noticed. Like [`list`], it passes
/// over packed files in a folder that are no backups.
pub fn each(location: &Path, unlock: &mut dyn Unlock, take: &mut Take<'_>) -> Result<Vec<Finding>, ReadError> {
    if let Some(refusal) = borg::refusal(location) {
        return Err(refusal);
    }
    let (found, mut findings) = find(location)?;
    for place in found {
        match &place {
            BackupLocation::OldSystem { .. } => {}
            BackupLocation::TarExport { path, .. } => {
                let is_sure = path == location || is_export_of_freedombox(&place);
                let opened = id_of(path, location).and_then(|id| open_as(path, id, unlock));
                let is_other = match opened.as_ref() {
                    Err(ReadError::NotABackup(_)) => !is_sure,
                    _ => false,
                };
                match opened {
                    Err(error) if is_other => {
                        findings.push(Finding::new(Severity::Warning, shown(path), error.to_string(), NO_TAR));
                    }
                    opened => take(&shown(path), opened),
                }
            }
            BackupLocation::BorgRepository { path, .. } => match borg::each(path, unlock, take) {
                Ok(more) => findings.extend(more),
                Err(error) if path == location => return Err(error),
                Err(error) => take(&shown(path), Err(error)),
            },
        }
    }
    Ok(findings)
}

fn only_archive(location: &Path, unlock: &mut dyn Unlock) -> Result<ArchiveId, ReadError> {
    let listing = list(location, unlock)?;
    match listing.archives.as_slice() {
        [one] => Ok(one.id.clone()),
        [] => Err(match listing.findings.into_iter().next() {
            Some(finding) => ReadError::NotABackup(format!(
                "'{}' holds no backup that can be read; {}: {}",
                shown(location),
                finding.subject,
                finding.what
            )),
            None => ReadError::NotABackup(format!("'{}' holds no backup", shown(location))),
        }),
        several => {
            let ids: Vec<&str> = several.iter().map(|archive| archive.id.as_str()).collect();
            let what = format!("'{}' holds several backups, name one: {}", shown(location), ids.join(", "));
            Err(ReadError::NotABackup(what))
        }
    }
}

/// A file's id: its path below the location, or its name where it is the location.
fn id_of(path: &Path, location: &Path) -> Result<ArchiveId, ReadError> {
    let below = path.strip_prefix(location).ok().filter(|rest| !rest.as_os_str().is_empty());
    let name = below.map(Path::as_os_str).or(path.file_name()).unwrap_or(path.as_os_str());
    ArchiveId::of_name(name.as_bytes()).map_err(|bad| ReadError::NotABackup(format!("'{}': {bad}", shown(path))))
}

fn is_export_name(name: &[u8]) -> bool {
    let lower = name.to_ascii_lowercase();
    // macOS writes `._name` beside every file on a foreign disk.
    !lower.starts_with(b"._") && ENDINGS.iter().any(|ending| lower.ends_with(ending.as_bytes()))
}

/// The legacy folder of FreedomBox 0.37 to 0.42, whose older archives have no manifest.
fn in_legacy_folder(path: &Path) -> bool {
    path.parent().and_then(Path::file_name).is_some_and(|name| name == "FreedomBox-backups")
}

fn in_upload_folder(path: &Path) -> bool {
    path.parent().is_some_and(|parent| parent.ends_with("var/lib/freedombox/backups-upload"))
}

fn found_as(path: &Path) -> FoundAs {
    match path {
        _ if in_legacy_folder(path) => FoundAs::LegacyFolder,
        _ if in_upload_folder(path) => FoundAs::UploadLeftover,
        _ => FoundAs::Download,
    }
}

fn is_export_of_freedombox(place: &BackupLocation) -> bool {
    matches!(place, BackupLocation::TarExport { found_as: FoundAs::LegacyFolder | FoundAs::UploadLeftover, .. })
}

/// Whether a folder is a borg 1.x repository, also one whose config is lost.
pub fn is_repository(folder: &Path) -> bool {
    repository_config(folder).is_some()
}

/// A borg 1.x repository.
fn recognise_repository(folder: &Path, location: &Path) -> Option<BackupLocation> {
    let BorgConfig { id, keyed } = repository_config(folder)?;
    let found_as = match folder.file_name() {
        _ if folder == location => FoundAs::Named,
        Some(name) if name == "FreedomBoxBackups" => FoundAs::DiskRepository,
        Some(name) if name == "borgbackup" || name == "backups" => FoundAs::RootRepository,
        _ => FoundAs::Named,
    };
    Some(BackupLocation::BorgRepository { path: PathBuf::from(folder), id, keyed, found_as })
}
