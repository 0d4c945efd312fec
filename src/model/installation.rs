//! An installed FreedomBox system, as read from its disk without running it.

use super::account::WebUser;
use super::app::AppId;
use super::extra::KeptLocation;
use super::manifest::{Backup, Manifest};
use super::secret::Secret;
use super::version::Version;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// What a survey knows of one installed system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installation {
    /// Name of the volume, or the directory that was given as root.
    pub place: String,
    /// Where its root is mounted at the moment.
    #[serde(with = "super::bytes::path")]
    pub root: PathBuf,
    /// Filesystem kind of its root, for example `btrfs`.
    pub filesystem: Option<String>,
    /// UUID of that filesystem.
    pub uuid: Option<String>,
    /// Debian architecture: `amd64`, `arm64`, `armhf`.
    pub architecture: String,
    /// Debian release code name: `bookworm`, `trixie`, … Empty when unknown.
    pub suite: String,
    /// `PRETTY_NAME` of os-release.
    pub os: String,
    /// Host name.
    pub hostname: String,
    /// Version of package `freedombox` (`plinth` before 0.46), from the dpkg status.
    pub freedombox: Version,
    /// Whether FreedomBox was started at least once (its database exists).
    pub booted: bool,
    /// Whether the first-boot wizard was finished.
    pub wizard_done: bool,
    /// Whether it came from a FreedomBox disk image.
    pub disk_image: bool,
    /// Apps with the version that FreedomBox's database records; 0 means known but not set up.
    pub apps: BTreeMap<AppId, i64>,
    /// Names of all packages in state "installed".
    #[serde(skip_serializing_if = "BTreeSet::is_empty", default)]
    pub packages: BTreeSet<String>,
    /// Passphrases of backup locations that it keeps. Never shown, never saved.
    #[serde(skip)]
    pub passphrases: Vec<Secret>,
    /// Users of its pages, with their hashed passwords. Never shown, never saved.
    #[serde(skip)]
    pub web_users: Vec<WebUser>,
    /// Its backup locations, with their passphrases. Never shown, never saved.
    #[serde(skip)]
    pub locations: Vec<KeptLocation>,
    /// Its domains, where FreedomBox's store has them.
    #[serde(skip)]
    pub domains: Vec<String>,
    /// Values of FreedomBox's store that belong to backups of apps, as JSON. Never shown, never saved.
    #[serde(skip)]
    pub settings: BTreeMap<String, Secret>,
}

impl Installation {
    /// The recorded version of `app`, when FreedomBox has set it up.
    pub fn set_up(&self, app: &AppId) -> Option<i64> {
        self.apps.get(app).copied().filter(|version| *version > 0)
    }

    /// The FreedomBox version whose paths the app has here: [`Manifest::version_of_paths`].
    pub fn version_of_paths(&self, app: &Manifest) -> Version {
        app.version_of_paths(&self.freedombox, &self.suite)
    }

    /// What a backup of the app holds here; `None` where FreedomBox has no such app or no backup of it.
    pub fn paths_of<'a>(&self, app: &'a Manifest) -> Option<&'a Backup> {
        app.paths_at(&self.version_of_paths(app))
    }
}
