//! The power goes at any moment, and the disk keeps what it likes of all that was not flushed: the box has its old data
//! or its new data in reach, says truthfully which, and what was reported as done is on the medium.
//!
//! Real filesystems of the kernel on a disk that remembers every write and flush (`common/recorder.rs`).
//! A thousand cuts; `LIFEBOAT_CUTS=N` plays N for each filesystem, `LIFEBOAT_SEED` plays others; both are printed.

#![allow(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used, reason = "this is test code")]

mod common;

use common::boxes::*;
use common::cases::number;
use common::disks::{self, Kernel};
use common::ends::Ends;
use common::recorder::{Medium, Recorder, cannot_record};
use common::rescue::Numbers;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// A filesystem and how it is made.
struct Kind {
    name: &'static str,
    make: &'static str,
    mib: u64,
    /// What its disk writes whole: btrfs asks that of its superblock, which is as long as a sector of today's disks.
    sector: usize,
    /// What its superblock, torn between two sectors, asks for: the program that mends the filesystem before it is used.
    mend: Option<&'static str>,
    /// How many copies of it the kernel mounts at once: btrfs knows a filesystem by its UUID, and has each one once.
    copies: usize,
}

const EXT4: Kind = Kind {
    name: "ext4",
    make: "mkfs.ext4 -q -E lazy_itable_init=0,lazy_journal_init=0",
    mib: 48,
    sector: 512,
    mend: Some("e2fsck -fy"),
    copies: 8,
};
const BTRFS: Kind = Kind { name: "btrfs", make: "mkfs.btrfs -q", mib: 128, sector: 4096, mend: None, copies: 1 };

/// Mounts what the power cut left, as the kernel does at a boot, after the mending that its own tool does where needed.
fn mount(kind: &Kind, image: &Path, mended: &AtomicUsize) -> Result<Kernel, String> {
    let Some(mend) = kind.mend else { return Kernel::try_mount(image, "loop,noatime") };
    Kernel::try_mount(image, "loop,noatime").or_else(|_| {
        // 1 says that all was mended (e2fsck(8), EXIT CODE).
        disks::sh(&format!("{mend} '{}' > /dev/null || [ $? = 1 ]", image.display()));
        mended.fetch_add(1, Ordering::Relaxed);
        Kernel::try_mount(image, "loop,noatime")
    })
}

/// One disk after a power cut: Lifeboat says what it finds and brings it to either end.
fn check(ends: &Ends, mounted: &Kernel, is_reported_done: bool, nth: usize) -> Result<(), String> {
    let state = ends.check_status(mounted.path())?;
    if is_reported_done && (state != "waiting-for-boot" || ends.really(mounted.path()) != "new-data-active") {
        return Err(format!("the restore had ended with success, but the disk says {state}"));
    }
    if nth.is_multiple_of(2) {
        return ends.resume_to_new(mounted.path()).map_err(|error| format!("resume: {error}"));
    }
    let run = ends.scene.on("undo", mounted.path(), None);
    match run.code {
        Some(0) => ends.is_undone_but_for_directories(mounted.path()),
        Some(2) if run.stderr.contains("no restore was started") => ends.is_old(mounted.path()),
        _ => Err(format!("ended with {:?}: {}", run.code, run.stderr)),
    }
    .map_err(|error| format!("undo: {error}"))
}

fn cuts_of(kind: &Kind, many: usize) {
    if let Some(why) = cannot_record(&[kind.make.split(' ').next().unwrap(), "losetup"]) {
        eprintln!("SKIPPED: {why}");
        return;
    }
    let begun = Instant::now();
    let folder = scratch();
    let (image, base) = (disks::blank(&folder.path().join("disk"), kind.mib), folder.path().join("base"));
    disks::sh(&format!("{} {}", kind.make, image.display()));
    let mut scene = Scene::new();
    let disk = Recorder::new(&image);
    let mounted = Kernel::mount(&disk.device, "noatime");
    disks::sh(&format!("cp -a '{}'/. '{}'; sync -f '{1}'", scene.original().display(), mounted.path().display()));
    scene.plan = scene.plan_for(mounted.path());
    disks::sh(&format!(
        "sync -f '{}'; cp --sparse=always '{}' '{}'",
        mounted.path().display(),
        image.display(),
        base.display()
    ));
    disk.begin();
    let mut done = 0;
    let ends = Ends::of(scene, mounted.path(), || done = disk.position());
    let log = disk.take();
    drop(mounted);
    drop(disk);
    let (many, seed) = (number("LIFEBOAT_CUTS", many), number("LIFEBOAT_SEED", 1));
    let mut numbers = Numbers(seed as u64);
    let mut positions: Vec<usize> = (0..many).map(|_| numbers.below(log.len() + 1)).collect();
    positions.sort_unstable();
    let (wrong, mended) = (Mutex::new(Vec::new()), AtomicUsize::new(0));
    let workers = std::thread::available_parallelism().map_or(2, usize::from).min(kind.copies);
    std::thread::scope(|scope| {
        for (worker, positions) in positions.chunks(many.div_ceil(workers).max(1)).enumerate() {
            let (ends, log, base, folder, wrong, mended) = (&ends, &log, &base, folder.path(), &wrong, &mended);
            let mut numbers = Numbers((seed * 1000 + worker) as u64);
            scope.spawn(move || {
                let mut medium = Medium::new(base, log, kind.sector, folder, &worker.to_string());
                for (nth, position) in positions.iter().enumerate() {
                    let cut: PathBuf = folder.join(format!("cut-{worker}-{nth}"));
                    medium.cut(*position, &mut numbers, &cut);
                    let outcome =
                        mount(kind, &cut, mended).and_then(|mounted| check(ends, &mounted, *position >= done, nth));
                    if let Err(error) = outcome {
                        wrong.lock().unwrap().push(format!("after {position} of {} acts: {error}", log.len()));
                    }
                    std::fs::remove_file(&cut).unwrap();
                }
            });
        }
    });
    let flushes = log.iter().filter(|act| matches!(act, common::recorder::Act::Flush)).count();
    println!(
        "{}: {many} power cuts (seed {seed}) among {} writes and {flushes} flushes, {done} acts until success; {} times \
         the superblock was torn; in {:.0} s",
        kind.name,
        log.len() - flushes,
        mended.load(Ordering::Relaxed),
        begun.elapsed().as_secs_f32()
    );
    let wrong = wrong.into_inner().unwrap();
    for line in wrong.iter().take(12) {
        println!(" - {line}");
    }
    assert!(flushes > 20 && done > flushes, "the disk saw nothing of the restore");
    assert!(wrong.is_empty(), "{} of {many} cuts went wrong", wrong.len());
}

#[test]
fn whatever_a_disk_with_ext4_kept_of_a_power_cut_the_box_has_old_or_new_data() {
    cuts_of(&EXT4, 650);
}

#[test]
fn whatever_a_disk_with_btrfs_kept_of_a_power_cut_the_box_has_old_or_new_data() {
    cuts_of(&BTRFS, 350);
}
