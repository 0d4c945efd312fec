//! Keyfiles of NetworkManager: `[section]` and `key=value` lines, as nm-settings-keyfile(5) has them.
//!
//! Only looks values up. A line that is neither, and what stands before the first section, is passed over, as GKeyFile
//! passes over comments.

/// The value of a key in a section; the last one holds where it stands several times. Escapes are left as they are.
pub fn value<'t>(text: &'t str, section: &str, key: &str) -> Option<&'t str> {
    lines(text).filter(|(within, name, _)| *within == section && *name == key).map(|(_, _, value)| value).last()
}

/// All lines with a value: section, key, value.
pub fn lines(text: &str) -> impl Iterator<Item = (&str, &str, &str)> {
    let mut section = "";
    text.lines().filter_map(move |line| {
        let line = line.trim();
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
            return None;
        }
        let (key, value) = line.split_once('=').filter(|_| !line.starts_with(['#', ';']))?;
        Some((section, key.trim_end(), value.trim_start()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_in_its_section_alone() {
        let text =
            "# id=no\nid=none\n[connection]\nid = FreedomBox WAN\n#type=x\ntype=wifi\n\n[wifi]\nid=other\nssid=a=b\n";
        assert_eq!(value(text, "connection", "id"), Some("FreedomBox WAN"));
        assert_eq!(value(text, "connection", "ssid"), None);
        assert_eq!(value(text, "wifi", "ssid"), Some("a=b"));
        assert_eq!(value(text, "connection", "type"), Some("wifi"));
    }
}
