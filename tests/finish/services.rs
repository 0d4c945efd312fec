//! Where an app's service looks for its data, and whether it answers.

use super::*;
use std::os::unix::fs::symlink;

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
            let committed = Case { scene: &scene, dir: copy };
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

const OLD_WORLD: &str = "var/games/minetest-server/.minetest/worlds/world";
const READ_WORLDS: &str = "var/lib/private/luanti/default/worlds";
const OLD_SETTINGS: &str = "etc/minetest/minetest.conf";
const READ_SETTINGS: &str = "etc/luanti/default.conf";

/// A backup of Debian 12, onto FreedomBox 25.9.3 of Debian 13, which looks for the game's worlds where nothing reads them.
fn worlds() -> Scene {
    let apps = [("minetest", 2, &["var/games/minetest-server"] as &[&str], &[OLD_SETTINGS] as &[&str])];
    let on_box = |root: &Path| {
        put(root, "usr/lib/systemd/system/luanti-server.service", "[Service]\n");
        put(root, READ_SETTINGS, "max_users = 15\n");
    };
    Scene::with(&apps, on_box, |source| {
        put(source, format!("{OLD_WORLD}/world.mt"), "gameid = minetest_game\nbackend = sqlite3\n");
        put(source, format!("{OLD_WORLD}/map.sqlite"), "the restored world\n");
        put(source, OLD_SETTINGS, "max_users = 27\n");
    })
}

#[test]
fn worlds_lie_where_the_server_of_this_debian_reads_them_and_the_server_itself_is_asked_for_them() {
    if cannot_run() {
        return;
    }
    let scene = worlds();
    for fault in [None, Some("move.after:1:kill"), Some("open.after:1:kill")] {
        let case = Case::new(&scene);
        case.machine(&json!({"available": ["minetest-server"]}));
        let (map, handles) = (case.root().join(READ_WORLDS).join("world/map.sqlite"), case.root().join("proc/4711/fd"));
        fs::create_dir_all(&handles).unwrap();
        symlink(&map, handles.join("7")).unwrap();
        if fault.is_some() {
            assert_eq!(case.run(&["finish"], fault).code, None, "{fault:?}");
            case.machine(&json!({"up": true}));
        }
        let run = case.finish();
        let said = Case::app(ok(&run), "minetest")["note"].to_string();
        assert!(said.contains("its settings are in /etc/luanti/default.conf"), "{said}");
        assert_eq!(fs::read_to_string(&map).unwrap(), "the restored world\n");
        assert_eq!(fs::read_to_string(case.root().join(READ_SETTINGS)).unwrap(), "max_users = 27\n");
        assert!(!case.root().join("var/games").exists() && !case.root().join(OLD_SETTINGS).exists());
        let public = case.root().join("var/lib/luanti/default");
        assert_eq!(fs::read_link(&public).unwrap(), Path::new("../private/luanti/default"));
        let run = case.run(&["undo"], None);
        ok(&run);
        assert!(!public.is_symlink() && public.join("from-the-package").exists(), "{}", run.stderr);
        assert!(!case.root().join(READ_WORLDS).exists());
        assert_eq!(fs::read_to_string(case.root().join(READ_SETTINGS)).unwrap(), "max_users = 15\n");
    }
}

#[test]
fn a_server_that_plays_another_world_than_the_restored_one_is_none_that_works() {
    if cannot_run() {
        return;
    }
    let scene = worlds();
    let case = Case::new(&scene);
    case.machine(&json!({"available": ["minetest-server"]}));
    put(&case.root(), "srv/another/map.sqlite", "another world\n");
    let handles = case.root().join("proc/4711/fd");
    fs::create_dir_all(&handles).unwrap();
    symlink(case.root().join("srv/another/map.sqlite"), handles.join("7")).unwrap();
    let run = case.finish();
    assert_eq!(run.code, Some(75), "{} {}", run.stderr, run.json);
    let why = Case::app(&run, "minetest")["why"].as_str().unwrap_or_default().to_owned();
    assert!(why.contains("luanti-server.service plays none of the restored worlds (world)"), "{why}");
    case.machine(&json!({"luanti": "failed"}));
    let why = Case::app(&case.finish(), "minetest")["why"].to_string();
    assert!(why.contains("luanti-server.service does not run"), "{why}");
}

/// FreedomBox, or another app, may stop a service after its app was finished.
#[test]
fn an_app_that_no_longer_answers_when_all_are_done_is_started_again_or_not_called_finished() {
    if cannot_run() {
        return;
    }
    let scene = scene();
    let breaking = |refuses: bool| {
        let case = Case::new(&scene);
        case.machine(&json!({"available": NEEDED, "breaking": ["miniflux.service"], "refuses": refuses}));
        let run = case.finish();
        (case, run)
    };
    let (case, run) = breaking(false);
    ok(&run);
    assert_eq!(case.state()["failed"], json!([]), "its service was not started again");
    case.is_finished().unwrap();

    let (case, run) = breaking(true);
    assert_eq!(run.code, Some(75), "{} {}", run.stderr, run.json);
    let app = Case::app(&run, "miniflux");
    assert!(app["why"].as_str().unwrap().starts_with("it answered, and does not any more: "), "{app}");
    assert_eq!((&app["stand"], &app["failures"]), (&json!("waiting"), &json!(1)), "{app}");
    let shown = case.freedombox()["notifications"]["lifeboat-restore"].clone();
    assert!(!shown["title"].as_str().unwrap().contains("2 of 2"), "{shown}");
    // Its data is in its place meanwhile, and nothing but the question is left.
    assert!(case.rows().contains(NEW_ROWS));
    case.machine(&json!({"refuses": false}));
    ok(&case.finish());
    case.is_finished().unwrap();
    let log = case.log();
    assert_eq!(log.iter().filter(|line| line.contains("install miniflux")).count(), 1, "{log:?}");

    // It never does: at last it is given up, with the reason.
    let (case, mut run) = breaking(true);
    for _ in 0..4 {
        run = case.finish();
    }
    let app = Case::app(&run, "miniflux");
    assert_eq!(app["stand"], "not-restored", "{app}");
    ok(&case.run(&["undo"], None));
}
