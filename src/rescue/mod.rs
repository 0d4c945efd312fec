//! The chain of stages as a whole, for everybody who asks for it: the commands and the guide.
//!
//! Owns the order of the stages and nothing else: what a stage does is its own business, and nothing is printed here.

pub mod carry;
pub mod drill;
pub mod grow;
pub mod keyring;
pub mod prepare;
pub mod reach;

use crate::failure::Failure;
use crate::model::app::AppId;
use crate::model::archive::ArchiveId;
use crate::model::ending::Ending;
use crate::model::extra::Extra;
use crate::model::finding::Report;
use crate::model::finish::AppProgress;
use crate::model::papers::Papers;
use crate::model::plan::RestorePlan;
use crate::model::state::{DataState, RestoreState};
use crate::restore::Standing;
use crate::survey::Place;
use serde::Serialize;
use std::path::PathBuf;

/// What to restore where.
#[derive(Debug, Clone)]
pub struct Request {
    /// Where the backup is.
    pub from: Backup,
    /// Which backup, where the location holds several.
    pub archive: Option<ArchiveId>,
    /// The box: a mounted root directory, a disk image, or a block device.
    pub onto: PathBuf,
    /// Only these apps; all in the backup where absent.
    pub apps: Option<Vec<AppId>>,
    /// What is wanted besides apps.
    pub extras: Vec<Extra>,
    /// Whether what is left of damaged apps is restored too.
    pub accept_damage: bool,
    /// The Lifeboat program for the box, where this one does not fit its architecture.
    pub program: Option<PathBuf>,
    /// A directory in which the papers of the restore are kept besides those on the box.
    pub papers: Option<PathBuf>,
}

/// How far a restore is, for its papers.
#[derive(Debug, Clone, Copy)]
pub enum Stand<'a> {
    /// It begins.
    Begun,
    /// It ended like this.
    Ended(&'a Status),
    /// It stopped because of this.
    Stopped(&'a Failure),
}

/// Makes the papers of a restore, for the present time in RFC 3339 UTC.
pub type Clerk<'a> = dyn Fn(&RestorePlan, &Report, Stand<'_>, &str) -> Papers + 'a;

/// Where a backup is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backup {
    /// A file, a repository, a directory to search, a disk or a disk image.
    At(PathBuf),
    /// A path below the root of the box that is being restored.
    OnBox(PathBuf),
}

/// How a run that wrote to a box ended.
#[derive(Debug)]
pub struct Done {
    /// The ending.
    pub ending: Ending,
    /// Where the restore stands now.
    pub status: Status,
    /// What the user should know besides.
    pub notes: Vec<String>,
}

/// Where to look: the named images and roots, or the whole machine.
pub fn places(images: &[PathBuf], roots: &[PathBuf]) -> Vec<Place> {
    let named = images.iter().cloned().map(Place::Image).chain(roots.iter().cloned().map(Place::Root));
    let named: Vec<Place> = named.collect();
    if named.is_empty() { vec![Place::Machine] } else { named }
}

/// Where a box stands: its state, and where there is a restore, its details.
#[derive(Debug, Serialize)]
pub struct Status {
    /// In which state the box is.
    pub state: RestoreState,
    /// The restore, where there is one.
    #[serde(flatten)]
    pub standing: Option<Details>,
}

/// What is known of the restore on a box.
#[derive(Debug, Serialize)]
pub struct Details {
    /// The plan.
    pub plan: String,
    /// In which state the user's data is.
    pub data: DataState,
    /// Apps that are finished.
    pub done: Vec<AppId>,
    /// Apps that wait for the running box.
    pub waiting: Vec<AppId>,
    /// What the running box has to do, app by app, and how far it is.
    pub progress: Vec<AppProgress>,
    /// Since when nothing is left to do, in seconds since 1970, where the box knows.
    pub settled: Option<i64>,
}

impl Status {
    /// From what the journals say.
    pub fn of(standing: Option<Standing>) -> Status {
        let Some(standing) = standing else { return Status { state: RestoreState::None, standing: None } };
        let Standing { state, id, data, done, waiting, progress, settled, extras: _ } = standing;
        Status { state, standing: Some(Details { plan: id.to_string(), data, done, waiting, progress, settled }) }
    }
}
