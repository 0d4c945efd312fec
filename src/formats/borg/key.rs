//! The key of a repository, locked with a passphrase.
//!
//! Base64 of a msgpack map `{version: 1, algorithm: "sha256", iterations, salt, hash, data}`. PBKDF2-HMAC-SHA256 of the
//! passphrase opens `data` (AES-256-CTR, counter from zero); `hash` tells whether the passphrase was right. Inside is a
//! map of the secrets. It stands in the repository's config, or in a key file after the line `BORG_KEY <id>`.

use super::msgpack::{Reader, Trouble};
use super::{Malformed, ObjectId};
use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ctr::cipher::{KeyIvInit, StreamCipher};
use hmac::{Hmac, KeyInit, Mac};
use ring::pbkdf2;
use sha2::Sha256;
use std::hint::black_box;
use std::num::NonZeroU32;

/// AES-256 in counter mode with a 128-bit big-endian counter.
pub(super) type Aes = ctr::Ctr128BE<aes::Aes256>;

/// Most iterations accepted; borg 1.x uses 100,000.
const MOST_ITERATIONS: u32 = 10_000_000;
/// Longest key accepted, as base64.
const LONGEST: usize = 64 << 10;
/// Longest secret inside.
const LONGEST_SECRET: usize = 1 << 10;

/// A key that is still locked.
pub struct LockedKey {
    iterations: NonZeroU32,
    salt: Vec<u8>,
    hash: Vec<u8>,
    data: Vec<u8>,
}

/// The secrets of a repository. Never shown, overwritten when dropped.
pub struct Secrets {
    /// The repository that it belongs to.
    pub repository: ObjectId,
    pub(super) encryption: Vec<u8>,
    pub(super) authentication: Vec<u8>,
    pub(super) identity: Vec<u8>,
    /// Whether every manifest must carry an authentication; absent in keys made before borg 1.0.9.
    pub tam_required: bool,
}

impl Drop for Secrets {
    fn drop(&mut self) {
        for secret in [&mut self.encryption, &mut self.authentication, &mut self.identity] {
            wipe(secret);
        }
    }
}

/// Overwrites bytes that nobody may see later.
fn wipe(secret: &mut [u8]) {
    secret.fill(0);
    black_box(secret);
}

/// Why a key cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// The passphrase does not fit.
    #[error("the passphrase is wrong")]
    WrongPassphrase,
    /// The key is not one.
    #[error("the key is damaged: {0}")]
    Damaged(Malformed),
}

impl From<Trouble> for BadKey {
    fn from(trouble: Trouble) -> BadKey {
        BadKey::Damaged(trouble.into())
    }
}

fn damaged(what: &str) -> BadKey {
    BadKey::Damaged(Malformed::new(what))
}

/// Reads a key file or an exported key: the id of its repository, and the locked key.
pub fn parse_file(text: &[u8]) -> Result<(ObjectId, LockedKey), BadKey> {
    let end = text.iter().position(|&b| b == b'\n').ok_or_else(|| damaged("it is not a key file"))?;
    let (first, rest) = text.split_at(end);
    let id = first.trim_ascii().strip_prefix(b"BORG_KEY ").ok_or_else(|| damaged("it is not a key file"))?;
    let id = parse_id(id.trim_ascii()).ok_or_else(|| damaged("it names no repository"))?;
    Ok((id, parse(rest)?))
}

/// An id as 64 hexadecimal digits.
pub fn parse_id(hex: &[u8]) -> Option<ObjectId> {
    let text = std::str::from_utf8(hex).ok().filter(|text| text.len() == 64 && text.is_ascii())?;
    let mut id = [0; 32];
    for (at, byte) in id.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(id)
}

/// Reads a key as it stands in a config.
pub fn parse(base64: &[u8]) -> Result<LockedKey, BadKey> {
    if base64.len() > LONGEST {
        return Err(damaged("it is too long"));
    }
    let raw = decode(base64).ok_or_else(|| damaged("it is not base64"))?;
    let mut reader = Reader::new(&raw);
    let (mut version, mut algorithm, mut iterations) = (None, None, None);
    let (mut salt, mut hash, mut data) = (None, None, None);
    for _ in 0..reader.map()? {
        match reader.raw()? {
            b"version" => version = Some(reader.int()?),
            b"algorithm" => algorithm = Some(reader.raw()?),
            b"iterations" => iterations = Some(reader.int()?),
            b"salt" => salt = Some(reader.raw()?.to_vec()),
            b"hash" => hash = Some(reader.raw()?.to_vec()),
            b"data" => data = Some(reader.raw()?.to_vec()),
            _ => reader.skip()?,
        }
    }
    let (Some(1), Some(b"sha256")) = (version, algorithm) else { return Err(damaged("it has an unknown form")) };
    let iterations = iterations.and_then(|count| u32::try_from(count).ok()).filter(|&count| count <= MOST_ITERATIONS);
    let iterations = iterations.and_then(NonZeroU32::new);
    match (iterations, salt, hash, data) {
        (Some(iterations), Some(salt), Some(hash), Some(data)) => Ok(LockedKey { iterations, salt, hash, data }),
        _ => Err(damaged("a part of it is missing or out of range")),
    }
}

impl LockedKey {
    /// Opens the key.
    pub fn unlock(&self, passphrase: &[u8]) -> Result<Secrets, BadKey> {
        let mut kek = derive(passphrase, &self.salt, self.iterations);
        let mut inner = self.data.clone();
        Aes::new(&kek.into(), &[0; 16].into()).apply_keystream(&mut inner);
        let is_right = mac(&kek)?.chain_update(&inner).verify_slice(&self.hash).is_ok();
        wipe(&mut kek);
        let secrets = if is_right { parse_secrets(&inner) } else { Err(BadKey::WrongPassphrase) };
        wipe(&mut inner);
        secrets
    }
}

fn parse_secrets(raw: &[u8]) -> Result<Secrets, BadKey> {
    let mut reader = Reader::new(raw);
    let (mut version, mut repository) = (None, None);
    let mut secrets = Secrets {
        repository: [0; 32],
        encryption: Vec::new(),
        authentication: Vec::new(),
        identity: Vec::new(),
        tam_required: false,
    };
    let secret = |reader: &mut Reader<'_>| match reader.raw()? {
        raw if raw.len() <= LONGEST_SECRET => Ok(raw.to_vec()),
        _ => Err(Trouble::Wrong("a secret in it is too long")),
    };
    for _ in 0..reader.map()? {
        match reader.raw()? {
            b"version" => version = Some(reader.int()?),
            b"repository_id" => repository = Some(reader.id()?),
            b"enc_key" => secrets.encryption = secret(&mut reader)?,
            b"enc_hmac_key" => secrets.authentication = secret(&mut reader)?,
            b"id_key" => secrets.identity = secret(&mut reader)?,
            b"tam_required" => secrets.tam_required = reader.value()? == super::msgpack::Value::Bool(true),
            _ => reader.skip()?,
        }
    }
    let complete = secrets.encryption.len() == 32 && secrets.authentication.len() >= 32 && secrets.identity.len() >= 32;
    match (version, repository) {
        (Some(1), Some(repository)) if complete => {
            secrets.repository = repository;
            Ok(secrets)
        }
        _ => Err(damaged("its inside has an unknown form")),
    }
}

fn mac(key: &[u8]) -> Result<Hmac<Sha256>, BadKey> {
    Hmac::<Sha256>::new_from_slice(key).map_err(|_| damaged("a part of it has the wrong length"))
}

/// PBKDF2 with HMAC-SHA256 (RFC 8018, section 5.2): 32 bytes.
fn derive(passphrase: &[u8], salt: &[u8], iterations: NonZeroU32) -> [u8; 32] {
    let mut key = [0; 32];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, passphrase, &mut key);
    key
}

/// Base64 (RFC 4648, section 4) with blanks and line ends anywhere, and with or without its padding.
fn decode(text: &[u8]) -> Option<Vec<u8>> {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &STANDARD,
        GeneralPurposeConfig::new()
            .with_decode_padding_mode(DecodePaddingMode::Indifferent)
            .with_decode_allow_trailing_bits(true),
    );
    let letters: Vec<u8> = text.iter().filter(|letter| !letter.is_ascii_whitespace()).copied().collect();
    LENIENT.decode(letters).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_derivation_gives_published_vectors() {
        // RFC 7914, section 11.
        let key = derive(b"passwd", b"salt", NonZeroU32::MIN);
        assert_eq!(key[..8], [0x55, 0xac, 0x04, 0x6e, 0x56, 0xe3, 0x08, 0x9f]);
        let key = derive(b"Password", b"NaCl", 80_000.try_into().unwrap());
        assert_eq!(key[..8], [0x4d, 0xdc, 0xd8, 0xf6, 0x0b, 0x98, 0xbe, 0x21]);
    }

    #[test]
    fn base64_with_line_ends_is_read_and_other_letters_are_refused() {
        assert_eq!(decode(b"aGVs\n\tbG8h\nIQ=="), Some(b"hello!!".to_vec()));
        assert_eq!(decode(b"aGVsbG8hIQ"), Some(b"hello!!".to_vec()));
        assert_eq!(decode(b"aGV$"), None);
        assert_eq!(decode(b"aG=V"), None);
    }

    #[test]
    fn more_iterations_than_any_borg_uses_are_refused() {
        // {"version": 1, "algorithm": "sha256", "iterations": 2^32 - 1, "salt": "s", "hash": "h", "data": "d"}
        let text = b"hqd2ZXJzaW9uAalhbGdvcml0aG2mc2hhMjU2qml0ZXJhdGlvbnPO/////6RzYWx0oXOkaGFzaKFopGRhdGGhZA==";
        assert!(matches!(parse(text), Err(BadKey::Damaged(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_key_or_an_error(raw in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&raw);
            let _ = parse_file(&raw);
            let _ = parse_secrets(&raw);
        }
    }
}
