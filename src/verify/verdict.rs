//! From what was read to a verdict per app.
//!
//! Intact needs a checksum over everything that was right. Where reading stopped, an app is damaged unless the archive
//! had gone on to something else after all of the app's paths: then its entries are all there, but not proven.

use super::census::Census;
use super::span::Span;
use super::{RootContent, Scope};
use crate::formats::dump::{Dump, is_dump};
use crate::model::app::AppId;
use crate::model::archive::{ArchiveSummary, ArchivedApp, Generation};
use crate::model::cluster;
use crate::model::finding::{AppVerdict, DumpState, DumpVerdict, Finding, Report, Severity, Verdict};
use crate::model::manifest;
use crate::model::path::RelPath;
use crate::model::size::ByteSize;
use crate::source::{Ending, Proof, ReadError};
use std::collections::{BTreeMap, BTreeSet};

const FETCH_AGAIN: &str = "use another backup, or fetch this one again from where it comes from";

const DUMP_FIRST: &str = "FreedomBox writes it when it makes a backup: where the old box still starts, let it make one. The \
                          files of its database server, in /var/lib/mysql or /var/lib/postgresql, are not on this disk \
                          either, or cannot be read whole: keep the old disk";

const CARRIED: &str = "the database server's own files come along; the running box reads them with its own server, where that \
                       can read them";

/// What the pass over the archive left behind.
pub(super) struct Evidence {
    outcome: Result<Ending, ReadError>,
    /// Why the manifest cannot be read.
    hidden: Option<ReadError>,
    roots: Vec<RootContent>,
    spans: Vec<Option<Span>>,
    /// After how many entries others are lost.
    gaps: Vec<u64>,
    entries: u64,
    last: Option<RelPath>,
    dumps: BTreeMap<RelPath, Dump>,
    broken: BTreeSet<RelPath>,
    findings: Vec<Finding>,
}

impl Evidence {
    pub(super) fn new(census: Census<'_>, outcome: Result<Ending, ReadError>) -> Self {
        Self {
            outcome,
            hidden: None,
            roots: census.roots,
            spans: census.spans,
            gaps: census.gaps,
            entries: census.entries,
            last: census.last,
            dumps: census.dumps,
            broken: census.broken,
            findings: census.findings,
        }
    }

    pub(super) fn hide_manifest(&mut self, error: ReadError) {
        self.hidden = Some(error);
    }

    pub(super) fn is_manifest_hidden(&self) -> bool {
        self.hidden.is_some()
    }

    pub(super) fn root(&self, path: &RelPath) -> Option<&RootContent> {
        self.roots.iter().find(|root| root.path == *path)
    }

    /// Adds what a second pass found for roots that the first did not look for; about all else both agree.
    pub(super) fn add_roots(&mut self, census: Census<'_>, outcome: Result<Ending, ReadError>) {
        // A medium that fails may do so only the second time, or earlier then: what follows was not seen by both.
        if outcome.is_err() {
            self.entries = self.entries.min(census.entries);
        }
        if self.outcome.is_ok() {
            self.outcome = outcome;
        }
        let known = self.roots.drain(..).zip(self.spans.drain(..));
        let mut all: Vec<_> = known.chain(census.roots.into_iter().zip(census.spans)).collect();
        all.sort_by(|(a, _), (b, _)| a.path.cmp(&b.path));
        (self.roots, self.spans) = all.into_iter().unzip();
        self.broken.extend(census.broken);
        self.gaps.extend(census.gaps);
        for finding in census.findings {
            if !self.findings.contains(&finding) {
                self.findings.push(finding);
            }
        }
    }

    pub(super) fn into_roots(self) -> Vec<RootContent> {
        self.roots
    }

    /// Whether all paths of an app were seen, and something else after them. True for an app without data.
    fn is_passed(&self, app: &ArchivedApp) -> bool {
        self.spans_of(app).all(|span| span.is_some_and(|span| span.is_before(self.entries)))
    }

    /// Whether entries of an app may be among those that are lost.
    fn has_gap(&self, app: &ArchivedApp) -> bool {
        let is_clear = |span: Span| self.gaps.iter().all(|gap| span.is_clear_of(*gap));
        !self.gaps.is_empty() && !self.spans_of(app).all(|span| span.is_some_and(is_clear))
    }

    fn spans_of(&self, app: &ArchivedApp) -> impl Iterator<Item = Option<Span>> {
        app.paths.iter().map(|path| {
            let at = self.roots.iter().position(|root| root.path == *path)?;
            self.spans.get(at).copied().flatten()
        })
    }
}

/// Judges every app, and collects all findings.
pub(super) fn judge(evidence: &mut Evidence, summary: &ArchiveSummary, scope: &Scope<'_>) -> Report {
    let mut report = Report { findings: std::mem::take(&mut evidence.findings), ..Report::default() };
    report.findings.extend(general_findings(evidence, summary));
    if evidence.hidden.is_some() {
        // The manifest names the apps; without it, none that was asked for can be shown to be there.
        for name in scope.apps.unwrap_or_default() {
            report.apps.push(AppVerdict { name: name.clone(), verdict: Verdict::Damaged, entries: 0, bytes: 0 });
        }
        return report;
    }
    for app in &summary.apps {
        if scope.apps.is_some_and(|apps| !apps.contains(&app.name)) {
            continue;
        }
        let problems = problems_of(app, summary, evidence, scope, &mut report);
        let verdict = match &evidence.outcome {
            _ if problems => Verdict::Damaged,
            Ok(_) if evidence.has_gap(app) => {
                let what = "the list of files is damaged: files of the app may be missing, nobody knows which";
                report.findings.push(damage(&app.name, what.to_owned()));
                Verdict::Damaged
            }
            Ok(Ending { proof: Proof::Checked(_), .. }) => Verdict::Intact,
            Ok(_) | Err(ReadError::Mismatch { .. }) => Verdict::NotVerifiable,
            Err(_) if evidence.is_passed(app) => Verdict::NotVerifiable,
            Err(_) => {
                report.findings.push(lost(app, evidence));
                Verdict::Damaged
            }
        };
        let (entries, bytes) = count(app, evidence);
        report.apps.push(AppVerdict { name: app.name.clone(), verdict, entries, bytes });
    }
    report
}

fn general_findings(evidence: &Evidence, summary: &ArchiveSummary) -> Vec<Finding> {
    let mut findings = Vec::new();
    let name = summary.id.as_str();
    match &evidence.outcome {
        Ok(ending) => {
            findings.extend(ending.findings.iter().cloned());
            if let Proof::Unproven(why) = &ending.proof {
                let what = format!("nothing proves that the content is unchanged: {why}");
                findings.push(Finding::new(Severity::Warning, name, what, ""));
            }
            if let (None, Generation::None) = (&evidence.hidden, summary.generation) {
                let what = "the archive has no manifest and so names no apps";
                findings.push(Finding::new(Severity::Warning, name, what, ""));
            }
        }
        Err(error @ ReadError::Corrupt { .. }) => {
            let after = match &evidence.last {
                Some(last) => {
                    format!("all files after '{last}' are lost, {} entries before could be read", evidence.entries)
                }
                None => "no file could be read".into(),
            };
            findings.push(Finding::new(Severity::Damage, name, format!("{error}; {after}"), FETCH_AGAIN));
        }
        Err(error) => {
            let what = format!("{error}; every file may be affected");
            findings.push(Finding::new(Severity::Damage, name, what, FETCH_AGAIN));
        }
    }
    if let (Some(error), Ok(_)) = (&evidence.hidden, &evidence.outcome) {
        findings.push(Finding::new(Severity::Damage, name, error.to_string(), FETCH_AGAIN));
    }
    findings
}

/// What is wrong with one app's own entries; `true` when it makes the app damaged.
fn problems_of(
    app: &ArchivedApp,
    summary: &ArchiveSummary,
    evidence: &Evidence,
    scope: &Scope<'_>,
    report: &mut Report,
) -> bool {
    let is_system = summary.generation == Generation::System;
    let carried = carried(app, summary, evidence);
    let is_replaced = |path: &RelPath| carried.is_some() && is_dump(path);
    let mut damaged = app.paths.iter().any(|path| evidence.broken.contains(path) && !is_replaced(path));
    let named = app.paths.iter().filter(|path| is_dump(path));
    let demanded = scope.dumps.iter().filter(|(name, _)| *name == app.name).map(|(_, path)| path);
    let dumps: BTreeSet<&RelPath> = named.chain(demanded).collect();
    for path in dumps {
        let state = match evidence.dumps.get(path) {
            Some(dump @ Dump { is_complete: true, .. }) => {
                dump.stale_in(summary).map_or(DumpState::Whole, DumpState::Stale)
            }
            Some(_) => DumpState::Cut,
            // Where reading stopped, that is said already.
            None if evidence.outcome.is_err() => continue,
            None => DumpState::Missing,
        };
        report.dumps.push(DumpVerdict { app: app.name.clone(), path: path.clone(), state });
        let what = match state {
            DumpState::Whole => continue,
            DumpState::Stale(hours) if is_system => {
                let what = format!(
                    "the newest dump of the app's database on this disk was made {hours} hours before the system was \
                     last used: '{path}'"
                );
                let advice = match carried {
                    Some(_) => CARRIED,
                    None => {
                        "what the app stored since is not in it; where the old box still starts, let it make a backup \
                         first"
                    }
                };
                report.findings.push(Finding::new(Severity::Warning, app.name.as_str(), what, advice));
                continue;
            }
            DumpState::Stale(hours) => {
                let what = format!(
                    "the dump of the app's database is {hours} hours older than the backup: '{path}'; FreedomBox \
                     probably could not make a new one"
                );
                let advice = "what the app stored in these hours is not in the backup; look for another one";
                report.findings.push(Finding::new(Severity::Warning, app.name.as_str(), what, advice));
                continue;
            }
            DumpState::Cut => format!("the dump of the app's database is not whole: '{path}'"),
            DumpState::Missing => format!("the dump of the app's database is missing: '{path}'"),
        };
        let (severity, advice) = match carried {
            Some(_) => (Severity::Warning, CARRIED),
            None if is_system => (Severity::Damage, DUMP_FIRST),
            None => (Severity::Damage, FETCH_AGAIN),
        };
        report.findings.push(Finding::new(severity, app.name.as_str(), what, advice));
        damaged = damaged || severity == Severity::Damage;
    }
    if !app.settings.is_empty() && evidence.outcome.is_ok() {
        let file = format!("var/lib/plinth/backups-data/{}-settings.json", app.name);
        for path in app.paths.iter().filter(|path| path.as_bytes() == file.as_bytes()) {
            if evidence.root(path).is_none_or(|root| root.kind.is_none()) {
                let what = format!("the app's settings were not saved by FreedomBox: '{path}' is missing");
                let advice = "set the app up again in FreedomBox after the restore";
                report.findings.push(Finding::new(Severity::Warning, app.name.as_str(), what, advice));
            }
        }
    }
    damaged
}

/// The server's own files that come along and hold the app's database, where all of them could be read.
fn carried<'a>(app: &ArchivedApp, summary: &'a ArchiveSummary, evidence: &Evidence) -> Option<&'a RelPath> {
    let engine = manifest::find(&app.name)?.database.as_ref()?.engine;
    let databases = summary.apps.iter().find(|other| other.name == AppId::databases())?;
    let is_whole = evidence.outcome.is_ok()
        && !evidence.has_gap(databases)
        && !databases.paths.iter().any(|path| evidence.broken.contains(path));
    databases.paths.iter().find(|path| is_whole && cluster::engine(path) == Some(engine))
}

/// Says which of an app's files a located damage took.
fn lost(app: &ArchivedApp, evidence: &Evidence) -> Finding {
    let (entries, _) = count(app, evidence);
    let what = match (&evidence.last, entries) {
        (Some(last), 1..) => {
            format!("files of the app after '{last}' may be lost; {entries} entries before could be read")
        }
        _ => "no file of the app could be read".to_owned(),
    };
    damage(&app.name, what)
}

fn damage(app: &AppId, what: String) -> Finding {
    Finding::new(Severity::Damage, app.as_str(), what, FETCH_AGAIN)
}

/// Entries and bytes of an app; a path below another one of the same app counts once.
fn count(app: &ArchivedApp, evidence: &Evidence) -> (u64, u64) {
    let is_outer = |path: &&RelPath| !app.paths.iter().any(|other| other != *path && path.is_within(other));
    let mut sum = (0, ByteSize(0));
    for root in app.paths.iter().filter(is_outer).filter_map(|path| evidence.root(path)) {
        sum = (sum.0 + root.entries, sum.1 + root.bytes);
    }
    (sum.0, sum.1.0)
}
