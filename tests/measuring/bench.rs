//! What `tests/bench` needs beside the program: the plain extraction of an archive, and the rates of the primitives.
//!
//! `bench extract LOCATION OUT [PASSPHRASE]` writes the only archive at LOCATION below the existing, empty folder OUT
//! with the library's reader: contents, owners by number, modes, times, attributes and hard links, like `borg extract`.
//! `bench rates SAMPLE FOLDER` prints what one core does, as JSON: bytes per second for each primitive of the reader,
//! with SAMPLE for compressible data, and files per second made in FOLDER.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "this is test code")]

use ctr::cipher::{KeyIvInit, StreamCipher};
use hmac::{Hmac, KeyInit, Mac};
use lifeboat::model::entry::{Entry, EntryKind};
use lifeboat::model::path::RelPath;
use lifeboat::model::progress::Silent;
use lifeboat::model::secret::Secret;
use lifeboat::source::{self, Unlock, VisitError, Visitor};
use lifeboat::sys::dir::{self, Dir};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::hint::black_box;
use std::io::{self, BufRead};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;

/// Length of the pieces that the primitives work on: what borg makes on average.
const PIECE: usize = 2 << 20;
/// How many different pieces they go through: more than a processor's caches hold.
const PIECES: usize = 32;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match *args.as_slice() {
        ["extract", location, out] => extract(location, out, ""),
        ["extract", location, out, passphrase] => extract(location, out, passphrase),
        ["rates", sample, folder] => println!("{}", rates(sample, Path::new(folder))),
        _ => panic!("usage: bench extract LOCATION OUT [PASSPHRASE] | bench rates SAMPLE FOLDER"),
    }
}

struct Passphrase<'a>(&'a str);

impl Unlock for Passphrase<'_> {
    fn passphrase(&mut self, _: &str, attempt: u32) -> Option<Secret> {
        (attempt == 0).then(|| Secret::new(self.0.as_bytes().to_vec()))
    }
}

fn extract(location: &str, out: &str, passphrase: &str) {
    let mut archive = source::open_location(Path::new(location), None, &mut Passphrase(passphrase)).unwrap();
    let root = Dir::open(Path::new(out)).unwrap();
    let mut extractor = Extractor { root, latest: None, directories: Vec::new(), failure: None };
    let ending = archive.read(&mut extractor, &Silent);
    if let Some(failure) = extractor.failure.take() {
        panic!("{failure}");
    }
    assert!(ending.unwrap().findings.is_empty(), "the archive has nothing to complain about");
    for directory in extractor.directories.iter().rev() {
        let handle = extractor.root.dir(&directory.path).unwrap();
        set_metadata(&handle, directory).unwrap();
    }
}

/// Writes every entry.
struct Extractor {
    root: Dir,
    latest: Option<(Option<RelPath>, Rc<Dir>)>,
    directories: Vec<Entry>,
    failure: Option<io::Error>,
}

impl Visitor for Extractor {
    fn visit(&mut self, entry: &Entry, content: &mut dyn BufRead) -> Result<(), VisitError> {
        self.write(entry, content).map_err(|error| {
            self.failure = Some(error);
            VisitError::Stop
        })
    }
}

impl Extractor {
    /// The directory of an entry, made where it is missing. Like a restore, it keeps the one that was used last.
    fn parent(&mut self, path: &RelPath) -> io::Result<Rc<Dir>> {
        let above = path.parent();
        if let Some((latest, dir)) = &self.latest
            && *latest == above
        {
            return Ok(Rc::clone(dir));
        }
        let dir = match self.root.parent(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                for above in path.ancestors() {
                    self.root.parent(&above)?.make_child(above.file_name())?;
                }
                self.root.parent(path)?
            }
            other => other?,
        };
        let dir = Rc::new(dir);
        self.latest = Some((above, Rc::clone(&dir)));
        Ok(dir)
    }

    fn write(&mut self, entry: &Entry, content: &mut dyn BufRead) -> io::Result<()> {
        let name = entry.path.file_name();
        let parent = self.parent(&entry.path)?;
        match &entry.kind {
            EntryKind::Directory => {
                parent.make_child(name)?;
                self.directories.push(entry.clone());
            }
            EntryKind::File { size, sparse } => {
                let file = parent.create_file(name)?;
                let mut position = 0;
                source::for_each_piece(
                    content,
                    |error| error,
                    |piece| {
                        if !(*sparse && piece.iter().all(|&byte| byte == 0)) {
                            file.write_all_at(piece, position)?;
                        }
                        position += piece.len() as u64;
                        Ok(())
                    },
                )?;
                assert_eq!(position, *size, "{}", entry.path);
                if *sparse {
                    file.set_len(*size)?;
                }
                set_metadata(&file, entry)?;
            }
            EntryKind::Symlink { target } => {
                parent.make_symlink(name, target)?;
                parent.set_owner(name, entry.owner.uid, entry.owner.gid)?;
                parent.set_mtime(name, entry.mtime)?;
            }
            EntryKind::HardLink { to } => parent.make_link(name, &self.root.parent(to)?, to.file_name())?,
            EntryKind::Fifo => {
                parent.make_fifo(name)?;
                parent.set_owner(name, entry.owner.uid, entry.owner.gid)?;
                parent.set_mode(name, entry.mode)?;
                parent.set_mtime(name, entry.mtime)?;
            }
        }
        Ok(())
    }
}

fn set_metadata(file: &impl std::os::fd::AsFd, entry: &Entry) -> io::Result<()> {
    dir::set_metadata(file, (entry.owner.uid, entry.owner.gid), entry.mode, &entry.xattrs, entry.mtime)
}

/// What one core does.
fn rates(sample: &str, folder: &Path) -> String {
    let noise = || (0..PIECE as u32 / 4).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect::<Vec<u8>>();
    let mut pieces: Vec<Vec<u8>> = (0..PIECES).map(|_| noise()).collect();
    let file = File::open(sample).unwrap();
    let length = file.metadata().unwrap().len() as usize;
    let packed: Vec<(Vec<u8>, usize)> = (0..length)
        .step_by(PIECE)
        .map(|start| {
            let mut plain = vec![0; PIECE.min(length - start)];
            file.read_exact_at(&mut plain, start as u64).unwrap();
            (lz4_flex::block::compress(&plain), plain.len())
        })
        .collect();
    let all = PIECE * PIECES;
    let hmac = Hmac::<Sha256>::new_from_slice(&[7; 32]).unwrap();
    let sha256 = rate(all, || pieces.iter().for_each(|piece| consume(Sha256::digest(piece))));
    let hmac = rate(all, || {
        pieces.iter().for_each(|piece| consume(hmac.clone().chain_update(piece).finalize()));
    });
    let crc32 = rate(all, || pieces.iter().for_each(|piece| consume(crc32fast::hash(piece))));
    let mut buffer = vec![0; PIECE];
    let lz4 = rate(packed.iter().map(|(_, length)| length).sum(), || {
        for (packed, length) in &packed {
            assert_eq!(lz4_flex::block::decompress_into(black_box(packed), &mut buffer).unwrap(), *length);
        }
    });
    let read = rate(length, || {
        for start in (0..length).step_by(PIECE) {
            let end = PIECE.min(length - start);
            file.read_exact_at(&mut buffer[..end], start as u64).unwrap();
        }
    });
    let path = folder.join("rate");
    let write = rate(all, || {
        let file = File::create_new(&path).unwrap();
        for (at, piece) in pieces.iter().enumerate() {
            file.write_all_at(piece, (at * PIECE) as u64).unwrap();
        }
        std::fs::remove_file(&path).unwrap();
    });
    let home = Dir::open(folder).unwrap();
    let make = rate(1000, || {
        for n in 0..1000 {
            let file = home.create_file(format!("rate-{n}").as_bytes()).unwrap();
            dir::set_metadata(&file, (0, 0), 0o644, &[], Default::default()).unwrap();
        }
        for n in 0..1000 {
            home.remove_file(format!("rate-{n}").as_bytes()).unwrap();
        }
    });
    let aes = rate(all, || {
        for piece in &mut pieces {
            ctr::Ctr128BE::<aes::Aes256>::new(&[1; 32].into(), &[0; 16].into()).apply_keystream(piece);
        }
    });
    serde_json::json!({
        "sha256": sha256, "hmac": hmac, "crc32": crc32, "aes": aes, "lz4": lz4, "read": read, "write": write, "make": make,
    })
    .to_string()
}

/// Seconds that this thread has had a core, so that what else the machine does counts as little as can be (proc(5)).
fn processor_time() -> f64 {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    told.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}

/// Keeps the compiler from leaving out what nobody uses.
fn consume<T>(made: T) {
    black_box(made);
}

/// Units per second of one core: the median of several rounds of `work`, which does `units`. A round repeats it until
/// the clock, which some kernels move on only every few milliseconds, has seen enough of it.
fn rate(units: usize, mut work: impl FnMut()) -> f64 {
    const LEAST: f64 = 0.03;
    let mut rounds: Vec<f64> = (0..7)
        .map(|_| {
            let (start, mut done) = (processor_time(), 0);
            loop {
                work();
                done += units;
                let spent = processor_time() - start;
                if spent >= LEAST {
                    return done as f64 / spent;
                }
            }
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}
