//! The plan for database servers' own files: they come along where an app's database has no dump that is whole and new,
//! and lie parked for the running box, which makes a dump of them.

use super::{Draft, Input, begun, damage};
use crate::model::app::AppId;
use crate::model::archive::ArchivedApp;
use crate::model::cluster;
use crate::model::finding::DumpState;
use crate::model::manifest::{self, Engine, Manifest};
use crate::model::path::RelPath;
use crate::model::plan::{Action, LeftOut, Road};
use std::collections::BTreeSet;

/// Why the old system's server stays there.
const OTHER_PROCESSOR: &str = "these programs are for another processor; the databases in the files of this version can \
                               only be read where the box gets the same one";

/// Whether an app's database comes from its server's own files: they are in the archive, and its dump is missing, not
/// whole, or older than they are.
pub(super) fn recovers(input: &Input, archived: &ArchivedApp, spoiled: &BTreeSet<AppId>) -> bool {
    let Some(database) = manifest::find(&archived.name).and_then(|known| known.database.as_ref()) else { return false };
    let is_whole = dump_state(input, archived).is_none_or(|state| state == DumpState::Whole);
    !is_whole && !spoiled.contains(&AppId::databases()) && clusters(input, database.engine).next().is_some()
}

/// Whether the dump of an app whose database comes from its server's own files is of no use at all.
pub(super) fn is_worthless(input: &Input, archived: &ArchivedApp, today: &Manifest, path: &RelPath) -> bool {
    let is_dump = today.database.as_ref().is_some_and(|database| database.dump == *path);
    is_dump && dump_state(input, archived).is_some_and(|state| matches!(state, DumpState::Missing | DumpState::Cut))
}

fn dump_state(input: &Input, archived: &ArchivedApp) -> Option<DumpState> {
    input.report.dumps.iter().find(|dump| dump.app == archived.name).map(|dump| dump.state)
}

/// The clusters of a server that the archive has and the box has a place for.
fn clusters<'a>(input: &Input<'a>, engine: Engine) -> impl Iterator<Item = &'a RelPath> {
    let (contents, ground) = (input.contents, input.ground);
    let held = input.summary.apps.iter().find(|app| app.name == AppId::databases());
    held.into_iter().flat_map(|held| &held.paths).filter(move |path| {
        cluster::engine(path) == Some(engine)
            && cluster::programs_for(path).is_none()
            && contents.root(path).is_some_and(|content| content.entries > 0)
            && ground.sites.get(path).is_some_and(|site| site.refusal.is_none())
    })
}

/// Whether the box's Debian has these programs itself.
fn has(input: &Input, programs: &RelPath) -> bool {
    cluster::version(programs) == cluster::version_in(&input.installation.suite)
}

/// Adds the files that apps of the draft need, after these; damaged ones only to say that they stay behind.
pub(super) fn add(input: &Input, archived: &ArchivedApp, is_spoiled: bool, draft: &mut Draft) {
    let mut app = begun(input, archived);
    if is_spoiled {
        (app.road, app.reason) = (Road::Blocked, Some(damage::SPOILED.to_owned()));
        return draft.apps.push(app);
    }
    let mut names = Vec::new();
    let mut engines: Vec<Engine> = Vec::new();
    for plan in draft.apps.iter().filter(|plan| plan.recovers && plan.road == Road::Parked) {
        names.push(plan.name.to_string());
        engines.extend(manifest::find(&plan.name).and_then(|known| known.database.as_ref()).map(|own| own.engine));
    }
    for path in &archived.paths {
        let is_needed = cluster::engine(path).is_some_and(|engine| engines.contains(&engine));
        let (Some(content), Some(site)) = (input.contents.root(path), input.ground.sites.get(path)) else { continue };
        if !is_needed || content.entries == 0 {
            continue;
        }
        if let Some(architecture) = cluster::programs_for(path) {
            if has(input, path) {
                continue;
            }
            if architecture != input.installation.architecture {
                app.left_out.push(LeftOut { path: path.clone(), reason: OTHER_PROCESSOR.into(), lost: false });
                continue;
            }
        }
        if let Some(reason) = site.refusal.clone() {
            app.left_out.push(LeftOut { path: path.clone(), reason, lost: false });
            continue;
        }
        draft.step(&mut app, path, path, Action::Park, content, site);
        app.changes.new += content.entries;
        app.road = Road::Parked;
    }
    if app.road == Road::Parked {
        let names = names.join(", ");
        app.next_boot.push(format!("make dumps of them with its own database server, for {names}"));
        draft.apps.push(app);
    }
}
