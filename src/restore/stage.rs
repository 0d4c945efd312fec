//! Writing an archive's entries into the staging area.
//!
//! Owns the staged trees: `<area>/restores/<plan id>/stage/<step>`. Never touches a live path. Everything written is
//! summed twice: what the archive gave must be what verification saw, and what lies on the disk, read back from the
//! medium, must be what was meant to be written. Only then is a step recorded as staged.

pub(super) mod orphan;
pub(super) mod owners;
pub(super) mod writeback;

use super::RestoreError;
use crate::model::app::AppId;
use crate::model::digest::{Sha256Digest, TreeDigest};
use crate::model::entry::{Entry, EntryKind, Mtime};
use crate::model::path::RelPath;
use crate::model::plan::Step;
use crate::model::progress::{Event, Progress};
use crate::source::{VisitError, Visitor, for_each_piece};
use crate::survey::owners::Owners;
use crate::sys::dir::{self, Dir, Kind, Xattr};
use crate::sys::tree::{self, Record};
use crate::sys::{fault, tree::hash};
use crate::verify::content_record;
use orphan::Orphans;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, Write};
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use writeback::Writeback;

/// One step while it is being staged.
pub(super) struct Staging<'a> {
    pub(super) step: &'a Step,
    /// The directory that holds the staged tree under the step's number.
    pub(super) stage: Dir,
    /// What the archive gave so far.
    pub(super) content: TreeDigest,
    /// What the disk will hold.
    pub(super) tree: TreeDigest,
    /// Metadata of directories, set when everything below them is written.
    directories: BTreeMap<Vec<u8>, Metadata>,
    /// The directory that was used last, by its path: most files lie beside the one before.
    latest: Option<(Vec<u8>, Rc<Dir>)>,
}

struct Metadata {
    owner: (u32, u32),
    mode: u32,
    mtime: Mtime,
    xattrs: Vec<Xattr>,
    /// Whether the archive has an entry for it; a directory may only be implied by what is below it.
    is_listed: bool,
}

impl<'a> Staging<'a> {
    pub(super) fn new(step: &'a Step, stage: Dir) -> Staging<'a> {
        let (content, tree) = (TreeDigest::default(), TreeDigest::default());
        Staging { step, stage, content, tree, directories: BTreeMap::new(), latest: None }
    }

    /// The name of the staged tree in the stage directory.
    pub(super) fn name(&self) -> Vec<u8> {
        self.step.id.to_string().into_bytes()
    }

    /// Handle of the staged directory that holds `relative`, made with its parents where it is missing.
    fn parent(&mut self, relative: &[u8], mtime: Mtime) -> io::Result<Rc<Dir>> {
        if relative.is_empty() {
            return Ok(Rc::new(self.stage.again()?));
        }
        let cut = relative.iter().rposition(|&b| b == b'/');
        let parents = relative.get(..cut.unwrap_or_default()).unwrap_or_default();
        // A staged directory is never replaced, so its handle stays right.
        if let Some((path, latest)) = &self.latest
            && path == parents
        {
            return Ok(Rc::clone(latest));
        }
        let stage = self.stage.again()?;
        let mut at = self.enter(&stage, &self.name(), b"", mtime)?;
        let mut end = 0;
        for name in parents.split(|&b| b == b'/').filter(|name| !name.is_empty()) {
            end += name.len() + usize::from(end > 0);
            let so_far = parents.get(..end).unwrap_or_default().to_vec();
            at = self.enter(&at, name, &so_far, mtime)?;
        }
        let at = Rc::new(at);
        self.latest = Some((parents.to_vec(), Rc::clone(&at)));
        Ok(at)
    }

    /// Opens a directory of the staged tree, or makes it: one that the archive does not list is root's and 0755.
    fn enter(&mut self, at: &Dir, name: &[u8], relative: &[u8], mtime: Mtime) -> io::Result<Dir> {
        if !self.directories.contains_key(relative) {
            at.make_child(name)?;
            let implied = Metadata { owner: (0, 0), mode: 0o755, mtime, xattrs: Vec::new(), is_listed: false };
            self.directories.insert(relative.to_vec(), implied);
        }
        at.child(name)
    }

    /// Sets the directories' metadata, the deepest first, and completes the digest of the tree.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        let name = self.name();
        for (relative, metadata) in std::mem::take(&mut self.directories).into_iter().rev() {
            let mut handle = self.stage.child(&name)?;
            if !relative.is_empty() {
                let path = RelPath::parse(&relative).map_err(io::Error::other)?;
                handle = handle.dir(&path)?;
            }
            dir::set_metadata(&handle, metadata.owner, metadata.mode, &metadata.xattrs, metadata.mtime)?;
            self.tree.add(record(&relative, Kind::Directory, &metadata, None));
        }
        Ok(())
    }
}

fn record(relative: &[u8], kind: Kind, of: &Metadata, content: Option<Sha256Digest>) -> Sha256Digest {
    Record { relative, kind, mode: of.mode, owner: of.owner, mtime: of.mtime, xattrs: &of.xattrs, content }.digest()
}

/// Stages every entry that belongs to one of its steps.
pub(super) struct Stager<'a> {
    pub(super) steps: Vec<Staging<'a>>,
    /// Steps that an earlier run staged; a hard link may name a file of theirs.
    pub(super) kept: Vec<Staging<'a>>,
    pub(super) owners: &'a Owners,
    pub(super) skips: &'a dyn Fn(&Entry) -> bool,
    pub(super) progress: &'a dyn Progress,
    /// Where owners go whose names the target does not have yet, for the next boot.
    pub(super) unknown_owners: File,
    /// Why the work stopped, where the reason is not the archive's.
    pub(super) failure: Option<RestoreError>,
    /// Hard links to files that are not restored; their content is fetched afterwards.
    pub(super) orphans: Orphans,
    /// Gets what was written to the medium meanwhile.
    pub(super) writeback: Writeback,
    /// The app that is being worked on.
    pub(super) app: Option<AppId>,
}

/// Tells that the archive is being read, and not how far: what counts is what is written.
pub(super) struct Pulse<'a>(pub(super) &'a dyn Progress);

impl Progress for Pulse<'_> {
    fn event(&self, event: Event) {
        if matches!(event, Event::Advance { .. }) {
            self.0.event(Event::Advance { bytes: 0, entries: 0 });
        }
    }
}

impl Visitor for Stager<'_> {
    fn needs_content(&mut self, entry: &Entry) -> bool {
        !(self.skips)(entry) && self.steps.iter().any(|staging| entry.path.is_within(&staging.step.source))
    }

    fn visit(&mut self, entry: &Entry, content: &mut dyn BufRead) -> Result<(), VisitError> {
        if (self.skips)(entry) {
            return Ok(());
        }
        let Some(index) = self.step_of(&entry.path) else { return Ok(()) };
        let staged = self.stage_in(index, |stager, staging| stager.stage(staging, entry, content));
        self.take_in(entry, staged)
    }
}

impl<'a> Stager<'a> {
    /// Works on one of the steps. It is taken out meanwhile, because a hard link may look into the others.
    fn stage_in<T>(&mut self, index: usize, work: impl FnOnce(&mut Self, &mut Staging<'a>) -> T) -> T {
        let mut staging = self.steps.swap_remove(index);
        if self.app.as_ref() != Some(&staging.step.app) {
            self.app = Some(staging.step.app.clone());
            self.progress.event(Event::App { name: staging.step.app.clone() });
        }
        let done = work(self, &mut staging);
        self.steps.push(staging);
        done
    }

    /// Keeps why the work stops.
    fn take_in(&mut self, entry: &Entry, staged: Result<(), Trouble>) -> Result<(), VisitError> {
        match staged {
            Ok(()) => {
                self.progress.event(Event::Advance { bytes: 0, entries: 1 });
                Ok(())
            }
            Err(Trouble::Content(error)) => Err(VisitError::Content(error)),
            Err(Trouble::Target(source)) => {
                self.failure = Some(RestoreError::Writing { path: entry.path.clone(), source });
                Err(VisitError::Stop)
            }
            Err(Trouble::Refused(why)) => {
                self.failure = Some(RestoreError::Refused { path: entry.path.clone(), why });
                Err(VisitError::Stop)
            }
        }
    }

    /// The step that an entry belongs to.
    fn step_of(&self, path: &RelPath) -> Option<usize> {
        self.steps.iter().position(|staging| path.is_within(&staging.step.source))
    }
}

enum Trouble {
    /// The archive failed while its content was read.
    Content(io::Error),
    /// The target failed.
    Target(io::Error),
    /// The entry must not be restored.
    Refused(String),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble::Target(error)
    }
}

impl Stager<'_> {
    fn stage(&mut self, staging: &mut Staging, entry: &Entry, content: &mut dyn BufRead) -> Result<(), Trouble> {
        let relative = entry.path.relative_to(&staging.step.source).unwrap_or_default().to_vec();
        let metadata = self.metadata(staging, entry)?;
        let name = match relative.as_slice() {
            b"" => staging.name(),
            _ => entry.path.file_name().to_vec(),
        };
        let parent = staging.parent(&relative, entry.mtime)?;
        let source = &staging.step.source;
        match &entry.kind {
            EntryKind::Directory => {
                parent.make_child(&name)?;
                // Opening it proves that it is a directory and not something that an earlier entry put there.
                parent.child(&name)?;
                let earlier = staging.directories.insert(relative.clone(), metadata);
                if !earlier.is_some_and(|earlier| earlier.is_listed) {
                    staging.content.add(content_record(source, &relative, &entry.kind, None));
                }
            }
            EntryKind::File { size, sparse } => {
                let (file, earlier) = match parent.create_file(&name) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                        let earlier = make_way(staging, entry, &parent, &name, &relative)?;
                        (parent.create_file(&name)?, earlier)
                    }
                    other => (other?, None),
                };
                let digest = match self.copy(content, &file, *size, *sparse) {
                    Ok(digest) => digest,
                    Err(trouble) => {
                        // Half a file must not look like a whole one.
                        parent.remove_file(&name)?;
                        return Err(trouble);
                    }
                };
                dir::set_metadata(&file, metadata.owner, metadata.mode, &metadata.xattrs, metadata.mtime)?;
                let fingerprint = entry.fingerprint.unwrap_or(digest);
                if let Some((kind, content)) = earlier {
                    // The disk does not tell the earlier one's fingerprint, but equal content has an equal one.
                    let content = content.map(|earlier| if earlier == digest { fingerprint } else { earlier });
                    staging.content.remove(content_record(source, &relative, &kind, content));
                }
                staging.content.add(content_record(source, &relative, &entry.kind, Some(fingerprint)));
                staging.tree.add(record(&relative, Kind::File, &metadata, Some(digest)));
                self.writeback.staged(*size);
            }
            EntryKind::Symlink { target } => {
                replace(staging, entry, &parent, &name, &relative)?;
                parent.make_symlink(&name, target)?;
                parent.set_owner(&name, metadata.owner.0, metadata.owner.1)?;
                parent.set_mtime(&name, metadata.mtime)?;
                let digest = Sha256Digest::of(target);
                staging.content.add(content_record(source, &relative, &entry.kind, None));
                staging.tree.add(record(&relative, Kind::Symlink, &metadata, Some(digest)));
            }
            EntryKind::Fifo => {
                replace(staging, entry, &parent, &name, &relative)?;
                parent.make_fifo(&name)?;
                parent.set_owner(&name, metadata.owner.0, metadata.owner.1)?;
                parent.set_mode(&name, metadata.mode)?;
                parent.set_mtime(&name, metadata.mtime)?;
                staging.content.add(content_record(source, &relative, &entry.kind, None));
                staging.tree.add(record(&relative, Kind::Fifo, &metadata, None));
            }
            EntryKind::HardLink { to } => {
                let Some((from, from_name)) = self.link_master(staging, to)? else {
                    self.orphans.add(entry, to);
                    return Ok(());
                };
                replace(staging, entry, &parent, &name, &relative)?;
                match parent.make_link(&name, &from, &from_name) {
                    // The two lie on different filesystems of this box: each gets the content.
                    Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                        copy_apart(&from, &from_name, &parent, &name)?;
                    }
                    other => other?,
                }
                let stat = parent.stat_child(&name)?.ok_or_else(vanished)?;
                staging.content.add(content_record(source, &relative, &entry.kind, None));
                staging.tree.add(tree::record_of(&parent, &name, stat, &relative)?);
            }
        }
        Ok(())
    }

    /// The staged file that a hard link names: in the same step, or in another one on the same filesystem. `None` where
    /// that file is not restored.
    fn link_master(&self, staging: &Staging, to: &RelPath) -> Result<Option<(Dir, Vec<u8>)>, Trouble> {
        let holder = std::iter::once(staging)
            .chain(&self.steps)
            .chain(&self.kept)
            .find(|other| to.is_within(&other.step.source));
        let Some(holder) = holder.filter(|_| !self.orphans.has(to)) else { return Ok(None) };
        let relative = to.relative_to(&holder.step.source).unwrap_or_default();
        let (parent, name) = match RelPath::parse(relative) {
            Err(_) => (holder.stage.again()?, holder.name()),
            Ok(path) => (holder.stage.child(&holder.name())?.parent(&path)?, path.file_name().to_vec()),
        };
        match parent.stat_child(&name)?.map(|stat| stat.kind) {
            Some(Kind::File | Kind::Fifo) => Ok(Some((parent, name))),
            _ => Err(Trouble::Refused(format!("it is a hard link to \"{to}\", which is not a file before it"))),
        }
    }

    fn metadata(&mut self, staging: &Staging, entry: &Entry) -> Result<Metadata, Trouble> {
        let destination = entry.path.moved(&staging.step.source, &staging.step.destination);
        let destination = destination.ok_or_else(|| Trouble::Refused("its new path is too long".into()))?;
        let owner = self.owners.map(&entry.owner, &destination);
        if !self.owners.knows(&entry.owner) {
            let line = unknown_owner(staging.step, entry, &destination).map_err(io::Error::from)?;
            fault::write("write.data", &line, |bytes| self.unknown_owners.write_all(bytes))?;
        }
        let xattrs = self.owners.attributes(entry).map_err(|error| Trouble::Refused(error.to_string()))?;
        // A set-id program whose owner is not known here would run as root.
        let is_stranger = !self.owners.knows(&entry.owner) && !matches!(entry.kind, EntryKind::Directory);
        let mode = if is_stranger { entry.mode & 0o1777 } else { entry.mode };
        Ok(Metadata { owner, mode, mtime: entry.mtime, xattrs, is_listed: true })
    }

    /// Copies exactly `size` bytes and returns their digest; holes stay holes.
    fn copy(
        &mut self,
        content: &mut dyn BufRead,
        file: &File,
        size: u64,
        sparse: bool,
    ) -> Result<Sha256Digest, Trouble> {
        let mut hasher = Sha256::new();
        let mut position = 0u64;
        for_each_piece(content, Trouble::Content, |piece| {
            hasher.update(piece);
            if !(sparse && piece.iter().all(|&b| b == 0)) {
                fault::write("write.data", piece, |bytes| file.write_all_at(bytes, position))?;
            }
            position = position.saturating_add(piece.len() as u64);
            self.progress.event(Event::Advance { bytes: piece.len() as u64, entries: 0 });
            Ok(())
        })?;
        if position != size {
            return Err(Trouble::Refused(format!("it has {position} bytes where the archive announces {size}")));
        }
        if sparse {
            file.set_len(size)?;
        }
        Ok(Sha256Digest::from_hasher(hasher))
    }
}

/// What was staged before: its kind, and the digest of a file's bytes.
type Earlier = (EntryKind, Option<Sha256Digest>);

/// An archive may hold the same entry several times, once for each path that was backed up and contains it. The later
/// one takes the place of the earlier one, in the sums as well: if they differ, the sum is not what verification saw.
/// Returns what has to be taken out of the sum of content.
fn make_way(
    staging: &mut Staging,
    entry: &Entry,
    parent: &Dir,
    name: &[u8],
    relative: &[u8],
) -> Result<Option<Earlier>, Trouble> {
    let Some(stat) = parent.stat_child(name)? else { return Ok(None) };
    if stat.kind == Kind::Directory {
        return Err(Trouble::Refused("the archive has a directory of the same name".into()));
    }
    let earlier = match (&entry.kind, stat.kind) {
        (EntryKind::File { sparse, .. }, Kind::File) => {
            let earlier = EntryKind::File { size: stat.size, sparse: *sparse };
            (earlier, Some(hash(parent.read_file(name)?)?))
        }
        (EntryKind::Symlink { .. }, Kind::Symlink) => (EntryKind::Symlink { target: parent.read_link(name)? }, None),
        (other, _) => (other.clone(), None),
    };
    staging.tree.remove(tree::record_of(parent, name, stat, relative)?);
    parent.remove_file(name)?;
    Ok(Some(earlier))
}

/// Makes way for what is no file.
fn replace(staging: &mut Staging, entry: &Entry, parent: &Dir, name: &[u8], relative: &[u8]) -> Result<(), Trouble> {
    if let Some((kind, content)) = make_way(staging, entry, parent, name, relative)? {
        staging.content.remove(content_record(&staging.step.source, relative, &kind, content));
    }
    Ok(())
}

/// Carries a drop-in file of the target over into the staged tree.
pub(super) fn carry(staging: &mut Staging, root: &Dir, path: &RelPath) -> io::Result<()> {
    let Some(relative) = path.relative_to(&staging.step.destination).map(<[u8]>::to_vec) else { return Ok(()) };
    let live = root.parent(path)?;
    let Some(stat) = live.stat_child(path.file_name())? else { return Ok(()) };
    let parent = staging.parent(&relative, stat.mtime)?;
    let name = path.file_name();
    let of = Metadata {
        owner: (stat.uid, stat.gid),
        mode: stat.mode,
        mtime: stat.mtime,
        xattrs: Vec::new(),
        is_listed: false,
    };
    let content = match stat.kind {
        Kind::Symlink => {
            let target = live.read_link(name)?;
            parent.make_symlink(name, &target)?;
            parent.set_owner(name, stat.uid, stat.gid)?;
            parent.set_mtime(name, stat.mtime)?;
            Sha256Digest::of(&target)
        }
        Kind::File => {
            let mut from = live.read_file(name)?;
            let mut file = parent.create_file(name)?;
            io::copy(&mut from, &mut file)?;
            dir::set_metadata(&file, of.owner, of.mode, &[], of.mtime)?;
            hash(live.read_file(name)?)?
        }
        // A directory of that name is not a drop-in.
        _ => return Ok(()),
    };
    staging.tree.add(record(&relative, stat.kind, &of, Some(content)));
    Ok(())
}

fn copy_apart(from: &Dir, from_name: &[u8], to: &Dir, name: &[u8]) -> io::Result<()> {
    let stat = from.stat_child(from_name)?.ok_or_else(vanished)?;
    if stat.kind == Kind::Fifo {
        to.make_fifo(name)?;
        to.set_owner(name, stat.uid, stat.gid)?;
        to.set_mode(name, stat.mode)?;
        return to.set_mtime(name, stat.mtime);
    }
    let mut source = from.read_file(from_name)?;
    let mut file = to.create_file(name)?;
    fault::point("write.data")?;
    io::copy(&mut source, &mut file)?;
    dir::set_metadata(&file, (stat.uid, stat.gid), stat.mode, &dir::xattrs(&source)?, stat.mtime)
}

fn unknown_owner(step: &Step, entry: &Entry, destination: &RelPath) -> serde_json::Result<Vec<u8>> {
    let text = |name: &Option<Vec<u8>>| name.as_deref().map(crate::model::bytes::escape);
    let mut line = serde_json::to_vec(&serde_json::json!({
        "app": step.app, "path": destination,
        "user": text(&entry.owner.user), "uid": entry.owner.uid,
        "group": text(&entry.owner.group), "gid": entry.owner.gid, "mode": entry.mode,
    }))?;
    line.push(b'\n');
    Ok(line)
}

fn vanished() -> io::Error {
    io::Error::other("a staged file vanished while it was being written")
}
