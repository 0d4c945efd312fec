//! What a program file says of itself: the architecture it is for, whether it needs a loader, and which libraries.
//!
//! ELF header, program headers and dynamic section, System V ABI (gABI 4.1, chapters 4 and 5); only little-endian files.

/// The interesting part of an ELF file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elf {
    /// Debian's name of the architecture: `amd64`, `arm64` or `armhf`.
    pub architecture: &'static str,
    /// Whether it runs without a dynamic loader.
    pub is_static: bool,
}

/// What must be there so that a program or a library can be loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// The loader, by its absolute path; libraries name none.
    pub loader: Option<String>,
    /// Libraries by the names that the loader looks for.
    pub libraries: Vec<String>,
}

const PT_LOAD: u64 = 1;
const PT_DYNAMIC: u64 = 2;
const PT_INTERP: u64 = 3;
/// Kinds of entries of the dynamic section: its end, a library, where the names are.
const DT_NULL: u64 = 0;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;
/// Most libraries of one file.
const MOST_LIBRARIES: usize = 256;

/// Where the program headers lie: offset, size of each, number.
fn headers(file: &[u8], wide: bool) -> Option<(u64, u64, u64)> {
    Some(match wide {
        true => (word(file, 32, 8)?, word(file, 54, 2)?, word(file, 56, 2)?),
        false => (word(file, 28, 4)?, word(file, 42, 2)?, word(file, 44, 2)?),
    })
}

/// Whether numbers have eight bytes; `None` where it is no little-endian ELF file.
fn is_wide(file: &[u8]) -> Option<bool> {
    match file.get(..6)? {
        [0x7f, b'E', b'L', b'F', 1, 1] => Some(false),
        [0x7f, b'E', b'L', b'F', 2, 1] => Some(true),
        _ => None,
    }
}

/// Parses the head of a file (its first 4 KiB are enough); `None` when it is not a program for a known architecture.
pub fn parse(head: &[u8]) -> Option<Elf> {
    let wide = is_wide(head)?;
    let architecture = match (word(head, 18, 2)?, wide) {
        (62, true) => "amd64",
        (183, true) => "arm64",
        (40, false) => "armhf",
        _ => return None,
    };
    let (table, size, count) = headers(head, wide)?;
    let mut is_static = true;
    for index in 0..count {
        let offset = usize::try_from(table.checked_add(index.checked_mul(size)?)?).ok()?;
        is_static = is_static && word(head, offset, 4)? != PT_INTERP;
    }
    Some(Elf { architecture, is_static })
}

/// One part of a file: its kind, and where it lies in the file and in memory.
struct Segment {
    kind: u64,
    offset: u64,
    address: u64,
    length: u64,
}

/// What a whole program or library needs; `None` when it is none, or says nothing that makes sense.
pub fn needs(file: &[u8]) -> Option<Needs> {
    let wide = is_wide(file)?;
    let width = if wide { 8 } else { 4 };
    let (table, size, count) = headers(file, wide)?;
    let mut segments = Vec::new();
    for index in 0..count {
        let at = usize::try_from(table.checked_add(index.checked_mul(size)?)?).ok()?;
        let field = |wide_at: usize, narrow_at: usize| {
            word(file, at.checked_add(if wide { wide_at } else { narrow_at })?, width)
        };
        segments.push(Segment {
            kind: word(file, at, 4)?,
            offset: field(8, 4)?,
            address: field(16, 8)?,
            length: field(32, 16)?,
        });
    }
    let find = |kind: u64| segments.iter().find(|segment| segment.kind == kind);
    let mut needs = Needs::default();
    if let Some(segment) = find(PT_INTERP) {
        needs.loader = Some(text(file, segment.offset)?);
    }
    let Some(dynamic) = find(PT_DYNAMIC) else { return Some(needs) };
    let (mut names, mut strings) = (Vec::new(), None);
    let step = 2 * width as u64;
    for index in 0..dynamic.length / step {
        let at = usize::try_from(dynamic.offset.checked_add(index * step)?).ok()?;
        let value = word(file, at.checked_add(width)?, width)?;
        match word(file, at, width)? {
            DT_NULL => break,
            DT_NEEDED if names.len() < MOST_LIBRARIES => names.push(value),
            DT_STRTAB => strings = Some(value),
            _ => {}
        }
    }
    // It says where the names are in memory.
    let strings = match strings {
        Some(address) => segments.iter().filter(|segment| segment.kind == PT_LOAD).find_map(|segment| {
            let within = address.checked_sub(segment.address).filter(|within| *within < segment.length)?;
            segment.offset.checked_add(within)
        })?,
        None if names.is_empty() => return Some(needs),
        None => return None,
    };
    for name in names {
        needs.libraries.push(text(file, strings.checked_add(name)?)?);
    }
    Some(needs)
}

/// The text from a place to the next zero.
fn text(file: &[u8], at: u64) -> Option<String> {
    let rest = file.get(usize::try_from(at).ok()?..)?;
    let text = rest.split(|byte| *byte == 0).next()?;
    String::from_utf8(text.to_vec()).ok().filter(|text| !text.is_empty() && text.len() < 4096)
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

    #[test]
    fn a_program_says_which_loader_and_libraries_it_needs() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let shell = std::fs::read("/bin/sh").unwrap();
        let of = needs(&shell).unwrap();
        assert!(of.loader.as_ref().unwrap().starts_with("/lib"), "{of:?}");
        assert!(of.libraries.iter().any(|name| name.starts_with("libc.so")), "{of:?}");
        assert_eq!(needs(&own).unwrap().libraries.is_empty(), cfg!(target_env = "musl"));
        assert_eq!(needs(&shell[..100]), None);
        assert_eq!(needs(b"#!/bin/sh"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut head in proptest::collection::vec(any::<u8>(), 6..200), wide in 1u8..3) {
            head[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', wide, 1]);
            let _ = (parse(&head), needs(&head));
        }
    }
}
