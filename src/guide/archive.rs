//! Which of the backups at one place.

use super::stuck::Way;
use super::{Guide, Halt, State, Turn};
use crate::failure::Failure;
use crate::model::ending::Ending;
use crate::model::finding::{Finding, Severity};
use crate::model::question::Offer;
use crate::render::text;
use crate::source::{self, old_system::SYSTEM};
use crate::t;

impl Guide<'_> {
    pub(super) fn choose_archive(&mut self) -> Result<Turn, Halt> {
        let Some(location) = self.chosen.location.clone() else { return Ok(Turn::Back) };
        if let (true, Ok(system)) = (self.chosen.is_system, SYSTEM.parse()) {
            // A system has one state: the present one.
            self.chosen.archive = Some(system);
            return Ok(Turn::To(State::Apps));
        }
        let listed = match self.unlocked(|unlock| source::list(&location, unlock).map_err(Failure::from))? {
            None => return Ok(Turn::Back),
            Some(Err(failure)) => {
                let ways = [Way::OTHER_BACKUP, Way::LOOK_AGAIN];
                return self.stuck("failed", t!("The backup cannot be opened"), failure, &ways);
            }
            Some(Ok(listed)) => listed,
        };
        let mut archives = listed.archives;
        archives.reverse();
        // What cannot be read may be what is looked for.
        let unread: Vec<Finding> = listed.findings.into_iter().filter(|one| one.severity > Severity::Note).collect();
        if archives.is_empty() {
            let mut sentence = format!("\"{}\" holds no backup", location.display());
            if let Some(one) = unread.first() {
                sentence = format!("{sentence}; {}: {}", one.subject, one.what);
            }
            let failure = Failure::untouched(Ending::NoBackup, sentence, "choose another backup");
            return self.stuck("failed", t!("Nothing is in there"), failure, &[Way::OTHER_BACKUP, Way::LOOK_AGAIN]);
        }
        let mut options: Vec<Offer> = archives
            .iter()
            .map(|archive| {
                let name = archive.name.as_deref().unwrap_or(archive.id.as_str());
                let (time, apps) = (text::time(archive.time.as_deref()), text::apps(archive.apps.len()));
                let text = t!("{time}, {apps} ({name})", time = time, apps = apps, name = name);
                Offer { text, names: archive.name.iter().cloned().chain([archive.id.to_string()]).collect() }
            })
            .collect();
        // Where one cannot be read, nobody knows whether it is newer: an answer file has to name the one that it means.
        let is_sure = unread.iter().all(|one| one.severity < Severity::Damage);
        if let Some(newest) = options.first_mut().filter(|_| is_sure) {
            newest.names.push("newest".to_owned());
        }
        let screen = self
            .screen("choose-archive", t!("The point in time"), t!("Which of its backups? The newest comes first."))
            .about(text::findings(&unread))
            .then(t!("you choose all apps or some."));
        let Some(index) = self.choose(screen, options, Some(0))? else { return Ok(Turn::Back) };
        self.chosen.archive = archives.get(index).map(|archive| archive.id.clone());
        self.chosen.accept_damage = false;
        Ok(Turn::To(State::Apps))
    }
}
