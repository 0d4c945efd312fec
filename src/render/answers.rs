//! Answers from a file instead of from a person: every question by its id, and never a guess.
//!
//! The file is TOML: `choose-box = "…"`, one line per question. A choice is answered with one of its lasting names (a
//! serial number, a UUID, an id), a name that fits several answers fits none. What the file does not answer stops the
//! run before anything is written.

use super::screen::head;
use super::text::wrap;
use crate::failure::Failure;
use crate::model::ending::Ending;
use crate::model::question::{Answer, Choice, Prompter, QUESTIONS, Screen, Unanswered, Words};
use crate::model::secret::Secret;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

/// Longest answer file.
const LONGEST: u64 = 64 << 10;

/// The answers of a file. What is asked and answered is printed, except for passphrases.
pub struct Answers<W> {
    answers: BTreeMap<String, Secret>,
    asked: BTreeSet<String>,
    output: W,
}

impl Answers<io::Stdout> {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let failed = |why: String| {
            let sentence = format!("reading the answers from \"{}\": {why}", path.display());
            let advice = format!("write one line for each question: {}", QUESTIONS.join(", "));
            Failure::untouched(Ending::Usage, sentence, advice)
        };
        let mut text = String::new();
        let read = File::open(path).and_then(|file| file.take(LONGEST + 1).read_to_string(&mut text));
        read.map_err(|error| failed(error.to_string()))?;
        if text.len() as u64 > LONGEST {
            return Err(failed(format!("it is longer than {LONGEST} bytes")));
        }
        Ok(Answers { answers: parse(&text).map_err(failed)?, asked: BTreeSet::new(), output: io::stdout() })
    }
}

/// Takes the lines apart. An unknown question is an error: it may be one that is misspelt.
fn parse(text: &str) -> Result<BTreeMap<String, Secret>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // The message of the parser shows the line, and that may hold the passphrase.
    let table: toml::Table = toml::from_str(text).map_err(|error: toml::de::Error| match error.span() {
        Some(span) => {
            let line = text.get(..span.start).unwrap_or_default().lines().count().max(1);
            format!("line {line} is not of the form 'question = \"answer\"'")
        }
        None => "it is not TOML".to_owned(),
    })?;
    let mut answers = BTreeMap::new();
    for (id, value) in table {
        if !QUESTIONS.contains(&id.as_str()) {
            return Err(format!("there is no question '{id}'"));
        }
        let answer = match &value {
            toml::Value::String(text) => text.clone(),
            toml::Value::Array(list) if id == "app-names" => {
                let names: Option<Vec<&str>> = list.iter().map(toml::Value::as_str).collect();
                names.ok_or_else(|| format!("'{id}' is not a list of texts"))?.join(" ")
            }
            _ => return Err(format!("the answer to '{id}' is not a text in quotation marks")),
        };
        answers.insert(id, Secret::new(answer.into_bytes()));
    }
    Ok(answers)
}

impl<W: Write> Answers<W> {
    fn answer(&mut self, screen: &Screen, options: &str) -> io::Result<Secret> {
        self.output.write_all(head(screen).as_bytes())?;
        let id = screen.id;
        let unanswered =
            |why: String| io::Error::other(Unanswered { id: id.to_owned(), why: format!("{why}{options}") });
        if !self.asked.insert(id.to_owned()) {
            return Err(unanswered("its answer was not taken".to_owned()));
        }
        self.answers.get(id).cloned().ok_or_else(|| unanswered("it has no such line".to_owned()))
    }

    fn text(&mut self, screen: &Screen, options: &str) -> io::Result<String> {
        let answer = String::from_utf8_lossy(self.answer(screen, options)?.reveal()).into_owned();
        self.output.write_all(wrap("> ", &answer).as_bytes())?;
        self.output.flush()?;
        Ok(answer)
    }
}

impl<W: Write> Prompter for Answers<W> {
    fn show(&mut self, text: &str) -> io::Result<()> {
        self.output.write_all(text.as_bytes())?;
        self.output.flush()
    }

    fn read(&mut self, screen: &Screen) -> io::Result<Answer<()>> {
        self.show(&head(screen))?;
        Ok(Answer::Given(()))
    }

    fn choose(&mut self, choice: &Choice) -> io::Result<Answer<usize>> {
        let known: Vec<String> = choice.options.iter().map(|option| option.names.join(" or ")).collect();
        let known = format!("; it can be {}", known.join("; "));
        let answer = self.text(&choice.screen, &known)?;
        let fits = |at: &usize| choice.options.get(*at).is_some_and(|option| option.names.contains(&answer));
        let fitting: Vec<usize> = (0..choice.options.len()).filter(fits).collect();
        let why = match fitting.as_slice() {
            [one] => return Ok(Answer::Given(*one)),
            [] => format!("'{answer}' is not there{known}"),
            _ => format!("'{answer}' fits several{known}"),
        };
        Err(io::Error::other(Unanswered { id: choice.screen.id.to_owned(), why }))
    }

    fn ask(&mut self, words: &Words) -> io::Result<Answer<String>> {
        Ok(Answer::Given(self.text(&words.screen, "")?.trim().to_owned()))
    }

    fn secret(&mut self, words: &Words) -> io::Result<Answer<Secret>> {
        let answer = self.answer(&words.screen, "")?;
        self.output.write_all(b"> (from the answer file)\n")?;
        Ok(Answer::Given(answer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::question::Offer;

    fn answers(text: &str) -> Answers<Vec<u8>> {
        Answers { answers: parse(text).unwrap(), asked: BTreeSet::new(), output: Vec::new() }
    }

    fn why(result: io::Result<Answer<usize>>) -> String {
        Unanswered::within(&result.unwrap_err()).unwrap().why.clone()
    }

    #[test]
    fn a_choice_is_made_by_a_name_that_fits_exactly_one_answer() {
        let offer = |text: &str, names: &[&str]| Offer {
            text: text.into(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
        };
        let options = [offer("first", &["A1", "disk"]), offer("second", &["B2", "disk"])];
        let choice = Choice {
            screen: Screen::new("choose-box", "The box", "Which?"),
            options: options.into(),
            default: Some(0),
        };
        assert_eq!(answers("choose-box = \"B2\"").choose(&choice).unwrap(), Answer::Given(1));
        assert!(why(answers("choose-box = \"disk\"").choose(&choice)).starts_with("'disk' fits several"));
        assert!(why(answers("choose-box = \"2\"").choose(&choice)).contains("A1 or disk; B2 or disk"));
        assert!(why(answers("").choose(&choice)).starts_with("it has no such line"));
    }

    #[test]
    fn a_question_that_is_asked_again_is_not_answered_again() {
        let mut answers = answers("consent = \"other\"");
        let words = Words::new(Screen::new("consent", "Start", "Type the name."));
        assert_eq!(answers.ask(&words).unwrap(), Answer::Given("other".to_owned()));
        assert!(Unanswered::within(&answers.ask(&words).unwrap_err()).is_some());
    }

    #[test]
    fn a_passphrase_is_not_shown_by_a_question_nor_by_an_error() {
        let mut answers = answers("passphrase = \"correct horse\"");
        let words = Words::new(Screen::new("passphrase", "Encrypted", "Type it."));
        let Answer::Given(secret) = answers.secret(&words).unwrap() else { panic!("it is there") };
        assert_eq!(secret.reveal(), b"correct horse");
        assert!(!String::from_utf8_lossy(&answers.output).contains("horse"));
        for odd in ["passphrase = correct horse", "passphrase = \"correct horse", "passphrase = [\"correct horse\"]"] {
            assert!(!parse(odd).unwrap_err().contains("horse"), "{odd}");
        }
        assert_eq!(parse("chose-box = \"x\"").unwrap_err(), "there is no question 'chose-box'");
    }
}
