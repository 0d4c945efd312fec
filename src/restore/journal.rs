//! The journal of a restore: an append-only file on the target that says at every moment what was done and what is
//! about to be done.
//!
//! Form: one record per line, `<crc32 of the JSON, 8 hexadecimal digits> <JSON>`, in the file
//! `var/lib/lifeboat/restores/<plan id>/journal`. The first record is the plan itself. Every record is on the medium
//! before [`Journal::write`] returns. A power cut can cut the last line short: such a tail is dropped when the
//! journal is opened; a bad line anywhere else means that the journal is damaged, and nothing is done on its word.

use crate::model::app::AppId;
use crate::model::digest::TreeDigest;
use crate::model::finish::Part;
use crate::model::path::RelPath;
use crate::model::plan::{PlanId, RestorePlan};
use crate::sys::dir::Dir;
use crate::sys::fault;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};

/// Longest journal that is read back: a plan of every app is far below.
const LARGEST: u64 = 64 << 20;

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Record {
    /// The plan that the user consented to. Always the first record, and only the first.
    Plan {
        /// The plan.
        plan: Box<RestorePlan>,
    },
    /// Which restore of this box it is, from 1: what a later one has too, an earlier one no longer does.
    Numbered {
        /// One more than the highest on the box before.
        number: u64,
    },
    /// A directory was made that was not there before, so that undoing removes it again.
    Made {
        /// The directory.
        path: RelPath,
    },
    /// A snapshot of the root was taken before anything changed.
    Snapshot {
        /// Where it lies.
        path: RelPath,
    },
    /// A step's data lies complete in the staging area, was read back, and is on the medium.
    Staged {
        /// The step.
        step: u32,
        /// Digest of the staged tree as it lies on the disk.
        digest: TreeDigest,
    },
    /// A step is about to be exchanged.
    Exchanging {
        /// The step.
        step: u32,
        /// Inode at the staged name before; `None` when nothing is there.
        staged: Option<u64>,
        /// Inode at the live name before; `None` when nothing is there.
        live: Option<u64>,
    },
    /// The step was exchanged.
    Exchanged {
        /// The step.
        step: u32,
    },
    /// All steps were exchanged: the new data is in place.
    Restored,
    /// A file for the next boot is about to be written.
    Writing {
        /// The file or link.
        path: RelPath,
    },
    /// Everything for the next boot is written.
    HandedOff,
    /// The running box begins to work on an app.
    Attempt {
        /// The app.
        app: AppId,
    },
    /// How the running box found an app before it did anything to it.
    Found {
        /// The app.
        app: AppId,
        /// Whether it was not installed.
        fresh: bool,
    },
    /// Which of FreedomBox's diagnostics failed for an app before its data was put in place.
    Failing {
        /// The app.
        app: AppId,
        /// Their names.
        checks: BTreeSet<String>,
    },
    /// A part of an app's work is done and on the medium.
    Reached {
        /// The app.
        app: AppId,
        /// The part.
        part: Part,
    },
    /// The work on an app stopped; it will be tried again.
    Stopped {
        /// The app.
        app: AppId,
        /// Why, a sentence.
        why: String,
        /// Whether it was a failure; waiting for packages is none, however long it takes.
        failure: bool,
    },
    /// Something about an app that its owner should know, although it is no failure.
    Noted {
        /// The app.
        app: AppId,
        /// What, a sentence.
        what: String,
    },
    /// A parked tree is about to be exchanged with what is in its place.
    Moving {
        /// The step that parked it.
        step: u32,
        /// Inode at the parked name before; `None` when nothing is there.
        parked: Option<u64>,
        /// Inode at the live name before; `None` when nothing is there.
        live: Option<u64>,
    },
    /// A directory that stands where a service wants a link is about to be parked, and the link to be made.
    Opening {
        /// The step whose data the link leads to.
        step: u32,
        /// The directory.
        path: RelPath,
    },
    /// The parked tree is in its place.
    Moved {
        /// The step that parked it.
        step: u32,
    },
    /// The running box finished an app.
    Finished {
        /// The app.
        app: AppId,
    },
    /// The running box gave an app up. What is not in its place stays parked.
    GaveUp {
        /// The app.
        app: AppId,
        /// Why, a sentence.
        why: String,
    },
    /// Undoing brought back what an app's database held before.
    TakenBack {
        /// The app.
        app: AppId,
    },
    /// Nothing is left to do, and the clock was right: from here on the days are counted that the old data is kept.
    Settled {
        /// Seconds since 1970.
        at: i64,
    },
    /// Undoing began: from here on the restore only goes backwards.
    Undoing,
    /// A step has its old data again.
    Undone {
        /// The step.
        step: u32,
    },
    /// All old data is back.
    RolledBack,
    /// Committing began: the old data is being removed.
    Committing,
    /// The old data is gone.
    Committed,
}

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
    file: File,
    records: Vec<Record>,
    /// Length of the file up to its last whole record.
    whole: u64,
    /// Whether a write failed, so that a part of a line may lie behind that.
    torn: bool,
}

fn failed(doing: &'static str) -> impl FnOnce(io::Error) -> JournalError {
    move |source| JournalError::Io { doing, source }
}

impl Journal {
    /// Starts a journal in `dir` with the plan as its first record.
    pub fn start(dir: &Dir, plan: RestorePlan) -> Result<Journal, JournalError> {
        let file = dir.create_file(b"journal").map_err(failed("creating"))?;
        let mut journal = Journal { file, records: Vec::new(), whole: 0, torn: false };
        journal.write(Record::Plan { plan: Box::new(plan) })?;
        dir.sync().map_err(failed("creating"))?;
        Ok(journal)
    }

    /// Opens the journal in `dir`; drops a last line that a power cut left incomplete.
    pub fn open(dir: &Dir) -> Result<Journal, JournalError> {
        let file = dir.append_file(b"journal").map_err(failed("opening"))?;
        let mut text = Vec::new();
        (&file).take(LARGEST).read_to_end(&mut text).map_err(failed("reading"))?;
        let (records, whole) = parse(&text)?;
        if whole < text.len() {
            file.set_len(whole as u64).and_then(|()| file.sync_all()).map_err(failed("repairing"))?;
        }
        Ok(Journal { file, records, whole: whole as u64, torn: false })
    }

    /// Reads a journal without writing to it, even where its last line is incomplete.
    pub fn read(dir: &Dir) -> Result<Vec<Record>, JournalError> {
        let mut text = Vec::new();
        let file = dir.read_file(b"journal").map_err(failed("opening"))?;
        file.take(LARGEST).read_to_end(&mut text).map_err(failed("reading"))?;
        Ok(parse(&text)?.0)
    }

    /// Appends a record; it is on the medium when this returns.
    pub fn write(&mut self, record: Record) -> Result<(), JournalError> {
        fault::point("journal.before").map_err(failed("writing"))?;
        let line = line(&record).map_err(failed("writing"))?;
        if self.torn {
            // A line that follows half of another one would damage the journal for good.
            self.file.set_len(self.whole).map_err(failed("repairing"))?;
        }
        self.torn = true;
        self.file.write_all(&line).and_then(|()| self.file.sync_data()).map_err(failed("writing"))?;
        self.torn = false;
        self.whole = self.whole.saturating_add(line.len() as u64);
        self.records.push(record);
        fault::point("journal.after").map_err(failed("writing"))
    }

    /// Everything written so far.
    pub fn records(&self) -> &[Record] {
        &self.records
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

/// Parses a journal: its records, and how many bytes of it are whole lines.
pub fn parse(text: &[u8]) -> Result<(Vec<Record>, usize), JournalError> {
    let mut records = Vec::new();
    let mut whole = 0;
    for (number, line) in text.split_inclusive(|&b| b == b'\n').enumerate() {
        match parse_line(line) {
            Ok(record) => {
                let is_plan = matches!(record, Record::Plan { .. });
                if is_plan != (number == 0) {
                    return Err(damaged(number, "the plan must be the first record, once"));
                }
                records.push(record);
                whole += line.len();
            }
            // Only the end of the file can be the mark of a power cut: a line that is cut, or blocks of zeros.
            Err(_) if number > 0 && is_torn(text.get(whole..).unwrap_or_default()) => break,
            Err(_) if is_torn(text) => return Err(JournalError::NeverBegan),
            Err(what) => return Err(damaged(number, &what)),
        }
    }
    if records.is_empty() {
        return Err(JournalError::NeverBegan);
    }
    Ok((records, whole))
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
    if sum.len() != 8 || u32::from_str_radix(sum, 16) != Ok(crc32fast::hash(json.as_bytes())) {
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
            not_included: vec![],
            extras: vec![],
            offered_accounts: vec![],
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
        fn no_text_makes_the_parser_panic(text in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&text);
        }
    }
}
