//! The work for one app, while FreedomBox's service is stopped.
//!
//! Every part is recorded when it is done; what is recorded is not done again, what is not is done as if for the first
//! time. Parts look at the disk and at FreedomBox, never at the record alone.

use super::cluster;
use super::driver::{Driver, DriverError, Moment};
use super::dumps;
use super::machine::Machine;
use super::pace;
use crate::model::app::AppId;
use crate::model::cause::chain;
use crate::model::finish::Part;
use crate::model::manifest;
use crate::model::path::RelPath;
use crate::model::plan::{AppPlan, Road};
use crate::restore::journal::Record;
use crate::restore::{Numbers, Restore, RestoreError, doing};
use crate::sys::fault;
use std::collections::BTreeSet;
use std::io;

/// Why the work on an app stopped.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It did not work; another attempt may.
    Failed(String),
    /// It has to wait for something.
    NotNow(String),
    /// Another attempt will not work either, unless somebody changes something.
    Never(String),
    /// The program that drives FreedomBox is gone; another attempt may work.
    Gone(String),
    /// Lifeboat's own records or the disk failed: nothing else is tried.
    Disk(RestoreError),
}

impl From<RestoreError> for Trouble {
    fn from(error: RestoreError) -> Trouble {
        match error {
            error @ RestoreError::Journal(_) => Trouble::Disk(error),
            error => Trouble::Failed(chain(&error)),
        }
    }
}

impl From<DriverError> for Trouble {
    fn from(error: DriverError) -> Trouble {
        match error {
            DriverError::Refused(why) => Trouble::Failed(why),
            gone @ DriverError::Gone(_) => Trouble::Gone(gone.to_string()),
        }
    }
}

/// Does what is left to do for one app.
pub(super) fn work(
    restore: &mut Restore,
    driver: &mut Driver,
    machine: &Machine,
    app: &AppPlan,
) -> Result<(), Trouble> {
    let id = app.name.as_str();
    restore.record(Record::Attempt { app: app.name.clone() })?;
    let reached = reached(restore, &app.name);
    let is_set_up = driver.look(id)?.is_set_up;
    let fresh = match found(restore, &app.name) {
        Some(fresh) => fresh,
        None => {
            restore.record(Record::Found { app: app.name.clone(), fresh: !is_set_up })?;
            !is_set_up
        }
    };
    let was_removed = reached >= Some(Part::Install) && !is_set_up;
    // FreedomBox removes an app with its data.
    if was_removed && has_come(restore, app)? {
        return Err(Trouble::Never(
            "it was removed from FreedomBox after its data had come; restore it from the backup once more".into(),
        ));
    }
    if reached < Some(Part::Install) || was_removed {
        in_part(Part::Install, driver.install(id))?;
        done(restore, &app.name, Part::Install)?;
    }
    if reached < Some(Part::Restore) && failing(restore, &app.name).is_none() {
        let checks = driver.failing(id, pace::settling())?;
        restore.record(Record::Failing { app: app.name.clone(), checks })?;
    }
    if reached < Some(Part::Save) && imports(app) {
        match driver.save(id) {
            Ok(dumps) => dumps::keep(restore, &app.name, &dumps)?,
            // What was installed just now has nothing to lose.
            Err(DriverError::Refused(_)) if fresh => {}
            Err(error) => return in_part(Part::Save, Err(error)),
        }
        done(restore, &app.name, Part::Save)?;
    }
    if reached == Some(Part::Save) {
        dumps::bring_back(restore, &app.name)?;
        save_again(restore, driver, app, fresh)?;
    }
    if reached < Some(Part::Restore) && app.recovers {
        recover(restore, machine, app)?;
    }
    if reached < Some(Part::Restore) {
        let names = restore.unknown_names(&app.name)?;
        let numbers = driver.numbers(&names)?;
        let mut stopped = None;
        let mut put = |moment: &Moment| {
            place(restore, app, &numbers, moment).map_err(|error| {
                let said = chain(&error);
                stopped = Some(error);
                said
            })
        };
        let restored = driver.restore(id, &mut put);
        if let Some(error @ RestoreError::Journal(_)) = stopped {
            return Err(Trouble::Disk(error));
        }
        in_part(Part::Restore, restored)?;
        restore.root().sync_filesystem().map_err(doing("writing the app's data to the disk"))?;
        done(restore, &app.name, Part::Restore)?;
    }
    if reached < Some(Part::Migrate) {
        if let Some(what) = in_part(Part::Migrate, driver.migrate(id, &placed(restore, app)))? {
            restore.record(Record::Noted { app: app.name.clone(), what })?;
        }
        done(restore, &app.name, Part::Migrate)?;
    }
    if let Some(what) = silent(restore, driver, app)? {
        return Err(Trouble::Failed(format!("its data is in place, but it does not answer: {what}")));
    }
    done(restore, &app.name, Part::Check)?;
    restore.record(Record::Finished { app: app.name.clone() })?;
    Ok(())
}

/// Where an attempt to import ended and FreedomBox ran since, the app may hold what nobody else has: that is kept as well.
fn save_again(restore: &mut Restore, driver: &mut Driver, app: &AppPlan, fresh: bool) -> Result<(), Trouble> {
    let is_save = |record: &Record| matches!(record, Record::Reached { app: of, part: Part::Save } if *of == app.name);
    let was_given_up = |record: &Record| matches!(record, Record::GaveUp { app: of, .. } if *of == app.name);
    let has_ended =
        |record: &Record| was_given_up(record) || matches!(record, Record::Stopped { app: of, .. } if *of == app.name);
    let last = restore.records().iter().rev().find(|record| is_save(record) || has_ended(record));
    if !last.is_some_and(has_ended) {
        return Ok(());
    }
    let nth = restore.records().iter().filter(|record| is_save(record)).count();
    let used = !fresh || restore.records().iter().any(was_given_up);
    dumps::set_aside(restore, &app.name)?;
    let saved = driver.save(app.name.as_str());
    let kept = match saved {
        Ok(saved) => dumps::keep_again(restore, &app.name, nth, &saved).map_err(Trouble::from),
        // Half of an import in what was installed for it: nobody had time to add to that.
        Err(DriverError::Refused(_)) if !used => Ok(()),
        Err(error) => in_part(Part::Save, Err(error)),
    };
    dumps::bring_back(restore, &app.name)?;
    kept?;
    if used {
        let place = dumps::later(restore, &app.name)?;
        let what = format!("what it held when it was tried again is kept in \"/{place}\" until 'lifeboat commit'");
        restore.record(Record::Noted { app: app.name.clone(), what })?;
    }
    Ok(done(restore, &app.name, Part::Save)?)
}

/// What of the app does not answer that is not known to have been silent before its data came.
pub(super) fn silent(restore: &Restore, driver: &mut Driver, app: &AppPlan) -> Result<Option<String>, Trouble> {
    let known = failing(restore, &app.name).unwrap_or_default();
    let asked = driver.check(app.name.as_str(), pace::patience(), &known, &placed(restore, app));
    let new = in_part(Part::Check, asked)?.new;
    Ok((!new.is_empty()).then(|| new.join("; ")))
}

/// Where the app's data went.
fn placed(restore: &Restore, app: &AppPlan) -> Vec<String> {
    let own = restore.plan().steps.iter().filter(|step| step.app == app.name);
    own.map(|step| format!("/{}", step.destination)).collect()
}

/// Whether data of the app lies, or lay, where the app has it, and no longer where only Lifeboat does.
fn has_come(restore: &Restore, app: &AppPlan) -> Result<bool, RestoreError> {
    let parked = restore.parked_steps(&app.name);
    let moved = parked.iter().try_fold(false, |moved, step| Ok::<_, RestoreError>(moved || restore.is_moved(step)?))?;
    Ok(moved || app.road == Road::InPlace)
}

/// Makes a dump of what the app's database held from the files of its old server. Where that does not work, an older
/// dump has to do.
fn recover(restore: &mut Restore, machine: &Machine, app: &AppPlan) -> Result<(), Trouble> {
    let older = |restore: &Restore| {
        let steps = restore.parked_steps(&app.name);
        steps.into_iter().any(|step| cluster::place(app).is_some_and(|dump| dump.is_within(&step.destination)))
    };
    match cluster::dump(restore, machine, app) {
        Err(Trouble::Failed(why) | Trouble::Never(why)) if older(restore) => {
            let what = format!("ATTENTION: what it stored last is missing, its older dump was imported: {why}");
            Ok(restore.record(Record::Noted { app: app.name.clone(), what })?)
        }
        other => other,
    }
}

/// Puts the files of an app in place: old dumps away, owners, then one exchange after another.
fn place(restore: &mut Restore, app: &AppPlan, numbers: &Numbers, moment: &Moment) -> Result<(), RestoreError> {
    let steps = restore.parked_steps(&app.name);
    for dump in &moment.dumps {
        let Some(path) = dumps::inside(dump) else { continue };
        // An earlier backup's dump is not what is being restored, and FreedomBox would import it.
        if !steps.iter().any(|step| path.is_within(&step.destination)) {
            dumps::remove(restore, &path)?;
        }
    }
    restore.give_owners(&app.name, numbers)?;
    if app.road != Road::Parked {
        return Ok(());
    }
    restore.root().sync_filesystem().map_err(doing("writing the app's data to the disk"))?;
    let states: Vec<RelPath> = moment.states.iter().filter_map(|name| RelPath::parse(name.as_bytes()).ok()).collect();
    for step in &steps {
        restore.move_in(step)?;
        restore.open_state(step, &states)?;
    }
    if let (true, Some(mut dump), Some(path)) = (app.recovers, cluster::of(restore, app)?, cluster::place(app)) {
        let failed = || doing(format!("placing the dump of '{}'", app.name));
        if !moment.dumps.iter().any(|named| dumps::inside(named).as_ref() == Some(path)) {
            return Err(failed()(io::Error::other("this FreedomBox imports no dump of it")));
        }
        restore.make_parents(path)?;
        dumps::put(restore, &mut dump, path).map_err(failed())?;
    }
    restore.root().sync_filesystem().map_err(doing("writing the app's data to the disk"))
}

/// Brings back what an app had before, while FreedomBox's service is stopped and undoing has begun. Where it was removed
/// since, nobody takes what its database held: that is an error, or stays in a file for good with `leave_dumps`.
pub(super) fn take_back(
    restore: &mut Restore,
    driver: &mut Driver,
    app: &AppPlan,
    leave_dumps: bool,
) -> Result<(), Trouble> {
    let id = app.name.as_str();
    let kept = dumps::kept(restore, &app.name)?;
    let imported = restore.imported().contains(&app.name);
    let is_set_up = driver.look(id)?.is_set_up;
    // Nobody else has it any more. An app that the restore brought had nothing before.
    let has_no_taker = !is_set_up && imported && !kept.is_empty() && found(restore, &app.name) != Some(true);
    if has_no_taker && leave_dumps {
        restore.leave_kept(&app.name)?;
    } else if has_no_taker {
        return Err(Trouble::Failed(format!(
            "'{id}' was removed from FreedomBox after it was restored. What its database or settings held before the restore \
             is kept in \"/{}\": install '{id}' in FreedomBox again, then undoing brings that back; or end undoing without it \
             by 'lifeboat undo --leave-dumps', then the copy stays",
            restore.kept_of(&app.name)?
        )));
    }
    if !is_set_up || (imported && kept.is_empty()) {
        restore.undo_app(&app.name)?;
    } else {
        if imported {
            driver.take_out(id, &format!("/{}", restore.kept_of(&app.name)?))?;
        }
        let mut stopped = None;
        let mut put = |moment: &Moment| {
            let back =
                restore.undo_app(&app.name).and_then(|()| dumps::offer(restore, &app.name, &kept, &moment.dumps));
            back.map_err(|error| {
                let said = chain(&error);
                stopped = Some(error);
                said
            })
        };
        let back = driver.restore(id, &mut put);
        if let Some(error @ RestoreError::Journal(_)) = stopped {
            return Err(Trouble::Disk(error));
        }
        back?;
    }
    if imported {
        restore.record(Record::TakenBack { app: app.name.clone() })?;
    }
    Ok(())
}

/// Whether a database or settings are imported when the app is restored, by FreedomBox or here.
pub(super) fn imports(app: &AppPlan) -> bool {
    manifest::find(&app.name).is_some_and(|known| {
        known.database.is_some() || known.settings_file.is_some() || !known.imported_here.is_empty()
    })
}

/// Whether FreedomBox leads all downloads of packages through Tor once the app is installed.
pub(super) fn reroutes(app: &AppPlan) -> bool {
    let mut releases = manifest::find(&app.name).into_iter().flat_map(|known| &known.releases);
    releases.any(|release| release.packages.iter().any(|package| package == "apt-transport-tor"))
}

fn done(restore: &mut Restore, app: &AppId, part: Part) -> Result<(), RestoreError> {
    fault::point("finish.part").map_err(doing("noting what is done"))?;
    restore.record(Record::Reached { app: app.clone(), part })
}

fn in_part<T>(part: Part, result: Result<T, DriverError>) -> Result<T, Trouble> {
    result.map_err(|error| match error {
        DriverError::Refused(why) => Trouble::Failed(format!("{part} did not work: {why}")),
        DriverError::Gone(why) => {
            Trouble::Gone(format!("{part} did not work: the program that drives FreedomBox {why}"))
        }
    })
}

fn reached(restore: &Restore, app: &AppId) -> Option<Part> {
    let reached = restore.records().iter().filter_map(|record| match record {
        Record::Reached { app: of, part } if of == app => Some(*part),
        _ => None,
    });
    // What was found broken by the check is checked again; everything before it stays done.
    reached.filter(|part| *part != Part::Check).max()
}

fn found(restore: &Restore, app: &AppId) -> Option<bool> {
    restore.records().iter().find_map(|record| match record {
        Record::Found { app: of, fresh } if of == app => Some(*fresh),
        _ => None,
    })
}

fn failing(restore: &Restore, app: &AppId) -> Option<BTreeSet<String>> {
    restore.records().iter().find_map(|record| match record {
        Record::Failing { app: of, checks } if of == app => Some(checks.clone()),
        _ => None,
    })
}
