//! Borg repositories made with real borg, and trees to put into them.
#![allow(dead_code, reason = "not every test uses everything")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, missing_docs, reason = "this is test code")]

use lifeboat::model::secret::Secret;
use lifeboat::source::Unlock;
use sha2::{Digest, Sha256};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

/// A borg program.
#[derive(Debug, Clone)]
pub struct Borg(PathBuf);

impl Borg {
    /// Its version: 1, 2, 4.
    pub fn version(&self) -> Vec<u32> {
        let output = Command::new(&self.0).arg("--version").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let numbers = text.trim().trim_start_matches("borg ").split('.');
        numbers.map(|number| number.parse().unwrap_or_default()).collect()
    }
}

/// The installed borg, and those that `LIFEBOAT_BORG` names, separated by colons.
pub fn borgs() -> Vec<Borg> {
    let named = std::env::var_os("LIFEBOAT_BORG").unwrap_or_default();
    let all = std::iter::once(PathBuf::from("borg")).chain(std::env::split_paths(&named));
    let works = |path: &PathBuf| {
        let output = Command::new(path).arg("--version").output();
        output.is_ok_and(|output| output.stdout.starts_with(b"borg 1."))
    };
    let found: Vec<Borg> = all.filter(|path| !path.as_os_str().is_empty()).filter(works).map(Borg).collect();
    if found.is_empty() {
        eprintln!("SKIPPED: borg 1.x is not installed");
    }
    found
}

/// A repository with a home of its own for borg's keys and caches.
pub struct Repository {
    pub borg: Borg,
    pub home: tempfile::TempDir,
    pub passphrase: String,
}

impl Repository {
    /// Makes an empty one.
    pub fn new(borg: &Borg, mode: &str, passphrase: &str) -> Repository {
        let home = tempfile::tempdir().unwrap();
        let made = Repository { borg: borg.clone(), home, passphrase: passphrase.into() };
        made.run(&["init", "-e", mode, made.path().to_str().unwrap()], Path::new("/"));
        made
    }

    pub fn path(&self) -> PathBuf {
        self.home.path().join("repository")
    }

    /// Runs borg and returns what it prints.
    pub fn run(&self, args: &[&str], folder: &Path) -> Vec<u8> {
        let output = self.output(args, folder);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code().is_some_and(|code| code < 2), "borg {args:?}: {said}");
        output.stdout
    }

    /// Whether borg's own check of everything finds nothing.
    pub fn is_sound(&self) -> bool {
        let path = self.path();
        self.output(&["check", "--verify-data", path.to_str().unwrap()], Path::new("/")).status.success()
    }

    fn output(&self, args: &[&str], folder: &Path) -> std::process::Output {
        Command::new(&self.borg.0)
            .args(args)
            .current_dir(folder)
            .env("BORG_BASE_DIR", self.home.path())
            .env("BORG_PASSPHRASE", &self.passphrase)
            .env("BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK", "yes")
            .env("BORG_CHECK_I_KNOW_WHAT_I_AM_DOING", "YES")
            .env("BORG_DISPLAY_PASSPHRASE", "no")
            .env("LC_ALL", "C.UTF-8")
            .output()
            .unwrap()
    }

    /// Backs `folder` up.
    pub fn create(&self, name: &str, compression: &str, folder: &Path) {
        let archive = format!("{}::{name}", self.path().display());
        let names: Vec<OsString> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        let mut names: Vec<&str> = names.iter().map(|name| name.to_str().unwrap()).collect();
        names.sort_unstable();
        let args: Vec<&str> = ["create", "-C", compression, &archive].into_iter().chain(names).collect();
        self.run(&args, folder);
    }

    /// The key that lies outside of the repository, if there is one.
    pub fn key_file(&self) -> Option<Vec<u8>> {
        let folder = self.home.path().join(".config/borg/keys");
        let file = fs::read_dir(folder).ok()?.next()?.unwrap();
        Some(fs::read(file.path()).unwrap())
    }

    /// What opens it.
    pub fn keys(&self) -> Keys {
        Keys { passphrases: vec![self.passphrase.clone()], key_file: self.key_file(), asked: 0 }
    }

    /// Every file of data, by number.
    pub fn segments(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> =
            fs::read_dir(self.path().join("data/0")).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort_by_key(|path| path.file_name().unwrap().to_str().unwrap().parse::<u32>().unwrap());
        files
    }
}

/// Passphrases to try, and how often one was asked for.
#[derive(Default)]
pub struct Keys {
    pub passphrases: Vec<String>,
    pub key_file: Option<Vec<u8>>,
    pub asked: u32,
}

impl Unlock for Keys {
    fn passphrase(&mut self, _: &str, attempt: u32) -> Option<Secret> {
        self.asked += 1;
        self.passphrases.get(attempt as usize).map(|text| Secret::new(text.as_bytes().to_vec()))
    }

    fn key_file(&self) -> Option<&[u8]> {
        self.key_file.as_deref()
    }
}

/// Bytes that do not shrink, the same each time (SplitMix64; without optimisation, a hash of each 32 bytes took longer
/// than borg).
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut content = vec![0; length.next_multiple_of(8)];
    let mut state = seed.wrapping_add(1).wrapping_mul(0xd6e8_feb8_6659_fd93);
    for eight in content.chunks_exact_mut(8) {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        eight.copy_from_slice(&(mixed ^ mixed >> 31).to_le_bytes());
    }
    content.truncate(length);
    content
}

pub fn write(path: &Path, content: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// A tree with everything that a backup may hold.
pub fn rich_tree(folder: &Path) {
    let top = folder.join("tree");
    write(&top.join("plain"), b"text\n");
    write(&top.join("empty"), b"");
    write(&top.join("deep/er/file"), &b"words and words ".repeat(3000));
    write(&top.join("noise"), &noise(1, 100_000));
    write(&top.join(OsStr::from_bytes(b"caf\xe9 \xff")), b"latin");
    write(&top.join("line\nend\ttab"), b"x");
    write(&top.join("x".repeat(255)), b"long");
    write(&top.join("-dash"), b"dash");
    fs::hard_link(top.join("plain"), top.join("second name")).unwrap();
    fs::hard_link(top.join("plain"), top.join("deep/third name")).unwrap();
    symlink("plain", top.join("link")).unwrap();
    symlink("/nowhere/at all", top.join("dangling")).unwrap();
    symlink(OsStr::from_bytes(b"\xfe\xff"), top.join("odd link")).unwrap();
    let fifo = top.join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::from(0o640), 0).unwrap();
    write(&top.join("set-id"), b"#!/bin/sh\n");
    fs::set_permissions(top.join("set-id"), fs::Permissions::from_mode(0o6755)).unwrap();
    fs::set_permissions(top.join("empty"), fs::Permissions::from_mode(0o0)).unwrap();
    fs::create_dir(top.join("sticky")).unwrap();
    fs::set_permissions(top.join("sticky"), fs::Permissions::from_mode(0o1777)).unwrap();
    let sparse = fs::File::create(top.join("sparse")).unwrap();
    sparse.set_len(24 << 20).unwrap();
    std::os::unix::fs::FileExt::write_at(&sparse, b"island", 17 << 20).unwrap();
    for (name, value) in [("user.text", &b"value"[..]), ("user.bytes", b"\0\xff\0"), ("user.none", b"")] {
        let flags = rustix::fs::XattrFlags::empty();
        if let Err(errno) = rustix::fs::lsetxattr(top.join("noise"), name, value, flags) {
            eprintln!("the filesystem keeps no {name}: {errno}");
        }
    }
    if crate::common::archives::is_root() {
        std::os::unix::fs::chown(top.join("deep/er/file"), Some(4711), Some(0x7fff_fffe)).unwrap();
        let acl = Command::new("setfacl").args(["-m", "u:4712:rw,g:10:r"]).arg(top.join("plain")).status();
        let default = Command::new("setfacl").args(["-d", "-m", "u:4712:rwx"]).arg(top.join("deep")).status();
        if !(acl.is_ok_and(|status| status.success()) && default.is_ok_and(|status| status.success())) {
            eprintln!("the tree has no access control lists: setfacl is missing or refused");
        }
        // cap_net_raw+ep, as version 2 of the attribute has it (capabilities(7)).
        let capability = [0x0200_0001u32, 1 << 13, 0, 0, 0].map(u32::to_le_bytes).concat();
        write(&top.join("capable"), b"#!/bin/sh\n");
        let flags = rustix::fs::XattrFlags::empty();
        if let Err(errno) = rustix::fs::lsetxattr(top.join("capable"), "security.capability", &capability, flags) {
            eprintln!("the filesystem keeps no capabilities: {errno}");
        }
    }
    for (name, nanos) in [("plain", 123_456_789u64), ("noise", 5), ("sticky", 999_999_999)] {
        let time = SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, nanos as u32);
        fs::File::open(top.join(name)).unwrap().set_modified(time).unwrap();
    }
}

/// Digest of everything below a folder: names, sizes, times and bytes.
pub fn fingerprint(folder: &Path) -> Vec<u8> {
    let mut hasher = Sha256::new();
    for step in walkdir::WalkDir::new(folder).sort_by_file_name() {
        let step = step.unwrap();
        let meta = step.metadata().unwrap();
        hasher.update(step.path().as_os_str().as_bytes());
        hasher.update([meta.mtime().to_le_bytes(), meta.mtime_nsec().to_le_bytes()].concat());
        if meta.is_file() {
            hasher.update(fs::read(step.path()).unwrap());
        }
    }
    hasher.finalize().to_vec()
}
