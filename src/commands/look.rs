//! The commands that only look: survey, list, verify, plan, status.

use super::unprinted;
use crate::failure::Failure;
use crate::model::app::AppId;
use crate::model::archive::ArchiveId;
use crate::model::ending::Ending;
use crate::model::plan::RestorePlan;
use crate::model::progress::Progress;
use crate::model::state::DataState;
use crate::render::Output;
use crate::render::plan::Proposal;
use crate::render::text::ArchiveList;
use crate::rescue::drill::{self, DrillRequest};
use crate::rescue::grow;
use crate::rescue::prepare::{self, is_backup, open_target};
use crate::rescue::reach::{self, location};
use crate::rescue::{Backup, Request, Status, places};
use crate::restore;
use crate::source::Unlock;
use crate::survey::{self, target::Access};
use crate::sys::host::Host;
use std::path::{Path, PathBuf};

/// `lifeboat survey`.
pub fn survey(host: &Host, output: &Output, images: &[PathBuf], roots: &[PathBuf]) -> Result<Ending, Failure> {
    let surveyed = survey::survey(host, &places(images, roots), &is_backup)?;
    output.show(&surveyed.survey).map_err(unprinted)?;
    Ok(Ending::Done)
}

/// `lifeboat list`.
pub fn list(
    host: &Host,
    output: &Output,
    path: &Path,
    deleted: bool,
    unlock: &mut dyn Unlock,
) -> Result<Ending, Failure> {
    let location = location(host, path, unlock)?;
    let listing = reach::list(host, &location, deleted, unlock)?;
    let findings = listing.findings;
    let none = listing.archives.is_empty();
    // The newest first: that is what nearly everybody wants.
    let archives = listing.archives.into_iter().rev().collect();
    output.show(&ArchiveList { archives, findings }).map_err(unprinted)?;
    Ok(if none { Ending::NoBackup } else { Ending::Done })
}

/// `lifeboat verify`.
pub fn verify(
    host: &Host,
    output: &Output,
    path: &Path,
    archive: Option<&ArchiveId>,
    apps: Option<&[AppId]>,
    unlock: &mut dyn Unlock,
    progress: &dyn Progress,
) -> Result<Ending, Failure> {
    let verified = prepare::verify_location(host, path, archive, apps, unlock, progress)?;
    output.show(&verified.report).map_err(unprinted)?;
    Ok(if verified.report.is_undamaged() { Ending::Done } else { Ending::VerificationFailed })
}

/// `lifeboat verify --all`.
pub fn verify_all(
    host: &Host,
    output: &Output,
    path: &Path,
    unlock: &mut dyn Unlock,
    progress: &dyn Progress,
) -> Result<Ending, Failure> {
    let reports = prepare::verify_all(host, path, unlock, progress)?;
    output.show(&reports).map_err(unprinted)?;
    Ok(match (reports.is_undamaged(), reports.backups.is_empty()) {
        (true, true) => Ending::NoBackup,
        (true, false) => Ending::Done,
        (false, _) => Ending::VerificationFailed,
    })
}

/// `lifeboat plan`.
pub fn plan(
    host: &Host,
    output: &Output,
    request: &Request,
    unlock: &mut dyn Unlock,
    progress: &dyn Progress,
) -> Result<Ending, Failure> {
    let prepared = prepare::prepare(host, request, Access::Read, unlock, progress)?;
    let proposal = Proposal { plan: &prepared.plan, command: restore_command(request) };
    output.show(&proposal).map_err(unprinted)?;
    Ok(verdict(&prepared.plan))
}

/// `lifeboat drill`.
pub fn drill(
    host: &Host,
    output: &Output,
    request: &DrillRequest,
    unlock: &mut dyn Unlock,
    progress: &dyn Progress,
) -> Result<Ending, Failure> {
    let drill = drill::drill(host, request, unlock, progress);
    output.show(&drill).map_err(unprinted)?;
    Ok(drill.ending())
}

/// The words of the command that carries out the plan for this request, without the consent.
fn restore_command(request: &Request) -> Vec<String> {
    let Request { from, archive, onto, apps, extras, accept_damage, program, papers: _ } = request;
    let shown = |path: &Path| path.to_string_lossy().into_owned();
    let (Backup::At(from) | Backup::OnBox(from)) = from;
    let mut words = vec!["lifeboat".to_owned(), "restore".to_owned(), "--from".to_owned(), shown(from)];
    let mut option = |name: &str, value: Option<String>| {
        words.extend(value.map(|value| [name.to_owned(), value]).into_iter().flatten());
    };
    option("--archive", archive.as_ref().map(ToString::to_string));
    option("--onto", Some(shown(onto)));
    option("--apps", apps.as_ref().map(|apps| apps.iter().map(AppId::as_str).collect::<Vec<_>>().join(",")));
    let extras: Vec<&str> = extras.iter().map(|extra| extra.as_str()).collect();
    option("--extras", (!extras.is_empty()).then(|| extras.join(",")));
    option("--program", program.as_deref().map(shown));
    if *accept_damage {
        words.push("--accept-damage".to_owned());
    }
    words
}

/// How a plan ends: well, or with what its first blocker says.
pub(crate) fn verdict(plan: &RestorePlan) -> Ending {
    plan.blockers.first().map_or(Ending::Done, |blocker| Failure::blocked(blocker).ending)
}

/// Reads where the restore on a box stands.
pub fn status(host: &Host, output: &Output, onto: &Path) -> Result<Ending, Failure> {
    let (_target, root, _) = open_target(host, onto, Access::Read)?;
    let standing = restore::standing(&root).map_err(|error| Failure::of_restore(&error, DataState::Unknown))?;
    output.show(&Status::of(standing)).map_err(unprinted)?;
    Ok(Ending::Done)
}

/// `lifeboat grow` without consent.
pub fn growth(host: &Host, output: &Output, onto: &Path) -> Result<Ending, Failure> {
    output.show(&grow::look(host, onto)?).map_err(unprinted)?;
    Ok(Ending::Done)
}
