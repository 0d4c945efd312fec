//! Moving parked data into its place on the running box, and back.
//!
//! A parked step has a second exchange after the one that parked it: between the parked name and the destination. The
//! old data then lies parked, until `commit`. Everything else is as in `exchange`: a note with the inode numbers
//! first, one atomic rename, and after a power cut the disk tells what happened.

use super::exchange::{Data, Names, happened};
use super::journal::Record;
use super::stage::owners::LIST;
use super::{Restore, RestoreError, doing, place, writing};
use crate::model::app::AppId;
use crate::model::bytes;
use crate::model::manifest::{self, Manifest};
use crate::model::path::RelPath;
use crate::model::plan::{Action, Step};
use crate::model::site::SIDECARS;
use crate::sys::dir::{self, Dir, Kind};
use crate::sys::{fault, tree};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, BufReader};

/// Who owns an entry that was restored when the box did not have its names yet: one line of the file `owners`.
#[derive(Debug, Deserialize)]
pub(super) struct Line {
    pub(super) app: AppId,
    pub(super) path: RelPath,
    user: Option<String>,
    uid: u32,
    group: Option<String>,
    gid: u32,
    mode: u32,
}

/// Names of users and groups with their numbers on the running box.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Numbers {
    /// Users.
    pub users: BTreeMap<String, u32>,
    /// Groups.
    pub groups: BTreeMap<String, u32>,
}

impl Restore {
    /// The steps that parked data of `app`, in the plan's order.
    pub fn parked_steps(&self, app: &AppId) -> Vec<Step> {
        let steps = self.plan().steps.iter().filter(|step| step.app == *app && step.is_parked());
        steps.cloned().collect()
    }

    /// Whether the parked data of a step is in its place.
    pub fn is_moved(&self, step: &Step) -> Result<bool, RestoreError> {
        is_moved(self.root(), self.records(), step)
    }

    /// Moves the parked data of a step into its place; what was there is parked instead. Can be called again.
    pub fn move_in(&mut self, step: &Step) -> Result<(), RestoreError> {
        if !self.is_moved(step)? {
            if look(self.root(), step)?.staged.is_none() {
                return Err(RestoreError::Unknown { path: step.place() });
            }
            self.carry_dropins(step)?;
            // The file is not to be opened without them: cut off in between, the guard brings them back first.
            let guarded = self.set_sidecars_aside(step)?;
            self.swap_parked(step)?;
            if guarded {
                place::set_interrupted(self.root(), false)?;
            }
        } else if !self.is_noted(step) && look(self.root(), step)?.are_one() {
            // The file came to its place and kept its parked name as well.
            let path = step.place();
            let store = self.root().parent(&path).map_err(writing(&path))?;
            store.remove_file(path.file_name()).and_then(|()| store.sync()).map_err(writing(&path))?;
        }
        if !self.is_noted(step) {
            self.record(Record::Moved { step: step.id })?;
        }
        Ok(())
    }

    fn is_noted(&self, step: &Step) -> bool {
        self.records().iter().any(|record| matches!(record, Record::Moved { step: id } if *id == step.id))
    }

    /// Moves a step's data back to where it was parked, and what was there before into its place. Can be called again.
    pub fn move_back(&mut self, step: &Step) -> Result<(), RestoreError> {
        if self.is_moved(step)? {
            let live = sidecars(step).into_iter().map(|(live, _)| live).collect();
            self.set_aside(step, live)?;
            self.swap_parked(step)?;
        }
        self.bring_sidecars_back(step)?;
        self.close_state(step)
    }

    fn swap_parked(&mut self, step: &Step) -> Result<(), RestoreError> {
        let (parked, live) = (step.place(), step.destination.clone());
        let at = self.make_parents(&live)?;
        let store = self.root().parent(&parked).map_err(doing(format!("opening the parent of \"{parked}\"")))?;
        let names = look(self.root(), step)?;
        let (here, there) = names.inodes();
        // Half of a move away from the live name is left to do; the last note still tells which.
        if names.are_one() {
            return at.remove_file(live.file_name()).and_then(|()| at.sync()).map_err(writing(&live));
        }
        self.record(Record::Moving { step: step.id, parked: here, live: there })?;
        let failed = || writing(&live);
        fault::point("move.before").map_err(failed())?;
        match (names.staged, names.live) {
            (Some(_), Some(_)) => at.exchange(live.file_name(), &store, parked.file_name()),
            (Some(_), None) => store.move_to(parked.file_name(), &at, live.file_name()),
            (None, Some(_)) => at.move_to(live.file_name(), &store, parked.file_name()),
            (None, None) => Ok(()),
        }
        .map_err(failed())?;
        fault::point("move.after").map_err(failed())?;
        at.sync().and_then(|()| store.sync()).map_err(failed())
    }

    /// FreedomBox's own files of the installed version stay: they are copied into the parked tree before it moves.
    fn carry_dropins(&self, step: &Step) -> Result<(), RestoreError> {
        let live = &step.destination;
        if self.root().stat(live).map_err(writing(live))?.is_none_or(|stat| stat.kind != Kind::Directory) {
            return Ok(());
        }
        let dropins: BTreeSet<&RelPath> =
            manifest::all().iter().flat_map(|app| &app.dropins).filter(|path| path.is_within(live)).collect();
        for path in dropins {
            self.carry(step, path).map_err(writing(path))?;
        }
        Ok(())
    }

    fn carry(&self, step: &Step, path: &RelPath) -> io::Result<()> {
        let Some(stat) = self.root().stat(path)? else { return Ok(()) };
        let (from, to) = (self.root().parent(path)?, self.make_like(path, step)?);
        let Some(to) = to else { return Ok(()) };
        let name = path.file_name();
        match stat.kind {
            Kind::Symlink => {
                let target = from.read_link(name)?;
                tree::remove(&to, name)?;
                to.make_symlink(name, &target)?;
            }
            Kind::File => {
                tree::remove(&to, name)?;
                let mut file = to.create_file(name)?;
                io::copy(&mut from.read_file(name)?, &mut file)?;
                to.set_mode(name, stat.mode)?;
                // What moves into its place a moment later must not be empty there after a power cut.
                dir::sync_file(&file)?;
            }
            _ => return Ok(()),
        }
        to.set_owner(name, stat.uid, stat.gid)?;
        to.sync()
    }

    /// The directory of the parked tree that holds what is live at `path`, made as the live one is where it is missing;
    /// `None` where something else stands in the way.
    fn make_like(&self, path: &RelPath, step: &Step) -> io::Result<Option<Dir>> {
        let mut at = match self.root().dir(&step.place()) {
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(None),
            other => other?,
        };
        for parent in path.ancestors().into_iter().filter(|parent| parent.is_within(&step.destination)) {
            if parent == step.destination {
                continue;
            }
            let name = parent.file_name();
            if at.make_child(name)?
                && let Some(stat) = self.root().stat(&parent)?
            {
                at.set_owner(name, stat.uid, stat.gid)?;
                at.set_mode(name, stat.mode)?;
            }
            at = at.child(name)?;
        }
        Ok(Some(at))
    }

    /// What was parked beside files that did not make way after all, because the power was cut, comes back to them.
    pub fn settle_sidecars(&self) -> Result<(), RestoreError> {
        for step in self.plan().steps.iter().filter(|step| step.action == Action::Park) {
            if !self.is_moved(step)? {
                self.bring_sidecars_back(step)?;
            }
        }
        Ok(())
    }

    /// What SQLite keeps beside a file belongs to that file alone: it is parked with it. Returns whether there was any,
    /// and the restore is marked as interrupted then.
    fn set_sidecars_aside(&self, step: &Step) -> Result<bool, RestoreError> {
        let mut guarded = false;
        for (live, parked) in sidecars(step) {
            let failed = || writing(&live);
            let planned = self.plan().steps.iter().any(|other| other.destination == live);
            if planned || self.root().stat(&live).map_err(failed())?.is_none() {
                continue;
            }
            // Of a committed restore nothing goes on that is old.
            if !guarded && !self.is_committing() {
                place::set_interrupted(self.root(), true)?;
                guarded = true;
            }
            let at = self.root().parent(&live).map_err(failed())?;
            let store = self.root().parent(&parked).map_err(failed())?;
            tree::remove(&store, parked.file_name())
                .and_then(|()| at.move_to(live.file_name(), &store, parked.file_name()))
                .and_then(|()| at.sync())
                .map_err(failed())?;
        }
        Ok(guarded)
    }

    fn bring_sidecars_back(&self, step: &Step) -> Result<(), RestoreError> {
        for (live, parked) in sidecars(step) {
            let failed = || writing(&live);
            let planned = self.plan().steps.iter().any(|other| other.destination == live);
            let (there, here) =
                (self.root().stat(&parked).map_err(failed())?, self.root().stat(&live).map_err(failed())?);
            if planned || there.is_none() {
                continue;
            }
            let at = self.root().parent(&live).map_err(failed())?;
            let store = self.root().parent(&parked).map_err(failed())?;
            if (Names { staged: there, live: here }).are_one() {
                store.remove_file(parked.file_name()).map_err(failed())?;
                continue;
            }
            store.move_to(parked.file_name(), &at, live.file_name()).and_then(|()| at.sync()).map_err(failed())?;
        }
        Ok(())
    }

    /// Names of users and groups that the box did not have when the data of `app` was written.
    pub fn unknown_names(&self, app: &AppId) -> Result<(BTreeSet<String>, BTreeSet<String>), RestoreError> {
        let (mut users, mut groups) = (BTreeSet::new(), BTreeSet::new());
        self.each_owner(app, |line| {
            users.extend(line.user.clone());
            groups.extend(line.group.clone());
            Ok(())
        })?;
        Ok((users, groups))
    }

    /// The name of the user who owns the top of a step's data, where the box did not have it when that was written.
    pub fn unknown_owner(&self, step: &Step) -> Result<Option<String>, RestoreError> {
        let mut owner = None;
        self.each_owner(&step.app, |line| {
            if line.path == step.destination {
                owner = line.user;
            }
            Ok(())
        })?;
        Ok(owner)
    }

    /// Gives restored data of `app` to the owners that it had, by the names that the box has by now; those that it
    /// still does not have stay as they are. Directories of dynamic users get a foreign owner, which makes systemd give
    /// them to the service anew. Returns the names that are still unknown.
    pub fn give_owners(&self, app: &AppId, numbers: &Numbers) -> Result<BTreeSet<String>, RestoreError> {
        let mut unknown = BTreeSet::new();
        let steps = self.plan().steps.clone();
        let mut placed: Vec<(RelPath, RelPath)> = Vec::new();
        for step in steps.iter().filter(|step| step.app == *app && step.action != Action::SetAside) {
            let is_live = step.action == Action::Exchange || self.is_moved(step)?;
            // What came into a folder has its owner since before, and what was there keeps its own.
            if is_live && step.action == Action::Merge {
                continue;
            }
            let now = if is_live { step.destination.clone() } else { step.place() };
            placed.push((step.destination.clone(), now));
        }
        self.each_owner(app, |line| {
            let user = line.user.as_ref().and_then(|name| numbers.users.get(name));
            let group = line.group.as_ref().and_then(|name| numbers.groups.get(name));
            unknown.extend(line.user.clone().filter(|_| user.is_none()));
            unknown.extend(line.group.clone().filter(|_| group.is_none()));
            let Some(path) = placed.iter().find_map(|(was, now)| line.path.moved(was, now)) else { return Ok(()) };
            self.give(&path, user.copied(), group.copied(), &line).map_err(writing(&path))
        })?;
        let app = manifest::find(app);
        for (destination, now) in &placed {
            if app.is_some_and(|app| is_dynamic_top(app, destination)) {
                let at = self.root().parent(now).map_err(writing(now))?;
                if at.stat_child(now.file_name()).map_err(writing(now))?.is_some() {
                    at.set_owner(now.file_name(), 0, 0).map_err(writing(now))?;
                }
            }
        }
        Ok(unknown)
    }

    fn give(&self, path: &RelPath, user: Option<u32>, group: Option<u32>, line: &Line) -> io::Result<()> {
        let at = match self.root().parent(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        let name = path.file_name();
        let Some(stat) = at.stat_child(name)? else { return Ok(()) };
        // A name that is known by now but was not when it was written; the other half keeps what it got then.
        let uid = user.unwrap_or(if line.user.is_none() { line.uid } else { stat.uid });
        let gid = group.unwrap_or(if line.group.is_none() { line.gid } else { stat.gid });
        at.set_owner(name, uid, gid)?;
        let both = (line.user.is_none() || user.is_some()) && (line.group.is_none() || group.is_some());
        // A change of owner takes set-id bits away, and so did the missing owner.
        match stat.kind {
            Kind::Symlink => Ok(()),
            _ => at.set_mode(name, if both { line.mode } else { stat.mode }),
        }
    }

    fn each_owner(
        &self,
        app: &AppId,
        mut each: impl FnMut(Line) -> Result<(), RestoreError>,
    ) -> Result<(), RestoreError> {
        let failed = || doing("reading the list of owners");
        let directory = self.root().dir(&place::restore(&self.plan().id)?).map_err(failed())?;
        let file = match directory.read_file(LIST) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(failed())?,
        };
        for line in BufReader::new(file).lines() {
            let line: Line = serde_json::from_str(&line.map_err(failed())?).map_err(|error| failed()(error.into()))?;
            if line.app == *app {
                each(line)?;
            }
        }
        Ok(())
    }

    /// The directory of this restore where what the running box saves is kept, private to root.
    pub fn kept(&self) -> Result<Dir, RestoreError> {
        place::make_private(self.root(), &self.kept_path()?)
    }

    /// Where that is.
    pub fn kept_path(&self) -> Result<RelPath, RestoreError> {
        place::kept(&self.plan().id)
    }

    /// Where in it that of an app lies.
    pub fn kept_of(&self, app: &AppId) -> Result<RelPath, RestoreError> {
        Ok(self.kept_path()?.join(app.as_str().as_bytes())?)
    }

    /// Removes what an app had before, once nothing can be undone any more: the old data that lies parked now.
    pub fn free_old(&mut self, app: &AppId) -> Result<(), RestoreError> {
        for step in self.parked_steps(app) {
            if self.is_moved(&step)? {
                // Without the old data beside it, nothing else tells any more that a move which was cut off had happened.
                if !self.is_noted(&step) {
                    self.record(Record::Moved { step: step.id })?;
                }
                let path = step.place();
                let failed = || doing(format!("removing \"{path}\""));
                let at = match self.root().parent(&path) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    other => other.map_err(failed())?,
                };
                tree::remove(&at, path.file_name()).map_err(failed())?;
                for (_, parked) in sidecars(&step) {
                    tree::remove(&at, parked.file_name()).map_err(failed())?;
                }
                self.free_state(&step)?;
            }
        }
        self.free_clusters()
    }

    /// Removes the parked files of old database servers, once every app that they are for was restored from a dump that
    /// was made of them.
    fn free_clusters(&self) -> Result<(), RestoreError> {
        let databases = AppId::databases();
        let kept = self.kept()?;
        for app in self.plan().apps.iter().filter(|app| app.recovers && app.road.restores()) {
            let finished = |record: &Record| matches!(record, Record::Finished { app: of } if *of == app.name);
            let dump = kept.stat_child(format!("{}.sql", app.name).as_bytes()).map_err(doing("looking for dumps"))?;
            if dump.is_none() || !self.records().iter().any(finished) {
                return Ok(());
            }
        }
        for step in self.parked_steps(&databases) {
            let path = step.place();
            let failed = || doing(format!("removing \"{path}\""));
            match self.root().parent(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => tree::remove(&other.map_err(failed())?, path.file_name()).map_err(failed())?,
            }
        }
        Ok(())
    }
}

/// Whether the parked data of a step is in its place, by looking at the disk.
pub(super) fn is_moved(root: &Dir, records: &[Record], step: &Step) -> Result<bool, RestoreError> {
    if step.action == Action::Merge {
        let of = |record: &&Record| matches!(record, Record::Merged { step: id, .. } | Record::Undone { step: id } if *id == step.id);
        return Ok(matches!(records.iter().rev().find(of), Some(Record::Merged { .. })));
    }
    let (mut backwards, mut noted, mut moved) = (false, None, false);
    for record in records {
        match record {
            Record::Undoing => backwards = true,
            Record::Moving { step: id, parked, live } if *id == step.id => {
                (noted, moved) = (Some((*parked, *live, backwards)), false);
            }
            Record::Moved { step: id } if *id == step.id => moved = true,
            // It left its parked name on the way back, which it only does when it has come back there.
            Record::Exchanging { step: id, .. } if *id == step.id && backwards => return Ok(false),
            Record::Undone { step: id } if *id == step.id => return Ok(false),
            _ => {}
        }
    }
    let Some((parked, live, backwards)) = noted else { return Ok(false) };
    // After it is noted the app may change its files as it likes.
    if moved {
        return Ok(true);
    }
    let now = happened(look(root, step)?, parked, live);
    match now.ok_or_else(|| RestoreError::Unknown { path: step.destination.clone() })? {
        happened if happened != backwards => Ok(true),
        _ => Ok(false),
    }
}

/// What data a parked step's destination has, for the state of the whole.
pub(super) fn data(root: &Dir, records: &[Record], step: &Step) -> Result<Data, RestoreError> {
    Ok(if is_moved(root, records, step)? { Data::New } else { Data::Old })
}

fn look(root: &Dir, step: &Step) -> Result<Names, RestoreError> {
    let (parked, live) = (step.place(), &step.destination);
    Ok(Names {
        staged: root.stat(&parked).map_err(doing(format!("looking at \"{parked}\"")))?,
        live: root.stat(live).map_err(doing(format!("looking at \"{live}\"")))?,
    })
}

/// The live and the parked names of what SQLite may keep beside a step's file.
fn sidecars(step: &Step) -> Vec<(RelPath, RelPath)> {
    let with = |path: &RelPath, suffix: &[u8]| RelPath::parse(&[path.as_bytes(), suffix].concat()).ok();
    let pairs =
        SIDECARS.iter().filter_map(|suffix| Some((with(&step.destination, suffix)?, with(&step.place(), suffix)?)));
    pairs.collect()
}

/// Whether the path is the top of a state directory of a dynamic user, or above one.
fn is_dynamic_top(app: &Manifest, path: &RelPath) -> bool {
    app.dynamic_user.contains(path)
}

/// A name of the list of owners as bytes; `None` when it is none.
pub fn name(escaped: &str) -> Option<Vec<u8>> {
    bytes::unescape(escaped).filter(|raw| !raw.is_empty())
}
