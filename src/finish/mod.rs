//! Finishing a restore on the running box: install, move the data in, import, upgrade, check, one app at a time.
//!
//! Owns what happens to the apps that the plan left to the running box. FreedomBox itself does what it does for its own
//! restores: `driver.py` asks it, Rust decides, moves, records. Never breaks FreedomBox: its service runs again however
//! a run ends, packages are never left half-installed, and one app that fails costs the others nothing.
//!
//! Invariants:
//! - Before every change a record, after it another one; a power cut is gone on from by looking at the disk.
//! - Parked data moves by one rename and is never removed; what was in its place is kept until `commit`.
//! - Waiting for packages is no failure, however long it takes. After five failures an app is given up, and that is
//!   said; it is never called finished.

mod accounts;
mod app;
mod driver;
mod machine;
mod pace;

use crate::handoff;
use crate::model::app::AppId;
use crate::model::finish::{AppProgress, Stand};
use crate::model::plan::{AppPlan, PlanId};
use crate::restore::journal::Record;
use crate::restore::{self, Restore, RestoreError, Standing, doing};
use crate::sys::dir::{self, Dir};
use crate::sys::fault;
use crate::sys::host::Host;
use app::Trouble;
use driver::{Driver, DriverError, Log};
use machine::{Fetched, Machine};
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

/// Attempts at an app that may fail.
const TRIES: u32 = 5;
/// How long the first setup of a new box is waited for; it took up to 142 s on a fast machine.
const FIRST_SETUP: Duration = Duration::from_secs(3600);
/// How long FreedomBox's service is waited for.
const SERVICE: Duration = Duration::from_secs(600);
/// How long the old data is kept after everything was done.
const KEPT_DAYS: i64 = 14;
/// Directory of the report and of the log.
const LOGS: &str = "var/log/lifeboat";

/// What a run on the running box is made of.
pub struct Scene<'a> {
    /// The machine.
    pub host: &'a Host,
    /// The box's root.
    pub root: &'a Dir,
    /// Where that root is.
    pub at: &'a Path,
    /// Says a sentence to whoever watches.
    pub talk: &'a (dyn Fn(&str) + Sync),
    /// Whether a person asked for it: then apps that were given up are tried again, and no pause is kept.
    pub asked: bool,
}

/// What a run left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Whether anything was tried; `false` when it was too early or nothing waits.
    pub tried: bool,
    /// Why nothing could be tried at all, where that is so.
    pub why: Option<String>,
}

/// Does what the restores on the box left to it.
pub fn finish(scene: &Scene) -> Result<Outcome, RestoreError> {
    let waiting = waiting(scene)?;
    let people = accounts::are_waiting(scene)?;
    if waiting.is_empty() && !people {
        settle(scene)?;
        return Ok(Outcome::default());
    }
    if !scene.asked && !pace::is_due(scene.host) {
        return Ok(Outcome::default());
    }
    let log = open_log(scene.root)?;
    let heard = log.clone();
    let talk = move |sentence: &str| {
        heard(sentence.as_bytes());
        (scene.talk)(sentence);
    };
    let before = ended(scene)?;
    let machine = Machine {
        commands: scene.host.commands().as_ref(),
        root: scene.root,
        at: scene.at,
        talk: &talk,
        pause: pause(),
    };
    let mut why = None;
    if people {
        accounts::bring(scene, &machine, &log)?;
    }
    for id in waiting {
        let restore = Restore::go_on(scene.root.again().map_err(doing("opening the box's root"))?, &id)?;
        let mut run = Run { scene, machine: &machine, log: &log, restore, driver: None };
        why = run.run()?;
        if why.is_some() {
            break;
        }
    }
    settle(scene)?;
    pace::note(scene.host, ended(scene)? > before);
    Ok(Outcome { tried: true, why })
}

/// The restores that have something to do here, the oldest first.
fn waiting(scene: &Scene) -> Result<Vec<PlanId>, RestoreError> {
    let is_wanted = |app: &AppProgress| app.stand == Stand::Waiting || (scene.asked && app.stand == Stand::NotRestored);
    let has_work = |standing: &Standing| standing.progress.iter().any(is_wanted);
    Ok(restore::restores(scene.root)?.into_iter().filter(has_work).map(|standing| standing.id).collect())
}

/// How many apps are neither waiting nor new: grows when a run gets on.
fn ended(scene: &Scene) -> Result<usize, RestoreError> {
    let all = restore::restores(scene.root)?;
    Ok(all.iter().flat_map(|standing| &standing.progress).filter(|app| app.stand != Stand::Waiting).count())
}

/// When nothing waits any more: the scheduled start is not needed, and after a commit nothing of Lifeboat is.
fn settle(scene: &Scene) -> Result<(), RestoreError> {
    let all = restore::restores(scene.root)?;
    if all.iter().any(|standing| !standing.waiting.is_empty()) || accounts::are_waiting(scene)? {
        return Ok(());
    }
    handoff::clear(scene.root)?;
    // Without its job it would only be started in vain until the next boot, which does not start it.
    let timer = ["--no-block", "stop", "lifeboat-finish.timer"].map(std::ffi::OsStr::new);
    let _ = scene.host.commands().run("systemctl", &timer);
    for standing in all.iter().filter(|standing| !standing.is_open()) {
        Restore::go_on(scene.root.again().map_err(doing("opening the box's root"))?, &standing.id)?.leave()?;
    }
    Ok(())
}

/// Whether the old data of the restore has been kept for long enough. Counts from the first day on which nothing was
/// left to do, and only by a clock that the network has set.
pub fn is_over(scene: &Scene) -> Result<bool, RestoreError> {
    let Some(standing) = restore::standing(scene.root)?.filter(Standing::is_open) else { return Ok(false) };
    let machine = Machine {
        commands: scene.host.commands().as_ref(),
        root: scene.root,
        at: scene.at,
        talk: &|_| {},
        pause: pause(),
    };
    if !standing.waiting.is_empty()
        || standing.state != crate::model::state::RestoreState::Restored
        || !machine.has_right_clock()
    {
        return Ok(false);
    }
    let now = scene.host.clock().now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    match standing.settled {
        Some(at) => Ok(now.saturating_sub(at) >= KEPT_DAYS.saturating_mul(24 * 3600)),
        None => {
            let root = scene.root.again().map_err(doing("opening the box's root"))?;
            Restore::go_on(root, &standing.id)?.record(Record::Settled { at: now })?;
            Ok(false)
        }
    }
}

/// Whether the system is so far up that services can be asked: not while the guard works before any of them.
pub fn is_up(scene: &Scene) -> bool {
    let machine = Machine {
        commands: scene.host.commands().as_ref(),
        root: scene.root,
        at: scene.at,
        talk: &|_| {},
        pause: pause(),
    };
    let asked = machine.run("systemctl", &["is-active", "--quiet", "sysinit.target"]);
    asked.is_ok_and(|output| output.status == Some(0))
}

/// Brings back what the apps had before, with FreedomBox's help: services stop and start around the files, and databases
/// are imported as they were. [`Restore::undo`] does the rest.
pub fn take_back(scene: &Scene, restore: &mut Restore) -> Result<(), RestoreError> {
    let changed = |record: &Record| matches!(record, Record::Exchanging { .. } | Record::Moving { .. });
    if !restore.records().iter().any(changed) {
        return Ok(());
    }
    restore.mark_interrupted()?;
    restore.begin_undoing()?;
    let log = open_log(scene.root)?;
    let machine = Machine {
        commands: scene.host.commands().as_ref(),
        root: scene.root,
        at: scene.at,
        talk: scene.talk,
        pause: pause(),
    };
    let taken = (|| -> Result<(), Trouble> {
        machine.stop_service().map_err(Trouble::Failed)?;
        let mut driver = Driver::start(&machine, scene.host, &log, true)?;
        driver.begin()?;
        let apps = restore.plan().apps.clone();
        for plan in apps.iter().rev().filter(|app| app.road.restores()) {
            (scene.talk)(&format!("{}: bringing back what it had before", plan.name));
            match app::take_back(restore, &mut driver, plan) {
                Ok(()) => {}
                // Its files can be put back without FreedomBox; its database cannot.
                Err(Trouble::Failed(why)) if !restore.imported().contains(&plan.name) => {
                    (scene.talk)(&format!("{}: {why}", plan.name))
                }
                Err(trouble) => return Err(trouble),
            }
        }
        Ok(())
    })();
    machine.repair_owners()?;
    machine.start_service();
    match taken {
        Ok(()) => Ok(()),
        Err(Trouble::Disk(error)) => Err(error),
        Err(Trouble::Failed(why) | Trouble::Gone(why)) => {
            Err(doing("bringing back what the apps had before")(std::io::Error::other(why)))
        }
    }
}

/// Writes the report of a run for people and for programs, readable by root only.
pub fn keep_report(root: &Dir, text: &str, json: &[u8]) -> Result<(), RestoreError> {
    let logs = logs(root)?;
    for (name, content) in [(&b"report.txt"[..], text.as_bytes()), (b"report.json", json)] {
        let new = [name, b".new"].concat();
        let write = || -> std::io::Result<()> {
            if logs.stat_child(&new)?.is_some() {
                logs.remove_file(&new)?;
            }
            let mut file = logs.create_file(&new)?;
            file.write_all(content)?;
            dir::sync_file(&file)?;
            logs.replace(&new, name)
        };
        write().map_err(doing("writing the report"))?;
    }
    logs.sync().map_err(doing("writing the report"))
}

fn logs(root: &Dir) -> Result<Dir, RestoreError> {
    let failed = || doing(format!("opening \"{LOGS}\""));
    let mut at = root.again().map_err(failed())?;
    for name in LOGS.split('/') {
        at.make_child(name.as_bytes()).map_err(failed())?;
        at = at.child(name.as_bytes()).map_err(failed())?;
    }
    Ok(at)
}

/// The log of everything that FreedomBox and its packages said.
fn open_log(root: &Dir) -> Result<Log, RestoreError> {
    let file = logs(root)?.append_file(b"finish.log").map_err(doing("opening the log"))?;
    let file = Mutex::new(file);
    Ok(Arc::new(move |line: &[u8]| {
        if let Ok(mut file) = file.lock() {
            // A log that cannot be written must not stop a restore.
            let _ = file.write_all(&[line, b"\n"].concat());
        }
    }))
}

/// Whether the programs of this machine are a test's: its services never take time.
fn is_staged() -> bool {
    cfg!(feature = "faults") && std::env::var_os("LIFEBOAT_PROGRAMS").is_some()
}

/// How long to wait between two looks at a service.
fn pause() -> Duration {
    if is_staged() { Duration::from_millis(10) } else { Duration::from_secs(5) }
}

/// How long an app may take to answer after its data came. A board with one slow core takes minutes for a first page.
fn patience() -> Duration {
    if is_staged() { Duration::ZERO } else { Duration::from_secs(300) }
}

/// One run over the apps of one restore.
struct Run<'a> {
    scene: &'a Scene<'a>,
    machine: &'a Machine<'a>,
    log: &'a Log,
    restore: Restore,
    driver: Option<Driver>,
}

impl Run<'_> {
    /// Works on every app that can be worked on now. Says why where nothing could be tried at all.
    fn run(&mut self) -> Result<Option<String>, RestoreError> {
        self.machine.repair_owners()?;
        if !self.machine.await_service(SERVICE) {
            return Ok(Some("FreedomBox's service does not start".into()));
        }
        if let Err(error) = self.await_first_setup() {
            return Ok(Some(error.to_string()));
        }
        let ready = self.prepare()?;
        self.driver = None;
        if ready.is_empty() {
            self.notify_running();
            return Ok(None);
        }
        // Said before the work, which takes a while, and may take other notifications with it.
        self.notify_running();
        let worked = self.work(&ready);
        self.driver = None;
        self.machine.repair_owners()?;
        self.machine.start_service();
        worked?;
        if !self.machine.await_service(SERVICE) {
            return Ok(Some("FreedomBox's service does not start".into()));
        }
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

    /// The first start of a new box sets up what every FreedomBox has; until then nothing else can be.
    fn await_first_setup(&mut self) -> Result<(), DriverError> {
        let begun = std::time::Instant::now();
        let mut said = false;
        loop {
            let unready = match self.driver(false).and_then(Driver::unready) {
                Ok(unready) => unready,
                // Its database is not there or not complete yet.
                Err(error) if begun.elapsed() >= FIRST_SETUP => return Err(error),
                Err(_) => {
                    self.driver = None;
                    vec!["everything".into()]
                }
            };
            if unready.is_empty() || begun.elapsed() >= FIRST_SETUP {
                return Ok(());
            }
            if !said {
                self.say(&format!("waiting for FreedomBox's first setup ({})", unready.join(", ")));
                said = true;
            }
            std::thread::sleep(self.machine.pause);
        }
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
            match self.reach(&plan, &mut lists) {
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
        // An app that finds a database server while it is installed may keep its data there, and not in the file that was
        // restored; so the apps that bring a server come last.
        wanted.sort_by_key(app::imports);
        Ok(wanted)
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
        if lists.is_none() {
            self.machine.repair_packages().map_err(Reach::Failed)?;
        }
        if facts.is_set_up || (facts.packages.is_empty() && facts.missing.is_empty()) {
            lists.get_or_insert(Fetched::NotNow("the lists of packages were not needed".into()));
            return Ok(());
        }
        if !matches!(lists, Some(Fetched::Here)) {
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
                Err(Trouble::Gone(why)) => {
                    self.driver = None;
                    self.stop(&plan.name, &why, true)?;
                    if let Err(why) = self.machine.repair_packages() {
                        self.say(&why);
                    }
                }
            }
        }
        let (title, message, severity) = summary(&restore::restores(self.scene.root)?);
        if let Err(error) = self.driver(false).and_then(|driver| driver.notify(&title, &message, severity)) {
            self.say(&format!("showing a notification did not work: {error}"));
        }
        Ok(())
    }

    fn work_on(&mut self, plan: &AppPlan) -> Result<(), Trouble> {
        if self.driver.is_none() {
            self.driver(true)?.begin()?;
        }
        let Some(driver) = self.driver.as_mut() else { return Err(Trouble::Gone("it is gone".into())) };
        app::work(&mut self.restore, driver, plan, patience())?;
        if self.is_committed() {
            // Nobody can undo it any more.
            self.restore.free_old(&plan.name)?;
        }
        Ok(())
    }

    fn is_committed(&self) -> bool {
        self.restore.records().iter().any(|record| matches!(record, Record::Committed))
    }

    /// Shows a notification while FreedomBox runs: where nothing could be done now.
    fn notify_running(&mut self) {
        let shown = restore::restores(self.scene.root).map(|all| summary(&all));
        let Ok((title, message, severity)) = shown else { return };
        if let Err(error) = self.driver(false).and_then(|driver| driver.notify(&title, &message, severity)) {
            self.say(&format!("showing a notification did not work: {error}"));
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

/// Title, message and severity of the notification.
fn summary(all: &[Standing]) -> (String, String, &'static str) {
    let progress: Vec<&AppProgress> = all.iter().flat_map(|standing| &standing.progress).collect();
    let finished = progress.iter().filter(|app| app.stand == Stand::Finished).count();
    let in_place = all.iter().flat_map(|standing| &standing.done).count().saturating_sub(finished);
    let waiting: Vec<&&AppProgress> = progress.iter().filter(|app| app.stand == Stand::Waiting).collect();
    let lost: Vec<&&AppProgress> = progress.iter().filter(|app| app.stand == Stand::NotRestored).collect();
    let done = finished.saturating_add(in_place);
    let of = done.saturating_add(waiting.len()).saturating_add(lost.len());
    let mut title = format!("Restore: {done} of {of} apps restored");
    if !waiting.is_empty() {
        title += &format!(", {} waiting", waiting.len());
    }
    if !lost.is_empty() {
        title += &format!(", {} NOT restored", lost.len());
    }
    let mut message = String::new();
    for app in waiting.iter().chain(&lost) {
        let why = app.why.as_deref().unwrap_or("it is its turn soon");
        let short: String = why.chars().take(160).collect();
        message += &format!("{}: {short}. ", app.name);
    }
    if waiting.is_empty() && lost.is_empty() {
        message += "The old data is kept for 14 days. ";
    } else if !waiting.is_empty() {
        message += "It goes on by itself. ";
    }
    message += "Details: /var/log/lifeboat/report.txt on the box.";
    let severity = match (waiting.is_empty(), lost.is_empty()) {
        (_, false) => "error",
        (false, _) => "warning",
        _ => "info",
    };
    (title, message, severity)
}
