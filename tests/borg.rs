//! Borg repositories, written by real borg: everything comes back as it was, damage is named, nothing is written.

#![allow(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used, reason = "this is test code")]

mod common;

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

/// Borg lists the same paths in the same order.
fn assert_like_list(entries: &[(Entry, Sha256Digest)], repository: &Repository, name: &str) {
    let archive = format!("{}::{name}", repository.path().display());
    let listed = repository.run(&["list", &archive, "--format", "{bpath}{NUL}"], Path::new("/"));
    let listed: Vec<&[u8]> = listed.split(|&byte| byte == 0).filter(|path| !path.is_empty()).collect();
    let ours: Vec<&[u8]> = entries.iter().map(|(entry, _)| entry.path.as_bytes()).collect();
    assert_eq!(ours.len(), listed.len());
    for (ours, listed) in ours.into_iter().zip(listed) {
        // Borg prints a question mark for each byte that is not text; the bytes were compared with the disk.
        let text: String =
            ours.utf8_chunks().map(|part| part.valid().to_owned() + &"?".repeat(part.invalid().len())).collect();
        assert_eq!(text, String::from_utf8_lossy(listed));
    }
}

/// What borg says of each entry as JSON is what was read.
fn assert_like_json(entries: &[(Entry, Sha256Digest)], repository: &Repository, name: &str) {
    let archive = format!("{}::{name}", repository.path().display());
    let listed = repository.run(&["list", "--json-lines", &archive], Path::new("/"));
    let listed: Vec<serde_json::Value> =
        String::from_utf8_lossy(&listed).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(entries.len(), listed.len());
    for ((entry, _), said) in entries.iter().zip(&listed) {
        let (letter, target) = match &entry.kind {
            EntryKind::File { .. } => ("-", None),
            EntryKind::HardLink { to } => ("-", Some(to.to_string())),
            EntryKind::Directory => ("d", None),
            EntryKind::Symlink { target } => ("l", String::from_utf8(target.clone()).ok()),
            EntryKind::Fifo => ("p", None),
        };
        let name = &entry.path;
        assert_eq!((said["type"].as_str(), said["healthy"].as_bool()), (Some(letter), Some(true)), "{name}");
        // Its mode alone says that an entry is a hard link, as `ls` does not.
        let first = if matches!(entry.kind, EntryKind::HardLink { .. }) { "h" } else { letter };
        assert_eq!(said["mode"].as_str().unwrap(), format!("{first}{}", words_of(entry.mode)), "{name}");
        let owner = (said["uid"].as_u64().unwrap(), said["gid"].as_u64().unwrap());
        assert_eq!(owner, (entry.owner.uid.into(), entry.owner.gid.into()), "{name}");
        for (ours, theirs) in [(&entry.owner.user, &said["user"]), (&entry.owner.group, &said["group"])] {
            let ours = ours.as_ref().map(|name| String::from_utf8(name.clone()).unwrap()).unwrap_or_default();
            assert_eq!(theirs.as_str().unwrap_or_default(), ours, "{name}");
        }
        if let EntryKind::File { size, .. } = entry.kind {
            assert_eq!(said["size"].as_u64(), Some(size), "{name}");
        }
        let shown = said["linktarget"].as_str().or(said["source"].as_str()).unwrap_or_default();
        assert!(target.is_none_or(|target| target == shown), "{name}");
    }
}

/// Permissions as `ls` writes them.
fn words_of(mode: u32) -> String {
    let mut words = String::new();
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift & 7;
        words.push(if bits & 4 != 0 { 'r' } else { '-' });
        words.push(if bits & 2 != 0 { 'w' } else { '-' });
        words.push(match (mode & special != 0, bits & 1 != 0) {
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    words
}

fn check_one(borg: &Borg, mode: &str, compression: &str, tree: &Path) {
    let passphrase = if mode == "none" { "" } else { "Zoë's pass ☂ phrase" };
    let repository = Repository::new(borg, mode, passphrase);
    repository.create("first", compression, tree);
    let before = fingerprint(&repository.path());
    let (entries, ending) = read(&repository, "first");
    assert!(fingerprint(&repository.path()) == before, "reading leaves the repository as it was");
    assert!(matches!(ending.proof, Proof::Checked(_)));
    assert!(ending.findings.is_empty(), "{:?}", ending.findings);
    assert_like_disk(&entries, tree);
    assert_like_list(&entries, &repository, "first");
    assert_like_json(&entries, &repository, "first");
    assert_eq!(entries.len(), walkdir::WalkDir::new(tree).min_depth(1).into_iter().count());
}

#[test]
fn every_mode_gives_everything_back() {
    let tree = tempfile::tempdir().unwrap();
    rich_tree(tree.path());
    for borg in borgs() {
        for mode in MODES {
            for compression in ["lz4", "auto,zstd,3"] {
                println!("{borg:?} {mode} {compression}");
                check_one(&borg, mode, compression, tree.path());
            }
        }
    }
}

#[test]
fn every_compression_gives_everything_back() {
    let tree = tempfile::tempdir().unwrap();
    rich_tree(tree.path());
    for borg in borgs() {
        for mode in ["none", "repokey"] {
            // Borg 1.1 hides no lengths.
            let known = |compression: &&str| !compression.starts_with("obfuscate") || borg.version() >= vec![1, 2];
            for compression in COMPRESSIONS.into_iter().filter(known) {
                println!("{borg:?} {mode} {compression}");
                check_one(&borg, mode, compression, tree.path());
            }
        }
    }
}

#[test]
fn what_borg_extracts_is_what_is_read() {
    let tree = tempfile::tempdir().unwrap();
    rich_tree(tree.path());
    if !is_root() {
        eprintln!("SKIPPED: only root can extract owners");
        return;
    }
    fs::hard_link(tree.path().join("tree/fifo"), tree.path().join("tree/second fifo")).unwrap();
    for borg in borgs() {
        let repository = Repository::new(&borg, "repokey", "p");
        repository.create("a", "zlib,1", tree.path());
        let out = tempfile::tempdir().unwrap();
        let by_number = if borg.version() < vec![1, 2] { "--numeric-owner" } else { "--numeric-ids" };
        repository.run(&["extract", by_number, &format!("{}::a", repository.path().display())], out.path());
        let (entries, _) = read(&repository, "a");
        assert_like_disk(&entries, out.path());
    }
}

/// Adds up what was reported.
#[derive(Default)]
struct Sum(AtomicU64, AtomicU64);

impl Progress for Sum {
    fn event(&self, event: Event) {
        if let Event::Advance { bytes, entries } = event {
            self.0.fetch_add(bytes, Ordering::Relaxed);
            self.1.fetch_add(entries, Ordering::Relaxed);
        }
    }
}

#[test]
fn many_small_files_and_a_large_one_come_in_order_and_progress_adds_up() {
    let tree = tempfile::tempdir().unwrap();
    for n in 0..2000u64 {
        write(&tree.path().join(format!("many/{:02}/{n}", n % 40)), &noise(n, (n % 300) as usize));
    }
    write(&tree.path().join("large"), &noise(9, 40 << 20));
    for borg in borgs() {
        let repository = Repository::new(&borg, "repokey", "p");
        repository.create("a", "lz4", tree.path());
        let (entries, _) = read(&repository, "a");
        assert_eq!(entries.len(), 2042);
        assert_like_disk(&entries, tree.path());
        assert_like_list(&entries, &repository, "a");

        let mut archive = open(&repository, "a");
        let sum = Sum::default();
        archive.read(&mut common::archives::Collect::default(), &sum).unwrap();
        assert_eq!(Some(sum.0.into_inner()), archive.size().map(|size| size.0));
        assert_eq!(sum.1.into_inner(), 2042);
    }
}

#[test]
fn a_visitor_may_stop_and_the_archive_may_be_read_again() {
    struct Stopper(u32);
    impl source::Visitor for Stopper {
        fn visit(&mut self, _: &Entry, _: &mut dyn std::io::BufRead) -> Result<(), source::VisitError> {
            self.0 += 1;
            if self.0 == 5 { Err(source::VisitError::Stop) } else { Ok(()) }
        }
    }
    let tree = tempfile::tempdir().unwrap();
    rich_tree(tree.path());
    for borg in borgs() {
        let repository = Repository::new(&borg, "none", "");
        repository.create("a", "lz4", tree.path());
        let mut archive = open(&repository, "a");
        let mut stopper = Stopper(0);
        assert!(matches!(archive.read(&mut stopper, &Silent), Err(ReadError::Stopped)));
        assert_eq!(stopper.0, 5);
        assert_like_disk(&collect(archive.as_mut()).unwrap().0, tree.path());
    }
}

#[test]
fn devices_are_refused_by_name() {
    let tree = tempfile::tempdir().unwrap();
    let device = tree.path().join("null device");
    let made = rustix::fs::mknodat(
        rustix::fs::CWD,
        &device,
        rustix::fs::FileType::CharacterDevice,
        rustix::fs::Mode::from(0o600),
        rustix::fs::makedev(1, 3),
    );
    if made.is_err() {
        eprintln!("SKIPPED: device files cannot be made here");
        return;
    }
    for borg in borgs() {
        let repository = Repository::new(&borg, "none", "");
        repository.create("a", "lz4", tree.path());
        let error = collect(open(&repository, "a").as_mut()).unwrap_err();
        assert!(matches!(&error, ReadError::Unsupported { entry, .. } if entry == "null device"), "{error}");
    }
}

#[test]
fn passphrases_are_tried_the_empty_one_first_and_each_failure_has_its_error() {
    let tree = tempfile::tempdir().unwrap();
    write(&tree.path().join("f"), b"x");
    for borg in borgs() {
        let open = Repository::new(&borg, "repokey", "");
        open.create("a", "lz4", tree.path());
        let mut keys = Keys::default();
        assert_eq!(source::list(&open.path(), &mut keys).unwrap().archives.len(), 1);
        assert_eq!(keys.asked, 0, "the empty passphrase needs no question");

        let locked = Repository::new(&borg, "repokey-blake2", "pässwörd ☂");
        locked.create("a", "lz4", tree.path());
        let list = |keys: &mut Keys| source::list(&locked.path(), keys);
        let mut several = Keys { passphrases: vec!["no".into(), "pässwörd ☂".into()], ..Keys::default() };
        assert_eq!(list(&mut several).unwrap().archives.len(), 1);
        let error = list(&mut Keys { passphrases: vec!["passwort".into()], ..Keys::default() }).unwrap_err();
        assert!(matches!(error, ReadError::WrongPassphrase(_)), "{error}");
        assert_eq!(Failure::from(error).ending, RunEnding::WrongPassphrase);
        let error = source::list(&locked.path(), &mut NoPassphrase).unwrap_err();
        assert!(matches!(error, ReadError::NeedsPassphrase(_)), "{error}");
        assert_eq!(Failure::from(error).ending.code(), 12);

        // The reason is told too where the repository is only found in a folder.
        let error = source::list(locked.home.path(), &mut NoPassphrase).unwrap_err();
        assert!(matches!(error, ReadError::NeedsPassphrase(_)), "{error}");
    }
}

#[test]
fn keys_outside_of_the_repository_are_needed_and_checked() {
    let tree = tempfile::tempdir().unwrap();
    write(&tree.path().join("f"), b"x");
    for borg in borgs() {
        let repository = Repository::new(&borg, "keyfile", "p");
        repository.create("a", "lz4", tree.path());
        let passphrases = vec!["p".to_owned()];
        let list = |key_file| {
            let mut keys = Keys { passphrases: passphrases.clone(), key_file, asked: 0 };
            source::list(&repository.path(), &mut keys).map(|listing| listing.archives.len())
        };
        assert_eq!(list(repository.key_file()).unwrap(), 1);
        assert!(matches!(list(None), Err(ReadError::NeedsKeyFile(_))));
        assert!(matches!(list(Some(b"hello\n".to_vec())), Err(ReadError::BadKeyFile(_))));
        let other = Repository::new(&borg, "keyfile", "p");
        assert!(matches!(list(other.key_file()), Err(ReadError::BadKeyFile(_))));

        // An exported key opens a repository whose config lost it.
        let inside = Repository::new(&borg, "repokey", "p");
        inside.create("a", "lz4", tree.path());
        let export = inside.home.path().join("export");
        inside.run(&["key", "export", inside.path().to_str().unwrap(), export.to_str().unwrap()], Path::new("/"));
        let config = inside.path().join("config");
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, &text[..text.find("key = ").unwrap()]).unwrap();
        let mut keys = Keys { passphrases, key_file: Some(fs::read(&export).unwrap()), asked: 0 };
        assert_eq!(source::list(&inside.path(), &mut keys).unwrap().archives.len(), 1);
        fs::write(&config, text.replace("key = ", "key = AAAA")).unwrap();
        assert!(matches!(source::list(&inside.path(), &mut NoPassphrase), Err(ReadError::Corrupt { .. })));
    }
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

const SEVEN: [&str; 3] = ["var/lib/one/copy of 07", "var/lib/one/file 07", "var/lib/one/link to 07"];

#[test]
fn a_flipped_byte_damages_exactly_the_files_that_hold_it() {
    for borg in borgs() {
        for mode in ["none", "authenticated"] {
            let (repository, _tree) = two_apps(&borg, mode);
            let whole = check(&repository);
            assert_eq!(verdicts(&whole), [Verdict::Intact; 2]);
            assert!(damaged(&whole).is_empty());
            let (segment, at) = find(&repository, &noise(7, 64));
            flip(&segment, at + 12_345);
            let verified = check(&repository);
            assert_eq!(damaged(&verified), SEVEN.map(String::from).into(), "{:?}", verified.report.findings);
            assert_eq!(verdicts(&verified), [Verdict::Damaged, Verdict::Intact]);
            assert!(!verified.report.is_undamaged());
            let one: RelPath = "var/lib/one".parse().unwrap();
            assert_eq!(verified.contents.root(&one).unwrap().files, 29, "what is left is counted");
        }
    }
}

#[test]
fn what_borg_check_calls_damaged_is_called_damaged_and_nothing_else() {
    for borg in borgs() {
        let (repository, _tree) = two_apps(&borg, "repokey");
        assert!(repository.is_sound() && check(&repository).report.is_undamaged());
        let segment = repository.segments().into_iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
        let whole = fs::read(&segment).unwrap();
        for at in (200..whole.len()).step_by(whole.len() / 4) {
            flip(&segment, at);
            let is_sound = repository.is_sound();
            let archives = source::list(&repository.path(), &mut repository.keys()).map(|listing| listing.archives);
            let ours = archives.is_ok_and(|archives| archives.len() == 1) && check(&repository).report.is_undamaged();
            assert!(!is_sound && !ours, "byte {at}: borg {is_sound}, lifeboat {ours}");
            fs::write(&segment, &whole).unwrap();
        }
    }
}

#[test]
fn a_flipped_byte_anywhere_is_noticed_in_an_encrypted_repository() {
    for borg in borgs() {
        let (repository, _tree) = two_apps(&borg, "repokey");
        let segment = repository.segments().into_iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
        let whole = fs::read(&segment).unwrap();
        for at in (100..whole.len()).step_by(whole.len() / 9) {
            flip(&segment, at);
            let archives = source::list(&repository.path(), &mut repository.keys()).map(|listing| listing.archives);
            match archives.as_deref() {
                Ok([_]) => assert!(!check(&repository).report.is_undamaged(), "byte {at}"),
                Ok(_) => assert!(archives.unwrap().is_empty()),
                Err(error) => assert!(matches!(error, ReadError::Corrupt { .. }), "byte {at}: {error}"),
            }
            fs::write(&segment, &whole).unwrap();
        }
    }
}

#[test]
fn bytes_that_are_gone_cost_one_object_and_the_rest_is_found_again() {
    for borg in borgs() {
        let (repository, _tree) = two_apps(&borg, "none");
        let (segment, at) = find(&repository, &noise(7, 64));
        let mut raw = fs::read(&segment).unwrap();
        raw.drain(at + 5000..at + 6000);
        fs::write(&segment, raw).unwrap();
        let verified = check(&repository);
        assert_eq!(damaged(&verified), SEVEN.map(String::from).into(), "{:?}", verified.report.findings);
    }
}

#[test]
fn a_damaged_part_of_the_list_of_files_costs_the_app_whose_files_it_named_and_no_other() {
    let tree = tempfile::tempdir().unwrap();
    let lib = tree.path().join("var/lib");
    for app in ["one", "two"] {
        // Borg cuts the list into parts of up to 512 KiB: here less than half of one app's.
        for n in 0..4000 {
            write(&lib.join(format!("{app}/{n:04} {}", "long name ".repeat(15))), b"");
        }
    }
    write(&lib.join("plinth/backups-manifests/a.json"), MANIFEST.as_bytes());
    for borg in borgs() {
        let repository = Repository::new(&borg, "none", "");
        repository.create("a", "none", tree.path());
        let whole = check(&repository);
        assert_eq!(verdicts(&whole), [Verdict::Intact; 2]);
        let name = format!("var/lib/two/2000 {}", "long name ".repeat(15));
        let (segment, at) = find(&repository, name.as_bytes());
        flip(&segment, at + 3);
        let verified = check(&repository);
        assert_eq!(verdicts(&verified), [Verdict::Intact, Verdict::Damaged], "{:?}", verified.report.findings);
        assert!(!verified.report.is_undamaged());
        let said =
            verified.report.findings.iter().filter(|finding| finding.what.contains("of the list of files is lost"));
        assert_eq!(said.count(), 1, "{:?}", verified.report.findings);
        let two: RelPath = "var/lib/two".parse().unwrap();
        let files = verified.contents.root(&two).unwrap().files;
        assert!((1500..4000).contains(&files), "{files} of 4000 files were found around the damage");
    }
}

#[test]
fn a_cut_segment_takes_one_archive_and_leaves_the_other() {
    for borg in borgs() {
        let (repository, tree) = two_apps(&borg, "none");
        write(&tree.path().join("var/lib/two/new"), &noise(500, 50_000));
        repository.create("b", "none", tree.path());
        let (segment, at) = find(&repository, &noise(500, 64));
        let raw = fs::read(&segment).unwrap();
        fs::write(&segment, &raw[..at + 1000]).unwrap();
        let listing = listing(&repository);
        let names: Vec<&str> = listing.archives.iter().filter_map(|archive| archive.name.as_deref()).collect();
        assert_eq!(names, ["a"]);
        // Borg 1.1 has the list of archives in the same file, so that "b" is nowhere any more.
        let is_told = |finding: &Finding| match borg.version() < vec![1, 2] {
            true => finding.what.contains("list of archives is lost"),
            false => finding.subject == "b" && finding.severity == Severity::Damage,
        };
        assert!(listing.findings.iter().any(is_told), "{:?}", listing.findings);
        assert_eq!(verdicts(&check(&repository)), [Verdict::Intact; 2]);
    }
}

#[test]
fn archives_are_found_without_the_list_of_archives() {
    for borg in borgs() {
        for mode in ["none", "repokey", "keyfile-blake2"] {
            let (repository, tree) = two_apps(&borg, mode);
            repository.create("b", "lz4", tree.path());
            let expected = listing(&repository).archives;
            assert_eq!(expected.len(), 2);
            // The heads of all entries that put the list: kind 0, and an id of zeros.
            for segment in repository.segments() {
                let raw = fs::read(&segment).unwrap();
                for at in (8..raw.len().saturating_sub(60)).filter(|at| raw[*at..*at + 33] == [0; 33]) {
                    flip(&segment, at + 45);
                }
            }
            let listing = listing(&repository);
            assert_eq!(listing.archives, expected);
            assert!(listing.findings.iter().any(|finding| finding.what.contains("list of archives is lost")));
            assert_eq!(verdicts(&check(&repository)), [Verdict::Intact; 2]);
        }
    }
}

#[test]
fn the_index_is_only_a_hint() {
    for borg in borgs() {
        let (repository, _tree) = two_apps(&borg, "repokey");
        let expected = read(&repository, "a").0;
        let index = fs::read_dir(repository.path()).unwrap().map(|entry| entry.unwrap().path());
        let index = { index }.find(|path| path.file_name().unwrap().as_bytes().starts_with(b"index.")).unwrap();
        let whole = fs::read(&index).unwrap();
        // Buckets that lead to other objects, and offsets past the end.
        let mut turned = whole.clone();
        turned[18..].chunks_exact_mut(40).for_each(|bucket| bucket[36] ^= 0x41);
        for garbage in [Some(turned), Some(noise(1, whole.len())), Some(whole[..whole.len() / 2].to_vec()), None] {
            match garbage {
                Some(garbage) => fs::write(&index, garbage).unwrap(),
                None => fs::remove_file(&index).unwrap(),
            }
            assert_eq!(read(&repository, "a").0, expected);
            assert_eq!(verdicts(&check(&repository)), [Verdict::Intact; 2]);
        }
    }
}

#[test]
fn an_unfinished_transaction_is_left_out_and_a_stale_lock_is_told() {
    for borg in borgs() {
        let (repository, _tree) = two_apps(&borg, "repokey");
        let expected = read(&repository, "a").0;
        let segments = repository.segments();
        let raw = fs::read(&segments[1]).unwrap();
        fs::write(segments[0].with_file_name("900"), &raw[..raw.len() / 2]).unwrap();
        let lock = repository.path().join("lock.exclusive");
        fs::create_dir(&lock).unwrap();
        fs::write(lock.join("gone@1234.99-0"), b"").unwrap();
        let before = fingerprint(&repository.path());
        let (entries, ending) = read(&repository, "a");
        assert_eq!(entries, expected);
        let said: Vec<Severity> = ending.findings.iter().map(|finding| finding.severity).collect();
        assert_eq!(said, [Severity::Warning, Severity::Note], "{:?}", ending.findings);
        assert_eq!(verdicts(&check(&repository)), [Verdict::Intact; 2]);
        assert_eq!(fingerprint(&repository.path()), before);
    }
}

#[test]
fn deleted_archives_are_not_listed_and_the_others_are_whole() {
    for borg in borgs() {
        let tree = tempfile::tempdir().unwrap();
        rich_tree(tree.path());
        let repository = Repository::new(&borg, "repokey", "p");
        for name in ["one", "two", "three.checkpoint.1"] {
            write(&tree.path().join(format!("extra {name}")), &noise(77, 3000));
            repository.create(name, "lz4", tree.path());
        }
        repository.run(&["delete", &format!("{}::one", repository.path().display())], Path::new("/"));
        let listing = listing(&repository);
        let names: Vec<&str> = listing.archives.iter().filter_map(|archive| archive.name.as_deref()).collect();
        assert_eq!(names, ["two"]);
        assert!(listing.findings.iter().any(|finding| finding.what.contains("three.checkpoint.1")));
        let (entries, _) = read(&repository, "two");
        assert_like_disk(&entries, tree.path());
    }
}

#[test]
fn a_renamed_archive_is_read_and_a_wrong_authentication_is_told() {
    let tree = tempfile::tempdir().unwrap();
    write(&tree.path().join("f"), b"x");
    for borg in borgs() {
        let repository = Repository::new(&borg, "repokey", "p");
        repository.create("old", "lz4", tree.path());
        assert!(read(&repository, "old").1.findings.is_empty());
        repository.run(&["rename", &format!("{}::old", repository.path().display()), "new"], Path::new("/"));
        let (entries, ending) = read(&repository, "new");
        assert_like_disk(&entries, tree.path());
        // Borg 1.2.4 keeps the authentication of the old name; since 1.2.5 it is made anew.
        let warnings = ending.findings.iter().filter(|finding| finding.severity == Severity::Warning);
        let warned = warnings.filter(|finding| finding.what.contains("authentication")).count();
        assert_eq!(warned, usize::from(borg.version() < vec![1, 2, 5]), "{:?}", ending.findings);
    }
}

#[test]
fn pieces_that_borg_replaced_by_zeros_are_damage() {
    for borg in borgs() {
        let (repository, _tree) = two_apps(&borg, "none");
        let (segment, at) = find(&repository, &noise(107, 64));
        flip(&segment, at + 10);
        repository.run(&["check", "--repair", repository.path().to_str().unwrap()], Path::new("/"));
        let verified = check(&repository);
        assert!(damaged(&verified).contains("var/lib/two/file 07"), "{:?}", verified.report.findings);
        assert_eq!(verdicts(&verified), [Verdict::Intact, Verdict::Damaged]);
    }
}

#[test]
fn repositories_of_attic_and_borg_2_are_refused_with_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let config = |version| format!("[repository]\nversion = {version}\nid = {}\n", "0f".repeat(32));
    for (name, version, magic) in [("attic", 1, "ATTICSEG"), ("borg 2", 2, "BORG_SEG")] {
        let path = folder.path().join(name);
        write(&path.join("config"), config(version).as_bytes());
        write(&path.join("data/0/0"), magic.as_bytes());
        for error in [
            source::list(&path, &mut NoPassphrase).unwrap_err(),
            source::open_location(&path, None, &mut NoPassphrase).err().unwrap(),
        ] {
            let words = error.to_string().to_lowercase();
            assert!(matches!(error, ReadError::Unsupported { .. }) && words.contains(name), "{words}");
        }
    }
}

/// The real repositories, unpacked.
fn real(name: &str) -> Option<(tempfile::TempDir, std::path::PathBuf)> {
    let fixtures = fixtures()?;
    let folder = tempfile::tempdir().unwrap();
    common::archives::gnu_tar(&["-xf", fixtures.join(name).to_str().unwrap()], folder.path())?;
    let inside = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    Some((folder, inside))
}

#[test]
fn real_repositories_of_freedombox_are_listed_verified_and_equal_their_exports() {
    let (Some((_a, root)), Some((_b, disk)), Some(fixtures)) =
        (real("root-repo.tar"), real("disk-repo.tar"), fixtures())
    else {
        return;
    };
    let truth: serde_json::Value = serde_json::from_slice(&fs::read(fixtures.join("backups.json")).unwrap()).unwrap();
    let passphrase = truth["passphrase"].as_str().unwrap().to_owned();
    let mut compared = 0;
    for (name, path) in [("root", &root), ("disk", &disk)] {
        let before = fingerprint(path);
        let mut keys = Keys { passphrases: vec![passphrase.clone()], ..Keys::default() };
        let listing = source::list(path, &mut keys).unwrap();
        let apps = |summary: &ArchiveSummary| -> BTreeSet<String> {
            summary.apps.iter().map(|app| app.name.to_string()).collect()
        };
        let ours: BTreeMap<String, BTreeSet<String>> =
            listing.archives.iter().map(|archive| (archive.name.clone().unwrap(), apps(archive))).collect();
        let theirs: BTreeMap<String, BTreeSet<String>> = truth["archives"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|archive| archive["repo"] == name)
            .map(|archive| {
                let apps = archive["apps"].as_array().unwrap();
                let apps = apps.iter().map(|app| app.as_str().unwrap().to_owned()).collect();
                (archive["name"].as_str().unwrap().to_owned(), apps)
            })
            .collect();
        assert_eq!(ours, theirs);
        assert!(!ours.is_empty());
        assert_eq!(keys.asked, u32::from(name == "disk"));

        for summary in &listing.archives {
            let mut archive = source::open_location(path, Some(&summary.id), &mut keys).unwrap();
            let roots = lifeboat::model::manifest::roots();
            let scope = Scope { roots, apps: None, dumps: &[], skip: &lifeboat::rescue::prepare::skips };
            let verified = verify(archive.as_mut(), &scope, &mut NoObserver, &Silent).unwrap();
            assert!(verified.report.is_clean(), "{:?}", verified.report.findings);
            let file = format!("{name}-{}.tar.gz", summary.name.as_ref().unwrap().replace(' ', "_"));
            if fixtures.join(&file).exists() {
                let (exported, _) = collect(source::open(&fixtures.join(&file)).unwrap().as_mut()).unwrap();
                let (ours, _) = collect(archive.as_mut()).unwrap();
                assert_same(&ours, &exported);
                compared += 1;
            }
        }
        assert_eq!(fingerprint(path), before);
    }
    assert_eq!(compared, 3, "each exported archive was compared");
}

/// The same entries, up to what a tar file cannot hold.
fn assert_same(ours: &[(Entry, Sha256Digest)], exported: &[(Entry, Sha256Digest)]) {
    let plain = |entries: &[(Entry, Sha256Digest)]| -> Vec<(Entry, Sha256Digest)> {
        let simple = |(entry, digest): &(Entry, Sha256Digest)| {
            let mut entry = entry.clone();
            if let EntryKind::File { sparse, .. } = &mut entry.kind {
                *sparse = false;
            }
            // Borg's export keeps neither empty names, nor every digit of a time, nor the pieces that it was stored in.
            entry.mtime.nanos = 0;
            entry.fingerprint = None;
            entry.owner.user.get_or_insert_default();
            entry.owner.group.get_or_insert_default();
            (entry, *digest)
        };
        entries.iter().map(simple).collect()
    };
    let (ours, exported) = (plain(ours), plain(exported));
    assert_eq!(ours.len(), exported.len());
    for (a, b) in ours.iter().zip(&exported) {
        assert_eq!(a, b);
    }
}

#[test]
fn the_program_takes_a_passphrase_from_a_file_or_a_descriptor_and_ends_with_12_otherwise() {
    let tree = tempfile::tempdir().unwrap();
    write(&tree.path().join("f"), b"x");
    for borg in borgs() {
        let repository = Repository::new(&borg, "repokey", "secret words ☂");
        repository.create("a", "lz4", tree.path());
        let file = repository.home.path().join("passphrase");
        fs::File::create(&file).unwrap().write_all("secret words ☂\n".as_bytes()).unwrap();
        let run = |args: &[&str], input: Option<&Path>| {
            let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_lifeboat"));
            command.arg("list").arg(repository.path()).args(args);
            match input {
                Some(path) => command.stdin(fs::File::open(path).unwrap()),
                None => command.stdin(std::process::Stdio::null()),
            };
            let output = command.output().unwrap();
            let text = [output.stdout, output.stderr].concat();
            assert!(!text.windows(12).any(|part| part == b"secret words"), "a passphrase is never shown");
            output.status.code().unwrap()
        };
        assert_eq!(run(&["--passphrase-file", file.to_str().unwrap()], None), 0);
        assert_eq!(run(&["--passphrase-fd", "0"], Some(&file)), 0);
        assert_eq!(run(&[], None), 12);
        fs::write(&file, "other").unwrap();
        assert_eq!(run(&["--passphrase-file", file.to_str().unwrap()], None), 12);
        assert_eq!(run(&["--passphrase-file", "/nowhere"], None), 2);
    }
}

#[test]
fn a_file_that_changes_under_the_reader_is_never_taken_for_another() {
    for borg in borgs() {
        let (repository, _tree) = two_apps(&borg, "none");
        let mut archive = open(&repository, "a");
        let (segment, at) = find(&repository, &noise(3, 64));
        let file = fs::OpenOptions::new().write(true).open(&segment).unwrap();
        file.write_all_at(b"another file's bytes", at as u64).unwrap();
        let roots = ["var/lib/one".parse().unwrap()];
        let scope = Scope { roots: &roots, apps: None, dumps: &[], skip: &|_| false };
        let verified = verify(archive.as_mut(), &scope, &mut NoObserver, &Silent).unwrap();
        assert_eq!(damaged(&verified), ["var/lib/one/file 03".to_owned()].into());
    }
}

#[test]
fn deleted_archives_are_found_on_request_until_the_repository_is_compacted() {
    let tree = tempfile::tempdir().unwrap();
    rich_tree(tree.path());
    for (borg, mode) in borgs().iter().zip(["none", "repokey"]) {
        let repository = Repository::new(borg, mode, "pass");
        repository.create("kept", "lz4", tree.path());
        write(&tree.path().join("later"), &noise(9, 300_000));
        repository.create("gone", "lz4", tree.path());
        let id = listing(&repository).archives.iter().find(|it| it.name.as_deref() == Some("gone")).unwrap().id.clone();
        let path = repository.path();
        repository.run(&["delete", &format!("{}::gone", path.display())], Path::new("/"));
        let before = fingerprint(&path);
        let listed = listing(&repository).archives;
        assert_eq!(listed.iter().map(|it| it.name.as_deref().unwrap()).collect::<Vec<_>>(), ["kept"]);
        let deleted = source::list_deleted(&path, &mut repository.keys()).unwrap().archives;
        if borg.version() < vec![1, 2] {
            // Older ones compact after every command.
            continue;
        }
        assert_eq!(deleted.iter().map(|it| &it.id).collect::<Vec<_>>(), [&id], "{borg:?} {mode}");
        let mut archive = source::open_location(&path, Some(&id), &mut repository.keys()).unwrap();
        let (entries, ending) = collect(archive.as_mut()).unwrap();
        assert!(ending.findings.is_empty(), "{:?}", ending.findings);
        assert_like_disk(&entries, tree.path());
        assert!(fingerprint(&path) == before, "nothing was written");
        repository.run(&["compact", "--threshold", "0", path.to_str().unwrap()], Path::new("/"));
        assert!(source::list_deleted(&path, &mut repository.keys()).unwrap().archives.is_empty());
        assert!(source::open_location(&path, Some(&id), &mut repository.keys()).is_err());
        fs::remove_file(tree.path().join("later")).unwrap();
    }
}
