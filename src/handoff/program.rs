//! The Lifeboat program for a box's architecture, which may be another than the one running.

use crate::formats::elf;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Where a rescue medium keeps the program of every architecture: `<here>/<architecture>/lifeboat`.
const SHARED: &str = "/usr/share/lifeboat";

/// A program that runs on boxes of `architecture` without any library: the running one, or one that the medium
/// carries; `None` when there is none.
pub fn find(architecture: &str) -> Option<PathBuf> {
    let running = std::env::current_exe().ok();
    let beside = running.as_deref().and_then(Path::parent).map(|dir| dir.join("../share/lifeboat"));
    let carried = beside.into_iter().chain([PathBuf::from(SHARED)]).map(|dir| dir.join(architecture).join("lifeboat"));
    running.clone().into_iter().chain(carried).find(|path| fits(path, architecture))
}

fn fits(path: &Path, architecture: &str) -> bool {
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(4096).read_to_end(&mut head));
    read.is_ok() && elf::parse(&head).is_some_and(|elf| elf.architecture == architecture && elf.is_static)
}

/// Opens a program for copying.
pub fn open(path: &Path) -> io::Result<File> {
    File::open(path)
}
