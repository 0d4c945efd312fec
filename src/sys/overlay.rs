//! A disk shown as a file that may be written to, while nothing ever reaches the disk: what is written stays in memory.
//!
//! The kernel mounts the file through a loop device, so it can replay a journal, and tools can repair what is damaged,
//! on any kernel with FUSE and without room for a copy. A part that cannot be read is an error there as well. When the
//! overlay goes, what was written is gone.

use super::SysError;
use super::block::Backing;
use super::host::Host;
use super::mount::{self, Extent};
use crate::formats::ReadAt;
use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request,
    WriteFlags,
};
use nix::mount::{MntFlags, umount2};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

/// What is shown: bytes that any thread may ask for.
pub type Content = dyn ReadAt + Send + Sync;

/// What is kept of a write at least.
const BLOCK: u64 = 4096;
/// Most blocks that are kept: 64 MiB, more than a journal's worth of changes to metadata.
const MOST_BLOCKS: usize = 16 << 10;
/// Below the runtime directory.
const FOLDER: &str = "overlays";
/// How long the kernel may remember a name or a length: they never change.
const FOREVER: Duration = Duration::from_secs(86400);
const FILE: INodeNo = INodeNo(2);

/// A file that shows an extent. It goes when its last user went; the loop device over it may be that.
pub struct Overlay {
    point: PathBuf,
    extent: Extent,
    _session: BackgroundSession,
}

impl std::fmt::Debug for Overlay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Overlay").field("extent", &self.extent).finish_non_exhaustive()
    }
}

impl Overlay {
    /// Shows `extent` of a disk whose bytes `content` gives, as if `changes` were written to the extent already.
    pub fn new(
        host: &Host,
        extent: &Extent,
        content: Arc<Content>,
        changes: &[(u64, Vec<u8>)],
    ) -> Result<Overlay, SysError> {
        if !host.dev("fuse").exists() {
            // Where it is built in or loaded already, this does nothing.
            let _ = host.commands().run("modprobe", &[OsStr::new("-q"), OsStr::new("fuse")]);
        }
        // The name says where the extent begins, for whoever finds the loop device.
        let name = OsString::from(extent.offset.to_string());
        let length = extent.length.min(content.length().saturating_sub(extent.offset));
        let shown = Shown { content, start: extent.offset, length, name, written: Mutex::default() };
        for (offset, bytes) in changes {
            shown.write(*offset, bytes).map_err(|error| SysError::new("showing", &extent.path, error))?;
        }
        let mut config = Config::default();
        let point = host.private_directory(FOLDER)?;
        let file = point.join(extent.offset.to_string());
        let origin = extent.path.to_string_lossy().into_owned();
        config.mount_options = vec![MountOption::FSName(origin), MountOption::NoExec, MountOption::NoAtime];
        match fuser::spawn_mount(shown, &point, &config) {
            Ok(session) => Ok(Overlay { point, extent: Extent { path: file, offset: 0, length }, _session: session }),
            Err(error) => {
                let _ = std::fs::remove_dir(&point);
                Err(SysError::new("showing", &extent.path, error))
            }
        }
    }

    /// The file, as something to mount.
    pub fn extent(&self) -> &Extent {
        &self.extent
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        // A loop device may hold the file for a moment longer; it is served until then.
        let _ = umount2(&self.point, MntFlags::MNT_DETACH);
        let _ = std::fs::remove_dir(&self.point);
    }
}

/// What a loop device shows in the end: an overlay's is the extent that the overlay shows.
pub(super) fn behind(host: &Host, backing: Backing) -> Backing {
    let origin = || {
        let point = backing.path.parent().filter(|point| point.starts_with(host.runtime_file(FOLDER)))?;
        let offset = backing.path.file_name()?.to_str()?.parse().ok()?;
        let line = mount::mounted(host).ok()?.into_iter().find(|line| line.point == point)?;
        Some((line.source, offset))
    };
    match origin() {
        // Nothing that is written there comes down.
        Some((path, offset)) => Backing { path, offset, read_only: true, overlaid: true, ..backing },
        None => backing,
    }
}

/// The filesystem with the one file.
struct Shown {
    content: Arc<Content>,
    start: u64,
    length: u64,
    name: OsString,
    written: Mutex<BTreeMap<u64, Box<[u8]>>>,
}

impl Shown {
    fn written(&self) -> MutexGuard<'_, BTreeMap<u64, Box<[u8]>>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn below(&self, offset: u64, length: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.content.read_at(self.start.saturating_add(offset).saturating_add(filled as u64), rest) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(bytes)
    }

    /// The bytes from `offset`, fewer at the end.
    fn bytes(&self, offset: u64, length: u64) -> io::Result<Vec<u8>> {
        let end = offset.saturating_add(length).min(self.length);
        let mut bytes = Vec::new();
        let mut at = offset;
        while at < end {
            let written = self.written();
            let next = written.range(at / BLOCK..).next().map(|(number, block)| (number * BLOCK, block));
            match next {
                Some((first, block)) if first <= at => {
                    let stop = end.min(first + BLOCK);
                    let part = (at - first) as usize..(stop - first) as usize;
                    bytes.extend_from_slice(block.get(part).unwrap_or_default());
                    at = stop;
                }
                next => {
                    let stop = next.map_or(end, |(first, _)| first.min(end));
                    drop(written);
                    bytes.append(&mut self.below(at, stop - at)?);
                    at = stop;
                }
            }
        }
        Ok(bytes)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut at = offset;
        let mut rest = data;
        while !rest.is_empty() {
            let first = at - at % BLOCK;
            let inside = (at - first) as usize;
            let count = rest.len().min(BLOCK as usize - inside);
            let (piece, after) = rest.split_at(count);
            let is_new = !self.written().contains_key(&(first / BLOCK));
            if is_new {
                if self.written().len() >= MOST_BLOCKS {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                let length = BLOCK.min(self.length.saturating_sub(first));
                // What is overwritten whole need not be readable.
                let mut block = if count as u64 == length { Vec::new() } else { self.below(first, length)? };
                block.resize(BLOCK as usize, 0);
                self.written().insert(first / BLOCK, block.into_boxed_slice());
            }
            if let Some(block) = self.written().get_mut(&(first / BLOCK)) {
                for (to, from) in block.iter_mut().skip(inside).zip(piece) {
                    *to = *from;
                }
            }
            at = first + BLOCK;
            rest = after;
        }
        Ok(())
    }
}

/// What is said of the inodes of a filesystem with one file of that length, which is number 2; `None` for all others.
/// The disks of tests are shown in the same way.
pub fn attributes(inode: INodeNo, length: u64) -> Option<FileAttr> {
    let (kind, perm, size) = match inode {
        INodeNo::ROOT => (FileType::Directory, 0o700, 0),
        FILE => (FileType::RegularFile, 0o600, length),
        _ => return None,
    };
    Some(FileAttr {
        ino: inode,
        size,
        blocks: size.div_ceil(512),
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind,
        perm,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        flags: 0,
        blksize: BLOCK as u32,
    })
}

fn number(error: &io::Error) -> Errno {
    if error.kind() == io::ErrorKind::StorageFull { Errno::ENOSPC } else { Errno::EIO }
}

impl Filesystem for Shown {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match attributes(FILE, self.length).filter(|_| parent == INodeNo::ROOT && name == self.name) {
            Some(attributes) => reply.entry(&FOREVER, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match attributes(inode, self.length) {
            Some(attributes) => reply.attr(&FOREVER, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // Not through the page cache: the filesystem above has its own, and one bad sector would cost its neighbours.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.bytes(offset, size.into()) {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(number(&error)),
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.write(offset, data) {
            Ok(()) => reply.written(data.len() as u32),
            Err(error) => reply.error(number(&error)),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes, of which the first block of the second half cannot be read.
    struct Half(Vec<u8>);

    impl ReadAt for Half {
        fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
            let bad = self.length() / 2;
            match (offset..offset + buf.len() as u64).contains(&bad) {
                true => Err(io::ErrorKind::Other.into()),
                false => self.0.as_slice().read_at(offset, buf),
            }
        }

        fn length(&self) -> u64 {
            self.0.len() as u64
        }
    }

    #[test]
    fn what_is_written_is_read_back_and_the_disk_stays_as_it_was() {
        let content: Vec<u8> = (0..100_000u32).map(|at| (at % 251) as u8).collect();
        let below = Arc::new(Half(content.clone()));
        let mut expected = content.clone();
        let shown = Shown {
            content: below.clone(),
            start: 0,
            length: 100_000,
            name: OsString::new(),
            written: Mutex::default(),
        };
        for (offset, data) in [(5usize, &b"five"[..]), (4090, &[7; 9000]), (99_990, &[9; 10]), (8192, &[1; 4096])] {
            shown.write(offset as u64, data).unwrap();
            expected[offset..offset + data.len()].copy_from_slice(data);
        }
        assert_eq!(shown.bytes(0, 49_000).unwrap(), expected[..49_000]);
        assert_eq!(shown.bytes(98_000, 5_000).unwrap(), expected[98_000..]);
        assert_eq!(below.0, content);
        // A place that cannot be read stays an error, also for a write of a part of it, until all of it is written.
        assert!(shown.bytes(49_000, 2_000).is_err() && shown.write(50_000, b"x").is_err());
        shown.write(49_152, &[3; 4096]).unwrap();
        assert_eq!(shown.bytes(50_000, 3).unwrap(), [3; 3]);
    }

    #[test]
    fn more_than_fits_in_memory_is_refused() {
        let content: Arc<Content> = Arc::new(Half(Vec::new()));
        let length = (MOST_BLOCKS as u64 + 1) * BLOCK;
        let shown = Shown { content, start: 0, length, name: OsString::new(), written: Mutex::default() };
        let block = [1; BLOCK as usize];
        (0..MOST_BLOCKS as u64).for_each(|number| shown.write(number * BLOCK, &block).unwrap());
        shown.write(0, &block).unwrap();
        let error = shown.write(MOST_BLOCKS as u64 * BLOCK, &block).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
