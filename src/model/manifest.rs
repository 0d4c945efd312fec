//! What belongs to the backup of each FreedomBox app, per FreedomBox version, and where it goes on another version.
//!
//! Owns the facts of `manifests/*.json`, which are embedded at build time, and the questions that the stages ask them.
//! Never looks at an archive or a target: the archive's own manifest says where data *was*, these facts say what may
//! have been there and where it *goes*. Paths are compared by component, never as strings.

use super::app::AppId;
use super::path::RelPath;
use super::version::Version;
use serde::{Deserialize, Deserializer, de::Error};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

/// The embedded files, one JSON text per app.
const EMBEDDED: &[&str] = include!(concat!(env!("OUT_DIR"), "/manifests.rs"));

/// One app, over all FreedomBox versions; `manifests/schema.json` describes the file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The app's id.
    pub id: AppId,
    /// The name that FreedomBox shows.
    pub name: String,
    /// First FreedomBox version known to have it; `None`: older than all that is known.
    pub known_since: Option<Version>,
    /// First FreedomBox version without it; `None`: still there.
    pub removed_in: Option<Version>,
    /// The id that it had before.
    pub renamed_from: Option<AppId>,
    /// The id under which it lives on.
    pub renamed_to: Option<AppId>,
    /// What its backup holds, by ascending first version; empty when it never had a backup component.
    pub backups: Vec<Backup>,
    /// What the known FreedomBox releases say of it, ascending.
    pub releases: Vec<Release>,
    /// Files of FreedomBox itself, of any version: never restored.
    #[serde(deserialize_with = "absolute_paths")]
    pub dropins: Vec<RelPath>,
    /// Where data moved.
    pub renames: Vec<Rename>,
    /// By Debian release: the FreedomBox version whose paths the app has there, also where FreedomBox itself is older.
    pub ahead: BTreeMap<String, Version>,
    /// Accounts that the app's setup creates, not a package.
    pub users: Vec<User>,
    /// The database whose dump the backup holds.
    pub database: Option<Database>,
    /// The file in the backup that carries its kvstore settings.
    #[serde(deserialize_with = "absolute_path_or_none")]
    pub settings_file: Option<RelPath>,
    /// Dumps that newer FreedomBox versions neither back up nor import: Lifeboat imports them itself.
    #[serde(deserialize_with = "absolute_paths")]
    pub imported_here: Vec<RelPath>,
    /// State directories below `var/lib/private`: numeric owners in a backup mean nothing there.
    #[serde(deserialize_with = "absolute_paths")]
    pub dynamic_user: Vec<RelPath>,
    /// Configuration that belongs to one Debian release and must not be put onto another.
    #[serde(deserialize_with = "absolute_paths")]
    pub config_of_release: Vec<RelPath>,
    /// Owners and traps, for people.
    pub notes: Vec<String>,
}

/// What an app's backup holds, in a range of FreedomBox versions.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backup {
    /// First FreedomBox version with it. It holds up to the next range; the last range up to `last_version`.
    pub first_version: Version,
    /// Last FreedomBox version seen with it; `None`: still so.
    pub last_version: Option<Version>,
    /// Directories, with all that is below.
    pub directories: Vec<Place>,
    /// Files; symbolic links are among them.
    pub files: Vec<Place>,
    /// kvstore keys, carried by the settings file.
    pub settings: Vec<String>,
    /// Services that are stopped meanwhile, in order of starting.
    pub services: Vec<Service>,
    /// Directories that FreedomBox removes before it restores.
    #[serde(deserialize_with = "absolute_paths")]
    pub delete_before_restore: Vec<RelPath>,
}

/// One directory or file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// Where it is.
    #[serde(deserialize_with = "absolute_path")]
    pub path: RelPath,
    /// What it is for.
    pub section: Section,
}

/// The sections of a FreedomBox backup manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Section {
    /// Configuration.
    Config,
    /// What the user made.
    Data,
    /// Keys and passwords.
    Secrets,
}

/// What is stopped while an app's files change.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Which kind.
    pub kind: ServiceKind,
    /// The unit as systemctl takes it (`.service` may be missing), or the configuration's name.
    pub name: String,
}

/// Kinds of services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceKind {
    /// A systemd unit.
    Unit,
    /// A file in Apache's `conf-available`.
    ApacheConfig,
}

/// What one FreedomBox release says of an app.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// The release.
    pub freedombox: Version,
    /// The app's version in it.
    pub app_version: i64,
    /// Whether it is part of every FreedomBox.
    pub essential: bool,
    /// Debian packages; `a | b` means either.
    pub packages: Vec<String>,
    /// By Debian release: which of them it does not have.
    pub missing_packages: BTreeMap<String, Vec<String>>,
    /// Files of FreedomBox itself.
    #[serde(deserialize_with = "absolute_paths")]
    pub dropins: Vec<RelPath>,
    /// Hooks around backup and restore.
    pub hooks: Vec<Hook>,
    /// Units that run while the app is enabled.
    pub daemons: Vec<String>,
}

/// What an app does itself around a backup or a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hook {
    /// Before the backup: dumps a database or shares.
    BackupPre,
    /// After the files were restored: imports a dump or makes derived configuration again.
    RestorePost,
}

/// Data that moved between FreedomBox versions; the content stays valid.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rename {
    /// Where it was.
    #[serde(deserialize_with = "absolute_path")]
    pub from: RelPath,
    /// Where it is.
    #[serde(deserialize_with = "absolute_path")]
    pub to: RelPath,
    /// First FreedomBox version that has it at `to`.
    pub since: Version,
    /// Why, and how that is known.
    pub why: String,
}

/// An account that an app's setup creates.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// Name of the user and of its group.
    pub name: String,
    /// Last FreedomBox version that creates it; `None`: still so.
    pub last_version: Option<Version>,
}

/// A database whose content is in the backup as a dump.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// Which server.
    pub engine: Engine,
    /// The dump.
    #[serde(deserialize_with = "absolute_path")]
    pub dump: RelPath,
    /// What it may be called in its server, the likeliest first.
    pub names: Vec<String>,
}

/// Database servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// MySQL or MariaDB.
    Mysql,
    /// PostgreSQL.
    Postgresql,
}

impl Engine {
    /// Its name, for people.
    pub fn name(self) -> &'static str {
        match self {
            Engine::Mysql => "MariaDB",
            Engine::Postgresql => "PostgreSQL",
        }
    }
}

/// All apps that any FreedomBox version had, by id.
pub fn all() -> &'static [Manifest] {
    static ALL: OnceLock<Vec<Manifest>> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut all: Vec<Manifest> = EMBEDDED
            .iter()
            .map(|text| match serde_json::from_str(text) {
                Ok(manifest) => manifest,
                // The files are our own and part of the program; a test parses every one.
                Err(error) => unreachable!("an embedded manifest: {error}"),
            })
            .collect();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all
    })
}

/// The manifest of an app; `None` when no known FreedomBox version has such an app.
pub fn find(app: &AppId) -> Option<&'static Manifest> {
    all().iter().find(|manifest| manifest.id == *app)
}

/// The id under which a renamed app lives on; `None` for all others.
pub fn successor(app: &AppId) -> Option<&'static AppId> {
    find(app)?.renamed_to.as_ref()
}

/// Every path at which a source of data for some app may begin, sorted: what any version of any app backed up, and
/// the places inside from which data moved. Some lie within others: the innermost counts.
pub fn roots() -> &'static [RelPath] {
    static ROOTS: OnceLock<Vec<RelPath>> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let backed_up = all().iter().flat_map(|app| app.backups.iter().flat_map(Backup::paths));
        let moved = all().iter().flat_map(|app| app.renames.iter().map(|rename| &rename.from));
        let roots: BTreeSet<&RelPath> = backed_up.chain(moved).collect();
        roots.into_iter().cloned().collect()
    })
}

/// The app that a root belongs to; the first by name where several have it.
pub fn owner(root: &RelPath) -> Option<&'static AppId> {
    static OWNERS: OnceLock<BTreeMap<&'static RelPath, &'static AppId>> = OnceLock::new();
    let owners = OWNERS.get_or_init(|| {
        let mut owners = BTreeMap::new();
        for app in all() {
            let moved = app.renames.iter().map(|rename| &rename.from);
            for path in app.backups.iter().flat_map(Backup::paths).chain(moved) {
                let owner = owners.entry(path).or_insert(&app.id);
                *owner = (*owner).min(&app.id);
            }
        }
        owners
    });
    owners.get(root).copied()
}

/// Whether the path is a file of FreedomBox itself, in any version of any app: the target's own stays.
pub fn is_dropin(path: &RelPath) -> bool {
    static DROPINS: OnceLock<BTreeSet<&'static RelPath>> = OnceLock::new();
    DROPINS.get_or_init(|| all().iter().flat_map(|app| &app.dropins).collect()).contains(path)
}

impl Backup {
    /// Its paths, directories first.
    pub fn paths(&self) -> impl Iterator<Item = &RelPath> {
        self.places().map(|place| &place.path)
    }

    /// Its paths with their sections, directories first.
    pub fn places(&self) -> impl Iterator<Item = &Place> {
        self.directories.iter().chain(&self.files)
    }

    /// Whether the path is one of its paths, or lies below one of its directories.
    pub fn holds(&self, path: &RelPath) -> bool {
        self.paths().any(|own| path.is_within(own))
    }
}

impl Manifest {
    /// What its backup holds in that FreedomBox version; `None` when that version has no such app or no backup of it.
    /// Versions newer than all that is known count as the newest.
    pub fn paths_at(&self, freedombox: &Version) -> Option<&Backup> {
        let upstream = freedombox.upstream();
        let newest = self.backups.last()?;
        if newest.last_version.as_ref().is_some_and(|last| *last < upstream) {
            return None;
        }
        self.backups.iter().rev().find(|backup| backup.first_version <= upstream)
    }

    /// The FreedomBox version whose paths the app has on a box of that version and Debian release: the box's own, or a
    /// later one where Debian's package reads its data there already. All questions about paths are for that version.
    pub fn version_of_paths(&self, freedombox: &Version, suite: &str) -> Version {
        let ahead = self.today().ahead.get(suite).filter(|ahead| freedombox.upstream() < **ahead);
        ahead.unwrap_or(freedombox).clone()
    }

    /// Whether that FreedomBox version has the app, installed or not.
    pub fn exists_at(&self, freedombox: &Version) -> bool {
        let upstream = freedombox.upstream();
        self.known_since.as_ref().is_none_or(|first| *first <= upstream)
            && self.removed_in.as_ref().is_none_or(|end| upstream < *end)
    }

    /// Whether any version of the app, under this id or an earlier one, backed the path up.
    pub fn ever_had(&self, path: &RelPath) -> bool {
        self.backups.iter().any(|backup| backup.holds(path))
            || self.renamed_from.as_ref().and_then(find).is_some_and(|earlier| earlier.ever_had(path))
    }

    /// The manifest under which the app lives on: its successor's, or this one.
    pub fn today(&self) -> &Manifest {
        self.renamed_to.as_ref().and_then(find).unwrap_or(self)
    }

    /// Where data that an archive has at `source` goes on a target with that FreedomBox version: pairs of a path at or
    /// below `source` and its destination, by path, none within another; empty when it has no place any more.
    ///
    /// A move comes first, also where the old path is still backed up: `var/lib/radicale` is a link since 26.5, and a
    /// directory in its place would stop the service. Use [`Manifest::placements`] for all paths of one archive.
    pub fn destinations(&self, source: &RelPath, freedombox: &Version) -> Vec<(RelPath, RelPath)> {
        let app = self.today();
        let Some(now) = app.paths_at(freedombox) else { return Vec::new() };
        let upstream = freedombox.upstream();
        let moves = || {
            app.renames.iter().filter(|rename| rename.since <= upstream && now.holds(&rename.to)).filter_map(|rename| {
                if rename.from.is_within(source) {
                    return Some((rename.from.clone(), rename.to.clone()));
                }
                Some((source.clone(), source.moved(&rename.from, &rename.to)?))
            })
        };
        if let Some(whole) = moves().find(|(from, _)| from == source) {
            return vec![whole];
        }
        if now.holds(source) || app.imported_here.contains(source) {
            return vec![(source.clone(), source.clone())];
        }
        let kept = now.paths().filter(|path| path.is_within(source)).map(|path| (path.clone(), path.clone()));
        outermost(kept.chain(moves()).collect())
    }

    /// Where the data of one archive goes: [`Manifest::destinations`] for all `sources` that have entries, none within
    /// another and no two onto one place. Data that is already named as the target names it wins over data that
    /// would have to move there.
    pub fn placements(&self, sources: &[RelPath], freedombox: &Version) -> Vec<(RelPath, RelPath)> {
        let found = sources.iter().flat_map(|source| self.destinations(source, freedombox)).collect();
        let (stays, moves): (Vec<_>, Vec<_>) = outermost(found).into_iter().partition(|(from, to)| from == to);
        let mut placed = stays;
        for (from, to) in moves {
            let free = |to: &RelPath| !placed.iter().any(|(_, taken)| to.is_within(taken) || taken.is_within(to));
            if free(&to) {
                placed.push((from, to));
            } else if free(&from)
                // A directory beside the private data of a dynamic user would stop the service.
                && !self.today().is_of_dynamic_user(&to)
                && self.today().paths_at(freedombox).is_some_and(|now| now.holds(&from))
            {
                placed.push((from.clone(), from));
            }
        }
        placed.sort();
        placed
    }

    /// The app's version in that FreedomBox: of the nearest known release that is not newer, else of the oldest.
    pub fn app_version_at(&self, freedombox: &Version) -> Option<i64> {
        self.release_at(freedombox).map(|release| release.app_version)
    }

    /// The oldest known FreedomBox release whose app has at least that version.
    pub fn freedombox_with_app_version(&self, version: i64) -> Option<&Version> {
        self.releases.iter().find(|release| release.app_version >= version).map(|release| &release.freedombox)
    }

    /// Which of its packages that Debian release (`bookworm`, `trixie`, …) does not have; empty also for releases that
    /// are not known.
    pub fn missing_packages(&self, suite: &str) -> &[String] {
        self.releases.iter().rev().find_map(|release| release.missing_packages.get(suite)).map_or(&[], Vec::as_slice)
    }

    /// Its Debian packages; `a | b` means either.
    pub fn packages_at(&self, freedombox: &Version) -> &[String] {
        self.release_at(freedombox).map_or(&[], |release| &release.packages)
    }

    /// Whether it is part of every FreedomBox of that version.
    pub fn is_essential_at(&self, freedombox: &Version) -> bool {
        self.release_at(freedombox).is_some_and(|release| release.essential)
    }

    /// What it does itself around a backup or a restore.
    pub fn hooks_at(&self, freedombox: &Version) -> &[Hook] {
        self.release_at(freedombox).map_or(&[], |release| &release.hooks)
    }

    /// Units that run while it is enabled.
    pub fn daemons_at(&self, freedombox: &Version) -> &[String] {
        self.release_at(freedombox).map_or(&[], |release| &release.daemons)
    }

    /// What is stopped while its files change, in order of starting.
    pub fn services_at(&self, freedombox: &Version) -> &[Service] {
        self.paths_at(freedombox).map_or(&[], |backup| &backup.services)
    }

    /// The kvstore keys that its backup carries.
    pub fn settings_at(&self, freedombox: &Version) -> &[String] {
        self.paths_at(freedombox).map_or(&[], |backup| &backup.settings)
    }

    /// Accounts that its setup creates in that version.
    pub fn users_at(&self, freedombox: &Version) -> impl Iterator<Item = &User> {
        let upstream = freedombox.upstream();
        self.users.iter().filter(move |user| user.last_version.as_ref().is_none_or(|last| upstream <= *last))
    }

    /// Whether the path is configuration that belongs to one Debian release.
    pub fn is_config_of_release(&self, path: &RelPath) -> bool {
        self.config_of_release.iter().any(|own| path.is_within(own))
    }

    /// Whether owners below the path are of a dynamic user: systemd gives them anew when the top has a foreign owner.
    pub fn is_of_dynamic_user(&self, path: &RelPath) -> bool {
        self.dynamic_user.iter().any(|own| path.is_within(own))
    }

    fn release_at(&self, freedombox: &Version) -> Option<&Release> {
        let upstream = freedombox.upstream();
        self.releases.iter().rev().find(|release| release.freedombox <= upstream).or(self.releases.first())
    }
}

/// Sorts by source and drops those whose source lies within another's.
fn outermost(mut found: Vec<(RelPath, RelPath)>) -> Vec<(RelPath, RelPath)> {
    found.sort();
    found.dedup();
    let all = found.clone();
    found.retain(|(from, _)| !all.iter().any(|(other, _)| from != other && from.is_within(other)));
    found
}

fn absolute<E: Error>(text: &str) -> Result<RelPath, E> {
    if !text.starts_with('/') || text.ends_with('/') || text.contains("//") {
        return Err(E::custom(format!("'{text}' is not an absolute path in its shortest form")));
    }
    RelPath::parse_absolute(text.as_bytes()).map_err(|error| E::custom(format!("'{text}': {error}")))
}

fn absolute_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<RelPath, D::Error> {
    absolute(&String::deserialize(deserializer)?)
}

fn absolute_path_or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<RelPath>, D::Error> {
    Option::<String>::deserialize(deserializer)?.map(|text| absolute(&text)).transpose()
}

fn absolute_paths<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<RelPath>, D::Error> {
    Vec::<String>::deserialize(deserializer)?.iter().map(|text| absolute(text)).collect()
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
