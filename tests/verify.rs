//! Verification: whole archives are called intact, and no change of a byte goes by unseen.

#![allow(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used, reason = "this is test code")]

mod common;

use common::archives::*;
use lifeboat::model::app::AppId;
use lifeboat::model::archive::{ArchiveId, ArchiveSummary};
use lifeboat::model::digest::Sha256Digest;
use lifeboat::model::entry::Entry;
use lifeboat::model::finding::{Severity, Verdict};
use lifeboat::model::path::RelPath;
use lifeboat::model::progress::{Event, Progress, Silent};
use lifeboat::model::size::ByteSize;
use lifeboat::source;
use lifeboat::verify::{NoObserver, Observer, RootKind, Scope, Verified, VerifyError, verify};
use std::io::Read;
use std::path::Path;
use std::sync::Mutex;

const MANIFEST: &str = r#"{"apps": [
    {"name": "one", "version": 1, "backup": {"data": {"directories": ["/var/lib/one/"]}}},
    {"name": "two", "version": 2, "backup": {"config": {"files": ["/etc/two.conf"]}, "data": {"directories": ["/var/lib/two"]}}}]}"#;

fn path(text: &str) -> RelPath {
    text.parse().unwrap()
}

fn app(text: &str) -> AppId {
    text.parse().unwrap()
}

fn everything(_: &Entry) -> bool {
    false
}

fn check(file: &Path) -> Result<Verified, VerifyError> {
    let roots = [path("var/lib/one"), path("var/lib/two"), path("etc/two.conf")];
    let scope = Scope { roots: &roots, apps: None, dumps: &[], skip: &everything };
    verify(&mut *source::open(file)?, &scope, &mut NoObserver, &Silent)
}

fn check_bytes(bytes: &[u8]) -> Result<Verified, VerifyError> {
    let folder = tempfile::tempdir().unwrap();
    check(&put(folder.path(), "backup", bytes))
}

/// Numbers that look random and are the same in every run (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }
}

/// A backup of two apps with text and with bytes that do not pack.
fn sample() -> RawTar {
    let mut numbers = Numbers(7);
    let noise: Vec<u8> = (0..20_000).map(|_| numbers.below(256) as u8).collect();
    RawTar::new()
        .file("etc/two.conf", b"setting = 1\n")
        .dir("var/lib/one")
        .file("var/lib/one/noise", &noise)
        .symlink("var/lib/one/link", "/etc/localtime")
        .dir("var/lib/two")
        .file("var/lib/two/text", "a line of text\n".repeat(2000).as_bytes())
        .manifest(MANIFEST)
}

fn verdicts(verified: &Verified) -> Vec<(&str, Verdict)> {
    verified.report.apps.iter().map(|line| (line.name.as_str(), line.verdict)).collect()
}

fn has(verified: &Verified, severity: Severity, text: &str) -> bool {
    verified.report.findings.iter().any(|finding| finding.severity == severity && finding.what.contains(text))
}

#[test]
fn a_whole_archive_is_intact_and_its_contents_are_counted() {
    let verified = check_bytes(&gzip(&sample().end())).unwrap();
    assert_eq!(verdicts(&verified), [("one", Verdict::Intact), ("two", Verdict::Intact)]);
    assert!(verified.report.is_clean());
    assert_eq!(verified.report.findings, vec![]);
    let one = verified.contents.root(&path("var/lib/one")).unwrap();
    assert_eq!((one.kind, one.entries, one.files, one.bytes.0), (Some(RootKind::Directory), 3, 1, 20_000));
    let two = &verified.report.apps[1];
    assert_eq!((two.entries, two.bytes), (3, 30_012));
    assert_eq!(verified.summary.time.as_deref(), Some("2023-11-14T22:13:20Z"));
}

#[test]
fn the_digest_of_a_tree_is_the_same_in_any_order_and_packing_and_differs_with_any_content() {
    let digest = |tar: RawTar| {
        let verified = check_bytes(&gzip(&tar.manifest(MANIFEST).end())).unwrap();
        verified.contents.root(&path("var/lib/one")).unwrap().digest
    };
    let base = digest(RawTar::new().file("var/lib/one/a", b"1").file("var/lib/one/b", b"2"));
    assert_eq!(base, digest(RawTar::new().file("./var/lib/one/b", b"2").file("./var/lib/one/a", b"1")));
    assert_ne!(base, digest(RawTar::new().file("var/lib/one/a", b"2").file("var/lib/one/b", b"1")));
    assert_ne!(base, digest(RawTar::new().file("var/lib/one/a", b"1")));
}

#[test]
fn archives_of_a_real_freedombox_are_intact() {
    let Some(folder) = fixtures() else { return };
    let mut seen = 0;
    for file in std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()) {
        if !file.to_str().is_some_and(|name| name.ends_with(".tar.gz")) {
            continue;
        }
        seen += 1;
        let verified = check(&file).unwrap();
        assert!(!verified.report.apps.is_empty());
        for line in &verified.report.apps {
            assert_eq!(line.verdict, Verdict::Intact, "{}", line.name);
        }
        assert!(verified.report.is_clean());
        // FreedomBox 25.9.3 lists this file in the manifest and does not write it.
        let has_dynamicdns = verified.summary.apps.iter().any(|app| app.name.as_str() == "dynamicdns");
        assert_eq!(has(&verified, Severity::Warning, "settings were not saved"), has_dynamicdns);
        let rest = verified.report.findings.iter().filter(|finding| finding.subject != "dynamicdns");
        assert_eq!(rest.count(), 0);
    }
    assert_eq!(seen, 3);
}

/// What became of one change to a file.
#[derive(Debug, PartialEq)]
enum Fate {
    Detected,
    /// Called intact, with exactly the right content.
    Harmless,
    Missed,
}

fn fate(result: Result<Verified, VerifyError>, truth: &Verified) -> Fate {
    match result {
        Err(_) => Fate::Detected,
        Ok(verified) if !verified.report.is_clean() => Fate::Detected,
        Ok(verified) if verified.contents == truth.contents && verified.summary == truth.summary => Fate::Harmless,
        Ok(_) => Fate::Missed,
    }
}

/// Flips 200 bits and cuts at 50 places, each alone; gives the places of flips that changed nothing, with the
/// changed file.
fn harm(bytes: &[u8], seed: u64, prepare: &dyn Fn(&Path)) -> Vec<(usize, Vec<u8>)> {
    let folder = tempfile::tempdir().unwrap();
    let file = put(folder.path(), "backup", bytes);
    prepare(&file);
    let truth = check(&file).unwrap();
    assert!(truth.report.is_clean());
    let mut numbers = Numbers(seed);
    let mut harmless = Vec::new();
    for _ in 0..200 {
        let bit = numbers.below(bytes.len() * 8);
        let mut changed = bytes.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&file, &changed).unwrap();
        match fate(check(&file), &truth) {
            Fate::Detected => {}
            Fate::Harmless => harmless.push((bit / 8, changed)),
            Fate::Missed => panic!("seed {seed}: the flip of bit {bit} was missed"),
        }
    }
    for _ in 0..50 {
        let end = numbers.below(bytes.len());
        std::fs::write(&file, &bytes[..end]).unwrap();
        assert_eq!(fate(check(&file), &truth), Fate::Detected, "seed {seed}: cut at {end}");
    }
    let places: Vec<usize> = harmless.iter().map(|(at, _)| *at).collect();
    println!("seed {seed}: 200 flips, {} harmless at {places:?} of {}; 50 cuts", places.len(), bytes.len());
    harmless
}

/// A backup on a medium that gives all of it once, and then only the beginning.
struct Failing {
    whole: Option<Box<dyn source::Archive>>,
    cut: Box<dyn source::Archive>,
    summary: ArchiveSummary,
}

impl source::Archive for Failing {
    fn id(&self) -> &ArchiveId {
        &self.summary.id
    }

    fn summary(&mut self) -> Result<ArchiveSummary, source::ReadError> {
        Ok(self.summary.clone())
    }

    fn read(
        &mut self,
        visitor: &mut dyn source::Visitor,
        progress: &dyn Progress,
    ) -> Result<source::Ending, source::ReadError> {
        match self.whole.take() {
            Some(mut whole) => whole.read(visitor, progress),
            None => self.cut.read(visitor, progress),
        }
    }

    fn size(&self) -> Option<ByteSize> {
        None
    }
}

#[test]
fn what_is_only_half_there_when_it_is_read_again_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = gzip(&sample().end());
    let mut whole = source::open(&put(folder.path(), "whole", &bytes)).unwrap();
    let cut = source::open(&put(folder.path(), "cut", &bytes[..bytes.len() / 2])).unwrap();
    let mut archive = Failing { summary: whole.summary().unwrap(), whole: Some(whole), cut };
    // Paths that only the manifest names are looked at in a second reading.
    let scope = Scope { roots: &[], apps: None, dumps: &[], skip: &everything };
    let verified = verify(&mut archive, &scope, &mut NoObserver, &Silent).unwrap();
    let expected = [("one", Verdict::Damaged), ("two", Verdict::Damaged)];
    assert_eq!(verdicts(&verified), expected, "{:?}", verified.report.findings);
}

#[test]
fn every_bit_flip_and_cut_of_a_gzip_archive_is_detected() {
    let tar = sample().end();
    for seed in [1, 2, 3] {
        for (at, changed) in harm(&gzip(&tar), seed, &|_| {}) {
            // Time, extra flags and system in the header mean nothing for the content. In a run of zeros a match may
            // point to other zeros, and the last byte may have bits to spare: then gzip itself gives the same bytes.
            let mut unpacked = Vec::new();
            flate2::read::GzDecoder::new(changed.as_slice()).read_to_end(&mut unpacked).unwrap();
            assert!((3..10).contains(&at) || unpacked == tar, "seed {seed}: {at}");
        }
    }
}

#[test]
fn every_bit_flip_in_a_gzip_header_is_detected_or_harmless() {
    let bytes = gzip(&sample().end());
    let folder = tempfile::tempdir().unwrap();
    let truth = check(&put(folder.path(), "backup", &bytes)).unwrap();
    for bit in 0..80 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let fate = fate(check(&put(folder.path(), "backup", &changed)), &truth);
        assert_ne!(fate, Fate::Missed, "bit {bit}");
        assert_eq!(fate == Fate::Harmless, (4..10).contains(&(bit / 8)) || bit == 24, "bit {bit}");
    }
}

#[test]
fn every_bit_flip_and_cut_of_a_zstd_archive_with_checksum_is_detected() {
    let tar = sample().end();
    // A flip may leave the content as it is, for example in the size of the window: zstd itself says so then.
    for (at, changed) in harm(&zstd(&tar, true), 4, &|_| {}) {
        assert_eq!(zstd::decode_all(changed.as_slice()).unwrap(), tar, "{at}");
    }
}

#[test]
fn every_bit_flip_and_cut_of_a_plain_tar_with_a_checksum_file_is_detected() {
    let harmless = harm(&sample().end(), 5, &|file| {
        let digest = Sha256Digest::of(&std::fs::read(file).unwrap());
        put(file.parent().unwrap(), "SHA256SUMS", format!("{digest} *backup\n").as_bytes());
    });
    assert_eq!(harmless, vec![]);
}

#[test]
fn what_no_checksum_covers_is_not_verifiable() {
    for bytes in [sample().end(), zstd(&sample().end(), false)] {
        let verified = check_bytes(&bytes).unwrap();
        assert_eq!(verdicts(&verified), [("one", Verdict::NotVerifiable), ("two", Verdict::NotVerifiable)]);
        assert!(has(&verified, Severity::Warning, "nothing proves"));
        assert!(!verified.report.is_clean());
    }
}

#[test]
fn a_gzip_stream_without_its_end_is_readable_and_not_verifiable() {
    let tar = sample().end();
    let whole = check_bytes(&gzip(&tar)).unwrap();
    let cut = gzip(&tar);
    for bytes in [gzip_without_end(&tar), cut[..cut.len() - 8].to_vec(), cut[..cut.len() - 3].to_vec()] {
        let verified = check_bytes(&bytes).unwrap();
        assert_eq!(verified.contents, whole.contents, "every byte is there");
        assert_eq!(verdicts(&verified), [("one", Verdict::NotVerifiable), ("two", Verdict::NotVerifiable)]);
        assert!(has(&verified, Severity::Warning, "lacks its end"));
    }
    // The same without the archive's own end is damage.
    let bytes = gzip_without_end(&tar[..tar.len() / 2]);
    let verified = check_bytes(&bytes).unwrap();
    assert!(has(&verified, Severity::Damage, "are lost"));
    assert!(!verified.report.is_clean());
}

#[test]
fn a_wrong_checksum_at_the_end_proves_nothing_about_any_app() {
    let mut bytes = gzip(&sample().end());
    let at = bytes.len() - 6;
    bytes[at] ^= 1;
    let verified = check_bytes(&bytes).unwrap();
    assert_eq!(verdicts(&verified), [("one", Verdict::NotVerifiable), ("two", Verdict::NotVerifiable)]);
    assert!(has(&verified, Severity::Damage, "unknown place"));
}

#[test]
fn a_located_damage_hits_the_apps_behind_it() {
    // The manifest first, then app one whole, then app two with a broken header in it.
    let manifest_first = RawTar::new().manifest(MANIFEST).dir("var/lib/one").file("var/lib/one/f", b"1");
    let mut tar = manifest_first.file("etc/two.conf", b"2").dir("var/lib/two").file("var/lib/two/f", b"3");
    let at = tar.bytes.len() - 1024;
    tar.bytes[at] ^= 1;
    let verified = check_bytes(&tar.end()).unwrap();
    assert_eq!(verdicts(&verified), [("one", Verdict::NotVerifiable), ("two", Verdict::Damaged)]);
    assert!(has(&verified, Severity::Damage, "'var/lib/two'"), "the place is named");
    assert!(verified.report.findings.iter().any(|finding| finding.subject == "two"));
}

#[test]
fn damage_before_the_manifest_damages_every_app_that_was_asked_for() {
    let bytes = gzip(&sample().end());
    let folder = tempfile::tempdir().unwrap();
    let file = put(folder.path(), "backup", &bytes[..bytes.len() / 2]);
    let apps = [app("one")];
    let scope = Scope { roots: &[path("var/lib/one")], apps: Some(&apps), dumps: &[], skip: &everything };
    let verified = verify(&mut *source::open(&file).unwrap(), &scope, &mut NoObserver, &Silent).unwrap();
    assert_eq!(verdicts(&verified), [("one", Verdict::Damaged)]);
    assert!(verified.summary.apps.is_empty());
    assert!(!verified.report.is_clean());
    assert!(!check(&file).unwrap().report.is_clean());
}

#[test]
fn an_app_that_is_not_in_the_backup_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = put(folder.path(), "backup", &gzip(&sample().end()));
    let apps = [app("three")];
    let scope = Scope { roots: &[], apps: Some(&apps), dumps: &[], skip: &everything };
    let result = verify(&mut *source::open(&file).unwrap(), &scope, &mut NoObserver, &Silent);
    assert!(matches!(result, Err(VerifyError::NoSuchApp(name)) if name == app("three")));
}

#[test]
fn a_missing_or_cut_database_dump_damages_its_app_only() {
    let manifest = r#"{"apps": [{"name": "one", "version": 1, "backup": {"data": {"directories": ["/var/lib/one/"]}}},
        {"name": "sql", "version": 1, "backup": {"data": {"files": ["/var/lib/plinth/backups-data/sql-database.sql"]}}}]}"#;
    let with = |dump: Option<&[u8]>| {
        let tar = RawTar::new().file("var/lib/one/f", b"1");
        let tar = match dump {
            Some(dump) => tar.file("var/lib/plinth/backups-data/sql-database.sql", dump),
            None => tar,
        };
        check_bytes(&gzip(&tar.manifest(manifest).end())).unwrap()
    };
    let whole = with(Some(b"INSERT\n-- Dump completed on 2026-11-23 18:47:27\n"));
    assert_eq!(verdicts(&whole), [("one", Verdict::Intact), ("sql", Verdict::Intact)]);
    for (dump, what) in
        [(None, "is missing"), (Some(&b"INSERT\n-- Dump"[..]), "is not whole"), (Some(b""), "is not whole")]
    {
        let verified = with(dump);
        assert_eq!(verdicts(&verified), [("one", Verdict::Intact), ("sql", Verdict::Damaged)]);
        assert!(has(&verified, Severity::Damage, what));
    }
}

#[test]
fn a_dump_of_an_earlier_backup_is_told() {
    let manifest = r#"{"apps": [{"name": "sql", "version": 1,
        "backup": {"data": {"files": ["/var/lib/plinth/backups-data/sql-database.sql"]}}}]}"#;
    for (age, is_stale) in [(0, false), (2 * 3600, false), (24 * 3600, true)] {
        let mut header = Header::new(b'0', "var/lib/plinth/backups-data/sql-database.sql");
        header.mtime -= age;
        let tar = RawTar::new().member(header, b"INSERT\n-- Dump completed on 2026-11-23 18:47:27\n");
        let verified = check_bytes(&gzip(&tar.manifest(manifest).end())).unwrap();
        assert_eq!(verdicts(&verified), [("sql", Verdict::Intact)], "the dump is what was backed up");
        assert_eq!(has(&verified, Severity::Warning, "24 hours older than the backup"), is_stale, "{age}");
    }
}

#[test]
fn a_demanded_dump_is_missed_even_where_the_manifest_does_not_name_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = put(folder.path(), "backup", &gzip(&sample().end()));
    let dumps = [(app("two"), path("var/lib/plinth/backups-data/two-database.sql"))];
    let scope = Scope { roots: &[], apps: None, dumps: &dumps, skip: &everything };
    let verified = verify(&mut *source::open(&file).unwrap(), &scope, &mut NoObserver, &Silent).unwrap();
    assert_eq!(verdicts(&verified), [("one", Verdict::Intact), ("two", Verdict::Damaged)]);
}

#[test]
fn an_entry_that_borg_wrote_twice_counts_once_and_a_different_one_is_damage() {
    let twice = sample().file("etc/two.conf", b"setting = 1\n").hardlink("var/lib/one/noise", "var/lib/one/noise");
    let verified = check_bytes(&gzip(&twice.end())).unwrap();
    assert_eq!(verified.contents, check_bytes(&gzip(&sample().end())).unwrap().contents);
    assert!(verified.report.is_clean());
    let verified = check_bytes(&gzip(&sample().file("etc/two.conf", b"setting = 2\n").end())).unwrap();
    assert_eq!(verdicts(&verified), [("one", Verdict::Intact), ("two", Verdict::Damaged)]);
}

#[test]
fn a_hard_link_to_nothing_is_damage_and_one_to_another_root_is_mentioned() {
    let verified = check_bytes(&gzip(&sample().hardlink("var/lib/one/h", "var/lib/one/gone").end())).unwrap();
    assert_eq!(verdicts(&verified), [("one", Verdict::Damaged), ("two", Verdict::Intact)]);
    let verified = check_bytes(&gzip(&sample().hardlink("var/lib/one/h", "var/lib/two/text").end())).unwrap();
    assert!(verified.report.is_clean());
    assert!(has(&verified, Severity::Warning, "another part of the backup"));
}

/// Remembers what it saw and what went on.
#[derive(Default)]
struct Witness(Vec<(RelPath, RelPath, Option<Sha256Digest>)>);

impl Observer for Witness {
    fn needs_digest(&mut self, _: &RelPath, _: &Entry) -> bool {
        true
    }

    fn seen(&mut self, root: &RelPath, entry: &Entry, content: Option<Sha256Digest>) {
        self.0.push((root.clone(), entry.path.clone(), content));
    }
}

#[derive(Default)]
struct Count(Mutex<(u64, u64, u64)>);

impl Progress for Count {
    fn event(&self, event: Event) {
        let mut count = self.0.lock().unwrap();
        match event {
            Event::Phase { total, .. } => *count = (total.unwrap(), 0, 0),
            Event::Advance { bytes, entries } => {
                count.1 += bytes;
                count.2 += entries;
            }
            Event::App { .. } | Event::End => {}
        }
    }
}

#[test]
fn nested_and_unknown_roots_each_see_their_entries_and_drop_ins_are_left_out() {
    let tar =
        sample().symlink("var/lib/one/drop-in", "/usr/share/freedombox/etc/x").file("var/lib/one/skip-me", b"x").end();
    let folder = tempfile::tempdir().unwrap();
    let file = put(folder.path(), "backup", &gzip(&tar));
    let roots = [path("var/lib"), path("var/lib/one")];
    let skip = |entry: &Entry| entry.path.file_name() == b"skip-me";
    let scope = Scope { roots: &roots, apps: None, dumps: &[], skip: &skip };
    let (mut witness, count) = (Witness::default(), Count::default());
    let verified = verify(&mut *source::open(&file).unwrap(), &scope, &mut witness, &count).unwrap();
    let entries = |root: &str| verified.contents.root(&path(root)).map(|root| root.entries);
    assert_eq!([entries("var/lib"), entries("var/lib/one")], [Some(6), Some(3)], "the manifest lies below var/lib too");
    assert_eq!([entries("var/lib/two"), entries("etc/two.conf")], [Some(2), Some(1)], "a second read found them");
    assert_eq!(verified.contents.root(&path("var/lib")).unwrap().kind, None);
    let text = Some(Sha256Digest::of("a line of text\n".repeat(2000).as_bytes()));
    for root in ["var/lib", "var/lib/two"] {
        assert!(witness.0.contains(&(path(root), path("var/lib/two/text"), text)));
    }
    assert!(!witness.0.iter().any(|(_, path, _)| path.file_name() == b"drop-in" || path.file_name() == b"skip-me"));
    let (total, bytes, entries) = *count.0.lock().unwrap();
    assert_eq!((total, bytes, entries), (std::fs::metadata(&file).unwrap().len(), total, 9));
}

#[test]
fn two_manifests_or_a_broken_one_are_damage() {
    let second = sample().file("var/lib/plinth/backups-manifests/b.json", MANIFEST.as_bytes());
    for tar in [second, RawTar::new().file("var/lib/one/f", b"1").manifest("{\"apps\": 1}")] {
        let verified = check_bytes(&gzip(&tar.end())).unwrap();
        assert!(!verified.report.is_clean());
        assert!(has(&verified, Severity::Damage, "manifest"));
    }
}

#[test]
fn an_app_without_data_loses_nothing_when_the_archive_is_damaged() {
    let manifest = r#"{"apps": [{"name": "avahi", "version": 1, "backup": {}}]}"#;
    let mut tar = RawTar::new().manifest(manifest).file("f", b"1").file("g", b"2");
    let at = tar.bytes.len() - 1024;
    tar.bytes[at] ^= 1;
    let verified = check_bytes(&gzip(&tar.end())).unwrap();
    assert_eq!(verdicts(&verified), [("avahi", Verdict::NotVerifiable)]);
    assert!(!verified.report.is_clean());
}

/// Runs borg 1.x as FreedomBox does; `None` with a message when it is not there.
fn borg_export(tree: &Path, folder: &Path, name: &str, paths: &[&str]) -> Option<std::path::PathBuf> {
    let repository = folder.join(format!("{name}.borg"));
    let archive = format!("{}::a", repository.display());
    let export = folder.join(format!("{name}.tar.gz"));
    let run = |args: &[&str]| {
        let mut command = std::process::Command::new("borg");
        command.args(args).current_dir(tree).env("BORG_BASE_DIR", folder).env("LANG", "C.UTF-8");
        command
            .env("BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK", "yes")
            .output()
            .is_ok_and(|done| done.status.success())
    };
    if !run(&["--version"]) {
        eprintln!("SKIPPED: borg is not installed");
        return None;
    }
    assert!(run(&["init", "-e", "none", repository.to_str().unwrap()]));
    assert!(run(&[&["create", &archive], paths].concat()));
    assert!(run(&["export-tar", &archive, export.to_str().unwrap(), "--tar-filter=gzip"]));
    Some(export)
}

#[test]
fn an_export_that_borg_made_of_overlapping_paths_is_the_same_as_one_without() {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    let manifests = "var/lib/plinth/backups-manifests";
    std::fs::create_dir_all(tree.join("var/lib/one/sub")).unwrap();
    std::fs::create_dir_all(tree.join(manifests)).unwrap();
    std::fs::write(tree.join("var/lib/one/a"), b"content of a").unwrap();
    std::fs::hard_link(tree.join("var/lib/one/a"), tree.join("var/lib/one/b")).unwrap();
    std::fs::write(tree.join("var/lib/one/sub/c"), b"content of c").unwrap();
    let json = r#"{"apps": [{"name": "one", "version": 1, "backup": {"data": {"directories": ["/var/lib/one/"],
        "files": ["/var/lib/one/a", "/var/lib/one/b", "/var/lib/one/sub/c"]}}}]}"#;
    std::fs::write(tree.join(manifests).join("x.json"), json).unwrap();
    let plain = ["var/lib/one", manifests];
    let overlapping = ["var/lib/one", "var/lib/one/a", "var/lib/one/b", "var/lib/one/sub", manifests];
    let Some(plain) = borg_export(&tree, folder.path(), "plain", &plain) else { return };
    let Some(overlapping) = borg_export(&tree, folder.path(), "overlapping", &overlapping) else { return };
    let (plain, overlapping) = (check(&plain).unwrap(), check(&overlapping).unwrap());
    assert_eq!(verdicts(&plain), [("one", Verdict::Intact)]);
    assert_eq!(verdicts(&overlapping), [("one", Verdict::Intact)]);
    assert_eq!(plain.contents, overlapping.contents);
}

#[test]
fn what_lies_below_a_link_or_a_file_damages_its_app() {
    let start = || RawTar::new().dir("var/lib/one").file("etc/two.conf", b"2").dir("var/lib/two");
    for tar in [
        start().symlink("var/lib/one/d", "/tmp").file("var/lib/one/d/x", b"x"),
        start().file("var/lib/one/d", b"d").dir("var/lib/one/d/e").file("var/lib/one/d/e/x", b"x"),
        start().symlink("var/lib/one/a", ".").symlink("var/lib/one/b", "a/..").file("var/lib/one/b/x", b"x"),
    ] {
        let verified = check_bytes(&gzip(&tar.manifest(MANIFEST).end())).unwrap();
        assert_eq!(verdicts(&verified), [("one", Verdict::Damaged), ("two", Verdict::Intact)]);
        assert!(has(&verified, Severity::Damage, "which is not a directory in the archive"));
    }
}

#[test]
fn the_progress_of_reading_names_each_app_when_its_data_begins() {
    struct Apps(Mutex<Vec<String>>);
    impl Progress for Apps {
        fn event(&self, event: Event) {
            if let Event::App { name } = event {
                self.0.lock().unwrap().push(name.to_string());
            }
        }
    }
    let tar = RawTar::new().dir("var/lib/radicale").file("var/lib/radicale/a", b"1").file("var/lib/radicale/b", b"2");
    let tar = tar.file("etc/nobody", b"3").dir("var/lib/tiddlywiki").file("var/lib/tiddlywiki/c", b"4");
    let folder = tempfile::tempdir().unwrap();
    let file = put(folder.path(), "backup", &gzip(&tar.end()));
    let scope = Scope { roots: lifeboat::model::manifest::roots(), apps: None, dumps: &[], skip: &everything };
    let apps = Apps(Mutex::default());
    verify(&mut *source::open(&file).unwrap(), &scope, &mut NoObserver, &apps).unwrap();
    assert_eq!(*apps.0.lock().unwrap(), ["radicale", "tiddlywiki"]);
}
