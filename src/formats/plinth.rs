//! FreedomBox's own database, `plinth.sqlite3`: which apps are set up, and whether the first-boot wizard is done.
//!
//! Source of the layout: FreedomBox 25.9 (tables `plinth_…`) and 26.12 (tables `freedombox_…`), Django migrations.
//! Values of the key-value store can be passphrases: only the keys named here are ever read, and what is one of them
//! comes out as a [`Secret`].

use crate::model::account::WebUser;
use crate::model::app::AppId;
use crate::model::bytes;
use crate::model::extra::KeptLocation;
use crate::model::manifest;
use crate::model::secret::{LONGEST_SECRET, Secret};
use rusqlite::{Connection, OptionalExtension};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Most backup locations whose passphrases are taken.
const MOST_PLACES: usize = 64;
/// Largest number of apps that is believed.
const MOST_APPS: usize = 10_000;

/// What the database tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plinth {
    /// Apps with the version that was set up; 0 means known but not set up.
    pub apps: BTreeMap<AppId, i64>,
    /// Rows whose name cannot be an app's, as text.
    pub strange: Vec<String>,
    /// Whether the first-boot wizard was finished.
    pub wizard_done: bool,
    /// Passphrases of its backup locations, each once.
    pub passphrases: Vec<Secret>,
    /// Users of its pages.
    pub web_users: Vec<WebUser>,
    /// Its backup locations.
    pub locations: Vec<KeptLocation>,
    /// Its domains, of FreedomBox 25 and newer.
    pub domains: Vec<String>,
    /// Values of the keys that some app's backup carries, as JSON.
    pub settings: BTreeMap<String, Secret>,
}

/// Why a database could not be read.
#[derive(Debug, thiserror::Error)]
pub enum PlinthError {
    /// SQLite refuses it.
    #[error("reading FreedomBox's database: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// Its own check found damage.
    #[error("FreedomBox's database is damaged: {0}")]
    Corrupt(String),
    /// No table of apps.
    #[error("FreedomBox's database has no table of apps")]
    NoTable,
}

/// Reads a database through SQLite itself, which recovers what a journal or write-ahead log holds.
pub fn read(database: &Connection) -> Result<Plinth, PlinthError> {
    let check: String = database.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if check != "ok" {
        return Err(PlinthError::Corrupt(bytes::escape(check.as_bytes())));
    }
    // 26.x renames the tables at its first start, so a box has either name.
    let generation = if has_table(database, "freedombox_module")? {
        "freedombox"
    } else if has_table(database, "plinth_module")? {
        "plinth"
    } else {
        return Err(PlinthError::NoTable);
    };
    // Accounts are a gain; a database without their tables is still one of FreedomBox.
    let mut plinth = Plinth { web_users: web_users(database).unwrap_or_default(), ..Plinth::default() };
    let mut modules =
        database.prepare(&format!("SELECT name, setup_version FROM {generation}_module LIMIT {MOST_APPS}"))?;
    let mut rows = modules.query([])?;
    while let Some(row) = rows.next()? {
        let (name, version): (String, i64) = (row.get(0)?, row.get(1)?);
        match name.parse() {
            Ok(app) => drop(plinth.apps.insert(app, version)),
            Err(_) => plinth.strange.push(bytes::escape(name.as_bytes())),
        }
    }
    let store = format!("{generation}_kvstore");
    if has_table(database, &store)? {
        let done: Option<String> = database
            .query_row(&format!("SELECT value_json FROM {store} WHERE key = 'firstboot_completed'"), [], |row| {
                row.get(0)
            })
            .optional()?;
        plinth.locations =
            value(database, &store, "network_storage")?.map(|value| locations(&value)).unwrap_or_default();
        plinth.passphrases = passphrases(&plinth.locations);
        let domains = value(database, &store, "domains")?;
        plinth.domains = domains.and_then(|value| serde_json::from_value(value).ok()).unwrap_or_default();
        plinth.settings = settings(database, &store)?;
        plinth.wizard_done = done.is_some_and(|value| matches!(value.trim(), "1" | "true"));
    }
    Ok(plinth)
}

/// Django's users with the names of their groups.
fn web_users(database: &Connection) -> Result<Vec<WebUser>, rusqlite::Error> {
    let mut groups: BTreeMap<i64, Vec<String>> = BTreeMap::new();
    let mut statement = database.prepare(&format!(
        "SELECT member.user_id, auth_group.name FROM auth_user_groups AS member
         JOIN auth_group ON auth_group.id = member.group_id LIMIT {MOST_APPS}"
    ))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        groups.entry(row.get(0)?).or_default().push(row.get(1)?);
    }
    let mut statement = database.prepare(&format!(
        "SELECT id, username, password, email, first_name, last_name, is_active, is_superuser FROM auth_user
         ORDER BY username LIMIT {MOST_APPS}"
    ))?;
    let users = statement.query_map([], |row| {
        let password: String = row.get(2)?;
        Ok(WebUser {
            name: row.get(1)?,
            password: Some(Secret::new(password.into_bytes())),
            email: row.get(3)?,
            called: (row.get(4)?, row.get(5)?),
            is_active: row.get(6)?,
            is_superuser: row.get(7)?,
            groups: groups.get(&row.get(0)?).cloned().unwrap_or_default(),
        })
    })?;
    users.collect()
}

/// What the store has under the keys that apps list for their backups. A password may be among it.
fn settings(database: &Connection, store: &str) -> Result<BTreeMap<String, Secret>, rusqlite::Error> {
    let backups = manifest::all().iter().flat_map(|app| &app.backups);
    let keys: BTreeSet<&String> = backups.flat_map(|backup| &backup.settings).collect();
    let mut statement = database.prepare(&format!("SELECT value_json FROM {store} WHERE key = ?1"))?;
    let mut found = BTreeMap::new();
    for key in keys {
        let value: Option<String> = statement.query_row([key], |row| row.get(0)).optional()?;
        if let Some(value) = value {
            found.insert(key.clone(), Secret::new(value.into_bytes()));
        }
    }
    Ok(found)
}

/// A value that FreedomBox keeps as a JSON text inside of JSON; the text may stand alone. What has no such form is none.
fn value(database: &Connection, store: &str, key: &str) -> Result<Option<Value>, rusqlite::Error> {
    let select = format!("SELECT value_json FROM {store} WHERE key = ?1");
    let text: Option<String> = database.query_row(&select, [key], |row| row.get(0)).optional()?;
    let outer = text.and_then(|text| serde_json::from_str::<Value>(&text).ok());
    Ok(outer.and_then(|outer| match outer.as_str() {
        Some(inner) => serde_json::from_str(inner).ok(),
        None => Some(outer),
    }))
}

/// The backup locations in the value of `network_storage` (FreedomBox 0.45 to 26, `modules/backups/store.py`).
fn locations(places: &Value) -> Vec<KeptLocation> {
    let places = places.as_object().into_iter().flatten().take(MOST_PLACES);
    let found = places.filter_map(|(id, entry)| {
        let mut entry = entry.as_object()?.clone();
        let path = entry.get("path").and_then(Value::as_str).unwrap_or(id);
        let path = bytes::escape(path.as_bytes());
        entry.entry("uuid").or_insert_with(|| Value::from(id.as_str()));
        Some(KeptLocation { path, entry: Secret::new(Value::from(entry).to_string().into_bytes()) })
    });
    found.collect()
}

/// The passphrases of locations, each once: they save the user from typing.
fn passphrases(locations: &[KeptLocation]) -> Vec<Secret> {
    let mut found: Vec<Secret> = Vec::new();
    for location in locations {
        let Ok(entry) = serde_json::from_slice::<Value>(location.entry.reveal()) else { continue };
        let passphrase = entry.get("credentials").and_then(|keys| keys.get("encryption_passphrase"));
        let text = passphrase.and_then(Value::as_str).unwrap_or_default();
        let secret = Secret::new(text.as_bytes().to_vec());
        if (1..=LONGEST_SECRET).contains(&text.len()) && !found.contains(&secret) {
            found.push(secret);
        }
    }
    found
}

fn has_table(database: &Connection, name: &str) -> Result<bool, rusqlite::Error> {
    let found = database
        .query_row("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?1", [name], |_| Ok(()))
        .optional()?;
    Ok(found.is_some())
}
