//! An earlier restore on the box comes first: nothing else may begin before it is finished, undone or kept for good.

use super::naming::place_of;
use super::{Guide, Halt, State, Turn};
use crate::failure::Failure;
use crate::model::ending::Ending;
use crate::model::question::{Offer, Words};
use crate::model::state::{DataState, RestoreState};
use crate::render::{View, text};
use crate::rescue::Status;
use crate::rescue::carry::{commit, resume, undo};
use crate::restore;
use crate::sys::dir::Dir;
use crate::t;

/// What can be done with it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    GoOn,
    Leave,
    Undo,
    Keep,
}

impl Way {
    fn offer(self) -> Offer {
        match self {
            Way::GoOn => Offer::new(t!("go on with it to its end"), "go-on"),
            Way::Leave => Offer::new(t!("leave it as it is, and end here"), "leave"),
            Way::Undo => Offer::new(t!("undo it: put the old data back"), "undo"),
            Way::Keep => Offer::new(
                t!("keep the restored data and remove the old data for good, to free its room for another restore"),
                "commit",
            ),
        }
    }
}

impl Guide<'_> {
    pub(super) fn settle_earlier(&mut self) -> Result<Turn, Halt> {
        let Some(box_) = self.chosen.box_.clone() else { return Ok(Turn::Back) };
        let root = Dir::open(&box_.root)?;
        let standing = restore::standing(&root).map_err(|error| Failure::of_restore(&error, DataState::Unknown))?;
        drop(root);
        let Some(standing) = standing.filter(restore::Standing::is_open) else { return Ok(Turn::To(State::Backup)) };
        let state = standing.state;
        let (title, ways) = match state {
            RestoreState::Interrupted => (t!("An earlier restore was interrupted"), vec![Way::GoOn, Way::Undo]),
            RestoreState::Restored => (t!("An earlier restore is on this box"), vec![Way::Leave, Way::Undo, Way::Keep]),
            _ => (t!("An earlier restore is on this box"), vec![Way::Leave, Way::Undo]),
        };
        let mut screen = self
            .screen("earlier-restore", title, t!("What is to be done with it?"))
            .about(Status::of(Some(standing)).text())
            .then(t!("what you choose here is done at once."));
        screen.untouched = false;
        let offers = ways.iter().map(|way| way.offer()).collect();
        // Leaving it changes nothing; of the two ways out of an interruption none is taken by chance.
        let default = ways.iter().position(|way| *way == Way::Leave);
        let Some(index) = self.choose(screen, offers, default)? else { return Ok(Turn::Back) };
        let way = ways.get(index).copied().unwrap_or(Way::Leave);
        if way == Way::Leave {
            return Ok(Turn::End(Ending::Done));
        }
        if way == Way::Keep && !self.agrees_to_remove(&box_.hostname)? {
            return Ok(Turn::To(State::Earlier));
        }
        let Some(surveyed) = self.surveyed.as_mut() else { return Ok(Turn::Anew(State::Look)) };
        let onto = place_of(surveyed, &box_);
        surveyed.mounts.clear();
        self.is_stale = true;
        let done = match way {
            Way::GoOn => match resume(self.host, &onto, self.progress) {
                // It stopped before the backup was read to its end, so the backup is needed once more.
                Err(failure) if failure.ending == Ending::Interrupted && failure.state == DataState::OldDataActive => {
                    return self.begin_again(&failure);
                }
                done => done?,
            },
            Way::Undo => undo(self.host, &onto, false, self.progress)?,
            Way::Keep | Way::Leave => commit(self.host, &onto, self.progress)?,
        };
        let ending = self.report(done)?;
        Ok(if way == Way::Keep { Turn::Anew(State::Look) } else { Turn::End(ending) })
    }

    /// The second thing that cannot be taken back, so it is typed as well.
    fn agrees_to_remove(&mut self, hostname: &str) -> Result<bool, Halt> {
        let word = super::consent::word(hostname);
        let text = t!(
            "The old data cannot be brought back after this. To remove it, type the name of the box: {word}",
            word = word
        );
        let mut screen = self.screen("consent-commit", t!("Remove the old data"), text);
        (screen.untouched, screen.back) = (false, true);
        let words = Words { confirms: Some(word.to_owned()), ..Words::new(screen) };
        Ok(self.ask(&words)?.is_some_and(|typed| typed == word))
    }

    /// The box is looked at anew, and this time the interrupted restore is gone on with by choosing the same things.
    fn begin_again(&mut self, failure: &Failure) -> Result<Turn, Halt> {
        self.prompter.show(&text::trouble(failure))?;
        self.prompter.show(&text::wrap(
            "",
            &t!("It goes on with the same box, the same backup and the same apps: choose them again. What was written is used."),
        ))?;
        let box_ = self.chosen.box_.clone();
        self.look()?;
        let boxes = self.surveyed.iter().flat_map(|surveyed| &surveyed.survey.installations);
        self.chosen.box_ =
            boxes.into_iter().find(|found| box_.as_ref().is_some_and(|box_| found.place == box_.place)).cloned();
        Ok(Turn::Anew(if self.chosen.box_.is_some() { State::Backup } else { State::Box }))
    }
}
