//! What the journal of a restore says, one record after the other; their names and fields are the form on the disk.

use crate::model::app::AppId;
use crate::model::digest::TreeDigest;
use crate::model::finish::Part;
use crate::model::path::RelPath;
use crate::model::plan::RestorePlan;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Record {
    /// The plan that the user consented to. Always the first record, and only the first.
    Plan {
        /// The plan.
        plan: Box<RestorePlan>,
    },
    /// Which restore of this box it is, from 1: what a later one has too, an earlier one no longer does.
    Numbered {
        /// One more than the highest on the box before.
        number: u64,
    },
    /// A directory was made that was not there before, so that undoing removes it again.
    Made {
        /// The directory.
        path: RelPath,
    },
    /// A snapshot of the root was taken before anything changed.
    Snapshot {
        /// Where it lies.
        path: RelPath,
    },
    /// A step's data lies complete in the staging area, was read back, and is on the medium.
    Staged {
        /// The step.
        step: u32,
        /// Digest of the staged tree as it lies on the disk.
        digest: TreeDigest,
    },
    /// A step is about to be exchanged.
    Exchanging {
        /// The step.
        step: u32,
        /// Inode at the staged name before; `None` when nothing is there.
        staged: Option<u64>,
        /// Inode at the live name before; `None` when nothing is there.
        live: Option<u64>,
    },
    /// The step was exchanged.
    Exchanged {
        /// The step.
        step: u32,
    },
    /// All steps were exchanged: the new data is in place.
    Restored,
    /// A file for the next boot is about to be written.
    Writing {
        /// The file or link.
        path: RelPath,
    },
    /// Everything for the next boot is written.
    HandedOff,
    /// The running box begins to work on an app.
    Attempt {
        /// The app.
        app: AppId,
    },
    /// How the running box found an app before it did anything to it.
    Found {
        /// The app.
        app: AppId,
        /// Whether it was not installed.
        fresh: bool,
    },
    /// Which of FreedomBox's diagnostics failed for an app before its data was put in place.
    Failing {
        /// The app.
        app: AppId,
        /// Their names.
        checks: BTreeSet<String>,
    },
    /// A part of an app's work is done and on the medium.
    Reached {
        /// The app.
        app: AppId,
        /// The part.
        part: Part,
    },
    /// The work on an app stopped; it will be tried again.
    Stopped {
        /// The app.
        app: AppId,
        /// Why, a sentence.
        why: String,
        /// Whether it was a failure; waiting for packages is none, however long it takes.
        failure: bool,
    },
    /// Something about an app that its owner should know, although it is no failure.
    Noted {
        /// The app.
        app: AppId,
        /// What, a sentence.
        what: String,
    },
    /// A parked tree is about to be exchanged with what is in its place.
    Moving {
        /// The step that parked it.
        step: u32,
        /// Inode at the parked name before; `None` when nothing is there.
        parked: Option<u64>,
        /// Inode at the live name before; `None` when nothing is there.
        live: Option<u64>,
    },
    /// A directory that stands where a service wants a link is about to be parked, and the link to be made.
    Opening {
        /// The step whose data the link leads to.
        step: u32,
        /// The directory.
        path: RelPath,
    },
    /// The parked tree is in its place.
    Moved {
        /// The step that parked it.
        step: u32,
    },
    /// All of a folder that the box lacked is in its place. What was there with other content got it beside.
    Merged {
        /// The step that parked it.
        step: u32,
        /// How many came beside what was there.
        beside: u64,
        /// Some of them.
        named: Vec<RelPath>,
    },
    /// The running box finished an app.
    Finished {
        /// The app.
        app: AppId,
    },
    /// The running box gave an app up. What is not in its place stays parked.
    GaveUp {
        /// The app.
        app: AppId,
        /// Why, a sentence.
        why: String,
    },
    /// Undoing brought back what an app's database held before.
    TakenBack {
        /// The app.
        app: AppId,
    },
    /// Nothing is left to do, and the clock was right: from here on the days are counted that the old data is kept.
    Settled {
        /// Seconds since 1970.
        at: i64,
    },
    /// Undoing began: from here on the restore only goes backwards.
    Undoing,
    /// A step has its old data again.
    Undone {
        /// The step.
        step: u32,
    },
    /// All old data is back.
    RolledBack,
    /// Committing began: the old data is being removed.
    Committing,
    /// The old data is gone.
    Committed,
}

impl Record {
    /// Whether what follows it may be undone, or gone on from, only by whoever knows of it.
    pub(super) fn announces(&self) -> bool {
        matches!(
            self,
            Record::Exchanging { .. }
                | Record::Moving { .. }
                | Record::Opening { .. }
                | Record::Reached { part: Part::Save, .. }
                | Record::Committing
        )
    }
}
