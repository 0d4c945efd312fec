//! The restore plan: everything that a restore will do, with nothing left to decide.
//!
//! A plan is immutable. Its [`PlanId`] is the SHA-256 of its canonical JSON without what holds for the moment only
//! (free space, an earlier restore that is not finished), so the same archive, target and choices always give the same
//! id, and any difference gives another one.

use super::app::AppId;
use super::archive::ArchiveId;
use super::digest::Sha256Digest;
use super::ending::Ending;
use super::extra::{Extra, Extras};
use super::finding::Verdict;
use super::growth::Growth;
use super::path::RelPath;
use super::size::ByteSize;
use serde::{Deserialize, Deserializer, Serialize, de::Error};
use std::fmt;

/// Names a plan: the first 16 hexadecimal digits of the SHA-256 of its canonical JSON.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct PlanId(String);

/// Text that cannot be a plan id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a plan id has 16 hexadecimal digits")]
pub struct BadPlanId;

impl PlanId {
    /// The id of a plan with this digest.
    pub fn of(digest: Sha256Digest) -> Self {
        let mut text = digest.to_string();
        text.truncate(16);
        Self(text)
    }

    /// The id as text, safe as a file name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for PlanId {
    type Err = BadPlanId;
    fn from_str(text: &str) -> Result<Self, BadPlanId> {
        let fits = text.len() == 16 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if fits { Ok(Self(text.to_owned())) } else { Err(BadPlanId) }
    }
}

impl fmt::Display for PlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for PlanId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// The whole plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestorePlan {
    /// Form of this file; 1.
    pub format: u32,
    /// The plan's name.
    pub id: PlanId,
    /// Which archive is restored.
    pub archive: ArchiveId,
    /// When that backup was made, RFC 3339 UTC.
    pub archive_time: Option<String>,
    /// Which box it goes onto.
    pub target: TargetSummary,
    /// One plan per chosen app, in the archive's order.
    pub apps: Vec<AppPlan>,
    /// What the executor does, in this order.
    pub steps: Vec<Step>,
    /// Why the plan cannot be carried out; a plan with blockers is never executed.
    pub blockers: Vec<Blocker>,
    /// What the user should know before consenting.
    pub warnings: Vec<String>,
    /// Owners of restored files whose names the box does not know, by name.
    #[serde(default)]
    pub unknown_owners: Vec<UnknownOwner>,
    /// Names of people whose data is restored and whose accounts are not, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub people: Vec<String>,
    /// What is not in any FreedomBox backup and has to be done by hand.
    pub not_included: Vec<String>,
    /// What is brought over besides the apps, because the user asked for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extras: Vec<ExtraPlan>,
    /// What the source holds besides apps and nobody asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub offered: Vec<ExtraPlan>,
    /// What the restore needs on each filesystem.
    pub space: Vec<SpaceNeed>,
}

impl RestorePlan {
    /// How a restore ends that did all of it: never as "all done" where something that the backup holds is not brought
    /// back, or not whole.
    pub fn ending(&self) -> Ending {
        let is_lost = |app: &AppPlan| {
            app.road == Road::Blocked || app.is_kept_only() || app.left_out.iter().any(|left| left.lost)
        };
        if self.apps.iter().any(|app| app.verdict == Verdict::Damaged) {
            Ending::Partial
        } else if self.apps.iter().any(is_lost) {
            Ending::DoneWithLosses
        } else {
            Ending::Done
        }
    }
}

/// A user or group that owns restored files and that the box does not have; root gets them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnknownOwner {
    /// The name, escaped as [`bytes::escape`](super::bytes::escape) does.
    pub name: String,
    /// The apps whose data has such files, in the plan's order.
    pub apps: Vec<AppId>,
}

/// The box that a plan is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetSummary {
    /// Host name.
    pub hostname: String,
    /// FreedomBox version.
    pub freedombox: String,
    /// Debian release.
    pub suite: String,
    /// Debian architecture.
    pub architecture: String,
    /// Root filesystem's UUID where it is known.
    pub uuid: Option<String>,
}

/// What happens to one app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppPlan {
    /// The app's id on the target.
    pub name: AppId,
    /// The app's id in the archive, where it was renamed since.
    pub archived_as: AppId,
    /// Which way it is restored.
    pub road: Road,
    /// Why it is not restored; `None` on the other roads.
    #[serde(default)]
    pub reason: Option<String>,
    /// How its version in the archive relates to the target's.
    pub version: VersionVerdict,
    /// What verification said.
    pub verdict: Verdict,
    /// Preview of the change, in entries.
    pub changes: Changes,
    /// Bytes of content to write.
    pub bytes: ByteSize,
    /// Services that the next boot stops and starts around the restore.
    pub services: Vec<String>,
    /// What the next normal boot does for it, in words.
    pub next_boot: Vec<String>,
    /// Whether its database comes from its server's own files, which are parked beside it: no newer dump tells what it
    /// held.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub recovers: bool,
    /// Paths in the archive's manifest that are not restored, with the reason.
    pub left_out: Vec<LeftOut>,
}

impl AppPlan {
    /// Whether this is no app, but the folders of people.
    pub fn is_folders(&self) -> bool {
        self.name == AppId::folders()
    }

    /// Whether this is no app, but the own files of database servers, which the apps that need them are restored from.
    pub fn is_databases(&self) -> bool {
        self.name == AppId::databases()
    }

    /// Whether its data is only kept on the box, because the app cannot be installed there.
    pub fn is_kept_only(&self) -> bool {
        self.road == Road::Parked && matches!(self.version, VersionVerdict::PackageGone { .. })
    }

    /// Whether the next normal boot has something to do for it.
    pub fn waits_for_boot(&self) -> bool {
        match self.road {
            // They are there for apps, which wait themselves.
            Road::Parked => !self.is_databases(),
            Road::InPlace => !self.next_boot.is_empty(),
            Road::NoData | Road::Blocked => false,
        }
    }
}

/// One extra of the source, by the names in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtraPlan {
    /// Which.
    pub extra: Extra,
    /// The names in it.
    pub names: Vec<String>,
}

impl ExtraPlan {
    /// All that a source holds, by kinds.
    pub fn all(held: &Extras) -> impl Iterator<Item = ExtraPlan> + '_ {
        let all = Extra::ALL.into_iter().map(|extra| ExtraPlan { extra, names: held.names(extra) });
        all.filter(|plan| !plan.names.is_empty())
    }

    /// Whether it gives anything to a box of that name: one that is called alike needs no name.
    pub fn is_news_to(&self, hostname: &str) -> bool {
        self.extra != Extra::Names || self.names != [hostname]
    }
}

/// The two roads of a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Road {
    /// Exchanged now, finished at the next boot where hooks are needed.
    InPlace,
    /// Parked on the target's disk; the next boot installs the app first and then moves the data in.
    Parked,
    /// Nothing to restore: the app has no data in this archive.
    NoData,
    /// Is not restored; the app's reason says why.
    Blocked,
}

impl Road {
    /// Whether data of the app is restored on it, now or when the box runs.
    pub fn restores(self) -> bool {
        matches!(self, Road::InPlace | Road::Parked)
    }
}

/// The verdict on versions (R11).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum VersionVerdict {
    /// Same app version on both sides.
    Same,
    /// The target's app is newer and will upgrade the data.
    WillBeUpgraded {
        /// App version in the archive.
        from: i64,
        /// App version of the target's FreedomBox.
        to: i64,
    },
    /// The archive's app is newer than the target's FreedomBox.
    TargetTooOld {
        /// App version in the archive.
        archive: i64,
        /// App version of the target's FreedomBox.
        target: i64,
        /// The oldest FreedomBox known to have the archive's app version.
        needs: Option<String>,
    },
    /// No FreedomBox known to us has this app.
    UnknownApp,
    /// The target's FreedomBox does not have this app (any more, or yet).
    NotInTarget,
    /// The app's packages are gone from the target's Debian release.
    PackageGone {
        /// The missing packages.
        packages: Vec<String>,
    },
    /// The archive does not record versions.
    NotRecorded,
}

/// Preview in entries: what the exchange changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// In the backup, not on the target.
    pub new: u64,
    /// In both, different.
    pub changed: u64,
    /// In both, equal in content and metadata.
    pub same: u64,
    /// On the target only; they move away with the old data and come back with `undo`.
    pub removed: u64,
}

/// A path that stays in the backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// The path.
    pub path: RelPath,
    /// Why.
    pub reason: String,
    /// Whether data of the backup stays behind with it that nothing on the box stands in for.
    #[serde(default)]
    pub lost: bool,
}

/// One thing the executor does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Position in the plan, from 0; names the step in the journal.
    pub id: u32,
    /// The app it belongs to.
    pub app: AppId,
    /// Where the data lies in the archive.
    pub source: RelPath,
    /// Where it goes on the target.
    pub destination: RelPath,
    /// What is done; the inverse is the same exchange again, or the move back.
    pub action: Action,
    /// Lifeboat's directory on the filesystem of the destination.
    pub area: RelPath,
    /// Drop-in files of the target below the destination that are carried over.
    pub carried: Vec<RelPath>,
    /// What verification saw below `source`, after leaving out drop-ins: the restore must see the same.
    pub content: super::digest::TreeDigest,
    /// Entries to write.
    pub entries: u64,
    /// Bytes to write.
    pub bytes: ByteSize,
}

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Stage beside it, then exchange the live path with the staged one.
    Exchange,
    /// Stage below the app's parked directory; the next boot moves it in.
    Park,
    /// Stage below the parked directory of the folders; the running box brings in what it does not have.
    Merge,
    /// Move a file away that belongs to a replaced file and is not in the backup.
    SetAside,
}

impl Step {
    /// Whether the data waits for the running box.
    pub fn is_parked(&self) -> bool {
        matches!(self.action, Action::Park | Action::Merge)
    }

    /// Where this restore puts the data: the destination, or the app's parked directory.
    pub fn place(&self) -> RelPath {
        match self.action {
            Action::Exchange | Action::SetAside => self.destination.clone(),
            Action::Park | Action::Merge => parked(&self.area, &self.app, &self.destination),
        }
    }
}

/// Where the data of `app` waits for the next boot: `<area>/parked/<app>/<destination>`.
pub fn parked(area: &RelPath, app: &AppId, destination: &RelPath) -> RelPath {
    let mut raw = format!("parked/{app}/").into_bytes();
    raw.extend_from_slice(destination.as_bytes());
    // Joining valid components gives a valid path; only an absurd length could not, and then nothing is moved.
    area.join(&raw).unwrap_or_else(|_| area.clone())
}

/// Something that forbids the restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocker {
    /// Which class it is of; decides the exit code.
    pub kind: BlockerKind,
    /// The app it is about, or `None` for the whole plan.
    pub app: Option<AppId>,
    /// What is the matter.
    pub what: String,
    /// What the user can do about it.
    pub advice: String,
    /// Where room is short: apps of the archive that would fit without the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fitting: Option<Vec<AppId>>,
    /// Where room is short: the growth of the box's root filesystem after which everything fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub growth: Option<Growth>,
}

/// Classes of blockers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BlockerKind {
    /// The archive or an app in it is damaged.
    Damaged,
    /// The target's FreedomBox is too old for the archive.
    Version,
    /// Not enough room.
    Space,
    /// The target must not be written to.
    Target,
    /// The archive holds paths that this app may not own.
    Containment,
    /// An earlier restore has to be finished first.
    Unfinished,
    /// Nothing in the archive can be restored.
    Nothing,
}

/// Room needed on one filesystem of the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpaceNeed {
    /// A directory on that filesystem, for people.
    pub filesystem: String,
    /// Bytes that staging writes, rounded up to blocks, plus a reserve.
    pub needed: ByteSize,
    /// Inodes that staging creates.
    pub inodes: u64,
    /// Bytes free at the moment; not part of the plan's id.
    pub free: ByteSize,
    /// Inodes free at the moment; `None` where the filesystem has no such limit. Not part of the plan's id.
    pub free_inodes: Option<u64>,
}
