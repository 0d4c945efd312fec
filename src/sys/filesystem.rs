//! What only the filesystems' own programs do: checking one, and making one as long as what it lies on.
//!
//! ext4 is made longer while it is mounted where the kernel allows that (it asks for CAP_SYS_RESOURCE, which containers
//! lack): each block group is one transaction of its journal. Elsewhere it is done unmounted; what is interrupted then is
//! marked as damaged by resize2fs itself, and e2fsck puts it right.

use super::SysError;
use super::command::succeed;
use super::host::Host;
use super::mount::{self, Attached, Extent};
use crate::model::disk::FilesystemKind;
use std::ffi::OsStr;
use std::io;
use std::path::Path;

/// Reads all of its structures and fails where they contradict each other. Writes nothing; it must not be mounted.
pub fn check(host: &Host, extent: &Extent, kind: FilesystemKind) -> Result<(), SysError> {
    let attached = Attached::new(host, extent, true)?;
    let (program, args): (_, &[&str]) = match kind {
        FilesystemKind::Ext4 => ("e2fsck", &["-f", "-n"]),
        FilesystemKind::Btrfs => ("btrfs", &["check", "--readonly"]),
        other => return Err(unable(extent.path.as_path(), other)),
    };
    let args = args.iter().map(OsStr::new).chain([attached.node()]);
    succeed(host.commands().as_ref(), program, &args.collect::<Vec<_>>()).map(|_| ())
}

/// Makes the filesystem that is mounted at `root` as long as what it lies on. The kernel does it, block group by block
/// group, so it is whole at every moment, and what was interrupted can be gone on with.
pub fn grow(host: &Host, root: &Path, kind: FilesystemKind) -> Result<(), SysError> {
    let lines = mount::mounted(host)?;
    let line = lines.iter().filter(|line| root.starts_with(&line.point));
    let line = line.max_by_key(|line| line.point.components().count());
    let Some(line) = line else { return Err(unable(root, kind)) };
    let done = match kind {
        FilesystemKind::Ext4 => succeed(host.commands().as_ref(), "resize2fs", &[line.source.as_os_str()]),
        FilesystemKind::Btrfs => {
            let args = [OsStr::new("filesystem"), OsStr::new("resize"), OsStr::new("max"), line.point.as_os_str()];
            succeed(host.commands().as_ref(), "btrfs", &args)
        }
        other => Err(unable(root, other)),
    };
    done.map(|_| ())
}

/// Puts right what was interrupted while an ext4 was made longer, and makes it longer; it must not be mounted.
pub fn grow_unmounted(host: &Host, extent: &Extent) -> Result<(), SysError> {
    mend(host, extent)?;
    let attached = Attached::new(host, extent, false)?;
    succeed(host.commands().as_ref(), "resize2fs", &[attached.node()]).map(|_| ())
}

/// Has e2fsck put right what an interrupted change of its length left of an ext4; it must not be mounted.
pub fn mend(host: &Host, extent: &Extent) -> Result<(), SysError> {
    let attached = Attached::new(host, extent, false)?;
    let args = [OsStr::new("-f"), OsStr::new("-y"), attached.node()];
    let failed = |source| SysError { operation: "running", subject: "e2fsck".to_owned(), source };
    let output = host.commands().run("e2fsck", &args).map_err(failed)?;
    // 1 says that errors were corrected (e2fsck(8)).
    match output.status {
        Some(0 | 1) => Ok(()),
        _ => Err(failed(io::Error::other(String::from_utf8_lossy(&output.stdout).trim().to_owned()))),
    }
}

fn unable(at: &Path, kind: FilesystemKind) -> SysError {
    SysError::new("making larger", at, io::Error::other(format!("{} cannot be", kind.name())))
}
