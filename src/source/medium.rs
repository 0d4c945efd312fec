//! The bytes of an archive file, in order: as they lie there, or opened where the file is sealed with age.

use super::ReadError;
use super::tar_export::{at, open_regular, shown};
use super::unlock::Unlock;
use crate::formats::age::{self, AgeError, Header, Payload};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// How much of a file that is not sealed is read at once.
const PIECE: usize = 128 << 10;

/// An archive file, open for reading. Positions are given to each read, so that it serves several readers.
pub(super) struct Medium {
    file: File,
    length: u64,
    sealed: Option<Sealed>,
}

struct Sealed {
    payload: Payload,
    /// Where the first chunk begins.
    start: u64,
}

impl std::fmt::Debug for Medium {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Medium").field("length", &self.length).finish_non_exhaustive()
    }
}

impl Medium {
    /// Opens a file; a sealed one with the passphrase that `unlock` knows.
    pub(super) fn open(path: &Path, unlock: &mut dyn Unlock) -> Result<Medium, ReadError> {
        let file = open_regular(path)?;
        let length = file.metadata().map_err(|error| at(path, &error))?.len();
        let mut medium = Medium { file, length, sealed: None };
        let failed = |error: io::Error| io::Error::new(error.kind(), format!("at byte 0 of the file: {error}"));
        let begin = medium.piece(0, age::MAGIC.len()).map_err(|error| at(path, &failed(error)))?;
        if begin == age::MAGIC {
            medium.sealed = Some(medium.unseal(path, unlock)?);
        }
        Ok(medium)
    }

    /// Length of the file.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Whether all of its content has an authentication code.
    pub(super) fn is_sealed(&self) -> bool {
        self.sealed.is_some()
    }

    fn unseal(&self, path: &Path, unlock: &mut dyn Unlock) -> Result<Sealed, ReadError> {
        let place = format!("'{}'", shown(path));
        let explain = |error: AgeError| match error {
            AgeError::Damaged(what) => ReadError::Corrupt { place: format!("in {place}"), what: what.into() },
            other => ReadError::Unsupported { entry: shown(path), what: other.to_string() },
        };
        let raw = self.piece(0, age::LONGEST_HEADER).map_err(|error| at(path, &error))?;
        let header = Header::parse(&raw).map_err(explain)?;
        let nonce = self.piece(header.length as u64, age::NONCE).map_err(|error| at(path, &error))?;
        let nonce = nonce.try_into().map_err(|_| explain(AgeError::Damaged("it ends behind its header")))?;
        for attempt in 0.. {
            let Some(passphrase) = unlock.passphrase(&place, attempt) else {
                return Err(match attempt {
                    0 => ReadError::NeedsPassphrase(place),
                    _ => ReadError::WrongPassphrase(place),
                });
            };
            match header.open(passphrase.reveal(), &nonce) {
                Ok(payload) => return Ok(Sealed { payload, start: (header.length + age::NONCE) as u64 }),
                Err(AgeError::WrongPassphrase) if attempt < u32::MAX => {}
                Err(error) => return Err(explain(error)),
            }
        }
        Err(ReadError::NeedsPassphrase(place))
    }

    /// Up to `length` bytes of the file.
    fn piece(&self, start: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, start.saturating_add(filled as u64)) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }
}

/// One reading of a file, from its beginning.
pub(super) struct Feed<'a> {
    medium: &'a Medium,
    /// Where the next byte lies in the file.
    at: u64,
    chunk: u64,
    hasher: Option<Sha256>,
}

impl<'a> Feed<'a> {
    /// `hash` asks for the digest of the file itself.
    pub(super) fn new(medium: &'a Medium, hash: bool) -> Feed<'a> {
        Feed { medium, at: 0, chunk: 0, hasher: hash.then(Sha256::new) }
    }

    /// How much of the file was read.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// The digest of what was read.
    pub(super) fn take_hasher(&mut self) -> Option<Sha256> {
        self.hasher.take()
    }

    /// Adds the next bytes to `buffer`; how many, none at the end.
    pub(super) fn more(&mut self, buffer: &mut Vec<u8>) -> Result<usize, ReadError> {
        let Some(sealed) = &self.medium.sealed else {
            let piece = self.read(PIECE)?;
            buffer.extend_from_slice(&piece);
            return Ok(piece.len());
        };
        if self.at == 0 {
            self.read(usize::try_from(sealed.start).unwrap_or(usize::MAX))?;
        }
        if self.chunk > 0 && self.at >= self.medium.length {
            return Ok(0);
        }
        let begin = self.at;
        let chunk = self.read(age::CHUNK + age::TAG)?;
        let last = self.at >= self.medium.length;
        let opened = sealed.payload.open(self.chunk, last, &chunk).map_err(|error| ReadError::Corrupt {
            place: format!("at byte {begin} of the file"),
            what: error.to_string(),
        })?;
        self.chunk += 1;
        buffer.extend_from_slice(&opened);
        Ok(opened.len())
    }

    fn read(&mut self, length: usize) -> Result<Vec<u8>, ReadError> {
        let at = self.at;
        let piece = self.medium.piece(at, length).map_err(|error| {
            ReadError::Io(io::Error::new(error.kind(), format!("at byte {at} of the file: {error}")))
        })?;
        self.at += piece.len() as u64;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&piece);
        }
        Ok(piece)
    }
}
