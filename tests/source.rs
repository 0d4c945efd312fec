//! Reading archives: against GNU tar, against hostile and damaged ones.

#![allow(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used, reason = "this is test code")]

mod common;

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

/// Files with holes of all shapes: many segments, a hole at the end, only a hole, none.
fn make_sparse_files(tree: &Path) {
    use std::os::unix::fs::FileExt;
    let make = |name: &str, size: u64, parts: &[u64]| {
        let file = std::fs::File::create(tree.join(name)).unwrap();
        file.set_len(size).unwrap();
        parts.iter().for_each(|&at| file.write_all_at(&[b'x'; 5000], at).unwrap());
    };
    make("dense", 5000, &[0]);
    make("hole-only", 1 << 20, &[]);
    make("hole-at-end", 1 << 20, &[0]);
    make("hole-at-start", (1 << 20) + 5000, &[1 << 20]);
    let many: Vec<u64> = (0..60).map(|n| n * 65_536).collect();
    make("many", 4 << 20, &many);
}

#[test]
fn sparse_files_of_all_four_forms_have_the_content_that_gnu_tar_gives_them() {
    for options in [
        &["-S", "--format=gnu"][..],
        &["-S", "--format=posix", "--sparse-version=0.0"],
        &["-S", "--format=posix", "--sparse-version=0.1"],
        &["-S", "--format=posix", "--sparse-version=1.0"],
    ] {
        let Some(entries) = against_gnu_tar(options, &make_sparse_files) else { return };
        let sparse: Vec<&[u8]> = entries
            .iter()
            .filter(|(entry, _)| matches!(entry.kind, EntryKind::File { sparse: true, .. }))
            .map(|(entry, _)| entry.path.as_bytes())
            .collect();
        assert_eq!(sparse, [&b"hole-at-end"[..], b"hole-at-start", b"hole-only", b"many"], "{options:?}");
    }
}

#[test]
fn long_odd_and_old_names_are_read_in_every_format() {
    use std::ffi::OsStr;
    let fill = |long: bool| {
        move |tree: &Path| {
            let folder = tree.join("d".repeat(60)).join("e".repeat(60));
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("f"), b"deep").unwrap();
            std::os::unix::fs::symlink("/etc/localtime", tree.join("absolute")).unwrap();
            if long {
                std::fs::hard_link(folder.join("f"), tree.join("second-name")).unwrap();
                let name = [&b"not utf-8 \xff\xfe newline \n "[..], &[b'n'; 200]].concat();
                std::fs::write(tree.join(OsStr::from_bytes(&name)), b"odd").unwrap();
                std::os::unix::fs::symlink("t/".repeat(150), tree.join("far")).unwrap();
                std::fs::write(tree.join("späß"), b"").unwrap();
            }
        }
    };
    for format in ["gnu", "oldgnu", "posix"] {
        let Some(entries) = against_gnu_tar(&[&format!("--format={format}")], &fill(true)) else { return };
        assert!(entries.iter().any(|(entry, _)| entry.path.file_name().starts_with(b"not utf-8 \xff\xfe newline \n")));
    }
    against_gnu_tar(&["--format=ustar"], &fill(false));
    against_gnu_tar(&["--format=v7"], &|tree| {
        std::fs::create_dir(tree.join("d")).unwrap();
        std::fs::write(tree.join("d/f"), b"x").unwrap();
    });
}

#[test]
fn fifos_modes_times_and_far_owners_are_read() {
    if !is_root() {
        eprintln!("SKIPPED: owners can only be set by root");
        return;
    }
    let entries = against_gnu_tar(&["--format=posix"], &|tree| {
        std::fs::write(tree.join("f"), b"x").unwrap();
        let times = std::fs::FileTimes::new();
        let before_1970 = std::time::UNIX_EPOCH - std::time::Duration::new(5, 250_000_000);
        std::fs::File::options()
            .write(true)
            .open(tree.join("f"))
            .unwrap()
            .set_times(times.set_modified(before_1970))
            .unwrap();
        std::os::unix::fs::chown(tree.join("f"), Some(4_000_000_000), Some(3_000_000)).unwrap();
        let set = std::os::unix::fs::PermissionsExt::from_mode(0o4711);
        std::fs::set_permissions(tree.join("f"), set).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(tree.join("p")).status().unwrap().success());
    });
    let Some(entries) = entries else { return };
    assert_eq!((entries[0].0.mtime.secs, entries[0].0.mtime.nanos), (-6, 750_000_000));
    assert_eq!(entries[1].0.kind, EntryKind::Fifo);
}

#[test]
fn attributes_and_acls_come_as_gnu_tar_stored_them() {
    let run = |tool: &str, args: &[&str], file: &Path| {
        std::process::Command::new(tool).args(args).arg(file).status().is_ok_and(|status| status.success())
    };
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    std::fs::create_dir_all(tree.join("d")).unwrap();
    std::fs::write(tree.join("f"), b"x").unwrap();
    if !run("setfattr", &["-n", "user.odd=%name", "-v", "0x610a623d0063"], &tree.join("f"))
        || !run("setfacl", &["-m", "u:4711:rw"], &tree.join("f"))
        || !run("setfacl", &["-d", "-m", "g:4712:rx"], &tree.join("d"))
    {
        eprintln!("SKIPPED: this filesystem or machine has no attributes or ACLs");
        return;
    }
    let archive = folder.path().join("a.tar");
    let args = ["-c", "-f", archive.to_str().unwrap(), "--xattrs", "--acls", "-C", tree.to_str().unwrap(), "d", "f"];
    let Some(()) = gnu_tar(&args, folder.path()) else { return };
    let (entries, _) = collect(&mut *source::open(&archive).unwrap()).unwrap();
    assert_eq!(names(&entries), [&b"d"[..], b"f"]);
    let (d, f) = (&entries[0].0, &entries[1].0);
    assert_eq!(f.xattrs, vec![(b"user.odd=%name".to_vec(), b"a\nb=\0c".to_vec())]);
    let text = |acl: &Option<Vec<u8>>| String::from_utf8(acl.clone().unwrap()).unwrap();
    assert!(text(&f.acl_access).contains("user:4711:rw-"), "{}", text(&f.acl_access));
    assert!(text(&d.acl_default).contains("group:4712:r-x"), "{}", text(&d.acl_default));
}

/// The cases of jwilk/traversal-archives (MIT) and of MegaManSec/zip-slip-tar-slip-generator, rebuilt from their
/// descriptions. A reader's part is: nothing outside is named by any entry. What goes through links is the part of
/// the code that writes.
#[test]
fn no_traversal_case_yields_a_path_outside() {
    let link = |kind: u8, name: &str, target: &str| Header::new(kind, name).link(target);
    let refused = [
        // jwilk: absolute1, absolute2, relative0, relative2
        RawTar::new().file("/tmp/moo", b"moo\n"),
        RawTar::new().file("//tmp/moo", b"moo\n"),
        RawTar::new().file("../moo", b"moo\n"),
        RawTar::new().file("tmp/../../moo", b"moo\n"),
        // MegaManSec: abs, dotdot, hardlink write, hardlink exfil
        RawTar::new().file("/etc/cron.d/slip", b"slip\n"),
        RawTar::new().file("a/../../../../../../etc/slip", b"slip\n"),
        RawTar::new().raw(&link(b'1', "h", "../../etc/slip"), b"").file("h", b"slip\n"),
        RawTar::new().raw(&link(b'1', "h", "/etc/passwd"), b""),
        // CPython sly_relative, go-extract "a file named ..": same idea in a PAX record and a GNU long name
        RawTar::new().pax(&[("path", b"x/../../slip")]).file("safe", b""),
        RawTar::new().pax(&[("linkpath", b"../slip")]).raw(&link(b'1', "h", "safe"), b""),
        RawTar::new().member(Header::new(b'L', "././@LongLink").magic(GNU), b"/slip\0").file("safe", b""),
        RawTar::new().file("..", b""),
    ];
    for tar in refused {
        for bytes in [tar.clone().end(), gzip(&tar.clone().end())] {
            let error = error_of(&bytes);
            assert!(error.contains("absolute") || error.contains("'..'"), "{error}");
        }
    }
    let honest_names = [
        // jwilk: symlink, dirsymlink, dirsymlink2a, dirsymlink2b; MegaManSec: toctou, exfil
        (RawTar::new().symlink("moo", "/tmp/moo").file("moo", b"moo\n"), vec!["moo", "moo"]),
        (RawTar::new().symlink("tmp", "/tmp").file("tmp/moo", b"moo\n"), vec!["tmp", "tmp/moo"]),
        (
            RawTar::new().symlink("cur", ".").symlink("par", "cur/..").file("par/moo", b"moo\n"),
            vec!["cur", "par", "par/moo"],
        ),
        (
            RawTar::new().dir("dir").symlink("dir/cur", ".").symlink("par", "dir/cur/../..").file("par/moo", b"moo\n"),
            vec!["dir", "dir/cur", "par", "par/moo"],
        ),
        (RawTar::new().dir("d").symlink("d", "/tmp").file("d/x", b""), vec!["d", "d", "d/x"]),
        (RawTar::new().symlink("exfil", "/etc/shadow"), vec!["exfil"]),
        // MegaManSec: backslash, case, unicode NFC and NFKC, readonly
        (RawTar::new().file("..\\..\\slip", b""), vec!["..\\x5c..\\x5cslip"]),
        (RawTar::new().symlink("Link", "/tmp").file("link/slip", b""), vec!["Link", "link/slip"]),
        (RawTar::new().file("e\u{301}/x", b"").file("é/x", b""), vec!["e\u{301}/x", "é/x"]),
        (RawTar::new().file("\u{2025}/\u{ff0e}\u{ff0e}/x", b""), vec!["\u{2025}/\u{ff0e}\u{ff0e}/x"]),
        (RawTar::new().raw(&Header::new(b'5', "ro").mode(0o555), b"").file("ro/x", b""), vec!["ro", "ro/x"]),
    ];
    for (tar, expected) in honest_names {
        for bytes in [tar.clone().end(), gzip(&tar.clone().end())] {
            let (entries, _) = collect_bytes(&bytes).unwrap();
            let shown: Vec<String> = entries.iter().map(|(entry, _)| entry.path.to_string()).collect();
            assert_eq!(shown, expected);
        }
    }
}

#[test]
fn what_is_not_restored_is_an_error_that_names_the_entry() {
    for (kind, what) in
        [(b'3', "character device"), (b'4', "block device"), (b'D', "unknown type"), (b'V', "unknown type")]
    {
        let error = error_of(&RawTar::new().file("ok", b"").raw(&Header::new(kind, "dev/odd"), b"").end());
        assert!(error.contains("dev/odd") && error.contains(what), "{error}");
    }
    let error = error_of(&RawTar::new().member(Header::new(b'5', "dir"), b"content").end());
    assert!(error.contains("dir") && error.contains("content"), "{error}");
}

/// CVE-2025-62518: the member's header says 0, the PAX record says the truth. A reader that believes the header takes
/// the content, itself a tar archive, for more members.
#[test]
fn a_pax_size_holds_for_exactly_the_next_member() {
    let inner = RawTar::new().file("smuggled", b"inner").bytes;
    let size = inner.len().to_string();
    let tar =
        RawTar::new().pax(&[("size", size.as_bytes())]).raw(&Header::new(b'0', "blob"), &inner).file("next", b"n");
    let (entries, _) = collect_bytes(&tar.end()).unwrap();
    assert_eq!(names(&entries), [&b"blob"[..], b"next"]);
    assert_eq!(entries[0].1, Sha256Digest::of(&inner));
    // GHSA-3pv8-6f4r-ffg2: a GNU long name between them has its own size.
    let long = Header::new(b'L', "././@LongLink").magic(GNU);
    let tar = RawTar::new()
        .pax(&[("size", size.as_bytes())])
        .member(long, b"long/name\0")
        .raw(&Header::new(b'0', "blob"), &inner)
        .file("next", b"n");
    let (entries, _) = collect_bytes(&tar.end()).unwrap();
    assert_eq!(names(&entries), [&b"long/name"[..], b"next"]);
    assert_eq!(entries[0].1, Sha256Digest::of(&inner));
}

#[test]
fn doubled_contradicting_dangling_and_cut_extension_headers_are_errors() {
    let long = |name: &[u8]| (Header::new(b'L', "././@LongLink").magic(GNU), name.to_vec());
    let (header, name) = long(b"b\0");
    for (tar, what) in [
        (
            RawTar::new().file("f", b"").pax(&[("path", b"a")]).pax(&[("path", b"b")]).file("x", b""),
            "two extension headers",
        ),
        (
            RawTar::new().file("f", b"").member(header.clone(), &name).member(header.clone(), &name).file("x", b""),
            "two extension headers",
        ),
        (
            RawTar::new().file("f", b"").pax(&[("path", b"a")]).member(header.clone(), &name).file("x", b""),
            "differently",
        ),
        (RawTar::new().file("f", b"").pax(&[("path", b"a")]), "no member"),
        (RawTar::new().file("f", b"").pax(&[("path", b"a"), ("path", b"a")]).file("x", b""), "twice"),
        (RawTar::new().file("f", b"").member(Header::new(b'x', "p"), b"20 path=a\n").file("x", b""), "broken record"),
        (RawTar::new().file("f", b"").member(Header::new(b'g', "p"), &record("size", "4")).file("x", b""), "global"),
        (RawTar::new().file("f", b"").raw(&Header::new(b'x', "p").size(2 << 20), b""), "longer than 1 MiB"),
        (RawTar::new().file("f", b"").member(header.clone(), b"a\0b\0").file("x", b""), "NUL"),
    ] {
        let error = error_of(&tar.end());
        assert!(error.contains(what), "{error} should say: {what}");
    }
    let cut = RawTar::new().file("f", b"").pax(&[("path", b"a")]).bytes;
    assert!(error_of(&gzip(&cut)).contains("ends early"));
}

#[test]
fn a_global_header_sets_owners_for_the_members_after_it() {
    let global = record("uname", "zoe").into_iter().chain(record("comment", "git")).collect::<Vec<u8>>();
    let tar =
        RawTar::new().member(Header::new(b'g', "g"), &global).file("a", b"").pax(&[("uname", b"me")]).file("b", b"");
    let (entries, _) = collect_bytes(&tar.end()).unwrap();
    let users: Vec<_> = entries.iter().map(|(entry, _)| entry.owner.user.clone().unwrap()).collect();
    assert_eq!(users, [b"zoe".to_vec(), b"me".to_vec()]);
}

#[test]
fn a_sparse_bomb_costs_nothing_and_a_larger_one_is_refused() {
    let sparse = |size: &'static [u8]| {
        let records: [(&str, &[u8]); 3] =
            [("GNU.sparse.size", size), ("GNU.sparse.numblocks", b"1"), ("GNU.sparse.map", b"0,3")];
        RawTar::new().pax(&records).file("bomb", b"abc")
    };
    struct Sizes(Vec<u64>);
    impl source::Visitor for Sizes {
        fn visit(&mut self, entry: &Entry, _: &mut dyn std::io::BufRead) -> Result<(), source::VisitError> {
            if let EntryKind::File { size, sparse: true } = entry.kind {
                self.0.push(size);
            }
            Ok(())
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let mut sizes = Sizes(Vec::new());
    let file = put(folder.path(), "a", &sparse(b"1000000000000").end());
    source::open(&file).unwrap().read(&mut sizes, &lifeboat::model::progress::Silent).unwrap();
    assert_eq!(sizes.0, [1_000_000_000_000]);
    assert!(error_of(&sparse(b"9223372036854775807").end()).contains("1 TiB"));
    for (map, what) in [(&b"0,4"[..], "differ in length"), (b"5,3", "beyond"), (b"0,2,1,1", "overlap"), (b"0", "pairs")]
    {
        let records: [(&str, &[u8]); 2] = [("GNU.sparse.size", b"6"), ("GNU.sparse.map", map)];
        let error = error_of(&RawTar::new().pax(&records).file("s", b"abc").end());
        assert!(error.contains(what), "{error} should say: {what}");
    }
}

#[test]
fn the_end_of_an_archive_is_judged_like_its_content() {
    let tar = RawTar::new().file("a", b"1").file("b", b"2");
    let with = |tail: &[u8]| [tar.bytes.as_slice(), tail].concat();
    // GNU tar accepts these; a missing marker only where something proves that nothing was cut off.
    assert!(collect_bytes(&with(&[0; 1024])).is_ok());
    assert_eq!(collect_bytes(&with(&[0; 512])).unwrap().1.findings.len(), 1);
    assert_eq!(collect_bytes(&gzip(&tar.bytes)).unwrap().1.findings.len(), 1);
    assert!(error_of(&tar.bytes).contains("no end marker"));
    // GNU tar does not look behind the marker; here data behind it is data that would be lost.
    let more = RawTar::new().file("c", b"3").bytes;
    assert!(error_of(&with(&[&[0; 1024][..], &more].concat())).contains("after the archive's end marker"));
    assert!(error_of(&with(&[&[0; 512][..], &more].concat())).contains("after the archive's end marker"));
    assert!(error_of(&with(&[1; 100])).contains("ends early"));
    assert!(error_of(&with(&[1; 512])).contains("checksum of a header"));
    assert!(error_of(&tar.bytes[..1000]).contains("ends early"));
}

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
    let told: Vec<bool> = ["bad-end.tar.gz", "cut.tar.gz", "FreedomBoxBackups"]
        .iter()
        .map(|name| listing.findings.iter().any(|finding| finding.subject.ends_with(name)))
        .collect();
    assert_eq!((told, listing.findings.len()), (vec![true; 3], 3), "{:?}", listing.findings);

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
