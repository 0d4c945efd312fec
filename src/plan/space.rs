//! What a restore needs on each filesystem of the target, before the first byte is written (R18).

use super::{Draft, Input, damage};
use crate::model::app::AppId;
use crate::model::growth::Growth;
use crate::model::path::RelPath;
use crate::model::plan::{Action, AppPlan, Blocker, BlockerKind, SpaceNeed};
use crate::model::site::{AREA, Free};
use crate::model::size::ByteSize;
use std::collections::BTreeMap;

/// Size that an entry takes beside its content: its last block and its inode.
pub(super) const PER_ENTRY: u64 = 4096 + 512;
/// Room for the program, the journal and the units, on the filesystem with Lifeboat's own directory.
const OWN: u64 = 16 << 20;
/// Inodes for the same.
const OWN_INODES: u64 = 64;
/// Room that must stay free on every filesystem, so that the box still boots.
const RESERVE: u64 = 16 << 20;

/// The needs by Lifeboat's directory on each filesystem.
pub(super) fn needs(input: &Input, draft: &Draft) -> Vec<(RelPath, SpaceNeed)> {
    let mut sums: BTreeMap<RelPath, (u64, u64)> = BTreeMap::new();
    // The journal and the program are written whatever is restored.
    if let (false, Ok(own)) = (draft.steps.is_empty(), AREA.parse::<RelPath>()) {
        sums.insert(own, (OWN, OWN_INODES));
    }
    for step in draft.steps.iter().filter(|step| step.action != Action::SetAside) {
        let (bytes, entries) = sums.entry(step.area.clone()).or_insert((0, OWN_INODES));
        // A database server works on a copy of its files, and writes a dump.
        let times = if step.app == AppId::databases() { 3 } else { 1 };
        let size = step.bytes.0.saturating_add(step.entries.saturating_mul(PER_ENTRY));
        *bytes = bytes.saturating_add(size.saturating_mul(times));
        *entries = entries.saturating_add(step.entries.saturating_mul(times));
    }
    let need = |(area, (bytes, inodes)): (RelPath, (u64, u64))| {
        let free = input.ground.free.get(&area).copied().unwrap_or(Free { bytes: ByteSize(0), inodes: Some(0) });
        let filesystem = area.parent().map_or("/".to_owned(), |parent| format!("/{parent}"));
        let needed = ByteSize(bytes.saturating_add(RESERVE));
        (area, SpaceNeed { filesystem, needed, inodes, free: free.bytes, free_inodes: free.inodes })
    };
    sums.into_iter().map(need).collect()
}

/// What is missing on one filesystem.
struct Shortage<'a> {
    filesystem: &'a str,
    bytes: ByteSize,
    inodes: u64,
}

/// What is missing. Directories that see exactly the same free room share it: they are subvolumes of one filesystem.
fn shortages(needs: &[(RelPath, SpaceNeed)]) -> Vec<Shortage<'_>> {
    let mut shared: BTreeMap<(ByteSize, Option<u64>), (&str, ByteSize, u64)> = BTreeMap::new();
    for (_, need) in needs {
        let sum = shared.entry((need.free, need.free_inodes)).or_insert((&need.filesystem, ByteSize(RESERVE), 0));
        sum.1 += need.needed.less(ByteSize(RESERVE));
        sum.2 = sum.2.saturating_add(need.inodes);
    }
    let missing = shared.into_iter().map(|((free, free_inodes), (filesystem, needed, inodes))| Shortage {
        filesystem,
        bytes: needed.less(free),
        inodes: free_inodes.map_or(0, |free| inodes.saturating_sub(free)),
    });
    missing.filter(|shortage| shortage.bytes.0 > 0 || shortage.inodes > 0).collect()
}

/// Forbids a restore that does not fit, with a proposal that does.
pub(super) fn judge(input: &Input, draft: &mut Draft, needs: &[(RelPath, SpaceNeed)]) {
    let missing = shortages(needs);
    if missing.is_empty() {
        return;
    }
    let growth = input.growth.filter(|growth| shortages(&grown(needs, growth)).is_empty());
    let (advice, fitting) = proposal(input, draft, growth);
    for Shortage { filesystem, bytes, inodes } in missing {
        let what = if bytes.0 > 0 {
            format!("{bytes} more free space is needed on the filesystem of \"{filesystem}\"")
        } else {
            format!("{inodes} more free inodes are needed on the filesystem of \"{filesystem}\"")
        };
        let (kind, advice, fitting) = (BlockerKind::Space, advice.clone(), fitting.clone());
        draft.blockers.push(Blocker { kind, app: None, what, advice, fitting, growth: growth.cloned() });
    }
}

/// The needs as they would be beside what is free when the box's root filesystem has grown.
fn grown(needs: &[(RelPath, SpaceNeed)], growth: &Growth) -> Vec<(RelPath, SpaceNeed)> {
    let after = |need: &SpaceNeed| {
        let free = growth.grown(Free { bytes: need.free, inodes: need.free_inodes });
        free.map_or_else(
            || need.clone(),
            |free| SpaceNeed { free: free.bytes, free_inodes: free.inodes, ..need.clone() },
        )
    };
    needs.iter().map(|(area, need)| (area.clone(), after(need))).collect()
}

/// What to leave out: the smallest single app whose absence is enough, else all that do not fit beside the smaller
/// ones. Each proposal is tried: the plan without them is made and fits. In words, and the apps that fit.
fn proposal(input: &Input, draft: &Draft, growth: Option<&Growth>) -> (String, Option<Vec<AppId>>) {
    let is_restored = |app: &&AppPlan| app.road.restores() && !app.is_databases();
    let size = |app: &AppPlan| {
        let steps = draft.steps.iter().filter(|step| step.app == app.name);
        steps.fold(0u64, |sum, step| {
            sum.saturating_add(step.bytes.0).saturating_add(step.entries.saturating_mul(PER_ENTRY))
        })
    };
    let mut apps: Vec<(u64, AppId)> =
        draft.apps.iter().filter(is_restored).map(|app| (size(app), app.archived_as.clone())).collect();
    apps.sort();
    let apps: Vec<AppId> = apps.into_iter().map(|(_, name)| name).collect();
    let without = |left: &AppId| apps.iter().filter(|name| *name != left).cloned().collect::<Vec<AppId>>();
    let kept = apps.iter().map(without).find(|rest| fits(input, rest)).unwrap_or_else(|| {
        apps.iter().fold(Vec::new(), |mut kept, name| {
            kept.push(name.clone());
            if !fits(input, &kept) {
                kept.pop();
            }
            kept
        })
    });
    if growth.is_some() && kept.is_empty() {
        return ("make the box's filesystem as large as its disk with 'lifeboat grow'".to_owned(), None);
    }
    if kept.is_empty() {
        return ("make room on the box; there is too little for any of the apps".to_owned(), None);
    }
    let folders = AppId::folders();
    let left: Vec<&AppId> = apps.iter().filter(|name| !kept.contains(name)).collect();
    if left == [&folders] {
        return ("make room on the box, or leave 'folders' out of '--extras'".to_owned(), Some(kept));
    }
    // The folders are an extra, and not chosen among the apps.
    let names: Vec<&str> = kept.iter().filter(|name| **name != folders).map(AppId::as_str).collect();
    let left: Vec<String> = left.iter().map(|name| format!("'{name}'")).collect();
    let (left, names) = (left.join(", "), names.join(","));
    let advice = match growth {
        Some(_) => format!(
            "make the box's filesystem as large as its disk with 'lifeboat grow', or leave out {left}: --apps {names}"
        ),
        None => format!("make room on the box, or leave out {}: --apps {}", &left, &names),
    };
    (advice, Some(kept))
}

/// Whether a plan for these apps restores something and has room.
fn fits(input: &Input, apps: &[AppId]) -> bool {
    let fewer = Input { chosen: Some(apps), ..*input };
    let draft = damage::draft(&fewer);
    !draft.steps.is_empty() && shortages(&needs(&fewer, &draft)).is_empty()
}
