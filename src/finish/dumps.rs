//! Dumps of databases and settings: the ones that FreedomBox imports, and the ones that are kept of what an app held
//! before, private to root.
//!
//! Invariants:
//! - What is kept is never replaced by another dump: it goes with `commit` or once undoing has brought it back.
//! - A dump that came from the backup is in its place again before anything is imported.

use crate::model::app::AppId;
use crate::model::path::RelPath;
use crate::model::plan::Step;
use crate::restore::{Restore, RestoreError, doing};
use crate::sys::dir::{self, Dir, Kind};
use crate::sys::tree;
use std::fs::File;
use std::io;

/// Where FreedomBox expects the dumps that it imports.
const DUMPS: &str = "var/lib/plinth/backups-data/";

/// A path that FreedomBox names, when it is one of its dumps.
pub(super) fn inside(dump: &str) -> Option<RelPath> {
    let path = RelPath::parse_absolute(dump.as_bytes()).ok()?;
    path.as_bytes().starts_with(DUMPS.as_bytes()).then_some(path)
}

/// Removes what is at a path, where something is.
pub(super) fn remove(restore: &Restore, path: &RelPath) -> Result<(), RestoreError> {
    let failed = || doing(format!("removing \"{path}\""));
    match restore.root().parent(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => tree::remove(&other.map_err(failed())?, path.file_name()).map_err(failed()),
    }
}

/// Keeps dumps that FreedomBox just wrote, until the restore is undone or committed.
pub(super) fn keep(restore: &Restore, app: &AppId, dumps: &[String]) -> Result<(), RestoreError> {
    let failed = || doing(format!("keeping what '{app}' holds now"));
    let store = child(&restore.kept()?, app.as_str()).map_err(failed())?;
    take(restore, dumps, &store).map_err(failed())
}

/// Where dumps of an app are kept that were made before another attempt.
pub(super) fn later(restore: &Restore, app: &AppId) -> Result<RelPath, RestoreError> {
    Ok(restore.kept_path()?.join(format!("{app}.later").as_bytes())?)
}

/// The same for what the app holds before another attempt, which its owner may have added since the last one: beside
/// the first, as the `nth`.
pub(super) fn keep_again(restore: &Restore, app: &AppId, nth: usize, dumps: &[String]) -> Result<(), RestoreError> {
    let failed = || doing(format!("keeping what '{app}' holds now"));
    let all = child(&restore.kept()?, &format!("{app}.later")).map_err(failed())?;
    let store = child(&all, &nth.to_string()).map_err(failed())?;
    take(restore, dumps, &store).map_err(failed())
}

fn child(at: &Dir, name: &str) -> io::Result<Dir> {
    at.make_child(name.as_bytes())?;
    at.sync()?;
    at.child(name.as_bytes())
}

/// Moves dumps into a directory, which may be on another filesystem.
fn take(restore: &Restore, dumps: &[String], store: &Dir) -> io::Result<()> {
    for path in dumps.iter().filter_map(|dump| inside(dump)) {
        let name = path.file_name();
        let at = restore.root().parent(&path)?;
        write(store, name, &mut at.read_file(name)?)?;
        store.sync()?;
        at.remove_file(name)?;
    }
    Ok(())
}

/// The steps that bring the dumps of the backup.
fn of_backup(restore: &Restore, app: &AppId) -> Vec<Step> {
    let mut steps = restore.parked_steps(app);
    steps.retain(|step| step.destination.as_bytes().starts_with(DUMPS.as_bytes()));
    steps
}

/// Copies the dumps of the backup that an earlier attempt put in place, because FreedomBox writes its own under their
/// names. They come back by [`bring_back`], also after a power cut.
pub(super) fn set_aside(restore: &Restore, app: &AppId) -> Result<(), RestoreError> {
    let failed = || doing(format!("setting the dump of '{app}' aside"));
    let store = child(&restore.kept()?, &format!("{app}.placed")).map_err(failed())?;
    for step in of_backup(restore, app) {
        let path = &step.destination;
        if restore.is_moved(&step)? && store.stat_child(path.file_name()).map_err(failed())?.is_none() {
            copy(restore, path, &store).map_err(failed())?;
        }
    }
    Ok(())
}

/// A copy has its name when it is whole.
fn copy(restore: &Restore, path: &RelPath, store: &Dir) -> io::Result<()> {
    let name = path.file_name();
    let unready = [name, b".new"].concat();
    write(store, &unready, &mut restore.root().parent(path)?.read_file(name)?)?;
    store.move_to(&unready, store, name)?;
    store.sync()
}

/// Puts the dumps of the backup that were set aside to where they were. Can be called again.
pub(super) fn bring_back(restore: &Restore, app: &AppId) -> Result<(), RestoreError> {
    let failed = || doing(format!("bringing the dump of '{app}' back"));
    let store = match restore.kept()?.child(format!("{app}.placed").as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(failed())?,
    };
    for step in of_backup(restore, app) {
        let name = step.destination.file_name();
        if store.stat_child(name).map_err(failed())?.is_some() {
            let mut dump = store.read_file(name).map_err(failed())?;
            put(restore, &mut dump, &step.destination).map_err(failed())?;
            restore.root().parent(&step.destination).and_then(|at| at.sync()).map_err(failed())?;
            store.remove_file(name).map_err(failed())?;
        }
    }
    store.sync().map_err(failed())
}

/// What is kept of what an app held before the restore.
pub(super) fn kept(restore: &Restore, app: &AppId) -> Result<Vec<Vec<u8>>, RestoreError> {
    let failed = || doing(format!("looking at what '{app}' held before"));
    match restore.kept()?.child(app.as_str().as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other.and_then(|store| store.names()).map_err(failed()),
    }
}

/// Puts kept dumps where FreedomBox imports them from.
pub(super) fn offer(restore: &Restore, app: &AppId, kept: &[Vec<u8>], dumps: &[String]) -> Result<(), RestoreError> {
    let failed = || doing(format!("bringing back what '{app}' held before"));
    for path in dumps.iter().filter_map(|dump| inside(dump)) {
        remove(restore, &path)?;
        if !kept.iter().any(|name| name == path.file_name()) {
            continue;
        }
        let store = restore.kept()?.child(app.as_str().as_bytes()).map_err(failed())?;
        put(restore, &mut store.read_file(path.file_name()).map_err(failed())?, &path).map_err(failed())?;
    }
    Ok(())
}

/// Writes a dump to where FreedomBox imports it from.
pub(super) fn put(restore: &Restore, dump: &mut File, path: &RelPath) -> io::Result<()> {
    let (at, name) = (restore.root().parent(path)?, path.file_name());
    write(&at, name, dump)?;
    // As FreedomBox's own dumps: the database's user does not read them, FreedomBox does.
    let folder = at.stat_self()?;
    if folder.kind == Kind::Directory {
        at.set_owner(name, folder.uid, folder.gid)?;
    }
    Ok(())
}

/// Writes a file anew, onto the medium.
fn write(at: &Dir, name: &[u8], content: &mut File) -> io::Result<()> {
    tree::remove(at, name)?;
    let mut file = at.create_file(name)?;
    io::copy(content, &mut file)?;
    dir::sync_file(&file)
}
