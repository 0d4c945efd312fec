//! People of an old box: read from its directory whatever machine wrote it, offered, and handed to the new box only when
//! they are asked for.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "this is test code")]

mod common;

use common::boxes::{self, APPS, Scene, put, sh};
use common::people::directory;
use lifeboat::formats::lmdb::Lmdb;
use lifeboat::formats::slapd;
use lifeboat::source::old_system::{self, Root};
use lifeboat::sys::host::Host;
use proptest::prelude::*;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const ALICE: &str = "{SSHA}c2VjcmV0IG9mIGFsaWNl";

fn people(word: usize) -> Vec<u8> {
    directory(word, &[("alice", 10007, ALICE), ("bob", 10008, "{SSHA}Ym9i")], &[("admin", 10001, &["alice"])])
}

/// An old box with people: in the directory, in FreedomBox's database, and with files of theirs.
fn old_box(root: &Path, word: usize) {
    boxes::system(root);
    boxes::make_source(root);
    put(root, "var/lib/ldap/data.mdb", people(word));
    put(root, "home/alice/.ssh/authorized_keys", "ssh-ed25519 AAAA alice@laptop\n");
    sh(&format!("chown 10007:10001 '{}/var/lib/radicale/same'", root.display()));
    let database = rusqlite::Connection::open(root.join("var/lib/plinth/plinth.sqlite3")).unwrap();
    database
        .execute_batch(
            "CREATE TABLE auth_user (id INTEGER PRIMARY KEY, username TEXT, password TEXT, email TEXT, first_name TEXT,
                last_name TEXT, is_active INTEGER, is_superuser INTEGER);
             CREATE TABLE auth_group (id INTEGER PRIMARY KEY, name TEXT);
             CREATE TABLE auth_user_groups (user_id INTEGER, group_id INTEGER);
             INSERT INTO auth_user VALUES (1, 'alice', 'pbkdf2_sha256$1$x$hash', '', 'Alice', '', 1, 0);
             INSERT INTO auth_group VALUES (1, 'admin');
             INSERT INTO auth_user_groups VALUES (1, 1);",
        )
        .unwrap();
    for (name, version, ..) in APPS.iter().filter(|app| app.0 != "radicale") {
        let sql = "INSERT OR REPLACE INTO plinth_module VALUES (?1, ?2)";
        database.execute(sql, (name, version)).unwrap();
    }
}

#[test]
fn people_are_read_from_the_directories_of_32_and_of_64_bit_machines() {
    for word in [4, 8] {
        let raw = people(word);
        let raw = raw.as_slice();
        let (found, unread) = slapd::entries(&Lmdb::open(&raw).unwrap()).unwrap();
        assert_eq!((found.len(), unread), (4, 0), "{word}");
        let alice = found.iter().find(|entry| entry.get("uid").is_some_and(|uid| uid[0] == b"alice")).unwrap();
        assert_eq!(alice["uidNumber"], [b"10007"]);
        assert_eq!(alice["userPassword"], [ALICE.as_bytes()]);
        let admin = found.iter().find(|entry| entry.contains_key("memberUid")).unwrap();
        assert_eq!(admin["memberUid"], [b"alice"]);
    }
}

proptest! {
    #[test]
    fn a_damaged_directory_gives_an_error_or_fewer_people(at in 0..20480_usize, byte: u8, wide: bool) {
        let mut raw = people(if wide { 8 } else { 4 });
        let length = raw.len();
        raw[at % length] = byte;
        let raw = raw.as_slice();
        if let Ok(lmdb) = Lmdb::open(&raw) {
            let _ = slapd::entries(&lmdb);
        }
    }
}

#[test]
fn files_of_people_keep_their_names_and_a_damaged_directory_is_said() {
    if boxes::needs_root() {
        return;
    }
    let dir = boxes::scratch();
    old_box(dir.path(), 4);
    let runtime = tempfile::tempdir().unwrap();
    let host = Host::real(runtime.path());
    let mut archive = old_system::open(&host, Root::Directory(dir.path().to_owned()), &[]).unwrap();
    let (entries, ending) = common::archives::collect(&mut *archive).unwrap();
    let same = entries.iter().find(|(entry, _)| entry.path.as_bytes() == b"var/lib/radicale/same").unwrap();
    let owner = &same.0.owner;
    assert_eq!((owner.user.as_deref(), owner.group.as_deref()), (Some(&b"alice"[..]), Some(&b"admin"[..])));
    assert!(!ending.findings.iter().any(|finding| finding.subject == "user accounts"), "{:?}", ending.findings);
    let alice = &archive.accounts().unwrap().people[0];
    assert_eq!(alice.web.as_ref().unwrap().groups, ["admin"]);
    assert!(alice.keys.is_some());
    put(dir.path(), "var/lib/ldap/data.mdb", "no directory");
    let mut archive = old_system::open(&host, Root::Directory(dir.path().to_owned()), &[]).unwrap();
    let ending = common::archives::collect(&mut *archive).unwrap().1;
    assert!(ending.findings.iter().any(|finding| finding.subject == "user accounts"), "{:?}", ending.findings);
}

#[test]
fn accounts_come_over_only_when_they_are_asked_for_and_wait_where_only_root_reads() {
    if boxes::cannot_run() {
        return;
    }
    let scene = Scene::with(&APPS, |_| {}, |_| {});
    let old = scene.dir.path().join("old");
    fs::create_dir(&old).unwrap();
    old_box(&old, 8);
    let run = |onto: &Path, from: &Path, more: &[&str]| {
        let mut words: Vec<OsString> = vec![more[0].into(), "--from".into(), from.into()];
        words.extend(["--onto".into(), onto.into(), "--program".into(), scene.program.clone().into()]);
        words.extend(more[1..].iter().map(|word| OsStr::new(word).to_owned()));
        scene.run(&words, None)
    };
    let onto = scene.fresh();
    let file = |onto: &Path| -> PathBuf { onto.join("var/lib/lifeboat/accounts.json") };
    let plain = run(&onto, &old, &["plan"]);
    assert_eq!(plain.json["offered_accounts"], serde_json::json!(["alice", "bob"]), "{}", plain.stderr);
    assert!(plain.json["extras"].is_null());
    assert!(plain.json["not_included"].to_string().contains("user accounts"));
    let wanted = run(&onto, &old, &["plan", "--extras", "accounts"]);
    assert_eq!(wanted.json["extras"][0]["names"], serde_json::json!(["alice", "bob"]));
    assert!(!wanted.json["not_included"].to_string().contains("user accounts"));
    assert_ne!(plain.json["id"], wanted.json["id"]);
    let said = [&wanted.json.to_string(), &wanted.stderr];
    assert!(!said.iter().any(|text| text.contains("SSHA") || text.contains("pbkdf2")), "a plan shows no password");
    let id = wanted.json["id"].as_str().unwrap();
    let before = boxes::snapshot(&onto);
    assert_eq!(run(&onto, &old, &["restore", "--extras", "accounts", "--consent", id]).code, Some(0));
    assert_eq!(fs::metadata(file(&onto)).unwrap().permissions().mode() & 0o7777, 0o600);
    let waiting: serde_json::Value = serde_json::from_slice(&fs::read(file(&onto)).unwrap()).unwrap();
    assert_eq!(waiting["people"][0]["password"], ALICE);
    assert_eq!(waiting["people"][0]["web"]["password"], "pbkdf2_sha256$1$x$hash");
    assert_eq!(waiting["people"][0]["keys"], "ssh-ed25519 AAAA alice@laptop\n");
    assert_eq!(waiting["people"][1]["web"], serde_json::Value::Null);
    assert_eq!(waiting["groups"][0]["members"], serde_json::json!(["alice"]));
    assert_eq!(scene.on("undo", &onto, None).code, Some(0));
    assert_eq!(boxes::difference(&before, &boxes::snapshot(&onto)), "");
    assert!(!file(&onto).exists());
    // A backup has no accounts to bring over.
    let backup = run(&onto, &scene.backup, &["plan", "--extras", "accounts"]);
    assert!(backup.json["blockers"][0]["what"].as_str().unwrap().contains("no user accounts"), "{}", backup.json);
}
