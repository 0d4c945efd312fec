//! Fuzzing of every parser with changed real input: no panic, no endless loop, no memory that the input does not justify.
//!
//! `LIFEBOAT_FUZZ=N` tries N inputs for each target instead of the usual number, `LIFEBOAT_SEED` begins elsewhere; both
//! are printed. An input that breaks a target is kept in the folder that the failure names. `LIFEBOAT_CORPUS=DIR` writes the
//! originals there, one folder for each target, for the libFuzzer programs in `tests/fuzzing/`.

#![allow(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used, reason = "this is test code")]

mod common;
#[path = "fuzzing/targets.rs"]
mod targets;

use common::archives::{RawTar, gzip, zstd};
use common::cases::number;
use common::repositories::*;
use lifeboat::formats::borg::compression::{Length, Unpacker};
use lifeboat::formats::borg::envelope::{Mode, Opener};
use lifeboat::formats::borg::item::ItemStream;
use lifeboat::formats::borg::segment::{HEAD, Kind, MAGIC};
use lifeboat::formats::borg::{archive, segment};
use lifeboat::formats::borg_config;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use targets::MOST_PLAIN;

/// Inputs for each target where nothing else is said.
const INPUTS: u64 = 4000;
/// Longest input; everything that is parsed whole is short.
const LONGEST: usize = 64 << 10;
/// Longest that one input may take. Parsers need microseconds; this only tells an endless loop.
const PATIENCE: Duration = Duration::from_secs(20);
/// Numbers that look random and are the same for the same seed (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// One to four changes of a seed.
fn change(seeds: &[Vec<u8>], numbers: &mut Numbers) -> Vec<u8> {
    let mut input = seeds[numbers.below(seeds.len())].clone();
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(input.len() + 1);
        match numbers.below(9) {
            0 | 1 if at < input.len() => input[at] ^= 1 << numbers.below(8),
            2 if at < input.len() => input[at] = [0, 1, 0x7f, 0x80, 0xc1, 0xdf, 0xff][numbers.below(7)],
            3 => input.truncate(at),
            4 => {
                let value = [0u64, 1, u64::MAX, 1 << 31, (1 << 32) - 1, 1 << 63, 20 << 20][numbers.below(7)];
                let bytes = if numbers.below(2) == 0 { value.to_le_bytes() } else { value.to_be_bytes() };
                let length = [1, 2, 4, 8][numbers.below(4)];
                let end = (at + length).min(input.len());
                input.splice(at..end, bytes[..length].iter().copied());
            }
            5 => {
                let end = at + numbers.below(input.len() - at + 1).min(4096);
                let part = input[at..end].to_vec();
                input.splice(at..at, part);
            }
            6 => {
                let end = at + numbers.below(input.len() - at + 1);
                input.drain(at..end);
            }
            7 => {
                let other = &seeds[numbers.below(seeds.len())];
                let from = numbers.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            _ => input.insert(at, numbers.next() as u8),
        }
        input.truncate(LONGEST);
    }
    input
}

/// Tries a parser of `targets.rs`.
fn parse(name: &str, seeds: Vec<Vec<u8>>) {
    if let Some(folder) = std::env::var_os("LIFEBOAT_CORPUS") {
        let folder = Path::new(&folder).join(name);
        fs::create_dir_all(&folder).unwrap();
        for (nth, seed) in seeds.iter().enumerate() {
            // No longer than what is tried: libFuzzer would cut it as well.
            fs::write(folder.join(format!("original-{nth}")), &seed[..seed.len().min(LONGEST)]).unwrap();
        }
    }
    fuzz(name, seeds, targets::named(name));
}

/// Tries a target; where an input breaks it, keeps the input.
fn fuzz(name: &str, mut seeds: Vec<Vec<u8>>, target: impl Fn(&[u8])) {
    seeds.iter_mut().for_each(|seed| seed.truncate(LONGEST));
    assert!(seeds.iter().any(|seed| !seed.is_empty()), "{name} has no seed");
    let (inputs, first) = (number("LIFEBOAT_FUZZ", INPUTS), number("LIFEBOAT_SEED", 1));
    let mut numbers = Numbers(first);
    let changed = std::iter::repeat_with(|| change(&seeds, &mut numbers)).take(inputs as usize);
    for input in seeds.clone().into_iter().chain(changed) {
        let start = Instant::now();
        let ended = catch_unwind(AssertUnwindSafe(|| target(&input)));
        if ended.is_err() || start.elapsed() > PATIENCE {
            let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
            let file = folder.join(format!("fuzz-{name}"));
            fs::write(&file, &input).unwrap();
            panic!("{name}: an input of {} bytes breaks it, see {}", input.len(), file.display());
        }
    }
    println!("{name}: {inputs} inputs from seed {first}, {} originals", seeds.len());
}

/// What real borg wrote: whole segment files, and objects by what is in them.
#[derive(Default)]
struct Corpus {
    segments: Vec<Vec<u8>>,
    entries: Vec<Vec<u8>>,
    objects: Vec<Vec<u8>>,
    packed: Vec<Vec<u8>>,
    manifests: Vec<Vec<u8>>,
    archives: Vec<Vec<u8>>,
    items: Vec<Vec<u8>>,
    configs: Vec<Vec<u8>>,
    keys: Vec<Vec<u8>>,
    indexes: Vec<Vec<u8>>,
}

impl Corpus {
    fn make() -> Option<Corpus> {
        let borg = borgs().into_iter().last()?;
        let tree = tempfile::tempdir().unwrap();
        rich_tree(tree.path());
        let mut corpus = Corpus::default();
        for (mode, compression) in [("none", "none"), ("none", "zlib,6"), ("none", "lzma,0"), ("repokey-blake2", "lz4")]
        {
            let repository = Repository::new(&borg, mode, "pass");
            repository.create("first", compression, tree.path());
            corpus.take(&repository, mode == "none");
        }
        Some(corpus)
    }

    fn take(&mut self, repository: &Repository, is_plain: bool) {
        let config = fs::read(repository.path().join("config")).unwrap();
        if let Some(key) = borg_config::read(&config).unwrap().key {
            self.keys.push(key.as_bytes().to_vec());
        }
        self.configs.push(config);
        for file in fs::read_dir(repository.path()).unwrap().map(|entry| entry.unwrap().path()) {
            if file.file_name().unwrap().to_string_lossy().starts_with("index.") {
                self.indexes.push(fs::read(file).unwrap());
            }
        }
        for path in repository.segments() {
            let raw = fs::read(path).unwrap();
            let mut at = MAGIC.len();
            while let Ok(head) = segment::parse(&raw[at.min(raw.len())..]) {
                let entry = raw[at..at + head.size as usize].to_vec();
                at += entry.len();
                if let Kind::Put(id) = head.kind {
                    self.objects.push(entry[HEAD..].to_vec());
                    if is_plain {
                        self.sort(&id, &entry[HEAD..]);
                    }
                }
                self.entries.push(entry);
            }
            self.segments.push(raw);
        }
    }

    /// Puts the content of an object that is not encrypted where it belongs.
    fn sort(&mut self, id: &[u8; 32], object: &[u8]) {
        let opener = Opener::new(Mode::of(object).unwrap(), None).unwrap();
        let mut object = object.to_vec();
        let packed = opener.open(&mut object).unwrap();
        self.packed.push(packed.to_vec());
        let mut plain = Vec::new();
        Unpacker::default().unpack(packed, Length::AtMost(MOST_PLAIN), &mut plain).unwrap();
        if *id == [0; 32] {
            self.manifests.push(plain);
        } else if archive::parse(&plain).is_ok() {
            self.archives.push(plain);
        } else {
            let mut stream = ItemStream::default();
            stream.push(&plain);
            if matches!(stream.next_item(), Ok(Some(_))) {
                self.items.push(plain);
            }
        }
    }
}

#[test]
fn what_borg_writes_may_be_changed_in_any_way() {
    let Some(corpus) = Corpus::make() else { return };
    parse("segment", corpus.entries);
    parse("index", corpus.indexes);
    parse("envelope", corpus.objects);
    parse("compression", corpus.packed);
    parse("manifest", corpus.manifests.clone());
    parse("archive", corpus.archives.clone());
    parse("items", corpus.items.clone());
    parse("msgpack", [corpus.manifests, corpus.archives, corpus.items].concat());
    parse("config", corpus.configs);
    parse("key", corpus.keys);
}

/// The descriptions of apps, as real ones.
fn app_manifests() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|end| end == "json")).map(|path| fs::read(path).unwrap()).collect()
}

#[test]
fn tar_archives_may_be_changed_in_any_way() {
    let manifest =
        r#"{"apps": [{"name": "wiki", "version": 3, "backup": {"data": {"directories": ["/var/lib/wiki/"]}}}]}"#;
    let plain = RawTar::new()
        .dir("var/lib/wiki")
        .file("var/lib/wiki/page", b"text")
        .symlink("var/lib/wiki/link", "page")
        .hardlink("var/lib/wiki/again", "var/lib/wiki/page")
        .pax(&[("path", b"var/lib/wiki/long"), ("mtime", b"1.5"), ("SCHILY.xattr.user.a", b"b")])
        .file("short", b"x")
        .manifest(manifest)
        .end();
    parse("tar", vec![plain.clone()]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backup");
    fuzz("packed-tar", vec![gzip(&plain), zstd(&plain, true), plain], |input| {
        fs::write(&file, input).unwrap();
        if let Ok(mut archive) = lifeboat::source::open(&file) {
            let _ = archive.summary();
        }
    });
}

#[test]
fn files_of_installed_systems_and_disks_may_be_changed_in_any_way() {
    let text = |text: &str| vec![text.as_bytes().to_vec()];
    let json = r#"{"apps": [{"name": "calibre", "version": 3, "backup": {"data": {"directories": ["/var/lib/x/"],
        "files": ["/etc/y"]}, "services": ["a", {"type": "apache", "kind": "site", "name": "b"}], "settings": ["k"]}}]}"#;
    parse("backup-manifest", text(json));
    parse("app-manifest", app_manifests());
    parse("fstab", text("UUID=a-b / btrfs compress=zstd:1,subvol=@ 0 1\n/dev/x\\040y /mnt ext4 ro\n"));
    let status =
        "Package: a\nStatus: install ok installed\nArchitecture: all\nVersion: 1:2.3-4\nDescription: x\n y\n\n";
    parse("dpkg", text(status));
    parse("passwd", text("root:x:0:0::/root:/bin/sh\nplinth:x:105:107::/:/bin/false\n"));
    parse("os-release", text("NAME=\"Debian GNU/Linux\"\nVERSION_ID='13'\nX=$(a)\n"));
    parse("acl", text("user::rwx,user:zoe:r-x:1000,group::r--\nmask::rwx\nother::---\n"));
    parse("elf", vec![fs::read("/proc/self/exe").unwrap()[..4096].to_vec()]);
    let journal = {
        let line = |json: &str| format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes()));
        (line(r#"{"made":{"path":"a"}}"#) + &line(r#"{"state":"x"}"#)).into_bytes()
    };
    parse("journal", vec![journal]);
    let map = "# Mapfile. Created by GNU ddrescue version 1.27\n0x00000000     ?               1\n\
        0x00000000  0x00001000  +\n0x00001000  0x00000200  -\n0x00001200  0x3FFFEE00  ?\n";
    parse("mapfile", text(map));

    let folder = tempfile::tempdir().unwrap();
    let mut disks = Vec::new();
    for (make, script) in [("gpt", "label: gpt\nsize=1MiB\nsize=1MiB\n"), ("dos", "label: dos\nsize=1MiB, type=83\n")] {
        let image = common::disks::blank(&folder.path().join(make), 4);
        if common::disks::lacks(&["sfdisk"]).is_none() {
            common::disks::sfdisk(&image, 512, script);
        }
        disks.push(fs::read(&image).unwrap()[..64 << 10].to_vec());
    }
    parse("partitions", disks);
    let mut volumes = vec![vec![0; 8192]];
    for line in ["mke2fs -q -t ext4", "mkfs.vfat", "mkfs.ntfs -q -F -f"] {
        let program = line.split(' ').next().unwrap();
        if common::disks::lacks(&[program]).is_none() {
            let image = common::disks::blank(&folder.path().join(program), 16);
            common::disks::sh(&format!("{line} {} >/dev/null 2>&1", image.display()));
            volumes.push(fs::read(&image).unwrap()[..64 << 10].to_vec());
        }
    }
    parse("signatures", volumes);
    if common::disks::lacks(&["mke2fs", "debugfs"]).is_none() {
        let image = common::disks::blank(&folder.path().join("small"), 0);
        let line = "mke2fs -q -t ext4 -O ^has_journal -b 1024 -N 16";
        common::disks::sh(&format!(
            "{line} {0} 60; debugfs -w -R 'write /etc/passwd some' {0} 2>/dev/null",
            image.display()
        ));
        parse("ext4", vec![fs::read(&image).unwrap()]);
    }
}
