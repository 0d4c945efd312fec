//! The commands that write: restore, resume, undo and commit to a box, export to a file.

use super::unprinted;
use crate::export::{self, Wish};
use crate::failure::Failure;
use crate::model::archive::ArchiveId;
use crate::model::ending::Ending;
use crate::model::plan::PlanId;
use crate::model::progress::{Event, Progress};
use crate::model::state::DataState;
use crate::render::{Output, record};
use crate::rescue::prepare::prepare;
use crate::rescue::reach::{self, location};
use crate::rescue::{Done, Request, carry, grow};
use crate::restore::Consent;
use crate::source::Unlock;
use crate::survey::target::Access;
use crate::sys::host::Host;
use std::path::Path;

/// `lifeboat restore`.
pub fn restore(
    host: &Host,
    output: &Output,
    request: &Request,
    consent: &PlanId,
    unlock: &mut dyn Unlock,
    progress: &dyn Progress,
) -> Result<Ending, Failure> {
    let prepared = prepare(host, request, Access::Write, unlock, progress)?;
    show(output, carry::carry_out(host, prepared, &Consent::to(consent.clone()), &record::papers, progress)?)
}

/// `lifeboat grow --consent`.
pub fn grow(host: &Host, output: &Output, onto: &Path, consent: &PlanId) -> Result<Ending, Failure> {
    let done = grow::grow(host, onto, consent)?;
    output.show(&done).map_err(|error| Failure { state: DataState::OldDataActive, ..unprinted(error) })?;
    Ok(Ending::Done)
}

/// `lifeboat resume`.
pub fn resume(host: &Host, output: &Output, onto: &Path, progress: &dyn Progress) -> Result<Ending, Failure> {
    show(output, carry::resume(host, onto, progress)?)
}

/// `lifeboat undo`.
pub fn undo(
    host: &Host,
    output: &Output,
    onto: &Path,
    leave_dumps: bool,
    progress: &dyn Progress,
) -> Result<Ending, Failure> {
    show(output, carry::undo(host, onto, leave_dumps, progress)?)
}

/// `lifeboat commit`.
pub fn commit(host: &Host, output: &Output, onto: &Path, progress: &dyn Progress) -> Result<Ending, Failure> {
    show(output, carry::commit(host, onto, progress)?)
}

/// `lifeboat export`.
#[allow(clippy::too_many_arguments, reason = "each is one word of the command line")]
pub fn export(
    host: &Host,
    output: &Output,
    from: &Path,
    archive: Option<&ArchiveId>,
    file: &Path,
    accept_damage: bool,
    unlock: &mut dyn Unlock,
    progress: &dyn Progress,
) -> Result<Ending, Failure> {
    let location = location(host, from, unlock)?;
    let mut archive = reach::open(host, &location, archive, unlock)?;
    let exported =
        export::export(archive.as_mut(), &location.path, file, Wish { accept_damage, passphrase: None }, progress)?;
    progress.event(Event::End);
    output.show(&exported).map_err(unprinted)?;
    Ok(if exported.is_whole() { Ending::Done } else { Ending::DoneWithLosses })
}

fn show(output: &Output, done: Done) -> Result<Ending, Failure> {
    done.notes.iter().for_each(|note| output.say(note));
    output.show(&done.status).map_err(|error| Failure {
        state: done.status.standing.as_ref().map_or(DataState::Untouched, |details| details.data),
        ..unprinted(error)
    })?;
    Ok(done.ending)
}
