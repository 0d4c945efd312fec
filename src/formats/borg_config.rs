//! The `config` file of a borg 1.x repository (Borg documentation, "Data structures and file formats", "Repository").

/// Longest config that is looked at; a key takes less than 2 KiB.
pub const LONGEST: u64 = 64 << 10;

/// What tells a repository apart without opening it. Of one whose config is lost, nothing is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BorgConfig {
    /// Repository id, 64 lower-case hexadecimal digits.
    pub id: Option<String>,
    /// Whether a key is stored in it, that is, whether a passphrase is likely needed.
    pub keyed: Option<bool>,
}

/// A repository's config with its key; empty where it is lost.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RepositoryConfig {
    /// Version of the format; 1 in all of borg 1.x.
    pub version: u32,
    /// Repository id, 64 lower-case hexadecimal digits.
    pub id: Option<String>,
    /// The locked key, base64 with blanks, where it is kept here.
    pub key: Option<String>,
}

/// Parses what tells a borg 1.x repository apart; `None` when it is not one.
pub fn parse(raw: &[u8]) -> Option<BorgConfig> {
    let config = read(raw).filter(|config| config.version == 1)?;
    Some(BorgConfig { id: config.id, keyed: Some(config.key.is_some()) })
}

/// Reads the whole config: an INI file, whose long values go on in lines that start with a blank.
pub fn read(raw: &[u8]) -> Option<RepositoryConfig> {
    let text = std::str::from_utf8(raw).ok()?;
    let mut section = "";
    let (mut version, mut id, mut key) = (None, None, None::<String>);
    let mut is_in_key = false;
    for line in text.lines() {
        let goes_on = line.starts_with([' ', '\t']) && !line.trim().is_empty();
        if goes_on && is_in_key {
            key.get_or_insert_default().push_str(line.trim());
            continue;
        }
        is_in_key = false;
        if line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.trim().strip_prefix('[') {
            section = name.trim_end_matches(']');
        } else if section == "repository"
            && let Some((name, value)) = line.split_once(['=', ':'])
        {
            let value = value.trim();
            match name.trim().to_ascii_lowercase().as_str() {
                "version" => version = value.parse().ok(),
                "id" => id = Some(value.to_ascii_lowercase()),
                "key" => {
                    key = Some(value.to_owned());
                    is_in_key = true;
                }
                _ => {}
            }
        }
    }
    let id = id.filter(|id| id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()))?;
    Some(RepositoryConfig { version: version?, id: Some(id), key: key.filter(|key| !key.is_empty()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_config_with_an_id_is_a_repository() {
        let id = "0123456789abcdef".repeat(4);
        let plain = format!("[repository]\nversion = 1\nsegments_per_dir = 1000\nid = {id}\n");
        assert_eq!(parse(plain.as_bytes()), Some(BorgConfig { id: Some(id.clone()), keyed: Some(false) }));
        let keyed = format!("{plain}key = hqlhbGdvcml0aG2mc2hhMjU2\n\tAAAA\n");
        assert_eq!(parse(keyed.as_bytes()).unwrap().keyed, Some(true));
        assert_eq!(read(keyed.as_bytes()).unwrap().key.unwrap(), "hqlhbGdvcml0aG2mc2hhMjU2AAAA");
        assert_eq!(read(keyed.replace("= 1\n", "= 2\n").as_bytes()).unwrap().version, 2);
        for bad in ["[cache]\nid = 12", "[core]\n\tbare = true\n", "id = 1\n", "", &plain.replace("= 1\n", "= 2\n")] {
            assert_eq!(parse(bad.as_bytes()), None);
        }
    }
}
