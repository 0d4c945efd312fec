//! In which state the user's data is: the question that every error answers.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What a failure left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataState {
    /// Nothing was written to the target.
    Untouched,
    /// Only staging areas were written; every app still has its old data.
    OldDataActive,
    /// Every chosen app has the restored data; the old data is kept until `commit`.
    NewDataActive,
    /// Every chosen app has the restored data, and the old data was removed on the user's word.
    Committed,
    /// Some paths were exchanged and some not; `resume` or `undo` finishes, and so does the next boot.
    Mixed,
    /// The journal or the disk could not be read well enough to tell; nothing is lost.
    Unknown,
}

impl fmt::Display for DataState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DataState::Untouched => "nothing on the box was changed",
            DataState::OldDataActive => "all apps on the box still have their old data",
            DataState::NewDataActive => "the restored data is in place, the old data is still kept",
            DataState::Committed => "the restored data is in place, the old data was removed",
            DataState::Mixed => "some apps have restored data and some have old data, and nothing is lost",
            DataState::Unknown => "it cannot be told which data is in place; nothing was removed",
        })
    }
}

/// What the journal on a target says, as `status` prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestoreState {
    /// No restore was ever started, or all were committed or undone.
    None,
    /// A restore stopped on the way: `resume` or `undo`.
    Interrupted,
    /// Restored; apps are waiting for the next normal boot.
    WaitingForBoot,
    /// Restored completely; the old data is kept until `commit`.
    Restored,
    /// Undone: the old data is back.
    RolledBack,
    /// Committed: the old data is gone.
    Committed,
}

impl RestoreState {
    /// The word of the JSON contract.
    pub fn name(self) -> &'static str {
        match self {
            RestoreState::None => "none",
            RestoreState::Interrupted => "interrupted",
            RestoreState::WaitingForBoot => "waiting-for-boot",
            RestoreState::Restored => "restored",
            RestoreState::RolledBack => "rolled-back",
            RestoreState::Committed => "committed",
        }
    }
}
