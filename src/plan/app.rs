//! The plan for one app: its road, its steps, and what the next boot does for it.

use super::{Draft, Input, begun, damage, databases, place, version};
use crate::model::app::AppId;
use crate::model::archive::ArchivedApp;
use crate::model::finding::Verdict;
use crate::model::manifest::{self, Hook, Manifest, ServiceKind};
use crate::model::path::RelPath;
use crate::model::plan::{Action, AppPlan, BlockerKind, Road, Step, VersionVerdict};
use crate::model::size::ByteSize;
use std::collections::BTreeSet;

/// Adds the archived app to the draft; a spoiled one only to say that it stays behind.
pub(super) fn add(input: &Input, archived: &ArchivedApp, spoiled: &BTreeSet<AppId>, draft: &mut Draft) {
    let mut app = AppPlan {
        road: Road::Blocked,
        version: VersionVerdict::UnknownApp,
        recovers: databases::recovers(input, archived, spoiled),
        ..begun(input, archived)
    };
    match build(input, archived, spoiled.contains(&archived.name), draft, &mut app) {
        Ok(()) => {}
        Err(refusal) => refuse(input, draft, &mut app, refusal),
    }
    draft.apps.push(app);
}

/// Why an app is not restored.
struct Refusal {
    kind: BlockerKind,
    why: String,
    advice: &'static str,
}

const OTHER_APPS: &str = "choose other apps with --apps; the backup keeps this one's data";

fn build(
    input: &Input,
    archived: &ArchivedApp,
    is_spoiled: bool,
    draft: &mut Draft,
    app: &mut AppPlan,
) -> Result<(), Refusal> {
    let unknown = || Refusal {
        kind: BlockerKind::Version,
        why: "no FreedomBox version that this Lifeboat knows has such an app".into(),
        advice: OTHER_APPS,
    };
    let today = manifest::find(&archived.name).ok_or_else(unknown)?.today();
    app.name = today.id.clone();
    app.version = version::judge(archived, today, input.installation);
    check_version(&app.version, today, input)?;
    if is_spoiled {
        let why = damage::SPOILED.to_owned();
        return Err(Refusal { kind: BlockerKind::Damaged, why, advice: OTHER_APPS });
    }
    let refused = |why| Refusal { kind: BlockerKind::Target, why, advice: OTHER_APPS };
    let placed = place::place(input, archived, today, draft, app).map_err(refused)?;
    if placed.is_empty() && app.left_out.iter().any(|left| left.lost) {
        let why = match app.verdict {
            Verdict::Damaged if !holds_anything(input, archived) => damage::UNREADABLE.to_owned(),
            _ => "none of its data has a place on this box".to_owned(),
        };
        return Err(Refusal { kind: BlockerKind::Nothing, why, advice: OTHER_APPS });
    }
    app.road = road(input, today, app.recovers, &placed);
    steps(input, draft, app, &placed);
    describe_next_boot(input, today, &placed, app);
    Ok(())
}

/// An app that was chosen by name and cannot be restored forbids the plan; one among all only stays behind.
fn refuse(input: &Input, draft: &mut Draft, app: &mut AppPlan, refusal: Refusal) {
    app.road = Road::Blocked;
    // Damage has its own blockers, which tell how to accept it.
    if input.chosen.is_some() && refusal.why != damage::UNREADABLE {
        let what = format!("'{}' cannot be restored onto this box: {}", app.archived_as, refusal.why);
        draft.block(refusal.kind, Some(app.archived_as.clone()), what, refusal.advice);
    }
    app.reason = Some(refusal.why);
}

fn check_version(verdict: &VersionVerdict, today: &Manifest, input: &Input) -> Result<(), Refusal> {
    let freedombox = &input.installation.freedombox;
    let refusal = |why, advice| Err(Refusal { kind: BlockerKind::Version, why, advice });
    let upgrade = "upgrade FreedomBox on the box first, or choose other apps with --apps";
    match verdict {
        VersionVerdict::TargetTooOld { archive, target, needs } => {
            let needs =
                needs.as_ref().map_or("a newer FreedomBox".to_owned(), |needs| format!("FreedomBox {needs} or newer"));
            refusal(format!("its data is of app version {archive}, the box has {target}; it needs {needs}"), upgrade)
        }
        VersionVerdict::NotInTarget => match (&today.known_since, &today.removed_in) {
            (Some(since), _) if *since > freedombox.upstream() => {
                refusal(format!("the box has FreedomBox {freedombox}; the app needs {since} or newer"), upgrade)
            }
            (_, Some(removed)) => refusal(format!("FreedomBox has no such app any more, since {removed}"), OTHER_APPS),
            _ => refusal(format!("FreedomBox {freedombox} does not have this app"), OTHER_APPS),
        },
        VersionVerdict::UnknownApp => refusal("no known FreedomBox has this app".into(), OTHER_APPS),
        VersionVerdict::Same
        | VersionVerdict::WillBeUpgraded { .. }
        | VersionVerdict::PackageGone { .. }
        | VersionVerdict::NotRecorded => Ok(()),
    }
}

fn holds_anything(input: &Input, archived: &ArchivedApp) -> bool {
    archived.paths.iter().any(|path| input.contents.root(path).is_some_and(|content| content.entries > 0))
}

/// In place when the app's packages are there, FreedomBox has set it up, and its files are all that counts. Parked when the app has to be
/// installed or set up first, and when its files only mean something together with a database or with settings that a
/// running FreedomBox imports: then files and import change together, at the next boot.
fn road(input: &Input, app: &Manifest, recovers: bool, placed: &[(RelPath, RelPath)]) -> Road {
    let box_ = input.installation;
    if recovers {
        Road::Parked
    } else if placed.is_empty() {
        Road::NoData
    } else if !version::is_installed(app, box_)
        || box_.set_up(&app.id).is_none()
        || app.database.is_some()
        || app.settings_file.as_ref().is_some_and(|file| placed.iter().any(|(from, _)| file.is_within(from)))
        || placed.iter().any(|(_, to)| app.imported_here.contains(to))
    {
        Road::Parked
    } else {
        Road::InPlace
    }
}

fn steps(input: &Input, draft: &mut Draft, app: &mut AppPlan, placed: &[(RelPath, RelPath)]) {
    let action = match app.road {
        Road::InPlace => Action::Exchange,
        Road::Parked => Action::Park,
        Road::NoData | Road::Blocked => return,
    };
    for (source, destination) in placed {
        let (Some(content), Some(site)) = (input.contents.root(source), input.ground.sites.get(destination)) else {
            continue;
        };
        draft.step(app, source, destination, action, content, site);
        if let Some(changes) = input.ground.changes.get(&(source.clone(), destination.clone())) {
            app.changes.new += changes.new;
            app.changes.changed += changes.changed;
            app.changes.same += changes.same;
            app.changes.removed += changes.removed;
        }
        let planned = |path: &RelPath| placed.iter().any(|(_, to)| to == path);
        for sidecar in site.sidecars.iter().filter(|path| action == Action::Exchange && !planned(path)) {
            app.changes.removed += 1;
            draft.steps.push(Step {
                id: u32::try_from(draft.steps.len()).unwrap_or(u32::MAX),
                app: app.name.clone(),
                source: sidecar.clone(),
                destination: sidecar.clone(),
                action: Action::SetAside,
                area: site.area.clone(),
                carried: Vec::new(),
                content: Default::default(),
                entries: 0,
                bytes: ByteSize(0),
            });
        }
    }
}

fn describe_next_boot(input: &Input, manifest: &Manifest, placed: &[(RelPath, RelPath)], app: &mut AppPlan) {
    let box_ = input.installation;
    if !matches!(app.road, Road::InPlace | Road::Parked) {
        return;
    }
    for service in manifest.services_at(&box_.version_of_paths(manifest)) {
        app.services.push(match service.kind {
            ServiceKind::Unit => service.name.clone(),
            ServiceKind::ApacheConfig => format!("apache2 ({})", service.name),
        });
    }
    if let VersionVerdict::PackageGone { packages } = &app.version {
        let packages = packages.join(", ");
        let keep = format!("keep the data parked: Debian {} does not have {packages}", box_.suite);
        app.next_boot.push(keep);
        return;
    }
    if !version::is_installed(manifest, box_) {
        app.next_boot.push("install the app".into());
    } else if box_.set_up(&manifest.id).is_none() {
        app.next_boot.push("set the app up in FreedomBox".into());
    }
    if app.road == Road::Parked {
        app.next_boot.push("move the restored files in".into());
    }
    let is_unknown = |name: &String| input.unknown_owners.contains(name);
    let has_unknown = |from: &RelPath| {
        input.contents.root(from).is_some_and(|content| content.users.union(&content.groups).any(is_unknown))
    };
    // People's accounts are not in a file; only the running box knows them.
    if app.road == Road::InPlace && placed.iter().any(|(from, _)| has_unknown(from)) {
        app.next_boot.push("give its files to the accounts that exist by then".into());
    }
    // What lies in its place already is upgraded by nobody, neither by FreedomBox, which has set the app up, nor by the app.
    if app.road == Road::InPlace && !matches!(app.version, VersionVerdict::Same) {
        app.next_boot.push("let the app upgrade its data where that is needed".into());
    }
    if let Some(database) = manifest.database.as_ref().filter(|_| app.recovers) {
        let engine = database.engine.name();
        app.next_boot.push(format!("import its {engine} database from the files of its old server"));
        return;
    }
    let restores = |file: &RelPath| placed.iter().any(|(from, _)| file.is_within(from));
    if let Some(database) = manifest.database.as_ref().filter(|database| restores(&database.dump)) {
        let engine = database.engine.name();
        app.next_boot.push(format!("import its {engine} database"));
    } else if manifest.settings_file.as_ref().is_some_and(restores) {
        app.next_boot.push("import its settings".into());
    } else if placed.iter().any(|(_, to)| manifest.imported_here.contains(to)) {
        app.next_boot.push("import what this FreedomBox does not back up any more".into());
    } else if manifest.database.is_none() && manifest.hooks_at(&box_.freedombox).contains(&Hook::RestorePost) {
        app.next_boot.push("let FreedomBox finish the app's restore".into());
    }
}
