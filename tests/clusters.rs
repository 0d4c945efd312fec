//! Databases of an old box without a dump: their server's own files come along, and the running box makes a dump of them
//! with a server of its own. Real servers, on boxes whose FreedomBox is none (`tests/finish`).
//!
//! Needs Debian's `postgresql` and `mariadb-server`; what is not installed is skipped.

#![allow(clippy::print_stderr, clippy::unwrap_used, reason = "this is test code")]

mod common;

use common::boxes::{self, APPS, Scene, put, sh};
use common::running::{Case, give_to_plinth, make_old, old_of};
use lifeboat::model::cluster;
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// What the app stored last, after its only dump.
const LATEST: &str = "the last entry: Zoë's";
const DUMP: &str = "var/lib/plinth/backups-data/miniflux-database.sql";

/// Where the newest PostgreSQL of this machine has its programs, or why the test cannot run.
fn postgresql() -> Option<(u32, PathBuf)> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let versions = versions.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let newest = versions.filter(|version| postgres(*version).join("initdb").exists()).max();
    if newest.is_none() {
        eprintln!("SKIPPED: PostgreSQL is not installed; apt-get install postgresql and run this test again");
    }
    Some((newest?, postgres(newest?)))
}

fn postgres(version: u32) -> PathBuf {
    format!("/usr/lib/postgresql/{version}/bin").into()
}

fn has_mariadb() -> bool {
    let is_there = Path::new("/usr/sbin/mariadbd").exists() && Path::new("/usr/bin/mariadb-install-db").exists();
    if !is_there {
        eprintln!("SKIPPED: MariaDB is not installed; apt-get install mariadb-server and run this test again");
    }
    is_there
}

/// Whether there may be namespaces, as on every box.
fn cannot_run() -> bool {
    if boxes::cannot_run() {
        return true;
    }
    let asked = Command::new("unshare").args(["--mount", "--net", "--ipc", "--pid", "--fork", "true"]).output();
    let is_allowed = asked.is_ok_and(|output| output.status.success());
    if !is_allowed {
        eprintln!("SKIPPED: namespaces are not allowed here");
    }
    !is_allowed
}

/// Runs a script as the server's user in a folder that is his.
fn as_user(user: &str, folder: &Path, script: &str) -> String {
    let path = folder.display();
    sh(&format!(
        "mkdir -p '{path}'; chown {user}:{user} '{path}'; cd '{path}'
         exec setpriv --reuid={user} --regid={user} --init-groups env HOME='{path}' PATH=/usr/sbin:/usr/bin:/bin \
         sh -euc '{script}'"
    ))
}

/// A folder of the servers' users.
fn open_folder() -> tempfile::TempDir {
    let dir = boxes::scratch();
    sh(&format!("chmod 755 '{}'", dir.path().display()));
    dir
}

/// PostgreSQL's files after a power cut, with what the app stored last.
fn of_postgresql(bin: &Path, into: &Path) {
    static MADE: OnceLock<Vec<u8>> = OnceLock::new();
    let packed = MADE.get_or_init(|| {
        let dir = open_folder();
        let script = format!(
            r#"bin={bin}
            $bin/initdb --no-sync --auth=trust --locale=C.UTF-8 data > log
            $bin/pg_ctl start --silent --wait -D data -l log -o "-h \"\" -k $PWD -c fsync=off"
            ask() {{ $bin/psql -q -h "$PWD" -d "$1" -c "$2"; }}
            ask postgres "create role miniflux"
            ask postgres "create database miniflux owner miniflux"
            ask miniflux "create table entries (id serial primary key, title text)"
            ask miniflux "alter table entries owner to miniflux"
            ask miniflux "insert into entries (title) select n::text from generate_series(1, 500) n"
            ask miniflux "checkpoint"
            ask miniflux "insert into entries (title) values (\$\${latest}\$\$)"
            $bin/pg_ctl stop --silent --mode=immediate -D data
            $bin/pg_controldata data"#,
            bin = bin.display(),
            latest = LATEST.replace('\'', "'\\''")
        );
        let said = as_user("postgres", &dir.path().join("server"), &script);
        assert!(said.contains("in production"), "it was not shut down: {said}");
        // The server of the power cut is not there any more, and may not be taken for this one.
        fs::write(dir.path().join("server/data/postmaster.pid"), "1\n").unwrap();
        sh(&format!("cd '{}'; tar -cf packed -C server/data .", dir.path().display()));
        fs::read(dir.path().join("packed")).unwrap()
    });
    fs::create_dir_all(into).unwrap();
    fs::write(into.join("packed"), packed).unwrap();
    sh(&format!("cd '{}'; tar -xpf packed; rm packed", into.display()));
}

/// What a dump brings into a PostgreSQL in whose stead another database was.
fn imported(bin: &Path, dump: &str) -> String {
    let dir = open_folder();
    let server = dir.path().join("server");
    of_postgresql(bin, &server.join("data"));
    fs::remove_file(server.join("data/postmaster.pid")).unwrap();
    fs::write(server.join("dump.sql"), dump).unwrap();
    let script = format!(
        r#"bin={bin}
        $bin/pg_ctl start --silent --wait -D data -l log -o "-h \"\" -k $PWD -c fsync=off"
        ask() {{ $bin/psql -q -h "$PWD" -d "$1" -v ON_ERROR_STOP=1 -At "$2" "$3"; }}
        ask miniflux -c "drop table entries"
        ask postgres -f dump.sql > log
        ask miniflux -c "select count(*), max(id) from entries" > answer
        ask miniflux -c "select title from entries order by id desc limit 1" >> answer
        $bin/pg_ctl stop --silent --mode=immediate -D data; cat answer"#,
        bin = bin.display()
    );
    sh(&format!("chown postgres:postgres '{}'", server.display()));
    as_user("postgres", &server, &script)
}

/// A new box, and an old one on which `on_old` prepares the databases.
fn scene(on_old: impl Fn(&Path)) -> Scene {
    let scene = Scene::with(&APPS, give_to_plinth, |_| {});
    let old = make_old(&scene);
    fs::remove_file(old.join(DUMP)).unwrap();
    let database = rusqlite::Connection::open(old.join("var/lib/plinth/plinth.sqlite3")).unwrap();
    let apps = "DELETE FROM plinth_module; INSERT INTO plinth_module VALUES ('radicale', 4), ('miniflux', 2), ('wordpress', 4)";
    database.execute_batch(apps).unwrap();
    drop(database);
    on_old(&old);
    sh(&format!("touch -d @1700000000 '{}'", old.join("var/lib/plinth/plinth.sqlite3").display()));
    scene
}

impl Case<'_> {
    fn new(scene: &Scene) -> Case<'_> {
        let case = Case::of(scene);
        let bin = case.dir.join("bin").display().to_string();
        sh(&format!(
            "cd '{bin}'; ln -s /usr/bin/timeout /usr/bin/unshare .; [ ! -e /usr/sbin/mariadbd ] || ln -s /usr/sbin/mariadbd .
             printf '#!/bin/sh\\necho 1000\\n' > runuser; cp runuser mysql; chmod 755 runuser mysql"
        ));
        case.machine(&json!({"available": ["miniflux", "postgresql", "wordpress"]}));
        case
    }

    /// Restores one app of the old box.
    fn restored<'s>(scene: &'s Scene, app: &str) -> Case<'s> {
        let case = Case::new(scene);
        case.move_over(&["--apps", app]);
        case
    }

    /// Finishes on a machine that has no PostgreSQL of its own.
    fn finish_without_postgresql(&self) -> boxes::Run {
        let hide = "mount -t tmpfs none /usr/lib/postgresql && exec \"$0\" \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", hide, env!("CARGO_BIN_EXE_lifeboat"), "finish", "--onto"]);
        command.arg(self.root()).env("LIFEBOAT_PROGRAMS", self.dir.join("bin")).env("LIFEBOAT_RUNNING", self.root());
        boxes::Run::of(&mut command, None, None)
    }

    fn parked(&self) -> PathBuf {
        self.root().join("var/lib/lifeboat/parked/databases/var/lib")
    }

    /// Nothing of the server is left: neither files nor processes.
    fn is_clean(&self) {
        let left = sh(&format!("find '{}' -name server.work", self.root().display()));
        assert_eq!(left, "");
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        assert!(!mounts.contains("server.work"), "{mounts}");
    }
}

#[test]
fn what_postgresql_held_when_the_old_box_stopped_comes_to_the_new_one_without_a_dump() {
    let Some((version, bin)) = postgresql().filter(|_| !cannot_run()) else { return };
    let cluster = format!("var/lib/postgresql/{version}/main");
    let scene = scene(|old| of_postgresql(&bin, &old.join(&cluster)));
    let before = boxes::take(&old_of(&scene), &|_| true);

    let case = Case::restored(&scene, "miniflux");
    let done = case.run(&["finish"], None);
    assert_eq!(done.code, Some(0), "{} {}", done.stderr, done.json);
    assert_eq!(Case::app(&done, "miniflux")["stand"], json!("finished"), "{}", done.json);
    assert!(!done.json["done"].to_string().contains("databases"), "no app is called so: {}", done.json);
    assert_eq!(imported(&bin, &case.rows_of("miniflux")), format!("501|501\n{LATEST}\n"));
    case.is_clean();
    assert_eq!(boxes::difference(&before, &boxes::take(&old_of(&scene), &|_| true)), "");

    // The other ways: back, and forward for good.
    assert!(case.parked().join(format!("postgresql/{version}/main/PG_VERSION")).exists());
    let committed = case.run(&["commit"], None);
    assert_eq!(committed.code, Some(0), "{}", committed.stderr);
    assert!(!case.parked().exists(), "nobody needs them any more");
    drop(case);
    let case = Case::restored(&scene, "miniflux");
    case.run(&["finish"], None);
    let undone = case.run(&["undo"], None);
    assert_eq!(undone.code, Some(0), "{} {}", undone.stderr, undone.json);
    assert_eq!(case.rows_of("miniflux"), "empty\n");
    assert!(!case.root().join("var/lib/lifeboat/parked").exists());
}

/// Puts what of this machine's PostgreSQL an installed system has into the old box.
fn install_postgresql(old: &Path, version: u32) {
    sh(&format!(
        "cd /; own=usr/lib/postgresql/{version}; add() {{ cp -L --parents \"$@\" '{old}'; }}
         for file in bin/sh bin/cat bin/chmod bin/grep bin/rm bin/tail $own/bin/postgres $own/bin/pg_ctl $own/bin/psql \
             $own/bin/pg_dump $own/lib/*.so; do
             add $file; ldd $file | grep -o '/[^ ]*' | while read -r library; do add $library; done
         done
         cp -aL --parents usr/share/postgresql/{version} usr/lib/locale/C.utf8 '{old}'
         cp -a '{old}/usr/lib/locale/C.utf8' '{old}/usr/lib/locale/de_DE.utf8'",
        old = old.display()
    ));
}

#[test]
fn a_box_without_that_version_of_postgresql_reads_its_files_with_the_old_programs() {
    let Some((version, bin)) = postgresql().filter(|_| !cannot_run()) else { return };
    if std::env::consts::ARCH != "x86_64" {
        return eprintln!("SKIPPED: the boxes of the tests are for amd64");
    }
    let cluster = format!("var/lib/postgresql/{version}/main");
    let scene = scene(|old| {
        of_postgresql(&bin, &old.join(&cluster));
        install_postgresql(old, version);
    });
    let before = boxes::take(&old_of(&scene), &|_| true);
    // A Debian that has another version, whichever this machine has.
    let other_release = |case: &Case| put(&case.root(), "etc/os-release", "ID=debian\nVERSION_CODENAME=forky\n");

    let case = Case::new(&scene);
    other_release(&case);
    case.move_over(&["--apps", "miniflux"]);
    let done = case.finish_without_postgresql();
    assert_eq!(done.code, Some(0), "{} {}", done.stderr, done.json);
    assert_eq!(imported(&bin, &case.rows_of("miniflux")), format!("501|501\n{LATEST}\n"));
    case.is_clean();
    assert_eq!(boxes::difference(&before, &boxes::take(&old_of(&scene), &|_| true)), "");
    assert_eq!(case.run(&["commit"], None).code, Some(0));
    assert!(!case.parked().exists(), "nobody needs the programs any more");
    drop(case);

    // Without them it is said what cannot be read, and what can be done.
    let case = Case::new(&scene);
    other_release(&case);
    case.move_over(&["--apps", "miniflux"]);
    let programs = case.parked().join(format!("postgresql/{version}/programs-amd64"));
    assert!(programs.join("bin/sh").exists());
    let languages = fs::read_dir(programs.join("usr/lib/locale")).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(languages.collect::<Vec<_>>(), ["C.utf8"], "no other language is in the databases");
    fs::remove_dir_all(&programs).unwrap();
    let done = case.finish_without_postgresql();
    let app = Case::app(&done, "miniflux");
    assert_eq!(app["stand"], "not-restored", "{} {app}", done.stderr);
    let why = app["why"].as_str().unwrap();
    assert!(
        why.contains(&format!("files of PostgreSQL {version}")) && why.contains("start the old box once more"),
        "{why}"
    );
    drop(case);

    // Programs for another processor stay behind, which is said; and so do those of the version that the box's Debian has.
    let planned = |change: &dyn Fn(&Path)| {
        let case = Case::new(&scene);
        change(&case.root());
        let plan = case.old(&["plan", "--apps", "miniflux"]).json;
        let steps = plan["steps"].to_string();
        assert!(steps.contains(&format!("\"{cluster}\"")), "{plan}");
        (steps.contains("/programs-amd64"), plan["apps"].to_string().contains("for another processor"))
    };
    let release = |name: &str| format!("ID=debian\nVERSION_CODENAME={name}\n");
    let to_arm = |root: &Path| sh(&format!("sed -i s/amd64/arm64/ '{}'", root.join("var/lib/dpkg/status").display()));
    assert_eq!(planned(&|root| put(root, "etc/os-release", release("forky"))), (true, false));
    for suite in ["bookworm", "trixie"].into_iter().filter(|suite| cluster::version_in(suite) == Some(version)) {
        assert_eq!(planned(&|root| put(root, "etc/os-release", release(suite))), (false, false));
    }
    let arm = planned(&|root| {
        put(root, "etc/os-release", release("forky"));
        to_arm(root);
    });
    assert_eq!(arm, (false, true));
}

#[test]
fn reading_a_database_survives_a_power_cut_at_every_point() {
    let Some((version, bin)) = postgresql().filter(|_| !cannot_run()) else { return };
    let cluster = format!("var/lib/postgresql/{version}/main");
    let scene = scene(|old| of_postgresql(&bin, &old.join(&cluster)));
    for point in ["cluster.before", "cluster.dumped", "cluster.after"] {
        let case = Case::restored(&scene, "miniflux");
        let cut = case.run(&["finish"], Some(&format!("{point}:1:kill")));
        assert_eq!(cut.code, None, "{point}: {} {}", cut.stderr, cut.json);
        let done = case.run(&["finish"], None);
        assert_eq!(done.code, Some(0), "{point}: {} {}", done.stderr, done.json);
        assert!(case.rows_of("miniflux").contains(LATEST), "{point}");
        case.is_clean();
    }
}

#[test]
fn an_old_dump_is_only_imported_where_the_files_of_the_server_cannot_be_read() {
    let Some((version, bin)) = postgresql().filter(|_| !cannot_run()) else { return };
    let cluster = format!("var/lib/postgresql/{version}/main");
    let with_old_dump = |old: &Path| {
        of_postgresql(&bin, &old.join(&cluster));
        put(old, DUMP, "-- PostgreSQL database dump\n-- of long ago\n--\n-- PostgreSQL database dump complete\n--\n");
        sh(&format!("touch -d @1690000000 '{}'", old.join(DUMP).display()));
    };
    let scene = scene(with_old_dump);
    let case = Case::restored(&scene, "miniflux");
    let done = case.run(&["finish"], None);
    assert_eq!(done.code, Some(0), "{} {}", done.stderr, done.json);
    assert!(case.rows_of("miniflux").contains(LATEST) && !case.rows_of("miniflux").contains("long ago"));
    assert_eq!(case.freedombox()["notifications"]["lifeboat-restore"]["severity"], "info");
    drop(case);

    // The file in which PostgreSQL says where to begin.
    let case = Case::restored(&scene, "miniflux");
    let control = case.parked().join(format!("postgresql/{version}/main/global/pg_control"));
    fs::write(&control, [0; 8192]).unwrap();
    let done = case.run(&["finish"], None);
    assert_eq!(done.code, Some(0), "{} {}", done.stderr, done.json);
    assert!(case.rows_of("miniflux").contains("long ago"));
    let note = Case::app(&done, "miniflux")["note"].as_str().unwrap().to_owned();
    assert!(
        note.starts_with("ATTENTION: what it stored last is missing") && note.contains("/parked/databases"),
        "{note}"
    );
    let shown = case.freedombox()["notifications"]["lifeboat-restore"].clone();
    assert_eq!(shown["severity"], "warning", "{shown}");
    assert!(
        shown["message"].as_str().unwrap().contains("miniflux: ATTENTION: what it stored last is missing"),
        "{shown}"
    );
    case.is_clean();
    assert_eq!(case.run(&["commit"], None).code, Some(0));
    assert!(control.exists(), "what could not be read is not thrown away");
}

#[test]
fn files_of_a_server_that_cannot_be_read_are_told_with_the_reason_and_stay_parked() {
    let Some((version, bin)) = postgresql().filter(|_| !cannot_run()) else { return };
    let cluster = format!("var/lib/postgresql/{version}/main");
    let scene = scene(|old| of_postgresql(&bin, &old.join(&cluster)));
    let parked = |case: &Case| case.parked().join(format!("postgresql/{version}/main"));
    type Change<'c> = &'c dyn Fn(&Path);
    let cases: [(&str, Change, &str, &str); 4] = [
        ("another version", &|at| fs::write(at.join("PG_VERSION"), "99\n").unwrap(), "not-restored", "postgresql-99"),
        (
            "a link",
            &|at| std::os::unix::fs::symlink("/var/lib", at.join("pg_tblspc/16400")).unwrap(),
            "not-restored",
            "'16400', which leads to other folders",
        ),
        (
            "damage",
            &|at| sh(&format!("rm -r '{}'/pg_xact", at.display())).clear(),
            "waiting",
            "PostgreSQL cannot read its database",
        ),
        ("another database", &|_| {}, "not-restored", "have no database"),
    ];
    for (what, change, stand, why) in cases {
        let case = Case::restored(&scene, "miniflux");
        change(&parked(&case));
        if what == "another database" {
            // A cluster of the same version without it.
            let at = parked(&case);
            fs::remove_dir_all(&at).unwrap();
            let dir = open_folder();
            let server = dir.path().join("server");
            as_user("postgres", &server, &format!("{}/initdb --no-sync data > log", bin.display()));
            sh(&format!("cp -a '{}/data' '{}'", server.display(), at.display()));
        }
        let done = case.run(&["finish"], None);
        let app = Case::app(&done, "miniflux");
        assert_ne!(done.code, Some(0), "{what}: {}", done.json);
        assert_eq!(app["stand"], stand, "{what}: {} {app}", done.stderr);
        let told = app["why"].as_str().unwrap();
        assert!(told.contains(why) && told.contains("kept in /var/lib/lifeboat/parked/databases"), "{what}: {told}");
        assert!(parked(&case).join("PG_VERSION").exists(), "{what}");
        assert_ne!(case.rows_of("miniflux"), "", "{what}: the box's own database is as it was");
        case.is_clean();
    }
}

#[test]
fn reading_a_database_waits_until_there_is_room_for_the_copy() {
    let Some((version, bin)) = postgresql().filter(|_| !cannot_run()) else { return };
    let cluster = format!("var/lib/postgresql/{version}/main");
    let scene = scene(|old| of_postgresql(&bin, &old.join(&cluster)));
    let case = Case::restored(&scene, "miniflux");
    let restores = case.root().join("var/lib/lifeboat/restores");
    let area = fs::read_dir(&restores).unwrap().next().unwrap().unwrap().path().join("kept");
    fs::create_dir(&area).unwrap();
    sh(&format!("mount -t tmpfs -o size=60m,mode=700 tmpfs '{}'", area.display()));
    let waits = case.run(&["finish"], None);
    let app = Case::app(&waits, "miniflux");
    let more_room = Command::new("mount").args(["-o", "remount,size=400m"]).arg(&area).status();
    let done = case.run(&["finish"], None);
    let rows = case.rows_of("miniflux");
    sh(&format!("umount '{}'", area.display()));
    assert!(more_room.unwrap().success());
    assert_eq!((&app["stand"], &app["failures"]), (&json!("waiting"), &json!(0)), "{} {app}", waits.stderr);
    assert!(app["why"].as_str().unwrap().contains("of free room"), "{app}");
    assert_eq!(done.code, Some(0), "{} {}", done.stderr, done.json);
    assert!(rows.contains(LATEST));
}

#[test]
fn what_mariadb_held_when_the_old_box_lost_its_power_comes_to_the_new_one_without_a_dump() {
    if cannot_run() || !has_mariadb() {
        return;
    }
    let scene = scene(|old| {
        let dir = open_folder();
        let server = dir.path().join("server");
        let latest = LATEST.replace('\'', "'\\''");
        let script = format!(
            r#"mariadb-install-db --no-defaults --datadir="$PWD/data" --innodb-log-file-size=4M --skip-test-db \
                --auth-root-authentication-method=normal > log 2>&1
            mariadbd --no-defaults --datadir="$PWD/data" --socket="$PWD/socket" --skip-networking \
                --innodb-log-file-size=4M > log 2>&1 &
            until mariadb-admin --no-defaults --socket=socket --user=root --silent ping > /dev/null 2>&1; do sleep 0.1; done
            mariadb --no-defaults --default-character-set=utf8mb4 --socket=socket --user=root --execute="create database wordpress_fbx;
                create table wordpress_fbx.wp_posts (id int primary key auto_increment, post_title text) engine=innodb;
                insert into wordpress_fbx.wp_posts (post_title) select seq from mysql.seq_1_to_500;
                insert into wordpress_fbx.wp_posts (post_title) values (\"{latest}\")"
            kill -9 $!"#
        );
        as_user("mysql", &server, &script);
        sh(&format!("mkdir -p '{0}/var/lib'; cp -a '{1}/data' '{0}/var/lib/mysql'", old.display(), server.display()));
        fs::create_dir_all(old.join("var/lib/wordpress")).unwrap();
    });
    let case = Case::restored(&scene, "wordpress");
    let done = case.run(&["finish"], None);
    assert_eq!(done.code, Some(0), "{} {}", done.stderr, done.json);
    let rows = case.rows_of("wordpress");
    assert!(rows.contains("USE `wordpress_fbx`") && rows.contains("(500,'500')"), "{}", rows.len());
    assert!(rows.contains("Zoë\\'s") && rows.contains("-- Dump completed"), "{}", rows.len());
    case.is_clean();
    drop(case);

    let case = Case::restored(&scene, "wordpress");
    put(&case.parked(), "mysql/mariadb_upgrade_info", "99.1.2-MariaDB\n");
    let done = case.run(&["finish"], None);
    let app = Case::app(&done, "wordpress");
    assert_eq!(app["stand"], "not-restored", "{} {}", done.stderr, done.json);
    assert!(app["why"].as_str().unwrap().contains("files of MariaDB 99.1, and the box has"), "{app}");
}
