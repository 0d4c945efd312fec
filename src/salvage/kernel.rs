//! Filesystems that only the kernel reads: mounted through an overlay that knows which sectors are lost.
//!
//! What cannot be read is an error for the kernel too, so every file that it hands out whole is whole, also where the
//! filesystem has no checksums for it. Repairs of the filesystem stay in the overlay.

use super::SalvageError;
use super::copy::Copier;
use super::through::Through;
use super::volume::Stretch;
use crate::formats::ReadAt;
use crate::formats::mapfile::lost;
use crate::model::disk::FilesystemKind;
use crate::survey::{installation, opening};
use crate::sys::SysError;
use crate::sys::host::Host;
use crate::sys::mount::{Extent, Point};
use crate::sys::overlay::Content;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

/// What a filesystem reads at once, at least.
const PAGE: u64 = 4096;
const BUFFER: usize = 128 << 10;
/// Where snapper keeps snapshots: the same files once more.
const SNAPSHOTS: &str = ".snapshots";

/// Mounts a stretch of a disk, whose bytes `content` gives, and shows its root to `work`.
fn with_root<T>(
    host: &Host,
    disk: &Path,
    (stretch, kind): (&Stretch, FilesystemKind),
    content: Arc<Content>,
    work: impl FnOnce(&Path) -> T,
) -> Result<T, SysError> {
    let extent = Extent { path: disk.to_owned(), offset: stretch.start, length: stretch.length };
    let mounted = opening::recovered(host, &extent, kind, content, None, Point::New)?;
    Ok(work(mounted.path()))
}

/// Copies the files at and below paths of a system, in their order: the kernel is made to read them, and what it asks
/// the disk for is copied on the way. What cannot be found or read is left to the copy of the whole disk.
pub(super) fn copy_in_order(
    host: &Host,
    disk: &Path,
    volume: (&Stretch, FilesystemKind),
    paths: &[String],
    copier: &mut Copier<'_>,
) -> Result<(), SalvageError> {
    let length = copier.map().length();
    let through = Through::new(copier);
    let (sender, questions) = channel();
    std::thread::scope(|scope| {
        let done = sender.clone();
        scope.spawn(move || {
            let content = Arc::new(Asking { questions: Mutex::new(sender), length });
            let _ = with_root(host, disk, volume, content, |root| {
                for path in paths {
                    installation::candidates(root).iter().for_each(|system| read_below(system, path));
                }
            });
            let _ = done.send(None);
        });
        while let Ok(Some(Question { offset, length, answer })) = questions.recv() {
            let mut bytes = vec![0; length];
            let read = through.read_at(offset, &mut bytes).map(|count| {
                bytes.truncate(count);
                bytes
            });
            // Who asked may have given up.
            let _ = answer.send(read);
        }
        drop(questions);
    });
    through.finish()
}

/// What is asked of the thread that has the disk.
struct Question {
    offset: u64,
    length: usize,
    answer: SyncSender<io::Result<Vec<u8>>>,
}

/// The disk, as far as another thread has it.
struct Asking {
    questions: Mutex<Sender<Option<Question>>>,
    length: u64,
}

impl ReadAt for Asking {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let (answer, answered) = sync_channel(1);
        let question = Question { offset, length: buf.len(), answer };
        let questions = self.questions.lock().unwrap_or_else(PoisonError::into_inner);
        questions.send(Some(question)).map_err(|_| lost())?;
        drop(questions);
        let bytes = answered.recv().map_err(|_| lost())??;
        for (to, from) in buf.iter_mut().zip(&bytes) {
            *to = *from;
        }
        Ok(bytes.len())
    }

    fn length(&self) -> u64 {
        self.length
    }
}

/// Reads every file at and below a path that no link is in.
fn read_below(root: &Path, path: &str) {
    let mut place = root.to_path_buf();
    for part in Path::new(path) {
        if !place.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
            return;
        }
        place.push(part);
    }
    walk(&place, &mut |found| {
        if let Found::File { path, size } = found {
            let _ = lost_in(path, size);
        }
    });
}

/// What is met on a walk.
enum Found<'a> {
    File { path: &'a Path, size: u64 },
    Unreadable { path: &'a Path, error: io::Error },
    Incomplete { path: &'a Path, error: io::Error },
    Snapshots,
}

fn walk(start: &Path, visit: &mut dyn FnMut(Found<'_>)) {
    let mut left: Vec<PathBuf> = vec![start.to_path_buf()];
    while let Some(path) = left.pop() {
        let meta = match path.symlink_metadata() {
            Ok(meta) => meta,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                visit(Found::Unreadable { path: &path, error });
                continue;
            }
        };
        if meta.is_file() {
            visit(Found::File { path: &path, size: meta.len() });
        } else if meta.is_symlink() {
            if let Err(error) = fs::read_link(&path) {
                visit(Found::Unreadable { path: &path, error });
            }
        } else if meta.is_dir() && path.file_name().is_some_and(|name| name == SNAPSHOTS) {
            visit(Found::Snapshots);
        } else if meta.is_dir() {
            let first = left.len();
            match fs::read_dir(&path) {
                Err(error) => visit(Found::Incomplete { path: &path, error }),
                Ok(names) => {
                    for name in names {
                        match name {
                            Ok(name) => left.push(name.path()),
                            Err(error) => {
                                visit(Found::Incomplete { path: &path, error });
                                break;
                            }
                        }
                    }
                }
            }
            // The last one is taken first.
            if let Some(own) = left.get_mut(first..) {
                own.sort_by(|a, b| b.cmp(a));
            }
        }
    }
}

/// How many bytes of a file cannot be read.
fn lost_in(path: &Path, size: u64) -> io::Result<u64> {
    let file = File::open(path)?;
    let mut buffer = vec![0; BUFFER];
    let (mut at, mut lost) = (0, 0);
    while at < size {
        match file.read_at(&mut buffer, at) {
            Ok(0) => break,
            Ok(count) => at += count as u64,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => {
                let next = (at - at % PAGE).saturating_add(PAGE).min(size);
                lost += next - at;
                at = next;
            }
        }
    }
    Ok(lost)
}

/// A file or folder that is not whole.
pub(super) struct Loss {
    /// Below the root of the filesystem.
    pub(super) path: Vec<u8>,
    /// Length, where it is known.
    pub(super) size: Option<u64>,
    /// How much of it is lost.
    pub(super) lost: u64,
    /// What else is the matter.
    pub(super) what: Option<String>,
}

/// Reads every file of a stretch of a disk, and lists what is not whole; and whether snapshots were passed over.
pub(super) fn losses(
    host: &Host,
    disk: &Path,
    volume: (&Stretch, FilesystemKind),
    content: Arc<Content>,
) -> Result<(Vec<Loss>, bool), SysError> {
    with_root(host, disk, volume, content, |root| {
        let (mut losses, mut snapshots) = (Vec::new(), false);
        let below = |path: &Path| path.strip_prefix(root).unwrap_or(path).as_os_str().as_bytes().to_vec();
        walk(root, &mut |found| {
            let (path, size, lost, what) = match found {
                Found::File { path, size } => match lost_in(path, size) {
                    Ok(0) => return,
                    Ok(lost) => (path, Some(size), lost, None),
                    Err(error) => (path, Some(size), 0, Some(format!("it cannot be read: {error}"))),
                },
                Found::Unreadable { path, error } => (path, None, 0, Some(format!("it is lost: {error}"))),
                Found::Incomplete { path, error } => {
                    (path, None, 0, Some(format!("names in this folder are lost: {error}")))
                }
                Found::Snapshots => {
                    snapshots = true;
                    return;
                }
            };
            losses.push(Loss { path: below(path), size, lost, what });
        });
        (losses, snapshots)
    })
}
