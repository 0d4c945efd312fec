//! Bringing the folders of people into the running box: each as soon as its owner has an account.
//!
//! A home folder that came before its owner would be root's, and keep him out. Whoever asks for it gets them all the
//! same.

use super::Scene;
use super::app::Trouble;
use super::driver::Driver;
use crate::model::app::AppId;
use crate::model::plan::{AppPlan, PlanId, Step};
use crate::restore::journal::Record;
use crate::restore::{Numbers, Restore, RestoreError, doing};
use std::collections::BTreeSet;

/// The folders that can come now, and the names of those whom the others wait for.
pub(super) fn due(
    restore: &Restore,
    app: &AppPlan,
    numbers: &Numbers,
    asked: bool,
) -> Result<(Vec<Step>, BTreeSet<String>), RestoreError> {
    let (mut due, mut waits) = (Vec::new(), BTreeSet::new());
    for step in restore.parked_steps(&app.name) {
        if restore.is_moved(&step)? {
            continue;
        }
        match restore.unknown_owner(&step)?.filter(|name| !asked && !numbers.users.contains_key(name)) {
            Some(name) => drop(waits.insert(name)),
            None => due.push(step),
        }
    }
    Ok((due, waits))
}

/// Whether there is an account by now that a folder waits for. Costs next to nothing to ask.
pub(super) fn has_come(scene: &Scene, restores: &[PlanId]) -> Result<bool, RestoreError> {
    let machine = scene.machine(&|_| {});
    for id in restores {
        let restore = Restore::go_on(scene.root.again().map_err(doing("opening the box's root"))?, id)?;
        for step in restore.parked_steps(&AppId::folders()) {
            let Some(name) = restore.unknown_owner(&step)?.filter(|_| !matches!(restore.is_moved(&step), Ok(true)))
            else {
                continue;
            };
            let asked = machine.run("getent", &["passwd", "--", &name]);
            if asked.is_ok_and(|output| output.status == Some(0)) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// What is missing for the folders of these people.
pub(super) fn waiting_for(names: &BTreeSet<String>) -> String {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    format!("folders wait until there are users with these names: {}", names.join(", "))
}

/// Brings in what can come now.
pub(super) fn work(restore: &mut Restore, driver: &mut Driver, app: &AppPlan, asked: bool) -> Result<(), Trouble> {
    restore.record(Record::Attempt { app: app.name.clone() })?;
    let names = restore.unknown_names(&app.name)?;
    let numbers = driver.numbers(&names)?;
    let (due, waits) = due(restore, app, &numbers, asked)?;
    restore.give_owners(&app.name, &numbers)?;
    for step in &due {
        restore.merge(step)?;
    }
    if let Some(what) = told(restore) {
        restore.record(Record::Noted { app: app.name.clone(), what })?;
    }
    if !waits.is_empty() {
        return Err(Trouble::NotNow(waiting_for(&waits)));
    }
    restore.record(Record::Finished { app: app.name.clone() })?;
    Ok(())
}

/// What its owner should know of what came.
fn told(restore: &Restore) -> Option<String> {
    let (mut count, mut names) = (0_u64, Vec::new());
    for record in restore.records() {
        if let Record::Merged { beside, named, .. } = record {
            count = count.saturating_add(*beside);
            names.extend(named.iter().map(|path| format!("/{path}")));
        }
    }
    let more = count.saturating_sub(names.len() as u64);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let what =
        format!("where the box had something else, what the old box had lies beside it: {}{more}", names.join(", "));
    (count > 0).then_some(what)
}
