//! Which keyboard this computer has: asked once, on a live system, where the language is.

use super::{Guide, Halt};
use crate::model::question::{Answer, Choice, Offer, Screen, Unanswered};
use crate::render::{prompt, text};
use crate::t;
use crate::words;
use std::ffi::OsStr;

/// Belongs to the live system: without an argument it prints a line for each layout, its name and what people call it,
/// nothing where there is no keyboard; with a name it changes the layout.
const PROGRAM: &str = "lifeboat-keyboard";

impl Guide<'_> {
    /// Asks for the layout, the one of the language first. Whoever sits at the other end of a serial line or in front of the
    /// page has a keyboard elsewhere.
    pub(super) fn choose_keyboard(&mut self) -> Result<(), Halt> {
        if self.prompter.hands_files() {
            return Ok(());
        }
        let mut layouts = self.layouts();
        let Some(spoken) = words::chosen().filter(|_| !layouts.is_empty()) else { return Ok(()) };
        layouts.sort_by_key(|(name, _)| !name.starts_with(spoken.code()));
        let screen = Screen::new("keyboard", t!("The keyboard"), t!("Which keyboard does this computer have?"))
            .about(text::wrap("", &t!("Whoever answers from another computer, by a serial line, only presses Enter.")))
            .first();
        let options = layouts.iter().map(|(name, title)| Offer::new(title.clone(), name.clone())).collect();
        let at = match self.prompter.choose(&Choice { screen, options, default: Some(0) }) {
            Ok(Answer::Given(at)) => at,
            Ok(Answer::Back | Answer::Stop) => return Err(Halt::Stop),
            // Nobody types.
            Err(error) if Unanswered::within(&error).is_some() => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let Some((name, title)) = layouts.get(at) else { return Ok(()) };
        let done = self.host.commands().run(PROGRAM, &[OsStr::new(name)]);
        if done.is_ok_and(|output| output.status == Some(0)) {
            prompt::keyboard_is(title);
        } else {
            self.prompter.show(&text::wrap("", &t!("The layout of the keyboard could not be changed.")))?;
        }
        Ok(())
    }

    /// The layouts that there are: name and title.
    fn layouts(&self) -> Vec<(String, String)> {
        let listed = self.host.commands().run(PROGRAM, &[]).map(|output| output.stdout).unwrap_or_default();
        let listed = String::from_utf8_lossy(&listed);
        let named = listed.lines().filter_map(|line| line.split_once(' '));
        named.map(|(name, title)| (name.to_owned(), title.to_owned())).collect()
    }
}
