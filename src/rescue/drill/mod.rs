//! The rehearsal of a restore: everything up to the plan, with a judgement of each part and nothing written.
//!
//! Runs the same stages as a restore, so that a drill passes only where a restore would. What the box itself keeps is no
//! help: on the day of need the box may be gone. Nothing that stops a stage is an error here; it is a fault that is
//! named.

mod judgement;

use super::prepare::{Prepared, learn_from, prepare, verify_archive};
use super::reach::{self, location};
use super::{Backup, Request};
use crate::failure::Failure;
use crate::model::app::AppId;
use crate::model::archive::{ArchiveId, Generation};
use crate::model::bytes;
use crate::model::ending::Ending;
use crate::model::finding::{Report, Severity};
use crate::model::installation::Installation;
use crate::model::manifest::{self, Manifest};
use crate::model::path::RelPath;
use crate::model::plan::RestorePlan;
use crate::model::progress::{Progress, Watched};
use crate::model::secret::Secret;
use crate::model::site::{AREA, Free, Ground, Site};
use crate::model::size::ByteSize;
use crate::model::version::Version;
use crate::plan::{self, Input};
use crate::source::Unlock;
use crate::survey::target::Access;
use crate::sys::host::Host;
use crate::verify::{Contents, NoObserver};
use judgement::{checks, faults, remarks, stopped};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// What to rehearse.
#[derive(Debug, Clone)]
pub struct DrillRequest {
    /// Where the backup is.
    pub from: PathBuf,
    /// Which backup; the newest where absent.
    pub archive: Option<ArchiveId>,
    /// The box; a freshly installed one of the newest known FreedomBox where absent.
    pub onto: Option<PathBuf>,
    /// Only these apps; all in the backup where absent.
    pub apps: Option<Vec<AppId>>,
    /// The program for the box, where this one does not fit its architecture.
    pub program: Option<PathBuf>,
    /// How many days the backup may be old.
    pub max_age: Option<u32>,
}

/// The result of a rehearsal.
#[derive(Debug, Serialize)]
pub struct Drill {
    /// When it was made, RFC 3339 UTC.
    pub made: String,
    /// Whether a restore would bring everything back.
    pub result: Outcome,
    /// Where the backup is, as it was named.
    #[serde(with = "bytes::path")]
    pub from: PathBuf,
    /// How many backups are there.
    pub backups: usize,
    /// How many days the backup is old, where its time is known.
    pub age_days: Option<i64>,
    /// Whether a box was named; without one, the target is a freshly installed FreedomBox.
    pub has_box: bool,
    /// The parts, in their order.
    pub checks: Vec<Check>,
    /// What is wrong, the worst first; empty when it passed.
    pub faults: Vec<Fault>,
    /// What is worth knowing besides.
    pub remarks: Vec<String>,
    /// What the restore would do, where it came so far.
    pub plan: Option<RestorePlan>,
}

/// How a part went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Well.
    Pass,
    /// A fault was found.
    Fail,
    /// An earlier fault was in the way.
    NotReached,
}

/// The parts of a rehearsal, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// The backup is there, and young enough.
    Backup,
    /// The box can be restored onto.
    Box,
    /// What opens the backup is at hand.
    Passphrase,
    /// Every byte could be read and is right.
    Content,
    /// The dumps of databases are whole.
    Databases,
    /// The box's FreedomBox can take each app's data.
    Versions,
    /// There is room.
    Space,
}

/// One part and how it went.
#[derive(Debug, Serialize)]
pub struct Check {
    /// Which part.
    pub part: Part,
    /// How it went.
    pub outcome: Outcome,
    /// What was seen; empty where a fault says it.
    pub what: String,
}

/// Something that would keep a restore from bringing everything back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The part in which it was found.
    pub part: Part,
    /// What is the matter, a sentence without a full stop.
    pub what: String,
    /// What to do about it; may be empty.
    pub advice: String,
    /// How a restore would end; the first fault's decides the exit code.
    pub ending: Ending,
}

impl Drill {
    /// How the command ends.
    pub fn ending(&self) -> Ending {
        self.faults.first().map_or(Ending::Done, |fault| fault.ending)
    }
}

/// Rehearses a restore.
pub fn drill(host: &Host, request: &DrillRequest, unlock: &mut dyn Unlock, progress: &dyn Progress) -> Drill {
    let now = jiff::Timestamp::try_from(host.clock().now()).unwrap_or_default();
    let mut witness = Witness { inner: unlock, was_asked: false, kept_by: Vec::new() };
    let mut drill = Drill {
        made: now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        result: Outcome::Pass,
        from: request.from.clone(),
        backups: 0,
        age_days: None,
        has_box: request.onto.is_some(),
        checks: Vec::new(),
        faults: Vec::new(),
        remarks: Vec::new(),
        plan: None,
    };
    let _watched = Watched::by(progress);
    let rehearsed = rehearse(host, request, &mut drill, &mut witness, progress);
    let unread = std::mem::take(&mut drill.faults);
    match rehearsed {
        Ok(Rehearsed { report, plan }) => {
            let made = plan.archive_time.as_deref().and_then(|time| time.parse::<jiff::Timestamp>().ok());
            drill.age_days = made.map(|made| now.as_second().saturating_sub(made.as_second()) / DAY);
            drill.faults = unread.into_iter().chain(faults(request, &drill, &report, &plan)).collect();
            drill.remarks.extend(remarks(&report, &plan, &witness));
            drill.checks = checks(&drill, &report, &plan, witness.was_asked);
            drill.plan = Some(plan);
        }
        Err(failure) => {
            if let (Ending::WrongPassphrase, Some(onto)) = (failure.ending, &request.onto) {
                // Only to tell what the box keeps; whether it can be restored onto is another matter.
                let _ = learn_from(host, onto, &mut witness);
            }
            stopped(&mut drill, &failure, &witness);
            drill.faults.extend(unread);
        }
    }
    drill.result = if drill.faults.is_empty() { Outcome::Pass } else { Outcome::Fail };
    drill
}

const DAY: i64 = 24 * 60 * 60;

/// What a rehearsal that came to its end leaves.
struct Rehearsed {
    report: Report,
    plan: RestorePlan,
}

fn rehearse(
    host: &Host,
    request: &DrillRequest,
    drill: &mut Drill,
    unlock: &mut Witness<'_>,
    progress: &dyn Progress,
) -> Result<Rehearsed, Failure> {
    let archive = newest(host, request, drill, unlock)?;
    let Some(onto) = &request.onto else { return onto_nothing(host, request, archive.as_ref(), unlock, progress) };
    let restore = Request {
        from: Backup::At(request.from.clone()),
        archive,
        onto: onto.clone(),
        apps: request.apps.clone(),
        extras: Vec::new(),
        accept_damage: false,
        program: request.program.clone(),
        papers: None,
    };
    let Prepared { report, plan, .. } = prepare(host, &restore, Access::Read, unlock, progress)?;
    Ok(Rehearsed { report, plan })
}

/// The backup that was named, or the newest where several are there; `None` for the only one.
fn newest(
    host: &Host,
    request: &DrillRequest,
    drill: &mut Drill,
    unlock: &mut dyn Unlock,
) -> Result<Option<ArchiveId>, Failure> {
    drill.backups = 1;
    let place = location(host, &request.from, unlock)?;
    if request.archive.is_some() || !place.path.is_dir() {
        return Ok(request.archive.clone());
    }
    let mut listing = reach::list(host, &place, false, unlock)?;
    // A backup is what is rehearsed; the system that lies beside it may be gone on the day of need.
    if listing.archives.iter().any(|archive| archive.generation != Generation::System) {
        listing.archives.retain(|archive| archive.generation != Generation::System);
    }
    drill.backups = listing.archives.len();
    // What could not be read may be newer than what could.
    for finding in listing.findings.into_iter().filter(|finding| finding.severity > Severity::Note) {
        let what = format!("{}: {}", finding.subject, finding.what);
        match finding.severity {
            Severity::Damage => {
                let what = format!("{what}; it may be newer than the backup that was rehearsed");
                let (part, advice, ending) = (Part::Backup, finding.advice, Ending::VerificationFailed);
                drill.faults.push(Fault { part, what, advice, ending });
            }
            _ => drill.remarks.push(what),
        }
    }
    Ok(listing.archives.last().map(|archive| archive.id.clone()))
}

/// Rehearses with a freshly installed box that is not there: the newest FreedomBox that is known, with room for all.
fn onto_nothing(
    host: &Host,
    request: &DrillRequest,
    archive: Option<&ArchiveId>,
    unlock: &mut dyn Unlock,
    progress: &dyn Progress,
) -> Result<Rehearsed, Failure> {
    let place = location(host, &request.from, unlock)?;
    let mut archive = reach::open(host, &place, archive, unlock)?;
    let apps = request.apps.as_deref();
    let verified = verify_archive(archive.as_mut(), apps, &[], &mut NoObserver, progress)?;
    let installation = fresh();
    let plan = plan::plan(&Input {
        installation: &installation,
        summary: &verified.summary,
        report: &verified.report,
        contents: &verified.contents,
        ground: &empty_ground(&verified.contents, &installation),
        unknown_owners: &BTreeSet::new(),
        chosen: apps,
        accept_damage: false,
        can_finish: true,
        held: archive.extras(),
        extras: &[],
        growth: None,
        unfinished: None,
    });
    Ok(Rehearsed { report: verified.report, plan })
}

/// A box that was just installed. Of its Debian release nothing is said.
fn fresh() -> Installation {
    let releases = manifest::all().iter().flat_map(|app| &app.releases).map(|release| &release.freedombox);
    Installation {
        place: String::new(),
        root: PathBuf::new(),
        filesystem: None,
        uuid: None,
        architecture: String::new(),
        suite: String::new(),
        os: String::new(),
        hostname: String::new(),
        freedombox: releases.max().cloned().unwrap_or_else(|| Version::new("0")),
        booted: false,
        wizard_done: false,
        disk_image: false,
        apps: BTreeMap::new(),
        packages: BTreeSet::new(),
        passphrases: Vec::new(),
        settings: Default::default(),
        web_users: Vec::new(),
        locations: Vec::new(),
        domains: Vec::new(),
    }
}

/// The ground of a box on which nothing is yet.
fn empty_ground(contents: &Contents, installation: &Installation) -> Ground {
    let Ok(area) = AREA.parse::<RelPath>() else { return Ground::default() };
    let site = Site { area: area.clone(), live: None, dropins: Vec::new(), sidecars: Vec::new(), refusal: None };
    let places = contents.roots.iter().flat_map(|root| {
        let of = move |app: &Manifest| app.destinations(&root.path, &installation.version_of_paths(app));
        manifest::all().iter().flat_map(of).map(|(_, to)| to)
    });
    let sites = places.map(|to| (to, site.clone())).collect();
    let free = BTreeMap::from([(area, Free { bytes: ByteSize(u64::MAX), inodes: None })]);
    Ground { sites, changes: BTreeMap::new(), free }
}

/// Passes questions on, notes that there were some, and takes nothing from the systems that are looked at.
struct Witness<'a> {
    inner: &'a mut dyn Unlock,
    was_asked: bool,
    kept_by: Vec<String>,
}

impl Unlock for Witness<'_> {
    fn passphrase(&mut self, place: &str, attempt: u32) -> Option<Secret> {
        self.was_asked = true;
        self.inner.passphrase(place, attempt)
    }

    fn learn(&mut self, system: &str, passphrases: &[Secret]) {
        let name = format!("'{system}'");
        if !passphrases.is_empty() && !self.kept_by.contains(&name) {
            self.kept_by.push(name);
        }
    }

    fn key_file(&self) -> Option<&[u8]> {
        self.inner.key_file()
    }
}
