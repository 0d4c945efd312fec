//! Exchanging live and staged data, one atomic rename per step, and the same renames backwards.
//!
//! A step has two names: the live one (or the parked place) and the staged one. Exchanging swaps what is at the two;
//! where one of them is empty, the other moves. Doing it again is the inverse. After a power cut the inode numbers
//! that were noted before say which of the two happened.

use super::journal::Record;
use super::{Restore, RestoreError, doing, place};
use crate::model::plan::{Action, Step};
use crate::model::progress::{Event, Phase, Progress};
use crate::sys::dir::{Dir, Stat};
use crate::sys::{fault, tree};

/// What is at a step's two names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Names {
    staged: Option<Stat>,
    live: Option<Stat>,
}

impl Names {
    fn inodes(&self) -> (Option<u64>, Option<u64>) {
        (self.staged.map(|stat| stat.ino), self.live.map(|stat| stat.ino))
    }
}

/// How far a step got, as its journal records and the disk agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progressed {
    /// Not exchanged: the live name has its old data.
    Old,
    /// Exchanged: the live name has the new data.
    New,
}

impl Restore {
    /// Exchanges every step that is not exchanged yet, in the plan's order.
    pub fn exchange(&mut self, progress: &dyn Progress) -> Result<(), RestoreError> {
        if self.records().iter().any(|record| matches!(record, Record::Restored)) {
            return Ok(());
        }
        progress.event(Event::Phase { phase: Phase::Exchange, total: None });
        for step in self.plan().steps.clone() {
            if self.progressed(&step)? == Progressed::New {
                self.note_exchanged(&step)?;
                continue;
            }
            self.check_staged(&step)?;
            place::set_interrupted(self.root(), true)?;
            self.swap(&step)?;
            self.note_exchanged(&step)?;
            progress.event(Event::Advance { bytes: 0, entries: 1 });
        }
        self.root().sync_filesystem().map_err(doing("writing the exchanges to the box's disk"))?;
        self.journal_mut().write(Record::Restored)?;
        Ok(())
    }

    fn note_exchanged(&mut self, step: &Step) -> Result<(), RestoreError> {
        let noted =
            self.records().iter().any(|record| matches!(record, Record::Exchanged { step: id } if *id == step.id));
        if !noted {
            self.journal_mut().write(Record::Exchanged { step: step.id })?;
        }
        Ok(())
    }

    /// After an interruption the staged data is looked at again before it becomes live.
    fn check_staged(&self, step: &Step) -> Result<(), RestoreError> {
        if step.action == Action::SetAside {
            return Ok(());
        }
        let stage = place::make_stage(self.root(), &self.plan().id, step)?;
        let recorded = self.staged_digest(step).ok_or(RestoreError::SourceNeeded)?;
        let found = tree::digest(&stage, step.id.to_string().as_bytes(), false, &mut |_| {});
        match found.map_err(doing("checking staged data"))? {
            Some(found) if found == recorded => Ok(()),
            _ => Err(RestoreError::ReadBack { path: step.destination.clone() }),
        }
    }

    /// Looks at both names of a step.
    fn look(&self, step: &Step) -> Result<Names, RestoreError> {
        let stage = place::make_stage(self.root(), &self.plan().id, step)?;
        let place = step.place();
        let staged = stage.stat_child(step.id.to_string().as_bytes()).map_err(doing("looking at staged data"))?;
        let live = self.root().stat(&place).map_err(doing(format!("looking at \"{place}\"")))?;
        Ok(Names { staged, live })
    }

    /// Decides by looking at the disk whether a step was exchanged.
    pub(super) fn progressed(&self, step: &Step) -> Result<Progressed, RestoreError> {
        let noted = self.records().iter().rev().find_map(|record| match record {
            Record::Exchanging { step: id, staged, live } if *id == step.id => Some((*staged, *live)),
            _ => None,
        });
        let Some((staged, live)) = noted else { return Ok(Progressed::Old) };
        let names = self.look(step)?;
        if names.inodes() == (staged, live) {
            return Ok(Progressed::Old);
        }
        if names.inodes() == (live, staged) {
            return Ok(Progressed::New);
        }
        // The app may have replaced its own file since; the staged name is Lifeboat's alone and still tells.
        match names.staged.map(|stat| stat.ino) {
            inode if inode == live && inode != staged => Ok(Progressed::New),
            inode if inode == staged && inode != live => Ok(Progressed::Old),
            _ => Err(RestoreError::Unknown { path: step.place() }),
        }
    }

    /// Exchanges the two names of a step, whichever way they are, with a note before and everything synced after.
    pub(super) fn swap(&mut self, step: &Step) -> Result<(), RestoreError> {
        let place = step.place();
        let at = match step.action {
            Action::Park => parked_parent(self, step)?,
            Action::Exchange | Action::SetAside => self.make_parents(&place)?,
        };
        let stage = place::make_stage(self.root(), &self.plan().id, step)?;
        let names = self.look(step)?;
        let (staged, live) = names.inodes();
        self.journal_mut().write(Record::Exchanging { step: step.id, staged, live })?;
        let name = step.id.to_string().into_bytes();
        let target = place.file_name();
        let failed = || super::writing(&place);
        fault::point("exchange.before").map_err(failed())?;
        match (names.staged, names.live) {
            (Some(_), Some(_)) => at.exchange(target, &stage, &name),
            (Some(_), None) => stage.move_to(&name, &at, target),
            (None, Some(_)) => at.move_to(target, &stage, &name),
            (None, None) => Ok(()),
        }
        .map_err(failed())?;
        fault::point("exchange.after").map_err(failed())?;
        at.sync().and_then(|()| stage.sync()).map_err(failed())
    }
}

/// The directory below `parked/<app>` that gets the step's data, private to root.
fn parked_parent(restore: &Restore, step: &Step) -> Result<Dir, RestoreError> {
    match step.place().parent() {
        Some(parent) => place::make_private(restore.root(), &parent),
        None => Err(RestoreError::Unknown { path: step.place() }),
    }
}
