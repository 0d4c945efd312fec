//! What the running box does after a restore, on boxes whose FreedomBox is none (`tests/finish`): the real program and
//! the real driver, with a package `plinth` that has the same calls, so that the power can be cut at every point.

#![allow(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used, reason = "this is test code")]

mod common;

use common::boxes::*;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// A running box: its directory, its programs beside it, and what they did.
struct Case {
    dir: PathBuf,
}

impl Drop for Case {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

const NEEDED: [&str; 3] = ["gitweb", "miniflux", "postgresql"];
const STALE: &str = "var/lib/plinth/backups-data/miniflux-database.sql";
const NEW_ROWS: &str = "PostgreSQL database dump";

fn scene() -> Scene {
    let on_box = |root: &Path| {
        sh(&format!(
            "cd '{}'; printf 'plinth:x:130:130::/:/bin/false\\n' >> etc/passwd; chown 130:130 var/lib/plinth/plinth.sqlite3",
            root.display()
        ));
        put(root, STALE, "rows of an earlier backup\n");
    };
    Scene::with(&APPS, on_box, |source| {
        // gitweb's files belong to somebody whom only the installation makes.
        sh(&format!("cd '{}'; chown -R 140:141 var/lib/git; chmod 2750 var/lib/git/one.git", source.display()));
        // A backup tells of people by what apps keep for them alone.
        put(source, "var/lib/radicale/collections/collection-root/carol/work.ics", "");
    })
}

impl Case {
    /// A box that was restored onto and then started.
    fn new(scene: &Scene) -> Case {
        let case = Case::unrestored(scene);
        let done = scene.restore(&case.root(), None);
        assert_eq!(done.code, Some(0), "{} {}", done.stderr, done.json);
        case
    }

    fn unrestored(scene: &Scene) -> Case {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let dir = scene.dir.path().join(format!("case{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/finish");
        sh(&format!(
            "mkdir -p '{0}/package'; cp -a '{1}' '{0}/box'; cp -a '{2}/bin' '{0}/bin'; cp -a '{2}/plinth' '{0}/package/'
             cd '{0}/bin'; for name in systemctl apt-get dpkg getent timedatectl nmcli; do cp machine $name; done",
            dir.display(),
            scene.original().display(),
            here.display()
        ));
        let case = Case { dir };
        case.machine(&json!({"online": true, "available": NEEDED, "up": true, "stopped": 0, "interrupted": []}));
        case
    }

    fn root(&self) -> PathBuf {
        self.dir.join("box")
    }

    /// Changes what the machine is like.
    fn machine(&self, changes: &Value) {
        let path = self.dir.join("machine.json");
        let mut state: Value = fs::read(&path).map_or(json!({}), |text| serde_json::from_slice(&text).unwrap());
        state.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        fs::write(path, state.to_string()).unwrap();
    }

    fn state(&self) -> Value {
        serde_json::from_slice(&fs::read(self.dir.join("machine.json")).unwrap()).unwrap()
    }

    /// What FreedomBox knows.
    fn freedombox(&self) -> Value {
        let text = fs::read(self.root().join("var/lib/plinth/fake.json"));
        text.map_or(Value::Null, |text| serde_json::from_slice(&text).unwrap())
    }

    fn rows(&self) -> String {
        self.freedombox()["databases"]["miniflux"].as_str().unwrap_or_default().to_owned()
    }

    fn log(&self) -> Vec<String> {
        let log = self.freedombox()["log"].clone();
        log.as_array().map(|log| log.iter().map(|line| line.as_str().unwrap().to_owned()).collect()).unwrap_or_default()
    }

    fn run(&self, args: &[&str], fault: Option<&str>) -> Run {
        self.traced(args, fault, None)
    }

    fn traced(&self, args: &[&str], fault: Option<&str>, trace: Option<&Path>) -> Run {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lifeboat"));
        command.args(args).arg("--onto").arg(self.root()).args(["--json", "--plain"]).stdin(Stdio::null());
        command.env("LIFEBOAT_PROGRAMS", self.dir.join("bin")).env("LIFEBOAT_RUNNING", self.root());
        command.env_remove("LIFEBOAT_FAULT").env_remove("LIFEBOAT_FAULT_TRACE");
        fault.map(|fault| command.env("LIFEBOAT_FAULT", fault));
        trace.map(|trace| command.env("LIFEBOAT_FAULT_TRACE", trace));
        let output = command.output().unwrap();
        Run {
            code: output.status.code(),
            json: serde_json::from_slice(&output.stdout).unwrap_or_default(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    fn finish(&self) -> Run {
        self.run(&["finish"], None)
    }

    /// The run's app.
    fn app(run: &Run, name: &str) -> Value {
        let apps = run.json["progress"].as_array().unwrap_or_else(|| panic!("{} {}", run.stderr, run.json));
        apps.iter().find(|app| app["name"] == name).unwrap_or_else(|| panic!("{name}: {}", run.json)).clone()
    }

    /// Every app works with the data of the backup, and nothing is left to do.
    fn is_finished(&self) -> Result<(), String> {
        let root = self.root();
        let expect = |what: &str, is: bool| if is { Ok(()) } else { Err(format!("{what}: {}", self.freedombox())) };
        expect("the files of gitweb", root.join("var/lib/git/one.git/HEAD").exists())?;
        expect("nothing of the fresh installation is mixed in", !root.join("var/lib/git/from-the-package").exists())?;
        expect("the database of miniflux", self.rows().contains(NEW_ROWS))?;
        expect("FreedomBox's service runs", self.state()["up"] == true)?;
        expect("no package is half-installed", self.state()["interrupted"] == json!([]))?;
        expect("the job is gone", !root.join("var/lib/lifeboat/handoff.json").exists())?;
        let owner = sh(&format!("stat -c %u:%g:%a '{}'", root.join("var/lib/git/one.git").display()));
        expect(&format!("the owner, {owner}"), owner.trim() == "150:151:2750")
    }
}

fn ok(run: &Run) -> &Run {
    assert_eq!(run.code, Some(0), "{} {}", run.stderr, run.json);
    run
}

#[test]
fn every_app_that_waits_is_finished_and_doing_it_again_changes_nothing() {
    if cannot_run() {
        return;
    }
    let scene = scene();
    let case = Case::new(&scene);
    let run = case.finish();
    ok(&run);
    assert_eq!(Case::app(&run, "gitweb")["stand"], "finished");
    case.is_finished().unwrap();
    assert_eq!(case.state()["reloaded"], 2, "the web server did not see the restored files of each app");
    let shown = &case.freedombox()["notifications"]["lifeboat-restore"];
    assert_eq!((&shown["title"], &shown["group"]), (&json!("Restore: 6 of 6 apps restored"), &json!("admin")));
    assert!(shown["actions"].to_string().contains("dismiss"));
    let asks = "please create users with these names: carol";
    assert!(
        shown["message"].as_str().unwrap().contains(asks) && run.json["besides"].to_string().contains(asks),
        "{shown}"
    );
    // FreedomBox shows ten of them only.
    let notes = case.freedombox()["notifications"].clone();
    let is_seen = |(_, note): &(&String, &Value)| note["dismissed"] != json!(true);
    let seen: Vec<&String> = notes.as_object().unwrap().iter().filter(is_seen).map(|(id, _)| id).collect();
    assert!(notes.as_object().unwrap().len() > 1 && seen == ["lifeboat-restore"], "{seen:?}");
    let logs = case.root().join("var/log/lifeboat");
    assert_eq!(
        sh(&format!("cd '{}'; stat -c '%a %n' . report.txt report.json", logs.display())),
        "700 .\n600 report.txt\n600 report.json\n"
    );
    let report: Value = serde_json::from_slice(&fs::read(logs.join("report.json")).unwrap()).unwrap();
    assert_eq!((&report["state"], &report["waiting"]), (&json!("restored"), &json!([])));
    let before = (snapshot(&case.root()), case.log());
    for _ in 0..2 {
        ok(&case.finish());
        ok(&case.run(&["finish", "--scheduled"], None));
    }
    assert_eq!(difference(&before.0, &snapshot(&case.root())), "");
    assert_eq!((case.state()["stopped"].as_i64(), case.log()), (Some(1), before.1));
}

#[test]
fn offline_the_queue_is_kept_and_the_box_stays_usable_until_packages_come() {
    if cannot_run() {
        return;
    }
    let scene = scene();
    let case = Case::new(&scene);
    case.machine(&json!({"online": false}));
    for _ in 0..8 {
        let run = case.finish();
        assert_eq!(run.code, Some(75), "{} {}", run.stderr, run.json);
        let app = Case::app(&run, "gitweb");
        assert_eq!((&app["stand"], &app["failures"]), (&json!("waiting"), &json!(0)), "{app}");
        assert!(app["why"].as_str().unwrap().contains("cannot be reached now"), "{app}");
    }
    assert_eq!((&case.state()["stopped"], &case.state()["up"]), (&json!(0), &json!(true)));
    assert_eq!(case.state()["updates"], 8, "each run asks once, however many apps wait");
    let shown = &case.freedombox()["notifications"]["lifeboat-restore"]["title"];
    assert_eq!(shown, "Restore: 4 of 6 apps restored, 2 waiting");
    let journal =
        fs::read_to_string(case.root().join(format!("var/lib/lifeboat/restores/{}/journal", scene.plan))).unwrap();
    assert_eq!(journal.matches("\"record\":\"stopped\"").count(), 2, "waiting fills the journal");
    case.machine(&json!({"online": true}));
    ok(&case.finish());
    case.is_finished().unwrap();
}

#[test]
fn an_app_whose_package_is_gone_stops_only_itself_and_its_data_stays() {
    if cannot_run() {
        return;
    }
    let scene = scene();
    let case = Case::new(&scene);
    case.machine(&json!({"available": ["miniflux", "postgresql"]}));
    let run = case.finish();
    assert_eq!(run.code, Some(1), "{} {}", run.stderr, run.json);
    let app = Case::app(&run, "gitweb");
    assert_eq!((&app["stand"], &app["parked"]), (&json!("not-restored"), &json!(true)));
    assert!(app["why"].as_str().unwrap().contains("do not have gitweb"), "{app}");
    assert!(case.rows().contains(NEW_ROWS));
    let parked = "var/lib/lifeboat/parked/gitweb/var/lib/git/one.git/HEAD";
    assert!(case.root().join(parked).exists());
    let text = fs::read_to_string(case.root().join("var/log/lifeboat/report.txt")).unwrap();
    assert!(text.contains("NOT restored: gitweb") && text.contains("/var/lib/lifeboat/parked/gitweb"), "{text}");
    // The scheduled start leaves it alone; a person may ask again, and a commit does not remove the only copy.
    assert_eq!(case.run(&["finish", "--scheduled"], None).code, Some(1));
    ok(&case.run(&["commit"], None));
    assert!(case.root().join(parked).exists());
    case.machine(&json!({"available": NEEDED}));
    ok(&case.finish());
    assert!(case.root().join("var/lib/git/one.git/HEAD").exists());
}

#[test]
fn an_app_that_fails_again_and_again_is_given_up_and_never_called_finished() {
    if cannot_run() {
        return;
    }
    let scene = scene();
    let case = Case::new(&scene);
    let refuse = case.root().join("var/lib/plinth/refuse-gitweb");
    fs::write(&refuse, "").unwrap();
    let mut codes = Vec::new();
    for _ in 0..5 {
        codes.push(case.finish().code);
    }
    assert_eq!(codes, [Some(75), Some(75), Some(75), Some(75), Some(1)]);
    let status = case.run(&["status"], None);
    let app = Case::app(&status, "gitweb");
    assert_eq!((&app["stand"], &app["parked"]), (&json!("not-restored"), &json!(true)), "{app}");
    assert!(app["why"].as_str().unwrap().contains("the package says no"), "{app}");
    assert!(!status.json["done"].as_array().unwrap().contains(&json!("gitweb")));
    assert!(case.rows().contains(NEW_ROWS), "the other app was held up");
    fs::remove_file(refuse).unwrap();
    ok(&case.finish());
    case.is_finished().unwrap();
}

#[test]
fn a_hook_that_fails_is_a_failure_and_an_app_that_does_not_answer_is_none_that_works() {
    if cannot_run() {
        return;
    }
    let scene = scene();
    let case = Case::new(&scene);
    let refuse = case.root().join("var/lib/plinth/refuse-import");
    fs::write(&refuse, "").unwrap();
    let run = case.finish();
    assert_eq!(run.code, Some(75), "{} {}", run.stderr, run.json);
    let why = Case::app(&run, "miniflux")["why"].as_str().unwrap().to_owned();
    assert!(why.contains("restore_post") && why.contains("the server is down"), "{why}");
    assert_eq!(Case::app(&run, "gitweb")["stand"], "finished");
    fs::remove_file(refuse).unwrap();
    let broken = case.root().join("var/lib/plinth/broken-miniflux");
    // Broken from now on: what was broken before the restore does not count.
    fs::write(&broken, "").unwrap();
    let run = case.finish();
    assert_eq!(run.code, Some(75), "{} {}", run.stderr, run.json);
    let why = Case::app(&run, "miniflux")["why"].as_str().unwrap().to_owned();
    assert!(why.contains("does not answer") && !why.contains("always broken"), "{why}");
    let hooks = case.log().iter().filter(|line| *line == "hook miniflux").count();
    fs::remove_file(broken).unwrap();
    ok(&case.finish());
    assert_eq!(case.log().iter().filter(|line| *line == "hook miniflux").count(), hooks, "it was imported again");
}

#[test]
fn what_came_besides_apps_is_brought_over_and_what_the_box_has_stays() {
    if cannot_run() {
        return;
    }
    let scene = scene();
    let case = Case::new(&scene);
    let root = case.root();
    let put_json = |name: &str, value: &Value| put(&root, format!("var/lib/lifeboat/{name}.json"), value.to_string());
    let wan = |uuid: &str| format!("[connection]\nid=FreedomBox WAN\nuuid={uuid}\ntype=ethernet\ntimestamp=9\n");
    let folder = "etc/NetworkManager/system-connections";
    put(&root, format!("{folder}/own.nmconnection"), wan("own"));
    put(&root, "sys/class/net/wlan0/address", "");
    let wifi = "[connection]\nid=Home\nuuid=wifi\ntype=wifi\ninterface-name=wlan7\n\n[wifi]\nssid=a=b\nmac-address=1:2\n\n\
                [wifi-security]\npsk=hunter2\n";
    let point = "[connection]\nid=Mine\nuuid=ap\ntype=wifi\ninterface-name=wlan0\n\n[wifi]\nmode=ap\n";
    let connection = |text: &str| json!({"name": text.split(['=', '\n']).nth(2), "text": text});
    let broken = json!({"name": "broken", "text": "hunter2\n"});
    let all = [wan("own"), wan("old"), wifi.to_owned(), point.to_owned()].map(|text| connection(&text));
    let all = [&all[..], &[broken]].concat();
    put_json("networks", &json!({"connections": all}));
    put_json("names", &json!({"host": "oldbox", "domains": ["own.example", "example.org"]}));
    let location = |id: &str, path: &str, kind: &str| {
        json!({"uuid": id, "path": path, "storage_type": kind, "added_by_module": "backups",
               "credentials": {"encryption_passphrase": "hunter2", "ssh_keyfile": "/var/lib/plinth/.ssh/id_ed25519"},
               "schedule": {"enabled": true}})
    };
    let locations = [location("u0", "/media/own", "disk"), location("u1", "me@there:box", "ssh")];
    let keys = json!({"id_ed25519": "the old key", "known_hosts": "there ssh-ed25519 AAAA\n"});
    put_json("backup-locations", &json!({"locations": locations, "keys": keys}));
    put(&root, "var/lib/plinth/.ssh/id_ed25519", "the new key");
    put(&root, "var/lib/plinth/.ssh/known_hosts", "here ssh-ed25519 BBBB\n");
    case.machine(&json!({"online": false}));
    let run = case.finish();
    assert_eq!(run.code, Some(75), "{} {}", run.stderr, run.json);
    let lines = |uuid: &str| fs::read_to_string(root.join(format!("{folder}/{uuid}.nmconnection"))).unwrap_or_default();
    // An own connection stays, another one of that name comes beside it and switched off.
    assert_eq!(lines("own"), wan("own"));
    let (old, wifi, point) = (lines("old"), lines("wifi"), lines("ap"));
    assert!(old.contains("id=FreedomBox WAN (old box)\n") && old.contains("autoconnect=false\n"), "{old}");
    assert!(!old.contains("timestamp"), "{old}");
    assert!(wifi.contains("ssid=a=b\n") && wifi.contains("psk=hunter2\n"), "{wifi}");
    // The adapter of the old box is not here; what may connect must not wait for it.
    assert!(!wifi.contains("wlan7") && !wifi.contains("mac-address") && !wifi.contains("autoconnect"), "{wifi}");
    assert!(point.contains("interface-name=wlan0\n") && point.contains("autoconnect=false\n"), "{point}");
    assert_eq!(sh(&format!("stat -c '%a %u' '{}/{folder}/wifi.nmconnection'", root.display())), "600 0\n");
    assert_eq!(case.state()["loaded"], json!(3));
    let freedombox = case.freedombox();
    assert_eq!(freedombox["hostname"], "oldbox");
    assert_eq!(freedombox["domains"], json!(["own.example", "example.org"]));
    // A name is changed while the service is stopped, and a schedule does not begin while apps wait.
    assert_eq!((&case.state()["up"], &case.state()["stopped"]), (&json!(true), &json!(1)));
    assert_eq!(freedombox["storages"].as_object().unwrap().len(), 1);
    assert_eq!(run.json["extras_waiting"], json!(["backup-locations"]));
    let note = &freedombox["notifications"]["lifeboat-networks"];
    assert_eq!(note["severity"], "error");
    assert!(note["message"].as_str().unwrap().contains("broken was NOT brought over"), "{note}");
    case.machine(&json!({"online": true}));
    let run = case.finish();
    ok(&run);
    case.is_finished().unwrap();
    let storages = case.freedombox()["storages"].clone();
    assert_eq!(storages["u0"]["credentials"], json!({"encryption_passphrase": "its own"}));
    assert_eq!(storages["u1"]["schedule"]["enabled"], true);
    // The box's own key is needed for its own locations.
    assert_eq!(storages["u1"]["credentials"]["ssh_keyfile"], "/var/lib/plinth/.ssh/id_ed25519_old_box");
    let ssh = root.join("var/lib/plinth/.ssh");
    assert_eq!(fs::read_to_string(ssh.join("id_ed25519")).unwrap(), "the new key");
    assert_eq!(fs::read_to_string(ssh.join("known_hosts")).unwrap(), "here ssh-ed25519 BBBB\nthere ssh-ed25519 AAAA\n");
    assert_eq!(sh(&format!("cd '{}'; stat -c '%a %u' id_ed25519_old_box", ssh.display())), "600 130\n");
    for name in ["networks", "names", "backup-locations"] {
        assert!(!root.join(format!("var/lib/lifeboat/{name}.json")).exists(), "{name} still waits");
    }
    let logs = sh(&format!("cat '{}'/var/log/lifeboat/*", root.display()));
    assert!(logs.contains("backup locations: brought over: me@there:box") && !logs.contains("hunter2"), "{logs}");
}

#[test]
fn where_an_app_was_given_up_no_schedule_starts_and_an_older_freedombox_takes_one_domain() {
    if cannot_run() {
        return;
    }
    let scene = scene();
    let case = Case::new(&scene);
    let root = case.root();
    fs::write(root.join("var/lib/plinth/older-freedombox"), "").unwrap();
    let names = json!({"host": "oldbox", "domains": ["example.org", "other.example"]});
    put(&root, "var/lib/lifeboat/names.json", names.to_string());
    let location = json!({"uuid": "u1", "path": "/media/USB/FreedomBoxBackups", "storage_type": "disk",
                          "schedule": {"enabled": true}});
    let locations = json!({"locations": [location], "keys": {}});
    put(&root, "var/lib/lifeboat/backup-locations.json", locations.to_string());
    case.machine(&json!({"available": ["miniflux", "postgresql"]}));
    let run = case.finish();
    assert_eq!(run.code, Some(1), "{} {}", run.stderr, run.json);
    let besides = run.json["besides"].to_string();
    assert!(besides.contains("other.example was NOT brought over: this FreedomBox has one domain only"), "{besides}");
    let freedombox = case.freedombox();
    assert_eq!((&freedombox["hostname"], &freedombox["domain"]), (&json!("oldbox"), &json!("example.org")));
    assert_eq!(freedombox["storages"]["u1"]["schedule"]["enabled"], false);
    let note = &freedombox["notifications"]["lifeboat-backup_locations"]["message"];
    assert!(note.as_str().unwrap().contains("are switched off"), "{note}");
}

#[test]
fn an_interrupted_installation_is_repaired_before_anything_else() {
    if cannot_run() {
        return;
    }
    let scene = scene();
    let case = Case::new(&scene);
    case.machine(&json!({"interrupted": ["minidlna"], "up": false}));
    // Root made the database, and FreedomBox's service cannot start with it.
    sh(&format!("chown 0:0 '{}'", case.root().join("var/lib/plinth/plinth.sqlite3").display()));
    ok(&case.finish());
    case.is_finished().unwrap();
    let owner = sh(&format!("stat -c %u '{}'", case.root().join("var/lib/plinth/plinth.sqlite3").display()));
    assert_eq!(owner.trim(), "130");
}

#[test]
fn undo_on_the_running_box_brings_the_database_back_and_from_outside_it_says_so() {
    if cannot_run() {
        return;
    }
    let scene = scene();
    let case = Case::new(&scene);
    // miniflux is there with rows of its own, which the restore replaces.
    put(
        &case.root(),
        "var/lib/plinth/fake.json",
        json!({"versions": {"letsencrypt": 4, "radicale": 4, "shaarli": 1, "roundcube": 4, "miniflux": 2},
               "databases": {"miniflux": "my old rows\n"}, "notifications": {}, "migrated": [], "log": []})
        .to_string(),
    );
    put(&case.root(), "etc/miniflux/freedombox.conf", "OLD=1\n");
    ok(&case.finish());
    case.is_finished().unwrap();
    let outside = scene.on("undo", &case.root(), None);
    assert_eq!(outside.code, Some(2), "{}", outside.stderr);
    assert!(outside.stderr.contains("changed databases or settings of miniflux"), "{}", outside.stderr);
    case.is_finished().unwrap();
    ok(&case.run(&["undo"], None));
    assert_eq!(case.rows(), "my old rows\n");
    assert_eq!(fs::read_to_string(case.root().join("etc/miniflux/freedombox.conf")).unwrap(), "OLD=1\n");
    assert_eq!(fs::read_to_string(case.root().join("etc/radicale/config")).unwrap(), "old config\n");
    assert!(case.root().join("var/lib/git/from-the-package").exists());
    assert_eq!(case.state()["up"], true);
    assert_eq!(case.run(&["status"], None).json["state"], "rolled-back");
    assert!(case.log().contains(&"stop radicale".to_owned()), "services were not stopped: {:?}", case.log());
}

#[test]
fn after_14_days_or_a_commit_the_old_data_and_all_of_lifeboat_but_its_journal_and_its_papers_are_gone() {
    if cannot_run() {
        return;
    }
    let scene = scene();
    let case = Case::new(&scene);
    ok(&case.run(&["commit", "--when-due"], None));
    ok(&case.finish());
    let old = case.root().join("var/lib/lifeboat/parked/gitweb/var/lib/git/from-the-package");
    let due = || ok(&case.run(&["commit", "--when-due"], None)).json["state"].as_str().unwrap().to_owned();
    // A clock that nobody has set counts no days.
    assert_eq!((due(), case.run(&["status"], None).json["settled"].clone()), ("restored".into(), Value::Null));
    case.machine(&json!({"ntp": true}));
    assert_eq!((due(), due()), ("restored".into(), "restored".into()));
    assert!(old.exists());
    // Fifteen days pass.
    let own = case.root().join(format!("var/lib/lifeboat/restores/{}", scene.plan));
    let text = fs::read_to_string(own.join("journal")).unwrap();
    let line = text.lines().find(|line| line.contains("\"settled\"")).unwrap();
    let at: i64 = line.split("\"at\":").nth(1).unwrap().trim_end_matches('}').parse().unwrap();
    let earlier = line[9..].replace(&at.to_string(), &(at - 15 * 24 * 3600).to_string());
    let changed = format!("{:08x} {earlier}", crc32(earlier.as_bytes()));
    for copy in ["journal", "journal-copy"] {
        fs::write(own.join(copy), text.replace(line, &changed)).unwrap();
    }
    assert_eq!(due(), "committed");
    let left =
        take(&case.root(), &|path| path.starts_with("var/lib/lifeboat") || path.starts_with("etc/systemd/system"));
    let files: Vec<String> = left
        .iter()
        .filter(|(_, what)| !what.starts_with("directory"))
        .map(|(path, _)| String::from_utf8_lossy(path).into_owned())
        .collect();
    let kept = ["full.log", "journal", "journal-copy", "owners", "report.json", "report.txt"];
    let kept = kept.map(|name| format!("var/lib/lifeboat/restores/{}/{name}", scene.plan));
    assert_eq!(files, [&["var/lib/lifeboat/lock".to_owned()], &kept[..]].concat());
    assert!(case.root().join("var/lib/git/one.git/HEAD").exists());
}

/// As the journal's lines have it.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (0u32.wrapping_sub(crc & 1)));
        }
    }
    !crc
}

#[test]
fn another_restore_over_a_committed_one_loses_no_app_that_waits() {
    if cannot_run() {
        return;
    }
    let scene = scene();
    let case = Case::new(&scene);
    ok(&case.run(&["commit"], None));
    let mut other = Scene { dir: common::boxes::scratch(), ..scene_parts(&scene) };
    other.apps = Some("radicale,miniflux".into());
    other.plan = other.plan_for(&case.root());
    assert_ne!(other.plan, scene.plan);
    let run = other.restore(&case.root(), None);
    ok(&run);
    // miniflux is the later restore's now, gitweb still the earlier one's.
    ok(&case.finish());
    case.is_finished().unwrap();
    let parked = case.root().join("var/lib/lifeboat/parked/gitweb");
    assert!(!parked.join("var/lib/git").exists(), "old data of a committed restore is kept for nobody");
    ok(&case.run(&["undo"], None));
    assert!(case.root().join("var/lib/git/one.git/HEAD").exists(), "undo took the other restore's app");
    assert_eq!(case.rows(), "empty\n");
}

fn scene_parts(scene: &Scene) -> Scene {
    Scene {
        dir: common::boxes::scratch(),
        backup: scene.backup.clone(),
        program: scene.program.clone(),
        plan: String::new(),
        apps: None,
    }
}

#[test]
fn a_dump_of_an_earlier_backup_is_never_imported() {
    if cannot_run() {
        return;
    }
    let scene = scene();
    let mut without = scene_parts(&scene);
    let source = scene.dir.path().join("source");
    fs::remove_file(source.join(STALE)).unwrap();
    without.backup = without.dir.path().join("backup.tar.gz");
    let apps: Vec<_> = APPS
        .into_iter()
        .map(|(name, version, dirs, files)| (name, version, dirs, if name == "miniflux" { &files[..1] } else { files }))
        .collect();
    pack(&source, &apps, &without.backup);
    let case = Case::unrestored(&scene);
    let restore = |more: &[&str]| {
        let mut args = vec!["restore", "--from", without.backup.to_str().unwrap(), "--accept-damage"];
        args.extend(["--program", scene.program.to_str().unwrap()]);
        args.extend(more);
        case.run(&args, None)
    };
    let refused = restore(&["--consent", "0123456789abcdef"]);
    let sentence = refused.json["failure"]["sentence"].as_str().unwrap().to_owned();
    let plan = sentence.split("the plan is now ").nth(1).unwrap()[..16].to_owned();
    let run = restore(&["--consent", &plan]);
    assert_eq!(run.code, Some(16), "{} {}", run.stderr, run.json);
    for _ in 0..5 {
        case.finish();
    }
    assert_eq!(case.rows(), "empty\n");
    let status = case.run(&["status"], None);
    assert_eq!(Case::app(&status, "miniflux")["stand"], "not-restored");
    assert_eq!(Case::app(&status, "gitweb")["stand"], "finished");
}

/// Which part of the cases runs: all with `LIFEBOAT_ALL=1`, else every `step`-th.
fn sample<T: Clone>(all: &[T], step: usize) -> Vec<T> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<usize>().ok()).unwrap_or(0);
    let step = if number("LIFEBOAT_ALL") == 1 { 1 } else { step };
    all.iter().skip(number("LIFEBOAT_SEED") % step).step_by(step).cloned().collect()
}

#[test]
fn power_cut_at_any_point_of_the_work_is_gone_on_from_and_undone() {
    if cannot_run() {
        return;
    }
    let (begun, scene) = (Instant::now(), scene());
    let whole = Case::new(&scene);
    let fresh = live_of(&whole);
    let trace = scene.dir.path().join("finish-trace");
    ok(&whole.traced(&["finish"], None, Some(&trace)));
    whole.is_finished().unwrap();
    let done = live_of(&whole);
    assert_ne!(fresh, done);
    ok(&whole.run(&["undo"], None));
    let undone = live_of(&whole);
    let mut hits = std::collections::BTreeMap::new();
    let points: Vec<(String, u64)> = fs::read_to_string(&trace)
        .unwrap()
        .lines()
        .map(|name| {
            let hit: &mut u64 = hits.entry(name.to_owned()).or_default();
            *hit += 1;
            (name.to_owned(), *hit)
        })
        .collect();
    assert!(points.len() > 60, "{} points", points.len());
    let cases = sample(&points, 5);
    let wrong = in_parallel(&cases, |(name, hit)| {
        let case = Case::new(&scene);
        let about = |what: String| Err(format!("{name}:{hit}: {what}"));
        let cut = case.run(&["finish"], Some(&format!("{name}:{hit}:kill")));
        if cut.code.is_some() {
            return about(format!("was not killed but ended with {:?}: {}", cut.code, cut.stderr));
        }
        // systemd's ExecStopPost, or the next boot.
        case.machine(&json!({"up": true}));
        let mut last = None;
        for _ in 0..3 {
            let run = case.finish();
            last = run.code;
            if last == Some(0) {
                break;
            }
        }
        if last != Some(0) {
            return about(format!("ends with {last:?}: {}", case.run(&["status"], None).json));
        }
        if let Err(what) = case.is_finished() {
            return about(what);
        }
        if live_of(&case) != done {
            return about(format!("another result:{}", difference(&done, &live_of(&case))));
        }
        let undo = case.run(&["undo"], None);
        if undo.code != Some(0) || live_of(&case) != undone {
            return about(format!("undo: {:?} {}{}", undo.code, undo.stderr, difference(&undone, &live_of(&case))));
        }
        Ok(())
    });
    println!(
        "kill during finish, then finish and undo: {} of {} cases in {:.1} s",
        cases.len(),
        points.len(),
        begun.elapsed().as_secs_f32()
    );
    assert!(
        wrong.is_empty(),
        "{} of {} went wrong:\n{}",
        wrong.len(),
        cases.len(),
        wrong[..wrong.len().min(12)].join("\n")
    );
}

#[test]
fn power_cut_at_any_point_of_undoing_on_the_running_box_ends_in_old_data() {
    if cannot_run() {
        return;
    }
    let (begun, scene) = (Instant::now(), scene());
    let prepared = || {
        let case = Case::new(&scene);
        ok(&case.finish());
        case
    };
    let whole = prepared();
    let trace = scene.dir.path().join("undo-trace");
    ok(&whole.traced(&["undo"], None, Some(&trace)));
    let undone = live_of(&whole);
    let mut hits = std::collections::BTreeMap::new();
    let points: Vec<(String, u64)> = fs::read_to_string(&trace)
        .unwrap()
        .lines()
        .map(|name| {
            let hit: &mut u64 = hits.entry(name.to_owned()).or_default();
            *hit += 1;
            (name.to_owned(), *hit)
        })
        .collect();
    let cases = sample(&points, 13);
    let wrong = in_parallel(&cases, |(name, hit)| {
        let case = prepared();
        let about = |what: String| Err(format!("{name}:{hit}: {what}"));
        let cut = case.run(&["undo"], Some(&format!("{name}:{hit}:kill")));
        if cut.code.is_some() {
            return about(format!("was not killed but ended with {:?}: {}", cut.code, cut.stderr));
        }
        // The box goes on by itself with what was begun; what was not begun, somebody asks for again.
        if hit % 2 == 1 {
            case.machine(&json!({"up": true}));
            case.run(&["finish", "--scheduled"], None);
        }
        let again = case.run(&["undo"], None);
        let over = again.code == Some(0) || again.stderr.contains("was undone already");
        if !over || live_of(&case) != undone {
            return about(format!("{:?} {}{}", again.code, again.stderr, difference(&undone, &live_of(&case))));
        }
        Ok(())
    });
    println!(
        "kill during undo, then undo: {} of {} cases in {:.1} s",
        cases.len(),
        points.len(),
        begun.elapsed().as_secs_f32()
    );
    assert!(
        wrong.is_empty(),
        "{} of {} went wrong:\n{}",
        wrong.len(),
        cases.len(),
        wrong[..wrong.len().min(12)].join("\n")
    );
}

/// What btrfs may show after the power was cut in the middle of a move: one file at both of its names.
#[test]
fn half_of_a_move_on_the_running_box_is_gone_on_from_and_undone() {
    if cannot_run() {
        return;
    }
    let scene = scene();
    let live = "etc/miniflux/freedombox.conf";
    let parked = format!("var/lib/lifeboat/parked/miniflux/{live}");
    let mut seen = [0, 0];
    for nth in 1..6 {
        let fault = format!("move.after:{nth}:kill");
        for then in ["finish", "undo"] {
            let case = Case::new(&scene);
            let (live, parked) = (case.root().join(live), case.root().join(&parked));
            if case.run(&["finish"], Some(&fault)).code.is_some() || !live.exists() || parked.exists() || seen[0] == 2 {
                continue;
            }
            seen[0] += 1;
            fs::hard_link(&live, &parked).unwrap();
            case.machine(&json!({"up": true}));
            if then == "finish" {
                ok(&case.finish());
                case.is_finished().unwrap();
                assert!(live.exists() && !parked.exists(), "half of the move was kept");
            }
            ok(&case.run(&["undo"], None));
            assert!(!live.exists(), "the restored file stayed after undoing");
        }
        let case = Case::new(&scene);
        ok(&case.finish());
        let (live, parked) = (case.root().join(live), case.root().join(&parked));
        if seen[1] == 0 && case.run(&["undo"], Some(&fault)).code.is_none() && !live.exists() && parked.exists() {
            seen[1] += 1;
            fs::hard_link(&parked, &live).unwrap();
            ok(&case.run(&["undo"], None));
            assert!(!live.exists(), "the restored file stayed after undoing");
        }
    }
    assert_eq!(seen, [2, 1], "no power cut was in the middle of it");
}

/// What is in its place already is in nobody's hands: FreedomBox has set the app up and does not look at its data again.
#[test]
fn data_of_another_release_that_is_in_its_place_is_upgraded_and_checked() {
    if cannot_run() {
        return;
    }
    let apps = [("radicale", 3, &["etc/radicale", "var/lib/radicale"] as &[&str], &[] as &[&str])];
    let scene = Scene::with(&apps, |_| {}, |_| {});
    let case = Case::new(&scene);
    assert!(case.root().join("var/lib/radicale/link.ics").exists(), "it is not in its place before the box starts");
    let run = case.finish();
    ok(&run);
    assert_eq!(Case::app(&run, "radicale")["stand"], "finished");
    assert!(case.log().contains(&"hook radicale".to_owned()), "{:?}", case.log());
}

const PRIVATE: &str = "var/lib/private/calibre-server-freedombox";
const PUBLIC: &str = "var/lib/calibre-server-freedombox";

/// A box with an app whose service has a user that systemd makes up, and runs only when somebody connects; the web server
/// passes requests on to it. It answers with `status` while its data is there.
fn dynamic() -> Scene {
    let apps = [("calibre", 3, &[PRIVATE] as &[&str], &[] as &[&str])];
    let on_box = |root: &Path| {
        put(root, "etc/apache2/conf-enabled/calibre.conf", "  ProxyPass unix:/run/c.sock|uwsgi://calibre/\n");
        fs::create_dir(root.join("run")).unwrap_or_default();
    };
    Scene::with(&apps, on_box, |source| put(source, format!("{PRIVATE}/library/book"), "a book\n"))
}

/// Answers the app's requests as the program behind uWSGI's socket does.
fn answering(case: &Case, status: &'static std::sync::atomic::AtomicU16) {
    use std::io::{Read, Write};
    let root = case.root();
    let socket = std::os::unix::net::UnixListener::bind(root.join("run/c.sock")).unwrap();
    std::thread::spawn(move || {
        for connection in socket.incoming() {
            let Ok(mut connection) = connection else { return };
            let mut head = [0; 4];
            connection.read_exact(&mut head).unwrap();
            let mut words = vec![0; usize::from(u16::from_le_bytes([head[1], head[2]]))];
            connection.read_exact(&mut words).unwrap();
            assert!(words.windows(14).any(|part| part == b"REQUEST_METHOD"), "{words:?}");
            let has_data = root.join(PRIVATE).join("library").exists();
            let status = if has_data { status.load(Ordering::Relaxed) } else { 200 };
            write!(connection, "HTTP/1.1 {status} said\r\n\r\n").unwrap();
        }
    });
}

#[test]
fn private_data_is_where_its_service_looks_although_the_package_brought_a_folder_there() {
    static STATUS: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(302);
    if cannot_run() {
        return;
    }
    let scene = dynamic();
    for fault in [None, Some("open.before:1:kill"), Some("open.after:1:kill")] {
        let case = Case::new(&scene);
        case.machine(&json!({"available": ["calibre"]}));
        answering(&case, &STATUS);
        if fault.is_some() {
            assert_eq!(case.run(&["finish"], fault).code, None);
            case.machine(&json!({"up": true}));
        }
        ok(&case.finish());
        let public = case.root().join(PUBLIC);
        assert_eq!(fs::read_link(&public).unwrap(), Path::new("private/calibre-server-freedombox"));
        assert_eq!(fs::read_to_string(public.join("library/book")).unwrap(), "a book\n");
        let aside = case.root().join("var/lib/lifeboat/parked/calibre").join(PUBLIC);
        assert!(aside.join("from-the-package").exists());
        let called = case.state()["called"].to_string();
        assert!(called.contains(r#""start","stop""#), "a service went on with its old files: {called}");
        if fault.is_none() {
            let copy = scene.dir.path().join("committed");
            sh(&format!("cp -a '{}' '{}'", case.dir.display(), copy.display()));
            let committed = Case { dir: copy };
            ok(&committed.run(&["commit"], None));
            assert!(!committed.root().join("var/lib/lifeboat/parked").exists());
            assert!(committed.root().join(PUBLIC).join("library/book").exists());
        }
        ok(&case.run(&["undo"], None));
        assert!(!public.is_symlink() && public.join("from-the-package").exists());
        assert!(!case.root().join(PRIVATE).exists());
    }
}

#[test]
fn an_app_that_only_the_web_server_answers_for_is_none_that_works() {
    static STATUS: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(500);
    if cannot_run() {
        return;
    }
    let scene = dynamic();
    let case = Case::new(&scene);
    case.machine(&json!({"available": ["calibre"]}));
    answering(&case, &STATUS);
    let why = |run: &Run| Case::app(run, "calibre")["why"].as_str().unwrap_or_default().to_owned();
    let run = case.finish();
    assert_eq!(run.code, Some(75), "{} {}", run.stderr, run.json);
    assert!(why(&run).contains("does not answer") && why(&run).contains("error 500"), "{}", why(&run));
    case.machine(&json!({"refuses": true}));
    STATUS.store(401, Ordering::Relaxed);
    let run = case.finish();
    assert!(why(&run).contains("calibre.service does not start"), "{}", why(&run));
    case.machine(&json!({"refuses": false}));
    ok(&case.finish());
}

/// The apps' places and databases: what must be the same however often the power was cut.
fn live_of(case: &Case) -> Snapshot {
    let places = [
        "etc/radicale",
        "var/lib/radicale",
        "etc/letsencrypt",
        "etc/roundcube",
        "var/lib/shaarli",
        "var/lib/git",
        "etc/miniflux",
    ];
    let mut seen = take(&case.root(), &|path| places.iter().any(|place| path.starts_with(place)));
    // Directories' times and what the fake installation writes anew do not count.
    for (path, line) in &mut seen {
        if line.starts_with("directory") || path.ends_with(b"from-the-package") {
            *line = line.split(" @").next().unwrap().to_owned();
        }
    }
    seen.insert(b"(rows)".to_vec(), case.rows());
    seen.insert(b"(service)".to_vec(), case.state()["up"].to_string());
    seen
}
