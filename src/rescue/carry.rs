//! What writes to a box: carrying a plan out, and going on with, undoing or committing what was begun.

use super::prepare::{Prepared, open_target, skips};
use super::{Clerk, Done, Stand, Status};
use crate::failure::Failure;
use crate::finish::{self, Scene};
use crate::handoff::{self, program};
use crate::model::bytes;
use crate::model::ending::Ending;
use crate::model::extra::Extra;
use crate::model::papers::Papers;
use crate::model::progress::{Progress, Watched};
use crate::model::state::{DataState, RestoreState};
use crate::restore::{self, Consent, Restore, RestoreError};
use crate::source::Archive;
use crate::survey::owners::Owners;
use crate::survey::target::{Access, Target};
use crate::sys::host::Host;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::UNIX_EPOCH;

/// Carries out a prepared plan that the user consented to. The papers that `clerk` makes of it lie on the box from the
/// beginning on, and where the request wants them besides, at its end as well.
pub fn carry_out(
    host: &Host,
    prepared: Prepared,
    consent: &Consent,
    clerk: &Clerk,
    progress: &dyn Progress,
) -> Result<Done, Failure> {
    let (plan, report, at) = (prepared.plan.clone(), prepared.report.clone(), prepared.papers.clone());
    let papers = |stand: Stand| clerk(&plan, &report, stand, &now(host));
    let write = |papers: &Papers| {
        let Some(at) = &at else { return Ok(()) };
        let place = bytes::path::shown(at);
        keep(at, papers).map_err(|error| format!("The report could not be written to \"{place}\": {error}."))
    };
    let first = papers(Stand::Begun);
    let begun = write(&first);
    let carried = carry(host, prepared, consent, &first, progress);
    let ended = write(&papers(carried.as_ref().map_or_else(Stand::Stopped, |done| Stand::Ended(&done.status))));
    carried.map(|done| {
        let notes = done.notes.into_iter().chain(begun.and(ended).err()).collect();
        Done { notes, ..done }
    })
}

/// Writes papers into a directory, for their owner's eyes only.
fn keep(directory: &Path, papers: &Papers) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    for (name, text) in papers.files() {
        let new = directory.join(format!("{name}.new"));
        let _ = std::fs::remove_file(&new);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, directory.join(name))?;
    }
    Ok(())
}

/// The present time, RFC 3339 UTC.
pub(super) fn now(host: &Host) -> String {
    let since = host.clock().now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let time = i64::try_from(since).ok().and_then(|since| jiff::Timestamp::from_second(since).ok());
    time.unwrap_or_default().to_string()
}

fn carry(
    host: &Host,
    prepared: Prepared,
    consent: &Consent,
    papers: &Papers,
    progress: &dyn Progress,
) -> Result<Done, Failure> {
    let _watched = Watched::by(progress);
    let state = restore::data_on(&prepared.root);
    if let Some(blocker) = prepared.plan.blockers.first() {
        return Err(Failure { state, ..Failure::blocked(blocker) });
    }
    let ending = prepared.plan.ending();
    // The location first: what is opened from it has to be closed before it is unmounted.
    let Prepared { _location, target, root, owners, mut archive, plan, program, .. } = prepared;
    let again = root.again().map_err(|error| unopened(&error))?;
    let mut restore =
        Restore::begin(root, plan, consent).map_err(|error| Failure::of_restore(&error, restore::data_on(&again)))?;
    // An open handle would keep the box from being unmounted at the end.
    drop(again);
    let mut notes = remarks(&restore);
    notes.extend(drive(host, &target, &mut restore, Some((&mut *archive, &owners, papers)), program, progress)?);
    let status = stand(&restore)?;
    let_go(restore, target)?;
    Ok(Done { ending, status, notes })
}

/// Goes on with an interrupted restore, in whichever direction it was going.
pub fn resume(host: &Host, onto: &Path, progress: &dyn Progress) -> Result<Done, Failure> {
    let _watched = Watched::by(progress);
    let (target, mut restore) = take_up(host, onto)?;
    let program = program::find(&target.installation.architecture);
    let mut notes = remarks(&restore);
    if restore.is_going_back() {
        notes.extend(go_back(host, &target, &mut restore, false, progress)?);
    } else if restore.is_committing() {
        let committed = restore.commit(host.commands().as_ref(), &target.root, progress);
        committed.map_err(|error| Failure::of_restore(&error, restore.data_state()))?;
    } else {
        restore.settle_sidecars().map_err(|error| Failure::of_restore(&error, restore.data_state()))?;
        notes.extend(drive(host, &target, &mut restore, None, program, progress)?);
    }
    // Of a restore it is what it would have been without the interruption.
    let ending = if restore.is_going_back() {
        Ending::RolledBack
    } else if restore.is_committing() {
        Ending::Done
    } else {
        restore.plan().ending()
    };
    let status = stand(&restore)?;
    let_go(restore, target)?;
    Ok(Done { ending, status, notes })
}

/// Puts all old data back. Where an app was removed since, `leave_dumps` leaves what its database held in a file.
pub fn undo(host: &Host, onto: &Path, leave_dumps: bool, progress: &dyn Progress) -> Result<Done, Failure> {
    let _watched = Watched::by(progress);
    let (target, mut restore) = take_up(host, onto)?;
    let mut notes = remarks(&restore);
    notes.extend(go_back(host, &target, &mut restore, leave_dumps, progress)?);
    let status = stand(&restore)?;
    let_go(restore, target)?;
    Ok(Done { ending: Ending::Done, status, notes })
}

/// Undoes. On the running box FreedomBox helps: it stops the services meanwhile and imports what databases held before.
fn go_back(
    host: &Host,
    target: &Target,
    restore: &mut Restore,
    leave_dumps: bool,
    progress: &dyn Progress,
) -> Result<Vec<String>, Failure> {
    let notes = Mutex::new(Vec::new());
    let talk = |sentence: &str| notes.lock().map(|mut notes| notes.push(sentence.to_owned())).unwrap_or_default();
    let mut work = || -> Result<(), RestoreError> {
        if host.runs(&target.root) {
            let root = restore.root().again().map_err(restore::doing("opening the box's root"))?;
            let scene = Scene { host, root: &root, at: &target.root, talk: &talk, asked: true };
            if finish::is_up(&scene) {
                finish::take_back(&scene, restore, leave_dumps)?;
            }
        }
        restore.undo(host.commands().as_ref(), &target.root, progress)
    };
    let undone = work();
    undone.map_err(|error| Failure::of_restore(&error, restore.data_state()))?;
    let mut notes = notes.into_inner().unwrap_or_default();
    if !restore.stayed().is_empty() {
        let stayed: Vec<String> = restore.stayed().iter().map(|path| format!("/{path}")).collect();
        let stayed = stayed.join(", ");
        notes.push(format!("These came from the old box, were changed since, and stay where they are: {stayed}."));
    }
    Ok(notes)
}

/// Removes the old data for good.
pub fn commit(host: &Host, onto: &Path, progress: &dyn Progress) -> Result<Done, Failure> {
    let _watched = Watched::by(progress);
    let (target, mut restore) = take_up(host, onto)?;
    let committed = restore.commit(host.commands().as_ref(), &target.root, progress);
    committed.map_err(|error| Failure::of_restore(&error, restore.data_state()))?;
    let status = stand(&restore)?;
    let notes = remarks(&restore);
    let_go(restore, target)?;
    Ok(Done { ending: Ending::Done, status, notes })
}

/// What the user should know of the restore's journal: the first of the notes.
fn remarks(restore: &Restore) -> Vec<String> {
    restore.remark().map(str::to_owned).into_iter().collect()
}

fn take_up(host: &Host, onto: &Path) -> Result<(Target, Restore), Failure> {
    let (target, root, _) = open_target(host, onto, Access::Write)?;
    let again = root.again().map_err(|error| unopened(&error))?;
    let restore = Restore::take_up(root).map_err(|error| Failure::of_restore(&error, restore::data_on(&again)))?;
    Ok((target, restore))
}

fn unopened(error: &std::io::Error) -> Failure {
    Failure {
        ending: Ending::Failed,
        sentence: format!("opening the box's root: {error}"),
        state: DataState::Unknown,
        advice: "run 'lifeboat status'".into(),
    }
}

/// From wherever the restore stands to its end: guard, stage, exchange, hand off. Each part knows what is done already.
fn drive(
    host: &Host,
    target: &Target,
    restore: &mut Restore,
    backup: Option<(&mut dyn Archive, &Owners, &Papers)>,
    program: Option<PathBuf>,
    progress: &dyn Progress,
) -> Result<Vec<String>, Failure> {
    let mut notes = Vec::new();
    let work = || -> Result<(), RestoreError> {
        if backup.is_none() && !restore.is_staged() {
            return Err(RestoreError::SourceNeeded);
        }
        if target.installation.filesystem.as_deref() == Some("btrfs") {
            let refused = restore.snapshot(host.commands().as_ref(), &target.root)?;
            if let Some(why) = refused {
                notes.push(format!("No snapshot of the box was taken ({why}); the old data is kept all the same."));
            }
        }
        if let Some(program) = program {
            let mut file = program::open(&program).map_err(restore::doing("opening the program for the box"))?;
            handoff::guard(restore, file.as_mut())?;
        }
        // The guard comes first: whatever is staged, also by a medium that is gone by now, can be exchanged safely.
        if let Some((archive, owners, papers)) = backup {
            // Whatever is staged has its papers already; a plan that is carried out changes nothing any more.
            if !restore.is_staged() {
                restore.keep_papers(papers)?;
            }
            let wanted: Vec<Extra> = restore.plan().extras.iter().map(|plan| plan.extra).collect();
            for extra in wanted {
                if let Some(held) = archive.extras() {
                    handoff::extras::write(restore, extra, held)?;
                }
            }
            restore.stage(archive, owners, &skips, progress)?;
        }
        restore.exchange(progress)?;
        handoff::write(restore)?;
        restore.hand_off()
    };
    let done = work();
    done.map_err(|error| Failure::of_restore(&error, restore.data_state()))?;
    Ok(notes)
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
