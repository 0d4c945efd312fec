//! PAX extended header records.
//!
//! A record is `<length> <key>=<value>\n`, where the length counts the whole record, so a value may hold newlines.

use super::field::decimal;
use super::sparse::{Segment, parse_list, push};
use crate::formats::acl;
use crate::model::bytes;
use crate::model::entry::Mtime;
use std::collections::BTreeSet;

/// Most unknown keys that are remembered for the note about them.
const MOST_UNKNOWN: usize = 16;
/// Keys without meaning for a restore.
const HARMLESS: [&[u8]; 7] =
    [b"atime", b"ctime", b"comment", b"hdrcharset", b"charset", b"SCHILY.dev", b"RHT.security.selinux"];

/// What the records of one header say; an absent value leaves the ustar header's.
#[derive(Debug, Default, Clone)]
pub(super) struct Extended {
    pub(super) path: Option<Vec<u8>>,
    pub(super) linkpath: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) uname: Option<Vec<u8>>,
    pub(super) gname: Option<Vec<u8>>,
    pub(super) mtime: Option<Mtime>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) acl_access: Option<Vec<u8>>,
    pub(super) acl_default: Option<Vec<u8>>,
    pub(super) sparse: SparseRecords,
    binary_acl_access: Option<Vec<u8>>,
    binary_acl_default: Option<Vec<u8>>,
    /// Keys that are not known here, as text.
    pub(super) unknown: BTreeSet<String>,
}

/// The `GNU.sparse.*` records of formats 0.0, 0.1 and 1.0.
#[derive(Debug, Default, Clone)]
pub(super) struct SparseRecords {
    pub(super) name: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) major: Option<u64>,
    pub(super) minor: Option<u64>,
    pub(super) blocks: Option<u64>,
    pub(super) map: Option<Vec<Segment>>,
    offset: Option<u64>,
}

impl SparseRecords {
    /// Whether there is any.
    pub(super) fn is_some(&self) -> bool {
        self.name.is_some()
            || self.size.is_some()
            || self.major.is_some()
            || self.blocks.is_some()
            || self.map.is_some()
    }
}

impl Extended {
    /// Reads the records of one `x` header.
    pub(super) fn parse(raw: &[u8]) -> Result<Self, String> {
        let mut extended = Self::default();
        for record in Records(raw) {
            let (key, value) = record?;
            extended.take(key, value).map_err(|what| format!("the PAX record '{}' {what}", bytes::escape(key)))?;
        }
        if extended.sparse.offset.is_some() {
            return Err("a sparse file's map ends in the middle of a pair".into());
        }
        // The text form has names, so it is the better one where both are there.
        let (access, default) = (extended.binary_acl_access.take(), extended.binary_acl_default.take());
        extended.acl_access = extended.acl_access.or(access);
        extended.acl_default = extended.acl_default.or(default);
        Ok(extended)
    }

    /// Adds the records of a `g` header to what earlier ones said. What would name or measure every member is refused:
    /// nothing that writes backups does that.
    pub(super) fn merge_global(&mut self, raw: &[u8]) -> Result<(), String> {
        let new = Self::parse(raw)?;
        let about_one = new.path.is_some()
            || new.linkpath.is_some()
            || new.size.is_some()
            || new.sparse.is_some()
            || !new.xattrs.is_empty()
            || new.acl_access.is_some()
            || new.acl_default.is_some();
        if about_one {
            return Err("a global PAX header names or measures all following members".into());
        }
        self.uid = new.uid.or(self.uid);
        self.gid = new.gid.or(self.gid);
        self.mtime = new.mtime.or(self.mtime);
        self.uname = new.uname.or_else(|| self.uname.take());
        self.gname = new.gname.or_else(|| self.gname.take());
        self.unknown.extend(new.unknown);
        Ok(())
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        match key {
            b"path" => text(&mut self.path, value),
            b"linkpath" => text(&mut self.linkpath, value),
            b"size" => count(&mut self.size, value),
            b"uid" => count(&mut self.uid, value),
            b"gid" => count(&mut self.gid, value),
            b"uname" => text(&mut self.uname, value),
            b"gname" => text(&mut self.gname, value),
            b"mtime" => once(&mut self.mtime, time(value).ok_or("is not a time")?),
            b"SCHILY.acl.access" => text(&mut self.acl_access, value),
            b"SCHILY.acl.default" => text(&mut self.acl_default, value),
            b"GNU.sparse.name" => text(&mut self.sparse.name, value),
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => count(&mut self.sparse.size, value),
            b"GNU.sparse.major" => count(&mut self.sparse.major, value),
            b"GNU.sparse.minor" => count(&mut self.sparse.minor, value),
            b"GNU.sparse.numblocks" => count(&mut self.sparse.blocks, value),
            b"GNU.sparse.map" => once(&mut self.sparse.map, parse_list(value)?),
            b"GNU.sparse.offset" => once(&mut self.sparse.offset, decimal(value).ok_or("is not a number")?),
            b"GNU.sparse.numbytes" => {
                let offset = self.sparse.offset.take().ok_or("comes without its offset")?;
                push(self.sparse.map.get_or_insert_default(), offset, decimal(value).ok_or("is not a number")?)
            }
            b"SCHILY.realsize" | b"SUN.holesdata" => Err("marks a sparse file in a form that is not supported"),
            _ => match key.strip_prefix(b"SCHILY.xattr.") {
                Some(name) => self.take_xattr(&decode_name(name), value),
                None => {
                    if !HARMLESS.contains(&key) && self.unknown.len() < MOST_UNKNOWN {
                        self.unknown.insert(bytes::escape(key));
                    }
                    Ok(())
                }
            },
        }
    }

    fn take_xattr(&mut self, name: &[u8], value: &[u8]) -> Result<(), &'static str> {
        if name.is_empty() || name.contains(&0) {
            return Err("has no usable name");
        }
        let binary = match name {
            b"system.posix_acl_access" => Some(&mut self.binary_acl_access),
            b"system.posix_acl_default" => Some(&mut self.binary_acl_default),
            _ => None,
        };
        if let Some(slot) = binary {
            return once(slot, acl::text(value, |_, _| None).ok_or("is not an access control list")?);
        }
        if self.xattrs.iter().any(|(known, _)| known == name) {
            return Err("comes twice");
        }
        self.xattrs.push((name.to_vec(), value.to_vec()));
        Ok(())
    }
}

/// GNU tar writes `=` and `%` in an attribute's name as `%3D` and `%25`.
fn decode_name(name: &[u8]) -> Vec<u8> {
    let mut raw = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&first, tail)) = rest.split_first() {
        let (byte, after) = match rest.get(..3) {
            Some(b"%3D") => (b'=', rest.get(3..)),
            Some(b"%25") => (b'%', rest.get(3..)),
            _ => (first, Some(tail)),
        };
        raw.push(byte);
        rest = after.unwrap_or_default();
    }
    raw
}

fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), &'static str> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err("comes twice"),
    }
}

/// An empty value takes back the value of an earlier header (POSIX); the ustar header's holds then.
fn text(slot: &mut Option<Vec<u8>>, value: &[u8]) -> Result<(), &'static str> {
    if value.contains(&0) {
        return Err("contains a NUL byte");
    }
    if value.is_empty() { Ok(()) } else { once(slot, value.to_vec()) }
}

fn count(slot: &mut Option<u64>, value: &[u8]) -> Result<(), &'static str> {
    if value.is_empty() { Ok(()) } else { once(slot, decimal(value).ok_or("is not a number")?) }
}

/// Seconds since 1970 with an optional fraction; more digits than nanoseconds are cut, towards the past.
fn time(value: &[u8]) -> Option<Mtime> {
    let (negative, value) = match value.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let mut parts = value.splitn(2, |&b| b == b'.');
    let whole = i64::try_from(decimal(parts.next()?)?).ok()?;
    let fraction = parts.next().unwrap_or(b"0");
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = fraction.iter().chain(std::iter::repeat(&b'0')).take(9);
    let nanos = digits.fold(0, |value, digit| value * 10 + u32::from(digit - b'0'));
    match (negative, nanos) {
        (false, _) => Some(Mtime { secs: whole, nanos }),
        (true, 0) => Some(Mtime { secs: -whole, nanos }),
        (true, _) => Some(Mtime { secs: (-whole).checked_sub(1)?, nanos: 1_000_000_000 - nanos }),
    }
}

/// Walks over records.
struct Records<'a>(&'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let record = split_record(self.0);
        self.0 = record.map_or(&[], |(_, _, rest)| rest);
        Some(record.map(|(key, value, _)| (key, value)).ok_or_else(|| "a PAX header holds a broken record".to_owned()))
    }
}

/// The key and value of the first record, and the rest.
fn split_record(raw: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = raw.iter().take(20).position(|&b| b == b' ')?;
    let (digits, _) = raw.split_at_checked(space)?;
    let (record, rest) = raw.split_at_checked(usize::try_from(decimal(digits)?).ok()?)?;
    let body = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|&b| b == b'=')?;
    let (key, value) = body.split_at_checked(equals)?;
    if key.is_empty() { None } else { Some((key, value.get(1..)?, rest)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_value_may_hold_newlines_and_equals_signs() {
        let extended = Extended::parse(b"30 SCHILY.xattr.user.a=b\nc=d\n\n12 path=a/b\n").unwrap();
        assert_eq!(extended.xattrs, vec![(b"user.a".to_vec(), b"b\nc=d\n".to_vec())]);
        assert_eq!(extended.path.as_deref(), Some(&b"a/b"[..]));
    }

    #[test]
    fn broken_doubled_or_cut_records_are_errors() {
        for bad in [
            &b"12 path=a/b"[..],
            b"13 path=a/b\n",
            b"11 path=a/b\n",
            b"12 pathxa/b\n",
            b"8 =a/b1\n",
            b"0 path=a\n",
            b"99999999999999999999 path=a\n",
            b"path=a\n",
            b"12 path=a/b\n12 path=a/c\n",
            b"10 size=-1\n",
            b"12 path=a\0b\n",
            b"12 path=a/b\n\0\0\0",
            b"24 GNU.sparse.offset=12\n",
        ] {
            assert!(Extended::parse(bad).is_err(), "{}", bytes::escape(bad));
        }
    }

    #[test]
    fn times_before_1970_keep_their_fraction() {
        assert_eq!(time(b"-1.5"), Some(Mtime { secs: -2, nanos: 500_000_000 }));
        assert_eq!(time(b"12.0000000019"), Some(Mtime { secs: 12, nanos: 1 }));
        assert_eq!(time(b"12"), Some(Mtime { secs: 12, nanos: 0 }));
        for bad in [&b""[..], b".5", b"1.x", b"1e5", b"--1"] {
            assert_eq!(time(bad), None);
        }
    }

    #[test]
    fn gnu_tar_encodes_equals_signs_in_attribute_names() {
        assert_eq!(decode_name(b"user.a%3Db%25c%41"), b"user.a=b%c%41");
    }

    proptest! {
        #[test]
        fn any_bytes_give_records_or_an_error(raw in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Extended::parse(&raw);
        }
    }
}
