//! Where things lie in Lifeboat's own directory on the target, and making and removing them.

use super::journal::{Journal, Record};
use super::{Restore, RestoreError, doing};
use crate::model::papers::Papers;
use crate::model::path::RelPath;
use crate::model::plan::{PlanId, Step};
use crate::model::site::AREA;
use crate::sys::dir::{self, Dir, Kind};
use crate::sys::{fault, tree};
use std::io::{self, Write as _};

/// The file whose presence makes the target's next boot finish the restore before any app starts.
pub(super) const INTERRUPTED: &[u8] = b"interrupted";

pub(super) fn area() -> Result<RelPath, RestoreError> {
    super::area()
}

/// `var/lib/lifeboat/restores/<id>`.
pub(super) fn restore(id: &PlanId) -> Result<RelPath, RestoreError> {
    Ok(format!("{AREA}/restores/{id}").parse()?)
}

/// The staging directory of a step: on the filesystem of its destination.
pub(super) fn stage(id: &PlanId, step: &Step) -> Result<RelPath, RestoreError> {
    Ok(step.area.join(format!("restores/{id}/stage").as_bytes())?)
}

/// Where a step's data lies while it is not in its place.
pub(super) fn staged(id: &PlanId, step: &Step) -> Result<RelPath, RestoreError> {
    Ok(stage(id, step)?.join(step.id.to_string().as_bytes())?)
}

/// Where the running box keeps what it saved before it changed it, until the restore is undone or committed.
pub(super) fn kept(id: &PlanId) -> Result<RelPath, RestoreError> {
    Ok(restore(id)?.join(b"kept")?)
}

pub(super) fn make_area(root: &Dir) -> Result<Dir, RestoreError> {
    make_private(root, &area()?)
}

pub(super) fn make_restore(root: &Dir, id: &PlanId) -> Result<Dir, RestoreError> {
    make_private(root, &restore(id)?)
}

pub(super) fn make_stage(root: &Dir, id: &PlanId, step: &Step) -> Result<Dir, RestoreError> {
    make_private(root, &stage(id, step)?)
}

/// Opens a directory of Lifeboat's own, made where it is missing: Lifeboat's are root's and 0700, system directories
/// on the way (`var`, `var/lib`) are 0755.
pub(super) fn make_private(root: &Dir, path: &RelPath) -> Result<Dir, RestoreError> {
    let mut at = root.again().map_err(doing("opening the box's root"))?;
    let mut own = false;
    for name in path.components() {
        own = own || matches!(name, b"lifeboat" | b".lifeboat");
        let made = at.make_child(name).map_err(doing(format!("making \"{path}\"")))?;
        let child = at.child(name).map_err(doing(format!("opening \"{path}\"")))?;
        if made {
            if !own {
                at.set_mode(name, 0o755).map_err(doing(format!("making \"{path}\"")))?;
            }
            at.sync().map_err(doing(format!("making \"{path}\"")))?;
        }
        at = child;
    }
    Ok(at)
}

/// Removes what a finished restore of the same plan left, so that it can be carried out again.
pub(super) fn clear_finished(root: &Dir, id: &PlanId) -> Result<(), RestoreError> {
    let restores = make_private(root, &format!("{AREA}/restores").parse()?)?;
    tree::remove(&restores, id.as_str().as_bytes()).map_err(doing("removing an earlier restore's journal"))
}

/// Sets or clears the mark of an interrupted restore.
pub(super) fn set_interrupted(root: &Dir, on: bool) -> Result<(), RestoreError> {
    let area = make_area(root)?;
    let there = area.stat_child(INTERRUPTED).map_err(doing("looking at Lifeboat's directory"))?.is_some();
    let change = match (on, there) {
        (true, false) => area.create_file(INTERRUPTED).map(drop),
        (false, true) => area.remove_file(INTERRUPTED),
        _ => return Ok(()),
    };
    change.and_then(|()| area.sync()).map_err(doing("marking the restore"))
}

impl Restore {
    /// Makes the missing parents of a live path, each noted first so that undoing removes it; root's, 0755.
    pub fn make_parents(&mut self, path: &RelPath) -> Result<Dir, RestoreError> {
        for parent in path.ancestors() {
            if self.is_made(&parent).map_err(doing(format!("looking at \"{parent}\"")))? {
                continue;
            }
            if !self.noted_making(&parent) {
                self.journal.write(Record::Made { path: parent.clone() })?;
            }
            let at = self.root.parent(&parent).map_err(doing(format!("opening the parent of \"{parent}\"")))?;
            at.make_child(parent.file_name()).map_err(doing(format!("making \"{parent}\"")))?;
            // systemd insists on this one being closed to everybody else.
            let mode = if parent.as_bytes() == b"var/lib/private" { 0o700 } else { 0o755 };
            at.set_mode(parent.file_name(), mode).map_err(doing(format!("making \"{parent}\"")))?;
            at.sync().map_err(doing(format!("making \"{parent}\"")))?;
        }
        self.root.parent(path).map_err(doing(format!("opening the parent of \"{path}\"")))
    }

    /// Whether a parent is there with its right mode: one that the power was cut at is noted, private and empty.
    fn is_made(&self, parent: &RelPath) -> io::Result<bool> {
        match self.root.stat(parent)? {
            None => Ok(false),
            Some(stat) if stat.mode == 0o700 && stat.kind == Kind::Directory && self.noted_making(parent) => {
                Ok(!self.root.dir(parent)?.names()?.is_empty())
            }
            Some(_) => Ok(true),
        }
    }

    fn noted_making(&self, parent: &RelPath) -> bool {
        self.records().iter().any(|record| matches!(record, Record::Made { path } if path == parent))
    }

    /// Writes a file of Lifeboat's own on the target, noted first so that undoing removes it. The content appears
    /// under its name only when it is complete on the medium.
    pub fn place_file(&mut self, path: &RelPath, content: &mut dyn io::Read, mode: u32) -> Result<(), RestoreError> {
        let at = self.note_writing(path)?;
        let temporary = [path.file_name(), b".lifeboat-new"].concat();
        let mut write = || -> io::Result<()> {
            tree::remove(&at, &temporary)?;
            let mut file = at.create_file(&temporary)?;
            fault::point("write.data")?;
            io::copy(content, &mut file)?;
            dir::set_metadata(&file, (0, 0), mode, &[], file_time(&file)?)?;
            dir::sync_file(&file)?;
            at.replace(&temporary, path.file_name())?;
            at.sync()
        };
        write().map_err(super::writing(path))
    }

    /// Keeps the papers of this restore beside its journal, where root alone reads them. They stay as it does.
    pub fn keep_papers(&self, papers: &Papers) -> Result<(), RestoreError> {
        let failed = || doing("keeping the report on the box");
        let at = make_restore(&self.root, &self.plan.id)?;
        for (name, text) in papers.files() {
            let write = || -> io::Result<()> {
                tree::remove(&at, name.as_bytes())?;
                let mut file = at.create_file(name.as_bytes())?;
                file.write_all(text.as_bytes())?;
                dir::sync_file(&file)
            };
            write().map_err(failed())?;
        }
        at.sync().map_err(failed())
    }

    /// Makes a symbolic link of Lifeboat's own on the target, noted first.
    pub fn place_link(&mut self, path: &RelPath, target: &[u8]) -> Result<(), RestoreError> {
        let at = self.note_writing(path)?;
        let name = path.file_name();
        let write = || -> io::Result<()> {
            if at.stat_child(name)?.is_some_and(|stat| stat.kind == Kind::Symlink) {
                at.remove_file(name)?;
            }
            at.make_symlink(name, target)?;
            at.sync()
        };
        write().map_err(super::writing(path))
    }

    fn note_writing(&mut self, path: &RelPath) -> Result<Dir, RestoreError> {
        let at = self.make_parents(path)?;
        let noted = self.records().iter().any(|record| matches!(record, Record::Writing { path: p } if p == path));
        if !noted {
            self.journal.write(Record::Writing { path: path.clone() })?;
        }
        Ok(at)
    }

    pub(super) fn journal_mut(&mut self) -> &mut Journal {
        &mut self.journal
    }
}

fn file_time(file: &std::fs::File) -> io::Result<crate::model::entry::Mtime> {
    use std::os::unix::fs::MetadataExt;
    let metadata = file.metadata()?;
    Ok(crate::model::entry::Mtime { secs: metadata.mtime(), nanos: u32::try_from(metadata.mtime_nsec()).unwrap_or(0) })
}
