//! The Lifeboat program for a box's architecture, which may be another than the one running.
//!
//! A live system carries the programs of the other architectures as Zstandard files with a checksum (RFC 8878): it lies in
//! memory, and they are seldom needed.

use crate::formats::elf;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Where a rescue medium keeps the program of every architecture: `<here>/<architecture>/lifeboat` or `lifeboat.zst`.
const SHARED: &str = "/usr/share/lifeboat";

/// A program that runs on boxes of `architecture` without any library: the running one, or one that the medium
/// carries; `None` when there is none.
pub fn find(architecture: &str) -> Option<PathBuf> {
    let running = std::env::current_exe().ok();
    let beside = running.as_deref().and_then(Path::parent).map(|dir| dir.join("../share/lifeboat"));
    let folders = beside.into_iter().chain([PathBuf::from(SHARED)]).map(|dir| dir.join(architecture));
    let carried = folders.flat_map(|dir| [dir.join("lifeboat"), dir.join("lifeboat.zst")]);
    running.clone().into_iter().chain(carried).find(|path| fits(path, architecture))
}

fn fits(path: &Path, architecture: &str) -> bool {
    let mut head = Vec::new();
    let read = open(path).and_then(|program| program.take(4096).read_to_end(&mut head));
    read.is_ok() && elf::parse(&head).is_some_and(|elf| elf.architecture == architecture && elf.is_static)
}

/// Opens a program for copying; a packed one gives its content. A packed one that is cut off or damaged is an error while
/// it is read.
pub fn open(path: &Path) -> io::Result<Box<dyn Read>> {
    let file = File::open(path)?;
    match path.extension() {
        Some(extension) if extension == "zst" => Ok(Box::new(zstd::Decoder::new(file)?)),
        _ => Ok(Box::new(file)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(data: &[u8]) -> Vec<u8> {
        let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
        encoder.include_checksum(true).unwrap();
        io::Write::write_all(&mut encoder, data).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_packed_program_is_recognised_and_gives_its_content() {
        let dir = tempfile::tempdir().unwrap();
        // A static program: an ELF header for 32-bit ARM without program headers.
        let mut program = vec![0u8; 6000];
        program[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', 1, 1]);
        program[18] = 40;
        let path = dir.path().join("lifeboat.zst");
        std::fs::write(&path, packed(&program)).unwrap();
        assert!(fits(&path, "armhf"));
        assert!(!fits(&path, "amd64"));
        let mut content = Vec::new();
        open(&path).unwrap().read_to_end(&mut content).unwrap();
        assert_eq!(content, program);
    }

    #[test]
    fn a_packed_program_that_is_cut_off_or_damaged_is_never_copied_as_if_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lifeboat.zst");
        let program: Vec<u8> = (0..200_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let whole = packed(&program);
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        for bad in [&whole[..whole.len() - 1], &whole[..whole.len() / 2], &flipped] {
            std::fs::write(&path, bad).unwrap();
            assert!(open(&path).unwrap().read_to_end(&mut Vec::new()).is_err());
        }
    }
}
