//! More room on a box that was never started: what is done, and the word that agrees to it.

use super::naming::place_of;
use super::stuck::Way;
use super::{Guide, Halt, State, Turn};
use crate::model::question::Words;
use crate::render::{View as _, growth, text};
use crate::rescue::grow;
use crate::t;

impl Guide<'_> {
    pub(super) fn grow(&mut self) -> Result<Turn, Halt> {
        let (Some(surveyed), Some(box_)) = (self.surveyed.as_ref(), self.chosen.box_.as_ref()) else {
            return Ok(Turn::Anew(State::Look));
        };
        let onto = place_of(surveyed, box_);
        let word = super::consent::word(&box_.hostname).to_owned();
        let found = match grow::look(self.host, &onto) {
            Ok(found) => found,
            Err(failure) => {
                let ways = [Way::OTHER_APPS, Way::OTHER_BACKUP, Way::LOOK_AGAIN];
                return self.stuck("failed", t!("The box cannot be given more room"), failure, &ways);
            }
        };
        let question = t!("This changes the box's disk. To do it, type the name of the box: {word}", word = word);
        let mut wrong = String::new();
        loop {
            let about = format!("{wrong}{}", text::wrap("", &growth::what(&found)));
            let screen = self
                .screen("consent-grow", t!("More room on the box"), question.clone())
                .about(about)
                .then(t!("the box gets the room, the plan is made anew and shown. No app is changed yet."));
            let words = Words { confirms: Some(word.clone()), ..Words::new(screen) };
            match self.ask(&words)? {
                None => return Ok(Turn::Back),
                Some(typed) if typed == word => break,
                Some(_) => wrong = text::wrap("", &t!("That is not the name of the box.")),
            }
        }
        // From here on it is no longer true that nothing was changed, however it ends.
        self.has_grown = true;
        match grow::grow(self.host, &onto, &found.id) {
            Ok(done) => self.prompter.show(&done.text())?,
            Err(failure) => {
                let ways = [Way::LOOK_AGAIN];
                return self.stuck("failed", t!("The box was not given all of the room"), failure, &ways);
            }
        }
        // There is room now: the way back leads past that question.
        self.past.retain(|state| *state != State::Check);
        self.has_asked = false;
        Ok(Turn::To(State::Check))
    }
}
