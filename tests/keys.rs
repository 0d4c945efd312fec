//! Passphrases that an installed FreedomBox keeps open its backups, and are never shown.

#![allow(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used, reason = "this is test code")]

mod common;

use common::disks;
use common::repositories::*;
use common::rescue::LIFEBOAT;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const PASSPHRASE: &str = "correct horse \"bättery\"";

fn old_system(root: &Path, tables: &str, storage: &str) {
    let system = disks::System { hostname: "oldbox", fstab: "", tables };
    disks::system(root, &system);
    let database = rusqlite::Connection::open(root.join("var/lib/plinth/plinth.sqlite3")).unwrap();
    let change = format!("UPDATE {tables}_kvstore SET value_json = ?1 WHERE key = 'network_storage'");
    database.execute(&change, [storage]).unwrap();
}

/// What FreedomBox writes: JSON in a JSON text.
fn storage(passphrases: &[&str]) -> String {
    let places: serde_json::Map<String, serde_json::Value> = passphrases
        .iter()
        .enumerate()
        .map(|(at, passphrase)| {
            let place = serde_json::json!({
                "path": "/media/root/USB/FreedomBoxBackups", "storage_type": "disk", "added_by_module": "backups",
                "credentials": {"encryption_passphrase": passphrase}, "uuid": at.to_string(),
            });
            (at.to_string(), place)
        })
        .collect();
    serde_json::to_string(&serde_json::to_string(&places).unwrap()).unwrap()
}

fn run(args: &[&str]) -> (Output, String) {
    let done = Command::new(LIFEBOAT).args(args).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&[done.stdout.as_slice(), &done.stderr].concat()).into_owned();
    assert!(!text.contains("bättery") && !text.contains("secret words"), "no passphrase is shown: {text}");
    (done, text)
}

fn encrypted() -> Repository {
    let tree = tempfile::tempdir().unwrap();
    write(&tree.path().join("a"), b"a");
    let repository = Repository::new(&borgs()[0], "repokey", PASSPHRASE);
    repository.create("first", "lz4", tree.path());
    repository
}

#[test]
fn passphrases_of_an_old_system_open_a_backup_and_the_user_is_told_whose() {
    let repository = encrypted();
    let place = repository.path().to_str().unwrap().to_owned();
    for tables in ["plinth", "freedombox"] {
        let root = tempfile::tempdir().unwrap();
        old_system(root.path(), tables, &storage(&["another", PASSPHRASE, ""]));
        assert_eq!(run(&["list", &place]).0.status.code(), Some(12));
        let system = root.path().to_str().unwrap();
        for json in [&[][..], &["--json"]] {
            let (done, text) = run(&[&["list", &place, "--old-system", system][..], json].concat());
            assert_eq!(done.status.code(), Some(0), "{text}");
            assert!(text.contains("'oldbox'"), "{text}");
        }
        assert_eq!(run(&["verify", &place, "--old-system", system]).0.status.code(), Some(0));
        let (done, text) = run(&["survey", "--root", system, "--json"]);
        assert!(done.status.success() && text.contains("oldbox"), "a survey saves no passphrase: {text}");
    }
}

#[test]
fn passphrases_that_do_not_fit_or_cannot_be_read_are_no_error_of_their_own() {
    let repository = encrypted();
    let place = repository.path().to_str().unwrap().to_owned();
    for odd in ["", "1", "\"1\"", "[]", "\"{\\\"a\\\": 7}\"", "{\"a\": {\"credentials\": null}}", &storage(&["wrong"])]
    {
        let root = tempfile::tempdir().unwrap();
        old_system(root.path(), "plinth", odd);
        let (done, text) = run(&["list", &place, "--old-system", root.path().to_str().unwrap()]);
        assert_eq!(done.status.code(), Some(12), "{odd}: {text}");
    }
    let nothing = tempfile::tempdir().unwrap();
    let (done, text) = run(&["list", &place, "--old-system", nothing.path().to_str().unwrap()]);
    assert_eq!(done.status.code(), Some(2), "{text}");
    assert!(text.replace("\n ", "").contains("no FreedomBox system was found"), "{text}");
}
