//! Mounts: private mount points that are released when their owner goes, and what is mounted already.
//!
//! A source is never written to. `ro` alone is not enough: ext4 replays its journal and removes orphans, xfs and btrfs
//! replay their logs, all of them by writing to the device below a read-only mount. So a source is mounted from a
//! loop device that is itself read-only, and with the option that skips recovery (without it the mount would fail).

use super::SysError;
use super::block::{self, Backing};
use super::command::succeed;
use super::host::Host;
use super::overlay::Overlay;
use crate::model::disk::FilesystemKind;
use nix::mount::{MntFlags, MsFlags};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Calls mount(2) and umount2(2).
pub trait Mounter: Send + Sync {
    /// Mounts `source` on `point`; always with `nosuid,nodev`, and read-only mounts with `noexec`.
    fn mount(&self, source: &Path, point: &Path, kind: &str, read_only: bool, options: &str) -> io::Result<()>;
    /// Shows the directory `source`, without what is mounted below it, read-only on `point`.
    fn bind_read_only(&self, source: &Path, point: &Path) -> io::Result<()>;
    /// Unmounts `point`.
    fn unmount(&self, point: &Path) -> io::Result<()>;
}

/// The kernel.
#[derive(Debug, Clone, Copy, Default)]
pub struct KernelMounter;

impl Mounter for KernelMounter {
    fn mount(&self, source: &Path, point: &Path, kind: &str, read_only: bool, options: &str) -> io::Result<()> {
        let mut flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        if read_only {
            flags |= MsFlags::MS_RDONLY | MsFlags::MS_NOEXEC | MsFlags::MS_NOATIME;
        }
        Ok(nix::mount::mount(Some(source), point, Some(kind), flags, Some(options))?)
    }

    fn bind_read_only(&self, source: &Path, point: &Path) -> io::Result<()> {
        const NOTHING: Option<&str> = None;
        nix::mount::mount(Some(source), point, NOTHING, MsFlags::MS_BIND, NOTHING)?;
        let flags = MsFlags::MS_REMOUNT
            | MsFlags::MS_BIND
            | MsFlags::MS_RDONLY
            | MsFlags::MS_NOSUID
            | MsFlags::MS_NODEV
            | MsFlags::MS_NOEXEC
            | MsFlags::MS_NOATIME;
        nix::mount::mount(NOTHING, point, NOTHING, flags, NOTHING).map_err(|errno| {
            let _ = nix::mount::umount2(point, MntFlags::UMOUNT_NOFOLLOW);
            errno.into()
        })
    }

    fn unmount(&self, point: &Path) -> io::Result<()> {
        Ok(nix::mount::umount2(point, MntFlags::UMOUNT_NOFOLLOW)?)
    }
}

const BUSY_TRIES: u32 = 40;
const BUSY_PAUSE: Duration = Duration::from_millis(25);

/// Something mounted on a private mount point; unmounted when dropped.
pub struct Mounted {
    point: PathBuf,
    mounter: Arc<dyn Mounter>,
    // A point of our own is removed again; one inside a target's tree is not.
    own_point: bool,
    open: bool,
    // Goes after the mount.
    overlay: Option<Overlay>,
}

impl std::fmt::Debug for Mounted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mounted").field("point", &self.point).finish_non_exhaustive()
    }
}

impl Mounted {
    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.point
    }

    /// Whether it shows what an overlay in memory made of the disk: the newest state, recovered.
    pub fn is_recovered(&self) -> bool {
        self.overlay.is_some()
    }

    /// Unmounts, and tells when that is not possible (something is still in use).
    pub fn release(mut self) -> Result<(), SysError> {
        self.close().map_err(|error| SysError::new("unmounting", &self.point, error))
    }

    fn close(&mut self) -> io::Result<()> {
        if !std::mem::replace(&mut self.open, false) {
            return Ok(());
        }
        self.unmount()?;
        if self.own_point {
            std::fs::remove_dir(&self.point)?;
        }
        Ok(())
    }

    /// A program that is just being started by another thread holds copies of our open files until it runs, so a
    /// filesystem can be busy for a moment without anybody using it.
    fn unmount(&self) -> io::Result<()> {
        for _ in 0..BUSY_TRIES {
            match self.mounter.unmount(&self.point) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => std::thread::sleep(BUSY_PAUSE),
                other => return other,
            }
        }
        self.mounter.unmount(&self.point)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = self.close();
    }
}

/// A part of a disk, of an image file, or all of it: what a filesystem lies on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// Device node or image file.
    pub path: PathBuf,
    /// First byte.
    pub offset: u64,
    /// Length in bytes.
    pub length: u64,
}

/// Mounts a source so that nothing can write to it. btrfs shows its default subvolume.
pub fn read_only(host: &Host, extent: &Extent, kind: FilesystemKind) -> Result<Mounted, SysError> {
    read_only_with(host, extent, kind, None, Point::New)
}

/// Mounts for writing, on a private mount point. The kernel recovers the filesystem first where that is needed.
pub fn writable(host: &Host, extent: &Extent, kind: FilesystemKind) -> Result<Mounted, SysError> {
    writable_with(host, extent, kind, None, Point::New)
}

/// Where to mount.
#[derive(Debug, Clone, Copy)]
pub enum Point<'a> {
    /// A new private mount point.
    New,
    /// An existing directory.
    At(&'a Path),
}

impl Point<'_> {
    /// The directory, and whether it was made for this mount.
    fn directory(self, host: &Host) -> Result<(PathBuf, bool), SysError> {
        match self {
            Point::New => Ok((host.private_directory("mounts")?, true)),
            Point::At(path) => Ok((path.to_path_buf(), false)),
        }
    }
}

/// As [`read_only`], with a btrfs subvolume and a mount point.
pub fn read_only_with(
    host: &Host,
    extent: &Extent,
    kind: FilesystemKind,
    subvolume: Option<&str>,
    point: Point<'_>,
) -> Result<Mounted, SysError> {
    let attached = Attached::new(host, extent, true)?;
    let variants: &[(&str, &str)] = match kind {
        FilesystemKind::Ext2 => &[("ext2", ""), ("ext4", "")],
        FilesystemKind::Ext3 => &[("ext3", "noload"), ("ext4", "noload")],
        FilesystemKind::Ext4 => &[("ext4", "noload")],
        // Names since 5.9, since 4.6, and before.
        FilesystemKind::Btrfs => &[("btrfs", "rescue=nologreplay"), ("btrfs", "nologreplay"), ("btrfs", "norecovery")],
        FilesystemKind::Xfs => &[("xfs", "norecovery")],
        FilesystemKind::F2fs => &[("f2fs", "norecovery"), ("f2fs", "disable_roll_forward")],
        other => plain_variants(other),
    };
    attached.mount(host, kind, variants, subvolume, point, true)
}

/// Mounts what an overlay shows for reading. The kernel recovers the filesystem first where that is needed and possible;
/// what it writes stays in the overlay.
pub fn recovered(
    host: &Host,
    overlay: Overlay,
    kind: FilesystemKind,
    subvolume: Option<&str>,
    point: Point<'_>,
) -> Result<Mounted, SysError> {
    let attached = Attached::new(host, overlay.extent(), false)?;
    let (name, options): (_, &[&str]) = match kind {
        // The copies of the superblock lie in the second group, whose place the block size decides.
        FilesystemKind::Ext2 | FilesystemKind::Ext3 | FilesystemKind::Ext4 => {
            ("ext4", &["", "noload", "noload,sb=131072", "noload,sb=32768", "noload,sb=8193"])
        }
        // Data that does not fit its checksum is never handed out.
        FilesystemKind::Btrfs => {
            ("btrfs", &["", "rescue=nologreplay", "rescue=usebackuproot:nologreplay:ignorebadroots"])
        }
        other => (plain_variants(other).first().map_or("", |(name, _)| name), &[""]),
    };
    let mut refusal = None;
    for option in options {
        match attached.mount(host, kind, &[(name, option)], subvolume, point, true) {
            Ok(mut mounted) => {
                mounted.overlay = Some(overlay);
                return Ok(mounted);
            }
            Err(error) => refusal = refusal.or(Some(error)),
        }
    }
    Err(refusal.unwrap_or_else(|| SysError::new("mounting", &attached.node, io::Error::other("there is no way to"))))
}

/// As [`writable`], with a btrfs subvolume and a mount point.
pub fn writable_with(
    host: &Host,
    extent: &Extent,
    kind: FilesystemKind,
    subvolume: Option<&str>,
    point: Point<'_>,
) -> Result<Mounted, SysError> {
    let attached = Attached::new(host, extent, false)?;
    let variants: &[(&str, &str)] = match kind {
        FilesystemKind::Ext2 => &[("ext2", ""), ("ext4", "")],
        FilesystemKind::Ext3 => &[("ext3", ""), ("ext4", "")],
        other => plain_variants(other),
    };
    attached.mount(host, kind, variants, subvolume, point, false)
}

fn plain_variants(kind: FilesystemKind) -> &'static [(&'static str, &'static str)] {
    match kind {
        FilesystemKind::Ext4 => &[("ext4", "")],
        FilesystemKind::Btrfs => &[("btrfs", "")],
        FilesystemKind::Xfs => &[("xfs", "")],
        FilesystemKind::F2fs => &[("f2fs", "")],
        // Names on the disk are UTF-16; they are to be shown as UTF-8 whatever the kernel's default is.
        FilesystemKind::Vfat => &[("vfat", "utf8"), ("vfat", "")],
        FilesystemKind::Exfat => &[("exfat", "")],
        FilesystemKind::Ntfs => &[("ntfs3", ""), ("ntfs", "")],
        FilesystemKind::Squashfs => &[("squashfs", "")],
        FilesystemKind::Iso9660 => &[("iso9660", "")],
        _ => &[],
    }
}

/// Shows a directory that is mounted already at another place, read-only.
pub fn shown_read_only(host: &Host, directory: &Path, point: Point<'_>) -> Result<Mounted, SysError> {
    let (point, own_point) = point.directory(host)?;
    if let Err(error) = host.mounter().bind_read_only(directory, &point) {
        if own_point {
            let _ = std::fs::remove_dir(&point);
        }
        return Err(SysError::new("mounting", directory, error));
    }
    Ok(Mounted { point, mounter: host.mounter().clone(), own_point, open: true, overlay: None })
}

/// The device that an extent is mounted from: its own node, or a loop device that is detached when the last user goes.
pub(super) struct Attached<'a> {
    host: &'a Host,
    node: PathBuf,
    is_loop: bool,
}

impl<'a> Attached<'a> {
    pub(super) fn new(host: &'a Host, extent: &Extent, read_only: bool) -> Result<Self, SysError> {
        use std::os::unix::fs::FileTypeExt;
        let meta = std::fs::metadata(&extent.path).map_err(|error| SysError::new("opening", &extent.path, error))?;
        if meta.file_type().is_block_device() && extent.offset == 0 && !read_only {
            return Ok(Self { host, node: extent.path.clone(), is_loop: false });
        }
        // btrfs refuses to show one filesystem from two devices: a loop device of our own is used again.
        if let Some(node) = Self::own_loop(host, extent, read_only) {
            return Ok(Self { host, node, is_loop: false });
        }
        let (offset, length) = (extent.offset.to_string(), extent.length.to_string());
        let mut args: Vec<&OsStr> =
            ["--find", "--show", "--offset", &offset, "--sizelimit", &length].map(OsStr::new).to_vec();
        if read_only {
            args.push(OsStr::new("--read-only"));
        }
        args.push(OsStr::new("--"));
        args.push(extent.path.as_os_str());
        let shown = succeed(host.commands().as_ref(), "losetup", &args)?;
        let node = PathBuf::from(OsString::from_vec(shown.trim_ascii().to_vec()));
        Ok(Self { host, node, is_loop: true })
    }

    /// The device's name.
    pub(super) fn node(&self) -> &OsStr {
        self.node.as_os_str()
    }

    /// The loop device from which Lifeboat has this extent mounted.
    fn own_loop(host: &Host, extent: &Extent, read_only: bool) -> Option<PathBuf> {
        let (own, lines) = (host.mount_points(), mounted(host).ok()?);
        let path = std::fs::canonicalize(&extent.path).ok()?;
        let ours = |one: &Backing| lines.iter().any(|line| line.point.starts_with(&own) && line.is_of(one));
        block::loops(host)
            .into_iter()
            .filter(|one| one.path == path && one.offset == extent.offset && one.read_only == read_only)
            .find(ours)
            .map(|one| Path::new("/dev").join(one.name))
    }

    fn mount(
        &self,
        host: &Host,
        kind: FilesystemKind,
        variants: &[(&str, &str)],
        subvolume: Option<&str>,
        point: Point<'_>,
        read_only: bool,
    ) -> Result<Mounted, SysError> {
        let (point, own_point) = point.directory(host)?;
        let mut refusal = io::Error::other(format!("{} holds no files", kind.name()));
        for (name, option) in variants {
            let subvolume = subvolume.map(|name| format!("subvol={name}")).unwrap_or_default();
            let options = [option, subvolume.as_str()].into_iter().filter(|one| !one.is_empty()).collect::<Vec<_>>();
            match host.mounter().mount(&self.node, &point, name, read_only, &options.join(",")) {
                Ok(()) => {
                    return Ok(Mounted {
                        point,
                        mounter: host.mounter().clone(),
                        own_point,
                        open: true,
                        overlay: None,
                    });
                }
                // An unknown option or driver: the next name may be the right one.
                Err(error) if matches!(error.raw_os_error(), Some(libc_errno::EINVAL | libc_errno::ENODEV)) => {
                    refusal = error;
                }
                Err(error) => {
                    refusal = error;
                    break;
                }
            }
        }
        if own_point {
            let _ = std::fs::remove_dir(&point);
        }
        Err(SysError::new("mounting", &self.node, refusal))
    }
}

impl Drop for Attached<'_> {
    fn drop(&mut self) {
        // Detaching a device that is mounted makes the kernel detach it at the unmount, even when this process dies.
        if self.is_loop {
            let args = [OsStr::new("--detach"), self.node.as_os_str()];
            let _ = succeed(self.host.commands().as_ref(), "losetup", &args);
        }
    }
}

/// Error numbers that mount(2) answers with when a name is unknown; the same on every Linux architecture.
mod libc_errno {
    pub(super) const ENODEV: i32 = 19;
    pub(super) const EINVAL: i32 = 22;
}

/// One line of `/proc/self/mountinfo` (proc(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountLine {
    /// Device number of the filesystem; major 0 for btrfs and for what has no device.
    pub device: (u32, u32),
    /// The directory of the filesystem that is shown.
    pub root: PathBuf,
    /// Where it is mounted.
    pub point: PathBuf,
    /// Filesystem type.
    pub kind: String,
    /// What was mounted, as the filesystem names it.
    pub source: PathBuf,
}

impl MountLine {
    /// Whether it shows what is on this loop device; btrfs has device numbers of its own, so its source has to do.
    pub fn is_of(&self, backing: &Backing) -> bool {
        self.device == backing.number || (self.device.0 == 0 && self.source == Path::new("/dev").join(&backing.name))
    }
}

/// Everything that is mounted, in the kernel's order.
pub fn mounted(host: &Host) -> Result<Vec<MountLine>, SysError> {
    let path = host.proc("self/mountinfo");
    let text = std::fs::read(&path).map_err(|error| SysError::new("reading", &path, error))?;
    Ok(text.split(|&b| b == b'\n').filter_map(mount_line).collect())
}

fn mount_line(line: &[u8]) -> Option<MountLine> {
    let mut fields = line.split(|&b| b == b' ');
    let device = std::str::from_utf8(fields.nth(2)?).ok()?.split_once(':')?;
    let device = (device.0.parse().ok()?, device.1.parse().ok()?);
    let (root, point) = (fields.next()?, fields.next()?);
    let mut rest = fields.skip_while(|&field| field != b"-").skip(1);
    let (kind, source) = (rest.next()?, rest.next()?);
    Some(MountLine {
        device,
        root: unescaped(root),
        point: unescaped(point),
        kind: String::from_utf8_lossy(kind).into_owned(),
        source: unescaped(source),
    })
}

/// Turns the kernel's `\040` octal escapes back into bytes.
fn unescaped(raw: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if first == b'\\' => {
                bytes.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsStr::from_bytes(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_with_spaces_is_read_as_it_is() {
        let line = b"36 25 8:2 /@rootfs /media/My\\040Disk rw,relatime shared:1 master:2 - btrfs /dev/sda2 rw,ssd";
        let line = mount_line(line).unwrap();
        assert_eq!(line.device, (8, 2));
        assert_eq!(line.root, Path::new("/@rootfs"));
        assert_eq!(line.point, Path::new("/media/My Disk"));
        assert_eq!((line.kind.as_str(), line.source.as_path()), ("btrfs", Path::new("/dev/sda2")));
    }

    #[test]
    fn a_line_that_is_cut_short_is_no_mount() {
        for text in [&b""[..], b"36 25 8:2", b"36 25 8:2 / /mnt rw - ext4", b"36 25 x:y / /mnt rw - ext4 /dev/sda"] {
            assert_eq!(mount_line(text), None);
        }
    }
}
