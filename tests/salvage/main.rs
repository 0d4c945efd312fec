//! `lifeboat salvage`: everything that a failing disk still gives is in the image, nothing else is taken for it, and a
//! run that was cut off goes on.

#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::indexing_slicing, reason = "this is test code")]

mod boxes;
#[path = "../common/mod.rs"]
mod common;
mod copying;
mod devices;

use common::disks::{Kernel, Loop, blank, cannot_mount, digest, filesystem, poke, run, sh};
use common::failing::{BLOCK, FailingDisk, Watched, cannot_fail};
use common::repositories::noise;
use common::rescue::{Run, lifeboat};
use lifeboat::formats::ReadAt;
use lifeboat::formats::mapfile::{Activity, Map, State};
use lifeboat::model::progress::Silent;
use lifeboat::salvage::SalvageError;
use lifeboat::salvage::copy::{Copier, Effort, Keep};
use lifeboat::sys::SysError;
use lifeboat::sys::host::Host;
use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

const SECTOR: u64 = 512;

fn effort() -> Effort {
    Effort {
        cluster: 16 * SECTOR,
        sector: SECTOR,
        skip: 16 * SECTOR,
        longest_skip: 64 * SECTOR,
        patience: Duration::from_secs(60),
        retries: 1,
        save_every: Duration::ZERO,
    }
}

/// A disk in memory, some sectors of which cannot be read.
struct Disk {
    content: Vec<u8>,
    bad: BTreeSet<u64>,
    reads: Cell<u32>,
    failures: Cell<u32>,
    /// After so many reads, every read ends with this error.
    dies: Option<(u32, i32)>,
    /// How long a failing read takes.
    slow: Duration,
}

impl Disk {
    fn new(sectors: u64, bad: impl IntoIterator<Item = u64>) -> Disk {
        // No sector is like another, and none is all zeros.
        let content = (0..sectors).flat_map(|sector| (0..SECTOR).map(move |at| (sector * 7 + at % 251 + 1) as u8));
        let (reads, failures) = (Cell::new(0), Cell::new(0));
        let (dies, slow) = (None, Duration::ZERO);
        let mut bad: BTreeSet<u64> = bad.into_iter().filter(|sector| *sector < sectors).collect();
        if bad.len() as u64 == sectors {
            // A disk that gives nothing at all is another matter.
            bad.pop_last();
        }
        Disk { content: content.collect(), bad, reads, failures, dies, slow }
    }

    fn fail(&self, errno: i32) -> io::Error {
        self.failures.set(self.failures.get() + 1);
        std::thread::sleep(self.slow);
        io::Error::from_raw_os_error(errno)
    }

    /// The map that a patient run must end with.
    fn truth(&self) -> Map {
        let mut map = Map::new(self.length());
        map.set(0, self.length(), State::Rescued);
        for sector in &self.bad {
            map.set(sector * SECTOR, SECTOR, State::Bad);
        }
        map
    }
}

impl ReadAt for Disk {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.reads.set(self.reads.get() + 1);
        if let Some((after, errno)) = self.dies
            && self.reads.get() > after
        {
            return Err(self.fail(errno));
        }
        let first = offset / SECTOR;
        let end = (offset + buf.len() as u64).min(self.length());
        // As the kernel does it: what lies before the first bad sector is read.
        let good = match self.bad.range(first..end.div_ceil(SECTOR)).next() {
            Some(sector) if *sector == first => return Err(self.fail(5)),
            Some(sector) => sector * SECTOR,
            None => end,
        };
        let part = &self.content[offset as usize..good as usize];
        buf[..part.len()].copy_from_slice(part);
        Ok(part.len())
    }

    fn length(&self) -> u64 {
        self.content.len() as u64
    }
}

/// An image and a map, of which a power cut leaves what was saved.
struct Medium {
    volatile: Vec<u8>,
    lasting: Vec<u8>,
    map: String,
}

impl Medium {
    fn new(length: u64) -> Medium {
        let map = Map::new(length).render(&[], 0, Activity::Copying);
        Medium { volatile: vec![0; length as usize], lasting: vec![0; length as usize], map }
    }

    fn cut_power(&mut self) {
        self.volatile.clone_from(&self.lasting);
    }

    fn map(&self) -> Map {
        Map::parse(self.map.as_bytes(), self.lasting.len() as u64).unwrap()
    }

    /// Whether the image has what the map promises, and nothing where the map promises nothing.
    #[track_caller]
    fn is_honest(&self, disk: &Disk) {
        for area in self.map().areas(0..disk.length()).filter(|area| area.state == State::Rescued) {
            let range = area.start as usize..area.end() as usize;
            assert!(self.lasting[range.clone()] == disk.content[range], "wrong bytes at {area:?}");
        }
        for area in self.map().areas(0..disk.length()).filter(|area| area.state == State::Bad) {
            for sector in area.start / SECTOR..area.end() / SECTOR {
                assert!(disk.bad.contains(&sector), "sector {sector} is good and was given up");
            }
        }
    }
}

impl Keep for Medium {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SysError> {
        self.volatile[offset as usize..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn save(&mut self, map: &Map, position: u64, activity: Activity) -> Result<(), SysError> {
        self.lasting.clone_from(&self.volatile);
        self.map = map.render(&[], position, activity);
        Ok(())
    }

    fn read(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.volatile.as_slice().read_at(offset, buf)
    }
}

fn copy(disk: &Disk, medium: &mut Medium, effort: Effort, first: &[std::ops::Range<u64>]) -> Result<(), SalvageError> {
    let map = medium.map();
    Copier::new(disk, medium, map, effort, &Silent).run(first)
}

fn salvage(disk: &Path, to: &Path) -> Run {
    lifeboat(&["salvage".as_ref(), disk.as_os_str(), "--to".as_ref(), to.as_os_str(), "--json".as_ref()])
}

fn map_of(image: &Path, length: u64) -> Map {
    let mut name = image.as_os_str().to_owned();
    name.push(".map");
    Map::parse(&fs::read(name).unwrap(), length).unwrap()
}
