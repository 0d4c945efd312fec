//! What is tried with changed input: one function for each parser. Nothing may panic, loop or take memory that the input
//! does not justify; what a parser says of the input does not matter here.
//!
//! Used by `tests/fuzz.rs` (changed originals, in every test run) and by the libFuzzer programs beside this file.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, dead_code, reason = "this is test code")]

use lifeboat::formats::borg::compression::{Length, Unpacker};
use lifeboat::formats::borg::envelope::{Mode, Opener};
use lifeboat::formats::borg::item::ItemStream;
use lifeboat::formats::borg::tam::{self, Subject};
use lifeboat::formats::borg::{archive, index, key, manifest, msgpack, segment};
use lifeboat::formats::ext4::content::Content;
use lifeboat::formats::ext4::filesystem::Filesystem;
use lifeboat::formats::ext4::tree::Found;
use lifeboat::formats::tarball::Tarball;
use lifeboat::formats::{
    acl, backup_manifest, borg_config, dpkg, elf, fstab, gpt, mapfile, mbr, os_release, passwd, signature, table,
};
use lifeboat::model::manifest::Manifest;
use lifeboat::restore::journal;
use std::io::Read;

/// Most content that a small input may unpack to here.
pub const MOST_PLAIN: usize = 8 << 20;

/// A parser with a name.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 24] = [
    ("segment", segment),
    ("index", index),
    ("envelope", envelope),
    ("compression", compression),
    ("manifest", manifest),
    ("archive", |input| drop(archive::parse(input))),
    ("items", items),
    ("msgpack", msgpack),
    ("config", config),
    ("key", key),
    ("tar", tar),
    ("backup-manifest", |input| drop(backup_manifest::parse(input))),
    ("app-manifest", |input| drop(serde_json::from_slice::<Manifest>(input))),
    ("fstab", |input| drop(fstab::parse(input))),
    ("dpkg", |input| drop(dpkg::packages(input))),
    ("passwd", |input| _ = passwd::Names::parse(input).number(b"plinth")),
    ("os-release", |input| _ = os_release::OsRelease::parse(input).get("NAME")),
    ("acl", |input| drop(acl::attribute(input, |_, _, id| id.unwrap_or(0)))),
    ("elf", |input| {
        assert!(elf::parse(input).is_none_or(|elf| !elf.architecture.is_empty()));
        assert!(elf::needs(input).is_none_or(|needs| needs.libraries.iter().all(|name| !name.is_empty())));
    }),
    ("journal", journal),
    ("partitions", partitions),
    ("signatures", |input| drop(signature::read(&input))),
    ("ext4", ext4),
    ("mapfile", |input| drop(mapfile::Map::parse(input, 1 << 30))),
];

/// The target of that name.
pub fn named(name: &str) -> fn(&[u8]) {
    TARGETS.iter().find(|(other, _)| *other == name).unwrap_or_else(|| panic!("no target {name}")).1
}

/// As one copy, and as two that follow each other.
fn journal(input: &[u8]) {
    let _ = journal::parse(input);
    let (one, other) = input.split_at(input.len() / 2);
    if let Ok((records, text)) = journal::merge([one, other]) {
        assert!(!records.is_empty() && text.len() <= one.len().max(other.len()));
    }
}

fn segment(input: &[u8]) {
    if let Ok(head) = segment::parse(input) {
        let _ = segment::is_sound(input, &head);
    }
}

fn index(input: &[u8]) {
    let mut count = 0u64;
    let _ = index::parse(input, input.len() as u64, |_, _| count += 1);
    assert!(count * 40 <= input.len() as u64);
}

fn envelope(input: &[u8]) {
    let Ok(mode) = Mode::of(input) else { return };
    if let Ok(opener) = Opener::new(mode, None) {
        let _ = opener.open(&mut input.to_vec());
    }
}

fn compression(input: &[u8]) {
    let mut plain = Vec::new();
    for length in [Length::AtMost(MOST_PLAIN), Length::Exactly(1000)] {
        let unpacked = Unpacker::default().unpack(input, length, &mut plain);
        // One byte more is how a reader learns that there is more.
        assert!(plain.len() <= MOST_PLAIN + usize::from(unpacked.is_err()));
    }
}

fn manifest(input: &[u8]) {
    let _ = manifest::parse(input);
    let _ = tam::check(input, Subject::Manifest, None);
}

fn items(input: &[u8]) {
    let mut stream = ItemStream::default();
    for piece in input.chunks(input.len() / 3 + 1) {
        stream.push(piece);
        while let Ok(Some(_)) = stream.next_item() {}
    }
    let _ = stream.is_open();
}

fn msgpack(input: &[u8]) {
    let mut reader = msgpack::Reader::new(input);
    while !reader.is_at_end() && reader.skip().is_ok() {}
    let mut reader = msgpack::Reader::new(input);
    while !reader.is_at_end() && reader.value().is_ok() {}
}

fn config(input: &[u8]) {
    let _ = borg_config::read(input);
    let _ = borg_config::parse(input);
}

/// The key that is in the text is never derived: that takes long on purpose, and has a limit of its own.
fn key(input: &[u8]) {
    let _ = key::parse(input);
    let _ = key::parse_file(input);
}

fn tar(input: &[u8]) {
    let mut tarball = Tarball::new(input);
    let mut total = 0;
    while let Ok(Some(_)) = tarball.next_entry() {
        // A hole is long and costs nothing; nobody reads all of it here.
        total += std::io::copy(&mut (&mut tarball).take(1 << 20), &mut std::io::sink()).unwrap_or(0);
        if total > 64 << 20 {
            return;
        }
    }
    let _ = (tarball.marker(), tarball.findings());
}

fn partitions(input: &[u8]) {
    let _ = table::read(&input, None, "disk");
    let _ = gpt::read(&input, Some(512), "disk");
    let _ = mbr::read(&input, Some(4096), "disk");
}

/// A whole walk, with what each inode says of itself; content only as far as a small volume can have it.
fn ext4(input: &[u8]) {
    let volume: &dyn lifeboat::formats::ReadAt = &input;
    let Ok(filesystem) = Filesystem::open(volume) else { return };
    let mut seen = 0;
    filesystem.walk(&mut |found| {
        let Found::Entry { inode, .. } = found else { return };
        seen += 1;
        if seen < 200 {
            let _ = filesystem.attributes(inode);
            let _ = filesystem.target(inode);
            if let Ok(mut content) = Content::open(&filesystem, inode) {
                let _ = content.read_all(1 << 16);
            }
        }
    });
}
