//! The power is cut at every point.

use super::*;
use common::cases::{report, sample};

/// The power is cut during `command`, at that point.
pub(super) fn cut(case: &Case, command: &str, name: &str, hit: u64) -> Result<(), String> {
    let run = case.run(&[command], Some(&format!("{name}:{hit}:kill")));
    match run.code {
        None => Ok(()),
        Some(code) => Err(format!("{name}:{hit}: was not killed but ended with {code}: {}", run.stderr)),
    }
}

#[test]
fn power_cut_at_any_point_of_the_work_is_gone_on_from_and_undone() {
    if cannot_run() {
        return;
    }
    let (begun, scene) = (Instant::now(), scene());
    let whole = Case::new(&scene);
    let fresh = live_of(&whole);
    let points = scene.points(|trace| whole.traced(&["finish"], None, Some(trace)));
    whole.is_finished().unwrap();
    let done = live_of(&whole);
    assert_ne!(fresh, done);
    ok(&whole.run(&["undo"], None));
    let undone = live_of(&whole);
    assert!(points.len() > 60, "{} points", points.len());
    let cases = sample(&points, 5);
    let wrong = in_parallel(&cases, |(name, hit)| {
        let case = Case::new(&scene);
        let about = |what: String| Err(format!("{name}:{hit}: {what}"));
        cut(&case, "finish", name, *hit)?;
        // systemd's ExecStopPost, or the next boot.
        case.machine(&json!({"up": true}));
        let mut last = None;
        for _ in 0..3 {
            let run = case.finish();
            last = run.code;
            if last == Some(0) {
                break;
            }
        }
        if last != Some(0) {
            return about(format!("ends with {last:?}: {}", case.run(&["status"], None).json));
        }
        if let Err(what) = case.is_finished() {
            return about(what);
        }
        if live_of(&case) != done {
            return about(format!("another result:{}", difference(&done, &live_of(&case))));
        }
        let undo = case.run(&["undo"], None);
        if undo.code != Some(0) || live_of(&case) != undone {
            return about(format!("undo: {:?} {}{}", undo.code, undo.stderr, difference(&undone, &live_of(&case))));
        }
        Ok(())
    });
    report("kill during finish, then finish and undo", begun, cases.len(), points.len(), &wrong);
}

#[test]
fn power_cut_at_any_point_of_undoing_on_the_running_box_ends_in_old_data() {
    if cannot_run() {
        return;
    }
    let (begun, scene) = (Instant::now(), scene());
    let prepared = || {
        let case = Case::new(&scene);
        ok(&case.finish());
        case
    };
    let whole = prepared();
    let points = scene.points(|trace| whole.traced(&["undo"], None, Some(trace)));
    let undone = live_of(&whole);
    let cases = sample(&points, 13);
    let wrong = in_parallel(&cases, |(name, hit)| {
        let case = prepared();
        let about = |what: String| Err(format!("{name}:{hit}: {what}"));
        cut(&case, "undo", name, *hit)?;
        // The box goes on by itself with what was begun; what was not begun, somebody asks for again.
        if hit % 2 == 1 {
            case.machine(&json!({"up": true}));
            case.run(&["finish", "--scheduled"], None);
        }
        let again = case.run(&["undo"], None);
        let over = again.code == Some(0) || again.stderr.contains("was undone already");
        if !over || live_of(&case) != undone {
            return about(format!("{:?} {}{}", again.code, again.stderr, difference(&undone, &live_of(&case))));
        }
        Ok(())
    });
    report("kill during undo, then undo", begun, cases.len(), points.len(), &wrong);
}

/// What btrfs may show after the power was cut in the middle of a move: one file at both of its names.
#[test]
fn half_of_a_move_on_the_running_box_is_gone_on_from_and_undone() {
    if cannot_run() {
        return;
    }
    let scene = scene();
    let live = "etc/miniflux/freedombox.conf";
    let parked = format!("var/lib/lifeboat/parked/miniflux/{live}");
    let mut seen = [0, 0];
    for nth in 1..6 {
        let fault = format!("move.after:{nth}:kill");
        for then in ["finish", "undo"] {
            let case = Case::new(&scene);
            let (live, parked) = (case.root().join(live), case.root().join(&parked));
            if case.run(&["finish"], Some(&fault)).code.is_some() || !live.exists() || parked.exists() || seen[0] == 2 {
                continue;
            }
            seen[0] += 1;
            fs::hard_link(&live, &parked).unwrap();
            case.machine(&json!({"up": true}));
            if then == "finish" {
                ok(&case.finish());
                case.is_finished().unwrap();
                assert!(live.exists() && !parked.exists(), "half of the move was kept");
            }
            ok(&case.run(&["undo"], None));
            assert!(!live.exists(), "the restored file stayed after undoing");
        }
        let case = Case::new(&scene);
        ok(&case.finish());
        let (live, parked) = (case.root().join(live), case.root().join(&parked));
        if seen[1] == 0 && case.run(&["undo"], Some(&fault)).code.is_none() && !live.exists() && parked.exists() {
            seen[1] += 1;
            fs::hard_link(&parked, &live).unwrap();
            ok(&case.run(&["undo"], None));
            assert!(!live.exists(), "the restored file stayed after undoing");
        }
    }
    assert_eq!(seen, [2, 1], "no power cut was in the middle of it");
}

/// Who owns what is written down while it is staged. What an earlier run staged is not read from the backup again.
#[test]
fn power_cut_while_data_is_read_back_forgets_no_owner() {
    if cannot_run() {
        return;
    }
    let scene = scene();
    let whole = Case::new(&scene);
    let staged = |case: &Case| {
        let journal = case.root().join(format!("var/lib/lifeboat/restores/{}/journal", scene.plan));
        fs::read_to_string(journal).map_or(0, |text| text.matches("\"record\":\"staged\"").count())
    };
    let all = staged(&whole);
    assert!(all > 2, "{all} steps");
    let cut = (1..).find_map(|nth| {
        let case = Case::of(&scene);
        assert_eq!(scene.restore(&case.root(), Some(&format!("journal.after:{nth}:kill"))).code, None);
        (staged(&case) == all - 1).then_some(case)
    });
    let case = cut.unwrap();
    ok(&scene.restore(&case.root(), None));
    ok(&case.finish());
    case.is_finished().unwrap();
    ok(&whole.finish());
    assert_eq!(difference(&live_of(&whole), &live_of(&case)), "");
}
