//! The list of owners whose names the box does not have yet, over the runs that staging may take.
//!
//! A step's lines are on the medium before the step is recorded as staged, and have to stay for as long as it is kept: its
//! entries are not looked at again.

use super::Staging;
use crate::restore::movein::Line;
use crate::sys::dir::{self, Dir};
use crate::sys::tree;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};

/// What the list is called in the restore's directory.
pub(in crate::restore) const LIST: &[u8] = b"owners";
/// What it is called while it is made anew.
pub(in crate::restore) const NEW: &[u8] = b"owners-new";

/// Begins the list anew, with the lines of the steps that are kept. They are never missing on the medium meanwhile.
pub(in crate::restore) fn begin(directory: &Dir, kept: &[Staging]) -> io::Result<File> {
    tree::remove(directory, NEW)?;
    let list = directory.create_file(NEW)?;
    match directory.read_file(LIST) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => keep(other?, kept, &list)?,
    }
    dir::sync_file(&list)?;
    directory.replace(NEW, LIST)?;
    directory.sync()?;
    Ok(list)
}

fn keep(earlier: File, kept: &[Staging], list: &File) -> io::Result<()> {
    let is_kept = |line: &Line| {
        kept.iter().any(|staging| staging.step.app == line.app && line.path.is_within(&staging.step.destination))
    };
    let (mut from, mut to, mut text) = (BufReader::new(earlier), BufWriter::new(list), Vec::new());
    let mut torn = None;
    while from.read_until(b'\n', &mut text)? > 0 {
        match serde_json::from_slice::<Line>(&text) {
            Ok(line) if is_kept(&line) => match torn.take() {
                // A power cut takes the end of the list only, where no step is recorded yet.
                Some(error) => return Err(error),
                None => to.write_all(&text)?,
            },
            Ok(_) => {}
            Err(error) => torn = torn.or(Some(io::Error::from(error))),
        }
        text.clear();
    }
    to.flush()
}
