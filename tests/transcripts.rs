//! What the user reads: the texts of all commands word for word, the JSON contracts, and the guide on many terminals.
//!
//! The texts are in `tests/transcripts/`; `SNAPSHOTS=overwrite cargo test --test transcripts` writes them anew.

#![allow(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used, reason = "this is test code")]
#![allow(missing_docs, reason = "names of tests are sentences")]

mod common;

use common::archives::{RawTar, gzip, is_root, put};
use common::rescue::{LIFEBOAT, Run, Sample, SmallBox, manifest, program_on_medium, sample};
use common::transcript::redacted;
use serde_json::Value;
use snapbox::assert_data_eq;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// Widest line.
const WIDTH: usize = 80;

/// A folder whose name has the same length in every run, because lines are folded with it.
fn folder() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("lifeboat-").rand_bytes(8).tempdir_in("/tmp").unwrap()
}

/// Runs a program in `folder`, so that relative names do.
fn run_in(folder: &Path, program: &Path, args: &[&str], input: &str) -> Run {
    let mut command = Command::new(program);
    command.args(args).current_dir(folder).env("COLUMNS", "80").env_remove("TERM");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A program that ends early does not listen.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap().into()
}

/// The run as a transcript: the command, what it printed, and its exit code.
fn transcript(folder: &Path, args: &[&str], run: &Run) -> String {
    let shown: Vec<&str> = args.iter().map(|arg| if *arg == LIFEBOAT { "PROGRAM" } else { arg }).collect();
    let text = format!("$ lifeboat {}\n{}---\n{}---\nexit code {}\n", shown.join(" "), run.out, run.err, run.code);
    redacted(folder, &text)
}

#[track_caller]
fn no_line_is_too_wide(text: &str) {
    // A usage line is for copying, and an answer that came through a pipe shows no line of its own.
    for line in text.lines().filter(|line| !line.starts_with("Usage: ")).map(|line| line.trim_start_matches("> ")) {
        let longest = line.split_whitespace().map(|word| word.chars().count()).max().unwrap_or(0);
        let alone = line.trim().chars().count() <= longest;
        assert!(line.chars().count() <= WIDTH || alone, "a line of {} columns: {line}", line.chars().count());
    }
    assert!(!text.contains('\x1b'), "an escape character: {text:?}");
}

fn can_run() -> bool {
    if !is_root() {
        eprintln!("SKIPPED: root is needed to restore owners");
    }
    is_root()
}

/// The sample in a folder of its own, with the backup in a folder beside the box.
fn sample_in(folder: &Path) -> Option<Sample> {
    let sample = sample(folder, &[])?;
    std::fs::create_dir(folder.join("drive")).unwrap();
    std::fs::copy(sample.backup(), folder.join("drive/backup.tar.gz")).unwrap();
    // A name that is the same on every machine, because the plan prints it.
    std::os::unix::fs::symlink(LIFEBOAT, folder.join("program")).unwrap();
    Some(sample)
}

/// The id of a plan in its JSON.
fn plan_id(folder: &Path) -> String {
    let run = run_in(folder, LIFEBOAT.as_ref(), &[PLAN.as_slice(), &["--json"]].concat(), "");
    run.json()["id"].as_str().unwrap().to_owned()
}

const PLAN: [&str; 7] = ["plan", "--from", "backup.tar.gz", "--onto", "box", "--program", "program"];

#[test]
fn help_is_as_it_was_read_last() {
    let folder = folder();
    let commands = [
        "", "survey", "list", "verify", "export", "backup", "salvage", "drill", "grow", "plan", "restore", "status",
        "resume", "undo", "commit", "guide", "finish",
    ];
    let mut all = String::new();
    for command in commands {
        let args: Vec<&str> = [command, "--help"].into_iter().filter(|word| !word.is_empty()).collect();
        let run = run_in(folder.path(), LIFEBOAT.as_ref(), &args, "");
        no_line_is_too_wide(&run.said());
        all += &transcript(folder.path(), &args, &run);
        all.push('\n');
    }
    assert_data_eq!(all, snapbox::file!["transcripts/help.txt"].raw());
}

#[test]
fn the_manual_and_the_completions_have_every_command_and_every_option_of_the_help() {
    let folder = folder();
    let ask = |args: &[&str]| run_in(folder.path(), LIFEBOAT.as_ref(), args, "").ends(0).out;
    // A line of the help begins with what it is about; what is folded stands further to the right.
    let first = |line: &str| line.trim().split(' ').next().unwrap_or_default().to_owned();
    let help = ask(&["--help"]);
    let listed = help.split("Commands:").nth(1).unwrap().split("Options:").next().unwrap();
    let is_command = |line: &&str| line.starts_with("  ") && !line.starts_with("   ");
    let commands: Vec<String> = listed.lines().filter(is_command).map(first).filter(|word| word != "help").collect();
    assert!(commands.len() > 10, "{commands:?}");
    // groff writes a hyphen that may not be broken with a stroke before it.
    let plain = |page: String| page.replace("\\-", "-");
    let all = plain(ask(&["man"]));
    let bash = ask(&["completions", "bash"]);
    for command in &commands {
        assert!(all.contains(command.as_str()) && bash.contains(&format!(",{command})")), "{command}");
        let page = plain(ask(&["man", command]));
        assert!(page.starts_with(".ie") && page.contains(&format!(".TH lifeboat-{command} ")), "{page}");
        let help = ask(&[command, "--help"]);
        for option in help.lines().map(first).filter(|word| word.starts_with("--")) {
            assert!(page.contains(&option) && bash.contains(&option), "{command} {option}");
        }
    }
    assert_eq!(run_in(folder.path(), LIFEBOAT.as_ref(), &["man", "sail"], "").code, 2);
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        let script = ask(&["completions", shell]);
        assert!(commands.iter().all(|command| script.contains(command.as_str())), "{shell}");
    }
    // What bash itself makes of it: what fits "lifeboat res", and "lifeboat restore --ex".
    put(folder.path(), "completion", bash.as_bytes());
    let complete = "source ./completion; COMP_WORDS=(lifeboat res); COMP_CWORD=1; _lifeboat lifeboat res lifeboat
        echo ${COMPREPLY[@]}; COMP_WORDS=(lifeboat restore --ex); COMP_CWORD=2; _lifeboat lifeboat --ex restore
        echo ${COMPREPLY[@]}";
    let made = run_in(folder.path(), "bash".as_ref(), &["-c", complete], "").ends(0);
    assert_eq!(made.out, "restore resume\n--extras\n", "{}", made.err);
    // And groff of the page, where it is here.
    put(folder.path(), "page", ask(&["man", "restore"]).as_bytes());
    if Command::new("groff").arg("--version").output().is_ok() {
        let read = run_in(folder.path(), "groff".as_ref(), &["-man", "-Tutf8", "-P-cbou", "-ww", "page"], "").ends(0);
        assert!(read.err.is_empty() && read.out.contains("consent"), "{}", read.err);
    }
}

#[test]
fn a_rescue_by_commands_reads_well_from_survey_to_commit() {
    if !can_run() {
        return;
    }
    let folder = folder();
    let Some(_) = sample_in(folder.path()) else { return };
    let id = plan_id(folder.path());
    let restore = [["restore"].as_slice(), &PLAN[1..], &["--consent", &id]].concat();
    let onto = |command: &'static str| vec![command, "--onto", "box"];
    let steps: Vec<Vec<&str>> = vec![
        vec!["survey", "--root", "box", "--root", "drive"],
        vec!["list", "drive"],
        vec!["verify", "backup.tar.gz"],
        PLAN.to_vec(),
        onto("status"),
        restore.clone(),
        onto("status"),
        onto("undo"),
        onto("status"),
        restore,
        onto("finish"),
    ];
    let mut all = String::new();
    for args in steps {
        let run = run_in(folder.path(), LIFEBOAT.as_ref(), &args, "");
        no_line_is_too_wide(&run.said());
        all += &transcript(folder.path(), &args, &run);
        all.push('\n');
    }
    assert_data_eq!(all, snapbox::file!["transcripts/rescue.txt"].raw());
}

#[test]
fn after_a_commit_nobody_says_that_the_old_data_is_kept() {
    if !can_run() {
        return;
    }
    let folder = folder();
    let Some(_) = sample_in(folder.path()) else { return };
    let id = plan_id(folder.path());
    let restore = [["restore"].as_slice(), &PLAN[1..], &["--consent", &id]].concat();
    assert_eq!(run_in(folder.path(), LIFEBOAT.as_ref(), &restore, "").code, 0);
    for command in ["commit", "status"] {
        let run = run_in(folder.path(), LIFEBOAT.as_ref(), &[command, "--onto", "box"], "");
        assert!(run.out.contains("the old data is gone") && !run.out.contains("still kept"), "{}", run.out);
    }
}

#[test]
fn every_failure_says_what_happened_where_the_data_stands_and_what_to_do() {
    if !can_run() {
        return;
    }
    let folder = folder();
    let root = folder.path().join("box");
    SmallBox::fill(&root);
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    let one = |app: &str, version: i64, path: &str| {
        let json = manifest(&[(app, version, &[&format!("/{path}")], &[])]);
        gzip(&RawTar::new().dir(path).file(format!("{path}/new"), b"new").manifest(&json).end())
    };
    let good = one("tiddlywiki", 1, "var/lib/tiddlywiki");
    put(folder.path(), "good.tar.gz", &good);
    put(folder.path(), "cut.tar.gz", &good[..good.len() - 30]);
    let mut flipped = good.clone();
    let at = flipped.len() - 6;
    flipped[at] ^= 1;
    put(folder.path(), "flipped.tar.gz", &flipped);
    put(folder.path(), "newer.tar.gz", &one("tiddlywiki", 99, "var/lib/tiddlywiki"));
    put(
        folder.path(),
        "device.tar.gz",
        &gzip(&RawTar::new().raw(&common::archives::Header::new(b'4', "disk"), b"").end()),
    );
    put(folder.path(), "text.txt", b"not an archive\n");
    let consent = "0123456789abcdef";
    let restore = |from: &'static str, onto: &'static str| {
        vec!["restore", "--from", from, "--onto", onto, "--program", LIFEBOAT, "--consent", consent]
    };
    let mut all = String::new();
    for (args, code) in [
        (restore("good.tar.gz", "box"), 2),
        (restore("gone.tar.gz", "box"), 10),
        (restore("text.txt", "box"), 10),
        (restore("cut.tar.gz", "box"), 15),
        (restore("flipped.tar.gz", "box"), 15),
        (restore("device.tar.gz", "box"), 15),
        (restore("good.tar.gz", "empty"), 17),
        (restore("good.tar.gz", "gone"), 17),
        ([restore("newer.tar.gz", "box").as_slice(), &["--apps", "tiddlywiki"]].concat(), 13),
        ([restore("good.tar.gz", "box").as_slice(), &["--apps", "radicale"]].concat(), 2),
        (vec!["resume", "--onto", "box"], 2),
        (vec!["undo", "--onto", "box"], 2),
        (vec!["list", "empty"], 10),
        (vec!["verify", "cut.tar.gz"], 15),
    ] {
        let run = run_in(folder.path(), LIFEBOAT.as_ref(), &args, "");
        no_line_is_too_wide(&run.said());
        // A cut backup has no manifest any more; what the plan says of that is another test's matter.
        if !args.contains(&"cut.tar.gz") {
            assert_eq!(run.code, code, "{args:?}: {run:?}");
        }
        if !["list", "verify"].contains(&args[0]) {
            assert!(run.err.contains("lifeboat: ") && run.err.contains("State of your data: "), "{args:?}: {run:?}");
            assert!(run.err.contains("What to do: "), "{args:?}: {run:?}");
        }
        if !args.contains(&"cut.tar.gz") {
            all += &transcript(folder.path(), &args, &run);
            all.push('\n');
        }
    }
    assert_data_eq!(all, snapbox::file!["transcripts/failures.txt"].raw());
}

/// Whether a value has exactly these fields or more, in the words of the contract.
#[track_caller]
fn has_fields(value: &Value, fields: &[&str]) {
    for field in fields {
        assert!(value.get(field).is_some(), "no field '{field}' in {value:#}");
    }
}

#[test]
fn json_keeps_its_contracts() {
    if !can_run() {
        return;
    }
    let folder = folder();
    let Some(_) = sample_in(folder.path()) else { return };
    let json = |args: &[&str]| {
        let run = run_in(folder.path(), LIFEBOAT.as_ref(), &[args, &["--json"]].concat(), "");
        assert!(run.code == 0 || run.code >= 10, "{run:?}");
        run.json()
    };
    let list = json(&["list", "drive"]);
    has_fields(&list["archives"][0], &["id", "time", "apps"]);
    has_fields(&list["archives"][0]["apps"][0], &["name", "version"]);
    assert_eq!(list["archives"][0]["id"], "backup.tar.gz");
    assert_eq!(list["archives"][0]["time"], "2025-10-30T02:00:00Z");
    let verify = json(&["verify", "backup.tar.gz"]);
    has_fields(&verify["apps"][0], &["name", "verdict"]);
    assert!(verify["findings"].is_array());
    assert!(verify["apps"].as_array().unwrap().iter().all(|app| app["verdict"] == "intact"), "{verify:#}");
    let plan = json(&PLAN);
    has_fields(&plan, &["id", "apps", "steps", "blockers", "warnings", "space"]);
    assert_eq!(plan["id"], json(&PLAN)["id"], "the same twice");
    assert_eq!(json(&["status", "--onto", "box"])["state"], "none");
    let id = plan["id"].as_str().unwrap();
    let restore = [["restore"].as_slice(), &PLAN[1..], &["--consent", id]].concat();
    assert_eq!(json(&restore)["state"], "waiting-for-boot");
    assert_eq!(json(&["status", "--onto", "box"])["state"], "waiting-for-boot");
    let finish = json(&["finish", "--onto", "box"]);
    has_fields(&finish, &["state", "next_boot"]);
    assert_eq!(json(&["undo", "--onto", "box"])["state"], "rolled-back");
    let survey = json(&["survey", "--root", "box", "--root", "drive"]);
    has_fields(&survey, &["installations", "locations", "disks", "findings"]);
    let failure = json(&["status", "--onto", "drive"]);
    has_fields(&failure["failure"], &["ending", "sentence", "state", "advice"]);
}

const GUIDE: [&str; 7] = ["guide", "--language", "en", "--root", "box", "--root", "drive"];

#[test]
fn a_guide_that_cannot_finish_the_job_says_so_before_it_asks_for_consent() {
    if !can_run() {
        return;
    }
    let folder = folder();
    let Some(_) = sample_in(folder.path()) else { return };
    if Command::new("ldd").arg(LIFEBOAT).output().is_ok_and(|output| !output.status.success()) {
        eprintln!("SKIPPED: the program under test is static, so it can finish the job");
        return;
    }
    let run =
        run_in(folder.path(), LIFEBOAT.as_ref(), &[&GUIDE[..], &["--plain"]].concat(), "1\n1\n1\n1\nfreedombox\n");
    assert_eq!(run.code, 17, "{run:?}");
    assert!(run.out.contains("no Lifeboat program for amd64 boxes here"), "{}", run.out);
    assert!(!run.out.contains("[consent]"), "{}", run.out);
    assert!(!folder.path().join("box/var/lib/lifeboat").exists());
    no_line_is_too_wide(&run.said());
}

#[test]
fn the_guide_walks_in_plain_lines_through_a_whole_rescue() {
    if !can_run() {
        return;
    }
    let folder = folder();
    let Some(sample) = sample_in(folder.path()) else { return };
    let program = program_on_medium(folder.path());
    let args = [&GUIDE[..], &["--plain"]].concat();
    // A wrong number, a wrong word and a wrong name on the way; only the right name starts.
    let input = "0\n1\n1\nx\n1\n1\n\n\nno\nfreedombox\n";
    let run = run_in(folder.path(), &program, &args, input);
    assert_eq!(run.code, 0, "{run:?}");
    no_line_is_too_wide(&run.said());
    let (right, lines) = sample.check(&folder.path().join("box"));
    assert!(right, "{lines}");
    // The earlier restore comes first now, and can be undone from here.
    let again = run_in(folder.path(), &program, &args, "1\n2\n");
    no_line_is_too_wide(&again.said());
    assert!(again.out.contains("[earlier-restore]"), "{again:?}");
    let all = transcript(folder.path(), &args, &run) + "\n" + &transcript(folder.path(), &args, &again);
    assert_data_eq!(all, snapbox::file!["transcripts/guide.txt"].raw());
    // Stopping at any question changes nothing.
    let before = common::rescue::tree(&folder.path().join("box"));
    for answers in 0..5 {
        let stopped = run_in(folder.path(), &program, &args, &("1\n".repeat(answers) + "q\n"));
        assert_eq!(stopped.code, 130, "{stopped:?}");
        assert!(stopped.out.ends_with("Stopped. Nothing has been changed.\n"), "{stopped:?}");
        common::rescue::assert_same(&before, &common::rescue::tree(&folder.path().join("box")), "stopping");
    }
}

/// The lines of an answer file for the sample in `folder`.
fn answers(folder: &Path) -> Vec<(&'static str, String)> {
    let at = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    vec![
        ("choose-box", at("box")),
        ("choose-backup", at("drive/backup.tar.gz")),
        ("choose-archive", "newest".to_owned()),
        ("choose-apps", "some".to_owned()),
        ("app-names", "tiddlywiki radicale".to_owned()),
        ("consent", "freedombox".to_owned()),
    ]
}

fn write_answers(folder: &Path, answers: &[(&str, String)]) {
    let lines = answers.iter().map(|(id, answer)| format!("{id} = \"{answer}\"\n"));
    std::fs::write(folder.join("answers.toml"), lines.collect::<String>()).unwrap();
}

const ANSWERED: [&str; 8] = ["guide", "--root", "box", "--root", "drive", "--plain", "--answers", "answers.toml"];

#[test]
fn an_answer_file_carries_a_rescue_out_and_asks_nobody() {
    if !can_run() {
        return;
    }
    let folder = folder();
    let Some(_) = sample_in(folder.path()) else { return };
    let program = program_on_medium(folder.path());
    write_answers(folder.path(), &answers(folder.path()));
    let run = run_in(folder.path(), &program, &ANSWERED, "");
    assert_eq!(run.code, 0, "{run:?}");
    no_line_is_too_wide(&run.said());
    assert!(run.out.replace("\n  ", " ").contains("Finished: radicale, tiddlywiki."), "{}", run.out);
    // The earlier restore is there now, and the file does not say what to do about it.
    let again = run_in(folder.path(), &program, &ANSWERED, "");
    assert_eq!(again.code, 21, "{again:?}");
    let said = again.err.replace("\n  ", " ");
    assert!(said.contains("'earlier-restore': it has no such line; it can be leave; undo; commit"), "{said}");
    let undo = [answers(folder.path()), vec![("earlier-restore", "undo".to_owned())]].concat();
    write_answers(folder.path(), &undo);
    assert_eq!(run_in(folder.path(), &program, &ANSWERED, "").code, 0);
    let all = transcript(folder.path(), &ANSWERED, &run) + "\n" + &transcript(folder.path(), &ANSWERED, &again);
    assert_data_eq!(all, snapbox::file!["transcripts/answers.txt"].raw());
}

#[test]
fn a_missing_or_wrong_answer_stops_before_anything_is_written() {
    if !can_run() {
        return;
    }
    let folder = folder();
    let Some(_) = sample_in(folder.path()) else { return };
    let program = program_on_medium(folder.path());
    let all = answers(folder.path());
    let before = common::rescue::tree(&folder.path().join("box"));
    let mut files: Vec<(Vec<(&str, String)>, i32)> = Vec::new();
    for left_out in &all {
        files.push((all.iter().filter(|answer| answer.0 != left_out.0).cloned().collect(), 21));
        let wrong = |answer: &(&'static str, String)| {
            (answer.0, if answer.0 == left_out.0 { "wrong".to_owned() } else { answer.1.clone() })
        };
        files.push((all.iter().map(wrong).collect(), 21));
    }
    files.push(([all.as_slice(), &[("choose-bx", "x".to_owned())]].concat(), 2));
    files.push((Vec::new(), 21));
    for (answers, code) in files {
        write_answers(folder.path(), &answers);
        // What comes through the keyboard is no answer.
        let run = run_in(folder.path(), &program, &ANSWERED, "1\n1\n1\n1\nfreedombox\n");
        assert_eq!(run.code, code, "{answers:?}: {run:?}");
        assert!(run.err.contains("State of your data: nothing on the box was changed."), "{run:?}");
        no_line_is_too_wide(&run.said());
        common::rescue::assert_same(&before, &common::rescue::tree(&folder.path().join("box")), "an answer file");
    }
    std::fs::remove_file(folder.path().join("answers.toml")).unwrap();
    assert_eq!(run_in(folder.path(), &program, &ANSWERED, "").code, 2);
}
