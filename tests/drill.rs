//! The rehearsal of a restore: a good backup passes, and each of many planted faults is found and named.

#![allow(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used, reason = "this is test code")]
#![allow(missing_docs, reason = "names of tests are sentences")]

mod common;

use common::archives::{Header, RawTar, gzip, is_root, put};
use common::disks;
use common::repositories::{self, Repository, borgs};
use common::rescue::{LIFEBOAT, Rescue, Run, SmallBox, assert_same, lifeboat, manifest, tree};
use std::fs;
use std::path::{Path, PathBuf};

const PASSPHRASE: &str = "correct horse battery";
const DUMP: &str = "var/lib/plinth/backups-data/wordpress-database.sql";
const WHOLE: &[u8] = b"INSERT INTO t VALUES (1);\n-- Dump completed on 2023-11-14 22:13:20\n";

/// A wiki with bytes that do not pack, so that a change of one is a change of content.
fn wiki() -> RawTar {
    let noise = repositories::noise(3, 60_000);
    RawTar::new().dir("var/lib/tiddlywiki").file("var/lib/tiddlywiki/new.html", &noise)
}

fn of_wiki(version: i64) -> Vec<u8> {
    gzip(&wiki().manifest(&manifest(&[("tiddlywiki", version, &["/var/lib/tiddlywiki"], &[])])).end())
}

/// The wiki and a blog, whose database is dumped like this, so many seconds before the backup.
fn of_blog(dump: Option<&[u8]>, before: u64) -> Vec<u8> {
    let mut tar = wiki().dir("var/lib/wordpress").file("var/lib/wordpress/index.html", b"<html>\n");
    if let Some(dump) = dump {
        let mut header = Header::new(b'0', DUMP);
        header.mtime -= before;
        tar = tar.member(header, dump);
    }
    let dump = format!("/{DUMP}");
    let apps: [(&str, i64, &[&str], &[&str]); 2] =
        [("tiddlywiki", 1, &["/var/lib/tiddlywiki"], &[]), ("wordpress", 4, &["/var/lib/wordpress"], &[&dump])];
    gzip(&tar.manifest(&manifest(&apps)).end())
}

fn changed(mut bytes: Vec<u8>, at: usize) -> Vec<u8> {
    bytes[at] ^= 0x10;
    bytes
}

fn drill(from: &Path, more: &[&str]) -> Run {
    let mut args = vec!["drill", "--from", from.to_str().unwrap(), "--program", LIFEBOAT];
    args.extend(more);
    lifeboat(&args)
}

/// The drill fails with this code, says so first, and names the fault; text and JSON agree.
#[track_caller]
fn finds(from: &Path, more: &[&str], code: i32, part: &str, fault: &str) {
    let run = drill(from, more).ends(code);
    assert!(run.out.lines().next().unwrap().ends_with(": FAIL"), "{}", run.out);
    let said = run.out.replace("\n    ", " ");
    assert!(said.contains(fault), "should say '{fault}': {said}");
    assert!(run.out.lines().any(|line| line.trim() == format!("{part} FAULT")), "{}", run.out);
    let json = drill(from, &[more, &["--json"]].concat()).ends(code).json();
    assert_eq!(json["result"], "fail");
    let faults = json["faults"].as_array().unwrap();
    assert!(
        faults.iter().any(|found| found["part"] == part && found["what"].as_str().unwrap().contains(fault)),
        "{json:#}"
    );
    assert!(faults.iter().all(|fault| fault["ending"].is_string()), "{json:#}");
}

#[track_caller]
fn passes(from: &Path, more: &[&str]) -> Run {
    let run = drill(from, more).ends(0);
    assert!(run.out.lines().next().unwrap().ends_with(": PASS"), "{}", run.out);
    assert!(!run.out.contains("FAULT") && !run.out.contains("What is wrong"), "{}", run.out);
    let json = drill(from, &[more, &["--json"]].concat()).ends(0).json();
    assert_eq!((json["result"].as_str(), json["faults"].as_array().map(Vec::len)), (Some("pass"), Some(0)));
    run
}

#[test]
fn a_good_backup_passes_with_and_without_a_box_and_nothing_is_written() {
    let box_ = SmallBox::new();
    let onto = box_.root.to_str().unwrap();
    let file = put(box_.folder.path(), "good.tar.gz", &of_blog(Some(WHOLE), 60));
    let before = tree(box_.folder.path());
    let run = passes(&file, &["--onto", onto]);
    assert!(run.out.contains("databases ok: 1 dump, whole"), "{}", run.out);
    assert!(run.out.contains("Onto: 'freedombox', FreedomBox 25.9.3"), "{}", run.out);
    assert!(run.out.replace("\n    ", " ").contains("wordpress: install the app, then move the restored files in"));
    assert!(run.out.lines().all(|line| line.chars().count() <= 80), "{}", run.out);
    assert!(passes(&file, &[]).out.contains("Onto: a freshly installed FreedomBox 26.14"));
    assert_same(&before, &tree(box_.folder.path()), "a drill");
}

#[test]
fn of_several_backups_the_newest_is_rehearsed() {
    let folder = tempfile::tempdir().unwrap();
    let mut old = Header::new(b'0', "var/lib/plinth/backups-manifests/test.json");
    old.mtime = 1_600_000_000;
    let json = manifest(&[("unheard-of", 1, &["/var/lib/x"], &[])]);
    put(folder.path(), "old.tar.gz", &gzip(&RawTar::new().dir("var/lib/x").member(old, json.as_bytes()).end()));
    put(folder.path(), "new.tar.gz", &of_wiki(1));
    let run = passes(folder.path(), &[]);
    assert!(run.out.replace("\n    ", " ").contains("the newest of 2"), "{}", run.out);
    finds(folder.path(), &["--archive", "old.tar.gz"], 10, "versions", "nothing that can be restored");
}

/// A fault of an archive file: its name, the file, more arguments, the exit code, the part, and what names the fault.
type Row<'a> = (&'a str, Vec<u8>, &'a [&'a str], i32, &'a str, &'a str);

#[test]
fn each_planted_fault_of_a_file_is_found_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let good = of_wiki(1);
    let end = good.len();
    let mixed = manifest(&[("tiddlywiki", 1, &["/var/lib/tiddlywiki"], &[]), ("unheard-of", 1, &["/var/lib/x"], &[])]);
    let device = wiki().raw(&Header::new(b'4', "var/lib/tiddlywiki/disk"), b"");
    let foreign = manifest(&[("tiddlywiki", 1, &["/var/lib/tiddlywiki"], &["/etc/shadow"])]);
    let mut later = Header::new(b'0', "var/lib/plinth/backups-manifests/test.json");
    later.mtime = 7_000_000_000;
    let json = manifest(&[("tiddlywiki", 1, &["/var/lib/tiddlywiki"], &[])]);
    let of_the_future = gzip(&wiki().member(later, json.as_bytes()).end());
    let table: Vec<Row> = vec![
        ("cut", good[..end - 3000].to_vec(), &[], 15, "content", "ends"),
        ("a byte of content", changed(good.clone(), end / 2), &[], 15, "content", ""),
        ("a byte of the checksum", changed(good.clone(), end - 6), &[], 15, "content", "checksum"),
        ("empty", Vec::new(), &[], 10, "backup", ""),
        ("no archive", b"some text\n".repeat(100), &[], 10, "backup", ""),
        ("no manifest", gzip(&wiki().end()), &[], 10, "versions", "no FreedomBox manifest"),
        ("a broken manifest", gzip(&wiki().manifest("{\"apps\": [").end()), &[], 15, "content", "manifest"),
        ("a device", gzip(&device.manifest(&mixed).end()), &[], 15, "content", "disk"),
        ("half a dump", of_blog(Some(&WHOLE[..30]), 60), &[], 15, "databases", "is not whole"),
        ("no dump", of_blog(None, 0), &[], 15, "databases", "is missing"),
        ("an old dump", of_blog(Some(WHOLE), 100 * 3600), &[], 1, "databases", "100 hours older"),
        ("a newer app", of_wiki(99), &[], 13, "versions", "app version 99"),
        ("an unknown app", gzip(&wiki().dir("var/lib/x").manifest(&mixed).end()), &[], 1, "versions", "unheard-of"),
        (
            "a path of nobody",
            gzip(&wiki().file("etc/shadow", b"root::\n").manifest(&foreign).end()),
            &[],
            1,
            "versions",
            "/etc/shadow would not be restored",
        ),
        (
            "an app that is not there",
            good.clone(),
            &["--apps", "gitweb"],
            2,
            "content",
            "does not contain the app 'gitweb'",
        ),
        ("a backup of the future", of_the_future, &["--max-age", "30"], 20, "backup", "clock"),
        ("an old backup", good.clone(), &["--max-age", "30"], 10, "backup", "30 are allowed"),
    ];
    for (name, bytes, more, code, part, fault) in table {
        let file = put(folder.path(), &format!("{name}.tar.gz"), &bytes);
        println!("{name}");
        finds(&file, more, code, part, fault);
    }
    // A checksum file beside the backup that does not agree.
    let file = put(folder.path(), "listed.tar.gz", &good);
    put(folder.path(), "SHA256SUMS", format!("{}  listed.tar.gz\n", "0".repeat(64)).as_bytes());
    finds(&file, &[], 15, "content", "SHA256SUMS");
    finds(&folder.path().join("gone.tar.gz"), &[], 10, "backup", "No such file");
}

#[test]
fn each_planted_fault_of_a_box_is_found_and_named() {
    if !is_root() {
        return eprintln!("SKIPPED: root is needed to restore owners");
    }
    let box_ = SmallBox::new();
    let onto = box_.root.to_str().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = put(folder.path(), "good.tar.gz", &of_wiki(1));
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    finds(&file, &["--onto", empty.to_str().unwrap()], 17, "box", "no FreedomBox is installed");
    // Data of an app that Debian does not have any more.
    let json = manifest(&[("searx", 6, &[], &["/etc/searx/allow_public_access"])]);
    let searx = gzip(&wiki().file("etc/searx/allow_public_access", b"").manifest(&json).end());
    finds(&put(folder.path(), "searx.tar.gz", &searx), &["--onto", onto], 1, "versions", "searx cannot be installed");
    // An earlier restore.
    Rescue::new(&file, &box_.root).carry_out().1.ends(0);
    let other = put(folder.path(), "other.tar.gz", &of_blog(Some(WHOLE), 60));
    finds(&other, &["--onto", onto], 11, "box", "an earlier restore");
    // Too little room.
    if let Some(why) = disks::cannot_mount(&["mke2fs", "mount"]) {
        return eprintln!("SKIPPED: {why}");
    }
    let image = disks::blank(&folder.path().join("small.ext4"), 16);
    disks::sh(&format!("mke2fs -q -t ext4 {}", image.display()));
    let mounted = disks::Kernel::mount(&image, "loop");
    let small = mounted.path().join("box");
    SmallBox::fill(&small);
    finds(&file, &["--onto", small.to_str().unwrap()], 14, "space", "more free space is needed");
}

/// An encrypted repository with one backup of the wiki.
fn repository() -> Option<Repository> {
    repository_of("repokey", &["first"])
}

fn repository_of(encryption: &str, names: &[&str]) -> Option<Repository> {
    let borg = borgs().into_iter().next()?;
    let tree = tempfile::tempdir().unwrap();
    repositories::write(&tree.path().join("var/lib/tiddlywiki/new.html"), &repositories::noise(5, 200_000));
    let json = manifest(&[("tiddlywiki", 1, &["/var/lib/tiddlywiki"], &[])]);
    repositories::write(&tree.path().join("var/lib/plinth/backups-manifests/first.json"), json.as_bytes());
    let repository = Repository::new(&borg, encryption, PASSPHRASE);
    names.iter().for_each(|name| repository.create(name, "lz4", tree.path()));
    Some(repository)
}

#[test]
fn a_backup_that_may_be_the_newest_and_cannot_be_read_is_a_fault() {
    let Some(repository) = repository_of("none", &["first", "second"]) else { return };
    let place = repository.path();
    assert!(passes(&place, &[]).out.replace("\n    ", " ").contains("the newest of 2"));
    // The description of the second.
    let field = b"chunker_params";
    let found = repository.segments().into_iter().rev().find_map(|segment| {
        let raw = fs::read(&segment).unwrap();
        Some((raw.windows(field.len()).rposition(|window| window == field)?, raw, segment))
    });
    let (at, raw, segment) = found.unwrap();
    fs::write(&segment, changed(raw, at)).unwrap();
    finds(&place, &[], 15, "backup", "may be newer than the backup that was rehearsed");
    // Who names one means that one.
    let first = lifeboat(&["list", place.to_str().unwrap(), "--json"]).ends(0).json();
    passes(&place, &["--archive", first["archives"][0]["id"].as_str().unwrap()]);
}

fn secret(folder: &Path, text: &str) -> PathBuf {
    put(folder, text, text.as_bytes())
}

#[test]
fn each_planted_fault_of_a_repository_is_found_and_named() {
    let Some(repository) = repository() else { return };
    let place = repository.path();
    let folder = tempfile::tempdir().unwrap();
    let (right, wrong) = (secret(folder.path(), PASSPHRASE), secret(folder.path(), "wrong"));
    let with = |file: &Path| ["--passphrase-file".to_owned(), file.to_str().unwrap().to_owned()];
    let (right, wrong) = (with(&right), with(&wrong));
    let right: Vec<&str> = right.iter().map(String::as_str).collect();
    let run = passes(&place, &right);
    assert!(run.out.contains("passphrase ok: right"), "{}", run.out);
    assert!(!run.said().contains(PASSPHRASE), "a passphrase is never shown");
    finds(&place, &[], 12, "passphrase", "");
    finds(&place, &wrong.each_ref().map(String::as_str), 12, "passphrase", "passphrase");
    // The box knows the passphrase, and that does not count.
    let box_ = SmallBox::new();
    let storage = serde_json::json!({"a": {"credentials": {"encryption_passphrase": PASSPHRASE}}}).to_string();
    let database = rusqlite::Connection::open(box_.root.join("var/lib/plinth/plinth.sqlite3")).unwrap();
    let insert = "INSERT INTO plinth_kvstore VALUES ('network_storage', ?1)";
    database.execute(insert, [serde_json::to_string(&storage).unwrap()]).unwrap();
    drop(database);
    let onto = box_.root.to_str().unwrap();
    finds(&place, &["--onto", onto], 12, "passphrase", "");
    let said = drill(&place, &["--onto", onto]).out.replace("\n    ", " ");
    assert!(said.contains("keeps passphrases itself, but they are lost when it is"), "{said}");
    passes(&place, &["--onto", onto, "--old-system", onto]);
    // A byte of a segment with content, then the segment itself.
    let segments = repository.segments();
    let largest = segments.iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let whole = fs::read(largest).unwrap();
    fs::write(largest, changed(whole.clone(), whole.len() / 2)).unwrap();
    finds(&place, &right, 15, "content", "");
    fs::write(largest, &whole[..whole.len() / 2]).unwrap();
    finds(&place, &right, 10, "backup", "is damaged in the description of 'first'");
    fs::write(largest, &whole).unwrap();
    passes(&place, &right);
    // The key itself.
    let config = place.join("config");
    let kept = fs::read_to_string(&config).unwrap();
    let key = kept.find("key = ").unwrap() + 6;
    fs::write(&config, format!("{}{}", &kept[..key + 40], &kept[key + 80..])).unwrap();
    finds(&place, &right, 15, "content", "key");
    fs::write(&config, &kept).unwrap();
    // No archive.
    repository.run(&["delete", &format!("{}::first", place.display())], Path::new("/"));
    finds(&place, &right, 10, "backup", "holds no backup");
}
