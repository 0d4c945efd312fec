//! The people of an old system: from slapd's database, FreedomBox's own, and their home folders.

use super::missing;
use crate::formats::lmdb::Lmdb;
use crate::formats::slapd::{self, DirectoryEntry};
use crate::model::account::{Accounts, Circle, Person};
use crate::model::finding::Finding;
use crate::model::installation::Installation;
use crate::model::secret::Secret;
use crate::survey::files::Files;

const DATABASE: &str = "var/lib/ldap/data.mdb";
/// Samba's passwords.
const SAMBA: &str = "var/lib/samba/private/passdb.tdb";
/// FreedomBox's own takes 120 KiB.
const LARGEST_DATABASE: u64 = 64 << 20;
const LARGEST_KEYS: u64 = 1 << 20;

/// Reads everybody. What cannot be read is a finding.
pub(super) fn read(files: &dyn Files, system: &Installation, findings: &mut Vec<Finding>) -> Accounts {
    let mut all = of_directory(files, system, findings);
    match files.read(SAMBA, LARGEST_DATABASE) {
        Ok(samba) => all.samba = samba.filter(|_| !all.people.is_empty()).map(Secret::new),
        Err(error) => {
            let what = format!("Samba's passwords cannot be read: {error}");
            findings.push(missing("user accounts", what, "let everybody set the password again in FreedomBox"));
        }
    }
    all
}

fn of_directory(files: &dyn Files, system: &Installation, findings: &mut Vec<Finding>) -> Accounts {
    let mut note = |what: String| {
        findings.push(missing("user accounts", what, "create the users on the new box again, with the same names"));
    };
    let raw = match files.read(DATABASE, LARGEST_DATABASE) {
        Ok(Some(raw)) => raw,
        Ok(None) => return Accounts::default(),
        Err(error) => {
            note(format!("the directory of people cannot be read: {error}"));
            return Accounts::default();
        }
    };
    let raw = raw.as_slice();
    match Lmdb::open(&raw).and_then(|database| slapd::entries(&database)) {
        Ok((entries, unread)) => {
            if unread > 0 {
                note(format!("{unread} entries of the directory of people cannot be read"));
            }
            accounts(&entries, files, system, findings)
        }
        Err(error) => {
            note(format!("the directory of people cannot be read: {error}"));
            Accounts::default()
        }
    }
}

fn accounts(
    entries: &[DirectoryEntry],
    files: &dyn Files,
    system: &Installation,
    findings: &mut Vec<Finding>,
) -> Accounts {
    let text = |entry: &DirectoryEntry, name: &str| -> Option<String> {
        let value = entry.get(name)?.first()?;
        String::from_utf8(value.clone()).ok().filter(|text| !text.contains(['\0', '\n']))
    };
    let is = |entry: &DirectoryEntry, class: &str| {
        entry.get("objectClass").is_some_and(|all| all.iter().any(|own| own.eq_ignore_ascii_case(class.as_bytes())))
    };
    let mut all = Accounts::default();
    for entry in entries.iter().filter(|entry| is(entry, "posixAccount")) {
        let number = |name: &str| text(entry, name)?.parse::<u32>().ok();
        let (Some(name), Some(uid), Some(gid)) = (text(entry, "uid"), number("uidNumber"), number("gidNumber")) else {
            continue;
        };
        if !is_plain(&name) {
            continue;
        }
        let keys = files.read(&format!("home/{name}/.ssh/authorized_keys"), LARGEST_KEYS).unwrap_or_else(|error| {
            let what = format!("the SSH keys of '{name}' cannot be read: {error}");
            findings.push(missing("user accounts", what, "enter them again in FreedomBox"));
            None
        });
        all.people.push(Person {
            number: uid,
            group: gid,
            home: text(entry, "homeDirectory").unwrap_or_else(|| format!("/home/{name}")),
            shell: text(entry, "loginShell").unwrap_or_else(|| "/bin/bash".to_owned()),
            password: entry.get("userPassword").and_then(|all| all.first()).cloned().map(Secret::new),
            web: system.web_users.iter().find(|user| user.name == name).cloned(),
            keys: keys.filter(|text| !text.is_empty()).map(Secret::new),
            name,
        });
    }
    for entry in entries.iter().filter(|entry| is(entry, "posixGroup")) {
        let number = text(entry, "gidNumber").and_then(|text| text.parse().ok());
        let (Some(name), Some(number)) = (text(entry, "cn").filter(|name| is_plain(name)), number) else { continue };
        let members = entry.get("memberUid").into_iter().flatten();
        let members = members.filter_map(|member| String::from_utf8(member.clone()).ok()).filter(|name| is_plain(name));
        all.groups.push(Circle { name, number, members: members.collect() });
    }
    all.people.sort_by(|a, b| a.name.cmp(&b.name));
    all.groups.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

/// Whether a name can be one of a user: what FreedomBox accepts, and nothing that means more in a path or a filter.
fn is_plain(name: &str) -> bool {
    let is_letter = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '@' | '+');
    !name.is_empty() && name.len() <= 256 && !name.starts_with(['-', '.']) && name.chars().all(is_letter)
}
