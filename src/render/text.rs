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
use crate::model::state::RestoreState;
use crate::model::survey::Survey;
use crate::rescue::{Details, Status};
use std::fmt::Write as _;

/// Widest line.
const WIDTH: usize = 80;

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

/// A failure as three sentences: what happened, where the data stands, what to do.
pub fn failure(failure: &Failure) -> String {
    let mut text = wrap("", &format!("lifeboat: {}", failure.sentence));
    text += &wrap("", &format!("State of your data: {}.", failure.state));
    text += &wrap("", &format!("What to do: {}.", failure.advice));
    text
}

/// A date and time for people: `2026-11-23 18:45 UTC` from RFC 3339.
pub fn time(rfc3339: Option<&str>) -> String {
    let Some(text) = rfc3339 else { return "unknown time".into() };
    match (text.get(..10), text.get(11..16)) {
        (Some(day), Some(minute)) => format!("{day} {minute} UTC"),
        _ => text.to_owned(),
    }
}

/// Findings, one by one, with their advice.
pub(super) fn findings(list: &[Finding]) -> String {
    let mut text = String::new();
    for finding in list {
        let word = match finding.severity {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Damage => "DAMAGE",
        };
        text += &wrap("  ", &format!("{word}: {}: {}", finding.subject, finding.what));
        if !finding.advice.is_empty() {
            text += &wrap("    ", &finding.advice);
        }
    }
    text
}

impl View for Survey {
    fn text(&self) -> String {
        let mut text = String::new();
        for (at, box_) in self.installations.iter().enumerate() {
            let _ = writeln!(text, "Box {}: {}", at + 1, installation(box_));
            text += &wrap(
                "  ",
                &format!("on {}, {} apps set up", box_.place, box_.apps.values().filter(|v| **v > 0).count()),
            );
        }
        for (at, location) in self.locations.iter().enumerate() {
            let _ = writeln!(text, "Backup {}: {}", at + 1, self::location(location));
        }
        for disk in &self.disks {
            let _ = writeln!(text, "Disk {}", self::disk(disk));
            for volume in &disk.volumes {
                let _ = writeln!(text, "  {}", self::volume(volume));
            }
        }
        if self.installations.is_empty() {
            text.push_str("No FreedomBox system was found.\n");
        }
        if self.locations.is_empty() {
            text.push_str("No backup was found.\n");
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
                FoundAs::LegacyFolder => "old backup file",
                FoundAs::UploadLeftover => "left-over of an upload",
                _ => "backup file",
            };
            format!("{kind} {place} ({size})")
        }
        BackupLocation::BorgRepository { keyed, .. } => {
            let lock = if *keyed { "encrypted" } else { "not encrypted" };
            format!("borg repository {place} ({lock})")
        }
        BackupLocation::OldSystem { hostname, freedombox, .. } => {
            format!("installed system '{hostname}' {place} (FreedomBox {})", freedombox.upstream())
        }
    }
}

/// One line that tells a disk from others.
pub fn disk(disk: &Disk) -> String {
    let model = disk.model.as_deref().unwrap_or("unnamed disk");
    let serial = disk.serial.as_ref().map_or(String::new(), |serial| format!(", serial {serial}"));
    let role = if disk.boot_medium { ", Lifeboat was started from it" } else { "" };
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
    let kinds = if kinds.is_empty() { "nothing known".to_owned() } else { kinds.join(" or ") };
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
            text.push_str("No backup was found.\n");
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

fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Intact => "intact",
        Verdict::Damaged => "DAMAGED",
        Verdict::NotVerifiable => "not verifiable",
    }
}

impl View for Status {
    fn text(&self) -> String {
        let Some(details) = &self.standing else { return "No restore was started on this box.\n".into() };
        let what = match self.state {
            RestoreState::None => "no restore",
            RestoreState::Interrupted => "INTERRUPTED: run 'lifeboat resume' or 'lifeboat undo'",
            RestoreState::WaitingForBoot => {
                "done as far as possible so far; the box does the rest by itself when it runs"
            }
            RestoreState::Restored if is_short(details) => {
                "NOT all apps are restored; the old data is kept until 'lifeboat commit'"
            }
            RestoreState::Restored => {
                "restored; the old data is kept until 'lifeboat commit', and the box removes it after 14 days"
            }
            RestoreState::RolledBack => "undone: the old data is in place",
            RestoreState::Committed => "restored and committed: the old data is gone",
        };
        let mut lines = wrap("", &format!("Restore {}: {what}.", details.plan));
        lines += &wrap("", &format!("State of your data: {}.", details.data));
        let names = |apps: &[AppId]| apps.iter().map(AppId::as_str).collect::<Vec<_>>().join(", ");
        if !details.done.is_empty() {
            lines += &wrap("", &format!("Finished: {}.", names(&details.done)));
        }
        if !details.waiting.is_empty() {
            lines += &wrap("", &format!("Waiting for the running box: {}.", names(&details.waiting)));
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
