//! Borg repositories made byte by byte: what no borg of today writes any more, and what only somebody hostile writes.
#![allow(clippy::unwrap_used, dead_code, missing_docs, unreachable_pub, reason = "every test file takes what it needs")]

use sha2::{Digest, Sha256};
use std::path::Path;

pub type Id = [u8; 32];

/// Bytes as borg 1.x packs them: the short form of "raw" where it fits.
pub fn raw(bytes: &[u8]) -> Vec<u8> {
    let head = match bytes.len() {
        length @ 0..32 => vec![0xa0 | length as u8],
        length if length < 1 << 16 => [&[0xda][..], &(length as u16).to_be_bytes()].concat(),
        length => [&[0xdb][..], &(length as u32).to_be_bytes()].concat(),
    };
    [head, bytes.to_vec()].concat()
}

pub fn int(value: u64) -> Vec<u8> {
    [&[0xcf][..], &value.to_be_bytes()].concat()
}

pub fn list(values: &[Vec<u8>]) -> Vec<u8> {
    [&[0xdd][..], &(values.len() as u32).to_be_bytes(), &values.concat()].concat()
}

pub fn map(pairs: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let pairs = pairs.iter().map(|(key, value)| [raw(key.as_bytes()), value.clone()].concat());
    let pairs: Vec<Vec<u8>> = pairs.collect();
    [&[0xdf][..], &(pairs.len() as u32).to_be_bytes(), &pairs.concat()].concat()
}

/// One piece of a file: id, plain length, stored length.
pub fn chunk(id: &Id, size: u64) -> Vec<u8> {
    list(&[raw(id), int(size), int(0)])
}

/// A file, with more said of it.
pub fn file(path: &str, chunks: &[Vec<u8>], more: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut pairs = vec![("path", raw(path.as_bytes())), ("mode", int(0o100_644)), ("chunks", list(chunks))];
    pairs.extend([("uid", int(0)), ("gid", int(0)), ("mtime", int(1_600_000_000_000_000_000))]);
    pairs.extend(more.iter().cloned());
    map(&pairs)
}

/// An unencrypted repository in one segment.
pub struct Crafted {
    segment: Vec<u8>,
    archives: Vec<(String, Id)>,
}

impl Crafted {
    pub fn new() -> Crafted {
        Crafted { segment: b"BORG_SEG".to_vec(), archives: Vec::new() }
    }

    /// An entry with an object as it is.
    pub fn put_raw(&mut self, id: &Id, object: &[u8]) {
        let size = (41 + object.len()) as u32;
        let rest = [&size.to_le_bytes()[..], &[0], id, object].concat();
        self.segment.extend(crc32fast::hash(&rest).to_le_bytes());
        self.segment.extend(rest);
    }

    /// An object with this content, compressed with lz4.
    pub fn put(&mut self, plain: &[u8]) -> Id {
        let id: Id = Sha256::digest(plain).into();
        self.put_raw(&id, &[&[2, 1, 0][..], &lz4_flex::block::compress(plain)].concat());
        id
    }

    pub fn archive(&mut self, name: &str, items: &[Id]) {
        let items: Vec<Vec<u8>> = items.iter().map(|id| raw(id)).collect();
        let id = self.put(&description(name, &list(&items)));
        self.archives.push((name.to_owned(), id));
    }

    /// Lists an archive without its description.
    pub fn list(&mut self, name: &str, id: Id) {
        self.archives.push((name.to_owned(), id));
    }

    /// Writes the repository, with the commit at the end of the segment that has the data, as borg 1.0 did.
    pub fn write(mut self, folder: &Path) {
        let pair = |(name, id): &(String, Id)| {
            [raw(name.as_bytes()), map(&[("id", raw(id)), ("time", raw(b"2016-05-01T10:00:00.000000"))])].concat()
        };
        let pairs: Vec<Vec<u8>> = self.archives.iter().map(pair).collect();
        let archives = [&[0xdf][..], &(pairs.len() as u32).to_be_bytes(), &pairs.concat()].concat();
        let manifest = map(&[("version", int(1)), ("archives", archives), ("config", map(&[]))]);
        self.put_raw(&[0; 32], &[&[2, 1, 0][..], &lz4_flex::block::compress(&manifest)].concat());
        self.segment.extend([0x40, 0xf4, 0x3c, 0x25, 9, 0, 0, 0, 2]);
        super::repositories::write(&folder.join("data/0/0"), &self.segment);
        let id = "0f".repeat(32);
        let config = format!("[repository]\nversion = 1\nsegments_per_dir = 10000\nid = {id}\n");
        super::repositories::write(&folder.join("config"), config.as_bytes());
    }
}

pub fn description(name: &str, items: &[u8]) -> Vec<u8> {
    let mut pairs = vec![("version", int(1)), ("name", raw(name.as_bytes())), ("items", items.to_vec())];
    pairs.extend([("cmdline", list(&[])), ("hostname", raw(b"box")), ("username", raw(b"root"))]);
    pairs.extend([("time", raw(b"2016-05-01T10:00:00.000000")), ("time_end", raw(b"2016-05-01T10:00:01.000000"))]);
    map(&pairs)
}
