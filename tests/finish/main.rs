//! What the running box does after a restore, on boxes whose FreedomBox is none (`tests/finish`): the real program and
//! the real driver, with a package `plinth` that has the same calls, so that the power can be cut at every point.

#![allow(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used, reason = "this is test code")]

#[path = "../common/mod.rs"]
mod common;
mod cuts;
mod extras;
mod later;
mod services;
mod work;

use common::boxes::*;
use common::running::{Case, give_to_plinth};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Instant;

const NEEDED: [&str; 3] = ["gitweb", "miniflux", "postgresql"];
const STALE: &str = "var/lib/plinth/backups-data/miniflux-database.sql";
const NEW_ROWS: &str = "PostgreSQL database dump";

fn scene() -> Scene {
    let on_box = |root: &Path| {
        give_to_plinth(root);
        fs::create_dir(root.join("etc/NetworkManager")).unwrap();
        put(root, STALE, "rows of an earlier backup\n");
    };
    Scene::with(&APPS, on_box, |source| {
        // gitweb's files belong to somebody whom only the installation makes.
        sh(&format!("cd '{}'; chown -R 140:141 var/lib/git; chmod 2750 var/lib/git/one.git", source.display()));
        // A backup tells of people by what apps keep for them alone.
        put(source, "var/lib/radicale/collections/collection-root/carol/work.ics", "");
    })
}

impl Case<'_> {
    /// A box that was restored onto and then started.
    fn new(scene: &Scene) -> Case<'_> {
        let case = Case::of(scene);
        let done = scene.restore(&case.root(), None);
        assert_eq!(done.code, Some(0), "{} {}", done.stderr, done.json);
        case
    }

    fn state(&self) -> Value {
        serde_json::from_slice(&fs::read(self.dir.join("machine.json")).unwrap()).unwrap()
    }

    fn rows(&self) -> String {
        self.rows_of("miniflux")
    }

    fn log(&self) -> Vec<String> {
        let log = self.freedombox()["log"].clone();
        log.as_array().map(|log| log.iter().map(|line| line.as_str().unwrap().to_owned()).collect()).unwrap_or_default()
    }

    fn finish(&self) -> Run {
        self.run(&["finish"], None)
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
            *line = timeless(line).to_owned();
        }
    }
    seen.insert(b"(rows)".to_vec(), case.rows());
    seen.insert(b"(service)".to_vec(), case.state()["up"].to_string());
    seen
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
