//! The file that is being written: packed on the way, hashed, and under another name until it is whole.

use crate::formats::age::Sealing;
use crate::model::digest::Sha256Digest;
use crate::model::secret::Secret;
use crate::sys::dir::{self, Dir};
use crate::sys::file::random;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Bytes that are collected before they are written.
const BUFFER: usize = 1 << 20;
/// How hard the packers try: their own defaults.
pub(super) const GZIP_LEVEL: u32 = 6;
const ZSTD_LEVEL: i32 = 3;

/// How an archive is packed; the file's name says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Packing {
    packer: Kind,
    /// Whether it is sealed with a passphrase.
    pub(super) sealed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Gzip,
    Zstd,
}

impl Packing {
    pub(super) fn of(file: &Path) -> Option<Packing> {
        let name = file.file_name()?.as_bytes();
        let inner = name.strip_suffix(b".age");
        let (name, sealed) = (inner.unwrap_or(name), inner.is_some());
        let packer = match () {
            () if name.ends_with(b".tar.gz") || name.ends_with(b".tgz") => Kind::Gzip,
            () if name.ends_with(b".tar.zst") || name.ends_with(b".tzst") => Kind::Zstd,
            () => return None,
        };
        Some(Packing { packer, sealed })
    }
}

/// Packed bytes on their way.
pub(super) struct Hashed<W> {
    to: W,
    hasher: Sha256,
    length: u64,
}

impl<W: Write> Hashed<W> {
    pub(super) fn new(to: W) -> Hashed<W> {
        Hashed { to, hasher: Sha256::new(), length: 0 }
    }

    /// What went through, and where it went.
    pub(super) fn sealed(self) -> (W, Sealed) {
        (self.to, Sealed { digest: Sha256Digest::from_hasher(self.hasher), length: self.length })
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.to.write(bytes)?;
        self.hasher.update(bytes.get(..count).unwrap_or_default());
        self.length += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// What the packer writes to.
enum Output {
    Open(BufWriter<Hashed<File>>),
    Sealed(Box<Sealing<BufWriter<Hashed<File>>>>),
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Output::Open(output) => output.write(bytes),
            Output::Sealed(output) => output.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Output {
    fn finish(self) -> io::Result<Hashed<File>> {
        let output = match self {
            Output::Open(output) => output,
            Output::Sealed(output) => output.finish()?,
        };
        output.into_inner().map_err(io::IntoInnerError::into_error)
    }
}

enum Packer {
    Gzip(GzEncoder<Output>),
    Zstd(zstd::Encoder<'static, Output>),
}

/// A file that has its name only when it is complete. Dropped earlier, nothing of it stays.
pub(super) struct Parcel {
    folder: Dir,
    temporary: Vec<u8>,
    packer: Option<Packer>,
    is_kept: bool,
}

/// What was written.
pub(super) struct Sealed {
    pub(super) digest: Sha256Digest,
    pub(super) length: u64,
}

impl Parcel {
    /// Begins to write `file`; sealed where there is a passphrase.
    pub(super) fn new(file: &Path, packing: Packing, passphrase: Option<&Secret>) -> io::Result<Parcel> {
        let (folder, name) = split(file)?;
        let temporary = [name, b".lifeboat-new"].concat();
        // What an earlier run left is ours.
        remove(&folder, &temporary)?;
        let output = Hashed::new(folder.create_file(&temporary)?);
        let output = BufWriter::with_capacity(BUFFER, output);
        let output = match passphrase {
            Some(passphrase) => Output::Sealed(Box::new(Sealing::new(output, passphrase.reveal(), &random()?)?)),
            None => Output::Open(output),
        };
        let packer = match packing.packer {
            Kind::Gzip => Packer::Gzip(GzEncoder::new(output, Compression::new(GZIP_LEVEL))),
            Kind::Zstd => {
                let mut encoder = zstd::Encoder::new(output, ZSTD_LEVEL)?;
                encoder.include_checksum(true)?;
                Packer::Zstd(encoder)
            }
        };
        Ok(Parcel { folder, temporary, packer: Some(packer), is_kept: false })
    }

    /// Where it lies until it gets its name.
    pub(super) fn place(file: &Path) -> PathBuf {
        let mut name = file.file_name().unwrap_or_default().to_owned();
        name.push(".lifeboat-new");
        file.with_file_name(name)
    }

    /// Ends the packing; afterwards everything is on the medium and nothing of it in memory.
    pub(super) fn seal(&mut self) -> io::Result<Sealed> {
        let output = match self.packer.take() {
            Some(Packer::Gzip(packer)) => packer.finish()?,
            Some(Packer::Zstd(packer)) => packer.finish()?,
            None => return Err(io::Error::other("it was sealed before")),
        };
        let (file, sealed) = output.finish()?.sealed();
        dir::sync_file(&file)?;
        dir::forget_cache(&file);
        Ok(sealed)
    }

    /// Gives it its name, and puts the file with its checksum beside it.
    pub(super) fn deliver(mut self, file: &Path, sealed: &Sealed) -> io::Result<()> {
        let (_, name) = split(file)?;
        let sum = checksum_name(name);
        remove(&self.folder, &sum)?;
        let mut beside = self.folder.create_file(&sum)?;
        beside.write_all(format!("{}  ", sealed.digest).as_bytes())?;
        beside.write_all(name)?;
        beside.write_all(b"\n")?;
        dir::sync_file(&beside)?;
        match self.folder.move_to(&self.temporary, &self.folder, name) {
            // Some filesystems of sticks cannot promise not to replace; the name was free when we began.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => self.folder.replace(&self.temporary, name)?,
            other => other?,
        }
        self.is_kept = true;
        self.folder.sync()
    }
}

impl Write for Parcel {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.packer {
            Some(Packer::Gzip(packer)) => packer.write(bytes),
            Some(Packer::Zstd(packer)) => packer.write(bytes),
            None => Err(io::Error::other("it is sealed")),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Parcel {
    fn drop(&mut self) {
        if !self.is_kept {
            self.packer = None;
            let _ = remove(&self.folder, &self.temporary);
        }
    }
}

/// The name of the file with the checksum.
pub(super) fn checksum_name(name: &[u8]) -> Vec<u8> {
    [name, b".sha256"].concat()
}

fn split(file: &Path) -> io::Result<(Dir, &[u8])> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = file.file_name().ok_or_else(|| io::Error::other("it is no file name"))?;
    Ok((Dir::open(folder)?, name.as_bytes()))
}

fn remove(folder: &Dir, name: &[u8]) -> io::Result<()> {
    match folder.remove_file(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
