//! Restores onto filesystems made by the real tools: several in one box, btrfs with subvolumes, and a full one.

#![allow(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used, reason = "this is test code")]

mod common;

use common::boxes::*;
use common::disks;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// A filesystem in a file, mounted at a directory; unmounted when dropped.
struct Mount(PathBuf);

impl Mount {
    fn new(image: &Path, mib: u64, make: &[&str], point: &Path) -> Mount {
        disks::blank(image, mib);
        let args = make[1..].iter().map(OsStr::new).chain([image.as_os_str()]);
        disks::run(make[0], &args.collect::<Vec<_>>());
        fs::create_dir_all(point).unwrap();
        disks::wait_for_loops(image);
        disks::run("mount", &["-o".as_ref(), "loop".as_ref(), image.as_os_str(), point.as_os_str()]);
        Mount(point.to_owned())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = std::process::Command::new("/bin/umount").arg(&self.0).status();
    }
}

const EXT4: [&str; 2] = ["mkfs.ext4", "-q"];

fn unable(tools: &[&str]) -> bool {
    match disks::cannot_mount(tools) {
        Some(why) => eprintln!("SKIPPED: {why}"),
        None if !cfg!(feature = "faults") => eprintln!("SKIPPED: the program has no fault points"),
        None => return false,
    }
    true
}

fn ok(run: Run) -> Run {
    assert_eq!(run.code, Some(0), "{} {}", run.stderr, run.json);
    run
}

/// The box's original is made where the filesystem under test is mounted, so that the runs work on it directly.
fn scene_on(scene: &mut Scene, onto: &Path) {
    sh(&format!("cp -a '{}'/. '{}'", scene.original().display(), onto.display()));
    scene.plan = scene.plan_for(onto);
}

fn cut_and_take_both_ways(scene: &Scene, onto: &Path, old: &Snapshot, new: &Snapshot) {
    for point in ["write.data:3", "write.rename:9", "exchange.before:5", "exchange.after:6"] {
        assert_eq!(scene.restore(onto, Some(&format!("{point}:kill"))).code, None, "{point}");
        ok(scene.on("undo", onto, None));
        assert_eq!(difference(old, &snapshot(onto)), "", "{point}");
        assert_eq!(scene.restore(onto, Some("exchange.after:5:kill")).code, None);
        ok(scene.on("resume", onto, None));
        assert_eq!(difference(new, &snapshot(onto)), "", "{point}");
        ok(scene.on("undo", onto, None));
    }
}

#[test]
fn data_on_a_filesystem_of_its_own_is_staged_there_and_nothing_is_left_there() {
    if unable(&["mkfs.ext4"]) {
        return;
    }
    let apps: Vec<_> = APPS.iter().filter(|app| app.0 != "shaarli").copied().collect();
    let mut scene =
        Scene::with(&apps, |_| {}, |source| sh(&format!("rm -r '{}/var/lib/shaarli'", source.display())).clear());
    let onto = scene.fresh();
    let _mount = Mount::new(&scene.dir.path().join("disk"), 24, &EXT4, &onto.join("var/lib/dbconfig-common"));
    scene_on(&mut scene, &onto);
    let old = snapshot(&onto);
    ok(scene.restore(&onto, None));
    let new = snapshot(&onto);
    assert!(new.keys().any(|path| path.ends_with(b".lifeboat")), "nothing was staged on the other filesystem");
    assert_eq!(fs::read(onto.join(DATABASE)).unwrap(), b"new database");
    ok(scene.on("undo", &onto, None));
    assert_eq!(difference(&old, &snapshot(&onto)), "");
    cut_and_take_both_ways(&scene, &onto, &old, &new);
    ok(scene.restore(&onto, None));
    ok(scene.on("commit", &onto, None));
    assert!(!onto.join("var/lib/dbconfig-common/.lifeboat").exists(), "commit left something");
    assert_eq!(fs::read(onto.join(DATABASE)).unwrap(), b"new database");
}

#[test]
fn a_mounted_filesystem_is_never_replaced() {
    if unable(&["mkfs.ext4"]) {
        return;
    }
    let mut scene = Scene::new();
    let onto = scene.fresh();
    let point = onto.join("var/lib/radicale");
    fs::remove_dir_all(&point).unwrap();
    let _mount = Mount::new(&scene.dir.path().join("disk"), 24, &EXT4, &point);
    put(&point, "mine", "kept");
    let plan = scene.plan_run(&onto);
    let text = plan.json.to_string();
    assert!(text.contains("is a mounted filesystem of its own"), "{text}");
    scene.plan = plan.json["id"].as_str().unwrap().to_owned();
    scene.restore(&onto, None);
    assert_eq!(fs::read(point.join("mine")).unwrap(), b"kept");
    assert!(!point.join("collections").exists());
}

#[test]
fn a_box_on_btrfs_is_exchanged_inside_each_subvolume_and_its_snapshot_goes_away() {
    if unable(&["mkfs.btrfs", "btrfs"]) {
        return;
    }
    for end in ["undo", "commit"] {
        let mut scene = Scene::new();
        let onto = scene.dir.path().join("btrfs");
        let _mount = Mount::new(&scene.dir.path().join("disk"), 256, &["mkfs.btrfs", "-q"], &onto);
        for subvolume in ["var", "var/lib/dbconfig-common", "var/lib/shaarli"] {
            let path = onto.join(subvolume);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            disks::run("btrfs", &["subvolume".as_ref(), "create".as_ref(), path.as_os_str()]);
        }
        sh(&format!("cp -a '{}'/. '{}'", scene.original().display(), onto.display()));
        let plan = scene.plan_run(&onto);
        assert_eq!(plan.code, Some(0), "{} {}", plan.stderr, plan.json);
        scene.plan = plan.json["id"].as_str().unwrap().to_owned();
        let old = snapshot(&onto);
        let run = scene.restore(&onto, None);
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        let taken = onto.join(format!("var/lib/lifeboat/restores/{}/snapshot", scene.plan));
        assert!(taken.join("etc/radicale/config").exists(), "no snapshot was taken: {}", run.stderr);
        assert_eq!(fs::read(taken.join("etc/radicale/config")).unwrap(), b"old config\n");
        assert_eq!(fs::read(onto.join(DATABASE)).unwrap(), b"new database");
        // In the backup a hard link to another app's file; here the two are on different subvolumes.
        assert_eq!(fs::read(onto.join("var/lib/shaarli/data/other.ics")).unwrap(), b"a calendar\n");
        ok(scene.on(end, &onto, None));
        assert!(!taken.exists(), "{end} left the snapshot");
        if end == "undo" {
            assert_eq!(difference(&old, &snapshot(&onto)), "");
        }
    }
}

#[test]
fn a_disk_that_is_really_full_is_told_and_can_be_resumed_or_undone() {
    if unable(&["mkfs.ext4"]) {
        return;
    }
    let big = |source: &Path| {
        let mut noise = 7u32;
        let bytes: Vec<u8> = std::iter::repeat_with(|| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (noise >> 24) as u8
        })
        .take(6 << 20)
        .collect();
        put(source, "var/lib/shaarli/data/big", bytes);
        sh(&format!(
            "chown -R 33:33 '{0}'; find '{0}' -exec touch -h -d @1700000000 {{}} +",
            source.join("var/lib/shaarli/data").display()
        ));
    };
    let mut scene = Scene::with(&APPS, |_| {}, big);
    let onto = scene.dir.path().join("ext4");
    let _mount = Mount::new(&scene.dir.path().join("disk"), 160, &EXT4, &onto);
    scene_on(&mut scene, &onto);
    let old = snapshot(&onto);
    let filler = onto.join("home/filler");
    for then in ["restore", "undo", "undo with one copy of the journal"] {
        // Begun while there was room; then something else takes it.
        assert_eq!(scene.restore(&onto, Some("write.data:3:kill")).code, None);
        if then.ends_with("journal") {
            let copy = onto.join(format!("var/lib/lifeboat/restores/{}/journal-copy", scene.plan));
            fs::write(copy, b"").unwrap();
        }
        sh(&format!("dd if=/dev/zero of='{}' bs=64k 2>/dev/null || true", filler.display()));
        sh(&format!("cat /dev/zero >>'{}' 2>/dev/null || true; sync -f '{0}'", filler.display()));
        let run = scene.restore(&onto, None);
        assert!(matches!(run.code, Some(14 | 18)), "{:?} {}", run.code, run.stderr);
        assert_eq!(run.failed_state(), "old-data-active", "{}", run.stderr);
        let mut with_filler = snapshot(&onto);
        with_filler.retain(|path, _| path != b"home/filler" && !path.starts_with(b"etc/systemd"));
        let mut expected = old.clone();
        expected.retain(|path, _| !path.starts_with(b"etc/systemd"));
        assert_eq!(difference(&expected, &with_filler), "");
        if then != "restore" {
            // What was staged makes the room that undoing needs.
            ok(scene.on("undo", &onto, None));
            fs::remove_file(&filler).unwrap();
            assert_eq!(difference(&old, &snapshot(&onto)), "");
        } else {
            fs::remove_file(&filler).unwrap();
            let resume = scene.on("resume", &onto, None);
            assert_eq!(resume.code, Some(18), "{}", resume.stderr);
            assert!(resume.stderr.contains("the backup is needed"), "{}", resume.stderr);
            ok(scene.restore(&onto, None));
            assert_eq!(fs::read(onto.join(DATABASE)).unwrap(), b"new database");
            ok(scene.on("undo", &onto, None));
            assert_eq!(difference(&old, &snapshot(&onto)), "");
        }
    }
}
