//! The backup as one file that somebody takes along.

use super::stuck::Way;
use super::{Guide, Halt, State, Turn};
use crate::export;
use crate::failure::Failure;
use crate::model::ending::Ending;
use crate::model::progress::Watched;
use crate::model::question::Answer;
use crate::render::text;
use crate::source;
use crate::t;

impl Guide<'_> {
    /// Sends the chosen archive in the form of FreedomBox's own downloads.
    pub(super) fn download(&mut self) -> Result<Turn, Halt> {
        let (Some(location), Some(id)) = (self.chosen.location.clone(), self.chosen.archive.clone()) else {
            return Ok(Turn::Back);
        };
        let plain: String = id.as_str().chars().filter(|c| c.is_ascii_alphanumeric() || "-_".contains(*c)).collect();
        let name = format!("freedombox-{}.tar.gz", if plain.is_empty() { "backup" } else { plain.as_str() });
        self.has_asked = true;
        let about = t!(
            "The file has the form of FreedomBox's own downloads and is not encrypted, also where the backup is. Whoever has it can read everything in it."
        );
        let screen = self
            .screen("download", t!("The backup as one file"), t!("The backup can be taken along with this browser."))
            .about(text::wrap("", &about));
        let mut inlet = match self.prompter.send(&screen, &name)? {
            Answer::Given(inlet) => inlet,
            Answer::Back => return Ok(Turn::Back),
            Answer::Stop => return Err(Halt::Stop),
        };
        let progress = self.progress;
        let sent = self.unlocked(|unlock| {
            let _watched = Watched::by(progress);
            let mut archive = source::open_location(&location, Some(&id), unlock)?;
            let sent = export::stream(archive.as_mut(), &mut inlet, progress)?;
            inlet.finish().map_err(|error| {
                let sentence = format!("sending the file: {error}");
                Failure::untouched(Ending::Failed, sentence, "take the file along again")
            })?;
            Ok(sent)
        })?;
        match sent {
            None => Ok(Turn::To(State::Apps)),
            Some(Ok(sent)) => {
                let text = t!("The file was sent whole: {size}, SHA-256 {sum}.", size = sent.size, sum = sent.sha256);
                self.prompter.show(&text::wrap("", &text))?;
                self.has_asked = false;
                Ok(Turn::To(State::Apps))
            }
            Some(Err(failure)) => {
                let ways = [Way::OTHER_BACKUP, Way::LOOK_AGAIN];
                self.stuck("failed", t!("The file was not sent whole"), failure, &ways)
            }
        }
    }
}
