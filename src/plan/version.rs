//! How an app's version in the archive relates to the target's FreedomBox (R11).
//!
//! FreedomBox writes the app's version into a backup and records the version that it set up. Between two FreedomBox
//! versions whose app versions are known, the app's version is only known within bounds; an archive within the bounds
//! is not refused.

use crate::model::archive::ArchivedApp;
use crate::model::installation::Installation;
use crate::model::manifest::Manifest;
use crate::model::plan::VersionVerdict;

/// The verdict for one archived app; `manifest` is that of the app as it is called today.
pub(super) fn judge(archived: &ArchivedApp, manifest: &Manifest, target: &Installation) -> VersionVerdict {
    if !manifest.exists_at(&target.freedombox) {
        return VersionVerdict::NotInTarget;
    }
    let missing = manifest.missing_packages(&target.suite);
    if !missing.is_empty() && !is_installed(manifest, target) {
        return VersionVerdict::PackageGone { packages: missing.to_vec() };
    }
    let Some(archive) = archived.version else { return VersionVerdict::NotRecorded };
    let Some((least, most)) = bounds(manifest, target) else { return VersionVerdict::NotRecorded };
    if archived.name != manifest.id {
        // Renamed since: the counts of the two names have nothing to do with each other, but the target is later.
        return VersionVerdict::WillBeUpgraded { from: archive, to: least };
    }
    if let Some(most) = most.filter(|most| archive > *most) {
        let needs = manifest.freedombox_with_app_version(archive).map(|version| version.as_str().to_owned());
        return VersionVerdict::TargetTooOld { archive, target: if least > 0 { least } else { most }, needs };
    }
    if archive < least { VersionVerdict::WillBeUpgraded { from: archive, to: least } } else { VersionVerdict::Same }
}

/// The app's version on the target: at least (0 where nothing tells), and at most where that is known.
fn bounds(manifest: &Manifest, target: &Installation) -> Option<(i64, Option<i64>)> {
    let upstream = target.freedombox.upstream();
    let known = manifest.releases.iter().rev().find(|release| release.freedombox <= upstream);
    let next = manifest.releases.iter().find(|release| release.freedombox >= upstream);
    let set_up = target.set_up(&manifest.id);
    if known.is_none() && next.is_none() && set_up.is_none() {
        return None;
    }
    let least = known.map_or(0, |release| release.app_version).max(set_up.unwrap_or(0));
    Some((least, next.map(|release| release.app_version.max(least))))
}

/// Whether every package of the app is installed; of alternatives, one is enough.
pub(super) fn is_installed(manifest: &Manifest, target: &Installation) -> bool {
    let any = |names: &String| names.split('|').any(|name| target.packages.contains(name.trim()));
    manifest.packages_at(&target.freedombox).iter().all(any)
}
