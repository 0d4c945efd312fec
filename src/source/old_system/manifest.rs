//! What FreedomBox's own backup of a system would hold: which apps, which of their paths, the manifest and the settings.

use crate::model::archive::ArchivedApp;
use crate::model::finding::{Finding, Severity};
use crate::model::installation::Installation;
use crate::model::manifest::{self, Backup, Manifest, Place, Section, Service, ServiceKind};
use crate::model::path::RelPath;
use serde_json::{Map, Value, json};

/// Apps that are set up, with the paths that their FreedomBox version backs up. `has` tells whether a path is there.
pub(super) fn apps(
    system: &Installation,
    has: &dyn Fn(&RelPath) -> bool,
    findings: &mut Vec<Finding>,
) -> Vec<ArchivedApp> {
    let mut apps = Vec::new();
    for (name, version) in system.apps.iter().filter(|(_, version)| **version > 0) {
        match manifest::find(name) {
            Some(known) => apps.extend(system.paths_of(known).map(|b| archived(known, b, Some(*version)))),
            None => {
                let what = "this Lifeboat does not know the app, so its data is not among what can be carried over";
                let advice = "use a newer Lifeboat, or copy the app's data by hand";
                findings.push(Finding::new(Severity::Warning, name.as_str(), what, advice));
            }
        }
    }
    if apps.is_empty() && system.apps.is_empty() {
        // FreedomBox's database is lost: what is installed and has data counts.
        apps.extend(manifest::all().iter().filter_map(|known| {
            let backup = system.paths_of(known).filter(|_| known.exists_at(&system.freedombox))?;
            let version = known.app_version_at(&system.freedombox);
            (is_installed(known, system) && backup.paths().any(has)).then(|| archived(known, backup, version))
        }));
    }
    apps
}

fn is_installed(app: &Manifest, system: &Installation) -> bool {
    let any = |names: &String| names.split('|').any(|name| system.packages.contains(name.trim()));
    app.packages_at(&system.freedombox).iter().all(any)
}

fn archived(app: &Manifest, backup: &Backup, version: Option<i64>) -> ArchivedApp {
    let paths = backup.paths().cloned().collect();
    ArchivedApp { name: app.id.clone(), version, paths, settings: backup.settings.clone() }
}

/// The manifest as FreedomBox writes it.
pub(super) fn text(system: &Installation, apps: &[ArchivedApp]) -> Vec<u8> {
    let app = |archived: &ArchivedApp| {
        let backup = manifest::find(&archived.name).and_then(|known| system.paths_of(known));
        json!({"name": archived.name, "version": archived.version, "backup": backup.map(described)})
    };
    json!({"apps": apps.iter().map(app).collect::<Vec<_>>()}).to_string().into_bytes()
}

fn described(backup: &Backup) -> Value {
    let mut all = Map::new();
    for (name, section) in [("config", Section::Config), ("data", Section::Data), ("secrets", Section::Secrets)] {
        let paths = |places: &[Place], end: &str| -> Vec<String> {
            let own = places.iter().filter(|place| place.section == section);
            own.map(|place| format!("/{}{end}", place.path)).collect()
        };
        let (directories, files) = (paths(&backup.directories, "/"), paths(&backup.files, ""));
        let mut part = Map::new();
        if !directories.is_empty() {
            part.insert("directories".into(), json!(directories));
        }
        if !files.is_empty() {
            part.insert("files".into(), json!(files));
        }
        if !part.is_empty() {
            all.insert(name.into(), part.into());
        }
    }
    let service = |service: &Service| match service.kind {
        ServiceKind::Unit => json!(service.name),
        ServiceKind::ApacheConfig => json!({"type": "apache", "kind": "config", "name": service.name}),
    };
    let delete: Vec<String> = backup.delete_before_restore.iter().map(|path| format!("/{path}")).collect();
    let services: Vec<Value> = backup.services.iter().map(service).collect();
    for (name, list) in
        [("services", json!(services)), ("settings", json!(backup.settings)), ("delete_before_restore", json!(delete))]
    {
        if list.as_array().is_some_and(|list| !list.is_empty()) {
            all.insert(name.into(), list);
        }
    }
    all.into()
}

/// The files that FreedomBox's restore takes apps' settings from, as its own backup would write them now.
pub(super) fn settings(
    system: &Installation,
    apps: &[ArchivedApp],
    findings: &mut Vec<Finding>,
) -> Vec<(RelPath, Vec<u8>)> {
    let mut files = Vec::new();
    for app in apps.iter().filter(|app| !app.settings.is_empty()) {
        let Some(path) = manifest::find(&app.name).and_then(|known| known.settings_file.clone()) else { continue };
        let mut values = Map::new();
        for key in &app.settings {
            // What is not set is not in FreedomBox's file either.
            let Some(value) = system.settings.get(key) else { continue };
            match serde_json::from_slice(value.reveal()) {
                Ok(value) => drop(values.insert(key.clone(), value)),
                Err(_) => {
                    let what = format!("its setting '{key}' cannot be read from FreedomBox's database");
                    let advice = "set the app up again in FreedomBox after the restore";
                    findings.push(Finding::new(Severity::Warning, app.name.as_str(), what, advice));
                }
            }
        }
        if !values.is_empty() {
            files.push((path, Value::from(values).to_string().into_bytes()));
        }
    }
    files
}
