//! How a restore may end, whatever happened to it: with the old data or the new, and with a status that says which.
#![allow(dead_code, missing_docs, unreachable_pub, reason = "every test file takes what it needs")]
#![allow(clippy::unwrap_used, reason = "this is test code")]

use super::boxes::*;
use std::path::Path;

/// What a box may look like.
pub struct Ends {
    pub scene: Scene,
    pub old: Snapshot,
    pub new: Snapshot,
    pub new_kept: Snapshot,
    pub old_live: Snapshot,
    pub new_live: Snapshot,
}

impl Ends {
    pub fn new() -> Ends {
        let scene = Scene::new();
        let fresh = scene.fresh();
        Ends::of(scene, &fresh, || ())
    }

    /// Carries the restore out on the box at `onto`, and calls `done` in the moment when it has ended.
    pub fn of(scene: Scene, onto: &Path, done: impl FnOnce()) -> Ends {
        let (old, old_live) = (snapshot(onto), live(onto));
        let run = scene.restore(onto, None);
        done();
        assert_eq!(run.code, Some(0), "{} {}", run.stderr, run.json);
        let (new, new_live, new_kept) = (snapshot(onto), live(onto), handed_over(onto));
        assert_ne!(old_live, new_live);
        Ends { scene, old, new, new_kept, old_live, new_live }
    }

    /// In which state the disk really is.
    pub fn really(&self, onto: &Path) -> &'static str {
        let now = live(onto);
        match (now == self.old_live, now == self.new_live) {
            (true, _) => "old-data-active",
            (_, true) => "new-data-active",
            _ => "mixed",
        }
    }

    /// What `status` says must be what the disk shows.
    pub fn check_status(&self, onto: &Path) -> Result<String, String> {
        let run = self.scene.on("status", onto, None);
        if run.code != Some(0) {
            return Err(format!("status ended with {:?}: {}", run.code, run.stderr));
        }
        let state = run.json["state"].as_str().unwrap_or_default().to_owned();
        let said = run.json["data"].as_str().unwrap_or(if state == "none" { "old-data-active" } else { "?" });
        self.agree(onto, said).map(|()| state)
    }

    pub fn agree(&self, onto: &Path, said: &str) -> Result<(), String> {
        let really = self.really(onto);
        // Both of these words say more about the same data: nothing was begun, or nothing can be undone any more.
        let right = said == really
            || (said == "untouched" && really == "old-data-active")
            || (said == "committed" && really == "new-data-active");
        if right { Ok(()) } else { Err(format!("it says {said}, the disk is {really}")) }
    }

    pub fn is_new(&self, onto: &Path) -> Result<(), String> {
        let (tree, kept) = (snapshot(onto), handed_over(onto));
        if tree != self.new || kept != self.new_kept {
            return Err(format!(
                "not the new data:{}{}",
                difference(&self.new, &tree),
                difference(&self.new_kept, &kept)
            ));
        }
        if onto.join("var/lib/lifeboat/interrupted").exists() {
            return Err("still marked as interrupted".into());
        }
        self.check_status(onto).and_then(|state| match state.as_str() {
            "waiting-for-boot" => Ok(()),
            other => Err(format!("the status is {other}")),
        })
    }

    pub fn is_old(&self, onto: &Path) -> Result<(), String> {
        let tree = snapshot(onto);
        if tree != self.old {
            return Err(format!("not the old data:{}", difference(&self.old, &tree)));
        }
        self.check_status(onto).map(drop)
    }

    /// Undone: old, and nothing of Lifeboat is left but its lock, its journal and its papers.
    pub fn is_undone(&self, onto: &Path) -> Result<(), String> {
        self.is_old(onto)?;
        let left = take(onto, &|path| path.starts_with("var/lib/lifeboat"));
        let journal = format!("var/lib/lifeboat/restores/{}", self.scene.plan);
        let expected = [
            "var/lib/lifeboat".to_owned(),
            "var/lib/lifeboat/lock".to_owned(),
            "var/lib/lifeboat/restores".to_owned(),
            format!("{journal}/journal"),
            format!("{journal}/journal-copy"),
            format!("{journal}/report.txt"),
            format!("{journal}/report.json"),
            format!("{journal}/full.log"),
            journal,
        ];
        let more: Vec<_> = left.keys().map(|path| String::from_utf8_lossy(path).into_owned()).collect();
        match more.iter().find(|path| !expected.contains(path) && !is_paper(path)) {
            Some(path) => Err(format!("undoing left \"{path}\"")),
            None => Ok(()),
        }
    }

    /// Undone: old, and of what the restore wrote nothing is left. An empty directory may be: a filesystem may have kept
    /// it while it lost the record that it was made.
    pub fn is_undone_but_for_directories(&self, onto: &Path) -> Result<(), String> {
        self.is_old(onto)?;
        let own = format!("var/lib/lifeboat/restores/{}", self.scene.plan);
        let kept = ["journal", "journal-copy", "report.txt", "report.json", "full.log"];
        let kept: Vec<String> = kept.iter().map(|name| format!("{own}/{name}")).collect();
        let kept = [kept, vec!["var/lib/lifeboat/lock".to_owned()]].concat();
        let left = take(onto, &|path| path.starts_with("var/lib/lifeboat"));
        let files = left.iter().filter(|(_, what)| !what.starts_with("directory"));
        let paths: Vec<_> = files.map(|(path, _)| String::from_utf8_lossy(path).into_owned()).collect();
        match paths.iter().find(|path| !kept.contains(path) && !is_paper(path)) {
            Some(path) => Err(format!("undoing left \"{path}\"")),
            None => Ok(()),
        }
    }

    /// `resume` ends in the new data; where the backup is needed, it changes nothing and `restore` goes on.
    pub fn resume_to_new(&self, onto: &Path) -> Result<(), String> {
        let before = live(onto);
        let run = self.scene.on("resume", onto, None);
        match run.code {
            Some(0) => {}
            // Staging was not complete, or nothing was begun.
            Some(18 | 2) => {
                if live(onto) != before || before != self.old_live {
                    return Err(format!("resume changed something without the backup: {}", run.stderr));
                }
                if run.code == Some(18) && !run.stderr.contains("the backup is needed") {
                    return Err(format!("resume: {}", run.stderr));
                }
                let run = self.scene.restore(onto, None);
                if run.code != Some(0) {
                    return Err(format!("restore again ended with {:?}: {}", run.code, run.stderr));
                }
            }
            _ => return Err(format!("resume ended with {:?}: {}", run.code, run.stderr)),
        }
        self.is_new(onto)
    }

    pub fn undo_to_old(&self, onto: &Path) -> Result<(), String> {
        let run = self.scene.on("undo", onto, None);
        match run.code {
            Some(0) => self.is_undone(onto),
            Some(2) if run.stderr.contains("no restore was started") => self.is_old(onto),
            Some(2) if run.stderr.contains("was undone already") => self.is_undone(onto),
            _ => Err(format!("undo ended with {:?}: {}", run.code, run.stderr)),
        }
    }
}

/// Whether a path is one of the papers that tell how a restore went, or tells how far its journal reaches: they stay, as
/// the journal does.
pub fn is_paper(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    ["report.txt", "report.json", "full.log"].contains(&name) || name.starts_with("reaches-")
}

/// What the power cut is followed by.
pub type Finish = (&'static str, fn(&Ends, &Path) -> Result<(), String>);
pub const FINISHES: [Finish; 2] = [("resume", Ends::resume_to_new), ("undo", Ends::undo_to_old)];
