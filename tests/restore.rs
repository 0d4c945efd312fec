//! A restore on a box, from outside: what the program promises besides surviving a power cut.

#![allow(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used, reason = "this is test code")]

mod common;

use common::boxes::*;
use common::disks;
use common::repositories::{Repository, borgs};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

fn ok(run: Run) -> Run {
    assert_eq!(run.code, Some(0), "{} {}", run.stderr, run.json);
    run
}

/// Everything on the box, Lifeboat's own directory as well; but not its papers, which every run writes anew.
fn all(root: &Path) -> Snapshot {
    let papers = ["lock", "report.txt", "report.json", "full.log"];
    take(root, &|path| !papers.iter().any(|name| path.ends_with(name)))
}

/// The two copies of the journal.
fn journals(onto: &Path, scene: &Scene) -> [PathBuf; 2] {
    ["journal", "journal-copy"].map(|name| onto.join(format!("var/lib/lifeboat/restores/{}/{name}", scene.plan)))
}

#[test]
fn restored_trees_are_what_gnu_tar_unpacks() {
    if needs_root() {
        return;
    }
    let more = |source: &Path| {
        let data = source.join("var/lib/shaarli/data");
        let file = fs::File::create(data.join("sparse")).unwrap();
        file.set_len(8 << 20).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"island", 3 << 20).unwrap();
        sh(&format!(
            "cd '{}'; echo x >acl; setfacl -m u:33:r,g:127:rw acl; mkdir drop; setfacl -d -m u:33:rwx drop; echo y >drop/in
             echo z >able; setcap cap_net_bind_service+ep able; chmod 4755 acl; mkdir -m 3777 sticky
             find . -exec touch -h -d @1700000001 {{}} +",
            data.display()
        ));
    };
    if let Some(why) = disks::lacks(&["setfacl", "setcap", "tar"]) {
        eprintln!("SKIPPED: {why}");
        return;
    }
    let scene = Scene::with(&APPS, |_| {}, more);
    let onto = scene.fresh();
    ok(scene.restore(&onto, None));
    let unpacked = scene.dir.path().join("unpacked");
    fs::create_dir(&unpacked).unwrap();
    let (folder, options) = (unpacked.display(), "--xattrs --xattrs-include='*' --acls --numeric-owner");
    sh(&format!("cd '{folder}'; tar {options} -xpf ../backup.tar.gz"));
    let places = |root: &Path| {
        take(root, &|path| {
            LIVE.iter().any(|place| path.starts_with(place)) && !path.starts_with("etc/letsencrypt/renewal-hooks")
        })
    };
    let expected: Snapshot = places(&unpacked);
    // Users have other numbers on the box; only their names are the same.
    let numbers = |tree: Snapshot| -> Snapshot {
        tree.into_iter().map(|(path, line)| (path, line.replace(" 106:109 ", " 121:127 "))).collect()
    };
    let found = places(&onto);
    let text = difference(&numbers(expected), &found);
    assert!(text.is_empty(), "{text}");
    let sparse = fs::metadata(onto.join("var/lib/shaarli/data/sparse")).unwrap();
    assert!(sparse.blocks() * 512 < sparse.len() / 4, "the holes were filled: {} blocks", sparse.blocks());
    assert!(onto.join(DROPIN).symlink_metadata().is_ok(), "the box's own drop-in is gone");
}

#[test]
fn a_hard_link_to_a_file_that_is_not_restored_gets_its_content() {
    if needs_root() {
        return;
    }
    let data = "var/lib/shaarli/data";
    let more = |source: &Path| {
        sh_in(
            source,
            &format!(
                "ln {data}/other.ics {data}/again.ics; mkdir shared; ln {data}/store.php shared/file; ln shared/file {data}/z"
            ),
        )
    };
    let mut scene = Scene::with(&APPS, |_| {}, more);
    let source = scene.dir.path().join("source");
    let repository = borgs().first().map(|borg| Repository::new(borg, "none", ""));
    let mut backups = vec![scene.backup.clone()];
    if let Some(repository) = &repository {
        repository.create("a", "lz4", &source);
        backups.push(repository.path());
    }
    for backup in backups {
        scene.backup = backup;
        scene.apps = Some("shaarli".into());
        scene.plan = scene.plan_for(&scene.original());
        let onto = scene.fresh();
        ok(scene.restore(&onto, None));
        let inode = |name: &str| fs::metadata(onto.join(data).join(name)).unwrap().ino();
        for name in ["other.ics", "again.ics"] {
            assert_eq!(fs::read_to_string(onto.join(data).join(name)).unwrap(), "a calendar\n", "{name}");
        }
        assert_eq!(inode("other.ics"), inode("again.ics"));
        assert_eq!(inode("store.php"), inode("z"));
        assert!(!onto.join("var/lib/radicale/collections/a.ics").exists(), "the other app stays as it was");
        ok(scene.on("undo", &onto, None));
    }
}

fn sh_in(folder: &Path, line: &str) {
    sh(&format!("cd '{}'; {line}", folder.display()));
}

#[test]
fn a_second_run_at_the_same_time_is_refused() {
    if needs_root() {
        return;
    }
    let scene = Scene::new();
    let onto = scene.fresh();
    ok(scene.restore(&onto, None));
    let lock = fs::File::open(onto.join("var/lib/lifeboat/lock")).unwrap();
    assert!(lifeboat::sys::dir::lock(&lock).unwrap());
    let before = all(&onto);
    for command in ["resume", "undo", "commit"] {
        let run = scene.on(command, &onto, None);
        assert_eq!(run.code, Some(11), "{command}: {}", run.stderr);
        assert_eq!(run.failed_state(), "new-data-active");
    }
    assert_eq!(all(&onto), before);
    drop(lock);
    ok(scene.on("undo", &onto, None));
}

#[test]
fn a_journal_that_is_damaged_in_both_copies_is_not_acted_upon() {
    if cannot_run() {
        return;
    }
    let scene = Scene::new();
    for fault in [None, Some("exchange.after:3:kill")] {
        let onto = scene.fresh();
        scene.restore(&onto, fault);
        for journal in journals(&onto, &scene) {
            let mut bytes = fs::read(&journal).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 4;
            fs::write(&journal, bytes).unwrap();
        }
        let before = all(&onto);
        for command in ["status", "resume", "undo", "commit"] {
            let run = scene.on(command, &onto, None);
            assert_eq!(run.code, Some(20), "{command}: {}", run.stderr);
            assert_eq!(run.failed_state(), "unknown", "{command}");
        }
        let run = scene.restore(&onto, None);
        assert_eq!(run.code, Some(20), "restore: {}", run.stderr);
        assert_eq!(difference(&before, &all(&onto)), "");
    }
}

/// A disk may lose the end of both: what is left looks like a restore that never got further.
#[test]
fn a_journal_that_lost_its_end_in_both_copies_never_makes_old_data_go() {
    if cannot_run() {
        return;
    }
    let ends = common::ends::Ends::new();
    let (mut refused, mut right) = (0, 0);
    for fault in [None, Some("exchange.after:3:kill")] {
        let whole = ends.scene.fresh();
        ends.scene.restore(&whole, fault);
        let text = fs::read(&journals(&whole, &ends.scene)[0]).unwrap();
        let lines: Vec<usize> = (1..text.len()).filter(|&at| text[at - 1] == b'\n').collect();
        assert!(lines.len() > 15, "{} lines", lines.len());
        // As long as every line is there, it is no cut.
        for at in lines.iter().flat_map(|&end| [end - 1, end]).filter(|&at| at < text.len()).step_by(3) {
            let onto = ends.scene.fresh();
            ends.scene.restore(&onto, fault);
            for journal in journals(&onto, &ends.scene) {
                fs::OpenOptions::new().write(true).open(journal).unwrap().set_len(at as u64).unwrap();
            }
            let before = all(&onto);
            let run = ends.scene.on("undo", &onto, None);
            let what = format!("{fault:?}, cut at byte {at} of {}: {} {}", text.len(), run.stderr, run.json);
            match run.code {
                Some(0) => {
                    assert_eq!(difference(&ends.old_live, &live(&onto)), "", "{what}");
                    right += 1;
                }
                code => {
                    assert_eq!((code, run.failed_state()), (Some(20), "unknown"), "{what}");
                    let again = ends.scene.restore(&onto, None);
                    assert_eq!(again.code, Some(20), "{what}, then restore: {}", again.stderr);
                    assert_eq!(difference(&before, &all(&onto)), "", "{what}");
                    refused += 1;
                }
            }
        }
    }
    // What was not about to change anything may be missing.
    assert!(refused > 10 && right > 1, "{refused} refused, {right} right");
}

#[test]
fn one_copy_of_the_journal_is_enough_to_go_on_or_back_whatever_happened_to_the_other() {
    if cannot_run() {
        return;
    }
    /// What happens to a copy, and whether it can only be damage: a power cut may end a file early.
    type Damage = (&'static str, bool, fn(&Path));
    let damages: [Damage; 6] = [
        ("a flipped bit in the middle", true, |file| {
            let mut bytes = fs::read(file).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 4;
            fs::write(file, bytes).unwrap();
        }),
        ("zeros instead of its begin", true, |file| {
            let mut bytes = fs::read(file).unwrap();
            bytes[..512].fill(0);
            fs::write(file, bytes).unwrap();
        }),
        ("a last line without its end", false, |file| {
            let mut bytes = fs::read(file).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(file, bytes).unwrap();
        }),
        ("half of it missing", false, |file| {
            let bytes = fs::read(file).unwrap();
            fs::write(file, &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("all of it missing", false, |file| fs::remove_file(file).unwrap()),
        ("a link in its place", true, |file| {
            fs::remove_file(file).unwrap();
            std::os::unix::fs::symlink("/etc/passwd", file).unwrap();
        }),
    ];
    let ends = common::ends::Ends::new();
    for (what, is_damage, damage) in damages {
        for copy in 0..2 {
            for (command, end) in [("resume", &ends.new_live), ("undo", &ends.old_live)] {
                let onto = ends.scene.fresh();
                assert_eq!(ends.scene.restore(&onto, Some("exchange.after:3:kill")).code, None);
                let copies = journals(&onto, &ends.scene);
                damage(&copies[copy]);
                let what = format!("{what} in copy {copy}, then {command}");
                let before = all(&onto);
                assert_eq!(ends.check_status(&onto).as_deref(), Ok("interrupted"), "{what}");
                assert_eq!(difference(&before, &all(&onto)), "", "{what}: status changed something");
                let run = ok(ends.scene.on(command, &onto, None));
                assert_eq!(run.stderr.contains("was damaged, and was made anew"), is_damage, "{what}: {}", run.stderr);
                assert_eq!(difference(end, &live(&onto)), "", "{what}");
                let [one, other] = copies.map(|copy| fs::read(copy).unwrap());
                assert!(one == other && !one.is_empty(), "{what}: the copies differ afterwards");
            }
        }
    }
}

#[test]
fn a_last_record_that_was_cut_short_is_as_if_it_had_not_been_written() {
    if cannot_run() {
        return;
    }
    let scene = Scene::new();
    let old = snapshot(&scene.original());
    for (point, cut) in [("journal.after:12", 3), ("journal.after:25", 20), ("journal.after:33", 1)] {
        let onto = scene.fresh();
        let run = scene.restore(&onto, Some(&format!("{point}:kill")));
        assert_eq!(run.code, None, "{}", run.stderr);
        for journal in journals(&onto, &scene) {
            let journal = fs::OpenOptions::new().write(true).open(journal).unwrap();
            journal.set_len(journal.metadata().unwrap().len() - cut).unwrap();
        }
        ok(scene.on("undo", &onto, None));
        assert_eq!(difference(&old, &snapshot(&onto)), "");
    }
}

#[test]
fn consent_to_another_plan_writes_nothing() {
    if needs_root() {
        return;
    }
    let mut scene = Scene::new();
    let onto = scene.fresh();
    scene.plan = "0123456789abcdef".into();
    let before = all(&onto);
    let run = scene.restore(&onto, None);
    assert_eq!((run.code, run.failed_state()), (Some(2), "untouched"), "{}", run.stderr);
    assert_eq!(difference(&before, &all(&onto)), "");
}

#[test]
fn undo_brings_old_data_back_even_after_the_app_wrote_to_the_new() {
    if needs_root() {
        return;
    }
    let scene = Scene::new();
    let onto = scene.fresh();
    let old = snapshot(&onto);
    ok(scene.restore(&onto, None));
    put(&onto, "var/lib/radicale/collections/later.ics", "written by the app");
    fs::remove_file(onto.join("etc/radicale/rights")).unwrap();
    // The app replaced its own file, removed a directory of its own, and SQLite opened the database.
    put(&onto, "replacement", "<?php // by the app");
    fs::rename(onto.join("replacement"), onto.join("etc/roundcube/freedombox-config.php")).unwrap();
    fs::remove_dir_all(onto.join("var/lib/shaarli/data")).unwrap();
    for suffix in ["-wal", "-shm", "-journal"] {
        put(&onto, format!("{DATABASE}{suffix}"), "of the new database");
    }
    ok(scene.on("undo", &onto, None));
    assert_eq!(difference(&old, &snapshot(&onto)), "");
    let again = scene.on("undo", &onto, None);
    assert_eq!(again.code, Some(2));
    assert!(again.stderr.contains("was undone already"), "{}", again.stderr);
    assert_eq!(again.failed_state(), "old-data-active");
}

#[test]
fn a_folder_where_systemd_wants_a_link_to_restored_data_makes_way_and_comes_back() {
    if needs_root() {
        return;
    }
    const PRIVATE: &str = "var/lib/private/calibre-server-freedombox";
    let public = "var/lib/calibre-server-freedombox";
    let on_box = |root: &Path| {
        let status = root.join("var/lib/dpkg/status");
        let package = "Package: calibre\nStatus: install ok installed\nArchitecture: all\nVersion: 1\n\n";
        fs::write(&status, fs::read_to_string(&status).unwrap() + package).unwrap();
        let database = rusqlite::Connection::open(root.join("var/lib/plinth/plinth.sqlite3")).unwrap();
        database.execute("INSERT INTO plinth_module VALUES ('calibre', 3)", ()).unwrap();
        put(root, format!("{public}/from-the-package"), "old\n");
    };
    let apps = [("calibre", 3, &[PRIVATE] as &[&str], &[] as &[&str])];
    let scene = Scene::with(&apps, on_box, |source| put(source, format!("{PRIVATE}/library/book"), "a book\n"));
    let onto = scene.fresh();
    let old = snapshot(&onto);
    assert_eq!(scene.restore(&onto, None).code, Some(0));
    assert!(onto.join(PRIVATE).join("library/book").exists());
    assert!(!onto.join(public).exists(), "the service cannot start");
    // systemd makes its link.
    std::os::unix::fs::symlink("private/calibre-server-freedombox", onto.join(public)).unwrap();
    ok(scene.on("undo", &onto, None));
    assert_eq!(difference(&old, &snapshot(&onto)), "");
}

#[test]
fn after_commit_there_is_no_undo_and_another_restore_can_begin() {
    if needs_root() {
        return;
    }
    let mut scene = Scene::new();
    let onto = scene.fresh();
    let first = scene.plan.clone();
    ok(scene.restore(&onto, None));
    let new = snapshot(&onto);
    ok(scene.on("commit", &onto, None));
    for command in ["undo", "commit", "resume"] {
        let run = scene.on(command, &onto, None);
        assert_eq!((run.code, run.failed_state()), (Some(2), "committed"), "{command}: {}", run.stderr);
        assert!(run.stderr.contains("was committed"), "{}", run.stderr);
    }
    scene.plan = scene.plan_for(&onto);
    ok(scene.restore(&onto, None));
    assert_eq!(difference(&new, &snapshot(&onto)), "");
    // The same plan once more: nothing of what it keeps is lost, and undo goes back to where it began.
    let plan = scene.plan.clone();
    let again = scene.restore(&onto, None);
    assert!(matches!(again.code, Some(0 | 2 | 11)), "{}", again.stderr);
    assert_eq!(scene.status(&onto)["plan"], plan.as_str());
    ok(scene.on("undo", &onto, None));
    assert_eq!(
        difference(&live(&onto), &{
            let reference = scene.fresh();
            scene.plan = first;
            ok(scene.restore(&reference, None));
            live(&reference)
        }),
        ""
    );
}

#[test]
fn the_same_plan_can_be_carried_out_again_after_undo_and_again_undone() {
    if needs_root() {
        return;
    }
    let scene = Scene::new();
    let onto = scene.fresh();
    let old = snapshot(&onto);
    ok(scene.restore(&onto, None));
    let new = snapshot(&onto);
    ok(scene.on("undo", &onto, None));
    ok(scene.restore(&onto, None));
    assert_eq!(difference(&new, &snapshot(&onto)), "");
    ok(scene.on("undo", &onto, None));
    assert_eq!(difference(&old, &snapshot(&onto)), "");
}

#[test]
fn restoring_what_is_there_already_twice_keeps_the_old_data() {
    if needs_root() {
        return;
    }
    // The backup is equal to what the box has, so the plan keeps its id after it was carried out.
    let same = |root: &Path| {
        fs::remove_dir_all(root.join("etc/radicale")).unwrap();
        put(root, "etc/radicale/config", "the same\n");
        sh(&format!("find '{}/etc/radicale' -exec touch -h -d @1700000000.5 {{}} +", root.display()));
    };
    let apps = [("radicale", 4, &["etc/radicale"][..], &[][..])];
    let scene = Scene::with(&apps, same, same);
    let onto = scene.fresh();
    ok(scene.restore(&onto, None));
    let (old, kept) = (fs::metadata(scene.original().join("etc/radicale/config")).unwrap().mtime_nsec(), all(&onto));
    let again = scene.restore(&onto, None);
    assert!(matches!(again.code, Some(0 | 2 | 11)), "{}", again.stderr);
    assert_eq!(difference(&kept, &all(&onto)), "");
    ok(scene.on("undo", &onto, None));
    assert_eq!(fs::metadata(onto.join("etc/radicale/config")).unwrap().mtime_nsec(), old, "the old file is gone");
}

#[test]
fn what_was_staged_is_used_again() {
    if cannot_run() {
        return;
    }
    let scene = Scene::new();
    let onto = scene.fresh();
    let traced = scene.fresh();
    let points = scene.points(|trace| scene.traced_restore(&traced, trace));
    let records = points.iter().filter(|(name, _)| name == "journal.after").count();
    // The record of the second staged step: the plan, the guard's three, then one for each step.
    assert!(records > 20);
    let stage = onto.join(format!("var/lib/lifeboat/restores/{}/stage", scene.plan));
    let inode = |name: &str| fs::symlink_metadata(stage.join(name)).unwrap().ino();
    let mut seen = None;
    for n in 1.. {
        let _ = fs::remove_dir_all(&onto.path);
        sh(&format!("cp -a '{}' '{}'", scene.original().display(), onto.display()));
        assert_eq!(scene.restore(&onto, Some(&format!("journal.after:{n}:kill"))).code, None);
        let text = fs::read_to_string(&journals(&onto, &scene)[0]).unwrap();
        if text.matches("\"record\":\"staged\"").count() == 2 {
            seen = Some((inode("0"), inode("1"), inode("2")));
            break;
        }
    }
    let before = seen.unwrap();
    assert_eq!(scene.restore(&onto, Some("exchange.before:1:kill")).code, None);
    assert_eq!((inode("0"), inode("1")), (before.0, before.1), "whole steps were written again");
    assert_ne!(inode("2"), before.2, "an unfinished step was believed");
    ok(scene.on("resume", &onto, None));
    assert_eq!(difference(&snapshot(&traced), &snapshot(&onto)).matches("other.ics").count(), 0);
}

#[test]
fn a_file_that_is_twice_in_the_backup_is_restored_once_and_refused_when_the_two_differ() {
    if needs_root() {
        return;
    }
    for differing in [false, true] {
        let mut scene = Scene::new();
        let source = scene.dir.path().join("source");
        let tar = scene.dir.path().join("twice.tar");
        let change = if differing { "echo other >var/lib/shaarli/data/store.php" } else { ":" };
        sh(&format!(
            "cd '{}'; tar -cf '{tar}' var/lib/shaarli/data; {change}; tar -rf '{tar}' var/lib/shaarli/data/store.php
             tar -rf '{tar}' var/lib/plinth/backups-manifests/sample.json",
            source.display(),
            tar = tar.display()
        ));
        scene.backup = tar;
        scene.apps = Some("shaarli".into());
        let onto = scene.fresh();
        let before = snapshot(&onto);
        let plan = scene.plan_run(&onto);
        println!("differing {differing}: plan ends with {:?} {}", plan.code, plan.json["blockers"]);
        scene.plan = plan.json["id"].as_str().unwrap().to_owned();
        let run = scene.restore(&onto, None);
        if differing {
            assert_eq!(run.code, Some(15), "{}", run.stderr);
            assert_eq!(difference(&before, &snapshot(&onto)), "");
        } else {
            ok(run);
            assert_eq!(fs::read_to_string(onto.join("var/lib/shaarli/data/store.php")).unwrap(), "links\n");
        }
    }
}

#[test]
fn the_next_boot_finishes_an_interrupted_exchange() {
    if cannot_run() {
        return;
    }
    let mut scene = Scene::new();
    scene.program = PathBuf::from(env!("CARGO_BIN_EXE_lifeboat"));
    let reference = scene.fresh();
    ok(scene.restore(&reference, None));
    let onto = scene.fresh();
    assert_eq!(scene.restore(&onto, Some("exchange.after:3:kill")).code, None);
    assert_eq!(scene.status(&onto)["data"], "mixed");
    let unit = fs::read_to_string(onto.join("etc/systemd/system/lifeboat-guard.service")).unwrap();
    let line = |key: &str| unit.lines().find_map(|line| line.strip_prefix(key)).unwrap().to_owned();
    let wanted = onto.join("etc/systemd/system/sysinit.target.wants/lifeboat-guard.service");
    assert_eq!(fs::read_link(wanted).unwrap(), Path::new("/etc/systemd/system/lifeboat-guard.service"));
    let below = |path: &str| onto.join(path.trim_start_matches('/'));
    assert!(below(&line("ConditionPathExists=")).exists());
    let start = line("ExecStart=");
    let words: Vec<&str> = start.split(' ').collect();
    assert_eq!(words[1..], ["resume", "--onto", "/"]);
    let run = std::process::Command::new(below(words[0])).args(["resume", "--onto"]).arg(&onto.path).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    assert_eq!(difference(&snapshot(&reference), &snapshot(&onto)), "");
    assert!(!below(&line("ConditionPathExists=")).exists());
}
