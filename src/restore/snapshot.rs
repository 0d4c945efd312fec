//! A read-only btrfs snapshot of the target's root before anything changes.
//!
//! A second safety net beside the kept old data, where the filesystem gives it for nothing. A restore does not depend
//! on it: where it cannot be taken, the reason is reported and the restore goes on.

use super::journal::Record;
use super::{Restore, RestoreError, place};
use crate::model::path::RelPath;
use crate::sys::command::{self, Commands};
use std::ffi::OsStr;
use std::path::Path;

impl Restore {
    /// Takes the snapshot, once. `root` is where the target is mounted. Gives the reason where it could not be taken.
    pub fn snapshot(&mut self, commands: &dyn Commands, root: &Path) -> Result<Option<String>, RestoreError> {
        let path = place::restore(&self.plan().id)?.join(b"snapshot")?;
        let taken = self.root().stat(&path).map_err(super::doing("looking for the snapshot"))?.is_some();
        if taken || self.has_exchanged() {
            return Ok(None);
        }
        if self.snapshot_path().is_none() {
            self.journal_mut().write(Record::Snapshot { path: path.clone() })?;
        }
        let to = root.join(path.as_path());
        let args = ["subvolume".as_ref(), "snapshot".as_ref(), "-r".as_ref(), root.as_os_str(), to.as_os_str()];
        Ok(command::succeed(commands, "btrfs", &args).err().map(|error| error.to_string()))
    }

    /// Removes the snapshot; nothing where there is none.
    pub(super) fn remove_snapshot(&self, commands: &dyn Commands, root: &Path) -> Result<(), RestoreError> {
        let Some(path) = self.snapshot_path() else { return Ok(()) };
        let failed = || super::doing(format!("removing the snapshot \"{path}\""));
        if self.root().stat(&path).map_err(failed())?.is_none() {
            return Ok(());
        }
        let at = root.join(path.as_path());
        let args: [&OsStr; 3] = ["subvolume".as_ref(), "delete".as_ref(), at.as_os_str()];
        let deleted = command::succeed(commands, "btrfs", &args);
        deleted.map(drop).map_err(|error| failed()(std::io::Error::other(error)))
    }

    fn snapshot_path(&self) -> Option<RelPath> {
        self.records().iter().find_map(|record| match record {
            Record::Snapshot { path } => Some(path.clone()),
            _ => None,
        })
    }
}
