//! Looking at the places of a target that data could go to: their filesystem, what is there, what stands in the way.
//!
//! Reads names and metadata only.

use crate::model::manifest;
use crate::model::path::RelPath;
use crate::model::site::{AREA, Free, LiveKind, OTHER_AREA, SIDECARS, Site};
use crate::model::size::ByteSize;
use crate::sys::dir::{Dir, Kind};
use std::io;

/// A target whose places are looked at.
pub(super) struct Survey<'a> {
    root: &'a Dir,
    /// Device of the root's filesystem.
    top: u64,
    own: RelPath,
    /// Device of the filesystem with Lifeboat's own directory: another one where `/var` has its own.
    own_dev: u64,
}

/// The way down to a place.
struct Way {
    /// The deepest existing directory above it.
    nearest: Dir,
    dev: u64,
    /// The outermost directory on that directory's filesystem, when it is not the root's.
    outermost: Option<RelPath>,
    /// What is no directory on the way.
    obstacle: Option<RelPath>,
}

impl Survey<'_> {
    pub(super) fn of(root: &Dir) -> io::Result<Survey<'_>> {
        let top = root.stat_self()?.dev;
        let own: RelPath = AREA.parse().map_err(io::Error::other)?;
        let own_dev = walk(root, top, &own)?.dev;
        Ok(Survey { root, top, own, own_dev })
    }

    /// Lifeboat's own directory and the free room there.
    pub(super) fn own(&self) -> io::Result<(RelPath, Free)> {
        Ok((self.own.clone(), free(&walk(self.root, self.top, &self.own)?.nearest)?))
    }

    /// Looks at one destination.
    pub(super) fn look(&self, destination: &RelPath) -> io::Result<(Site, Free)> {
        let way = walk(self.root, self.top, destination)?;
        let area = if way.dev == self.own_dev {
            self.own.clone()
        } else {
            match way.outermost {
                Some(outermost) => outermost.join(OTHER_AREA.as_bytes()).map_err(io::Error::other)?,
                None => OTHER_AREA.parse().map_err(io::Error::other)?,
            }
        };
        let mut refusal = way.obstacle.map(|parent| format!("\"{parent}\" is a link or not a directory on the box"));
        let live = if refusal.is_none() { self.root.stat(destination)? } else { None };
        if live.is_some() && self.root.parent(destination)?.is_mount_point(destination.file_name())? {
            refusal = Some(format!("\"{destination}\" is a mounted filesystem of its own on the box"));
        }
        let live = live.map(|stat| match stat.kind {
            Kind::Directory => LiveKind::Directory,
            Kind::Symlink => LiveKind::Link,
            _ => LiveKind::Other,
        });
        let is_there = |path: &RelPath| matches!(self.root.stat(path), Ok(Some(_)));
        let mut site = Site { area, live, dropins: Vec::new(), sidecars: Vec::new(), refusal };
        match live {
            Some(LiveKind::Directory) => {
                let dropins = manifest::all().iter().flat_map(|app| &app.dropins);
                let dropins = dropins.filter(|path| path.is_within(destination) && is_there(path));
                site.dropins = dropins.cloned().collect();
                site.dropins.sort();
                site.dropins.dedup();
            }
            Some(LiveKind::Other | LiveKind::Link) => {
                let sidecars = SIDECARS.iter().filter_map(|suffix| {
                    let raw = [destination.as_bytes(), suffix].concat();
                    RelPath::parse(&raw).ok()
                });
                site.sidecars = sidecars.filter(is_there).collect();
            }
            None => {}
        }
        site.sidecars.extend(self.blocked_link(destination, way.dev));
        Ok((site, free(&way.nearest)?))
    }

    /// A directory where systemd has to make the link to private data of a dynamic user, as a new package brings it: the
    /// service does not start while both are there.
    fn blocked_link(&self, destination: &RelPath, dev: u64) -> Option<RelPath> {
        let mut owned = manifest::all().iter().flat_map(|app| &app.dynamic_user);
        let state = owned.find(|state| destination.is_within(state))?;
        let name = state.as_bytes().strip_prefix(b"var/lib/private/")?;
        let public = RelPath::parse(&[b"var/lib/", name].concat()).ok()?;
        let stat = self.root.stat(&public).ok().flatten()?;
        (stat.kind == Kind::Directory && stat.dev == dev).then_some(public)
    }
}

fn walk(root: &Dir, top: u64, destination: &RelPath) -> io::Result<Way> {
    let mut way = Way { nearest: root.again()?, dev: top, outermost: None, obstacle: None };
    for parent in destination.ancestors() {
        match root.dir(&parent) {
            Ok(dir) => {
                let here = dir.stat_self()?.dev;
                if here != way.dev {
                    way.outermost = (here != top).then(|| parent.clone());
                    way.dev = here;
                }
                way.nearest = dir;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(_) => {
                way.obstacle = Some(parent);
                break;
            }
        }
    }
    Ok(way)
}

fn free(dir: &Dir) -> io::Result<Free> {
    let room = dir.room()?;
    Ok(Free { bytes: ByteSize(room.bytes), inodes: room.inodes })
}
