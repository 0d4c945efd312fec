//! Copies a failing disk into an image: what reads well first, then the edges of the bad areas, then sector by sector.
//!
//! Owns the order of the reads and the map. It never writes to the disk. The map never promises more than the image
//! holds: the image is synced before a map that says so is saved. Every byte is in exactly one state, and only what was
//! read in full without an error is rescued.

use super::SalvageError;
use crate::formats::ReadAt;
use crate::formats::mapfile::{Activity, Area, Map, State};
use crate::model::progress::{Event, Phase, Progress};
use crate::sys::SysError;
use std::io;
use std::ops::Range;
use std::time::{Duration, Instant};

/// Where the copy and its map go.
pub trait Keep {
    /// Puts bytes into the image.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SysError>;
    /// Makes everything written last, and then the map.
    fn save(&mut self, map: &Map, position: u64, activity: Activity) -> Result<(), SysError>;
    /// Reads back what is in the image.
    fn read(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;
}

/// How hard a disk is tried.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Bytes that are read at once.
    pub cluster: u64,
    /// The smallest thing that can be bad.
    pub sector: u64,
    /// How far the first pass jumps after a bad place; doubled at each further one.
    pub skip: u64,
    /// The longest jump.
    pub longest_skip: u64,
    /// Time that the failing reads of one bad area may take in one pass.
    pub patience: Duration,
    /// How often bad sectors are tried again at the end.
    pub retries: u32,
    /// How often the map is saved.
    pub save_every: Duration,
}

/// Failures in a row after which the disk is asked for something that it gave before.
const DOUBT: u32 = 16;
/// How many places all over the disk are asked where nothing was ever read.
const PROBES: u64 = 16;

/// A copy on its way.
pub struct Copier<'a> {
    source: &'a dyn ReadAt,
    keep: &'a mut dyn Keep,
    progress: &'a dyn Progress,
    effort: Effort,
    map: Map,
    activity: Activity,
    position: u64,
    buffer: Vec<u8>,
    saved: Instant,
    // Failures since something could be read, and what was known before of the places that failed.
    failures: u32,
    doubtful: Vec<Area>,
    // Places that could be read, in this run or in an earlier one: the first one and the latest.
    good: Option<(u64, u64)>,
    // Time that failing reads have taken in all.
    failing: Duration,
}

impl<'a> Copier<'a> {
    /// Starts, or goes on, with what the map says.
    pub fn new(
        source: &'a dyn ReadAt,
        keep: &'a mut dyn Keep,
        map: Map,
        effort: Effort,
        progress: &'a dyn Progress,
    ) -> Self {
        let activity = Activity::Copying;
        let all = 0..map.length();
        let rescued = (map.next(all.clone(), State::Rescued), map.last(all, State::Rescued));
        let good = rescued.0.zip(rescued.1).map(|(first, last)| (first.start, last.start));
        let (position, failures, failing) = (0, 0, Duration::ZERO);
        let (buffer, saved, doubtful) = (Vec::new(), Instant::now(), Vec::new());
        Self {
            source,
            keep,
            progress,
            effort,
            map,
            activity,
            position,
            buffer,
            saved,
            failures,
            doubtful,
            good,
            failing,
        }
    }

    /// What is known by now.
    pub fn map(&self) -> &Map {
        &self.map
    }

    /// Copies everything that can be read: `first` in its order, then the rest. The ranges may overlap.
    pub fn run(&mut self, first: &[Range<u64>]) -> Result<(), SalvageError> {
        let all = 0..self.map.length();
        self.begin(Activity::Copying, Phase::Salvage, State::Untried);
        for range in first {
            // What is wanted most is not jumped over.
            self.sweep(range, false)?;
        }
        self.sweep(&all, true)?;
        self.sweep_back(&all)?;
        self.sweep(&all, false)?;
        let ranges: Vec<Range<u64>> = first.iter().cloned().chain([all.clone()]).collect();
        self.begin(Activity::Trimming, Phase::Trim, State::Untrimmed);
        for range in &ranges {
            let mut at = range.start;
            while let Some(area) = self.map.next(at..range.end, State::Untrimmed) {
                at = area.end();
                self.trim(area)?;
            }
        }
        self.begin(Activity::Scraping, Phase::Scrape, State::Unscraped);
        for range in &ranges {
            self.each(range, State::Unscraped)?;
        }
        for _ in 0..self.effort.retries {
            self.begin(Activity::Retrying, Phase::Retry, State::Bad);
            self.each(&all, State::Bad)?;
        }
        if self.failures > 0 {
            self.ask_again()?;
        }
        if self.map.is_rescued(all) {
            self.activity = Activity::Finished;
        }
        self.save()
    }

    /// A phase without work is not told.
    fn begin(&mut self, activity: Activity, phase: Phase, state: State) {
        self.activity = activity;
        let total = self.map.bytes(state);
        if total > 0 {
            self.progress.event(Event::Phase { phase, total: Some(total) });
        }
    }

    /// Saves the image and then the map.
    pub fn save(&mut self) -> Result<(), SalvageError> {
        self.keep.save(&self.map, self.position, self.activity)?;
        self.saved = Instant::now();
        Ok(())
    }

    /// Reads what was not tried in a range, forwards; after a bad place it may jump. Without jumping, an area that takes
    /// longer than patience lasts is left as it is from there on.
    fn sweep(&mut self, range: &Range<u64>, jump: bool) -> Result<(), SalvageError> {
        let (mut at, mut skip) = (range.start, 0);
        // Where the area began that is being read, and when.
        let (mut end, mut until) = (range.start, self.failing);
        while let Some(area) = self.map.next(at..range.end, State::Untried) {
            if area.start >= end {
                (end, until) = (area.end(), self.failing.saturating_add(self.effort.patience));
            }
            if !jump && self.failing > until {
                at = area.end();
                continue;
            }
            let length = area.length.min(self.effort.cluster - area.start % self.effort.cluster);
            at = area.start.saturating_add(length);
            if self.attempt(area.start, length, State::Untrimmed)? {
                skip = 0;
            } else if jump {
                skip = self.longer(skip);
                at = at.saturating_add(skip);
            }
        }
        Ok(())
    }

    /// Reads what the first pass jumped over, backwards: its far end is the farthest from the bad place.
    fn sweep_back(&mut self, range: &Range<u64>) -> Result<(), SalvageError> {
        let (mut end, mut skip) = (range.end, 0);
        while let Some(area) = self.map.last(range.start..end, State::Untried) {
            let over = area.end() % self.effort.cluster;
            let length = area.length.min(if over == 0 { self.effort.cluster } else { over });
            end = area.end().saturating_sub(length);
            if self.attempt(end, length, State::Untrimmed)? {
                skip = 0;
            } else {
                skip = self.longer(skip);
                end = end.saturating_sub(skip);
            }
        }
        Ok(())
    }

    fn longer(&self, skip: u64) -> u64 {
        if skip == 0 { self.effort.skip } else { skip.saturating_mul(2).min(self.effort.longest_skip) }
    }

    /// Finds the first and the last bad sector of an area.
    fn trim(&mut self, area: Area) -> Result<(), SalvageError> {
        let until = self.failing.saturating_add(self.effort.patience);
        let (mut start, mut end) = (area.start, area.end());
        let mut good = true;
        while good && start < end {
            let length = self.sector_after(start).min(end - start);
            good = self.attempt(start, length, State::Bad)?;
            start += length;
        }
        good = self.failing <= until;
        while good && start < end {
            let over = end % self.effort.sector;
            let length = (if over == 0 { self.effort.sector } else { over }).min(end - start);
            end -= length;
            good = self.attempt(end, length, State::Bad)?;
        }
        self.map.set(start, end - start, State::Unscraped);
        Ok(())
    }

    /// Reads every sector of the areas in a state, each area for as long as patience lasts.
    fn each(&mut self, range: &Range<u64>, state: State) -> Result<(), SalvageError> {
        let mut at = range.start;
        while let Some(area) = self.map.next(at..range.end, state) {
            let until = self.failing.saturating_add(self.effort.patience);
            at = area.start;
            while at < area.end() && self.failing <= until {
                let length = self.sector_after(at).min(area.end() - at);
                self.attempt(at, length, State::Bad)?;
                at += length;
            }
            at = area.end();
        }
        Ok(())
    }

    fn sector_after(&self, at: u64) -> u64 {
        self.effort.sector - at % self.effort.sector
    }

    /// Makes sure that a range was tried, sector by sector where it has to be; whether all of it was read. When failing
    /// reads have taken longer than patience lasts, only what was read before is there.
    pub fn fetch(&mut self, range: Range<u64>) -> Result<bool, SalvageError> {
        if self.failing > self.effort.patience || self.map.is_rescued(range.clone()) {
            return Ok(self.map.is_rescued(range));
        }
        // Whole sectors, so that none is ever known in part.
        let sector = self.effort.sector;
        let (first, end) =
            (range.start - range.start % sector, range.end.next_multiple_of(sector).min(self.map.length()));
        while let Some(area) = self.map.next(first..end, State::Untried) {
            // What lies around is wanted next, mostly.
            let start = area.start - area.start % self.effort.cluster;
            let around = self.map.next(start..start.saturating_add(self.effort.cluster), State::Untried);
            let around = around.filter(|around| around.start <= area.start).unwrap_or(area);
            let length = around.length.min(self.effort.cluster);
            if !self.attempt(around.start, length, State::Untrimmed)? {
                break;
            }
        }
        for state in [State::Untried, State::Untrimmed, State::Unscraped] {
            let mut at = first;
            while let Some(area) = self.map.next(at..end, state) {
                let length = self.sector_after(area.start).min(area.length);
                at = area.start.saturating_add(length);
                self.attempt(area.start, length, State::Bad)?;
            }
        }
        Ok(self.map.is_rescued(range))
    }

    /// Reads a range in one piece; where that fails, the good bytes before the failure are kept and the rest gets
    /// `otherwise`. Whether all of it was read. An error means that it makes no sense to go on.
    fn attempt(&mut self, start: u64, length: u64, otherwise: State) -> Result<bool, SalvageError> {
        let wanted = usize::try_from(length.min(self.effort.cluster)).unwrap_or(usize::MAX);
        let mut buffer = std::mem::take(&mut self.buffer);
        if buffer.len() < wanted {
            buffer.resize(wanted, 0);
        }
        let started = Instant::now();
        let result = self.attempt_with(&mut buffer, start, wanted, otherwise);
        self.buffer = buffer;
        let good = result?;
        if !good {
            self.failing = self.failing.saturating_add(started.elapsed());
        }
        if self.saved.elapsed() >= self.effort.save_every {
            self.save()?;
        }
        Ok(good)
    }

    fn attempt_with(
        &mut self,
        buffer: &mut [u8],
        start: u64,
        wanted: usize,
        otherwise: State,
    ) -> Result<bool, SalvageError> {
        let mut filled = 0;
        let mut whole = true;
        while let Some(rest) = buffer.get_mut(filled..wanted).filter(|rest| !rest.is_empty()) {
            match self.source.read_at(start.saturating_add(filled as u64), rest) {
                Ok(0) => {
                    whole = false;
                    break;
                }
                Ok(count) => filled = filled.saturating_add(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_gone(&error) => return Err(self.gone(error)),
                Err(_) => {
                    whole = false;
                    break;
                }
            }
        }
        // Only whole sectors count; a shorter one is allowed only where the disk ends.
        let end = start.saturating_add(filled as u64);
        let end = if whole { end } else { (end - end % self.effort.sector).max(start) };
        let filled = end - start;
        let good = usize::try_from(filled).ok().and_then(|filled| buffer.get(..filled)).unwrap_or_default();
        self.keep.write(start, good)?;
        self.map.set(start, filled, State::Rescued);
        self.position = end;
        self.progress.event(Event::Advance { bytes: wanted as u64, entries: u64::from(!whole) });
        if filled > 0 {
            self.good = Some((self.good.map_or(start, |(first, _)| first), start));
        }
        if whole {
            self.failures = 0;
            self.doubtful.clear();
            return Ok(true);
        }
        let failed = end..start.saturating_add(wanted as u64);
        self.doubtful.extend(self.map.areas(failed.clone()));
        self.map.set(failed.start, failed.end - failed.start, otherwise);
        self.failures = self.failures.saturating_add(1);
        if self.failures.is_multiple_of(DOUBT) {
            self.ask_again()?;
        }
        Ok(false)
    }

    /// After many failures: does the disk still give what it gave before? If not, it is the disk that failed and not
    /// these places, and what was noted of them is taken back.
    fn ask_again(&mut self) -> Result<(), SalvageError> {
        let spread = |nth| self.map.length() / PROBES * nth;
        let places = match self.good {
            Some((first, latest)) => vec![latest, first],
            None => (0..PROBES).map(spread).collect(),
        };
        let mut sector = vec![0; usize::try_from(self.effort.sector).unwrap_or(512)];
        let mut failed = None;
        for place in places {
            match self.source.read_at(place - place % self.effort.sector, &mut sector) {
                Ok(_) => {
                    self.doubtful.clear();
                    return Ok(());
                }
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(()), |error| Err(self.gone(error)))
    }

    /// The disk is not there any more: what failed last says nothing of the disk's sectors, and the map is saved so.
    fn gone(&mut self, error: io::Error) -> SalvageError {
        for area in std::mem::take(&mut self.doubtful).into_iter().rev() {
            self.map.set(area.start, area.length, area.state);
        }
        match self.save() {
            Ok(()) => SalvageError::Gone(error),
            Err(other) => other,
        }
    }

    /// Reads back what is in the image.
    pub fn read_image(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.keep.read(offset, buf)
    }
}

/// ENXIO, ENODEV, ENOMEDIUM, ESHUTDOWN: the device itself went away.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(6 | 19 | 123 | 108))
}
