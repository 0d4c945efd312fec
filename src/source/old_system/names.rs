//! Whom a number meant on the old system.

use crate::formats::acl;
use crate::formats::passwd::Names;
use crate::model::account::Accounts;
use crate::model::entry::Owner;
use crate::survey::files::Files;
use crate::sys::dir::Xattr;
use std::collections::HashMap;
use std::io;

const LARGEST: u64 = 16 << 20;

/// Users and groups by number.
#[derive(Debug, Default)]
pub(super) struct People {
    pub(super) users: HashMap<u32, Vec<u8>>,
    pub(super) groups: HashMap<u32, Vec<u8>>,
}

impl People {
    /// From the system's own files, then from its directory of people, as its own programs look them up.
    pub(super) fn of(files: &dyn Files, accounts: &Accounts) -> io::Result<People> {
        let read = |path| io::Result::Ok(Names::parse(&files.read(path, LARGEST)?.unwrap_or_default()).by_number());
        let mut people = People { users: read("etc/passwd")?, groups: read("etc/group")? };
        for person in &accounts.people {
            people.users.entry(person.number).or_insert_with(|| person.name.clone().into_bytes());
        }
        for group in &accounts.groups {
            people.groups.entry(group.number).or_insert_with(|| group.name.clone().into_bytes());
        }
        Ok(people)
    }

    pub(super) fn owner(&self, uid: u32, gid: u32) -> Owner {
        Owner { uid, gid, user: self.users.get(&uid).cloned(), group: self.groups.get(&gid).cloned() }
    }

    /// An access control list as text; `None` when it is none.
    pub(super) fn acl(&self, value: &[u8]) -> Option<Vec<u8>> {
        acl::text(value, |is_user, id| if is_user { &self.users } else { &self.groups }.get(&id).cloned())
    }
}

/// Attributes as an entry has them.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    pub(super) xattrs: Vec<Xattr>,
    pub(super) acl_access: Option<Vec<u8>>,
    pub(super) acl_default: Option<Vec<u8>>,
}

impl People {
    /// Takes the access control lists out of the attributes. An error names the list that is none.
    pub(super) fn attributes(&self, found: Vec<Xattr>) -> io::Result<Attributes> {
        let mut all = Attributes::default();
        for (name, value) in found {
            let slot = match name.as_slice() {
                b"system.posix_acl_access" => &mut all.acl_access,
                b"system.posix_acl_default" => &mut all.acl_default,
                _ => {
                    all.xattrs.push((name, value));
                    continue;
                }
            };
            let text = self.acl(&value);
            *slot = Some(text.ok_or_else(|| io::Error::other("its access control list is not understood"))?);
        }
        Ok(all)
    }
}
