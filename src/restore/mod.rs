//! Executing a plan: stage, exchange, hand over; and finishing, undoing or committing what was begun.
//!
//! Owns everything under `var/lib/lifeboat` on the target and every exchange of live paths. Decides nothing: the plan
//! has every choice. Never removes old data before `commit`.
//!
//! Invariants:
//! - The journal says what is about to be done before it is done, and is believed only after looking at the disk.
//! - A live path changes only by one atomic rename, after its replacement lies complete on the medium.
//! - From the first exchange to the last, the target's next boot finishes the restore before any app starts.

mod dynamic;
pub mod exchange;
pub mod journal;
mod merge;
mod movein;
mod place;
mod snapshot;
mod stage;
mod status;
mod undo;

pub use movein::{Numbers, name};
pub use status::{Standing, data_on, restores, standing};

use crate::model::entry::Entry;
use crate::model::path::{BadPath, RelPath};
use crate::model::plan::{PlanId, RestorePlan, Step};
use crate::model::progress::{Event, Phase, Progress};
use crate::model::site::AREA;
use crate::model::state::{DataState, RestoreState};
use crate::source::{Archive, ReadError};
use crate::survey::owners::Owners;
use crate::sys::dir::{self, Dir};
use crate::sys::tree;
use journal::{Journal, JournalError, Record};
use stage::writeback::Writeback;
use stage::{Pulse, Stager, Staging};
use std::collections::BTreeSet;
use std::fs::File;
use std::io;

/// The user's yes to one plan. Made only from the plan id that the user gave.
#[derive(Debug, Clone)]
pub struct Consent(PlanId);

impl Consent {
    /// Consent to the plan with this id.
    pub fn to(id: PlanId) -> Consent {
        Consent(id)
    }
}

/// Why a restore stopped.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The consent names another plan.
    #[error("consent was given to plan {consented}, but the plan is now {actual}")]
    OtherPlan {
        /// What the user agreed to.
        consented: PlanId,
        /// What would be done.
        actual: PlanId,
    },
    /// The plan has blockers.
    #[error("the plan cannot be carried out: {0}")]
    Blocked(String),
    /// Another Lifeboat works on this target.
    #[error("another run of Lifeboat is working on this box")]
    Busy,
    /// An earlier restore is not finished.
    #[error("the restore {0} is not finished")]
    Unfinished(PlanId),
    /// The old data is gone, or about to be.
    #[error("removing the old data of the restore {0} was begun, so it cannot be undone any more")]
    Committing(PlanId),
    /// The same was restored or brought over, committed, and is not finished.
    #[error("the same was restored and committed before, and what that left to the running box still waits there")]
    Waits,
    /// It was committed.
    #[error("the restore {0} was committed, and its old data is gone")]
    Committed(PlanId),
    /// It was undone.
    #[error("the restore {0} was undone already")]
    Undone(PlanId),
    /// There is nothing to resume, undo or commit.
    #[error("no restore was started on this box")]
    Nothing,
    /// Reading the backup did not work.
    #[error(transparent)]
    Source(#[from] ReadError),
    /// The backup is needed to go on.
    #[error("the restore stopped while it was writing, and the backup is needed to go on")]
    SourceNeeded,
    /// The backup changed since it was verified, or the medium gives other bytes.
    #[error("the backup gives other data for \"{path}\" than when it was verified")]
    SourceChanged {
        /// The path in the archive.
        path: RelPath,
    },
    /// An entry must not be restored.
    #[error("restoring \"{path}\": {why}")]
    Refused {
        /// The entry.
        path: RelPath,
        /// Why not.
        why: String,
    },
    /// Writing to the target did not work.
    #[error("writing \"{path}\" on the box")]
    Writing {
        /// What was written.
        path: RelPath,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// What lies on the disk is not what was written.
    #[error("reading \"{path}\" back from the box's disk gives other data than was written")]
    ReadBack {
        /// The step's destination.
        path: RelPath,
    },
    /// A path is neither in its old nor in its new state.
    #[error("\"{path}\" is neither as it was before the restore nor as the restore left it")]
    Unknown {
        /// The live path.
        path: RelPath,
    },
    /// Undoing needs the running box.
    #[error("the running box changed databases or settings of {0}, and only the running box can bring them back")]
    NeedsRunningBox(String),
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Anything else on the target.
    #[error("{doing}")]
    Target {
        /// What was being done, gerund.
        doing: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// Wraps an error of the target with what was being done.
pub(crate) fn doing(what: impl Into<String>) -> impl FnOnce(io::Error) -> RestoreError {
    move |source| RestoreError::Target { doing: what.into(), source }
}

impl From<BadPath> for RestoreError {
    fn from(error: BadPath) -> RestoreError {
        RestoreError::Target { doing: "composing a path".into(), source: io::Error::other(error) }
    }
}

/// A restore that is being carried out, with the target locked.
#[derive(Debug)]
pub struct Restore {
    root: Dir,
    plan: RestorePlan,
    journal: Journal,
    /// Steps whose staged data this run has read and found right.
    looked_at: BTreeSet<u32>,
    /// What this run left in folders while it undid them, because somebody has changed it since it came.
    stayed: Vec<RelPath>,
    _lock: File,
}

impl Restore {
    /// Begins a restore, or takes up the interrupted one of the same plan.
    pub fn begin(root: Dir, plan: RestorePlan, consent: &Consent) -> Result<Restore, RestoreError> {
        if consent.0 != plan.id {
            return Err(RestoreError::OtherPlan { consented: consent.0.clone(), actual: plan.id });
        }
        if let Some(blocker) = plan.blockers.first() {
            return Err(RestoreError::Blocked(blocker.what.clone()));
        }
        let area = place::make_area(&root)?;
        let lock = lock(&area)?;
        match status::current(&root)? {
            Some(standing) if standing.id != plan.id => return Err(RestoreError::Unfinished(standing.id)),
            Some(_) => {
                let restore = Restore::open(root, &plan.id, lock)?;
                return match restore.is_going_back() || restore.is_committing() {
                    true => Err(RestoreError::Unfinished(restore.plan.id)),
                    false => Ok(restore),
                };
            }
            None => {}
        }
        // Its journal alone knows what waits; and of accounts, names and the like, only one of a kind can wait.
        let waits = |other: &Standing| {
            (other.id == plan.id && !other.waiting.is_empty())
                || plan.extras.iter().any(|own| other.extras.contains(&own.extra))
        };
        if status::restores(&root)?.iter().any(waits) {
            return Err(RestoreError::Waits);
        }
        let number = status::highest_number(&root)?.saturating_add(1);
        place::clear_finished(&root, &plan.id)?;
        let directory = place::make_restore(&root, &plan.id)?;
        let mut journal = Journal::start(&directory, plan.clone())?;
        journal.write(Record::Numbered { number })?;
        Ok(Restore { root, plan, journal, looked_at: BTreeSet::new(), stayed: Vec::new(), _lock: lock })
    }

    /// Takes up the restore that is on the target, to resume, undo or commit it.
    pub fn take_up(root: Dir) -> Result<Restore, RestoreError> {
        let area = match root.dir(&place::area()?) {
            Ok(area) => area,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(RestoreError::Nothing),
            Err(error) => return Err(doing("opening Lifeboat's directory on the box")(error)),
        };
        let lock = lock(&area)?;
        let standing = standing(&root)?.ok_or(RestoreError::Nothing)?;
        match standing.state {
            RestoreState::RolledBack => return Err(RestoreError::Undone(standing.id)),
            RestoreState::Committed => return Err(RestoreError::Committed(standing.id)),
            _ => {}
        }
        Restore::open(root, &standing.id, lock)
    }

    /// Takes up a restore whose apps the running box finishes, also one that was committed.
    pub fn go_on(root: Dir, id: &PlanId) -> Result<Restore, RestoreError> {
        let lock = lock(&place::make_area(&root)?)?;
        Restore::open(root, id, lock)
    }

    fn open(root: Dir, id: &PlanId, lock: File) -> Result<Restore, RestoreError> {
        let directory = root.dir(&place::restore(id)?).map_err(doing("opening the restore's directory"))?;
        let journal = Journal::open(&directory)?;
        let plan = journal::plan(journal.records()).cloned().ok_or(JournalError::NeverBegan)?;
        Ok(Restore { root, plan, journal, looked_at: BTreeSet::new(), stayed: Vec::new(), _lock: lock })
    }

    /// The plan that is carried out.
    pub fn plan(&self) -> &RestorePlan {
        &self.plan
    }

    /// The target's root.
    pub fn root(&self) -> &Dir {
        &self.root
    }

    /// What the journal says so far.
    pub fn records(&self) -> &[Record] {
        self.journal.records()
    }

    /// What the user should know of the journal, where there is something.
    pub fn remark(&self) -> Option<&'static str> {
        self.journal.was_mended().then_some(
            "One of the two copies of the restore's journal was damaged, and was made anew from the other one. The box's disk \
             may be failing.",
        )
    }

    /// What undoing left in folders, because somebody has changed it since it came.
    pub fn stayed(&self) -> &[RelPath] {
        &self.stayed
    }

    /// In which state the user's data is.
    pub fn data_state(&self) -> DataState {
        status::data_state(&self.root, &self.plan, self.records())
    }

    /// Whether every step lies staged on the medium.
    pub fn is_staged(&self) -> bool {
        self.plan.steps.iter().all(|step| self.staged_digest(step).is_some())
    }

    /// Whether undoing or committing was begun, so that only that can go on.
    pub fn is_going_back(&self) -> bool {
        self.records().iter().any(|record| matches!(record, Record::Undoing))
    }

    /// Whether committing was begun.
    pub fn is_committing(&self) -> bool {
        self.records().iter().any(|record| matches!(record, Record::Committing))
    }

    fn staged_digest(&self, step: &Step) -> Option<crate::model::digest::TreeDigest> {
        // What is only moved away needs no staging.
        if step.action == crate::model::plan::Action::SetAside {
            return Some(Default::default());
        }
        self.records().iter().rev().find_map(|record| match record {
            Record::Staged { step: id, digest } if *id == step.id => Some(*digest),
            _ => None,
        })
    }

    /// Writes every step's data into the staging area, reads it back, and records it. Steps that an earlier run staged
    /// are kept when they are still whole.
    pub fn stage(
        &mut self,
        archive: &mut dyn Archive,
        owners: &Owners,
        skips: &dyn Fn(&Entry) -> bool,
        progress: &dyn Progress,
    ) -> Result<(), RestoreError> {
        // What lies in the staging area from then on is old data.
        if self.has_exchanged() {
            return Ok(());
        }
        let plan = self.plan.clone();
        let (mut todo, mut kept) = (Vec::new(), Vec::new());
        for step in &plan.steps {
            let stage = place::make_stage(&self.root, &plan.id, step)?;
            let name = step.id.to_string().into_bytes();
            if let Some(recorded) = self.staged_digest(step) {
                let found = tree::digest(&stage, &name, true, &mut |_| {}).map_err(doing("checking staged data"))?;
                if step.action == crate::model::plan::Action::SetAside || found == Some(recorded) {
                    self.looked_at.insert(step.id);
                    kept.push(Staging::new(step, stage));
                    continue;
                }
            }
            tree::remove(&stage, &name).map_err(doing("removing incomplete staged data"))?;
            todo.push(Staging::new(step, stage));
        }
        if todo.is_empty() {
            return Ok(());
        }
        let total = todo.iter().map(|staging| staging.step.bytes.0).sum();
        progress.event(Event::Phase { phase: Phase::Stage, total: Some(total) });
        let directory = self.root.dir(&place::restore(&plan.id)?).map_err(doing("opening the restore's directory"))?;
        let unknown_owners = stage::owners::begin(&directory, &kept).map_err(doing("noting owners"))?;
        let writeback = Writeback::start(todo.iter().map(|staging| &staging.stage)).map_err(doing("staging"))?;
        let mut stager = Stager {
            steps: todo,
            kept,
            owners,
            skips,
            progress,
            unknown_owners,
            failure: None,
            orphans: Default::default(),
            writeback,
            app: None,
        };
        let mut ending = archive.read(&mut stager, &Pulse(progress)).map(drop);
        if stager.failure.is_none() {
            ending = ending.and(stage::orphan::adopt(&mut stager, archive));
        }
        if let Some(failure) = stager.failure.take() {
            return Err(failure);
        }
        match ending {
            // Damage that verification saw as well was consented to; any other shows in the comparison below.
            Ok(_) | Err(ReadError::Corrupt { .. } | ReadError::Mismatch { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        stager.writeback.end().map_err(doing("writing staged data to the box's disk"))?;
        let mut staged = std::mem::take(&mut stager.steps);
        match stager.unknown_owners.metadata().map(|metadata| metadata.len()) {
            Ok(0) => directory.remove_file(stage::owners::LIST),
            _ => dir::sync_file(&stager.unknown_owners),
        }
        .map_err(doing("noting owners"))?;
        staged.sort_by_key(|staging| staging.step.id);
        for staging in &mut staged {
            let path = || staging.step.source.clone();
            if staging.content != staging.step.content {
                return Err(RestoreError::SourceChanged { path: path() });
            }
            for dropin in &staging.step.carried {
                stage::carry(staging, &self.root, dropin).map_err(writing(dropin))?;
            }
            let destination = staging.step.destination.clone();
            staging.finish().map_err(writing(&destination))?;
        }
        for staging in &staged {
            staging.stage.sync_filesystem().map_err(writing(&staging.step.destination))?;
        }
        progress.event(Event::Phase { phase: Phase::ReadBack, total: Some(total) });
        for staging in &staged {
            progress.event(Event::App { name: staging.step.app.clone() });
            let mut seen = |bytes| progress.event(Event::Advance { bytes, entries: 1 });
            let found = tree::digest(&staging.stage, &staging.name(), true, &mut seen)
                .map_err(doing("reading staged data back"))?;
            if found != Some(staging.tree) {
                return Err(RestoreError::ReadBack { path: staging.step.destination.clone() });
            }
            self.journal.write(Record::Staged { step: staging.step.id, digest: staging.tree })?;
            self.looked_at.insert(staging.step.id);
        }
        Ok(())
    }

    /// Records that everything for the next boot is written: the restore is complete as far as it goes now.
    pub fn hand_off(&mut self) -> Result<(), RestoreError> {
        if !self.records().iter().any(|record| matches!(record, Record::HandedOff)) {
            self.root.sync_filesystem().map_err(doing("writing everything to the box's disk"))?;
            self.journal.write(Record::HandedOff)?;
        }
        place::set_interrupted(&self.root, false)
    }

    /// Adds a record; it is on the medium when this returns.
    pub fn record(&mut self, record: Record) -> Result<(), RestoreError> {
        Ok(self.journal.write(record)?)
    }
}

fn writing(path: &RelPath) -> impl FnOnce(io::Error) -> RestoreError {
    let path = path.clone();
    move |source| RestoreError::Writing { path, source }
}

fn lock(area: &Dir) -> Result<File, RestoreError> {
    let file = area.append_file(b"lock").map_err(doing("opening Lifeboat's lock on the box"))?;
    match dir::lock(&file).map_err(doing("taking Lifeboat's lock on the box"))? {
        true => Ok(file),
        false => Err(RestoreError::Busy),
    }
}

/// Opens the directory that Lifeboat owns on the target's root filesystem, made where it is missing.
pub fn own_directory(root: &Dir) -> Result<Dir, RestoreError> {
    place::make_area(root)
}

/// The directory that Lifeboat owns on the target's root filesystem.
pub fn area() -> Result<RelPath, RestoreError> {
    Ok(AREA.parse()?)
}
