//! The screens on which the dialogue cannot go on as it is: what is the matter, and the ways that are left.

use super::{Guide, Halt, State, Turn};
use crate::failure::Failure;
use crate::model::question::{Choice, Offer, Unanswered};
use crate::render::text;
use crate::t;

/// A way out of a screen on which the dialogue is stuck.
pub(super) struct Way {
    text: fn() -> String,
    name: &'static str,
    to: State,
}

impl Way {
    /// Look at all disks again, after the user connected another one.
    pub(super) const LOOK_AGAIN: Way =
        Way { text: || t!("look again, after you connected or changed a disk"), name: "look-again", to: State::Look };
    /// Send a backup from the browser.
    pub(super) const UPLOAD: Way =
        Way { text: || t!("send a backup from this browser"), name: "upload", to: State::Upload };
    /// Choose another backup.
    pub(super) const OTHER_BACKUP: Way =
        Way { text: || t!("choose another backup"), name: "other-backup", to: State::Backup };
    /// Choose other apps.
    pub(super) const OTHER_APPS: Way = Way { text: || t!("choose other apps"), name: "other-apps", to: State::Apps };
}

impl Guide<'_> {
    /// Tells of a failure and asks how to go on. Whoever stops here stops because of it: that decides the exit code. An
    /// answer file does not have to foresee it.
    pub(super) fn stuck(
        &mut self,
        id: &'static str,
        title: String,
        failure: Failure,
        ways: &[Way],
    ) -> Result<Turn, Halt> {
        self.has_asked = true;
        let screen = self.screen(id, title, t!("What now?")).about(text::trouble(&failure));
        let options = ways.iter().map(|way| Offer::new((way.text)(), way.name)).collect();
        match self.prompter.choose(&Choice { screen, options, default: None }) {
            Err(error) if Unanswered::within(&error).is_some() => Err(Halt::Told(Box::new(failure))),
            Err(error) => Err(error.into()),
            Ok(answer) => match super::given(answer) {
                Err(_) => Err(Halt::Told(Box::new(failure))),
                Ok(None) => Ok(Turn::Back),
                Ok(Some(at)) => {
                    let to = ways.get(at).map_or(State::Look, |way| way.to);
                    // What comes again is not asked twice on the way back.
                    while self.past.contains(&to) {
                        self.past.pop();
                    }
                    self.has_asked = false;
                    Ok(Turn::To(to))
                }
            },
        }
    }
}
