//! Exchanging live and staged data, one atomic rename per step, and the same renames backwards.
//!
//! A step has two names: the live one (or the parked place) and the staged one. Exchanging swaps what is at the two;
//! where one of them is empty, the other moves. Doing it again is the inverse. After a power cut the inode numbers
//! that were noted before say which of the two happened.

use super::journal::Record;
use super::{Restore, RestoreError, doing, place};
use crate::model::path::RelPath;
use crate::model::plan::{Action, RestorePlan, Step};
use crate::model::progress::{Event, Phase, Progress};
use crate::model::site::SIDECARS;
use crate::sys::dir::{Dir, Kind, Stat};
use crate::sys::{fault, tree};

/// What is at a step's two names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) staged: Option<Stat>,
    pub(super) live: Option<Stat>,
}

impl Names {
    pub(super) fn inodes(&self) -> (Option<u64>, Option<u64>) {
        (self.staged.map(|stat| stat.ino), self.live.map(|stat| stat.ino))
    }

    /// Whether both name one file. No exchange does that, but a filesystem that lost the power in the middle of a move
    /// may show the file at both ends of it (btrfs, after it played its log).
    pub(super) fn are_one(&self) -> bool {
        matches!((self.staged, self.live), (Some(staged), Some(live)) if (staged.dev, staged.ino) == (live.dev, live.ino))
    }
}

/// Which data a step's live name has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Data {
    /// What was there before the restore.
    Old,
    /// What the restore put there.
    New,
}

/// Decides by looking at the disk which data a step's live name has: the last note says what was about to happen, in
/// which direction, and the inode numbers whether it did. Changes nothing.
pub(super) fn data(root: &Dir, plan: &RestorePlan, records: &[Record], step: &Step) -> Result<Data, RestoreError> {
    let mut backwards = false;
    let mut noted = None;
    for record in records {
        match record {
            Record::Undoing => backwards = true,
            Record::Exchanging { step: id, staged, live } if *id == step.id => {
                noted = Some((*staged, *live, backwards));
            }
            // From here on the staged name may be removed, so it tells nothing any more.
            Record::Undone { step: id } if *id == step.id => return Ok(Data::Old),
            _ => {}
        }
    }
    let Some((staged, live, backwards)) = noted else { return Ok(Data::Old) };
    let happened = happened(look(root, plan, step)?, staged, live);
    match happened.ok_or_else(|| RestoreError::Unknown { path: step.place() })? {
        happened if happened != backwards => Ok(Data::New),
        _ => Ok(Data::Old),
    }
}

/// Whether the exchange of two names that held these inodes happened; `None` when neither is so.
pub(super) fn happened(now: Names, staged: Option<u64>, live: Option<u64>) -> Option<bool> {
    // There was nothing to move.
    if (staged, live) == (None, None) || now.inodes() == (live, staged) {
        return Some(true);
    }
    // Half of a move: what the live name has decides, as it does for whoever uses the data. A file that came there has
    // come; one that was to leave it has not left.
    if now.are_one() {
        let here = now.live.map(|stat| stat.ino);
        return (here == staged || here == live).then_some(here == staged);
    }
    if now.inodes() == (staged, live) {
        return Some(false);
    }
    // The app may have replaced its own file since; the staged name is Lifeboat's alone and still tells.
    match now.staged.map(|stat| stat.ino) {
        inode if inode == live && inode != staged => Some(true),
        inode if inode == staged && inode != live => Some(false),
        _ => None,
    }
}

/// Looks at both names of a step.
fn look(root: &Dir, plan: &RestorePlan, step: &Step) -> Result<Names, RestoreError> {
    let (at, place) = (place::staged(&plan.id, step)?, step.place());
    let staged = root.stat(&at).map_err(doing("looking at staged data"))?;
    let live = root.stat(&place).map_err(doing(format!("looking at \"{place}\"")))?;
    Ok(Names { staged, live })
}

impl Restore {
    /// Exchanges every step that is not exchanged yet, in the plan's order.
    pub fn exchange(&mut self, progress: &dyn Progress) -> Result<(), RestoreError> {
        if self.records().iter().any(|record| matches!(record, Record::Restored)) {
            return Ok(());
        }
        progress.event(Event::Phase { phase: Phase::Exchange, total: None });
        for step in self.plan().steps.clone() {
            if self.data_of(&step)? == Data::New {
                self.end_move(&step)?;
                self.note_exchanged(&step)?;
                continue;
            }
            progress.event(Event::App { name: step.app.clone() });
            self.check_staged(&step)?;
            if let Some(path) = self.strangers(&step)?.into_iter().next() {
                return Err(RestoreError::Unknown { path });
            }
            place::set_interrupted(self.root(), true)?;
            self.swap(&step)?;
            self.note_exchanged(&step)?;
            progress.event(Event::Advance { bytes: 0, entries: 1 });
        }
        self.root().sync_filesystem().map_err(doing("writing the exchanges to the box's disk"))?;
        self.journal_mut().write(Record::Restored)?;
        Ok(())
    }

    /// Which data a step's live name has.
    pub(super) fn data_of(&self, step: &Step) -> Result<Data, RestoreError> {
        data(self.root(), self.plan(), self.records(), step)
    }

    /// Whether any exchange was begun.
    pub(super) fn has_exchanged(&self) -> bool {
        self.records().iter().any(|record| matches!(record, Record::Exchanging { .. }))
    }

    /// Takes the staged name away from a file that came to its live name and kept both.
    fn end_move(&self, step: &Step) -> Result<(), RestoreError> {
        if !look(self.root(), self.plan(), step)?.are_one() {
            return Ok(());
        }
        let stage = place::make_stage(self.root(), &self.plan().id, step)?;
        let name = step.id.to_string().into_bytes();
        stage.remove_file(&name).and_then(|()| stage.sync()).map_err(doing("removing what is left of a move"))
    }

    fn note_exchanged(&mut self, step: &Step) -> Result<(), RestoreError> {
        let noted =
            self.records().iter().any(|record| matches!(record, Record::Exchanged { step: id } if *id == step.id));
        if !noted {
            self.journal_mut().write(Record::Exchanged { step: step.id })?;
        }
        Ok(())
    }

    /// Staged data that this run has not read back itself is looked at before it becomes live.
    fn check_staged(&self, step: &Step) -> Result<(), RestoreError> {
        if step.action == Action::SetAside || self.looked_at.contains(&step.id) {
            return Ok(());
        }
        let recorded = self.staged_digest(step).ok_or(RestoreError::SourceNeeded)?;
        let path = place::stage(&self.plan().id, step)?;
        let stage = self.root().dir(&path).map_err(doing("opening the staging directory"))?;
        let found = tree::digest(&stage, step.id.to_string().as_bytes(), false, &mut |_| {});
        match found.map_err(doing("checking staged data"))? {
            Some(found) if found == recorded => Ok(()),
            _ => Err(RestoreError::ReadBack { path: step.destination.clone() }),
        }
    }

    /// Files beside a step's file that SQLite would take for its own and that no step of the plan moves: they came
    /// into being after the plan was made, and belong to the file that is live now.
    fn strangers(&self, step: &Step) -> Result<Vec<RelPath>, RestoreError> {
        let names = look(self.root(), self.plan(), step)?;
        let is_file = |stat: Option<Stat>| stat.is_some_and(|stat| stat.kind == Kind::File);
        if step.action != Action::Exchange || !(is_file(names.live) || is_file(names.staged)) {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for suffix in SIDECARS {
            let Ok(path) = RelPath::parse(&[step.destination.as_bytes(), suffix].concat()) else { continue };
            let planned = self.plan().steps.iter().any(|other| other.destination == path);
            if !planned && self.root().stat(&path).map_err(doing(format!("looking at \"{path}\"")))?.is_some() {
                found.push(path);
            }
        }
        Ok(found)
    }

    /// Moves those files into the staging area, where they stay with the restored file that they belong to.
    pub(super) fn set_strangers_aside(&self, step: &Step) -> Result<(), RestoreError> {
        self.set_aside(step, self.strangers(step)?)
    }

    /// Moves files that lie beside a step's file, where they are there, into the staging area.
    pub(super) fn set_aside(&self, step: &Step, paths: Vec<RelPath>) -> Result<(), RestoreError> {
        for path in paths {
            if self.root().stat(&path).map_err(super::writing(&path))?.is_none() {
                continue;
            }
            let stage = place::make_stage(self.root(), &self.plan().id, step)?;
            let name = [step.id.to_string().as_bytes(), b"-", path.file_name()].concat();
            let at = self.root().parent(&path).map_err(super::writing(&path))?;
            tree::remove(&stage, &name)
                .and_then(|()| at.move_to(path.file_name(), &stage, &name))
                .and_then(|()| at.sync())
                .map_err(super::writing(&path))?;
        }
        Ok(())
    }

    /// Exchanges the two names of a step, whichever way they are, with a note before and everything synced after.
    pub(super) fn swap(&mut self, step: &Step) -> Result<(), RestoreError> {
        let place = step.place();
        let at = match step.action {
            Action::Park | Action::Merge => parked_parent(self, step)?,
            Action::Exchange | Action::SetAside => self.make_parents(&place)?,
        };
        let stage = place::make_stage(self.root(), &self.plan().id, step)?;
        let names = look(self.root(), self.plan(), step)?;
        let (staged, live) = names.inodes();
        let name = step.id.to_string().into_bytes();
        let target = place.file_name();
        let failed = || super::writing(&place);
        // Half of a move away from the live name is left to do. Without a note: cut again, the names tell the same as before
        // or the end.
        if names.are_one() {
            return at.remove_file(target).and_then(|()| at.sync()).map_err(failed());
        }
        // What was read back a moment ago is gone: somebody else works in the staging area.
        let forwards = !self.is_going_back();
        if forwards && staged.is_none() && step.action != Action::SetAside {
            return Err(RestoreError::ReadBack { path: step.destination.clone() });
        }
        self.journal_mut().write(Record::Exchanging { step: step.id, staged, live })?;
        fault::point("exchange.before").map_err(failed())?;
        match (names.staged, names.live) {
            (Some(_), Some(_)) => at.exchange(target, &stage, &name),
            (Some(_), None) => stage.move_to(&name, &at, target),
            (None, Some(_)) => at.move_to(target, &stage, &name),
            (None, None) => Ok(()),
        }
        .map_err(failed())?;
        fault::point("exchange.after").map_err(failed())?;
        at.sync().and_then(|()| stage.sync()).map_err(failed())?;
        if forwards && look(self.root(), self.plan(), step)?.live.map(|stat| stat.ino) != staged {
            return Err(RestoreError::Unknown { path: place });
        }
        Ok(())
    }
}

/// The directory below `parked/<app>` that gets the step's data, private to root.
fn parked_parent(restore: &Restore, step: &Step) -> Result<Dir, RestoreError> {
    match step.place().parent() {
        Some(parent) => place::make_private(restore.root(), &parent),
        None => Err(RestoreError::Unknown { path: step.place() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Option<u64> = None;

    /// What is judged when the names held `before` and hold `now`, staged and live.
    fn judged(before: (Option<u64>, Option<u64>), now: (Option<u64>, Option<u64>)) -> Option<bool> {
        let some = Dir::open(std::path::Path::new("/")).unwrap().stat_self().unwrap();
        let at = |inode: Option<u64>| inode.map(|ino| Stat { ino, ..some });
        happened(Names { staged: at(now.0), live: at(now.1) }, before.0, before.1)
    }

    #[test]
    fn an_exchange_is_seen_by_what_the_names_hold() {
        assert_eq!(judged((Some(1), Some(2)), (Some(1), Some(2))), Some(false));
        assert_eq!(judged((Some(1), Some(2)), (Some(2), Some(1))), Some(true));
        assert_eq!(judged((Some(1), NONE), (NONE, Some(1))), Some(true));
        assert_eq!(judged((NONE, Some(2)), (Some(2), NONE)), Some(true));
        // The app replaced its own file since.
        assert_eq!(judged((Some(1), Some(2)), (Some(2), Some(7))), Some(true));
        assert_eq!(judged((Some(1), Some(2)), (Some(1), Some(7))), Some(false));
        assert_eq!(judged((Some(1), Some(2)), (Some(7), Some(7))), None);
    }

    #[test]
    fn half_of_a_move_is_judged_by_what_the_live_name_has() {
        // A new file that came to its place, and also stayed where it was.
        assert_eq!(judged((Some(1), NONE), (Some(1), Some(1))), Some(true));
        // A file that was to leave its place, and is still there.
        assert_eq!(judged((NONE, Some(2)), (Some(2), Some(2))), Some(false));
    }
}
