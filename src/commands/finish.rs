//! `lifeboat finish`: what the restored box does when it runs; and the daily look whether old data may go.
//!
//! Finishes an exchange that a power cut interrupted, then the apps that wait. Only the running box itself does that;
//! of any other, what waits is listed.

use super::{unprinted, write};
use crate::failure::Failure;
use crate::finish::{self, Scene};
use crate::handoff::{self, NextBoot};
use crate::model::app::AppId;
use crate::model::ending::Ending;
use crate::model::extra::Extra;
use crate::model::finish::Stand;
use crate::model::progress::Progress;
use crate::model::state::{DataState, RestoreState};
use crate::render::{Output, View, text};
use crate::rescue::Status;
use crate::rescue::carry::resume;
use crate::rescue::prepare::open_target;
use crate::restore;
use crate::survey::target::{Access, Target};
use crate::sys::dir::Dir;
use crate::sys::host::Host;
use serde::Serialize;
use std::path::Path;

/// What is left on a box.
#[derive(Debug, Serialize)]
pub struct Left {
    /// Where the restore stands.
    #[serde(flatten)]
    pub status: Status,
    /// Why nothing could be tried, where that is so.
    pub why: Option<String>,
    /// What came of the rest besides apps in this run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub besides: Vec<String>,
    /// What of it still waits.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extras_waiting: Vec<Extra>,
    /// What waits, as the job file says it; `None` where nothing waits.
    pub next_boot: Option<NextBoot>,
}

impl View for Left {
    fn text(&self) -> String {
        let mut lines = self.status.text();
        if let Some(why) = &self.why {
            lines += &text::wrap("", &format!("Nothing could be done: {why}. It is tried again."));
        }
        for sentence in &self.besides {
            lines += &text::wrap("", &format!("{sentence}."));
        }
        if !self.extras_waiting.is_empty() {
            let what: Vec<&str> = self.extras_waiting.iter().map(|extra| extra.title()).collect();
            lines += &text::wrap("", &format!("Still to be brought over: {}.", what.join(", ")));
        }
        let progress: Vec<_> = self.status.standing.iter().flat_map(|details| &details.progress).collect();
        let is_new = |name: &AppId| {
            progress.iter().any(|app| app.name == *name && app.stand == Stand::Waiting && app.reached.is_none())
        };
        let jobs = self.next_boot.iter().flat_map(|next_boot| &next_boot.apps);
        for job in jobs.filter(|job| is_new(&job.name)) {
            lines += &text::wrap("", &format!("{}: {}", job.name, job.tasks.join(", then ")));
            for parked in &job.moves {
                lines += &text::wrap("  ", &format!("/{} waits in /{}", parked.destination, parked.parked));
            }
        }
        lines
    }
}

/// Runs on the started box.
pub fn finish(
    host: &Host,
    output: &Output,
    onto: &Path,
    scheduled: bool,
    progress: &dyn Progress,
) -> Result<Ending, Failure> {
    if stand(host, onto)?.is_some_and(|standing| standing.state == RestoreState::Interrupted) {
        resume(host, onto, progress)?;
    }
    let (target, root, _) = open_target(host, onto, Access::Read)?;
    let mut outcome = finish::Outcome::default();
    if host.runs(&target.root) {
        let talk = |sentence: &str| output.say(sentence);
        let scene = Scene { host, root: &root, at: &target.root, talk: &talk, asked: !scheduled };
        outcome = finish::finish(&scene).map_err(|error| failed(&error, &root))?;
    }
    let next_boot = handoff::read(&root).map_err(|error| failed(&error, &root))?;
    let standing = restore::standing(&root).map_err(|error| failed(&error, &root))?;
    let extras_waiting = handoff::extras::waiting(&root).map_err(|error| failed(&error, &root))?;
    let status = Status::of(standing);
    let left = Left { status, why: outcome.why, besides: outcome.besides, extras_waiting, next_boot };
    if outcome.tried {
        let json = serde_json::to_vec_pretty(&left).unwrap_or_default();
        finish::keep_report(&root, &left.text(), &json).map_err(|error| failed(&error, &root))?;
    }
    output.show(&left).map_err(unprinted)?;
    Ok(match ending(&left.status) {
        Ending::Done | Ending::DoneWithLosses if !left.extras_waiting.is_empty() => Ending::Waiting,
        Ending::Done if outcome.has_lost => Ending::DoneWithLosses,
        other => other,
    })
}

/// Removes the old data when its days are over. The box runs this every day.
pub fn commit_when_due(host: &Host, output: &Output, onto: &Path, progress: &dyn Progress) -> Result<Ending, Failure> {
    let due = {
        let (target, root, _) = open_target(host, onto, Access::Read)?;
        let scene = Scene { host, root: &root, at: &target.root, talk: &|_| {}, asked: false };
        host.runs(&target.root) && finish::is_over(&scene).map_err(|error| failed(&error, &root))?
    };
    if due {
        return write::commit(host, output, onto, progress);
    }
    output.show(&Status::of(stand(host, onto)?)).map_err(unprinted)?;
    Ok(Ending::Done)
}

/// Something waits, or something was given up, or all is done.
fn ending(status: &Status) -> Ending {
    let progress = status.standing.iter().flat_map(|details| &details.progress);
    let stands: Vec<Stand> = progress.map(|app| app.stand).collect();
    if stands.contains(&Stand::Waiting) {
        Ending::Waiting
    } else if stands.contains(&Stand::NotRestored) {
        Ending::DoneWithLosses
    } else {
        Ending::Done
    }
}

fn stand(host: &Host, onto: &Path) -> Result<Option<restore::Standing>, Failure> {
    let (_target, root, _): (Target, Dir, _) = open_target(host, onto, Access::Read)?;
    restore::standing(&root).map_err(|error| Failure::of_restore(&error, DataState::Unknown))
}

fn failed(error: &restore::RestoreError, root: &Dir) -> Failure {
    Failure::of_restore(error, restore::data_on(root))
}
