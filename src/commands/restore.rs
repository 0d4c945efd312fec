//! The commands that write to a box: restore, resume, undo, commit.

use super::look::Status;
use super::prepare::{Prepared, open_target, prepare, skips};
use super::unprinted;
use crate::cli::PlanArgs;
use crate::failure::{Ending, Failure};
use crate::handoff::{self, program};
use crate::model::plan::PlanId;
use crate::model::progress::Progress;
use crate::model::state::{DataState, RestoreState};
use crate::render::Output;
use crate::restore::{self, Consent, Restore, RestoreError};
use crate::source::Archive;
use crate::survey::owners::Owners;
use crate::survey::target::{Access, Target};
use crate::sys::host::Host;
use std::path::{Path, PathBuf};

/// `lifeboat restore`.
pub fn restore(
    host: &Host,
    output: &Output,
    args: &PlanArgs,
    consent: &PlanId,
    progress: &dyn Progress,
) -> Result<Ending, Failure> {
    let prepared = prepare(host, args, Access::Write, progress)?;
    carry_out(host, output, prepared, &Consent::to(consent.clone()), progress)
}

/// Carries out a prepared plan that the user consented to.
pub(crate) fn carry_out(
    host: &Host,
    output: &Output,
    prepared: Prepared,
    consent: &Consent,
    progress: &dyn Progress,
) -> Result<Ending, Failure> {
    if let Some(blocker) = prepared.plan.blockers.first() {
        return Err(Failure::blocked(blocker));
    }
    let losses = has_losses(&prepared.plan);
    let Prepared { target, root, owners, mut archive, plan, program, _location, .. } = prepared;
    let mut restore =
        Restore::begin(root, plan, consent).map_err(|error| Failure::of_restore(&error, DataState::Untouched))?;
    drive(host, output, &target, &mut restore, Some((&mut *archive, &owners)), program, progress)?;
    let standing = stand(&restore)?;
    let_go(restore, target)?;
    output.show(&standing).map_err(unprinted)?;
    Ok(if losses { Ending::DoneWithLosses } else { Ending::Done })
}

/// Whether the plan leaves something behind that the user has to know of: an app that is not restored, or damage.
fn has_losses(plan: &crate::model::plan::RestorePlan) -> bool {
    use crate::model::finding::Verdict;
    use crate::model::plan::Road;
    plan.apps.iter().any(|app| app.road == Road::Blocked || app.verdict == Verdict::Damaged)
}

/// `lifeboat resume`.
pub fn resume(host: &Host, output: &Output, onto: &Path, progress: &dyn Progress) -> Result<Ending, Failure> {
    let (target, mut restore) = take_up(host, onto)?;
    let program = program::find(&target.installation.architecture);
    if restore.is_going_back() {
        let undone = restore.undo(host.commands().as_ref(), &target.root, progress);
        undone.map_err(|error| Failure::of_restore(&error, restore.data_state()))?;
    } else if restore.is_committing() {
        let committed = restore.commit(host.commands().as_ref(), &target.root, progress);
        committed.map_err(|error| Failure::of_restore(&error, restore.data_state()))?;
    } else {
        drive(host, output, &target, &mut restore, None, program, progress)?;
    }
    let went_back = restore.is_going_back();
    let standing = stand(&restore)?;
    let_go(restore, target)?;
    output.show(&standing).map_err(unprinted)?;
    Ok(if went_back { Ending::RolledBack } else { Ending::Done })
}

/// `lifeboat undo`.
pub fn undo(host: &Host, output: &Output, onto: &Path, progress: &dyn Progress) -> Result<Ending, Failure> {
    let (target, mut restore) = take_up(host, onto)?;
    let undone = restore.undo(host.commands().as_ref(), &target.root, progress);
    undone.map_err(|error| Failure::of_restore(&error, restore.data_state()))?;
    let standing = stand(&restore)?;
    let_go(restore, target)?;
    output.show(&standing).map_err(unprinted)?;
    Ok(Ending::Done)
}

/// `lifeboat commit`.
pub fn commit(host: &Host, output: &Output, onto: &Path, progress: &dyn Progress) -> Result<Ending, Failure> {
    let (target, mut restore) = take_up(host, onto)?;
    let committed = restore.commit(host.commands().as_ref(), &target.root, progress);
    committed.map_err(|error| Failure::of_restore(&error, restore.data_state()))?;
    let standing = stand(&restore)?;
    let_go(restore, target)?;
    output.show(&standing).map_err(unprinted)?;
    Ok(Ending::Done)
}

fn take_up(host: &Host, onto: &Path) -> Result<(Target, Restore), Failure> {
    let (target, root, _) = open_target(host, onto, Access::Write)?;
    let restore = Restore::take_up(root).map_err(|error| Failure::of_restore(&error, DataState::Untouched))?;
    Ok((target, restore))
}

/// From wherever the restore stands to its end: stage, guard, exchange, hand off. Each part knows what is done already.
fn drive(
    host: &Host,
    output: &Output,
    target: &Target,
    restore: &mut Restore,
    backup: Option<(&mut dyn Archive, &Owners)>,
    program: Option<PathBuf>,
    progress: &dyn Progress,
) -> Result<(), Failure> {
    let mut work = || -> Result<(), RestoreError> {
        if let Some((archive, owners)) = backup {
            restore.stage(archive, owners, &skips, progress)?;
        }
        if !restore.is_staged() {
            return Err(RestoreError::SourceNeeded);
        }
        if target.installation.filesystem.as_deref() == Some("btrfs") {
            let refused = restore.snapshot(host.commands().as_ref(), &target.root)?;
            if let Some(why) = refused {
                output.say(&format!("No snapshot of the box was taken ({why}); the old data is kept all the same."));
            }
        }
        if let Some(program) = program {
            let mut file = program::open(&program).map_err(restore::doing("opening the program for the box"))?;
            handoff::guard(restore, &mut file)?;
        }
        restore.exchange(progress)?;
        handoff::write(restore)?;
        restore.hand_off()
    };
    let done = work();
    done.map_err(|error| Failure::of_restore(&error, restore.data_state()))
}

/// What the journal says now; anything that is still open after the work was done is a failure.
fn stand(restore: &Restore) -> Result<Status, Failure> {
    let standing =
        restore::standing(restore.root()).map_err(|error| Failure::of_restore(&error, restore.data_state()))?;
    if standing.as_ref().is_some_and(|standing| standing.state == RestoreState::Interrupted) {
        return Err(Failure::of_restore(&RestoreError::Unfinished(restore.plan().id.clone()), restore.data_state()));
    }
    Ok(Status::of(standing))
}

/// Lets go of the box: it is only done when everything is on its disk and it is unmounted.
fn let_go(restore: Restore, target: Target) -> Result<(), Failure> {
    let state = restore.data_state();
    drop(restore);
    target.release().map_err(|error| Failure {
        ending: Ending::Failed,
        sentence: format!("unmounting the box's disk: {error}"),
        state,
        advice: "run 'lifeboat status' before you remove the disk".into(),
    })
}
