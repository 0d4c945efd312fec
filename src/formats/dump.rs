//! Whether a database dump was written to its end.
//!
//! FreedomBox dumps databases before a backup and only logs when that fails, so a backup may hold half a dump.
//! `mysqldump` and `mariadb-dump` end with `-- Dump completed`, `pg_dump` and `pg_dumpall` with `-- PostgreSQL database
//! (cluster) dump complete`, since August 2025 followed by `\unrestrict <token>`.

use crate::model::archive::ArchiveSummary;
use crate::model::entry::Mtime;
use crate::model::path::RelPath;
use std::io::{self, Read};

/// Where FreedomBox puts the dumps of databases.
const DUMPS: &[u8] = b"var/lib/plinth/backups-data";

/// Whether a path is where FreedomBox puts the dump of a database.
pub fn is_dump(path: &RelPath) -> bool {
    path.file_name().ends_with(b"-database.sql") && path.parent().is_some_and(|parent| parent.as_bytes() == DUMPS)
}

/// What is known of one dump.
#[derive(Debug, Clone, Copy)]
pub struct Dump {
    /// Whether it ends as it must.
    pub is_complete: bool,
    /// When it was written.
    pub written: Mtime,
}

impl Dump {
    /// How many hours it is older than the backup that was made at `made` (seconds since 1970), where that is too many:
    /// FreedomBox writes the dumps right before a backup, and where that fails, the file of an earlier backup is still
    /// there.
    pub fn hours_stale(&self, made: i64) -> Option<i64> {
        let hours = made.saturating_sub(self.written.secs) / 3600;
        (hours >= STALE).then_some(hours)
    }

    /// The same for the backup that says this of itself; one that does not tell its time makes no dump too old.
    pub fn stale_in(&self, backup: &ArchiveSummary) -> Option<i64> {
        self.hours_stale(backup.time.as_deref()?.parse::<jiff::Timestamp>().ok()?.as_second())
    }
}

/// From how many hours on a dump counts as one of an earlier backup: all apps are dumped before the first is archived.
const STALE: i64 = 3;
/// How much of a dump's end is looked at.
const TAIL: usize = 4096;
const LAST_LINES: [&[u8]; 3] =
    [b"-- Dump completed", b"-- PostgreSQL database dump complete", b"-- PostgreSQL database cluster dump complete"];

/// The last bytes of a file that goes by.
#[derive(Debug, Default)]
pub struct Tail(Vec<u8>);

impl Tail {
    /// Takes the next piece.
    pub fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes.get(bytes.len().saturating_sub(TAIL)..).unwrap_or_default());
        self.0.drain(..self.0.len().saturating_sub(TAIL));
    }

    /// Whether a dump that ends like this is whole.
    pub fn is_complete(&self) -> bool {
        let mut lines = self.0.split(|&b| b == b'\n').rev().map(<[u8]>::trim_ascii);
        let last = lines.find(|line| !(line.is_empty() || *line == b"--" || line.starts_with(b"\\unrestrict ")));
        last.is_some_and(|line| LAST_LINES.iter().any(|end| line.starts_with(end))) && self.0.ends_with(b"\n")
    }
}

/// Whether what is read is a dump that was written to its end.
pub fn is_whole(mut dump: impl Read) -> io::Result<bool> {
    let (mut tail, mut buffer) = (Tail::default(), vec![0; 1 << 16]);
    loop {
        match dump.read(&mut buffer) {
            Ok(0) => return Ok(tail.is_complete()),
            Ok(length) => tail.push(buffer.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(text: &str) -> bool {
        let mut tail = Tail::default();
        text.as_bytes().chunks(7).for_each(|part| tail.push(part));
        tail.is_complete()
    }

    #[test]
    fn only_a_dump_with_its_last_line_is_whole() {
        let long = "INSERT INTO t VALUES (1);\n".repeat(1000);
        for end in [
            "-- Dump completed on 2026-11-23 18:47:27\n",
            "--\n-- PostgreSQL database dump complete\n--\n\n",
            "--\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict b2d8\n\n",
            "--\n-- PostgreSQL database cluster dump complete\n--\n",
        ] {
            assert!(complete(&format!("{long}{end}")), "{end}");
            assert!(!complete(&format!("{long}{end}INSERT")), "{end}");
            assert!(!complete(&format!("{long}{}", &end[..end.len() / 4])), "{end}");
        }
        assert!(!complete(&long));
        assert!(!complete(""));
    }
}
