//! People who are to be brought onto the box at its next boot: one file, private to root.
//!
//! It holds hashed passwords, so the running box removes it as soon as it is done with it.

use crate::model::account::{Accounts, Person, WebUser};
use crate::model::path::RelPath;
use crate::model::secret::Secret;
use crate::restore::{Restore, RestoreError, doing};
use crate::sys::dir::Dir;
use serde_json::{Value, json};
use std::io::{self, Read};

/// Where they wait on the target.
pub const FILE: &str = "var/lib/lifeboat/accounts.json";
const LONGEST: u64 = 64 << 20;

/// Writes the file.
pub fn write(restore: &mut Restore, accounts: &Accounts) -> Result<(), RestoreError> {
    let text = Secret::new(described(accounts).to_string().into_bytes());
    restore.place_file(&super::path(FILE)?, &mut text.reveal(), 0o600)
}

/// Who waits on a target; `None` where nobody does.
pub fn read(root: &Dir) -> Result<Option<Value>, RestoreError> {
    let file = super::path(FILE)?;
    let failed = || doing(format!("reading \"{file}\""));
    if root.stat(&file).map_err(failed())?.is_none() {
        return Ok(None);
    }
    let mut text = Vec::new();
    let opened = root.parent(&file).and_then(|at| at.read_file(file.file_name())).map_err(failed())?;
    opened.take(LONGEST).read_to_end(&mut text).map_err(failed())?;
    serde_json::from_slice(&text).map(Some).map_err(|error| failed()(error.into()))
}

/// Removes the file: everybody is here, or never will be.
pub fn clear(root: &Dir) -> Result<(), RestoreError> {
    let file: RelPath = super::path(FILE)?;
    let failed = || doing(format!("removing \"{file}\""));
    match root.parent(&file).and_then(|at| at.remove_file(file.file_name()).and_then(|()| at.sync())) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(failed()),
    }
}

fn described(accounts: &Accounts) -> Value {
    let text = |secret: &Option<Secret>| secret.as_ref().map(|own| String::from_utf8_lossy(own.reveal()).into_owned());
    let web = |user: &WebUser| {
        json!({"password": text(&user.password).unwrap_or_default(), "email": user.email,
               "first_name": user.called.0, "last_name": user.called.1, "is_active": user.is_active,
               "is_superuser": user.is_superuser, "groups": user.groups})
    };
    let person = |person: &Person| {
        json!({"name": person.name, "number": person.number, "home": person.home, "shell": person.shell,
               "password": text(&person.password), "web": person.web.as_ref().map(web), "keys": text(&person.keys)})
    };
    let groups = accounts
        .groups
        .iter()
        .map(|group| json!({"name": group.name, "number": group.number, "members": group.members}));
    json!({"people": accounts.people.iter().map(person).collect::<Vec<_>>(), "groups": groups.collect::<Vec<_>>()})
}
