//! What a program file says of itself: the architecture it is for, and whether it needs a loader.
//!
//! ELF header and program headers, System V ABI (gABI 4.1, chapters 4 and 5); only little-endian files.

/// The interesting part of an ELF file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elf {
    /// Debian's name of the architecture: `amd64`, `arm64` or `armhf`.
    pub architecture: &'static str,
    /// Whether it runs without a dynamic loader.
    pub is_static: bool,
}

const PT_INTERP: u32 = 3;

/// Parses the head of a file (its first 4 KiB are enough); `None` when it is not a program for a known architecture.
pub fn parse(head: &[u8]) -> Option<Elf> {
    let wide = match head.get(..6)? {
        [0x7f, b'E', b'L', b'F', 1, 1] => false,
        [0x7f, b'E', b'L', b'F', 2, 1] => true,
        _ => return None,
    };
    let architecture = match (word(head, 18, 2)?, wide) {
        (62, true) => "amd64",
        (183, true) => "arm64",
        (40, false) => "armhf",
        _ => return None,
    };
    let (table, size, count) = match wide {
        true => (word(head, 32, 8)?, word(head, 54, 2)?, word(head, 56, 2)?),
        false => (word(head, 28, 4)?, word(head, 42, 2)?, word(head, 44, 2)?),
    };
    let mut is_static = true;
    for index in 0..count {
        let offset = usize::try_from(table.checked_add(index.checked_mul(size)?)?).ok()?;
        is_static = is_static && word(head, offset, 4)? != u64::from(PT_INTERP);
    }
    Some(Elf { architecture, is_static })
}

fn word(head: &[u8], offset: usize, width: usize) -> Option<u64> {
    let bytes = head.get(offset..offset.checked_add(width)?)?;
    Some(bytes.iter().rev().fold(0, |value, &byte| (value << 8) | u64::from(byte)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_running_test_program_is_recognised() {
        let image = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let elf = parse(&image[..4096]).unwrap();
        let expected = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            _ => "armhf",
        };
        assert_eq!(elf.architecture, expected);
        assert_eq!(elf.is_static, cfg!(target_env = "musl"));
        assert_eq!(parse(b"#!/bin/sh"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut head in proptest::collection::vec(any::<u8>(), 6..200), wide in 1u8..3) {
            head[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', wide, 1]);
            let _ = parse(&head);
        }
    }
}
