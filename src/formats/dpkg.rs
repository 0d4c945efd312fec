//! dpkg's status file (deb-control(5), dpkg(1)): which packages are installed, in which version.

use crate::model::bytes;
use crate::model::version::Version;
use std::io::{self, BufRead};

/// Longest line that is kept; longer ones belong to fields that are not needed here and are read past.
const LONGEST_LINE: usize = 4096;
/// A Debian system has some thousand packages.
const MOST_PACKAGES: usize = 200_000;

/// One package of the status file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// Its architecture.
    pub architecture: String,
    /// Whether its status ends in "ok installed".
    pub installed: bool,
}

/// Reads all packages of a status file. Only reading can fail; what has no name is passed over.
pub fn packages(mut status: impl BufRead) -> io::Result<Vec<Package>> {
    let mut found = Vec::new();
    let mut stanza = Stanza::default();
    let mut line = Vec::new();
    loop {
        let more = read_line(&mut status, &mut line)?;
        if line.is_empty() {
            found.extend(std::mem::take(&mut stanza).finish());
            if !more || found.len() >= MOST_PACKAGES {
                return Ok(found);
            }
        } else {
            stanza.take(&line);
        }
    }
}

#[derive(Default)]
struct Stanza {
    name: Option<String>,
    version: Option<String>,
    architecture: Option<String>,
    status: Option<String>,
}

impl Stanza {
    fn take(&mut self, line: &[u8]) {
        // A continuation line starts with a blank and belongs to no field that is wanted.
        let Some(colon) = line.iter().position(|&b| b == b':') else { return };
        let (name, value) = line.split_at(colon);
        let field = match name.to_ascii_lowercase().as_slice() {
            b"package" => &mut self.name,
            b"version" => &mut self.version,
            b"architecture" => &mut self.architecture,
            b"status" => &mut self.status,
            _ => return,
        };
        *field = Some(bytes::escape(value.get(1..).unwrap_or_default().trim_ascii()));
    }

    fn finish(self) -> Option<Package> {
        Some(Package {
            name: self.name.filter(|name| !name.is_empty())?,
            version: Version::new(&self.version.unwrap_or_default()),
            architecture: self.architecture.unwrap_or_default(),
            installed: self.status.is_some_and(|status| {
                let mut words = status.split_ascii_whitespace().skip(1);
                words.next() == Some("ok") && words.next() == Some("installed")
            }),
        })
    }
}

/// Reads one line without its end, cut at [`LONGEST_LINE`]; false at the end of the file.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    loop {
        let chunk = match input.fill_buf() {
            Ok(chunk) => chunk,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if chunk.is_empty() {
            return Ok(false);
        }
        let end = chunk.iter().position(|&b| b == b'\n');
        let part = chunk.get(..end.unwrap_or(chunk.len())).unwrap_or_default();
        let room = LONGEST_LINE.saturating_sub(line.len());
        line.extend_from_slice(part.get(..room.min(part.len())).unwrap_or_default());
        let used = end.map_or(chunk.len(), |end| end + 1);
        input.consume(used);
        if end.is_some() {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removed_and_half_configured_packages_are_not_installed() {
        let status = "Package: freedombox\nStatus: install ok installed\nArchitecture: all\nVersion: 25.9.3\nDescription: x\n Package: not\n\n\
            Package: gone\nStatus: deinstall ok config-files\nVersion: 1\nArchitecture: amd64\n\n\
            Package: held\nStatus: hold ok installed\nVersion: 2\nArchitecture: amd64\n\n\n\
            Package: half\nStatus: install ok half-configured\nVersion: 3\nArchitecture: amd64";
        let found = packages(status.as_bytes()).unwrap();
        let seen: Vec<_> = found.iter().map(|p| (p.name.as_str(), p.version.as_str(), p.installed)).collect();
        assert_eq!(
            seen,
            [("freedombox", "25.9.3", true), ("gone", "1", false), ("held", "2", true), ("half", "3", false)]
        );
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_to_their_end(raw in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
            packages(raw.as_slice()).unwrap();
        }
    }
}
