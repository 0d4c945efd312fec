//! The text view of a plan: what happens to each app, most important first; what forbids it, or how to go on, last.

use super::View;
use super::text::{time, wrap};
use crate::model::app::AppId;
use crate::model::path::RelPath;
use crate::model::plan::{AppPlan, Extra, ExtraPlan, PlanId, RestorePlan, Road, VersionVerdict};
use crate::model::size::ByteSize;
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
            text.push_str("\nTo carry out this plan, type:\n");
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
        let mut text = format!("Plan {}\n", self.id);
        text += &wrap("  ", &format!("Backup: {}, made {}", self.archive, time(self.archive_time.as_deref())));
        let target = &self.target;
        let box_ = format!(
            "Box: '{}', FreedomBox {}, Debian {} ({})",
            target.hostname, target.freedombox, target.suite, target.architecture
        );
        text += &wrap("  ", &box_);
        text.push_str("Nothing has been changed so far.\n");
        // A plan that cannot be carried out must not read as if it were.
        let be = if self.blockers.is_empty() { "" } else { "WOULD BE " };
        let is_on = |road: Road| move |app: &AppPlan| app.road == road && !app.is_kept_only();
        text += &group(self, &is_on(Road::InPlace), &format!("{be}RESTORED NOW"));
        let waiting = format!("{be}BROUGHT ONTO THE BOX NOW, TO BE FINISHED WHEN IT RUNS");
        text += &group(self, &is_on(Road::Parked), &waiting);
        text += &group(
            self,
            &AppPlan::is_kept_only,
            &format!("{be}KEPT ON THE BOX, BUT THE APP CANNOT BE INSTALLED THERE"),
        );
        text += &group(self, &is_on(Road::Blocked), "NOT RESTORED");
        text += &nothing_to_do(self);
        text.push('\n');
        if !self.steps.is_empty() {
            let kept = "What is replaced or moved away stays on the box: 'lifeboat undo' puts it back, until you run \
                        'lifeboat commit'.";
            text += &wrap("", kept);
        }
        for warning in &self.warnings {
            text += &wrap("", &format!("Warning: {warning}."));
        }
        text += &unknown_owners(self);
        for need in &self.space {
            let place = format!("Space on the filesystem of {}", need.filesystem);
            text += &wrap("", &format!("{place}: {} needed, {} free.", need.needed, need.free));
        }
        text += &accounts(self);
        text += &wrap("", &format!("Not in any backup, to be done by hand: {}.", self.not_included.join("; ")));
        text + &blockers(self)
    }
}

/// The people of an old box: those who come along, or the offer.
fn accounts(plan: &RestorePlan) -> String {
    let mut text = String::new();
    for ExtraPlan { extra: Extra::Accounts, names } in &plan.extras {
        text += &wrap(
            "",
            &format!(
                "User accounts that the box's next start brings over, with their passwords, groups and SSH keys: {}. \
                 Whoever is on the box already stays as he is, with the password of this box. Samba passwords have to be \
                 set again. 'undo' does not remove accounts.",
                names.join(", ")
            ),
        );
    }
    if !plan.offered_accounts.is_empty() {
        let names = plan.offered_accounts.join(", ");
        text += &wrap(
            "",
            &format!("The old box has the user accounts {names}: add '--extras accounts' to bring them over."),
        );
    }
    text
}

fn group(plan: &RestorePlan, belongs: &dyn Fn(&AppPlan) -> bool, title: &str) -> String {
    let apps: Vec<&AppPlan> = plan.apps.iter().filter(|app| belongs(app)).collect();
    if apps.is_empty() {
        return String::new();
    }
    let bytes: ByteSize = apps.iter().map(|app| app.bytes).sum();
    let size = if apps.iter().all(|app| app.road == Road::Blocked) { String::new() } else { format!(", {bytes}") };
    let mut text = format!("\n{title}: {}{size}\n", number(apps.len(), "app"));
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
    let text = format!("\nNOTHING TO DO: {} without data in the backup\n", number(apps.len(), "app"));
    text + &wrap("  ", &names.join(", "))
}

fn app_lines(app: &AppPlan) -> String {
    let name = if app.name == app.archived_as {
        app.name.to_string()
    } else {
        format!("{} (in the backup: {})", app.name, app.archived_as)
    };
    let mut text = match (&app.reason, app.road) {
        (Some(reason), _) => wrap("  ", &format!("{name}: {reason}")),
        (None, Road::Blocked) => wrap("  ", &name),
        (None, _) => {
            let changes = &app.changes;
            let counts = format!(
                "{} new, {} changed, {} same, {} moved away; {} to write",
                changes.new, changes.changed, changes.same, changes.removed, app.bytes
            );
            wrap("  ", &format!("{name}: {counts}"))
        }
    };
    if app.road != Road::Blocked {
        if let Some(version) = version(app) {
            text += &wrap("    ", &version);
        }
        if !app.next_boot.is_empty() {
            text += &wrap("    ", &format!("to do on the running box: {}", app.next_boot.join(", then ")));
        }
        if !app.services.is_empty() {
            text += &wrap("    ", &format!("services: {}", app.services.join(", ")));
        }
    }
    text + &left_out(app)
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
        let word = if lost { "NOT restored" } else { "left out" };
        let paths: Vec<String> = paths.iter().map(|path| format!("/{path}")).collect();
        text += &wrap("    ", &format!("{word}: {}: {reason}", paths.join(", ")));
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
        &format!(
            "Warning: the box does not have these owners of restored files, so root gets them: {}. Accounts of apps \
             come with their installation; for people, create accounts with the same names in FreedomBox.",
            names.join(", ")
        ),
    )
}

fn blockers(plan: &RestorePlan) -> String {
    if plan.blockers.is_empty() {
        return String::new();
    }
    let mut text = format!("\n{}\nTHIS PLAN CANNOT BE CARRIED OUT\n", "=".repeat(80));
    for (at, blocker) in plan.blockers.iter().enumerate() {
        let what = wrap("   ", &format!("{}.", capital(&blocker.what)));
        let _ = write!(text, "{:<3}{}", format!("{}.", at + 1), what.trim_start());
        text += &wrap("   ", &format!("What to do: {}.", blocker.advice));
    }
    text
}

fn version(app: &AppPlan) -> Option<String> {
    match &app.version {
        VersionVerdict::WillBeUpgraded { .. } if app.name != app.archived_as => {
            Some(format!("its data is of the time when it was called {}; the box upgrades it", app.archived_as))
        }
        VersionVerdict::WillBeUpgraded { from, to } => {
            Some(format!("its data is of app version {from}; the box has {to} and upgrades it"))
        }
        VersionVerdict::NotRecorded => Some("the backup does not say of which version its data is".into()),
        // The reason of an app that is not restored says the rest.
        VersionVerdict::Same
        | VersionVerdict::PackageGone { .. }
        | VersionVerdict::TargetTooOld { .. }
        | VersionVerdict::UnknownApp
        | VersionVerdict::NotInTarget => None,
    }
}

fn number(count: usize, of: &str) -> String {
    if count == 1 { format!("1 {of}") } else { format!("{count} {of}s") }
}

/// A sentence's first letter as a capital.
fn capital(sentence: &str) -> String {
    let mut letters = sentence.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
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
