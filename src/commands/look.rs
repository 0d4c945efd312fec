//! The commands that only look: survey, list, verify, plan, status.

use super::prepare::{self, is_backup, location, open_target};
use super::unprinted;
use crate::cli::PlanArgs;
use crate::failure::{Ending, Failure};
use crate::model::app::AppId;
use crate::model::archive::ArchiveId;
use crate::model::plan::RestorePlan;
use crate::model::progress::Progress;
use crate::model::state::{DataState, RestoreState};
use crate::render::text::ArchiveList;
use crate::render::{Output, View, text};
use crate::restore::{self, Standing};
use crate::source;
use crate::survey::{self, Place, target::Access};
use crate::sys::host::Host;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Where to look: the named images and roots, or the whole machine.
pub(crate) fn places(images: &[PathBuf], roots: &[PathBuf]) -> Vec<Place> {
    let named = images.iter().cloned().map(Place::Image).chain(roots.iter().cloned().map(Place::Root));
    let named: Vec<Place> = named.collect();
    if named.is_empty() { vec![Place::Machine] } else { named }
}

/// `lifeboat survey`.
pub fn survey(host: &Host, output: &Output, images: &[PathBuf], roots: &[PathBuf]) -> Result<Ending, Failure> {
    let surveyed = survey::survey(host, &places(images, roots), &is_backup)?;
    output.show(&surveyed.survey).map_err(unprinted)?;
    Ok(Ending::Done)
}

/// `lifeboat list`.
pub fn list(host: &Host, output: &Output, path: &Path) -> Result<Ending, Failure> {
    let location = location(host, path)?;
    let listing = source::list(&location.path)?;
    let mut findings = listing.findings;
    findings.extend(listing.repositories.iter().map(|repository| {
        let what = "a borg repository; this version of Lifeboat lists it and does not read it yet";
        crate::model::finding::Finding::new(
            crate::model::finding::Severity::Warning,
            repository.path().display().to_string(),
            what,
            "download the backup in FreedomBox (System, Backups) and restore that file",
        )
    }));
    let none = listing.archives.is_empty();
    // The newest first: that is what nearly everybody wants.
    let archives = listing.archives.into_iter().rev().collect();
    output.show(&ArchiveList { archives, findings }).map_err(unprinted)?;
    Ok(if none { Ending::NoBackup } else { Ending::Done })
}

/// `lifeboat verify`.
pub fn verify(
    host: &Host,
    output: &Output,
    path: &Path,
    archive: Option<&ArchiveId>,
    apps: Option<&[AppId]>,
    progress: &dyn Progress,
) -> Result<Ending, Failure> {
    let verified = prepare::verify_location(host, path, archive, apps, progress)?;
    output.show(&verified.report).map_err(unprinted)?;
    Ok(if verified.report.is_undamaged() { Ending::Done } else { Ending::VerificationFailed })
}

/// `lifeboat plan`.
pub fn plan(host: &Host, output: &Output, args: &PlanArgs, progress: &dyn Progress) -> Result<Ending, Failure> {
    let prepared = prepare::prepare(host, args, Access::Read, progress)?;
    output.show(&prepared.plan).map_err(unprinted)?;
    Ok(verdict(&prepared.plan))
}

/// How a plan ends: well, or with what its first blocker says.
pub(crate) fn verdict(plan: &RestorePlan) -> Ending {
    plan.blockers.first().map_or(Ending::Done, |blocker| Failure::blocked(blocker).ending)
}

/// `lifeboat status`: the state, and where there is a restore, its details.
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
    /// Apps that wait for the next normal start.
    pub waiting: Vec<AppId>,
}

impl Status {
    /// From what the journals say.
    pub fn of(standing: Option<Standing>) -> Status {
        let Some(standing) = standing else { return Status { state: RestoreState::None, standing: None } };
        let Standing { state, id, data, done, waiting } = standing;
        Status { state, standing: Some(Details { plan: id.to_string(), data, done, waiting }) }
    }
}

impl View for Status {
    fn text(&self) -> String {
        let Some(details) = &self.standing else { return "No restore was started on this box.\n".into() };
        let what = match self.state {
            RestoreState::None => "no restore",
            RestoreState::Interrupted => "INTERRUPTED: run 'lifeboat resume' or 'lifeboat undo'",
            RestoreState::WaitingForBoot => "done as far as possible; the rest follows at the box's next normal start",
            RestoreState::Restored => "restored; the old data is kept until 'lifeboat commit'",
            RestoreState::RolledBack => "undone: the old data is in place",
            RestoreState::Committed => "restored and committed: the old data is gone",
        };
        let mut lines = text::wrap("", &format!("Restore {}: {what}.", details.plan));
        lines += &text::wrap("", &format!("State of your data: {}.", details.data));
        let names = |apps: &[AppId]| apps.iter().map(AppId::as_str).collect::<Vec<_>>().join(", ");
        if !details.done.is_empty() {
            lines += &text::wrap("", &format!("Finished: {}.", names(&details.done)));
        }
        if !details.waiting.is_empty() {
            lines += &text::wrap("", &format!("Waiting for the next start: {}.", names(&details.waiting)));
        }
        lines
    }
}

/// Reads where the restore on a box stands.
pub fn status(host: &Host, output: &Output, onto: &Path) -> Result<Ending, Failure> {
    let (_target, root, _) = open_target(host, onto, Access::Read)?;
    let standing = restore::standing(&root).map_err(|error| Failure::of_restore(&error, DataState::Untouched))?;
    output.show(&Status::of(standing)).map_err(unprinted)?;
    Ok(Ending::Done)
}
