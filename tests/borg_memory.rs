//! How much memory reading a borg repository takes; alone in its process, so that nothing else counts.
#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::print_stdout, reason = "this is test code")]

mod common;

use common::repositories::{Repository, borgs, write};
use lifeboat::model::entry::Entry;
use lifeboat::model::progress::Silent;
use lifeboat::source::{self, VisitError, Visitor, for_each_piece};
use lifeboat::verify::{NoObserver, Scope, verify};
use sha2::{Digest, Sha256};
use std::io::{BufRead, BufWriter, Write};
use std::path::Path;

/// Objects that the index names besides those that exist.
const OBJECTS: u32 = 1_000_000;
/// What each thread may hold: an object as it is stored, unpacked, and what waits for the visitor.
const MIB_PER_THREAD: u64 = 20;
/// 24 bytes for each object, and an eighth more while it is read.
const MIB_OF_INDEX: u64 = 28;

/// The largest resident size that the process ever had, in KiB.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Reads everything and counts it.
struct Count(u64);

impl Visitor for Count {
    fn visit(&mut self, _: &Entry, content: &mut dyn BufRead) -> Result<(), VisitError> {
        for_each_piece(content, VisitError::Content, |piece| {
            self.0 += piece.len() as u64;
            Ok(())
        })
    }
}

/// Lets the peak begin anew, where the kernel does that.
fn forget_peak() -> Option<u64> {
    std::fs::write("/proc/self/clear_refs", "5").ok()?;
    peak()
}

/// Makes the index of a repository as long as that of a large one. In small steps: memory that was freed must not hide
/// what reading takes.
fn lengthen_index(repository: &Path) {
    let files = std::fs::read_dir(repository).unwrap().map(|entry| entry.unwrap().path());
    let is_index = |path: &std::path::PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("index.");
    let path = files.into_iter().find(is_index).unwrap();
    let raw = std::fs::read(&path).unwrap();
    // Buckets that are empty or deleted have a segment that no repository reaches.
    let used: Vec<&[u8]> = raw[18..].chunks(40).filter(|bucket| bucket[35] != 0xff).collect();
    let count = used.len() as u32 + OBJECTS;
    let mut file = BufWriter::new(std::fs::File::create(&path).unwrap());
    file.write_all(&[&raw[..8], &count.to_le_bytes(), &count.to_le_bytes(), &raw[16..18]].concat()).unwrap();
    used.iter().for_each(|bucket| file.write_all(bucket).unwrap());
    for n in 0..OBJECTS {
        file.write_all(&Sha256::digest(n.to_le_bytes())).unwrap();
        file.write_all(&[0, 0, 0, 0, 8, 0, 0, 0]).unwrap();
    }
    file.flush().unwrap();
}

/// A file that does not shrink.
fn write_noise(path: &Path, seed: u64, pieces: usize) {
    write(path, b"");
    let mut file = std::fs::File::create(path).unwrap();
    let mut state = seed;
    for _ in 0..pieces {
        let words = (0..8192).flat_map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state ^ state >> 33).to_le_bytes()
        });
        file.write_all(&words.collect::<Vec<u8>>()).unwrap();
    }
}

/// Whether this process gives memory back as the static program does. If not, one that does runs the test: the C library
/// of tests learns from every long buffer to keep more of them, which says nothing about the program.
fn is_like_the_program(test: &str) -> bool {
    const TUNING: (&str, &str) =
        ("GLIBC_TUNABLES", "glibc.malloc.mmap_threshold=131072:glibc.malloc.trim_threshold=131072");
    if std::env::var(TUNING.0).is_ok_and(|set| set == TUNING.1) {
        return true;
    }
    let mut again = std::process::Command::new(std::env::current_exe().unwrap());
    let output = again.args(["--exact", test, "--nocapture"]).env(TUNING.0, TUNING.1).output().unwrap();
    print!("{}", String::from_utf8_lossy(&output.stdout));
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "the test failed in a process of its own");
    false
}

#[test]
fn memory_is_bounded_by_threads_and_by_the_number_of_objects() {
    if !is_like_the_program("memory_is_bounded_by_threads_and_by_the_number_of_objects") {
        return;
    }
    let Some(borg) = borgs().pop() else { return };
    let tree = tempfile::tempdir().unwrap();
    for n in 0..12 {
        write_noise(&tree.path().join(format!("large/{n}")), n + 1, 200);
    }
    let mut text = std::fs::File::create(tree.path().join("large/text")).unwrap();
    for n in 0..1000 {
        text.write_all(&format!("line {n} of text that shrinks well\n").repeat(1000).into_bytes()).unwrap();
    }
    for n in 0..5000 {
        write(&tree.path().join(format!("many/{n}")), format!("{n}").as_bytes());
    }
    let repository = Repository::new(&borg, "repokey", "p");
    repository.create("a", "lz4", tree.path());
    lengthen_index(&repository.path());

    let Some(before) = forget_peak() else {
        eprintln!("SKIPPED: the kernel does not tell the peak of memory or let it begin anew");
        return;
    };
    let mut archive = source::open_location(&repository.path(), None, &mut repository.keys()).unwrap();
    let opened = peak().unwrap() - before;
    let roots = ["large".parse().unwrap(), "many".parse().unwrap()];
    let scope = Scope { roots: &roots, apps: None, dumps: &[], skip: &|_| false };
    let verified = verify(archive.as_mut(), &scope, &mut NoObserver, &Silent).unwrap();
    assert_eq!(verified.contents.root(&roots[1]).unwrap().files, 5000);
    let checked = peak().unwrap() - before;
    let mut count = Count(0);
    archive.read(&mut count, &Silent).unwrap();
    assert_eq!(Some(count.0), archive.size().map(|size| size.0));
    let read = peak().unwrap() - before;
    println!("peak grew by {opened} KiB while opening, {checked} until verified, {read} until read");
    let threads = std::thread::available_parallelism().map_or(2, |count| count.get()).clamp(2, 16) as u64;
    assert!(opened < MIB_OF_INDEX << 10, "{opened} KiB");
    assert!(read < (MIB_OF_INDEX + MIB_PER_THREAD * threads) << 10, "{read} KiB");
}
