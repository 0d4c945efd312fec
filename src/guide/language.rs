//! In which language: the first question, where nothing else says it.

use super::{Guide, Halt, State, Turn};
use crate::model::question::{Answer, Choice, Offer, Screen, Unanswered};
use crate::words::{self, Language};

impl Guide<'_> {
    pub(super) fn choose_language(&mut self) -> Result<Turn, Halt> {
        if words::chosen().is_some() {
            return Ok(Turn::Anew(State::Look));
        }
        // Everybody has to understand it, whatever they speak.
        let screen = Screen::new("language", "Lifeboat", "Language? Sprache? Langue ? ¿Idioma?").first();
        let options = Language::ALL.iter().map(|language| Offer::new(language.name(), language.code())).collect();
        match self.prompter.choose(&Choice { screen, options, default: Some(0) }) {
            Ok(Answer::Given(at)) => words::choose(Language::ALL.get(at).copied().unwrap_or(Language::English)),
            Ok(Answer::Back | Answer::Stop) => return Err(Halt::Stop),
            // Nothing depends on it where nobody reads.
            Err(error) if Unanswered::within(&error).is_some() => words::choose(Language::English),
            Err(error) => return Err(error.into()),
        }
        self.choose_keyboard()?;
        Ok(Turn::Anew(State::Look))
    }
}
