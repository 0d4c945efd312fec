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

mod app;
mod back;
mod besides;
mod cluster;
mod driver;
mod dumps;
mod extras;
mod folders;
mod machine;
mod pace;
mod report;
mod run;

pub use back::take_back;
pub use report::keep_report;

use crate::handoff;
use crate::model::finish::{AppProgress, Stand};
use crate::model::plan::PlanId;
use crate::restore::journal::Record;
use crate::restore::{self, Restore, RestoreError, Standing, doing};
use crate::sys::dir::Dir;
use crate::sys::host::Host;
use besides::Besides;
use extras::Turn;
use machine::Machine;
use run::Run;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

/// How long FreedomBox's service is waited for.
const SERVICE: Duration = Duration::from_secs(600);
/// How long the old data is kept after everything was done.
const KEPT_DAYS: i64 = 14;

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

impl Scene<'_> {
    /// The machine, as everything here asks it; `talk` hears what is done.
    fn machine<'m>(&'m self, talk: &'m dyn Fn(&str)) -> Machine<'m> {
        let commands = self.host.commands().as_ref();
        Machine { commands, root: self.root, at: self.at, talk, pause: pace::pause() }
    }
}

/// What a run left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Whether anything was tried; `false` when it was too early or nothing waits.
    pub tried: bool,
    /// Why nothing could be tried at all, where that is so.
    pub why: Option<String>,
    /// What came of the rest besides apps, a sentence for each kind.
    pub besides: Vec<String>,
    /// Whether some of that can never come.
    pub has_lost: bool,
}

/// Does what the restores on the box left to it. Where a network came meanwhile, what still waits is tried once more.
pub fn finish(scene: &Scene) -> Result<Outcome, RestoreError> {
    let mut besides = Besides::default();
    let mut outcome = attempt(scene, &mut besides)?;
    if outcome.tried && pace::has_changed(scene.host) && !waiting(scene)?.is_empty() {
        outcome.why = attempt(scene, &mut besides)?.why;
    }
    outcome.has_lost = besides.has_lost();
    outcome.besides = besides.sentences();
    Ok(outcome)
}

fn attempt(scene: &Scene, besides: &mut Besides) -> Result<Outcome, RestoreError> {
    let waiting = waiting(scene)?;
    if waiting.is_empty() && !extras::are_waiting(scene)? {
        settle(scene)?;
        return Ok(Outcome::default());
    }
    if !scene.asked && !pace::is_due(scene.host) && !folders::has_come(scene, &waiting)? {
        return Ok(Outcome::default());
    }
    let log = report::open_log(scene.root)?;
    let heard = log.clone();
    let talk = move |sentence: &str| {
        heard(sentence.as_bytes());
        (scene.talk)(sentence);
    };
    let (before, network) = (ended(scene)?, pace::network(scene.host));
    let machine = scene.machine(&talk);
    let mut outcome = Outcome { tried: true, ..Outcome::default() };
    extras::bring(scene, &machine, &log, Turn::First, besides)?;
    for id in waiting {
        let restore = Restore::go_on(scene.root.again().map_err(doing("opening the box's root"))?, &id)?;
        restore.remark().into_iter().for_each(scene.talk);
        let mut run = Run::new(scene, &machine, &log, restore);
        outcome.why = run.run()?;
        if let Some(missing) = run.missing.take() {
            besides.missing(id, missing);
        }
        if outcome.why.is_some() {
            break;
        }
    }
    extras::bring(scene, &machine, &log, Turn::Last, besides)?;
    settle(scene)?;
    pace::note(scene.host, ended(scene)? > before, network);
    Ok(outcome)
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
    if all.iter().any(|standing| !standing.waiting.is_empty()) || extras::are_waiting(scene)? {
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
/// left to do, and only by a clock that the network has set. Where an app was given up, its owner may still
/// want to undo, and has to say so.
pub fn is_over(scene: &Scene) -> Result<bool, RestoreError> {
    let Some(standing) = restore::standing(scene.root)?.filter(Standing::is_open) else { return Ok(false) };
    let machine = scene.machine(&|_| {});
    if !standing.waiting.is_empty()
        || standing.progress.iter().any(|app| app.stand == Stand::NotRestored)
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
    let machine = scene.machine(&|_| {});
    let asked = machine.run("systemctl", &["is-active", "--quiet", "sysinit.target"]);
    asked.is_ok_and(|output| output.status == Some(0))
}
