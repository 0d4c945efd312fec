//! Block devices with sectors that the kernel cannot read.
//!
//! A file on btrfs whose data was changed behind btrfs's back fails its checksum, so that reading it is an error (EIO)
//! for each block of 4 KiB: a loop device over such a file is a disk with bad sectors, also where the kernel has no
//! device mapper.
#![allow(clippy::unwrap_used, dead_code, missing_docs, unreachable_pub, reason = "every test file takes what it needs")]

use super::disks::{Kernel, blank, cannot_mount, run, sh, wait_for_loops};
use lifeboat::formats::ReadAt;
use lifeboat::sys::host::Host;
use lifeboat::sys::mount::Extent;
use lifeboat::sys::overlay::Overlay;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Length of what fails at once.
pub const BLOCK: u64 = 4096;

/// Why there cannot be such a device here.
pub fn cannot_fail() -> Option<String> {
    let no_btrfs = !std::fs::read_to_string("/proc/filesystems").unwrap().contains("btrfs");
    cannot_mount(&["mkfs.btrfs", "losetup"]).or(no_btrfs.then(|| "the kernel has no btrfs".to_owned()))
}

/// A disk with bad sectors.
pub struct FailingDisk {
    device: PathBuf,
    _store: Kernel,
    _folder: tempfile::TempDir,
}

impl FailingDisk {
    /// A read-only device with the content of `image`, of which the blocks of 4 KiB that begin at `bad` cannot be read.
    /// The content of these must not be found in other blocks.
    pub fn new(image: &Path, bad: &[u64]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = blank(&folder.path().join("store"), 200 + (std::fs::metadata(image).unwrap().len() >> 20));
        run("mkfs.btrfs", &["-q", "-m", "single", "-d", "single", store.to_str().unwrap()]);
        let mounted = Kernel::mount(&store, "loop");
        std::fs::copy(image, mounted.path().join("disk")).unwrap();
        sh(&format!("sync -f {}", mounted.path().display()));
        drop(mounted);
        wait_for_loops(&store);
        spoil(&store, image, bad);
        let mounted = Kernel::mount(&store, "loop,ro");
        let disk = mounted.path().join("disk");
        let device = sh(&format!("losetup --read-only --find --show {}", disk.display())).trim().into();
        Self { device, _store: mounted, _folder: folder }
    }

    pub fn path(&self) -> &Path {
        &self.device
    }
}

impl Drop for FailingDisk {
    fn drop(&mut self) {
        // The mount goes after this.
        let _ = std::process::Command::new("/sbin/losetup").arg("-d").arg(&self.device).status();
    }
}

/// Changes one byte of each block in the store.
fn spoil(store: &Path, image: &Path, bad: &[u64]) {
    let image = File::open(image).unwrap();
    let mut wanted: HashMap<Vec<u8>, u64> = HashMap::new();
    for at in bad {
        assert_eq!(at % BLOCK, 0);
        let mut block = vec![0; BLOCK as usize];
        image.read_exact_at(&mut block, *at).unwrap();
        assert!(wanted.insert(block, *at).is_none(), "two bad blocks with one content");
    }
    let file = File::options().read(true).write(true).open(store).unwrap();
    let length = file.metadata().unwrap().len();
    let mut found = 0;
    let mut piece = vec![0; 1 << 20];
    for start in (0..length).step_by(piece.len()) {
        let count = file.read_at(&mut piece, start).unwrap();
        for (nth, block) in piece[..count].chunks(BLOCK as usize).enumerate() {
            if wanted.contains_key(block) {
                found += 1;
                file.write_all_at(&[!block[100]], start + nth as u64 * BLOCK + 100).unwrap();
            }
        }
    }
    file.sync_all().unwrap();
    assert_eq!(found, bad.len(), "each bad block is in the store once");
}

/// A disk any of whose blocks can be bad: a server in this process that answers the kernel.
pub struct BadDisk {
    device: PathBuf,
    _overlay: Overlay,
    _folder: tempfile::TempDir,
}

/// The bytes of an image, some ranges of which cannot be read.
struct Served {
    image: File,
    bad: Vec<std::ops::Range<u64>>,
    length: u64,
}

impl ReadAt for Served {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<usize> {
        let end = offset + buf.len() as u64;
        match self.bad.iter().any(|bad| bad.start < end && offset < bad.end) {
            true => Err(std::io::Error::from_raw_os_error(5)),
            false => self.image.read_at(buf, offset),
        }
    }

    fn length(&self) -> u64 {
        self.length
    }
}

impl BadDisk {
    /// A read-only device with the content of `image`, of which the blocks of 4 KiB at `bad` cannot be read.
    pub fn new(image: &Path, bad: &[u64]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let host = Host::real(folder.path().join("run"));
        let length = std::fs::metadata(image).unwrap().len();
        let bad = bad.iter().map(|at| *at..at + BLOCK).collect();
        let served = Served { image: File::open(image).unwrap(), bad, length };
        let extent = Extent { path: image.to_owned(), offset: 0, length };
        let overlay = Overlay::new(&host, &extent, std::sync::Arc::new(served), &[]).unwrap();
        let file = overlay.extent().path.clone();
        let device = sh(&format!("losetup --read-only --find --show {}", file.display())).trim().into();
        Self { device, _overlay: overlay, _folder: folder }
    }

    pub fn path(&self) -> &Path {
        &self.device
    }
}

impl Drop for BadDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("/sbin/losetup").arg("-d").arg(&self.device).status();
    }
}

/// A disk that notes what is read of it.
pub struct Watched {
    pub content: Vec<u8>,
    pub reads: RefCell<Vec<(u64, u64)>>,
}

impl ReadAt for Watched {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.reads.borrow_mut().push((offset, offset + buf.len() as u64));
        self.content.as_slice().read_at(offset, buf)
    }

    fn length(&self) -> u64 {
        self.content.len() as u64
    }
}
