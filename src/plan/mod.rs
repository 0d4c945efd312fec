//! From what was found to what will be done: the plan.
//!
//! Pure: the same input gives the same plan, nothing is read or written. Every choice of a restore is made here. What
//! cannot be restored is named with its reason; what forbids the whole restore is a blocker.

mod app;
mod damage;
mod databases;
mod folders;
mod place;
mod space;
mod version;

use crate::model::app::AppId;
use crate::model::archive::{ArchiveSummary, ArchivedApp, Generation};
use crate::model::digest::Sha256Digest;
use crate::model::extra::{Extra, Extras};
use crate::model::finding::{Report, Verdict};
use crate::model::growth::Growth;
use crate::model::installation::Installation;
use crate::model::path::RelPath;
use crate::model::plan::{
    Action, AppPlan, Blocker, BlockerKind, Changes, ExtraPlan, PlanId, RestorePlan, Road, Step, TargetSummary,
    UnknownOwner, VersionVerdict,
};
use crate::model::site::{Ground, Site};
use crate::model::size::ByteSize;
use crate::verify::{Contents, RootContent};
use std::collections::{BTreeMap, BTreeSet};

/// Everything that a plan is made from.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// The box.
    pub installation: &'a Installation,
    /// The archive.
    pub summary: &'a ArchiveSummary,
    /// What verification said of it.
    pub report: &'a Report,
    /// What it holds.
    pub contents: &'a Contents,
    /// What the destinations look like.
    pub ground: &'a Ground,
    /// Names of users and groups in the archive that the box does not have.
    pub unknown_owners: &'a BTreeSet<String>,
    /// The apps that the user chose; `None` for all in the archive.
    pub chosen: Option<&'a [AppId]>,
    /// Whether the user wants what is left of damaged apps.
    pub accept_damage: bool,
    /// Whether there is a program for the box's architecture, so that the next boot can finish.
    pub can_finish: bool,
    /// What the source holds besides apps.
    pub held: Option<&'a Extras>,
    /// What the user wants besides apps.
    pub extras: &'a [Extra],
    /// What the box's root filesystem could become.
    pub growth: Option<&'a Growth>,
    /// A restore on the box that is not finished.
    pub unfinished: Option<&'a PlanId>,
}

/// What no FreedomBox backup holds (R14), which extra brings it all the same, and what of it stays behind even then.
const NOT_INCLUDED: [(&str, Option<Extra>, Option<&str>); 9] = [
    ("user accounts, their passwords and groups", Some(Extra::Accounts), None),
    ("network connections", Some(Extra::Networks), None),
    ("host name, domain names and home page of the old box", Some(Extra::Names), Some("home page of the old box")),
    ("backup locations, their passphrases and schedules", Some(Extra::BackupLocations), None),
    (
        "files in folders shared by Samba, Sharing, Syncthing, Deluge, Transmission and MiniDLNA, and the list of Samba's \
         shares",
        Some(Extra::Folders),
        Some("the list of Samba's shares"),
    ),
    ("home folders, /root among them", Some(Extra::Folders), Some("the home folder of root")),
    ("WireGuard connections", Some(Extra::Networks), None),
    ("downloads and torrents", Some(Extra::Folders), Some("torrents")),
    ("packages, package sources, timed jobs and settings made outside FreedomBox", None, None),
];

/// Makes the plan.
pub fn plan(input: &Input) -> RestorePlan {
    let mut draft = damage::draft(input);
    draft.judge_outcome(input);
    let space = space::needs(input, &draft);
    space::judge(input, &mut draft, &space);
    let target = input.installation;
    let mut plan = RestorePlan {
        format: 1,
        id: PlanId::of(Sha256Digest::of(b"")),
        archive: input.summary.id.clone(),
        archive_time: input.summary.time.clone(),
        target: TargetSummary {
            hostname: target.hostname.clone(),
            freedombox: target.freedombox.as_str().to_owned(),
            suite: target.suite.clone(),
            architecture: target.architecture.clone(),
            uuid: target.uuid.clone(),
        },
        unknown_owners: unknown_owners(input, &draft.steps),
        people: people(input, &draft.steps),
        apps: draft.apps,
        steps: draft.steps,
        blockers: draft.blockers,
        warnings: draft.warnings,
        not_included: not_included(input),
        extras: held(input, true),
        offered: held(input, false),
        space: space.into_iter().map(|(_, need)| need).collect(),
    };
    plan.id = id_of(&plan);
    if let Some(id) = input.unfinished {
        judge_unfinished(&mut plan, id);
    }
    plan
}

/// What the source holds besides apps: what the user asked for, or the rest.
fn held(input: &Input, wanted: bool) -> Vec<ExtraPlan> {
    let Some(extras) = input.held else { return Vec::new() };
    let asked = ExtraPlan::all(extras).filter(|plan| input.extras.contains(&plan.extra) == wanted);
    asked.filter(|plan| wanted || plan.is_news_to(&input.installation.hostname)).collect()
}

/// What is left to the user's hands.
fn not_included(input: &Input) -> Vec<String> {
    let brought = held(input, true);
    let comes = |by: &Option<Extra>| by.is_some_and(|by| brought.iter().any(|plan| plan.extra == by));
    let left = NOT_INCLUDED.iter().filter_map(|(what, by, rest)| if comes(by) { *rest } else { Some(*what) });
    left.map(str::to_owned).collect()
}

/// The same plan that was interrupted is taken up again; the room that it needs is partly taken by what it staged.
/// Any other has to wait until that one is finished.
fn judge_unfinished(plan: &mut RestorePlan, id: &PlanId) {
    if plan.id == *id {
        return plan.blockers.retain(|blocker| blocker.kind != BlockerKind::Space);
    }
    let blocker = Blocker {
        kind: BlockerKind::Unfinished,
        app: None,
        what: format!("an earlier restore ({id}) is not finished"),
        advice: "run 'lifeboat status', then 'resume', 'undo' or 'commit'".to_owned(),
        fitting: None,
        growth: None,
    };
    plan.blockers.insert(0, blocker);
}

/// The id of a plan: the digest of its JSON without the id and without what holds for the moment only: the free space
/// and whether it is enough, and an earlier restore that is not finished.
pub fn id_of(plan: &RestorePlan) -> PlanId {
    let mut canonical = plan.clone();
    canonical.id = PlanId::of(Sha256Digest::of(b""));
    canonical.blockers.retain(|blocker| !matches!(blocker.kind, BlockerKind::Space | BlockerKind::Unfinished));
    for need in &mut canonical.space {
        need.free = Default::default();
        need.free_inodes = None;
    }
    // Plain data with text keys always becomes JSON; were it not so, no two plans would share this id.
    let json = serde_json::to_vec(&canonical).unwrap_or_default();
    PlanId::of(Sha256Digest::of(&json))
}

/// The owners of what is restored that the box does not have.
fn unknown_owners(input: &Input, steps: &[Step]) -> Vec<UnknownOwner> {
    let mut found: BTreeMap<&String, Vec<AppId>> = BTreeMap::new();
    // A folder waits until its owner has an account, and what a database server left belongs to whom reads it.
    for step in steps.iter().filter(|step| step.action != Action::Merge && step.app != AppId::databases()) {
        let Some(content) = input.contents.root(&step.source) else { continue };
        for name in content.users.union(&content.groups).filter(|name| input.unknown_owners.contains(*name)) {
            let apps = found.entry(name).or_default();
            if !apps.contains(&step.app) {
                apps.push(step.app.clone());
            }
        }
    }
    found.into_iter().map(|(name, apps)| UnknownOwner { name: name.clone(), apps }).collect()
}

/// The people whom the restored data tells of, without those who come along.
fn people(input: &Input, steps: &[Step]) -> Vec<String> {
    let brought = held(input, true).into_iter().filter(|plan| plan.extra == Extra::Accounts);
    let brought: BTreeSet<String> = brought.flat_map(|plan| plan.names).collect();
    let contents = steps.iter().filter_map(|step| input.contents.root(&step.source));
    let names: BTreeSet<&String> = contents.flat_map(|content| &content.people).collect();
    names.into_iter().filter(|name| !brought.contains(*name)).cloned().collect()
}

/// The plan of something in the archive before anything is known of its place on the box.
fn begun(input: &Input, archived: &ArchivedApp) -> AppPlan {
    AppPlan {
        name: archived.name.clone(),
        archived_as: archived.name.clone(),
        road: Road::NoData,
        reason: None,
        version: VersionVerdict::Same,
        verdict: input.report.verdict(&archived.name).unwrap_or(Verdict::NotVerifiable),
        changes: Changes::default(),
        bytes: ByteSize(0),
        services: Vec::new(),
        next_boot: Vec::new(),
        recovers: false,
        left_out: Vec::new(),
    }
}

/// A plan while it is being made.
#[derive(Default)]
struct Draft {
    apps: Vec<AppPlan>,
    steps: Vec<Step>,
    blockers: Vec<Blocker>,
    warnings: Vec<String>,
    taken: Vec<Taken>,
}

/// A destination that an app has.
struct Taken {
    source: RelPath,
    destination: RelPath,
    app: AppId,
}

impl Draft {
    /// The plan of all chosen apps, without those in `spoiled`, which are damaged.
    fn of(input: &Input, spoiled: &BTreeSet<AppId>) -> Draft {
        let mut draft = Draft::default();
        for name in input.chosen.unwrap_or_default() {
            if input.summary.generation != Generation::None && !input.summary.apps.iter().any(|app| app.name == *name) {
                let what = format!("the backup does not hold the app '{name}'");
                draft.block(BlockerKind::Nothing, Some(name.clone()), what, "run 'lifeboat list' to see what it holds");
            }
        }
        for archived in &input.summary.apps {
            if input.chosen.is_none_or(|chosen| chosen.contains(&archived.name)) {
                let is_spoiled = spoiled.contains(&archived.name);
                if archived.name == AppId::folders() {
                    folders::add(input, archived, is_spoiled, &mut draft);
                } else if archived.name != AppId::databases() {
                    app::add(input, archived, spoiled, &mut draft);
                }
            }
        }
        // Last: by then it is known which apps need them.
        if let Some(archived) = input.summary.apps.iter().find(|archived| archived.name == AppId::databases()) {
            databases::add(input, archived, spoiled.contains(&archived.name), &mut draft);
        }
        draft
    }

    /// Adds a step of an app.
    fn step(
        &mut self,
        app: &mut AppPlan,
        source: &RelPath,
        destination: &RelPath,
        action: Action,
        content: &RootContent,
        site: &Site,
    ) {
        app.bytes += content.bytes;
        self.steps.push(Step {
            id: u32::try_from(self.steps.len()).unwrap_or(u32::MAX),
            app: app.name.clone(),
            source: source.clone(),
            destination: destination.clone(),
            action,
            area: site.area.clone(),
            carried: if action == Action::Exchange { site.dropins.clone() } else { Vec::new() },
            content: content.digest,
            entries: content.entries,
            bytes: content.bytes,
        });
    }

    fn block(&mut self, kind: BlockerKind, app: Option<AppId>, what: String, advice: &str) {
        self.blockers.push(Blocker { kind, app, what, advice: advice.to_owned(), fitting: None, growth: None });
    }

    /// A plan that restores nothing is not carried out, and a plan whose rest has to wait needs somebody to do it.
    fn judge_outcome(&mut self, input: &Input) {
        if input.summary.generation == Generation::None {
            self.judge_without_manifest(input);
        } else if self.steps.is_empty() && self.blockers.is_empty() {
            let what = "the backup holds nothing that can be restored onto this box".to_owned();
            if self.apps.iter().any(|app| matches!(app.version, VersionVerdict::TargetTooOld { .. })) {
                let advice = "upgrade FreedomBox on the box first; the reason beside each app names the version";
                self.block(BlockerKind::Version, None, what, advice);
            } else {
                self.block(BlockerKind::Nothing, None, what, "see the reason beside each app");
            }
        }
        for extra in input.extras {
            if input.held.is_none_or(|held| held.names(*extra).is_empty()) {
                let what = match input.held {
                    None => format!("the backup holds no {}: only the disk of an old box does", extra.title()),
                    Some(_) => format!("the old box has no {}", extra.title()),
                };
                let advice = format!("leave '{extra}' out of '--extras', or name the old box's disk");
                self.block(BlockerKind::Nothing, None, what, &advice);
            }
        }
        if !input.can_finish && !self.steps.is_empty() {
            let what = format!("there is no Lifeboat program for {} boxes here", input.installation.architecture);
            let advice = "start from a complete Lifeboat medium, which carries the program for every architecture";
            self.block(BlockerKind::Target, None, what, advice);
        }
    }

    /// The manifest may not be there, or it may lie behind the damage.
    fn judge_without_manifest(&mut self, input: &Input) {
        let damages: Vec<&str> =
            input.report.damages_of(input.summary.id.as_str()).map(|finding| finding.what.as_str()).collect();
        if damages.is_empty() {
            let what = "the backup has no FreedomBox manifest, so nobody knows which apps its files belong to";
            self.block(BlockerKind::Nothing, None, what.into(), "unpack it by hand with tar and look");
        } else {
            let what = format!("the backup is damaged, and its list of apps cannot be read: {}", damages.join("; "));
            let advice = "use another backup, or fetch this one again from where it comes from";
            self.block(BlockerKind::Damaged, None, what, advice);
        }
    }
}
