//! Comparing an archive with a target while the archive is being verified, and looking at the ground it would go onto.
//!
//! Reads the target only. Content counts as the same when kind, mode, owner, time and every byte are equal. What
//! cannot be read on the target counts as changed: it is replaced as a whole anyway, and its old state is kept.

use super::Observer;
use crate::model::digest::Sha256Digest;
use crate::model::entry::{Entry, EntryKind};
use crate::model::manifest;
use crate::model::path::RelPath;
use crate::model::plan::Changes;
use crate::model::site::{AREA, Free, Ground, LiveKind, OTHER_AREA, SIDECARS, Site};
use crate::model::size::ByteSize;
use crate::model::version::Version;
use crate::survey::owners::Owners;
use crate::sys::dir::{Dir, Kind, Stat};
use crate::sys::tree;
use std::collections::BTreeMap;
use std::io;

/// Compares entries with the target as they are read.
pub struct Comparison<'a> {
    root: &'a Dir,
    owners: &'a Owners,
    /// Destinations of every path that some app may have, by path in the archive.
    destinations: BTreeMap<RelPath, Vec<RelPath>>,
    changes: BTreeMap<(RelPath, RelPath), Changes>,
}

impl<'a> Comparison<'a> {
    /// A comparison with the target at `root`, which has that FreedomBox version.
    pub fn with(root: &'a Dir, owners: &'a Owners, freedombox: &Version) -> Comparison<'a> {
        let mut destinations: BTreeMap<RelPath, Vec<RelPath>> = BTreeMap::new();
        for app in manifest::all() {
            for source in app.backups.iter().flat_map(manifest::Backup::paths) {
                for (from, to) in app.destinations(source, freedombox) {
                    let known = destinations.entry(from).or_default();
                    if !known.contains(&to) {
                        known.push(to);
                    }
                }
            }
        }
        Comparison { root, owners, destinations, changes: BTreeMap::new() }
    }

    /// What the ground looks like, after everything was seen.
    pub fn finish(self) -> io::Result<Ground> {
        let mut ground = Ground { changes: self.changes, ..Ground::default() };
        let home = device_of(self.root, &AREA.parse().map_err(io::Error::other)?)?;
        for destination in self.destinations.values().flatten() {
            if !ground.sites.contains_key(destination) {
                let (site, free) = look(self.root, home, destination)?;
                ground.free.entry(site.area.clone()).or_insert(free);
                ground.sites.insert(destination.clone(), site);
            }
        }
        for ((_, destination), changes) in &mut ground.changes {
            let carried = ground.sites.get(destination).map_or(0, |site| site.dropins.len() as u64);
            let live = match self.root.parent(destination) {
                Ok(parent) => tree::count(&parent, destination.file_name())?,
                Err(_) => 0,
            };
            changes.removed = live.saturating_sub(changes.same + changes.changed + carried);
        }
        Ok(ground)
    }

    fn differs(&self, entry: &Entry, path: &RelPath, content: Option<Sha256Digest>) -> io::Result<Difference> {
        let parent = match self.root.parent(path) {
            Ok(parent) => parent,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Difference::New),
            Err(error) => return Err(error),
        };
        let Some(live) = parent.stat_child(path.file_name())? else { return Ok(Difference::New) };
        let same = self.owners.map(&entry.owner, path) == (live.uid, live.gid)
            && entry.mtime.secs == live.mtime.secs
            && is_same(&parent, path.file_name(), live, entry, content)?;
        Ok(if same { Difference::Same } else { Difference::Changed })
    }
}

enum Difference {
    New,
    Changed,
    Same,
}

impl Observer for Comparison<'_> {
    fn seen(&mut self, root: &RelPath, entry: &Entry, content: Option<Sha256Digest>) {
        for destination in self.destinations.get(root).cloned().unwrap_or_default() {
            let Some(path) = entry.path.moved(root, &destination) else { continue };
            let difference = self.differs(entry, &path, content).unwrap_or(Difference::Changed);
            let changes = self.changes.entry((root.clone(), destination)).or_default();
            match difference {
                Difference::New => changes.new += 1,
                Difference::Changed => changes.changed += 1,
                Difference::Same => changes.same += 1,
            }
        }
    }
}

fn is_same(parent: &Dir, name: &[u8], live: Stat, entry: &Entry, content: Option<Sha256Digest>) -> io::Result<bool> {
    Ok(match (&entry.kind, live.kind) {
        (EntryKind::Directory, Kind::Directory) | (EntryKind::Fifo, Kind::Fifo) => entry.mode == live.mode,
        (EntryKind::File { size, .. }, Kind::File) => {
            entry.mode == live.mode && *size == live.size && content == Some(tree::hash(parent.read_file(name)?)?)
        }
        (EntryKind::Symlink { target }, Kind::Symlink) => parent.read_link(name)? == *target,
        // Another name of a file that is compared under its first name.
        (EntryKind::HardLink { .. }, Kind::File) => live.links > 1,
        _ => false,
    })
}

/// Device of the filesystem or subvolume on which `path` is or would be.
fn device_of(root: &Dir, path: &RelPath) -> io::Result<u64> {
    let mut device = root.stat_self()?.dev;
    for parent in path.ancestors().into_iter().chain([path.clone()]) {
        match root.dir(&parent) {
            Ok(dir) => device = dir.stat_self()?.dev,
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) => return Err(error),
        }
    }
    Ok(device)
}

/// Looks at one destination: its filesystem, what is there, and what stands in the way. `home` is the device of
/// Lifeboat's directory; `/var` may be a filesystem or a subvolume of its own, and then that is not the root's.
fn look(root: &Dir, home: u64, destination: &RelPath) -> io::Result<(Site, Free)> {
    let mut refusal = None;
    // The deepest existing directory above it, and the outermost directory on that directory's filesystem.
    let mut nearest = root.again()?;
    let mut outermost: Option<RelPath> = None;
    let mut dev = root.stat_self()?.dev;
    for parent in destination.ancestors() {
        match root.dir(&parent) {
            Ok(dir) => {
                let here = dir.stat_self()?.dev;
                if here != dev {
                    outermost = Some(parent.clone());
                    dev = here;
                }
                nearest = dir;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(_) => {
                refusal = Some(format!("\"{parent}\" is a link or not a directory on the box"));
                break;
            }
        }
    }
    let area = match outermost {
        _ if dev == home => AREA.parse(),
        Some(outermost) => outermost.join(OTHER_AREA.as_bytes()),
        None => OTHER_AREA.parse(),
    }
    .map_err(io::Error::other)?;
    let live = if refusal.is_none() { root.stat(destination)? } else { None };
    if let (Some(_), None) = (live, &refusal)
        && root.parent(destination)?.is_mount_point(destination.file_name())?
    {
        refusal = Some(format!("\"{destination}\" is a mounted filesystem of its own on the box"));
    }
    let live = live.map(|stat| if stat.kind == Kind::Directory { LiveKind::Directory } else { LiveKind::Other });
    let mut site = Site { area, live, dropins: Vec::new(), sidecars: Vec::new(), refusal };
    if live == Some(LiveKind::Directory) {
        let dropins = manifest::all().iter().flat_map(|app| &app.dropins).filter(|path| path.is_within(destination));
        site.dropins = dropins.filter(|path| matches!(root.stat(path), Ok(Some(_)))).cloned().collect();
        site.dropins.sort();
        site.dropins.dedup();
    }
    if live == Some(LiveKind::Other) {
        let sidecars = SIDECARS.iter().filter_map(|suffix| {
            let raw = [destination.as_bytes(), suffix].concat();
            RelPath::parse(&raw).ok()
        });
        site.sidecars = sidecars.filter(|path| matches!(root.stat(path), Ok(Some(_)))).collect();
    }
    let room = nearest.room()?;
    Ok((site, Free { bytes: ByteSize(room.bytes), inodes: room.inodes }))
}
