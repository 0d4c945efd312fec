//! os-release(5): which release of Debian a system is.

use std::collections::BTreeMap;

/// The assignments of an os-release file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OsRelease(BTreeMap<String, String>);

impl OsRelease {
    /// Parses the file; lines that are no assignments are passed over, as the manual asks of readers.
    pub fn parse(raw: &[u8]) -> Self {
        let text = String::from_utf8_lossy(raw);
        let pairs = text.lines().filter_map(|line| line.trim().split_once('='));
        Self(
            pairs
                .filter(|(name, _)| !name.starts_with('#'))
                .map(|(name, value)| (name.into(), unquoted(value)))
                .collect(),
        )
    }

    /// A variable's value, not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// Removes shell quotes: nothing is special in single quotes, a backslash escapes elsewhere.
fn unquoted(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut quote = None;
    let mut chars = value.trim().chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None | Some('"'), '\\') => out.extend(chars.next()),
            (_, c) => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_read_as_a_shell_would_read_them() {
        let text = "# x=y\nPRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\nVERSION_CODENAME=trixie\nA='b\\c'\nB=\"d\\\"e\"\nNOT\nC=";
        let release = OsRelease::parse(text.as_bytes());
        assert_eq!(release.get("PRETTY_NAME"), Some("Debian GNU/Linux 13 (trixie)"));
        assert_eq!(release.get("VERSION_CODENAME"), Some("trixie"));
        assert_eq!(release.get("A"), Some("b\\c"));
        assert_eq!(release.get("B"), Some("d\"e"));
        assert_eq!((release.get("C"), release.get("NOT"), release.get("# x")), (None, None, None));
    }
}
