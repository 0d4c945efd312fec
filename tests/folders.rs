//! Home folders and shared folders of an old box: the running box brings in what it lacks, each when its owner has an
//! account, and nothing that is there is replaced. On boxes whose FreedomBox is none (`tests/finish`).

#![allow(clippy::print_stderr, clippy::unwrap_used, reason = "this is test code")]

mod common;

use common::boxes::{self, APPS, Scene, difference, put, sh};
use common::cases::sample;
use common::running::{Case, give_to_plinth, make_old, old_of};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;

fn scene() -> Scene {
    let scene = Scene::with(
        &APPS,
        |root| {
            put(root, "home/zoe/notes.txt", "of the new box\n");
            put(root, "home/zoe/.profile", "the same on both\n");
            put(root, "home/zoe/photos/new.jpg", "taken since\n");
            give_to_plinth(root);
        },
        |_| {},
    );
    let old = make_old(&scene);
    let database = rusqlite::Connection::open(old.join("var/lib/plinth/plinth.sqlite3")).unwrap();
    database.execute_batch("DELETE FROM plinth_module").unwrap();
    for (name, version, ..) in APPS {
        database.execute("INSERT INTO plinth_module VALUES (?1, ?2)", (name, version)).unwrap();
    }
    fs::remove_file(old.join("home/kept")).unwrap();
    put(&old, "home/zoe/notes.txt", "of the old box\n");
    put(&old, "home/zoe/.profile", "the same on both\n");
    put(&old, "home/zoe/photos/old.jpg", "x".repeat(300_000));
    put(&old, "home/zoe/photos/deep/er.jpg", "deeper\n");
    put(&old, "home/zoe/private/key", "secret\n");
    put(&old, "home/bob/letter", "dear\n");
    put(&old, "srv/music/song", "la\n");
    put(&old, "var/lib/freedombox/shares/open/film", "moving\n");
    put(&old, "var/lib/syncthing/.config/syncthing/config.xml", "of the app\n");
    put(&old, "var/lib/syncthing/Sync/note", "synced\n");
    let shares = "Alias /share/m \"/srv/music\"\nAlias /share/d /media/disk/films\n";
    put(&old, "etc/apache2/conf-available/sharing-freedombox.conf", shares);
    sh(&format!(
        "cd '{}'; printf 'zoe:x:10007:10007::/:\\nbob:x:10008:10008::/:\\n' >> etc/passwd
         ln -s photos/old.jpg home/zoe/best; chmod 700 home/zoe/private; chmod 755 home/zoe/private/key
         chown -Rh 10007:100 home/zoe; chown -R 10008:100 home/bob; touch -d @1500000000 home/zoe/photos/old.jpg",
        old.display()
    ));
    scene
}

impl Case<'_> {
    /// Restores the folders, and of the apps radicale, which needs nothing of the running box but that.
    fn restored(scene: &Scene) -> Case<'_> {
        let case = Case::of(scene);
        case.move_over(&["--apps", "radicale", "--extras", "folders"]);
        case
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root().join(path)).unwrap_or_else(|error| format!("{path}: {error}"))
    }

    fn add_user(&self, line: &str) {
        sh(&format!("printf '{line}\\n' >> '{}'", self.root().join("etc/passwd").display()));
    }

    /// Everything of people on the box.
    fn files(&self) -> boxes::Snapshot {
        boxes::take(&self.root(), &|path| ["home", "srv", "var/lib/freedombox"].iter().any(|top| path.starts_with(top)))
    }
}

#[test]
fn folders_come_each_when_its_owner_has_an_account_and_replace_nothing() {
    if boxes::cannot_run() {
        return;
    }
    let scene = scene();
    let case = Case::of(&scene);
    let plain = case.old(&["plan", "--apps", "radicale"]);
    let all = ["/home/bob", "/home/zoe", "/srv/music", "/var/lib/freedombox/shares/open", "/var/lib/syncthing/Sync"];
    assert_eq!(plain.json["offered"][0], json!({"extra": "folders", "names": all}), "{}", plain.stderr);
    assert!(plain.json["not_included"].to_string().contains("home folders"));
    assert!(!plain.json["steps"].to_string().contains("home/zoe"), "nobody asked for them");
    drop(case);

    let case = Case::restored(&scene);
    let before = case.files();
    let waits = case.run(&["finish", "--scheduled"], None);
    let folders = Case::app(&waits, "folders");
    assert_eq!((waits.code, &folders["stand"]), (Some(75), &json!("waiting")), "{} {}", waits.stderr, waits.json);
    assert!(folders["why"].as_str().unwrap().ends_with("users with these names: bob, zoe"), "{folders}");
    assert_eq!(case.read("srv/music/song") + &case.read("var/lib/freedombox/shares/open/film"), "la\nmoving\n");
    assert!(!case.root().join("home/bob").exists() && !case.root().join("home/zoe/best").exists());
    // However long the pause between two attempts is, an account is noticed at the next one.
    case.add_user("zoe:x:20007:100::/home/zoe:/bin/bash");
    let waits = case.run(&["finish", "--scheduled"], None);
    assert!(Case::app(&waits, "folders")["why"].as_str().unwrap().ends_with("these names: bob"), "{}", waits.json);
    assert_eq!(case.read("home/zoe/notes.txt"), "of the new box\n");
    assert_eq!(case.read("home/zoe/notes.txt.from-old-box"), "of the old box\n");
    assert_eq!(
        case.read("home/zoe/photos/new.jpg") + &case.read("home/zoe/photos/deep/er.jpg"),
        "taken since\ndeeper\n"
    );
    let owned = "stat -c '%u %a %Y' home/zoe/photos/old.jpg; stat -c '%u %a' home/zoe/private home/zoe/private/key home/zoe/best";
    let owned = sh(&format!("cd '{}'; {owned}", case.root().display()));
    assert_eq!(owned, "20007 644 1500000000\n20007 700\n20007 755\n20007 777\n");
    assert!(!case.root().join("home/zoe/.profile.from-old-box").exists());
    // Whoever asks for them gets all of them.
    let done = case.run(&["finish"], None);
    let folders = Case::app(&done, "folders");
    assert_eq!((done.code, &folders["stand"]), (Some(0), &json!("finished")), "{} {}", done.stderr, done.json);
    assert!(folders["note"].as_str().unwrap().contains("/home/zoe/notes.txt.from-old-box"), "{folders}");
    assert_eq!(case.read("home/bob/letter"), "dear\n");

    // What somebody changed since stays; all else goes.
    put(&case.root(), "srv/music/song", "la la\n");
    let undone = case.run(&["undo"], None);
    assert_eq!(undone.code, Some(0), "{} {}", undone.stderr, undone.json);
    let told = undone.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(told.contains("stay where they are: /srv/music"), "{told}");
    assert_eq!(case.read("srv/music/song"), "la la\n");
    fs::remove_dir_all(case.root().join("srv/music")).unwrap();
    assert_eq!(difference(&before, &case.files()), "");
    assert!(!sh(&format!("find '{}/var/lib/lifeboat'", case.root().display())).contains("merged-"));
}

#[test]
fn committed_folders_stay_and_nothing_of_them_is_left_parked() {
    if boxes::cannot_run() {
        return;
    }
    let scene = scene();
    let case = Case::restored(&scene);
    assert_eq!(case.run(&["commit"], None).code, Some(0));
    assert_eq!(case.run(&["finish"], None).code, Some(0));
    assert_eq!(case.read("home/bob/letter") + &case.read("home/zoe/notes.txt"), "dear\nof the new box\n");
    assert_eq!(sh(&format!("find '{}/var/lib/lifeboat' -name notes.txt -o -name song", case.root().display())), "");
}

#[test]
fn a_power_cut_while_folders_come_or_go_ends_with_all_of_them_or_none() {
    if boxes::cannot_run() {
        return;
    }
    let scene = scene();
    let whole = Case::restored(&scene);
    let before = whole.files();
    let coming = scene.points(|trace| whole.traced(&["finish"], None, Some(trace)));
    let after = whole.files();
    assert_ne!(before, after);
    let going = scene.points(|trace| whole.traced(&["undo"], None, Some(trace)));
    assert_eq!(difference(&before, &whole.files()), "");
    let own = |points: Vec<(String, u64)>, comes: bool| {
        let of_folders = points.into_iter().filter(|(name, _)| name.starts_with("merge."));
        of_folders.map(move |(name, hit)| (format!("{name}:{hit}:kill"), comes))
    };
    let all: Vec<(String, bool)> = own(coming, true).chain(own(going, false)).collect();
    assert!(all.len() >= 15, "{all:?}");
    let cuts = sample(&all, 7);
    let wrong = boxes::in_parallel(&cuts, |(fault, comes)| {
        let case = Case::restored(&scene);
        if !comes && case.run(&["finish"], None).code != Some(0) {
            return Err(format!("{fault}: could not be finished"));
        }
        let cut = case.run(&[if *comes { "finish" } else { "undo" }], Some(fault));
        if cut.code.is_some() {
            return Err(format!("{fault}: was not cut: {}", cut.stderr));
        }
        case.machine(&json!({"up": true}));
        let (again, expected) = if *comes { ("finish", &after) } else { ("undo", &before) };
        let run = case.run(&[again], None);
        let files = case.files();
        if run.code != Some(0) || files != *expected {
            return Err(format!("{fault}: {:?} {} {}", run.code, run.stderr, difference(expected, &files)));
        }
        // Cut off on the way in, it can be undone as well.
        let undone = !comes || case.run(&["undo"], None).code == Some(0) && case.files() == before;
        if undone { Ok(()) } else { Err(format!("{fault}: {}", difference(&before, &case.files()))) }
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What btrfs may show after the power was cut in the middle of a move: one file at both of its names.
#[test]
fn half_of_a_move_of_a_folder_is_gone_on_from_and_undone() {
    if boxes::cannot_run() {
        return;
    }
    let scene = scene();
    let moves = [("notes.txt", "notes.txt.from-old-box"), ("photos/old.jpg", "photos/old.jpg")];
    let (mut nth, mut left) = (1, vec!["undo", "finish"]);
    while let Some(then) = left.last() {
        let case = Case::restored(&scene);
        let before = case.files();
        let places = moves.map(|(from, to)| {
            let parked = case.root().join("var/lib/lifeboat/parked/folders/home/zoe").join(from);
            (parked, case.root().join("home/zoe").join(to))
        });
        let cut = case.run(&["finish"], Some(&format!("merge.after:{nth}:kill")));
        assert_eq!(cut.code, None, "{nth}: was not cut: {}", cut.stderr);
        if !places.iter().all(|(_, live)| live.exists()) {
            nth += 1;
            continue;
        }
        for (parked, live) in &places {
            fs::hard_link(live, parked).unwrap();
        }
        case.machine(&json!({"up": true}));
        if *then == "finish" {
            let run = case.run(&["finish"], None);
            assert_eq!(run.code, Some(0), "{} {}", run.stderr, run.json);
            assert!(!places.iter().any(|(parked, _)| parked.exists()), "half of the move was kept");
            let besides = sh(&format!("cd '{}'; find home -name '*.from-old-box*'", case.root().display()));
            assert_eq!(besides, "home/zoe/notes.txt.from-old-box\n");
        }
        let run = case.run(&["undo"], None);
        assert_eq!(run.code, Some(0), "{} {}", run.stderr, run.json);
        assert_eq!(difference(&before, &case.files()), "");
        left.pop();
    }
}

#[test]
fn an_old_disk_read_without_the_kernel_gives_the_same_folders() {
    if boxes::needs_root() {
        return;
    }
    let scene = scene();
    let old = old_of(&scene);
    let image = common::disks::blank(&scene.dir.path().join("old.img"), 24);
    let words = ["-q", "-t", "ext4", "-d"].map(std::ffi::OsStr::new);
    let words: Vec<_> = words.into_iter().chain([old.as_os_str(), image.as_os_str()]).collect();
    common::disks::run("mke2fs", &words);
    let length = fs::metadata(&image).unwrap().len();
    let volume = lifeboat::sys::mount::Extent { path: image.clone(), offset: 0, length };
    use lifeboat::source::old_system::{self, Root};
    let runtime = tempfile::tempdir().unwrap();
    let host = lifeboat::sys::host::Host::real(runtime.path());
    let [mounted, unmounted] = [Root::Directory(old), Root::Volume(volume.clone())].map(|root| {
        let mut archive = old_system::open(&host, root, &[]).unwrap();
        archive.add_folders();
        let entries = common::archives::collect(&mut *archive).unwrap();
        assert!(entries.1.findings.iter().any(|finding| finding.what.contains("'/media/disk/films' is shared")));
        let own = |path: &lifeboat::model::path::RelPath| path.as_bytes().starts_with(b"home/");
        let entries = entries.0.into_iter().filter(|(entry, _)| own(&entry.path));
        let entries: BTreeMap<String, String> =
            entries.map(|(entry, digest)| (entry.path.to_string(), format!("{:?} {digest}", entry.owner))).collect();
        (archive.extras().unwrap().folders.clone(), entries)
    });
    assert_eq!(mounted.0.len(), 5);
    assert_eq!(mounted, unmounted);
    assert!(mounted.1.contains_key("home/zoe/photos/deep/er.jpg"));
    // One that cannot even be looked at is not passed over: that it is lost is said.
    let shared = "var/lib/syncthing";
    common::disks::run("debugfs", &["-w", "-R", &format!("clri /{shared}"), image.to_str().unwrap()]);
    let mut archive = old_system::open(&host, Root::Volume(volume), &[]).unwrap();
    archive.add_folders();
    let findings = common::archives::collect(&mut *archive).unwrap().1.findings;
    let what = format!("'/{shared}' cannot be read");
    assert!(findings.iter().any(|finding| finding.what.starts_with(&what)), "{findings:?}");
}
