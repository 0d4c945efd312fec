//! The disk of an installed FreedomBox as an archive: what its own backup would hold, read from the disk itself.
//!
//! Owns which files that are, under the names of their owners there, and what FreedomBox would have written beside them:
//! the manifest and the settings of apps. Never writes, never replays a journal onto the disk, and starts no program of
//! that system: what only its running services could tell is named as missing.

mod clusters;
mod extras;
mod manifest;
mod names;
mod programs;
mod tree;
mod walk;

use super::{Archive, Ending, Proof, ReadError, Visitor};
use crate::formats::ext4::Filesystem;
use crate::formats::{Slice, fstab};
use crate::model::app::AppId;
use crate::model::archive::{ArchiveId, ArchiveSummary, ArchivedApp, BackupLocation, Generation};
use crate::model::bytes;
use crate::model::entry::Mtime;
use crate::model::extra::Extras;
use crate::model::finding::Finding;
use crate::model::installation::Installation;
use crate::model::path::RelPath;
use crate::model::progress::Progress;
use crate::model::size::ByteSize;
use crate::survey::files::Files;
use crate::survey::installation::{self, Identified};
use crate::survey::opening;
use crate::sys::file::ForeignRoot;
use crate::sys::host::Host;
use crate::sys::mount::Extent;
use names::People;
use programs::Programs;
use std::io;
use std::path::{Path, PathBuf};
use tree::{Mounted, Tree, Unmounted};
use walk::Walk;

/// The id of a system among the backups on its disk.
pub const SYSTEM: &str = "installed-system";
/// Where FreedomBox keeps manifests in its backups.
const MANIFEST: &str = "var/lib/plinth/backups-manifests/installed-system.json";
/// Files that are written as long as a system runs: FreedomBox's sessions, and the clock of systemd.
const SIGNS_OF_LIFE: [&str; 2] = ["var/lib/plinth/plinth.sqlite3", "var/lib/systemd/timesync/clock"];
const LARGEST_FSTAB: u64 = 1 << 20;

/// How a system can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Root {
    /// Its root directory.
    Directory(PathBuf),
    /// Its volume, which holds ext2, ext3 or ext4, without the kernel: also what only the journal knows is seen.
    Volume(Extent),
}

/// A system, open for reading.
struct OldSystem {
    id: ArchiveId,
    root: Root,
    system: Installation,
    people: People,
    apps: Vec<ArchivedApp>,
    extras: Extras,
    /// Whether the folders of people are handed out as well.
    has_folders: bool,
    /// The database servers' own files that are handed out as well.
    databases: Vec<RelPath>,
    /// The programs that these files need, handed out beside them.
    programs: Vec<Programs>,
    /// Files that FreedomBox's backup would have written before, with their content.
    made: Vec<(RelPath, Vec<u8>)>,
    time: Mtime,
    findings: Vec<Finding>,
    /// Bytes that were read the last time.
    size: Option<u64>,
}

impl Root {
    /// Where it is.
    pub fn path(&self) -> &Path {
        match self {
            Root::Directory(path) => path,
            Root::Volume(extent) => &extent.path,
        }
    }

    /// Whether a FreedomBox is there that was started at least once, and which.
    pub fn identify(&self, host: &Host) -> io::Result<Option<Identified>> {
        let shown = bytes::path::shown(self.path());
        let found = match self {
            Root::Directory(path) => installation::identify(host, path, &shown, None)?,
            Root::Volume(extent) => with_filesystem(extent, |files| {
                refuse_scattered(files)?;
                installation::identify_in(host, files, &extent.path, &shown, None)
            })?,
        };
        Ok(found.filter(|found| found.installation.booted))
    }
}

/// Reads a volume without the kernel.
fn with_filesystem<R>(extent: &Extent, work: impl FnOnce(&Filesystem<'_>) -> io::Result<R>) -> io::Result<R> {
    let source = opening::source(&extent.path).map_err(|error| error.source)?;
    let volume = Slice::new(&*source, extent.offset, extent.length);
    work(&Filesystem::open(&volume).map_err(io::Error::other)?)
}

/// Opens the system at `root`; `noticed` is what is known about its disk.
pub fn open(host: &Host, root: Root, noticed: &[Finding]) -> Result<Box<dyn Archive>, ReadError> {
    let shown = bytes::path::shown(root.path());
    let Some(Identified { installation, findings }) = root.identify(host).map_err(ReadError::Io)? else {
        return Err(ReadError::NotABackup(format!("no FreedomBox that was ever started is on '{shown}'")));
    };
    let new = noticed.iter().filter(|finding| !findings.contains(finding));
    let findings: Vec<Finding> = findings.iter().chain(new).cloned().collect();
    let opened = match &root {
        Root::Directory(path) => {
            let tree = Mounted(ForeignRoot::open(path).map_err(|error| ReadError::Io(error.source))?);
            OldSystem::new(&root, installation, findings, &tree.0, &tree)
        }
        Root::Volume(extent) => with_filesystem(extent, |filesystem| {
            OldSystem::new(&root, installation, findings, filesystem, &Unmounted(filesystem))
        }),
    };
    Ok(Box::new(opened.map_err(ReadError::Io)?))
}

/// A system with data on several volumes is not all on one of them.
fn refuse_scattered(files: &dyn Files) -> io::Result<()> {
    let text = files.read("etc/fstab", LARGEST_FSTAB)?.unwrap_or_default();
    for entry in fstab::parse(&text) {
        let Some(point) = entry.point.as_ref().filter(|_| !entry.has("noauto") && !entry.has("nofail")) else {
            continue;
        };
        if [&b"var"[..], b"etc"].contains(&point.components().next().unwrap_or_default()) {
            let what = format!(
                "the system keeps '/{point}' on another volume, and that can only be read when the kernel \
                                mounts both"
            );
            return Err(io::Error::other(what));
        }
    }
    Ok(())
}

impl OldSystem {
    fn new<T: Tree>(
        root: &Root,
        system: Installation,
        mut findings: Vec<Finding>,
        files: &dyn Files,
        tree: &T,
    ) -> io::Result<OldSystem> {
        // What cannot be looked at may be there: reading it tells.
        let has = |path: &RelPath| !matches!(tree.find(path), Ok(None));
        let extras = extras::read(files, &has, &system, &mut findings);
        let people = People::of(files, &extras.accounts)?;
        let apps = manifest::apps(&system, &has, &mut findings);
        let mut made = manifest::settings(&system, &apps, &mut findings);
        // Last, as FreedomBox does.
        made.push((MANIFEST.parse().map_err(io::Error::other)?, manifest::text(&system, &apps)));
        let signs = SIGNS_OF_LIFE.iter().filter_map(|path| path.parse::<RelPath>().ok());
        let times = signs.filter_map(|path| tree.find(&path).ok()?.map(|node| tree.stat(&node).mtime));
        let time = times.max().unwrap_or_default();
        let id = SYSTEM.parse().map_err(io::Error::other)?;
        let (root, has_folders, databases, programs) = (root.clone(), false, Vec::new(), Vec::new());
        let size = None;
        Ok(OldSystem {
            id,
            root,
            system,
            people,
            apps,
            extras,
            has_folders,
            databases,
            programs,
            made,
            time,
            findings,
            size,
        })
    }

    fn name(&self) -> String {
        format!("{}, FreedomBox {}", self.system.hostname, self.system.freedombox)
    }

    /// The paths of all apps, none within another, but for those that are made here.
    fn starts(&self) -> Vec<&RelPath> {
        let mut paths: Vec<&RelPath> = self.apps.iter().flat_map(|app| &app.paths).collect();
        paths.extend(self.extras.folders.iter().filter(|_| self.has_folders));
        paths.extend(&self.databases);
        paths.sort();
        let mut starts: Vec<&RelPath> = Vec::new();
        for path in paths {
            let is_made = self.made.iter().any(|(made, _)| made == path);
            if !is_made && !starts.iter().any(|start| path.is_within(start)) {
                starts.push(path);
            }
        }
        starts
    }

    fn walk<T: Tree>(
        &self,
        files: &dyn Files,
        tree: &T,
        visitor: &mut dyn Visitor,
        progress: &dyn Progress,
    ) -> Result<(Vec<Finding>, u64), ReadError> {
        let mut walk = Walk::new(tree, &self.people, visitor, progress);
        for path in self.starts() {
            walk.start(path)?;
        }
        for (path, content) in &self.made {
            // Settings may hold passwords.
            let mode = if path.as_bytes() == MANIFEST.as_bytes() { 0o644 } else { 0o600 };
            walk.made(path, mode, self.time, Some(content))?;
        }
        for programs in &self.programs {
            programs.each(files, &mut |path, content| walk.made(path, 0o755, self.time, content))?;
        }
        let bytes = walk.bytes;
        Ok((walk.into_findings(&self.name()), bytes))
    }
}

impl Archive for OldSystem {
    fn id(&self) -> &ArchiveId {
        &self.id
    }

    fn summary(&mut self) -> Result<ArchiveSummary, ReadError> {
        let mut apps = self.apps.clone();
        if !self.databases.is_empty() {
            let (name, paths) = (AppId::databases(), self.databases.clone());
            apps.push(ArchivedApp { name, version: None, paths, settings: Vec::new() });
        }
        if self.has_folders {
            let (name, paths) = (AppId::folders(), self.extras.folders.clone());
            apps.push(ArchivedApp { name, version: None, paths, settings: Vec::new() });
        }
        Ok(ArchiveSummary {
            id: self.id.clone(),
            name: Some(bytes::escape(self.name().as_bytes())),
            time: jiff::Timestamp::from_second(self.time.secs).ok().map(|time| time.to_string()),
            generation: Generation::System,
            apps,
            size: self.size(),
        })
    }

    fn read(&mut self, visitor: &mut dyn Visitor, progress: &dyn Progress) -> Result<Ending, ReadError> {
        let (findings, bytes) = match &self.root {
            Root::Directory(path) => {
                let root = ForeignRoot::open(path).map_err(|error| ReadError::Io(error.source))?;
                let tree = Mounted(root);
                self.walk(&tree.0, &tree, visitor, progress)?
            }
            Root::Volume(extent) => with_filesystem(extent, |filesystem| {
                Ok(self.walk(filesystem, &Unmounted(filesystem), visitor, progress))
            })
            .map_err(ReadError::Io)??,
        };
        self.size = Some(bytes);
        let findings = self.findings.iter().cloned().chain(findings).collect();
        let why = "a disk has no checksums over its files; what could be read is what the disk gave";
        Ok(Ending { proof: Proof::Unproven(why.to_owned()), findings })
    }

    fn size(&self) -> Option<ByteSize> {
        self.size.map(ByteSize)
    }

    fn add_folders(&mut self) {
        self.has_folders = true;
        self.size = None;
    }

    fn add_databases(&mut self, apps: Option<&[AppId]>) -> Vec<RelPath> {
        let asked = self.apps.iter().filter(|app| apps.is_none_or(|apps| apps.contains(&app.name)));
        let look = |files: &dyn Files, needed: Vec<RelPath>| {
            let programs = programs::of(files, &needed, &self.system.architecture);
            (needed, programs)
        };
        let found = match &self.root {
            Root::Directory(path) => ForeignRoot::open(path).map(|root| {
                let tree = Mounted(root);
                look(&tree.0, clusters::needed(&tree.0, &tree, asked, self.time))
            }),
            Root::Volume(extent) => Ok(with_filesystem(extent, |filesystem| {
                Ok(look(filesystem, clusters::needed(filesystem, &Unmounted(filesystem), asked, self.time)))
            })
            .unwrap_or_default()),
        };
        // A disk that cannot be read any more says so when it is read.
        (self.databases, self.programs) = found.unwrap_or_default();
        self.databases.extend(self.programs.iter().map(|programs| programs.root.clone()));
        self.size = None;
        self.databases.clone()
    }

    fn extras(&self) -> Option<&Extras> {
        Some(&self.extras)
    }
}

/// How a system is listed among places with backups.
pub fn location(root: &Root, system: &Installation) -> BackupLocation {
    BackupLocation::OldSystem {
        path: root.path().to_owned(),
        hostname: system.hostname.clone(),
        freedombox: system.freedombox.clone(),
    }
}
