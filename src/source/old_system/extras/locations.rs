//! The files by which FreedomBox reaches backup locations on other computers.

use super::missing;
use crate::model::finding::Finding;
use crate::model::installation::Installation;
use crate::model::secret::Secret;
use crate::survey::files::Files;

const FOLDER: &str = "var/lib/plinth/.ssh";
/// FreedomBox 26.4 and newer makes the key; all versions keep the keys of the other computers.
const KEYS: [&str; 3] = ["id_ed25519", "id_ed25519.pub", "known_hosts"];
const LARGEST: u64 = 1 << 20;

/// Its key for SSH, and the keys of the other computers.
pub(super) fn keys(files: &dyn Files, system: &Installation, findings: &mut Vec<Finding>) -> Vec<(String, Secret)> {
    let mut found = Vec::new();
    if system.locations.is_empty() {
        return found;
    }
    for name in KEYS {
        match files.read(&format!("{FOLDER}/{name}"), LARGEST) {
            Ok(Some(text)) => found.push((name.to_owned(), Secret::new(text))),
            Ok(None) => {}
            Err(error) => findings.push(missing(
                "backup locations",
                format!("the file '{name}' for backups on other computers cannot be read: {error}"),
                "add the backup locations on other computers again in FreedomBox",
            )),
        }
    }
    found
}
