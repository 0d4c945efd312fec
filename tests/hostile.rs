//! Hostile backups: whatever they hold, nothing outside of the chosen apps' places is read, written or linked to, and
//! what was refused is named and never called a success.

#![allow(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used, reason = "this is test code")]
#![allow(missing_docs, reason = "names of tests are sentences")]

mod common;

use common::disks;

use common::archives::{GNU, Header, RawTar, gzip, is_root, put, record};
use common::rescue::{Rescue, Run, SmallBox, assert_same, manifest, tree, write};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Where the data of the chosen apps goes.
const PLACES: [&str; 2] = ["var/lib/git", "var/lib/tiddlywiki"];

fn can_run() -> bool {
    if !is_root() {
        eprintln!("SKIPPED: root is needed to restore owners");
    }
    is_root()
}

fn valid_manifest() -> String {
    manifest(&[("gitweb", 4, &["/var/lib/git"], &[]), ("tiddlywiki", 1, &["/var/lib/tiddlywiki"], &[])])
}

/// What a run against a hostile archive ended with.
struct Attack {
    box_: SmallBox,
    run: Run,
}

/// Restores an archive onto a fresh box, with consent to whatever plan it gives, and looks for harm.
fn attack(name: &str, bytes: &[u8]) -> Attack {
    let box_ = SmallBox::new();
    let file = put(box_.folder.path(), "backup.tar.gz", bytes);
    let before = box_.untouchable(&PLACES);
    let rescue = Rescue::new(&file, &box_.root);
    let planned = rescue.plan();
    let run = match planned.code {
        0 => rescue.restore(planned.json()["id"].as_str().unwrap()),
        _ => planned,
    };
    assert!(![-1, 101].contains(&run.code), "{name}: {run:?}");
    assert_same(&before, &box_.untouchable(&PLACES), name);
    no_link_to_the_outside(name, &box_);
    only_own_files_in_lifeboats_places(name, &box_);
    Attack { box_, run }
}

/// A hard link to a file outside would let the app change it later.
fn no_link_to_the_outside(name: &str, box_: &SmallBox) {
    for canary in ["etc/shadow", "etc/passwd", "usr/bin/passwd", "etc/cron.d/keep", "tmp/keep", "../canary"] {
        assert_eq!(fs::metadata(box_.root.join(canary)).unwrap().nlink(), 1, "{name}: {canary}");
    }
}

fn only_own_files_in_lifeboats_places(name: &str, box_: &SmallBox) {
    for path in tree(&box_.root.join("etc/systemd/system")).keys() {
        let own = path.iter().next_back().unwrap().to_str().unwrap();
        assert!(own.starts_with("lifeboat-") || own.ends_with(".wants"), "{name}: {}", path.display());
    }
    let known = ["restores", "parked", "bin", "handoff.json", "lock", "interrupted"];
    if let Ok(entries) = fs::read_dir(box_.root.join("var/lib/lifeboat")) {
        for entry in entries {
            let entry = entry.unwrap().file_name();
            assert!(known.contains(&entry.to_str().unwrap()), "{name}: var/lib/lifeboat/{}", entry.display());
        }
    }
}

/// The case as it is, and packed.
fn both(tar: &RawTar) -> [Vec<u8>; 2] {
    [tar.clone().end(), gzip(&tar.clone().end())]
}

/// A file that a case must not put anywhere.
const LOOT: &[u8] = b"slipped out\n";

/// No file with the loot lies outside of the app's directory.
fn loot_stays(name: &str, attack: &Attack) {
    let found = tree(attack.box_.folder.path());
    for (path, node) in &found {
        let inside = path.strip_prefix("around/box").is_ok_and(|below| {
            PLACES.iter().any(|place| below.starts_with(place)) || below.starts_with("var/lib/lifeboat/restores")
        });
        let is_loot = node.size == LOOT.len() as u64
            && fs::read(attack.box_.folder.path().join(path)).is_ok_and(|content| content == LOOT);
        assert!(inside || !is_loot, "{name}: {}", path.display());
    }
}

/// The 19 cases of jwilk/traversal-archives (8) and of MegaManSec/zip-slip-tar-slip-generator (11), rebuilt from their
/// descriptions; `under` is the directory in which they are told to be unpacked. The second value is what an honest
/// restore of the case leaves there, where it has no reason to refuse it: names with content.
fn traversal_cases(under: &str) -> Vec<(&'static str, RawTar, Option<Vec<&'static str>>)> {
    let at = |name: &str| format!("{under}{name}");
    let up = "../".repeat(12);
    let start = || RawTar::new().dir(at("."));
    let link = |kind: u8, name: &str, target: &str| Header::new(kind, at(name)).link(target);
    vec![
        ("jwilk absolute1", start().file("/tmp/moo", LOOT), None),
        ("jwilk absolute2", start().file("//tmp/moo", LOOT), None),
        ("jwilk relative0", start().file(at("../moo"), LOOT), None),
        ("jwilk relative2", start().file(at("tmp/../../moo"), LOOT), None),
        ("jwilk symlink", start().symlink(at("moo"), "/tmp/moo").file(at("moo"), LOOT), None),
        ("jwilk dirsymlink", start().symlink(at("tmp"), "/tmp").file(at("tmp/moo"), LOOT), None),
        (
            "jwilk dirsymlink2a",
            start().symlink(at("cur"), ".").symlink(at("par"), "cur/..").file(at("par/moo"), LOOT),
            None,
        ),
        (
            "jwilk dirsymlink2b",
            start()
                .dir(at("dir"))
                .symlink(at("dir/cur"), ".")
                .symlink(at("par"), "dir/cur/../..")
                .file(at("par/moo"), LOOT),
            None,
        ),
        ("slip abs", start().file("/etc/cron.d/slip", LOOT), None),
        ("slip dotdot", start().file(at(&format!("a/{up}etc/slip")), LOOT), None),
        ("slip backslash", start().file(at("..\\..\\slip"), LOOT), Some(vec!["..\\..\\slip"])),
        (
            "slip case",
            start().symlink(at("Link"), "/tmp").dir(at("link")).file(at("link/slip"), LOOT),
            Some(vec!["link/slip"]),
        ),
        (
            "slip unicode NFC",
            start().dir(at("e\u{301}")).file(at("e\u{301}/x"), LOOT).dir(at("é")).file(at("é/x"), LOOT),
            Some(vec!["e\u{301}/x", "é/x"]),
        ),
        ("slip unicode NFKC", start().dir(at("\u{2025}")).file(at("\u{2025}/slip"), LOOT), Some(vec!["\u{2025}/slip"])),
        ("slip toctou", start().dir(at("d")).symlink(at("d"), "/tmp").file(at("d/slip"), LOOT), None),
        // A link to a secret is content of the app, as letsencrypt's links are; nothing follows it.
        ("slip exfil", start().symlink(at("exfil"), "/etc/shadow"), Some(vec![])),
        ("slip hardlink write", start().raw(&link(b'1', "h", "etc/cron.d/keep"), b"").file(at("h"), LOOT), None),
        ("slip hardlink exfil", start().raw(&link(b'1', "h", "etc/shadow"), b""), None),
        (
            "slip readonly",
            start().raw(&Header::new(b'5', at("ro")).mode(0o555), b"").file(at("ro/x"), LOOT),
            Some(vec!["ro/x"]),
        ),
    ]
}

#[test]
fn no_traversal_case_below_a_chosen_app_leaves_its_place() {
    if !can_run() {
        return;
    }
    let (mut refused, mut exact) = (0, 0);
    for (name, tar, honest) in traversal_cases("var/lib/git/") {
        let tar = tar.dir("var/lib/tiddlywiki").file("var/lib/tiddlywiki/new.html", b"new").manifest(&valid_manifest());
        for bytes in both(&tar) {
            let attack = attack(name, &bytes);
            loot_stays(name, &attack);
            match &honest {
                None => {
                    // Leaving the damaged app out and saying so is as good as refusing all. Behind what stops the
                    // reading the manifest is not seen, and without it no app is known (10).
                    assert!([1, 10, 15, 16].contains(&attack.run.code), "{name}: {:?}", attack.run);
                    assert!(attack.box_.root.join("var/lib/git/old.git/HEAD").exists(), "{name}: the old data stays");
                    assert!(!attack.run.err.is_empty(), "{name}");
                    refused += 1;
                }
                Some(files) => {
                    assert_eq!(attack.run.code, 0, "{name}: {:?}", attack.run);
                    for file in files {
                        let path = attack.box_.root.join("var/lib/git").join(file);
                        assert_eq!(fs::read(&path).unwrap(), LOOT, "{name}: {}", path.display());
                    }
                    assert!(attack.box_.root.join("var/lib/tiddlywiki/new.html").exists(), "{name}");
                    exact += 1;
                }
            }
        }
    }
    assert_eq!((refused, exact), (26, 12));
}

#[test]
fn the_traversal_cases_as_they_are_restore_nothing() {
    if !can_run() {
        return;
    }
    for (name, tar, _) in traversal_cases("") {
        for bytes in both(&tar) {
            let attack = attack(name, &bytes);
            loot_stays(name, &attack);
            assert!([10, 15].contains(&attack.run.code), "{name}: {:?}", attack.run);
            assert!(!attack.box_.root.join("var/lib/lifeboat").exists(), "{name}: nothing was written");
        }
    }
}

#[test]
fn special_files_and_smuggled_members_are_refused_by_name() {
    if !can_run() {
        return;
    }
    let inner = RawTar::new().file("etc/cron.d/smuggled", LOOT).bytes;
    let size = inner.len().to_string();
    let start = || RawTar::new().dir("var/lib/git");
    let long = |name: &[u8]| (Header::new(b'L', "././@LongLink").magic(GNU), name.to_vec());
    let (header, climbing) = long(b"var/lib/git/../../../etc/cron.d/slip\0");
    let refused = [
        ("character device", start().raw(&Header::new(b'3', "var/lib/git/null"), b"")),
        ("block device", start().raw(&Header::new(b'4', "var/lib/git/disk"), b"")),
        ("unknown type", start().raw(&Header::new(b'V', "var/lib/git/odd"), b"")),
        ("path in a PAX record", start().pax(&[("path", b"/etc/cron.d/slip")]).file("var/lib/git/f", LOOT)),
        ("climbing PAX record", start().pax(&[("path", b"var/lib/git/../x")]).file("var/lib/git/f", LOOT)),
        ("GNU long name", start().member(header, &climbing).file("var/lib/git/f", LOOT)),
        (
            "PAX link",
            start().pax(&[("linkpath", b"../../../etc/shadow")]).raw(&Header::new(b'1', "var/lib/git/f"), b""),
        ),
        (
            "global path",
            start().member(Header::new(b'g', "g"), &record("path", "/etc/cron.d/slip")).file("var/lib/git/f", LOOT),
        ),
        (
            "file over a directory",
            start().dir("var/lib/git/d").file("var/lib/git/d/x", b"x").file("var/lib/git/d", LOOT),
        ),
        (
            "directory over a file",
            start().file("var/lib/git/d", b"x").dir("var/lib/git/d").file("var/lib/git/d/x", LOOT),
        ),
        (
            "hard link to a link",
            start().symlink("var/lib/git/l", "/etc/shadow").hardlink("var/lib/git/h", "var/lib/git/l"),
        ),
        ("hard link forwards", start().hardlink("var/lib/git/h", "var/lib/git/f").file("var/lib/git/f", LOOT)),
        ("name of nothing but dots", start().file("var/lib/git/..", LOOT)),
    ];
    for (name, tar) in refused {
        for bytes in both(&tar.manifest(&valid_manifest())) {
            let attack = attack(name, &bytes);
            loot_stays(name, &attack);
            let said = attack.run.said();
            assert!([1, 10, 15, 16].contains(&attack.run.code), "{name}: {said}");
            assert!(attack.box_.root.join("var/lib/git/old.git/HEAD").exists(), "{name}: the old data stays: {said}");
        }
    }
    // CVE-2025-62518: the member's header says 0, its PAX record says the truth. The content is one file, no members.
    let smuggler = start().pax(&[("size", size.as_bytes())]).raw(&Header::new(b'0', "var/lib/git/blob"), &inner);
    for bytes in both(&smuggler.dir("var/lib/tiddlywiki").manifest(&valid_manifest())) {
        let attack = attack("smuggled", &bytes);
        assert_eq!(attack.run.code, 0, "{:?}", attack.run);
        assert_eq!(fs::read(attack.box_.root.join("var/lib/git/blob")).unwrap(), inner);
    }
}

#[test]
fn a_fifo_and_setuid_bits_are_restored_as_they_are_and_only_in_their_place() {
    if !can_run() {
        return;
    }
    let tar = RawTar::new()
        .dir("var/lib/git")
        .raw(&Header::new(b'6', "var/lib/git/queue").mode(0o600), b"")
        .member(Header::new(b'0', "var/lib/git/tool").mode(0o6755), b"tool")
        .raw(&Header::new(b'5', "var/lib/git/shared").mode(0o2775), b"")
        .dir("var/lib/tiddlywiki")
        .manifest(&valid_manifest());
    for bytes in both(&tar) {
        let attack = attack("setuid", &bytes);
        assert_eq!(attack.run.code, 0, "{:?}", attack.run);
        let git = tree(&attack.box_.root.join("var/lib/git"));
        assert_eq!((git[Path::new("queue")].kind, git[Path::new("queue")].mode), ('p', 0o600));
        assert_eq!((git[Path::new("tool")].kind, git[Path::new("tool")].mode), ('f', 0o6755));
        assert_eq!(git[Path::new("shared")].mode, 0o2775);
        assert_eq!(git.len(), 3);
    }
}

#[test]
fn a_manifest_that_claims_foreign_paths_gets_none_of_them() {
    if !can_run() {
        return;
    }
    for claimed in [
        "/etc/shadow",
        "/",
        "/etc",
        "../..",
        "/var/lib/../../etc",
        "/var/lib/gitweb-evil",
        "/var/lib/github",
        "/usr/bin",
        "/var/lib",
        "var/lib/tiddlywiki/../../../etc",
    ] {
        for (directories, files) in [(vec![claimed, "/var/lib/git"], vec![]), (vec!["/var/lib/git"], vec![claimed])] {
            let json = manifest(&[("gitweb", 4, &directories, &files)]);
            let tar = RawTar::new()
                .dir("etc")
                .file("etc/shadow", LOOT)
                .file("etc/cron.d/slip", LOOT)
                .dir("usr/bin")
                .file("usr/bin/passwd", LOOT)
                .dir("var/lib")
                .dir("var/lib/gitweb-evil")
                .file("var/lib/gitweb-evil/x", LOOT)
                .dir("var/lib/github")
                .file("var/lib/github/keep", LOOT)
                .dir("var/lib/git")
                .file("var/lib/git/new", b"new")
                .manifest(&json);
            let attack = attack(claimed, &gzip(&tar.end()));
            loot_stays(claimed, &attack);
            match attack.run.code {
                // The honest path is restored, and the plan says what was not.
                0 | 1 => assert!(attack.box_.root.join("var/lib/git/new").exists(), "{claimed}: {:?}", attack.run),
                code => assert!([10, 15].contains(&code), "{claimed}: {:?}", attack.run),
            }
        }
    }
}

#[test]
fn an_app_gets_no_other_apps_paths() {
    if !can_run() {
        return;
    }
    // 'sharing' claims what is gitweb's, and is chosen alone.
    let json = manifest(&[("sharing", 4, &["/var/lib/git", "/etc/ssh"], &["/etc/ssh/ssh_host_rsa_key"])]);
    let tar = RawTar::new()
        .dir("var/lib/git")
        .file("var/lib/git/slip", LOOT)
        .file("etc/ssh/ssh_host_rsa_key", LOOT)
        .manifest(&json);
    let box_ = SmallBox::new();
    let file = put(box_.folder.path(), "backup.tar.gz", &gzip(&tar.end()));
    let before = box_.untouchable(&[]);
    let plan = Rescue::new(&file, &box_.root).plan().ends(10);
    assert!(plan.out.contains("is not a path of this app"), "{}", plan.out);
    assert_same(&before, &box_.untouchable(&[]), "a foreign path");
}

#[test]
fn ten_thousand_apps_in_a_manifest_are_judged_one_by_one() {
    if !can_run() {
        return;
    }
    let names: Vec<String> = (0..10_000).map(|number| format!("app{number}")).collect();
    let evil = ["/etc/shadow"];
    let mut apps: Vec<(&str, i64, &[&str], &[&str])> =
        names.iter().map(|name| (name.as_str(), 1, &[][..], &evil[..])).collect();
    apps.push(("gitweb", 4, &["/var/lib/git"], &[]));
    let tar = RawTar::new()
        .file("etc/shadow", LOOT)
        .dir("var/lib/git")
        .file("var/lib/git/new", b"new")
        .manifest(&manifest(&apps));
    // Each run has a limit of its own for the time that it may take (`common::rescue::lifeboat`).
    let attack = attack("many apps", &gzip(&tar.end()));
    loot_stays("many apps", &attack);
    match attack.run.code {
        1 | 16 => assert!(attack.box_.root.join("var/lib/git/new").exists()),
        code => assert!([10, 15].contains(&code), "{:?}", attack.run),
    }
}

#[test]
fn a_directory_that_is_a_link_in_the_backup_is_not_followed() {
    if !can_run() {
        return;
    }
    for target in ["/etc", "../../etc", "/var/lib/tiddlywiki", "."] {
        // With what was below it before, and on a box where the same path is a link as well.
        for live_link in [false, true] {
            let tar = RawTar::new()
                .symlink("var/lib/git", target)
                .file("var/lib/git/cron.d/slip", LOOT)
                .file("var/lib/git/shadow", LOOT)
                .manifest(&valid_manifest());
            let box_ = SmallBox::new();
            if live_link {
                fs::remove_dir_all(box_.root.join("var/lib/git")).unwrap();
                std::os::unix::fs::symlink("/etc", box_.root.join("var/lib/git")).unwrap();
            }
            let file = put(box_.folder.path(), "backup.tar.gz", &gzip(&tar.end()));
            let before = box_.untouchable(&PLACES);
            let (_, run) = Rescue::new(&file, &box_.root).carry_out();
            assert!(![0, -1, 101].contains(&run.code), "{target}: {run:?}");
            assert_same(&before, &box_.untouchable(&PLACES), target);
            no_link_to_the_outside(target, &box_);
        }
    }
}

#[test]
fn links_on_the_box_on_the_way_to_a_place_are_not_followed_out() {
    if !can_run() {
        return;
    }
    for target in ["/etc", "../../../../..", "../../around"] {
        let tar = RawTar::new().dir("var/lib/git").file("var/lib/git/slip", LOOT).manifest(&valid_manifest());
        let box_ = SmallBox::new();
        fs::remove_dir_all(box_.root.join("var/lib/git")).unwrap();
        std::os::unix::fs::symlink(target, box_.root.join("var/lib/git")).unwrap();
        let file = put(box_.folder.path(), "backup.tar.gz", &gzip(&tar.end()));
        let before = box_.untouchable(&PLACES);
        let (plan, run) = Rescue::new(&file, &box_.root).carry_out();
        assert_same(&before, &box_.untouchable(&PLACES), target);
        // Either the link itself is replaced, or the app is refused and that is said.
        if run.code == 0 {
            assert!(box_.root.join("var/lib/git").symlink_metadata().unwrap().is_dir(), "{target}: {plan:#}");
        }
    }
}

#[test]
fn a_file_of_holes_far_beyond_the_disk_is_refused_for_space_before_the_first_write() {
    if let Some(why) = disks::cannot_mount(&["mkfs.ext4", "mount"]) {
        eprintln!("SKIPPED: {why}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let image = disks::blank(&folder.path().join("box.ext4"), 128);
    disks::sh(&format!("mke2fs -q -t ext4 {}", image.display()));
    let mounted = disks::Kernel::mount(&image, "loop");
    let root = mounted.path().join("box");
    fs::create_dir(&root).unwrap();
    SmallBox::fill(&root);
    let before = tree(&root);
    // 8 GiB on 128 MiB. Every zero of it is hashed, so a size of many TiB would only make the test longer.
    let records: [(&str, &[u8]); 3] =
        [("GNU.sparse.size", b"8589934592"), ("GNU.sparse.numblocks", b"1"), ("GNU.sparse.map", b"0,3")];
    let tar =
        RawTar::new().dir("var/lib/git").pax(&records).file("var/lib/git/bomb", b"abc").manifest(&valid_manifest());
    let file = put(folder.path(), "backup.tar.gz", &gzip(&tar.end()));
    let rescue = Rescue::new(&file, &root);
    let planned = rescue.plan().ends(14);
    let run = rescue.restore(planned.json()["id"].as_str().unwrap()).ends(14);
    assert!(run.err.contains("more free space is needed"), "{}", run.err);
    assert!(run.err.contains("nothing on the box was changed"), "{}", run.err);
    assert_same(&before, &tree(&root), "a sparse bomb");
    write(&root.join("tmp/probe"), b"the box can still be written to");
}

#[test]
fn a_backup_that_stops_before_its_manifest_is_called_damaged_with_the_reason() {
    let tar = RawTar::new().dir("var/lib/git").file("/etc/cron.d/slip", LOOT).manifest(&valid_manifest());
    let box_ = SmallBox::new();
    let whole = gzip(&tar.end());
    let honest = RawTar::new().dir("var/lib/git").file("var/lib/git/new", b"new").manifest(&valid_manifest());
    let cut = gzip(&honest.end());
    for (bytes, reason) in [(&whole[..], "absolute"), (&cut[..cut.len() - 100], "ends early")] {
        let file = put(box_.folder.path(), "backup.tar.gz", bytes);
        let plan = Rescue::new(&file, &box_.root).plan().ends(15);
        assert!(plan.out.contains(reason), "{}", plan.out);
    }
}
