//! Whether the people of an old box come along with its apps. No backup holds them, so this is asked of a disk only.

use super::{Guide, Halt, State, Turn};
use crate::model::plan::Extra;
use crate::model::question::Offer;
use crate::t;

impl Guide<'_> {
    /// What is asked after the apps are chosen.
    pub(super) fn after_apps(&mut self) -> State {
        self.chosen.extras.clear();
        if self.chosen.is_system { State::Accounts } else { State::Check }
    }

    pub(super) fn choose_accounts(&mut self) -> Result<Turn, Halt> {
        let options = vec![
            Offer::new(t!("no, only the apps"), "no"),
            Offer::new(t!("yes: names, passwords, groups and SSH keys; who is on the new box stays as he is"), "yes"),
        ];
        let screen = self
            .screen("choose-accounts", t!("The people"), t!("Bring the user accounts of the old box over as well?"))
            .then(t!("the backup is read to its end and compared with the box, which may take a while."));
        let Some(chosen) = self.choose(screen, options, Some(0))? else { return Ok(Turn::Back) };
        self.chosen.extras = if chosen == 1 { vec![Extra::Accounts] } else { Vec::new() };
        Ok(Turn::To(State::Check))
    }
}
