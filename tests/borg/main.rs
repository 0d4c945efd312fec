//! Borg repositories, written by real borg: everything comes back as it was, damage is named, nothing is written.

#![allow(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used, reason = "this is test code")]

#[path = "../common/mod.rs"]
mod common;
mod damage;
mod freedombox;
mod states;
mod unlocking;
mod whole;

use common::archives::{collect, fixtures, is_root};
use common::repositories::*;
use lifeboat::failure::Failure;
use lifeboat::formats::acl;
use lifeboat::model::archive::ArchiveSummary;
use lifeboat::model::digest::Sha256Digest;
use lifeboat::model::ending::Ending as RunEnding;
use lifeboat::model::entry::{Entry, EntryKind};
use lifeboat::model::finding::{Finding, Severity, Verdict};
use lifeboat::model::path::RelPath;
use lifeboat::model::progress::{Event, Progress, Silent};
use lifeboat::source::{self, Archive, Ending, Listing, NoPassphrase, Proof, ReadError};
use lifeboat::verify::{NoObserver, Scope, Verified, verify};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

const MODES: [&str; 7] =
    ["none", "repokey", "repokey-blake2", "keyfile", "keyfile-blake2", "authenticated", "authenticated-blake2"];
const COMPRESSIONS: [&str; 7] = ["none", "lz4", "zstd,3", "zlib,6", "lzma,0", "auto,zstd,3", "obfuscate,110,zlib,1"];

type Read = (Vec<(Entry, Sha256Digest)>, Ending);

fn listing(repository: &Repository) -> Listing {
    source::list(&repository.path(), &mut repository.keys()).unwrap()
}

fn open(repository: &Repository, name: &str) -> Box<dyn Archive> {
    let archives = listing(repository).archives;
    let found = archives.iter().find(|archive| archive.name.as_deref() == Some(name)).unwrap();
    source::open_location(&repository.path(), Some(&found.id), &mut repository.keys()).unwrap()
}

fn read(repository: &Repository, name: &str) -> Read {
    collect(open(repository, name).as_mut()).unwrap()
}

const MANIFEST: &str = r#"{"apps": [
    {"name": "one", "version": 1, "backup": {"data": {"directories": ["/var/lib/one/"]}}},
    {"name": "two", "version": 2, "backup": {"data": {"directories": ["/var/lib/two"]}}}]}"#;

/// Two apps, whose files are one piece of content each, stored as they are.
fn two_apps(borg: &Borg, mode: &str) -> (Repository, tempfile::TempDir) {
    let tree = tempfile::tempdir().unwrap();
    let lib = tree.path().join("var/lib");
    for n in 0..30 {
        write(&lib.join(format!("one/file {n:02}")), &noise(n, 20_000));
        write(&lib.join(format!("two/file {n:02}")), &noise(100 + n, 30_000));
    }
    write(&lib.join("one/copy of 07"), &noise(7, 20_000));
    fs::hard_link(lib.join("one/file 07"), lib.join("one/link to 07")).unwrap();
    write(&lib.join("plinth/backups-manifests/a.json"), MANIFEST.as_bytes());
    let repository = Repository::new(borg, mode, "p");
    repository.create("a", "none", tree.path());
    (repository, tree)
}

fn check(repository: &Repository) -> Verified {
    let roots = ["var/lib/one".parse().unwrap(), "var/lib/two".parse().unwrap()];
    let scope = Scope { roots: &roots, apps: None, dumps: &[], skip: &|_| false };
    verify(open(repository, "a").as_mut(), &scope, &mut NoObserver, &Silent).unwrap()
}

fn verdicts(verified: &Verified) -> [Verdict; 2] {
    ["one", "two"].map(|app| verified.report.verdict(&app.parse().unwrap()).unwrap())
}

fn damaged(verified: &Verified) -> BTreeSet<String> {
    let damage = verified.report.findings.iter().filter(|finding| finding.severity == Severity::Damage);
    damage.map(|finding| finding.subject.clone()).collect()
}

/// Where content lies in the repository's files.
fn find(repository: &Repository, content: &[u8]) -> (std::path::PathBuf, usize) {
    let found = repository.segments().into_iter().find_map(|path| {
        let raw = fs::read(&path).unwrap();
        let at = raw.windows(64).position(|window| window == &content[..64])?;
        Some((path, at))
    });
    found.unwrap()
}

fn flip(path: &Path, at: usize) {
    let mut raw = fs::read(path).unwrap();
    raw[at] ^= 0x10;
    fs::write(path, raw).unwrap();
}

/// Entries agree in everything with what lies on the disk below `root`.
fn assert_like_disk(entries: &[(Entry, Sha256Digest)], root: &Path) {
    let mut first_names = BTreeMap::new();
    let mut names_of: BTreeMap<u64, u64> = BTreeMap::new();
    for (entry, digest) in entries {
        let path = root.join(entry.path.as_path());
        let meta = fs::symlink_metadata(&path).unwrap();
        let name = &entry.path;
        let kind = meta.file_type();
        match &entry.kind {
            EntryKind::File { size, sparse } => {
                assert!(kind.is_file(), "{name}");
                assert_eq!(*size, meta.size(), "{name}");
                assert_eq!(*digest, Sha256Digest::of(&fs::read(&path).unwrap()), "{name}");
                assert_eq!(*sparse, entry.path.file_name() == b"sparse", "{name}");
                first_names.insert(entry.path.clone(), meta.ino());
            }
            EntryKind::HardLink { to } => assert_eq!(first_names.get(to), Some(&meta.ino()), "{name}"),
            EntryKind::Directory => assert!(kind.is_dir(), "{name}"),
            EntryKind::Symlink { target } => {
                assert_eq!(fs::read_link(&path).unwrap().as_os_str().as_bytes(), target, "{name}");
            }
            EntryKind::Fifo => {
                assert!(kind.is_fifo(), "{name}");
                first_names.insert(entry.path.clone(), meta.ino());
            }
        }
        *names_of.entry(meta.ino()).or_default() += u64::from(!kind.is_dir());
        assert_eq!(entry.mode, meta.mode() & 0o7777, "{name}");
        assert_eq!((entry.owner.uid, entry.owner.gid), (meta.uid(), meta.gid()), "{name}");
        assert_eq!((entry.mtime.secs, i64::from(entry.mtime.nanos)), (meta.mtime(), meta.mtime_nsec()), "{name}");
        if matches!(entry.kind, EntryKind::HardLink { .. }) {
            continue;
        }
        let mut listed = vec![0u8; 4096];
        let length = rustix::fs::llistxattr(&path, &mut listed).unwrap();
        let names = listed[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty());
        let mut expected: BTreeMap<Vec<u8>, Vec<u8>> = names
            .map(|xattr| {
                let mut value = vec![0u8; 4096];
                let name = std::ffi::OsStr::from_bytes(xattr);
                let length = rustix::fs::lgetxattr(&path, name, &mut value).unwrap();
                (xattr.to_vec(), value[..length].to_vec())
            })
            .collect();
        for (text, attribute) in [(&entry.acl_access, "access"), (&entry.acl_default, "default")] {
            let value = text.as_ref().map(|text| acl::attribute(text, |_, _, id| id.unwrap()).unwrap());
            // A list of only the three classes says what the mode says; the kernel keeps none.
            let value = value.filter(|value| value.len() != 4 + 3 * 8);
            assert_eq!(value, expected.remove(format!("system.posix_acl_{attribute}").as_bytes()), "{name}");
        }
        let found: BTreeMap<Vec<u8>, Vec<u8>> = entry.xattrs.iter().cloned().collect();
        assert_eq!(found, expected, "{name}");
    }
    for (entry, _) in entries.iter().filter(|(entry, _)| entry.kind != EntryKind::Directory) {
        let meta = fs::symlink_metadata(root.join(entry.path.as_path())).unwrap();
        assert_eq!(names_of.get(&meta.ino()), Some(&meta.nlink()), "all names of '{}' are there", entry.path);
    }
}
