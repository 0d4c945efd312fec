//! Copying a disk that may fail: reading it around the page cache, and the image that it is copied into.
//!
//! The disk is opened for reading only. Its reads go around the page cache where the system allows that: through the
//! cache, one bad sector takes the seven good ones of its page with it, and the kernel reads ahead into places that
//! nobody asked for. The image is a sparse file; what is all zeros takes no room in it.

use super::SysError;
use super::dir::Dir;
use super::file::Source;
use crate::formats::ReadAt;
use rustix::fs::{FallocateFlags, Mode, OFlags};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// What memory for reads around the cache is aligned to: no device has larger sectors.
const ALIGNMENT: usize = 4096;
/// Holes of an image are whole pieces of this length.
const PIECE: usize = 4096;

/// A disk that is read around the page cache.
#[derive(Debug)]
pub struct RawDisk {
    direct: Option<File>,
    cached: Source,
    buffer: Mutex<Vec<u8>>,
}

impl RawDisk {
    /// Opens a disk or an image file for reading.
    pub fn open(path: &Path) -> Result<Self, SysError> {
        let cached = Source::open(path)?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::DIRECT;
        // Not every filesystem can do this; its files are then read through the cache.
        let direct = rustix::fs::open(path, flags, Mode::empty()).ok().map(File::from);
        Ok(Self { direct, cached, buffer: Mutex::new(Vec::new()) })
    }

    /// Whether reads go around the page cache, so that bad sectors are told one by one.
    pub fn is_direct(&self) -> bool {
        self.direct.is_some()
    }

    fn read_direct(&self, file: &File, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let poisoned = || io::Error::other("another read of the disk was given up");
        let mut memory = self.buffer.lock().map_err(|_| poisoned())?;
        // The end of an image file need not be the end of a sector.
        let length = buf.len().next_multiple_of(512);
        let needed = length.saturating_add(ALIGNMENT);
        if memory.len() < needed {
            memory.resize(needed, 0);
        }
        let start = memory.as_ptr().align_offset(ALIGNMENT);
        let Some(aligned) = memory.get_mut(start..start.saturating_add(length)) else {
            return Err(io::Error::other("memory cannot be aligned"));
        };
        let count = file.read_at(aligned, offset)?.min(buf.len());
        for (to, from) in buf.chunks_mut(PIECE).zip(aligned.get(..count).unwrap_or_default().chunks(PIECE)) {
            if let Some(part) = to.get_mut(..from.len()) {
                part.copy_from_slice(from);
            }
        }
        Ok(count)
    }
}

impl ReadAt for RawDisk {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        if let Some(file) = self.direct.as_ref().filter(|_| offset.is_multiple_of(512)) {
            match self.read_direct(file, offset, buf) {
                // Sectors longer than 512 bytes, or a filesystem that promised too much.
                Err(error) if error.kind() == ErrorKind::InvalidInput => {}
                other => return other,
            }
        }
        self.cached.read_at(offset, buf)
    }

    fn length(&self) -> u64 {
        self.cached.length()
    }
}

/// The image of a disk.
#[derive(Debug)]
pub struct ImageFile {
    file: File,
    path: PathBuf,
    // Nothing was ever written into it: what is zero need not be written.
    fresh: bool,
}

impl ImageFile {
    /// Makes a new image, which nothing but its owner can read; all of it is a hole. Never replaces a file.
    pub fn create(path: &Path, length: u64) -> Result<Self, SysError> {
        let failed = |error| SysError::new("making", path, error);
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
        if let Err(error) = file.set_len(length) {
            drop(std::fs::remove_file(path));
            return Err(failed(error));
        }
        Ok(Self { file, path: path.to_path_buf(), fresh: true })
    }

    /// Opens an image to go on with it.
    pub fn open(path: &Path, length: u64) -> Result<Self, SysError> {
        let failed = |error| SysError::new("opening", path, error);
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(failed)?;
        let meta = file.metadata().map_err(failed)?;
        if !meta.is_file() || meta.len() > length {
            return Err(failed(io::Error::other("it is not an image of this disk")));
        }
        // ddrescue's images are as long as what was read.
        file.set_len(length).map_err(failed)?;
        Ok(Self { file, path: path.to_path_buf(), fresh: false })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the lock by which a second run sees that this one is at work; false when another run has it.
    pub fn lock(&self) -> Result<bool, SysError> {
        super::dir::lock(&self.file).map_err(|error| SysError::new("locking", &self.path, error))
    }

    /// Writes what was read; zeros become holes.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), SysError> {
        let failed = |error| SysError::new("writing", &self.path, error);
        let mut at = offset;
        let is_zero = |piece: &&[u8]| piece.iter().all(|&b| b == 0);
        let mut pieces = bytes.chunks(PIECE).peekable();
        let mut rest = bytes;
        while let Some(first) = pieces.next() {
            let zero = is_zero(&first);
            let mut length = first.len();
            while let Some(more) = pieces.next_if(|piece| is_zero(piece) == zero) {
                length += more.len();
            }
            let (run, after) = rest.split_at_checked(length).unwrap_or((rest, &[]));
            match zero {
                false => self.file.write_all_at(run, at).map_err(failed)?,
                true if self.fresh => {}
                true => self.clear(at, run).map_err(failed)?,
            }
            (at, rest) = (at.saturating_add(length as u64), after);
        }
        Ok(())
    }

    /// An earlier run may have left something else here.
    fn clear(&self, offset: u64, zeros: &[u8]) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(&self.file, flags, offset, zeros.len() as u64) {
            Ok(()) => Ok(()),
            Err(_) => self.file.write_all_at(zeros, offset),
        }
    }

    /// Waits until everything written so far is on the disk.
    pub fn sync(&self) -> Result<(), SysError> {
        self.file.sync_data().map_err(|error| SysError::new("writing", &self.path, error))
    }
}

impl ReadAt for ImageFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn length(&self) -> u64 {
        self.file.metadata().map_or(0, |meta| meta.len())
    }
}

/// Replaces a file so that after a power cut either the old content is there or the new one.
pub fn replace(path: &Path, content: &[u8]) -> Result<(), SysError> {
    let failed = |error| SysError::new("writing", path, error);
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)?;
        Dir::open(folder(path))?.sync()
    };
    write().map_err(failed)
}

/// Makes the name of a new file last.
pub fn sync_name(path: &Path) -> Result<(), SysError> {
    Dir::open(folder(path)).and_then(|dir| dir.sync()).map_err(|error| SysError::new("writing", path, error))
}

/// The bytes that a file in this place may take.
pub fn free_space(path: &Path) -> Result<u64, SysError> {
    let room = Dir::open(folder(path)).and_then(|dir| dir.room());
    room.map(|room| room.bytes).map_err(|error| SysError::new("reading", path, error))
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().as_bytes().is_empty()).unwrap_or(Path::new("."))
}
