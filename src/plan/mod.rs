//! From what was found to what will be done: the plan.
//!
//! Pure: the same input gives the same plan, nothing is read or written. Every choice of a restore is made here. What
//! cannot be restored is named with its reason; what forbids the whole restore is a blocker.

mod app;
mod space;
mod version;

use crate::model::app::AppId;
use crate::model::archive::{ArchiveSummary, Generation};
use crate::model::digest::Sha256Digest;
use crate::model::finding::{Report, Verdict};
use crate::model::installation::Installation;
use crate::model::path::RelPath;
use crate::model::plan::{AppPlan, Blocker, BlockerKind, PlanId, RestorePlan, Road, Step, TargetSummary};
use crate::model::site::Ground;
use crate::verify::Contents;

/// Everything that a plan is made from.
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
    /// The apps that the user chose; `None` for all in the archive.
    pub chosen: Option<&'a [AppId]>,
    /// Whether the user wants what is left of damaged apps.
    pub accept_damage: bool,
    /// Whether there is a program for the box's architecture, so that the next boot can finish.
    pub can_finish: bool,
    /// A restore on the box that is not finished.
    pub unfinished: Option<&'a PlanId>,
}

/// What no FreedomBox backup holds (R14).
pub const NOT_INCLUDED: [&str; 9] = [
    "user accounts, their passwords and groups",
    "network connections",
    "host name and domain settings of the old box",
    "backup locations, their passphrases and schedules",
    "folders shared through Samba, Sharing, Syncthing, Deluge, Transmission and MiniDLNA",
    "home folders",
    "WireGuard connections",
    "downloads and torrents",
    "packages and settings made outside FreedomBox",
];

/// Makes the plan.
pub fn plan(input: &Input) -> RestorePlan {
    let mut draft = Draft::default();
    for name in input.chosen.unwrap_or_default() {
        if !input.summary.apps.iter().any(|app| app.name == *name) {
            let what = format!("the backup does not hold the app '{name}'");
            draft.block(BlockerKind::Nothing, Some(name.clone()), what, "run 'lifeboat list' to see what it holds");
        }
    }
    for archived in &input.summary.apps {
        if input.chosen.is_none_or(|chosen| chosen.contains(&archived.name)) {
            app::add(input, archived, &mut draft);
        }
    }
    draft.judge_damage(input);
    draft.judge_outcome(input);
    let space = space::needs(input, &draft);
    draft.judge_space(&space);
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
        apps: draft.apps,
        steps: draft.steps,
        blockers: draft.blockers,
        warnings: draft.warnings,
        not_included: NOT_INCLUDED.map(str::to_owned).to_vec(),
        space,
    };
    plan.id = id_of(&plan);
    if let Some(id) = input.unfinished {
        judge_unfinished(&mut plan, id);
    }
    plan
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

/// A plan while it is being made.
#[derive(Default)]
struct Draft {
    apps: Vec<AppPlan>,
    steps: Vec<Step>,
    blockers: Vec<Blocker>,
    warnings: Vec<String>,
    /// Destinations that are taken, with the app that takes them.
    taken: Vec<(RelPath, AppId)>,
}

impl Draft {
    fn block(&mut self, kind: BlockerKind, app: Option<AppId>, what: String, advice: &str) {
        self.blockers.push(Blocker { kind, app, what, advice: advice.to_owned() });
    }

    /// Damage forbids the restore unless the user accepted it, or it is confined to apps that were not chosen by name.
    fn judge_damage(&mut self, input: &Input) {
        let hurt = |app: &AppPlan| {
            app.verdict == Verdict::Damaged || (app.verdict == Verdict::NotVerifiable && !input.report.is_undamaged())
        };
        let hurt: Vec<AppId> = self.apps.iter().filter(|app| hurt(app)).map(|app| app.name.clone()).collect();
        if hurt.is_empty() {
            if self.apps.iter().any(|app| app.verdict == Verdict::NotVerifiable) {
                let why = "the backup has no checksum that proves its content; it could be read to its end";
                self.warnings.push(why.into());
            }
            return;
        }
        let whole = self.apps.iter().any(|app| !hurt.contains(&app.name) && app.road != Road::NoData);
        for name in hurt {
            if input.accept_damage {
                self.warnings.push(format!("{name}: damaged; only what could be read is restored, as you chose"));
            } else if input.chosen.is_none() && whole {
                self.warnings.push(format!("{name}: damaged in the backup, so it is not restored"));
                self.drop_app(&name, "damaged in the backup");
            } else {
                let what = format!("'{name}' is damaged in the backup");
                let advice = "use another backup, choose other apps, or pass --accept-damage to restore what is left";
                self.block(BlockerKind::Damaged, Some(name), what, advice);
            }
        }
    }

    fn drop_app(&mut self, name: &AppId, reason: &str) {
        self.steps.retain(|step| step.app != *name);
        for (id, step) in (0..).zip(&mut self.steps) {
            step.id = id;
        }
        for app in self.apps.iter_mut().filter(|app| app.name == *name) {
            app.road = Road::Blocked;
            app.next_boot.clear();
            let paths = self.taken.iter().filter(|(_, owner)| owner == name).map(|(path, _)| path.clone());
            let left_out = |path| crate::model::plan::LeftOut { path, reason: reason.to_owned() };
            app.left_out.extend(paths.map(left_out));
        }
    }

    /// A plan that restores nothing is not carried out, and a plan whose rest has to wait needs somebody to do it.
    fn judge_outcome(&mut self, input: &Input) {
        if input.summary.generation == Generation::None {
            let what = "the backup has no FreedomBox manifest, so nobody knows which apps its files belong to";
            let advice = "unpack it by hand with tar and look";
            self.block(BlockerKind::Nothing, None, what.into(), advice);
        } else if self.steps.is_empty() && self.blockers.is_empty() {
            let what = "the backup holds nothing that can be restored onto this box".to_owned();
            self.block(BlockerKind::Nothing, None, what, "see the reason beside each app");
        }
        if !input.can_finish && !self.steps.is_empty() {
            let what = format!("there is no Lifeboat program for {} boxes here", input.installation.architecture);
            let advice = "start from a complete Lifeboat medium, which carries the program for every architecture";
            self.block(BlockerKind::Target, None, what, advice);
        }
    }
}
