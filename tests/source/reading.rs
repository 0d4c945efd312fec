//! Packed forms, checksums, media that fail, and what is asked for by whoever reads.

use super::*;

#[test]
fn several_gzip_members_are_one_archive_and_what_follows_is_told() {
    let tar = RawTar::new().file("a", &[b'x'; 3000]).end();
    let members = [gzip(&tar[..700]), gzip(&tar[700..])].concat();
    let (entries, ending) = collect_bytes(&members).unwrap();
    assert_eq!((entries.len(), ending.findings.len()), (1, 0));
    assert!(matches!(ending.proof, Proof::Checked(_)));
    let padded = collect_bytes(&[&members[..], &[0; 100]].concat()).unwrap().1;
    assert_eq!(padded.findings[0].severity, lifeboat::model::finding::Severity::Note);
    let garbage = collect_bytes(&[&members[..], b"garbage"].concat()).unwrap().1;
    assert_eq!(garbage.findings[0].severity, lifeboat::model::finding::Severity::Warning);
    let mut broken = members.clone();
    let at = gzip(&tar[..700]).len() - 8;
    broken[at] ^= 1;
    assert!(matches!(collect_bytes(&broken), Err(ReadError::Mismatch { .. })));
}

#[test]
fn gzip_and_zstd_of_their_own_programs_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let tar = RawTar::new().file("a", &[b'x'; 300_000]).end();
    for (args, proven) in [
        (&["gzip", "-9", "-N"][..], true),
        (&["zstd", "-q", "-19", "-o", "tar.out"], true),
        (&["zstd", "-q", "--no-check", "-o", "tar.out"], false),
        (&["zstd", "-q", "-T2", "-B100000", "-o", "tar.out"], true),
    ] {
        let _ = std::fs::remove_file(folder.path().join("tar.out"));
        put(folder.path(), "tar", &tar);
        let status =
            std::process::Command::new(args[0]).args(&args[1..]).arg("tar").current_dir(folder.path()).status();
        if !status.is_ok_and(|status| status.success()) {
            eprintln!("SKIPPED: {} does not run", args[0]);
            continue;
        }
        let made = ["tar.gz", "tar.out"].map(|name| folder.path().join(name)).into_iter().find(|path| path.exists());
        let made = made.unwrap();
        let (entries, ending) = collect(&mut *source::open(&made).unwrap()).unwrap();
        assert_eq!(entries[0].1, Sha256Digest::of(&[b'x'; 300_000]));
        assert_eq!(matches!(ending.proof, Proof::Checked(_)), proven, "{args:?}: {:?}", ending.proof);
        std::fs::remove_file(made).unwrap();
    }
}

#[test]
fn a_checksum_file_proves_a_plain_tar_and_a_wrong_one_is_damage() {
    let folder = tempfile::tempdir().unwrap();
    let tar = RawTar::new().file("a", b"1").end();
    let file = put(folder.path(), "a b.tar", &tar);
    let digest = Sha256Digest::of(&tar);
    put(folder.path(), "a b.tar.sha256", format!("{digest}  a b.tar\n").as_bytes());
    let (_, ending) = collect(&mut *source::open(&file).unwrap()).unwrap();
    assert_eq!(ending.proof, Proof::Checked("SHA-256 in 'a b.tar.sha256'".into()));
    put(folder.path(), "SHA256SUMS", format!("{} *a b.tar\n", Sha256Digest::of(b"")).as_bytes());
    let result = collect(&mut *source::open(&file).unwrap());
    assert!(matches!(result, Err(ReadError::Mismatch { what }) if what.contains("SHA256SUMS")));
}

#[test]
fn only_regular_files_are_opened() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo.tar");
    if !std::process::Command::new("mkfifo").arg(&fifo).status().is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: mkfifo does not run");
        return;
    }
    for odd in [fifo.as_path(), Path::new("/dev/zero"), folder.path()] {
        assert!(matches!(source::open(odd), Err(ReadError::NotABackup(_))), "{}", odd.display());
    }
    assert!(matches!(source::open(&folder.path().join("gone")), Err(ReadError::Io(_))));
}

#[test]
fn a_medium_that_fails_is_told_with_the_place() {
    // The kernel answers a read of address 0 with EIO, and calls this a regular file.
    let error = source::open(Path::new("/proc/self/mem")).err().unwrap();
    assert!(matches!(&error, ReadError::Io(_)), "{error}");
    assert!(error.to_string().contains("at byte 0 of the file: Input/output error"), "{error}");
}

#[test]
fn reading_leaves_no_trace_on_the_source() {
    let folder = tempfile::tempdir().unwrap();
    let file = put(folder.path(), "a.tar", &RawTar::new().file("a", b"1").end());
    let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    let times = std::fs::FileTimes::new().set_accessed(old).set_modified(old);
    std::fs::File::options().write(true).open(&file).unwrap().set_times(times).unwrap();
    let before = std::fs::metadata(&file).unwrap();
    collect(&mut *source::open(&file).unwrap()).unwrap();
    let after = std::fs::metadata(&file).unwrap();
    assert_eq!((before.atime(), before.mtime(), before.ctime()), (after.atime(), after.mtime(), after.ctime()));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_visitor_that_stops_or_reads_half_of_a_file_does_no_harm() {
    struct Half(usize);
    impl source::Visitor for Half {
        fn visit(&mut self, entry: &Entry, content: &mut dyn std::io::BufRead) -> Result<(), source::VisitError> {
            self.0 += 1;
            let mut some = [0; 100];
            content.read_exact(&mut some).map_err(source::VisitError::Content)?;
            if entry.path.file_name() == b"last" { Err(source::VisitError::Stop) } else { Ok(()) }
        }
    }
    let tar = RawTar::new().file("a", &[b'a'; 100_000]).file("b", &[b'b'; 5_000_000]).file("last", &[b'c'; 20_000_000]);
    let folder = tempfile::tempdir().unwrap();
    let mut archive = source::open(&put(folder.path(), "a.tar.gz", &gzip(&tar.end()))).unwrap();
    for _ in 0..2 {
        let mut half = Half(0);
        let result = archive.read(&mut half, &lifeboat::model::progress::Silent);
        assert!(matches!(result, Err(ReadError::Stopped)));
        assert_eq!(half.0, 3);
    }
    assert_eq!(collect(&mut *archive).unwrap().0.len(), 3, "and it can be read again");
}

#[test]
fn damage_inside_a_content_is_told_even_when_the_visitor_does_not_care() {
    struct Careless;
    impl source::Visitor for Careless {
        fn visit(&mut self, _: &Entry, content: &mut dyn std::io::BufRead) -> Result<(), source::VisitError> {
            let _ = std::io::copy(content, &mut std::io::sink());
            Ok(())
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let tar = RawTar::new().file("a", &[b'a'; 100_000]);
    let file = put(folder.path(), "a.tar", &tar.bytes[..50_000]);
    let result = source::open(&file).unwrap().read(&mut Careless, &lifeboat::model::progress::Silent);
    assert!(matches!(result, Err(ReadError::Corrupt { place, .. }) if place.contains("'a'")));
}

#[test]
fn a_folder_is_searched_for_backups_and_opened_by_id() {
    let folder = tempfile::tempdir().unwrap();
    let deep = folder.path().join("a/b/c/d/e");
    std::fs::create_dir_all(deep.join("f")).unwrap();
    let backup = |name: &str, time: u64| {
        let json = format!("[{{\"name\": \"{name}\", \"version\": 1}}]");
        let mut header = Header::new(b'0', "./var/lib/plinth/backups-manifests/x.json");
        header.mtime = time;
        gzip(&RawTar::new().file("f", b"1").member(header, json.as_bytes()).end())
    };
    put(&deep, "new.tar.gz", &backup("radicale", 2_000_000_000));
    put(folder.path(), "old.TGZ", &backup("radicale", 1_000_000_000));
    put(&deep.join("f"), "too-deep.tar.gz", &backup("radicale", 1));
    put(folder.path(), "no-manifest.tar", &RawTar::new().file("f", b"1").end());
    put(folder.path(), "no-tar.tar.gz", &gzip(b"hello"));
    let whole = backup("radicale", 3);
    put(folder.path(), "cut.tar.gz", &whole[..whole.len() / 2]);
    put(folder.path(), "bad-end.tar.gz", &[&whole[..whole.len() - 8], &[7; 8]].concat());
    let repository = folder.path().join("FreedomBoxBackups");
    std::fs::create_dir_all(repository.join("data")).unwrap();
    put(&repository, "config", format!("[repository]\nversion = 1\nid = {}\n", "0f".repeat(32)).as_bytes());

    let listing = source::list(folder.path(), &mut NoPassphrase).unwrap();
    let ids: Vec<&str> = listing.archives.iter().map(|archive| archive.id.as_str()).collect();
    assert_eq!(ids, ["bad-end.tar.gz", "old.TGZ", "a/b/c/d/e/new.tar.gz"]);
    assert_eq!(listing.archives[1].time.as_deref(), Some("2001-09-09T01:46:40Z"));
    assert_eq!(listing.repositories.len(), 1);
    // A backup whose beginning is lost looks like any other file.
    let told: Vec<bool> = ["bad-end.tar.gz", "cut.tar.gz", "FreedomBoxBackups", "no-tar.tar.gz"]
        .iter()
        .map(|name| listing.findings.iter().any(|finding| finding.subject.ends_with(name)))
        .collect();
    assert_eq!((told, listing.findings.len()), (vec![true; 4], 4), "{:?}", listing.findings);

    let id = "a/b/c/d/e/new.tar.gz".parse().unwrap();
    let mut archive = source::open_location(folder.path(), Some(&id), &mut NoPassphrase).unwrap();
    assert_eq!(archive.summary().unwrap().id, id);
    let error = |archive: Option<&str>| {
        let id = archive.map(|id| id.parse().unwrap());
        source::open_location(folder.path(), id.as_ref(), &mut NoPassphrase).err().unwrap().to_string()
    };
    assert!(error(None).contains("several backups"));
    assert!(error(Some("FreedomBoxBackups")).contains("no completed transaction"));
    let error = source::open_location(&repository, None, &mut NoPassphrase).err().unwrap();
    assert!(matches!(error, ReadError::Corrupt { .. }));
    assert_eq!(
        source::list(&folder.path().join("no-manifest.tar"), &mut NoPassphrase).unwrap().archives.len(),
        1,
        "named is named"
    );
}

mod any_bytes {
    use super::*;
    use lifeboat::formats::tarball::Tarball;
    use proptest::prelude::*;
    use std::io::{BufRead, BufReader, Read};

    /// Reads everything that a stream yields; the number of entries cannot exceed that of blocks.
    fn read_all(mut tarball: Tarball<impl BufRead>, blocks: usize) -> Result<Vec<(Entry, Sha256Digest)>, String> {
        let mut entries = Vec::new();
        while let Some(entry) = tarball.next_entry().map_err(|error| error.to_string())? {
            let mut raw = Vec::new();
            (&mut tarball).take(1 << 20).read_to_end(&mut raw).map_err(|_| "content".to_owned())?;
            entries.push((entry, Sha256Digest::of(&raw)));
            assert!(entries.len() <= blocks);
        }
        Ok(entries)
    }

    fn sample() -> Vec<u8> {
        RawTar::new()
            .dir("d")
            .pax(&[("path", b"d/long"), ("SCHILY.xattr.user.a", b"\n")])
            .file("x", &[b'x'; 1000])
            .member(Header::new(b'L', "././@LongLink").magic(GNU), b"d/longer\0")
            .file("y", b"y")
            .pax(&[
                ("GNU.sparse.major", b"1"),
                ("GNU.sparse.minor", b"0"),
                ("GNU.sparse.realsize", b"600"),
                ("GNU.sparse.name", b"s"),
            ])
            .file("z", &[&b"1\n500\n100\n"[..], &[0; 502], &[b'z'; 100]].concat())
            .symlink("l", "/etc")
            .end()
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
            let _ = read_all(Tarball::new(bytes.as_slice()), bytes.len() / 512 + 1);
        }

        #[test]
        fn a_changed_archive_never_panics_or_loops(changes in proptest::collection::vec((0usize..10_240, any::<u8>()), 1..8), seal_all: bool) {
            let mut bytes = sample();
            for (at, byte) in changes {
                bytes[at] = byte;
                if seal_all {
                    // With the checksum made right again, the change reaches the code behind it.
                    let begin = at / 512 * 512;
                    let mut block: [u8; 512] = bytes[begin..begin + 512].try_into().unwrap();
                    seal(&mut block);
                    bytes[begin..begin + 512].copy_from_slice(&block);
                }
            }
            let _ = read_all(Tarball::new(bytes.as_slice()), bytes.len() / 512);
        }

        #[test]
        fn short_reads_change_nothing(step in 1usize..700) {
            let bytes = sample();
            let whole = read_all(Tarball::new(bytes.as_slice()), 100);
            prop_assert_eq!(whole.as_ref().map(Vec::len), Ok(5));
            prop_assert_eq!(read_all(Tarball::new(BufReader::with_capacity(step, bytes.as_slice())), 100), whole);
        }

        #[test]
        fn changed_packed_archives_never_panic(at in 0usize..400, byte: u8, is_zstd: bool, end in 0usize..400) {
            let mut bytes = if is_zstd { zstd(&sample(), true) } else { gzip(&sample()) };
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.truncate(bytes.len() - end.min(bytes.len() - 1) / 4);
            let _ = collect_bytes(&bytes);
        }
    }
}
