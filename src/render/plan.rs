//! The text view of a plan: what happens to each app, most important first; what forbids it, or how to go on, last.

use super::View;
use super::text::{self, sentence, time, wrap};
use crate::model::app::AppId;
use crate::model::extra::Extra;
use crate::model::path::RelPath;
use crate::model::plan::{Action, AppPlan, ExtraPlan, PlanId, RestorePlan, Road, VersionVerdict};
use crate::model::size::ByteSize;
use crate::t;
use crate::words::translated;
use serde::{Serialize, Serializer};
use std::fmt::Write as _;

/// A plan with the command that carries it out.
#[derive(Debug)]
pub struct Proposal<'a> {
    /// The plan; it alone is the JSON view.
    pub plan: &'a RestorePlan,
    /// Program, subcommand and arguments, without the consent.
    pub command: Vec<String>,
}

impl Serialize for Proposal<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.plan.serialize(serializer)
    }
}

impl View for Proposal<'_> {
    fn text(&self) -> String {
        let mut text = self.plan.text();
        if self.plan.blockers.is_empty() {
            text += &format!("\n{}\n", t!("To carry out this plan, type:"));
            text += &command_lines(&self.command, &self.plan.id);
        }
        text
    }
}

/// The command for a shell, an option and its value never on different lines.
fn command_lines(command: &[String], id: &PlanId) -> String {
    let mut parts: Vec<String> = Vec::new();
    for word in command {
        let quoted = quote(word);
        match parts.last_mut() {
            Some(last) if last.starts_with("--") && !last.contains(' ') && !word.starts_with("--") => {
                let _ = write!(last, " {quoted}");
            }
            _ => parts.push(quoted),
        }
    }
    parts.push(format!("--consent {id}"));
    let mut text = String::new();
    let mut line = String::from(" ");
    for part in parts {
        if line.trim() != "" && line.chars().count() + part.chars().count() + 3 > 80 {
            let _ = writeln!(text, "{line} \\");
            line = String::from("   ");
        }
        let _ = write!(line, " {part}");
    }
    let _ = writeln!(text, "{line}");
    text
}

/// A word as a POSIX shell takes it.
fn quote(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:,@%+=".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

impl View for RestorePlan {
    fn text(&self) -> String {
        let list: Vec<_> = self.not_included.iter().map(|what| translated(what)).collect();
        let not_included = t!("Not in any backup, to be done by hand: {list}.", list = list.join("; "));
        without_exclusions(self) + &wrap("", &not_included) + &blockers(self)
    }
}

/// The plan without what no backup holds, for a dialogue that tells this on a screen of its own.
pub fn without_exclusions(plan: &RestorePlan) -> String {
    let mut text = wrap("", &t!("Plan {id}", id = plan.id));
    text +=
        &wrap("  ", &t!("Backup: {name}, made {time}", name = plan.archive, time = time(plan.archive_time.as_deref())));
    let target = &plan.target;
    let box_ = format!(
        "'{}', FreedomBox {}, Debian {} ({})",
        target.hostname, target.freedombox, target.suite, target.architecture
    );
    text += &wrap("  ", &t!("Box: {what}", what = box_));
    text += &wrap("", &t!("Nothing has been changed so far."));
    // A plan that cannot be carried out must not read as if it were.
    let is_open = plan.blockers.is_empty();
    let title = |is: String, would_be: String| if is_open { is } else { would_be };
    let is_on = |road: Road| move |app: &AppPlan| app.road == road && !app.is_kept_only();
    text += &group(plan, &is_on(Road::InPlace), &title(t!("RESTORED NOW"), t!("WOULD BE RESTORED NOW")));
    let waiting = title(
        t!("BROUGHT ONTO THE BOX NOW, TO BE FINISHED WHEN IT RUNS"),
        t!("WOULD BE BROUGHT ONTO THE BOX NOW, TO BE FINISHED WHEN IT RUNS"),
    );
    text += &group(plan, &is_on(Road::Parked), &waiting);
    text += &group(
        plan,
        &AppPlan::is_kept_only,
        &title(
            t!("KEPT ON THE BOX, BUT THE APP CANNOT BE INSTALLED THERE"),
            t!("WOULD BE KEPT ON THE BOX, BUT THE APP CANNOT BE INSTALLED THERE"),
        ),
    );
    text += &group(plan, &is_on(Road::Blocked), &t!("NOT RESTORED"));
    text += &nothing_to_do(plan);
    text.push('\n');
    if !plan.steps.is_empty() {
        let kept = t!(
            "What is replaced or moved away stays on the box: 'lifeboat undo' puts it back, until you run 'lifeboat commit'."
        );
        text += &wrap("", &kept);
    }
    for warning in &plan.warnings {
        text += &wrap("", &t!("Warning: {what}.", what = translated(warning)));
    }
    text += &unknown_owners(plan);
    text += &people(plan);
    for need in &plan.space {
        let place = need.filesystem.as_str();
        text += &wrap(
            "",
            &t!(
                "Space on the filesystem of {place}: {needed} needed, {free} free.",
                place = place,
                needed = need.needed,
                free = need.free
            ),
        );
    }
    text + &extras(plan)
}

/// What comes along besides apps, and what could.
fn extras(plan: &RestorePlan) -> String {
    let mut text = String::new();
    for ExtraPlan { extra, names } in &plan.extras {
        let names = if *extra == Extra::Folders { folders(plan) } else { names.join(", ") };
        text += &wrap("", &told(*extra, &names));
    }
    for ExtraPlan { extra, names } in &plan.offered {
        let offer = t!(
            "The old box also has {what} ({names}): add '--extras {extra}' to bring them over.",
            what = translated(extra.title()),
            names = names.join(", "),
            extra = extra
        );
        text += &wrap("", &offer);
    }
    text
}

/// The folders that come, each with its size.
fn folders(plan: &RestorePlan) -> String {
    let steps = plan.steps.iter().filter(|step| step.action == Action::Merge);
    steps.map(|step| format!("/{} ({})", step.destination, step.bytes)).collect::<Vec<_>>().join(", ")
}

/// What becomes of an extra, and what that means for its owner.
fn told(extra: Extra, names: &str) -> String {
    match extra {
        Extra::Accounts => t!(
            "User accounts that the box's next start brings over, with their passwords, groups and SSH keys: {names}. Whoever is on the box already stays as he is, with the password of this box. 'undo' does not remove accounts.",
            names = names
        ),
        Extra::Names => t!(
            "Host name and domains that the box's next start gives to this box: {names}. In the home network it is then found by the old name, and no longer by its present one. 'undo' does not change them back.",
            names = names
        ),
        Extra::Networks => t!(
            "Network connections that the box's next start brings over, with their passwords: {names}. Wi-Fi networks that the box joins may connect by themselves; all others come switched off, so that they cannot cut the box off, until you activate them in FreedomBox's Networks. 'undo' does not remove them.",
            names = names
        ),
        Extra::BackupLocations => t!(
            "Backup locations that the running box brings over as soon as no app waits any more, with their passphrases and schedules: {names}. From then on FreedomBox makes backups there again and deletes old ones, as the old box did. 'undo' does not remove them.",
            names = names
        ),
        Extra::Folders => t!(
            "Folders whose files the running box brings in, each as soon as its owner has an account there: {names}. Only what is missing comes. What is there stays as it is; where it is something else under the same name, the old one comes beside it, as NAME.from-old-box. 'undo' takes back what nobody changed since.",
            names = names
        ),
    }
}

fn group(plan: &RestorePlan, belongs: &dyn Fn(&AppPlan) -> bool, title: &str) -> String {
    let apps: Vec<&AppPlan> = plan.apps.iter().filter(|app| belongs(app)).collect();
    if apps.is_empty() {
        return String::new();
    }
    let bytes: ByteSize = apps.iter().map(|app| app.bytes).sum();
    let size = if apps.iter().all(|app| app.road == Road::Blocked) { String::new() } else { format!(", {bytes}") };
    let mut text = format!("\n{title}: {}{size}\n", text::apps(apps.len()));
    for app in apps {
        text += &app_lines(app);
    }
    text
}

fn nothing_to_do(plan: &RestorePlan) -> String {
    let apps: Vec<&AppPlan> = plan.apps.iter().filter(|app| app.road == Road::NoData).collect();
    if apps.is_empty() {
        return String::new();
    }
    let names: Vec<&str> = apps.iter().map(|app| app.archived_as.as_str()).collect();
    let text = format!("\n{}\n", t!("NOTHING TO DO: {apps} without data in the backup", apps = text::apps(apps.len())));
    text + &wrap("  ", &names.join(", "))
}

fn app_lines(app: &AppPlan) -> String {
    let name = if app.name == app.archived_as {
        app.name.to_string()
    } else {
        t!("{app} (in the backup: {other})", app = app.name, other = app.archived_as)
    };
    let mut text = match (&app.reason, app.road) {
        (Some(reason), _) => wrap("  ", &format!("{name}: {}", translated(reason))),
        (None, Road::Blocked) => wrap("  ", &name),
        (None, Road::Parked) if app.is_folders() => {
            let counts = t!(
                "{new} missing, {changed} there with other content or owner, {same} there already; {bytes} to write",
                new = app.changes.new,
                changed = app.changes.changed,
                same = app.changes.same,
                bytes = app.bytes
            );
            wrap("  ", &format!("{name}: {counts}"))
        }
        (None, Road::Parked) if app.is_databases() => {
            let files = t!("files of the old database server; {bytes} to write", bytes = app.bytes);
            wrap("  ", &format!("{name}: {files}"))
        }
        (None, _) => {
            let changes = &app.changes;
            let counts = t!(
                "{new} new, {changed} changed, {same} same, {removed} moved away; {bytes} to write",
                new = changes.new,
                changed = changes.changed,
                same = changes.same,
                removed = changes.removed,
                bytes = app.bytes
            );
            wrap("  ", &format!("{name}: {counts}"))
        }
    };
    if app.road != Road::Blocked {
        if let Some(version) = version(app) {
            text += &wrap("    ", &version);
        }
        if !app.next_boot.is_empty() {
            text += &wrap("    ", &to_do(&app.next_boot));
        }
        if !app.services.is_empty() {
            text += &wrap("    ", &t!("services: {names}", names = app.services.join(", ")));
        }
    }
    text + &left_out(app)
}

/// What the box does for an app when it runs.
fn to_do(tasks: &[String]) -> String {
    let tasks: Vec<_> = tasks.iter().map(|task| translated(task)).collect();
    t!("to do on the running box: {tasks}", tasks = tasks.join(&format!(", {} ", t!("then"))))
}

/// What stays in the backup, by reason; what is lost comes first.
fn left_out(app: &AppPlan) -> String {
    let mut text = String::new();
    let mut reasons: Vec<(&str, bool, Vec<&RelPath>)> = Vec::new();
    for left in &app.left_out {
        match reasons.iter_mut().find(|(reason, lost, _)| *reason == left.reason && *lost == left.lost) {
            Some((_, _, paths)) => paths.push(&left.path),
            None => reasons.push((&left.reason, left.lost, vec![&left.path])),
        }
    }
    reasons.sort_by_key(|(_, lost, _)| !lost);
    for (reason, lost, paths) in reasons {
        let word = if lost { t!("NOT restored") } else { t!("left out") };
        let paths: Vec<String> = paths.iter().map(|path| format!("/{path}")).collect();
        text += &wrap("    ", &format!("{word}: {}: {}", paths.join(", "), translated(reason)));
    }
    text
}

fn unknown_owners(plan: &RestorePlan) -> String {
    if plan.unknown_owners.is_empty() {
        return String::new();
    }
    let apps = |apps: &[AppId]| apps.iter().map(AppId::as_str).collect::<Vec<_>>().join(", ");
    let names: Vec<String> =
        plan.unknown_owners.iter().map(|owner| format!("{} ({})", owner.name, apps(&owner.apps))).collect();
    wrap(
        "",
        &t!(
            "Warning: the box does not have these owners of restored files, so root gets them: {names}. Accounts of apps come with their installation; for people, create accounts with the same names in FreedomBox.",
            names = names.join(", ")
        ),
    )
}

fn people(plan: &RestorePlan) -> String {
    if plan.people.is_empty() {
        return String::new();
    }
    let told = t!(
        "The backup has data of these people, but not their accounts: {names}. Create those who are missing in FreedomBox, with the same names: the sooner after the box's start, the more of their data finds its owner by itself.",
        names = plan.people.join(", ")
    );
    wrap("", &told)
}

fn blockers(plan: &RestorePlan) -> String {
    if plan.blockers.is_empty() {
        return String::new();
    }
    let mut text = format!("\n{}\n{}\n", "=".repeat(80), t!("THIS PLAN CANNOT BE CARRIED OUT"));
    for (at, blocker) in plan.blockers.iter().enumerate() {
        let what = wrap("   ", &sentence(&translated(&blocker.what)));
        let _ = write!(text, "{:<3}{}", format!("{}.", at + 1), what.trim_start());
        text += &wrap("   ", &t!("What to do: {advice}.", advice = translated(&blocker.advice)));
    }
    text
}

fn version(app: &AppPlan) -> Option<String> {
    match &app.version {
        VersionVerdict::WillBeUpgraded { .. } if app.name != app.archived_as => {
            Some(t!("its data is of the time when it was called {name}; the box upgrades it", name = app.archived_as))
        }
        VersionVerdict::WillBeUpgraded { from, to } => {
            Some(t!("its data is of app version {from}; the box has {to} and upgrades it", from = from, to = to))
        }
        VersionVerdict::NotRecorded => Some(t!("the backup does not say of which version its data is")),
        // The reason of an app that is not restored says the rest.
        VersionVerdict::Same
        | VersionVerdict::PackageGone { .. }
        | VersionVerdict::TargetTooOld { .. }
        | VersionVerdict::UnknownApp
        | VersionVerdict::NotInTarget => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_can_be_pasted_into_a_shell() {
        let words =
            ["lifeboat", "restore", "--from", "/media/it's here/b.tar.gz", "--onto", "/dev/sda2", "--accept-damage"];
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let id: PlanId = "0123456789abcdef".parse().unwrap();
        let text = command_lines(&words, &id);
        let printed = std::process::Command::new("sh")
            .args(["-c", &format!("lifeboat() {{ printf '%s\\n' \"$@\"; }}; {text}")])
            .output()
            .unwrap();
        let got = String::from_utf8(printed.stdout).unwrap();
        let wanted: Vec<&str> =
            words.iter().skip(1).map(String::as_str).chain(["--consent", "0123456789abcdef"]).collect();
        assert_eq!(got.lines().collect::<Vec<_>>(), wanted, "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }
}
