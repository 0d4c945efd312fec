//! What is kept on the box of what was done to its disk: `var/lib/lifeboat/growth.json`.
//!
//! Written before the partition table is changed, with the bytes that are replaced there, and once more when it is done.
//! It is for the papers and for people: what is left to do, the disk itself says.

use super::GrowError;
use crate::formats::extend::Patch;
use crate::formats::{ReadAt, block::Block};
use crate::model::growth::Growth;
use crate::model::site::AREA;
use crate::sys::dir::{self, Dir};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};

const NAME: &[u8] = b"growth.json";
const NEW: &[u8] = b"growth.json.new";
const LONGEST: u64 = 1 << 20;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    /// What is done.
    pub(super) growth: Growth,
    /// When it began, RFC 3339 UTC.
    pub(super) time: String,
    /// Whether it is finished.
    pub(super) done: bool,
    /// What was on the disk before, where the partition table was changed.
    #[serde(default)]
    pub(super) replaced: Vec<Replaced>,
}

/// Bytes of the disk before the change.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Replaced {
    /// First byte.
    place: u64,
    /// What was there, in hexadecimal digits.
    bytes: String,
}

impl Record {
    /// Before anything was changed: with what stands where the patches go.
    pub(super) fn begin(
        growth: &Growth,
        time: &str,
        disk: &dyn ReadAt,
        patches: &[Patch],
    ) -> Result<Record, GrowError> {
        let mut replaced = Vec::new();
        for Patch { place, bytes } in patches {
            let failed = |source| crate::sys::SysError { operation: "reading", subject: growth.disk.clone(), source };
            let there = Block::read(disk, *place, bytes.len()).map_err(failed)?;
            let mut text = String::new();
            for byte in there.iter().flat_map(Block::bytes) {
                let _ = write!(text, "{byte:02x}");
            }
            if !replaced.iter().any(|other: &Replaced| other.place == *place) {
                replaced.push(Replaced { place: *place, bytes: text });
            }
        }
        Ok(Record { growth: growth.clone(), time: time.to_owned(), done: false, replaced })
    }

    /// Writes it into Lifeboat's directory on the box.
    pub(super) fn write(&self, area: &Dir) -> io::Result<()> {
        match area.remove_file(NEW) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = area.create_file(NEW)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        dir::sync_file(&file)?;
        area.replace(NEW, NAME)?;
        area.sync()
    }
}

/// The record on a box; `None` where there is none, or none that can be read.
pub(super) fn read(root: &Dir) -> io::Result<Option<Record>> {
    let Ok(path) = AREA.parse() else { return Ok(None) };
    let file = match root.dir(&path).and_then(|area| area.read_file(NAME)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let mut text = Vec::new();
    file.take(LONGEST).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text).ok())
}
