//! The `config` file of a borg 1.x repository (Borg documentation, "Data structures and file formats", "Repository").

/// What tells a repository apart without opening it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BorgConfig {
    /// Repository id, 64 lower-case hexadecimal digits.
    pub id: String,
    /// Whether a key is stored in it, that is, whether a passphrase is likely needed.
    pub keyed: bool,
}

/// Parses a repository's config; `None` when it is not one.
pub fn parse(raw: &[u8]) -> Option<BorgConfig> {
    let text = std::str::from_utf8(raw).ok()?;
    let mut section = "";
    let (mut id, mut keyed) = (None, false);
    for line in text.lines() {
        if let Some(name) = line.trim().strip_prefix('[') {
            section = name.trim_end_matches(']');
        } else if section == "repository"
            && let Some((name, value)) = line.split_once('=')
        {
            match name.trim() {
                "id" => id = Some(value.trim().to_ascii_lowercase()),
                "key" => keyed = !value.trim().is_empty() || keyed,
                _ => {}
            }
        }
    }
    let id = id.filter(|id| id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()))?;
    Some(BorgConfig { id, keyed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_config_with_an_id_is_a_repository() {
        let id = "0123456789abcdef".repeat(4);
        let plain = format!("[repository]\nversion = 1\nsegments_per_dir = 1000\nid = {id}\n");
        assert_eq!(parse(plain.as_bytes()), Some(BorgConfig { id: id.clone(), keyed: false }));
        let keyed = format!("{plain}key = hqlhbGdvcml0aG2mc2hhMjU2\n\tAAAA\n");
        assert!(parse(keyed.as_bytes()).unwrap().keyed);
        for bad in ["[cache]\nid = 12", "[core]\n\tbare = true\n", "id = 1\n", ""] {
            assert_eq!(parse(bad.as_bytes()), None);
        }
    }
}
