//! The Lifeboat program for a box's architecture, which may be another than the one running.
//!
//! A live system carries the programs of the other architectures packed, because it lies in memory and they are seldom
//! needed: each as the archive of one file (newc cpio, Linux Documentation/driver-api/early-userspace/buffer-format.rst)
//! inside a Zstandard frame with a checksum (RFC 8878), which is what that architecture's own initramfs has of it.

use crate::formats::elf;
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};

/// Where a rescue medium keeps the program of every architecture: `<here>/<architecture>/lifeboat`, or packed.
const SHARED: &str = "/usr/share/lifeboat";
const PACKED: &str = "lifeboat.cpio.zst";

/// A program that runs on boxes of `architecture` without any library: the running one, or one that the medium
/// carries; `None` when there is none.
pub fn find(architecture: &str) -> Option<PathBuf> {
    let running = std::env::current_exe().ok();
    let beside = running.as_deref().and_then(Path::parent).map(|dir| dir.join("../share/lifeboat"));
    let folders = beside.into_iter().chain([PathBuf::from(SHARED)]).map(|dir| dir.join(architecture));
    let carried = folders.flat_map(|dir| [dir.join("lifeboat"), dir.join(PACKED)]);
    running.clone().into_iter().chain(carried).find(|path| fits(path, architecture))
}

fn fits(path: &Path, architecture: &str) -> bool {
    let mut head = Vec::new();
    let read = open(path).and_then(|program| program.take(4096).read_to_end(&mut head));
    read.is_ok() && elf::parse(&head).is_some_and(|elf| elf.architecture == architecture && elf.is_static)
}

/// Opens a program for copying; of a packed one, its content, after all of it was read and compared with its checksum.
pub fn open(path: &Path) -> io::Result<Box<dyn Read>> {
    let mut file = File::open(path)?;
    if path.file_name().is_none_or(|name| name != PACKED) {
        return Ok(Box::new(file));
    }
    let mut archive = Vec::new();
    zstd::Decoder::new(&mut file)?.read_to_end(&mut archive)?;
    let content = only_file(&archive).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?.to_vec();
    Ok(Box::new(Cursor::new(content)))
}

/// The content of the first file of a newc archive.
fn only_file(archive: &[u8]) -> Option<&[u8]> {
    let header = archive.get(..110).filter(|header| header.starts_with(b"070701"))?;
    let field = |at: usize| usize::from_str_radix(std::str::from_utf8(header.get(at..at + 8)?).ok()?, 16).ok();
    let start = 110usize.checked_add(field(94)?)?.checked_next_multiple_of(4)?;
    archive.get(start..start.checked_add(field(54)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(program: &[u8]) -> Vec<u8> {
        let (size, name) = (program.len(), b"usr/bin/lifeboat\0");
        let mut archive =
            format!("070701{:08X}{:08X}{:016X}{:08X}{:08X}{size:08X}", 1, 0o100_755, 0, 1, 0).into_bytes();
        archive.extend(format!("{:032X}{:08X}{:08X}", 0, name.len(), 0).into_bytes());
        archive.extend(name);
        archive.resize(archive.len().next_multiple_of(4), 0);
        archive.extend(program);
        let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
        encoder.include_checksum(true).unwrap();
        io::Write::write_all(&mut encoder, &archive).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_packed_program_is_recognised_and_gives_its_content() {
        let dir = tempfile::tempdir().unwrap();
        // A static program: an ELF header for 32-bit ARM without program headers.
        let mut program = vec![0u8; 6000];
        program[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', 1, 1]);
        program[18] = 40;
        let path = dir.path().join(PACKED);
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
        let path = dir.path().join(PACKED);
        let program: Vec<u8> = (0..200_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let whole = packed(&program);
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        for bad in [
            &whole[..whole.len() - 1],
            &whole[..whole.len() / 2],
            &flipped,
            b"",
            &zstd::encode_all(&b"x"[..], 3).unwrap(),
        ] {
            std::fs::write(&path, bad).unwrap();
            assert!(open(&path).is_err());
        }
    }
}
