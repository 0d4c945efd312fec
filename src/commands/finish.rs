//! `lifeboat finish`: what the restored box does after its next normal start.
//!
//! Finishes an exchange that a power cut interrupted, and says for every app that waits what is left to do and where its
//! data lies. It never touches parked data: as long as an app is not finished, its data stays where it is.

use super::unprinted;
use crate::failure::Failure;
use crate::handoff::{self, NextBoot};
use crate::model::ending::Ending;
use crate::model::progress::Progress;
use crate::model::state::{DataState, RestoreState};
use crate::render::{Output, View, text};
use crate::rescue::Status;
use crate::rescue::carry::resume;
use crate::rescue::prepare::open_target;
use crate::restore;
use crate::survey::target::Access;
use crate::sys::host::Host;
use serde::Serialize;
use std::path::Path;

/// What is left on a box.
#[derive(Debug, Serialize)]
pub struct Left {
    /// Where the restore stands.
    #[serde(flatten)]
    pub status: Status,
    /// What waits, as the job file says it; `None` where nothing was handed over.
    pub next_boot: Option<NextBoot>,
}

impl View for Left {
    fn text(&self) -> String {
        let mut lines = self.status.text();
        for job in self.next_boot.iter().flat_map(|next_boot| &next_boot.apps) {
            lines += &text::wrap("", &format!("{}: {}", job.name, job.tasks.join(", then ")));
            for parked in &job.moves {
                lines += &text::wrap("  ", &format!("/{} waits in /{}", parked.destination, parked.parked));
            }
        }
        lines
    }
}

/// Runs on the started box.
pub fn finish(host: &Host, output: &Output, onto: &Path, progress: &dyn Progress) -> Result<Ending, Failure> {
    let standing = stand(host, onto)?;
    if standing.as_ref().is_some_and(|standing| standing.state == RestoreState::Interrupted) {
        resume(host, onto, progress)?;
    }
    let (_target, root, _) = open_target(host, onto, Access::Read)?;
    let next_boot = handoff::read(&root).map_err(|error| {
        let state = standing.as_ref().map_or(DataState::Untouched, |standing| standing.data);
        Failure::of_restore(&error, state)
    })?;
    let left = Left { status: Status::of(stand(host, onto)?), next_boot };
    let waits = left.status.standing.as_ref().is_some_and(|details| !details.waiting.is_empty());
    output.show(&left).map_err(unprinted)?;
    Ok(if waits { Ending::Waiting } else { Ending::Done })
}

fn stand(host: &Host, onto: &Path) -> Result<Option<restore::Standing>, Failure> {
    let (_target, root, _) = open_target(host, onto, Access::Read)?;
    restore::standing(&root).map_err(|error| Failure::of_restore(&error, DataState::Unknown))
}
