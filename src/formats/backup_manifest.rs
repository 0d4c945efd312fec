//! The manifest that FreedomBox puts into every backup: `var/lib/plinth/backups-manifests/<name>.json`.
//!
//! Generations: up to 0.38 none, 0.39 to 0.42 a list of apps, from 0.43 `{"apps": […]}`. One app is
//! `{"name", "version", "backup": {config|data|secrets: {"directories", "files"}, "services", "settings", …}}`; from 0.43
//! every part of `backup` may be missing. It says where data *was*. What is not needed here is not looked at.

use crate::model::app::AppId;
use crate::model::archive::{ArchivedApp, Generation};
use crate::model::bytes;
use crate::model::finding::{Finding, Severity};
use crate::model::path::RelPath;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// Longest manifest accepted; the manifest of all apps has 8 KiB.
pub const LONGEST_MANIFEST: u64 = 4 << 20;
/// The folder of manifests.
const FOLDER: &[u8] = b"var/lib/plinth/backups-manifests";
/// Listed by 0.41 and 0.42 although it never had data; later versions fail on it.
const PSEUDO_APP: &str = "backups";

/// A manifest that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupManifest {
    /// Which form it has.
    pub generation: Generation,
    /// Its apps, in its order, each once.
    pub apps: Vec<ArchivedApp>,
    /// What was left out or put together.
    pub findings: Vec<Finding>,
}

/// Why bytes are not a manifest.
#[derive(Debug, thiserror::Error)]
pub enum BadManifest {
    /// Not JSON, or JSON of another shape.
    #[error("the manifest cannot be read: {0}")]
    Shape(#[from] serde_json::Error),
    /// An app's name is not one.
    #[error("the manifest names an app '{0}', which is not an app name")]
    App(String),
    /// A path is not one.
    #[error("the manifest gives app '{app}' the path '{path}': {why}")]
    Path {
        /// The app.
        app: AppId,
        /// The path as text.
        path: String,
        /// Why it is not one.
        why: crate::model::path::BadPath,
    },
}

/// Whether a file of an archive is its manifest.
pub fn is_manifest(path: &RelPath) -> bool {
    path.parent().is_some_and(|parent| parent.as_bytes() == FOLDER) && path.file_name().ends_with(b".json")
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Document {
    List(Vec<App>),
    Dict { apps: Vec<App> },
}

#[derive(Deserialize)]
struct App {
    name: String,
    #[serde(default)]
    version: Option<i64>,
    #[serde(default)]
    backup: Option<Backup>,
}

#[derive(Default, Deserialize)]
struct Backup {
    #[serde(default)]
    config: Section,
    #[serde(default)]
    data: Section,
    #[serde(default)]
    secrets: Section,
    #[serde(default)]
    settings: Vec<String>,
    /// Strings or objects, and not needed: the target's manifests say which services an app has.
    #[serde(default, rename = "services")]
    _services: IgnoredAny,
}

#[derive(Default, Deserialize)]
struct Section {
    #[serde(default)]
    directories: Vec<String>,
    #[serde(default)]
    files: Vec<String>,
}

/// Reads a manifest; the caller has checked its length against [`LONGEST_MANIFEST`].
pub fn parse(raw: &[u8]) -> Result<BackupManifest, BadManifest> {
    let (generation, apps) = match serde_json::from_slice(raw)? {
        Document::List(apps) => (Generation::List, apps),
        Document::Dict { apps } => (Generation::Dict, apps),
    };
    let mut manifest = BackupManifest { generation, apps: Vec::new(), findings: Vec::new() };
    for app in apps {
        if generation == Generation::List && app.name == PSEUDO_APP {
            let what = "the manifest lists the backup program itself as an app; it has no data and was left out";
            manifest.findings.push(Finding::new(Severity::Note, PSEUDO_APP, what, ""));
            continue;
        }
        manifest.add(app)?;
    }
    Ok(manifest)
}

impl BackupManifest {
    fn add(&mut self, app: App) -> Result<(), BadManifest> {
        let Ok(name) = app.name.parse::<AppId>() else {
            return Err(BadManifest::App(bytes::escape(app.name.as_bytes())));
        };
        let Backup { config, data, secrets, settings, .. } = app.backup.unwrap_or_default();
        let written =
            [config, data, secrets].into_iter().flat_map(|part| part.directories.into_iter().chain(part.files));
        let paths = written
            .map(|path| {
                RelPath::parse_absolute(path.as_bytes()).map_err(|why| BadManifest::Path {
                    app: name.clone(),
                    path: bytes::escape(path.as_bytes()),
                    why,
                })
            })
            .collect::<Result<Vec<_>, _>>()?;

        let known = match self.apps.iter_mut().find(|known| known.name == name) {
            Some(known) => {
                let what = "the manifest lists the app twice; both lists were put together";
                self.findings.push(Finding::new(Severity::Note, name.as_str(), what, ""));
                known.version = known.version.max(app.version);
                known
            }
            None => {
                let fresh = ArchivedApp { name, version: app.version, paths: Vec::new(), settings: Vec::new() };
                self.apps.push(fresh);
                match self.apps.last_mut() {
                    Some(last) => last,
                    None => return Ok(()),
                }
            }
        };
        for path in paths {
            if !known.paths.contains(&path) {
                known.paths.push(path);
            }
        }
        for key in settings {
            if !known.settings.contains(&key) {
                known.settings.push(key);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(manifest: &BackupManifest) -> Vec<&str> {
        manifest.apps.iter().map(|app| app.name.as_str()).collect()
    }

    #[test]
    fn all_generations_give_the_same_apps() {
        let app = r#"{"name": "radicale", "version": 1, "backup": {"data": {"directories": ["/var/lib/radicale/"]},
            "services": ["uwsgi", {"type": "apache", "kind": "config", "name": "x"}], "settings": ["a"], "new": [1]}}"#;
        let list =
            parse(format!("[{app}, {{\"name\": \"backups\", \"version\": 1, \"backup\": {{}}}}]").as_bytes()).unwrap();
        let dict = parse(format!("{{\"apps\": [{app}], \"later\": 1}}").as_bytes()).unwrap();
        assert_eq!((list.generation, dict.generation), (Generation::List, Generation::Dict));
        assert_eq!(list.apps, dict.apps);
        assert_eq!(list.findings.len(), 1, "the pseudo app is mentioned");
        assert_eq!(list.apps[0].paths, vec!["var/lib/radicale".parse().unwrap()]);
        assert_eq!(list.apps[0].settings, vec!["a"]);
    }

    #[test]
    fn an_app_listed_twice_is_one_app() {
        let raw = br#"{"apps": [{"name": "a", "backup": {"data": {"files": ["/x", "/x"]}}}, {"name": "b"},
            {"name": "a", "version": 2, "backup": {"data": {"files": ["/y"]}}}]}"#;
        let manifest = parse(raw).unwrap();
        assert_eq!(names(&manifest), ["a", "b"]);
        assert_eq!(manifest.apps[0].paths.len(), 2);
        assert_eq!(manifest.apps[0].version, Some(2));
    }

    #[test]
    fn what_is_not_a_manifest_is_an_error() {
        for bad in [
            &b""[..],
            b"{}",
            b"\"apps\"",
            br#"{"apps": {}}"#,
            br#"[{"name": "../x"}]"#,
            br#"[{"name": "a", "backup": {"data": {"files": ["/a/../b"]}}}]"#,
            br#"[{"name": "a", "version": "1"}]"#,
        ] {
            assert!(parse(bad).is_err(), "{}", bytes::escape(bad));
        }
        assert!(parse("[".repeat(100_000).as_bytes()).is_err());
    }

    #[test]
    fn only_json_files_directly_in_the_folder_are_manifests() {
        let is = |path: &str| is_manifest(&path.parse().unwrap());
        assert!(is("./var/lib/plinth/backups-manifests/a.json"));
        for other in [
            "var/lib/plinth/backups-manifests/a.txt",
            "var/lib/plinth/backups-manifests/d/a.json",
            "x/var/lib/plinth/backups-manifests/a.json",
            "var/lib/plinth/backups-manifests-old/a.json",
        ] {
            assert!(!is(other), "{other}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_manifest_or_an_error(raw in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse(&raw);
        }
    }
}
