//! What is known of one backup: its name, time and the apps it holds.

use super::app::AppId;
use super::path::RelPath;
use super::size::ByteSize;
use super::version::Version;
use serde::{Deserialize, Deserializer, Serialize, de::Error};
use std::fmt;
use std::path::PathBuf;

/// Names one archive of a location, stable between runs: the file's path below the location for a tar export, the
/// hexadecimal archive id for a borg repository. 1 to 512 bytes, printable.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ArchiveId(String);

/// The text cannot name an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an archive name has 1 to 512 printable characters")]
pub struct BadArchiveId;

impl ArchiveId {
    /// An id for a name given as bytes; what is not printable is written as `\xNN`.
    pub fn of_name(raw: &[u8]) -> Result<Self, BadArchiveId> {
        super::bytes::escape(raw).parse()
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for ArchiveId {
    type Err = BadArchiveId;
    fn from_str(text: &str) -> Result<Self, BadArchiveId> {
        let fits = (1..=512).contains(&text.len()) && !text.chars().any(char::is_control);
        if fits { Ok(Self(text.to_owned())) } else { Err(BadArchiveId) }
    }
}

impl fmt::Display for ArchiveId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ArchiveId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// One archive as `list` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveSummary {
    /// Its name in the location.
    pub id: ArchiveId,
    /// The name that it was given when it was made, escaped as [`bytes::escape`](super::bytes::escape) does, where it
    /// has one besides its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// When the backup was made, RFC 3339 UTC; `None` when the archive does not tell.
    pub time: Option<String>,
    /// The manifest generation that the archive carries.
    pub generation: Generation,
    /// The apps that its manifest names, in the manifest's order.
    pub apps: Vec<ArchivedApp>,
    /// The file's or the archive's size where it is known without reading all of it.
    pub size: Option<ByteSize>,
}

/// Which form of FreedomBox manifest an archive carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Generation {
    /// Up to 0.38: none; the archive is one folder, only raw extraction is possible.
    None,
    /// 0.39 to 0.42: a list of apps.
    List,
    /// From 0.43: `{"apps": […]}`.
    Dict,
    /// No backup was made: it is an installed system, whose own database names the apps.
    System,
}

/// One app as the archive's own manifest describes it: where its data *was*.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchivedApp {
    /// The app's id then.
    pub name: AppId,
    /// The app's version then; `None` in manifests without it.
    pub version: Option<i64>,
    /// Its paths then, directories and files of all sections, in manifest order.
    #[serde(default)]
    pub paths: Vec<RelPath>,
    /// kvstore keys that its settings file carries.
    #[serde(default)]
    pub settings: Vec<String>,
}

/// A place where backups may lie.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum BackupLocation {
    /// One downloaded or exported archive file: `.tar`, `.tar.gz`, `.tar.zst`.
    TarExport {
        /// The file.
        #[serde(with = "super::bytes::path")]
        path: PathBuf,
        /// Its length.
        size: ByteSize,
        /// Why it was taken for a backup.
        found_as: FoundAs,
    },
    /// A borg 1.x repository.
    BorgRepository {
        /// The repository's directory.
        #[serde(with = "super::bytes::path")]
        path: PathBuf,
        /// Repository id, 64 hexadecimal digits; none where its config is lost.
        id: Option<String>,
        /// Whether the config holds a key, that is, whether a passphrase is likely needed; none where it is lost.
        keyed: Option<bool>,
        /// Why it was taken for a backup.
        found_as: FoundAs,
    },
    /// An installed FreedomBox itself.
    OldSystem {
        /// Its root directory, or the disk or image where the kernel cannot mount it.
        #[serde(with = "super::bytes::path")]
        path: PathBuf,
        /// Host name.
        hostname: String,
        /// Version of FreedomBox.
        freedombox: Version,
    },
}

/// How a backup location was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FoundAs {
    /// Named by the user.
    Named,
    /// `FreedomBoxBackups/` at the root of a filesystem.
    DiskRepository,
    /// `/var/lib/freedombox/borgbackup` or its older place, on a FreedomBox system.
    RootRepository,
    /// A borg repository in another place.
    Repository,
    /// A downloaded archive anywhere.
    Download,
    /// The legacy folder `FreedomBox-backups/`.
    LegacyFolder,
    /// A left-over of an upload, `/var/lib/freedombox/backups-upload/`.
    UploadLeftover,
}

impl BackupLocation {
    /// Where it lies.
    pub fn path(&self) -> &std::path::Path {
        match self {
            BackupLocation::TarExport { path, .. }
            | BackupLocation::BorgRepository { path, .. }
            | BackupLocation::OldSystem { path, .. } => path,
        }
    }
}
