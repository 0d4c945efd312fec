//! Bringing onto the running box what came with its data besides apps: people, names, networks, backup locations.
//!
//! People and names come before the apps, whose files then find their owners and their domain. Backup locations come
//! last: a schedule that begins while apps still wait would fill the old backups' places with backups of half a box.
//! One Python file for each kind does the work. What is on the box already stays as it is.

use super::besides::Besides;
use super::driver::{self, Driver, DriverError, Log};
use super::machine::Machine;
use super::{SERVICE, Scene};
use crate::handoff::extras;
use crate::model::app::AppId;
use crate::model::extra::Extra;
use crate::model::finish::Stand;
use crate::restore::{self, RestoreError};

/// Whether anything waits for the running box.
pub(super) fn are_waiting(scene: &Scene) -> Result<bool, RestoreError> {
    Ok(!extras::waiting(scene.root)?.is_empty())
}

/// When an extra is brought over.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Before the apps.
    First,
    /// After them, as soon as none of them waits any more.
    Last,
}

/// Brings all that waits and whose turn it is. What did not work is said, and tried again at the next run.
pub(super) fn bring(
    scene: &Scene,
    machine: &Machine,
    log: &Log,
    turn: Turn,
    besides: &mut Besides,
) -> Result<(), RestoreError> {
    let mut due = extras::waiting(scene.root)?;
    due.retain(|extra| (*extra == Extra::BackupLocations) == (turn == Turn::Last));
    let restores = restore::restores(scene.root)?;
    // Folders may wait for an account that nobody makes.
    let apps = restores.iter().flat_map(|own| &own.progress).filter(|app| app.name != AppId::folders());
    let stands: Vec<Stand> = apps.map(|app| app.stand).collect();
    if due.is_empty() || (turn == Turn::Last && stands.contains(&Stand::Waiting)) {
        return Ok(());
    }
    if !machine.await_service(SERVICE) {
        (machine.talk)("FreedomBox's service does not start, so nothing besides apps was brought over");
        return Ok(());
    }
    // A new name goes through the apps, as it does when it is changed on FreedomBox's page: their code has to be
    // started for that, and FreedomBox's service must not do the same meanwhile.
    let is_quiet = due.contains(&Extra::Names);
    let work = || -> Result<(), RestoreError> {
        let mut driver = match ready(scene, machine, log, is_quiet) {
            Ok(driver) => driver,
            Err(error) => {
                (machine.talk)(&format!("bringing over what came besides apps did not work: {error}"));
                return Ok(());
            }
        };
        for extra in due {
            let mut wanted = match extras::read(scene.root, extra) {
                Ok(wanted) => wanted,
                Err(error) => {
                    (machine.talk)(&format!("{}: {error}", extra.title()));
                    continue;
                }
            };
            if let Some(wanted) = wanted.as_object_mut() {
                wanted.insert("whole".to_owned(), (!stands.contains(&Stand::NotRestored)).into());
            }
            match driver.bring(extra, &wanted) {
                Ok(brought) => {
                    let sentence = brought.sentence(extra);
                    (machine.talk)(&sentence);
                    besides.brought(extra, sentence, !brought.lost.is_empty());
                    if brought.failed.is_empty() {
                        extras::clear(scene.root, extra)?;
                    }
                }
                Err(error) => {
                    (machine.talk)(&format!("{}: bringing them over did not work: {error}", extra.title()));
                    if let DriverError::Gone(_) = error {
                        break;
                    }
                }
            }
        }
        Ok(())
    };
    let worked = work();
    // Written by root, into a database of FreedomBox's.
    machine.repair_owners()?;
    if is_quiet {
        machine.start_service();
        if !machine.await_service(SERVICE) {
            (machine.talk)("FreedomBox's service does not start again");
        }
    }
    worked
}

/// FreedomBox, after its first setup; with `is_quiet`, with its service stopped and its apps' code started.
fn ready(scene: &Scene, machine: &Machine, log: &Log, is_quiet: bool) -> Result<Driver, DriverError> {
    let (driver, unready) = driver::await_first_setup(machine, scene.host, log)?;
    if !unready.is_empty() {
        return Err(DriverError::Refused("FreedomBox's first setup does not come to its end".into()));
    }
    if !is_quiet {
        return Ok(driver);
    }
    drop(driver);
    machine.stop_service().map_err(DriverError::Refused)?;
    let mut driver = Driver::start(machine, scene.host, log, true)?;
    driver.begin()?;
    Ok(driver)
}
