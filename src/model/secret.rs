//! A passphrase: never shown, never saved, overwritten when it is dropped.

use std::fmt;
use std::hint::black_box;

/// Longest passphrase accepted, in bytes.
pub const LONGEST_SECRET: usize = 4096;

/// A secret text. It has no way into messages or files.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Takes the bytes.
    pub fn new(raw: Vec<u8>) -> Secret {
        Secret(raw)
    }

    /// Takes what a file or a pipe holds: line ends after it do not belong to it.
    pub fn of_file(mut raw: Vec<u8>) -> Secret {
        while raw.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
            raw.pop();
        }
        Secret(raw)
    }

    /// The bytes, for the one who needs them.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.fill(0);
        // Keeps the compiler from leaving the overwriting out.
        black_box(&mut self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown_and_line_ends_of_its_file_are_dropped() {
        let secret = Secret::of_file(b"correct horse \r\n\n".to_vec());
        assert_eq!(secret.reveal(), b"correct horse ");
        assert!(!format!("{secret:?}").contains("horse"));
    }
}
