//! The connections of an old system: NetworkManager's keyfiles, as they are.

use super::missing;
use crate::formats::keyfile;
use crate::model::bytes;
use crate::model::extra::Connection;
use crate::model::finding::Finding;
use crate::model::secret::Secret;
use crate::survey::files::Files;

const FOLDER: &str = "etc/NetworkManager/system-connections";
const LARGEST: u64 = 256 << 10;
const ADVICE: &str = "set the connection up again in FreedomBox's Networks";

/// Reads them all.
pub(super) fn read(files: &dyn Files, findings: &mut Vec<Finding>) -> Vec<Connection> {
    let names = match files.names(FOLDER) {
        Ok(names) => names,
        Err(error) => {
            let what = format!("the network connections cannot be read: {error}");
            findings.push(missing("network connections", what, ADVICE));
            return Vec::new();
        }
    };
    let mut all = Vec::new();
    // NetworkManager passes over hidden files and copies of editors.
    for name in names.iter().filter(|name| !name.starts_with(b".") && !name.ends_with(b"~")) {
        let shown = bytes::escape(name);
        match connection(files, name) {
            Ok(Some(connection)) => {
                findings.extend(needs(&connection));
                all.push(connection);
            }
            Ok(None) => {}
            Err(why) => {
                let what = format!("the network connection '{shown}' cannot be read: {why}");
                findings.push(missing("network connections", what, ADVICE));
            }
        }
    }
    all
}

fn connection(files: &dyn Files, name: &[u8]) -> Result<Option<Connection>, String> {
    let path = std::str::from_utf8(name).map_err(|_| "its name is not in UTF-8")?;
    let Some(raw) = files.read(&format!("{FOLDER}/{path}"), LARGEST).map_err(|error| error.to_string())? else {
        return Ok(None);
    };
    let text = Secret::new(raw);
    let read = std::str::from_utf8(text.reveal()).map_err(|_| "it is not in UTF-8")?;
    keyfile::value(read, "connection", "type").ok_or("it is no connection of NetworkManager")?;
    let shown = keyfile::value(read, "connection", "id").unwrap_or(path.trim_end_matches(".nmconnection"));
    Ok(Some(Connection { name: bytes::escape(shown.as_bytes()), text }))
}

/// Certificates and keys lie in files of their own, wherever their owner put them.
fn needs(connection: &Connection) -> Option<Finding> {
    let text = String::from_utf8_lossy(connection.text.reveal());
    let is_file = |(section, key, value): (&str, &str, &str)| {
        matches!(section, "802-1x" | "vpn")
            && ["cert", "key", "ca"].iter().any(|end| key.ends_with(end))
            && (value.starts_with('/') || value.starts_with("file://"))
    };
    keyfile::lines(&text).any(is_file).then(|| {
        let what = format!(
            "the network connection '{}' uses certificates or keys in files that do not come along",
            connection.name
        );
        missing("network connections", what, "copy these files by hand")
    })
}
