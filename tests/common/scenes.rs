//! Boxes, backups and what was found of them, made by hand: everything that a plan is made from, without a disk.
#![allow(dead_code, missing_docs, reason = "every test binary uses its own part")]
#![allow(clippy::unwrap_used, reason = "this is test code")]
#![allow(unreachable_pub, reason = "it is shared by test binaries")]

use lifeboat::model::app::AppId;
use lifeboat::model::archive::{ArchiveSummary, ArchivedApp, Generation};
use lifeboat::model::digest::{Sha256Digest, TreeDigest};
use lifeboat::model::finding::{AppVerdict, Finding, Report, Severity, Verdict};
use lifeboat::model::growth::Growth;
use lifeboat::model::installation::Installation;
use lifeboat::model::manifest;
use lifeboat::model::path::RelPath;
use lifeboat::model::plan::{Changes, PlanId, RestorePlan};
use lifeboat::model::site::{AREA, Free, Ground, Site};
use lifeboat::model::size::ByteSize;
use lifeboat::model::version::Version;
use lifeboat::plan::{Input, plan};
use lifeboat::verify::{Contents, RootContent, RootKind};
use std::collections::{BTreeMap, BTreeSet};

pub fn path(text: &str) -> RelPath {
    text.parse().unwrap()
}

pub fn app(text: &str) -> AppId {
    text.parse().unwrap()
}

/// Everything that a plan is made from.
#[derive(Clone)]
pub struct Scene {
    pub installation: Installation,
    pub summary: ArchiveSummary,
    pub report: Report,
    pub contents: Contents,
    pub ground: Ground,
    pub unknown_owners: BTreeSet<String>,
    pub chosen: Option<Vec<AppId>>,
    pub accept_damage: bool,
    pub can_finish: bool,
    pub growth: Option<Growth>,
    pub unfinished: Option<PlanId>,
}

impl Scene {
    /// A box with that FreedomBox and without apps, an archive without apps, room for everything.
    pub fn new(freedombox: &str, suite: &str) -> Scene {
        let free = Free { bytes: ByteSize(64 << 30), inodes: None };
        Scene {
            installation: Installation {
                place: "sda2".into(),
                root: "/mnt".into(),
                filesystem: Some("btrfs".into()),
                uuid: None,
                architecture: "arm64".into(),
                suite: suite.into(),
                os: "Debian".into(),
                hostname: "freedombox".into(),
                freedombox: Version::new(freedombox),
                booted: true,
                wizard_done: true,
                disk_image: true,
                apps: BTreeMap::new(),
                packages: BTreeSet::new(),
                passphrases: Vec::new(),
                settings: Default::default(),
                web_users: Vec::new(),
                locations: Vec::new(),
                domains: Vec::new(),
            },
            summary: ArchiveSummary {
                name: None,
                id: "backup.tar.gz".parse().unwrap(),
                time: Some("2026-11-23T18:45:00Z".into()),
                generation: Generation::Dict,
                apps: Vec::new(),
                size: None,
            },
            report: Report::default(),
            contents: Contents::default(),
            ground: Ground { free: BTreeMap::from([(path(AREA), free)]), ..Ground::default() },
            unknown_owners: BTreeSet::new(),
            chosen: None,
            accept_damage: false,
            can_finish: true,
            growth: None,
            unfinished: None,
        }
    }

    /// The app is installed on the box and set up with that version.
    pub fn installed(mut self, name: &str, version: i64) -> Scene {
        let packages = manifest::find(&app(name)).unwrap().packages_at(&self.installation.freedombox);
        self.installation.packages.extend(packages.iter().cloned());
        self.installation.apps.insert(app(name), version);
        self
    }

    /// The archive names the app with these paths, and verification found it intact.
    pub fn archived(mut self, name: &str, version: Option<i64>, paths: &[&str]) -> Scene {
        let paths: Vec<RelPath> = paths.iter().map(|text| path(text)).collect();
        self.summary.apps.push(ArchivedApp { name: app(name), version, paths, settings: Vec::new() });
        self.report.apps.push(AppVerdict { name: app(name), verdict: Verdict::Intact, entries: 0, bytes: 0 });
        self
    }

    /// The archive holds a path: a directory with that many files, or one of the other kinds.
    pub fn holds(mut self, at: &str, kind: RootKind, files: u64, bytes: u64) -> Scene {
        let mut digest = TreeDigest::default();
        digest.add(Sha256Digest::of(at.as_bytes()));
        let entries = if kind == RootKind::Directory { files + 1 } else { 1 };
        let (users, groups) = (BTreeSet::from(["root".to_owned()]), BTreeSet::from(["root".to_owned()]));
        let bytes = ByteSize(bytes);
        self.contents.roots.push(RootContent {
            path: path(at),
            kind: Some(kind),
            entries,
            files,
            bytes,
            digest,
            users,
            groups,
            people: Default::default(),
        });
        self
    }

    /// A whole app with directories only, each with 10 files of 1000 bytes.
    pub fn with(self, name: &str, version: i64, directories: &[&str]) -> Scene {
        let scene = self.archived(name, Some(version), directories);
        directories.iter().fold(scene, |scene, at| scene.holds(at, RootKind::Directory, 10, 10_000))
    }

    pub fn owned_by(mut self, at: &str, user: &str) -> Scene {
        let root = self.contents.roots.iter_mut().find(|root| root.path == path(at)).unwrap();
        root.users.insert(user.into());
        self
    }

    pub fn verdict(mut self, name: &str, verdict: Verdict) -> Scene {
        self.report.apps.iter_mut().find(|line| line.name == app(name)).unwrap().verdict = verdict;
        self
    }

    /// The archive as a whole is damaged.
    pub fn cut(mut self) -> Scene {
        let what = "the gzip stream ends early; all files after 'x' are lost, 7 entries before could be read";
        self.report.findings.push(Finding::new(Severity::Damage, "backup.tar.gz", what, ""));
        self
    }

    /// What is at a destination on the box.
    pub fn site(mut self, at: &str, change: impl FnOnce(&mut Site)) -> Scene {
        change(self.ground.sites.entry(path(at)).or_insert_with(empty_site));
        self
    }

    pub fn changes(mut self, at: &str, counts: [u64; 4]) -> Scene {
        let [new, changed, same, removed] = counts;
        self.ground.changes.insert((path(at), path(at)), Changes { new, changed, same, removed });
        self
    }

    pub fn free(mut self, area: &str, bytes: u64, inodes: Option<u64>) -> Scene {
        self.ground.free.insert(path(area), Free { bytes: ByteSize(bytes), inodes });
        self
    }

    pub fn chosen(mut self, names: &[&str]) -> Scene {
        self.chosen = Some(names.iter().map(|name| app(name)).collect());
        self
    }

    /// The plan; destinations that were not described are empty.
    pub fn plan(&self) -> RestorePlan {
        let mut ground = self.ground.clone();
        for root in &self.contents.roots {
            for app in manifest::all() {
                for (_, to) in app.destinations(&root.path, &self.installation.version_of_paths(app)) {
                    ground.sites.entry(to).or_insert_with(empty_site);
                }
            }
        }
        plan(&Input {
            installation: &self.installation,
            summary: &self.summary,
            report: &self.report,
            contents: &self.contents,
            ground: &ground,
            unknown_owners: &self.unknown_owners,
            chosen: self.chosen.as_deref(),
            accept_damage: self.accept_damage,
            can_finish: self.can_finish,
            held: None,
            extras: &[],
            growth: self.growth.as_ref(),
            unfinished: self.unfinished.as_ref(),
        })
    }
}

fn empty_site() -> Site {
    Site { area: path(AREA), live: None, dropins: Vec::new(), sidecars: Vec::new(), refusal: None }
}
