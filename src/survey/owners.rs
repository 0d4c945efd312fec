//! Who owns a restored file: by name through the target's own passwd and group, then by number.
//!
//! A name that the target does not have becomes root, because the old number may be somebody else there; below
//! `/var/lib/private` the number stays, because systemd gives those directories to the service that owns them.

use crate::formats::acl::{self, BadAcl};
use crate::formats::passwd::Names;
use crate::model::entry::{Entry, Owner};
use crate::model::path::RelPath;

/// An extended attribute: name with its namespace, and value.
pub type Attribute = (Vec<u8>, Vec<u8>);

/// The target's users and groups.
#[derive(Debug, Clone, Default)]
pub struct Owners {
    users: Names,
    groups: Names,
}

impl Owners {
    /// From the target's `etc/passwd` and `etc/group`.
    pub fn new(passwd: &[u8], group: &[u8]) -> Owners {
        Owners { users: Names::parse(passwd), groups: Names::parse(group) }
    }

    /// The user and group ids that `owner`'s file gets at `destination`.
    pub fn map(&self, owner: &Owner, destination: &RelPath) -> (u32, u32) {
        let private = is_private(destination);
        (
            number(&self.users, owner.user.as_deref(), owner.uid, private),
            number(&self.groups, owner.group.as_deref(), owner.gid, private),
        )
    }

    /// The id for a name in an access control list.
    fn acl_id(&self, is_user: bool, name: &[u8], archived: Option<u32>) -> u32 {
        let names = if is_user { &self.users } else { &self.groups };
        names.number(name).or(archived).unwrap_or(u32::MAX - 1)
    }

    /// Whether an attribute of that name is restored as it is. Labels of another machine's security module and names
    /// of unknown namespaces are not data of an app.
    pub fn is_restored(name: &[u8]) -> bool {
        name.starts_with(b"user.") || name.starts_with(b"trusted.") || name == b"security.capability"
    }

    /// The extended attributes that the entry's file gets, access control lists among them, sorted by name.
    pub fn attributes(&self, entry: &Entry) -> Result<Vec<Attribute>, BadAcl> {
        let mut found: Vec<Attribute> =
            entry.xattrs.iter().filter(|(name, _)| Self::is_restored(name)).cloned().collect();
        let access = (&b"system.posix_acl_access"[..], &entry.acl_access);
        for (name, text) in [access, (&b"system.posix_acl_default"[..], &entry.acl_default)] {
            let Some(text) = text else { continue };
            let value = acl::attribute(text, |is_user, name, id| self.acl_id(is_user, name, id))?;
            // An access list of three entries says no more than the mode, and the kernel does not keep it.
            if value.len() > 4 + 3 * 8 || name == b"system.posix_acl_default" {
                found.push((name.to_vec(), value));
            }
        }
        found.sort();
        Ok(found)
    }

    /// Whether the target has both of the owner's names.
    pub fn knows(&self, owner: &Owner) -> bool {
        owner.user.as_deref().is_none_or(|user| self.users.number(user).is_some())
            && owner.group.as_deref().is_none_or(|group| self.groups.number(group).is_some())
    }
}

fn number(names: &Names, name: Option<&[u8]>, archived: u32, private: bool) -> u32 {
    match name.filter(|name| !name.is_empty()) {
        Some(name) => names.number(name).unwrap_or(if private { archived } else { 0 }),
        None => archived,
    }
}

fn is_private(path: &RelPath) -> bool {
    path.as_bytes().starts_with(b"var/lib/private/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(user: &[u8], uid: u32) -> Owner {
        Owner { uid, gid: uid, user: Some(user.to_vec()), group: Some(user.to_vec()) }
    }

    #[test]
    fn owners_go_by_name_and_an_unknown_name_never_becomes_somebody_else() {
        let owners =
            Owners::new(b"root:x:0:0::/:\nradicale:x:110:112::/:\nother:x:106:106::/:\n", b"radicale:x:112:\n");
        let path: RelPath = "var/lib/radicale/x".parse().unwrap();
        assert_eq!(owners.map(&owner(b"radicale", 106), &path), (110, 112));
        assert_eq!(owners.map(&owner(b"gone", 106), &path), (0, 0));
        assert_eq!(owners.map(&owner(b"gone", 64238), &"var/lib/private/calibre/x".parse().unwrap()), (64238, 64238));
        let numbers = Owner { uid: 42, gid: 43, user: None, group: None };
        assert_eq!(owners.map(&numbers, &path), (42, 43));
        assert!(!owners.knows(&owner(b"gone", 1)));
    }
}
