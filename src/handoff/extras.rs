//! What is to come onto the box at its next start besides apps: one file for each kind, private to root.
//!
//! They hold passwords and passphrases, so the running box removes each as soon as it is done with it.

use crate::model::account::{Accounts, Person, WebUser};
use crate::model::extra::{Extra, Extras};
use crate::model::secret::Secret;
use crate::restore::{Restore, RestoreError, doing};
use crate::sys::dir::Dir;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::io::{self, Read};

const LONGEST: u64 = 256 << 20;

/// Writes the file of one kind.
pub fn write(restore: &mut Restore, extra: Extra, held: &Extras) -> Result<(), RestoreError> {
    // Folders are steps of the plan.
    if extra == Extra::Folders {
        return Ok(());
    }
    let text = Secret::new(described(extra, held).to_string().into_bytes());
    restore.place_file(&extra.waits_in()?, &mut text.reveal(), 0o600)
}

/// The kinds that wait on a target.
pub fn waiting(root: &Dir) -> Result<Vec<Extra>, RestoreError> {
    let mut waiting = Vec::new();
    for extra in Extra::ALL {
        let file = extra.waits_in()?;
        if root.stat(&file).map_err(doing(format!("reading \"{file}\"")))?.is_some() {
            waiting.push(extra);
        }
    }
    Ok(waiting)
}

/// What waits of one kind.
pub fn read(root: &Dir, extra: Extra) -> Result<Value, RestoreError> {
    let file = extra.waits_in()?;
    let failed = || doing(format!("reading \"{file}\""));
    let mut text = Vec::new();
    let opened = root.parent(&file).and_then(|at| at.read_file(file.file_name())).map_err(failed())?;
    opened.take(LONGEST).read_to_end(&mut text).map_err(failed())?;
    serde_json::from_slice(&text).map_err(|error| failed()(error.into()))
}

/// Removes the file of one kind: all of it is here, or never will be.
pub fn clear(root: &Dir, extra: Extra) -> Result<(), RestoreError> {
    let file = extra.waits_in()?;
    let failed = || doing(format!("removing \"{file}\""));
    match root.parent(&file).and_then(|at| at.remove_file(file.file_name()).and_then(|()| at.sync())) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(failed()),
    }
}

fn described(extra: Extra, held: &Extras) -> Value {
    match extra {
        Extra::Accounts => accounts(&held.accounts),
        Extra::Names => json!({"host": held.names.host, "domains": held.names.domains}),
        Extra::Networks => {
            let all = held.networks.iter().map(|own| json!({"name": own.name, "text": text(&own.text)}));
            json!({"connections": all.collect::<Vec<_>>()})
        }
        Extra::BackupLocations => {
            let entries = held.locations.iter().filter_map(|own| serde_json::from_slice(own.entry.reveal()).ok());
            let keys = held.keys.iter().map(|(name, key)| (name.clone(), Value::from(text(key))));
            json!({"locations": entries.collect::<Vec<Value>>(), "keys": keys.collect::<serde_json::Map<_, _>>()})
        }
        Extra::Folders => Value::Null,
    }
}

fn text(secret: &Secret) -> String {
    String::from_utf8_lossy(secret.reveal()).into_owned()
}

fn accounts(accounts: &Accounts) -> Value {
    let web = |user: &WebUser| {
        json!({"password": user.password.as_ref().map(text).unwrap_or_default(), "email": user.email,
               "first_name": user.called.0, "last_name": user.called.1, "is_active": user.is_active,
               "is_superuser": user.is_superuser, "groups": user.groups})
    };
    let person = |person: &Person| {
        json!({"name": person.name, "number": person.number, "home": person.home, "shell": person.shell,
               "password": person.password.as_ref().map(text), "web": person.web.as_ref().map(web),
               "keys": person.keys.as_ref().map(text)})
    };
    let groups = accounts
        .groups
        .iter()
        .map(|group| json!({"name": group.name, "number": group.number, "members": group.members}));
    json!({"people": accounts.people.iter().map(person).collect::<Vec<_>>(), "groups": groups.collect::<Vec<_>>(),
           "samba": accounts.samba.as_ref().map(|raw| STANDARD.encode(raw.reveal()))})
}
