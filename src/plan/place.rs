//! Where the paths of an archived app go on the target, and which of them go nowhere.

use super::{Draft, Input, Taken, databases};
use crate::model::archive::ArchivedApp;
use crate::model::finding::Verdict;
use crate::model::manifest::{self, Manifest};
use crate::model::path::RelPath;
use crate::model::plan::{AppPlan, LeftOut, VersionVerdict};
use crate::model::site::{LiveKind, Site};
use crate::verify::{RootContent, RootKind};

/// Pairs of a path in the archive and its destination. What cannot go anywhere is left out with its reason. An app is
/// placed whole or not at all: where the target refuses one place, the error says why.
pub(super) fn place(
    input: &Input,
    archived: &ArchivedApp,
    today: &Manifest,
    draft: &mut Draft,
    app: &mut AppPlan,
) -> Result<Vec<(RelPath, RelPath)>, String> {
    let sources = sources(input, archived, today, draft, app);
    let placed = today.placements(&sources, &input.installation.version_of_paths(today));
    name_the_rest(input, &sources, &placed, app);
    let other_release = matches!(app.version, VersionVerdict::WillBeUpgraded { .. } | VersionVerdict::NotRecorded);
    let mut kept = Vec::new();
    for (from, to) in placed {
        let Some(content) = held(input, &from) else { continue };
        if other_release && today.is_config_of_release(&to) {
            leave(app, &from, "it may be configuration of another Debian release; the box keeps its own", false);
            continue;
        }
        if let Some(taken) = draft.taken.iter().find(|taken| overlap(&taken.destination, &to)) {
            let (reason, lost) = match to.moved(&taken.destination, &taken.source) {
                Some(same) if same == from => (format!("it is restored with '{}'", taken.app), false),
                _ => (format!("'{}' has \"/{}\" already", taken.app, taken.destination), true),
            };
            leave(app, &from, &reason, lost);
            continue;
        }
        let site = input.ground.sites.get(&to).ok_or_else(|| format!("\"/{to}\" could not be looked at on the box"))?;
        if let Some(why) = &site.refusal {
            return Err(why.clone());
        }
        kept.push((from.clone(), to.clone()));
        draft.warnings.extend(surprises(input, app, content, &to, site));
    }
    for (from, to) in &kept {
        draft.taken.push(Taken { source: from.clone(), destination: to.clone(), app: today.id.clone() });
    }
    Ok(kept)
}

/// The archived paths that may be restored and that the archive has something of.
fn sources(
    input: &Input,
    archived: &ArchivedApp,
    today: &Manifest,
    draft: &mut Draft,
    app: &mut AppPlan,
) -> Vec<RelPath> {
    let known = manifest::find(&archived.name).unwrap_or(today);
    let mut sources = Vec::new();
    for path in &archived.paths {
        let content = held(input, path);
        if !today.ever_had(path) && !known.ever_had(path) {
            let reason = "it does not belong to this app in any FreedomBox version, so it is not restored";
            leave(app, path, reason, content.is_some());
            draft
                .warnings
                .push(format!("{}: \"/{path}\" is not a path of this app and is not restored", archived.name));
        } else if content.is_some_and(|content| content.kind == Some(RootKind::Symlink)) && is_directory(today, path) {
            leave_link(input, archived, today, draft, app, path);
        } else if app.recovers && databases::is_worthless(input, archived, today, path) {
            leave(app, path, "what its database held comes from the files of its old server", false);
        } else if content.is_some() {
            sources.push(path.clone());
        } else if app.verdict == Verdict::Damaged {
            leave(app, path, "nothing of it could be read from the backup", true);
        } else {
            leave(app, path, "it is not in the backup; what is on the box stays as it is", false);
            draft.warnings.extend(missed(today, path));
        }
    }
    sources
}

/// Says it where FreedomBox may have looked for data in vain, because its Debian release keeps that elsewhere already.
fn missed(today: &Manifest, path: &RelPath) -> Option<String> {
    let moved = today.renames.iter().any(|rename| rename.from.is_within(path));
    let (suite, version) = today.ahead.iter().last().filter(|_| moved)?;
    Some(format!(
        "{}: the backup has nothing of \"/{path}\". On Debian {suite} FreedomBox older than {version} backs up none of that; \
         a backup of the old system's own disk has it",
        today.id
    ))
}

/// A link where a directory should be: either its data is in the backup under its other name, or not at all.
fn leave_link(
    input: &Input,
    archived: &ArchivedApp,
    today: &Manifest,
    draft: &mut Draft,
    app: &mut AppPlan,
    path: &RelPath,
) {
    let other = today.renames.iter().filter(|rename| rename.from == *path).map(|rename| &rename.to);
    match other.clone().find(|to| archived.paths.contains(to) && held(input, to).is_some()) {
        Some(to) => leave(app, path, &format!("it is a link; its data is in \"/{to}\", which is restored"), false),
        None => {
            leave(app, path, "it is a link in the backup, and what it points to was not backed up", true);
            let name = &archived.name;
            draft.warnings.push(format!("{name}: \"/{path}\" is only a link in the backup; its data is not there"));
        }
    }
}

/// Names what has no place: whole paths, and paths of which only a part has one.
fn name_the_rest(input: &Input, sources: &[RelPath], placed: &[(RelPath, RelPath)], app: &mut AppPlan) {
    let freedombox = &input.installation.freedombox;
    for path in sources.iter().filter(|path| !placed.iter().any(|(from, _)| path.is_within(from))) {
        let parts = placed.iter().filter(|(from, _)| from.is_within(path)).filter_map(|(from, _)| held(input, from));
        let parts: Vec<&RootContent> = parts.collect();
        let files: u64 = parts.iter().map(|part| part.files).sum();
        if parts.is_empty() {
            leave(app, path, &format!("FreedomBox {freedombox} has no place for it"), true);
        } else if held(input, path).is_some_and(|whole| whole.files > files) {
            let names: Vec<String> = parts.iter().map(|part| format!("\"/{}\"", part.path)).collect();
            let names = names.join(" and ");
            leave(
                app,
                path,
                &format!("only {names} of it is restored; FreedomBox {freedombox} has no place for the rest"),
                true,
            );
        }
    }
}

/// What the user would not expect to happen at a destination.
fn surprises(input: &Input, app: &AppPlan, content: &RootContent, to: &RelPath, site: &Site) -> Option<String> {
    let removed = input.ground.changes.get(&(content.path.clone(), to.clone())).map_or(0, |changes| changes.removed);
    let name = &app.name;
    match (content.kind, site.live) {
        (Some(RootKind::Symlink), Some(LiveKind::Link)) => None,
        (_, Some(LiveKind::Link)) => Some(format!(
            "{name}: \"/{to}\" is a link on the box; the restored data takes the link's place, and what it points to \
             stays as it is"
        )),
        (Some(RootKind::Directory) | None, Some(LiveKind::Other)) => {
            Some(format!("{name}: \"/{to}\" is a file on the box and a directory in the backup, which takes its place"))
        }
        (Some(RootKind::Directory), Some(LiveKind::Directory)) if content.entries == 1 && removed > 0 => {
            Some(format!("{name}: \"/{to}\" is empty in the backup; {removed} entries on the box are moved away"))
        }
        (Some(kind), Some(LiveKind::Directory)) if kind != RootKind::Directory => {
            Some(format!("{name}: \"/{to}\" is a directory on the box and a file in the backup, which takes its place"))
        }
        _ => None,
    }
}

fn leave(app: &mut AppPlan, path: &RelPath, reason: &str, lost: bool) {
    app.left_out.push(LeftOut { path: path.clone(), reason: reason.to_owned(), lost });
}

/// What the archive has at a path; `None` when it has nothing.
fn held<'a>(input: &Input<'a>, path: &RelPath) -> Option<&'a RootContent> {
    input.contents.root(path).filter(|content| content.entries > 0)
}

fn overlap(one: &RelPath, other: &RelPath) -> bool {
    one.is_within(other) || other.is_within(one)
}

/// Whether any version of the app, under this name or an earlier one, backed the path up as a directory.
fn is_directory(app: &Manifest, path: &RelPath) -> bool {
    app.backups.iter().any(|backup| backup.directories.iter().any(|place| place.path == *path))
        || app.renamed_from.as_ref().and_then(manifest::find).is_some_and(|earlier| is_directory(earlier, path))
}
