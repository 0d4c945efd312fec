//! What a restore needs on each filesystem of the target, before the first byte is written (R18).

use super::{Draft, Input};
use crate::model::path::RelPath;
use crate::model::plan::{Action, BlockerKind, SpaceNeed};
use crate::model::site::{AREA, Free};
use crate::model::size::ByteSize;
use std::collections::BTreeMap;

/// Size that an entry takes beside its content: its last block and its inode.
const PER_ENTRY: u64 = 4096 + 512;
/// Room for the program, the journal and the units, on the filesystem with Lifeboat's own directory.
const OWN: u64 = 16 << 20;
/// Room that must stay free on every filesystem, so that the box still boots.
const RESERVE: u64 = 16 << 20;

/// The needs by filesystem; adds a blocker where there is too little.
pub(super) fn needs(input: &Input, draft: &Draft) -> Vec<SpaceNeed> {
    let mut sums: BTreeMap<&RelPath, (u64, u64)> = BTreeMap::new();
    for step in draft.steps.iter().filter(|step| step.action != Action::SetAside) {
        let (bytes, entries) = sums.entry(&step.area).or_default();
        *bytes = bytes.saturating_add(step.bytes.0).saturating_add(step.entries.saturating_mul(PER_ENTRY));
        *entries = entries.saturating_add(step.entries);
    }
    let need = |(area, (bytes, entries)): (&RelPath, (u64, u64))| {
        let own = if area.as_bytes() == AREA.as_bytes() { OWN } else { 0 };
        let free = input.ground.free.get(area).copied().unwrap_or(Free { bytes: ByteSize(0), inodes: Some(0) });
        SpaceNeed {
            filesystem: area.to_string(),
            needed: ByteSize(bytes.saturating_add(own).saturating_add(RESERVE)),
            inodes: entries.saturating_add(64),
            free: free.bytes,
            free_inodes: free.inodes,
        }
    };
    sums.into_iter().map(need).collect()
}

impl Draft {
    /// Forbids a restore that does not fit, with a proposal that does.
    pub(super) fn judge_space(&mut self, needs: &[SpaceNeed]) {
        for need in needs {
            let bytes = need.needed.less(need.free);
            let inodes = need.free_inodes.map_or(0, |free| need.inodes.saturating_sub(free));
            if bytes.0 == 0 && inodes == 0 {
                continue;
            }
            let what = if bytes.0 > 0 {
                format!("{} more free space is needed on the filesystem of \"{}\"", bytes, need.filesystem)
            } else {
                format!("{inodes} more free inodes are needed on the filesystem of \"{}\"", need.filesystem)
            };
            let advice = self.proposal(need, bytes, inodes);
            self.block(BlockerKind::Space, None, what, &advice);
        }
    }

    /// The smallest single app whose absence makes the rest fit.
    fn proposal(&self, need: &SpaceNeed, bytes: ByteSize, inodes: u64) -> String {
        let size = |app: &crate::model::plan::AppPlan| {
            let steps =
                self.steps.iter().filter(|step| step.app == app.name && step.area.to_string() == need.filesystem);
            steps.fold((0u64, 0u64), |(bytes, entries), step| {
                (bytes.saturating_add(step.bytes.0 + step.entries.saturating_mul(PER_ENTRY)), entries + step.entries)
            })
        };
        let enough = |(b, e): &(u64, u64)| *b >= bytes.0 && *e >= inodes;
        let fits = self.apps.iter().map(|app| (size(app), app)).filter(|(size, _)| enough(size));
        match fits.min_by_key(|(size, _)| *size) {
            Some((_, app)) => format!("make room on the box, or leave out '{}' with --apps", app.name),
            None => "make room on the box, or choose fewer apps with --apps".to_owned(),
        }
    }
}
