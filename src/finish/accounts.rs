//! Bringing people onto the running box, before the apps: their files then find their owners.
//!
//! Creates only; who is here already stays as he is. `accounts.py` does the work, with FreedomBox running.

use super::driver::{Brought, Driver, DriverError, Log};
use super::machine::Machine;
use super::{FIRST_SETUP, SERVICE, Scene};
use crate::handoff::accounts;
use crate::restore::RestoreError;
use std::time::Instant;

/// Whether people wait for the running box.
pub(super) fn are_waiting(scene: &Scene) -> Result<bool, RestoreError> {
    Ok(accounts::read(scene.root)?.is_some())
}

/// Brings everybody who waits. What did not work is said, and tried again at the next run.
pub(super) fn bring(scene: &Scene, machine: &Machine, log: &Log) -> Result<(), RestoreError> {
    let Some(wanted) = accounts::read(scene.root)? else { return Ok(()) };
    if !machine.await_service(SERVICE) {
        (machine.talk)("user accounts: FreedomBox's service does not start");
        return Ok(());
    }
    match ask(scene, machine, log, &wanted) {
        Ok(brought) => {
            (machine.talk)(&brought.sentence());
            if brought.failed.is_empty() {
                accounts::clear(scene.root)?;
            }
        }
        Err(error) => (machine.talk)(&format!("user accounts: bringing them over did not work: {error}")),
    }
    // Written by root, into a database of FreedomBox's.
    machine.repair_owners()
}

fn ask(scene: &Scene, machine: &Machine, log: &Log, wanted: &serde_json::Value) -> Result<Brought, DriverError> {
    let begun = Instant::now();
    // Loading FreedomBox takes a slow board a while: one child asks again and again.
    let mut driver = None;
    loop {
        let mut asking = match driver.take() {
            Some(driver) => Ok(driver),
            None => Driver::start(machine, scene.host, log, false),
        };
        // A new box has no directory of people before its first setup is over.
        let unready = match &mut asking {
            Ok(driver) => driver.unready(),
            Err(error) => Err(error.clone()),
        };
        match (asking, unready) {
            (Ok(mut driver), Ok(unready)) if unready.is_empty() => return driver.bring(wanted),
            (_, Err(error)) if begun.elapsed() >= FIRST_SETUP => return Err(error),
            (_, Ok(_)) if begun.elapsed() >= FIRST_SETUP => {
                return Err(DriverError::Refused("FreedomBox's first setup does not come to its end".into()));
            }
            (Ok(asked), Ok(_)) => driver = Some(asked),
            _ => {}
        }
        std::thread::sleep(machine.pause);
    }
}
