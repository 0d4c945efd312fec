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

    /// Checks and decrypts an object in place; what is left is compressed data.
    pub fn open<'a>(&self, object: &'a mut [u8]) -> Result<&'a [u8], Malformed> {
        let mode = Mode::of(object)?;
        if mode.is_encrypted != self.mode.is_encrypted || mode.digest != self.mode.digest {
            return Err(Malformed::new("it is encrypted in another way than the repository"));
        }
        let (_, rest) = object.split_first_mut().ok_or_else(|| Malformed::new("it is empty"))?;
        let Some(secrets) = self.secrets.as_ref().filter(|_| mode.is_encrypted) else { return Ok(rest) };
        let Some((code, sealed)) = rest.split_first_chunk_mut::<32>().filter(|(_, sealed)| sealed.len() >= SEAL - 32)
        else {
            return Err(Malformed::new("it is too short for its authentication code"));
        };
        let is_authentic = match (mode.digest, &self.authentication) {
            (DigestKind::Hmac, Some(prepared)) => {
                prepared.clone().chain_update(&*sealed).verify(&(*code).into()).is_ok()
            }
            (DigestKind::Blake, _) => is_equal(&blake(&secrets.authentication, sealed), code),
            _ => false,
        };
        if !is_authentic {
            return Err(Malformed::new("its authentication code is wrong"));
        }
        let (nonce, content) = sealed.split_at_mut(SEAL - 32);
        let mut counter = [0; 16];
        counter.iter_mut().skip(8).zip(nonce).for_each(|(to, from)| *to = *from);
        let mut cipher = Aes::new_from_slices(&secrets.encryption, &counter)
            .map_err(|_| Malformed::new("the key has the wrong length"))?;
        cipher.apply_keystream(content);
        Ok(content)
    }

    /// The id that plain content must have.
    pub fn id(&self, content: &[u8]) -> ObjectId {
        match (self.mode.digest, &self.identity, &self.secrets) {
            (DigestKind::Hmac, Some(prepared), _) => {
                prepared.clone().chain_update(content).finalize().into_bytes().into()
            }
            (DigestKind::Blake, _, Some(secrets)) => blake(&secrets.identity, content),
            _ => Sha256::digest(content).into(),
        }
    }
}

fn blake(key: &[u8], content: &[u8]) -> [u8; 32] {
    Blake2b256::new().chain_update(key).chain_update(content).finalize().into()
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
