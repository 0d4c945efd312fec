//! What an old box has besides apps: people, names, networks, backup locations. Read whatever machine wrote it, offered,
//! and handed to the new box only when it is asked for.

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
    let alice = &archive.extras().unwrap().accounts.people[0];
    assert_eq!(alice.web.as_ref().unwrap().groups, ["admin"]);
    assert!(alice.keys.is_some());
    put(dir.path(), "var/lib/ldap/data.mdb", "no directory");
    let mut archive = old_system::open(&host, Root::Directory(dir.path().to_owned()), &[]).unwrap();
    let ending = common::archives::collect(&mut *archive).unwrap().1;
    assert!(ending.findings.iter().any(|finding| finding.subject == "user accounts"), "{:?}", ending.findings);
}

/// Runs a command about a restore from `from`: its name, and what else it is given.
fn run(scene: &Scene, onto: &Path, from: &Path, words: &[&str]) -> boxes::Run {
    let mut all: Vec<OsString> = vec![words[0].into(), "--from".into(), from.into()];
    all.extend(["--onto".into(), onto.into(), "--program".into(), scene.program.clone().into()]);
    all.extend(words[1..].iter().map(|word| OsStr::new(word).to_owned()));
    scene.run(&all, None)
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
    let run = |onto: &Path, from: &Path, more: &[&str]| run(&scene, onto, from, more);
    let onto = scene.fresh();
    let file = |onto: &Path| -> PathBuf { onto.join("var/lib/lifeboat/accounts.json") };
    let plain = run(&onto, &old, &["plan"]);
    let offered = serde_json::json!({"extra": "accounts", "names": ["alice", "bob"]});
    assert_eq!(plain.json["offered"][0], offered, "{}", plain.stderr);
    assert!(plain.json["extras"].is_null());
    assert!(plain.json["not_included"].to_string().contains("user accounts"));
    assert_eq!(plain.json["people"], serde_json::json!(["alice"]), "whose account does not come along");
    let wanted = run(&onto, &old, &["plan", "--extras", "accounts"]);
    assert!(wanted.json["people"].is_null());
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
    let none = run(&onto, &old, &["plan", "--extras", "networks"]);
    assert!(none.json["blockers"][0]["what"].as_str().unwrap().contains("no network connections"), "{}", none.json);
}

/// Words that no plan, log or report may have.
const SECRETS: [&str; 6] =
    ["hunter2-wifi", "hunter2-borg", "hunter2-ssh", "hunter2-key", "c2VjcmV0IG9mIGFsaWNl", "pbkdf2_sha256"];
const WIFI: &str = "[connection]\nid=Home\nuuid=11111111-2222-3333-4444-555555555555\ntype=wifi\n\n\
                    [wifi]\nssid=Home\n\n[wifi-security]\nkey-mgmt=wpa-psk\npsk=hunter2-wifi\n";

/// An old box with all that no backup holds.
fn full_box(root: &Path) {
    old_box(root, 8);
    put(root, "etc/hostname", "oldbox\n");
    put(root, "etc/hosts", "127.0.0.1 localhost\n127.0.1.1 oldbox.older.example oldbox\n");
    let networks = "etc/NetworkManager/system-connections";
    put(root, format!("{networks}/Home.nmconnection"), WIFI);
    put(
        root,
        format!("{networks}/WAN"),
        "[connection]\nid=FreedomBox WAN\ntype=ethernet\n\n[802-1x]\nca-cert=/etc/ca.pem\n",
    );
    put(root, format!("{networks}/broken"), "hunter2-wifi\n");
    put(root, format!("{networks}/.hidden"), WIFI);
    put(root, "var/lib/plinth/.ssh/id_ed25519", "hunter2-key\n");
    put(root, "var/lib/plinth/.ssh/known_hosts", "backup.example ssh-ed25519 AAAA\n");
    put(root, "var/lib/samba/private/passdb.tdb", "TDB file\n");
    let locations = serde_json::json!({
        "root": {"path": "/var/lib/freedombox/borgbackup", "storage_type": "root", "added_by_module": "backups",
                 "schedule": {"enabled": true, "run_at_hour": 2}},
        "u1": {"path": "me@backup.example:~/box", "storage_type": "ssh", "added_by_module": "backups",
               "credentials": {"encryption_passphrase": "hunter2-borg", "ssh_password": "hunter2-ssh"}},
    });
    let database = rusqlite::Connection::open(root.join("var/lib/plinth/plinth.sqlite3")).unwrap();
    for (key, value) in [("network_storage", locations.to_string()), ("domains", r#"["example.org"]"#.to_owned())] {
        let value = serde_json::Value::from(value).to_string();
        database.execute("INSERT OR REPLACE INTO plinth_kvstore VALUES (?1, ?2)", (key, value)).unwrap();
    }
}

/// Files below a directory that have one of the secrets in them, but for those that wait for root alone.
fn leaks(root: &Path) -> Vec<PathBuf> {
    let files = walkdir::WalkDir::new(root).into_iter().map(Result::unwrap).filter(|entry| entry.file_type().is_file());
    let has = |path: &Path| {
        let text = fs::read(path).unwrap();
        SECRETS.iter().any(|secret| text.windows(secret.len()).any(|part| part == secret.as_bytes()))
    };
    files.map(walkdir::DirEntry::into_path).filter(|path| has(path)).collect()
}

#[test]
fn names_networks_and_backup_locations_are_offered_and_no_plan_or_journal_has_their_secrets() {
    if boxes::cannot_run() {
        return;
    }
    let scene = Scene::with(&APPS, |_| {}, |_| {});
    let old = scene.dir.path().join("old");
    fs::create_dir(&old).unwrap();
    full_box(&old);
    let onto = scene.fresh();
    let run = |more: &[&str]| {
        let mut words: Vec<OsString> = vec![more[0].into(), "--from".into(), old.clone().into()];
        words.extend(["--onto".into(), onto.to_path_buf().into(), "--program".into(), scene.program.clone().into()]);
        words.extend(more[1..].iter().map(|word| OsStr::new(word).to_owned()));
        scene.run(&words, None)
    };
    let plain = run(&["plan"]);
    let names = serde_json::json!([
        {"extra": "accounts", "names": ["alice", "bob"]},
        {"extra": "names", "names": ["oldbox", "example.org", "older.example"]},
        {"extra": "networks", "names": ["Home", "FreedomBox WAN"]},
        {"extra": "backup-locations", "names": ["/var/lib/freedombox/borgbackup", "me@backup.example:~/box"]},
    ]);
    let mut offered = plain.json["offered"].clone();
    let folders = offered.as_array_mut().unwrap().pop();
    assert_eq!(folders, Some(serde_json::json!({"extra": "folders", "names": ["/home/alice", "/home/kept"]})));
    assert_eq!(offered, names, "{}", plain.stderr);
    let all = "accounts,names,networks,backup-locations";
    let wanted = run(&["plan", "--extras", all]);
    assert_eq!(wanted.json["extras"], names);
    let left = wanted.json["not_included"].to_string();
    let gone = ["user accounts", "network", "WireGuard", "host name", "backup locations"];
    assert!(left.contains("home page") && !gone.iter().any(|what| left.contains(what)), "{left}");
    let before = boxes::snapshot(&onto);
    let (id, papers) = (wanted.json["id"].as_str().unwrap(), scene.dir.path().join("papers"));
    let done = run(&["restore", "--extras", all, "--consent", id, "--report", papers.to_str().unwrap()]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    // The papers lie on the box and where they were wanted besides, for their owner alone.
    let own = onto.join("var/lib/lifeboat/restores").join(id);
    assert_eq!(fs::metadata(&own).unwrap().permissions().mode() & 0o7777, 0o700);
    for folder in [&own, &papers] {
        for name in ["report.txt", "report.json", "full.log"] {
            assert_eq!(fs::metadata(folder.join(name)).unwrap().permissions().mode() & 0o7777, 0o600);
        }
        let text = fs::read_to_string(folder.join("report.txt")).unwrap();
        assert!(text.contains("RESTORED NOW") && text.contains("me@backup.example:~/box"), "{text}");
        let json: serde_json::Value = serde_json::from_slice(&fs::read(folder.join("report.json")).unwrap()).unwrap();
        assert_eq!((&json["plan"]["id"], json["verification"]["apps"].is_array()), (&wanted.json["id"], true));
        assert_eq!(json["status"]["plan"].is_string(), folder == &papers, "{json}");
        let log = fs::read_to_string(folder.join("full.log")).unwrap();
        assert!(log.contains("verified radicale") && log.contains("/var/lib/radicale -> /var/lib/radicale"), "{log}");
    }
    assert!(leaks(&papers).is_empty(), "secrets are in {:?}", leaks(&papers));
    let waiting = |name: &str| -> serde_json::Value {
        let file = onto.join(format!("var/lib/lifeboat/{name}.json"));
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
        serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
    };
    assert_eq!(waiting("accounts")["samba"], "VERCIGZpbGUK");
    assert_eq!(waiting("names"), serde_json::json!({"host": "oldbox", "domains": ["example.org", "older.example"]}));
    assert_eq!(waiting("networks")["connections"][0], serde_json::json!({"name": "Home", "text": WIFI}));
    let locations = waiting("backup-locations");
    assert_eq!(locations["locations"][1]["credentials"]["encryption_passphrase"], "hunter2-borg");
    assert_eq!(locations["locations"][0]["uuid"], "root");
    assert_eq!(locations["keys"]["id_ed25519"], "hunter2-key\n");
    for text in [&plain, &wanted, &done].map(|run| run.json.to_string() + &run.stderr) {
        assert!(!SECRETS.iter().any(|secret| text.contains(secret)), "{text}");
    }
    let held =
        ["accounts", "networks", "backup-locations"].map(|name| onto.join(format!("var/lib/lifeboat/{name}.json")));
    let mut leaking = leaks(&onto);
    leaking.retain(|path| !held.contains(path));
    assert!(leaking.is_empty(), "secrets are in {leaking:?}");
    assert_eq!(scene.on("undo", &onto, None).code, Some(0));
    assert_eq!(boxes::difference(&before, &boxes::snapshot(&onto)), "");
}

#[test]
fn a_disk_read_without_the_kernel_gives_the_same_extras() {
    if boxes::needs_root() {
        return;
    }
    let dir = boxes::scratch();
    full_box(dir.path());
    let image = common::disks::blank(&dir.path().with_extension("img"), 24);
    let words = ["-q", "-t", "ext4", "-d"].map(OsStr::new);
    let words: Vec<&OsStr> = words.into_iter().chain([dir.path().as_os_str(), image.as_os_str()]).collect();
    common::disks::run("mke2fs", &words);
    let length = fs::metadata(&image).unwrap().len();
    let volume = lifeboat::sys::mount::Extent { path: image.clone(), offset: 0, length };
    let runtime = tempfile::tempdir().unwrap();
    let host = Host::real(runtime.path());
    let [mounted, unmounted] = [Root::Directory(dir.path().to_owned()), Root::Volume(volume.clone())].map(|root| {
        let mut archive = old_system::open(&host, root, &[]).unwrap();
        let findings = common::archives::collect(&mut *archive).unwrap().1.findings;
        let about: Vec<_> = findings.into_iter().filter(|finding| finding.subject == "network connections").collect();
        (archive.extras().unwrap().clone(), about)
    });
    assert_eq!(mounted.1.len(), 2, "the broken one, and the one with a certificate: {:?}", mounted.1);
    assert!(!format!("{:?}", mounted.1).contains("hunter2"));
    assert_eq!(mounted, unmounted);
    // Keys that cannot be read are named, not passed over.
    let key = ["-w", "-R", "clri /home/alice/.ssh/authorized_keys", image.to_str().unwrap()];
    common::disks::run("debugfs", &key);
    let mut archive = old_system::open(&host, Root::Volume(volume), &[]).unwrap();
    let findings = common::archives::collect(&mut *archive).unwrap().1.findings;
    let said = "the SSH keys of 'alice' cannot be read";
    assert!(findings.iter().any(|finding| finding.what.starts_with(said)), "{findings:?}");
    fs::remove_file(image).unwrap();
}

#[test]
fn passwords_for_sambas_shares_come_by_the_names_of_people_and_cost_nobody_here_his_number() {
    if boxes::needs_root() {
        return;
    }
    let library = std::process::Command::new("/usr/bin/python3").args(["-c", "import samba.samba3.passdb"]).output();
    if !Path::new("/usr/bin/pdbedit").exists() || !library.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: there is no Samba here (packages samba and python3-samba)");
        return;
    }
    let dir = boxes::scratch();
    let (old, new) = (dir.path().join("old"), dir.path().join("new"));
    for folder in [&old, &new] {
        let at = folder.display();
        let places = ["private dir", "state directory", "cache directory", "lock directory", "pid directory"];
        let lines: String = places.iter().map(|place| format!("{place} = {at}\n")).collect();
        put(folder, "smb.conf", format!("[global]\n{lines}passdb backend = tdbsam\n"));
    }
    let give = |folder: &Path, name: &str, word: &str| {
        let line = format!("printf '{word}\n{word}\n' | smbpasswd -c '{}/smb.conf' -s -a {name}", folder.display());
        sh(&line);
    };
    give(&old, "games", "of games");
    give(&old, "backup", "of backup");
    // Each box numbers its people from the same number on.
    give(&new, "daemon", "of daemon");
    let program = "import base64, json, sys; sys.path.insert(0, sys.argv[1]); import accounts
accounts.CONFIGURATION = sys.argv[3] + '/smb.conf'
came = {'notes': []}
raw = base64.b64encode(open(sys.argv[2] + '/passdb.tdb', 'rb').read())
for _ in range(2):
    accounts.give_passwords(raw, ['games', 'nobody'], came)
print(json.dumps(came['notes']))";
    let parts = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/finish/extras");
    let mut python = std::process::Command::new("/usr/bin/python3");
    python.args(["-B", "-c", program]).args([&parts, &old, &new]);
    let output = python.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("has to be set again: nobody.") && !said.contains("games"), "{said}");
    let list = |folder: &Path| sh(&format!("pdbedit --configfile '{}/smb.conf' -L -w", folder.display()));
    let of = |lines: &str, name: &str| lines.lines().find(|line| line.starts_with(name)).map(str::to_owned);
    assert_eq!(of(&list(&new), "games:"), of(&list(&old), "games:"));
    assert!(of(&list(&new), "backup:").is_none(), "who was not brought over got a password");
    let number = |name: &str| {
        let shown = sh(&format!("pdbedit --configfile '{}/smb.conf' -L -v -u {name}", new.display()));
        shown.lines().find(|line| line.starts_with("User SID")).unwrap().to_owned()
    };
    assert_ne!(number("games"), number("daemon"));
}

#[test]
fn what_waits_besides_apps_outlives_a_commit_and_another_restore() {
    if boxes::cannot_run() {
        return;
    }
    let scene = Scene::with(&APPS, |_| {}, |_| {});
    let old = scene.dir.path().join("old");
    fs::create_dir(&old).unwrap();
    old_box(&old, 8);
    let onto = scene.fresh();
    let restore = |from: &Path, wanted: &[&str]| {
        let planned = run(&scene, &onto, from, &[&["plan"], wanted].concat());
        let id = planned.json["id"].as_str().unwrap_or_else(|| panic!("{}", planned.stderr)).to_owned();
        let done = run(&scene, &onto, from, &[&["restore"], wanted, &["--consent", &id]].concat());
        assert_eq!(done.code, Some(0), "{} {}", done.stderr, done.json);
        done
    };
    let ok = |command: &str| {
        let run = scene.on(command, &onto, None);
        assert_eq!(run.code, Some(0), "{command}: {}", run.stderr);
    };
    let still_waits = |after: &str| {
        for path in [
            "var/lib/lifeboat/accounts.json",
            "var/lib/lifeboat/handoff.json",
            "var/lib/lifeboat/bin/lifeboat",
            "etc/systemd/system/lifeboat-finish.service",
            "etc/systemd/system/timers.target.wants/lifeboat-finish.timer",
        ] {
            assert!(onto.join(path).symlink_metadata().is_ok(), "after {after}: {path} is gone");
        }
    };
    // Of the apps none waits.
    let done = restore(&old, &["--apps", "shaarli", "--extras", "accounts"]);
    assert_eq!(done.json["waiting"], serde_json::json!([]));
    ok("commit");
    still_waits("the commit");
    restore(&scene.backup, &["--apps", "radicale"]);
    ok("undo");
    still_waits("undoing another restore");
    restore(&scene.backup, &["--apps", "radicale"]);
    ok("commit");
    still_waits("the commit of another restore");
    // Of one kind only one can wait.
    let both = &["--apps", "roundcube", "--extras", "accounts,names"];
    let planned = run(&scene, &onto, &old, &[&["plan"], &both[..]].concat());
    let again = run(
        &scene,
        &onto,
        &old,
        &[&["restore"], &both[..], &["--consent", planned.json["id"].as_str().unwrap()]].concat(),
    );
    assert_eq!(again.code, Some(11), "{} {}", again.stderr, again.json);
    assert!(again.stderr.contains("still waits there"), "{}", again.stderr);
    still_waits("another restore that was refused");
    // What is taken back before it came does not come.
    restore(&old, &["--apps", "roundcube", "--extras", "names"]);
    assert!(onto.join("var/lib/lifeboat/names.json").exists());
    ok("undo");
    assert!(!onto.join("var/lib/lifeboat/names.json").exists());
    still_waits("undoing more of them");
}
