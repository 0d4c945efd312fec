//! Another process, with all rights on the box, changes directories while a restore writes: nothing is written outside,
//! and success is only said where the new data is there.
//!
//! `LIFEBOAT_RACES=N` runs N restores.

#![allow(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used, reason = "this is test code")]

mod common;

use common::boxes::*;
use common::cases::number;
use common::ends::Ends;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[test]
fn directories_that_are_swapped_for_links_during_a_restore_lead_nowhere() {
    if cannot_run() {
        return;
    }
    let many = number("LIFEBOAT_RACES", 20);
    let ends = Ends::new();
    let outside = ends.scene.dir.path().join("outside");
    // Names that a writer would look for below a directory of the staging area.
    for name in ["", "restores", "stage", "0", "1", "2", "collections", "deep", "radicale", "data", "parked"] {
        put(&outside, Path::new(name).join("canary"), "nobody writes here\n");
    }
    let before = take(&outside, &|_| true);
    let (mut swaps, mut codes) = (0, BTreeMap::new());
    for round in 0..many {
        let fresh = ends.scene.fresh();
        let stop = AtomicBool::new(false);
        let run = std::thread::scope(|scope| {
            let swapper = scope.spawn(|| {
                let mut swaps = 0;
                while !stop.load(Ordering::Relaxed) {
                    swaps += swap_some(&fresh, &outside);
                }
                swaps
            });
            let run = ends.scene.restore(&fresh, None);
            stop.store(true, Ordering::Relaxed);
            swaps += swapper.join().unwrap();
            run
        });
        assert!(![None, Some(101)].contains(&run.code), "{run:?}");
        if run.code == Some(0) {
            assert_eq!(difference(&ends.new_live, &live(&fresh)), "", "round {round} was called a success");
        }
        *codes.entry(run.code.unwrap_or_default()).or_insert(0) += 1;
        assert_eq!(difference(&before, &take(&outside, &|_| true)), "", "round {round}");
    }
    println!("{many} restores while {swaps} directories were swapped for links; exit codes and how often: {codes:?}");
    assert!(swaps > 0);
}

/// Puts a link in the place of every third directory of the staging area for a moment; how many.
fn swap_some(root: &Path, outside: &Path) -> usize {
    let area = root.join("var/lib/lifeboat");
    let aside = root.join("var/lib/aside");
    let mut swaps = 0;
    let found = walkdir::WalkDir::new(&area).min_depth(1).into_iter().flatten();
    for place in found.filter(|found| found.file_type().is_dir()).step_by(3) {
        let place = place.path();
        if fs::rename(place, &aside).is_ok() {
            swaps += usize::from(std::os::unix::fs::symlink(outside, place).is_ok());
            std::thread::sleep(Duration::from_micros(100));
            let _ = fs::remove_file(place);
            let _ = fs::rename(&aside, place);
        }
    }
    swaps
}
