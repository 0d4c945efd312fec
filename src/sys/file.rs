//! Reading files and devices without changing them, and reading inside a foreign root without leaving it.

use super::dir::Dir;
use super::{SysError, fault};
use crate::formats::ReadAt;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// A file or block device, open for reading at any offset.
#[derive(Debug)]
pub struct Source {
    file: File,
    length: u64,
}

impl Source {
    /// Opens a file or a device. Its access time stays as it is where the system allows that.
    pub fn open(path: &Path) -> Result<Self, SysError> {
        let failed = |error: io::Error| SysError::new("opening", path, error);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = rustix::fs::open(path, flags | OFlags::NOATIME, Mode::empty())
            .or_else(|errno| match errno {
                Errno::PERM => rustix::fs::open(path, flags, Mode::empty()),
                other => Err(other),
            })
            .map_err(|errno| failed(errno.into()))?;
        let mut file = File::from(fd);
        let length = file.seek(SeekFrom::End(0)).map_err(failed)?;
        Ok(Self { file, length })
    }
}

impl ReadAt for Source {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn length(&self) -> u64 {
        self.length
    }
}

/// A disk or an image of which single places are changed. Nobody else may have a disk in use meanwhile.
#[derive(Debug)]
pub struct Patched {
    file: File,
    path: PathBuf,
}

impl Patched {
    /// Opens it; fails where a part of the disk is mounted or otherwise taken.
    pub fn open(path: &Path) -> Result<Self, SysError> {
        let mut flags = OFlags::WRONLY | OFlags::CLOEXEC;
        if device_number(path).is_some() {
            // Of a device, this asks the kernel for nobody else to have it (open(2)).
            flags |= OFlags::EXCL;
        }
        let opened = rustix::fs::open(path, flags, Mode::empty());
        let file = File::from(opened.map_err(|errno| SysError::new("opening", path, errno))?);
        Ok(Self { file, path: path.to_path_buf() })
    }

    /// Writes bytes to their place; they are on the medium when this returns.
    pub fn write(&self, place: u64, bytes: &[u8]) -> Result<(), SysError> {
        let written = fault::write("patch.write", bytes, |bytes| {
            self.file.write_all_at(bytes, place)?;
            self.file.sync_all()
        });
        let written = written.and_then(|()| fault::point("patch.written"));
        written.map_err(|error| SysError::new("writing", &self.path, error))
    }
}

/// Bytes that nobody can guess.
pub fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        filled += rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(bytes)
}

/// Number of the block device that a path names; `None` when it names something else.
pub fn device_number(path: &Path) -> Option<(u32, u32)> {
    let meta = std::fs::metadata(path).ok().filter(|meta| meta.file_type().is_block_device())?;
    Some((rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev())))
}

/// Filesystems that ask another machine (statfs(2)): FUSE, of which sshfs is, NFS, CIFS, SMB 2, 9P.
const REMOTE: [u32; 5] = [0x6573_5546, 0x6969, 0xff53_4d42, 0xfe53_4d42, 0x0102_1997];

/// Whether reading at `path` may mean asking another machine, and waiting for it.
pub fn is_remote(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|stat| REMOTE.contains(&(stat.f_type as u32)))
}

/// Asks the system to have a part of a file ready when it is read in small steps; for speed alone.
pub fn will_read(file: &File, offset: u64, length: u64) {
    let _ = rustix::fs::fadvise(file, offset, NonZeroU64::new(length), rustix::fs::Advice::WillNeed);
}

/// Whether the filesystem at `path` is mounted read-only.
pub fn is_read_only(path: &Path) -> Result<bool, SysError> {
    let answer = rustix::fs::statvfs(path).map_err(|errno| SysError::new("reading", path, errno))?;
    Ok(answer.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

/// The root of an installed system, in which symbolic links (also absolute ones) are resolved as that system would,
/// and never lead outside.
#[derive(Debug)]
pub struct ForeignRoot {
    directory: OwnedFd,
}

impl ForeignRoot {
    /// Opens the directory.
    pub fn open(path: &Path) -> Result<Self, SysError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty())
            .map(|directory| Self { directory })
            .map_err(|errno| SysError::new("opening", path, errno))
    }

    /// Opens a regular file below the root; `None` when there is none of that name.
    pub fn file(&self, path: &str) -> io::Result<Option<File>> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let fd = match rustix::fs::openat2(&self.directory, path, flags, Mode::empty(), resolve) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        let file = File::from(fd);
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not a regular file"));
        }
        Ok(Some(file))
    }

    /// Opens a directory below the root, by its path from there; `None` when there is none.
    pub fn directory(&self, path: &Path) -> io::Result<Option<Dir>> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(&self.directory, path, flags, Mode::empty(), resolve) {
            Ok(directory) => Ok(Some(Dir::of(directory))),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Reads a file below the root of at most `limit` bytes; `None` when there is none of that name.
    pub fn read(&self, path: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let Some(file) = self.file(path)? else { return Ok(None) };
        let mut content = Vec::new();
        file.take(limit.saturating_add(1)).read_to_end(&mut content)?;
        if content.len() as u64 > limit {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is longer than {limit} bytes")));
        }
        Ok(Some(content))
    }

    /// Whether a regular file of that name is below the root.
    pub fn has(&self, path: &str) -> bool {
        matches!(self.file(path), Ok(Some(_)))
    }
}
