//! The plan for one app: its road, its steps, and what stays in the backup.

use super::{Draft, Input, version};
use crate::model::archive::ArchivedApp;
use crate::model::finding::Verdict;
use crate::model::manifest::{self, Engine, Hook, Manifest, ServiceKind};
use crate::model::path::RelPath;
use crate::model::plan::{Action, AppPlan, BlockerKind, Changes, LeftOut, Road, Step, VersionVerdict};
use crate::model::size::ByteSize;
use crate::verify::RootKind;

/// Adds the archived app to the draft.
pub(super) fn add(input: &Input, archived: &ArchivedApp, draft: &mut Draft) {
    let verdict = input.report.verdict(&archived.name).unwrap_or(Verdict::NotVerifiable);
    let mut app = AppPlan {
        name: archived.name.clone(),
        archived_as: archived.name.clone(),
        road: Road::Blocked,
        version: VersionVerdict::UnknownApp,
        verdict,
        changes: Changes::default(),
        bytes: ByteSize(0),
        services: Vec::new(),
        next_boot: Vec::new(),
        left_out: Vec::new(),
    };
    let Some(known) = manifest::find(&archived.name) else {
        refuse(input, draft, &app, "no FreedomBox version known to this Lifeboat has such an app");
        draft.apps.push(app);
        return;
    };
    let today = known.today();
    app.name = today.id.clone();
    app.version = version::judge(archived, today, input.installation);
    if let Some(why) = forbids(&app.version, input) {
        refuse(input, draft, &app, &why);
        draft.apps.push(app);
        return;
    }
    let placed = place(input, archived, today, draft, &mut app);
    app.road = road(input, today, &placed);
    steps(input, draft, &mut app, &placed);
    describe_next_boot(input, today, &mut app);
    draft.apps.push(app);
}

/// An app that was chosen by name and cannot be restored forbids the plan; one among all only stays behind.
fn refuse(input: &Input, draft: &mut Draft, app: &AppPlan, why: &str) {
    match input.chosen {
        Some(_) => {
            let what = format!("'{}' cannot be restored onto this box: {why}", app.archived_as);
            let advice = "choose other apps with --apps, or upgrade FreedomBox on the box first";
            draft.block(BlockerKind::Version, Some(app.archived_as.clone()), what, advice);
        }
        None => draft.warnings.push(format!("{}: not restored: {why}", app.archived_as)),
    }
}

fn forbids(verdict: &VersionVerdict, input: &Input) -> Option<String> {
    match verdict {
        VersionVerdict::TargetTooOld { archive, target, needs } => {
            let needs =
                needs.as_ref().map_or("a newer FreedomBox".to_owned(), |needs| format!("FreedomBox {needs} or newer"));
            Some(format!("its data is of app version {archive}, the box has {target}; it needs {needs}"))
        }
        VersionVerdict::NotInTarget => {
            Some(format!("FreedomBox {} does not have this app", input.installation.freedombox))
        }
        VersionVerdict::UnknownApp => Some("no known FreedomBox has this app".to_owned()),
        VersionVerdict::Same
        | VersionVerdict::WillBeUpgraded { .. }
        | VersionVerdict::PackageGone { .. }
        | VersionVerdict::NotRecorded => None,
    }
}

/// Which paths of the archive go where; what cannot go anywhere is left out with its reason.
fn place(
    input: &Input,
    archived: &ArchivedApp,
    today: &Manifest,
    draft: &mut Draft,
    app: &mut AppPlan,
) -> Vec<(RelPath, RelPath)> {
    let mut left_out = |path: &RelPath, reason: String| app.left_out.push(LeftOut { path: path.clone(), reason });
    let mut sources = Vec::new();
    for path in &archived.paths {
        if !today.ever_had(path) && !manifest::find(&archived.name).is_some_and(|known| known.ever_had(path)) {
            left_out(path, "it does not belong to this app in any FreedomBox version, so it is not restored".into());
            draft.warnings.push(format!("{}: \"{path}\" is not a path of this app and is not restored", archived.name));
        } else if input.contents.root(path).is_some_and(|content| content.entries > 0) {
            sources.push(path.clone());
        } else {
            left_out(path, "it is not in the backup; what is on the box stays as it is".into());
        }
    }
    let freedombox = &input.installation.freedombox;
    let placed = today.placements(&sources, freedombox);
    for path in &sources {
        if !placed.iter().any(|(from, _)| from.is_within(path) || path.is_within(from)) {
            left_out(path, format!("FreedomBox {freedombox} has no place for it any more"));
        }
    }
    let other_release = matches!(app.version, VersionVerdict::WillBeUpgraded { .. } | VersionVerdict::NotRecorded);
    let mut kept = Vec::new();
    for (from, to) in placed {
        let content = input.contents.root(&from);
        let site = input.ground.sites.get(&to);
        let taken = draft.taken.iter().find(|(path, _)| path.is_within(&to) || to.is_within(path));
        if content.is_none_or(|content| content.entries == 0) {
            continue;
        } else if other_release && today.is_config_of_release(&to) {
            left_out(&from, "it is configuration of another Debian release; the box keeps its own".into());
        } else if content.is_some_and(|content| content.kind == Some(RootKind::Symlink)) && is_directory(today, &from) {
            left_out(&from, "it is a link in the backup, and what it points to was not backed up".into());
            draft
                .warnings
                .push(format!("{}: \"{from}\" is only a link in the backup; its data is not there", archived.name));
        } else if let Some((_, owner)) = taken {
            left_out(&from, format!("it is restored with '{owner}'"));
        } else if let Some(why) = site.map_or(Some("its place could not be looked at"), |site| site.refusal.as_deref())
        {
            left_out(&from, why.to_owned());
            draft.warnings.push(format!("{}: \"{to}\" is not restored: {why}", archived.name));
        } else {
            draft.taken.push((to.clone(), today.id.clone()));
            kept.push((from, to));
        }
    }
    kept
}

fn is_directory(app: &Manifest, path: &RelPath) -> bool {
    app.backups.iter().any(|backup| backup.directories.iter().any(|place| place.path == *path))
}

/// In place when the app's packages are there and its files are all that counts. Parked when the app has to be
/// installed or set up first, and when its files only mean something together with a database or with settings that a
/// running FreedomBox imports: then files and import change together, at the next boot.
fn road(input: &Input, app: &Manifest, placed: &[(RelPath, RelPath)]) -> Road {
    let box_ = input.installation;
    if placed.is_empty() {
        Road::NoData
    } else if !version::is_installed(app, box_)
        || app.database.is_some()
        || app.settings_file.as_ref().is_some_and(|file| placed.iter().any(|(from, _)| from == file))
        || (app.is_essential_at(&box_.freedombox) && box_.set_up(&app.id).is_none())
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
        let step = Step {
            id: u32::try_from(draft.steps.len()).unwrap_or(u32::MAX),
            app: app.name.clone(),
            source: source.clone(),
            destination: destination.clone(),
            action,
            area: site.area.clone(),
            carried: if action == Action::Exchange { site.dropins.clone() } else { Vec::new() },
            content: content.digest,
            entries: content.entries,
            bytes: content.bytes,
        };
        app.bytes += step.bytes;
        if let Some(changes) = input.ground.changes.get(&(source.clone(), destination.clone())) {
            app.changes.new += changes.new;
            app.changes.changed += changes.changed;
            app.changes.same += changes.same;
            app.changes.removed += changes.removed;
        }
        let area = step.area.clone();
        draft.steps.push(step);
        for sidecar in site.sidecars.iter().filter(|_| action == Action::Exchange) {
            app.changes.removed += 1;
            draft.steps.push(Step {
                id: u32::try_from(draft.steps.len()).unwrap_or(u32::MAX),
                app: app.name.clone(),
                source: sidecar.clone(),
                destination: sidecar.clone(),
                action: Action::SetAside,
                area: area.clone(),
                carried: Vec::new(),
                content: Default::default(),
                entries: 0,
                bytes: ByteSize(0),
            });
        }
    }
}

fn describe_next_boot(input: &Input, manifest: &Manifest, app: &mut AppPlan) {
    let box_ = input.installation;
    if !matches!(app.road, Road::InPlace | Road::Parked) {
        return;
    }
    for service in manifest.services_at(&box_.freedombox) {
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
    if let Some(database) = &manifest.database {
        let engine = match database.engine {
            Engine::Mysql => "MariaDB",
            Engine::Postgresql => "PostgreSQL",
        };
        app.next_boot.push(format!("import its {engine} database"));
    } else if manifest.settings_file.is_some() {
        app.next_boot.push("import its settings".into());
    } else if manifest.hooks_at(&box_.freedombox).contains(&Hook::RestorePost) {
        app.next_boot.push("let FreedomBox finish the app's restore".into());
    }
}
