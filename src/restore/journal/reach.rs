//! How far the journal reaches at least, said by the name of an empty file beside it: `reaches-000017` where 17 records
//! must be there.
//!
//! A journal that was cut off at the end of a line looks like one that never got further. Undoing on its word would take
//! old data for what was only staged, and remove it. So a record that announces such a change is told here as well, after
//! it is on the medium and before the change: a journal that is shorter has lost its end.

use crate::sys::dir::Dir;
use std::io;

const PREFIX: &[u8] = b"reaches-";

/// All names have one length, so that another number needs no more room in the directory.
fn name(records: usize) -> Vec<u8> {
    [PREFIX, format!("{records:06}").as_bytes()].concat()
}

/// How many records the name in `dir` tells of; 0 where there is none.
pub(super) fn told(dir: &Dir) -> io::Result<usize> {
    let number = |name: &Vec<u8>| std::str::from_utf8(name.strip_prefix(PREFIX)?).ok()?.parse().ok();
    Ok(dir.names()?.iter().filter_map(number).max().unwrap_or(0))
}

/// Tells of `records`, where `before` were told of; on the medium when it returns.
pub(super) fn tell(dir: &Dir, before: usize, records: usize) -> io::Result<()> {
    match before {
        0 => dir.create_file(&name(records)).map(drop)?,
        before => dir.replace(&name(before), &name(records))?,
    }
    dir.sync()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_last_is_read_back_and_other_names_tell_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        assert_eq!(told(&dir).unwrap(), 0);
        tell(&dir, 0, 7).unwrap();
        tell(&dir, 7, 1_234_567).unwrap();
        dir.create_file(b"reaches-x").unwrap();
        dir.create_file(b"journal").unwrap();
        assert_eq!(told(&dir).unwrap(), 1_234_567);
        assert_eq!(dir.names().unwrap().len(), 3);
    }
}
