//! Undoing a restore, and committing it.
//!
//! Undoing is the same exchanges backwards, then removing what Lifeboat wrote. Committing removes the old data. Both
//! are noted before they begin, so a power cut during either is finished in the same direction.

use super::exchange::Progressed;
use super::journal::Record;
use super::{Restore, RestoreError, doing, place};
use crate::model::path::RelPath;
use crate::model::plan::Action;
use crate::model::progress::{Event, Phase, Progress};
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
        if !self.is_going_back() {
            self.journal_mut().write(Record::Undoing)?;
        }
        let steps = self.plan().steps.clone();
        for step in steps.iter().rev() {
            let undone =
                self.records().iter().any(|record| matches!(record, Record::Undone { step: id } if *id == step.id));
            if undone {
                continue;
            }
            if self.went(step)? == Progressed::New {
                place::set_interrupted(self.root(), true)?;
                self.swap(step)?;
            }
            self.journal_mut().write(Record::Undone { step: step.id })?;
            progress.event(Event::Advance { bytes: 0, entries: 1 });
        }
        fault::point("undo.exchanged").map_err(doing("undoing the restore"))?;
        self.root().sync_filesystem().map_err(doing("writing the old data's places to the box's disk"))?;
        self.remove_placed()?;
        self.remove_snapshot(commands, at)?;
        self.clean_up(progress)?;
        self.journal_mut().write(Record::RolledBack)?;
        place::set_interrupted(self.root(), false)
    }

    /// Where a step stands while going backwards: the last note may be of the exchange forwards or backwards.
    fn went(&self, step: &crate::model::plan::Step) -> Result<Progressed, RestoreError> {
        let mut backwards = false;
        let mut noted = false;
        let mut undoing = false;
        for record in self.records() {
            match record {
                Record::Undoing => undoing = true,
                Record::Exchanging { step: id, .. } if *id == step.id => {
                    noted = true;
                    backwards = undoing;
                }
                _ => {}
            }
        }
        Ok(match (noted, backwards, self.progressed(step)?) {
            (false, _, _) => Progressed::Old,
            (true, false, state) => state,
            // The last note was about going back, so "exchanged" means that the old data is back.
            (true, true, Progressed::New) => Progressed::Old,
            (true, true, Progressed::Old) => Progressed::New,
        })
    }

    /// Removes the files and directories that Lifeboat wrote outside its own directory, newest first.
    fn remove_placed(&mut self) -> Result<(), RestoreError> {
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
        self.clean_up(progress)?;
        self.journal_mut().write(Record::Committed)?;
        Ok(())
    }

    /// Removes the staging areas: the old data after a restore, the restored data after undoing it. After undoing,
    /// the parked places are empty too.
    fn clean_up(&mut self, progress: &dyn Progress) -> Result<(), RestoreError> {
        progress.event(Event::Phase { phase: Phase::CleanUp, total: None });
        let id = self.plan().id.clone();
        for step in self.plan().steps.clone() {
            let stage = place::make_stage(self.root(), &id, &step)?;
            let failed = || doing(format!("removing the staged data of \"{}\"", step.destination));
            tree::remove(&stage, step.id.to_string().as_bytes()).map_err(failed())?;
            progress.event(Event::Advance { bytes: 0, entries: 1 });
        }
        for area in self.areas() {
            let restores = place::make_private(self.root(), &area.join(format!("restores/{id}").as_bytes())?)?;
            tree::remove(&restores, b"stage").map_err(doing("removing the staging directory"))?;
            if self.is_going_back() {
                let area = place::make_private(self.root(), &area)?;
                for app in self.plan().steps.iter().filter(|step| step.action == Action::Park).map(|step| &step.app) {
                    if area.stat_child(b"parked").map_err(doing("looking at parked data"))?.is_some() {
                        let parked = area.child(b"parked").map_err(doing("opening parked data"))?;
                        remove_empty_tree(&parked, app.as_str().as_bytes())
                            .map_err(doing("removing empty directories"))?;
                    }
                }
            }
        }
        Ok(())
    }

    fn areas(&self) -> Vec<RelPath> {
        let mut areas: Vec<RelPath> = self.plan().steps.iter().map(|step| step.area.clone()).collect();
        areas.sort();
        areas.dedup();
        areas
    }
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
