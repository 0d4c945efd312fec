//! Places with backups: one file, a repository, or a folder to search.

use super::tar_export::{PassOver, at, open_as, shown};
use super::{Archive, ReadError, open};
use crate::model::archive::{ArchiveId, ArchiveSummary, BackupLocation, FoundAs, Generation};
use crate::model::bytes;
use crate::model::finding::{Finding, Severity};
use crate::model::progress::Silent;
use crate::model::size::ByteSize;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// How deep a folder is searched.
const DEPTH: usize = 6;
/// Names of tar exports. In a search the name decides, because a system disk holds thousands of other packed files.
const ENDINGS: [&str; 5] = [".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst"];
/// Longest borg `config` that is looked at; a key takes less than 2 KiB.
const LONGEST_CONFIG: u64 = 64 << 10;

/// What a place holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The backups that can be opened, by id, in the order of their times, oldest first.
    pub archives: Vec<ArchiveSummary>,
    /// Borg repositories found there.
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
/// one that is damaged behind its manifest is listed with a finding. In a
/// folder, tar archives without a manifest are not backups; a file that the user names is one in any case.
pub fn list(location: &Path) -> Result<Listing, ReadError> {
    let (found, findings) = find(location)?;
    let mut listing = Listing { archives: Vec::new(), repositories: Vec::new(), findings };
    for place in found {
        let path = match &place {
            BackupLocation::BorgRepository { .. } => {
                listing.repositories.push(place);
                continue;
            }
            BackupLocation::TarExport { path, .. } => path,
        };
        let is_named = path == location;
        let mut damage = None;
        let summary = id_of(path, location).and_then(|id| open_as(path, id)).and_then(|mut archive| {
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
            Err(ReadError::NotABackup(_)) if !is_export_of_freedombox(&place) => {}
            Err(error) => {
                let advice = "look at the disk and the file; other backups are not affected";
                listing.findings.push(Finding::new(Severity::Warning, shown(path), error.to_string(), advice));
            }
        }
    }
    listing.archives.sort_by(|a, b| (&a.time, &a.id).cmp(&(&b.time, &b.id)));
    Ok(listing)
}

/// Opens one archive at `location`. Without an id, the place must hold exactly one backup.
pub fn open_location(location: &Path, archive: Option<&ArchiveId>) -> Result<Box<dyn Archive>, ReadError> {
    let meta = std::fs::metadata(location).map_err(|error| at(location, &error))?;
    if !meta.is_dir() {
        if let Some(id) = archive.filter(|id| id_of(location, location).ok().as_ref() != Some(*id)) {
            return Err(ReadError::NotABackup(format!(
                "'{}' is one archive, which is not called '{id}'",
                shown(location)
            )));
        }
        return open(location);
    }
    let id = match archive {
        Some(id) => id.clone(),
        None => only_archive(location)?,
    };
    let (found, _) = find(location)?;
    for place in &found {
        if id_of(place.path(), location).ok().as_ref() == Some(&id) {
            return match place {
                BackupLocation::TarExport { path, .. } => open_as(path, id),
                BackupLocation::BorgRepository { path, .. } => Err(borg_is_not_read(path)),
            };
        }
    }
    match found.iter().find(|place| matches!(place, BackupLocation::BorgRepository { .. })) {
        Some(repository) if archive.is_some() => Err(borg_is_not_read(repository.path())),
        _ => Err(ReadError::NotABackup(format!("'{}' holds no archive called '{id}'", shown(location)))),
    }
}

fn only_archive(location: &Path) -> Result<ArchiveId, ReadError> {
    let listing = list(location)?;
    match (listing.archives.as_slice(), listing.repositories.first()) {
        ([one], None) => Ok(one.id.clone()),
        ([], Some(repository)) => Err(borg_is_not_read(repository.path())),
        ([], None) => Err(match listing.findings.into_iter().next() {
            Some(finding) => ReadError::NotABackup(format!(
                "'{}' holds no backup that can be read; {}: {}",
                shown(location),
                finding.subject,
                finding.what
            )),
            None => ReadError::NotABackup(format!("'{}' holds no backup", shown(location))),
        }),
        (several, _) => {
            let ids: Vec<&str> = several.iter().map(|archive| archive.id.as_str()).collect();
            let what = format!("'{}' holds several backups, name one: {}", shown(location), ids.join(", "));
            Err(ReadError::NotABackup(what))
        }
    }
}

fn borg_is_not_read(path: &Path) -> ReadError {
    ReadError::Unsupported {
        entry: format!("'{}'", shown(path)),
        what: "reading borg repositories comes with a later version of Lifeboat".into(),
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
    ENDINGS.iter().any(|ending| lower.ends_with(ending.as_bytes()))
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

/// A borg 1.x repository: a folder with `data/` and a `config` whose `[repository]` section has version 1 and an id.
fn recognise_repository(folder: &Path, location: &Path) -> Option<BackupLocation> {
    let path = folder.join("config");
    if !std::fs::metadata(&path).is_ok_and(|meta| meta.is_file()) || !folder.join("data").is_dir() {
        return None;
    }
    let mut text = Vec::new();
    std::fs::File::open(path).ok()?.take(LONGEST_CONFIG).read_to_end(&mut text).ok()?;
    let (id, keyed) = parse_config(&text)?;
    let found_as = match folder.file_name() {
        _ if folder == location => FoundAs::Named,
        Some(name) if name == "FreedomBoxBackups" => FoundAs::DiskRepository,
        Some(name) if name == "borgbackup" || name == "backups" => FoundAs::RootRepository,
        _ => FoundAs::Named,
    };
    Some(BackupLocation::BorgRepository { path: PathBuf::from(folder), id, keyed, found_as })
}

/// The id of a repository, and whether its config holds a key.
fn parse_config(text: &[u8]) -> Option<(String, bool)> {
    let (mut inside, mut version, mut id, mut keyed) = (false, false, None, false);
    for line in text.split(|&b| b == b'\n').map(<[u8]>::trim_ascii) {
        if line.starts_with(b"[") {
            inside = line == b"[repository]";
            continue;
        }
        let mut parts = line.splitn(2, |&b| b == b'=').map(<[u8]>::trim_ascii);
        match (inside, parts.next(), parts.next()) {
            (true, Some(b"version"), Some(value)) => version = value == b"1",
            (true, Some(b"id"), Some(value)) if value.len() == 64 && value.iter().all(u8::is_ascii_hexdigit) => {
                id = Some(bytes::escape(value));
            }
            (true, Some(b"key"), Some(value)) => keyed = !value.is_empty(),
            _ => {}
        }
    }
    id.filter(|_| version).map(|id| (id, keyed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_borg_config_is_recognised_with_and_without_key() {
        let id = "ab".repeat(32);
        let plain = format!("[repository]\nversion = 1\nsegments_per_dir = 1000\nid = {id}\n\n");
        assert_eq!(parse_config(plain.as_bytes()), Some((id.clone(), false)));
        let keyed = format!("[repository]\nversion = 1\nid = {id}\nkey = hqlhbGdvcml0aG2m\n\tAAAA\n");
        assert_eq!(parse_config(keyed.as_bytes()), Some((id.clone(), true)));
        for other in [format!("[core]\nid = {id}\nversion = 1"), "[repository]\nversion = 1".into(), String::new()] {
            assert_eq!(parse_config(other.as_bytes()), None);
        }
    }
}
