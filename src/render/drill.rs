//! The page that a drill leaves: the result first, then each part, then what is wrong and what would wait.

use super::View;
use super::text::{time, wrap};
use crate::model::bytes;
use crate::model::plan::RestorePlan;
use crate::rescue::drill::{Check, Drill, Outcome, Part};

/// Most faults and remarks of a page; JSON has all of them.
const MOST: usize = 10;

impl View for Drill {
    fn text(&self) -> String {
        let result = match self.result {
            Outcome::Pass => "PASS",
            Outcome::Fail | Outcome::NotReached => "FAIL",
        };
        let mut text = format!("Drill of {}: {result}\n", time(Some(&self.made)));
        text += &wrap("  ", &format!("Backup: {}", backup(self)));
        text += &wrap("  ", &format!("Onto: {}", target(self)));
        text += "  Nothing was written.\n\n";
        for check in &self.checks {
            text += &line(check);
        }
        let faults = self.faults.iter().enumerate().map(|(at, fault)| {
            let advice =
                if fault.advice.is_empty() { String::new() } else { format!(" What to do: {}.", fault.advice) };
            wrap("  ", &format!("{}. {}.{advice}", at + 1, fault.what))
        });
        text += &section("What is wrong", faults.collect());
        let waiting = self.plan.iter().flat_map(|plan| &plan.apps).filter(|app| app.waits_for_boot());
        let waiting = waiting.map(|app| wrap("  ", &format!("{}: {}", app.name, app.next_boot.join(", then "))));
        let waiting: String = waiting.collect();
        if !waiting.is_empty() {
            text += &format!("\nWhat would wait for the box's next start:\n{waiting}");
        }
        text +=
            &section("Worth knowing", self.remarks.iter().map(|remark| wrap("  ", &format!("{remark}."))).collect());
        if let Some(plan) = &self.plan {
            text.push('\n');
            text += &wrap("", &format!("Not in any backup, to be done by hand: {}.", plan.not_included.join("; ")));
        }
        text
    }
}

fn backup(drill: &Drill) -> String {
    let from = bytes::path::shown(&drill.from);
    let Some(plan) = &drill.plan else { return format!("\"{from}\"") };
    let which = match drill.backups {
        0 | 1 => String::new(),
        more => format!(", the newest of {more}"),
    };
    // A file is its own name; the archives of a folder or a repository have theirs.
    let name = plan.archive.as_str();
    let place = if from.ends_with(name) { format!("\"{from}\"") } else { format!("{name} in \"{from}\"") };
    format!("{place}{which}, made {}", time(plan.archive_time.as_deref()))
}

fn target(drill: &Drill) -> String {
    match &drill.plan {
        Some(RestorePlan { target, .. }) if drill.has_box => format!(
            "'{}', FreedomBox {}, Debian {} ({})",
            target.hostname, target.freedombox, target.suite, target.architecture
        ),
        Some(RestorePlan { target, .. }) => format!("a freshly installed FreedomBox {}", target.freedombox),
        None if drill.has_box => "the box that was named".into(),
        None => "a freshly installed FreedomBox".into(),
    }
}

fn line(check: &Check) -> String {
    let part = match check.part {
        Part::Backup => "backup",
        Part::Box => "box",
        Part::Passphrase => "passphrase",
        Part::Content => "content",
        Part::Databases => "databases",
        Part::Versions => "versions",
        Part::Space => "space",
    };
    let outcome = match check.outcome {
        Outcome::Pass => "ok",
        Outcome::Fail => "FAULT",
        Outcome::NotReached => "not reached",
    };
    let what = if check.what.is_empty() { String::new() } else { format!(": {}", check.what) };
    wrap("  ", &format!("{part} {outcome}{what}"))
}

fn section(title: &str, lines: Vec<String>) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let more = lines.len().saturating_sub(MOST);
    let mut text = format!("\n{title}:\n{}", lines.into_iter().take(MOST).collect::<String>());
    if more > 0 {
        text += &format!("  and {more} more; '--json' has all\n");
    }
    text
}
