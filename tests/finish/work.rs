//! The work itself: every app is finished, or it is said why not.

use super::*;

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
    let case = Case::of(&scene);
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

#[test]
fn a_restored_line_about_who_may_come_in_lets_freedombox_itself_in() {
    const ACCESS: &str = "etc/security/access.d/50freedombox.conf";
    if cannot_run() {
        return;
    }
    let on_box = |root: &Path| {
        give_to_plinth(root);
        let mut status = fs::read_to_string(root.join("var/lib/dpkg/status")).unwrap();
        for name in ["debsecan", "fail2ban"] {
            status += &format!("Package: {name}\nStatus: install ok installed\nArchitecture: all\nVersion: 1.0\n\n");
        }
        put(root, "var/lib/dpkg/status", status);
        let database = rusqlite::Connection::open(root.join("var/lib/plinth/plinth.sqlite3")).unwrap();
        database.execute("INSERT INTO plinth_module VALUES ('security', 9)", ()).unwrap();
        let state = json!({"versions": {"letsencrypt": 4, "security": 9}, "databases": {}, "notifications": {}, "migrated": [],
                           "log": []});
        put(root, "var/lib/plinth/fake.json", state.to_string());
    };
    let others = "# mine\n+:alice:LOCAL\n-:ALL EXCEPT root plinth:tty1\n";
    for (line, expected) in [
        ("-:ALL EXCEPT root fbx (admin) (sudo):ALL", "-:ALL EXCEPT plinth root fbx (admin) (sudo):ALL"),
        ("- : ALL EXCEPT plinths : ALL", "- : ALL EXCEPT plinth plinths : ALL"),
        ("-:ALL EXCEPT root fbx plinth (admin) (sudo):ALL", "-:ALL EXCEPT root fbx plinth (admin) (sudo):ALL"),
        ("#-:ALL EXCEPT root:ALL", "#-:ALL EXCEPT root:ALL"),
    ] {
        let scene = Scene::with(&[("security", 6, &[], &[ACCESS])], on_box, |source| {
            put(source, ACCESS, format!("{others}{line}\n"));
            sh(&format!("chmod 644 '{}'", source.join(ACCESS).display()));
        });
        let case = Case::new(&scene);
        let run = case.finish();
        let note = Case::app(ok(&run), "security")["note"].as_str().unwrap_or_default().to_owned();
        let live = case.root().join(ACCESS);
        assert_eq!(fs::read_to_string(&live).unwrap(), format!("{others}{expected}\n"));
        assert_eq!(sh(&format!("stat -c %a '{}'", live.display())).trim(), "644");
        assert_eq!(note.contains("own user was let in"), line != expected, "{note}");
        ok(&case.run(&["undo"], None));
        assert!(!live.exists());
    }
}

#[test]
fn openvpn_of_an_older_release_gets_the_settings_by_which_freedombox_makes_profiles() {
    const KEYS: &str = "etc/openvpn/freedombox-keys/pki";
    if cannot_run() {
        return;
    }
    for (own, is_set_up) in [("#set_var EASYRSA_BATCH \"\"\n", true), ("set_var EASYRSA_BATCH \"1\"\n", false)] {
        let scene = Scene::with(&[("openvpn", 4, &["etc/openvpn"], &[])], give_to_plinth, |source| {
            put(source, format!("{KEYS}/vars"), own);
            put(source, format!("{KEYS}/ca.crt"), "the authority\n");
        });
        let case = Case::new(&scene);
        case.machine(&json!({"available": ["openvpn"]}));
        ok(&case.finish());
        let read = |name: &str| fs::read_to_string(case.root().join(KEYS).join(name)).unwrap();
        assert_eq!(read("vars"), "set_var EASYRSA_BATCH \"1\"\n");
        assert_eq!(read("ca.crt"), "the authority\n");
        assert_eq!(case.log().contains(&"openvpn set up".to_owned()), is_set_up, "{:?}", case.log());
    }
}

#[test]
fn what_leads_downloads_through_tor_is_installed_after_all_that_is_downloaded() {
    const TOR: &str = "etc/tor/instances/fbxproxy";
    if cannot_run() {
        return;
    }
    let [.., gitweb, miniflux] = APPS;
    let scene = Scene::with(&[("torproxy", 2, &[TOR], &[]), gitweb, miniflux], give_to_plinth, |source| {
        put(source, format!("{TOR}/torrc"), "MaxCircuitDirtiness 1234\n");
    });
    let case = Case::new(&scene);
    case.machine(&json!({"available": ["gitweb", "miniflux", "postgresql", "tor", "apt-transport-tor"]}));
    ok(&case.finish());
    let installed: Vec<String> = case.log().into_iter().filter(|line| line.starts_with("install ")).collect();
    assert_eq!(installed, ["install gitweb", "install miniflux", "install torproxy"]);
    assert!(case.root().join(TOR).join("torrc").exists());
}

#[test]
fn tor_of_an_older_release_leaves_the_ports_to_the_app_that_is_the_proxy_now() {
    const TORRC: &str = "etc/tor/instances/plinth/torrc";
    if cannot_run() {
        return;
    }
    let own = "ControlPort 9051\nHiddenServicePort 80 127.0.0.1:80\n";
    let scene = Scene::with(&[("tor", 6, &["etc/tor"], &[])], give_to_plinth, |source| {
        put(source, TORRC, format!("SocksPort [::]:9050\nSocksPort 0.0.0.0:9050\n{own}"));
    });
    for refuses in [false, true] {
        let case = Case::new(&scene);
        case.machine(&json!({"available": ["tor"]}));
        if refuses {
            put(&case.root(), "var/lib/plinth/refuse-proxy", "");
            let run = case.finish();
            let why = Case::app(&run, "tor")["why"].to_string();
            assert!(run.code == Some(75) && why.contains("still has the proxy"), "{:?} {why}", run.code);
            continue;
        }
        let run = case.finish();
        let note = Case::app(ok(&run), "tor")["note"].to_string();
        assert!(note.contains("the app Tor Proxy now"), "{note}");
        assert_eq!(fs::read_to_string(case.root().join(TORRC)).unwrap(), own);
    }
}

#[test]
fn an_app_that_is_removed_between_two_attempts_is_installed_again_or_not_called_restored() {
    if cannot_run() {
        return;
    }
    let scene = scene();
    let remove = |case: &Case, app: &str, folder: &str| {
        let mut state = case.freedombox();
        state["versions"].as_object_mut().unwrap().remove(app);
        put(&case.root(), "var/lib/plinth/fake.json", state.to_string());
        fs::remove_dir_all(case.root().join(folder)).unwrap();
    };
    // Nothing of its data was in its place yet.
    let case = Case::new(&scene);
    assert_eq!(case.run(&["finish"], Some("move.before:1:eio")).code, Some(75));
    assert!(!case.root().join("var/lib/git/one.git").exists());
    remove(&case, "gitweb", "var/lib/git");
    ok(&case.finish());
    assert_eq!(case.freedombox()["versions"]["gitweb"], 3, "an app that is not installed is called restored");
    case.is_finished().unwrap();
    // Its data went with it.
    let case = Case::new(&scene);
    let refuse = case.root().join("var/lib/plinth/refuse-import");
    fs::write(&refuse, "").unwrap();
    assert_eq!(case.finish().code, Some(75));
    assert!(case.root().join("etc/miniflux/freedombox.conf").exists());
    remove(&case, "miniflux", "etc/miniflux");
    fs::remove_file(&refuse).unwrap();
    let run = case.finish();
    assert_eq!(run.code, Some(1), "{} {}", run.stderr, run.json);
    let app = Case::app(&run, "miniflux");
    assert_eq!(app["stand"], "not-restored");
    assert!(app["why"].as_str().unwrap().contains("was removed from FreedomBox"), "{app}");
}
