//! What damage in the archive means for a plan.
//!
//! Damage forbids the restore unless the user accepted it, or it is confined to some apps and the user named none:
//! those stay behind then, and what they would share with others goes to the others.

use super::{Draft, Input};
use crate::model::app::AppId;
use crate::model::finding::Verdict;
use crate::model::plan::{AppPlan, BlockerKind, Road};
use std::collections::BTreeSet;

/// A draft of the apps that may be restored, with the blockers and warnings for those that are damaged.
pub(super) fn draft(input: &Input) -> Draft {
    let mut draft = Draft::of(input, &BTreeSet::new());
    let spoiled: BTreeSet<AppId> =
        draft.apps.iter().filter(|app| is_spoiled(input, app)).map(|app| app.archived_as.clone()).collect();
    if spoiled.is_empty() {
        warn_of_unproven(&mut draft);
        return draft;
    }
    if input.accept_damage {
        for name in spoiled {
            draft.warnings.push(format!("{name}: damaged; only what could be read is restored, as you chose"));
        }
    } else if input.chosen.is_none()
        && draft.apps.iter().any(|app| has_steps(app) && !spoiled.contains(&app.archived_as))
    {
        draft = Draft::of(input, &spoiled);
        warn_of_unproven(&mut draft);
    } else {
        for app in draft.apps.iter().filter(|app| spoiled.contains(&app.archived_as)) {
            let name = &app.archived_as;
            let what = match app.verdict {
                Verdict::Damaged => format!("'{name}' is damaged in the backup"),
                _ => format!("'{name}' may be damaged: the backup is, and nothing proves that this part is whole"),
            };
            let advice = "use another backup, choose other apps, or pass --accept-damage to restore what is left; 'lifeboat verify' \
                 names what is damaged";
            draft.blockers.push(crate::model::plan::Blocker {
                kind: BlockerKind::Damaged,
                app: Some(name.clone()),
                what,
                advice: advice.to_owned(),
                fitting: None,
                growth: None,
            });
        }
    }
    draft
}

fn warn_of_unproven(draft: &mut Draft) {
    if draft.apps.iter().any(|app| app.verdict == Verdict::NotVerifiable && has_steps(app)) {
        let why = "the backup has no checksum that proves its content; it could be read to its end";
        draft.warnings.push(why.into());
    }
}

/// Whether the app's data is damaged or, in an archive that is damaged as a whole, may be. An app that is not restored
/// for another reason is not judged, and neither is one that has no data anyway.
fn is_spoiled(input: &Input, app: &AppPlan) -> bool {
    match app.verdict {
        Verdict::Intact => false,
        Verdict::Damaged => app.road != Road::Blocked || app.reason.as_deref() == Some(UNREADABLE),
        Verdict::NotVerifiable => has_steps(app) && input.report.damages_of(input.summary.id.as_str()).next().is_some(),
    }
}

/// Why an app is not restored that is damaged.
pub(super) const SPOILED: &str = "it is damaged in the backup";
/// Why an app is not restored of which nothing could be read.
pub(super) const UNREADABLE: &str = "it is damaged in the backup, and nothing of it could be read";

fn has_steps(app: &AppPlan) -> bool {
    matches!(app.road, Road::InPlace | Road::Parked)
}
