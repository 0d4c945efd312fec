//! Bringing a backup into reach: what the user named becomes a place that can be listed and opened.
//!
//! A disk with an installed FreedomBox is a backup itself, besides those that lie on it. It comes first: who names the
//! whole disk of an old box means that box. The others are chosen by their ids.

use super::prepare::{is_backup, learn};
use crate::failure::Failure;
use crate::model::archive::{ArchiveId, BackupLocation};
use crate::model::disk::{FilesystemKind, FilesystemState, Volume};
use crate::model::ending::Ending;
use crate::model::finding::{Finding, Severity};
use crate::model::survey::Survey;
use crate::source::old_system::{self, Root, SYSTEM};
use crate::source::{self, Archive, Listing, ReadError, Take, Unlock};
use crate::survey::target::{self, Access, Target, TargetError, TargetSpec};
use crate::survey::{self, Place, Surveyed, disks, installation};
use crate::sys::host::Host;
use std::path::{Path, PathBuf};

/// A backup location that is in reach, with whatever has to stay mounted for it.
pub struct Location {
    /// The file, repository or directory; where only a system is in reach, its root, disk or image.
    pub path: PathBuf,
    /// The installed system there.
    pub system: Option<System>,
    /// Whether backups may lie at the path besides the system.
    has_more: bool,
    // The innermost mounts first.
    _target: Option<Target>,
    _mounts: Option<Surveyed>,
}

/// An installed system that can be read as a backup.
pub struct System {
    /// How.
    root: Root,
    /// What was noticed while it was brought into reach.
    findings: Vec<Finding>,
}

impl Location {
    /// A file, a repository or a directory, as it is.
    pub fn plain(path: PathBuf) -> Location {
        Location { path, system: None, has_more: true, _target: None, _mounts: None }
    }
}

/// Brings what the user named as LOCATION into reach: a file, a repository or a directory as they are; a disk or a disk
/// image by mounting it read-only, or by reading it without the kernel. What a system there keeps of passphrases is
/// learned.
pub fn location(host: &Host, path: &Path, unlock: &mut dyn Unlock) -> Result<Location, Failure> {
    let metadata = std::fs::metadata(path).map_err(|error| {
        let sentence = format!("opening \"{}\": {error}", path.display());
        Failure::untouched(Ending::NoBackup, sentence, "run 'lifeboat survey' to see which backups are in reach")
    })?;
    if metadata.is_dir() {
        return Ok(Location { system: system_below(host, path), ..Location::plain(path.to_owned()) });
    }
    if metadata.is_file() && !matches!(source::open(path), Err(ReadError::NotABackup(_))) {
        return Ok(Location::plain(path.to_owned()));
    }
    let mut surveyed = survey::survey(host, &[Place::Image(path.to_owned())], &is_backup)?;
    learn(unlock, &surveyed.survey.installations);
    let (system, target, refusal) = match system_on(host, path, &surveyed.survey) {
        Ok(Some((system, target))) => (Some(system), target, None),
        Ok(None) => (None, None, None),
        Err(error) => (None, None, Some(error)),
    };
    let found = surveyed.survey.locations.iter().find(|found| !matches!(found, BackupLocation::OldSystem { .. }));
    let Some(found) = found.map(|found| found.path().to_owned()) else {
        if let Some(system) = system {
            let path = system.root.path().to_owned();
            return Ok(Location { path, system: Some(system), has_more: false, _target: target, _mounts: None });
        }
        let mut sentence = format!("\"{}\" holds no backup", path.display());
        let mut advice = "name another disk or file".to_owned();
        // What could not be looked at may be where the backup is.
        if let Some(refusal) = refusal {
            sentence = format!("{sentence}, and the system on it cannot be read: {refusal}");
            refusal.advice().clone_into(&mut advice);
        } else if let Some(unread) = surveyed.survey.findings.iter().find(|one| one.severity > Severity::Note) {
            sentence = format!("{sentence}; {}: {}", unread.subject, unread.what);
            advice.clone_from(&unread.advice);
        }
        return Err(Failure::untouched(Ending::NoBackup, sentence, advice));
    };
    let path = match surveyed.holder(&found) {
        Some(held) => held.mounted.path().to_owned(),
        None => found,
    };
    surveyed.keep_only(&path);
    Ok(Location { path, system, has_more: true, _target: target, _mounts: Some(surveyed) })
}

/// The system whose root is this directory, or the subvolume in it that installers use.
fn system_below(host: &Host, path: &Path) -> Option<System> {
    let roots = installation::candidates(path).into_iter().map(Root::Directory);
    let root = roots.into_iter().find(|root| matches!(root.identify(host), Ok(Some(_))))?;
    Some(System { root, findings: Vec::new() })
}

/// The only system on a disk or an image: with its journal where that holds changes, as the kernel shows it, or without
/// the kernel where that cannot mount it.
fn system_on(host: &Host, path: &Path, survey: &Survey) -> Result<Option<(System, Option<Target>)>, TargetError> {
    let volumes = || survey.disks.iter().flat_map(|disk| &disk.volumes);
    let mut refusal = None;
    if !survey.installations.is_empty() {
        match target::open(host, &TargetSpec::of(path)?, Access::Read) {
            Ok(target) if target.installation.booted => {
                let unclean = volumes().find(|volume| volume.name == target.installation.place && is_unclean(volume));
                if let Some(system) = unclean.and_then(|volume| unmounted(host, volume)) {
                    return Ok(Some((system, None)));
                }
                let root = Root::Directory(target.root.clone());
                return Ok(Some((System { root, findings: target.findings.clone() }, Some(target))));
            }
            Ok(_) => return Ok(None),
            Err(error) => refusal = Some(error),
        }
    }
    let system = volumes().filter(|volume| is_ext(volume)).find_map(|volume| unmounted(host, volume));
    match (system, refusal) {
        (Some(system), _) => Ok(Some((system, None))),
        (None, Some(refusal)) => Err(refusal),
        (None, None) => Ok(None),
    }
}

fn unmounted(host: &Host, volume: &Volume) -> Option<System> {
    let root = Root::Volume(disks::extent(volume));
    let is_there = matches!(root.identify(host), Ok(Some(_)));
    is_there.then_some(System { root, findings: Vec::new() })
}

fn is_ext(volume: &Volume) -> bool {
    let kinds = [FilesystemKind::Ext2, FilesystemKind::Ext3, FilesystemKind::Ext4];
    volume.filesystem().is_some_and(|signature| kinds.contains(&signature.kind))
}

fn is_unclean(volume: &Volume) -> bool {
    is_ext(volume) && volume.filesystem().is_some_and(|signature| signature.state == FilesystemState::NeedsRecovery)
}

/// Opens one backup at a location. Without an id, the installed system where there is one, else the only backup.
pub fn open(
    host: &Host,
    location: &Location,
    archive: Option<&ArchiveId>,
    unlock: &mut dyn Unlock,
) -> Result<Box<dyn Archive>, Failure> {
    match (&location.system, archive) {
        (Some(system), None) => open_system(host, system),
        (Some(system), Some(id)) if id.as_str() == SYSTEM => open_system(host, system),
        (Some(_), Some(id)) if !location.has_more => {
            let what = format!("nothing but an installed system is there, called '{SYSTEM}'; it has no backup '{id}'");
            Err(ReadError::NotABackup(what).into())
        }
        _ => Ok(source::open_location(&location.path, archive, unlock)?),
    }
}

fn open_system(host: &Host, system: &System) -> Result<Box<dyn Archive>, Failure> {
    Ok(old_system::open(host, system.root.clone(), &system.findings)?)
}

/// Opens every backup at a location, one after the other, and says what was noticed: the installed system first.
pub fn each(
    host: &Host,
    location: &Location,
    unlock: &mut dyn Unlock,
    take: &mut Take<'_>,
) -> Result<Vec<Finding>, Failure> {
    if let Some(system) = &location.system {
        let opened = old_system::open(host, system.root.clone(), &system.findings);
        take(SYSTEM, opened);
    }
    match location.has_more {
        true => Ok(source::each(&location.path, unlock, take)?),
        false => Ok(Vec::new()),
    }
}

/// All backups at a location, the installed system among them, the oldest first; or those that were deleted.
pub fn list(host: &Host, location: &Location, deleted: bool, unlock: &mut dyn Unlock) -> Result<Listing, Failure> {
    let mut listing = match (&location.system, deleted) {
        (_, true) => return Ok(source::list_deleted(&location.path, unlock)?),
        (None, false) => return Ok(source::list(&location.path, unlock)?),
        (Some(_), false) if !location.has_more => {
            Listing { archives: Vec::new(), repositories: Vec::new(), findings: Vec::new() }
        }
        // What else is there cannot be in the way of the system.
        (Some(_), false) => source::list(&location.path, unlock).unwrap_or_else(|error| {
            let subject = crate::model::bytes::path::shown(&location.path);
            let finding = Finding::new(Severity::Warning, subject, error.to_string(), "");
            Listing { archives: Vec::new(), repositories: Vec::new(), findings: vec![finding] }
        }),
    };
    if let Some(system) = &location.system {
        listing.archives.push(open_system(host, system)?.summary()?);
    }
    listing.archives.sort_by(|a, b| (&a.time, &a.id).cmp(&(&b.time, &b.id)));
    Ok(listing)
}
