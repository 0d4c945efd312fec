//! What the installed system does at its next boot: units, the program and the job, written into the target.
//!
//! Owns `lifeboat-guard.service` (finishes an interrupted exchange before any app starts), `lifeboat-finish.service`
//! and `.timer` (finish what needs a running system), a script that has NetworkManager start it when a network comes,
//! `lifeboat-release.service` and `.timer` (remove the old data after 14 days), the program under `var/lib/lifeboat/bin`
//! and the job file. The job file tells people what waits, and its presence starts the work; what the work is, the
//! journals say. Every file is noted in the restore's journal before it is written, so `undo` removes it again; writing
//! twice is harmless.
//! Never starts anything and never touches FreedomBox's own files.

pub mod extras;
pub mod program;

use crate::model::app::AppId;
use crate::model::path::{BadPath, RelPath};
use crate::model::plan::{PlanId, Road};
use crate::restore::{Restore, RestoreError, doing};
use crate::sys::dir::Dir;
use serde::{Deserialize, Serialize};
use std::io::Read;

/// Where the program lies on the target.
pub const PROGRAM: &str = "var/lib/lifeboat/bin/lifeboat";
/// Where the job lies on the target.
pub const JOB: &str = "var/lib/lifeboat/handoff.json";
/// Directory of the units.
const UNITS: &str = "etc/systemd/system";

const GUARD: Unit = Unit {
    name: "lifeboat-guard.service",
    text: include_str!("units/lifeboat-guard.service"),
    wanted_by: Some("sysinit.target"),
};
const FINISH: [Unit; 2] = [
    Unit { name: "lifeboat-finish.service", text: include_str!("units/lifeboat-finish.service"), wanted_by: None },
    Unit {
        name: "lifeboat-finish.timer",
        text: include_str!("units/lifeboat-finish.timer"),
        wanted_by: Some("timers.target"),
    },
];

/// Starts the work when a network comes. NetworkManager runs only what root owns and nobody else can write.
const DISPATCHER: &str = "etc/NetworkManager/dispatcher.d/90-lifeboat";

/// Looks every day whether the old data was kept for long enough.
const RELEASE: [Unit; 2] = [
    Unit { name: "lifeboat-release.service", text: include_str!("units/lifeboat-release.service"), wanted_by: None },
    Unit {
        name: "lifeboat-release.timer",
        text: include_str!("units/lifeboat-release.timer"),
        wanted_by: Some("timers.target"),
    },
];

struct Unit {
    name: &'static str,
    text: &'static str,
    wanted_by: Option<&'static str>,
}

/// What the next boot has to do; the content of the job file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NextBoot {
    /// Form of this file; 1.
    pub format: u32,
    /// The restore that it belongs to.
    pub plan: PlanId,
    /// The apps that wait, in the plan's order.
    pub apps: Vec<Job>,
}

/// What the next boot has to do for one app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// The app.
    pub name: AppId,
    /// Whether its data is in place already or parked.
    pub road: Road,
    /// What is to be done, in words, in order.
    pub tasks: Vec<String>,
    /// Services around it.
    pub services: Vec<String>,
    /// Parked data and where it goes.
    pub moves: Vec<Move>,
}

/// One parked tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Move {
    /// Where it lies on the target.
    pub parked: RelPath,
    /// Where it goes.
    pub destination: RelPath,
}

/// Writes the program and the guard. From here on a power cut during the exchange is finished by the next boot.
pub fn guard(restore: &mut Restore, program: &mut dyn Read) -> Result<(), RestoreError> {
    restore.place_file(&path(PROGRAM)?, program, 0o755)?;
    place(restore, &GUARD)
}

/// Writes the job and the units that start it, where an app waits, and those that remove the old data in the end.
pub fn write(restore: &mut Restore) -> Result<NextBoot, RestoreError> {
    for unit in &RELEASE {
        place(restore, unit)?;
    }
    let next_boot = next_boot(restore);
    if next_boot.apps.is_empty() && restore.plan().extras.is_empty() {
        return Ok(next_boot);
    }
    let job = path(JOB)?;
    let json = serde_json::to_vec_pretty(&next_boot);
    let json = json.map_err(|error| RestoreError::Writing { path: job.clone(), source: error.into() })?;
    restore.place_file(&job, &mut json.as_slice(), 0o600)?;
    for unit in &FINISH {
        place(restore, unit)?;
    }
    let manager = path("etc/NetworkManager")?;
    if restore.root().stat(&manager).map_err(doing(format!("looking at \"{manager}\"")))?.is_some() {
        restore.place_file(&path(DISPATCHER)?, &mut &include_bytes!("units/90-lifeboat")[..], 0o755)?;
    }
    Ok(next_boot)
}

/// What the plan leaves to the next boot.
fn next_boot(restore: &Restore) -> NextBoot {
    let plan = restore.plan();
    let waiting = plan.apps.iter().filter(|app| app.waits_for_boot());
    let apps = waiting.map(|app| {
        let parked = plan.steps.iter().filter(|step| step.app == app.name && step.is_parked());
        let moves = parked.map(|step| Move { parked: step.place(), destination: step.destination.clone() });
        Job {
            name: app.name.clone(),
            road: app.road,
            tasks: app.next_boot.clone(),
            services: app.services.clone(),
            moves: moves.collect(),
        }
    });
    NextBoot { format: 1, plan: plan.id.clone(), apps: apps.collect() }
}

/// Removes the job of a box on which nothing waits any more: the scheduled start has nothing to do.
pub fn clear(root: &Dir) -> Result<(), RestoreError> {
    let job = path(JOB)?;
    let failed = || doing(format!("removing \"{job}\""));
    if root.stat(&job).map_err(failed())?.is_none() {
        return Ok(());
    }
    let at = root.parent(&job).map_err(failed())?;
    at.remove_file(job.file_name()).and_then(|()| at.sync()).map_err(failed())
}

/// Reads the job on a target; `None` where nothing was handed over.
pub fn read(root: &Dir) -> Result<Option<NextBoot>, RestoreError> {
    let job = path(JOB)?;
    let failed = || doing(format!("reading \"{job}\""));
    if root.stat(&job).map_err(failed())?.is_none() {
        return Ok(None);
    }
    let file = root.parent(&job).and_then(|at| at.read_file(job.file_name())).map_err(failed())?;
    serde_json::from_reader(std::io::BufReader::new(file)).map(Some).map_err(|error| failed()(error.into()))
}

fn place(restore: &mut Restore, unit: &Unit) -> Result<(), RestoreError> {
    restore.place_file(&path(&format!("{UNITS}/{}", unit.name))?, &mut unit.text.as_bytes(), 0o644)?;
    if let Some(target) = unit.wanted_by {
        let link = path(&format!("{UNITS}/{target}.wants/{}", unit.name))?;
        restore.place_link(&link, format!("/{UNITS}/{}", unit.name).as_bytes())?;
    }
    Ok(())
}

fn path(text: &str) -> Result<RelPath, BadPath> {
    text.parse()
}
