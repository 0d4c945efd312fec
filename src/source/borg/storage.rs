//! The files of a repository: which segments count, where each object lies, and its raw bytes.
//!
//! Only reads, without a lock: a repository on a medium that is read-only, or that a dead machine left locked, must be
//! readable. The index file is a hint; the log of segments is the truth.

use super::Fault;
use super::index::{Deletions, Index, replay};
use crate::formats::borg::item::Chunk;
use crate::formats::borg::segment::{self, COMMIT, FOLDER, HEAD, Kind, MAGIC, MAGIC_OF_ATTIC};
use crate::formats::borg::{LONGEST_ENTRY, ObjectId, index};
use crate::model::finding::{Finding, Severity};
use crate::source::ReadError;
use crate::source::tar_export::{at, open_regular, shown};
use crate::sys::file::{is_remote, will_read};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// How many segment files are kept open.
const MOST_OPEN: usize = 64;
/// Buffers grow in steps of this, so that they do so rarely.
const STEP: usize = 256 << 10;
/// What the system reads from a medium at least.
const PAGE: usize = 4 << 10;
/// What is read where the length of an entry is not known before.
const GUESS: usize = 8 << 10;

/// The files of one repository.
#[derive(Debug)]
pub(super) struct Storage {
    /// The committed segments.
    segments: BTreeMap<u32, PathBuf>,
    /// From the index file, where there is one that fits.
    hint: Option<Index>,
    /// From the segments, made when it is needed.
    truth: OnceLock<Index>,
    /// By the objects' order in the index: one more than the length of the plain content that was found good.
    known_good: OnceLock<Vec<AtomicU32>>,
    open: Mutex<HashMap<u32, Arc<File>>>,
    /// Whether reading means asking another machine, and waiting for it.
    pub(super) is_remote: bool,
    /// What was noticed.
    pub(super) findings: Vec<Finding>,
}

impl Storage {
    /// Looks at the files below `path`.
    pub(super) fn open(path: &Path) -> Result<Storage, ReadError> {
        let mut findings = Vec::new();
        let mut segments = list_segments(&path.join(FOLDER), &mut findings)?;
        if let Some(first) = segments.values().next()
            && starts_with(first, MAGIC_OF_ATTIC)
        {
            return Err(ReadError::Unsupported {
                entry: format!("'{}'", shown(path)),
                what: "it is a repository of Attic; 'borg upgrade' turns a copy of it into one that can be read".into(),
            });
        }
        findings.extend(locks(path));
        let last = last_transaction(path, &segments, &mut findings)?;
        let tail = segments.split_off(&last.saturating_add(1));
        if !tail.is_empty() {
            let what = "a backup was interrupted; what it had written is not complete and was left out";
            findings.push(Finding::new(Severity::Note, shown(path), what, ""));
        }
        let hint = match read_index(&path.join(format!("index.{last}"))) {
            Ok(index) => Some(index),
            Err(error) => {
                let what = format!("the repository's index cannot be used ({error}); it was made anew in memory");
                findings.push(Finding::new(Severity::Note, shown(path), what, ""));
                None
            }
        };
        let (truth, known_good, open) = (OnceLock::new(), OnceLock::new(), Mutex::default());
        let is_remote = is_remote(path);
        Ok(Storage { segments, hint, truth, known_good, open, is_remote, findings })
    }

    /// Whether there is such an object.
    pub(super) fn has(&self, id: &ObjectId) -> bool {
        self.index().find(id).is_some()
    }

    fn index(&self) -> &Index {
        self.hint.as_ref().unwrap_or_else(|| self.truth())
    }

    /// Whether a piece of content, with just this length, was found good before.
    pub(super) fn is_known_good(&self, chunk: &Chunk) -> bool {
        let known = self.known_good_of(&chunk.id);
        known.is_some_and(|length| length.load(Ordering::Relaxed) == chunk.size.saturating_add(1))
    }

    /// Remembers that a piece of content is good.
    pub(super) fn set_known_good(&self, chunk: &Chunk) {
        if let Some(length) = self.known_good_of(&chunk.id) {
            length.store(chunk.size.saturating_add(1), Ordering::Relaxed);
        }
    }

    fn known_good_of(&self, id: &ObjectId) -> Option<&AtomicU32> {
        let index = self.index();
        let known = self.known_good.get_or_init(|| (0..index.len()).map(|_| AtomicU32::new(0)).collect());
        known.get(index.position(id)?)
    }

    /// Every object there is, in the order of the files.
    pub(super) fn ids(&self) -> impl Iterator<Item = ObjectId> {
        let mut head = [0; HEAD];
        self.truth().places().into_iter().filter_map(move |place| {
            fill(&*self.file(place.segment).ok()?, &mut head, u64::from(place.offset)).ok()?;
            match segment::parse(&head).ok()?.kind {
                Kind::Put(id) => Some(id),
                _ => None,
            }
        })
    }

    /// Reads the entry of an object, head included, to the begin of `entry`, checks it and says how long it is. `stored`
    /// is the object's length, 0 where it is not known.
    pub(super) fn read(&self, id: &ObjectId, stored: u32, entry: &mut Vec<u8>) -> Result<usize, Fault> {
        let hinted = self.hint.as_ref().and_then(|hint| hint.find(id));
        let failed = match hinted.map(|place| self.read_at(place, id, stored, entry)) {
            Some(Ok(size)) => return Ok(size),
            Some(Err(fault)) => Some(fault),
            None => None,
        };
        match self.truth().find(id).filter(|place| Some(*place) != hinted) {
            Some(place) => self.read_at(place, id, stored, entry),
            None => Err(failed.unwrap_or(Fault::Missing)),
        }
    }

    /// Where the entry of an object probably lies, so long as is said; asks the system to have it ready. `None` where
    /// that is not known, or where many small readings would have to wait for another machine.
    pub(super) fn find(&self, id: &ObjectId, length: usize) -> Option<(Arc<File>, u64)> {
        let place = self.index().find(id).filter(|_| !self.is_remote)?;
        let (file, offset) = (self.file(place.segment).ok()?, u64::from(place.offset));
        will_read(&file, offset, length as u64);
        Some((file, offset))
    }

    fn truth(&self) -> &Index {
        self.truth.get_or_init(|| self.replay(Deletions::Count))
    }

    fn replay(&self, deletions: Deletions) -> Index {
        let segments = self.segments.iter().filter_map(|(number, path)| Some((*number, open_regular(path).ok()?)));
        replay(segments, deletions)
    }

    /// The same files with all objects that were deleted and are still there.
    pub(super) fn with_deleted(mut self) -> Storage {
        let all = self.replay(Deletions::AreIgnored);
        (self.hint, self.truth, self.known_good) = (None, OnceLock::from(all), OnceLock::new());
        self
    }

    fn read_at(&self, place: index::Place, id: &ObjectId, stored: u32, entry: &mut Vec<u8>) -> Result<usize, Fault> {
        let file = self.file(place.segment)?;
        let expected = match stored {
            0 => GUESS,
            _ => HEAD + stored.min(LONGEST_ENTRY) as usize,
        };
        make_room(entry, expected);
        let got = fill_twice(&file, entry.get_mut(..expected).unwrap_or_default(), u64::from(place.offset))?;
        let head = segment::parse(entry.get(..got).unwrap_or_default()).map_err(Fault::bad)?;
        if head.kind != Kind::Put(*id) {
            return Err(Fault::Bad("another object lies at its place".into()));
        }
        let size = head.size as usize;
        if size > got {
            entry.resize(entry.len().max(size), 0);
            let rest = entry.get_mut(got..size).unwrap_or_default();
            if fill_twice(&file, rest, u64::from(place.offset) + got as u64)? < size - got {
                return Err(Fault::Bad("its file ends early".into()));
            }
        }
        match segment::is_sound(entry.get(..size).unwrap_or_default(), &head) {
            true => Ok(size),
            false => Err(Fault::Bad("its checksum is wrong".into())),
        }
    }

    fn file(&self, segment: u32) -> Result<Arc<File>, Fault> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open.get(&segment) {
            return Ok(Arc::clone(file));
        }
        let path = self.segments.get(&segment).ok_or(Fault::Missing)?;
        let file = Arc::new(open_regular(path).map_err(|error| Fault::Bad(error.to_string()))?);
        if open.len() >= MOST_OPEN {
            open.clear();
        }
        open.insert(segment, Arc::clone(&file));
        Ok(file)
    }
}

/// Makes a buffer at least so long, whatever it holds. What it once was filled with need not be cleared again.
pub(super) fn make_room(buffer: &mut Vec<u8>, length: usize) {
    if buffer.capacity() < length {
        // Growing would copy, and keep twice as much as is needed.
        *buffer = vec![0; length.next_multiple_of(STEP)];
    } else if buffer.len() < length {
        buffer.resize(length, 0);
    }
}

/// Reads until `buffer` is full or the file ends.
pub(super) fn fill(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut got = 0;
    while let Some(rest) = buffer.get_mut(got..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + got as u64) {
            Ok(0) => break,
            Ok(count) => got += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

/// Like [`fill`], with a second attempt: some media give on the second one what they refused on the first.
fn fill_twice(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    fill(file, buffer, offset).or_else(|_| fill(file, buffer, offset))
}

/// Like [`fill`], around what the medium does not give: that is zeros, page by page. Says whether there was any.
pub(super) fn fill_around(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<(usize, bool)> {
    if let Ok(got) = fill(file, buffer, offset) {
        return Ok((got, true));
    }
    let length = file.metadata()?.len().saturating_sub(offset);
    let end = usize::try_from(length).unwrap_or(usize::MAX).min(buffer.len());
    let (mut at, mut is_whole) = (0, true);
    while at < end {
        // To the end of the page, so that each bad one costs only itself.
        let step = PAGE - usize::try_from((offset + at as u64) % PAGE as u64).unwrap_or(0);
        let next = at.saturating_add(step).min(end);
        let page = buffer.get_mut(at..next).unwrap_or_default();
        if fill(file, page, offset + at as u64).is_err() {
            page.fill(0);
            is_whole = false;
        }
        at = next;
    }
    Ok((end, is_whole))
}

/// Every segment file that is not empty: only numbers count, and an empty file is a deleted one.
fn list_segments(data: &Path, findings: &mut Vec<Finding>) -> Result<BTreeMap<u32, PathBuf>, ReadError> {
    let mut segments = BTreeMap::new();
    for folder in numbered(data)?.into_values().filter(|folder| folder.is_dir()) {
        let files = match numbered(&folder) {
            Ok(files) => files,
            Err(error) => {
                let advice = "what lies in it is missing from the backups";
                findings.push(Finding::new(Severity::Warning, shown(&folder), error.to_string(), advice));
                continue;
            }
        };
        // What cannot be looked at is no less a segment; reading it will tell.
        let is_segment = |file: &PathBuf| std::fs::metadata(file).map_or(true, |meta| meta.is_file() && meta.len() > 0);
        segments.extend(files.into_iter().filter(|(_, file)| is_segment(file)));
    }
    Ok(segments)
}

/// The number of the last transaction that was completed. Its end is marked in the last segment; borg writes the files
/// whose names have its number after that, so that they vouch for it where the mark is damaged or cannot be read.
fn last_transaction(
    path: &Path,
    segments: &BTreeMap<u32, PathBuf>,
    findings: &mut Vec<Finding>,
) -> Result<u32, ReadError> {
    let mut marked = None;
    for (number, file) in segments.iter().rev() {
        match is_committed(file) {
            Ok(false) => {}
            Ok(true) => {
                marked = Some(*number);
                break;
            }
            Err(error) => {
                let what = format!("the end of a file cannot be read: {error}");
                let advice = "the newest backup may be missing from the list";
                findings.push(Finding::new(Severity::Warning, shown(path), what, advice));
            }
        }
    }
    let vouched = vouched(path).filter(|vouched| segments.range(..=vouched).next().is_some());
    match (marked, vouched) {
        (marked, Some(vouched)) if marked.is_none_or(|marked| marked < vouched) => {
            let what = "the mark of the last transaction's end is damaged; the repository's index says that it was \
                        completed";
            let advice = "the newest backup may be missing from the list";
            findings.push(Finding::new(Severity::Warning, shown(path), what, advice));
            Ok(vouched)
        }
        (Some(marked), _) => Ok(marked),
        (None, _) => Err(ReadError::Corrupt {
            place: format!("in '{}'", shown(path)),
            what: "the repository has no completed transaction".into(),
        }),
    }
}

/// The greatest number of a transaction for which there are files.
fn vouched(path: &Path) -> Option<u32> {
    let number = |name: &std::ffi::OsStr| -> Option<u32> {
        let (kind, number) = name.to_str()?.split_once('.')?;
        let is_kind = ["index", "hints", "integrity"].contains(&kind);
        number.parse().ok().filter(|_| is_kind && number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    std::fs::read_dir(path).ok()?.filter_map(|entry| number(&entry.ok()?.file_name())).max()
}

fn numbered(folder: &Path) -> Result<BTreeMap<u32, PathBuf>, ReadError> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(|error| at(folder, &error))? {
        let entry = entry.map_err(|error| at(folder, &error))?;
        let name = entry.file_name();
        let digits = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
        if let Some(number) = digits.and_then(|digits| digits.parse().ok()) {
            found.insert(number, entry.path());
        }
    }
    Ok(found)
}

fn starts_with(path: &Path, magic: &[u8]) -> bool {
    let mut first = [0; 8];
    let got = open_regular(path).ok().and_then(|file| fill_twice(&file, &mut first, 0).ok());
    got.and_then(|got| first.get(..got)) == Some(magic)
}

/// Whether the last entry of a segment file completes a transaction.
fn is_committed(path: &Path) -> Result<bool, ReadError> {
    let file = open_regular(path)?;
    let read = || -> io::Result<bool> {
        let length = file.metadata()?.len();
        let shortest = (MAGIC.len() + COMMIT.len()) as u64;
        let mut last = [0; COMMIT.len()];
        Ok(length >= shortest
            && fill_twice(&file, &mut last, length - COMMIT.len() as u64)? == COMMIT.len()
            && last == COMMIT)
    };
    read().map_err(|error| at(path, &error))
}

fn read_index(path: &Path) -> Result<Index, String> {
    let file = open_regular(path).map_err(|error| error.to_string())?;
    let length = file.metadata().map_err(|error| error.to_string())?.len();
    Index::read(BufReader::with_capacity(64 << 10, file), length).map_err(|error| error.to_string())
}

/// Locks are not needed for reading, but one that is there may mean that somebody writes.
fn locks(path: &Path) -> Vec<Finding> {
    let mut roster = Vec::new();
    let is_listed = open_regular(&path.join("lock.roster")).is_ok_and(|file| {
        file.take(64 << 10).read_to_end(&mut roster).is_ok() && roster.windows(2).any(|pair| pair == b"[[")
    });
    if !is_listed && !path.join("lock.exclusive").exists() {
        return Vec::new();
    }
    let what = "the repository is locked; it was read without the lock";
    let advice =
        "if a backup is running on it, wait for its end and read it again; a lock left by a crash does no harm";
    vec![Finding::new(Severity::Warning, shown(path), what, advice)]
}
