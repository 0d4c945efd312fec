//! Repositories beyond the ordinary: of old borgs, on failing media, of somebody hostile; and all backups of one at once.

#![allow(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used, reason = "this is test code")]

mod common;

use common::archives::collect;
use common::crafted::*;
use common::disks::{Kernel, blank, cannot_mount, run};
use common::failing::{BLOCK, FailingDisk, cannot_fail};
use common::repositories::*;
use common::rescue::{LIFEBOAT, lifeboat};
use common::slow::SlowFolder;
use lifeboat::model::entry::EntryKind;
use lifeboat::model::finding::Severity;
use lifeboat::source::{self, NoPassphrase};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::Duration;

#[test]
fn an_archive_in_the_form_of_borg_1_0_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("repository");
    let mut crafted = Crafted::new();
    let (one, two) = (crafted.put(b"first piece, "), crafted.put(b"second piece"));
    let pieces = [chunk(&one, 13), chunk(&two, 12)];
    // Version 1.0 said neither how long a file is nor which of several names is the first one, and times beyond 63 bits
    // were bytes.
    let later = (1i128 << 64).to_le_bytes()[..10].to_vec();
    let link = map(&[
        ("path", raw(b"again")),
        ("mode", int(0o100_600)),
        ("source", raw(b"caf\xe9")),
        ("uid", int(33)),
        ("gid", int(33)),
        ("user", raw(b"www-data")),
        ("group", vec![0xc0]),
        ("mtime", raw(&later)),
    ]);
    let mut named = file("x", &pieces, &[("atime", raw(&later)), ("unknown", list(&[map(&[("a", int(1))])]))]);
    let at = named.windows(2).position(|pair| pair == b"\xa1x").unwrap();
    named.splice(at..at + 2, raw(b"caf\xe9"));
    let part = file("x.borg_part_1", &pieces[..1], &[("part", int(1))]);
    let stream = [named, link, part, file("empty", &[], &[])].concat();
    let (left, right) = stream.split_at(stream.len() / 3);
    let items = [crafted.put(left), crafted.put(right)];
    crafted.archive("old", &items);
    crafted.write(&path);

    let listing = source::list(&path, &mut NoPassphrase).unwrap();
    assert_eq!(listing.archives[0].time.as_deref(), Some("2016-05-01T10:00:00Z"));
    let mut archive = source::open_location(&path, None, &mut NoPassphrase).unwrap();
    let (entries, ending) = collect(archive.as_mut()).unwrap();
    let names: Vec<&[u8]> = entries.iter().map(|(entry, _)| entry.path.as_bytes()).collect();
    assert_eq!(names, [&b"caf\xe9"[..], b"again", b"empty"]);
    assert_eq!(entries[0].0.kind, EntryKind::File { size: 25, sparse: false });
    let content = lifeboat::model::digest::Sha256Digest::of(b"first piece, second piece");
    assert_eq!(entries[0].1, content);
    assert!(matches!(&entries[1].0.kind, EntryKind::HardLink { to } if to.as_bytes() == b"caf\xe9"));
    assert_eq!(entries[1].0.mtime.secs, ((1i128 << 64) / 1_000_000_000) as i64);
    assert!(ending.findings.iter().all(|finding| finding.severity < Severity::Damage), "{:?}", ending.findings);
    assert!(ending.findings.iter().any(|finding| finding.what.contains("parts of a file")), "{:?}", ending.findings);
}

#[test]
fn flags_of_files_are_told_with_the_number_of_files_that_have_them() {
    let tree = tempfile::tempdir_in("/var/tmp").unwrap();
    for name in ["plain", "flagged", "flagged too"] {
        write(&tree.path().join(name), name.as_bytes());
        if name != "plain" && !Command::new("chattr").arg("+d").arg(tree.path().join(name)).status().unwrap().success()
        {
            eprintln!("SKIPPED: flags of files are told: the filesystem of /var/tmp keeps none");
            return;
        }
    }
    for borg in borgs() {
        let repository = Repository::new(&borg, "none", "");
        repository.create("a", "lz4", tree.path());
        let mut archive = source::open_location(&repository.path(), None, &mut repository.keys()).unwrap();
        let (entries, ending) = collect(archive.as_mut()).unwrap();
        assert_eq!(entries.len(), 3);
        let told =
            ending.findings.iter().filter(|finding| finding.what.contains("nodump")).map(|finding| &finding.what);
        let told: Vec<&String> = told.collect();
        assert!(told.len() == 1 && told[0].contains("(2 entries)"), "{told:?}");
    }
}

/// Runs the program with less than 1 GiB of address space; its exit code.
fn within_a_gibibyte(args: &[&str], path: &Path) -> i32 {
    let line = format!("ulimit -v 1048576; exec {LIFEBOAT} \"$@\"");
    let done = Command::new("/bin/sh")
        .args(["-c", &line, "sh"])
        .args(args)
        .arg(path)
        // The C library sets 64 MiB of addresses aside for each thread; the musl program does not.
        .env("MALLOC_ARENA_MAX", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(args != ["list"] || done.stdout.len() < 1 << 20, "{} bytes are printed", done.stdout.len());
    done.status.code().unwrap_or_else(|| panic!("{args:?} dies: {said}"))
}

#[test]
fn a_repository_of_20_mib_does_not_take_a_gibibyte_of_memory() {
    let mib = 1usize << 20;
    let mut hostile: Vec<(&str, Crafted)> = Vec::new();
    let mut add = |name, make: &dyn Fn(&mut Crafted)| {
        let mut crafted = Crafted::new();
        make(&mut crafted);
        hostile.push((name, crafted));
    };
    let names = |count: u32| {
        let head = [&[0xdf][..], &count.to_be_bytes()].concat();
        [raw(b"xattrs"), head, b"\xa1a\xc0".repeat(19 * mib / 3)].concat()
    };
    add("an item with 20 million attributes", &|crafted| {
        let begin =
            [b"\x83".to_vec(), raw(b"path"), raw(b"a"), raw(b"mode"), int(0o100_644), names(20_000_000)].concat();
        let (begin, more) = (crafted.put(&begin), crafted.put(&b"\xa1a\xc0".repeat(19 * mib / 3)));
        crafted.archive("a", &[begin, more, more, more]);
    });
    add("items with as many attributes as may be", &|crafted| {
        let pairs = b"\xa1a\xc0".repeat(16 << 10);
        let xattrs = [&[0xdf][..], &(16u32 << 10).to_be_bytes(), &pairs].concat();
        let items: Vec<Vec<u8>> = (0..300).map(|n| file(&format!("{n}"), &[], &[("xattrs", xattrs.clone())])).collect();
        let piece = crafted.put(&items.concat());
        crafted.archive("a", &[piece; 2]);
    });
    add("an item with two million pieces", &|crafted| {
        let head = [b"\x83".to_vec(), raw(b"path"), raw(b"a"), raw(b"mode"), int(0o100_644), raw(b"chunks")].concat();
        let begin = crafted.put(&[head, [&[0xdd][..], &2_000_000u32.to_be_bytes()].concat()].concat());
        let pieces = crafted.put(&chunk(&[7; 32], 1 << 20).repeat(400_000));
        crafted.archive("a", &[begin, pieces, pieces, pieces, pieces]);
    });
    add("a description that grows without end", &|crafted| {
        let id = [9; 32];
        crafted.put_raw(&id, &[&[2, 1, 0][..], &lz4_flex::block::compress(&vec![0; 190 * mib])].concat());
        crafted.list("a", id);
    });
    add("a list of files in many parts that are missing", &|crafted| {
        let parts = [&[0xdd][..], &300_000u32.to_be_bytes(), &raw(&[5; 32]).repeat(300_000)].concat();
        let id = crafted.put(&description("a", &parts));
        crafted.list("a", id);
    });
    add("very many archives of which none is there", &|crafted| {
        (0..100_000u32).for_each(|n| crafted.list(&format!("{n}"), [n as u8 | 1; 32]));
    });
    add("very many damaged files", &|crafted| {
        let pieces: Vec<Id> = (0..5)
            .map(|part| {
                let items = (0..40_000).map(|n| file(&format!("{part}/{n}"), &[chunk(&[3; 32], 1)], &[]));
                crafted.put(&items.collect::<Vec<_>>().concat())
            })
            .collect();
        crafted.archive("a", &pieces);
    });
    for (name, crafted) in hostile {
        let folder = tempfile::tempdir().unwrap();
        crafted.write(folder.path());
        let stored = fs::metadata(folder.path().join("data/0/0")).unwrap().len();
        assert!(stored <= 20 << 20, "{name}: {stored} bytes");
        let list = within_a_gibibyte(&["list"], folder.path());
        let verify = within_a_gibibyte(&["verify", "--all"], folder.path());
        println!("{name}: {stored} bytes, list ends with {list}, verify with {verify}");
        assert!([0, 10, 20].contains(&list), "{name}: {list}");
        assert!([0, 15].contains(&verify), "{name}: {verify}");
    }
}

#[test]
fn sectors_that_cannot_be_read_cost_what_lies_on_them() {
    if let Some(why) = cannot_fail() {
        eprintln!("SKIPPED: sectors that cannot be read cost what lies on them: {why}");
        return;
    }
    let Some(borg) = borgs().into_iter().last() else { return };
    let tree = tempfile::tempdir().unwrap();
    for n in 0..40 {
        write(&tree.path().join(format!("var/lib/a/{n:02}")), &noise(n, 50_000));
    }
    let repository = Repository::new(&borg, "none", "");
    repository.create("a", "none", tree.path());
    let folder = tempfile::tempdir().unwrap();
    let image = blank(&folder.path().join("image"), 64);
    run("mkfs.ext4", &["-q", "-b", "4096", "-d", repository.path().to_str().unwrap(), image.to_str().unwrap()]);
    let raw = fs::read(&image).unwrap();
    let at = |content: &[u8]| raw.windows(64).position(|window| window == &content[..64]).unwrap() as u64;
    let block = |at: u64| at / BLOCK * BLOCK;
    // Inside one file's content; where another one's entry begins; and the end of the segment with the data, after the
    // last content and its list. The index is lost as well: it has to be made from what can be read.
    let inside = block(at(&noise(7, 64)) + 20_000);
    let head = block(at(&noise(20, 64)) - 44);
    let index = block(raw.windows(8).position(|window| window == b"BORG_IDX").unwrap() as u64);
    for (bad, lost) in [(vec![inside], vec![7]), (vec![inside, head, index], vec![7, 19, 20])] {
        let disk = FailingDisk::new(&image, &bad);
        let mounted = Kernel::mount(disk.path(), "ro");
        let mut archive = source::open_location(mounted.path(), None, &mut NoPassphrase).unwrap();
        let (entries, ending) = collect(archive.as_mut()).unwrap();
        let damage = ending.findings.iter().filter(|finding| finding.severity == Severity::Damage);
        let named: Vec<&str> = damage.map(|finding| finding.subject.as_str()).collect();
        println!("{bad:?}: {named:?}");
        assert!(named.len() <= lost.len() && named.contains(&"var/lib/a/07"), "{named:?}");
        for (entry, digest) in entries {
            let Ok(n) = entry.path.to_string().trim_start_matches("var/lib/a/").parse::<u64>() else { continue };
            let is_named = named.contains(&entry.path.to_string().as_str());
            let is_same = digest == lifeboat::model::digest::Sha256Digest::of(&noise(n, 50_000));
            assert!(is_named != is_same, "{n}: named {is_named}, whole {is_same}");
        }
    }
}

#[test]
fn a_damaged_mark_of_the_end_does_not_hide_the_last_backup() {
    let tree = tempfile::tempdir().unwrap();
    write(&tree.path().join("f"), b"x");
    for borg in borgs() {
        let repository = Repository::new(&borg, "none", "");
        repository.create("first", "lz4", tree.path());
        write(&tree.path().join("g"), b"y");
        repository.create("last", "lz4", tree.path());
        let segment = repository.segments().pop().unwrap();
        let length = fs::metadata(&segment).unwrap().len();
        fs::File::options().write(true).open(&segment).unwrap().write_all_at(b"?", length - 1).unwrap();
        let listing = source::list(&repository.path(), &mut repository.keys()).unwrap();
        let names: Vec<&str> = listing.archives.iter().filter_map(|archive| archive.name.as_deref()).collect();
        assert_eq!(names, ["first", "last"]);
        assert!(listing.findings.iter().any(|finding| finding.what.contains("mark of the last transaction's end")));
        // A lost file says the same.
        fs::remove_file(&segment).unwrap();
        let listing = source::list(&repository.path(), &mut repository.keys()).unwrap();
        assert_eq!(listing.archives.len(), 2);
    }
}

#[test]
fn a_repository_whose_config_is_lost_is_found_and_read_with_the_key_that_was_kept() {
    let tree = tempfile::tempdir().unwrap();
    write(&tree.path().join("f"), b"x");
    let Some(borg) = borgs().pop() else { return };
    for mode in ["none", "repokey", "keyfile"] {
        let repository = Repository::new(&borg, mode, "secret");
        repository.create("a", "lz4", tree.path());
        let (path, exported) = (repository.path(), repository.home.path().join("exported"));
        if mode == "repokey" {
            repository.run(&["key", "export", path.to_str().unwrap(), exported.to_str().unwrap()], Path::new("/"));
        }
        let mut keys = repository.keys();
        for lost in [None, Some(&b""[..]), Some(b"\0\0\0\0"), Some(b"[repository]\nversion = 1\nid = 12")] {
            fs::remove_file(path.join("config")).unwrap_or_default();
            if let Some(lost) = lost {
                write(&path.join("config"), lost);
            }
            // Also where it is not named, but lies somewhere below.
            for place in [path.as_path(), repository.home.path()] {
                if mode == "repokey" {
                    keys.key_file = None;
                    let told = source::list(place, &mut keys).map(|listing| listing.findings[0].what.clone());
                    let told = told.unwrap_or_else(|error| error.to_string());
                    assert!(told.contains("its key was lost with its config"), "{told}");
                    keys.key_file = Some(fs::read(&exported).unwrap());
                }
                let listing = source::list(place, &mut keys).unwrap();
                let names: Vec<&str> = listing.archives.iter().filter_map(|one| one.name.as_deref()).collect();
                assert_eq!(names, ["a"], "{mode}, {lost:?}: {listing:?}");
                assert!(listing.findings.iter().any(|finding| finding.what.contains("config is lost or damaged")));
            }
            let mut archive = source::open_location(&path, None, &mut keys).unwrap();
            assert_eq!(collect(archive.as_mut()).unwrap().0.len(), 1);
        }
        if mode == "none" {
            // What is read is never written to, whatever is left of it.
            fs::remove_file(path.join("config")).unwrap();
            fs::rename(path.join("data/0"), path.join("data/7")).unwrap();
            let (place, file) = (path.to_str().unwrap(), path.join("x.tar.gz"));
            let run = lifeboat(&["export", place, "--archive", "a", file.to_str().unwrap()]);
            assert!(run.code != 0 && run.err.contains("x.tar.gz") && !file.exists(), "{run:?}");
        }
    }
    // Names alone make no repository.
    let other = tempfile::tempdir().unwrap();
    write(&other.path().join("data/0/1"), b"something else");
    assert!(source::list(other.path(), &mut NoPassphrase).unwrap().repositories.is_empty());
}

#[test]
fn a_repository_on_another_machine_is_asked_for_several_pieces_at_once() {
    let lacking = cannot_mount(&[]).or((!Path::new("/dev/fuse").exists()).then(|| "the kernel has no FUSE".into()));
    if let Some(why) = lacking {
        eprintln!("SKIPPED: {why}");
        return;
    }
    let Some(borg) = borgs().pop() else { return };
    let tree = tempfile::tempdir().unwrap();
    for n in 0..20 {
        write(&tree.path().join(format!("files/{n}")), &noise(n + 1, 500_000));
    }
    let repository = Repository::new(&borg, "repokey", "secret");
    repository.create("a", "none", tree.path());
    let slow = SlowFolder::new(&repository.path(), Duration::from_millis(150));
    let read = |path: &Path| {
        let mut archive = source::open_location(path, None, &mut repository.keys()).unwrap();
        collect(archive.as_mut()).unwrap().0
    };
    let here = read(&repository.path());
    assert_eq!(read(slow.point.path()), here);
    let (all, at_once) = (slow.asked.all.load(Ordering::Relaxed), slow.asked.at_once.load(Ordering::Relaxed));
    println!("{all} reads, up to {at_once} at once");
    assert!(at_once >= 3, "only {at_once} of {all} reads at once");
}

#[test]
fn all_backups_of_a_place_are_verified_with_one_command() {
    let tree = tempfile::tempdir().unwrap();
    write(&tree.path().join("kept"), &noise(1, 100_000));
    let Some(borg) = borgs().into_iter().last() else { return };
    let repository = Repository::new(&borg, "none", "");
    for name in ["one", "two", "three"] {
        write(&tree.path().join("changing"), &noise(name.len() as u64 + name.as_bytes()[1] as u64, 100_000));
        repository.create(name, "none", tree.path());
    }
    let place = repository.path().to_str().unwrap().to_owned();
    let run = lifeboat(&["verify", &place, "--all", "--json"]).ends(0);
    let names = |json: &serde_json::Value| -> Vec<String> {
        json["backups"].as_array().unwrap().iter().map(|one| one["backup"].as_str().unwrap().to_owned()).collect()
    };
    let mut found = names(&run.json());
    found.sort();
    assert_eq!(found, ["one", "three", "two"]);
    // Without a name, nobody can tell which one is meant.
    assert_ne!(lifeboat(&["verify", &place]).code, 0);
    assert_eq!(lifeboat(&["verify", &place, "--all", "--archive", "one"]).code, 2);

    // What only one of them uses damages only that one; what all use, all.
    let content = |seed: u64| {
        let segments = repository.segments().into_iter();
        let mut found = segments.filter_map(|path| {
            let raw = fs::read(&path).unwrap();
            let at = raw.windows(64).position(|window| window == &noise(seed, 64)[..])?;
            Some((path, at as u64))
        });
        found.next().unwrap()
    };
    let damage = |(path, at): &(std::path::PathBuf, u64)| {
        let file = fs::File::options().read(true).write(true).open(path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at + 500).unwrap();
        file.write_all_at(&[byte[0] ^ 8], at + 500).unwrap();
    };
    let two = content("two".len() as u64 + u64::from(b'w'));
    damage(&two);
    let run = lifeboat(&["verify", &place, "--all", "--json"]).ends(15);
    let damaged = |json: &serde_json::Value| -> Vec<String> {
        let backups = json["backups"].as_array().unwrap().iter();
        let is_damaged = |one: &&serde_json::Value| {
            one["findings"].as_array().unwrap().iter().any(|finding| finding["severity"] == "damage")
        };
        backups.filter(is_damaged).map(|one| one["backup"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(damaged(&run.json()), ["two"]);
    damage(&content(1));
    assert_eq!(damaged(&lifeboat(&["verify", &place, "--all", "--json"]).ends(15).json()).len(), 3);
    assert!(lifeboat(&["verify", &place, "--all"]).ends(15).out.contains("3 backups, 3 of them damaged."));
}
