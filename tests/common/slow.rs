//! A folder on another machine: served by FUSE, read-only, with a wait before each piece of content.
#![allow(dead_code, missing_docs, unreachable_pub, reason = "every test file takes what it needs")]
#![allow(clippy::unwrap_used, reason = "this is test code")]

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEntry, ReplyOpen, Request,
};
use lifeboat::sys::overlay::attributes;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// How often content was asked for.
#[derive(Default)]
pub struct Asked {
    pub all: AtomicUsize,
    pub now: AtomicUsize,
    /// The most at one time.
    pub at_once: AtomicUsize,
}

/// The folder, as long as this lives.
pub struct SlowFolder {
    pub point: tempfile::TempDir,
    pub asked: Arc<Asked>,
    session: Option<BackgroundSession>,
}

impl SlowFolder {
    /// Serves `folder`; each read waits for `wait` first, beside others.
    pub fn new(folder: &Path, wait: Duration) -> SlowFolder {
        let asked = Arc::new(Asked::default());
        let served = Served { paths: Mutex::new(vec![folder.to_path_buf()]), wait, asked: asked.clone() };
        let point = tempfile::tempdir().unwrap();
        let session = fuser::spawn_mount(served, point.path(), &Config::default()).unwrap();
        SlowFolder { point, asked, session: Some(session) }
    }
}

impl Drop for SlowFolder {
    fn drop(&mut self) {
        let _ = std::process::Command::new("/bin/umount").arg(self.point.path()).status();
        if let Some(session) = self.session.take() {
            let _ = session.join();
        }
    }
}

/// Files have the number of their place in the list, counted from 1, which is the root's (fuse(4)).
struct Served {
    paths: Mutex<Vec<PathBuf>>,
    wait: Duration,
    asked: Arc<Asked>,
}

const FOREVER: Duration = Duration::from_secs(3600);

impl Served {
    fn path(&self, inode: INodeNo) -> PathBuf {
        self.paths.lock().unwrap()[inode.0 as usize - 1].clone()
    }

    fn attributes(&self, path: &Path) -> Option<FileAttr> {
        let meta = fs::symlink_metadata(path).ok()?;
        let mut paths = self.paths.lock().unwrap();
        let at = paths.iter().position(|known| known == path).unwrap_or_else(|| {
            paths.push(path.to_path_buf());
            paths.len() - 1
        });
        // As of the one file of a disk, but for what it is.
        let (kind, perm) = match meta.is_dir() {
            true => (FileType::Directory, 0o700),
            false => (FileType::RegularFile, 0o600),
        };
        Some(FileAttr { ino: INodeNo(at as u64 + 1), kind, perm, ..attributes(INodeNo(2), meta.len())? })
    }
}

impl Filesystem for Served {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.attributes(&self.path(parent).join(name)) {
            Some(attributes) => reply.entry(&FOREVER, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(&self.path(inode)) {
            Some(attributes) => reply.attr(&FOREVER, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn readdir(&self, _: &Request, inode: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let mut names: Vec<PathBuf> = fs::read_dir(self.path(inode)).unwrap().map(|one| one.unwrap().path()).collect();
        names.sort();
        for (at, path) in names.iter().enumerate().skip(offset as usize) {
            let Some(attributes) = self.attributes(path) else { continue };
            if reply.add(attributes.ino, at as u64 + 1, attributes.kind, path.file_name().unwrap()) {
                break;
            }
        }
        reply.ok();
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // Nothing is kept or read ahead by the kernel: each read of the reader is one here.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        at: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let (path, wait, asked) = (self.path(inode), self.wait, self.asked.clone());
        // As on a network: others are answered meanwhile.
        thread::spawn(move || {
            asked.all.fetch_add(1, Ordering::Relaxed);
            let now = asked.now.fetch_add(1, Ordering::Relaxed) + 1;
            asked.at_once.fetch_max(now, Ordering::Relaxed);
            thread::sleep(wait);
            let mut bytes = vec![0; size as usize];
            let read = File::open(path).and_then(|file| file.read_at(&mut bytes, at));
            asked.now.fetch_sub(1, Ordering::Relaxed);
            match read {
                Ok(length) => reply.data(&bytes[..length]),
                Err(error) => reply.error(error.into()),
            }
        });
    }
}
