//! The preview is what a restore then does: entries that are new, changed, the same and moved away, counted by
//! `lifeboat plan` before and by looking at the box before and after.

#![allow(clippy::print_stderr, clippy::unwrap_used, reason = "this is test code")]

mod common;

use common::archives::{gnu_tar, is_root};
use common::repositories::{Repository, borgs};
use lifeboat::model::digest::Sha256Digest;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

const LIFEBOAT: &str = env!("CARGO_BIN_EXE_lifeboat");
/// Names of a file that the box alone has, in place of the package's.
const DROPIN: &str = "etc/letsencrypt/renewal-hooks/deploy/50-freedombox";
const DATABASE: &str = "var/lib/dbconfig-common/sqlite3/roundcube/roundcube";
/// The apps of the backup with their paths.
const APPS: [(&str, i64, &[&str]); 3] = [
    ("letsencrypt", 4, &["etc/letsencrypt"]),
    ("tiddlywiki", 1, &["var/lib/tiddlywiki"]),
    ("roundcube", 4, &["etc/roundcube/freedombox-config.php", DATABASE]),
];

fn write(root: &Path, path: &str, content: &str) {
    fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
    fs::write(root.join(path), content).unwrap();
}

fn sh(script: &str, folder: &Path) {
    let output = Command::new("sh").args(["-ec", script]).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A box with the three apps installed.
fn fill_box(root: &Path) {
    write(root, "usr/lib/os-release", "PRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\nVERSION_CODENAME=trixie\n");
    write(root, "etc/hostname", "freedombox\n");
    write(root, "etc/fstab", "");
    write(root, "etc/passwd", "root:x:0:0::/root:/bin/sh\nwww-data:x:33:33::/:\n");
    write(root, "etc/group", "root:x:0:\nwww-data:x:33:\n");
    write(root, "var/lib/freedombox/is-freedombox-disk-image", "");
    fs::create_dir_all(root.join("etc/systemd/system")).unwrap();
    let packages = ["certbot", "openssl", "roundcube", "roundcube-core", "roundcube-sqlite3", "sqlite3"];
    let mut status = String::from(
        "Package: dpkg\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n\n\
         Package: freedombox\nStatus: install ok installed\nArchitecture: all\nVersion: 25.9.3\n\n",
    );
    for package in packages {
        status += &format!("Package: {package}\nStatus: install ok installed\nArchitecture: all\nVersion: 1\n\n");
    }
    write(root, "var/lib/dpkg/status", &status);
    fs::create_dir_all(root.join("var/lib/plinth")).unwrap();
    let database = rusqlite::Connection::open(root.join("var/lib/plinth/plinth.sqlite3")).unwrap();
    let tables = "CREATE TABLE plinth_module (name TEXT PRIMARY KEY, setup_version INTEGER);
         CREATE TABLE plinth_kvstore (key TEXT PRIMARY KEY, value_json TEXT);";
    database.execute_batch(tables).unwrap();
    for (app, version, _) in APPS {
        database.execute("INSERT INTO plinth_module VALUES (?1, ?2)", (app, version)).unwrap();
    }
    for (path, content) in [
        ("etc/letsencrypt/cli.ini", "same\n"),
        ("etc/letsencrypt/archive/box/cert1.pem", "same\n"),
        ("etc/letsencrypt/gone/a", "only on the box\n"),
        ("etc/letsencrypt/gone/b", "only on the box\n"),
        ("var/lib/tiddlywiki/same.html", "same\n"),
        ("var/lib/tiddlywiki/content.html", "old content\n"),
        ("var/lib/tiddlywiki/mode", "x"),
        ("var/lib/tiddlywiki/owner", "x"),
        ("var/lib/tiddlywiki/time", "x"),
        ("var/lib/tiddlywiki/attribute", "x"),
        ("var/lib/tiddlywiki/first", "linked\n"),
        ("var/lib/tiddlywiki/other", "linked, and changed\n"),
        ("var/lib/tiddlywiki/apart", "two files\n"),
        ("var/lib/tiddlywiki/was-directory/below/deep", "x"),
        ("var/lib/tiddlywiki/was-file", "x"),
        (DATABASE, "old database"),
    ] {
        write(root, path, content);
    }
    fs::create_dir_all(root.join(DROPIN).parent().unwrap()).unwrap();
    symlink("/usr/share/freedombox/etc/letsencrypt/renewal-hooks/deploy/50-freedombox", root.join(DROPIN)).unwrap();
    fs::create_dir_all(root.join("etc/letsencrypt/live/box")).unwrap();
    symlink("../../archive/box/cert1.pem", root.join("etc/letsencrypt/live/box/cert.pem")).unwrap();
    let wiki = root.join("var/lib/tiddlywiki");
    fs::hard_link(wiki.join("first"), wiki.join("second")).unwrap();
    fs::hard_link(wiki.join("other"), wiki.join("other-too")).unwrap();
    sh("cp -a apart apart-too; ln -s first link", &wiki);
    sh("find . -exec touch -h -d '2024-05-05 05:05:05 UTC' {} +", root);
    // Left-overs that belong to the old database.
    for suffix in ["-wal", "-shm"] {
        write(root, &format!("{DATABASE}{suffix}"), "left over");
    }
}

/// What the backup holds: what the box has, with every kind of change.
fn fill_backup(root: &Path, backup: &Path) {
    fs::create_dir_all(backup).unwrap();
    let copy = "for p in etc/letsencrypt var/lib/tiddlywiki; do mkdir -p \"$OLDPWD/$(dirname $p)\"; cp -a $p \"$OLDPWD/$p\"; done";
    sh(&format!("cd '{}'; {copy}", root.display()), backup);
    sh(
        "rm -r etc/letsencrypt/gone; ln -sfn /etc/letsencrypt/archive/box/cert2.pem etc/letsencrypt/live/box/cert.pem",
        backup,
    );
    write(backup, "etc/letsencrypt/archive/box/cert2.pem", "new\n");
    write(backup, DATABASE, "new database");
    write(backup, "etc/roundcube/freedombox-config.php", "<?php\n");
    let wiki = backup.join("var/lib/tiddlywiki");
    let script = "printf 'new content\\n' >content.html; touch -d '2024-05-05 05:05:05 UTC' content.html
         chmod 600 mode; chown www-data owner 2>/dev/null || chown 33 owner; touch -d '2025-01-01 UTC' time
         printf 'linked, and Changed\\n' >other; touch -d '2024-05-05 05:05:05 UTC' other
         ln -f apart apart-too
         rm -r was-directory was-file; echo x >was-directory; mkdir was-file; echo x >was-file/below
         mkdir new; echo x >new/one; ln new/one new/two; mkfifo new/pipe";
    sh(script, &wiki);
    let flags = rustix::fs::XattrFlags::empty();
    if let Err(error) = rustix::fs::setxattr(wiki.join("attribute"), "user.note", b"new", flags) {
        eprintln!("SKIPPED: user attributes: {error}");
    }
}

fn pack(backup: &Path, file: &Path, apps: &[(&str, i64, &[&str])], directories: bool) -> Option<()> {
    let apps: Vec<Value> = apps
        .iter()
        .map(|(name, version, paths)| {
            let paths: Vec<String> = paths.iter().map(|path| format!("/{path}")).collect();
            let (files, directories): (Vec<_>, Vec<_>) =
                paths.into_iter().partition(|path| backup.join(&path[1..]).is_file());
            serde_json::json!({"name": name, "version": version,
                "backup": {"data": {"files": files, "directories": directories}}})
        })
        .collect();
    let manifest = "var/lib/plinth/backups-manifests/test.json";
    write(backup, manifest, &serde_json::json!({ "apps": apps }).to_string());
    let file = file.display().to_string();
    let mut args = vec!["--format=posix", "--xattrs", "--xattrs-include=user.*", "-czf", &file];
    args.extend(["etc/letsencrypt", "var/lib/tiddlywiki", "etc/roundcube", "var/lib/dbconfig-common"]);
    // The same entries once more, as FreedomBox writes what two of its paths contain.
    args.extend(["var/lib/tiddlywiki/new", "var/lib/tiddlywiki/same.html", manifest]);
    if !directories {
        sh("find etc var ! -type d | sort >../names", backup);
        args = vec!["--format=posix", "--xattrs", "--xattrs-include=user.*", "-czf", &file, "-T", "../names"];
    }
    gnu_tar(&args, backup)
}

/// One entry as far as a preview tells entries apart.
type Node = (char, u32, u32, u32, i64, Option<Sha256Digest>, Option<PathBuf>, Option<Vec<u8>>);

fn nodes(root: &Path, paths: &[&str]) -> BTreeMap<PathBuf, Node> {
    let mut found = BTreeMap::new();
    let mut firsts: BTreeMap<u64, PathBuf> = BTreeMap::new();
    for top in paths.iter().map(|path| root.join(path)) {
        for entry in walkdir::WalkDir::new(top).sort_by_file_name().into_iter().filter_map(Result::ok) {
            let meta = entry.path().symlink_metadata().unwrap();
            let path = entry.path().strip_prefix(root).unwrap().to_owned();
            let (kind, mode) = match meta.file_type() {
                of if of.is_dir() => ('d', meta.permissions().mode()),
                of if of.is_file() => ('f', meta.permissions().mode()),
                of if of.is_symlink() => ('l', 0),
                _ => ('p', meta.permissions().mode()),
            };
            let content = (kind == 'f').then(|| Sha256Digest::of(&fs::read(entry.path()).unwrap()));
            let mut to = (kind == 'l').then(|| fs::read_link(entry.path()).unwrap());
            if kind == 'f' && meta.nlink() > 1 {
                let first = firsts.entry(meta.ino()).or_insert_with(|| path.clone());
                to = (*first != path).then(|| first.clone());
            }
            let mut value = [0; 100];
            let note = (kind == 'f').then(|| rustix::fs::getxattr(entry.path(), "user.note", &mut value[..]).ok());
            let note = note.flatten().map(|length| value[..length].to_vec());
            found.insert(path, (kind, mode, meta.uid(), meta.gid(), meta.mtime(), content, to, note));
        }
    }
    found
}

/// What differs, in the order of the JSON contract: new, changed, same, removed; drop-ins are not counted.
fn count(before: &BTreeMap<PathBuf, Node>, after: &BTreeMap<PathBuf, Node>) -> [u64; 4] {
    let mut counts = [0; 4];
    for path in before.keys().chain(after.keys().filter(|path| !before.contains_key(*path))) {
        if path == Path::new(DROPIN) {
            assert_eq!(before.get(path), after.get(path), "the drop-in stays as it is");
            continue;
        }
        counts[match (before.get(path), after.get(path)) {
            (None, _) => 0,
            (Some(_), None) => 3,
            (Some(old), Some(new)) if old == new => 2,
            _ => 1,
        }] += 1;
    }
    counts
}

fn lifeboat(command: &str, more: &[&str]) -> (i32, String, String) {
    let output = Command::new(LIFEBOAT).arg(command).args(more).output().unwrap();
    let text = |raw: Vec<u8>| String::from_utf8(raw).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn plan(from: &str, onto: &str) -> (i32, Value) {
    let (code, out, err) = lifeboat("plan", &["--json", "--program", LIFEBOAT, "--from", from, "--onto", onto]);
    (code, serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {err}")))
}

fn changes(app: &Value) -> [u64; 4] {
    ["new", "changed", "same", "removed"].map(|name| app["changes"][name].as_u64().unwrap())
}

#[test]
fn the_preview_is_what_the_restore_does_and_a_second_one_changes_nothing() {
    preview_and_restore(true, false);
}

#[test]
fn the_preview_of_a_borg_repository_with_repeated_entries_is_what_the_restore_does() {
    preview_and_restore(true, true);
}

#[test]
fn the_preview_counts_directories_that_the_archive_only_implies() {
    preview_and_restore(false, false);
}

/// Puts what `pack` packs into a borg repository, and entries of overlapping paths more than once.
fn put_into_repository(backup: &Path) -> Option<Repository> {
    let repository = Repository::new(borgs().first()?, "none", "");
    let archive = format!("{}::a", repository.path().display());
    let paths = ["etc/letsencrypt", "var/lib/tiddlywiki", "etc/roundcube", "var/lib/dbconfig-common"];
    let again =
        ["var/lib/tiddlywiki/new", "var/lib/tiddlywiki/same.html", "var/lib/tiddlywiki/content.html", "var/lib/plinth"];
    repository.run(&[&["create", &archive][..], &paths, &again].concat(), backup);
    Some(repository)
}

fn preview_and_restore(directories: bool, in_repository: bool) {
    if !is_root() {
        eprintln!("SKIPPED: restoring owners needs root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (root, backup) = (folder.path().join("box"), folder.path().join("backup"));
    fill_box(&root);
    fill_backup(&root, &backup);
    let file = folder.path().join("backup.tar.gz");
    let Some(()) = pack(&backup, &file, &APPS, directories) else { return };
    let repository = if in_repository { put_into_repository(&backup) } else { None };
    if in_repository && repository.is_none() {
        return;
    }
    let from = repository.as_ref().map_or(file, Repository::path).display().to_string();
    let onto = root.display().to_string();

    let sidecars = [format!("{DATABASE}-wal"), format!("{DATABASE}-shm")];
    let of = |paths: &[&str]| {
        let mut paths = paths.to_vec();
        if paths.contains(&DATABASE) {
            paths.extend(sidecars.iter().map(String::as_str));
        }
        nodes(&root, &paths)
    };
    let before: Vec<_> = APPS.iter().map(|(.., paths)| of(paths)).collect();
    let (code, first) = plan(&from, &onto);
    assert_eq!(code, 0, "{first}");
    assert_eq!(before, APPS.iter().map(|(.., paths)| of(paths)).collect::<Vec<_>>(), "a plan changes nothing");
    let id = first["id"].as_str().unwrap();
    let args = ["--program", LIFEBOAT, "--from", &from, "--onto", &onto, "--consent", id];
    let (code, out, err) = lifeboat("restore", &args);
    assert_eq!(code, 0, "{out}{err}");

    for ((app, before), (name, _, paths)) in first["apps"].as_array().unwrap().iter().zip(&before).zip(APPS) {
        let after = of(paths);
        assert_eq!(app["name"], name);
        let actual = count(before, &after);
        let differing: Vec<_> = before.iter().filter(|(path, node)| after.get(*path) != Some(node)).collect();
        assert_eq!(changes(app), actual, "{name}: {differing:#?}");
        assert!(actual.iter().sum::<u64>() > 0);
    }

    // Another backup has to wait until this restore is settled.
    let other = folder.path().join("other.tar.gz");
    pack(&backup, &other, &APPS[1..], directories).unwrap();
    let (code, waiting) = plan(&other.display().to_string(), &onto);
    assert_eq!((code, &waiting["blockers"][0]["kind"]), (11, &Value::from("unfinished")), "{waiting}");

    let (code, out, err) = lifeboat("commit", &["--onto", &onto]);
    assert_eq!(code, 0, "{out}{err}");
    let (code, again) = plan(&from, &onto);
    assert_eq!(code, 0, "{again}");
    for app in again["apps"].as_array().unwrap() {
        let [new, changed, same, removed] = changes(app);
        assert_eq!([new, changed, removed], [0, 0, 0], "{app}");
        assert!(same > 0, "{app}");
    }
}

#[test]
fn a_plan_ends_with_the_command_that_carries_it_out_or_with_what_forbids_it() {
    if !is_root() {
        eprintln!("SKIPPED: restoring owners needs root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (root, backup) = (folder.path().join("the box"), folder.path().join("backup"));
    fill_box(&root);
    fill_backup(&root, &backup);
    let file = folder.path().join("it's a backup.tar.gz");
    let Some(()) = pack(&backup, &file, &APPS, true) else { return };
    let (from, onto) = (file.display().to_string(), root.display().to_string());
    let args = ["--program", LIFEBOAT, "--from", &from, "--onto", &onto];
    let (code, out, _) = lifeboat("plan", &[&args[..], &["--apps", "tiddlywiki"]].concat());
    assert_eq!(code, 0, "{out}");
    let (_, command) = out.split_once("To carry out this plan, type:\n").unwrap();
    // It is run as it stands, by a shell that finds the program.
    let path = Path::new(LIFEBOAT).parent().unwrap().display().to_string();
    sh(&format!("PATH='{path}':$PATH; {command}"), folder.path());
    assert!(root.join("var/lib/tiddlywiki/new/one").exists() && root.join(format!("{DATABASE}-wal")).exists());
    let (code, out, _) = lifeboat("plan", &args);
    assert_eq!(code, 11, "{out}");
    assert!(out.contains("THIS PLAN CANNOT BE CARRIED OUT") && !out.contains("type:"), "{out}");
}
