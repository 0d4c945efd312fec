//! The plan: the backup is read, what stands in the way is told with a way out, and the plan is shown.

use super::naming::place_of;
use super::stuck::Way;
use super::{Guide, Halt, State, Turn};
use crate::failure::Failure;
use crate::model::app::AppId;
use crate::model::extra::Extra;
use crate::model::finding::{Report, Severity, Verdict};
use crate::model::growth::Growth;
use crate::model::plan::{Blocker, BlockerKind};
use crate::model::question::{Choice, Offer, Unanswered};
use crate::render::{plan, text};
use crate::rescue::prepare::prepare;
use crate::rescue::{Backup, Request};
use crate::survey::target::Access;
use crate::t;
use crate::words::translated;
use std::path::Path;

impl Guide<'_> {
    /// What the user asked for, as the commands get it.
    pub(super) fn request(&mut self, from: Backup) -> Option<Request> {
        let (surveyed, chosen) = (self.surveyed.as_mut()?, &self.chosen);
        let (box_, location) = (chosen.box_.as_ref()?, chosen.location.as_ref()?);
        let onto = place_of(surveyed, box_);
        // The box is opened anew; only what the backup needs stays mounted.
        let held = surveyed.mounts.len();
        surveyed.keep_only(location);
        self.is_stale |= surveyed.mounts.len() < held;
        Some(Request {
            from,
            archive: chosen.archive.clone(),
            onto,
            apps: chosen.apps.clone(),
            extras: chosen.extras.clone(),
            accept_damage: chosen.accept_damage,
            program: None,
            papers: self.papers.map(Path::to_owned),
        })
    }

    pub(super) fn check(&mut self) -> Result<Turn, Halt> {
        self.chosen.plan = None;
        let Some(location) = self.chosen.location.clone() else { return Ok(Turn::Back) };
        let Some(request) = self.request(Backup::At(location)) else { return Ok(Turn::Anew(State::Look)) };
        self.prompter.show(&text::wrap("", &t!("The backup is read to its end and compared with the box.")))?;
        let (host, progress) = (self.host, self.progress);
        let prepared = match self.unlocked(|unlock| prepare(host, &request, Access::Read, unlock, progress))? {
            None => return Ok(Turn::Back),
            Some(Err(failure)) => {
                let ways = [Way::OTHER_BACKUP, Way::LOOK_AGAIN];
                return self.stuck("failed", t!("The restore cannot be prepared"), failure, &ways);
            }
            Some(Ok(prepared)) => prepared,
        };
        let (plan, backup, report) = (prepared.plan.clone(), prepared.backup.clone(), prepared.report.clone());
        // Let go of every read-only mount of the box before it is opened for writing.
        drop(prepared);
        let blockers = plan.blockers.clone();
        self.chosen.plan = Some((plan, backup));
        if let Some(blocker) = blockers.first() {
            return self.blocked(blocker, &report);
        }
        match self.chosen.accept_damage || report.is_undamaged() {
            true => Ok(Turn::To(State::Plan)),
            false => self.damaged(&report),
        }
    }

    /// The plan cannot be carried out as it is.
    fn blocked(&mut self, blocker: &Blocker, report: &Report) -> Result<Turn, Halt> {
        let failure = Failure::blocked(blocker);
        match blocker.kind {
            BlockerKind::Space => self.no_space(blocker, failure),
            BlockerKind::Damaged
                if report.apps.iter().any(|app| app.verdict != Verdict::Damaged || app.entries > 0) =>
            {
                self.damaged_only(report, failure)
            }
            BlockerKind::Nothing => {
                let ways = [Way::OTHER_BACKUP, Way::OTHER_APPS, Way::LOOK_AGAIN];
                self.tell_plan()?;
                self.stuck("blocked", t!("Nothing can be restored"), failure, &ways)
            }
            _ => {
                self.tell_plan()?;
                self.stuck(
                    "blocked",
                    t!("This cannot be restored as it is"),
                    failure,
                    &[Way::OTHER_BACKUP, Way::OTHER_APPS, Way::LOOK_AGAIN],
                )
            }
        }
    }

    /// The plan says of each app why it is not restored.
    fn tell_plan(&mut self) -> Result<(), Halt> {
        let text = self.chosen.plan.as_ref().map(|(plan, _)| plan::without_exclusions(plan)).unwrap_or_default();
        Ok(self.prompter.show(&text)?)
    }

    /// Not enough room: what would fit is offered.
    fn no_space(&mut self, blocker: &Blocker, failure: Failure) -> Result<Turn, Halt> {
        let fitting = blocker.fitting.clone().filter(|apps| !apps.is_empty());
        if fitting.is_none() && blocker.growth.is_none() {
            let ways = [Way::OTHER_APPS, Way::OTHER_BACKUP, Way::LOOK_AGAIN];
            return self.stuck("no-space", t!("Not enough room on the box"), failure, &ways);
        }
        let apps = self.chosen.plan.iter().flat_map(|(plan, _)| &plan.apps);
        let left: Vec<String> = apps
            .filter(|app| {
                app.road.restores()
                    && !app.is_databases()
                    && !fitting.iter().flatten().any(|name| *name == app.archived_as)
            })
            .map(|app| format!("{} ({})", app.archived_as, app.bytes))
            .collect();
        let screen = self
            .screen("no-space", t!("Not enough room on the box"), t!("What now?"))
            .about(text::trouble(&failure))
            .then(t!("the plan is made anew and shown."));
        let mut ways = vec![
            (Offer::new(t!("choose the apps yourself"), "other-apps"), State::Names),
            (Offer::new(t!("choose another backup"), "other-backup"), State::Backup),
        ];
        if fitting.is_some() {
            let leave_out = t!("leave out {apps}; the rest fits", apps = left.join(", "));
            ways.insert(0, (Offer::new(leave_out, "fitting"), State::Check));
        }
        if let Some(Growth { from, to, .. }) = &blocker.growth {
            let grow = t!(
                "give the box the rest of its disk: {to} instead of {from}; then all of it fits",
                to = to,
                from = from
            );
            ways.insert(0, (Offer::new(grow, "grow"), State::Grow));
        }
        let (options, states): (Vec<Offer>, Vec<State>) = ways.into_iter().unzip();
        let chosen = self.or_failed(Choice { screen, options, default: None }, failure)?;
        let Some(state) = chosen.and_then(|at| states.get(at).copied()) else { return Ok(Turn::Back) };
        if let (State::Check, Some(fitting)) = (state, fitting) {
            // The folders are an extra, and not chosen among the apps.
            if !fitting.contains(&AppId::folders()) {
                self.chosen.extras.retain(|extra| *extra != Extra::Folders);
            }
            self.chosen.apps = Some(fitting.into_iter().filter(|app| *app != AppId::folders()).collect());
        }
        Ok(Turn::To(state))
    }

    /// Some of the backup is damaged, the rest can be restored.
    fn damaged(&mut self, report: &Report) -> Result<Turn, Halt> {
        let screen = self
            .screen("damaged", t!("Parts of the backup are damaged"), t!("What now?"))
            .about(damage(report))
            .then(t!("the plan is shown."));
        let options = vec![
            Offer::new(t!("choose another backup, which may be whole"), "other-backup"),
            Offer::new(t!("restore only the apps that are not damaged"), "undamaged"),
            Offer::new(t!("restore what is left of the damaged apps too"), "all-that-is-left"),
        ];
        match self.choose(screen, options, None)? {
            None => Ok(Turn::Back),
            Some(0) => Ok(Turn::To(State::Backup)),
            Some(1) => Ok(Turn::To(State::Plan)),
            Some(_) => {
                self.chosen.accept_damage = true;
                Ok(Turn::To(State::Check))
            }
        }
    }

    /// All that was chosen is damaged.
    fn damaged_only(&mut self, report: &Report, failure: Failure) -> Result<Turn, Halt> {
        let screen = self
            .screen("damaged", t!("The backup is damaged"), t!("What now?"))
            .about(text::trouble(&failure) + &damage(report))
            .then(t!("the plan is made anew and shown."));
        let options = vec![
            Offer::new(t!("choose another backup, which may be whole"), "other-backup"),
            Offer::new(t!("choose other apps"), "other-apps"),
            Offer::new(t!("restore what is left of the damaged apps"), "all-that-is-left"),
        ];
        match self.or_failed(Choice { screen, options, default: None }, failure)? {
            None => Ok(Turn::Back),
            Some(0) => Ok(Turn::To(State::Backup)),
            Some(1) => Ok(Turn::To(State::Apps)),
            Some(_) => {
                self.chosen.accept_damage = true;
                Ok(Turn::To(State::Check))
            }
        }
    }

    /// Asks; whoever stops, or an answer file without an answer, ends with the failure.
    fn or_failed(&mut self, choice: Choice, failure: Failure) -> Result<Option<usize>, Halt> {
        self.has_asked = true;
        match self.prompter.choose(&choice) {
            Err(error) if Unanswered::within(&error).is_some() => Err(Halt::Told(Box::new(failure))),
            Err(error) => Err(error.into()),
            Ok(answer) => super::given(answer).map_err(|_| Halt::Told(Box::new(failure))),
        }
    }

    pub(super) fn show_plan(&mut self) -> Result<Turn, Halt> {
        let Some((plan, _)) = &self.chosen.plan else { return Ok(Turn::Back) };
        let mut about = plan::without_exclusions(plan);
        if self.has_grown {
            let untouched = t!("Nothing has been changed so far.");
            about = about.lines().filter(|line| *line != untouched).map(|line| format!("{line}\n")).collect();
        }
        let screen =
            self.screen("plan", t!("The plan"), t!("This is what would be done. Nothing else is.")).about(about).then(
                t!("you read what no backup holds. The restore starts only after that, when you typed the box's name."),
            );
        Ok(self.read(&screen)?.map_or(Turn::Back, |()| Turn::To(State::NotIncluded)))
    }

    /// Accounts, networks and shares: what people believe to be in a backup and is not.
    pub(super) fn show_not_included(&mut self) -> Result<Turn, Halt> {
        let Some((plan, _)) = &self.chosen.plan else { return Ok(Turn::Back) };
        let lines: String =
            plan.not_included.iter().map(|what| text::wrap("  ", &format!("- {}", translated(what)))).collect();
        let screen = self
            .screen(
                "not-included",
                t!("What is in no FreedomBox backup"),
                t!("This has to be done by hand afterwards."),
            )
            .about(lines)
            .then(t!("you type the name of the box, and the restore starts."));
        Ok(self.read(&screen)?.map_or(Turn::Back, |()| Turn::To(State::Consent)))
    }
}

/// Which apps are damaged, and what is.
fn damage(report: &Report) -> String {
    let named = |verdict: Verdict| -> Vec<&str> {
        report.apps.iter().filter(|app| app.verdict == verdict).map(|app| app.name.as_str()).collect()
    };
    let mut lines = String::new();
    for (verdict, words) in [
        (Verdict::Damaged, t!("Damaged")),
        (Verdict::Intact, t!("Intact")),
        (Verdict::NotVerifiable, t!("Not proven to be whole")),
    ] {
        let apps = named(verdict);
        if !apps.is_empty() {
            lines += &text::wrap("", &format!("{words}: {}.", apps.join(", ")));
        }
    }
    let damages: Vec<_> = report.findings.iter().filter(|finding| finding.severity == Severity::Damage).collect();
    for finding in damages.iter().take(SHOWN) {
        lines += &text::wrap("  ", &format!("- {}: {}", finding.subject, translated(&finding.what)));
    }
    if damages.len() > SHOWN {
        lines += &text::wrap("  ", &format!("- {}", t!("and {count} more", count = damages.len() - SHOWN)));
    }
    lines
}

/// How many losses are listed on the screen.
const SHOWN: usize = 10;
