//! What no honest archive holds, and where an archive ends.

use super::*;

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
