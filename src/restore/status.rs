//! What the journals on a target say, without changing anything.

use super::exchange::{self, Data};
use super::journal::{self, Journal, JournalError, Record};
use super::{RestoreError, doing, movein, undo};
use crate::model::app::AppId;
use crate::model::extra::Extra;
use crate::model::finish::{AppProgress, Stand};
use crate::model::plan::{Action, PlanId, RestorePlan, Step};
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
    /// Apps that wait for the running box.
    pub waiting: Vec<AppId>,
    /// What the running box has to do, app by app, and how far it is.
    pub progress: Vec<AppProgress>,
    /// Since when nothing is left to do, in seconds since 1970; `None` where that is not known.
    pub settled: Option<i64>,
    /// What it brought besides apps and still waits for the running box.
    #[serde(skip)]
    pub extras: Vec<Extra>,
}

/// The restore that a target has now: the one in progress, else the newest; `None` when there never was one.
pub fn standing(root: &Dir) -> Result<Option<Standing>, RestoreError> {
    let mut all = restores(root)?;
    if let Some(open) = all.iter().position(Standing::is_open) {
        return Ok(Some(all.swap_remove(open)));
    }
    Ok(all.pop())
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

/// The highest number that a restore on the target has; 0 where there is none.
pub(super) fn highest_number(root: &Dir) -> Result<u64, RestoreError> {
    Ok(read_all(root)?.iter().map(|(records, _)| number(records)).max().unwrap_or(0))
}

fn number(records: &[Record]) -> u64 {
    records
        .iter()
        .find_map(|record| if let Record::Numbered { number } = record { Some(*number) } else { None })
        .unwrap_or(0)
}

/// Every restore on the target, the newest last. What a later one has as well, an earlier one has no more: the newest
/// data of an app is the one that the user wants.
pub fn restores(root: &Dir) -> Result<Vec<Standing>, RestoreError> {
    let all = read_all(root)?;
    let mut standings = Vec::new();
    for (at, (records, plan)) in all.iter().enumerate() {
        let later = all.iter().skip(at + 1);
        let taken_over = |app: &AppId| {
            later.clone().any(|(records, plan)| {
                let undone = records.iter().any(|record| matches!(record, Record::RolledBack));
                !undone && plan.apps.iter().any(|other| other.name == *app && other.road.restores())
            })
        };
        standings.push(stand(root, records, plan, &taken_over));
    }
    Ok(standings)
}

/// Every restore on the target with its records, in the order in which they began.
fn read_all(root: &Dir) -> Result<Vec<(Vec<Record>, RestorePlan)>, RestoreError> {
    let failed = || doing("looking for earlier restores");
    let restores = match root.dir(&format!("{AREA}/restores").parse()?) {
        Ok(restores) => restores,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed()(error)),
    };
    let mut all = Vec::new();
    for name in restores.names().map_err(failed())? {
        let directory = restores.child(&name).map_err(failed())?;
        if !Journal::is_in(&directory).map_err(failed())? {
            continue;
        }
        let records = match Journal::read(&directory) {
            // The power was cut before anything was done; the directory is reused or removed by the next restore.
            Err(JournalError::NeverBegan) => continue,
            other => other?,
        };
        if let Some(plan) = journal::plan(&records).cloned() {
            all.push((records, plan));
        }
    }
    all.sort_by(|(a, one), (b, other)| (number(a), one.id.as_str()).cmp(&(number(b), other.id.as_str())));
    Ok(all)
}

fn stand(root: &Dir, records: &[Record], plan: &RestorePlan, taken_over: &dyn Fn(&AppId) -> bool) -> Standing {
    let state = state(records, plan);
    let settled = matches!(state, RestoreState::Restored | RestoreState::WaitingForBoot | RestoreState::Committed);
    let progress: Vec<AppProgress> = if settled {
        let apps = plan.apps.iter().filter(|app| app.waits_for_boot() && !taken_over(&app.name));
        apps.map(|app| progress(root, records, plan, &app.name)).collect()
    } else {
        Vec::new()
    };
    let named = |wanted: Stand| progress.iter().filter(move |app| app.stand == wanted).map(|app| app.name.clone());
    let unfinished = |app: &AppId| progress.iter().any(|other| other.name == *app && other.stand != Stand::Finished);
    let done = plan.apps.iter().filter(|app| {
        settled && app.road.restores() && !app.is_databases() && !taken_over(&app.name) && !unfinished(&app.name)
    });
    Standing {
        state,
        id: plan.id.clone(),
        data: data_state(root, plan, records),
        done: done.map(|app| app.name.clone()).collect(),
        waiting: named(Stand::Waiting).collect(),
        settled: records
            .iter()
            .rev()
            .find_map(|record| if let Record::Settled { at } = record { Some(*at) } else { None }),
        extras: extras(root, records, plan),
        progress,
    }
}

/// What the restore brought besides apps and the running box did not take yet. What cannot be looked at still waits.
pub(super) fn extras(root: &Dir, records: &[Record], plan: &RestorePlan) -> Vec<Extra> {
    if records.iter().any(|record| matches!(record, Record::RolledBack)) {
        return Vec::new();
    }
    let all = plan.extras.iter().map(|plan| plan.extra);
    all.filter(|extra| extra.waits_in().is_ok_and(|path| !matches!(root.stat(&path), Ok(None)))).collect()
}

/// How far the running box is with an app.
fn progress(root: &Dir, records: &[Record], plan: &RestorePlan, app: &AppId) -> AppProgress {
    let mut seen = AppProgress {
        name: app.clone(),
        stand: Stand::Waiting,
        reached: None,
        failures: 0,
        why: None,
        note: None,
        parked: false,
    };
    // An attempt that says neither how it ended nor that it only waits was cut off, and counts as a failure.
    let mut open = false;
    for record in records {
        match record {
            Record::Attempt { app: of } if of == app => {
                match seen.stand {
                    // After it was given up, somebody asked for another try.
                    Stand::NotRestored => (seen.stand, seen.failures) = (Stand::Waiting, 0),
                    // It was finished, and then did not answer any more: that counts as what came before does.
                    Stand::Finished => seen.stand = Stand::Waiting,
                    Stand::Waiting => {}
                }
                seen.failures += u32::from(open);
                open = true;
            }
            Record::Reached { app: of, part } if of == app => seen.reached = Some(*part),
            Record::Stopped { app: of, why, failure } if of == app => {
                seen.failures += u32::from(*failure);
                (open, seen.why) = (false, Some(why.clone()));
            }
            Record::Noted { app: of, what } if of == app => match &mut seen.note {
                Some(note) if note.contains(what) => {}
                Some(note) => *note = format!("{note}; {what}"),
                None => seen.note = Some(what.clone()),
            },
            Record::Finished { app: of } if of == app => {
                (open, seen.stand, seen.why) = (false, Stand::Finished, None);
            }
            Record::GaveUp { app: of, why } if of == app => {
                (open, seen.stand, seen.why) = (false, Stand::NotRestored, Some(why.clone()));
            }
            _ => {}
        }
    }
    let mut parked = plan.steps.iter().filter(|step| step.app == *app && step.is_parked());
    seen.parked = parked.any(|step| !movein::is_moved(root, records, step).unwrap_or(false));
    seen
}

/// Apps that the running box still has to work on.
pub(super) fn waits(records: &[Record], plan: &RestorePlan) -> bool {
    let ended = |app: &AppId| {
        let of = |record: &&Record| match record {
            Record::Attempt { app: of } | Record::Finished { app: of } | Record::GaveUp { app: of, .. } => of == app,
            _ => false,
        };
        // Another attempt after it was given up takes it up again.
        !matches!(records.iter().rev().find(of), None | Some(Record::Attempt { .. }))
    };
    plan.apps.iter().any(|app| app.waits_for_boot() && !ended(&app.name))
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
    } else if waits(records, plan) {
        RestoreState::WaitingForBoot
    } else {
        RestoreState::Restored
    }
}

/// In which state the user's data is: what the records leave open, the disk answers.
pub(super) fn data_state(root: &Dir, plan: &RestorePlan, records: &[Record]) -> DataState {
    let has = |wanted: fn(&Record) -> bool| records.iter().any(wanted);
    // What is parked is not in its place until the running box begins to move it there.
    let begun =
        |step: &Step| records.iter().any(|record| matches!(record, Record::Moving { step: id, .. } if *id == step.id));
    // Folders only get what they lack: nothing of what was there makes way.
    let counts = |step: &&Step| match step.action {
        Action::Park => begun(step),
        Action::Merge => false,
        Action::Exchange | Action::SetAside => true,
    };
    let live: Vec<&Step> = plan.steps.iter().filter(counts).collect();
    if live.is_empty() || has(|record| matches!(record, Record::RolledBack)) {
        return DataState::OldDataActive;
    }
    // After that the old data, by which the disk tells, may be removed.
    if has(|record| matches!(record, Record::Committing)) {
        return DataState::Committed;
    }
    let seen: Result<Vec<Data>, RestoreError> = live
        .into_iter()
        .map(|step| match step.action {
            Action::Park | Action::Merge => movein::data(root, records, step),
            Action::Exchange | Action::SetAside => exchange::data(root, plan, records, step),
        })
        .collect();
    // Files come back first: a database may have what was restored until the running box took that back as well.
    let lags = has(|record| matches!(record, Record::Undoing)) && !undo::imported(records).is_empty();
    match seen {
        Ok(seen) if seen.iter().all(|data| *data == Data::Old) && lags => DataState::Mixed,
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
