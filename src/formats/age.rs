//! age, version 1, opened and sealed with a passphrase.
//!
//! Source: C2SP, "The age file encryption format, version 1" (age-encryption.org/v1). A header of text lines holds the
//! file key, wrapped with a key that scrypt makes from the passphrase, and its own authentication code. The payload is
//! a sequence of chunks of 64 KiB, each sealed with ChaCha20-Poly1305 under its number, the last one marked: nothing can
//! be changed, left out or cut off unseen.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use chacha20poly1305::aead::{Aead as _, KeyInit as _};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use std::io::{self, Write};

/// What a file begins with.
pub const MAGIC: &[u8] = b"age-encryption.org/v1\n";
/// Content of a chunk in bytes; only the last one is shorter.
pub const CHUNK: usize = 64 << 10;
/// What sealing adds to a chunk.
pub const TAG: usize = 16;
/// Longest header that is read.
pub const LONGEST_HEADER: usize = 16 << 10;
/// Length of the random bytes between header and chunks.
pub const NONCE: usize = 16;
/// How many random bytes sealing needs.
pub const RANDOM: usize = 48;

/// How hard the passphrase is to guess: scrypt needs 2^n × 1 KiB of memory. What is made here takes 64 MiB, because a
/// small board has to open it too.
const WORK: u8 = 16;
/// The hardest that is opened: 1 GiB.
const MOST_WORK: u8 = 20;
const SCRYPT_LABEL: &[u8] = b"age-encryption.org/v1/scrypt";

/// Why a file cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AgeError {
    /// It is sealed for keys, not with a passphrase.
    #[error("it is sealed for age keys and not with a passphrase: open it with age itself")]
    ForKeys,
    /// Opening it would take too much memory.
    #[error("opening it takes {0} MiB of memory, which is more than is spent on a passphrase here")]
    TooHard(u64),
    /// The passphrase is not the one.
    #[error("the passphrase is wrong")]
    WrongPassphrase,
    /// The header or a chunk is damaged.
    #[error("{0}")]
    Damaged(&'static str),
}

/// The header of a file that is sealed with a passphrase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    salt: [u8; 16],
    work: u8,
    wrapped: [u8; 32],
    signed: Vec<u8>,
    code: [u8; 32],
    /// Length in bytes; the payload follows.
    pub length: usize,
}

/// The key of a file.
struct FileKey([u8; 16]);

impl Drop for FileKey {
    fn drop(&mut self) {
        self.0.fill(0);
        std::hint::black_box(&mut self.0);
    }
}

impl Header {
    /// Parses what a file begins with: at most [`LONGEST_HEADER`] bytes of it.
    pub fn parse(raw: &[u8]) -> Result<Header, AgeError> {
        const BAD: AgeError = AgeError::Damaged("its header is damaged");
        let mut rest = raw.strip_prefix(MAGIC).ok_or(BAD)?;
        let mut line = || {
            let end = rest.iter().position(|&byte| byte == b'\n')?;
            let (line, after) = (rest.get(..end)?, rest.get(end + 1..)?);
            rest = after;
            std::str::from_utf8(line).ok()
        };
        let stanza = line().and_then(|line| line.strip_prefix("-> ")).ok_or(BAD)?;
        let words: Vec<&str> = stanza.split(' ').collect();
        let ["scrypt", salt, work] = words.as_slice() else {
            return Err(if words.first() == Some(&"scrypt") { BAD } else { AgeError::ForKeys });
        };
        let is_number = work.bytes().all(|byte| byte.is_ascii_digit()) && !work.starts_with('0');
        let work: u8 = Some(*work).filter(|_| is_number).and_then(|work| work.parse().ok()).ok_or(BAD)?;
        let (salt, wrapped) = (decoded(salt).ok_or(BAD)?, line().and_then(decoded).ok_or(BAD)?);
        // A passphrase is the only way in, so nothing else may follow.
        let code = line().and_then(|line| line.strip_prefix("--- ")).and_then(decoded).ok_or(BAD)?;
        let length = raw.len() - rest.len();
        // The code and its line end are not in what it signs.
        let signed = raw.get(..length.saturating_sub(1 + 43 + 1)).ok_or(BAD)?.to_vec();
        if work > MOST_WORK {
            return Err(AgeError::TooHard(1u64.checked_shl(u32::from(work)).unwrap_or(u64::MAX) >> 10));
        }
        Ok(Header { salt, work, wrapped, signed, code, length })
    }

    /// Opens the file with a passphrase; `nonce` is what lies between header and chunks.
    pub fn open(&self, passphrase: &[u8], nonce: &[u8; NONCE]) -> Result<Payload, AgeError> {
        let key = wrapping_key(passphrase, &self.salt, self.work)?;
        let file_key = ChaCha20Poly1305::new(&Key::from(key))
            .decrypt(&Nonce::from([0; 12]), self.wrapped.as_slice())
            .map_err(|_| AgeError::WrongPassphrase)?;
        let file_key = FileKey(file_key.try_into().map_err(|_| AgeError::Damaged("its key is damaged"))?);
        let mut mac = header_mac(&file_key);
        mac.update(&self.signed);
        mac.verify_slice(&self.code).map_err(|_| AgeError::Damaged("its header was changed"))?;
        Ok(Payload::new(&file_key, nonce))
    }
}

fn decoded<const N: usize>(text: &str) -> Option<[u8; N]> {
    STANDARD_NO_PAD.decode(text).ok()?.try_into().ok()
}

fn wrapping_key(passphrase: &[u8], salt: &[u8; 16], work: u8) -> Result<[u8; 32], AgeError> {
    const BAD: AgeError = AgeError::Damaged("its header is damaged");
    let params = scrypt::Params::new(work, 8, 1).map_err(|_| BAD)?;
    let mut key = [0; 32];
    scrypt::scrypt(passphrase, &[SCRYPT_LABEL, salt].concat(), &params, &mut key).map_err(|_| BAD)?;
    Ok(key)
}

/// HKDF-SHA-256 (RFC 5869) with an output of one block.
fn derived(key: &FileKey, salt: &[u8], info: &[u8]) -> [u8; 32] {
    let extracted = code(salt, &[&key.0]);
    code(&extracted, &[info, &[1]])
}

fn code(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = keyed(key);
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

/// HMAC takes keys of any length: a longer one than a block would be hashed, and none here is.
fn keyed(key: &[u8]) -> Hmac<Sha256> {
    let mut block = [0; 64];
    for (to, from) in block.iter_mut().zip(key) {
        *to = *from;
    }
    Hmac::<Sha256>::new(&block.into())
}

fn header_mac(key: &FileKey) -> Hmac<Sha256> {
    keyed(&derived(key, b"", b"header"))
}

/// The chunks of a file.
pub struct Payload(ChaCha20Poly1305);

impl Payload {
    fn new(key: &FileKey, nonce: &[u8; NONCE]) -> Payload {
        Payload(ChaCha20Poly1305::new(&Key::from(derived(key, nonce, b"payload"))))
    }

    /// Opens the chunk with this number; `last` when nothing follows it in the file.
    pub fn open(&self, number: u64, last: bool, sealed: &[u8]) -> Result<Vec<u8>, AgeError> {
        let opened = self.0.decrypt(&chunk_nonce(number, last), sealed);
        let opened = opened.map_err(|_| AgeError::Damaged("it was changed or cut off there"))?;
        // Only an empty file has an empty chunk.
        if opened.is_empty() && number > 0 {
            return Err(AgeError::Damaged("it has an empty end"));
        }
        Ok(opened)
    }

    fn seal(&self, number: u64, last: bool, content: &[u8]) -> io::Result<Vec<u8>> {
        self.0.encrypt(&chunk_nonce(number, last), content).map_err(|_| io::Error::other("a chunk is too long"))
    }
}

/// Eleven bytes of the number, big-endian, and whether it is the last one.
fn chunk_nonce(number: u64, last: bool) -> Nonce {
    let [a, b, c, d, e, f, g, h] = number.to_be_bytes();
    Nonce::from([0, 0, 0, a, b, c, d, e, f, g, h, u8::from(last)])
}

/// Seals what is written to it.
pub struct Sealing<W> {
    output: W,
    payload: Payload,
    chunk: Vec<u8>,
    number: u64,
}

impl<W: Write> Sealing<W> {
    /// Begins a file. `random` must never be used twice.
    pub fn new(mut output: W, passphrase: &[u8], random: &[u8; RANDOM]) -> io::Result<Sealing<W>> {
        let part = |start: usize| random.get(start..start + 16).and_then(|part| <[u8; 16]>::try_from(part).ok());
        let (Some(key), Some(salt), Some(nonce)) = (part(0), part(16), part(32)) else {
            return Err(io::Error::other("there is not enough randomness"));
        };
        let key = FileKey(key);
        let wrapping = wrapping_key(passphrase, &salt, WORK).map_err(io::Error::other)?;
        let wrapped = ChaCha20Poly1305::new(&Key::from(wrapping))
            .encrypt(&Nonce::from([0; 12]), key.0.as_slice())
            .map_err(|_| io::Error::other("the key cannot be wrapped"))?;
        let text = |bytes: &[u8]| STANDARD_NO_PAD.encode(bytes);
        let mut header = MAGIC.to_vec();
        write!(header, "-> scrypt {} {WORK}\n{}\n---", text(&salt), text(&wrapped))?;
        let mut mac = header_mac(&key);
        mac.update(&header);
        writeln!(header, " {}", text(&mac.finalize().into_bytes()))?;
        output.write_all(&header)?;
        output.write_all(&nonce)?;
        Ok(Sealing { output, payload: Payload::new(&key, &nonce), chunk: Vec::with_capacity(CHUNK), number: 0 })
    }

    /// Ends the file.
    pub fn finish(mut self) -> io::Result<W> {
        self.put(true)?;
        Ok(self.output)
    }

    fn put(&mut self, last: bool) -> io::Result<()> {
        let sealed = self.payload.seal(self.number, last, &self.chunk)?;
        self.output.write_all(&sealed)?;
        self.number += 1;
        self.chunk.clear();
        Ok(())
    }
}

impl<W: Write> Write for Sealing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A full chunk waits until it is known that it is not the last one.
        if self.chunk.len() == CHUNK && !bytes.is_empty() {
            self.put(false)?;
        }
        let count = bytes.len().min(CHUNK - self.chunk.len());
        self.chunk.extend_from_slice(bytes.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(content: &[u8]) -> Vec<u8> {
        let random: [u8; RANDOM] = std::array::from_fn(|at| (at as u8).wrapping_mul(7));
        let mut sealing = Sealing::new(Vec::new(), b"correct horse", &random).unwrap();
        sealing.write_all(content).unwrap();
        sealing.finish().unwrap()
    }

    fn opened(raw: &[u8], passphrase: &[u8]) -> Result<Vec<u8>, AgeError> {
        let header = Header::parse(raw)?;
        let body = &raw[header.length..];
        let payload = header.open(passphrase, body[..NONCE].try_into().unwrap())?;
        let chunks: Vec<&[u8]> = body[NONCE..].chunks(CHUNK + TAG).collect();
        let parts =
            (0..).zip(&chunks).map(|(number, chunk)| payload.open(number, number + 1 == chunks.len() as u64, chunk));
        Ok(parts.collect::<Result<Vec<_>, _>>()?.concat())
    }

    #[test]
    fn what_is_sealed_is_opened_with_the_passphrase_alone() {
        for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK] {
            let content: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let raw = sealed(&content);
            assert_eq!(opened(&raw, b"correct horse").unwrap(), content, "{length}");
        }
        assert_eq!(opened(&sealed(b"x"), b"wrong"), Err(AgeError::WrongPassphrase));
    }

    #[test]
    fn every_change_and_every_cut_is_seen() {
        let content = vec![5; CHUNK + 100];
        let raw = sealed(&content);
        let length = Header::parse(&raw).unwrap().length;
        for at in [25, 60, length - 5, length + 3, length + 20, length + NONCE + CHUNK, raw.len() - 1] {
            let mut changed = raw.clone();
            changed[at] ^= 1;
            assert!(opened(&changed, b"correct horse").is_err(), "byte {at}");
        }
        for end in [10, length - 1, length + NONCE + CHUNK + TAG, raw.len() - 1] {
            let cut = &raw[..end];
            assert!(
                end < length + NONCE && Header::parse(cut).is_err() || opened(cut, b"correct horse").is_err(),
                "{end}"
            );
        }
    }

    #[test]
    fn other_recipients_and_absurd_work_are_told_from_damage() {
        let header = |stanza: &str| Header::parse(format!("age-encryption.org/v1\n{stanza}\n").as_bytes());
        assert_eq!(header("-> X25519 abc"), Err(AgeError::ForKeys));
        let code = "A".repeat(43);
        let with = |work: &str| header(&format!("-> scrypt {} {work}\n{code}\n--- {code}", "A".repeat(22)));
        assert_eq!(with("21"), Err(AgeError::TooHard(2048)));
        assert!(with("20").is_ok());
        for bad in ["08", "+8", "", "300", "8 9"] {
            assert!(matches!(with(bad), Err(AgeError::Damaged(_))), "{bad}");
        }
    }
}
