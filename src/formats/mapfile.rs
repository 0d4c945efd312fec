//! The map of what was read from a failing disk, in the form of GNU ddrescue's mapfile.
//!
//! Source: GNU ddrescue manual, "Mapfile structure" (1.27). A line with the position, the state and the pass of the
//! program, then one line for each area: position, size and state. Numbers are decimal, octal (`0`) or hexadecimal
//! (`0x`); `#` begins a comment. The areas follow one another without a gap, and neighbours differ in their state.

use super::ReadAt;
use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::ops::Range;

/// Longest map that is read: some millions of areas.
pub const LONGEST: u64 = 256 << 20;

/// What is known of an area.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Never read (`?`).
    Untried,
    /// Reading it in one piece failed; its edges may be good (`*`).
    Untrimmed,
    /// Its edges are bad, its inside was not read sector by sector (`/`).
    Unscraped,
    /// Sectors that could not be read (`-`).
    Bad,
    /// Read, and in the image (`+`).
    Rescued,
}

impl State {
    const ALL: [(State, char); 5] = [
        (State::Untried, '?'),
        (State::Untrimmed, '*'),
        (State::Unscraped, '/'),
        (State::Bad, '-'),
        (State::Rescued, '+'),
    ];

    fn letter(self) -> char {
        Self::ALL.iter().find(|(state, _)| *state == self).map_or('?', |(_, letter)| *letter)
    }

    fn of(letter: &str) -> Option<State> {
        Self::ALL.iter().find(|(_, own)| letter.chars().eq([*own])).map(|(state, _)| *state)
    }
}

/// What the program was doing when the map was saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// Reading what was never tried.
    Copying,
    /// Finding the edges of the bad areas.
    Trimming,
    /// Reading bad areas sector by sector.
    Scraping,
    /// Trying bad sectors again.
    Retrying,
    /// Nothing is left to do.
    Finished,
}

impl Activity {
    fn letter(self) -> char {
        match self {
            Self::Copying => '?',
            Self::Trimming => '*',
            Self::Scraping => '/',
            Self::Retrying => '-',
            Self::Finished => '+',
        }
    }
}

/// A stretch of the disk in one state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Area {
    /// First byte.
    pub start: u64,
    /// Length in bytes, never zero.
    pub length: u64,
    /// What is known of it.
    pub state: State,
}

impl Area {
    /// The byte after its last.
    pub fn end(&self) -> u64 {
        self.start.saturating_add(self.length)
    }
}

/// Why bytes are not a map of this disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct BadMap {
    /// Which line, from 1.
    pub line: usize,
    /// What is wrong.
    pub what: String,
}

/// The state of every byte of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Map {
    // Where each area begins; it ends where the next one begins. Empty only for a disk of no bytes.
    areas: BTreeMap<u64, State>,
    length: u64,
}

impl Map {
    /// The map of a disk that was never read.
    pub fn new(length: u64) -> Map {
        let areas = if length == 0 { BTreeMap::new() } else { BTreeMap::from([(0, State::Untried)]) };
        Map { areas, length }
    }

    /// Length of the disk in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Reads a map that Lifeboat or ddrescue wrote for a disk of this length. What the map does not cover was never
    /// tried; a map that goes on after the end of the disk belongs to another one.
    pub fn parse(text: &[u8], length: u64) -> Result<Map, BadMap> {
        let mut map = Map::new(length);
        let mut status_seen = false;
        let mut expected = None;
        for (at, line) in text.split(|&b| b == b'\n').enumerate() {
            let bad = |what: &str| BadMap { line: at + 1, what: what.to_owned() };
            let line = std::str::from_utf8(line.split(|&b| b == b'#').next().unwrap_or_default())
                .map_err(|_| bad("it is not text"))?;
            let mut words = line.split_ascii_whitespace();
            let Some(first) = words.next() else { continue };
            let start = number(first).ok_or_else(|| bad("a position is not a number"))?;
            if !status_seen {
                let letter = words.next().ok_or_else(|| bad("the state of the program is missing"))?;
                if !["?", "*", "/", "-", "F", "G", "+"].contains(&letter) {
                    return Err(bad("the state of the program is unknown"));
                }
                status_seen = true;
                continue;
            }
            let size = words.next().and_then(number).ok_or_else(|| bad("a size is not a number"))?;
            let state = words.next().and_then(State::of).ok_or_else(|| bad("the state of an area is unknown"))?;
            let end = start.checked_add(size).ok_or_else(|| bad("an area is too long"))?;
            if size == 0 || words.next().is_some() || expected.is_some_and(|expected| expected != start) {
                return Err(bad("the areas do not follow one another"));
            }
            if end > length {
                return Err(bad("the map is of a longer disk"));
            }
            map.set(start, size, state);
            expected = Some(end);
        }
        if status_seen { Ok(map) } else { Err(BadMap { line: 1, what: "there is no map in it".into() }) }
    }

    /// The map as text; each of `comments` becomes a comment at its top.
    pub fn render(&self, comments: &[String], position: u64, activity: Activity) -> String {
        let mut text = String::from("# Mapfile. Created by Lifeboat, in the format of GNU ddrescue\n");
        for comment in comments {
            let _ = writeln!(text, "# {}", comment.replace('\n', " "));
        }
        text.push_str("# current_pos  current_status  current_pass\n");
        let _ = writeln!(text, "0x{position:08X}     {}               1", activity.letter());
        text.push_str("#      pos        size  status\n");
        for area in self.areas(0..self.length) {
            let _ = writeln!(text, "0x{:08X}  0x{:08X}  {}", area.start, area.length, area.state.letter());
        }
        text
    }

    /// Says what is known of a stretch; what lies behind the end of the disk is ignored.
    pub fn set(&mut self, start: u64, length: u64, state: State) {
        let end = start.saturating_add(length).min(self.length);
        if start >= end {
            return;
        }
        let before = self.areas.range(..start).next_back().map(|(_, state)| *state);
        let after = if end < self.length { self.state_at(end) } else { None };
        let inside: Vec<u64> = self.areas.range(start..end).map(|(at, _)| *at).collect();
        for at in inside {
            self.areas.remove(&at);
        }
        if before != Some(state) {
            self.areas.insert(start, state);
        }
        match after {
            Some(after) if after != state => drop(self.areas.insert(end, after)),
            Some(_) => drop(self.areas.remove(&end)),
            None => {}
        }
    }

    /// What is known of a byte; `None` behind the end.
    pub fn state_at(&self, at: u64) -> Option<State> {
        if at >= self.length {
            return None;
        }
        self.areas.range(..=at).next_back().map(|(_, state)| *state)
    }

    /// The areas in a range, cut at its ends.
    pub fn areas(&self, range: Range<u64>) -> impl Iterator<Item = Area> + '_ {
        let end = range.end.min(self.length);
        let first = self.areas.range(..=range.start).next_back().map_or(range.start, |(at, _)| *at);
        let stop = end.max(first);
        let starts = self.areas.range(first..stop);
        let ends = self.areas.range(first..stop).skip(1).map(|(at, _)| *at).chain([end]);
        starts.zip(ends).filter_map(move |((at, state), area_end)| {
            let start = (*at).max(range.start);
            let length = area_end.min(end).checked_sub(start).filter(|length| *length > 0)?;
            Some(Area { start, length, state: *state })
        })
    }

    /// The first area in a range that is in this state.
    pub fn next(&self, range: Range<u64>, state: State) -> Option<Area> {
        self.areas(range).find(|area| area.state == state)
    }

    /// The last area in a range that is in this state.
    pub fn last(&self, range: Range<u64>, state: State) -> Option<Area> {
        let end = range.end.min(self.length);
        let mut area_end = end;
        for (at, own) in self.areas.range(..end).rev() {
            let start = (*at).max(range.start);
            if *own == state && start < area_end {
                return Some(Area { start, length: area_end - start, state });
            }
            if *at <= range.start {
                return None;
            }
            area_end = *at;
        }
        None
    }

    /// How many bytes are in this state.
    pub fn bytes(&self, state: State) -> u64 {
        self.areas(0..self.length).filter(|area| area.state == state).map(|area| area.length).sum()
    }

    /// Whether all of a range was read.
    pub fn is_rescued(&self, range: Range<u64>) -> bool {
        range.end <= self.length && self.areas(range).all(|area| area.state == State::Rescued)
    }
}

/// The image of a disk, as far as the disk was read. A reader that comes to a part that was not read gets an error,
/// never the zeros that stand for it in the image.
#[derive(Debug)]
pub struct Readable<I, M> {
    /// The image.
    pub image: I,
    /// What is in it.
    pub map: M,
}

impl<I: ReadAt, M: Borrow<Map>> ReadAt for Readable<I, M> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let map = self.map.borrow();
        let end = offset.saturating_add(buf.len() as u64).min(map.length());
        if offset < end && !map.is_rescued(offset..end) {
            return Err(lost());
        }
        self.image.read_at(offset, buf)
    }

    fn length(&self) -> u64 {
        self.map.borrow().length()
    }
}

/// The error of a part that was not read.
pub fn lost() -> io::Error {
    io::Error::other("it lies on sectors of the disk that could not be read")
}

fn number(word: &str) -> Option<u64> {
    match word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None if word.len() > 1 && word.starts_with('0') => u64::from_str_radix(word, 8).ok(),
        None => word.bytes().all(|b| b.is_ascii_digit()).then(|| word.parse().ok())?,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STATES: [State; 5] = [State::Untried, State::Untrimmed, State::Unscraped, State::Bad, State::Rescued];

    proptest! {
        #[test]
        fn a_map_is_what_a_plain_list_of_bytes_says(
            length in 1u64..60,
            steps in proptest::collection::vec((0u64..70, 0u64..30, 0usize..5), 0..25),
            window in (0u64..70, 0u64..70),
        ) {
            let mut map = Map::new(length);
            let mut plain = vec![State::Untried; length as usize];
            for (start, count, state) in steps {
                map.set(start, count, STATES[state]);
                for at in start..start + count {
                    if let Some(byte) = plain.get_mut(at as usize) {
                        *byte = STATES[state];
                    }
                }
            }
            let areas: Vec<Area> = map.areas(0..length).collect();
            prop_assert!(areas.windows(2).all(|two| two[0].end() == two[1].start && two[0].state != two[1].state));
            let back: Vec<State> =
                areas.iter().flat_map(|area| std::iter::repeat_n(area.state, area.length as usize)).collect();
            prop_assert_eq!(&back, &plain);
            for state in STATES {
                prop_assert_eq!(map.bytes(state), plain.iter().filter(|own| **own == state).count() as u64);
                let inside = |at: &u64| *at >= window.0 && *at < window.1.min(length);
                let mut hits = (0..length).filter(inside).filter(|at| plain[*at as usize] == state);
                prop_assert_eq!(map.next(window.0..window.1, state).map(|area| area.start), hits.next());
                let last = (0..length).filter(inside).rfind(|at| plain[*at as usize] == state);
                prop_assert_eq!(map.last(window.0..window.1, state).map(|area| area.end() - 1), last);
            }
            let text = map.render(&["x\ny".into()], 7, Activity::Scraping);
            prop_assert_eq!(Map::parse(text.as_bytes(), length).unwrap(), map);
        }

        #[test]
        fn any_bytes_are_a_map_or_an_error(raw in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Map::parse(&raw, 1000);
        }
    }

    #[test]
    fn a_map_of_another_disk_or_with_gaps_is_refused() {
        let head = "# c\n0x0 ? 1\n";
        for (areas, why) in [
            ("0 0x200 +\n", "longer"),
            ("0 16 +\n17 3 -\n", "follow"),
            ("0 16 x\n", "unknown"),
            ("0 0 +\n", "follow"),
            ("0 1y +\n", "number"),
            ("0xffffffffffffffff 2 +\n", "too long"),
        ] {
            let error = Map::parse(format!("{head}{areas}").as_bytes(), 100).unwrap_err();
            assert!(error.what.contains(why), "{areas}: {error}");
        }
        assert!(Map::parse(b"# nothing\n", 100).is_err());
        // The shorter status line of old versions, and octal numbers.
        let map = Map::parse(b"0x10 +\n0 020 +\n16 0x10 -\n", 100).unwrap();
        assert_eq!((map.bytes(State::Rescued), map.bytes(State::Bad), map.bytes(State::Untried)), (16, 16, 68));
    }
}
