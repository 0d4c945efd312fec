//! Reading archives: against GNU tar, against hostile and damaged ones.

#![allow(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used, reason = "this is test code")]

#[path = "../common/mod.rs"]
mod common;
mod forms;
mod hostile;
mod reading;

use common::archives::*;
use lifeboat::model::digest::Sha256Digest;
use lifeboat::model::entry::{Entry, EntryKind};
use lifeboat::model::path::RelPath;
use lifeboat::source::{self, NoPassphrase, Proof, ReadError};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

fn path(text: &str) -> RelPath {
    text.parse().unwrap()
}

/// Compares entries with what GNU tar extracted into `root`: nothing more, nothing less, and everything equal.
fn assert_same_as_extracted(entries: &[(Entry, Sha256Digest)], root: &Path, owners: bool) {
    let mut seen = std::collections::BTreeSet::new();
    for (entry, digest) in entries {
        let at = root.join(entry.path.as_path());
        let meta = std::fs::symlink_metadata(&at).unwrap_or_else(|error| panic!("{}: {error}", entry.path));
        seen.insert(entry.path.clone());
        match &entry.kind {
            EntryKind::File { size, .. } => {
                assert!(meta.is_file(), "{}", entry.path);
                assert_eq!(meta.len(), *size, "{}", entry.path);
                assert_eq!(Sha256Digest::of(&std::fs::read(&at).unwrap()), *digest, "{}", entry.path);
            }
            EntryKind::Directory => assert!(meta.is_dir(), "{}", entry.path),
            EntryKind::Symlink { target } => {
                assert_eq!(std::fs::read_link(&at).unwrap().as_os_str().as_bytes(), target, "{}", entry.path);
            }
            EntryKind::HardLink { to } => {
                assert_eq!(meta.ino(), std::fs::symlink_metadata(root.join(to.as_path())).unwrap().ino());
                continue;
            }
            EntryKind::Fifo => assert!(meta.file_type().is_fifo(), "{}", entry.path),
        }
        if !matches!(entry.kind, EntryKind::Symlink { .. }) {
            assert_eq!(meta.mode() & 0o7777, entry.mode, "{}", entry.path);
        }
        assert_eq!(
            (meta.mtime(), meta.mtime_nsec()),
            (entry.mtime.secs, i64::from(entry.mtime.nanos)),
            "{}",
            entry.path
        );
        if owners {
            assert_eq!((meta.uid(), meta.gid()), (entry.owner.uid, entry.owner.gid), "{}", entry.path);
        }
    }
    let mut on_disk = std::collections::BTreeSet::new();
    for found in walkdir::WalkDir::new(root).min_depth(1) {
        let found = found.unwrap();
        let below = found.path().strip_prefix(root).unwrap();
        on_disk.insert(RelPath::parse(below.as_os_str().as_bytes()).unwrap());
    }
    // Parents that the archive does not list are made by tar.
    let mut listed = seen.clone();
    seen.iter().for_each(|path| listed.extend(path.ancestors()));
    assert_eq!(listed, on_disk);
}

/// Opens `archive` and compares it with what GNU tar makes of it.
fn assert_read_as_gnu_tar_does(archive: &Path) -> Option<Vec<(Entry, Sha256Digest)>> {
    let folder = tempfile::tempdir().unwrap();
    let name = archive.to_str().unwrap();
    gnu_tar(&["-x", "-p", "--numeric-owner", "--force-local", "-f", name], folder.path())?;
    let (entries, _) = collect(&mut *source::open(archive).unwrap()).unwrap();
    assert!(!entries.is_empty());
    assert_same_as_extracted(&entries, folder.path(), is_root());
    Some(entries)
}

#[test]
fn archives_of_a_real_freedombox_are_read_as_gnu_tar_reads_them() {
    let Some(folder) = fixtures() else { return };
    let truth: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("backups.json")).unwrap()).unwrap();
    for export in truth["exports"].as_array().unwrap() {
        let file = folder.join(export["file"].as_str().unwrap());
        assert_read_as_gnu_tar_does(&file);
        let mut archive = source::open(&file).unwrap();
        let (_, ending) = collect(&mut *archive).unwrap();
        assert_eq!((ending.proof, ending.findings), (Proof::Checked("gzip CRC-32".into()), vec![]));
        let names: Vec<String> = archive.summary().unwrap().apps.iter().map(|app| app.name.to_string()).collect();
        let listed = truth["archives"]
            .as_array()
            .unwrap()
            .iter()
            .find(|archive| archive["repo"] == export["repo"] && archive["name"] == export["archive"]);
        let mut expected: Vec<&str> =
            listed.unwrap()["apps"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
        names.sort_unstable();
        expected.sort_unstable();
        assert_eq!(names, expected);
    }
}

#[test]
fn a_plain_tar_is_read_and_says_that_nothing_proves_it() {
    let bytes = RawTar::new().dir("./").dir("./a").file("./a/f", b"content").symlink("a/l", "/etc/localtime").end();
    let (entries, ending) = collect_bytes(&bytes).unwrap();
    let paths: Vec<&RelPath> = entries.iter().map(|(entry, _)| &entry.path).collect();
    assert_eq!(paths, [&path("a"), &path("a/f"), &path("a/l")]);
    assert!(matches!(ending.proof, Proof::Unproven(_)));
    assert_eq!(ending.findings.len(), 1, "the root's own entry is mentioned");
    assert!(matches!(collect_bytes(&gzip(&bytes)).unwrap().1.proof, Proof::Checked(_)));
    assert!(matches!(collect_bytes(b"hello"), Err(ReadError::NotABackup(_))));
}

/// What reading these bytes ends with, in words.
fn error_of(bytes: &[u8]) -> String {
    match collect_bytes(bytes) {
        Ok((entries, _)) => panic!("read without error: {entries:?}"),
        Err(error) => error.to_string(),
    }
}

/// What GNU tar makes of a tree that `fill` makes, with `options`, against what is read here.
fn against_gnu_tar(options: &[&str], fill: &dyn Fn(&Path)) -> Option<Vec<(Entry, Sha256Digest)>> {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    std::fs::create_dir(&tree).unwrap();
    fill(&tree);
    let archive = folder.path().join("a.tar");
    let mut args = vec!["-c", "-f", archive.to_str().unwrap(), "--sort=name"];
    args.extend_from_slice(options);
    args.extend_from_slice(&["-C", tree.to_str().unwrap(), "."]);
    gnu_tar(&args, folder.path())?;
    // The root's own entry sets the root's times, which nobody compares.
    assert_read_as_gnu_tar_does(&archive)
}

fn names(entries: &[(Entry, Sha256Digest)]) -> Vec<&[u8]> {
    entries.iter().map(|(entry, _)| entry.path.as_bytes()).collect()
}
