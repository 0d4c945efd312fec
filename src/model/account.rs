//! People of a box: who can log in, with what, and to which groups they belong.

use super::secret::Secret;

/// Everybody on a box, and their groups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accounts {
    /// Who is in its directory, by name.
    pub people: Vec<Person>,
    /// Their groups, by name.
    pub groups: Vec<Circle>,
    /// Samba's database of passwords, as its file is.
    pub samba: Option<Secret>,
}

/// Somebody in a box's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// The name to log in with.
    pub name: String,
    /// Numeric user id.
    pub number: u32,
    /// Numeric id of the primary group.
    pub group: u32,
    /// Home directory.
    pub home: String,
    /// Shell.
    pub shell: String,
    /// The hashed password in the form of the directory, `{SSHA}…`.
    pub password: Option<Secret>,
    /// What FreedomBox's pages know.
    pub web: Option<WebUser>,
    /// Content of `.ssh/authorized_keys`.
    pub keys: Option<Secret>,
}

/// A user of FreedomBox's pages: a row of Django's table `auth_user` with its groups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WebUser {
    /// The name.
    pub name: String,
    /// The hashed password in Django's form.
    pub password: Option<Secret>,
    /// Mail address; may be empty.
    pub email: String,
    /// First and last name; may be empty.
    pub called: (String, String),
    /// Whether the user may log in.
    pub is_active: bool,
    /// Whether Django lets the user do everything.
    pub is_superuser: bool,
    /// Groups in FreedomBox.
    pub groups: Vec<String>,
}

/// A group of people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Circle {
    /// Its name.
    pub name: String,
    /// Numeric group id.
    pub number: u32,
    /// Names of its members.
    pub members: Vec<String>,
}

impl Accounts {
    /// The names of all people.
    pub fn names(&self) -> Vec<String> {
        self.people.iter().map(|person| person.name.clone()).collect()
    }
}
