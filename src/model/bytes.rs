//! Names as bytes, written as text without loss.
//!
//! Filesystems and archives give names as bytes. For people and JSON a name is UTF-8 text in which every byte that is
//! not part of valid UTF-8, every control character and every backslash is written as `\xNN`; the text turns back into
//! the same bytes.

use std::fmt::Write as _;

/// Renders `raw` as printable text that [`unescape`] turns back into the same bytes.
pub fn escape(raw: &[u8]) -> String {
    let mut text = String::with_capacity(raw.len());
    for chunk in raw.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() || c == '\\' {
                let mut utf8 = [0; 4];
                for byte in c.encode_utf8(&mut utf8).bytes() {
                    let _ = write!(text, "\\x{byte:02x}");
                }
            } else {
                text.push(c);
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// Turns text made by [`escape`] back into bytes; `None` when an escape is not `\xNN`.
pub fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut raw = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first != b'\\' {
            raw.push(first);
            rest = tail;
            continue;
        }
        let (digits, after) = tail.strip_prefix(b"x")?.split_at_checked(2)?;
        raw.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = after;
    }
    Some(raw)
}

/// Serde for byte strings as escaped text.
pub mod text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Writes the bytes as escaped text.
    pub fn serialize<S: Serializer>(raw: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::escape(raw))
    }

    /// Reads escaped text back.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::unescape(&text).ok_or_else(|| D::Error::custom("an escape that is not \\xNN"))
    }
}

/// Serde for paths as escaped text: a path that is not UTF-8 is still shown, saved and read back as the same bytes.
pub mod path {
    use serde::{Deserializer, Serializer};
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::path::{Path, PathBuf};

    /// Writes the path as escaped text.
    pub fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        super::text::serialize(path.as_os_str().as_bytes(), serializer)
    }

    /// Reads escaped text back.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        super::text::deserialize(deserializer).map(|raw| PathBuf::from(OsString::from_vec(raw)))
    }

    /// The path as escaped text, for messages.
    pub fn shown(path: &Path) -> String {
        super::escape(path.as_os_str().as_bytes())
    }
}

/// Serde for lists of paths as escaped text.
pub mod paths {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::path::PathBuf;

    #[derive(Serialize, Deserialize)]
    struct Item(#[serde(with = "super::path")] PathBuf);

    /// Writes each path as escaped text.
    pub fn serialize<S: Serializer>(paths: &[PathBuf], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(paths.iter().cloned().map(Item))
    }

    /// Reads them back.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
        Ok(Vec::<Item>::deserialize(deserializer)?.into_iter().map(|item| item.0).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_byte_string_survives_being_shown(raw in proptest::collection::vec(any::<u8>(), 0..64)) {
            let text = escape(&raw);
            prop_assert!(text.chars().all(|c| !c.is_control()));
            prop_assert_eq!(unescape(&text), Some(raw));
        }
    }

    #[test]
    fn a_broken_escape_is_refused() {
        assert_eq!(unescape("a\\q"), None);
        assert_eq!(unescape("a\\x4"), None);
    }
}
