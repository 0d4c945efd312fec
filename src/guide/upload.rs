//! A backup that somebody sends: where it goes, and how it gets there.

use super::{Guide, Halt, State, Turn};
use crate::deposit::{self, DepositError, Spare};
use crate::failure::Failure;
use crate::model::ending::Ending;
use crate::model::progress::{Event, Phase, Watched};
use crate::model::question::{Answer, Offer};
use crate::render::text;
use crate::rescue::prepare::is_backup;
use crate::t;

impl Guide<'_> {
    /// Asks where the file goes, takes it there, and looks at everything again.
    pub(super) fn upload(&mut self) -> Result<Turn, Halt> {
        let Some(surveyed) = &self.surveyed else { return Ok(Turn::Anew(State::Look)) };
        let Some(box_) = &self.chosen.box_ else { return Ok(Turn::Anew(State::Box)) };
        let spares = deposit::spares(self.host, surveyed, self.roots, box_);
        if spares.is_empty() {
            let advice = "connect a disk or stick with room, on which nothing is that is needed for the rescue";
            let failure = Failure::untouched(Ending::NoSpace, "no disk has room for the file", advice);
            return self.stuck(
                "failed",
                t!("There is no room for the file"),
                failure,
                &[super::stuck::Way::LOOK_AGAIN],
            );
        }
        let options =
            spares.iter().map(|spare| Offer { text: spare.text.clone(), names: spare.names.clone() }).collect();
        let about = t!(
            "No disk that holds a backup is written to, and none that looks as if it was failing. On the box's own disk the file goes into FreedomBox's folder for uploads."
        );
        let screen = self
            .screen("upload-to", t!("A backup from this browser"), t!("Put the file ON which disk?"))
            .about(text::wrap("", &about))
            .then(t!("you choose the file."));
        let Some(at) = self.choose(screen, options, None)? else { return Ok(Turn::Back) };
        let Some(spare) = spares.get(at) else { return Ok(Turn::Back) };
        let mut trouble = String::new();
        loop {
            let screen = self
                .screen("upload", t!("A backup from this browser"), t!("Which file?"))
                .about(format!("{trouble}{}", text::wrap("", &t!("It goes onto {place}.", place = spare.text))))
                .then(t!("the file is stored, read back and looked at. Keep this page open until it has arrived."));
            let file = match self.prompter.receive(&screen)? {
                Answer::Given(file) => file,
                Answer::Back => {
                    self.is_stale = self.surveyed.is_none();
                    return Ok(Turn::Back);
                }
                Answer::Stop => return Err(Halt::Stop),
            };
            // The disk is mounted for writing: nothing else may hold it.
            self.surveyed = None;
            let sentence = match self.store(spare, file) {
                Ok(Some(name)) => {
                    self.prompter.show(&text::wrap("", &t!("\"{name}\" has arrived whole.", name = name)))?;
                    let place = self.chosen.box_.take().map(|box_| box_.place);
                    self.survey()?;
                    let boxes = self.surveyed.iter().flat_map(|surveyed| &surveyed.survey.installations);
                    self.chosen.box_ = boxes.into_iter().find(|box_| place.as_ref() == Some(&box_.place)).cloned();
                    while self.past.last().is_some_and(|state| matches!(state, State::Backup | State::Upload)) {
                        self.past.pop();
                    }
                    self.has_asked = false;
                    return Ok(Turn::To(State::Backup));
                }
                Ok(None) => t!("this is no backup that Lifeboat can read; it was not kept"),
                Err(error) => t!("{what}; nothing of it was kept", what = error),
            };
            self.is_stale = true;
            trouble = text::wrap("", &t!("The file was not taken: {what}.", what = sentence));
        }
    }

    /// Stores a file and looks at it; its name, where it is a backup.
    fn store(&self, spare: &Spare, file: crate::model::pipe::Incoming) -> Result<Option<String>, DepositError> {
        let _watched = Watched::by(self.progress);
        self.progress.event(Event::Phase { phase: Phase::Upload, total: file.length });
        let place = deposit::open(self.host, spare)?;
        let advance = |bytes| self.progress.event(Event::Advance { bytes, entries: 0 });
        let mut content = file.content;
        let stored =
            place.take(&file.name, file.length, &mut content, &|path| is_backup(path) == Ok(true), &advance)?;
        Ok(stored.and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned())))
    }
}
