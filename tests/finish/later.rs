//! Undoing, and what is left when the old data goes.

use super::cuts::cut;
use super::*;
use common::cases::{report, sample};

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
fn undo_keeps_what_a_database_held_until_the_app_is_there_to_take_it() {
    if cannot_run() {
        return;
    }
    let scene = scene();
    let case = Case::new(&scene);
    let change = |change: &dyn Fn(&mut Value)| {
        let mut state = case.freedombox();
        change(&mut state);
        put(&case.root(), "var/lib/plinth/fake.json", state.to_string());
    };
    put(
        &case.root(),
        "var/lib/plinth/fake.json",
        json!({"versions": {"letsencrypt": 4, "radicale": 4, "shaarli": 1, "roundcube": 4, "miniflux": 2},
               "databases": {"miniflux": "my old rows\n"}, "notifications": {}, "migrated": [], "log": []})
        .to_string(),
    );
    ok(&case.finish());
    // Its owner did not like what came, and removed the app with its database.
    change(&|state| {
        state["versions"].as_object_mut().unwrap().remove("miniflux");
        state["databases"].as_object_mut().unwrap().remove("miniflux");
    });
    for _ in 0..2 {
        let undo = case.run(&["undo"], None);
        assert_ne!(undo.code, Some(0), "{}", undo.json);
        assert_eq!(undo.failed_state(), "mixed", "{}", undo.json);
        let kept = format!("var/lib/lifeboat/restores/{}/kept/miniflux", scene.plan);
        assert!(undo.stderr.contains("miniflux") && undo.stderr.contains(&format!("/{kept}")), "{}", undo.stderr);
        assert_eq!(fs::read_dir(case.root().join(kept)).unwrap().count(), 1);
        let gitweb = case.root().join("var/lib/git");
        assert!(gitweb.join("from-the-package").exists() && !gitweb.join("one.git").exists(), "gitweb was held up");
        assert_eq!(case.state()["up"], true);
        case.machine(&json!({"up": true}));
    }
    // What cannot be installed any more does not hold undoing up for ever; a power cut loses nothing.
    let elsewhere = Case { scene: &scene, dir: common::boxes::scratch().keep() };
    sh(&format!("cp -a '{0}'/. '{1}'", case.dir.display(), elsewhere.dir.display()));
    for fault in [Some("undo.exchanged:1:kill"), None] {
        let undo = elsewhere.run(&["undo", "--leave-dumps"], fault);
        assert_eq!(undo.code, fault.map_or(Some(0), |_| None), "{} {}", undo.stderr, undo.json);
        let left = format!("var/lib/lifeboat/dumps/{}", scene.plan);
        assert!(fault.is_some() || undo.stderr.contains(&format!("/{left}\"")), "{}", undo.stderr);
        let dump = elsewhere.root().join(left).join("miniflux.1/miniflux-database.sql");
        assert_eq!(fs::read_to_string(dump).unwrap(), "my old rows\n");
        elsewhere.machine(&json!({"up": true}));
    }
    assert_eq!(elsewhere.run(&["status"], None).json["state"], "rolled-back");
    change(&|state| {
        state["versions"]["miniflux"] = json!(2);
        state["databases"]["miniflux"] = json!("empty\n");
    });
    ok(&case.run(&["undo"], None));
    assert_eq!(case.rows(), "my old rows\n");
    assert_eq!(case.run(&["status"], None).json["state"], "rolled-back");
}

/// A box whose miniflux has rows of its own, and whose import fails until its owner has added to them.
fn tried_before(scene: &Scene, attempts: usize) -> Case<'_> {
    let case = Case::new(scene);
    let rows = |rows: &str| {
        let mut state = case.freedombox();
        state["versions"]["miniflux"] = json!(2);
        state["databases"]["miniflux"] = json!(rows);
        put(&case.root(), "var/lib/plinth/fake.json", state.to_string());
    };
    let versions = json!({"letsencrypt": 4, "radicale": 4, "shaarli": 1, "roundcube": 4});
    let state = json!({"versions": versions, "databases": {}, "notifications": {}, "migrated": [], "log": []});
    put(&case.root(), "var/lib/plinth/fake.json", state.to_string());
    rows("my old rows\n");
    let refuse = case.root().join("var/lib/plinth/refuse-import");
    fs::write(&refuse, "").unwrap();
    for _ in 0..attempts {
        assert_ne!(case.finish().code, Some(0));
    }
    assert_eq!(case.rows(), "my old rows\n");
    rows("rows of the days since\n");
    fs::remove_file(refuse).unwrap();
    case
}

/// What is kept of miniflux, the later ones by their number.
fn kept_of(case: &Case, name: &str) -> Option<String> {
    let kept = case.root().join(format!("var/lib/lifeboat/restores/{}/kept", case.scene.plan));
    fs::read_to_string(kept.join(name).join("miniflux-database.sql")).ok()
}

#[test]
fn what_its_owner_added_to_an_app_between_two_attempts_is_kept_as_well() {
    if cannot_run() {
        return;
    }
    let scene = scene();
    for attempts in [1, 5] {
        let case = tried_before(&scene, attempts);
        let run = case.finish();
        ok(&run);
        case.is_finished().unwrap();
        assert_eq!(kept_of(&case, "miniflux").as_deref(), Some("my old rows\n"));
        let later = format!("miniflux.later/{attempts}");
        assert_eq!(kept_of(&case, &later).as_deref(), Some("rows of the days since\n"), "{attempts}");
        let note = Case::app(&run, "miniflux")["note"].to_string();
        assert!(note.contains("/kept/miniflux.later") && note.matches("is kept in").count() == 1, "{note}");
        ok(&case.run(&["undo"], None));
        assert_eq!(case.rows(), "my old rows\n");
        assert_eq!(kept_of(&case, &later), None, "it stayed after undoing");
    }
    // Nobody could add anything, and a database that half of an import left may not be there to be dumped.
    let case = Case::new(&scene);
    ok(&case.finish());
    assert_eq!(Case::app(&case.run(&["status"], None), "miniflux")["note"], Value::Null);
}

#[test]
fn power_cut_at_any_point_of_another_attempt_loses_neither_what_was_added_nor_the_dump_of_the_backup() {
    if cannot_run() {
        return;
    }
    let (begun, scene) = (Instant::now(), scene());
    let whole = tried_before(&scene, 1);
    let points = scene.points(|trace| whole.traced(&["finish"], None, Some(trace)));
    whole.is_finished().unwrap();
    let cases = sample(&points, 17);
    let wrong = in_parallel(&cases, |(name, hit)| {
        let case = tried_before(&scene, 1);
        let about = |what: String| Err(format!("{name}:{hit}: {what}"));
        cut(&case, "finish", name, *hit)?;
        case.machine(&json!({"up": true}));
        if hit % 3 == 2 {
            let undo = case.run(&["undo"], None);
            return match undo.code == Some(0) && case.rows() == "my old rows\n" {
                true => Ok(()),
                false => about(format!("undo: {:?} {} {}", undo.code, undo.stderr, case.rows())),
            };
        }
        case.finish();
        if let Err(what) = case.is_finished() {
            return about(what);
        }
        let later = (1..4).find_map(|nth| kept_of(&case, &format!("miniflux.later/{nth}")));
        if later.as_deref() != Some("rows of the days since\n") {
            return about(format!("kept: {later:?}"));
        }
        let undo = case.run(&["undo"], None);
        if undo.code != Some(0) || case.rows() != "my old rows\n" {
            return about(format!("undo: {:?} {} {}", undo.code, undo.stderr, case.rows()));
        }
        Ok(())
    });
    report("kill during another attempt, then finish and undo", begun, cases.len(), points.len(), &wrong);
}

/// A file that the fresh app used keeps no log: what SQLite wrote beside it would be played into the restored one.
#[test]
fn what_sqlite_kept_beside_a_file_leaves_with_it_and_comes_back_with_it() {
    if cannot_run() {
        return;
    }
    let scene = scene();
    let (file, log) = ("etc/miniflux/freedombox.conf", "etc/miniflux/freedombox.conf-wal");
    for fault in [None, Some("move.before:2:kill"), Some("move.after:2:kill")] {
        let case = Case::new(&scene);
        let read = |path: &str| fs::read_to_string(case.root().join(path)).ok();
        put(&case.root(), file, "of the fresh app\n");
        put(&case.root(), log, "log of the fresh app\n");
        if fault.is_some() {
            assert_eq!(case.run(&["finish"], fault).code, None, "{fault:?}");
            case.machine(&json!({"up": true}));
            // At the next start the guard works before any app does.
            assert!(case.root().join("var/lib/lifeboat/interrupted").exists(), "{fault:?}");
            ok(&case.run(&["resume"], None));
            let came = read(file).as_deref() != Some("of the fresh app\n");
            assert_eq!(came, fault == Some("move.after:2:kill"));
            assert_eq!(read(log).as_deref(), (!came).then_some("log of the fresh app\n"), "{fault:?}");
        }
        ok(&case.finish());
        case.is_finished().unwrap();
        assert!(!case.root().join("var/lib/lifeboat/interrupted").exists());
        assert_ne!(read(file).as_deref(), Some("of the fresh app\n"));
        assert_eq!(read(log), None, "{fault:?}");
        put(&case.root(), log, "log of the restored app\n");
        if fault.is_some() {
            assert_eq!(case.run(&["undo"], fault).code, None, "{fault:?}");
            case.machine(&json!({"up": true}));
        }
        ok(&case.run(&["undo"], None));
        assert_eq!(read(file).as_deref(), Some("of the fresh app\n"), "{fault:?}");
        assert_eq!(read(log).as_deref(), Some("log of the fresh app\n"), "{fault:?}");
    }
}

#[test]
fn undo_takes_out_the_shares_that_came_and_leaves_those_that_were_here() {
    const DUMP: &str = "var/lib/plinth/backups-data/samba-shares-dump.conf";
    if cannot_run() {
        return;
    }
    let scene = Scene::with(
        &[("samba", 3, &[], &[DUMP])],
        |_| {},
        |source| {
            put(
                source,
                DUMP,
                "[global]\n\n[own]\n\tpath = /srv/theirs\n\n[family]\n\tpath = /srv/family\n\tread only = no\n\n\
                           [homes]\n\tpath = /srv/%u\n\tpreexec = mkdir -p -m 755 /srv/%u\n\n\
                           [evil]\n\tpath = /srv\n\troot preexec = reboot\n",
            );
        },
    );
    for fault in [None, Some("move.after:1:kill"), Some("finish.part:3:kill")] {
        let case = Case::new(&scene);
        case.machine(&json!({"available": ["samba"], "shares": {"own": "/srv/own"}}));
        let is_kill_of_finish = fault.is_some_and(|fault| fault.starts_with("finish"));
        if is_kill_of_finish {
            assert_eq!(case.run(&["finish"], fault).code, None);
            case.machine(&json!({"up": true}));
        }
        let run = case.finish();
        let said = Case::app(ok(&run), "samba").to_string();
        assert!(said.contains("its share evil did NOT come") && said.contains("root preexec"), "{said}");
        assert_eq!(case.state()["shares"], json!({"own": "/srv/own", "family": "/srv/family", "homes": "/srv/%u"}));
        let outside = scene.on("undo", &case.root(), None);
        assert_eq!(outside.code, Some(2), "{}", outside.stderr);
        assert!(outside.stderr.contains("changed databases or settings of samba"), "{}", outside.stderr);
        if fault.is_some() && !is_kill_of_finish {
            assert_eq!(case.run(&["undo"], fault).code, None, "{fault:?}");
            case.machine(&json!({"up": true}));
        }
        ok(&case.run(&["undo"], None));
        assert_eq!(case.state()["shares"], json!({"own": "/srv/own"}), "{fault:?}");
        assert!(!case.root().join(DUMP).exists());
        assert_eq!(case.run(&["status"], None).json["state"], "rolled-back");
    }
}

#[test]
fn after_14_days_or_a_commit_the_old_data_and_all_of_lifeboat_but_its_journal_and_its_papers_are_gone() {
    if cannot_run() {
        return;
    }
    let scene = scene();
    let case = Case::new(&scene);
    // NetworkManager runs what root alone can write.
    let dispatcher = case.root().join("etc/NetworkManager/dispatcher.d/90-lifeboat");
    assert_eq!(sh(&format!("stat -c %u:%g:%a '{}'", dispatcher.display())).trim(), "0:0:755");
    ok(&case.run(&["commit", "--when-due"], None));
    ok(&case.finish());
    let old = case.root().join("var/lib/lifeboat/parked/gitweb/var/lib/git/from-the-package");
    let due = || ok(&case.run(&["commit", "--when-due"], None)).json["state"].as_str().unwrap().to_owned();
    // A clock that nobody has set counts no days.
    assert_eq!((due(), case.run(&["status"], None).json["settled"].clone()), ("restored".into(), Value::Null));
    case.machine(&json!({"ntp": true}));
    assert_eq!((due(), due()), ("restored".into(), "restored".into()));
    assert!(old.exists());
    fifteen_days_pass(&case);
    assert_eq!(due(), "committed");
    let left =
        take(&case.root(), &|path| path.starts_with("var/lib/lifeboat") || path.starts_with("etc/systemd/system"));
    let files: Vec<String> = left
        .iter()
        .filter(|(_, what)| !what.starts_with("directory"))
        .map(|(path, _)| String::from_utf8_lossy(path).into_owned())
        .filter(|path| !path.contains("/reaches-"))
        .collect();
    let kept = ["full.log", "journal", "journal-copy", "owners", "report.json", "report.txt"];
    let kept = kept.map(|name| format!("var/lib/lifeboat/restores/{}/{name}", scene.plan));
    assert_eq!(files, [&["var/lib/lifeboat/lock".to_owned()], &kept[..]].concat());
    assert!(case.root().join("var/lib/git/one.git/HEAD").exists());
    assert!(!dispatcher.exists() && case.root().join("etc/NetworkManager").exists());
}

/// Since nothing was left to do.
fn fifteen_days_pass(case: &Case) {
    let own = case.root().join(format!("var/lib/lifeboat/restores/{}", case.scene.plan));
    let text = fs::read_to_string(own.join("journal")).unwrap();
    let line = text.lines().find(|line| line.contains("\"settled\"")).unwrap();
    let at: i64 = line.split("\"at\":").nth(1).unwrap().trim_end_matches('}').parse().unwrap();
    let earlier = line[9..].replace(&at.to_string(), &(at - 15 * 24 * 3600).to_string());
    let changed = format!("{:08x} {earlier}", crc32(earlier.as_bytes()));
    for copy in ["journal", "journal-copy"] {
        fs::write(own.join(copy), text.replace(line, &changed)).unwrap();
    }
}

#[test]
fn where_an_app_was_given_up_old_data_is_kept_until_it_is_restored_or_somebody_commits() {
    if cannot_run() {
        return;
    }
    let scene = scene();
    let case = Case::new(&scene);
    let refuse = case.root().join("var/lib/plinth/refuse-import");
    fs::write(&refuse, "").unwrap();
    case.machine(&json!({"ntp": true}));
    for _ in 0..5 {
        case.finish();
    }
    let due = || ok(&case.run(&["commit", "--when-due"], None)).json["state"].as_str().unwrap().to_owned();
    let old = case.root().join("var/lib/lifeboat/parked/gitweb/var/lib/git/from-the-package");
    let status = case.run(&["status"], None);
    assert_eq!(Case::app(&status, "miniflux")["stand"], "not-restored");
    assert_eq!(due(), "restored");
    if !case.run(&["status"], None).json["settled"].is_null() {
        fifteen_days_pass(&case);
    }
    assert_eq!((due(), old.exists()), ("restored".into(), true), "what the apps had before is gone");
    // What failed is repaired: from now on the days count.
    fs::remove_file(refuse).unwrap();
    ok(&case.finish());
    case.is_finished().unwrap();
    assert_eq!((due(), old.exists()), ("restored".into(), true));
    fifteen_days_pass(&case);
    assert_eq!((due(), old.exists()), ("committed".into(), false));
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

#[test]
fn the_same_restore_again_waits_until_what_was_committed_is_finished() {
    if cannot_run() {
        return;
    }
    // Nothing that the plan counts changes before the box is started: all of it waits for the running box.
    let mut scene = Scene { apps: Some("gitweb,miniflux".into()), ..scene() };
    scene.plan = scene.plan_for(&scene.original());
    let case = Case::of(&scene);
    ok(&scene.restore(&case.root(), None));
    ok(&case.run(&["commit"], None));
    assert_eq!(scene.plan_for(&case.root()), scene.plan, "another plan would be another restore");
    let again = scene.restore(&case.root(), None);
    assert_eq!(again.code, Some(11), "{} {}", again.stderr, again.json);
    assert!(again.stderr.contains("still waits there"), "{}", again.stderr);
    ok(&case.finish());
    case.is_finished().unwrap();
}

#[test]
fn commit_in_the_middle_of_a_move_ends_with_what_had_come() {
    if cannot_run() {
        return;
    }
    let scene = scene();
    for nth in 1..4 {
        let case = Case::new(&scene);
        assert_eq!(case.run(&["finish"], Some(&format!("move.after:{nth}:kill"))).code, None);
        case.machine(&json!({"up": true}));
        ok(&case.run(&["commit"], None));
        ok(&case.finish());
        case.is_finished().unwrap();
    }
}
