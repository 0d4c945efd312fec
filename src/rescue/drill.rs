//! The rehearsal of a restore: everything up to the plan, with a judgement of each part and nothing written.
//!
//! Runs the same stages as a restore, so that a drill passes only where a restore would. What the box itself keeps is no
//! help: on the day of need the box may be gone. Nothing that stops a stage is an error here; it is a fault that is
//! named.

use super::prepare::{Prepared, learn_from, prepare, verify_archive};
use super::reach::{self, location};
use super::{Backup, Request};
use crate::failure::Failure;
use crate::model::app::AppId;
use crate::model::archive::{ArchiveId, Generation};
use crate::model::bytes;
use crate::model::ending::Ending;
use crate::model::finding::{DumpState, Finding, Report, Severity, Verdict};
use crate::model::installation::Installation;
use crate::model::manifest;
use crate::model::path::RelPath;
use crate::model::plan::{BlockerKind, RestorePlan, Road, VersionVerdict};
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
    match rehearse(host, request, &mut drill, &mut witness, progress) {
        Ok(Rehearsed { report, plan }) => {
            let made = plan.archive_time.as_deref().and_then(|time| time.parse::<jiff::Timestamp>().ok());
            drill.age_days = made.map(|made| now.as_second().saturating_sub(made.as_second()) / DAY);
            drill.faults = faults(request, &drill, &report, &plan);
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
    let unread = listing.findings.iter().filter(|finding| finding.severity > Severity::Note);
    drill.remarks.extend(unread.map(|finding| format!("{}: {}", finding.subject, finding.what)));
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
        ground: &empty_ground(&verified.contents, &installation.freedombox),
        unknown_owners: &BTreeSet::new(),
        chosen: apps,
        accept_damage: false,
        can_finish: true,
        held: archive.extras(),
        extras: &[],
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
fn empty_ground(contents: &Contents, freedombox: &Version) -> Ground {
    let Ok(area) = AREA.parse::<RelPath>() else { return Ground::default() };
    let site = Site { area: area.clone(), live: None, dropins: Vec::new(), sidecars: Vec::new(), refusal: None };
    let places = contents.roots.iter().flat_map(|root| {
        manifest::all().iter().flat_map(move |app| app.destinations(&root.path, freedombox)).map(|(_, to)| to)
    });
    let sites = places.map(|to| (to, site.clone())).collect();
    let free = BTreeMap::from([(area, Free { bytes: ByteSize(u64::MAX), inodes: None })]);
    Ground { sites, changes: BTreeMap::new(), free }
}

/// A stage could not be done. Of the other parts only the backup's place was surely reached.
fn stopped(drill: &mut Drill, failure: &Failure, witness: &Witness<'_>) {
    let part = match failure.ending {
        Ending::WrongPassphrase => Part::Passphrase,
        Ending::RefusedTarget => Part::Box,
        Ending::VerificationFailed | Ending::Usage => Part::Content,
        _ => Part::Backup,
    };
    let mut advice = failure.advice.clone();
    if part == Part::Passphrase && !witness.kept_by.is_empty() {
        advice = format!(
            "{advice}. {} keeps passphrases itself, but they are lost when it is: keep a copy elsewhere",
            witness.kept_by.join(" and ")
        );
    }
    drill.faults.push(Fault { part, what: failure.sentence.clone(), advice, ending: failure.ending });
    drill.checks.extend(ALL.map(|each| {
        let outcome = match each {
            _ if each == part => Outcome::Fail,
            Part::Backup => Outcome::Pass,
            _ => Outcome::NotReached,
        };
        Check { part: each, outcome, what: String::new() }
    }));
}

const ALL: [Part; 7] =
    [Part::Backup, Part::Box, Part::Passphrase, Part::Content, Part::Databases, Part::Versions, Part::Space];

/// Everything that a restore would not bring back, or not at all, the worst first.
fn faults(request: &DrillRequest, drill: &Drill, report: &Report, plan: &RestorePlan) -> Vec<Fault> {
    let fault = |part, what: String, advice: &str, ending| Fault { part, what, advice: advice.to_owned(), ending };
    let mut faults = Vec::new();
    let of_dump = |finding: &&Finding| {
        let paths = report.dumps.iter().filter(|dump| dump.app.as_str() == finding.subject).map(|dump| &dump.path);
        paths.into_iter().any(|path| finding.what.contains(&format!("'{path}'")))
    };
    for finding in report.findings.iter().filter(|finding| finding.severity == Severity::Damage) {
        let part = if of_dump(&finding) { Part::Databases } else { Part::Content };
        let what = format!("{}: {}", finding.subject, finding.what);
        faults.push(fault(part, what, &finding.advice, Ending::VerificationFailed));
    }
    let is_named = |kind| kind == BlockerKind::Damaged && !faults.is_empty();
    let blockers: Vec<_> = plan.blockers.iter().filter(|blocker| !is_named(blocker.kind)).collect();
    for blocker in blockers {
        let part = match blocker.kind {
            BlockerKind::Damaged | BlockerKind::Containment => Part::Content,
            BlockerKind::Version | BlockerKind::Nothing => Part::Versions,
            BlockerKind::Space => Part::Space,
            BlockerKind::Target | BlockerKind::Unfinished => Part::Box,
        };
        faults.push(fault(part, blocker.what.clone(), &blocker.advice, Failure::blocked(blocker).ending));
    }
    let is_blocked = |name: &AppId| plan.blockers.iter().any(|blocker| blocker.app.as_ref() == Some(name));
    for app in plan.apps.iter().filter(|app| app.verdict != Verdict::Damaged && !is_blocked(&app.archived_as)) {
        let name = &app.archived_as;
        if app.road == Road::Blocked {
            let why = app.reason.as_deref().unwrap_or("it has no place on the box");
            let ending = match app.version {
                VersionVerdict::TargetTooOld { .. } => Ending::VersionBlocked,
                _ => Ending::DoneWithLosses,
            };
            faults.push(fault(Part::Versions, format!("{name} would not be restored: {why}"), "", ending));
        } else if app.is_kept_only() {
            let why = app.next_boot.join(", ");
            let what = format!("{name} cannot be installed on the box; it would {why}");
            faults.push(fault(Part::Versions, what, "", Ending::DoneWithLosses));
        }
        for left in app.left_out.iter().filter(|left| left.lost) {
            let what = format!("{name}: /{} would not be restored: {}", left.path, left.reason);
            faults.push(fault(Part::Versions, what, "", Ending::DoneWithLosses));
        }
    }
    for dump in &report.dumps {
        if let DumpState::Stale(hours) = dump.state {
            let what = format!("{}: the dump of its database is {hours} hours older than the backup", dump.app);
            let advice = "look in FreedomBox's log why no new one could be made, and make a new backup";
            faults.push(fault(Part::Databases, what, advice, Ending::DoneWithLosses));
        }
    }
    if let (Some(most), Some(age)) = (request.max_age, drill.age_days)
        && age > i64::from(most)
    {
        let what = format!("the newest backup is {age} days old, and {most} are allowed");
        let advice = "look in FreedomBox (System, Backups) whether the schedule still runs, and make a new backup";
        faults.push(fault(Part::Backup, what, advice, Ending::NoBackup));
    } else if let (Some(_), None) = (request.max_age, drill.age_days) {
        let what = "the backup does not say when it was made".to_owned();
        faults.push(fault(Part::Backup, what, "make a new backup", Ending::NoBackup));
    }
    faults
}

/// What does not keep a restore from its success, and should be known.
fn remarks(report: &Report, plan: &RestorePlan, witness: &Witness<'_>) -> Vec<String> {
    let is_stale = |finding: &&Finding| {
        let stale = report.dumps.iter().filter(|dump| matches!(dump.state, DumpState::Stale(_)));
        stale.into_iter().any(|dump| finding.what.contains(&format!("'{}'", dump.path)))
    };
    let seen = report.findings.iter().filter(|finding| finding.severity < Severity::Damage && !is_stale(finding));
    let mut remarks: Vec<String> = seen.map(|finding| format!("{}: {}", finding.subject, finding.what)).collect();
    remarks.extend(plan.warnings.iter().cloned());
    if !plan.unknown_owners.is_empty() {
        let names: Vec<&str> = plan.unknown_owners.iter().map(|owner| owner.name.as_str()).collect();
        remarks.push(format!(
            "the box does not have these owners of files; accounts of apps come with their installation, those of \
             people have to be made: {}",
            names.join(", ")
        ));
    }
    if witness.was_asked && !witness.kept_by.is_empty() {
        remarks.push(format!(
            "the passphrases that {} keeps were not used: they are lost when the box is",
            witness.kept_by.join(" and ")
        ));
    }
    remarks
}

/// How each part went, with what was seen where it went well.
fn checks(drill: &Drill, report: &Report, plan: &RestorePlan, was_asked: bool) -> Vec<Check> {
    let check = |part: Part| {
        let outcome = match drill.faults.iter().any(|fault| fault.part == part) {
            true => Outcome::Fail,
            false => Outcome::Pass,
        };
        let what = match outcome {
            Outcome::Pass => seen(part, drill, report, plan, was_asked),
            Outcome::Fail | Outcome::NotReached => String::new(),
        };
        Check { part, outcome, what }
    };
    ALL.map(check).into()
}

fn seen(part: Part, drill: &Drill, report: &Report, plan: &RestorePlan, was_asked: bool) -> String {
    match part {
        Part::Backup => match drill.age_days {
            Some(1) => "made 1 day ago".into(),
            Some(days) => format!("made {days} days ago"),
            None => "it does not say when it was made".into(),
        },
        Part::Box if drill.has_box => "it can be restored onto".into(),
        Part::Box => "none was named; a freshly installed one is assumed".into(),
        Part::Passphrase if was_asked => "right".into(),
        Part::Passphrase => "none is needed".into(),
        Part::Content => {
            let entries: u64 = report.apps.iter().map(|app| app.entries).sum();
            let bytes: ByteSize = report.apps.iter().map(|app| ByteSize(app.bytes)).sum();
            let proof = match report.is_clean() {
                true => "every byte agrees with its checksum",
                false => "it could be read to its end; nothing proves that it is unchanged",
            };
            format!("{} apps, {entries} entries, {bytes}; {proof}", report.apps.len())
        }
        Part::Databases => match report.dumps.len() {
            0 => "none is in the backup".into(),
            1 => "1 dump, whole".into(),
            more => format!("{more} dumps, all whole"),
        },
        Part::Versions => {
            let upgraded = plan.apps.iter().filter(|app| matches!(app.version, VersionVerdict::WillBeUpgraded { .. }));
            match upgraded.count() {
                0 => "the box can take the data of all apps".into(),
                some => format!("the box can take the data of all apps, and upgrades that of {some}"),
            }
        }
        Part::Space => {
            let need = |need: &crate::model::plan::SpaceNeed| match drill.has_box {
                true => format!("{} of {} free on the filesystem of {}", need.needed, need.free, need.filesystem),
                false => format!("{} needed", need.needed),
            };
            let needs: Vec<String> = plan.space.iter().map(need).collect();
            if needs.is_empty() { "none is needed".into() } else { needs.join("; ") }
        }
    }
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
