//! One run over the apps of one restore that the running box has to finish.
//!
//! Owns the order: what can be reached is fetched while FreedomBox runs, then its service rests while one app after
//! another is worked on. An app that fails or waits holds no other one up.

use super::app::{self, Trouble};
use super::driver::{self, Driver, DriverError, Log};
use super::folders;
use super::machine::{Fetched, Machine};
use super::pace;
use super::report::{people_missing, summary};
use super::{SERVICE, Scene};
use crate::model::app::AppId;
use crate::model::cause::chain;
use crate::model::finish::{AppProgress, Stand};
use crate::model::plan::AppPlan;
use crate::restore::journal::Record;
use crate::restore::{self, Restore, RestoreError, doing};
use crate::sys::fault;

/// Attempts at an app that may fail.
const TRIES: u32 = 5;

/// One run over the apps of one restore.
pub(super) struct Run<'a> {
    scene: &'a Scene<'a>,
    machine: &'a Machine<'a>,
    log: &'a Log,
    restore: Restore,
    driver: Option<Driver>,
    /// Whether no package is half-installed.
    is_whole: bool,
    /// People whose data came and who have no account here; `None` before they were asked for.
    pub(super) missing: Option<Vec<String>>,
}

impl<'a> Run<'a> {
    pub(super) fn new(scene: &'a Scene<'a>, machine: &'a Machine<'a>, log: &'a Log, restore: Restore) -> Run<'a> {
        Run { scene, machine, log, restore, driver: None, is_whole: false, missing: None }
    }

    /// Works on every app that can be worked on now. Says why where nothing could be tried at all.
    pub(super) fn run(&mut self) -> Result<Option<String>, RestoreError> {
        self.machine.repair_owners()?;
        if !self.machine.await_service(SERVICE) {
            return Ok(Some("FreedomBox's service does not start".into()));
        }
        // What is not set up after so long may not matter to the apps here.
        match driver::await_first_setup(self.machine, self.scene.host, self.log) {
            Ok((driver, _)) => self.driver = Some(driver),
            Err(error) => return Ok(Some(error.to_string())),
        }
        self.missing = Some(self.missing_people());
        let ready = self.prepare()?;
        self.driver = None;
        // Said before the work, which takes a while, and may take other notifications with it.
        self.notify_running();
        if ready.is_empty() {
            return Ok(None);
        }
        let worked = self.work(&ready);
        self.driver = None;
        self.machine.repair_owners()?;
        self.machine.start_service();
        worked?;
        if !self.machine.await_service(SERVICE) {
            return Ok(Some("FreedomBox's service does not start".into()));
        }
        self.look_again(&ready)?;
        Ok(None)
    }

    fn say(&self, sentence: &str) {
        (self.machine.talk)(sentence);
    }

    fn driver(&mut self, guarded: bool) -> Result<&mut Driver, DriverError> {
        let driver = match self.driver.take() {
            Some(driver) => driver,
            None => Driver::start(self.machine, self.scene.host, self.log, guarded)?,
        };
        Ok(self.driver.insert(driver))
    }

    /// Looks which apps can be worked on: known to this FreedomBox, and their packages on the box. FreedomBox keeps
    /// running meanwhile.
    fn prepare(&mut self) -> Result<Vec<AppPlan>, RestoreError> {
        let mut ready = Vec::new();
        let mut lists: Option<Fetched> = None;
        for plan in self.wanted()? {
            let cut = self.failures(&plan.name)?;
            if cut >= 2 * TRIES {
                self.give_up(&plan.name, &format!("{cut} attempts were cut off or failed"))?;
                continue;
            }
            let reached = if plan.is_folders() { self.reach_folders(&plan) } else { self.reach(&plan, &mut lists) };
            match reached {
                Ok(()) => ready.push(plan),
                Err(Reach::NotNow(why)) => self.stop(&plan.name, &why, false)?,
                Err(Reach::Failed(why)) => self.stop(&plan.name, &why, true)?,
                Err(Reach::Never(why)) => self.give_up(&plan.name, &why)?,
            }
        }
        Ok(ready)
    }

    fn progress(&self) -> Result<Vec<AppProgress>, RestoreError> {
        let own = restore::restores(self.scene.root)?.into_iter().find(|other| other.id == self.restore.plan().id);
        Ok(own.map(|standing| standing.progress).unwrap_or_default())
    }

    fn failures(&self, app: &AppId) -> Result<u32, RestoreError> {
        Ok(self.progress()?.iter().find(|seen| seen.name == *app).map_or(0, |seen| seen.failures))
    }

    /// The apps of this restore that have something to do, in the order of the work.
    fn wanted(&self) -> Result<Vec<AppPlan>, RestoreError> {
        let progress = self.progress()?;
        let asked = self.scene.asked;
        let is_wanted = |app: &AppId| {
            progress.iter().any(|seen| {
                seen.name == *app && (seen.stand == Stand::Waiting || (asked && seen.stand == Stand::NotRestored))
            })
        };
        let mut wanted: Vec<AppPlan> =
            self.restore.plan().apps.iter().filter(|app| is_wanted(&app.name)).cloned().collect();
        // Folders come last: by then the accounts of apps exist, too.
        // An app that finds a database server while it is installed may keep its data there, and not in the file that was
        // restored; so the apps that bring a server come late. After one that leads downloads through Tor, nothing is
        // installed until Tor has found its way.
        wanted.sort_by_key(|app| (app.is_folders(), app::reroutes(app), app::imports(app)));
        Ok(wanted)
    }

    /// Whether anybody is there by now who gets a folder: only for that FreedomBox's service rests.
    fn reach_folders(&mut self, plan: &AppPlan) -> Result<(), Reach> {
        let failed = |error: RestoreError| Reach::Failed(chain(&error));
        let names = self.restore.unknown_names(&plan.name).map_err(failed)?;
        let numbers = self.driver(false)?.numbers(&names)?;
        let (due, waits) = folders::due(&self.restore, plan, &numbers, self.scene.asked).map_err(failed)?;
        if due.is_empty() && !waits.is_empty() { Err(Reach::NotNow(folders::waiting_for(&waits))) } else { Ok(()) }
    }

    /// Brings the packages of an app onto the box.
    fn reach(&mut self, plan: &AppPlan, lists: &mut Option<Fetched>) -> Result<(), Reach> {
        let id = plan.name.as_str();
        let mut facts = self.driver(false).and_then(|driver| driver.look(id))?;
        if !facts.known {
            return Err(Reach::Never("this FreedomBox has no such app".into()));
        }
        if !facts.has_backup {
            return Err(Reach::Never("this FreedomBox does not restore this app".into()));
        }
        if !self.is_whole {
            self.machine.repair_packages().map_err(Reach::Failed)?;
            self.is_whole = true;
        }
        if facts.is_set_up || (facts.packages.is_empty() && facts.missing.is_empty()) {
            return Ok(());
        }
        // Asked for once, also in vain: without a network every question waits for an answer for minutes.
        if lists.is_none() {
            *lists = Some(self.machine.refresh_packages());
            facts = self.driver(false).and_then(|driver| driver.look(id))?;
        }
        match (facts.missing.is_empty(), &lists) {
            (true, _) => {}
            (false, Some(Fetched::NotNow(why))) => {
                return Err(Reach::NotNow(format!("its packages cannot be reached now ({why})")));
            }
            (false, _) => {
                let missing = facts.missing.join(", ");
                return Err(Reach::Never(format!("the box's package sources do not have {missing}")));
            }
        }
        self.say(&format!("{id}: downloading its packages"));
        match self.machine.download(&facts.packages) {
            Fetched::Here => Ok(()),
            // With fresh lists it is no matter of the network that packages do not go together.
            Fetched::NotNow(why) if lists == &Some(Fetched::Here) && !is_network(&why) => {
                Err(Reach::Failed(format!("its packages cannot be installed: {why}")))
            }
            Fetched::NotNow(why) => Err(Reach::NotNow(format!("its packages cannot be downloaded now ({why})"))),
        }
    }

    /// Works on the apps, one at a time, with FreedomBox's service stopped.
    fn work(&mut self, ready: &[AppPlan]) -> Result<(), RestoreError> {
        if let Err(why) = self.machine.stop_service() {
            self.say(&why);
            return Ok(());
        }
        for plan in ready {
            fault::point("finish.app").map_err(doing("beginning with an app"))?;
            self.say(&format!("{}: restoring", plan.name));
            let worked = self.work_on(plan);
            match worked {
                Ok(()) => self.say(&format!("{}: restored", plan.name)),
                Err(Trouble::Disk(error)) => return Err(error),
                Err(Trouble::Failed(why)) => self.stop(&plan.name, &why, true)?,
                Err(Trouble::NotNow(why)) => self.stop(&plan.name, &why, false)?,
                Err(Trouble::Never(why)) => self.give_up(&plan.name, &why)?,
                Err(Trouble::Gone(why)) => {
                    self.driver = None;
                    self.stop(&plan.name, &why, true)?;
                    if let Err(why) = self.machine.repair_packages() {
                        self.say(&why);
                    }
                }
            }
        }
        self.notify()
    }

    /// Asks the apps that were finished once more, when all of them and FreedomBox run together: another app's names and
    /// certificates may have stopped one. What does not answer any more is not finished.
    fn look_again(&mut self, ready: &[AppPlan]) -> Result<(), RestoreError> {
        let progress = self.progress()?;
        let is_finished = |app: &AppId| progress.iter().any(|seen| seen.name == *app && seen.stand == Stand::Finished);
        let finished: Vec<&AppPlan> =
            ready.iter().filter(|plan| !plan.is_folders() && is_finished(&plan.name)).collect();
        if finished.is_empty() {
            return Ok(());
        }
        std::thread::sleep(pace::start());
        let mut changed = false;
        for plan in finished {
            match self.ask(plan) {
                Ok(None) => {}
                Ok(Some(what)) => {
                    self.restore.record(Record::Attempt { app: plan.name.clone() })?;
                    self.stop(&plan.name, &format!("it answered, and does not any more: {what}"), true)?;
                    changed = true;
                }
                Err(Trouble::Disk(error)) => return Err(error),
                // Who cannot be asked has not failed: it answered before.
                Err(Trouble::Failed(why) | Trouble::NotNow(why) | Trouble::Never(why) | Trouble::Gone(why)) => {
                    self.driver = None;
                    self.say(&format!("{}: it could not be asked once more: {why}", plan.name));
                }
            }
        }
        if changed {
            self.notify()?;
        }
        self.driver = None;
        self.machine.repair_owners()
    }

    /// What of an app does not answer, asked while FreedomBox runs.
    fn ask(&mut self, plan: &AppPlan) -> Result<Option<String>, Trouble> {
        self.driver(false)?;
        let Some(driver) = self.driver.as_mut() else { return Err(Trouble::Gone("it is gone".into())) };
        app::silent(&self.restore, driver, plan)
    }

    fn work_on(&mut self, plan: &AppPlan) -> Result<(), Trouble> {
        if self.driver.is_none() {
            self.driver(true)?.begin()?;
        }
        let Some(driver) = self.driver.as_mut() else { return Err(Trouble::Gone("it is gone".into())) };
        match plan.is_folders() {
            true => folders::work(&mut self.restore, driver, plan, self.scene.asked)?,
            false => app::work(&mut self.restore, driver, self.machine, plan)?,
        }
        if self.is_committed() {
            // Nobody can undo it any more.
            self.restore.free_old(&plan.name)?;
        }
        Ok(())
    }

    fn is_committed(&self) -> bool {
        self.restore.records().iter().any(|record| matches!(record, Record::Committed))
    }

    /// The people of the plan whom this box does not know.
    fn missing_people(&mut self) -> Vec<String> {
        let people = self.restore.plan().people.clone();
        if people.is_empty() {
            return people;
        }
        let asked = (people.iter().cloned().collect(), Default::default());
        match self.driver(false).and_then(|driver| driver.numbers(&asked)) {
            Ok(known) => people.into_iter().filter(|name| !known.users.contains_key(name)).collect(),
            Err(_) => people,
        }
    }

    fn summary(&self) -> Result<(String, String, &'static str), RestoreError> {
        let (title, mut message, severity) = summary(&restore::restores(self.scene.root)?);
        if let Some(missing) = self.missing.as_ref().filter(|missing| !missing.is_empty()) {
            message = format!("{}. {message}", people_missing(missing));
        }
        Ok((title, message, severity))
    }

    /// Shows how far the restores are.
    fn notify(&mut self) -> Result<(), RestoreError> {
        let (title, message, severity) = self.summary()?;
        if let Err(error) = self.driver(false).and_then(|driver| driver.notify(&title, &message, severity)) {
            self.say(&format!("showing a notification did not work: {error}"));
        }
        Ok(())
    }

    /// The same while FreedomBox runs: before the work, or where nothing could be done now.
    fn notify_running(&mut self) {
        if self.notify().is_err() {
            return;
        }
        self.driver = None;
        // Written by root, into a database of FreedomBox's.
        if let Err(error) = self.machine.repair_owners() {
            self.say(&error.to_string());
        }
    }

    /// Notes why the work on an app stopped; the same reason twice is noted once. Too many failures end it.
    fn stop(&mut self, app: &AppId, why: &str, failure: bool) -> Result<(), RestoreError> {
        self.say(&format!("{app}: {why}"));
        let record = Record::Stopped { app: app.clone(), why: why.to_owned(), failure };
        let of = |record: &&Record| matches!(record, Record::Attempt { app: of } | Record::Stopped { app: of, .. } if of == app);
        if failure || self.restore.records().iter().rev().find(of) != Some(&record) {
            self.restore.record(record)?;
        }
        let failures = self.failures(app)?;
        if failures >= TRIES {
            self.give_up(app, &format!("{failures} attempts failed; the last: {why}"))
        } else {
            Ok(())
        }
    }

    fn give_up(&mut self, app: &AppId, why: &str) -> Result<(), RestoreError> {
        self.say(&format!("{app}: NOT restored: {why}"));
        self.restore.record(Record::GaveUp { app: app.clone(), why: why.to_owned() })
    }
}

/// Why an app cannot be worked on.
enum Reach {
    NotNow(String),
    Failed(String),
    Never(String),
}

impl From<DriverError> for Reach {
    fn from(error: DriverError) -> Reach {
        Reach::Failed(error.to_string())
    }
}

/// Whether the package manager failed at reaching somebody.
fn is_network(why: &str) -> bool {
    let marks = [
        "Failed to fetch",
        "Unable to fetch",
        "resolv",
        "connect",
        "timed out",
        "Some files failed",
        "Could not get lock",
    ];
    marks.iter().any(|mark| why.contains(mark))
}
