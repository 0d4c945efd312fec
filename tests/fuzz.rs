//! Fuzzing of every parser with changed real input: no panic, no endless loop, no memory that the input does not justify.
//!
//! `LIFEBOAT_FUZZ=N` tries N inputs for each target instead of the usual number, `LIFEBOAT_SEED` begins elsewhere; both
//! are printed. An input that breaks a target is kept in the folder that the failure names.

#![allow(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used, reason = "this is test code")]

mod common;

use common::archives::{RawTar, gzip, zstd};
use common::repositories::*;
use lifeboat::formats::borg::compression::{Length, Unpacker};
use lifeboat::formats::borg::envelope::{Mode, Opener};
use lifeboat::formats::borg::item::ItemStream;
use lifeboat::formats::borg::segment::{HEAD, Kind, MAGIC};
use lifeboat::formats::borg::tam::{self, Subject};
use lifeboat::formats::borg::{archive, index, key, manifest, msgpack, segment};
use lifeboat::formats::tarball::Tarball;
use lifeboat::formats::{
    acl, backup_manifest, borg_config, dpkg, elf, fstab, gpt, mbr, os_release, passwd, signature, table,
};
use lifeboat::model::manifest::Manifest;
use lifeboat::restore::journal;
use std::fs;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Inputs for each target where nothing else is said.
const INPUTS: u64 = 4000;
/// Longest input; everything that is parsed whole is short.
const LONGEST: usize = 64 << 10;
/// Longest that one input may take. Parsers need microseconds; this only tells an endless loop.
const PATIENCE: Duration = Duration::from_secs(20);
/// Most content that a small input may unpack to here.
const MOST_PLAIN: usize = 8 << 20;

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

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().map_or(usual, |text| text.parse().unwrap())
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
    fuzz("segment", corpus.entries.clone(), |input| {
        if let Ok(head) = segment::parse(input) {
            let _ = segment::is_sound(input, &head);
        }
    });
    fuzz("index", corpus.indexes.clone(), |input| {
        let mut count = 0u64;
        let _ = index::parse(input, input.len() as u64, |_, _| count += 1);
        assert!(count * 40 <= input.len() as u64);
    });
    fuzz("envelope", corpus.objects.clone(), |input| {
        let Ok(mode) = Mode::of(input) else { return };
        if let Ok(opener) = Opener::new(mode, None) {
            let _ = opener.open(&mut input.to_vec());
        }
    });
    fuzz("compression", corpus.packed.clone(), |input| {
        let mut plain = Vec::new();
        for length in [Length::AtMost(MOST_PLAIN), Length::Exactly(1000)] {
            let unpacked = Unpacker::default().unpack(input, length, &mut plain);
            // One byte more is how a reader learns that there is more.
            assert!(plain.len() <= MOST_PLAIN + usize::from(unpacked.is_err()));
        }
    });
    fuzz("manifest", corpus.manifests.clone(), |input| {
        let _ = manifest::parse(input);
        let _ = tam::check(input, Subject::Manifest, None);
    });
    fuzz("archive", corpus.archives.clone(), |input| drop(archive::parse(input)));
    fuzz("items", corpus.items.clone(), |input| {
        let mut stream = ItemStream::default();
        for piece in input.chunks(input.len() / 3 + 1) {
            stream.push(piece);
            while let Ok(Some(_)) = stream.next_item() {}
        }
        let _ = stream.is_open();
    });
    let packed = [corpus.manifests, corpus.archives, corpus.items].concat();
    fuzz("msgpack", packed, |input| {
        let mut reader = msgpack::Reader::new(input);
        while !reader.is_at_end() && reader.skip().is_ok() {}
        let mut reader = msgpack::Reader::new(input);
        while !reader.is_at_end() && reader.value().is_ok() {}
    });
    fuzz("config", corpus.configs, |input| {
        let _ = borg_config::read(input);
        let _ = borg_config::parse(input);
    });
    // The key that is in the text is never derived: that takes long on purpose, and has a limit of its own.
    fuzz("key", corpus.keys, |input| {
        let _ = key::parse(input);
        let _ = key::parse_file(input);
    });
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
    let read = |input: &[u8]| {
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
    };
    fuzz("tar", vec![plain.clone()], read);
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
    fuzz("backup-manifest", text(json), |input| drop(backup_manifest::parse(input)));
    fuzz("app-manifest", app_manifests(), |input| drop(serde_json::from_slice::<Manifest>(input)));
    fuzz("fstab", text("UUID=a-b / btrfs compress=zstd:1,subvol=@ 0 1\n/dev/x\\040y /mnt ext4 ro\n"), |input| {
        drop(fstab::parse(input));
    });
    let status =
        "Package: a\nStatus: install ok installed\nArchitecture: all\nVersion: 1:2.3-4\nDescription: x\n y\n\n";
    fuzz("dpkg", text(status), |input| drop(dpkg::packages(input)));
    fuzz("passwd", text("root:x:0:0::/root:/bin/sh\nplinth:x:105:107::/:/bin/false\n"), |input| {
        let _ = passwd::Names::parse(input).number(b"plinth");
    });
    fuzz("os-release", text("NAME=\"Debian GNU/Linux\"\nVERSION_ID='13'\nX=$(a)\n"), |input| {
        let _ = os_release::OsRelease::parse(input).get("NAME");
    });
    fuzz("acl", text("user::rwx,user:zoe:r-x:1000,group::r--\nmask::rwx\nother::---\n"), |input| {
        drop(acl::attribute(input, |_, _, id| id.unwrap_or(0)));
    });
    let own = fs::read("/proc/self/exe").unwrap()[..4096].to_vec();
    fuzz("elf", vec![own], |input| assert!(elf::parse(input).is_none_or(|elf| !elf.architecture.is_empty())));
    let journal = {
        let line = |json: &str| format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes()));
        (line(r#"{"made":{"path":"a"}}"#) + &line(r#"{"state":"x"}"#)).into_bytes()
    };
    fuzz("journal", vec![journal], |input| drop(journal::parse(input)));

    let folder = tempfile::tempdir().unwrap();
    let mut disks = Vec::new();
    for (make, script) in [("gpt", "label: gpt\nsize=1MiB\nsize=1MiB\n"), ("dos", "label: dos\nsize=1MiB, type=83\n")] {
        let image = common::disks::blank(&folder.path().join(make), 4);
        if common::disks::lacks(&["sfdisk"]).is_none() {
            common::disks::sfdisk(&image, 512, script);
        }
        disks.push(fs::read(&image).unwrap()[..64 << 10].to_vec());
    }
    fuzz("partitions", disks, |input| {
        let _ = table::read(&input, None, "disk");
        let _ = gpt::read(&input, Some(512), "disk");
        let _ = mbr::read(&input, Some(4096), "disk");
    });
    let mut volumes = vec![vec![0; 8192]];
    for line in ["mke2fs -q -t ext4", "mkfs.vfat", "mkfs.ntfs -q -F -f"] {
        let program = line.split(' ').next().unwrap();
        if common::disks::lacks(&[program]).is_none() {
            let image = common::disks::blank(&folder.path().join(program), 16);
            common::disks::sh(&format!("{line} {} >/dev/null 2>&1", image.display()));
            volumes.push(fs::read(&image).unwrap()[..64 << 10].to_vec());
        }
    }
    fuzz("signatures", volumes, |input| drop(signature::read(&input)));
}
