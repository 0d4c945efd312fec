//! What of an old box comes along besides its apps. No backup holds that, so it is asked of a disk only, one question for
//! each kind that is there.

use super::stuck::Way;
use super::{Guide, Halt, State, Turn};
use crate::model::extra::Extra;
use crate::model::plan::ExtraPlan;
use crate::model::question::Offer;
use crate::render::text;
use crate::rescue::reach;
use crate::t;

impl Guide<'_> {
    /// Looks what there is, after the apps are chosen.
    pub(super) fn after_apps(&mut self) -> Result<Turn, Halt> {
        self.chosen.extras.clear();
        self.chosen.held.clear();
        if !self.chosen.is_system {
            return Ok(Turn::To(State::Check));
        }
        let Some(location) = self.chosen.location.clone() else { return Ok(Turn::Back) };
        let (host, id) = (self.host, self.chosen.archive.clone());
        let read = self.unlocked(|unlock| {
            let location = reach::location(host, &location, unlock)?;
            let archive = reach::open(host, &location, id.as_ref(), unlock)?;
            Ok(archive.extras().map(|held| ExtraPlan::all(held).collect()).unwrap_or_default())
        })?;
        match read {
            None => Ok(Turn::Back),
            Some(Err(failure)) => {
                let ways = [Way::OTHER_BACKUP, Way::LOOK_AGAIN];
                self.stuck("failed", t!("The old box cannot be read"), failure, &ways)
            }
            Some(Ok(held)) => {
                self.chosen.held = held;
                let own = self.chosen.box_.as_ref().map(|box_| box_.hostname.as_str()).unwrap_or_default();
                self.chosen.held.retain(|plan| plan.is_news_to(own));
                Ok(Turn::To(self.next_extra(None)))
            }
        }
    }

    /// The question after that about an extra.
    fn next_extra(&self, after: Option<Extra>) -> State {
        let held = self.chosen.held.iter().map(|plan| plan.extra);
        let mut left = held.skip_while(|extra| after.is_some_and(|after| *extra != after));
        let next = if after.is_some() { left.nth(1) } else { left.next() };
        next.map_or(State::Check, State::Extra)
    }

    pub(super) fn choose_extra(&mut self, extra: Extra) -> Result<Turn, Halt> {
        let there: Vec<String> =
            self.chosen.held.iter().filter(|plan| plan.extra == extra).flat_map(|plan| plan.names.clone()).collect();
        let (id, title, question, no, yes) = words(extra);
        let screen = self.screen(id, title, question).about(text::wrap("", &there.join(", ")));
        let screen = match self.next_extra(Some(extra)) {
            State::Check => {
                screen.then(t!("the backup is read to its end and compared with the box, which may take a while."))
            }
            _ => screen.then(t!("there is one more question about the old box.")),
        };
        let options = vec![Offer::new(no, "no"), Offer::new(yes, "yes")];
        let Some(chosen) = self.choose(screen, options, Some(0))? else { return Ok(Turn::Back) };
        self.chosen.extras.retain(|other| *other != extra);
        if chosen == 1 {
            self.chosen.extras.push(extra);
        }
        Ok(Turn::To(self.next_extra(Some(extra))))
    }
}

/// Id, title, question, and the two answers.
fn words(extra: Extra) -> (&'static str, String, String, String, String) {
    match extra {
        Extra::Accounts => (
            "choose-accounts",
            t!("The people"),
            t!("Bring the user accounts of the old box over as well?"),
            t!("no, only the apps"),
            t!("yes: names, passwords, groups and SSH keys; who is on the new box stays as he is"),
        ),
        Extra::Names => (
            "choose-names",
            t!("The names"),
            t!("Give the host name and the domains of the old box to this box?"),
            t!("no, it keeps its own names"),
            t!("yes: in the home network it is then found by the old name, and no longer by its present one"),
        ),
        Extra::Networks => (
            "choose-networks",
            t!("The networks"),
            t!("Bring the network connections of the old box over as well?"),
            t!("no, it keeps only its own connections"),
            t!("yes, with their passwords: Wi-Fi may connect by itself, all others come switched off"),
        ),
        Extra::BackupLocations => (
            "choose-backup-locations",
            t!("The backups to come"),
            t!("Bring the backup locations of the old box over as well?"),
            t!("no, they are set up anew in FreedomBox"),
            t!("yes, with passphrases and schedules: as soon as no app waits any more, backups are made there again"),
        ),
        Extra::Folders => (
            "choose-folders",
            t!("The folders"),
            t!("Bring the home folders and the shared folders of the old box over as well?"),
            t!("no, their files stay on the old disk"),
            t!("yes, what the new box does not have; nothing there is replaced, and the plan says how much it is"),
        ),
    }
}
