//! How much memory reading takes; alone in its process, so that nothing else counts.
#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::print_stdout, reason = "this is test code")]

mod common;

use common::archives::{Header, RawTar};
use lifeboat::model::progress::Silent;
use lifeboat::source;
use lifeboat::verify::{NoObserver, Scope, verify};
use std::io::Write;

/// The largest resident size that the process ever had, in KiB.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[test]
fn verifying_a_large_archive_takes_a_bounded_amount_of_memory() {
    const SIZE: u64 = 256 << 20;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.tar.gz");
    let file = std::fs::File::create(&path).unwrap();
    let mut packer = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    packer.write_all(&RawTar::new().raw(&Header::new(b'0', "zeros").size(SIZE), b"").bytes).unwrap();
    (0..SIZE >> 16).for_each(|_| packer.write_all(&[0; 1 << 16]).unwrap());
    for n in 0..20_000 {
        packer.write_all(&RawTar::new().file(format!("many/{n}"), b"x").bytes).unwrap();
    }
    packer.write_all(&[0; 1024]).unwrap();
    packer.finish().unwrap();

    let Some(before) = peak() else {
        eprintln!("SKIPPED: the kernel does not tell the peak of memory");
        return;
    };
    let roots = ["zeros".parse().unwrap(), "many".parse().unwrap()];
    let scope = Scope { roots: &roots, apps: None, dumps: &[], skip: &|_| false };
    let verified = verify(&mut *source::open(&path).unwrap(), &scope, &mut NoObserver, &Silent).unwrap();
    assert_eq!(verified.contents.roots[1].bytes.0, SIZE);
    assert_eq!(verified.contents.roots[0].files, 20_000);
    let grown = peak().unwrap() - before;
    println!("peak grew by {grown} KiB");
    assert!(grown < 16 << 10, "{grown} KiB");
}
