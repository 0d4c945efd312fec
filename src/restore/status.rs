//! What the journals on a target say, without changing anything.

use super::exchange::{self, Data};
use super::journal::{self, Journal, JournalError, Record};
use super::{RestoreError, doing};
use crate::model::app::AppId;
use crate::model::plan::{Action, PlanId, RestorePlan, Road, Step};
use crate::model::site::AREA;
use crate::model::state::{DataState, RestoreState};
use crate::sys::dir::Dir;
use serde::Serialize;
use std::io;

/// Where a restore on a target stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// In which state it is.
    pub state: RestoreState,
    /// Which plan it carries out.
    pub id: PlanId,
    /// In which state the user's data is.
    pub data: DataState,
    /// Apps whose data is in place and which need nothing more.
    pub done: Vec<AppId>,
    /// Apps that wait for the next normal boot.
    pub waiting: Vec<AppId>,
}

/// The restore that a target has now: the one in progress, else the newest; `None` when there never was one.
pub fn standing(root: &Dir) -> Result<Option<Standing>, RestoreError> {
    let mut all = read_all(root)?;
    all.sort_by_key(|(age, standing)| (standing.is_open(), *age));
    Ok(all.pop().map(|(_, standing)| standing))
}

/// The restore that has to be finished, undone or committed before another one may begin.
pub(super) fn current(root: &Dir) -> Result<Option<Standing>, RestoreError> {
    Ok(standing(root)?.filter(Standing::is_open))
}

impl Standing {
    /// Whether it still has to be finished, undone or committed.
    pub fn is_open(&self) -> bool {
        !matches!(self.state, RestoreState::None | RestoreState::RolledBack | RestoreState::Committed)
    }
}

/// Every restore on the target with the time of its last record.
fn read_all(root: &Dir) -> Result<Vec<(i64, Standing)>, RestoreError> {
    let failed = || doing("looking for earlier restores");
    let restores = match root.dir(&format!("{AREA}/restores").parse()?) {
        Ok(restores) => restores,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed()(error)),
    };
    let mut all = Vec::new();
    for name in restores.names().map_err(failed())? {
        let directory = restores.child(&name).map_err(failed())?;
        let Some(stat) = directory.stat_child(b"journal").map_err(failed())? else { continue };
        let records = match Journal::read(&directory) {
            // The power was cut before anything was done; the directory is reused or removed by the next restore.
            Err(JournalError::NeverBegan) => continue,
            other => other?,
        };
        if let Some(plan) = journal::plan(&records) {
            all.push((stat.mtime.secs, stand(root, &records, plan)));
        }
    }
    Ok(all)
}

fn stand(root: &Dir, records: &[Record], plan: &RestorePlan) -> Standing {
    let state = state(records, plan);
    let settled = matches!(state, RestoreState::Restored | RestoreState::WaitingForBoot | RestoreState::Committed);
    let waiting = waiting(records, plan);
    let done = plan
        .apps
        .iter()
        .filter(|app| settled && matches!(app.road, Road::InPlace | Road::Parked) && !waiting.contains(&app.name));
    let done = done.map(|app| app.name.clone()).collect();
    Standing {
        state,
        id: plan.id.clone(),
        data: data_state(root, plan, records),
        done,
        waiting: if settled { waiting } else { Vec::new() },
    }
}

fn waiting(records: &[Record], plan: &RestorePlan) -> Vec<AppId> {
    let finished = |app: &AppId| records.iter().any(|record| matches!(record, Record::Finished { app: a } if a == app));
    let waits = plan.apps.iter().filter(|app| app.waits_for_boot() && !finished(&app.name));
    waits.map(|app| app.name.clone()).collect()
}

pub(super) fn state(records: &[Record], plan: &RestorePlan) -> RestoreState {
    let has = |wanted: fn(&Record) -> bool| records.iter().any(wanted);
    if has(|record| matches!(record, Record::RolledBack)) {
        RestoreState::RolledBack
    } else if has(|record| matches!(record, Record::Committed)) {
        RestoreState::Committed
    } else if has(|record| matches!(record, Record::Undoing | Record::Committing))
        || !has(|record| matches!(record, Record::HandedOff))
    {
        RestoreState::Interrupted
    } else if waiting(records, plan).is_empty() {
        RestoreState::Restored
    } else {
        RestoreState::WaitingForBoot
    }
}

/// In which state the user's data is: what the records leave open, the disk answers.
pub(super) fn data_state(root: &Dir, plan: &RestorePlan, records: &[Record]) -> DataState {
    let has = |wanted: fn(&Record) -> bool| records.iter().any(wanted);
    let live: Vec<&Step> = plan.steps.iter().filter(|step| step.action != Action::Park).collect();
    if live.is_empty() || has(|record| matches!(record, Record::RolledBack)) {
        return DataState::OldDataActive;
    }
    // After that the old data, by which the disk tells, may be removed.
    if has(|record| matches!(record, Record::Committing)) {
        return DataState::Committed;
    }
    let seen: Result<Vec<Data>, RestoreError> =
        live.into_iter().map(|step| exchange::data(root, plan, records, step)).collect();
    match seen {
        Ok(seen) if seen.iter().all(|data| *data == Data::Old) => DataState::OldDataActive,
        Ok(seen) if seen.iter().all(|data| *data == Data::New) => DataState::NewDataActive,
        Ok(_) => DataState::Mixed,
        Err(_) => DataState::Unknown,
    }
}

/// In which state the user's data is on a box; what cannot be read is unknown.
pub fn data_on(root: &Dir) -> DataState {
    match standing(root) {
        Ok(standing) => standing.map_or(DataState::Untouched, |standing| standing.data),
        Err(_) => DataState::Unknown,
    }
}
