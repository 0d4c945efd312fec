//! Comparing an archive with a target while the archive is being verified.
//!
//! Reads the target only. An entry counts as the same when kind, mode, owner, time to the second, attributes and every
//! byte are what the restore would leave; a file is read only when all else is equal. What cannot be read on the target
//! counts as changed: it is replaced as a whole anyway, and its old state is kept.
//!
//! Memory: 16 bytes per directory and per file that is not the same.

use super::Observer;
use super::ground::Survey;
use crate::model::app::AppId;
use crate::model::digest::Sha256Digest;
use crate::model::entry::{Entry, EntryKind, Mtime};
use crate::model::installation::Installation;
use crate::model::manifest::{self, Manifest};
use crate::model::path::RelPath;
use crate::model::plan::Changes;
use crate::model::site::Ground;
use crate::survey::owners::Owners;
use crate::sys::dir::{self, Dir, Kind, Stat, Xattr};
use crate::sys::tree;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::io;

/// Most directories and files that are remembered for one place.
const MOST_REMEMBERED: usize = 1 << 20;

/// Compares entries with the target as they are read.
pub struct Comparison<'a> {
    root: &'a Dir,
    owners: &'a Owners,
    installation: &'a Installation,
    /// The apps that are asked for.
    apps: Vec<&'static Manifest>,
    places: Vec<Option<Place>>,
    /// Where the places of each path in the archive lie in `places`.
    index: BTreeMap<RelPath, Vec<usize>>,
    hasher: RandomState,
}

/// One path in the archive and where it goes.
struct Place {
    source: RelPath,
    destination: RelPath,
    /// Entries that were seen.
    is_filled: bool,
    changes: Changes,
    /// Directories that were seen, hashed: what was counted for those that the archive only implies so far.
    directories: HashMap<u64, Option<Difference>>,
    /// Files that are not the same, hashed: their other names are not the same either.
    different: HashSet<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Difference {
    New,
    Changed,
    Same,
}

impl<'a> Comparison<'a> {
    /// A comparison with the target at `root`, on which that system is installed, for these apps or for all.
    pub fn with(
        root: &'a Dir,
        owners: &'a Owners,
        installation: &'a Installation,
        apps: Option<&[AppId]>,
    ) -> Comparison<'a> {
        let is_asked = |app: &&Manifest| {
            let is_same =
                |id: &AppId| app.id == *id || manifest::find(id).is_some_and(|it| it.today().id == app.today().id);
            apps.is_none_or(|apps| apps.iter().any(is_same))
        };
        let apps = manifest::all().iter().filter(is_asked).collect();
        let (places, index) = (Vec::new(), BTreeMap::new());
        let mut comparison = Comparison { root, owners, installation, apps, places, index, hasher: RandomState::new() };
        for source in comparison.apps.clone().iter().flat_map(|app| &app.backups).flat_map(manifest::Backup::paths) {
            comparison.learn(source);
        }
        comparison
    }

    /// Takes a path that belongs to no app: it goes where it was.
    pub fn keep_in_place(&mut self, path: &RelPath) {
        self.index.entry(path.clone()).or_default().push(self.places.len());
        self.places.push(Some(Place::new(path.clone(), path.clone())));
    }

    /// Finds out where a path of the archive would go.
    fn learn(&mut self, source: &RelPath) {
        for (from, to) in self
            .apps
            .iter()
            .filter(|app| app.ever_had(source))
            .flat_map(|app| app.destinations(source, &self.installation.version_of_paths(app)))
        {
            let known = self.index.entry(from.clone()).or_default();
            if !known.iter().filter_map(|at| self.places.get(*at)?.as_ref()).any(|place| place.destination == to) {
                known.push(self.places.len());
                self.places.push(Some(Place::new(from, to)));
            }
        }
        self.index.entry(source.clone()).or_default();
    }

    /// Where the places of a path in the archive lie in `places`.
    fn places_of(&mut self, root: &RelPath) -> Vec<usize> {
        if !self.index.contains_key(root) {
            self.learn(root);
        }
        self.index.get(root).cloned().unwrap_or_default()
    }

    /// What the ground looks like, after everything was seen.
    pub fn finish(mut self) -> io::Result<Ground> {
        let mut ground = Ground::default();
        let survey = Survey::of(self.root)?;
        let (area, free) = survey.own()?;
        ground.free.insert(area, free);
        let places: Vec<Place> = std::mem::take(&mut self.places).into_iter().flatten().collect();
        for place in &places {
            if !ground.sites.contains_key(&place.destination) {
                let (site, free) = survey.look(&place.destination)?;
                ground.free.entry(site.area.clone()).or_insert(free);
                ground.sites.insert(place.destination.clone(), site);
            }
        }
        for mut place in places.into_iter().filter(|place| place.is_filled) {
            let carried = ground.sites.get(&place.destination).map_or(&[][..], |site| &site.dropins);
            for dropin in carried {
                let mtime = self.root.stat(dropin)?.map_or(Mtime::default(), |stat| stat.mtime);
                self.imply_parents(&mut place, dropin, mtime);
            }
            let live = match self.root.parent(&place.destination) {
                Ok(parent) => tree::count(&parent, place.destination.file_name())?,
                Err(_) => 0,
            };
            let accounted = place.changes.same + place.changes.changed + carried.len() as u64;
            place.changes.removed = live.saturating_sub(accounted);
            ground.changes.insert((place.source, place.destination), place.changes);
        }
        Ok(ground)
    }

    /// Compares one entry, and the directories above it that the archive has not listed.
    fn compare(&self, place: &mut Place, entry: &Entry, content: Option<Sha256Digest>) {
        let Some(path) = entry.path.moved(&place.source, &place.destination) else { return };
        place.is_filled = true;
        self.imply_parents(place, &path, entry.mtime);
        let hash = self.hash(&path);
        let master = match &entry.kind {
            EntryKind::HardLink { to } => Some(to.moved(&place.source, &place.destination).unwrap_or(to.clone())),
            _ => None,
        };
        let is_changed = master.as_ref().is_some_and(|master| place.different.contains(&self.hash(master)));
        let mut difference = self.differs(entry, &path, master.as_ref(), content).unwrap_or(Difference::Changed);
        if is_changed && difference == Difference::Same {
            difference = Difference::Changed;
        }
        place.count(difference);
        let is_room = place.directories.len() + place.different.len() < MOST_REMEMBERED;
        if entry.kind == EntryKind::Directory {
            if let Some(Some(implied)) = place.directories.insert(hash, None) {
                place.discount(implied);
            }
        } else if difference != Difference::Same && is_room {
            place.different.insert(hash);
        }
    }

    /// Counts the directories between the place and `path` that no entry was seen for: the restore makes them.
    fn imply_parents(&self, place: &mut Place, path: &RelPath, mtime: Mtime) {
        let mut above = path.parent();
        while let Some(directory) = above.filter(|above| above.is_within(&place.destination)) {
            let hash = self.hash(&directory);
            if place.directories.contains_key(&hash) || place.directories.len() >= MOST_REMEMBERED {
                return;
            }
            let difference = match self.root.stat(&directory) {
                Ok(Some(stat)) if is_implied(stat, mtime) => Difference::Same,
                Ok(Some(_)) => Difference::Changed,
                Ok(None) => Difference::New,
                Err(_) => Difference::New,
            };
            place.count(difference);
            place.directories.insert(hash, Some(difference));
            above = directory.parent();
        }
    }

    /// Whether a file is like the one on the target in all that can be seen without reading the two.
    fn is_alike(&self, place: &Place, entry: &Entry) -> io::Result<bool> {
        let EntryKind::File { size, .. } = &entry.kind else { return Ok(false) };
        let Some(path) = entry.path.moved(&place.source, &place.destination) else { return Ok(false) };
        let Some(live) = self.root.stat(&path)? else { return Ok(false) };
        Ok(self.is_owned_alike(entry, &path, live)
            && live.kind == Kind::File
            && (live.mode, live.size) == (entry.mode, *size))
    }

    fn is_owned_alike(&self, entry: &Entry, path: &RelPath, live: Stat) -> bool {
        self.owners.map(&entry.owner, path) == (live.uid, live.gid) && entry.mtime.secs == live.mtime.secs
    }

    fn differs(
        &self,
        entry: &Entry,
        path: &RelPath,
        master: Option<&RelPath>,
        content: Option<Sha256Digest>,
    ) -> io::Result<Difference> {
        // Below a link or a file there is nothing that this entry could replace.
        let Ok(parent) = self.root.parent(path) else { return Ok(Difference::New) };
        let Some(live) = parent.stat_child(path.file_name())? else { return Ok(Difference::New) };
        if !self.is_owned_alike(entry, path, live) {
            return Ok(Difference::Changed);
        }
        let same = match master {
            // Another name of a file that is compared under its first name.
            Some(master) => self.root.stat(master)?.is_some_and(|first| (first.dev, first.ino) == (live.dev, live.ino)),
            None => self.is_same(&parent, path.file_name(), live, entry, content)?,
        };
        Ok(if same { Difference::Same } else { Difference::Changed })
    }

    fn is_same(
        &self,
        parent: &Dir,
        name: &[u8],
        live: Stat,
        entry: &Entry,
        content: Option<Sha256Digest>,
    ) -> io::Result<bool> {
        Ok(match (&entry.kind, live.kind) {
            (EntryKind::Fifo, Kind::Fifo) => entry.mode == live.mode,
            (EntryKind::Directory, Kind::Directory) => {
                entry.mode == live.mode && self.has_attributes(entry, &dir::xattrs(&parent.child(name)?)?)
            }
            (EntryKind::File { size, .. }, Kind::File) if entry.mode == live.mode && *size == live.size => {
                let file = parent.read_file(name)?;
                self.has_attributes(entry, &dir::xattrs(&file)?) && content == Some(tree::hash(file)?)
            }
            (EntryKind::Symlink { target }, Kind::Symlink) => parent.read_link(name)? == *target,
            _ => false,
        })
    }

    /// Whether the attributes that a restore would set are those that are there; others of the target do not count.
    fn has_attributes(&self, entry: &Entry, live: &[Xattr]) -> bool {
        let counts = |(name, _): &&Xattr| Owners::is_restored(name) || name.starts_with(b"system.posix_acl_");
        self.owners.attributes(entry).is_ok_and(|wanted| wanted.iter().eq(live.iter().filter(counts)))
    }

    fn hash(&self, path: &RelPath) -> u64 {
        self.hasher.hash_one(path.as_bytes())
    }
}

/// Whether a directory is as the restore makes one that the archive does not list.
fn is_implied(stat: Stat, mtime: Mtime) -> bool {
    stat.kind == Kind::Directory
        && (stat.uid, stat.gid) == (0, 0)
        && stat.mode == 0o755
        && stat.mtime.secs == mtime.secs
}

impl Place {
    fn new(source: RelPath, destination: RelPath) -> Self {
        let (directories, different) = (HashMap::new(), HashSet::new());
        Self { source, destination, is_filled: false, changes: Changes::default(), directories, different }
    }

    fn count(&mut self, difference: Difference) {
        *self.counter(difference) += 1;
    }

    fn discount(&mut self, difference: Difference) {
        let counter = self.counter(difference);
        *counter = counter.saturating_sub(1);
    }

    fn counter(&mut self, difference: Difference) -> &mut u64 {
        match difference {
            Difference::New => &mut self.changes.new,
            Difference::Changed => &mut self.changes.changed,
            Difference::Same => &mut self.changes.same,
        }
    }
}

impl Observer for Comparison<'_> {
    fn needs_digest(&mut self, root: &RelPath, entry: &Entry) -> bool {
        let places = self.places_of(root);
        let mut places = places.iter().filter_map(|at| self.places.get(*at)?.as_ref());
        places.any(|place| self.is_alike(place, entry).unwrap_or(false))
    }

    fn seen(&mut self, root: &RelPath, entry: &Entry, content: Option<Sha256Digest>) {
        for at in self.places_of(root) {
            // Taken out while it is worked on: nothing else looks at it meanwhile.
            let Some(mut place) = self.places.get_mut(at).and_then(Option::take) else { continue };
            self.compare(&mut place, entry, content);
            if let Some(slot) = self.places.get_mut(at) {
                *slot = Some(place);
            }
        }
    }
}
