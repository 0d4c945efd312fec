//! Putting a file that somebody hands over onto a disk with room, so that it can be restored from there.
//!
//! Never onto a disk that holds a backup, nor onto one with a finding against it, nor onto the medium that Lifeboat was
//! started from. On the disk of the box that is restored onto there is one place for it: FreedomBox's own folder for
//! uploads, where a restore replaces nothing; another box may be what is restored from. A file gets its name when all of it
//! is on the medium and was read back; nothing is ever replaced, and what is broken off leaves nothing behind.

use crate::model::bytes;
use crate::model::digest::Sha256Digest;
use crate::model::disk::{Disk, FilesystemKind, FilesystemState, Volume};
use crate::model::finding::Severity;
use crate::model::installation::Installation;
use crate::model::size::ByteSize;
use crate::survey::target::{self, Access, Target, TargetError, TargetSpec};
use crate::survey::{Surveyed, disks};
use crate::sys::SysError;
use crate::sys::dir::{self, Dir};
use crate::sys::host::Host;
use crate::sys::mount::{self, Extent, Mounted};
use crate::t;
use sha2::{Digest as _, Sha256};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What a filesystem keeps for itself: it is not filled up.
const RESERVE: u64 = 32 << 20;
/// FreedomBox's folder for uploaded backups.
const UPLOADS: &str = "var/lib/freedombox/backups-upload";
/// The folder in memory, below the runtime directory.
const MEMORY: &str = "uploads";
/// How much is read at a time.
const BUFFER: usize = 256 << 10;
/// Longest name that is kept.
const LONGEST_NAME: usize = 120;

/// A place that a file can be put in.
#[derive(Debug, Clone)]
pub struct Spare {
    /// What people read.
    pub text: String,
    /// Names that stay the same from run to run.
    pub names: Vec<String>,
    /// How long a file may be.
    pub room: ByteSize,
    place: Place,
}

#[derive(Debug, Clone)]
enum Place {
    /// A directory that is there.
    Folder(PathBuf),
    /// This computer's memory.
    Memory(PathBuf),
    /// A volume that is mounted for it.
    Volume(Extent, FilesystemKind),
    /// The box itself.
    Box(PathBuf),
}

/// Why a file could not be put there.
#[derive(Debug, thiserror::Error)]
pub enum DepositError {
    /// The file is longer than the place has room.
    #[error("the file has no room there: {free} are free")]
    NoSpace {
        /// What is free.
        free: ByteSize,
    },
    /// What was read back is not what was written.
    #[error("the file does not read back as it was written; the disk is failing")]
    ReadBack,
    /// The box does not let itself be opened.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The place could not be opened.
    #[error(transparent)]
    Sys(#[from] SysError),
    /// The file did not arrive whole, or could not be written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The folder in memory where uploads may lie; a survey looks there too.
pub fn memory(host: &Host) -> PathBuf {
    host.runtime_file(MEMORY)
}

/// The places with room, the best one first. `folders` are those that were named as places to look; `onto` is the box that
/// is restored onto.
pub fn spares(host: &Host, surveyed: &Surveyed, folders: &[PathBuf], onto: &Installation) -> Vec<Spare> {
    let mut spares = Vec::new();
    for disk in &surveyed.survey.disks {
        for volume in disk.volumes.iter().filter(|volume| is_spare(surveyed, disk, volume)) {
            spares.extend(spare_volume(surveyed, disk, volume));
        }
    }
    let holds = |folder: &Path| {
        let survey = &surveyed.survey;
        let real = std::fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
        survey.installations.iter().any(|one| one.root.starts_with(&real))
            || survey.locations.iter().any(|location| location.path().starts_with(&real))
    };
    for folder in folders.iter().filter(|folder| !holds(folder)) {
        let shown = bytes::path::shown(folder);
        spares.extend(spare(
            folder,
            t!("the folder \"{name}\"", name = shown),
            vec![shown],
            Place::Folder(folder.clone()),
        ));
    }
    for one in surveyed.survey.installations.iter().filter(|one| one.root == onto.root) {
        let volume = volume_of(surveyed, &one.place);
        let is_sound = volume.is_none_or(|(disk, volume)| is_sound(surveyed, disk, volume));
        if is_sound && one.root.join("var/lib/freedombox").symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
            let path = volume.map_or_else(|| one.root.clone(), |(_, volume)| volume.path.clone());
            let text = t!("the disk of the box \"{name}\" itself", name = one.hostname);
            spares.extend(spare(&one.root, text, vec![one.place.clone()], Place::Box(path)));
        }
    }
    spares.extend(spare_memory(host));
    spares
}

fn spare(seen: &Path, text: String, names: Vec<String>, place: Place) -> Option<Spare> {
    let room = Dir::open(seen).and_then(|dir| dir.room()).ok()?.bytes.saturating_sub(RESERVE);
    (room > 0).then(|| Spare {
        text: t!("{place}, {size} free", place = text, size = ByteSize(room)),
        names,
        room: ByteSize(room),
        place,
    })
}

/// In memory, half of what is free: the rest is needed to work.
fn spare_memory(host: &Host) -> Option<Spare> {
    let text = std::fs::read_to_string(host.proc("meminfo")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let free = line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.saturating_mul(1024) / 2;
    let folder = memory(host);
    let parent = folder.parent()?;
    let room = Dir::open(parent).and_then(|dir| dir.room()).ok()?.bytes.min(free).saturating_sub(RESERVE);
    let text = t!("the memory of this computer, {size} free, until it is switched off", size = ByteSize(room));
    let names = vec!["memory".to_owned()];
    (room > 0).then_some(Spare { text, names, room: ByteSize(room), place: Place::Memory(folder) })
}

fn spare_volume(surveyed: &Surveyed, disk: &Disk, volume: &Volume) -> Option<Spare> {
    let held = surveyed.mounts.iter().find(|held| held.volume == volume.name)?;
    let signature = volume.filesystem()?;
    let label = signature.label.as_ref().map_or(volume.name.clone(), |label| format!("'{label}' ({})", volume.name));
    let model = disk.model.as_deref().unwrap_or("a disk");
    let names = signature.uuid.iter().chain(&volume.partuuid).cloned().collect();
    let place = Place::Volume(disks::extent(volume), signature.kind);
    spare(
        held.mounted.path(),
        t!("{label} on {model} of {size}", label = label, model = model, size = disk.size),
        names,
        place,
    )
}

fn volume_of<'a>(surveyed: &'a Surveyed, name: &str) -> Option<(&'a Disk, &'a Volume)> {
    let mut all = surveyed.survey.disks.iter().flat_map(|disk| disk.volumes.iter().map(move |volume| (disk, volume)));
    all.find(|(_, volume)| volume.name == name)
}

/// Whether nothing on the whole disk is of any worth to a rescue: no backup, no box.
fn is_spare(surveyed: &Surveyed, disk: &Disk, volume: &Volume) -> bool {
    let on_disk = |path: &Path| {
        surveyed.holder(path).is_some_and(|held| disk.volumes.iter().any(|volume| volume.name == held.volume))
    };
    let survey = &surveyed.survey;
    // A file that cannot be read may be the backup that somebody still needs.
    let told = survey.findings.iter().filter(|finding| finding.severity != Severity::Note);
    is_sound(surveyed, disk, volume)
        && !told.into_iter().any(|finding| on_disk(Path::new(&finding.subject)))
        && volume.mounted_at.is_empty()
        && !survey.locations.iter().any(|location| on_disk(location.path()))
        && !survey.installations.iter().any(|one| on_disk(&one.root))
}

/// Whether nothing speaks against writing to it.
fn is_sound(surveyed: &Surveyed, disk: &Disk, volume: &Volume) -> bool {
    use FilesystemKind::{Btrfs, Exfat, Ext4, Ntfs, Vfat};
    let accused = surveyed.survey.findings.iter().any(|finding| {
        finding.severity != Severity::Note && (finding.subject == volume.name || finding.subject == disk.name)
    });
    let fits = volume.filesystem().is_some_and(|signature| {
        matches!(signature.kind, Ext4 | Btrfs | Vfat | Exfat | Ntfs)
            && matches!(signature.state, FilesystemState::Clean | FilesystemState::Unknown)
    });
    !disk.boot_medium && !disk.read_only && fits && !accused
}

/// A place that was opened. What was mounted for it is released when it is dropped.
#[derive(Debug)]
pub struct Opened {
    folder: Dir,
    path: PathBuf,
    room: u64,
    // After the handle: dropping goes from top to bottom.
    _mounted: Option<Mounted>,
    _target: Option<Target>,
}

/// Opens a place. Nothing else may have it mounted: let go of the survey's mounts first.
pub fn open(host: &Host, spare: &Spare) -> Result<Opened, DepositError> {
    let (path, mounted, target) = match &spare.place {
        Place::Folder(path) => (path.clone(), None, None),
        Place::Memory(path) => {
            if let Some(parent) = path.parent() {
                let parent = Dir::open(parent)?;
                parent.make_child(path.file_name().unwrap_or_default().as_bytes())?;
            }
            (path.clone(), None, None)
        }
        Place::Volume(extent, kind) => {
            let mounted = mount::writable(host, extent, *kind)?;
            (mounted.path().to_owned(), Some(mounted), None)
        }
        Place::Box(path) => {
            let target = target::open(host, &TargetSpec::of(path)?, Access::Write)?;
            let folder = Dir::open(&target.root)?.dir(&relative("var/lib/freedombox")?)?;
            folder.make_child(UPLOADS.rsplit('/').next().unwrap_or_default().as_bytes())?;
            (target.root.join(UPLOADS), None, Some(target))
        }
    };
    let folder = Dir::open(&path)?;
    let room = folder.room()?.bytes.saturating_sub(RESERVE).min(spare.room.0);
    Ok(Opened { folder, path, room, _mounted: mounted, _target: target })
}

fn relative(path: &str) -> io::Result<crate::model::path::RelPath> {
    path.parse().map_err(|_| io::ErrorKind::InvalidInput.into())
}

impl Opened {
    /// Takes a file, which comes from `from` under the name `name`. `length` is what its sender says. `accept` looks at
    /// it before it gets its name. Returns where it lies; the path is good as long as the place is open.
    pub fn take(
        &self,
        name: &str,
        length: Option<u64>,
        from: &mut dyn Read,
        accept: &dyn Fn(&Path) -> bool,
        advance: &dyn Fn(u64),
    ) -> Result<Option<PathBuf>, DepositError> {
        let no_space = || DepositError::NoSpace { free: ByteSize(self.room) };
        if length.is_some_and(|length| length > self.room) {
            return Err(no_space());
        }
        let name = self.free_name(name)?;
        let mut draft = Draft::new(&self.folder, &name)?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; BUFFER];
        let mut written = 0u64;
        loop {
            let count = from.read(&mut buffer)?;
            let piece = buffer.get(..count).unwrap_or_default();
            if piece.is_empty() {
                break;
            }
            written += count as u64;
            if written > self.room {
                return Err(no_space());
            }
            draft.file.write_all(piece).map_err(|error| match error.kind() {
                io::ErrorKind::StorageFull => no_space(),
                _ => error.into(),
            })?;
            hasher.update(piece);
            advance(count as u64);
        }
        dir::sync_file(&draft.file)?;
        dir::forget_cache(&draft.file);
        let sum = Sha256Digest::from_hasher(hasher);
        if read_back(self.folder.read_file(&draft.name)?, &mut buffer)? != sum {
            return Err(DepositError::ReadBack);
        }
        if !accept(&self.path.join(OsStr::from_bytes(&draft.name))) {
            return Ok(None);
        }
        draft.deliver(&name)?;
        Ok(Some(self.path.join(OsStr::from_bytes(&name))))
    }

    /// The name of a file as every filesystem takes it, and as none has it yet.
    fn free_name(&self, name: &str) -> io::Result<Vec<u8>> {
        let (stem, ending) = plain_name(name);
        for number in 1..1000 {
            let name = if number == 1 { format!("{stem}{ending}") } else { format!("{stem}-{number}{ending}") };
            if self.folder.stat_child(name.as_bytes())?.is_none() {
                return Ok(name.into_bytes());
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }
}

fn read_back(mut file: File, buffer: &mut [u8]) -> io::Result<Sha256Digest> {
    let mut hasher = Sha256::new();
    loop {
        match file.read(buffer)? {
            0 => return Ok(Sha256Digest::from_hasher(hasher)),
            count => hasher.update(buffer.get(..count).unwrap_or_default()),
        }
    }
}

/// A name without anything that a filesystem or a person could stumble over, in front of its ending.
fn plain_name(name: &str) -> (String, &'static str) {
    let name = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let endings = [".tar.gz", ".tgz", ".tar.zst", ".tzst", ".tar"];
    let lower = name.to_ascii_lowercase();
    let ending = endings.into_iter().find(|ending| lower.ends_with(ending)).unwrap_or(".tar.gz");
    let stem = lower.strip_suffix(ending).map_or(name, |stem| name.get(..stem.len()).unwrap_or_default());
    let clean = stem.chars().map(|c| if c.is_ascii_alphanumeric() || "._-+".contains(c) { c } else { '-' });
    let clean: String = clean.take(LONGEST_NAME).collect();
    let clean = clean.trim_matches(['.', '-']);
    (if clean.is_empty() { "backup".to_owned() } else { clean.to_owned() }, ending)
}

/// A file without its name. Dropped earlier, nothing of it stays.
struct Draft<'a> {
    folder: &'a Dir,
    name: Vec<u8>,
    file: File,
    is_kept: bool,
}

impl<'a> Draft<'a> {
    fn new(folder: &'a Dir, name: &[u8]) -> io::Result<Draft<'a>> {
        let name = [name, b".lifeboat-new"].concat();
        // What an earlier run left is ours.
        if folder.stat_child(&name)?.is_some() {
            folder.remove_file(&name)?;
        }
        let file = folder.create_file(&name)?;
        Ok(Draft { folder, name, file, is_kept: false })
    }

    fn deliver(mut self, name: &[u8]) -> io::Result<()> {
        match self.folder.move_to(&self.name, self.folder, name) {
            // Some filesystems of sticks cannot promise not to replace; the name was free when we began.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => self.folder.replace(&self.name, name)?,
            other => other?,
        }
        self.is_kept = true;
        self.folder.sync()
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if !self.is_kept {
            let _ = self.folder.remove_file(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(folder: &Path, room: u64) -> Opened {
        let folder_handle = Dir::open(folder).unwrap();
        Opened { folder: folder_handle, path: folder.to_owned(), room, _mounted: None, _target: None }
    }

    fn take(opened: &Opened, name: &str, mut content: &[u8]) -> Result<Option<PathBuf>, DepositError> {
        opened.take(name, None, &mut content, &|_| true, &|_| {})
    }

    #[test]
    fn names_are_made_plain() {
        for (name, plain) in [
            ("2025-10-30T02:00:01+02:00.tar.gz", "2025-10-30T02-00-01+02-00.tar.gz"),
            ("../../etc/passwd", "passwd.tar.gz"),
            ("C:\\Users\\x\\My Backup.TAR.GZ", "My-Backup.tar.gz"),
            ("", "backup.tar.gz"),
            ("...", "backup.tar.gz"),
            (".tar.zst", "backup.tar.zst"),
            ("Über\nmut\0.tgz", "ber-mut.tgz"),
        ] {
            let (stem, ending) = plain_name(name);
            assert_eq!(format!("{stem}{ending}"), plain, "{name:?}");
        }
    }

    #[test]
    fn a_file_gets_its_name_when_it_is_whole_and_replaces_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let place = opened(folder.path(), 1 << 20);
        let first = take(&place, "a.tar.gz", b"one").unwrap().unwrap();
        let second = take(&place, "a.tar.gz", b"two").unwrap().unwrap();
        assert_eq!(
            (first.file_name().unwrap(), second.file_name().unwrap()),
            ("a.tar.gz".as_ref(), "a-2.tar.gz".as_ref())
        );
        assert_eq!((std::fs::read(first).unwrap(), std::fs::read(second).unwrap()), (b"one".to_vec(), b"two".to_vec()));
    }

    #[test]
    fn what_does_not_fit_or_breaks_off_or_is_not_wanted_leaves_nothing() {
        struct Breaks(u8);
        impl Read for Breaks {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0 += 1;
                if self.0 > 2 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(buffer.len().min(9)) }
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let place = opened(folder.path(), 1000);
        assert!(matches!(take(&place, "a.tar.gz", &[7; 1001]), Err(DepositError::NoSpace { .. })));
        let promised = place.take("a.tar.gz", Some(1001), &mut &b"x"[..], &|_| true, &|_| {});
        assert!(matches!(promised, Err(DepositError::NoSpace { .. })));
        assert!(matches!(place.take("a.tar.gz", None, &mut Breaks(0), &|_| true, &|_| {}), Err(DepositError::Io(_))));
        assert_eq!(place.take("a.tar.gz", None, &mut &b"x"[..], &|_| false, &|_| {}).unwrap(), None);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(take(&place, "a.tar.gz", &[7; 1000]).unwrap().is_some());
    }
}
