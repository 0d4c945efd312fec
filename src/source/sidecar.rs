//! Checksum files beside an archive: `<file>.sha256` and `SHA256SUMS` in the same folder.
//!
//! Format: GNU coreutils `sha256sum` (manual, "cksum output modes"): `<64 hex>␠␠<name>` or `<64 hex>␠*<name>`, a leading
//! backslash when the name is escaped; also `SHA256 (<name>) = <64 hex>` of `--tag`, and a bare digest in `<file>.sha256`.

use crate::model::bytes;
use crate::model::digest::Sha256Digest;
use crate::model::finding::{Finding, Severity};
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Longest checksum file that is read.
const LONGEST: u64 = 4 << 20;

/// A digest that the file must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) digest: Sha256Digest,
    /// The checksum file's name.
    pub(super) from: String,
}

/// Every digest that checksum files beside `path` give for it, and what is wrong with those files.
pub(super) fn look(path: &Path) -> (Vec<Expected>, Vec<Finding>) {
    let (mut expected, mut findings) = (Vec::new(), Vec::new());
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return (expected, findings) };
    let mut own = OsString::from(name);
    own.push(".sha256");
    for (sidecar, is_own) in [(own, true), (OsString::from("SHA256SUMS"), false)] {
        let from = bytes::escape(sidecar.as_bytes());
        match read(&folder.join(&sidecar)) {
            Ok(None) => {}
            Ok(Some(text)) => {
                let digests = digests_for(&text, name.as_bytes(), is_own);
                if digests.is_empty() && is_own {
                    let what = "the checksum file has no checksum for the archive beside it";
                    findings.push(Finding::new(Severity::Warning, from.clone(), what, ""));
                }
                expected.extend(digests.into_iter().map(|digest| Expected { digest, from: from.clone() }));
            }
            Err(error) => {
                let what = format!("the checksum file cannot be read: {error}");
                findings.push(Finding::new(Severity::Warning, from, what, "the archive is read without it"));
            }
        }
    }
    (expected, findings)
}

fn read(path: &Path) -> std::io::Result<Option<Vec<u8>>> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
        Ok(meta) if !meta.is_file() => return Err(std::io::Error::other("it is not a regular file")),
        Ok(meta) if meta.len() > LONGEST => return Err(std::io::Error::other("it is too long")),
        Ok(_) => {}
    }
    let mut text = Vec::new();
    File::open(path)?.take(LONGEST).read_to_end(&mut text)?;
    Ok(Some(text))
}

/// The digests that `text` gives for the file `name`.
fn digests_for(text: &[u8], name: &[u8], is_own: bool) -> Vec<Sha256Digest> {
    let lines = text.split(|&b| b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    lines
        .filter_map(|line| {
            let (digest, listed) = parse_line(line).or_else(|| Some((parse_digest(line.trim_ascii())?, Vec::new())))?;
            // Checksum files are often made in another folder; the archive's own needs no name at all.
            let base = listed.rsplit(|&b| b == b'/').next().unwrap_or_default();
            (base == name || (is_own && listed.is_empty())).then_some(digest)
        })
        .collect()
}

fn parse_line(line: &[u8]) -> Option<(Sha256Digest, Vec<u8>)> {
    let (escaped, line) = match line.strip_prefix(b"\\") {
        Some(rest) => (true, rest),
        None => (false, line),
    };
    let (digest, name) = match line.strip_prefix(b"SHA256 (") {
        Some(tagged) => {
            let (front, digest) = tagged.split_at_checked(tagged.len().checked_sub(64)?)?;
            (digest, front.strip_suffix(b") = ")?)
        }
        None => {
            let (digest, rest) = line.split_at_checked(64)?;
            (digest, rest.strip_prefix(b"  ").or_else(|| rest.strip_prefix(b" *"))?)
        }
    };
    Some((parse_digest(digest)?, if escaped { unescape(name)? } else { name.to_vec() }))
}

fn parse_digest(hex: &[u8]) -> Option<Sha256Digest> {
    std::str::from_utf8(hex).ok()?.parse().ok()
}

fn unescape(name: &[u8]) -> Option<Vec<u8>> {
    let mut raw = Vec::with_capacity(name.len());
    let mut rest = name.iter();
    while let Some(&byte) = rest.next() {
        raw.push(match byte {
            b'\\' => match rest.next()? {
                b'\\' => b'\\',
                b'n' => b'\n',
                b'r' => b'\r',
                _ => return None,
            },
            _ => byte,
        });
    }
    Some(raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_sha256sum_names_the_file() {
        let digest = Sha256Digest::of(b"x");
        for line in [
            format!("{digest}  a.tar\n"),
            format!("{digest} *a.tar\r\n"),
            format!("{digest}  ./b/a.tar\n"),
            format!("SHA256 (a.tar) = {digest}\n"),
        ] {
            assert_eq!(digests_for(line.as_bytes(), b"a.tar", false), vec![digest], "{line}");
        }
        assert_eq!(digests_for(format!("\\{digest}  a\\nb\\\\\n").as_bytes(), b"a\nb\\", false), vec![digest]);
        assert_eq!(digests_for(digest.to_string().as_bytes(), b"a.tar", true), vec![digest]);
    }

    #[test]
    fn another_files_checksum_is_not_taken() {
        let digest = Sha256Digest::of(b"x");
        for text in
            [format!("{digest}  xa.tar\n"), format!("{digest} a.tar\n"), "zz  a.tar\n".into(), digest.to_string()]
        {
            assert!(digests_for(text.as_bytes(), b"a.tar", false).is_empty(), "{text}");
        }
    }
}
