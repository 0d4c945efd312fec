//! Every screen of the guided rescue, in plain lines and word for word: the way through, and each dead end with its ways
//! out. The texts are in `tests/transcripts/screens/`; `SNAPSHOTS=overwrite cargo test --test screens` writes them anew.

#![allow(clippy::print_stderr, clippy::unwrap_used, reason = "this is test code")]
#![allow(missing_docs, reason = "names of tests are sentences")]

mod common;

use common::archives::{RawTar, gzip, is_root, put};
use common::repositories::{Repository, borgs};
use common::rescue::{Run, SmallBox, assert_same, manifest, tree, write};
use common::transcript::looks;
use lifeboat::model::question::QUESTIONS;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A folder with a program that believes to be on a complete medium, and the places that the guide looks at.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Option<Place> {
        if !is_root() {
            eprintln!("SKIPPED: root is needed to restore owners");
            return None;
        }
        // Its name has the same length in every run, because lines are folded with it.
        let folder = tempfile::Builder::new().prefix("lifeboat-").rand_bytes(8).tempdir_in("/tmp").unwrap();
        let place = Place { folder };
        common::rescue::program_on_medium(place.folder.path());
        Some(place)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A small box; its apps have data that a restore replaces.
    fn with_box(self, name: &str) -> Place {
        SmallBox::fill(&self.at(name));
        self
    }

    fn with_backup(self, name: &str, bytes: &[u8]) -> Place {
        std::fs::create_dir_all(self.at("drive")).unwrap();
        put(&self.at("drive"), name, bytes);
        self
    }

    /// Walks with these lines as answers.
    fn walk(&self, roots: &[&str], answers: &str) -> Run {
        self.walk_with(roots, answers, "en", None)
    }

    fn walk_with(&self, roots: &[&str], answers: &str, language: &str, fault: Option<&str>) -> Run {
        let mut command = Command::new(self.at("medium/bin/lifeboat"));
        command.args(["guide", "--plain", "--language", language]).current_dir(self.folder.path());
        for root in roots {
            command.args(["--root", root]);
        }
        command.env_remove("TERM").env_remove("LANG").env_remove("LC_ALL");
        fault.map(|fault| command.env("LIFEBOAT_FAULT", fault));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A program that ends early does not listen.
        let _ = child.stdin.take().unwrap().write_all(answers.as_bytes());
        child.wait_with_output().unwrap().into()
    }

    /// The walk as it is kept: what appeared on the console, and how it ended.
    #[track_caller]
    fn looks(&self, name: &str, run: &Run) {
        looks(self.folder.path(), name, run);
    }
}

/// A backup of these apps: name, version, directory, and how many bytes it has there.
fn backup(apps: &[(&str, i64, &str, usize)]) -> Vec<u8> {
    gzip(&tarball(apps))
}

fn tarball(apps: &[(&str, i64, &str, usize)]) -> Vec<u8> {
    let paths: Vec<String> = apps.iter().map(|app| format!("/{}", app.2)).collect();
    let directories: Vec<[&str; 1]> = paths.iter().map(|path| [path.as_str()]).collect();
    let lines: Vec<(&str, i64, &[&str], &[&str])> =
        apps.iter().zip(&directories).map(|(app, paths)| (app.0, app.1, paths.as_slice(), [].as_slice())).collect();
    let mut tar = RawTar::new().manifest(&manifest(&lines));
    for (at, (_, _, directory, size)) in apps.iter().enumerate() {
        tar = tar.dir(directory).file(format!("{directory}/data"), &common::repositories::noise(at as u64, *size));
    }
    tar.end()
}

const WIKI: (&str, i64, &str, usize) = ("tiddlywiki", 1, "var/lib/tiddlywiki", 3000);
const GIT: (&str, i64, &str, usize) = ("gitweb", 4, "var/lib/git", 2000);
const BOTH: [&str; 2] = ["box", "drive"];

#[test]
fn without_a_box_the_guide_says_so_and_looks_again() {
    let Some(place) = Place::new() else { return };
    let place = place.with_backup("backup.tar.gz", &backup(&[WIKI]));
    let run = place.walk(&["drive"], "1\nq\n");
    assert_eq!(run.code, 17, "{run:?}");
    assert_eq!(run.out.matches("[no-box]").count(), 2, "{run:?}");
    place.looks("no-box", &run);
}

#[test]
fn without_a_backup_the_guide_says_so_and_looks_again() {
    let Some(place) = Place::new() else { return };
    let place = place.with_box("box");
    let run = place.walk(&["box"], "1\n1\n1\nq\n");
    assert_eq!(run.code, 10, "{run:?}");
    assert_eq!(run.out.matches("[no-backup]").count(), 2, "{run:?}");
    place.looks("no-backup", &run);
}

#[test]
fn a_backup_on_a_disk_that_was_connected_later_is_found_by_looking_again() {
    let Some(place) = Place::new() else { return };
    let place = place.with_box("box").with_backup("one.tar.gz", &backup(&[WIKI]));
    let mut command = Command::new(place.at("medium/bin/lifeboat"));
    command.args(["guide", "--plain", "--language", "en", "--root", "box", "--root", "drive"]);
    let mut child =
        command.current_dir(place.folder.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"1\n").unwrap();
    // The survey of the first look must be over: its result is printed before the first question.
    let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut seen = String::new();
    while !seen.contains("[choose-backup]") {
        assert!(std::io::BufRead::read_line(&mut output, &mut seen).unwrap() > 0, "{seen}");
    }
    put(&place.at("drive"), "two.tar.gz", &backup(&[WIKI, GIT]));
    input.write_all(b"2\n1\nq\n").unwrap();
    drop(input);
    std::io::Read::read_to_string(&mut output, &mut seen).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let second = seen.rsplit("[choose-backup]").next().unwrap();
    assert!(second.contains("one.tar.gz") && second.contains("two.tar.gz"), "{seen}");
}

#[test]
fn several_boxes_and_many_backups_are_numbered_and_paged() {
    let Some(place) = Place::new() else { return };
    let mut place = place.with_box("box").with_box("other");
    write(&place.at("other/etc/hostname"), b"attic\n");
    for number in 1..=14 {
        place = place.with_backup(&format!("2026-10-{number:02}.tar.gz"), &backup(&[WIKI]));
    }
    let run = place.walk(&["box", "other", "drive"], "2\n0\n14\nq\n");
    assert_eq!(run.code, 130, "{run:?}");
    let last = run.out.rsplit("[choose-archive]").next().unwrap();
    assert!(last.contains("(2026-10-14.tar.gz)"), "{run:?}");
    place.looks("several", &run);
}

#[test]
fn a_backup_that_cannot_be_read_is_told_before_the_choice_and_the_newest_is_not_guessed() {
    let Some(borg) = borgs().into_iter().next() else { return };
    let Some(place) = Place::new() else { return };
    let place = place.with_box("box");
    let repository = Repository::new(&borg, "none", "");
    let content = place.at("content");
    write(&content.join("var/lib/tiddlywiki/new.html"), b"<html>new</html>\n");
    let json = manifest(&[("tiddlywiki", 1, &["/var/lib/tiddlywiki"], &[])]);
    write(&content.join("var/lib/plinth/backups-manifests/1.json"), json.as_bytes());
    repository.create("2026-10-30", "none", &content);
    repository.create("2026-10-31", "none", &content);
    let drive = place.at("drive/FreedomBoxBackups");
    std::fs::create_dir_all(drive.parent().unwrap()).unwrap();
    common::disks::sh(&format!("cp -r {} {}", repository.path().display(), drive.display()));
    let answers = "choose-box = \"BOX\"\nchoose-backup = \"DRIVE\"\nchoose-archive = \"newest\"\n";
    let answers = answers.replace("BOX", place.at("box").to_str().unwrap()).replace("DRIVE", drive.to_str().unwrap());
    write(&place.at("answers.toml"), answers.as_bytes());
    let unattended = || {
        let mut command = Command::new(place.at("medium/bin/lifeboat"));
        command.args(["guide", "--plain", "--root", "box", "--root", "drive", "--answers", "answers.toml"]);
        Run::from(command.current_dir(place.folder.path()).output().unwrap())
    };
    // With both of them, the newest is taken, and the next question is the one without an answer.
    let run = unattended();
    assert!(run.code == 21 && run.err.contains("'choose-apps'"), "{run:?}");
    // The newest one's description.
    let field = b"chunker_params";
    let found = repository.segments().into_iter().rev().find_map(|segment| {
        let raw = std::fs::read(&segment).unwrap();
        let at = raw.windows(field.len()).rposition(|window| window == field)?;
        Some((drive.join(segment.strip_prefix(repository.path()).unwrap()), raw, at))
    });
    let (segment, mut raw, at) = found.unwrap();
    raw[at] ^= 1;
    std::fs::write(segment, raw).unwrap();
    let run = place.walk(&BOTH, "1\n1\nq\n");
    let asked = run.out.rsplit("== The point in time ==").next().unwrap();
    assert!(run.code == 130 && asked.contains("DAMAGE: 2026-10-31") && asked.contains("(2026-10-30)"), "{run:?}");
    let run = unattended();
    assert!(run.code == 21 && run.err.contains("'choose-archive'"), "{run:?}");
}

#[test]
fn one_can_go_back_from_the_consent_to_the_first_question_and_forward_again() {
    let Some(place) = Place::new() else { return };
    let place = place.with_box("box").with_backup("backup.tar.gz", &backup(&[WIKI, GIT]));
    let before = tree(&place.at("box"));
    let forward = "1\n1\n1\n2\ntiddlywiki\n\n\n";
    let back = "b\n".repeat(7);
    let run = place.walk(&BOTH, &format!("{forward}{back}{forward}q\n"));
    assert_eq!(run.code, 130, "{run:?}");
    assert_eq!(run.out.matches("[consent]").count(), 2, "{run:?}");
    assert_eq!(run.out.matches("[choose-box]").count(), 2, "{run:?}");
    assert_same(&before, &tree(&place.at("box")), "going back");
    place.looks("back", &run);
}

#[test]
fn a_wrong_passphrase_can_be_corrected_any_number_of_times() {
    let Some(borg) = borgs().into_iter().next() else { return };
    let Some(place) = Place::new() else { return };
    let place = place.with_box("box");
    let repository = Repository::new(&borg, "repokey", "correct horse");
    let content = place.at("content");
    write(&content.join("var/lib/tiddlywiki/new.html"), b"<html>new</html>\n");
    let json = manifest(&[("tiddlywiki", 1, &["/var/lib/tiddlywiki"], &[])]);
    write(&content.join("var/lib/plinth/backups-manifests/1.json"), json.as_bytes());
    repository.create("2026-10-30", "none", &content);
    let drive = place.at("drive/FreedomBoxBackups");
    std::fs::create_dir_all(drive.parent().unwrap()).unwrap();
    common::disks::sh(&format!("cp -r {} {}", repository.path().display(), drive.display()));
    // Five wrong ones, the last of them typed visibly; then the right one.
    let wrong: String = (1..=5).map(|at| format!("wrong {at}\n{}\n", if at == 4 { 2 } else { 1 })).collect();
    let run = place.walk(&BOTH, &format!("1\n1\n{wrong}correct horse\nq\n"));
    assert_eq!(run.code, 130, "{run:?}");
    assert_eq!(run.out.matches("[passphrase-wrong]").count(), 5, "{run:?}");
    assert!(run.out.contains("[choose-archive]"), "{run:?}");
    assert!(!run.said().contains("correct horse"), "a passphrase is not repeated: {run:?}");
    place.looks("passphrase", &run);
    // Typing nothing goes back to the choice of the backup.
    let run = place.walk(&BOTH, "1\n1\n\nq\n");
    assert!(run.code == 130 && run.out.matches("[choose-backup]").count() == 2, "{run:?}");
}

#[test]
fn of_a_damaged_backup_the_rest_is_offered() {
    let Some(place) = Place::new() else { return };
    let big = ("gitweb", 4, "var/lib/git", 200_000);
    let whole = backup(&[WIKI, big]);
    // The end is missing: what comes last is damaged.
    let place = place.with_box("box").with_backup("cut.tar.gz", &whole[..whole.len() - 100_000]);
    let run = place.walk(&BOTH, "1\n1\n1\n1\n3\n\nq\n");
    assert_eq!(run.code, 130, "{run:?}");
    assert!(run.out.contains("[damaged]") && run.out.contains("[plan]"), "{run:?}");
    place.looks("damaged", &run);
    // Nobody stops at a damaged backup and is told that all is well.
    assert_ne!(place.walk(&BOTH, "1\n1\n1\n1\nq\n").code, 0);
    // Nor who takes the rest.
    let run = place.walk(&BOTH, "1\n1\n1\n1\n3\n\n\nfreedombox\n");
    assert_eq!(run.code, 16, "{run:?}");
    assert!(run.out.contains("[done] Finished, with the losses") && !run.out.contains("[done] Finished."), "{run:?}");
}

#[test]
fn a_backup_of_unknown_apps_is_told_from_a_damaged_one() {
    let Some(place) = Place::new() else { return };
    let place =
        place.with_box("box").with_backup("odd.tar.gz", &backup(&[("teleporter", 1, "var/lib/teleporter", 100)]));
    let run = place.walk(&BOTH, "1\n1\n1\n1\nq\n");
    assert_eq!(run.code, 10, "{run:?}");
    assert!(run.out.contains("[blocked]"), "{run:?}");
    place.looks("no-supported-app", &run);
}

#[test]
fn where_room_is_short_what_fits_is_offered_and_fits() {
    let Some(place) = Place::new() else { return };
    let large = ("gitweb", 4, "var/lib/git", 30 << 20);
    let place = place.with_backup("backup.tar.gz", &backup(&[WIKI, large]));
    std::fs::create_dir(place.at("box")).unwrap();
    let small = Command::new("mount").args(["-t", "tmpfs", "-o", "size=50m", "box"]).arg(place.at("box")).status();
    if !small.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: no small filesystem can be mounted here");
        return;
    }
    SmallBox::fill(&place.at("box"));
    let run = place.walk(&BOTH, "1\n1\n1\n1\n1\n\n\nfreedombox\n");
    let restored = std::fs::read(place.at("box/var/lib/tiddlywiki/data"));
    let left = place.at("box/var/lib/git/old.git").exists();
    let unmounted = Command::new("umount").arg(place.at("box")).status().unwrap();
    assert!(unmounted.success(), "the restore has let go of the box");
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.out.contains("[no-space]") && run.out.contains("leave out gitweb"), "{run:?}");
    assert!(restored.is_ok_and(|data| data.len() == 3000) && left, "{run:?}");
    place.looks("no-space", &run);
}

#[test]
fn an_interrupted_restore_comes_first_and_is_gone_on_with_or_undone() {
    let Some(place) = Place::new() else { return };
    let place = place.with_box("box").with_backup("backup.tar.gz", &backup(&[WIKI, GIT]));
    let data = |place: &Place| std::fs::read(place.at("box/var/lib/tiddlywiki/data")).is_ok();
    let start = "1\n1\n1\n1\n\n\nfreedombox\n";
    for (answers, is_new, code) in [("1\n1\n", true, 0), ("1\n2\n", false, 0)] {
        let cut = place.walk_with(&BOTH, start, "en", Some("exchange.after:1:kill"));
        assert!(cut.code == -1 || cut.code > 100, "it was cut off: {cut:?}");
        let run = place.walk(&BOTH, answers);
        assert_eq!(run.code, code, "{run:?}");
        assert!(run.out.contains("An earlier restore was interrupted"), "{run:?}");
        assert_eq!(data(&place), is_new, "{run:?}");
        place.looks(if is_new { "interrupted-go-on" } else { "interrupted-undo" }, &run);
        if is_new {
            let undone = place.walk(&BOTH, "1\n2\n");
            assert!(undone.code == 0 && !data(&place), "{undone:?}");
        }
    }
    // Cut off before everything was written: the same choices again go on with it.
    let cut = place.walk_with(&BOTH, start, "en", Some("write.data:2:kill"));
    assert!(cut.code == -1 || cut.code > 100, "it was cut off: {cut:?}");
    let run = place.walk(&BOTH, "1\n1\n1\n1\n1\n\n\nfreedombox\n");
    assert!(run.code == 0 && data(&place), "{run:?}");
    place.looks("interrupted-early", &run);
}

#[test]
fn a_restore_that_is_done_can_be_kept_for_good_and_that_is_typed() {
    let Some(place) = Place::new() else { return };
    let place = place.with_box("box").with_backup("backup.tar.gz", &backup(&[WIKI]));
    let done = place.walk(&BOTH, "1\n1\n1\n1\n\n\nfreedombox\n");
    assert_eq!(done.code, 0, "{done:?}");
    let run = place.walk(&BOTH, "1\n3\nno\n3\nfreedombox\nq\n");
    assert_eq!(run.code, 130, "{run:?}");
    assert!(run.out.contains("the old data is gone"), "{run:?}");
    assert!(place.at("box/var/lib/tiddlywiki/data").exists());
    place.looks("commit", &run);
}

#[test]
fn what_an_old_box_has_besides_apps_is_asked_one_by_one() {
    let Some(place) = Place::new() else { return };
    let place = place.with_box("box");
    // With the same times: what differs between the two in one second of their making would be called changed.
    common::disks::sh(&format!("cp -a '{}' '{}'", place.at("box").display(), place.at("old").display()));
    write(&place.at("old/etc/hostname"), b"attic\n");
    write(&place.at("old/etc/hosts"), b"127.0.0.1 localhost\n127.0.1.1 attic.example.org attic\n");
    let people = common::people::directory(8, &[("alice", 10007, "{SSHA}c2VjcmV0")], &[("admin", 10001, &["alice"])]);
    write(&place.at("old/var/lib/ldap/data.mdb"), &people);
    let connection = b"[connection]\nid=Home\ntype=wifi\n\n[wifi-security]\npsk=not to be seen\n";
    write(&place.at("old/etc/NetworkManager/system-connections/home.nmconnection"), connection);
    let locations = serde_json::json!({ "5f1c0a": {
        "path": "/media/disk/stick/FreedomBoxBackups", "storage_type": "disk", "added_by_module": "backups",
        "credentials": { "encryption_passphrase": "not to be seen" }, "schedule": { "enabled": true },
    } });
    let database = rusqlite::Connection::open(place.at("old/var/lib/plinth/plinth.sqlite3")).unwrap();
    let value = serde_json::Value::from(locations.to_string()).to_string();
    database.execute("INSERT INTO plinth_kvstore VALUES ('network_storage', ?1)", [value]).unwrap();
    drop(database);
    let before = tree(&place.at("box"));
    // The box, the old box as the backup, all apps; then yes, no, yes, back and forth, yes.
    let run = place.walk(&["box", "old"], "1\n1\n1\n2\n1\n2\nb\n2\n2\nq\n");
    assert_eq!(run.code, 130, "{run:?}");
    for id in ["choose-accounts", "choose-names", "choose-networks", "choose-backup-locations", "plan"] {
        assert!(run.out.contains(&format!("[{id}]")), "{id}: {run:?}");
    }
    assert!(!run.said().contains("not to be seen"), "{run:?}");
    assert_same(&before, &tree(&place.at("box")), "questions about an old box");
    place.looks("old-box", &run);
}

#[test]
fn a_place_that_looks_like_a_backup_and_cannot_be_opened_is_told_and_left() {
    let Some(place) = Place::new() else { return };
    let place = place.with_box("box");
    common::disks::repository(&place.at("drive/FreedomBoxBackups"), &"ab".repeat(32));
    let run = place.walk(&BOTH, "1\n1\n1\nq\nq\n");
    assert!(run.out.contains("[failed]"), "{run:?}");
    assert_ne!(run.code, 0, "{run:?}");
    place.looks("failed", &run);
}

#[test]
fn a_live_system_with_a_keyboard_asks_for_its_layout_after_the_language() {
    let Some(place) = Place::new() else { return };
    let place = place.with_box("box");
    let program = place.at("programs/lifeboat-keyboard");
    let script = "#!/bin/sh\nif [ $# = 0 ]; then printf 'en-us English (US)\\nde Deutsch\\nde-ch Deutsch (Schweiz)\\n'; \
         else printf %s \"$1\" >DONE; fi\n";
    write(&program, script.replace("DONE", place.at("done").to_str().unwrap()).as_bytes());
    common::disks::sh(&format!("chmod 755 '{}'", program.display()));
    let walk = |answers: &str| {
        let mut command = Command::new(place.at("medium/bin/lifeboat"));
        command.args(["guide", "--plain", "--root", "box"]).current_dir(place.folder.path());
        for name in ["LANG", "LC_ALL", "LC_MESSAGES", "TERM"] {
            command.env_remove(name);
        }
        command.env("LIFEBOAT_PROGRAMS", place.at("programs"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let _ = child.stdin.take().unwrap().write_all(answers.as_bytes());
        Run::from(child.wait_with_output().unwrap())
    };
    // That of the language comes first; the second is another one.
    let run = walk("2\n2\nq\n");
    assert_eq!(run.code, 130, "{run:?}");
    assert_eq!(std::fs::read_to_string(place.at("done")).unwrap(), "de-ch");
    place.looks("keyboard", &run);
    walk("2\n\nq\n");
    assert_eq!(std::fs::read_to_string(place.at("done")).unwrap(), "de");
    // Where it cannot be changed, that is said, and the rescue goes on.
    write(&program, script.replace("DONE", "/nowhere/at/all").as_bytes());
    let run = walk("1\n2\nq\n");
    assert!(run.out.contains("could not be changed") && run.out.contains("[choose-box]"), "{run:?}");
}

/// Everything of the transcripts, in one.
fn transcripts() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let files = walkdir::WalkDir::new(folder).into_iter().map(Result::unwrap);
    files.filter(|file| file.file_type().is_file()).map(|file| std::fs::read_to_string(file.path()).unwrap()).collect()
}

#[test]
fn every_question_that_can_be_asked_has_a_transcript() {
    let all = transcripts();
    // What comes after the end is asked by the page alone (tests/web), and folders need a system with a web server or
    // Samba (tests/folders.rs).
    let shown = |id: &&str| ["ended", "choose-folders"].contains(id) || all.contains(&format!("[{id}]"));
    let missing: Vec<&str> = QUESTIONS.into_iter().filter(|id| !shown(id)).collect();
    assert!(missing.is_empty(), "no transcript shows {missing:?}");
    // And no question is asked that is not among them: the ids in the sources.
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut asked = std::collections::BTreeSet::new();
    for part in ["guide", "rescue/keyring.rs", "web/page.rs"] {
        for file in walkdir::WalkDir::new(source.join(part)).into_iter().map(Result::unwrap) {
            if !file.file_type().is_file() {
                continue;
            }
            let text = std::fs::read_to_string(file.path()).unwrap();
            let text: String = text.split("#[cfg(test)]").next().unwrap().split_whitespace().collect();
            for call in [".screen(\"", "Screen::new(\"", ".stuck(\""] {
                asked.extend(text.split(call).skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()));
            }
        }
    }
    assert!(asked.len() > 15, "the questions were not found: {asked:?}");
    // The plan is only to be read; the passphrase for a new backup is asked by a command.
    let known = |id: &String| QUESTIONS.contains(&id.as_str()) || ["plan", "new-passphrase"].contains(&id.as_str());
    let unknown: Vec<&String> = asked.iter().filter(|id| !known(id)).collect();
    assert!(unknown.is_empty(), "not among the questions: {unknown:?}");
}
