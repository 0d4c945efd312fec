//! What an installed system holds besides the data of its apps, and what no backup of FreedomBox has.

use super::account::Accounts;
use super::path::{BadPath, RelPath};
use super::secret::Secret;
use super::site::AREA;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The kinds, in the order in which the running box brings them over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Extra {
    /// People: names, passwords, groups, keys for SSH.
    Accounts,
    /// The box's host name and its domains.
    Names,
    /// Connections of NetworkManager with their passwords.
    Networks,
    /// Where FreedomBox keeps its backups, with passphrases and schedules.
    BackupLocations,
    /// Home folders, and folders with files that apps share or load down.
    Folders,
}

impl Extra {
    /// All of them.
    pub const ALL: [Extra; 5] =
        [Extra::Accounts, Extra::Names, Extra::Networks, Extra::BackupLocations, Extra::Folders];

    /// Its name for programs and command lines.
    pub fn as_str(self) -> &'static str {
        match self {
            Extra::Accounts => "accounts",
            Extra::Names => "names",
            Extra::Networks => "networks",
            Extra::BackupLocations => "backup-locations",
            Extra::Folders => "folders",
        }
    }

    /// Where it waits on the box until it was brought over.
    pub fn waits_in(self) -> Result<RelPath, BadPath> {
        format!("{AREA}/{self}.json").parse()
    }

    /// What it is, in a few words for people.
    pub fn title(self) -> &'static str {
        match self {
            Extra::Accounts => "user accounts",
            Extra::Names => "host name and domains",
            Extra::Networks => "network connections",
            Extra::BackupLocations => "backup locations",
            Extra::Folders => "home and shared folders",
        }
    }
}

impl fmt::Display for Extra {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Extra {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Extra::ALL.into_iter().find(|extra| extra.as_str() == text);
        found.ok_or_else(|| {
            let known = Extra::ALL.map(Extra::as_str).join(", ");
            format!("there is no extra '{}'; there are: {known}", super::bytes::escape(text.as_bytes()))
        })
    }
}

/// All that a system holds besides apps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extras {
    /// Its people.
    pub accounts: Accounts,
    /// How it is called.
    pub names: BoxNames,
    /// Its connections, by name.
    pub networks: Vec<Connection>,
    /// Its backup locations.
    pub locations: Vec<KeptLocation>,
    /// Files by which FreedomBox reaches locations on other computers: its key for SSH, and the keys of those computers.
    pub keys: Vec<(String, Secret)>,
    /// Folders with files of people, none within another and none with data of an app.
    pub folders: Vec<RelPath>,
}

/// How a box is called.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BoxNames {
    /// Its host name; `None` where it has none that FreedomBox would take.
    pub host: Option<String>,
    /// Its domains.
    pub domains: Vec<String>,
}

/// One connection of NetworkManager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// The name that people see.
    pub name: String,
    /// The whole keyfile, which may hold passwords.
    pub text: Secret,
}

/// One backup location of FreedomBox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptLocation {
    /// Its path, or user and host with a path.
    pub path: String,
    /// Its whole entry as a JSON object, which may hold a passphrase.
    pub entry: Secret,
}

impl Extras {
    /// What there is of one kind, by names that people know; no secret is among them. Empty where there is nothing.
    pub fn names(&self, extra: Extra) -> Vec<String> {
        match extra {
            Extra::Accounts => self.accounts.names(),
            Extra::Names => self.names.host.iter().chain(&self.names.domains).cloned().collect(),
            Extra::Networks => self.networks.iter().map(|connection| connection.name.clone()).collect(),
            Extra::BackupLocations => self.locations.iter().map(|location| location.path.clone()).collect(),
            Extra::Folders => self.folders.iter().map(|folder| format!("/{folder}")).collect(),
        }
    }
}
