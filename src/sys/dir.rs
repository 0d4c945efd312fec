//! Directory handles: every read and write below a target's root goes through one.
//!
//! Owns the only way to write to a target. A path is resolved beneath the handle it starts from, never through a
//! symbolic link, with `openat2` where the kernel has it and component by component with `O_NOFOLLOW` where not, so
//! neither an archive nor a program running at the same time can lead a write elsewhere.
//! Never overwrites: files are created exclusively, and names change only by `renameat2`.

use super::fault;
use crate::model::entry::Mtime;
use crate::model::path::RelPath;
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RenameFlags, ResolveFlags, StatVfs, Timespec, Timestamps, XattrFlags,
};
use rustix::io::Errno;
use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// Set once a kernel or a sandbox without `openat2` was met.
static NO_OPENAT2: AtomicBool = AtomicBool::new(false);

/// An open directory.
#[derive(Debug)]
pub struct Dir(OwnedFd);

/// What lies at a name, without following a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Its kind.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Length in bytes.
    pub size: u64,
    /// Modification time.
    pub mtime: Mtime,
    /// Device number of the filesystem or subvolume.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Number of names.
    pub links: u64,
    /// Room that its content takes, in blocks of 512 bytes.
    pub blocks: u64,
}

/// Kinds of directory entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Kind {
    File,
    Directory,
    Symlink,
    Fifo,
    Socket,
    Device,
}

/// Free room on a filesystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes that an ordinary process may still write.
    pub bytes: u64,
    /// Inodes left; `None` where the filesystem has no such limit (btrfs).
    pub inodes: Option<u64>,
}

impl Dir {
    /// Opens a directory by an ordinary path; symbolic links on the way are followed. For roots only.
    pub fn open(path: &Path) -> io::Result<Dir> {
        Ok(Dir(rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?))
    }

    /// A directory that was opened another way.
    pub(super) fn of(handle: OwnedFd) -> Dir {
        Dir(handle)
    }

    /// Another handle to the same directory.
    pub fn again(&self) -> io::Result<Dir> {
        Ok(Dir(self.0.try_clone()?))
    }

    /// Opens a directory below this one.
    pub fn dir(&self, path: &RelPath) -> io::Result<Dir> {
        Ok(Dir(self.resolve(path.as_path(), OFlags::RDONLY | OFlags::DIRECTORY)?))
    }

    /// Opens a direct child directory.
    pub fn child(&self, name: &[u8]) -> io::Result<Dir> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Dir(rustix::fs::openat(&self.0, OsStr::from_bytes(name), flags, Mode::empty())?))
    }

    /// The directory that holds `path`'s last component.
    pub fn parent(&self, path: &RelPath) -> io::Result<Dir> {
        match path.parent() {
            Some(parent) => self.dir(&parent),
            None => self.again(),
        }
    }

    fn resolve(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        if !NO_OPENAT2.load(Ordering::Relaxed) {
            match rustix::fs::openat2(&self.0, path, flags, Mode::empty(), BENEATH) {
                Ok(fd) => return Ok(fd),
                // EPERM comes from sandboxes that do not know the call; a real EPERM comes back from the walk below.
                Err(Errno::NOSYS | Errno::PERM) => NO_OPENAT2.store(true, Ordering::Relaxed),
                Err(Errno::AGAIN) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.walk(path, flags)
    }

    /// The strict fallback: one component at a time, never through a link, never upwards.
    fn walk(&self, path: &Path, last: OFlags) -> io::Result<OwnedFd> {
        let mut at = self.0.try_clone()?;
        let mut names = path.components().peekable();
        while let Some(name) = names.next() {
            let std::path::Component::Normal(name) = name else { return Err(Errno::XDEV.into()) };
            let flags = match names.peek() {
                Some(_) => OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                None => last,
            };
            at = rustix::fs::openat(&at, name, flags, Mode::empty())?;
        }
        Ok(at)
    }

    /// What lies at `path`; `None` when nothing does, an error when a link or a file is on the way.
    pub fn stat(&self, path: &RelPath) -> io::Result<Option<Stat>> {
        match self.parent(path) {
            Ok(parent) => parent.stat_child(path.file_name()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What lies at a direct child's name.
    pub fn stat_child(&self, name: &[u8]) -> io::Result<Option<Stat>> {
        match rustix::fs::statat(&self.0, OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Stat::from(stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The directory itself.
    pub fn stat_self(&self) -> io::Result<Stat> {
        Ok(Stat::from(rustix::fs::fstat(&self.0)?))
    }

    /// Whether a direct child is the top of a mounted filesystem; `false` where the kernel does not tell.
    pub fn is_mount_point(&self, name: &[u8]) -> io::Result<bool> {
        use rustix::fs::{StatxAttributes, StatxFlags};
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        match rustix::fs::statx(&self.0, OsStr::from_bytes(name), flags, StatxFlags::empty()) {
            Ok(stat) => Ok(stat.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT)
                && stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)),
            Err(Errno::NOSYS | Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Names in the directory, without `.` and `..`, by their inode numbers: mostly the order in which they were made and
    /// lie on the medium, so that it is read from its beginning to its end and not back and forth.
    pub fn names(&self) -> io::Result<Vec<Vec<u8>>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.0)? {
            let entry = entry?;
            let name: &CStr = entry.file_name();
            if !matches!(name.to_bytes(), b"." | b"..") {
                names.push((entry.ino(), name.to_bytes().to_vec()));
            }
        }
        names.sort_unstable();
        Ok(names.into_iter().map(|(_, name)| name).collect())
    }

    /// Opens a direct child file for reading.
    pub fn read_file(&self, name: &[u8]) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        Ok(File::from(rustix::fs::openat(&self.0, OsStr::from_bytes(name), flags, Mode::empty())?))
    }

    /// The target of a direct child link.
    pub fn read_link(&self, name: &[u8]) -> io::Result<Vec<u8>> {
        Ok(rustix::fs::readlinkat(&self.0, OsStr::from_bytes(name), Vec::new())?.into_bytes())
    }

    /// Creates a new file for writing; an existing name is an error.
    pub fn create_file(&self, name: &[u8]) -> io::Result<File> {
        fault::point("write.create")?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(rustix::fs::openat(&self.0, OsStr::from_bytes(name), flags, Mode::RUSR | Mode::WUSR)?))
    }

    /// Opens a file to append to, creating it where it is missing.
    pub fn append_file(&self, name: &[u8]) -> io::Result<File> {
        fault::point("write.open")?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(rustix::fs::openat(&self.0, OsStr::from_bytes(name), flags, Mode::RUSR | Mode::WUSR)?))
    }

    /// Creates a child directory, private to root; `false` when it existed.
    pub fn make_child(&self, name: &[u8]) -> io::Result<bool> {
        fault::point("write.mkdir")?;
        match rustix::fs::mkdirat(&self.0, OsStr::from_bytes(name), Mode::RWXU) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Creates a symbolic link.
    pub fn make_symlink(&self, name: &[u8], target: &[u8]) -> io::Result<()> {
        fault::point("write.symlink")?;
        Ok(rustix::fs::symlinkat(OsStr::from_bytes(target), &self.0, OsStr::from_bytes(name))?)
    }

    /// Creates a named pipe.
    pub fn make_fifo(&self, name: &[u8]) -> io::Result<()> {
        fault::point("write.fifo")?;
        Ok(rustix::fs::mknodat(&self.0, OsStr::from_bytes(name), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?)
    }

    /// Gives the regular file `from/from_name` another name here.
    pub fn make_link(&self, name: &[u8], from: &Dir, from_name: &[u8]) -> io::Result<()> {
        fault::point("write.link")?;
        let (old, new) = (OsStr::from_bytes(from_name), OsStr::from_bytes(name));
        Ok(rustix::fs::linkat(&from.0, old, &self.0, new, AtFlags::empty())?)
    }

    /// Swaps two names atomically; both must exist, on the same filesystem and subvolume.
    pub fn exchange(&self, name: &[u8], other: &Dir, other_name: &[u8]) -> io::Result<()> {
        self.rename(name, other, other_name, RenameFlags::EXCHANGE)
    }

    /// Moves a name; the new name must not exist.
    pub fn move_to(&self, name: &[u8], other: &Dir, other_name: &[u8]) -> io::Result<()> {
        self.rename(name, other, other_name, RenameFlags::NOREPLACE)
    }

    /// Moves a name over an existing one, as an ordinary rename does; for files of Lifeboat's own.
    pub fn replace(&self, name: &[u8], other_name: &[u8]) -> io::Result<()> {
        fault::point("write.rename")?;
        Ok(rustix::fs::renameat(&self.0, OsStr::from_bytes(name), &self.0, OsStr::from_bytes(other_name))?)
    }

    fn rename(&self, name: &[u8], other: &Dir, other_name: &[u8], flags: RenameFlags) -> io::Result<()> {
        fault::point("write.rename")?;
        let (from, to) = (OsStr::from_bytes(name), OsStr::from_bytes(other_name));
        Ok(rustix::fs::renameat_with(&self.0, from, &other.0, to, flags)?)
    }

    /// Removes a child that is not a directory.
    pub fn remove_file(&self, name: &[u8]) -> io::Result<()> {
        fault::point("write.remove")?;
        Ok(rustix::fs::unlinkat(&self.0, OsStr::from_bytes(name), AtFlags::empty())?)
    }

    /// Removes an empty child directory.
    pub fn remove_dir(&self, name: &[u8]) -> io::Result<()> {
        fault::point("write.remove")?;
        Ok(rustix::fs::unlinkat(&self.0, OsStr::from_bytes(name), AtFlags::REMOVEDIR)?)
    }

    /// Sets a child's owner without following a link.
    pub fn set_owner(&self, name: &[u8], uid: u32, gid: u32) -> io::Result<()> {
        fault::point("write.metadata")?;
        let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
        Ok(rustix::fs::chownat(&self.0, OsStr::from_bytes(name), Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Sets the permission bits of a child that is not a link.
    pub fn set_mode(&self, name: &[u8], mode: u32) -> io::Result<()> {
        fault::point("write.metadata")?;
        let mode = Mode::from_raw_mode(mode & 0o7777);
        Ok(rustix::fs::chmodat(&self.0, OsStr::from_bytes(name), mode, AtFlags::empty())?)
    }

    /// Sets a child's modification time without following a link.
    pub fn set_mtime(&self, name: &[u8], mtime: Mtime) -> io::Result<()> {
        fault::point("write.metadata")?;
        Ok(rustix::fs::utimensat(&self.0, OsStr::from_bytes(name), &timestamps(mtime), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Writes the directory's own names to the medium.
    pub fn sync(&self) -> io::Result<()> {
        fault::point("write.sync")?;
        Ok(rustix::fs::fsync(&self.0)?)
    }

    /// Writes everything of this filesystem to the medium; reports write errors that happened since the last call.
    pub fn sync_filesystem(&self) -> io::Result<()> {
        fault::point("write.syncfs")?;
        Ok(rustix::fs::syncfs(&self.0)?)
    }

    /// Starts writing to the medium what is not there yet, and waits for it. For a head start only: it proves nothing
    /// about what is written later.
    pub fn begin_sync(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(&self.0)?)
    }

    /// Free room of this filesystem.
    pub fn room(&self) -> io::Result<Room> {
        let vfs: StatVfs = rustix::fs::fstatvfs(&self.0)?;
        let inodes = (vfs.f_files > 0).then_some(vfs.f_favail);
        Ok(Room { bytes: vfs.f_bavail.saturating_mul(vfs.f_frsize), inodes })
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Sets what belongs to an open file or directory: owner, mode, attributes and time, in the order in which the kernel
/// does not take one away again (a change of owner clears set-id bits and capabilities).
pub fn set_metadata(file: impl AsFd, owner: (u32, u32), mode: u32, xattrs: &[Xattr], mtime: Mtime) -> io::Result<()> {
    fault::point("write.metadata")?;
    let file = file.as_fd();
    let (uid, gid) = (rustix::fs::Uid::from_raw(owner.0), rustix::fs::Gid::from_raw(owner.1));
    rustix::fs::fchown(file, Some(uid), Some(gid))?;
    rustix::fs::fchmod(file, Mode::from_raw_mode(mode & 0o7777))?;
    for (name, value) in xattrs {
        rustix::fs::fsetxattr(file, OsStr::from_bytes(name), value, XattrFlags::empty())?;
    }
    Ok(rustix::fs::futimens(file, &timestamps(mtime))?)
}

/// Writes a file's content and metadata to the medium.
pub fn sync_file(file: &File) -> io::Result<()> {
    fault::point("write.sync")?;
    file.sync_all()
}

/// An extended attribute: name with its namespace, and value.
pub type Xattr = (Vec<u8>, Vec<u8>);

/// Whether an attribute is data of whoever wrote the file. Others are given by the machine: labels of a security module,
/// btrfs's compression that a directory hands down.
pub fn is_data(name: &[u8]) -> bool {
    let kinds = [&b"user."[..], b"trusted.", b"system.posix_acl_"];
    kinds.iter().any(|kind| name.starts_with(kind)) || name == b"security.capability"
}

/// Room for the names of a few attributes, and what Linux allows: for all names, and for one value (xattr(7)).
const FEW_XATTRS: usize = 512;
const MOST_XATTRS: usize = 64 << 10;

/// The extended attributes of an open file or directory that are its data; empty where the filesystem has none.
pub fn xattrs(file: impl AsFd) -> io::Result<Vec<Xattr>> {
    let file = file.as_fd();
    // Most files have few attributes or none; for the others the kernel says that there is no room.
    let mut list = vec![0; FEW_XATTRS];
    let listed = match rustix::fs::flistxattr(file, &mut list[..]) {
        Err(Errno::RANGE) => {
            list.resize(MOST_XATTRS, 0);
            rustix::fs::flistxattr(file, &mut list[..])
        }
        other => other,
    };
    let length = match listed {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => 0,
        Err(error) => return Err(error.into()),
    };
    let mut found = Vec::new();
    for name in list.get(..length).unwrap_or_default().split(|&b| b == 0).filter(|name| is_data(name)) {
        let mut value = vec![0; MOST_XATTRS];
        match rustix::fs::fgetxattr(file, OsStr::from_bytes(name), &mut value[..]) {
            Ok(length) => value.truncate(length),
            // Removed since it was listed.
            Err(Errno::NODATA) => continue,
            Err(error) => return Err(error.into()),
        }
        found.push((name.to_vec(), value));
    }
    found.sort();
    Ok(found)
}

/// Asks the kernel to forget cached pages of a file, so that the next read comes from the medium.
pub fn forget_cache(file: &File) {
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
}

/// Takes the exclusive lock on a file; `false` when somebody else holds it.
pub fn lock(file: &File) -> io::Result<bool> {
    match rustix::fs::flock(file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn timestamps(mtime: Mtime) -> Timestamps {
    let time = Timespec { tv_sec: mtime.secs, tv_nsec: mtime.nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}

impl From<rustix::fs::Stat> for Stat {
    #[allow(clippy::unnecessary_cast, reason = "the widths differ between architectures")]
    fn from(stat: rustix::fs::Stat) -> Stat {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Symlink,
            FileType::Fifo => Kind::Fifo,
            FileType::Socket => Kind::Socket,
            _ => Kind::Device,
        };
        Stat {
            kind,
            mode: stat.st_mode as u32 & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: stat.st_size as u64,
            mtime: Mtime { secs: stat.st_mtime as i64, nanos: stat.st_mtime_nsec as u32 },
            dev: stat.st_dev as u64,
            ino: stat.st_ino as u64,
            links: stat.st_nlink as u64,
            blocks: stat.st_blocks as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        text.parse().unwrap()
    }

    /// Both resolvers must refuse the same things.
    fn each_resolver(check: impl Fn(&Dir)) {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(temp.path().join("root/a/b")).unwrap();
        std::fs::create_dir(temp.path().join("outside")).unwrap();
        std::os::unix::fs::symlink("../../outside", temp.path().join("root/a/up")).unwrap();
        std::os::unix::fs::symlink("b", temp.path().join("root/a/inside")).unwrap();
        let root = Dir::open(&temp.path().join("root")).unwrap();
        for fallback in [false, true] {
            NO_OPENAT2.store(fallback, Ordering::Relaxed);
            check(&root);
        }
        NO_OPENAT2.store(false, Ordering::Relaxed);
    }

    #[test]
    fn no_resolver_goes_through_a_symbolic_link() {
        each_resolver(|root| {
            assert!(root.dir(&path("a/b")).is_ok());
            assert!(root.dir(&path("a/up")).is_err());
            assert!(root.dir(&path("a/inside")).is_err());
            assert!(root.stat(&path("a/up/x")).is_err());
            assert_eq!(root.stat(&path("a/up")).unwrap().unwrap().kind, Kind::Symlink);
            assert_eq!(root.stat(&path("a/none/deeper")).unwrap(), None);
        });
    }

    #[test]
    fn an_exchange_swaps_and_a_move_never_replaces() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open(temp.path()).unwrap();
        std::fs::write(temp.path().join("old"), "old").unwrap();
        std::fs::write(temp.path().join("new"), "new").unwrap();
        dir.exchange(b"old", &dir, b"new").unwrap();
        assert_eq!(std::fs::read(temp.path().join("old")).unwrap(), b"new");
        assert!(dir.move_to(b"old", &dir, b"new").is_err());
        assert!(dir.create_file(b"old").is_err());
    }
}
