//! SHA-256 digests of bytes, and of whole trees.
//!
//! A [`TreeDigest`] is the sum, modulo 2^256, of the SHA-256 of each entry's record. It does not depend on the order
//! in which entries are seen and needs no memory per entry, so an archive of a million files costs 40 bytes.
//! It protects against accidents (media, software, power), not against somebody who can choose the entries.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use sha2::{Digest as _, Sha256};
use std::fmt;

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256Digest([u8; 32]);

impl Sha256Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Takes a finished hasher's output.
    pub fn from_hasher(hasher: Sha256) -> Self {
        Self(hasher.finalize().into())
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Text that is not 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a sha256 digest: 64 hexadecimal digits are needed")]
pub struct BadDigest;

impl std::str::FromStr for Sha256Digest {
    type Err = BadDigest;
    fn from_str(text: &str) -> Result<Self, BadDigest> {
        if text.len() != 64 || !text.is_ascii() {
            return Err(BadDigest);
        }
        let mut raw = [0; 32];
        for (byte, pair) in raw.iter_mut().zip(text.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| BadDigest)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| BadDigest)?;
        }
        Ok(Self(raw))
    }
}

impl Serialize for Sha256Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sha256Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// The digest of a set of entries, independent of their order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TreeDigest {
    sum: [u64; 4],
    entries: u64,
}

impl TreeDigest {
    /// Adds one entry by the digest of its record.
    pub fn add(&mut self, record: Sha256Digest) {
        let mut sum = [0; 4];
        for (limb, bytes) in sum.iter_mut().zip(record.0.chunks_exact(8)) {
            let mut word = [0; 8];
            word.copy_from_slice(bytes);
            *limb = u64::from_le_bytes(word);
        }
        self.merge(&TreeDigest { sum, entries: 1 });
    }

    /// Adds all entries of another sum.
    pub fn merge(&mut self, other: &TreeDigest) {
        let mut carry = false;
        for (limb, more) in self.sum.iter_mut().zip(other.sum) {
            let (partial, first) = limb.overflowing_add(more);
            let (total, second) = partial.overflowing_add(u64::from(carry));
            *limb = total;
            carry = first || second;
        }
        self.entries = self.entries.wrapping_add(other.entries);
    }

    /// Takes back one entry that was added before.
    pub fn remove(&mut self, record: Sha256Digest) {
        let mut borrow = false;
        for (limb, bytes) in self.sum.iter_mut().zip(record.0.chunks_exact(8)) {
            let mut word = [0; 8];
            word.copy_from_slice(bytes);
            let (partial, first) = limb.overflowing_sub(u64::from_le_bytes(word));
            let (total, second) = partial.overflowing_sub(u64::from(borrow));
            *limb = total;
            borrow = first || second;
        }
        self.entries = self.entries.wrapping_sub(1);
    }

    /// How many entries were added.
    pub fn entries(&self) -> u64 {
        self.entries
    }
}

impl fmt::Display for TreeDigest {
    /// `<entries>-<64 hexadecimal digits>`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-", self.entries)?;
        self.sum.iter().try_for_each(|limb| write!(f, "{limb:016x}"))
    }
}

impl std::str::FromStr for TreeDigest {
    type Err = BadDigest;
    fn from_str(text: &str) -> Result<Self, BadDigest> {
        let (entries, hex) = text.split_once('-').ok_or(BadDigest)?;
        if hex.len() != 64 || !hex.is_ascii() {
            return Err(BadDigest);
        }
        let mut sum = [0; 4];
        for (limb, digits) in sum.iter_mut().zip(hex.as_bytes().chunks(16)) {
            let digits = std::str::from_utf8(digits).map_err(|_| BadDigest)?;
            *limb = u64::from_str_radix(digits, 16).map_err(|_| BadDigest)?;
        }
        Ok(Self { sum, entries: entries.parse().map_err(|_| BadDigest)? })
    }
}

impl Serialize for TreeDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TreeDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_tree_digest_ignores_order_and_sees_every_entry(mut records in proptest::collection::vec(any::<[u8; 4]>(), 1..20)) {
            let sum = |records: &[[u8; 4]]| {
                let mut tree = TreeDigest::default();
                records.iter().for_each(|record| tree.add(Sha256Digest::of(record)));
                tree
            };
            let before = sum(&records);
            prop_assert_eq!(before.to_string().parse::<TreeDigest>().unwrap(), before);
            records.reverse();
            prop_assert_eq!(sum(&records), before);
            let mut taken_back = before;
            let last = records.pop().unwrap();
            taken_back.remove(Sha256Digest::of(&last));
            prop_assert_ne!(sum(&records), before);
            prop_assert_eq!(sum(&records), taken_back);
        }
    }

    #[test]
    fn a_digest_is_read_back_from_its_text() {
        let digest = Sha256Digest::of(b"abc");
        assert_eq!(digest.to_string().parse::<Sha256Digest>(), Ok(digest));
        assert!("zz".parse::<Sha256Digest>().is_err());
    }
}
