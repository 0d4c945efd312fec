//! Where the key and the passphrase of an encrypted backup come from: the caller knows, not the reader.

use crate::model::secret::Secret;

/// Answers the questions of whoever opens an encrypted backup.
pub trait Unlock {
    /// The passphrase to try on the backup at `place`, after `attempt` others of this caller were wrong; `None` when
    /// there is none left to try. The empty passphrase was tried before.
    fn passphrase(&mut self, place: &str, attempt: u32) -> Option<Secret>;

    /// Takes passphrases that an installed system keeps; `system` names it for people. They are tried before anybody is
    /// asked.
    fn learn(&mut self, _system: &str, _passphrases: &[Secret]) {}

    /// Content of a key file, or of an exported key, that the user named.
    fn key_file(&self) -> Option<&[u8]> {
        None
    }
}

/// Knows one passphrase.
#[derive(Debug)]
pub struct OnePassphrase<'a>(pub &'a Secret);

impl Unlock for OnePassphrase<'_> {
    fn passphrase(&mut self, _: &str, attempt: u32) -> Option<Secret> {
        (attempt == 0).then(|| self.0.clone())
    }
}

/// Knows no passphrase.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoPassphrase;

impl Unlock for NoPassphrase {
    fn passphrase(&mut self, _: &str, _: u32) -> Option<Secret> {
        None
    }
}
