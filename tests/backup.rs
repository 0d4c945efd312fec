//! `lifeboat backup`: a box's disk as one file on a stick, also encrypted; never onto the box's own disk.

#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::indexing_slicing, reason = "this is test code")]

mod common;

use common::archives::collect;
use common::boxes;
use common::disks::{
    Kernel, Loop, blank, cannot_mount, digest, filesystem, lacks, place, run, sfdisk, sh, wait_for_loops,
};
use common::rescue::{LIFEBOAT, Run, lifeboat};
use expectrl::{Eof, Expect};
use lifeboat::model::secret::Secret;
use lifeboat::source::{self, OnePassphrase};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Where the box's partition begins on its disk.
const PARTITION: u64 = 1 << 20;

fn cannot(tools: &[&str]) -> bool {
    let why = cannot_mount(&[&["mkfs.ext4", "mkfs.vfat", "sfdisk", "losetup"], tools].concat());
    why.inspect(|why| eprintln!("SKIPPED: {why}")).is_some()
}

/// The content of a box, and a disk with it in its first partition; the second one is empty.
struct BoxDisk {
    folder: tempfile::TempDir,
    disk: PathBuf,
}

impl BoxDisk {
    fn new() -> BoxDisk {
        let folder = tempfile::tempdir().unwrap();
        let part = filesystem(&folder.path().join("part"), 40, "mkfs.ext4 -q -b 4096", "", |root| {
            boxes::system(root);
            boxes::make_source(root);
            let database = root.join("var/lib/plinth/plinth.sqlite3");
            let database = rusqlite::Connection::open(database).unwrap();
            database.execute_batch("DELETE FROM plinth_module").unwrap();
            for (name, version, ..) in boxes::APPS {
                database.execute("INSERT INTO plinth_module VALUES (?1, ?2)", (name, version)).unwrap();
            }
            drop(database);
            // FreedomBox made a backup right before.
            let dump = root.join("var/lib/plinth/backups-data/miniflux-database.sql");
            fs::File::options().write(true).open(dump).unwrap().set_modified(SystemTime::now()).unwrap();
        });
        let disk = blank(&folder.path().join("disk"), 64);
        sfdisk(&disk, 512, "label: gpt\nstart=2048, size=40MiB\nsize=16MiB\n");
        place(&disk, PARTITION, &part);
        BoxDisk { folder, disk }
    }

    /// A stick with FAT, as they are sold, where the kernel knows that.
    fn stick(&self, label: &str) -> PathBuf {
        let stick = blank(&self.folder.path().join(format!("stick {label}")), 40);
        let has_fat = fs::read_to_string("/proc/filesystems").unwrap().contains("vfat");
        let (program, words) =
            if has_fat || label == "LIFEBOAT" { ("mkfs.vfat", ["-n", label]) } else { ("mkfs.ext4", ["-qL", label]) };
        run(program, &words.map(OsStr::new).into_iter().chain([stick.as_os_str()]).collect::<Vec<_>>());
        stick
    }
}

fn backup(from: &Path, to: &Path, more: &[&str]) -> Run {
    let words = ["backup".as_ref(), "--from".as_ref(), from.as_os_str(), "--to".as_ref(), to.as_os_str()];
    let more = more.iter().map(OsStr::new).chain(["--json".as_ref()]);
    lifeboat(&words.into_iter().chain(more).collect::<Vec<_>>())
}

fn names(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Paths and digests of an archive.
fn content(file: &Path, passphrase: &str) -> Vec<String> {
    let secret = Secret::new(passphrase.as_bytes().to_vec());
    let mut archive = source::open_file(file, &mut OnePassphrase(&secret)).unwrap();
    collect(archive.as_mut()).unwrap().0.into_iter().map(|(entry, sum)| format!("{} {sum}", entry.path)).collect()
}

#[test]
fn a_disk_becomes_a_file_on_a_stick_that_freedombox_and_lifeboat_read() {
    if cannot(&[]) {
        return;
    }
    let a_box = BoxDisk::new();
    let stick = a_box.stick("USB");
    let before = digest(&a_box.disk);
    let told = backup(&a_box.disk, &stick, &[]).ends(0).json();
    assert_eq!(digest(&a_box.disk), before, "the disk of the box is as it was");
    let file = told["file"].as_str().unwrap();
    assert!(file.starts_with("FreedomBox-backups/2") && file.ends_with("Z.tar.gz") && !file.contains(':'), "{file}");
    let mounted = Kernel::mount(&stick, "loop,ro");
    let folder = mounted.path().join("FreedomBox-backups");
    let name = file.split_once('/').unwrap().1;
    assert_eq!(names(&folder), [name.to_owned(), format!("{name}.sha256")]);
    sh(&format!("cd {} && sha256sum --check --quiet {name}.sha256", folder.display()));
    // With FreedomBox's manifest, apps and their versions; verified as any other backup.
    let list = lifeboat(&["list".as_ref(), folder.as_os_str(), "--json".as_ref()]).ends(0).json();
    let apps = list["archives"][0]["apps"].as_array().unwrap();
    let found: BTreeSet<_> = apps.iter().map(|app| (app["name"].as_str().unwrap(), app["version"].as_i64())).collect();
    for (app, version, ..) in boxes::APPS {
        assert!(found.contains(&(app, Some(version))), "{app}: {found:?}");
    }
    lifeboat(&["verify".as_ref(), folder.join(name).as_os_str()]).ends(0);
    let members = sh(&format!("tar -tzf {}", folder.join(name).display()));
    assert!(members.contains("var/lib/plinth/backups-manifests/"), "{members}");
    drop(mounted);
    wait_for_loops(&stick);
    // Zstandard; a folder instead of a stick; the box's root instead of its disk.
    let (out, root) = (a_box.folder.path().join("out"), Kernel::mount(&a_box.folder.path().join("part"), "loop,ro"));
    fs::create_dir(&out).unwrap();
    let told = backup(root.path(), &out, &["--zstd"]).ends(0).json();
    assert!(told["file"].as_str().unwrap().ends_with("Z.tar.zst"), "{told}");
    assert_eq!(told["entries"], list_entries(&out));
    // What holds no box is no reason to write anything.
    let said = backup(&a_box.stick("EMPTY"), &out, &[]).ends(10).err;
    assert!(said.contains("holds no"), "{said}");
}

fn list_entries(out: &Path) -> usize {
    let folder = out.join("FreedomBox-backups");
    let file = names(&folder).into_iter().find(|name| name.ends_with(".tar.zst")).unwrap();
    content(&folder.join(file), "").len()
}

#[test]
fn an_encrypted_backup_is_opened_by_lifeboat_and_by_age_with_the_passphrase_alone() {
    if cannot(&[]) {
        return;
    }
    let a_box = BoxDisk::new();
    let out = a_box.folder.path().join("out");
    fs::create_dir(&out).unwrap();
    let secret = a_box.folder.path().join("secret");
    fs::write(&secret, "correct horse\n").unwrap();
    let secret = secret.to_str().unwrap();
    let plain = backup(&a_box.disk, &out, &[]).ends(0).json();
    let told = backup(&a_box.disk, &out, &["--encrypt", "--passphrase-file", secret]).ends(0).json();
    let (plain, file) = (PathBuf::from(plain["file"].as_str().unwrap()), PathBuf::from(told["file"].as_str().unwrap()));
    assert!(file.to_str().unwrap().ends_with("Z.tar.gz.age"), "{told}");
    let sum = fs::read_to_string(format!("{}.sha256", file.display())).unwrap();
    assert!(sum.starts_with(&digest(&file)), "the checksum is of the file as it lies there");
    assert_eq!(content(&file, "correct horse"), content(&plain, ""));
    let raw = fs::read(&file).unwrap();
    assert!(raw.starts_with(b"age-encryption.org/v1\n-> scrypt "));
    // By the command, with and without the right passphrase.
    let words = |more: &[&str]| {
        let words = ["verify".to_owned(), file.to_str().unwrap().to_owned()].into_iter();
        lifeboat(&words.chain(more.iter().map(|word| (*word).to_owned())).collect::<Vec<_>>())
    };
    words(&["--passphrase-file", secret]).ends(0);
    words(&[]).ends(12);
    let wrong = a_box.folder.path().join("wrong");
    fs::write(&wrong, "battery staple").unwrap();
    let said = words(&["--passphrase-file", wrong.to_str().unwrap()]).ends(12).err;
    assert!(said.contains("wrong"), "{said}");
    // A changed byte, and a cut.
    for (name, change) in [("changed", raw.len() / 2), ("cut", raw.len())] {
        let bad = a_box.folder.path().join(format!("{name}.tar.gz.age"));
        let mut bytes = raw.clone();
        if name == "cut" {
            bytes.truncate(change * 2 / 3);
        } else {
            bytes[change] ^= 1;
        }
        fs::write(&bad, bytes).unwrap();
        let bad = bad.to_str().unwrap();
        lifeboat(&["verify", bad, "--passphrase-file", secret]).ends(15);
    }
    // Nobody is asked, and nothing written, where no passphrase is at hand.
    let count = names(&out.join("FreedomBox-backups")).len();
    backup(&a_box.disk, &out, &["--encrypt"]).ends(2);
    assert_eq!(names(&out.join("FreedomBox-backups")).len(), count);
    if let Some(why) = lacks(&["age"]) {
        eprintln!("SKIPPED: age opens it: {why}");
        return;
    }
    // age itself; it takes a passphrase from a terminal only.
    let opened = a_box.folder.path().join("opened.tar.gz");
    let mut session = expectrl::spawn(format!("age -d -o {} {}", opened.display(), file.display())).unwrap();
    session.expect("passphrase").unwrap();
    session.send_line("correct horse").unwrap();
    session.expect(Eof).unwrap();
    assert_eq!(content(&opened, ""), content(&plain, ""));
    // And what age made is opened here.
    let theirs = a_box.folder.path().join("theirs.tar.gz.age");
    let mut session = expectrl::spawn(format!("age -p -o {} {}", theirs.display(), plain.display())).unwrap();
    session.expect("passphrase").unwrap();
    session.send_line("correct horse").unwrap();
    session.expect("onfirm passphrase").unwrap();
    session.send_line("correct horse").unwrap();
    session.expect(Eof).unwrap();
    assert_eq!(content(&theirs, "correct horse"), content(&plain, ""));
}

#[test]
fn a_passphrase_is_typed_twice_and_never_shown() {
    if cannot(&[]) {
        return;
    }
    let a_box = BoxDisk::new();
    let out = a_box.folder.path().join("out");
    fs::create_dir(&out).unwrap();
    let command = format!("{LIFEBOAT} backup --from {} --to {} --encrypt", a_box.disk.display(), out.display());
    let mut session = expectrl::spawn(command).unwrap();
    session.set_expect_timeout(Some(Duration::from_secs(60)));
    for typed in ["first", "second", "correct horse", "correct horse"] {
        session.expect(">: ").unwrap();
        session.send_line(typed).unwrap();
    }
    let seen = session.expect(Eof).unwrap();
    let seen = String::from_utf8_lossy(seen.as_bytes()).into_owned();
    assert!(!seen.contains("horse"), "{seen}");
    let folder = out.join("FreedomBox-backups");
    let file = names(&folder).into_iter().find(|name| name.ends_with(".age")).unwrap();
    assert!(!content(&folder.join(file), "correct horse").is_empty());
}

#[test]
fn lost_files_of_a_salvaged_disk_are_left_out_by_name_and_never_zeros() {
    if cannot(&["debugfs"]) {
        return;
    }
    let a_box = BoxDisk::new();
    let part = a_box.folder.path().join("part");
    let whole = a_box.folder.path().join("whole");
    fs::create_dir(&whole).unwrap();
    let whole = backup(&a_box.disk, &whole, &[]).ends(0).json();
    let whole = content(Path::new(whole["file"].as_str().unwrap()), "");
    // A file of an app, and where it lies.
    let victim = {
        let mounted = Kernel::mount(&part, "loop,ro");
        let is_file = |line: &&String| {
            let path = mounted.path().join(line.rsplit_once(' ').unwrap().0);
            path.symlink_metadata().is_ok_and(|meta| meta.is_file() && meta.len() > 100)
        };
        whole.iter().find(is_file).unwrap().rsplit_once(' ').unwrap().0.to_owned()
    };
    wait_for_loops(&part);
    let block = run("debugfs", &["-R", &format!("bmap \"/{victim}\" 0"), part.to_str().unwrap()]);
    let lost = PARTITION + block.trim().parse::<u64>().unwrap() * 4096;
    // As salvage leaves it: zeros, and a map that says so.
    let image = a_box.folder.path().join("image");
    fs::copy(&a_box.disk, &image).unwrap();
    fs::File::options().write(true).open(&image).unwrap().write_all_at(&[0; 4096], lost).unwrap();
    let (end, after) = (64 << 20, lost + 4096);
    let map = format!("0x0 + 1\n0x0 {lost:#x} +\n{lost:#x} 0x1000 -\n{after:#x} {:#x} +\n", end - after);
    fs::write(a_box.folder.path().join("image.map"), map).unwrap();
    let out = a_box.folder.path().join("out");
    fs::create_dir(&out).unwrap();
    let said = backup(&image, &out, &[]).ends(15).err;
    assert!(said.contains(&victim), "{said}");
    assert_eq!(names(&out.join("FreedomBox-backups")), [] as [&str; 0]);
    let told = backup(&image, &out, &["--accept-damage"]).ends(1).json();
    assert_eq!(told["left_out"], serde_json::json!([victim]), "{told}");
    let rest: BTreeSet<_> = content(Path::new(told["file"].as_str().unwrap()), "").into_iter().collect();
    let lost: Vec<_> = whole.iter().filter(|line| !rest.contains(*line)).collect();
    assert_eq!(lost.len(), 1, "{lost:?}");
    assert!(lost[0].starts_with(&victim));
}

#[test]
fn a_database_that_is_not_in_the_backup_is_named_and_is_no_success() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    boxes::system(&root);
    boxes::make_source(&root);
    let database = rusqlite::Connection::open(root.join("var/lib/plinth/plinth.sqlite3")).unwrap();
    database.execute_batch("DELETE FROM plinth_module; INSERT INTO plinth_module VALUES ('miniflux', 2)").unwrap();
    drop(database);
    let dump = root.join("var/lib/plinth/backups-data/miniflux-database.sql");
    let whole = fs::read(&dump).unwrap();
    let of_dump = |name: &str, code: i32, said: &str| {
        let file = folder.path().join(format!("{name}.tar.gz"));
        let words = ["export".as_ref(), root.as_os_str(), file.as_os_str(), "--json".as_ref()];
        let told = lifeboat(&words).ends(code).json();
        let found = told["findings"].as_array().unwrap();
        let named: Vec<_> = found.iter().filter(|found| found["subject"] == "miniflux").collect();
        assert_eq!(named.is_empty(), said.is_empty(), "{told:#}");
        assert!(named.iter().all(|found| found["what"].as_str().unwrap().contains(said)), "{told:#}");
    };
    // As fresh as the system's last use, and days older.
    let used = fs::metadata(root.join("var/lib/plinth/plinth.sqlite3")).unwrap().modified().unwrap();
    let written = |content: &[u8], hours: u64| {
        fs::write(&dump, content).unwrap();
        let file = fs::File::options().write(true).open(&dump).unwrap();
        file.set_modified(used - Duration::from_secs(hours * 3600)).unwrap();
    };
    written(&whole, 1);
    of_dump("whole", 0, "");
    written(&whole, 50);
    of_dump("old", 1, "50 hours before the system was last used");
    written(&whole[..whole.len() / 2], 1);
    of_dump("cut", 1, "is cut off");
    fs::remove_file(&dump).unwrap();
    of_dump("none", 1, "there is no dump of it");
}

#[test]
fn the_box_itself_and_lifeboats_medium_are_no_place_for_a_backup_however_they_are_named() {
    if cannot(&["mkfs.ext4"]) {
        return;
    }
    let a_box = BoxDisk::new();
    let medium = a_box.stick("LIFEBOAT");
    let said = backup(&a_box.disk, &medium, &[]).ends(17).err;
    assert!(said.contains("Lifeboat"), "{said}");
    let device = Loop::new(&a_box.disk, "");
    // Partitions of loop devices are not shown by every kernel; devices over parts of the same file always are.
    let parts = [format!("--offset {PARTITION} --sizelimit {}", 40 << 20), format!("--offset {}", 41 << 20)];
    let [first, second] = parts.map(|options| Loop::new(&a_box.disk, &options));
    run("mkfs.ext4", &["-q".as_ref(), "-F".as_ref(), second.0.as_os_str(), "12m".as_ref()]);
    let refused = |from: &Path, to: &Path| {
        let run = backup(from, to, &[]);
        assert_eq!(run.code, 17, "{} onto {}: {}", from.display(), to.display(), run.said());
        assert!(run.err.contains("that is to be backed up"), "{}", run.err);
    };
    // The disk, each partition of it, the image behind it, and its mounted root, each onto each.
    let before = digest(&a_box.disk);
    let nodes = [device.0.clone(), first.0.clone(), second.0.clone(), a_box.disk.clone()];
    for from in &nodes {
        for to in &nodes {
            refused(from, to);
        }
    }
    assert_eq!(digest(&a_box.disk), before, "nothing was written");
    let (root, data) = (Kernel::mount(&first.0, "ro"), Kernel::mount(&second.0, "rw"));
    // A stick in a file on the box's own disk, also through a loop device of its own.
    let inner = blank(&data.path().join("inner"), 8);
    run("mkfs.ext4", &["-q".as_ref(), inner.as_os_str()]);
    let inner_device = Loop::new(&inner, "");
    let shown = Kernel::mount(&inner_device.0, "rw");
    for from in nodes.iter().map(PathBuf::as_path).chain([root.path()]) {
        for to in [data.path(), shown.path(), inner.as_path(), inner_device.0.as_path()] {
            refused(from, to);
        }
        refused(from, &second.0);
    }
    assert_eq!(names(shown.path()), ["lost+found"]);
    assert_eq!(names(data.path()), ["inner", "lost+found"]);
    // Another stick is none of them, by its device and mounted.
    let stick = Loop::new(&a_box.stick("USB"), "");
    backup(root.path(), &stick.0, &[]).ends(0);
    let mounted = Kernel::mount(&stick.0, "rw");
    backup(root.path(), &stick.0, &["--zstd"]).ends(0);
    assert_eq!(names(&mounted.path().join("FreedomBox-backups")).iter().filter(|name| name.contains("zst")).count(), 2);
    drop(mounted);
}
