//! The machine that Lifeboat runs on, or a directory that stands for it.
//!
//! Owns the places of `/sys`, `/proc`, `/dev` and `/run`, and the four things that need privilege or time. Only `main`
//! and tests make a `Host`.

use super::SysError;
use super::command::{Commands, Programs};
use super::mount::{KernelMounter, Mounter};
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

/// Tells the time.
pub trait Clock: Send + Sync {
    /// The present moment.
    fn now(&self) -> SystemTime;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// The machine. Cheap to clone.
#[derive(Clone)]
pub struct Host {
    root: PathBuf,
    runtime: PathBuf,
    mounter: Arc<dyn Mounter>,
    commands: Arc<dyn Commands>,
    clock: Arc<dyn Clock>,
}

impl Host {
    /// The real machine; `runtime` is the private directory for mount points and copies (`/run/lifeboat`).
    pub fn real(runtime: impl Into<PathBuf>) -> Self {
        Self::new("/", runtime, Arc::new(KernelMounter), Arc::new(Programs), Arc::new(SystemClock))
    }

    /// A machine whose `/sys`, `/proc`, `/dev` and `/run` lie below `root`.
    pub fn new(
        root: impl Into<PathBuf>,
        runtime: impl Into<PathBuf>,
        mounter: Arc<dyn Mounter>,
        commands: Arc<dyn Commands>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { root: root.into(), runtime: runtime.into(), mounter, commands, clock }
    }

    /// A path below `/sys`.
    pub fn sys(&self, below: impl AsRef<Path>) -> PathBuf {
        self.root.join("sys").join(below)
    }

    /// A path below `/proc`.
    pub fn proc(&self, below: impl AsRef<Path>) -> PathBuf {
        self.root.join("proc").join(below)
    }

    /// A path below `/dev`.
    pub fn dev(&self, below: impl AsRef<Path>) -> PathBuf {
        self.root.join("dev").join(below)
    }

    /// Whether `root` is the root of the system that is running, and not one that is only mounted.
    pub fn runs(&self, root: &Path) -> bool {
        #[cfg(feature = "faults")]
        if let Some(stands_for_it) = std::env::var_os("LIFEBOAT_RUNNING") {
            return root == Path::new(&stands_for_it);
        }
        root == Path::new("/")
    }

    /// A file of this boot: it is gone after the next start.
    pub fn runtime_file(&self, name: &str) -> PathBuf {
        self.runtime.join(name)
    }

    /// Makes the directory of such files, which only its owner can enter.
    pub fn make_runtime(&self) -> io::Result<()> {
        private_parent(&self.runtime)
    }

    /// A path below `/run`.
    pub fn run(&self, below: impl AsRef<Path>) -> PathBuf {
        self.root.join("run").join(below)
    }

    /// Who mounts.
    pub fn mounter(&self) -> &Arc<dyn Mounter> {
        &self.mounter
    }

    /// Who runs programs.
    pub fn commands(&self) -> &Arc<dyn Commands> {
        &self.commands
    }

    /// Who tells the time.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// The directory below which all mount points of Lifeboat are.
    pub fn mount_points(&self) -> PathBuf {
        self.runtime.join("mounts")
    }

    /// Makes a new, empty directory that only its owner can enter, below the runtime directory.
    pub fn private_directory(&self, kind: &str) -> Result<PathBuf, SysError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let parent = self.runtime.join(kind);
        private_parent(&parent).map_err(|error| SysError::new("making the private directory", &parent, error))?;
        loop {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = parent.join(format!("{}-{count}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(path),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(SysError::new("making the private directory", &path, error)),
            }
        }
    }
}

/// Makes `path` with mode 0700, or accepts it when it is a directory of our own that nobody else can write to.
fn private_parent(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let meta = std::fs::symlink_metadata(path)?;
    if !meta.is_dir() || meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::other("it belongs to somebody else"));
    }
    if meta.mode() & 0o077 != 0 {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}
