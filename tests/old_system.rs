//! The disk of an installed FreedomBox as a backup: against FreedomBox's own backup of the same box, against GNU tar's of
//! the same files, with and without the kernel.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "this is test code")]

mod common;

use common::archives::{Collect, collect, fixtures};
use common::boxes::{self, APPS, Fresh, Scene, difference, live, needs_root, put, sh};
use common::disks;
use common::rescue::lifeboat;
use lifeboat::model::digest::Sha256Digest;
use lifeboat::model::entry::{Entry, EntryKind};
use lifeboat::source::old_system::{self, Root};
use lifeboat::source::{self, Archive};
use lifeboat::sys::host::Host;
use lifeboat::sys::mount::Extent;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// What the tests' box that was backed up has besides its data: accounts, and FreedomBox's database with its apps.
fn make_old_box(root: &Path) {
    boxes::system(root);
    boxes::make_source(root);
    put(
        root,
        "etc/passwd",
        "root:x:0:0::/root:/bin/sh\nradicale:x:106:109::/:\ngituser:x:140:141::/:\nwww-data:x:33:33::/:\n",
    );
    put(root, "etc/group", "root:x:0:\nradicale:x:109:\ngituser:x:141:\nwww-data:x:33:\n");
    put(root, "etc/hostname", "oldbox\n");
    let database = rusqlite::Connection::open(root.join("var/lib/plinth/plinth.sqlite3")).unwrap();
    database.execute_batch("DELETE FROM plinth_module").unwrap();
    for (name, version, ..) in APPS {
        database.execute("INSERT INTO plinth_module VALUES (?1, ?2)", (name, version)).unwrap();
    }
    drop(database);
    sh(&format!("touch -d @1700000000 '{}/var/lib/plinth/plinth.sqlite3'", root.display()));
}

fn old_box() -> tempfile::TempDir {
    let dir = boxes::scratch();
    make_old_box(dir.path());
    dir
}

fn host() -> (tempfile::TempDir, Host) {
    let runtime = tempfile::tempdir().unwrap();
    let host = Host::real(runtime.path());
    (runtime, host)
}

type Entries = BTreeMap<Vec<u8>, (Entry, Sha256Digest)>;

fn entries(archive: &mut dyn Archive) -> Entries {
    let all = collect(archive).unwrap().0;
    all.into_iter().map(|(entry, digest)| (entry.path.as_bytes().to_vec(), (entry, digest))).collect()
}

fn of_system(root: Root) -> Entries {
    let (_runtime, host) = host();
    entries(&mut *old_system::open(&host, root, &[]).unwrap())
}

/// An image of a filesystem with this content; no kernel is needed to make it.
fn image_of(root: &Path, at: &Path, features: &str) -> PathBuf {
    let image = disks::blank(at, 24);
    let words = ["-q", "-t", "ext4", "-O", features, "-d"].map(OsStr::new);
    disks::run("mke2fs", &words.into_iter().chain([root.as_os_str(), image.as_os_str()]).collect::<Vec<_>>());
    image
}

fn whole(image: &Path) -> Root {
    let length = fs::metadata(image).unwrap().len();
    Root::Volume(Extent { path: image.to_owned(), offset: 0, length })
}

#[test]
fn the_same_comes_onto_the_new_box_from_the_old_disk_as_from_a_backup_of_it() {
    if boxes::cannot_run() {
        return;
    }
    let scene = Scene::with(&APPS, |_| {}, |_| {});
    let from_backup = scene.fresh();
    assert_eq!(scene.restore(&from_backup, None).code, Some(0));
    let old = old_box();
    let migrate = |onto: &Fresh| {
        let words = |more: &[&str]| -> Vec<std::ffi::OsString> {
            let mut words: Vec<std::ffi::OsString> = vec![more[0].into(), "--from".into(), old.path().into()];
            words.extend(["--onto".into(), onto.path.clone().into()]);
            words.extend(["--program".into(), scene.program.clone().into()]);
            words.extend(more[1..].iter().map(Into::into));
            words
        };
        let planned = scene.run(&words(&["plan"]), None);
        assert_eq!(planned.code, Some(0), "{} {}", planned.stderr, planned.json);
        assert_eq!(planned.json["archive"], "installed-system");
        let id = planned.json["id"].as_str().unwrap().to_owned();
        let done = scene.run(&words(&["restore", "--consent", &id]), None);
        assert_eq!(done.code, Some(0), "{} {}", done.stderr, done.json);
    };
    let from_disk = scene.fresh();
    let before = boxes::snapshot(&from_disk);
    migrate(&from_disk);
    assert_eq!(difference(&live(&from_backup), &live(&from_disk)), "");
    let parked = |root: &Path| boxes::take(root, &|path| path.starts_with("var/lib/lifeboat/parked"));
    assert!(parked(&from_disk).len() > 3, "gitweb and miniflux wait for the next boot");
    assert_eq!(difference(&parked(&from_backup), &parked(&from_disk)), "");
    assert_eq!(scene.on("undo", &from_disk, None).code, Some(0));
    assert_eq!(difference(&before, &boxes::snapshot(&from_disk)), "");
}

#[test]
fn freedomboxs_own_backup_of_a_real_box_and_its_disk_hold_the_same() {
    let Some(fixtures) = fixtures().filter(|_| !needs_root()) else { return };
    let dir = tempfile::tempdir().unwrap();
    let (root, backup) = (dir.path(), fixtures.join("root-2026-11-23T18:45:11+01:00.tar.gz"));
    sh(&format!(
        "cd '{root}'; tar -xJf '{from}/skeleton-first-booted.tar.xz'
         tar --numeric-owner -xpzf '{backup}'; rm -r var/lib/plinth/backups-manifests
         cp '{from}/plinth.sqlite3' var/lib/plinth/; cp '{from}/etc-passwd' etc/passwd; cp '{from}/etc-group' etc/group
         cp '{from}/dpkg-status' var/lib/dpkg/status",
        root = root.display(),
        from = fixtures.display(),
        backup = backup.display()
    ));
    let mut theirs = source::open(&backup).unwrap();
    let summary = theirs.summary().unwrap();
    let theirs = entries(&mut *theirs);
    let (_runtime, host) = host();
    let mut ours = old_system::open(&host, Root::Directory(root.to_owned()), &[]).unwrap();
    // FreedomBox lists the apps that can be backed up with their versions and paths then; so does the disk.
    let of_disk = ours.summary().unwrap();
    for app in &summary.apps {
        let found = of_disk.apps.iter().find(|other| other.name == app.name);
        let found = found.unwrap_or_else(|| panic!("{} is missing", app.name));
        let sorted = |paths: &[lifeboat::model::path::RelPath]| {
            let mut paths = paths.to_vec();
            paths.sort();
            paths.dedup();
            paths
        };
        assert_eq!((found.version, sorted(&found.paths)), (app.version, sorted(&app.paths)), "{}", app.name);
        assert_eq!(found.settings, app.settings, "{}", app.name);
    }
    let ours = entries(&mut *ours);
    let mut compared = 0;
    for (path, (their, digest)) in &theirs {
        let name = String::from_utf8_lossy(path);
        if name.starts_with("var/lib/plinth/backups-manifests/") {
            continue;
        }
        let (our, own_digest) = ours.get(path).unwrap_or_else(|| panic!("'{name}' is missing"));
        let essence = |entry: &Entry| {
            let kind = match &entry.kind {
                EntryKind::File { size, .. } => EntryKind::File { size: *size, sparse: false },
                other => other.clone(),
            };
            // A tar archive of borg has whole seconds.
            (kind, entry.mode, entry.owner.clone(), entry.mtime.secs)
        };
        assert_eq!(essence(our), essence(their), "'{name}'");
        assert_eq!(own_digest, digest, "'{name}'");
        compared += 1;
    }
    assert!(compared > 60, "only {compared} entries");
    // The manifests say the same of every app, in FreedomBox's own words.
    let manifest = |entries: &Path| -> serde_json::Value {
        let text = sh(&format!("tar -xOzf '{}' --wildcards 'var/lib/plinth/backups-manifests/*'", entries.display()));
        serde_json::from_str(&text).unwrap()
    };
    let exported = dir.path().join("exported.tar.gz");
    let words = ["export".as_ref(), root.as_os_str(), exported.as_os_str()];
    // Nobody has dumped the databases of this box, nor are dumps in its own backup.
    let run = lifeboat(&words).ends(1);
    assert_eq!(run.said().matches("its database is not in the file").count(), 2, "{run:?}");
    let (theirs, ours) = (manifest(&backup), manifest(&exported));
    let of = |manifest: &serde_json::Value, name: &serde_json::Value| {
        let apps = manifest["apps"].as_array().unwrap().clone();
        apps.into_iter().find(|app| app["name"] == *name).unwrap()
    };
    for app in theirs["apps"].as_array().unwrap() {
        assert_eq!(normal(of(&ours, &app["name"])), normal(app.clone()));
    }
}

/// Lists of a manifest in one order: FreedomBox's own differs from release to release.
fn normal(mut value: serde_json::Value) -> serde_json::Value {
    if let Some(list) = value.as_array_mut() {
        let mut list: Vec<_> = list.drain(..).map(normal).collect();
        list.iter_mut().for_each(|item| {
            if let Some(text) = item.as_str() {
                *item = text.trim_end_matches('/').into();
            }
        });
        list.sort_by_key(ToString::to_string);
        return list.into();
    }
    if let Some(map) = value.as_object_mut() {
        return map
            .iter()
            .map(|(key, value)| (key.clone(), normal(value.clone())))
            .collect::<serde_json::Map<_, _>>()
            .into();
    }
    value
}

#[test]
fn an_unmounted_disk_gives_what_the_kernel_shows() {
    if needs_root() {
        return;
    }
    if let Some(why) = disks::lacks(&["mke2fs", "debugfs"]) {
        return eprintln!("SKIPPED: {why}");
    }
    let old = old_box();
    sh(&format!(
        "cd '{}/var/lib/radicale'; setfacl -m u:106:rx,u:140:rwx same; echo x >hole; truncate -s 3M hole; echo x >>hole",
        old.path().display()
    ));
    let dir = tempfile::tempdir().unwrap();
    for features in [
        "^metadata_csum,^64bit",
        "^has_journal,^extent,^flex_bg,^64bit,^metadata_csum",
        "metadata_csum,64bit,inline_data",
    ] {
        if features.ends_with("inline_data") {
            // mke2fs cannot write holes into such filesystems.
            fs::remove_file(old.path().join("var/lib/radicale/hole")).unwrap();
        }
        let shown = of_system(Root::Directory(old.path().to_owned()));
        assert!(shown.values().any(|(entry, _)| entry.acl_access.is_some()));
        let image = image_of(old.path(), &dir.path().join("image"), features);
        let read = of_system(whole(&image));
        assert_eq!(shown.keys().collect::<Vec<_>>(), read.keys().collect::<Vec<_>>(), "{features}");
        for (path, (entry, digest)) in &shown {
            let mut other = read[path].clone();
            // Holes are an economy of each filesystem.
            if let (EntryKind::File { sparse, .. }, EntryKind::File { sparse: own, .. }) =
                (&entry.kind, &mut other.0.kind)
            {
                *own = *sparse;
            }
            other.0.mtime.nanos = entry.mtime.nanos;
            assert_eq!((entry, digest), (&other.0, &other.1), "{features}");
        }
    }
}

#[test]
fn a_disk_image_with_an_old_box_is_listed_verified_and_planned_like_a_backup() {
    if needs_root() {
        return;
    }
    if let Some(why) = disks::lacks(&["mke2fs", "debugfs"]) {
        return eprintln!("SKIPPED: {why}");
    }
    let old = old_box();
    let dir = tempfile::tempdir().unwrap();
    let image = image_of(old.path(), &dir.path().join("image"), "metadata_csum");
    let before = disks::digest(&image);
    let run = |words: &[&OsStr]| lifeboat(&words.iter().copied().chain([OsStr::new("--json")]).collect::<Vec<_>>());
    // A journal that holds changes keeps the kernel away: Lifeboat replays it in memory.
    for unclean in [false, true] {
        if unclean {
            disks::run("debugfs", &["-w", "-R", "feature needs_recovery", image.to_str().unwrap()]);
        } else if let Some(why) = disks::cannot_mount(&[]) {
            eprintln!("SKIPPED: {why}");
            continue;
        }
        let before = if unclean { disks::digest(&image) } else { before.clone() };
        let listed = run(&["list".as_ref(), image.as_os_str()]).ends(0).json();
        let archives = listed["archives"].as_array().unwrap();
        assert_eq!(archives.len(), 1, "{listed}");
        assert_eq!(archives[0]["id"], "installed-system");
        assert_eq!(archives[0]["generation"], "system");
        assert_eq!(archives[0]["apps"].as_array().unwrap().len(), APPS.len());
        let verified = run(&["verify".as_ref(), image.as_os_str()]).ends(0).json();
        let verdicts = verified["apps"].as_array().unwrap();
        assert!(verdicts.iter().all(|app| app["verdict"] == "not-verifiable"), "{verified}");
        let drilled = run(&["drill".as_ref(), "--from".as_ref(), image.as_os_str()]);
        assert_eq!(drilled.json()["plan"]["archive"], "installed-system");
        assert_eq!(disks::digest(&image), before, "the source was written to");
    }
}

#[test]
fn files_that_the_disk_does_not_give_are_named_and_the_rest_is_read() {
    if needs_root() {
        return;
    }
    if let Some(why) = disks::lacks(&["mke2fs", "debugfs"]) {
        return eprintln!("SKIPPED: {why}");
    }
    let old = old_box();
    let dir = tempfile::tempdir().unwrap();
    let image = image_of(old.path(), &dir.path().join("image"), "metadata_csum");
    let inode = |path: &str| {
        let said = sh(&format!("debugfs -R 'stat {path}' '{}' 2>/dev/null", image.display()));
        said.split_whitespace().skip_while(|word| *word != "Inode:").nth(1).unwrap().to_owned()
    };
    let lost = inode("/var/lib/radicale/collections/deep/b.ics");
    disks::run("debugfs", &["-w", "-R", &format!("set_inode_field <{lost}> block[0] 12345"), image.to_str().unwrap()]);
    let (_runtime, host) = host();
    let mut archive = old_system::open(&host, whole(&image), &[]).unwrap();
    let mut seen = Collect(Vec::new());
    let ending = archive.read(&mut seen, &lifeboat::model::progress::Silent).unwrap();
    let named = ending.findings.iter().find(|finding| finding.subject == "var/lib/radicale/collections/deep/b.ics");
    assert!(named.is_some(), "{:?}", ending.findings);
    assert!(seen.0.iter().any(|(entry, _)| entry.path.as_bytes() == b"var/lib/shaarli/data/store.php"));
    let verified = lifeboat(&["verify".as_ref(), image.as_os_str(), "--json".as_ref()]).ends(15).json();
    let verdict = |name: &str| {
        let apps = verified["apps"].as_array().unwrap();
        apps.iter().find(|app| app["name"] == name).unwrap()["verdict"].clone()
    };
    assert_eq!(verdict("radicale"), "damaged");
    for whole in APPS.map(|app| app.0).into_iter().filter(|name| *name != "radicale") {
        assert_eq!(verdict(whole), "not-verifiable", "{whole}");
    }
}

#[test]
fn what_freedombox_misses_in_its_backups_because_its_debian_keeps_it_elsewhere_is_read_from_the_disk() {
    if needs_root() {
        return;
    }
    let old = old_box();
    let database = rusqlite::Connection::open(old.path().join("var/lib/plinth/plinth.sqlite3")).unwrap();
    database.execute_batch("INSERT INTO plinth_module VALUES ('minetest', 2), ('mumble', 2)").unwrap();
    drop(database);
    let worlds = "var/lib/private/luanti/default/worlds/world/map.sqlite";
    let kept = [worlds, "etc/luanti/default.conf", "etc/mumble/mumble-server.ini"];
    kept.iter().for_each(|path| put(old.path(), path, "kept\n"));
    put(old.path(), "etc/minetest/minetest.conf", "nothing reads it\n");
    let found = of_system(Root::Directory(old.path().to_owned()));
    for path in kept {
        assert!(found.contains_key(path.as_bytes()), "{path}");
    }
    assert!(!found.contains_key(&b"etc/minetest/minetest.conf"[..]));
}

#[test]
fn settings_of_freedomboxs_store_are_in_the_file_that_its_restore_reads() {
    if needs_root() {
        return;
    }
    let old = old_box();
    let database = rusqlite::Connection::open(old.path().join("var/lib/plinth/plinth.sqlite3")).unwrap();
    database
        .execute_batch(
            r#"INSERT INTO plinth_module VALUES ('dynamicdns', 2);
               INSERT INTO plinth_kvstore VALUES ('dynamicdns_config', '"{\"domains\": {\"a.example\": {\"password\": \"p\"}}}"');
               INSERT INTO plinth_kvstore VALUES ('dynamicdns_enable', 'true');"#,
        )
        .unwrap();
    drop(database);
    put(old.path(), "var/lib/plinth/backups-data/dynamicdns-settings.json", "{\"dynamicdns_enable\": false}");
    let (_runtime, host) = host();
    let mut archive = old_system::open(&host, Root::Directory(old.path().to_owned()), &[]).unwrap();
    let path = "var/lib/plinth/backups-data/dynamicdns-settings.json";
    let expected = serde_json::json!({
        "dynamicdns_enable": true, "dynamicdns_config": "{\"domains\": {\"a.example\": {\"password\": \"p\"}}}"
    });
    let found = entries(&mut *archive);
    let (entry, digest) = &found[path.as_bytes()];
    assert_eq!(entry.mode, 0o600);
    assert_eq!(*digest, Sha256Digest::of(expected.to_string().as_bytes()));
}

#[test]
fn a_database_without_a_dump_is_named_with_what_stays_on_the_old_disk_and_costs_no_other_app() {
    if boxes::needs_root() {
        return;
    }
    let dir = old_box();
    let dump = dir.path().join("var/lib/plinth/backups-data/miniflux-database.sql");
    let written = fs::read_to_string(&dump).unwrap();
    let verify = || {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_lifeboat"))
            .args([OsStr::new("verify"), dir.path().as_os_str(), OsStr::new("--json")])
            .output()
            .unwrap();
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let told = |one: &serde_json::Value| one["what"].as_str().unwrap().to_owned() + one["advice"].as_str().unwrap();
        let own = report["findings"].as_array().unwrap().iter().filter(|one| one["subject"] == "miniflux");
        let own: Vec<(String, String)> =
            own.map(|one| (one["severity"].as_str().unwrap().to_owned(), told(one))).collect();
        let of = report["apps"].as_array().unwrap().iter();
        let damaged: Vec<String> =
            of.filter(|app| app["verdict"] == "damaged").map(|app| app["name"].as_str().unwrap().to_owned()).collect();
        (output.status.code(), own, damaged, report["apps"].to_string().contains("databases"))
    };
    fs::remove_file(&dump).unwrap();
    let (code, told, damaged, _) = verify();
    assert_eq!((code, told.len(), damaged), (Some(15), 1, vec!["miniflux".to_owned()]), "{told:?}");
    assert_eq!(told[0].0, "damage");
    assert!(told[0].1.contains("miniflux-database.sql") && told[0].1.contains("/var/lib/postgresql"), "{told:?}");

    // Its server's own files come along, and only where they are needed.
    put(dir.path(), "var/lib/postgresql/17/main/PG_VERSION", "17\n");
    let (_, told, damaged, carried) = verify();
    assert_eq!((told.len(), damaged, carried), (1, Vec::<String>::new(), true), "{told:?}");
    assert!(told[0].0 == "warning" && told[0].1.contains("own files come along"), "{told:?}");
    fs::write(&dump, &written[..written.len() / 2]).unwrap();
    let (_, told, damaged, carried) = verify();
    assert_eq!((told.len(), damaged, carried), (1, Vec::<String>::new(), true), "{told:?}");
    assert!(told[0].1.contains("is not whole"), "{told:?}");
    fs::write(&dump, &written).unwrap();
    let (_, told, damaged, carried) = verify();
    assert_eq!((told.len(), damaged, carried), (0, Vec::<String>::new(), false), "{told:?}");
}
