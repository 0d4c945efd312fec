//! Opening the system that a backup is restored onto.
//!
//! Finds the FreedomBox root in a directory, an image or a disk, mounts it and what its fstab lists below it, and
//! refuses what must not be written to. Reading never replays a journal.
//!
//! The rule for a backup on the target's own filesystems: it may lie below `var/lib/freedombox` of the target's root,
//! where FreedomBox keeps its own repository and uploads and where a restore replaces nothing. Anywhere else on them
//! it is refused, because a restore could replace or fill what it reads from.

use super::assemble::{self, open_for_reading};
use super::disks::{self, MEDIUM_LABEL};
use super::holder::{Holder, holders_of_extent, holders_of_path, mount_of, same_device};
use super::installation;
use super::opening;
use crate::model::bytes;
use crate::model::disk::{Disk, FilesystemState, Volume};
use crate::model::finding::{Finding, Severity};
use crate::model::installation::Installation;
use crate::sys::SysError;
use crate::sys::block::{self, Backing};
use crate::sys::file::{self, device_number};
use crate::sys::host::Host;
use crate::sys::mount::{self, Mounted, Point};
use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the user names as target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetSpec {
    /// A mounted root directory.
    Directory(PathBuf),
    /// A disk image file.
    Image(PathBuf),
    /// A block device: a disk or a partition.
    Device(PathBuf),
}

/// What is going to be done with a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Looking only: not even a journal is replayed.
    Read,
    /// Restoring.
    Write,
}

/// An opened target. Its mounts are released when it is dropped.
#[derive(Debug)]
pub struct Target {
    /// The root directory of the installed system.
    pub root: PathBuf,
    /// What is installed there.
    pub installation: Installation,
    /// What is not as it should be.
    pub findings: Vec<Finding>,
    /// Where its root lies; `None` of a directory.
    pub site: Option<Site>,
    // Innermost first, so that dropping unmounts in the right order.
    mounts: Vec<Mounted>,
    volumes: BTreeSet<Holder>,
}

/// Where a root filesystem lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// The disk or image.
    pub disk: Disk,
    /// The volume on it.
    pub volume: Volume,
}

/// Why a target is refused or cannot be opened. The message is what is the matter; [`TargetError::advice`] helps.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// Neither a directory, a regular file nor a block device.
    #[error("'{0}' is neither a directory, a disk image nor a disk")]
    NoTarget(String),
    /// No FreedomBox is installed there.
    #[error("no FreedomBox is installed on '{0}'")]
    NotFreedomBox(String),
    /// Several systems are installed there.
    #[error("several FreedomBox systems are on '{target}': {places}")]
    Several {
        /// What was named.
        target: String,
        /// The volumes that hold them.
        places: String,
    },
    /// It is what Lifeboat was started from.
    #[error("'{0}' is the medium that Lifeboat was started from")]
    BootMedium(String),
    /// The backup lies on it.
    #[error("the backup '{backup}' lies on the target itself")]
    HoldsBackup {
        /// The backup.
        backup: String,
    },
    /// It is in use.
    #[error("'{target}' is in use at '{by}'")]
    InUse {
        /// What was named.
        target: String,
        /// The mount point or loop device.
        by: String,
    },
    /// It cannot be written to.
    #[error("'{0}' is write-protected")]
    WriteProtected(String),
    /// A filesystem that the system needs is not there.
    #[error("the system mounts {device} on '/{point}', and that filesystem was not found")]
    MissingFilesystem {
        /// As the fstab names it.
        device: String,
        /// Where it belongs.
        point: String,
    },
    /// What is to be salvaged is no disk.
    #[error("'{0}' is neither a disk nor a disk image")]
    NoDisk(String),
    /// What an image would be written into is no file.
    #[error("'{0}' is not a file; no disk is ever overwritten with an image")]
    NotAFile(String),
    /// The image would lie on the disk that is to be salvaged.
    #[error("'{0}' lies on the disk that is to be salvaged")]
    OnSource(String),
    /// The backup would lie on the disk that is backed up.
    #[error("'{0}' lies on the disk that is to be backed up")]
    OnBox(String),
    /// A stick has nothing that can be written to.
    #[error("'{0}' holds no filesystem that a backup can be written to")]
    NoStick(String),
    /// A stick has several.
    #[error("'{target}' holds several filesystems that a backup can be written to: {places}")]
    SeveralPlaces {
        /// What was named.
        target: String,
        /// Names of the volumes.
        places: String,
    },
    /// The disk that is to be salvaged is mounted for writing.
    #[error("'{disk}' is mounted for writing at '{at}'")]
    Mounted {
        /// The disk.
        disk: String,
        /// Where.
        at: String,
    },
    /// The system refused an operation.
    #[error(transparent)]
    Sys(#[from] SysError),
}

impl TargetError {
    /// What the user can do.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::NoTarget(_) => "name the box's disk, a disk image, or the directory where its root is mounted",
            Self::NotFreedomBox(_) => "name another disk, or install FreedomBox on this one and start it once",
            Self::Several { .. } => "name the volume that is to be restored onto",
            Self::BootMedium(_) => "name the disk of the box",
            Self::HoldsBackup { .. } => "copy the backup to another disk first",
            Self::InUse { .. } => "unmount it first, or name the directory where it is mounted",
            Self::NoDisk(_) => "name the failing disk, such as /dev/sdb; 'lifeboat survey' lists the disks",
            Self::OnBox(_) => "name a stick, or a folder on another disk",
            Self::NoStick(_) => "format it, for example with exFAT, or name another one",
            Self::SeveralPlaces { .. } => "mount the one that you mean and name its folder",
            Self::NotAFile(_) | Self::OnSource(_) => "name a folder or a new file on another disk",
            Self::Mounted { .. } => "unmount it first: its image would be a mixture of several moments",
            Self::WriteProtected(_) => "remove the write protection, or name another disk",
            Self::MissingFilesystem { .. } => "connect the disk that holds it, or unlock it when it is encrypted",
            Self::Sys(error) if error.source.kind() == std::io::ErrorKind::NotFound => {
                "check the name; 'lifeboat survey' shows the boxes in reach"
            }
            Self::Sys(_) => "if this happens again, the disk may be failing: save what is on it first",
        }
    }
}

impl TargetSpec {
    /// Tells from a path what is meant.
    pub fn of(path: &Path) -> Result<Self, TargetError> {
        let path = std::fs::canonicalize(path).map_err(|error| SysError::new("opening", path, error))?;
        let kind = std::fs::metadata(&path).map_err(|error| SysError::new("opening", &path, error))?.file_type();
        match kind {
            kind if kind.is_dir() => Ok(Self::Directory(path)),
            kind if kind.is_file() => Ok(Self::Image(path)),
            kind if kind.is_block_device() => Ok(Self::Device(path)),
            _ => Err(TargetError::NoTarget(bytes::path::shown(&path))),
        }
    }

    /// The path.
    pub fn path(&self) -> &Path {
        match self {
            Self::Directory(path) | Self::Image(path) | Self::Device(path) => path,
        }
    }
}

/// Opens a target.
pub fn open(host: &Host, spec: &TargetSpec, access: Access) -> Result<Target, TargetError> {
    match spec {
        TargetSpec::Directory(path) => open_directory(host, path, access),
        TargetSpec::Image(path) => {
            let mut findings = Vec::new();
            let disk = disks::image(path, &mut findings)?;
            open_disks(host, spec, &[disk], |_| true, access, findings)
        }
        TargetSpec::Device(path) => {
            let path = &std::fs::canonicalize(path).map_err(|error| SysError::new("opening", path, error))?;
            let mut findings = Vec::new();
            let disks = disks::machine(host, &mut findings)?;
            let named = |volume: &Volume| same_device(&volume.path, path);
            let whole = disks.iter().find(|disk| same_device(&disk.path, path)).map(|disk| disk.name.clone());
            let held = disks.iter().any(|disk| disk.volumes.iter().any(named));
            if whole.is_none() && !held {
                // A loop device, or one that the kernel lists nowhere: looked at by itself.
                let disk = disks::image(path, &mut findings)?;
                return open_disks(host, spec, &[disk], |_| true, access, findings);
            }
            let inside = |volume: &Volume| {
                named(volume)
                    || disks.iter().any(|disk| Some(&disk.name) == whole.as_ref() && disk.volumes.contains(volume))
            };
            open_disks(host, spec, &disks, inside, access, findings)
        }
    }
}

fn open_directory(host: &Host, path: &Path, access: Access) -> Result<Target, TargetError> {
    let shown = bytes::path::shown(path);
    let identified = installation::identify(host, path, &shown, None)
        .map_err(|error| SysError::new("reading", path, error))?
        .ok_or_else(|| TargetError::NotFreedomBox(shown.clone()))?;
    if access == Access::Write && file::is_read_only(path)? {
        return Err(TargetError::WriteProtected(shown));
    }
    let mounts = mount::mounted(host).unwrap_or_default();
    let mut installation = identified.installation;
    installation.filesystem = mount_of(&mounts, path).map(|line| line.kind.clone());
    let medium = mounts.iter().find(|line| line.point == Path::new("/run/lifeboat/medium"));
    let own = mount_of(&mounts, path);
    if let (Some(medium), Some(own)) = (medium, own)
        && medium.device == own.device
    {
        return Err(TargetError::BootMedium(shown));
    }
    Ok(Target {
        root: path.to_path_buf(),
        installation,
        findings: identified.findings,
        site: None,
        mounts: Vec::new(),
        volumes: BTreeSet::new(),
    })
}

/// Opens the only FreedomBox among the volumes that `inside` accepts; the other volumes may hold parts of it.
fn open_disks(
    host: &Host,
    spec: &TargetSpec,
    disks: &[Disk],
    inside: impl Fn(&Volume) -> bool,
    access: Access,
    mut findings: Vec<Finding>,
) -> Result<Target, TargetError> {
    let shown = bytes::path::shown(spec.path());
    let volumes: Vec<&Volume> = disks.iter().flat_map(|disk| &disk.volumes).collect();
    let chosen: Vec<&Volume> = volumes.iter().copied().filter(|volume| inside(volume)).collect();
    if disks.iter().any(|disk| disk.boot_medium && disk.volumes.iter().any(&inside))
        || chosen.iter().any(|v| is_medium(v))
    {
        return Err(TargetError::BootMedium(shown));
    }
    refuse_in_use(host, &shown, disks, &chosen)?;
    let mut found = Vec::new();
    for volume in &chosen {
        let Some(signature) = volume.filesystem() else { continue };
        let mounted = match open_for_reading(host, volume, None, Point::New) {
            Ok(mounted) => mounted,
            Err(error) => {
                findings.push(Finding::new(Severity::Warning, &volume.name, error.to_string(), ""));
                continue;
            }
        };
        for root in installation::candidates(mounted.path()) {
            let part = assemble::is_part_of_a_system(&root);
            let _rest =
                if part { Some(assemble::mount_below(host, &root, &volumes, volume, Access::Read)?) } else { None };
            let identified = installation::identify(host, &root, &volume.name, Some(volume))
                .map_err(|error| SysError::new("reading", &volume.path, error))?;
            if let (Some(identified), Ok(below)) = (identified, root.strip_prefix(mounted.path())) {
                found.push((*volume, signature, below.to_path_buf(), identified));
            }
        }
    }
    let places = found.iter().map(|(volume, ..)| volume.name.as_str()).collect::<Vec<_>>().join(", ");
    let (volume, signature, below, identified) = match found.len() {
        0 => return Err(TargetError::NotFreedomBox(shown)),
        1 => found.remove(0),
        _ => return Err(TargetError::Several { target: shown, places }),
    };
    findings.extend(identified.findings);
    if access == Access::Write {
        refuse_write_protected(host, &shown, disks, volume)?;
    }
    let disk = disks.iter().find(|disk| disk.volumes.contains(volume));
    let site = disk.map(|disk| Site { disk: disk.clone(), volume: volume.clone() });
    let mut target = Target {
        root: PathBuf::new(),
        installation: identified.installation,
        findings,
        site,
        mounts: Vec::new(),
        volumes: BTreeSet::new(),
    };
    target.add_volume(host, volume);
    let mounted = match access {
        Access::Read => open_for_reading(host, volume, None, Point::New)?,
        Access::Write => mount::writable(host, &disks::extent(volume), signature.kind)?,
    };
    let is_seen_recovered = mounted.is_recovered() || opening::is_overlaid(host, &disks::extent(volume));
    if access == Access::Read && signature.state == FilesystemState::NeedsRecovery && !is_seen_recovered {
        target.findings.push(Finding::new(
            Severity::Warning,
            &volume.name,
            "it was not unmounted cleanly; its journal was left alone, so the last changes before that are not seen here",
            "restoring recovers it first, so the plan may differ then",
        ));
    }
    target.root = mounted.path().join(below);
    target.installation.root.clone_from(&target.root);
    target.mounts.push(mounted);
    let below = assemble::mount_below(host, &target.root, &volumes, volume, access)?;
    target.findings.extend(below.findings);
    for volume in below.volumes {
        target.add_volume(host, volume);
    }
    target.mounts.splice(0..0, below.mounts);
    Ok(target)
}

fn is_medium(volume: &Volume) -> bool {
    volume.signatures.iter().any(|signature| signature.label.as_deref() == Some(MEDIUM_LABEL))
}

const DETACH_TRIES: u32 = 40;
const DETACH_PAUSE: Duration = Duration::from_millis(25);

fn refuse_in_use(host: &Host, shown: &str, disks: &[Disk], chosen: &[&Volume]) -> Result<(), TargetError> {
    let in_use = |by: String| TargetError::InUse { target: shown.to_owned(), by };
    if let Some(point) = chosen.iter().find_map(|volume| volume.mounted_at.first()) {
        return Err(in_use(bytes::path::shown(point)));
    }
    let whole: Vec<&Disk> =
        disks.iter().filter(|disk| disk.volumes.iter().any(|volume| chosen.contains(&volume))).collect();
    let over = |backing: &Backing| {
        chosen.iter().any(|volume| same_device(&volume.path, &backing.path))
            || whole.iter().any(|disk| same_device(&disk.path, &backing.path))
    };
    let own = host.mount_points();
    for last in (0..DETACH_TRIES).rev() {
        let lines = mount::mounted(host)?;
        let mut going = false;
        for backing in block::loops(host).into_iter().filter(over) {
            let node = Path::new("/dev").join(&backing.name);
            let mut users = lines.iter().filter(|line| line.is_of(&backing)).peekable();
            if users.peek().is_some() && users.all(|line| line.point.starts_with(&own)) {
                continue;
            }
            // Without a mount and marked to go: the kernel is still taking down an earlier mount. One that cannot
            // write does no harm when it stays for longer.
            let leaving = backing.autoclear && !lines.iter().any(|line| line.is_of(&backing));
            if !leaving || (last == 0 && !backing.read_only) {
                return Err(in_use(bytes::path::shown(&node)));
            }
            going = true;
        }
        if !going {
            break;
        }
        std::thread::sleep(DETACH_PAUSE);
    }
    Ok(())
}

fn refuse_write_protected(host: &Host, shown: &str, disks: &[Disk], volume: &Volume) -> Result<(), TargetError> {
    let disk_protected = disks.iter().any(|disk| disk.read_only && disk.volumes.contains(volume));
    let device_protected = device_number(&volume.path).is_some_and(|number| block::is_read_only(host, number));
    // A file can be protected by its filesystem; asking for its mode alone would not tell.
    let file_protected = OpenOptions::new().read(true).write(true).open(&volume.path).is_err();
    if disk_protected || device_protected || file_protected {
        return Err(TargetError::WriteProtected(shown.to_owned()));
    }
    Ok(())
}

impl Target {
    fn add_volume(&mut self, host: &Host, volume: &Volume) {
        let extent = disks::extent(volume);
        self.volumes.extend(holders_of_extent(host, &extent.path, extent.offset));
    }

    /// Refuses a backup that lies where the restore writes; see the rule at the top.
    pub fn refuse_if_holds(&self, host: &Host, backup: &Path) -> Result<(), TargetError> {
        let real = std::fs::canonicalize(backup).map_err(|error| SysError::new("opening", backup, error))?;
        let root = std::fs::canonicalize(&self.root).map_err(|error| SysError::new("opening", &self.root, error))?;
        let refused = || TargetError::HoldsBackup { backup: bytes::path::shown(backup) };
        let lines = mount::mounted(host)?;
        if real.starts_with(&root) {
            let safe = real.starts_with(root.join("var/lib/freedombox"));
            let elsewhere = self.volumes.is_empty() && mount_of(&lines, &real) != mount_of(&lines, &root);
            return if safe || elsewhere { Ok(()) } else { Err(refused()) };
        }
        // A system that is read without the kernel is named by what it lies on.
        let is_itself = self.site.as_ref().is_some_and(|site| same_device(&site.volume.path, &real));
        let elsewhere = !is_itself && holders_of_path(host, &lines, &real).is_disjoint(&self.volumes);
        if elsewhere { Ok(()) } else { Err(refused()) }
    }

    /// The same file as seen through this target, for a backup that a survey found on the target's own root volume
    /// below `var/lib/freedombox`; `None` when it lies elsewhere. Asked before [`Target::refuse_if_holds`], which
    /// refuses the survey's own path to it.
    pub fn rebased(&self, host: &Host, backup: &Path) -> Option<PathBuf> {
        let lines = mount::mounted(host).ok()?;
        let real = std::fs::canonicalize(backup).ok()?;
        let inside = real.strip_prefix(&mount_of(&lines, &real)?.point).ok()?;
        if holders_of_path(host, &lines, &real).is_disjoint(&self.volumes) {
            return None;
        }
        let inode = std::fs::metadata(&real).ok()?.ino();
        let safe = self.root.join("var/lib/freedombox");
        let seen = self.mounts.iter().map(|mounted| mounted.path().join(inside));
        let mut same =
            seen.filter(|seen| seen.starts_with(&safe) && seen.metadata().is_ok_and(|meta| meta.ino() == inode));
        same.next()
    }

    /// Unmounts everything, and tells when that is not possible.
    pub fn release(self) -> Result<(), SysError> {
        self.mounts.into_iter().try_for_each(Mounted::release)
    }
}
