//! Archives made byte by byte, so that they can be wrong in any way; and what is read from one.
#![allow(dead_code, missing_docs, reason = "every test binary uses its own part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "this is test code")]
#![allow(unreachable_pub, reason = "it is shared by test binaries")]

use lifeboat::model::digest::Sha256Digest;
use lifeboat::model::entry::{Entry, EntryKind};
use lifeboat::model::progress::Silent;
use lifeboat::source::{Archive, Ending, ReadError, VisitError, Visitor};
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Writes tar archives, right or wrong.
#[derive(Default, Clone)]
pub struct RawTar {
    pub bytes: Vec<u8>,
}

/// One header block, every field as raw as it gets.
#[derive(Clone)]
pub struct Header {
    pub name: Vec<u8>,
    pub prefix: Vec<u8>,
    pub kind: u8,
    pub link: Vec<u8>,
    pub size: u64,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: u64,
    /// `ustar\0` + `00`, `ustar  \0`, or nothing for v7.
    pub magic: [u8; 8],
}

pub const USTAR: [u8; 8] = *b"ustar\x0000";
pub const GNU: [u8; 8] = *b"ustar  \0";
pub const V7: [u8; 8] = [0; 8];

impl Header {
    pub fn new(kind: u8, name: impl AsRef<[u8]>) -> Self {
        Self {
            name: name.as_ref().to_vec(),
            prefix: Vec::new(),
            kind,
            link: Vec::new(),
            size: 0,
            mode: if kind == b'5' { 0o755 } else { 0o644 },
            uid: 0,
            gid: 0,
            mtime: 1_700_000_000,
            magic: USTAR,
        }
    }

    pub fn link(mut self, link: impl AsRef<[u8]>) -> Self {
        self.link = link.as_ref().to_vec();
        self
    }

    pub fn size(mut self, size: u64) -> Self {
        self.size = size;
        self
    }

    pub fn magic(mut self, magic: [u8; 8]) -> Self {
        self.magic = magic;
        self
    }

    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    pub fn block(&self) -> [u8; 512] {
        let mut block = [0; 512];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.name[..self.name.len().min(100)]);
        put(100, format!("{:07o}\0", self.mode).as_bytes());
        put(108, format!("{:07o}\0", self.uid).as_bytes());
        put(116, format!("{:07o}\0", self.gid).as_bytes());
        put(124, format!("{:011o}\0", self.size).as_bytes());
        put(136, format!("{:011o}\0", self.mtime).as_bytes());
        put(156, &[self.kind]);
        put(157, &self.link[..self.link.len().min(100)]);
        put(257, &self.magic);
        put(345, &self.prefix[..self.prefix.len().min(155)]);
        seal(&mut block);
        block
    }
}

/// Writes the right checksum into a header block.
pub fn seal(block: &mut [u8; 512]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// One PAX record.
pub fn record(key: &str, value: impl AsRef<[u8]>) -> Vec<u8> {
    let body = key.len() + value.as_ref().len() + 3;
    let mut length = body + 1;
    while length != body + length.to_string().len() {
        length = body + length.to_string().len();
    }
    let mut record = format!("{length} {key}=").into_bytes();
    record.extend_from_slice(value.as_ref());
    record.push(b'\n');
    record
}

impl RawTar {
    pub fn new() -> Self {
        Self::default()
    }

    /// A header and, padded, whatever is to follow it; the header's size is not touched.
    pub fn raw(mut self, header: &Header, content: &[u8]) -> Self {
        self.bytes.extend_from_slice(&header.block());
        self.bytes.extend_from_slice(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    pub fn block(mut self, block: &[u8; 512]) -> Self {
        self.bytes.extend_from_slice(block);
        self
    }

    pub fn member(self, header: Header, content: &[u8]) -> Self {
        let header = header.size(content.len() as u64);
        self.raw(&header, content)
    }

    pub fn file(self, name: impl AsRef<[u8]>, content: &[u8]) -> Self {
        self.member(Header::new(b'0', name), content)
    }

    pub fn dir(self, name: impl AsRef<[u8]>) -> Self {
        self.raw(&Header::new(b'5', name), b"")
    }

    pub fn symlink(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.raw(&Header::new(b'2', name).link(target), b"")
    }

    pub fn hardlink(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.raw(&Header::new(b'1', name).link(target), b"")
    }

    /// An `x` header with these records.
    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let raw: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
        self.member(Header::new(b'x', "PaxHeaders/x"), &raw)
    }

    /// A backup manifest.
    pub fn manifest(self, json: &str) -> Self {
        self.file("var/lib/plinth/backups-manifests/test.json", json.as_bytes())
    }

    /// The archive with its end marker, padded to a record of 20 blocks.
    pub fn end(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(&[0; 1024]);
        self.bytes.resize(self.bytes.len().next_multiple_of(10_240), 0);
        self.bytes
    }
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

/// What FreedomBox 0.43 to 0.48 sent: all data, flushed, but neither a last block nor a trailer.
pub fn gzip_without_end(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for part in bytes.chunks(4096) {
        packer.write_all(part).unwrap();
        packer.flush().unwrap();
    }
    packer.get_ref().clone()
}

pub fn zstd(bytes: &[u8], checksum: bool) -> Vec<u8> {
    let mut packer = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    packer.include_checksum(checksum).unwrap();
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

/// Writes a file into a folder and returns its path.
pub fn put(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

/// Keeps every entry with its content's length and digest.
#[derive(Default)]
pub struct Collect(pub Vec<(Entry, Sha256Digest)>);

impl Visitor for Collect {
    fn visit(&mut self, entry: &Entry, content: &mut dyn BufRead) -> Result<(), VisitError> {
        let mut raw = Vec::new();
        content.read_to_end(&mut raw).map_err(VisitError::Content)?;
        if let EntryKind::File { size, .. } = entry.kind {
            assert_eq!(raw.len() as u64, size, "{}: the content has the entry's length", entry.path);
        } else {
            assert!(raw.is_empty());
        }
        self.0.push((entry.clone(), Sha256Digest::of(&raw)));
        Ok(())
    }
}

/// Reads all of an archive.
pub fn collect(archive: &mut dyn Archive) -> Result<(Vec<(Entry, Sha256Digest)>, Ending), ReadError> {
    let mut seen = Collect::default();
    let ending = archive.read(&mut seen, &Silent)?;
    Ok((seen.0, ending))
}

/// Reads an archive given as bytes.
pub fn collect_bytes(bytes: &[u8]) -> Result<(Vec<(Entry, Sha256Digest)>, Ending), ReadError> {
    let folder = tempfile::tempdir().unwrap();
    let path = put(folder.path(), "archive.tar", bytes);
    collect(&mut *lifeboat::source::open(&path)?)
}

/// Runs GNU tar; `None` with a message when it is not there.
pub fn gnu_tar(args: &[&str], folder: &Path) -> Option<()> {
    let run = |args: &[&str]| Command::new("tar").args(args).current_dir(folder).env("LC_ALL", "C").output();
    match run(&["--version"]) {
        Ok(output) if output.stdout.starts_with(b"tar (GNU tar)") => {}
        _ => {
            eprintln!("SKIPPED: GNU tar is not installed");
            return None;
        }
    }
    let output = run(args).unwrap();
    assert!(output.status.success(), "tar {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    Some(())
}

/// The real archives, when they are there.
pub fn fixtures() -> Option<PathBuf> {
    let folder = match std::env::var_os("LIFEBOAT_FIXTURES") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures/freedombox-25.9.3"),
    };
    if folder.join("backups.json").exists() {
        return Some(folder);
    }
    eprintln!("SKIPPED: no fixtures of a real FreedomBox at {}", folder.display());
    None
}

pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}
