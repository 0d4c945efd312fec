//! The plan for the folders of people: each goes where it was, and the running box brings in what it lacks of it.

use super::{Draft, Input};
use crate::model::archive::ArchivedApp;
use crate::model::finding::Verdict;
use crate::model::plan::{Action, AppPlan, Changes, LeftOut, Road, Step, VersionVerdict};
use crate::model::size::ByteSize;

/// Adds the folders to the draft; damaged ones only to say that they stay behind.
pub(super) fn add(input: &Input, archived: &ArchivedApp, is_spoiled: bool, draft: &mut Draft) {
    let mut app = AppPlan {
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
    };
    if is_spoiled {
        (app.road, app.reason) = (Road::Blocked, Some("it is damaged in the backup".to_owned()));
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
        let step = Step {
            id: u32::try_from(draft.steps.len()).unwrap_or(u32::MAX),
            app: app.name.clone(),
            source: path.clone(),
            destination: path.clone(),
            action: Action::Merge,
            area: site.area.clone(),
            carried: Vec::new(),
            content: content.digest,
            entries: content.entries,
            bytes: content.bytes,
        };
        app.bytes += step.bytes;
        if let Some(changes) = input.ground.changes.get(&(path.clone(), path.clone())) {
            app.changes.new += changes.new;
            app.changes.changed += changes.changed;
            app.changes.same += changes.same;
        }
        app.road = Road::Parked;
        draft.steps.push(step);
    }
    if app.road == Road::Parked {
        app.next_boot.push("bring in what it does not have yet".into());
    }
    draft.apps.push(app);
}
