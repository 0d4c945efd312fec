//! Another process, with all rights on the box, changes directories while a restore writes: nothing is written outside,
//! and success is only said where the new data is there.
//!
//! `LIFEBOAT_RACES=N` runs N restores.

#![allow(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used, reason = "this is test code")]

mod common;

use common::boxes::*;
use common::cases::number;
use common::ends::Ends;
use lifeboat::sys::dir::Dir;
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
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
            let (new, now) = (without_times(&ends.new_live), without_times(&live(&fresh)));
            assert_eq!(difference(&new, &now), "", "round {round} was called a success");
        }
        *codes.entry(run.code.unwrap_or_default()).or_insert(0) += 1;
        assert_eq!(difference(&before, &take(&outside, &|_| true)), "", "round {round}");
    }
    println!("{many} restores while {swaps} directories were swapped for links; exit codes and how often: {codes:?}");
    assert!(swaps > 0);
}

/// Without the times of directories: who swaps what is in one sets its time, before or after Lifeboat did.
fn without_times(seen: &Snapshot) -> Snapshot {
    let shown = |line: &String| if line.starts_with("directory") { timeless(line).to_owned() } else { line.clone() };
    seen.iter().map(|(path, line)| (path.clone(), shown(line))).collect()
}

/// Puts a link in the place of every third directory of the staging area for a moment; how many. Each goes back to where
/// it was taken from, also when that was made live meanwhile: what is found afterwards is Lifeboat's work.
fn swap_some(root: &Path, outside: &Path) -> usize {
    let aside = Dir::open(&root.join("var/lib")).unwrap();
    let mut swaps = 0;
    let found = walkdir::WalkDir::new(root.join("var/lib/lifeboat")).min_depth(1).into_iter().flatten();
    for place in found.filter(|found| found.file_type().is_dir()).step_by(3) {
        let Ok(parent) = Dir::open(place.path().parent().unwrap()) else { continue };
        let name = place.file_name().as_bytes();
        if parent.move_to(name, &aside, b"aside").is_ok() {
            swaps += usize::from(parent.make_symlink(name, outside.as_os_str().as_bytes()).is_ok());
            std::thread::sleep(Duration::from_micros(100));
            let _ = parent.remove_file(name);
            let _ = aside.move_to(b"aside", &parent, name);
        }
    }
    swaps
}
