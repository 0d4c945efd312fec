//! All apps of the backup, or some.

use super::stuck::Way;
use super::{Guide, Halt, State, Turn};
use crate::model::app::AppId;
use crate::model::archive::ArchiveSummary;
use crate::model::question::{Offer, Words};
use crate::render::text;
use crate::rescue::reach;
use crate::t;

impl Guide<'_> {
    pub(super) fn choose_apps(&mut self) -> Result<Turn, Halt> {
        let mut options = vec![Offer::new(t!("all apps in the backup"), "all"), Offer::new(t!("some apps"), "some")];
        if self.prompter.hands_files() {
            options.push(Offer::new(t!("none now: take the backup along as one file, with this browser"), "download"));
        }
        let screen = self
            .screen("choose-apps", t!("The apps"), t!("Restore which apps?"))
            .then(t!("the backup is read to its end and compared with the box, which may take a while."));
        match self.choose(screen, options, Some(0))? {
            None => Ok(Turn::Back),
            Some(0) => {
                self.chosen.apps = None;
                self.after_apps()
            }
            Some(1) => Ok(Turn::To(State::Names)),
            Some(_) => Ok(Turn::To(State::Download)),
        }
    }

    /// The summary of the chosen archive; `Err` is where the dialogue goes instead.
    fn summary(&mut self) -> Result<Result<ArchiveSummary, Turn>, Halt> {
        let (Some(location), Some(id)) = (self.chosen.location.clone(), self.chosen.archive.clone()) else {
            return Ok(Err(Turn::Back));
        };
        let host = self.host;
        let read = self.unlocked(|unlock| {
            let location = reach::location(host, &location, unlock)?;
            let mut archive = reach::open(host, &location, Some(&id), unlock)?;
            Ok(archive.summary()?)
        })?;
        Ok(match read {
            None => Err(Turn::Back),
            Some(Err(failure)) => Err(self.stuck(
                "failed",
                t!("The backup cannot be read"),
                failure,
                &[Way::OTHER_BACKUP, Way::LOOK_AGAIN],
            )?),
            Some(Ok(summary)) => Ok(summary),
        })
    }

    pub(super) fn name_apps(&mut self) -> Result<Turn, Halt> {
        let summary = match self.summary()? {
            Ok(summary) => summary,
            Err(turn) => return Ok(turn),
        };
        let names: Vec<&str> = summary.apps.iter().map(|app| app.name.as_str()).collect();
        let there = text::wrap("", &t!("The backup holds: {names}.", names = names.join(" ")));
        let mut wrong = String::new();
        loop {
            let screen = self
                .screen("app-names", t!("The apps"), t!("Type the names of the apps with blanks between them."))
                .about(format!("{wrong}{there}"))
                .then(t!("the backup is read to its end and compared with the box, which may take a while."));
            let Some(typed) = self.ask(&Words::new(screen))? else { return Ok(Turn::Back) };
            let typed: Vec<&str> = typed.split([' ', ',']).filter(|name| !name.is_empty()).collect();
            let is_there = |name: &&str| summary.apps.iter().any(|app| app.name.as_str() == *name);
            match typed.iter().find(|name| !is_there(name)) {
                Some(unknown) => wrong = text::wrap("", &t!("The backup does not hold '{name}'.", name = unknown)),
                None if typed.is_empty() => wrong = text::wrap("", &t!("Please type at least one name.")),
                None => {
                    let chosen: Vec<AppId> = typed.iter().filter_map(|name| name.parse().ok()).collect();
                    self.chosen.apps = Some(chosen);
                    return self.after_apps();
                }
            }
        }
    }
}
