//! Everything up to the plan: open the backup, open the box, verify, compare, plan. Writes nothing.

use super::reach::{self, Location, location};
use super::{Backup, Request};
use crate::failure::Failure;
use crate::grow;
use crate::handoff::program;
use crate::model::app::AppId;
use crate::model::archive::{ArchiveId, Generation};
use crate::model::bytes;
use crate::model::ending::Ending;
use crate::model::entry::{Entry, Owner};
use crate::model::extra::Extra;
use crate::model::finding::{BackupReport, Finding, Report, Reports, Severity};
use crate::model::installation::Installation;
use crate::model::manifest;
use crate::model::path::RelPath;
use crate::model::plan::RestorePlan;
use crate::model::progress::{Progress, Watched};
use crate::model::site::is_dropin;
use crate::plan::{self, Input};
use crate::restore;
use crate::source::{self, Archive, ReadError, Unlock};
use crate::survey::owners::Owners;
use crate::survey::target::{self, Access, Target, TargetSpec};
use crate::survey::{self, Place};
use crate::sys::dir::Dir;
use crate::sys::host::Host;
use crate::verify::compare::Comparison;
use crate::verify::{self, NoObserver, Observer, Scope};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Whether a file is a FreedomBox backup; reads it to its manifest. Where that cannot be told, why.
pub fn is_backup(path: &Path) -> Result<bool, String> {
    match source::open(path).and_then(|mut archive| archive.summary()) {
        Ok(summary) => Ok(summary.generation != Generation::None),
        // Nobody else seals archives under such a name.
        Err(ReadError::NeedsPassphrase(_)) => Ok(true),
        Err(error @ (ReadError::Io(_) | ReadError::Corrupt { .. } | ReadError::Mismatch { .. })) => {
            Err(error.to_string())
        }
        // What FreedomBox never puts into its backups, or no archive at all.
        Err(_) => Ok(false),
    }
}

/// Takes the passphrases that installed systems keep.
pub fn learn(unlock: &mut dyn Unlock, installations: &[Installation]) {
    for system in installations {
        let name = if system.hostname.is_empty() { &system.place } else { &system.hostname };
        unlock.learn(name, &system.passphrases);
    }
}

/// Takes the passphrases that the system on a disk, on an image or below a directory keeps.
pub fn learn_from(host: &Host, system: &Path, unlock: &mut dyn Unlock) -> Result<(), Failure> {
    let at = system.to_owned();
    let place = if system.is_dir() { Place::Root(at) } else { Place::Image(at) };
    let surveyed = survey::survey(host, &[place], &is_backup)?;
    if surveyed.survey.installations.is_empty() {
        let sentence =
            format!("looking for passphrases on \"{}\": no FreedomBox system was found there", system.display());
        return Err(Failure::untouched(
            Ending::Usage,
            sentence,
            "name the disk of an installed FreedomBox, or its root",
        ));
    }
    learn(unlock, &surveyed.survey.installations);
    Ok(())
}

/// What was prepared. The handles come before the mounts they lead into: an open handle would keep one busy.
pub struct Prepared {
    /// The backup.
    pub archive: Box<dyn Archive>,
    /// The box's root.
    pub root: Dir,
    /// The box, mounted.
    pub target: Target,
    /// Its users and groups.
    pub owners: Owners,
    /// What verification found.
    pub report: Report,
    /// The plan.
    pub plan: RestorePlan,
    /// Where the backup is, as it can be reached when only the box is open.
    pub backup: Backup,
    /// The program for the box's next boot.
    pub program: Option<PathBuf>,
    /// Where papers are kept besides those on the box.
    pub papers: Option<PathBuf>,
    /// Keeps the backup in reach.
    pub _location: Location,
}

/// Entries that are never restored: FreedomBox's own drop-in files.
pub fn skips(entry: &Entry) -> bool {
    is_dropin(entry, manifest::is_dropin)
}

/// Opens the box and reads its users; `access` says whether it will be written to.
pub fn open_target(host: &Host, onto: &Path, access: Access) -> Result<(Target, Dir, Owners), Failure> {
    let target = target::open(host, &TargetSpec::of(onto)?, access)?;
    let failed = |what: &str, error: std::io::Error| {
        Failure::untouched(Ending::RefusedTarget, format!("{what} on the box: {error}"), "check the box's disk")
    };
    let root = Dir::open(&target.root).map_err(|error| failed("opening the root", error))?;
    let read = |name: &[u8]| -> std::io::Result<Vec<u8>> {
        let mut text = Vec::new();
        std::io::Read::read_to_end(&mut root.child(b"etc")?.read_file(name)?, &mut text)?;
        Ok(text)
    };
    let passwd = read(b"passwd").map_err(|error| failed("reading the users", error))?;
    let group = read(b"group").map_err(|error| failed("reading the groups", error))?;
    let owners = Owners::new(&passwd, &group);
    Ok((target, root, owners))
}

/// Prepares the restore that was asked for.
pub fn prepare(
    host: &Host,
    request: &Request,
    access: Access,
    unlock: &mut dyn Unlock,
    progress: &dyn Progress,
) -> Result<Prepared, Failure> {
    let _watched = Watched::by(progress);
    let Reached { location, backup, target, root, owners } = open_both(host, request, access, unlock)?;
    let mut archive = reach::open(host, &location, request.archive.as_ref(), unlock)?;
    let installation = &target.installation;
    let unfinished = restore::standing(&root)
        .map_err(|error| Failure::of_restore(&error, crate::model::state::DataState::Unknown))?;
    let unfinished = unfinished.filter(restore::Standing::is_open);
    let folders = folders(archive.as_mut(), request);
    let mut apps = request.apps.clone();
    let databases = add_databases(archive.as_mut(), &mut apps);
    if !folders.is_empty() {
        apps.iter_mut().for_each(|apps| apps.push(AppId::folders()));
    }
    let mut comparison = Comparison::with(&root, &owners, installation, apps.as_deref());
    let besides: Vec<RelPath> = folders.into_iter().chain(databases).collect();
    besides.iter().for_each(|path| comparison.keep_in_place(path));
    let verified = verify_archive(archive.as_mut(), apps.as_deref(), &besides, &mut comparison, progress)?;
    let ground = comparison.finish().map_err(|error| {
        let sentence = format!("looking at the box's disk: {error}");
        Failure::untouched(Ending::Failed, sentence, "check the box's disk and try again")
    })?;
    let unknown_owners = unknown_owners(&verified.contents, &owners);
    let program = request.program.clone().or_else(|| program::find(&installation.architecture));
    // Only the first start makes a box larger, so only before it there may be room left.
    let growth = if installation.booted { None } else { grow::look(&target).ok() };
    let plan = plan::plan(&Input {
        installation,
        summary: &verified.summary,
        report: &verified.report,
        contents: &verified.contents,
        ground: &ground,
        unknown_owners: &unknown_owners,
        chosen: apps.as_deref(),
        accept_damage: request.accept_damage,
        can_finish: program.is_some(),
        held: archive.extras(),
        extras: &request.extras,
        growth: growth.as_ref(),
        unfinished: unfinished.as_ref().map(|standing| &standing.id),
    });
    let mut report = verified.report;
    if let Some(remark) = grow::remark(&root) {
        report.findings.push(Finding::new(Severity::Note, &target.installation.hostname, remark, ""));
    }
    let papers = request.papers.clone();
    Ok(Prepared { target, root, owners, archive, report, plan, program, backup, papers, _location: location })
}

/// The folders of people that are wanted, which the archive hands out from then on.
fn folders(archive: &mut dyn Archive, request: &Request) -> Vec<RelPath> {
    let is_wanted = request.extras.contains(&Extra::Folders);
    let folders = archive.extras().filter(|_| is_wanted).map(|held| held.folders.clone()).unwrap_or_default();
    if !folders.is_empty() {
        archive.add_folders();
    }
    folders
}

/// The backup and the box, both open; the handle before the mount.
struct Reached {
    root: Dir,
    target: Target,
    location: Location,
    backup: Backup,
    owners: Owners,
}

/// Opens the backup and the box. A backup on the box's own disk is read through the box: mounted a second time, it
/// would keep the disk from being opened for writing.
fn open_both(host: &Host, request: &Request, access: Access, unlock: &mut dyn Unlock) -> Result<Reached, Failure> {
    let (mut found, mut on_box) = match &request.from {
        Backup::At(path) => (Some(location(host, path, unlock)?), None),
        Backup::OnBox(path) => (None, Some(path.clone())),
    };
    let (mut target, mut root, mut owners) = open_target(host, &request.onto, Access::Read)?;
    learn(unlock, std::slice::from_ref(&target.installation));
    if let Some(location) = &found
        && let Some(seen) = target.rebased(host, &location.path)
        && let Ok(inside) = seen.strip_prefix(&target.root)
    {
        on_box = Some(inside.to_owned());
        found = None;
    }
    if let Some(location) = &found {
        // Before a filesystem that the box's fstab names is mounted for writing: the backup may lie on it.
        target.refuse_if_holds(host, &location.path)?;
    }
    if access == Access::Write {
        drop(root);
        drop(target);
        (target, root, owners) = open_target(host, &request.onto, Access::Write)?;
    }
    let (location, backup) = match (found, on_box) {
        (Some(location), _) => (location, request.from.clone()),
        (None, inside) => {
            let inside = inside.unwrap_or_default();
            (Location::plain(target.root.join(&inside)), Backup::OnBox(inside))
        }
    };
    target.refuse_if_holds(host, &location.path)?;
    Ok(Reached { location, backup, target, root, owners })
}

/// Names of owners in the archive that the box does not have.
fn unknown_owners(contents: &verify::Contents, owners: &Owners) -> BTreeSet<String> {
    let is_known = |name: &String, is_user: bool| {
        let raw = bytes::unescape(name).filter(|raw| !raw.is_empty());
        let (user, group) = if is_user { (raw, None) } else { (None, raw) };
        owners.knows(&Owner { uid: 0, gid: 0, user, group })
    };
    let users = contents.roots.iter().flat_map(|root| &root.users).filter(|name| !is_known(name, true));
    let groups = contents.roots.iter().flat_map(|root| &root.groups).filter(|name| !is_known(name, false));
    users.chain(groups).cloned().collect()
}

/// The servers' own files that the chosen apps need; they are chosen as well then.
fn add_databases(archive: &mut dyn Archive, apps: &mut Option<Vec<AppId>>) -> Vec<RelPath> {
    let databases = archive.add_databases(apps.as_deref());
    if !databases.is_empty() {
        apps.iter_mut().for_each(|apps| apps.push(AppId::databases()));
    }
    databases
}

/// Verifies an archive alone.
pub fn verify_location(
    host: &Host,
    path: &Path,
    archive: Option<&ArchiveId>,
    apps: Option<&[AppId]>,
    unlock: &mut dyn Unlock,
    progress: &dyn Progress,
) -> Result<verify::Verified, Failure> {
    let _watched = Watched::by(progress);
    let location = location(host, path, unlock)?;
    let mut archive = reach::open(host, &location, archive, unlock)?;
    let mut apps = apps.map(<[AppId]>::to_vec);
    let databases = add_databases(archive.as_mut(), &mut apps);
    verify_archive(archive.as_mut(), apps.as_deref(), &databases, &mut NoObserver, progress)
}

/// Verifies every backup at a place. One that cannot be opened or read is a finding; it does not keep the others from
/// being looked at.
pub fn verify_all(
    host: &Host,
    path: &Path,
    unlock: &mut dyn Unlock,
    progress: &dyn Progress,
) -> Result<Reports, Failure> {
    let location = location(host, path, unlock)?;
    let mut backups = Vec::new();
    let findings = reach::each(host, &location, unlock, &mut |name, opened| {
        let verified = opened.map_err(Failure::from).and_then(|mut archive| {
            let databases = archive.add_databases(None);
            let verified = verify_archive(archive.as_mut(), None, &databases, &mut NoObserver, progress)?;
            Ok(verified.report)
        });
        let report = verified.unwrap_or_else(|failure| {
            let finding = Finding::new(Severity::Damage, name, failure.sentence, failure.advice);
            Report { findings: vec![finding], ..Report::default() }
        });
        backups.push(BackupReport { backup: name.to_owned(), report });
    })?;
    Ok(Reports { backups, findings })
}

/// Verifies what belongs to apps, and these paths besides.
pub(super) fn verify_archive(
    archive: &mut dyn Archive,
    apps: Option<&[AppId]>,
    besides: &[RelPath],
    observer: &mut dyn Observer,
    progress: &dyn Progress,
) -> Result<verify::Verified, Failure> {
    let dumps: Vec<(AppId, RelPath)> =
        manifest::all().iter().filter_map(|app| Some((app.id.clone(), app.database.as_ref()?.dump.clone()))).collect();
    let roots: Vec<RelPath> = manifest::roots().iter().chain(besides).cloned().collect();
    let scope = Scope { roots: &roots, apps, dumps: &dumps, skip: &skips };
    Ok(verify::verify(archive, &scope, observer, progress)?)
}
