//! A disk that remembers every write and flush, so that a power cut can be played at any moment of a run.
//!
//! A loop device over a file that this process serves by FUSE: what the kernel's filesystem writes to the medium, and
//! when it asks for the medium's cache to be emptied, arrives here in order. A cut keeps everything up to the last flush
//! before it; of what came after, a disk may have kept any part, in any order, torn at sectors.
#![allow(dead_code, missing_docs, unreachable_pub, reason = "every test file takes what it needs")]
#![allow(clippy::unwrap_used, reason = "this is test code")]

use super::disks::{cannot_mount, sh};
use super::rescue::Numbers;
use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, LockOwner,
    OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, WriteFlags,
};
use lifeboat::sys::overlay::attributes;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// One thing that the disk was told.
#[derive(Clone)]
pub enum Act {
    Write { at: u64, bytes: Vec<u8> },
    Flush,
}

/// Why there cannot be such a disk here.
pub fn cannot_record(tools: &[&str]) -> Option<String> {
    cannot_mount(tools).or((!Path::new("/dev/fuse").exists()).then(|| "the kernel has no FUSE".to_owned()))
}

struct State {
    disk: File,
    length: u64,
    log: Option<Vec<Act>>,
}

/// The disk. Its loop device goes when it is dropped; unmount what is on it before.
pub struct Recorder {
    pub device: PathBuf,
    state: Arc<Mutex<State>>,
    session: Option<BackgroundSession>,
    point: tempfile::TempDir,
}

impl Recorder {
    /// A disk over the file `image`, which is written to.
    pub fn new(image: &Path) -> Recorder {
        let disk = File::options().read(true).write(true).open(image).unwrap();
        let length = disk.metadata().unwrap().len();
        let state = Arc::new(Mutex::new(State { disk, length, log: None }));
        let point = tempfile::tempdir().unwrap();
        let session = fuser::spawn_mount(Served(state.clone()), point.path(), &Config::default()).unwrap();
        let file = point.path().join("disk");
        let device = sh(&format!("losetup --find --show {}", file.display())).trim().into();
        Recorder { device, state, session: Some(session), point }
    }

    /// From here on everything is remembered.
    pub fn begin(&self) {
        self.state.lock().unwrap().log = Some(Vec::new());
    }

    /// How much is remembered so far.
    pub fn position(&self) -> usize {
        self.state.lock().unwrap().log.as_ref().map_or(0, Vec::len)
    }

    /// Ends the remembering.
    pub fn take(&self) -> Vec<Act> {
        self.state.lock().unwrap().log.take().unwrap()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = std::process::Command::new("/sbin/losetup").arg("-d").arg(&self.device).status();
        if let Some(session) = self.session.take() {
            // The loop device lets go of the file a moment after it was detached.
            for _ in 0..100 {
                if std::process::Command::new("/bin/umount").arg(self.point.path()).status().is_ok_and(|s| s.success())
                {
                    break;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            let _ = session.join();
        }
    }
}

/// The directory with the one file.
struct Served(Arc<Mutex<State>>);

const FILE: INodeNo = INodeNo(2);
const FOREVER: Duration = Duration::from_secs(3600);

impl Served {
    fn attributes(&self, inode: INodeNo) -> Option<FileAttr> {
        attributes(inode, self.0.lock().unwrap().length)
    }
}

impl Filesystem for Served {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.attributes(FILE).filter(|_| name == "disk") {
            Some(attributes) => reply.entry(&FOREVER, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(inode) {
            Some(attributes) => reply.attr(&FOREVER, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // Past the page cache of this layer: what the filesystem above sends has to come here at once.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        at: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut bytes = vec![0; size as usize];
        match self.0.lock().unwrap().disk.read_at(&mut bytes, at) {
            Ok(length) => reply.data(&bytes[..length]),
            Err(error) => reply.error(error.into()),
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        at: u64,
        bytes: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut state = self.0.lock().unwrap();
        if let Err(error) = state.disk.write_all_at(bytes, at) {
            return reply.error(error.into());
        }
        if let Some(log) = &mut state.log {
            log.push(Act::Write { at, bytes: bytes.to_vec() });
        }
        reply.written(bytes.len() as u32);
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        if let Some(log) = &mut self.0.lock().unwrap().log {
            log.push(Act::Flush);
        }
        reply.ok();
    }
}

/// The medium while a log is played: what is on it for certain, which only grows.
pub struct Medium<'a> {
    log: &'a [Act],
    durable: PathBuf,
    /// What the disk writes whole or not at all.
    sector: usize,
    /// How much of the log is on it.
    played: usize,
}

impl<'a> Medium<'a> {
    /// Begins with a copy of `base` in `folder`.
    pub fn new(base: &Path, log: &'a [Act], sector: usize, folder: &Path, name: &str) -> Medium<'a> {
        let durable = folder.join(format!("durable-{name}"));
        copy(base, &durable);
        Medium { log, durable, sector, played: 0 }
    }

    /// Writes to `image` what a disk may hold when the power goes after `position` acts; positions only grow.
    pub fn cut(&mut self, position: usize, numbers: &mut Numbers, image: &Path) {
        let last_flush = self.log[..position].iter().rposition(|act| matches!(act, Act::Flush)).map_or(0, |at| at + 1);
        if last_flush > self.played {
            let durable = File::options().write(true).open(&self.durable).unwrap();
            for act in &self.log[self.played..last_flush] {
                put(&durable, act, usize::MAX);
            }
            self.played = last_flush;
        }
        copy(&self.durable, image);
        let image = File::options().write(true).open(image).unwrap();
        let mut late: Vec<&Act> = self.log[last_flush..position].iter().collect();
        // How this disk behaves: it lost its whole cache, kept all, or kept some in an order of its own.
        match numbers.below(4) {
            0 => late.clear(),
            1 => {}
            _ => {
                for at in (1..late.len()).rev() {
                    late.swap(at, numbers.below(at + 1));
                }
                late.truncate(numbers.below(late.len() + 1));
            }
        }
        let torn = (numbers.below(2) == 0).then(|| numbers.below(late.len().max(1)));
        for (at, act) in late.into_iter().enumerate() {
            let Act::Write { bytes, .. } = act else { continue };
            let kept =
                if torn == Some(at) { numbers.below(bytes.len() / self.sector + 1) * self.sector } else { usize::MAX };
            put(&image, act, kept);
        }
    }
}

fn put(disk: &File, act: &Act, kept: usize) {
    if let Act::Write { at, bytes } = act {
        disk.write_all_at(&bytes[..bytes.len().min(kept)], *at).unwrap();
    }
}

fn copy(from: &Path, to: &Path) {
    sh(&format!("cp --sparse=always '{}' '{}'", from.display(), to.display()));
}
