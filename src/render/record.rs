//! The papers of a restore: what is kept of it on the box and on the rescue medium.
//!
//! Holds what the plan and the verification say, and neither has a secret.

use super::View;
use super::text::{self, findings, verdict, wrap};
use crate::model::finding::Report;
use crate::model::papers::Papers;
use crate::model::plan::RestorePlan;
use crate::rescue::Stand;
use crate::t;
use serde_json::json;
use std::fmt::Write as _;

/// The papers of a restore; `time` is the present time, RFC 3339 UTC.
pub fn papers(plan: &RestorePlan, report: &Report, stand: Stand, time: &str) -> Papers {
    let mut text = wrap("", &t!("Lifeboat, report of {time}", time = text::time(Some(time))));
    text.push('\n');
    let state = match stand {
        Stand::Begun => wrap("", &t!("This restore was begun. 'lifeboat status' says how far it came.")),
        Stand::Ended(status) => status.text(),
        Stand::Stopped(failure) => text::failure(failure),
    };
    text += &state;
    text.push('\n');
    text += &plan.text();
    text += &findings(&report.findings);
    let (status, failure) = match stand {
        Stand::Begun => (None, None),
        Stand::Ended(status) => (Some(status), None),
        Stand::Stopped(failure) => (None, Some(failure)),
    };
    let json = json!({
        "format": 1, "time": time, "plan": plan, "verification": report, "status": status, "failure": failure,
    });
    let json = serde_json::to_string_pretty(&json).unwrap_or_default() + "\n";
    Papers { log: log(plan, report, &state, time), text, json }
}

/// Everything that is known of the restore, in lines that name what they are about.
fn log(plan: &RestorePlan, report: &Report, state: &str, time: &str) -> String {
    let mut log = format!("{time} lifeboat {} plan {}\n", env!("CARGO_PKG_VERSION"), plan.id);
    let target = &plan.target;
    let _ =
        writeln!(log, "backup {} made {}", plan.archive, plan.archive_time.as_deref().unwrap_or("at an unknown time"));
    let _ = writeln!(
        log,
        "box {} freedombox {} debian {} {} uuid {}",
        target.hostname,
        target.freedombox,
        target.suite,
        target.architecture,
        target.uuid.as_deref().unwrap_or("unknown")
    );
    for app in &report.apps {
        let _ = writeln!(log, "verified {} {} {} entries", app.name, verdict(app.verdict), app.entries);
    }
    log += &findings(&report.findings);
    for app in &plan.apps {
        let _ = writeln!(log, "app {} ({}) {:?} {:?} {}", app.name, app.archived_as, app.road, app.version, app.bytes);
        if let Some(reason) = &app.reason {
            let _ = writeln!(log, "app {} not restored: {reason}", app.name);
        }
        for task in &app.next_boot {
            let _ = writeln!(log, "app {} next boot: {task}", app.name);
        }
        for left in &app.left_out {
            let _ = writeln!(log, "app {} left out /{}: {}", app.name, left.path, left.reason);
        }
    }
    for step in &plan.steps {
        let (from, to) = (&step.source, step.place());
        let _ = writeln!(
            log,
            "step {} {} {:?} /{from} -> /{to}, {} entries, {}",
            step.id, step.app, step.action, step.entries, step.bytes
        );
    }
    for extra in &plan.extras {
        let _ = writeln!(log, "extra {}: {}", extra.extra, extra.names.join(", "));
    }
    for owner in &plan.unknown_owners {
        let _ = writeln!(log, "unknown owner {}", owner.name);
    }
    for person in &plan.people {
        let _ = writeln!(log, "person {person}");
    }
    for warning in plan.warnings.iter().chain(&plan.not_included) {
        let _ = writeln!(log, "note {warning}");
    }
    for need in &plan.space {
        let _ = writeln!(log, "space /{}: {} needed, {} free", need.filesystem, need.needed, need.free);
    }
    log + state
}
