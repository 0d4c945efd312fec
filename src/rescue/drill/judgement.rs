//! What a rehearsal found, judged: which faults would keep a restore from bringing everything back, and how each part
//! went.

use super::{Check, Drill, DrillRequest, Fault, Outcome, Part, Witness};
use crate::failure::Failure;
use crate::model::app::AppId;
use crate::model::ending::Ending;
use crate::model::finding::{DumpState, Finding, Report, Severity, Verdict};
use crate::model::plan::{BlockerKind, RestorePlan, Road, VersionVerdict};
use crate::model::size::ByteSize;

/// A stage could not be done. Of the other parts only the backup's place was surely reached.
pub(super) fn stopped(drill: &mut Drill, failure: &Failure, witness: &Witness<'_>) {
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
pub(super) fn faults(request: &DrillRequest, drill: &Drill, report: &Report, plan: &RestorePlan) -> Vec<Fault> {
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
    if request.max_age.is_some() && drill.age_days.is_some_and(|days| days < 0) {
        let what = "by this computer's clock, the backup is not made yet: nobody can tell how old it is".to_owned();
        faults.push(fault(Part::Backup, what, "set the clock and run the drill again", Ending::Failed));
    } else if let (Some(most), Some(age)) = (request.max_age, drill.age_days)
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
pub(super) fn remarks(report: &Report, plan: &RestorePlan, witness: &Witness<'_>) -> Vec<String> {
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
pub(super) fn checks(drill: &Drill, report: &Report, plan: &RestorePlan, was_asked: bool) -> Vec<Check> {
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
            Some(days) if days < 0 => "by this computer's clock, it is not made yet".into(),
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
