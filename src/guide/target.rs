//! Which box gets the data.

use super::naming::{lasting_names, on_disk};
use super::stuck::Way;
use super::{Guide, Halt, State, Turn};
use crate::failure::Failure;
use crate::model::ending::Ending;
use crate::model::installation::Installation;
use crate::model::question::Offer;
use crate::render::text;
use crate::survey::Surveyed;
use crate::t;
use std::time::UNIX_EPOCH;

impl Guide<'_> {
    pub(super) fn choose_box(&mut self) -> Result<Turn, Halt> {
        let Some(surveyed) = &self.surveyed else { return Ok(Turn::Anew(State::Look)) };
        let boxes = surveyed.survey.installations.clone();
        if boxes.is_empty() {
            let advice = "connect the disk or card with the installed FreedomBox; a new one can be written with an image \
                          from freedombox.org";
            let failure = Failure::untouched(Ending::RefusedTarget, "no FreedomBox system was found", advice);
            return self.stuck("no-box", t!("No FreedomBox was found"), failure, &[Way::LOOK_AGAIN]);
        }
        let mut options: Vec<Offer> = boxes
            .iter()
            .map(|box_| Offer { text: described(surveyed, box_), names: lasting_names(surveyed, &box_.place) })
            .collect();
        options.push(Offer::new(t!("another one: look again, after you connected its disk"), "look-again"));
        let screen = self
            .screen("choose-box", t!("The box"), t!("Put the restored data ON which box?"))
            .then(t!("you choose the backup. The box is changed only at the very end, after you typed its name."));
        let Some(index) = self.choose(screen, options, Some(0))? else { return Ok(Turn::Back) };
        let Some(box_) = boxes.get(index) else { return Ok(Turn::Anew(State::Look)) };
        self.chosen.box_ = Some(box_.clone());
        Ok(Turn::To(State::Earlier))
    }
}

/// What tells a box from others: its name, its release, its disk, and when it was used last.
fn described(surveyed: &Surveyed, box_: &Installation) -> String {
    let used = last_used(box_).map_or(String::new(), |day| format!(", {}", t!("last used {day}", day = day)));
    let apps = box_.apps.values().filter(|version| **version > 0).count();
    let place = on_disk(surveyed, &box_.place);
    t!(
        "{what}, {apps} apps set up{used}, on {place}",
        what = text::installation(box_),
        apps = apps,
        used = used,
        place = place
    )
}

/// The day when the system ran last, as far as files tell that a running system touches all the time.
fn last_used(box_: &Installation) -> Option<String> {
    let touched = ["var/lib/systemd/timesync/clock", "var/lib/plinth/plinth.sqlite3", "var/log/syslog"];
    let times = touched.iter().filter_map(|name| std::fs::symlink_metadata(box_.root.join(name)).ok()?.modified().ok());
    let seconds = times.max()?.duration_since(UNIX_EPOCH).ok()?.as_secs();
    let time = jiff::Timestamp::from_second(i64::try_from(seconds).ok()?).ok()?;
    time.to_string().get(..10).map(str::to_owned)
}
