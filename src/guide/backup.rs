//! Which backup the data comes from.

use super::naming::{named, place_of};
use super::stuck::Way;
use super::{Guide, Halt, State, Turn};
use crate::failure::Failure;
use crate::model::archive::BackupLocation;
use crate::model::ending::Ending;
use crate::model::question::Offer;
use crate::t;

impl Guide<'_> {
    pub(super) fn choose_backup(&mut self) -> Result<Turn, Halt> {
        let Some(surveyed) = &self.surveyed else { return Ok(Turn::Anew(State::Look)) };
        let Some(box_) = &self.chosen.box_ else { return Ok(Turn::Anew(State::Box)) };
        // Another box that was ever started is as good as a backup of it, and fresher.
        let others = surveyed.survey.installations.iter().filter(|other| other.root != box_.root && other.booted);
        let others = others.map(|other| BackupLocation::OldSystem {
            path: place_of(surveyed, other),
            hostname: other.hostname.clone(),
            freedombox: other.freedombox.clone(),
        });
        let locations: Vec<BackupLocation> = surveyed.survey.locations.iter().cloned().chain(others).collect();
        if locations.is_empty() {
            let advice = "connect the disk with the backup: the one on which FreedomBox kept its backups, or any disk \
                          with a file that was downloaded from its page of backups";
            let failure = Failure::untouched(Ending::NoBackup, "no backup was found", advice);
            let ways: &[Way] =
                if self.prompter.hands_files() { &[Way::UPLOAD, Way::LOOK_AGAIN] } else { &[Way::LOOK_AGAIN] };
            return self.stuck("no-backup", t!("No backup was found"), failure, ways);
        }
        let mut options: Vec<Offer> = locations.iter().map(|location| named(surveyed, location)).collect();
        options.push(Offer::new(t!("another one: look again, after you connected its disk"), "look-again"));
        if self.prompter.hands_files() {
            options.push(Offer::new(t!("a file that you send from this browser"), "upload"));
        }
        let screen = self
            .screen("choose-backup", t!("The backup"), t!("Restore FROM which backup?"))
            .then(t!("you choose among the points in time that it holds."));
        let Some(index) = self.choose(screen, options, Some(0))? else { return Ok(Turn::Back) };
        if index == locations.len() + 1 {
            return Ok(Turn::To(State::Upload));
        }
        let Some(location) = locations.get(index) else { return Ok(Turn::Anew(State::Look)) };
        self.chosen.location = Some(location.path().to_owned());
        self.chosen.is_system = matches!(location, BackupLocation::OldSystem { .. });
        Ok(Turn::To(State::Archive))
    }
}
