//! The journal of a restore: an append-only file on the target that says at every moment what was done and what is
//! about to be done. There are two copies of it, alike byte for byte.
//!
//! Form: one record per line, `<crc32 of the JSON, 8 hexadecimal digits> <JSON>`, in the files
//! `var/lib/lifeboat/restores/<plan id>/journal` and `journal-copy`. The first record is the plan itself. Every record is
//! on the medium in both before [`Journal::write`] returns, in one after the other. A power cut can cut the last line of
//! one of them short, or keep it from the copy: such a tail is dropped when the journal is opened. A line that is bad in
//! one of them is taken from the other, where it lies at the same place; one that is bad in both, or that says different
//! things in them, means that the journal is damaged, and nothing is done on its word. So does an end that both
//! have lost: `reach` says how much there must be.

mod copies;
mod reach;
mod record;

pub use record::Record;

use super::undo::is_full;
use crate::model::path::RelPath;
use crate::model::plan::{PlanId, RestorePlan};
use crate::sys::dir::Dir;
use crate::sys::fault;
use copies::{COPIES, Copy};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Reading or writing it did not work.
    #[error("{doing} the restore journal")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The power was cut before the first record was whole: nothing else was done.
    #[error("the restore was cut off before it began")]
    NeverBegan,
    /// Its content cannot be trusted.
    #[error("the restore journal is damaged at line {line}: {what}")]
    Damaged {
        /// Line number, from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
}

/// An open journal with everything that it says so far.
#[derive(Debug)]
pub struct Journal {
    dir: Dir,
    files: [File; 2],
    /// How much of the text is on the medium in each of them.
    written: [usize; 2],
    records: Vec<Record>,
    /// How many of them there must be, as the directory says.
    told: usize,
    text: Vec<u8>,
    /// Whether more than that may lie in the files: the rest of a write that failed, or of one that the power cut.
    torn: bool,
    /// Whether one of the copies had to be made anew from the other.
    mended: bool,
}

fn failed(doing: &'static str) -> impl FnOnce(io::Error) -> JournalError {
    move |source| JournalError::Io { doing, source }
}

impl Journal {
    /// Starts a journal in `dir` with the plan as its first record.
    pub fn start(dir: &Dir, plan: RestorePlan) -> Result<Journal, JournalError> {
        let [one, other] = COPIES.map(|name| dir.create_file(name));
        let files = [one.map_err(failed("creating"))?, other.map_err(failed("creating"))?];
        let mut journal = Journal {
            dir: dir.again().map_err(failed("creating"))?,
            files,
            written: [0; 2],
            records: Vec::new(),
            told: 0,
            text: Vec::new(),
            torn: false,
            mended: false,
        };
        journal.write(Record::Plan { plan: Box::new(plan) })?;
        dir.sync().map_err(failed("creating"))?;
        Ok(journal)
    }

    /// Whether `dir` holds one.
    pub fn is_in(dir: &Dir) -> io::Result<bool> {
        let [one, other] = COPIES.map(|name| dir.stat_child(name));
        Ok(one?.is_some() || other?.is_some())
    }

    /// Opens the journal in `dir`. Before anything is done on its word, both copies hold all of it again; only where the
    /// disk has no room left, this waits for the next record.
    pub fn open(dir: &Dir) -> Result<Journal, JournalError> {
        let copies = Copy::both(dir)?;
        let (records, text, told) = whole(dir, &copies)?;
        let mended = copies::renew(dir, &copies, &text).map_err(failed("repairing"))?;
        let [one, other] = COPIES.map(|name| dir.append_file(name));
        let files = [one.map_err(failed("opening"))?, other.map_err(failed("opening"))?];
        let written =
            copies.each_ref().map(|copy| if copy.is_damaged(&text) { text.len() } else { copy.common(&text) });
        let torn = copies.iter().any(|copy| !copy.is_damaged(&text) && copy.text != text);
        let again = dir.again().map_err(failed("opening"))?;
        let mut journal = Journal { dir: again, files, written, records, told, text, torn, mended };
        if torn {
            match dir.sync().map_err(failed("repairing")).and_then(|()| journal.put()) {
                Err(JournalError::Io { source, .. }) if is_full(&source) => {}
                other => other?,
            }
        }
        Ok(journal)
    }

    /// Reads a journal without writing to it, whatever its copies lack.
    pub fn read(dir: &Dir) -> Result<Vec<Record>, JournalError> {
        Ok(whole(dir, &Copy::both(dir)?)?.0)
    }

    /// Appends a record; it is on the medium when this returns.
    pub fn write(&mut self, record: Record) -> Result<(), JournalError> {
        let before = self.text.len();
        self.text.extend(line(&record).map_err(failed("writing"))?);
        if let Err(error) = self.put() {
            self.text.truncate(before);
            self.written = self.written.map(|written| written.min(before));
            return Err(error);
        }
        let announces = record.announces();
        self.records.push(record);
        fault::point("journal.after").map_err(failed("writing"))?;
        if announces {
            reach::tell(&self.dir, self.told, self.records.len()).map_err(failed("writing"))?;
            self.told = self.records.len();
        }
        Ok(())
    }

    /// Writes what is missing to the files. One after the other: what happens to the one that is being written cannot
    /// happen to both.
    fn put(&mut self) -> Result<(), JournalError> {
        let torn = std::mem::replace(&mut self.torn, true);
        for (file, written) in self.files.iter().zip(&mut self.written) {
            if torn {
                // A line that follows half of another one would damage the journal for good.
                file.set_len(*written as u64).map_err(failed("repairing"))?;
            }
            let rest = self.text.get(*written..).unwrap_or_default();
            fault::write("journal.data", rest, |bytes| file.write_all_at(bytes, *written as u64))
                .and_then(|()| file.sync_data())
                .map_err(failed("writing"))?;
            *written = self.text.len();
        }
        self.torn = false;
        Ok(())
    }

    /// Everything written so far.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Whether one of the copies was damaged when the journal was opened, and was made anew from the other.
    pub fn was_mended(&self) -> bool {
        self.mended
    }
}

/// What the copies say together, as records and as text, and how many records the directory tells of. Fewer than these
/// are no journal.
fn whole(dir: &Dir, copies: &[Copy; 2]) -> Result<(Vec<Record>, Vec<u8>, usize), JournalError> {
    let told = reach::told(dir).map_err(failed("opening"))?;
    match Copy::agree(copies) {
        Ok((records, _)) if records.len() < told => Err(damaged(records.len(), "its end is missing")),
        Err(JournalError::NeverBegan) if told > 0 => Err(damaged(0, "its end is missing")),
        other => other.map(|(records, text)| (records, text, told)),
    }
}

/// The plan in the first record.
pub fn plan(records: &[Record]) -> Option<&RestorePlan> {
    match records.first() {
        Some(Record::Plan { plan }) => Some(plan),
        _ => None,
    }
}

fn line(record: &Record) -> io::Result<Vec<u8>> {
    let json = serde_json::to_string(record)?;
    Ok(format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes())).into_bytes())
}

/// Parses one copy of a journal: its records, and how many bytes of it are whole lines.
pub fn parse(text: &[u8]) -> Result<(Vec<Record>, usize), JournalError> {
    merge([text, b""]).map(|(records, text)| (records, text.len()))
}

/// Reads two copies together, line by line: a line is taken from the one in which it is good. Returns the records, and
/// their lines.
pub fn merge(copies: [&[u8]; 2]) -> Result<(Vec<Record>, Vec<u8>), JournalError> {
    let (mut records, mut text) = (Vec::new(), Vec::new());
    loop {
        let number = records.len();
        let (mut good, mut bad) = (None, None);
        for rest in copies.map(|copy| copy.get(text.len()..).unwrap_or_default()) {
            let line = rest.split_inclusive(|&b| b == b'\n').next().unwrap_or_default();
            match (parse_line(line), &good) {
                (Ok(_), Some((other, _))) if *other != line => {
                    return Err(damaged(number, "its two copies say different things"));
                }
                (Ok(record), _) => good = Some((line, record)),
                // Only the end of the file can be the mark of a power cut: a line that is cut, or blocks of zeros.
                (Err(_), _) if is_torn(rest) => {}
                (Err(what), _) => bad = Some(what),
            }
        }
        match (good, bad) {
            (Some((_, record)), _) if matches!(record, Record::Plan { .. }) != (number == 0) => {
                return Err(damaged(number, "the plan must be the first record, once"));
            }
            (Some((line, record)), _) => {
                text.extend_from_slice(line);
                records.push(record);
            }
            (None, Some(what)) => return Err(damaged(number, &what)),
            (None, None) if number == 0 => return Err(JournalError::NeverBegan),
            (None, None) => return Ok((records, text)),
        }
    }
}

fn damaged(number: usize, what: &str) -> JournalError {
    JournalError::Damaged { line: number + 1, what: what.to_owned() }
}

fn is_torn(rest: &[u8]) -> bool {
    !rest.contains(&b'\n') || rest.iter().all(|&b| b == 0)
}

fn parse_line(line: &[u8]) -> Result<Record, String> {
    let line = line.strip_suffix(b"\n").ok_or("the line has no end")?;
    let text = std::str::from_utf8(line).map_err(|_| "the line is not text")?;
    let (sum, json) = text.split_once(' ').ok_or("the line has no checksum")?;
    // By its letters: digits of the other case, or a sign, would be a changed byte that is believed.
    if sum != format!("{:08x}", crc32fast::hash(json.as_bytes())) {
        return Err("the checksum is wrong".into());
    }
    serde_json::from_str(json).map_err(|error| format!("the record is not understood ({error})"))
}

/// The name of a restore's directory below the area.
pub fn directory(area: &RelPath, id: &PlanId) -> Option<RelPath> {
    area.join(format!("restores/{id}").as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::digest::Sha256Digest;
    use crate::model::plan::TargetSummary;
    use proptest::prelude::*;

    fn sample() -> Vec<u8> {
        let plan = RestorePlan {
            format: 1,
            id: PlanId::of(Sha256Digest::of(b"x")),
            archive: "a".parse().unwrap(),
            archive_time: None,
            target: TargetSummary {
                hostname: "box".into(),
                freedombox: "25.9.3".into(),
                suite: "trixie".into(),
                architecture: "amd64".into(),
                uuid: None,
            },
            apps: vec![],
            steps: vec![],
            blockers: vec![],
            warnings: vec![],
            unknown_owners: vec![],
            people: vec![],
            not_included: vec![],
            extras: vec![],
            offered: vec![],
            space: vec![],
        };
        let records = [
            Record::Plan { plan: Box::new(plan) },
            Record::Exchanging { step: 0, staged: Some(5), live: None },
            Record::Exchanged { step: 0 },
        ];
        records.iter().flat_map(|record| line(record).unwrap()).collect()
    }

    #[test]
    fn a_journal_cut_anywhere_keeps_every_whole_record_and_nothing_else() {
        let text = sample();
        for cut in 0..=text.len() {
            let head = &text[..cut];
            let lines = head.iter().filter(|&&b| b == b'\n').count();
            match parse(head) {
                Ok((records, _)) => assert_eq!(records.len(), lines),
                Err(JournalError::NeverBegan) => assert_eq!(lines, 0),
                Err(error) => panic!("{error} at {cut}"),
            }
        }
    }

    #[test]
    fn copies_that_say_different_things_are_not_believed() {
        let record = |step| line(&Record::Exchanged { step }).unwrap();
        let text = sample();
        let (one, other) = ([&text[..], &record(1)].concat(), [&text[..], &record(2)].concat());
        assert_eq!(merge([&one, &text]).unwrap().0.len(), 4);
        assert!(matches!(merge([&one, &other]), Err(JournalError::Damaged { line: 4, .. })));
    }

    #[test]
    fn a_checksum_in_capital_letters_is_not_the_one_that_was_written() {
        let text = sample();
        let ends: Vec<usize> = (0..text.len()).filter(|&at| text[at] == b'\n').collect();
        let starts = std::iter::once(0).chain(ends.iter().map(|end| end + 1)).take(ends.len());
        let letters: Vec<usize> =
            starts.flat_map(|start| start..start + 8).filter(|&at| text[at].is_ascii_lowercase()).collect();
        assert!(!letters.is_empty(), "the sample's checksums have letters");
        for at in letters {
            let mut text = text.clone();
            text[at].make_ascii_uppercase();
            let (before, now) = (parse(&sample()).unwrap().0, parse(&text));
            assert!(now.is_err() || now.is_ok_and(|(records, _)| records.len() < before.len()), "{at}");
        }
    }

    #[test]
    fn blocks_of_zeros_at_the_end_are_a_power_cut_too() {
        let mut text = sample();
        text.extend_from_slice(&[0; 512]);
        assert_eq!(parse(&text).unwrap().0.len(), 3);
    }

    proptest! {
        #[test]
        fn a_changed_byte_is_never_believed(position in 0usize..2000, flip in 1u8..=255) {
            let mut text = sample();
            let position = position % text.len();
            text[position] ^= flip;
            let before = parse(&sample()).unwrap().0;
            match parse(&text) {
                Ok((records, _)) => prop_assert!(records.len() < before.len() && before.starts_with(&records)),
                Err(JournalError::Damaged { .. } | JournalError::NeverBegan) => {}
                Err(error) => prop_assert!(false, "{error}"),
            }
        }

        #[test]
        fn what_is_wrong_in_one_copy_is_taken_from_the_other(
            position in 0usize..2000, flip in 1u8..=255, cut in 0usize..2000, first: bool,
        ) {
            let (whole, mut text) = (sample(), sample());
            text.truncate(cut.max(1));
            let position = position % text.len();
            text[position] ^= flip;
            let copies = if first { [&text[..], &whole] } else { [&whole, &text[..]] };
            prop_assert_eq!(merge(copies).unwrap().1, whole);
        }

        #[test]
        fn two_copies_that_are_wrong_in_different_lines_are_still_one_journal(a in 0usize..2000, b in 0usize..2000) {
            let whole = sample();
            let (a, b) = (a % whole.len(), b % whole.len());
            let line = |at: usize| whole[..at].iter().filter(|&&byte| byte == b'\n').count();
            let broken = |at: usize| {
                let mut text = whole.clone();
                text[at] ^= 1;
                text
            };
            match merge([&broken(a), &broken(b)]) {
                Ok((_, text)) => prop_assert!(text == whole || (line(a) == line(b) && whole.starts_with(&text))),
                Err(_) => prop_assert_eq!(line(a), line(b)),
            }
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&text);
        }
    }
}
