//! The one consent, and the restore itself.

use super::{Guide, Halt, State, Turn};
use crate::model::ending::Ending;
use crate::model::question::Words;
use crate::render::{record, text};
use crate::rescue::Backup;
use crate::rescue::carry::carry_out;
use crate::rescue::prepare::prepare;
use crate::restore::Consent;
use crate::survey::target::Access;
use crate::t;

/// What is typed to agree: the box's name.
pub(super) fn word(hostname: &str) -> &str {
    if hostname.trim().is_empty() { "freedombox" } else { hostname.trim() }
}

impl Guide<'_> {
    pub(super) fn consent(&mut self) -> Result<Turn, Halt> {
        let Some((plan, backup)) = self.chosen.plan.clone() else { return Ok(Turn::Back) };
        let word = word(&plan.target.hostname).to_owned();
        let question = t!(
            "This is the only step that changes the box. The old data is kept until you remove it. To start, type the name of the box: {word}",
            word = word
        );
        let mut wrong = String::new();
        loop {
            let screen = self.screen("consent", t!("Start"), question.clone()).about(wrong).then(t!(
                "the restore runs. Do not switch off; if the power fails, start Lifeboat again and it goes on."
            ));
            let words = Words { confirms: Some(word.clone()), ..Words::new(screen) };
            match self.ask(&words)? {
                None => return Ok(Turn::Back),
                Some(typed) if typed == word => break,
                Some(_) => wrong = text::wrap("", &t!("That is not the name of the box.")),
            }
        }
        let Some(request) = self.request(backup) else { return Ok(Turn::Anew(State::Look)) };
        if matches!(request.from, Backup::OnBox(_)) {
            self.surveyed = None;
        }
        let (host, progress) = (self.host, self.progress);
        let Some(prepared) = self.unlocked(|unlock| prepare(host, &request, Access::Write, unlock, progress))? else {
            return Ok(Turn::To(State::Consent));
        };
        let done = carry_out(host, prepared?, &Consent::to(plan.id), &record::papers, progress)?;
        let ending = self.report(done)?;
        let end = match ending {
            Ending::Done => t!(
                "Finished. Remove the rescue medium and start the box normally. The old data is still on the box; 'lifeboat undo' brings it back."
            ),
            _ => t!(
                "Finished, with the losses that were listed: not everything came back. Remove the rescue medium and start the box normally. The old data is still on the box; 'lifeboat undo' brings it back."
            ),
        };
        self.prompter.show(&text::wrap("", &format!("[done] {end}")))?;
        Ok(Turn::End(ending))
    }
}
