//! The digest of a tree as it lies on a disk, and removing one.
//!
//! The record of an entry covers its path below the tree's root, kind, mode, owner, time, attributes and content. The
//! writer computes it from what it means to write, the reader from the disk, so equal digests mean that the tree on
//! the disk is the one that was meant.

use super::dir::{self, Dir, Kind, Stat, Xattr};
use super::file;
use crate::model::digest::{Sha256Digest, TreeDigest};
use crate::model::entry::Mtime;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

/// Deepest nesting followed: `PATH_MAX` allows no more.
const DEEPEST: usize = 2048;
/// How many files are read at the same time: each reading waits for the medium, and more than one core can hash.
const READERS: usize = 4;
/// Files are given to the readers in batches, because waking one takes longer than reading a short file, and because a
/// medium is quicker when it is asked for many at once: so many files, or so many bytes, and so many batches that wait.
const BATCH: usize = 32;
const BATCH_BYTES: u64 = 256 << 10;
const MOST_WAITING: usize = 8;
/// What is read at first, and where more follows.
const SHORT: usize = 16 << 10;
const LONG: usize = 128 << 10;

/// What the record of one entry covers.
#[derive(Debug)]
pub struct Record<'a> {
    /// Path below the root of the tree; empty for the root.
    pub relative: &'a [u8],
    /// Kind of entry.
    pub kind: Kind,
    /// Permission bits; not used for links, which have none.
    pub mode: u32,
    /// Numeric owner and group.
    pub owner: (u32, u32),
    /// Modification time.
    pub mtime: Mtime,
    /// Attributes, sorted by name.
    pub xattrs: &'a [Xattr],
    /// SHA-256 of a file's content or of a link's target; all zero bytes for other kinds.
    pub content: Option<Sha256Digest>,
}

impl Record<'_> {
    /// The record's digest.
    pub fn digest(&self) -> Sha256Digest {
        let mut hasher = Sha256::new();
        let mut field = |bytes: &[u8]| {
            hasher.update((bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        field(self.relative);
        field(&[self.kind as u8]);
        field(&(if self.kind == Kind::Symlink { 0 } else { self.mode }).to_le_bytes());
        field(&self.owner.0.to_le_bytes());
        field(&self.owner.1.to_le_bytes());
        // Whole seconds within 32 bits: what every filesystem of a FreedomBox can hold.
        field(&self.mtime.secs.clamp(i32::MIN.into(), i32::MAX.into()).to_le_bytes());
        for (name, value) in self.xattrs {
            field(name);
            field(value);
        }
        field(self.content.as_ref().map_or(&[][..], |digest| digest.as_bytes()));
        Sha256Digest::from_hasher(hasher)
    }
}

/// The digest of the tree (or single file) at `name`; `None` when nothing is there. With `from_medium`, files are read
/// from the disk and not from the page cache. Several files are read at the same time; `seen` gets each entry's size.
pub fn digest(
    parent: &Dir,
    name: &[u8],
    from_medium: bool,
    seen: &mut dyn FnMut(u64),
) -> io::Result<Option<TreeDigest>> {
    let Some(stat) = parent.stat_child(name)? else { return Ok(None) };
    let (parent, name) = (Arc::new(parent.again()?), name.to_vec());
    let (batches, waiting) = sync_channel::<Vec<Found>>(MOST_WAITING);
    // The threads alone hold the receiving end: when all of them are gone, nobody waits for them.
    let waiting = Arc::new(Mutex::new(waiting));
    std::thread::scope(|scope| {
        let read = move |waiting: Arc<Mutex<Receiver<Vec<Found>>>>| -> io::Result<TreeDigest> {
            let mut tree = TreeDigest::default();
            let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
            while let Ok(batch) = next() {
                // All are on their way before the first one is waited for.
                let opened: Vec<File> = batch.iter().map(|found| found.open(from_medium)).collect::<io::Result<_>>()?;
                for (found, file) in batch.iter().zip(opened) {
                    tree.add(record_of_file(file, found.stat, &found.relative)?);
                }
            }
            Ok(tree)
        };
        let mut readers = Vec::new();
        for _ in 0..READERS {
            let waiting = Arc::clone(&waiting);
            let named = std::thread::Builder::new().name("read-back".into());
            readers.push(named.spawn_scoped(scope, move || read(waiting))?);
        }
        drop(waiting);
        let (tree, batch) = (TreeDigest::default(), Vec::new());
        let mut walk = Walk { tree, batches, batch, bytes: 0, seen };
        let walked = walk.add(Found { parent, name, stat, relative: Vec::new() }, 0).and_then(|()| walk.send());
        let Walk { mut tree, batches, .. } = walk;
        drop(batches);
        for reader in readers {
            let read = reader.join().map_err(|_| io::Error::other("a thread that reads back ended"))?;
            tree.merge(&read?);
        }
        walked.map(|()| Some(tree))
    })
}

/// An entry whose record is to be made.
struct Found {
    parent: Arc<Dir>,
    name: Vec<u8>,
    stat: Stat,
    relative: Vec<u8>,
}

impl Found {
    /// Opens a file; `from_medium`, its beginning is asked for from there.
    fn open(&self, from_medium: bool) -> io::Result<File> {
        let file = self.parent.read_file(&self.name)?;
        if from_medium {
            dir::forget_cache(&file);
            file::will_read(&file, 0, self.stat.size.min(LONG as u64));
        }
        Ok(file)
    }
}

/// Finds all entries, and gives the files to the readers.
struct Walk<'a> {
    tree: TreeDigest,
    batches: SyncSender<Vec<Found>>,
    /// The files that were found since the last batch, and their length.
    batch: Vec<Found>,
    bytes: u64,
    seen: &'a mut dyn FnMut(u64),
}

impl Walk<'_> {
    /// Gives what was found to the readers.
    fn send(&mut self) -> io::Result<()> {
        self.bytes = 0;
        match std::mem::take(&mut self.batch) {
            batch if batch.is_empty() => Ok(()),
            batch => self.batches.send(batch).map_err(|_| io::Error::other("no thread reads back any more")),
        }
    }

    fn add(&mut self, found: Found, depth: usize) -> io::Result<()> {
        (self.seen)(found.stat.size);
        if found.stat.kind == Kind::File {
            self.bytes = self.bytes.saturating_add(found.stat.size);
            self.batch.push(found);
            return if self.batch.len() >= BATCH || self.bytes >= BATCH_BYTES { self.send() } else { Ok(()) };
        }
        let Found { parent, name, stat, relative } = found;
        self.tree.add(record_of(&parent, &name, stat, &relative)?);
        if stat.kind != Kind::Directory {
            return Ok(());
        }
        if depth == DEEPEST {
            return Err(io::Error::other("directories are nested too deeply"));
        }
        let here = Arc::new(parent.child(&name)?);
        for child in here.names()? {
            let Some(stat) = here.stat_child(&child)? else { continue };
            let mut below = relative.clone();
            if !below.is_empty() {
                below.push(b'/');
            }
            below.extend_from_slice(&child);
            self.add(Found { parent: Arc::clone(&here), name: child, stat, relative: below }, depth + 1)?;
        }
        Ok(())
    }
}

/// What the tree at `name` looks like, without reading a file: names, kinds, inode numbers, sizes, and times to the
/// nanosecond. Nobody changes anything in it without changing this; moving it as a whole on its filesystem does not.
/// `None` when nothing is there.
pub fn shape(parent: &Dir, name: &[u8]) -> io::Result<Option<TreeDigest>> {
    let Some(stat) = parent.stat_child(name)? else { return Ok(None) };
    let mut shape = TreeDigest::default();
    shape_within(parent, name, stat, b"", &mut shape, 0)?;
    Ok(Some(shape))
}

fn shape_within(
    parent: &Dir,
    name: &[u8],
    stat: Stat,
    relative: &[u8],
    shape: &mut TreeDigest,
    depth: usize,
) -> io::Result<()> {
    let mut record = vec![stat.kind as u8];
    for number in [stat.ino, stat.size, stat.mtime.nanos.into()] {
        record.extend_from_slice(&number.to_le_bytes());
    }
    record.extend_from_slice(&stat.mtime.secs.to_le_bytes());
    record.extend_from_slice(relative);
    shape.add(Sha256Digest::of(&record));
    if stat.kind != Kind::Directory {
        return Ok(());
    }
    if depth == DEEPEST {
        return Err(io::Error::other("directories are nested too deeply"));
    }
    let here = parent.child(name)?;
    for child in here.names()? {
        let Some(stat) = here.stat_child(&child)? else { continue };
        let below = [relative, b"/", &child].concat();
        shape_within(&here, &child, stat, &below, shape, depth + 1)?;
    }
    Ok(())
}

/// The record digest of one entry as it lies on the disk.
pub fn record_of(parent: &Dir, name: &[u8], stat: Stat, relative: &[u8]) -> io::Result<Sha256Digest> {
    match stat.kind {
        Kind::File => record_of_file(parent.read_file(name)?, stat, relative),
        Kind::Directory => Ok(record_with(stat, relative, None, &dir::xattrs(&parent.child(name)?)?)),
        Kind::Symlink => Ok(record_with(stat, relative, Some(Sha256Digest::of(&parent.read_link(name)?)), &[])),
        Kind::Fifo | Kind::Socket | Kind::Device => Ok(record_with(stat, relative, None, &[])),
    }
}

fn record_of_file(file: File, stat: Stat, relative: &[u8]) -> io::Result<Sha256Digest> {
    let xattrs = dir::xattrs(&file)?;
    Ok(record_with(stat, relative, Some(hash(file)?), &xattrs))
}

fn record_with(stat: Stat, relative: &[u8], content: Option<Sha256Digest>, xattrs: &[Xattr]) -> Sha256Digest {
    let owner = (stat.uid, stat.gid);
    Record { relative, kind: stat.kind, mode: stat.mode, owner, mtime: stat.mtime, xattrs, content }.digest()
}

/// SHA-256 of everything that `content` yields.
pub fn hash(mut content: impl Read) -> io::Result<Sha256Digest> {
    let mut hasher = Sha256::new();
    // Most files are short; the longer buffer costs more than they do.
    let (mut short, mut long) = ([0; SHORT], Vec::new());
    loop {
        let buffer = if long.is_empty() { &mut short[..] } else { &mut long[..] };
        match content.read(buffer) {
            Ok(0) => return Ok(Sha256Digest::from_hasher(hasher)),
            Ok(length) => {
                hasher.update(buffer.get(..length).unwrap_or_default());
                if length == SHORT && long.is_empty() {
                    long.resize(LONG, 0);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// How many entries the tree at `name` has, itself included; 0 when nothing is there.
pub fn count(parent: &Dir, name: &[u8]) -> io::Result<u64> {
    count_within(parent, name, 0)
}

fn count_within(parent: &Dir, name: &[u8], depth: usize) -> io::Result<u64> {
    let Some(stat) = parent.stat_child(name)? else { return Ok(0) };
    if stat.kind != Kind::Directory || depth == DEEPEST {
        return Ok(1);
    }
    let here = parent.child(name)?;
    here.names()?.iter().try_fold(1, |sum: u64, child| Ok(sum.saturating_add(count_within(&here, child, depth + 1)?)))
}

/// Removes the tree at `name`, never through a link and never onto a mounted filesystem. Nothing there is success.
pub fn remove(parent: &Dir, name: &[u8]) -> io::Result<()> {
    remove_within(parent, name, 0)
}

fn remove_within(parent: &Dir, name: &[u8], depth: usize) -> io::Result<()> {
    let Some(stat) = parent.stat_child(name)? else { return Ok(()) };
    if stat.kind != Kind::Directory {
        return parent.remove_file(name);
    }
    if depth == DEEPEST || parent.is_mount_point(name)? {
        return Err(io::Error::other(format!(
            "\"{}\" is a mounted filesystem or nested too deeply",
            crate::model::bytes::escape(name)
        )));
    }
    let here = parent.child(name)?;
    for child in here.names()? {
        remove_within(&here, &child, depth + 1)?;
    }
    parent.remove_dir(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_tree_digest_sees_content_mode_time_and_names() {
        let temp = tempfile::tempdir().unwrap();
        let root = Dir::open(temp.path()).unwrap();
        let now = || digest(&root, b"t", false, &mut |_| {}).unwrap();
        assert_eq!(now(), None);
        fs::create_dir_all(temp.path().join("t/sub")).unwrap();
        fs::write(temp.path().join("t/sub/file"), "one").unwrap();
        let mut seen = vec![now().unwrap()];
        let mut changed = |what: &str| {
            let digest = now().unwrap();
            assert!(!seen.contains(&digest), "{what} went unseen");
            seen.push(digest);
        };
        fs::write(temp.path().join("t/sub/file"), "two").unwrap();
        changed("content");
        fs::set_permissions(temp.path().join("t/sub/file"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .unwrap();
        changed("mode");
        root.set_mtime(b"t", Mtime { secs: 5, nanos: 0 }).unwrap();
        changed("time");
        fs::rename(temp.path().join("t/sub/file"), temp.path().join("t/sub/other")).unwrap();
        changed("name");
        std::os::unix::fs::symlink("x", temp.path().join("t/link")).unwrap();
        changed("new link");
    }

    #[test]
    fn a_tree_that_is_read_from_the_medium_has_the_digest_of_its_entries_one_by_one() {
        let temp = tempfile::tempdir().unwrap();
        let root = Dir::open(temp.path()).unwrap();
        fs::create_dir(temp.path().join("t")).unwrap();
        let tree = root.child(b"t").unwrap();
        let lengths = [0, 1, SHORT - 1, SHORT, SHORT + 1, LONG, 3 * LONG + 7];
        for n in 0..3 * BATCH {
            fs::write(temp.path().join(format!("t/{n}")), vec![n as u8; lengths[n % lengths.len()]]).unwrap();
        }
        let mut expected = TreeDigest::default();
        expected.add(record_of(&root, b"t", root.stat_child(b"t").unwrap().unwrap(), b"").unwrap());
        for name in tree.names().unwrap() {
            let stat = tree.stat_child(&name).unwrap().unwrap();
            expected.add(record_of(&tree, &name, stat, &name).unwrap());
        }
        root.sync_filesystem().unwrap();
        let mut bytes = 0;
        let found = digest(&root, b"t", true, &mut |size| bytes += size).unwrap();
        assert_eq!(found, Some(expected));
        let files: usize = (0..3 * BATCH).map(|n| lengths[n % lengths.len()]).sum();
        assert!(bytes >= files as u64, "{bytes} bytes were told of, and there are {files}");
    }

    #[test]
    fn removing_a_tree_leaves_what_its_links_point_to() {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir_all(temp.path().join("t/deep")).unwrap();
        fs::create_dir(temp.path().join("kept")).unwrap();
        std::os::unix::fs::symlink("../kept", temp.path().join("t/link")).unwrap();
        let root = Dir::open(temp.path()).unwrap();
        remove(&root, b"t").unwrap();
        remove(&root, b"t").unwrap();
        assert!(temp.path().join("kept").is_dir() && !temp.path().join("t").exists());
    }
}
