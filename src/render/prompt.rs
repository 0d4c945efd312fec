//! Asking on a terminal: with arrow keys where the terminal can, in plain lines everywhere else.

use super::text::wrap;
use crate::model::question::{Answer, Choice, Prompter, Words};
use crate::model::secret::Secret;
use dialoguer::{Input, Password, Select};
use std::io::{self, BufRead, IsTerminal, Write};

/// The prompter that fits the terminal; plain lines where `plain` asks for them.
pub fn prompter(plain: bool) -> Box<dyn Prompter> {
    let capable = io::stdin().is_terminal()
        && io::stderr().is_terminal()
        && std::env::var("TERM").is_ok_and(|term| term != "dumb");
    if capable && !plain { Box::new(Terminal) } else { Box::new(Plain::new(unlocked(), io::stdout())) }
}

/// A prompter for single questions, which leaves standard output to the result; `None` where nobody could answer.
pub fn on_terminal() -> Option<Box<dyn Prompter>> {
    let is_there = io::stdin().is_terminal() && io::stderr().is_terminal();
    is_there.then(|| -> Box<dyn Prompter> { Box::new(Plain::new(unlocked(), io::stderr())) })
}

/// Standard input, which nobody holds between two questions: a passphrase is read past this.
fn unlocked() -> impl BufRead {
    io::BufReader::new(io::stdin())
}

/// Reads a line that is not shown.
fn hidden(text: &str) -> io::Result<Answer<Secret>> {
    let typed = Password::new().with_prompt(text).allow_empty_password(true).report(false).interact();
    Ok(Answer::Given(Secret::new(typed.map_err(io::Error::other)?.into_bytes())))
}

/// Plain lines: the question with its id, numbered answers, then one line from the user. No byte moves a cursor.
pub struct Plain<R, W> {
    input: R,
    output: W,
}

impl<R: BufRead, W: Write> Plain<R, W> {
    /// Asks on `output`, listens on `input`.
    pub fn new(input: R, output: W) -> Plain<R, W> {
        Plain { input, output }
    }

    fn line(&mut self) -> io::Result<Option<String>> {
        self.output.write_all(b"> ")?;
        self.output.flush()?;
        let mut line = Vec::new();
        if self.input.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        Ok(Some(String::from_utf8_lossy(&line).trim().to_owned()))
    }
}

impl<R: BufRead, W: Write> Prompter for Plain<R, W> {
    fn show(&mut self, text: &str) -> io::Result<()> {
        self.output.write_all(text.as_bytes())?;
        self.output.flush()
    }

    fn choose(&mut self, choice: &Choice) -> io::Result<Answer<usize>> {
        loop {
            self.output.write_all(wrap("", &format!("[{}] {}", choice.id, choice.text)).as_bytes())?;
            for (number, option) in (1..).zip(choice.options) {
                self.output.write_all(wrap("  ", &format!("{number}) {}", option.text)).as_bytes())?;
            }
            self.output.write_all(b"  q) stop here\n")?;
            match self.line()?.as_deref() {
                None | Some("q") => return Ok(Answer::Stop),
                Some(text) => match text.parse::<usize>() {
                    Ok(number) if (1..=choice.options.len()).contains(&number) => return Ok(Answer::Given(number - 1)),
                    _ => {
                        let range = format!("Please type a number from 1 to {}, or q.\n", choice.options.len());
                        self.output.write_all(range.as_bytes())?;
                    }
                },
            }
        }
    }

    fn ask(&mut self, words: &Words) -> io::Result<Answer<String>> {
        self.output.write_all(wrap("", &format!("[{}] {}", words.id, words.text)).as_bytes())?;
        match self.line()? {
            None => Ok(Answer::Stop),
            Some(text) if text == "q" => Ok(Answer::Stop),
            Some(text) => Ok(Answer::Given(text)),
        }
    }

    fn secret(&mut self, words: &Words) -> io::Result<Answer<Secret>> {
        self.output.write_all(wrap("", &format!("[{}] {}", words.id, words.text)).as_bytes())?;
        if io::stdin().is_terminal() {
            self.output.flush()?;
            return hidden("passphrase");
        }
        let mut line = Vec::new();
        self.output.write_all(b"> ")?;
        self.output.flush()?;
        match self.input.read_until(b'\n', &mut line)? {
            0 => Ok(Answer::Stop),
            _ => Ok(Answer::Given(Secret::of_file(line))),
        }
    }
}

/// A capable terminal.
struct Terminal;

impl Prompter for Terminal {
    fn show(&mut self, text: &str) -> io::Result<()> {
        io::stdout().lock().write_all(text.as_bytes())
    }

    fn choose(&mut self, choice: &Choice) -> io::Result<Answer<usize>> {
        let options: Vec<&str> = choice.options.iter().map(|option| option.text.as_str()).collect();
        let chosen = Select::new().with_prompt(choice.text).items(&options).default(0).interact_opt();
        Ok(chosen.map_err(io::Error::other)?.map_or(Answer::Stop, Answer::Given))
    }

    fn ask(&mut self, words: &Words) -> io::Result<Answer<String>> {
        let input = Input::<String>::new().with_prompt(words.text).allow_empty(true).interact_text();
        let text = input.map_err(io::Error::other)?.trim().to_owned();
        Ok(if text == "q" { Answer::Stop } else { Answer::Given(text) })
    }

    fn secret(&mut self, words: &Words) -> io::Result<Answer<Secret>> {
        hidden(words.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::question::Offer;

    fn choose(input: &str) -> (Answer<usize>, String) {
        let mut output = Vec::new();
        let options = [Offer::new("first", "1st"), Offer::new("second", "2nd")];
        let choice = Choice { id: "choose-x", text: "Which one?", options: &options };
        let answer = Plain::new(input.as_bytes(), &mut output).choose(&choice).unwrap();
        (answer, String::from_utf8(output).unwrap())
    }

    #[test]
    fn a_plain_question_is_numbered_and_asks_again_until_it_is_answered() {
        let (answer, shown) = choose("x\n3\n2\n");
        assert_eq!(answer, Answer::Given(1));
        assert!(shown.starts_with("[choose-x] Which one?\n  1) first\n  2) second\n  q) stop here\n> "));
        assert_eq!(shown.matches("Please type a number from 1 to 2, or q.").count(), 2);
        assert!(!shown.contains('\x1b'));
    }

    #[test]
    fn the_end_of_input_stops_and_never_chooses() {
        assert_eq!(choose("").0, Answer::Stop);
        assert_eq!(choose("q\n").0, Answer::Stop);
    }
}
