//! Asking on a terminal: with arrow keys where the terminal can, in plain lines everywhere else.

use super::screen::{PAGE, foot, head, options, ways_out};
use super::text::{fold, wrap};
use crate::model::question::{Answer, Choice, Prompter, Screen, Words};
use crate::model::secret::Secret;
use crate::t;
use dialoguer::console::{Key, Term};
use dialoguer::theme::Theme;
use dialoguer::{Input, Password, Select};
use std::fmt;
use std::io::{self, BufRead, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};

/// The prompter that fits the terminal; plain lines where `plain` asks for them.
pub fn prompter(plain: bool) -> Box<dyn Prompter> {
    let capable = io::stdin().is_terminal()
        && io::stderr().is_terminal()
        && std::env::var("TERM").is_ok_and(|term| term != "dumb");
    if capable && !plain && has_letters() {
        return Box::new(Terminal);
    }
    let is_seen = io::stdin().is_terminal() && io::stdout().is_terminal();
    // A serial line does not tell its size: whoever is at its other end can scroll.
    let rows = Term::stdout().size_checked().map(|(rows, _)| usize::from(rows)).filter(|rows| is_seen && *rows > 5);
    Box::new(Plain { rows, ascii: !has_letters(), ..Plain::new(unlocked(), io::stdout()) })
}

/// Whether the console shows other letters than those of ASCII, as far as its locale says.
pub(super) fn has_letters() -> bool {
    let names = ["LC_ALL", "LC_CTYPE", "LANG"];
    let locale = names.iter().filter_map(|name| std::env::var(name).ok()).find(|value| !value.is_empty());
    match locale.map(|locale| locale.to_ascii_lowercase()) {
        Some(locale) => locale.contains("utf-8") || locale.contains("utf8"),
        None => std::env::var("TERM").map_or(true, |term| term != "dumb"),
    }
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

/// What was chosen for the keyboard of this computer.
static LAYOUT: Mutex<Option<String>> = Mutex::new(None);

/// From now on the keyboard of this computer has that layout.
pub fn keyboard_is(layout: &str) {
    *LAYOUT.lock().unwrap_or_else(PoisonError::into_inner) = Some(layout.to_owned());
}

/// The layout of the keyboard, where it was chosen or whoever started the program says it; of some use with passphrases.
fn keyboard() -> String {
    let chosen = LAYOUT.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let layout = chosen.unwrap_or_else(|| std::env::var("LIFEBOAT_KEYBOARD").unwrap_or_default());
    let is_plain = !layout.is_empty() && layout.len() < 40 && !layout.chars().any(char::is_control);
    if is_plain {
        wrap("", &t!("A keyboard at this computer has this layout: {layout}.", layout = layout))
    } else {
        String::new()
    }
}

/// Reads a line that is not shown.
fn hidden(text: &str) -> io::Result<Answer<Secret>> {
    let typed = Password::new().with_prompt(text).allow_empty_password(true).report(false).interact();
    Ok(Answer::Given(Secret::new(typed.map_err(io::Error::other)?.into_bytes())))
}

/// An empty passphrase is the wish to leave the question.
fn or_leave(screen: &Screen, answer: Answer<Secret>) -> Answer<Secret> {
    match answer {
        Answer::Given(secret) if secret.reveal().is_empty() && screen.back => Answer::Back,
        Answer::Given(secret) if secret.reveal().is_empty() => Answer::Stop,
        answer => answer,
    }
}

/// Plain lines: the question with its id, numbered answers, then one line from the user. No byte moves a cursor.
pub struct Plain<R, W> {
    input: R,
    output: W,
    /// How many lines are seen at once, where that is known: longer texts wait for Enter.
    rows: Option<usize>,
    /// Whether the console has only the letters of ASCII.
    ascii: bool,
}

impl<R: BufRead, W: Write> Plain<R, W> {
    /// Asks on `output`, listens on `input`.
    pub fn new(input: R, output: W) -> Plain<R, W> {
        Plain { input, output, rows: None, ascii: false }
    }

    fn say(&mut self, text: &str) -> io::Result<()> {
        match self.ascii {
            true => self.output.write_all(crate::words::ascii(text).as_bytes())?,
            false => self.output.write_all(text.as_bytes())?,
        }
        self.output.flush()
    }

    /// Says a long text, a screenful at a time; false where the user went away meanwhile.
    fn tell(&mut self, text: &str) -> io::Result<bool> {
        let Some(rows) = self.rows else { return self.say(text).map(|()| true) };
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let mut pages = lines.chunks(rows - 2).peekable();
        while let Some(page) = pages.next() {
            self.say(&page.concat())?;
            if pages.peek().is_some() {
                self.say(&format!("[more] {}\n", t!("press Enter to read on")))?;
                if self.line()?.is_none() {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn line(&mut self) -> io::Result<Option<String>> {
        self.say("> ")?;
        let mut line = Vec::new();
        if self.input.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        Ok(Some(String::from_utf8_lossy(&line).trim().to_owned()))
    }

    /// What the line means where it is no answer.
    fn leaving<T>(screen: &Screen, line: Option<&str>) -> Option<Answer<T>> {
        match line {
            None | Some("q") => Some(Answer::Stop),
            Some("b") if screen.back => Some(Answer::Back),
            Some(_) => None,
        }
    }
}

impl<R: BufRead, W: Write> Prompter for Plain<R, W> {
    fn show(&mut self, text: &str) -> io::Result<()> {
        self.tell(text).map(|_| ())
    }

    fn read(&mut self, screen: &Screen) -> io::Result<Answer<()>> {
        if !self.tell(&head(screen))? {
            return Ok(Answer::Stop);
        }
        self.say(&(ways_out(screen) + &foot(screen) + &wrap("", &t!("Press Enter to go on."))))?;
        loop {
            match self.line()?.as_deref() {
                Some("") => return Ok(Answer::Given(())),
                line => match Self::leaving(screen, line) {
                    Some(answer) => return Ok(answer),
                    None => self.say(&wrap("", &t!("Please press Enter alone to go on.")))?,
                },
            }
        }
    }

    fn choose(&mut self, choice: &Choice) -> io::Result<Answer<usize>> {
        let (screen, last) = (&choice.screen, choice.options.len());
        if !self.tell(&head(screen))? {
            return Ok(Answer::Stop);
        }
        let default = choice.default.filter(|at| *at < last);
        let asked = match default {
            Some(at) => t!("Type a number, or only press Enter for {number}.", number = at + 1),
            None => t!("Type a number."),
        };
        let rest = ways_out(screen) + &foot(screen) + &wrap("", &asked);
        let mut first = 0;
        self.say(&(options(choice, first) + &rest))?;
        loop {
            let line = self.line()?;
            match (line.as_deref(), default) {
                (Some(""), Some(at)) => return Ok(Answer::Given(at)),
                (Some("0"), _) if last > PAGE => {
                    first = if first + PAGE < last { first + PAGE } else { 0 };
                    self.say(&(options(choice, first) + &rest))?;
                }
                (line, _) => {
                    if let Some(answer) = Self::leaving(screen, line) {
                        return Ok(answer);
                    }
                    match line.and_then(|text| text.parse::<usize>().ok()) {
                        Some(number) if (1..=last).contains(&number) => return Ok(Answer::Given(number - 1)),
                        _ => self.say(&wrap("", &t!("Please type a number from 1 to {last}, or q.", last = last)))?,
                    }
                }
            }
        }
    }

    fn ask(&mut self, words: &Words) -> io::Result<Answer<String>> {
        if !self.tell(&head(&words.screen))? {
            return Ok(Answer::Stop);
        }
        self.say(&(ways_out(&words.screen) + &foot(&words.screen)))?;
        let line = self.line()?;
        let is_meant = words.confirms.is_some() && line == words.confirms;
        match Self::leaving(&words.screen, line.as_deref()).filter(|_| !is_meant) {
            Some(answer) => Ok(answer),
            None => Ok(Answer::Given(line.unwrap_or_default())),
        }
    }

    fn secret(&mut self, words: &Words) -> io::Result<Answer<Secret>> {
        if !self.tell(&head(&words.screen))? {
            return Ok(Answer::Stop);
        }
        self.say(&(keyboard() + &foot(&words.screen)))?;
        if io::stdin().is_terminal() && !words.visible {
            return Ok(or_leave(&words.screen, hidden(">")?));
        }
        self.say("> ")?;
        let mut line = Vec::new();
        match self.input.read_until(b'\n', &mut line)? {
            0 => Ok(Answer::Stop),
            _ => Ok(or_leave(&words.screen, Answer::Given(Secret::of_file(line)))),
        }
    }
}

/// A capable terminal.
struct Terminal;

/// The question stands above, in lines that fit; what is typed has only a mark.
struct Marked;

impl Theme for Marked {
    fn format_input_prompt(&self, f: &mut dyn fmt::Write, prompt: &str, _: Option<&str>) -> fmt::Result {
        write!(f, "{prompt} ")
    }

    fn format_input_prompt_selection(&self, f: &mut dyn fmt::Write, prompt: &str, typed: &str) -> fmt::Result {
        write!(f, "{prompt} {typed}")
    }
}

/// An answer in lines that fit behind the mark of a list; the list counts lines, not what the terminal makes of them.
fn item(text: &str) -> String {
    wrap("  ", text).trim().to_owned()
}

impl Terminal {
    /// Shows what stands above the answers, which need so many lines: a screenful at a time, because a console has no way
    /// back to what has left it.
    fn head(screen: &Screen, below: usize) -> io::Result<()> {
        let mut text = String::from("\n");
        text += &wrap("", &format!("== {} ==", screen.title));
        text += &fold(&screen.body);
        text += &foot(screen);
        text += &wrap("", &screen.text);
        let term = Term::stderr();
        let rows = term.size_checked().map_or(usize::MAX, |(rows, _)| usize::from(rows).max(below + 4));
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let mut left = lines.as_slice();
        while left.len() + below >= rows {
            let (page, rest) = left.split_at(left.len().min(rows - 2));
            io::stdout().lock().write_all(page.concat().as_bytes())?;
            left = rest;
            term.write_line(&format!("-- {} --", t!("press Enter to read on")))?;
            while !matches!(term.read_key()?, Key::Enter | Key::Char(' ') | Key::PageDown) {}
            term.clear_last_lines(1)?;
        }
        io::stdout().lock().write_all(left.concat().as_bytes())
    }

    /// Lets the user choose one of these or a way out.
    fn select(screen: &Screen, offers: &[&str], default: usize) -> io::Result<Answer<usize>> {
        let mut items: Vec<String> = offers.iter().map(|offer| item(offer)).collect();
        if screen.back {
            items.push(item(&t!("go back")));
        }
        items.push(item(&t!("stop here")));
        let highest = items.iter().map(|item| item.lines().count()).max().unwrap_or(1);
        let shown = items.len().min((PAGE + 4) / highest);
        Terminal::head(screen, shown * highest + 1)?;
        let chosen = Select::new().items(&items).default(default).max_length(shown).interact_opt();
        let chosen = chosen.map_err(io::Error::other)?;
        if let Some(item) = chosen.and_then(|at| items.get(at)) {
            io::stdout().lock().write_all(wrap("", &format!("> {item}")).as_bytes())?;
        }
        Ok(match chosen {
            Some(at) if at < offers.len() => Answer::Given(at),
            Some(at) if screen.back && at == offers.len() => Answer::Back,
            _ => Answer::Stop,
        })
    }

    /// Lets the user type a line.
    fn line() -> io::Result<String> {
        let input = Input::<String>::with_theme(&Marked).with_prompt(">").allow_empty(true).interact_text();
        input.map_err(io::Error::other)
    }
}

impl Prompter for Terminal {
    fn show(&mut self, text: &str) -> io::Result<()> {
        io::stdout().lock().write_all(text.as_bytes())
    }

    fn read(&mut self, screen: &Screen) -> io::Result<Answer<()>> {
        Ok(Terminal::select(screen, &[&t!("go on")], 0)?.map(|_| ()))
    }

    fn choose(&mut self, choice: &Choice) -> io::Result<Answer<usize>> {
        let offers: Vec<&str> = choice.options.iter().map(|option| option.text.as_str()).collect();
        Terminal::select(&choice.screen, &offers, choice.default.unwrap_or(0))
    }

    fn ask(&mut self, words: &Words) -> io::Result<Answer<String>> {
        let ways = ways_out(&words.screen);
        Terminal::head(&words.screen, ways.lines().count() + 1)?;
        io::stdout().lock().write_all(ways.as_bytes())?;
        let text = Terminal::line()?.trim().to_owned();
        let is_meant = words.confirms.as_ref() == Some(&text);
        Ok(match text.as_str() {
            "q" if !is_meant => Answer::Stop,
            "b" if !is_meant && words.screen.back => Answer::Back,
            _ => Answer::Given(text),
        })
    }

    fn secret(&mut self, words: &Words) -> io::Result<Answer<Secret>> {
        let layout = keyboard();
        Terminal::head(&words.screen, layout.lines().count() + 1)?;
        io::stdout().lock().write_all(layout.as_bytes())?;
        let answer = match words.visible {
            true => Answer::Given(Secret::new(Terminal::line()?.into_bytes())),
            false => hidden(">")?,
        };
        Ok(or_leave(&words.screen, answer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::question::Offer;

    fn choice(count: usize, default: Option<usize>) -> Choice {
        let options = (1..=count).map(|at| Offer::new(format!("answer {at}"), at.to_string())).collect();
        Choice { screen: Screen::new("choose-box", "A title", "Which one?"), options, default }
    }

    fn answer(choice: &Choice, input: &str) -> (Answer<usize>, String) {
        let mut output = Vec::new();
        let answer = Plain::new(input.as_bytes(), &mut output).choose(choice).unwrap();
        (answer, String::from_utf8(output).unwrap())
    }

    #[test]
    fn a_plain_question_is_numbered_and_asks_again_until_it_is_answered() {
        let (given, shown) = answer(&choice(2, None), "x\n3\n\n2\n");
        assert_eq!(given, Answer::Given(1));
        let whole = "\n== A title ==\n[choose-box] Which one?\n  1) answer 1\n  2) answer 2\n  b) go back\n  q) stop \
                     here\nNothing has been changed so far.\nType a number.\n> ";
        assert!(shown.starts_with(whole), "{shown}");
        assert_eq!(shown.matches("Please type a number from 1 to 2, or q.").count(), 3);
        assert!(!shown.contains('\x1b'));
    }

    #[test]
    fn enter_takes_the_default_and_b_goes_back_where_one_can() {
        assert_eq!(answer(&choice(2, Some(1)), "\n").0, Answer::Given(1));
        assert_eq!(answer(&choice(2, Some(1)), "b\n").0, Answer::Back);
        let first = Choice { screen: choice(2, None).screen.first(), ..choice(2, None) };
        let (given, shown) = answer(&first, "b\n1\n");
        assert!(given == Answer::Given(0) && !shown.contains("b) "), "{shown}");
    }

    #[test]
    fn a_long_list_is_shown_in_pages_and_any_number_is_taken_from_any_page() {
        let (given, shown) = answer(&choice(25, None), "0\n0\n0\n0\n23\n");
        assert_eq!(given, Answer::Given(22));
        assert!(shown.contains("  10) answer 10\n  0) 15 more\n") && shown.contains("  0) 5 more\n"), "{shown}");
        assert_eq!(shown.matches(" 1) answer 1\n").count(), 2, "after the last page the first one comes: {shown}");
    }

    #[test]
    fn the_end_of_input_stops_and_never_chooses() {
        assert_eq!(answer(&choice(2, Some(0)), "").0, Answer::Stop);
        assert_eq!(answer(&choice(2, Some(0)), "q\n").0, Answer::Stop);
    }

    #[test]
    fn a_text_longer_than_the_screen_waits_for_enter() {
        let mut output = Vec::new();
        let mut plain = Plain { rows: Some(10), ..Plain::new("\n\n\n".as_bytes(), &mut output) };
        let screen = Screen::new("not-included", "What stays away", "That is all.").about("a line\n".repeat(20));
        assert_eq!(plain.read(&screen).unwrap(), Answer::Given(()));
        let shown = String::from_utf8(output).unwrap();
        assert_eq!(shown.matches("[more] press Enter to read on").count(), 2, "{shown}");
        assert_eq!(shown.matches("a line").count(), 20);
    }

    #[test]
    fn a_box_that_is_called_q_can_be_confirmed() {
        let mut words = Words::new(Screen::new("consent", "Start", "Type q."));
        words.confirms = Some("q".into());
        assert_eq!(Plain::new("q\n".as_bytes(), Vec::new()).ask(&words).unwrap(), Answer::Given("q".into()));
        assert_eq!(Plain::new("b\n".as_bytes(), Vec::new()).ask(&words).unwrap(), Answer::Back);
    }
}
