//! One console at a desk where others may answer too: it shows everything, in plain lines, and takes its own answers.
//!
//! Two threads for each console: one prints what happens, one listens. What is typed counts for the question that is
//! open, but not for one that took another's place just before because somebody else answered: nobody can have meant it.

use super::prompt::has_letters;
use super::screen::{PAGE, foot, head, options, ways_out};
use super::text::wrap;
use crate::model::desk::{Desk, Entry, Question, Refused, Reply, Sheet};
use crate::model::secret::Secret;
use crate::{t, words};
use std::io::{self, BufRead, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Nobody reads a question and answers it in less.
const FASTEST: Duration = Duration::from_millis(700);

/// A console.
pub struct Console {
    /// How others call it, `tty1`.
    pub name: String,
    /// What is typed; `None` for one that is only looked at.
    pub input: Option<Box<dyn BufRead + Send>>,
    /// What is shown.
    pub output: Box<dyn Write + Send>,
    /// Hides or shows what is typed, where it can.
    pub echo: Option<Box<dyn Fn(bool) + Send>>,
}

/// What both threads need.
struct Shared {
    output: Box<dyn Write + Send>,
    /// Whether the console has only the letters of ASCII.
    ascii: bool,
    /// When a question took the place of one that somebody else answered.
    replaced: Option<Instant>,
}

impl Shared {
    fn say(&mut self, text: &str) {
        // A console that went away stops nobody at another one.
        let text = if self.ascii { words::ascii(text) } else { text.to_owned() };
        let _ = self.output.write_all(text.as_bytes()).and_then(|()| self.output.flush());
    }
}

/// Puts a console at the desk. The thread ends when everything was shown and the desk was closed.
pub fn attach(desk: &Arc<Desk>, console: Console) -> io::Result<JoinHandle<()>> {
    let Console { name, input, output, echo } = console;
    let screen = Arc::new(Mutex::new(Shared { output, ascii: !has_letters(), replaced: None }));
    if let Some(mut input) = input {
        let (desk, name, screen) = (Arc::clone(desk), name.clone(), Arc::clone(&screen));
        thread::Builder::new().spawn(move || listen(&desk, &name, input.as_mut(), &screen))?;
    }
    let desk = Arc::clone(desk);
    thread::Builder::new().spawn(move || show(&desk, &name, &screen, echo.as_deref()))
}

fn show(desk: &Desk, name: &str, screen: &Mutex<Shared>, echo: Option<&(dyn Fn(bool) + Send)>) {
    let mut known = 0;
    let (mut by_other, mut waits) = (false, false);
    while let Some(entries) = desk.wait(known) {
        known += entries.len();
        for entry in entries {
            let mut screen = screen.lock().unwrap_or_else(PoisonError::into_inner);
            match entry {
                // Whoever looks at a question has to see again that it waits.
                Entry::Aside(text) if waits => screen.say(&format!("\n{text}> ")),
                Entry::Shown(text) | Entry::Aside(text) => screen.say(&text),
                Entry::Asked(sheet) => {
                    waits = true;
                    screen.replaced = by_other.then(Instant::now);
                    if let Some(echo) = echo {
                        echo(!matches!(&sheet.question, Question::Secret(words) if !words.visible));
                    }
                    screen.say(&question(&sheet, 0));
                }
                Entry::Answered { sheet, answer, by } => {
                    waits = false;
                    if let (Some(echo), Question::Secret(_)) = (echo, &sheet.question) {
                        echo(true);
                        screen.say("\n");
                    }
                    by_other = by != name;
                    if by_other {
                        screen.say(&format!(
                            "\n{}",
                            wrap("", &t!("Answered ({by}): {answer}", by = by, answer = answer))
                        ));
                    }
                }
            }
        }
    }
}

/// The standard output, for the console that the program was started on.
pub fn standard() -> Box<dyn Write + Send> {
    Box::new(io::stdout())
}

/// The question with its id and the ways to answer it; of many answers those from `first` on.
fn question(sheet: &Sheet, first: usize) -> String {
    let screen = sheet.question.screen();
    let (answers, how) = match &sheet.question {
        Question::Choice(choice) => {
            let how = match choice.default {
                Some(at) => wrap("", &t!("Type a number, or only press Enter for {number}.", number = at + 1)),
                None => wrap("", &t!("Type a number.")),
            };
            (options(choice, first), how)
        }
        Question::Read(_) => (String::new(), wrap("", &t!("Press Enter to go on."))),
        Question::Words(_) | Question::Secret(_) => Default::default(),
        Question::File(_) | Question::Taker(..) => {
            (String::new(), wrap("", &t!("This is done on the page, not here.")))
        }
    };
    let ways = if matches!(sheet.question, Question::Secret(_)) { String::new() } else { ways_out(screen) };
    head(screen) + &answers + &ways + &foot(screen) + &how + "> "
}

fn listen(desk: &Desk, name: &str, input: &mut dyn BufRead, screen: &Mutex<Shared>) {
    let mut line = Vec::new();
    // Where in a long list this console is, and of which question.
    let mut first = (0, 0);
    loop {
        line.clear();
        // What stands in a pipe is for the questions in their order.
        if desk.settle().is_none() || !matches!(input.read_until(b'\n', &mut line), Ok(1..)) {
            return;
        }
        let Some(sheet) = desk.open() else { continue };
        let replaced = screen.lock().unwrap_or_else(PoisonError::into_inner).replaced;
        if first.0 != sheet.number {
            first = (sheet.number, 0);
        }
        let complaint = if replaced.is_some_and(|at| at.elapsed() < FASTEST) {
            wrap("", &t!("The question has changed while you typed. Please answer this one."))
        } else {
            match reply(&sheet, &line).map(|reply| desk.answer(sheet.number, reply, name)) {
                Ok(Ok(()) | Err(Refused::Late)) => continue,
                Ok(Err(Refused::Unfit)) => wrap("", &t!("That was no answer. Please try again.")),
                Err(Odd::More(count)) => {
                    first.1 = if first.1 + PAGE < count { first.1 + PAGE } else { 0 };
                    String::new()
                }
                Err(Odd::Wrong(complaint)) => complaint,
            }
        };
        let mut screen = screen.lock().unwrap_or_else(PoisonError::into_inner);
        screen.say(&complaint);
        screen.say(&question(&sheet, first.1));
    }
}

/// What is typed and no answer.
enum Odd {
    /// The wish to see more of so many answers.
    More(usize),
    /// A mistake, and what to do instead.
    Wrong(String),
}

/// What a typed line means as an answer.
fn reply(sheet: &Sheet, line: &[u8]) -> Result<Reply, Odd> {
    let text = String::from_utf8_lossy(line).trim().to_owned();
    let screen = sheet.question.screen();
    let wrong = |what: String| Err(Odd::Wrong(wrap("", &what)));
    match &sheet.question {
        Question::Secret(_) => {
            let secret = Secret::of_file(line.to_vec());
            // An empty one is the wish to leave the question.
            let leave = if screen.back { Reply::Back } else { Reply::Stop };
            Ok(if secret.reveal().is_empty() { leave } else { Reply::Secret(secret) })
        }
        Question::Words(words) if words.confirms.as_ref() == Some(&text) => Ok(Reply::Words(text)),
        _ if text == "q" => Ok(Reply::Stop),
        _ if text == "b" && screen.back => Ok(Reply::Back),
        Question::Words(_) => Ok(Reply::Words(text)),
        Question::Read(_) if text.is_empty() => Ok(Reply::Read),
        Question::Read(_) => wrong(t!("Please press Enter alone to go on.")),
        Question::File(_) | Question::Taker(..) => wrong(t!("Please do this on the page, or type q.")),
        Question::Choice(choice) => {
            let count = choice.options.len();
            match (text.parse::<usize>(), choice.default) {
                (Ok(number), _) if (1..=count).contains(&number) => Ok(Reply::Choice(number - 1)),
                (Ok(0), _) if count > PAGE => Err(Odd::More(count)),
                (Err(_), Some(at)) if text.is_empty() => Ok(Reply::Choice(at)),
                _ => wrong(t!("Please type a number from 1 to {last}, or q.", last = count)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::desk::Asking;
    use crate::model::question::{Answer, Choice, Offer, Prompter, Screen, Words};

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn console(name: &str, typed: &'static [u8]) -> (Paper, Console) {
        let paper = Paper::default();
        let output = Box::new(paper.clone());
        (paper, Console { name: name.into(), input: Some(Box::new(typed)), output, echo: None })
    }

    fn text(paper: &Paper) -> String {
        String::from_utf8(paper.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn every_console_shows_the_dialogue_and_one_of_them_answers() {
        let desk = Desk::new();
        let (first, typing) = console("tty1", b"x\n2\nfreedombox\n");
        let (second, silent) = console("ttyS0", b"");
        let threads = [attach(&desk, typing).unwrap(), attach(&desk, silent).unwrap()];
        let mut asking = Asking(Arc::clone(&desk));
        asking.show("Looking.\n").unwrap();
        let options = vec![Offer::new("first", "1st"), Offer::new("second", "2nd")];
        let screen = Screen::new("choose-box", "The box", "Which one?").first();
        let choice = Choice { screen, options, default: None };
        assert_eq!(asking.choose(&choice).unwrap(), Answer::Given(1));
        let words = Words::new(Screen::new("consent", "Start", "Type it."));
        assert_eq!(Prompter::ask(&mut asking, &words).unwrap(), Answer::Given("freedombox".into()));
        desk.close();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let asked = "== The box ==\n[choose-box] Which one?\n  1) first\n  2) second\n  q) stop here\nNothing has been \
                     changed so far.\nType a number.\n> ";
        assert!(
            text(&first).contains(&format!("Please type a number from 1 to 2, or q.\n\n{asked}")),
            "{}",
            text(&first)
        );
        let other = text(&second);
        assert!(other.starts_with(&format!("Looking.\n\n{asked}\nAnswered (tty1): second\n")), "{other}");
        assert!(other.ends_with("> \nAnswered (tty1): freedombox\n") && other.contains("  b) go back\n"), "{other}");
        assert!(!other.contains('\x1b'));
    }

    #[test]
    fn a_long_list_is_shown_in_pages() {
        let desk = Desk::new();
        let (paper, typing) = console("tty1", b"0\n0\n12\n");
        let thread = attach(&desk, typing).unwrap();
        let options = (1..=12).map(|at| Offer::new(format!("answer {at}"), at.to_string())).collect();
        let choice = Choice { screen: Screen::new("choose-box", "The box", "Which one?"), options, default: Some(0) };
        assert_eq!(Asking(Arc::clone(&desk)).choose(&choice).unwrap(), Answer::Given(11));
        desk.close();
        thread.join().unwrap();
        assert_eq!(
            (text(&paper).matches(" 1) answer 1\n").count(), text(&paper).matches("12) answer 12\n").count()),
            (2, 1)
        );
    }
}
