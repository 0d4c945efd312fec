//! A box that runs, with programs and a FreedomBox that are none (`tests/finish`), and an old one that moves onto it.
#![allow(dead_code, missing_docs, unreachable_pub, reason = "every test file takes what it needs")]

use super::boxes::{self, Run, Scene, sh};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A running box: its directory, its programs beside it, and what they did.
pub struct Case<'s> {
    pub scene: &'s Scene,
    pub dir: PathBuf,
}

impl Drop for Case<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Case<'_> {
    /// A box that nothing was restored onto yet.
    pub fn of(scene: &Scene) -> Case<'_> {
        Case { scene, dir: scene.running() }
    }

    pub fn root(&self) -> PathBuf {
        self.dir.join("box")
    }

    /// Changes what the machine is like.
    pub fn machine(&self, changes: &Value) {
        let path = self.dir.join("machine.json");
        let mut state: Value = fs::read(&path).map_or(json!({}), |text| serde_json::from_slice(&text).unwrap());
        state.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        fs::write(path, state.to_string()).unwrap();
    }

    /// What FreedomBox knows.
    pub fn freedombox(&self) -> Value {
        let text = fs::read(self.root().join("var/lib/plinth/fake.json"));
        text.map_or(Value::Null, |text| serde_json::from_slice(&text).unwrap())
    }

    /// What FreedomBox imported for an app.
    pub fn rows_of(&self, app: &str) -> String {
        self.freedombox()["databases"][app].as_str().unwrap_or_default().to_owned()
    }

    pub fn run(&self, args: &[&str], fault: Option<&str>) -> Run {
        self.traced(args, fault, None)
    }

    pub fn traced(&self, args: &[&str], fault: Option<&str>, trace: Option<&Path>) -> Run {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lifeboat"));
        command.args(args).arg("--onto").arg(self.root());
        command.env("LIFEBOAT_PROGRAMS", self.dir.join("bin")).env("LIFEBOAT_RUNNING", self.root());
        Run::of(&mut command, fault, trace)
    }

    /// Runs the program with the old box of the scene as the backup.
    pub fn old(&self, words: &[&str]) -> Run {
        let mut all: Vec<OsString> = vec![words[0].into(), "--from".into(), old_of(self.scene).into()];
        all.extend(["--onto".into(), self.root().into(), "--program".into(), self.scene.program.clone().into()]);
        all.extend(words[1..].iter().map(Into::into));
        self.scene.run(&all, None)
    }

    /// Restores of the old box what `wanted` says.
    pub fn move_over(&self, wanted: &[&str]) {
        let planned = self.old(&[&["plan"], wanted].concat());
        let id = planned.json["id"].as_str().unwrap_or_else(|| panic!("{} {}", planned.stderr, planned.json));
        let done = self.old(&[&["restore"], wanted, &["--consent", id]].concat());
        assert_eq!(done.code, Some(0), "{} {}", done.stderr, done.json);
    }

    /// The run's app.
    pub fn app(run: &Run, name: &str) -> Value {
        let apps = run.json["progress"].as_array().unwrap_or_else(|| panic!("{} {}", run.stderr, run.json));
        apps.iter().find(|app| app["name"] == name).unwrap_or_else(|| panic!("{name}: {}", run.json)).clone()
    }
}

/// Gives a box's database to FreedomBox's user, as on a real one.
pub fn give_to_plinth(root: &Path) {
    sh(&format!(
        "cd '{}'; printf 'plinth:x:130:130::/:/bin/false\\n' >> etc/passwd; chown 130:130 var/lib/plinth/plinth.sqlite3",
        root.display()
    ));
}

/// Makes the old box of a scene.
pub fn make_old(scene: &Scene) -> PathBuf {
    let old = old_of(scene);
    fs::create_dir(&old).unwrap();
    boxes::system(&old);
    boxes::make_source(&old);
    old
}

pub fn old_of(scene: &Scene) -> PathBuf {
    scene.dir.path().join("old")
}
