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
    pub options: &'a [String],
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

/// Asks questions: a terminal, plain lines, or a script.
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
