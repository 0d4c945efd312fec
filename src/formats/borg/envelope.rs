//! The envelope of an object: its first byte names the mode; encrypted modes add an authentication code and a nonce.
//!
//! Encrypted: type, 32 bytes code over nonce and ciphertext, 8 bytes nonce, ciphertext of AES-256-CTR, whose counter
//! starts at the nonce. All others: type, compressed data. An object's id is a digest of its plain content: SHA-256,
//! HMAC-SHA-256, or BLAKE2b-256 with the key before the content.

use super::key::{Aes, Secrets};
use super::{Malformed, ObjectId};
use blake2::Blake2b256;
use ctr::cipher::{KeyIvInit, StreamCipher};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// Length of the code and the nonce.
const SEAL: usize = 40;

/// How a repository is encrypted and authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode {
    /// Whether content is encrypted.
    pub is_encrypted: bool,
    /// Whether there is a key at all.
    pub is_keyed: bool,
    /// Whether the key is kept in a file outside of the repository.
    pub is_key_outside: bool,
    digest: DigestKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DigestKind {
    Sha,
    Hmac,
    Blake,
}

impl Mode {
    /// The mode of an object from its first byte.
    pub fn of(object: &[u8]) -> Result<Mode, Malformed> {
        let first = object.first().ok_or_else(|| Malformed::new("it is empty"))?;
        let (is_encrypted, is_keyed, is_key_outside, digest) = match first {
            0x00 => (true, true, true, DigestKind::Hmac),
            // The second one is of Attic, whose passphrase mode borg turned into this one.
            0x03 | 0x01 => (true, true, false, DigestKind::Hmac),
            0x04 => (true, true, true, DigestKind::Blake),
            0x05 => (true, true, false, DigestKind::Blake),
            0x02 => (false, false, false, DigestKind::Sha),
            0x06 => (false, true, false, DigestKind::Blake),
            0x07 => (false, true, false, DigestKind::Hmac),
            other => return Err(Malformed::new(format!("it is encrypted in an unknown way ({other})"))),
        };
        Ok(Mode { is_encrypted, is_keyed, is_key_outside, digest })
    }
}

/// Opens objects of one repository.
pub struct Opener {
    mode: Mode,
    secrets: Option<Secrets>,
    /// The key schedules, made once and cloned for each object.
    authentication: Option<Hmac<Sha256>>,
    identity: Option<Hmac<Sha256>>,
}

impl Opener {
    /// An opener for a mode; keyed modes need the secrets.
    pub fn new(mode: Mode, secrets: Option<Secrets>) -> Result<Opener, Malformed> {
        if mode.is_keyed != secrets.is_some() {
            return Err(Malformed::new("the key does not fit the encryption"));
        }
        let prepared = |key: &Vec<u8>| Hmac::<Sha256>::new_from_slice(key).ok();
        let authentication = secrets.as_ref().and_then(|secrets| prepared(&secrets.authentication));
        let identity = secrets.as_ref().and_then(|secrets| prepared(&secrets.identity));
        Ok(Opener { mode, secrets, authentication, identity })
    }

    /// The secrets, where there are any.
    pub fn secrets(&self) -> Option<&Secrets> {
        self.secrets.as_ref()
    }

    /// How many bytes come before the compressed data.
    pub fn head(&self) -> usize {
        1 + if self.mode.is_encrypted { SEAL } else { 0 }
    }

    /// Checks and decrypts an object in place; what is left is compressed data.
    pub fn open<'a>(&self, object: &'a mut [u8]) -> Result<&'a [u8], Malformed> {
        let (head, rest) = object.split_at_mut(self.head().min(object.len()));
        let mut opening = self.begin(head)?;
        opening.open(rest);
        opening.end()?;
        Ok(rest)
    }

    /// Begins to open an object that comes in parts, the first of which is its [`head`](Self::head).
    pub fn begin(&self, head: &[u8]) -> Result<Opening, Malformed> {
        let mode = Mode::of(head)?;
        if mode.is_encrypted != self.mode.is_encrypted || mode.digest != self.mode.digest {
            return Err(Malformed::new("it is encrypted in another way than the repository"));
        }
        let Some(secrets) = self.secrets.as_ref().filter(|_| mode.is_encrypted) else { return Ok(Opening(None)) };
        let seal = head.get(1..).and_then(|seal| seal.split_first_chunk::<32>());
        let Some((code, nonce)) = seal.filter(|(_, nonce)| nonce.len() == SEAL - 32) else {
            return Err(Malformed::new("it is too short for its authentication code"));
        };
        let mut sum = match (mode.digest, &self.authentication) {
            (DigestKind::Hmac, Some(prepared)) => Sum::Hmac(prepared.clone()),
            (DigestKind::Blake, _) => Sum::blake(&secrets.authentication),
            // Never without a key: that anybody could make.
            _ => return Err(Malformed::new("its authentication code is wrong")),
        };
        sum.update(nonce);
        let mut counter = [0; 16];
        counter.iter_mut().skip(8).zip(nonce).for_each(|(to, from)| *to = *from);
        let cipher = Aes::new_from_slices(&secrets.encryption, &counter)
            .map_err(|_| Malformed::new("the key has the wrong length"))?;
        Ok(Opening(Some(Seal { code: *code, sum, cipher })))
    }

    /// The id that plain content must have.
    pub fn id(&self, content: &[u8]) -> ObjectId {
        let mut sum = self.identity();
        sum.update(content);
        sum.finish()
    }

    /// The id of plain content that comes in parts.
    pub fn identity(&self) -> Sum {
        match (self.mode.digest, &self.identity, &self.secrets) {
            (DigestKind::Hmac, Some(prepared), _) => Sum::Hmac(prepared.clone()),
            (DigestKind::Blake, _, Some(secrets)) => Sum::blake(&secrets.identity),
            _ => Sum::Sha(Sha256::new()),
        }
    }
}

/// An object that is opened part by part. Nothing of it may be used before [`end`](Self::end) says that it is authentic.
pub struct Opening(Option<Seal>);

struct Seal {
    code: [u8; 32],
    sum: Sum,
    cipher: Aes,
}

impl Opening {
    /// Decrypts the next part in place.
    pub fn open(&mut self, part: &mut [u8]) {
        if let Some(seal) = &mut self.0 {
            seal.sum.update(part);
            seal.cipher.apply_keystream(part);
        }
    }

    /// Whether everything was authentic.
    pub fn end(self) -> Result<(), Malformed> {
        let Some(Seal { code, sum, .. }) = self.0 else { return Ok(()) };
        match is_equal(&sum.finish(), &code) {
            true => Ok(()),
            false => Err(Malformed::new("its authentication code is wrong")),
        }
    }
}

/// One of borg's digests in the making.
pub enum Sum {
    /// SHA-256.
    Sha(Sha256),
    /// HMAC-SHA-256.
    Hmac(Hmac<Sha256>),
    /// BLAKE2b-256.
    Blake(Blake2b256),
}

impl Sum {
    /// Borg puts the key before the content.
    fn blake(key: &[u8]) -> Sum {
        Sum::Blake(Blake2b256::new().chain_update(key))
    }

    /// Takes the next part.
    pub fn update(&mut self, part: &[u8]) {
        match self {
            Sum::Sha(sum) => Digest::update(sum, part),
            Sum::Hmac(sum) => Mac::update(sum, part),
            Sum::Blake(sum) => Digest::update(sum, part),
        }
    }

    /// The digest.
    pub fn finish(self) -> [u8; 32] {
        match self {
            Sum::Sha(sum) => sum.finalize().into(),
            Sum::Hmac(sum) => sum.finalize().into_bytes().into(),
            Sum::Blake(sum) => sum.finalize().into(),
        }
    }
}

/// Takes the same time wherever the difference is.
fn is_equal(a: &[u8; 32], b: &[u8; 32]) -> bool {
    std::hint::black_box(a.iter().zip(b).fold(0, |sum, (a, b)| sum | (a ^ b))) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn secrets() -> Secrets {
        Secrets {
            repository: [1; 32],
            encryption: vec![2; 32],
            authentication: vec![3; 32],
            identity: vec![4; 32],
            tam_required: true,
        }
    }

    proptest! {
        #[test]
        fn nothing_without_the_right_code_is_opened(mut raw in proptest::collection::vec(any::<u8>(), 1..100), kind in 0u8..9) {
            raw[0] = kind;
            for mode in 0..8 {
                let mode = Mode::of(&[mode]).unwrap();
                let opener = Opener::new(mode, mode.is_keyed.then(secrets)).unwrap();
                let opened = opener.open(&mut raw.clone()).is_ok();
                prop_assert!(!opened || !mode.is_encrypted);
            }
        }
    }
}
