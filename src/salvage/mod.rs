//! From a failing disk into an image: what matters most first, and the exact list of what was lost.
//!
//! The disk is opened for reading only and nothing is ever written to it. The image and its map (`IMAGE.map`, which
//! GNU ddrescue reads and writes too) are enough to go on after a power cut, also with ddrescue. What could not be read
//! stays a hole in the image and is never taken for data: everything that reads the image here asks the map first.

pub mod copy;
mod kernel;
mod losses;
mod order;
mod through;
mod volume;

use crate::formats::ReadAt;
use crate::formats::mapfile::{self, Activity, BadMap, Map, State};
use crate::model::app::AppId;
use crate::model::bytes;
use crate::model::finding::{Finding, Severity};
use crate::model::progress::{Event, Phase, Progress};
use crate::model::size::ByteSize;
use crate::survey::failing;
use crate::survey::target::TargetError;
use crate::sys::SysError;
use crate::sys::block;
use crate::sys::file::device_number;
use crate::sys::host::Host;
use crate::sys::image::{self, ImageFile, RawDisk};
use copy::{Copier, Effort, Keep};
use serde::Serialize;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;
use through::Readable;

/// What to salvage.
#[derive(Debug, Clone)]
pub struct Request {
    /// The failing disk, or an image of one.
    pub disk: PathBuf,
    /// The image, or a folder for it.
    pub to: PathBuf,
    /// Time that one bad area may take in one pass.
    pub patience: Duration,
    /// How often bad sectors are tried again at the end.
    pub retries: u32,
}

/// What was salvaged.
#[derive(Debug, Serialize)]
pub struct Salvaged {
    /// The image.
    #[serde(with = "bytes::path")]
    pub image: PathBuf,
    /// Its map.
    #[serde(with = "bytes::path")]
    pub map: PathBuf,
    /// Length of the disk.
    pub size: ByteSize,
    /// What is in the image.
    pub rescued: ByteSize,
    /// What is not.
    pub lost: ByteSize,
    /// In how many places.
    pub places: usize,
    /// The first thousand of these places, in order.
    pub areas: Vec<LostArea>,
    /// The files and folders that lie on them, as far as that can be told.
    pub files: Vec<LostFile>,
    /// Lost bytes, on filesystems that could be read, in which no file or folder lies.
    pub lost_unused: ByteSize,
    /// What else is to be known.
    pub findings: Vec<Finding>,
}

/// A place of the disk that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LostArea {
    /// First byte on the disk.
    pub start: u64,
    /// Length.
    pub length: ByteSize,
    /// Whether every sector of it was tried by itself.
    pub tried: bool,
}

/// A file or folder of which something is lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LostFile {
    /// The filesystem that it is on.
    pub volume: String,
    /// Its path below that filesystem's root.
    #[serde(with = "bytes::text")]
    pub path: Vec<u8>,
    /// The app that it belongs to.
    pub app: Option<AppId>,
    /// Its length, where that is known.
    pub size: Option<ByteSize>,
    /// How much of its content is lost.
    pub lost: ByteSize,
    /// What is the matter, where it is more than lost content.
    pub what: Option<String>,
}

/// Why nothing was salvaged, or why it stopped.
#[derive(Debug, thiserror::Error)]
pub enum SalvageError {
    /// The disk or the place for the image is refused.
    #[error(transparent)]
    Refused(#[from] TargetError),
    /// An image is there, and no map tells what is in it.
    #[error("'{0}' exists already, and there is no map of it")]
    NoMap(String),
    /// A map is there without its image.
    #[error("'{0}' is the map of an image that is not there")]
    NoImage(String),
    /// The map is none, or of another disk.
    #[error("'{path}' cannot be used as the map of this disk: {why}")]
    BadMap {
        /// The map.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// Another run is at work.
    #[error("another run is writing to '{0}'")]
    Busy(String),
    /// The disk has no length.
    #[error("'{0}' gives no data at all: it has no length")]
    Empty(String),
    /// The image does not fit.
    #[error("{needed} may be needed in '{place}', and {free} are free there")]
    NoSpace {
        /// For what is not in the image yet.
        needed: ByteSize,
        /// What is free.
        free: ByteSize,
        /// Where.
        place: String,
    },
    /// The disk went away.
    #[error("the disk does not answer any more: {0}")]
    Gone(io::Error),
    /// The system refused an operation.
    #[error(transparent)]
    Sys(#[from] SysError),
}

/// Bytes read at once.
const CLUSTER: u64 = 128 << 10;
/// How often the image is synced and its map saved.
const SAVE_EVERY: Duration = Duration::from_secs(15);
/// Most lost places that are listed one by one; the map has all of them.
const MOST_AREAS: usize = 1000;

/// Salvages a disk, or goes on with it.
pub fn run(host: &Host, request: &Request, progress: &dyn Progress) -> Result<Salvaged, SalvageError> {
    let path = place(request)?;
    let map_path = beside(&path, ".map");
    let mut findings = failing::check_place(host, &request.disk, &path)?;
    let disk = RawDisk::open(&request.disk)?;
    if disk.length() == 0 {
        return Err(SalvageError::Empty(bytes::path::shown(&request.disk)));
    }
    let (image, map) = open(&path, &map_path, disk.length())?;
    let sector = match device_number(&request.disk) {
        _ if !disk.is_direct() => 4096,
        Some(number) => u64::from(block::sector_size(host, number).unwrap_or(512)).max(512),
        None => 512,
    };
    if !disk.is_direct() {
        let what = "it can only be read through the page cache, so that a bad sector takes up to 4 KiB with it";
        findings.push(Finding::new(Severity::Note, bytes::path::shown(&request.disk), what, ""));
    }
    let effort = Effort {
        cluster: CLUSTER.max(sector),
        sector,
        skip: CLUSTER,
        longest_skip: (disk.length() / 100).clamp(CLUSTER, 1 << 30),
        patience: request.patience,
        retries: request.retries,
        save_every: SAVE_EVERY,
    };
    let comments = vec![format!("Image of {}", bytes::path::shown(&request.disk))];
    let mut keep = OnDisk { image, map: map_path.clone(), comments };
    let map = {
        let mut copier = Copier::new(&disk, &mut keep, map, effort, progress);
        copier.save()?;
        copy_disk(host, &request.disk, &mut copier, progress)?;
        copier.map().clone()
    };
    let areas = lost_areas(&map);
    if !areas.is_empty() {
        progress.event(Event::Phase { phase: Phase::Losses, total: None });
    }
    let losses = losses::find(host, &path, &Readable { image: &keep.image, map: &map }, &mut findings);
    Ok(Salvaged {
        image: path,
        map: map_path,
        size: ByteSize(map.length()),
        rescued: ByteSize(map.bytes(State::Rescued)),
        lost: areas.iter().map(|area| area.length).sum(),
        places: areas.len(),
        areas: areas.into_iter().take(MOST_AREAS).collect(),
        files: losses.files,
        lost_unused: ByteSize(losses.unused),
        findings,
    })
}

/// Copies everything that a disk gives: what matters most first, then the rest.
pub fn copy_disk(
    host: &Host,
    disk: &Path,
    copier: &mut Copier<'_>,
    progress: &dyn Progress,
) -> Result<(), SalvageError> {
    progress.event(Event::Phase { phase: Phase::Order, total: None });
    let first = order::valuable(host, disk, copier)?;
    copier.run(&first)
}

impl Salvaged {
    /// Whether nothing is lost.
    pub fn is_whole(&self) -> bool {
        self.rescued == self.size
    }
}

/// The stretches that are not in the image; neighbours that were tried alike are one.
fn lost_areas(map: &Map) -> Vec<LostArea> {
    let lost = map.areas(0..map.length()).filter(|area| area.state != State::Rescued);
    let mut areas: Vec<LostArea> = Vec::new();
    for area in lost {
        let tried = area.state == State::Bad;
        match areas.last_mut() {
            Some(last) if last.tried == tried && last.start.saturating_add(last.length.0) == area.start => {
                last.length += ByteSize(area.length);
            }
            _ => areas.push(LostArea { start: area.start, length: ByteSize(area.length), tried }),
        }
    }
    areas
}

/// Where the image goes: a folder gets one with a name of its own.
fn place(request: &Request) -> Result<PathBuf, SalvageError> {
    if !std::fs::metadata(&request.to).is_ok_and(|meta| meta.is_dir()) {
        let parent = request.to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = std::fs::canonicalize(parent).map_err(|error| SysError::new("opening", parent, error))?;
        let name = request.to.file_name().ok_or_else(|| TargetError::NotAFile(bytes::path::shown(&request.to)))?;
        return Ok(folder.join(name));
    }
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |error| SysError::new("opening", &path, error)
    };
    let folder = std::fs::canonicalize(&request.to).map_err(failed(&request.to))?;
    let disk = std::fs::canonicalize(&request.disk).map_err(failed(&request.disk))?;
    let mut name = std::ffi::OsString::from("salvaged-");
    name.push(disk.file_stem().unwrap_or_default());
    name.push(".img");
    Ok(folder.join(name))
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// A new image where nothing is, or the one of an earlier run with what its map says.
fn open(path: &Path, map_path: &Path, length: u64) -> Result<(ImageFile, Map), SalvageError> {
    let shown = bytes::path::shown;
    let exists = |path: &Path| std::fs::symlink_metadata(path).is_ok();
    let map = match (exists(path), exists(map_path)) {
        (false, false) => None,
        (true, false) => return Err(SalvageError::NoMap(shown(path))),
        (false, true) => return Err(SalvageError::NoImage(shown(map_path))),
        (true, true) => {
            let failed = |error| SysError::new("reading", map_path, error);
            let mut text = Vec::new();
            let file = std::fs::File::open(map_path).map_err(failed)?;
            file.take(mapfile::LONGEST).read_to_end(&mut text).map_err(failed)?;
            let bad = |why: BadMap| SalvageError::BadMap { path: shown(map_path), why: why.to_string() };
            Some(Map::parse(&text, length).map_err(bad)?)
        }
    };
    let left = map.as_ref().map_or(length, |map| length - map.bytes(State::Rescued));
    let free = image::free_space(path)?;
    if free < left {
        let (needed, free) = (ByteSize(left), ByteSize(free));
        return Err(SalvageError::NoSpace { needed, free, place: shown(path) });
    }
    let image = match map {
        Some(_) => ImageFile::open(path, length)?,
        None => ImageFile::create(path, length)?,
    };
    if !image.lock()? {
        return Err(SalvageError::Busy(shown(path)));
    }
    if map.is_none() {
        image::sync_name(path)?;
    }
    Ok((image, map.unwrap_or_else(|| Map::new(length))))
}

/// The image and its map on a disk.
struct OnDisk {
    image: ImageFile,
    map: PathBuf,
    comments: Vec<String>,
}

impl Keep for OnDisk {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SysError> {
        self.image.write(offset, bytes)
    }

    fn save(&mut self, map: &Map, position: u64, activity: Activity) -> Result<(), SysError> {
        self.image.sync()?;
        image::replace(&self.map, map.render(&self.comments, position, activity).as_bytes())
    }

    fn read(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.image.read_at(offset, buf)
    }
}
