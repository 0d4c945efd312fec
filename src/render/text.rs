//! Text views of the results, and folding of sentences.

use super::View;
use crate::export::Exported;
use crate::failure::Failure;
use crate::model::app::AppId;
use crate::model::archive::{ArchiveSummary, BackupLocation, FoundAs, Generation};
use crate::model::bytes;
use crate::model::disk::{Disk, Volume};
use crate::model::finding::{Finding, Report, Reports, Severity, Verdict};
use crate::model::finish::{AppProgress, Stand};
use crate::model::installation::Installation;
use crate::model::site::AREA;
use crate::model::state::{DataState, RestoreState};
use crate::model::survey::Survey;
use crate::rescue::{Details, Status};
use crate::t;
use crate::words::translated;
use std::fmt::Write as _;

/// Widest line.
/// Columns of a line.
pub const WIDTH: usize = 80;

/// Folds a sentence into lines of at most 80 columns, each starting with `indent`; continuation lines are indented
/// two more. Words that are longer stand alone.
pub fn wrap(indent: &str, sentence: &str) -> String {
    let mut text = String::new();
    let mut line = indent.to_owned();
    let mut empty = true;
    for word in sentence.split_whitespace() {
        if !empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            text.push_str(line.trim_end());
            text.push('\n');
            line = format!("{indent}  ");
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    text.push_str(line.trim_end());
    text.push('\n');
    text
}

/// Folds the lines of a text that are too wide; those that are not stay as they are.
pub fn fold(text: &str) -> String {
    let fits = |line: &str| line.trim_end_matches('\n').chars().count() <= WIDTH;
    text.split_inclusive('\n').map(|line| if fits(line) { line.to_owned() } else { wrap("", line) }).collect()
}

/// A failure on a screen of the dialogue, which says in its own place that nothing was changed.
pub fn trouble(failure: &Failure) -> String {
    let mut text = wrap("", &sentence(&translated(&failure.sentence)));
    if failure.state != DataState::Untouched {
        text += &wrap("", &t!("State of your data: {state}.", state = state(failure.state)));
    }
    text + &wrap("", &t!("What to do: {advice}.", advice = translated(&failure.advice)))
}

/// In which state the data is.
fn state(state: DataState) -> String {
    translated(&state.to_string()).into_owned()
}

/// A clause as a sentence: its first letter as a capital, and a full stop.
pub(super) fn sentence(clause: &str) -> String {
    let mut letters = clause.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).chain(['.']).collect())
}

/// A failure as three sentences: what happened, where the data stands, what to do.
pub fn failure(failure: &Failure) -> String {
    let mut text = wrap("", &format!("lifeboat: {}", translated(&failure.sentence)));
    text += &wrap("", &t!("State of your data: {state}.", state = state(failure.state)));
    text += &wrap("", &t!("What to do: {advice}.", advice = translated(&failure.advice)));
    text
}

/// A date and time for people: `2026-11-23 18:45 UTC` from RFC 3339.
pub fn time(rfc3339: Option<&str>) -> String {
    let Some(text) = rfc3339 else { return t!("unknown time") };
    match (text.get(..10), text.get(11..16)) {
        (Some(day), Some(minute)) => format!("{day} {minute} UTC"),
        _ => text.to_owned(),
    }
}

/// A number of apps.
pub fn apps(count: usize) -> String {
    if count == 1 { t!("1 app") } else { t!("{count} apps", count = count) }
}

/// Findings, one by one, with their advice.
pub fn findings(list: &[Finding]) -> String {
    let mut text = String::new();
    for finding in list {
        let word = match finding.severity {
            Severity::Note => t!("note"),
            Severity::Warning => t!("warning"),
            Severity::Damage => t!("DAMAGE"),
        };
        text += &wrap("  ", &format!("{word}: {}: {}", finding.subject, translated(&finding.what)));
        if !finding.advice.is_empty() {
            text += &wrap("    ", &translated(&finding.advice));
        }
    }
    text
}

impl View for Survey {
    fn text(&self) -> String {
        let mut text = String::new();
        for (at, box_) in self.installations.iter().enumerate() {
            text += &wrap("", &t!("Box {number}: {what}", number = at + 1, what = installation(box_)));
            text += &wrap(
                "  ",
                &t!(
                    "on {place}, {count} apps set up",
                    place = box_.place,
                    count = box_.apps.values().filter(|v| **v > 0).count()
                ),
            );
        }
        for (at, location) in self.locations.iter().enumerate() {
            text += &wrap("", &t!("Backup {number}: {what}", number = at + 1, what = self::location(location)));
        }
        for disk in &self.disks {
            let _ = writeln!(text, "{}", t!("Disk {what}", what = self::disk(disk)));
            for volume in &disk.volumes {
                let _ = writeln!(text, "  {}", self::volume(volume));
            }
        }
        if self.installations.is_empty() {
            text += &wrap("", &t!("No FreedomBox system was found."));
        }
        if self.locations.is_empty() {
            text += &wrap("", &t!("No backup was found."));
        }
        text + &findings(&self.findings)
    }
}

/// One line that tells a box from others.
pub fn installation(box_: &Installation) -> String {
    format!("'{}', FreedomBox {}, {} ({})", box_.hostname, box_.freedombox.upstream(), box_.os, box_.architecture)
}

/// One line that tells a backup location from others.
pub fn location(location: &BackupLocation) -> String {
    let place = location.path().display();
    match location {
        BackupLocation::TarExport { size, found_as, .. } => {
            let kind = match found_as {
                FoundAs::LegacyFolder => t!("old backup file"),
                FoundAs::UploadLeftover => t!("left-over of an upload"),
                _ => t!("backup file"),
            };
            format!("{kind} {place} ({size})")
        }
        BackupLocation::BorgRepository { keyed, .. } => {
            let lock = match keyed {
                Some(true) => t!("encrypted"),
                Some(false) => t!("not encrypted"),
                None => t!("its config is lost"),
            };
            t!("borg repository {place} ({lock})", place = place, lock = lock)
        }
        BackupLocation::OldSystem { hostname, freedombox, .. } => {
            t!(
                "installed system '{name}' {place} (FreedomBox {version})",
                name = hostname,
                place = place,
                version = freedombox.upstream()
            )
        }
    }
}

/// One line that tells a disk from others.
pub fn disk(disk: &Disk) -> String {
    let unnamed = t!("unnamed disk");
    let model = disk.model.as_deref().unwrap_or(&unnamed);
    let serial = disk
        .serial
        .as_ref()
        .map_or(String::new(), |serial| format!(", {}", t!("serial number {serial}", serial = serial)));
    let role = if disk.boot_medium { format!(", {}", t!("Lifeboat was started from it")) } else { String::new() };
    format!("{}: {model}, {}{serial}{role}", disk.name, disk.size)
}

fn volume(volume: &Volume) -> String {
    let kinds: Vec<String> = volume
        .signatures
        .iter()
        .map(|signature| {
            let label = signature.label.as_ref().map_or(String::new(), |label| format!(" '{label}'"));
            format!("{}{label}", signature.kind.name())
        })
        .collect();
    let kinds = if kinds.is_empty() { t!("nothing known") } else { kinds.join(&format!(" {} ", t!("or"))) };
    format!("{}: {}, {kinds}", volume.name, volume.size)
}

/// The archives of a location.
#[derive(Debug, serde::Serialize)]
pub struct ArchiveList {
    /// Newest first.
    pub archives: Vec<ArchiveSummary>,
    /// What was noticed while looking.
    pub findings: Vec<Finding>,
}

impl View for ArchiveList {
    fn text(&self) -> String {
        let mut text = String::new();
        for archive in &self.archives {
            let _ = writeln!(text, "{}", archive.id);
            if let Some(name) = &archive.name {
                text += &wrap("  ", &format!("\"{name}\""));
            }
            let apps: Vec<&str> = archive.apps.iter().map(|app| app.name.as_str()).collect();
            let what = match archive.generation {
                Generation::None => "no FreedomBox manifest: a plain folder archive".to_owned(),
                _ => format!("{} apps: {}", apps.len(), apps.join(", ")),
            };
            text += &wrap("  ", &format!("{}; {what}", time(archive.time.as_deref())));
        }
        if self.archives.is_empty() {
            text += &wrap("", &t!("No backup was found."));
        }
        text + &findings(&self.findings)
    }
}

impl View for Exported {
    fn text(&self) -> String {
        let mut text = wrap("", &format!("\"{}\" is written and was read back.", bytes::path::shown(&self.file)));
        text += &wrap("  ", &format!("{} entries, {}", self.entries, self.size));
        let _ = writeln!(text, "  SHA-256 {}", self.sha256);
        for path in &self.left_out {
            text += &wrap("  ", &format!("LEFT OUT, because it is damaged: {path}"));
        }
        text + &findings(&self.findings)
    }
}

impl View for Report {
    fn text(&self) -> String {
        let mut text = String::new();
        for app in &self.apps {
            let _ = writeln!(text, "{:<24} {:<14} {} entries", app.name.as_str(), verdict(app.verdict), app.entries);
        }
        text + &findings(&self.findings)
    }
}

impl View for Reports {
    fn text(&self) -> String {
        let mut text = String::new();
        for one in &self.backups {
            text += &wrap("", &format!("Backup {}", one.backup));
            text += &one.report.text();
        }
        text += &findings(&self.findings);
        let damaged = self.backups.iter().filter(|one| !one.report.is_undamaged()).count();
        text + &wrap("", &format!("{} backups, {damaged} of them damaged.", self.backups.len()))
    }
}

pub(super) fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Intact => "intact",
        Verdict::Damaged => "DAMAGED",
        Verdict::NotVerifiable => "not verifiable",
    }
}

impl View for Status {
    fn text(&self) -> String {
        let Some(details) = &self.standing else { return wrap("", &t!("No restore was started on this box.")) };
        let what = match self.state {
            RestoreState::None => t!("no restore"),
            RestoreState::Interrupted => t!("INTERRUPTED: run 'lifeboat resume' or 'lifeboat undo'"),
            RestoreState::WaitingForBoot => {
                t!("done as far as possible so far; the box does the rest by itself when it runs")
            }
            RestoreState::Restored if is_short(details) => {
                t!("NOT all apps are restored; the old data is kept until 'lifeboat commit'")
            }
            RestoreState::Restored => {
                t!("restored; the old data is kept until 'lifeboat commit', and the box removes it after 14 days")
            }
            RestoreState::RolledBack => t!("undone: the old data is in place"),
            RestoreState::Committed => t!("restored and committed: the old data is gone"),
        };
        let mut lines = wrap("", &t!("Restore {plan}: {what}.", plan = details.plan, what = what));
        lines += &wrap("", &t!("State of your data: {state}.", state = state(details.data)));
        let names = |apps: &[AppId]| apps.iter().map(AppId::as_str).collect::<Vec<_>>().join(", ");
        if !details.done.is_empty() {
            lines += &wrap("", &t!("Finished: {apps}.", apps = names(&details.done)));
        }
        if !details.waiting.is_empty() {
            lines += &wrap("", &t!("Waiting for the running box: {apps}.", apps = names(&details.waiting)));
        }
        details.progress.iter().for_each(|app| lines += &progress(app));
        lines
    }
}

/// Whether an app was given up.
fn is_short(details: &Details) -> bool {
    details.progress.iter().any(|app| app.stand == Stand::NotRestored)
}

/// Where an app stands that is not finished; nothing of one on which no work was done so far.
fn progress(app: &AppProgress) -> String {
    let why = app.why.as_deref().unwrap_or("the work on it was begun");
    let failures = match app.failures {
        0 => String::new(),
        1 => " (1 attempt failed)".to_owned(),
        more => format!(" ({more} attempts failed)"),
    };
    match app.stand {
        Stand::Waiting if app.why.is_some() || app.reached.is_some() => {
            wrap("  ", &format!("{}: {why}{failures}", app.name))
        }
        Stand::Finished => {
            app.note.as_ref().map_or(String::new(), |note| wrap("  ", &format!("{}: {note}.", app.name)))
        }
        Stand::Waiting => String::new(),
        Stand::NotRestored => {
            let kept = match app.parked {
                true => format!(
                    " Its data is in /{AREA}/parked/{}, below the names of its places. 'lifeboat finish --onto /' on the \
                     box tries again.",
                    app.name
                ),
                false => " Its files are in place; 'lifeboat undo --onto /' on the box goes back.".to_owned(),
            };
            wrap("", &format!("NOT restored: {}: {why}.{kept}", app.name))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_wider_than_80_columns_unless_one_word_is() {
        let text = wrap("  ", &"word ".repeat(60));
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH && line.starts_with("  ")));
        assert_eq!(wrap("", &"x".repeat(100)), format!("{}\n", "x".repeat(100)));
    }

    #[test]
    fn times_are_shown_to_the_minute() {
        assert_eq!(time(Some("2026-11-23T18:45:11Z")), "2026-11-23 18:45 UTC");
        assert_eq!(time(None), "unknown time");
    }
}
