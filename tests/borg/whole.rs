//! Everything comes back as borg itself gives it back.

use super::*;

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

/// Every mode with every compression when `LIFEBOAT_ALL=1`. Else each mode once and each compression once, with every borg
/// in other pairs: what encrypts and what shrinks are layers of their own, and it is borg itself that takes the time.
fn pairs(nth: usize) -> Vec<(&'static str, &'static str)> {
    if common::cases::all() {
        return MODES.iter().flat_map(|mode| COMPRESSIONS.map(|compression| (*mode, compression))).collect();
    }
    let turned = COMPRESSIONS.into_iter().cycle().skip(nth * 2);
    MODES.into_iter().zip(turned).collect()
}

#[test]
fn every_mode_and_every_compression_gives_everything_back() {
    let tree = tempfile::tempdir().unwrap();
    rich_tree(tree.path());
    for (nth, borg) in borgs().iter().enumerate() {
        // Borg 1.1 hides no lengths.
        let hides = borg.version() >= vec![1, 2];
        for (mode, compression) in pairs(nth) {
            let compression = if compression.starts_with("obfuscate") && !hides { "lz4" } else { compression };
            println!("{borg:?} {mode} {compression}");
            check_one(borg, mode, compression, tree.path());
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
