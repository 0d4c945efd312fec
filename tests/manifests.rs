//! `manifests/*.json` are what their schema, the facts and the releases say.

// A test stops by panicking, also in its own functions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

use lifeboat::model::manifest::{self, Backup, Manifest};
use lifeboat::model::version::Version;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests")
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap_or_else(|error| panic!("{path:?}: {error}"))
}

/// File name without `.json` → content, of all manifests.
fn files() -> Vec<(String, Value)> {
    let mut files: Vec<_> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "json") && !path.ends_with("schema.json"))
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), json(&path)))
        .collect();
    files.sort_by(|a, b| a.0.cmp(&b.0));
    files
}

fn validator() -> jsonschema::Validator {
    let schema = json(&folder().join("schema.json"));
    jsonschema::draft202012::meta::validate(&schema).expect("the schema is a JSON Schema of draft 2020-12");
    jsonschema::draft202012::new(&schema).unwrap()
}

#[test]
fn every_manifest_is_valid_by_the_schema() {
    let validator = validator();
    let files = files();
    assert!(files.len() > 70);
    for (name, content) in files {
        let errors: Vec<String> =
            validator.iter_errors(&content).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(errors.is_empty(), "{name}: {errors:#?}");
    }
}

#[test]
fn the_schema_refuses_what_must_not_be_in_a_manifest() {
    let validator = validator();
    let (_, good) = files().into_iter().find(|(name, _)| name == "wordpress").unwrap();
    assert!(validator.is_valid(&good));
    let change = |pointer: &str, value: Value| {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}")) = value;
        assert!(!validator.is_valid(&bad), "{pointer}: {}", bad.pointer(pointer).unwrap());
    };
    let path = "/backups/0/directories/0/path";
    for wrong in ["var/lib/x", "/var/lib/x/", "/var//lib", "/var/../etc", "/var/./x", "/", ""] {
        change(path, wrong.into());
    }
    change("/backups/0/directories/0/section", "cache".into());
    change("/backups/0/first_version", "new".into());
    change("/releases/0/app_version", "3".into());
    change("/releases/0/hooks/0", "restore_pre".into());
    change("/database/engine", "sqlite".into());
    change("/id", "a/b".into());
    change("/renames", Value::Null);
    let mut more = good.clone();
    more["colour"] = "blue".into();
    assert!(!validator.is_valid(&more));
    let mut less = good.clone();
    less.as_object_mut().unwrap().remove("dropins");
    assert!(!validator.is_valid(&less));
}

#[test]
fn every_file_is_named_after_its_app_and_embedded() {
    let files = files();
    for (name, content) in &files {
        assert_eq!(content["id"], Value::from(name.as_str()));
        assert!(manifest::find(&name.parse().unwrap()).is_some(), "{name}");
    }
    assert_eq!(files.len(), manifest::all().len());
}

#[test]
fn ranges_of_versions_do_not_overlap_and_differ_from_their_neighbours() {
    for app in manifest::all() {
        for (i, pair) in app.backups.windows(2).enumerate() {
            let last = pair[0].last_version.as_ref();
            let last = last.unwrap_or_else(|| panic!("{}: range {i} has no end", app.id));
            assert!(*last >= pair[0].first_version && *last < pair[1].first_version, "{}: range {i}", app.id);
            let same = Backup { first_version: pair[1].first_version.clone(), last_version: None, ..pair[0].clone() };
            let next = Backup { last_version: None, ..pair[1].clone() };
            assert_ne!(same, next, "{}: ranges {i} and {} say the same", app.id, i + 1);
        }
        assert!(app.releases.is_sorted_by(|a, b| a.freedombox < b.freedombox && a.app_version <= b.app_version));
    }
}

#[test]
fn apps_with_data_are_as_many_as_the_releases_have() {
    for (version, expected) in [("23.6.2", 39), ("25.9.3", 47), ("26.14", 47)] {
        let version = Version::new(version);
        let with_data = |app: &&Manifest| app.paths_at(&version).is_some_and(|backup| backup.paths().next().is_some());
        assert_eq!(manifest::all().iter().filter(with_data).count(), expected, "{version}");
    }
}

#[test]
fn facts_about_other_apps_are_consistent() {
    for app in manifest::all() {
        if let Some(later) = &app.renamed_to {
            assert_eq!(manifest::find(later).unwrap().renamed_from.as_ref(), Some(&app.id));
        }
        for dropin in app.releases.iter().flat_map(|release| &release.dropins) {
            assert!(app.dropins.contains(dropin), "{}: {dropin}", app.id);
        }
        for own in app.config_of_release.iter().chain(&app.dynamic_user) {
            let below =
                app.backups.iter().flat_map(Backup::paths).any(|path| path.is_within(own) || own.is_within(path));
            assert!(below, "{}: {own} was never backed up", app.id);
        }
    }
}

#[test]
fn the_generator_makes_the_committed_files_from_the_facts() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let facts = env::var_os("LIFEBOAT_FACTS").map_or_else(|| root.join("../shared/data"), PathBuf::from);
    if !facts.join("fbx-manifest-history.json").exists() {
        eprintln!("SKIPPED: no facts folder; set LIFEBOAT_FACTS to one");
        return;
    }
    let run = match Command::new("python3").arg(folder().join("generate.py")).arg("--check").arg(&facts).output() {
        Ok(run) => run,
        Err(error) => {
            eprintln!("SKIPPED: running python3: {error}");
            return;
        }
    };
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}
