//! Undoing on the running box: FreedomBox stops and starts the services around the files, and imports databases as they
//! were.
//!
//! Owns the order; [`Restore::undo`] does the rest, and all of it where FreedomBox cannot be asked.

use super::app::{self, Trouble};
use super::driver::Driver;
use super::{Scene, report};
use crate::restore::journal::Record;
use crate::restore::{Restore, RestoreError, doing};

/// Brings back what the apps had before, with FreedomBox's help: services stop and start around the files, and databases
/// are imported as they were. [`Restore::undo`] does the rest. Where an app was removed since, its database cannot be
/// brought back: `leave_dumps` leaves what it held in a file, else undoing stops.
pub fn take_back(scene: &Scene, restore: &mut Restore, leave_dumps: bool) -> Result<(), RestoreError> {
    let changed = |record: &Record| matches!(record, Record::Exchanging { .. } | Record::Moving { .. });
    if !restore.records().iter().any(changed) {
        return Ok(());
    }
    restore.mark_interrupted()?;
    restore.begin_undoing()?;
    let log = report::open_log(scene.root)?;
    let machine = scene.machine(scene.talk);
    let taken = (|| -> Result<(), Trouble> {
        machine.stop_service().map_err(Trouble::Failed)?;
        let mut driver = Driver::start(&machine, scene.host, &log, true)?;
        driver.begin()?;
        let apps = restore.plan().apps.clone();
        let mut failed = None;
        for plan in apps.iter().rev().filter(|app| app.road.restores() && !app.is_databases()) {
            (scene.talk)(&format!("{}: bringing back what it had before", plan.name));
            let back = match plan.is_folders() {
                true => restore.undo_app(&plan.name).map_err(Trouble::from),
                false => app::take_back(restore, &mut driver, plan, leave_dumps),
            };
            match back {
                Ok(()) => {}
                // Its files can be put back without FreedomBox; its database cannot.
                Err(Trouble::Failed(why)) if !restore.imported().contains(&plan.name) => {
                    (scene.talk)(&format!("{}: {why}", plan.name))
                }
                // The others get theirs all the same.
                Err(trouble @ Trouble::Failed(_)) => failed = failed.or(Some(trouble)),
                Err(trouble) => return Err(trouble),
            }
        }
        failed.map_or(Ok(()), Err)
    })();
    machine.repair_owners()?;
    machine.start_service();
    if let Some(place) = restore.left()? {
        (scene.talk)(&format!(
            "What databases or settings of apps that were removed held before the restore stays in \"/{place}\"."
        ));
    }
    match taken {
        Ok(()) => Ok(()),
        Err(Trouble::Disk(error)) => Err(error),
        Err(Trouble::Failed(why) | Trouble::NotNow(why) | Trouble::Never(why) | Trouble::Gone(why)) => {
            Err(doing("bringing back what the apps had before")(std::io::Error::other(why)))
        }
    }
}
