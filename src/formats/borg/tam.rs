//! TAM, the "tertiary authentication of metadata" (Borg documentation, "Security"): proves that a manifest or an
//! archive's description is meant to be one, and not another object of the same repository in its place.
//!
//! The packed map has `tam: {type: "HKDF_HMAC_SHA512", salt, hmac}`; the code covers the packed bytes with 64 zeros in
//! place of the code. Its key comes from all secrets (HKDF, RFC 5869); without secrets it only shows accidents.

use super::key::Secrets;
use super::msgpack::{Reader, Trouble};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha512;

/// What is authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// The list of archives.
    Manifest,
    /// One archive.
    Archive,
}

/// The result of the check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tam {
    /// Authentic.
    Right,
    /// There is none.
    Missing,
    /// It is there, and it does not fit.
    Wrong,
}

/// Checks the authentication of a packed map.
pub fn check(packed: &[u8], subject: Subject, secrets: Option<&Secrets>) -> Tam {
    match find(packed) {
        Ok(None) => Tam::Missing,
        Ok(Some(found)) if is_right(packed, &found, subject, secrets) == Some(true) => Tam::Right,
        _ => Tam::Wrong,
    }
}

struct Found<'a> {
    kind: &'a [u8],
    salt: &'a [u8],
    code: &'a [u8],
    /// Where the code ends in the packed bytes.
    end: usize,
}

fn find(packed: &[u8]) -> Result<Option<Found<'_>>, Trouble> {
    let mut reader = Reader::new(packed);
    for _ in 0..reader.map()? {
        if reader.raw()? != b"tam" {
            reader.skip()?;
            continue;
        }
        let mut found = Found { kind: b"", salt: b"", code: b"", end: 0 };
        for _ in 0..reader.map()? {
            match reader.raw()? {
                b"type" => found.kind = reader.raw()?,
                b"salt" => found.salt = reader.raw()?,
                b"hmac" => {
                    found.code = reader.raw()?;
                    found.end = reader.position();
                }
                _ => reader.skip()?,
            }
        }
        return Ok(Some(found));
    }
    Ok(None)
}

fn is_right(packed: &[u8], found: &Found<'_>, subject: Subject, secrets: Option<&Secrets>) -> Option<bool> {
    if found.kind != b"HKDF_HMAC_SHA512" || found.salt.len() != 64 || found.code.len() != 64 {
        return Some(false);
    }
    let context: &[u8] = match subject {
        Subject::Manifest => b"manifest",
        Subject::Archive => b"archive",
    };
    let key = match secrets {
        None => [found.salt, context].concat(),
        Some(secrets) => {
            let extracted = mac(found.salt)?
                .chain_update(&secrets.identity)
                .chain_update(&secrets.encryption)
                .chain_update(&secrets.authentication)
                .finalize()
                .into_bytes();
            let expanded = mac(&extracted)?.chain_update(b"borg-metadata-authentication-").chain_update(context);
            expanded.chain_update([1]).finalize().into_bytes().to_vec()
        }
    };
    let before = packed.get(..found.end.checked_sub(64)?)?;
    let after = packed.get(found.end..)?;
    let code = mac(&key)?.chain_update(before).chain_update([0; 64]).chain_update(after);
    Some(code.verify_slice(found.code).is_ok())
}

fn mac(key: &[u8]) -> Option<Hmac<Sha512>> {
    Hmac::<Sha512>::new_from_slice(key).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_map_without_authentication_is_told_from_a_broken_one() {
        assert_eq!(check(b"\x81\xa1a\x01", Subject::Manifest, None), Tam::Missing);
        assert_eq!(check(b"\x81\xa3tam\x80", Subject::Manifest, None), Tam::Wrong);
        assert_eq!(check(b"\x81\xa3tam", Subject::Manifest, None), Tam::Wrong);
        assert_eq!(check(b"", Subject::Manifest, None), Tam::Wrong);
    }

    proptest! {
        #[test]
        fn no_bytes_are_authentic_by_chance(raw in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_ne!(check(&raw, Subject::Archive, None), Tam::Right);
            let with = [b"\x81\xa3tam", &raw[..]].concat();
            prop_assert_ne!(check(&with, Subject::Archive, None), Tam::Right);
        }
    }
}
