//! Places with backups on a filesystem: borg repositories and archive files.
//!
//! Walks without following symbolic links, to a limited depth and number of entries; reaching the limit is a finding.
//! On an installed system only the places where people and FreedomBox keep data are searched.

use super::Confirm;
use crate::formats::age;
use crate::formats::borg::segment;
use crate::formats::borg_config::{self, BorgConfig};
use crate::model::archive::{BackupLocation, FoundAs};
use crate::model::bytes;
use crate::model::finding::{Finding, Severity};
use crate::model::size::ByteSize;
use crate::model::survey::Survey;
use crate::sys::file::ForeignRoot;
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// How many folders below the root of a filesystem are searched.
const DEEPEST: usize = 6;
/// How many names are looked at on one filesystem.
const MOST_ENTRIES: usize = 300_000;
/// How many places are listed from one filesystem.
const MOST_LOCATIONS: usize = 10_000;
/// How many names in a folder are looked at to tell a repository whose config is lost.
const MOST_NAMES: usize = 64;

/// Where data is kept on an installed system.
const SYSTEM_PLACES: [&str; 8] = ["root", "home", "media", "mnt", "srv", "opt", "var/lib/freedombox", "var/tmp"];
/// Directories at the root of any filesystem that hold no backups, or the same ones again.
const NEVER: [&[u8]; 8] =
    [b"proc", b"sys", b"dev", b"run", b"lost+found", b".snapshots", b"$RECYCLE.BIN", b"System Volume Information"];
/// Where FreedomBox keeps its own repository: since 0.39, and before.
const ROOT_REPOSITORIES: [&str; 2] = ["var/lib/freedombox/borgbackup", "var/lib/freedombox/backups"];
const UPLOADS: &str = "var/lib/freedombox/backups-upload";

/// Searches below `root`; `systems` are the roots of the installed systems there.
pub fn search(root: &Path, systems: &[PathBuf], confirm: &Confirm<'_>, survey: &mut Survey) {
    let mut walk = Walk { root, systems, confirm, left: MOST_ENTRIES, queue: VecDeque::new(), survey, count: 0 };
    let system_like = |root: &Path| {
        ForeignRoot::open(root).is_ok_and(|files| files.has("usr/lib/os-release") || files.has("etc/os-release"))
    };
    let mut starts: Vec<&Path> = systems.iter().map(PathBuf::as_path).collect();
    if !starts.contains(&root) {
        starts.push(root);
    }
    for start in starts {
        if systems.iter().any(|system| system == start) || system_like(start) {
            // The root folder itself is searched too, but not what is below it.
            walk.queue.push_back((start.to_path_buf(), DEEPEST));
            let depth = |place: &str| place.split('/').count();
            walk.queue.extend(SYSTEM_PLACES.map(|place| (start.join(place), depth(place))));
        } else {
            walk.queue.push_back((start.to_path_buf(), 0));
        }
    }
    walk.run();
}

struct Walk<'a> {
    root: &'a Path,
    systems: &'a [PathBuf],
    confirm: &'a Confirm<'a>,
    left: usize,
    count: usize,
    queue: VecDeque<(PathBuf, usize)>,
    survey: &'a mut Survey,
}

impl Walk<'_> {
    fn run(&mut self) {
        while let Some((folder, depth)) = self.queue.pop_front() {
            // A place that is a link, or not there, is passed over.
            if !folder.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
                continue;
            }
            if let Err(error) = self.folder(&folder, depth) {
                let what = format!("reading the folder: {error}");
                let advice = "backups in it are not listed";
                self.survey.findings.push(Finding::new(Severity::Warning, bytes::path::shown(&folder), what, advice));
            }
            if self.left == 0 || self.count >= MOST_LOCATIONS {
                self.survey.findings.push(Finding::new(
                    Severity::Warning,
                    bytes::path::shown(self.root),
                    format!("it holds too many files: the search ended after {MOST_ENTRIES} names or {MOST_LOCATIONS} backups"),
                    "name the backup's place to search there",
                ));
                return;
            }
        }
    }

    fn folder(&mut self, folder: &Path, depth: usize) -> io::Result<()> {
        if depth > 0 && self.repository(folder) {
            return Ok(());
        }
        let mut names = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            if self.left == 0 {
                break;
            }
            self.left -= 1;
            let entry = entry?;
            names.push((entry.file_name(), entry.file_type()?));
        }
        // Directories give names in any order; the survey's order is to be the same each time.
        names.sort_by(|a, b| a.0.cmp(&b.0));
        for (name, kind) in names {
            let path = folder.join(&name);
            if kind.is_file() {
                self.file(&path, &name);
            } else if kind.is_dir() && depth < DEEPEST && !(depth == 0 && NEVER.contains(&name.as_bytes())) {
                self.queue.push_back((path, depth + 1));
            }
        }
        Ok(())
    }

    /// Takes a folder for a borg repository by its config.
    fn repository(&mut self, folder: &Path) -> bool {
        let Some(BorgConfig { id, keyed }) = repository_config(folder) else { return false };
        let found_as =
            if self.systems.iter().any(|root| ROOT_REPOSITORIES.iter().any(|place| root.join(place) == folder)) {
                FoundAs::RootRepository
            } else if folder == self.root.join("FreedomBoxBackups") {
                FoundAs::DiskRepository
            } else {
                FoundAs::Repository
            };
        self.add(BackupLocation::BorgRepository { path: folder.to_path_buf(), id, keyed, found_as });
        true
    }

    fn file(&mut self, path: &Path, name: &OsStr) {
        let upload = self.systems.iter().any(|root| path.parent() == Some(&root.join(UPLOADS)));
        let legacy =
            path.ancestors().skip(1).any(|folder| folder.file_name() == Some(OsStr::new("FreedomBox-backups")));
        let found_as = match (upload, legacy) {
            (true, _) => FoundAs::UploadLeftover,
            (_, true) => FoundAs::LegacyFolder,
            _ => FoundAs::Download,
        };
        let Some(compression) = compression(name.as_bytes()) else { return };
        let size = match path.symlink_metadata() {
            Ok(meta) => ByteSize(meta.len()),
            Err(_) => return,
        };
        let plausible = match first_member(path, compression) {
            Ok(Some(member)) => found_as != FoundAs::Download || could_be_ours(&member),
            Ok(None) => false,
            Err(error) => {
                let what = format!("reading the file: {error}");
                let advice = "if it is a backup, its disk may be failing: copy it to another disk";
                self.survey.findings.push(Finding::new(Severity::Warning, bytes::path::shown(path), what, advice));
                false
            }
        };
        match plausible.then(|| (self.confirm)(path)) {
            Some(Ok(true)) => self.add(BackupLocation::TarExport { path: path.to_path_buf(), size, found_as }),
            Some(Err(why)) => {
                let what = format!("it may be a backup, and cannot be read as far as its list of apps: {why}");
                let advice = "use another backup, or fetch this one again from where it comes from";
                self.survey.findings.push(Finding::new(Severity::Warning, bytes::path::shown(path), what, advice));
            }
            _ => {}
        }
    }

    fn add(&mut self, location: BackupLocation) {
        let known = self.survey.locations.iter().any(|other| other.path() == location.path());
        if !known {
            self.count += 1;
            self.survey.locations.push(location);
        }
    }
}

/// The config of the borg 1.x repository in a folder; `None` when there is none, an empty config when only segments tell
/// that it is one.
pub fn repository_config(folder: &Path) -> Option<BorgConfig> {
    let data = folder.join(segment::FOLDER);
    if !data.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
        return None;
    }
    let root = ForeignRoot::open(folder).ok()?;
    let text = root.read("config", borg_config::LONGEST).ok().flatten().unwrap_or_default();
    match borg_config::read(&text) {
        Some(_) => borg_config::parse(&text),
        None => has_segment(&root, &data).then(BorgConfig::default),
    }
}

/// Whether a segment file of borg is among the first names in a repository's folder for them.
fn has_segment(root: &ForeignRoot, data: &Path) -> bool {
    let numbers = |folder: &Path| -> Vec<String> {
        let names = std::fs::read_dir(folder).into_iter().flatten().take(MOST_NAMES).filter_map(Result::ok);
        let names = names.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| name.parse::<u32>().is_ok()).collect()
    };
    let begins_right = |path: &str| {
        let mut first = [0; segment::MAGIC.len()];
        let read = root.file(path).ok().flatten().map(|mut file| file.read_exact(&mut first));
        matches!(read, Some(Ok(()))) && first == *segment::MAGIC
    };
    numbers(data).iter().any(|folder| {
        let files = numbers(&data.join(folder));
        files.iter().any(|file| begins_right(&format!("{}/{folder}/{file}", segment::FOLDER)))
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compression {
    None,
    Gzip,
    Zstd,
    Sealed,
}

fn compression(name: &[u8]) -> Option<Compression> {
    let name = name.to_ascii_lowercase();
    // macOS writes `._name` beside every file on a foreign disk.
    if name.starts_with(b"._") {
        return None;
    }
    let kinds: [(&[u8], Compression); 8] = [
        (b".tar.age", Compression::Sealed),
        (b".tar.gz.age", Compression::Sealed),
        (b".tar.zst.age", Compression::Sealed),
        (b".tar", Compression::None),
        (b".tar.gz", Compression::Gzip),
        (b".tgz", Compression::Gzip),
        (b".tar.zst", Compression::Zstd),
        (b".tzst", Compression::Zstd),
    ];
    kinds.into_iter().find(|(ending, _)| name.ends_with(ending)).map(|(_, kind)| kind)
}

/// The name in the first header of a tar file; `None` when the file does not start with one.
fn first_member(path: &Path, compression: Compression) -> io::Result<Option<Vec<u8>>> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let name = path.file_name().and_then(OsStr::to_str);
    let file = match name {
        Some(name) => ForeignRoot::open(folder).map_err(|error| error.source)?.file(name)?,
        None => Some(std::fs::File::open(path)?),
    };
    let Some(mut file) = file else { return Ok(None) };
    if compression == Compression::Sealed {
        // What is in it only the passphrase tells.
        let mut magic = [0; age::MAGIC.len()];
        file.read_exact(&mut magic)?;
        return Ok((magic == age::MAGIC).then(Vec::new));
    }
    let mut header = [0; 512];
    let read = match compression {
        Compression::None | Compression::Sealed => fill(file, &mut header),
        Compression::Gzip => fill(flate2::read::MultiGzDecoder::new(file), &mut header),
        Compression::Zstd => zstd::Decoder::new(file).and_then(|decoder| fill(decoder, &mut header)),
    };
    match read {
        Ok(true) => Ok(member_name(&header)),
        Ok(false) => Ok(None),
        // What is no gzip or zstd is no backup; what the disk cannot read may be one.
        Err(error) if error.raw_os_error().is_none() => Ok(None),
        Err(error) => Err(error),
    }
}

fn fill(mut from: impl Read, header: &mut [u8]) -> io::Result<bool> {
    match from.read_exact(header) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        other => other.map(|()| true),
    }
}

/// The name in a tar header whose checksum is right. An extended header stands before a member whose name it may hold.
fn member_name(header: &[u8; 512]) -> Option<Vec<u8>> {
    let header = tar::Header::from_byte_slice(header);
    let sum = header.as_bytes().iter().enumerate();
    let sum: u32 = sum.map(|(at, byte)| if (148..156).contains(&at) { 0x20 } else { u32::from(*byte) }).sum();
    (header.cksum().ok()? == sum).then(|| header.path_bytes().into_owned())
}

/// Whether a first member can belong to a backup of FreedomBox: its archives hold paths below these folders.
fn could_be_ours(member: &[u8]) -> bool {
    let member = member.strip_prefix(b"./").unwrap_or(member);
    let first = member.split(|&b| b == b'/').next().unwrap_or_default();
    let folders: [&[u8]; 8] = [b"", b"etc", b"home", b"root", b"srv", b"usr", b"var", b"opt"];
    // A long name or an extended header comes first under a name of its own.
    folders.contains(&first)
        || member.starts_with(b"././@")
        || first == b"."
        || first.starts_with(b"PaxHeaders")
        || member.windows(10).any(|window| window == b"PaxHeaders")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_tell_archives_by_their_ending_only() {
        for (name, kind) in [
            ("a.tar", Some(Compression::None)),
            ("root-2026-11-23T18:45:11+01:00.TAR.GZ", Some(Compression::Gzip)),
            ("a.tgz", Some(Compression::Gzip)),
            ("a.tar.zst", Some(Compression::Zstd)),
            ("a.tar.gz.age", Some(Compression::Sealed)),
            ("._a.tar.gz", None),
            ("a.tar.gz.part", None),
            ("tar", None),
        ] {
            assert_eq!(compression(name.as_bytes()), kind, "{name}");
        }
    }
}
