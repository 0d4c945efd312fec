//! What the running box does for one app after a restore, part by part.

use super::app::AppId;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The parts of an app's work, in their order. Each is recorded when it is done, and never done again after that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// FreedomBox installed the app and set it up.
    Install,
    /// What its database holds now was saved, so that undoing can bring it back.
    Save,
    /// The files are in place, and FreedomBox's own steps after a restore went well.
    Restore,
    /// The app brought data of an older release up to its own.
    Migrate,
    /// The app answers.
    Check,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Part::Install => "installing it",
            Part::Save => "saving its present data",
            Part::Restore => "putting its data in place",
            Part::Migrate => "upgrading its data",
            Part::Check => "checking that it answers",
        })
    }
}

/// Where the work for an app stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stand {
    /// Nothing is left to do.
    Finished,
    /// It is still to be done.
    Waiting,
    /// It was tried and given up; what is not in place stays parked.
    NotRestored,
}

/// One app that the running box has to finish, or has finished.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AppProgress {
    /// The app.
    pub name: AppId,
    /// Where it stands.
    pub stand: Stand,
    /// The last part that is done; `None` before the first.
    pub reached: Option<Part>,
    /// Attempts that failed.
    pub failures: u32,
    /// Why it waits or was given up; `None` where nothing went wrong so far.
    pub why: Option<String>,
    /// What else its owner should know, a sentence; no failure.
    pub note: Option<String>,
    /// Whether data of it is still parked and not in its place.
    pub parked: bool,
}
