//! Discovery: disks, what is installed on them, and where backups are.
//!
//! Everything is read-only: disks and images are mounted from read-only loop devices without replaying a journal,
//! filesystems that are mounted already are looked at through a read-only bind mount, and databases are copied before
//! they are opened. What cannot be looked at becomes a finding; an error means that nothing could be looked at.

mod assemble;
pub mod disks;
pub mod failing;
pub mod files;
mod holder;
pub mod installation;
pub mod locations;
pub mod opening;
pub mod owners;
pub mod stick;
pub mod target;

use crate::model::bytes;
use crate::model::disk::{Disk, FilesystemState, Volume};
use crate::model::finding::{Finding, Severity};
use crate::model::survey::Survey;
use crate::sys::SysError;
use crate::sys::host::Host;
use crate::sys::mount::{self, Mounted, Point};
use installation::Identified;
use std::io;
use std::path::{Path, PathBuf};
use target::Access;

/// Where to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// All disks of this machine.
    Machine,
    /// A disk image file, or the image of one filesystem.
    Image(PathBuf),
    /// A directory that is taken for the root of a filesystem.
    Root(PathBuf),
}

/// Why a survey could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    /// The machine or a named place cannot be looked at.
    #[error(transparent)]
    Sys(#[from] SysError),
}

/// A survey together with the mounts that its paths lead into. They are released when it is dropped.
#[derive(Debug)]
pub struct Surveyed {
    /// What was found.
    pub survey: Survey,
    /// The mounts.
    pub mounts: Vec<Held>,
}

/// A volume that is kept mounted read-only.
#[derive(Debug)]
pub struct Held {
    /// The volume's name in the survey.
    pub volume: String,
    /// Where it is mounted.
    pub mounted: Mounted,
}

impl Surveyed {
    /// The mount that a path of the survey leads into; `None` below a directory that was given as root.
    pub fn holder(&self, path: &Path) -> Option<&Held> {
        self.mounts.iter().find(|held| path.starts_with(held.mounted.path()))
    }

    /// Releases every mount but the one that `path` leads into. A target can be opened for writing only after the
    /// survey has let go of it.
    pub fn keep_only(&mut self, path: &Path) {
        self.mounts.retain(|held| path.starts_with(held.mounted.path()));
    }
}

/// Has the last word on whether a file is a backup, for which it may read all of it; or says why that cannot be told.
pub type Confirm<'a> = dyn Fn(&Path) -> Result<bool, String> + 'a;

/// Looks at every place.
pub fn survey(host: &Host, places: &[Place], confirm: &Confirm<'_>) -> Result<Surveyed, SurveyError> {
    let mut found = Surveyed { survey: Survey::default(), mounts: Vec::new() };
    for place in places {
        match place {
            Place::Machine => {
                for disk in disks::machine(host, &mut found.survey.findings)? {
                    look_at_disk(host, disk, &mut found, confirm);
                }
            }
            Place::Image(path) => {
                let disk = disks::image(path, &mut found.survey.findings)?;
                look_at_disk(host, disk, &mut found, confirm);
            }
            Place::Root(path) => {
                let root = std::fs::canonicalize(path).map_err(|error| SysError::new("opening", path, error))?;
                let name = bytes::path::shown(&root);
                std::fs::read_dir(&root).map_err(|error| SysError::new("reading", path, error))?;
                look_at_root(host, &root, &name, None, &mut found.survey, confirm);
            }
        }
    }
    Ok(found)
}

fn look_at_disk(host: &Host, disk: Disk, found: &mut Surveyed, confirm: &Confirm<'_>) {
    let volumes: Vec<&Volume> = disk.volumes.iter().collect();
    for volume in &disk.volumes {
        match open_volume(host, volume, &mut found.survey.findings) {
            Some(mounted) => {
                // Mounts of the rest hide nothing: they are made only where the root has no packages of its own.
                for root in
                    installation::candidates(mounted.path()).iter().filter(|root| assemble::is_part_of_a_system(root))
                {
                    match assemble::mount_below(host, root, &volumes, volume, Access::Read) {
                        Ok(below) => found.mounts.extend(
                            below.mounts.into_iter().map(|mounted| Held { volume: volume.name.clone(), mounted }),
                        ),
                        Err(error) => found.survey.findings.push(Finding::new(
                            Severity::Warning,
                            &volume.name,
                            error.to_string(),
                            error.advice(),
                        )),
                    }
                }
                let before = found.survey.installations.len();
                look_at_root(host, mounted.path(), &volume.name, Some(volume), &mut found.survey, confirm);
                if disk.boot_medium && found.survey.installations.len() > before {
                    // Nothing is ever restored onto the medium, so no box is offered there; backups may lie on it.
                    found.survey.installations.truncate(before);
                    found.survey.findings.push(Finding::new(
                        Severity::Note,
                        &volume.name,
                        "the FreedomBox system on it is left out, because it is on Lifeboat's own medium",
                        "if it is not: give the filesystem called LIFEBOAT on this disk another name",
                    ));
                }
                found.mounts.push(Held { volume: volume.name.clone(), mounted });
            }
            None => continue,
        }
    }
    found.survey.disks.push(disk);
}

/// Mounts a volume for reading; what is in the way becomes a finding.
fn open_volume(host: &Host, volume: &Volume, findings: &mut Vec<Finding>) -> Option<Mounted> {
    let note = |what: String, advice: &str| Finding::new(Severity::Note, &volume.name, what, advice);
    let candidates: Vec<_> = volume.signatures.iter().filter(|signature| signature.kind.holds_files()).collect();
    if let Some(closed) = volume.signatures.iter().find(|signature| !signature.kind.holds_files())
        && candidates.is_empty()
    {
        findings.extend(closed_finding(volume, closed.kind));
        return None;
    }
    if volume.signatures.len() > 1 {
        let names = volume.signatures.iter().map(|signature| signature.kind.name()).collect::<Vec<_>>().join(" and ");
        findings.push(Finding::new(
            Severity::Warning,
            &volume.name,
            format!("it has the signatures of {names}, one of them is left over from an earlier use"),
            "",
        ));
    }
    if let Some(point) = volume.mounted_at.first() {
        return mount::shown_read_only(host, point, Point::New)
            .map_err(|error| findings.push(note(error.to_string(), "")))
            .ok();
    }
    let extent = disks::extent(volume);
    let mut refusal = None;
    for signature in candidates {
        match opening::mount(host, &extent, (signature.kind, signature.state), None, Point::New) {
            Ok(mounted) => {
                findings.extend(state_finding(volume, signature.state, mounted.is_recovered()));
                return Some(mounted);
            }
            Err(error) => refusal = Some((signature.kind, error)),
        }
    }
    let (kind, error) = refusal?;
    findings.push(match error.source.raw_os_error() {
        Some(NO_DRIVER) => Finding::new(
            Severity::Warning,
            &volume.name,
            format!("this system cannot read {}", kind.name()),
            "connect the disk to a computer that can, and copy the backup to another disk",
        ),
        _ => Finding::new(
            Severity::Warning,
            &volume.name,
            error.to_string(),
            "the filesystem may be damaged: check it with a tool of its own",
        ),
    });
    None
}

/// `ENODEV`: the kernel does not know the filesystem.
const NO_DRIVER: i32 = 19;

fn closed_finding(volume: &Volume, kind: crate::model::disk::FilesystemKind) -> Option<Finding> {
    use crate::model::disk::FilesystemKind;
    let (what, advice) = match kind {
        FilesystemKind::Luks => ("it is encrypted with LUKS, what is in it was not looked at", "unlock it first"),
        FilesystemKind::Lvm => ("it belongs to an LVM volume group", "its volumes are listed where they are active"),
        FilesystemKind::MdRaid => ("it belongs to a RAID array", "the array is listed where it is running"),
        _ => return None,
    };
    Some(Finding::new(Severity::Note, &volume.name, what, advice))
}

/// What is the matter with a filesystem, as far as its superblock tells; `recovered` in an overlay or not.
fn state_finding(volume: &Volume, state: FilesystemState, recovered: bool) -> Option<Finding> {
    let (severity, what, advice) = match state {
        FilesystemState::NeedsRecovery if recovered => (
            Severity::Note,
            "it was not unmounted cleanly; its journal was replayed in memory, and nothing was written to the disk",
            "",
        ),
        FilesystemState::Damaged if recovered => (
            Severity::Damage,
            "its superblock or its chunk tree is damaged, or it is marked as having errors; it is read as far as it can be repaired in memory",
            "save what is on it before anything else",
        ),
        FilesystemState::NeedsRecovery => (
            Severity::Warning,
            "it was not unmounted cleanly; its journal was left alone, so the last changes before that are not seen here",
            "",
        ),
        FilesystemState::Damaged => (
            Severity::Damage,
            "its superblock or its chunk tree is damaged, or it is marked as having errors",
            "check it with a tool of its own before relying on it",
        ),
        FilesystemState::Clean | FilesystemState::Unknown => return None,
    };
    Some(Finding::new(severity, &volume.name, what, advice))
}

/// Looks for an installed system and for backups below a mounted root.
fn look_at_root(
    host: &Host,
    root: &Path,
    name: &str,
    volume: Option<&Volume>,
    survey: &mut Survey,
    confirm: &Confirm<'_>,
) {
    let mut roots = Vec::new();
    for candidate in installation::candidates(root) {
        match installation::identify(host, &candidate, name, volume) {
            Ok(Some(Identified { installation, findings })) => {
                survey.findings.extend(findings);
                roots.push(candidate);
                survey.installations.push(installation);
            }
            Ok(None) => {}
            Err(error) => survey.findings.push(unreadable(name, &error)),
        }
    }
    locations::search(root, &roots, confirm, survey);
}

fn unreadable(name: &str, error: &io::Error) -> Finding {
    Finding::new(
        Severity::Damage,
        name,
        format!("reading the installed system's files: {error}"),
        "the disk may be failing: save what is on it before anything else",
    )
}
