//! What is refused, with which exit code and which help; and that looking writes nothing.
//!
//! 12 needs an encrypted backup (tests/keys.rs, tests/drill.rs), 14 a small disk (tests/restore_disks.rs).

#![allow(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used, reason = "this is test code")]
#![allow(missing_docs, reason = "names of tests are sentences")]

mod common;

use common::disks;

use common::archives::{RawTar, gzip, is_root, put};
use common::repositories::noise;
use common::rescue::{LIFEBOAT, Rescue, Run, SmallBox, assert_same, lifeboat, manifest, tree};
use lifeboat::model::ending::{EXIT_CODES, exit_code_help};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

macro_rules! needs {
    ($why:expr) => {
        if let Some(why) = $why {
            eprintln!("SKIPPED: {why}");
            return;
        }
    };
}

fn needs_root() -> Option<String> {
    (!is_root()).then(|| "root is needed to restore owners".to_owned())
}

/// A backup of one app that fits on any box.
fn backup_of(app: &str, version: i64, path: &str) -> Vec<u8> {
    let json = manifest(&[(app, version, &[&format!("/{path}")], &[])]);
    gzip(&RawTar::new().dir(path).file(format!("{path}/new.html"), b"<html>new</html>\n").manifest(&json).end())
}

fn good_backup() -> Vec<u8> {
    backup_of("tiddlywiki", 1, "var/lib/tiddlywiki")
}

/// The run says what happened, in which state the data is, and what to do; and nothing more than is true.
#[track_caller]
fn refuses(run: Run, code: i32, what: &str) {
    let run = run.ends(code);
    let said = run.err.replace("\n  ", " ");
    assert!(said.contains(what), "should say '{what}': {said}");
    assert!(said.contains("State of your data: nothing on the box was changed."), "{said}");
    let advice = said.split("What to do: ").nth(1).unwrap_or_else(|| panic!("no advice: {said}"));
    assert!(advice.trim().len() > 10 && advice.trim().ends_with('.'), "{said}");
}

/// An ext4 image with a box in it.
fn box_image(folder: &Path, name: &str) -> PathBuf {
    let root = folder.join(format!("{name}.tree"));
    SmallBox::fill(&root);
    let image = disks::blank(&folder.join(name), 128);
    disks::sh(&format!("mke2fs -q -t ext4 -d {} {}", root.display(), image.display()));
    image
}

#[test]
fn a_plan_needs_no_writable_box_and_changes_no_byte_of_it() {
    needs!(disks::cannot_mount(&["mke2fs", "mount", "sha256sum"]));
    let folder = tempfile::tempdir().unwrap();
    let image = box_image(folder.path(), "box.ext4");
    let file = put(folder.path(), "backup.tar.gz", &good_backup());
    let (box_before, backup_before) = (disks::digest(&image), disks::digest(&file));
    // As an image file that nobody may write to; then mounted read-only; then as a read-only view of a directory.
    fs::set_permissions(&image, fs::Permissions::from_mode(0o444)).unwrap();
    let id = Rescue::new(&file, &image).plan().ends(0).json()["id"].clone();
    let mounted = disks::Kernel::mount(&image, "ro,loop,noload");
    let plan = Rescue::new(&file, mounted.path()).plan().ends(0).json();
    assert_eq!(plan["blockers"].as_array().unwrap().len(), 0);
    lifeboat(&["status".as_ref(), "--onto".as_ref(), mounted.path().as_os_str()]).ends(0);
    refuses(Rescue::new(&file, mounted.path()).restore(plan["id"].as_str().unwrap()), 17, "is write-protected");
    drop(mounted);
    assert_eq!(disks::digest(&image), box_before);
    assert_eq!(disks::digest(&file), backup_before);
    assert!(id.is_string());

    let box_ = SmallBox::new();
    let view = folder.path().join("view");
    fs::create_dir(&view).unwrap();
    disks::sh(&format!("mount --bind {0} {1} && mount -o remount,ro,bind {1}", box_.root.display(), view.display()));
    let before = tree(&box_.root);
    let run = Rescue::new(&file, &view).plan();
    disks::sh(&format!("umount {}", view.display()));
    run.ends(0);
    assert_same(&before, &tree(&box_.root), "a plan");
}

#[test]
fn looking_changes_nothing_on_a_directory_either() {
    let box_ = SmallBox::new();
    let file = put(box_.folder.path(), "backup.tar.gz", &good_backup());
    let before = tree(box_.folder.path());
    let root = box_.root.as_os_str();
    Rescue::new(&file, &box_.root).plan().ends(0);
    Rescue::new(&file, &box_.root).plan_text().ends(0);
    lifeboat(&["survey".as_ref(), "--root".as_ref(), root]).ends(0);
    lifeboat(&["status".as_ref(), "--onto".as_ref(), root]).ends(0);
    lifeboat(&["list".as_ref(), file.as_os_str()]).ends(0);
    lifeboat(&["verify".as_ref(), file.as_os_str()]).ends(0);
    assert_same(&before, &tree(box_.folder.path()), "looking");
}

#[test]
fn a_wrong_target_is_refused_with_a_way_on() {
    needs!(disks::cannot_mount(&["mke2fs", "mount", "losetup", "sfdisk"]));
    let folder = tempfile::tempdir().unwrap();
    let file = put(folder.path(), "backup.tar.gz", &good_backup());
    let plan = |target: &Path| Rescue::new(&file, target).plan();

    // Not a FreedomBox: an empty directory, an empty disk, a filesystem with something else, a device of another kind.
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    refuses(plan(&empty), 17, "no FreedomBox is installed on");
    let blank = disks::blank(&folder.path().join("blank.img"), 8);
    refuses(plan(&blank), 17, "no FreedomBox is installed on");
    let other = disks::blank(&folder.path().join("other.ext4"), 8);
    disks::sh(&format!("mke2fs -q -t ext4 {}", other.display()));
    refuses(plan(&other), 17, "no FreedomBox is installed on");
    refuses(plan(Path::new("/dev/null")), 17, "is neither a directory, a disk image nor a disk");
    refuses(plan(&folder.path().join("gone")), 17, "No such file or directory");

    // What Lifeboat was started from is told by its label.
    let medium = box_image(folder.path(), "medium.ext4");
    disks::sh(&format!("e2label {} LIFEBOAT", medium.display()));
    refuses(plan(&medium), 17, "is the medium that Lifeboat was started from");

    // Mounted elsewhere.
    let busy = box_image(folder.path(), "busy.ext4");
    let mounted = disks::Kernel::mount(&busy, "loop");
    refuses(plan(&busy), 17, "is in use at");
    drop(mounted);

    // The holder of the backup.
    let holder = box_image(folder.path(), "holder.ext4");
    let mounted = disks::Kernel::mount(&holder, "loop");
    let inside = put(mounted.path(), "backup.tar.gz", &good_backup());
    let run = Rescue::new(&inside, &holder).plan();
    assert_eq!(run.code, 17, "{run:?}");
    drop(mounted);

    // Several boxes on one disk.
    let disk = disks::blank(&folder.path().join("two.img"), 300);
    disks::sfdisk(&disk, 512, "label: gpt\nstart=2048,size=262144\nstart=264192,size=262144\n");
    disks::place(&disk, 2048 * 512, &box_image(folder.path(), "first.ext4"));
    disks::place(&disk, 264_192 * 512, &box_image(folder.path(), "second.ext4"));
    refuses(plan(&disk), 17, "several FreedomBox systems are on");
}

#[test]
fn every_exit_code_of_the_table_that_this_version_has_is_reached() {
    needs!(needs_root());
    let box_ = SmallBox::new();
    let put = |name: &str, bytes: &[u8]| put(box_.folder.path(), name, bytes);
    let good = put("good.tar.gz", &good_backup());
    let onto = |command: &str| lifeboat(&[command.as_ref(), "--onto".as_ref(), box_.root.as_os_str()]);
    let id = Rescue::new(&good, &box_.root).plan().ends(0).json()["id"].as_str().unwrap().to_owned();

    // 2: nonsense on the command line, a consent to another plan, an app that the backup does not hold.
    assert_eq!(lifeboat(&["sail"]).code, 2);
    refuses(Rescue::new(&good, &box_.root).restore("0123456789abcdef"), 2, "consent was given to plan");
    refuses(Rescue::new(&good, &box_.root).apps("radicale").plan(), 2, "does not contain the app 'radicale'");
    for command in ["resume", "undo", "commit"] {
        refuses(onto(command), 2, "no restore was started on this box");
    }
    // 10: no backup.
    refuses(Rescue::new(Path::new("/nowhere"), &box_.root).plan(), 10, "opening \"/nowhere\"");
    refuses(Rescue::new(&put("text.tar.gz", b"no archive"), &box_.root).plan(), 10, "holds no backup");
    // 13: a backup of a newer FreedomBox.
    let newer = put("newer.tar.gz", &backup_of("tiddlywiki", 99, "var/lib/tiddlywiki"));
    let plan = Rescue::new(&newer, &box_.root).apps("tiddlywiki").plan().ends(13).json();
    assert!(plan["blockers"][0]["what"].as_str().unwrap().contains("app version 99"));
    // 15: damage.
    let whole = good_backup();
    let mut damaged = whole.clone();
    let at = whole.len() - 6;
    damaged[at] ^= 0x55;
    let damaged = put("damaged.tar.gz", &damaged);
    assert_eq!(Rescue::new(&damaged, &box_.root).plan().code, 15);
    refuses(Rescue::new(&damaged, &box_.root).restore(&id), 15, "may be damaged: the backup is");
    assert_eq!(lifeboat(&["verify".as_ref(), damaged.as_os_str()]).code, 15);
    // 17: see above.
    refuses(Rescue::new(&good, Path::new("/dev/null")).plan(), 17, "neither a directory");
    assert!(!box_.root.join("var/lib/lifeboat").exists(), "nothing was written up to here");
    // 0: done; then 11: one restore at a time.
    Rescue::new(&good, &box_.root).restore(&id).ends(0);
    let other = put("other.tar.gz", &backup_of("gitweb", 4, "var/lib/git"));
    assert_eq!(Rescue::new(&other, &box_.root).plan().code, 11);
    onto("commit").ends(0);
    // 1: done, with an app that could not be brought along.
    let json = manifest(&[("tiddlywiki", 1, &["/var/lib/tiddlywiki"], &[]), ("unheard-of", 1, &["/var/lib/x"], &[])]);
    let mixed = RawTar::new().dir("var/lib/tiddlywiki").dir("var/lib/x").manifest(&json);
    let (_, run) = Rescue::new(&put("mixed.tar.gz", &gzip(&mixed.end())), &box_.root).carry_out();
    run.ends(1);
    onto("undo").ends(0);
    // 16: done, without an app that is damaged.
    let two: [(&str, i64, &[&str], &[&str]); 2] =
        [("tiddlywiki", 1, &["/var/lib/tiddlywiki"], &[]), ("bepasty", 3, &["/var/lib/bepasty"], &[])];
    let apps = RawTar::new().dir("var/lib/tiddlywiki").file("var/lib/tiddlywiki/new.html", b"<html>new</html>\n");
    let apps = apps.manifest(&manifest(&two)).dir("var/lib/bepasty").file("var/lib/bepasty/paste", &noise(7, 60_000));
    let mut cut = gzip(&apps.end());
    cut.truncate(cut.len() - 20_000);
    let fault = |args: &[&std::ffi::OsStr], at: &str| {
        let mut command = Command::new(LIFEBOAT);
        command.args(args).arg("--onto").arg(&box_.root).env("LIFEBOAT_FAULT", at);
        assert_eq!(command.output().unwrap().status.code(), None, "{at} does not cut it off");
    };
    let cut_file = put("cut.tar.gz", &cut);
    let mut cut = Rescue::new(&cut_file, &box_.root);
    cut.more.push("--accept-damage".to_owned());
    let (cut_plan, run) = cut.carry_out();
    run.ends(16);
    onto("undo").ends(0);
    // The same after it was cut off and gone on with: an interruption makes nothing whole.
    let words =
        ["restore", "--accept-damage", "--program", LIFEBOAT, "--consent", cut_plan["id"].as_str().unwrap(), "--from"];
    let words = words.map(std::ffi::OsStr::new);
    fault(&[&words[..], &[cut_file.as_os_str()]].concat(), "exchange.after:1:kill");
    onto("resume").ends(16);
    onto("undo").ends(0);
    // 18: cut off before the backup was read to its end; 19: going back was cut off, and ended.
    let plan = Rescue::new(&good, &box_.root).plan().json()["id"].as_str().unwrap().to_owned();
    let restore = ["restore", "--from"].map(std::ffi::OsStr::new);
    let program = ["--program", LIFEBOAT, "--consent", &plan].map(std::ffi::OsStr::new);
    fault(&[&restore[..], &[good.as_os_str()], &program[..]].concat(), "write.data:3:kill");
    onto("resume").ends(18);
    onto("undo").ends(0);
    Rescue::new(&good, &box_.root).restore(&plan).ends(0);
    fault(&["undo".as_ref()], "undo.exchanged:1:kill");
    onto("resume").ends(19);
    // 75: something waits for the next attempt.
    let later = put("later.tar.gz", &backup_of("bepasty", 3, "var/lib/bepasty"));
    Rescue::new(&later, &box_.root).carry_out().1.ends(0);
    onto("finish").ends(75);
    onto("undo").ends(0);
    let root = box_.root.as_os_str();
    // 130: stopped in the guide.
    let mut guide = Command::new(LIFEBOAT);
    guide.args(["guide", "--plain", "--root"]).arg(&box_.root).stdin(Stdio::null());
    assert_eq!(guide.output().unwrap().status.code(), Some(130));
    // 21: an answer file without answers.
    let answers = put("answers.toml", b"");
    let run = lifeboat(&["guide".as_ref(), "--answers".as_ref(), answers.as_os_str(), "--root".as_ref(), root]);
    refuses(run, 21, "does not answer the question 'choose-box'");
    // 20: standard output is full.
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut list = Command::new(LIFEBOAT);
    let status = list.arg("list").arg(&good).stdout(full).stderr(Stdio::null()).status().unwrap();
    assert_eq!(status.code(), Some(20));
}

#[test]
fn too_little_room_is_refused_before_anything_is_written_with_a_proposal() {
    needs!(disks::cannot_mount(&["mke2fs", "mount"]));
    let folder = tempfile::tempdir().unwrap();
    let image = disks::blank(&folder.path().join("small.ext4"), 16);
    disks::sh(&format!("mke2fs -q -t ext4 {}", image.display()));
    let mounted = disks::Kernel::mount(&image, "loop");
    let root = mounted.path().join("box");
    SmallBox::fill(&root);
    let before = tree(&root);
    let file = put(folder.path(), "backup.tar.gz", &good_backup());
    let plan = Rescue::new(&file, &root).plan().ends(14).json();
    refuses(Rescue::new(&file, &root).restore(plan["id"].as_str().unwrap()), 14, "more free space is needed");
    assert_same(&before, &tree(&root), "too little room");
}

#[test]
fn another_run_on_the_same_box_is_waited_for_by_the_user() {
    needs!(needs_root().or_else(|| disks::lacks(&["flock"])));
    let box_ = SmallBox::new();
    let file = put(box_.folder.path(), "backup.tar.gz", &good_backup());
    Rescue::new(&file, &box_.root).carry_out().1.ends(0);
    let lock = box_.root.join("var/lib/lifeboat/lock");
    let line =
        format!("exec 9>>{}; flock 9; {LIFEBOAT} undo --onto {} || echo $?", lock.display(), box_.root.display());
    assert_eq!(disks::sh(&line).trim(), "11");
    assert!(box_.root.join("var/lib/tiddlywiki/new.html").exists());
    lifeboat(&["undo".as_ref(), "--onto".as_ref(), box_.root.as_os_str()]).ends(0);
    assert!(box_.root.join("var/lib/tiddlywiki/old.html").exists());
}

#[test]
fn an_app_that_was_not_restored_is_not_called_finished() {
    needs!(needs_root());
    let box_ = SmallBox::new();
    let json = manifest(&[("tiddlywiki", 1, &["/var/lib/tiddlywiki"], &[]), ("unheard-of", 1, &["/var/lib/x"], &[])]);
    let tar = RawTar::new().dir("var/lib/tiddlywiki").dir("var/lib/x").manifest(&json);
    let file = put(box_.folder.path(), "backup.tar.gz", &gzip(&tar.end()));
    let (_, run) = Rescue::new(&file, &box_.root).carry_out();
    let run = run.ends(1);
    assert!(!run.out.contains("unheard-of"), "{}", run.out);
}

#[test]
fn the_table_of_exit_codes_is_the_same_everywhere() {
    let table: Vec<(String, String)> =
        EXIT_CODES.iter().map(|(_, code, meaning)| (code.to_string(), (*meaning).to_owned())).collect();
    let help = lifeboat(&["--help"]).ends(0).out;
    let part = help.split("Exit codes").nth(1).unwrap();
    // Continuation lines of a narrow terminal are joined.
    let joined = part.split_whitespace().collect::<Vec<_>>().join(" ");
    let wanted = exit_code_help().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(wanted.ends_with(joined.trim_start_matches(" ")), "{joined}\n{wanted}");
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let section = readme.split("## Exit codes").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| {
        let (code, meaning) = line.trim_matches('|').split_once('|')?;
        let code = code.trim();
        code.bytes().all(|byte| byte.is_ascii_digit()).then(|| (code.to_owned(), meaning.trim().to_owned()))
    });
    assert_eq!(rows.collect::<Vec<_>>(), table);
    let mut codes: Vec<u8> = EXIT_CODES.iter().map(|(_, code, _)| *code).collect();
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes.len(), EXIT_CODES.len(), "every ending has a code of its own");
}
