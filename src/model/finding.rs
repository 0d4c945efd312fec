//! Results of checks, as values.
//!
//! A check that ran and found something bad returns findings; an error means that the check could not run.

use super::app::AppId;
use super::path::RelPath;
use serde::{Deserialize, Serialize};

/// One thing that a check noticed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is about: a path, a disk, an app.
    pub subject: String,
    /// What was seen, one sentence without a full stop.
    pub what: String,
    /// What the user may do; empty when there is nothing to do.
    pub advice: String,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Worth knowing, nothing is wrong.
    Note,
    /// Something is not as it should be, data is not affected.
    Warning,
    /// Data is damaged or missing.
    Damage,
}

impl Finding {
    /// A finding; see the fields for their form.
    pub fn new(
        severity: Severity,
        subject: impl Into<String>,
        what: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self { severity, subject: subject.into(), what: what.into(), advice: advice.into() }
    }
}

/// Whether an app could be restored from an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Every byte was read and agrees with the archive's checksums.
    Intact,
    /// Some files are lost; the findings name them.
    Damaged,
    /// Everything could be read, but the format carries no checksum that proves it, or the checksum is missing.
    NotVerifiable,
}

/// One app's line in a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppVerdict {
    /// The app.
    pub name: AppId,
    /// Its verdict.
    pub verdict: Verdict,
    /// Entries read for it.
    pub entries: u64,
    /// Bytes of content read for it.
    pub bytes: u64,
}

/// The dump of an app's database in an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DumpVerdict {
    /// The app.
    pub app: AppId,
    /// Where the dump lies in the archive.
    pub path: RelPath,
    /// How it is.
    pub state: DumpState,
}

/// How a dump of a database is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DumpState {
    /// It ends as it must, and it is of the time of the backup.
    Whole,
    /// It is whole, but so many hours older than the backup.
    Stale(i64),
    /// Its end is missing.
    Cut,
    /// It is not in the archive.
    Missing,
}

/// What verification found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// One verdict per app, in the archive's order.
    pub apps: Vec<AppVerdict>,
    /// The dumps of databases that the archive holds or should hold.
    #[serde(default)]
    pub dumps: Vec<DumpVerdict>,
    /// Everything noticed.
    pub findings: Vec<Finding>,
}

/// What verification found of all backups at a place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reports {
    /// One for each backup, in the order of the place.
    pub backups: Vec<BackupReport>,
    /// What was noticed of the place.
    pub findings: Vec<Finding>,
}

/// What verification found of one of several backups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupReport {
    /// Its name, or its id where it has none.
    pub backup: String,
    /// What was found; a backup that could not be opened has a finding that says why.
    #[serde(flatten)]
    pub report: Report,
}

impl Reports {
    /// Whether no damage was found; the content may still be unproven.
    pub fn is_undamaged(&self) -> bool {
        self.backups.iter().all(|one| one.report.is_undamaged())
            && self.findings.iter().all(|finding| finding.severity < Severity::Damage)
    }
}

impl Report {
    /// The verdict for `app`, if it is in the archive.
    pub fn verdict(&self, app: &AppId) -> Option<Verdict> {
        self.apps.iter().find(|line| &line.name == app).map(|line| line.verdict)
    }

    /// The damage that is about `subject`: an app, a path, or the archive as a whole.
    pub fn damages_of(&self, subject: &str) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(move |finding| finding.severity == Severity::Damage && finding.subject == subject)
    }

    /// Whether no damage was found; the content may still be unproven.
    pub fn is_undamaged(&self) -> bool {
        self.apps.iter().all(|line| line.verdict != Verdict::Damaged)
            && self.findings.iter().all(|finding| finding.severity < Severity::Damage)
    }

    /// Whether everything is intact.
    pub fn is_clean(&self) -> bool {
        self.apps.iter().all(|line| line.verdict == Verdict::Intact)
            && self.findings.iter().all(|finding| finding.severity < Severity::Damage)
    }
}
