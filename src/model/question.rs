//! Questions to the user, and whoever asks them.
//!
//! Every question has a stable id, so that a script, an answer file or a page can answer it without reading it.

use super::secret::Secret;

/// A question with numbered answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice<'a> {
    /// Stable id, `choose-box`.
    pub id: &'a str,
    /// The question, one or two sentences.
    pub text: &'a str,
    /// The answers, in order.
    pub options: &'a [Offer],
}

/// One answer to choose from.
#[derive(Debug, Clone, PartialEq, Eq)]
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words<'a> {
    /// Stable id, `consent`.
    pub id: &'a str,
    /// The question.
    pub text: &'a str,
}

/// What the user answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer<T> {
    /// This.
    Given(T),
    /// The user wants to stop; nothing more is to be done.
    Stop,
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
pub const QUESTIONS: [&str; 8] = [
    "choose-box",
    "earlier-restore",
    "choose-backup",
    "passphrase",
    "choose-archive",
    "choose-apps",
    "app-names",
    "consent",
];

/// Asks questions: a terminal, plain lines, or an answer file.
pub trait Prompter {
    /// Shows text that needs no answer.
    fn show(&mut self, text: &str) -> std::io::Result<()>;
    /// Asks for one of the options; the answer is its index.
    fn choose(&mut self, choice: &Choice) -> std::io::Result<Answer<usize>>;
    /// Asks for words; they come without surrounding blanks.
    fn ask(&mut self, words: &Words) -> std::io::Result<Answer<String>>;
    /// Asks for a passphrase, which is not shown where that can be helped.
    fn secret(&mut self, words: &Words) -> std::io::Result<Answer<Secret>> {
        Ok(match self.ask(words)? {
            Answer::Given(text) => Answer::Given(Secret::new(text.into_bytes())),
            Answer::Stop => Answer::Stop,
        })
    }
}
