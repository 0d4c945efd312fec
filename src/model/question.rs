//! Questions to the user, and whoever asks them.
//!
//! A question is a [`Screen`] of data; how it is shown is the business of whoever asks: a terminal, plain lines, a page,
//! an answer file. Every question has a stable id, so that a script, an answer file or a page can answer it without
//! reading it. An answer is given, or is the wish to go back one question, or to stop.

use super::pipe::{Incoming, Inlet};
use super::secret::Secret;
use serde::Serialize;

/// What every question shows: one thing is asked on one screen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Screen {
    /// Stable id, `choose-box`.
    pub id: &'static str,
    /// A few words that stand above everything, without a full stop.
    pub title: String,
    /// What there is to know before answering: whole lines, or nothing. Lines that are wider than the place where they
    /// are shown are folded there.
    pub body: String,
    /// The question, one or two sentences.
    pub text: String,
    /// What happens after the answer, one sentence; or nothing.
    pub next: String,
    /// Whether nothing has been changed so far; is said on every screen where it is so.
    pub untouched: bool,
    /// Whether it is possible to go back to the question before.
    pub back: bool,
}

impl Screen {
    /// A screen before anything was changed, from which one can go back.
    pub fn new(id: &'static str, title: impl Into<String>, text: impl Into<String>) -> Screen {
        Screen {
            id,
            title: title.into(),
            body: String::new(),
            text: text.into(),
            next: String::new(),
            untouched: true,
            back: true,
        }
    }

    /// With what there is to know.
    #[must_use]
    pub fn about(self, body: impl Into<String>) -> Screen {
        Screen { body: body.into(), ..self }
    }

    /// With what happens next.
    #[must_use]
    pub fn then(self, next: impl Into<String>) -> Screen {
        Screen { next: next.into(), ..self }
    }

    /// From which one cannot go back.
    #[must_use]
    pub fn first(self) -> Screen {
        Screen { back: false, ..self }
    }
}

/// A question with numbered answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Choice {
    /// What is shown.
    pub screen: Screen,
    /// The answers, in order; there is at least one.
    pub options: Vec<Offer>,
    /// Which one is taken where the user only presses Enter; never one that changes anything. `None` where the user has
    /// to choose.
    pub default: Option<usize>,
}

/// One answer to choose from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Offer {
    /// What people read.
    pub text: String,
    /// Names that stay the same from run to run, by which an answer file calls it: a serial number, a UUID, an id.
    pub names: Vec<String>,
}

impl Offer {
    /// An answer with one name.
    pub fn new(text: impl Into<String>, name: impl Into<String>) -> Offer {
        Offer { text: text.into(), names: vec![name.into()] }
    }
}

/// A question that is answered with words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Words {
    /// What is shown.
    pub screen: Screen,
    /// Whether a secret is shown while it is typed, because the user asked for that.
    pub visible: bool,
    /// The word by which the user agrees, where only that word does.
    pub confirms: Option<String>,
}

impl Words {
    /// A question for any words.
    pub fn new(screen: Screen) -> Words {
        Words { screen, visible: false, confirms: None }
    }
}

/// What the user answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer<T> {
    /// This.
    Given(T),
    /// The user wants to go back to the question before; only where the screen allows it.
    Back,
    /// The user wants to stop; nothing more is to be done.
    Stop,
}

impl<T> Answer<T> {
    /// The same wish with another kind of answer.
    pub fn map<U>(self, made: impl FnOnce(T) -> U) -> Answer<U> {
        match self {
            Answer::Given(answer) => Answer::Given(made(answer)),
            Answer::Back => Answer::Back,
            Answer::Stop => Answer::Stop,
        }
    }
}

/// A question to which an answer file has no fitting answer. Prompters return it inside of an `io::Error`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the answer file does not answer the question '{id}': {why}")]
pub struct Unanswered {
    /// The question's id.
    pub id: String,
    /// What is the matter, and which answers there are.
    pub why: String,
}

impl Unanswered {
    /// The one inside of an error.
    pub fn within(error: &std::io::Error) -> Option<&Unanswered> {
        error.get_ref()?.downcast_ref()
    }
}

/// The ids of all questions.
pub const QUESTIONS: [&str; 29] = [
    "language",
    "keyboard",
    "no-box",
    "choose-box",
    "earlier-restore",
    "no-backup",
    "choose-backup",
    "passphrase",
    "passphrase-wrong",
    "choose-archive",
    "choose-apps",
    "app-names",
    "choose-accounts",
    "choose-names",
    "choose-networks",
    "choose-backup-locations",
    "choose-folders",
    "damaged",
    "no-space",
    "blocked",
    "not-included",
    "consent",
    "consent-commit",
    "consent-grow",
    "failed",
    "upload-to",
    "upload",
    "download",
    "ended",
];

/// Asks questions: a terminal, plain lines, a page, or an answer file.
///
/// A question that is asked again was answered in a way that could not be taken; what is wrong stands on the new screen.
pub trait Prompter {
    /// Shows text that needs no answer: whole lines of at most 80 columns.
    fn show(&mut self, text: &str) -> std::io::Result<()>;
    /// Shows a screen that is only to be read, and waits until it was.
    fn read(&mut self, screen: &Screen) -> std::io::Result<Answer<()>>;
    /// Asks for one of the options; the answer is its index.
    fn choose(&mut self, choice: &Choice) -> std::io::Result<Answer<usize>>;
    /// Asks for words; they come without surrounding blanks.
    fn ask(&mut self, words: &Words) -> std::io::Result<Answer<String>>;
    /// Asks for a passphrase, which is not shown where that can be helped. An empty one is a wish to go back, or to stop
    /// where one cannot.
    fn secret(&mut self, words: &Words) -> std::io::Result<Answer<Secret>> {
        Ok(self.ask(words)?.map(|text| Secret::new(text.into_bytes())))
    }
    /// Whether somebody can send files and take them along: a page can.
    fn hands_files(&self) -> bool {
        false
    }
    /// Asks for a file.
    fn receive(&mut self, _: &Screen) -> std::io::Result<Answer<Incoming>> {
        Ok(Answer::Stop)
    }
    /// Asks for somebody who takes a file of this name along.
    fn send(&mut self, _: &Screen, _name: &str) -> std::io::Result<Answer<Inlet>> {
        Ok(Answer::Stop)
    }
}
