//! Paths inside an archive or below a target's root.
//!
//! A [`RelPath`] is a non-empty list of normal components: no leading slash, no `.` or `..`, no NUL, no empty
//! component. It is the only path type that reaches the code that writes, so an archive cannot name anything outside.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Longest path accepted, in bytes: the kernel's `PATH_MAX` less its final NUL.
pub const LONGEST_PATH: usize = 4095;
/// Longest component accepted, in bytes: `NAME_MAX` of every filesystem that FreedomBox uses.
pub const LONGEST_NAME: usize = 255;

/// A relative path of one or more normal components, as bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelPath(Vec<u8>);

/// Why bytes are not a [`RelPath`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    /// Nothing is left after `.` components.
    #[error("the path is empty")]
    Empty,
    /// It starts with a slash.
    #[error("the path is absolute")]
    Absolute,
    /// It climbs with `..`.
    #[error("the path contains '..'")]
    Climbs,
    /// It contains a NUL byte.
    #[error("the path contains a NUL byte")]
    Nul,
    /// It or one of its components is longer than a filesystem takes.
    #[error("the path is too long")]
    TooLong,
}

impl RelPath {
    /// Parses a member name: `./` prefixes, doubled and trailing slashes are dropped; anything that could leave the
    /// root is refused.
    pub fn parse(raw: &[u8]) -> Result<Self, BadPath> {
        if raw.first() == Some(&b'/') {
            return Err(BadPath::Absolute);
        }
        Self::from_components(raw)
    }

    /// Parses an absolute path, as manifests write them (`/var/lib/app/`), into one below the root.
    pub fn parse_absolute(raw: &[u8]) -> Result<Self, BadPath> {
        Self::from_components(raw)
    }

    fn from_components(raw: &[u8]) -> Result<Self, BadPath> {
        let mut path = Vec::with_capacity(raw.len());
        for name in raw.split(|&b| b == b'/') {
            match name {
                b"" | b"." => continue,
                b".." => return Err(BadPath::Climbs),
                _ if name.contains(&0) => return Err(BadPath::Nul),
                _ if name.len() > LONGEST_NAME => return Err(BadPath::TooLong),
                _ => {}
            }
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name);
        }
        match path.len() {
            0 => Err(BadPath::Empty),
            n if n > LONGEST_PATH => Err(BadPath::TooLong),
            _ => Ok(Self(path)),
        }
    }

    /// The bytes, without a leading or trailing slash.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path for system calls that start at a directory handle.
    pub fn as_path(&self) -> &Path {
        Path::new(std::ffi::OsStr::from_bytes(&self.0))
    }

    /// The components, outermost first.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|&b| b == b'/')
    }

    /// The last component.
    pub fn file_name(&self) -> &[u8] {
        self.0.rsplit(|&b| b == b'/').next().unwrap_or(&self.0)
    }

    /// The path without its last component; `None` directly below the root.
    pub fn parent(&self) -> Option<RelPath> {
        let cut = self.0.iter().rposition(|&b| b == b'/')?;
        self.0.get(..cut).map(|head| Self(head.to_vec()))
    }

    /// All ancestors, outermost first, without the path itself.
    pub fn ancestors(&self) -> Vec<RelPath> {
        let mut up: Vec<RelPath> = std::iter::successors(self.parent(), RelPath::parent).collect();
        up.reverse();
        up
    }

    /// Whether this is `root` or lies below it, compared by component.
    pub fn is_within(&self, root: &RelPath) -> bool {
        self.relative_to(root).is_some()
    }

    /// The rest of the path below `root`: empty bytes for `root` itself, `None` when it lies elsewhere.
    pub fn relative_to(&self, root: &RelPath) -> Option<&[u8]> {
        match self.0.strip_prefix(root.0.as_slice())? {
            b"" => Some(b""),
            rest => rest.strip_prefix(b"/"),
        }
    }

    /// Appends a relative path; the result is checked again.
    pub fn join(&self, rest: &[u8]) -> Result<RelPath, BadPath> {
        let mut raw = self.0.clone();
        raw.push(b'/');
        raw.extend_from_slice(rest);
        Self::parse(&raw)
    }

    /// The same entry below another root; `None` when it does not lie below `from`.
    pub fn moved(&self, from: &RelPath, to: &RelPath) -> Option<RelPath> {
        match self.relative_to(from)? {
            b"" => Some(to.clone()),
            rest => to.join(rest).ok(),
        }
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&super::bytes::escape(&self.0))
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl std::str::FromStr for RelPath {
    type Err = BadPath;
    fn from_str(text: &str) -> Result<Self, BadPath> {
        Self::parse(text.as_bytes())
    }
}

impl Serialize for RelPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::bytes::escape(&self.0))
    }
}

impl<'de> Deserialize<'de> for RelPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let raw = super::bytes::unescape(&text).ok_or_else(|| D::Error::custom("an escape that is not \\xNN"))?;
        Self::parse(&raw).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(text: &str) -> RelPath {
        text.parse().unwrap()
    }

    #[test]
    fn nothing_that_could_leave_the_root_is_a_path() {
        for (raw, why) in [
            (&b"/etc"[..], BadPath::Absolute),
            (b"a/../b", BadPath::Climbs),
            (b"..", BadPath::Climbs),
            (b"", BadPath::Empty),
            (b"./.", BadPath::Empty),
            (b"a\0b", BadPath::Nul),
        ] {
            assert_eq!(RelPath::parse(raw), Err(why));
        }
        assert_eq!(RelPath::parse(&[b'a'; 256]), Err(BadPath::TooLong));
        assert_eq!(RelPath::parse(&b"a/".repeat(3000)), Err(BadPath::TooLong));
    }

    #[test]
    fn containment_is_by_component_not_by_string() {
        assert!(path("var/lib/git/x").is_within(&path("var/lib/git")));
        assert!(path("var/lib/git").is_within(&path("var/lib/git")));
        assert!(!path("var/lib/github").is_within(&path("var/lib/git")));
        assert_eq!(path("a/b/c").moved(&path("a/b"), &path("x")), Some(path("x/c")));
        assert_eq!(path("a/b").moved(&path("a/b"), &path("x")), Some(path("x")));
    }

    #[test]
    fn ancestors_come_outermost_first() {
        assert_eq!(path("a/b/c").ancestors(), vec![path("a"), path("a/b")]);
        assert_eq!(path("a").ancestors(), vec![]);
        assert_eq!(path("a/b").file_name(), b"b");
    }

    proptest! {
        #[test]
        fn a_parsed_path_never_climbs_and_survives_json(raw in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(path) = RelPath::parse(&raw) {
                prop_assert!(path.components().all(|c| !c.is_empty() && c != b"." && c != b".."));
                let json = serde_json::to_string(&path).unwrap();
                prop_assert_eq!(serde_json::from_str::<RelPath>(&json).unwrap(), path);
            }
        }
    }
}
