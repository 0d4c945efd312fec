//! Undoing a restore, and committing it.
//!
//! Undoing is the same exchanges backwards, then removing what Lifeboat wrote. Committing removes the old data. Both
//! are noted before they begin, so a power cut during either is finished in the same direction.

use super::exchange::Data;
use super::journal::{JournalError, Record};
use super::stage::owners::{LIST, NEW};
use super::{Restore, RestoreError, Standing, doing, place};
use crate::model::app::AppId;
use crate::model::finish::Part;
use crate::model::path::RelPath;
use crate::model::plan::{Action, Step};
use crate::model::progress::{Event, Phase, Progress};
use crate::model::site::AREA;
use crate::model::state::RestoreState;
use crate::sys::command::Commands;
use crate::sys::{fault, tree};
use std::io;
use std::path::Path;

impl Restore {
    /// Puts all old data back and removes everything that the restore wrote. Can be called again after a power cut.
    /// `at` is where the target is mounted.
    pub fn undo(&mut self, commands: &dyn Commands, at: &Path, progress: &dyn Progress) -> Result<(), RestoreError> {
        progress.event(Event::Phase { phase: Phase::Exchange, total: None });
        if self.is_committing() {
            return Err(RestoreError::Committing(self.plan().id.clone()));
        }
        let imported = self.imported();
        if !imported.is_empty() {
            let names: Vec<&str> = imported.iter().map(AppId::as_str).collect();
            return Err(RestoreError::NeedsRunningBox(names.join(", ")));
        }
        self.begin_undoing()?;
        for step in self.plan().steps.clone().iter().rev() {
            self.undo_step(step)?;
            progress.event(Event::Advance { bytes: 0, entries: 1 });
        }
        fault::point("undo.exchanged").map_err(doing("undoing the restore"))?;
        self.root().sync_filesystem().map_err(doing("writing the old data's places to the box's disk"))?;
        self.remove_placed()?;
        self.remove_snapshot(commands, at)?;
        self.clean_up(progress)?;
        self.remove_leftovers()?;
        place::set_interrupted(self.root(), false)?;
        Ok(self.journal_mut().write(Record::RolledBack)?)
    }

    /// Puts the old data of one app back, after [`Restore::begin_undoing`]. Can be called again.
    pub fn undo_app(&mut self, app: &AppId) -> Result<(), RestoreError> {
        let steps: Vec<Step> = self.plan().steps.iter().filter(|step| step.app == *app).cloned().collect();
        steps.iter().rev().try_for_each(|step| self.undo_step(step))
    }

    fn undo_step(&mut self, step: &Step) -> Result<(), RestoreError> {
        if self.records().iter().any(|record| matches!(record, Record::Undone { step: id } if *id == step.id)) {
            return Ok(());
        }
        match step.action {
            Action::Park => self.move_back(step)?,
            Action::Merge => self.merge_back(step)?,
            Action::Exchange | Action::SetAside => {}
        }
        if self.data_of(step)? == Data::New {
            place::set_interrupted(self.root(), true)?;
            self.set_strangers_aside(step)?;
            self.swap(step)?;
        }
        self.record(Record::Undone { step: step.id })
    }

    /// Notes that undoing was begun on the running box: cut off, it goes on at the next start of it.
    pub fn mark_interrupted(&self) -> Result<(), RestoreError> {
        place::set_interrupted(self.root(), true)
    }

    /// Notes that from here on it only goes back.
    pub fn begin_undoing(&mut self) -> Result<(), RestoreError> {
        if self.is_going_back() { Ok(()) } else { self.note_undoing() }
    }

    /// Apps whose database or settings the running box may have changed, and did not bring back yet.
    pub fn imported(&self) -> Vec<AppId> {
        imported(self.records())
    }

    /// Notes it. On a disk that staging filled up there is no room for the note: as long as nothing was exchanged,
    /// what was staged makes the room.
    fn note_undoing(&mut self) -> Result<(), RestoreError> {
        let full = |error: &JournalError| matches!(error, JournalError::Io { source, .. } if is_full(source));
        match self.journal_mut().write(Record::Undoing) {
            Err(error) if full(&error) && !self.has_exchanged() => {
                self.remove_stages()?;
                Ok(self.journal_mut().write(Record::Undoing)?)
            }
            other => Ok(other?),
        }
    }

    /// Removes the files and directories that Lifeboat wrote outside its own directory, newest first.
    fn remove_placed(&mut self) -> Result<(), RestoreError> {
        // What did not come yet comes no more, whoever else needs the rest.
        for extra in self.plan().extras.clone() {
            let path = extra.extra.waits_in()?;
            if self.records().iter().any(|record| matches!(record, Record::Writing { path: p } if *p == path)) {
                self.remove_file(&path)?;
            }
        }
        if self.is_needed_by_others()? {
            return Ok(());
        }
        for record in self.records().to_vec().iter().rev() {
            match record {
                Record::Writing { path } => self.remove_file(path)?,
                Record::Made { path } => self.remove_empty(path)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn remove_file(&self, path: &RelPath) -> Result<(), RestoreError> {
        let failed = || doing(format!("removing \"{path}\""));
        let at = match self.root().parent(path) {
            Ok(at) => at,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed()(error)),
        };
        for name in [path.file_name().to_vec(), [path.file_name(), b".lifeboat-new"].concat()] {
            if at.stat_child(&name).map_err(failed())?.is_some() {
                at.remove_file(&name).and_then(|()| at.sync()).map_err(failed())?;
            }
        }
        Ok(())
    }

    fn remove_empty(&self, path: &RelPath) -> Result<(), RestoreError> {
        let failed = || doing(format!("removing \"{path}\""));
        let at = match self.root().parent(path) {
            Ok(at) => at,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed()(error)),
        };
        match at.remove_dir(path.file_name()) {
            // Somebody else uses the directory by now.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.and_then(|()| at.sync()).map_err(failed()),
        }
    }

    /// Removes the old data for good. What waits for the next boot stays. `at` is where the target is mounted.
    pub fn commit(&mut self, commands: &dyn Commands, at: &Path, progress: &dyn Progress) -> Result<(), RestoreError> {
        match super::status::state(self.records(), self.plan()) {
            RestoreState::Restored | RestoreState::WaitingForBoot => self.journal_mut().write(Record::Committing)?,
            _ if self.is_committing() => {}
            _ => return Err(RestoreError::Unfinished(self.plan().id.clone())),
        }
        self.remove_snapshot(commands, at)?;
        for app in self.plan().apps.clone() {
            self.free_old(&app.name)?;
        }
        self.remove_kept()?;
        self.clean_up(progress)?;
        self.journal_mut().write(Record::Committed)?;
        self.leave()
    }

    /// Removes the units and the program, when nothing on the box needs them any more: this restore is committed and
    /// has nothing that waits, neither app nor anything besides, and so are all others. Can be called again.
    pub fn leave(&mut self) -> Result<(), RestoreError> {
        let committed = super::status::state(self.records(), self.plan()) == RestoreState::Committed;
        let extras = super::status::extras(self.root(), self.records(), self.plan());
        let waits = super::status::waits(self.records(), self.plan()) || !extras.is_empty();
        if !committed || waits || self.is_needed_by_others()? {
            return Ok(());
        }
        for record in self.records().to_vec().iter().rev() {
            if let Record::Writing { path } = record {
                self.remove_file(path)?;
            }
        }
        self.remove_kept()?;
        let failed = || doing("removing empty directories");
        let area = place::make_area(self.root())?;
        remove_empty_tree(&area, b"parked").and_then(|()| remove_empty_tree(&area, b"bin")).map_err(failed())
    }

    /// Whether another restore on the box still needs the units and the program.
    fn is_needed_by_others(&self) -> Result<bool, RestoreError> {
        let all = super::status::restores(self.root())?;
        let needs = |other: &Standing| other.is_open() || !other.waiting.is_empty() || !other.extras.is_empty();
        Ok(all.iter().any(|other| other.id != self.plan().id && needs(other)))
    }

    /// Moves what the running box kept of an app to where it stays for good.
    pub fn leave_kept(&self, app: &AppId) -> Result<(), RestoreError> {
        let failed = || doing(format!("moving what '{app}' held before to where it stays"));
        let store = place::make_private(self.root(), &self.left_path()?)?;
        let names = store.names().map_err(failed())?;
        let mut free = (1..).map(|nth: u32| format!("{app}.{nth}").into_bytes()).filter(|name| !names.contains(name));
        let name = free.next().unwrap_or_else(|| app.as_str().into());
        let kept = self.kept()?;
        let moved = kept.move_to(app.as_str().as_bytes(), &store, &name);
        moved.and_then(|()| store.sync()).and_then(|()| kept.sync()).map_err(failed())
    }

    /// Where that is, when there is any.
    pub fn left(&self) -> Result<Option<RelPath>, RestoreError> {
        let place = self.left_path()?;
        let there = self.root().stat(&place).map_err(doing(format!("looking at \"{place}\"")))?;
        Ok(there.map(|_| place))
    }

    fn left_path(&self) -> Result<RelPath, RestoreError> {
        Ok(format!("{AREA}/dumps/{}", self.plan().id).parse()?)
    }

    fn remove_kept(&self) -> Result<(), RestoreError> {
        let directory = place::make_restore(self.root(), &self.plan().id)?;
        tree::remove(&directory, b"kept").map_err(doing("removing what the running box had saved"))
    }

    /// Removes the staging areas: the old data after a restore, the restored data after undoing it.
    fn clean_up(&mut self, progress: &dyn Progress) -> Result<(), RestoreError> {
        progress.event(Event::Phase { phase: Phase::CleanUp, total: None });
        self.remove_stages()?;
        // Outside of its own directory Lifeboat leaves nothing but data that is parked there.
        for area in self.areas().into_iter().filter(|area| area.as_bytes() != AREA.as_bytes()) {
            let failed = || doing(format!("removing \"{area}\""));
            let at = self.root().parent(&area).map_err(failed())?;
            remove_empty_tree(&at, area.file_name()).and_then(|()| at.sync()).map_err(failed())?;
        }
        Ok(())
    }

    fn remove_stages(&self) -> Result<(), RestoreError> {
        for area in self.areas() {
            let path = area.join(format!("restores/{}", self.plan().id).as_bytes())?;
            let failed = || doing(format!("removing staged data below \"{path}\""));
            match self.root().dir(&path) {
                Ok(at) => tree::remove(&at, b"stage").map_err(failed())?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed()(error)),
            }
        }
        Ok(())
    }

    /// After undoing, the parked places are empty, and nobody needs the list of unknown owners.
    fn remove_leftovers(&self) -> Result<(), RestoreError> {
        let failed = || doing("removing empty directories");
        let area = place::make_area(self.root())?;
        remove_empty_tree(&area, b"parked").map_err(failed())?;
        self.remove_kept()?;
        self.remove_lists()?;
        let directory = place::make_restore(self.root(), &self.plan().id)?;
        let mut lists = [LIST, NEW].into_iter();
        lists.try_for_each(|name| tree::remove(&directory, name)).map_err(failed())
    }

    fn areas(&self) -> Vec<RelPath> {
        let mut areas: Vec<RelPath> = self.plan().steps.iter().map(|step| step.area.clone()).collect();
        areas.sort();
        areas.dedup();
        areas
    }
}

/// The same by the records.
pub(super) fn imported(records: &[Record]) -> Vec<AppId> {
    let saved = records.iter().filter_map(|record| match record {
        Record::Reached { app, part: Part::Save } => Some(app),
        _ => None,
    });
    let back = |app: &AppId| records.iter().any(|record| matches!(record, Record::TakenBack { app: a } if a == app));
    let mut apps: Vec<AppId> = saved.filter(|app| !back(app)).cloned().collect();
    apps.dedup();
    apps
}

pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Removes directories that hold nothing but empty directories; anything else stays where it is.
fn remove_empty_tree(parent: &crate::sys::dir::Dir, name: &[u8]) -> io::Result<()> {
    let Some(stat) = parent.stat_child(name)? else { return Ok(()) };
    if stat.kind != crate::sys::dir::Kind::Directory {
        return Ok(());
    }
    let here = parent.child(name)?;
    for child in here.names()? {
        remove_empty_tree(&here, &child)?;
    }
    match parent.remove_dir(name) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        other => other,
    }
}
