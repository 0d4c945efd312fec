//! The plan for the folders of people: each goes where it was, and the running box brings in what it lacks of it.

use super::{Draft, Input, begun, damage};
use crate::model::archive::ArchivedApp;
use crate::model::plan::{Action, LeftOut, Road};

/// Adds the folders to the draft; damaged ones only to say that they stay behind.
pub(super) fn add(input: &Input, archived: &ArchivedApp, is_spoiled: bool, draft: &mut Draft) {
    let mut app = begun(input, archived);
    if is_spoiled {
        (app.road, app.reason) = (Road::Blocked, Some(damage::SPOILED.to_owned()));
        return draft.apps.push(app);
    }
    for path in &archived.paths {
        let Some(content) = input.contents.root(path).filter(|content| content.entries > 0) else { continue };
        let site = input.ground.sites.get(path);
        let refusal = site.map(|site| site.refusal.clone());
        let (Some(site), Some(None)) = (site, &refusal) else {
            let reason = refusal.flatten().unwrap_or_else(|| format!("\"/{path}\" could not be looked at on the box"));
            app.left_out.push(LeftOut { path: path.clone(), reason, lost: true });
            continue;
        };
        draft.step(&mut app, path, path, Action::Merge, content, site);
        if let Some(changes) = input.ground.changes.get(&(path.clone(), path.clone())) {
            app.changes.new += changes.new;
            app.changes.changed += changes.changed;
            app.changes.same += changes.same;
        }
        app.road = Road::Parked;
    }
    if app.road == Road::Parked {
        app.next_boot.push("bring in what it does not have yet".into());
    }
    draft.apps.push(app);
}
