//! What is learnt about an archive as a whole while its entries go by: FreedomBox's manifest, and the time.

use super::ReadError;
use crate::formats::backup_manifest::{self, BackupManifest, LONGEST_MANIFEST};
use crate::model::entry::Mtime;
use crate::model::finding::Finding;
use crate::model::path::RelPath;

/// What reading an archive once tells about it.
#[derive(Debug, Default)]
pub(super) struct Scan {
    manifest: Option<(String, Mtime, Result<BackupManifest, String>)>,
    /// Names of all manifests after the first.
    more: Vec<String>,
    /// Whether every entry was seen.
    pub(super) complete: bool,
    pub(super) newest: Option<Mtime>,
}

impl Scan {
    /// Takes the content of a manifest file; `raw` ends at [`LONGEST_MANIFEST`].
    pub(super) fn take_manifest(&mut self, path: &RelPath, mtime: Mtime, size: u64, raw: &[u8]) {
        let parsed = match size {
            0..=LONGEST_MANIFEST => backup_manifest::parse(raw).map_err(|bad| bad.to_string()),
            _ => Err("the manifest is longer than 4 MiB".into()),
        };
        self.add(path.to_string(), mtime, parsed);
    }

    /// Takes a manifest file whose content cannot be read.
    pub(super) fn miss_manifest(&mut self, path: &RelPath, mtime: Mtime, why: String) {
        self.add(path.to_string(), mtime, Err(why));
    }

    fn add(&mut self, name: String, mtime: Mtime, parsed: Result<BackupManifest, String>) {
        match &self.manifest {
            None => self.manifest = Some((name, mtime, parsed)),
            // The same member again, see `Archive::read`.
            Some((known, _, Ok(manifest))) if *known == name && parsed.as_ref() == Ok(manifest) => {}
            Some(_) if self.more.len() < 4 => self.more.push(name),
            Some(_) => {}
        }
    }

    pub(super) fn has_manifest(&self) -> bool {
        self.manifest.is_some()
    }

    /// The one manifest, if there is one.
    pub(super) fn manifest(&self) -> Result<Option<&BackupManifest>, ReadError> {
        match &self.manifest {
            None => Ok(None),
            Some((name, _, Err(what))) => Err(ReadError::Corrupt { place: format!("in '{name}'"), what: what.clone() }),
            Some((name, ..)) if !self.more.is_empty() => {
                let what = format!("the archive has more than one manifest, also '{}'", self.more.join("', '"));
                Err(ReadError::Corrupt { place: format!("in '{name}'"), what })
            }
            Some((_, _, Ok(manifest))) => Ok(Some(manifest)),
        }
    }

    /// What was noticed in the manifest.
    pub(super) fn findings(&self) -> Vec<Finding> {
        match &self.manifest {
            Some((_, _, Ok(manifest))) => manifest.findings.clone(),
            _ => Vec::new(),
        }
    }

    pub(super) fn time(&self) -> Option<Mtime> {
        self.manifest.as_ref().map(|(_, time, _)| *time).or(self.newest)
    }
}
