//! The power is cut, a write fails or the disk is full at every fault point: the box has its old data or its new data,
//! says truthfully which, and can be brought to either.

#![allow(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used, reason = "this is test code")]

mod common;

use common::boxes::*;
use common::cases::{report, sample};
use common::ends::{Ends, FINISHES};
use std::path::Path;
use std::time::Instant;

/// What is done after the power came back: everything after every point with `LIFEBOAT_ALL=1`, else one after each.
fn each_with<P: Clone, T: Clone>(points: &[P], then: [T; 2]) -> Vec<(P, T)> {
    let [one, other] = then;
    let first = points.iter().enumerate().map(|(at, point)| {
        let turn = if at % 2 == 0 { [one.clone(), other.clone()] } else { [other.clone(), one.clone()] };
        turn.map(|then| (point.clone(), then))
    });
    sample(&first.flatten().collect::<Vec<_>>(), 2)
}

fn killed(run: &Run) -> Result<(), String> {
    match run.code {
        None => Ok(()),
        Some(code) => Err(format!("was not killed but ended with {code}: {}", run.stderr)),
    }
}

/// One case: what is done to a fresh box, and what must be so.
fn about(point: &(String, u64), what: &str, result: Result<(), String>) -> Result<(), String> {
    result.map_err(|error| format!("{}:{} {what}: {error}", point.0, point.1))
}

#[test]
fn power_cut_at_any_point_of_a_restore_leaves_old_or_new_data_in_reach() {
    if cannot_run() {
        return;
    }
    let (begun, ends) = (Instant::now(), Ends::new());
    let traced = ends.scene.fresh();
    let points = ends.scene.points(|trace| ends.scene.traced_restore(&traced, trace));
    assert!(points.len() > 150, "{} points", points.len());
    let cases = each_with(&points, FINISHES);
    let wrong = in_parallel(&cases, |(point, (what, finish))| {
        let fault = format!("{}:{}:kill", point.0, point.1);
        let fresh = ends.scene.fresh();
        let result = killed(&ends.scene.restore(&fresh, Some(&fault)))
            .and_then(|()| ends.check_status(&fresh).map(drop))
            .and_then(|()| finish(&ends, &fresh));
        about(point, what, result)
    });
    report("kill during restore, then resume or undo", begun, cases.len(), points.len() * 2, &wrong);
}

/// Brings a fresh box to a state from which something else is interrupted.
fn prepared(ends: &Ends, fault: Option<&str>) -> Fresh {
    let fresh = ends.scene.fresh();
    let run = ends.scene.restore(&fresh, fault);
    assert_eq!(run.code, fault.map_or(Some(0), |_| None), "{} {}", run.stderr, run.json);
    fresh
}

/// A point in the middle of the exchanges.
const MIDDLE: &str = "exchange.after:3:kill";

#[test]
fn power_cut_during_resume_is_resumed_or_undone() {
    if cannot_run() {
        return;
    }
    let (begun, ends) = (Instant::now(), Ends::new());
    let traced = prepared(&ends, Some(MIDDLE));
    let points = ends.scene.points(|trace| ends.scene.traced_on("resume", &traced, trace));
    let cases = each_with(&points, FINISHES);
    let wrong = in_parallel(&cases, |(point, (what, finish))| {
        let fault = format!("{}:{}:kill", point.0, point.1);
        let fresh = prepared(&ends, Some(MIDDLE));
        let result = killed(&ends.scene.on("resume", &fresh, Some(&fault)))
            .and_then(|()| ends.check_status(&fresh).map(drop))
            .and_then(|()| finish(&ends, &fresh));
        about(point, what, result)
    });
    report("kill during resume, then resume or undo", begun, cases.len(), points.len() * 2, &wrong);
}

#[test]
fn power_cut_during_undo_ends_in_old_data() {
    if cannot_run() {
        return;
    }
    let (begun, ends) = (Instant::now(), Ends::new());
    let mut cases = Vec::new();
    for start in [None, Some(MIDDLE)] {
        let traced = prepared(&ends, start);
        let points = ends.scene.points(|trace| ends.scene.traced_on("undo", &traced, trace));
        cases.extend(points.into_iter().map(|point| (start, point)));
    }
    let all = cases.len() * 2;
    let cases = each_with(&cases, ["undo", "resume"]);
    let wrong = in_parallel(&cases, |((start, point), again)| {
        let fault = format!("{}:{}:kill", point.0, point.1);
        let fresh = prepared(&ends, *start);
        let cut = killed(&ends.scene.on("undo", &fresh, Some(&fault))).and_then(|()| ends.check_status(&fresh));
        let result = match cut {
            Ok(state) if *again == "undo" || state == "rolled-back" => ends.undo_to_old(&fresh),
            // Killed before the direction was noted: still a restore.
            Ok(state) if state != "interrupted" || ends.scene.goes_forward(&fresh) => Ok(()),
            Ok(_) => match ends.scene.on("resume", &fresh, None) {
                run if run.code == Some(19) => ends.is_undone(&fresh),
                run => Err(format!("resume ended with {:?}: {}", run.code, run.stderr)),
            },
            Err(error) => Err(error),
        };
        about(point, again, result)
    });
    report("kill during undo, then undo or resume", begun, cases.len(), all, &wrong);
}

impl Scene {
    /// Whether nothing in the journal says that undoing began.
    fn goes_forward(&self, onto: &Path) -> bool {
        let journal = onto.join(format!("var/lib/lifeboat/restores/{}/journal", self.plan));
        !std::fs::read_to_string(journal).unwrap().contains("\"record\":\"undoing\"")
    }
}

#[test]
fn power_cut_during_commit_ends_in_new_data_and_is_never_undone() {
    if cannot_run() {
        return;
    }
    let (begun, ends) = (Instant::now(), Ends::new());
    let traced = prepared(&ends, None);
    let points = ends.scene.points(|trace| ends.scene.traced_on("commit", &traced, trace));
    let wrong = in_parallel(&points, |point| {
        let fault = format!("{}:{}:kill", point.0, point.1);
        let fresh = prepared(&ends, None);
        about(point, "commit", killed(&ends.scene.on("commit", &fresh, Some(&fault))))?;
        let state = ends.check_status(&fresh)?;
        if state != "waiting-for-boot" {
            let undo = ends.scene.on("undo", &fresh, None);
            let refused = undo.code == Some(2) && snapshot(&fresh) == ends.new;
            about(point, "undo", if refused { Ok(()) } else { Err(format!("{:?} {}", undo.code, undo.stderr)) })?;
        }
        if state != "committed" {
            let again = if point.1 % 2 == 0 || state != "interrupted" { "commit" } else { "resume" };
            let run = ends.scene.on(again, &fresh, None);
            about(point, again, if run.code == Some(0) { Ok(()) } else { Err(run.stderr) })?;
        }
        let after = (snapshot(&fresh), handed_over(&fresh));
        if after != (ends.new.clone(), ends.new_kept.clone()) {
            return about(point, "after", Err(format!("not the new data:{}", difference(&ends.new, &after.0))));
        }
        let stage = fresh.join(format!("var/lib/lifeboat/restores/{}/stage", ends.scene.plan));
        about(point, "after", if stage.exists() { Err("the old data is still there".into()) } else { Ok(()) })
    });
    report("kill during commit, then undo and commit", begun, points.len(), points.len(), &wrong);
}

#[test]
fn a_failing_or_full_disk_is_never_success_and_is_told_truthfully() {
    if cannot_run() {
        return;
    }
    let (begun, ends) = (Instant::now(), Ends::new());
    let traced = ends.scene.fresh();
    let mut cases = Vec::new();
    let restore = ends.scene.points(|trace| ends.scene.traced_restore(&traced, trace));
    cases.extend(restore.into_iter().map(|point| ("restore", None, point)));
    for command in ["undo", "commit"] {
        let traced = prepared(&ends, None);
        let points = ends.scene.points(|trace| ends.scene.traced_on(command, &traced, trace));
        cases.extend(points.into_iter().map(|point| (command, None, point)));
    }
    let traced = prepared(&ends, Some(MIDDLE));
    let resume = ends.scene.points(|trace| ends.scene.traced_on("resume", &traced, trace));
    cases.extend(resume.into_iter().map(|point| ("resume", Some(MIDDLE), point)));
    let actions = ["eio", "enospc", "erofs", "eintr", "short"];
    let all: Vec<_> = cases.iter().flat_map(|case| actions.map(|action| (case, action))).collect();
    let some = sample(&all, 29);
    let wrong = in_parallel(&some, |((command, start, point), action)| {
        let fault = format!("{}:{}:{action}", point.0, point.1);
        let then: &[&str] = if *command == "commit" { &["commit"] } else { &["resume", "undo"] };
        for then in then {
            let fresh = match *command {
                "restore" => ends.scene.fresh(),
                _ => prepared(&ends, *start),
            };
            let run = match *command {
                "restore" => ends.scene.restore(&fresh, Some(&fault)),
                other => ends.scene.on(other, &fresh, Some(&fault)),
            };
            let told = match run.code {
                None | Some(0 | 1) => Err(format!("ended with {:?}", run.code)),
                Some(_) => ends.agree(&fresh, run.failed_state()).and_then(|()| ends.check_status(&fresh).map(drop)),
            };
            let back = *command == "undo" && !ends.scene.goes_forward(&fresh);
            let result = told.and_then(|()| match *then {
                "resume" if back => match ends.scene.on("resume", &fresh, None).code {
                    Some(19 | 2) => ends.is_undone(&fresh),
                    other => Err(format!("resume ended with {other:?}")),
                },
                "resume" => ends.resume_to_new(&fresh),
                "undo" => ends.undo_to_old(&fresh),
                _ => {
                    let run = ends.scene.on("commit", &fresh, None);
                    let over = run.code == Some(0) || run.stderr.contains("was committed");
                    let new = snapshot(&fresh) == ends.new && handed_over(&fresh) == ends.new_kept;
                    if over && new { Ok(()) } else { Err(format!("commit: {:?} {}", run.code, run.stderr)) }
                }
            });
            about(point, &format!("{command} {action}, then {then}"), result)?;
        }
        Ok(())
    });
    report("errors during restore, undo, commit and resume", begun, some.len(), all.len(), &wrong);
}

/// The note that undoing begins has no room on a disk that staging filled. What was staged makes the room, but only as
/// long as it is that: after an exchange the old data lies in its place.
#[test]
fn undoing_on_a_full_disk_makes_room_of_what_was_staged_and_never_of_old_data() {
    if cannot_run() {
        return;
    }
    let ends = Ends::new();
    let undo = |start, fault| {
        let fresh = prepared(&ends, Some(start));
        (ends.scene.on("undo", &fresh, Some(fault)), fresh)
    };
    let (run, fresh) = undo("write.data:9:kill", "journal.data:1:enospc");
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    ends.is_undone(&fresh).unwrap();

    // What only a failing disk refuses is no lack of room.
    let (run, fresh) = undo("write.data:9:kill", "journal.data:1:eio");
    assert_ne!(run.code, Some(0), "{}", run.stderr);
    ends.undo_to_old(&fresh).unwrap();

    let (run, fresh) = undo(MIDDLE, "journal.data:1:enospc");
    assert_ne!(run.code, Some(0), "{}", run.stderr);
    ends.undo_to_old(&fresh).unwrap();
}

/// The file with this content below a directory.
fn holding(dir: &Path, content: &[u8]) -> Option<std::path::PathBuf> {
    let mut files = walkdir::WalkDir::new(dir).into_iter().filter_map(Result::ok).map(walkdir::DirEntry::into_path);
    files.find(|path| path.is_file() && std::fs::read(path).is_ok_and(|found| found == content))
}

/// What btrfs may show after the power was cut in the middle of a move: one file at both of its names. The file here is
/// one that only leaves its place, and only comes back: what SQLite kept beside the old database.
#[test]
fn half_of_a_move_is_gone_on_from_in_the_direction_that_was_begun() {
    if cannot_run() {
        return;
    }
    let ends = Ends::new();
    let (log, content) = (format!("{DATABASE}-wal"), b"old log of the database".as_slice());
    let stage = format!("var/lib/lifeboat/restores/{}/stage", ends.scene.plan);
    let mut seen = [0, 0];
    for nth in 1..20 {
        let fault = format!("exchange.after:{nth}:kill");
        for (what, finish) in FINISHES {
            let fresh = ends.scene.fresh();
            if ends.scene.restore(&fresh, Some(&fault)).code.is_none()
                && !fresh.join(&log).exists()
                && let Some(staged) = holding(&fresh.join(&stage), content)
            {
                std::fs::hard_link(staged, fresh.join(&log)).unwrap();
                // Later ones were noted as moved; only the last move can be half of one.
                if seen[0] < 2 {
                    finish(&ends, &fresh).unwrap_or_else(|error| panic!("{fault}, then {what}: {error}"));
                    seen[0] += 1;
                }
            }
        }
        let fresh = prepared(&ends, None);
        let staged = holding(&fresh.join(&stage), content).unwrap();
        if seen[1] == 0 && ends.scene.on("undo", &fresh, Some(&fault)).code.is_none() && fresh.join(&log).exists() {
            std::fs::hard_link(fresh.join(&log), staged).unwrap();
            ends.undo_to_old(&fresh).unwrap_or_else(|error| panic!("undo, {fault}, then undo: {error}"));
            seen[1] += 1;
        }
    }
    assert_eq!(seen, [2, 1], "no power cut was in the middle of it");
}
