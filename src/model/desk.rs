//! One dialogue, several faces: the question that lies open, and whoever answers it first.
//!
//! The guide asks through [`Asking`], which waits. Faces (consoles, the page) look at the [`Desk`] from threads of their
//! own: they read what was said, see the open question, and answer it by its number. The first fitting answer is taken;
//! a later one is told that it came too late, and every face sees what was answered. A face never blocks another one,
//! can come and go, and finds everything again. Secrets are handed through and never kept among what was said.

use super::meter::{Meter, Snapshot};
use super::pipe::{Incoming, Inlet};
use super::progress::{Event, Progress};
use super::question::{Answer, Choice, Prompter, Screen, Words};
use super::secret::Secret;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// A question as faces show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sheet {
    /// Its number in this dialogue; answers name it.
    pub number: u64,
    /// What is asked.
    pub question: Question,
}

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// Nothing: it is only to be read.
    Read(Screen),
    /// For one of several answers.
    Choice(Choice),
    /// For a line of text.
    Words(Words),
    /// For a passphrase.
    Secret(Words),
    /// For a file that somebody sends.
    File(Screen),
    /// For somebody who takes a file of this name along.
    Taker(Screen, String),
}

impl Question {
    /// What is shown.
    pub fn screen(&self) -> &Screen {
        match self {
            Question::Read(screen) | Question::File(screen) | Question::Taker(screen, _) => screen,
            Question::Choice(choice) => &choice.screen,
            Question::Words(words) | Question::Secret(words) => &words.screen,
        }
    }
}

/// An answer as a face hands it in.
#[derive(Debug)]
pub enum Reply {
    /// It was read.
    Read,
    /// The option at this index.
    Choice(usize),
    /// Words; surrounding blanks are taken away.
    Words(String),
    /// A passphrase.
    Secret(Secret),
    /// A file on its way.
    File(Incoming),
    /// Where a file goes.
    Taker(Inlet),
    /// The user wants to go back to the question before.
    Back,
    /// The user wants to stop.
    Stop,
}

/// Why an answer was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Another face was faster, or the question is no longer asked.
    #[error("the question was answered already")]
    Late,
    /// The question asks for something else.
    #[error("this is no answer to the question")]
    Unfit,
}

/// One thing that happened, for faces to show in its order.
#[derive(Debug, Clone)]
pub enum Entry {
    /// Text without a question.
    Shown(String),
    /// A question.
    Asked(Arc<Sheet>),
    /// A question was answered.
    Answered {
        /// The question.
        sheet: Arc<Sheet>,
        /// The answer as people read it; not that of a secret.
        answer: String,
        /// The face that it came from.
        by: String,
    },
    /// For people who stand in front of a console only: how the page is reached. Belongs into no report.
    Aside(String),
}

/// Where the dialogue lies for everybody to see.
pub struct Desk {
    state: Mutex<State>,
    changed: Condvar,
    /// Progress is measured from here.
    started: Instant,
}

#[derive(Default)]
struct State {
    entries: Vec<Entry>,
    number: u64,
    open: Option<Arc<Sheet>>,
    reply: Option<Reply>,
    meter: Meter,
    is_closed: bool,
}

impl Desk {
    /// An empty one.
    pub fn new() -> Arc<Desk> {
        Arc::new(Desk { state: Mutex::default(), changed: Condvar::new(), started: Instant::now() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is made as a whole: what a thread that died left is fit to be used.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What happened since the first `known` entries.
    pub fn since(&self, known: usize) -> Vec<Entry> {
        self.state().entries.get(known..).unwrap_or_default().to_vec()
    }

    /// As [`Desk::since`], but waits until something new happened; `None` when the dialogue is over and all is known.
    pub fn wait(&self, known: usize) -> Option<Vec<Entry>> {
        let mut state = self.state();
        loop {
            match state.entries.get(known..) {
                Some(new) if !new.is_empty() => return Some(new.to_vec()),
                _ if state.is_closed => return None,
                _ => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// The question that waits for an answer.
    pub fn open(&self) -> Option<Arc<Sheet>> {
        self.state().open.clone()
    }

    /// Whether the dialogue is over.
    pub fn is_closed(&self) -> bool {
        self.state().is_closed
    }

    /// Waits until a question is open; `None` when the dialogue is over.
    pub fn settle(&self) -> Option<Arc<Sheet>> {
        let mut state = self.state();
        loop {
            match &state.open {
                Some(sheet) => return Some(Arc::clone(sheet)),
                None if state.is_closed => return None,
                None => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// How far what is being worked on is.
    pub fn work(&self) -> Option<Snapshot> {
        self.state().meter.at(self.started.elapsed())
    }

    /// Answers the question with this number, in the name of a face.
    pub fn answer(&self, number: u64, reply: Reply, by: &str) -> Result<(), Refused> {
        let mut state = self.state();
        let Some(sheet) = state.open.clone().filter(|sheet| sheet.number == number) else { return Err(Refused::Late) };
        let answer = match (&sheet.question, &reply) {
            (_, Reply::Stop) => "stop here".to_owned(),
            (question, Reply::Back) if question.screen().back => "go back".to_owned(),
            (Question::Read(_), Reply::Read) => "read".to_owned(),
            (Question::Choice(choice), Reply::Choice(index)) => {
                choice.options.get(*index).ok_or(Refused::Unfit)?.text.clone()
            }
            (Question::Words(_), Reply::Words(text)) => text.trim().to_owned(),
            (Question::Secret(_), Reply::Secret(secret)) if !secret.reveal().is_empty() => "(not shown)".to_owned(),
            (Question::File(_), Reply::File(file)) => file.name.clone(),
            (Question::Taker(_, name), Reply::Taker(_)) => name.clone(),
            _ => return Err(Refused::Unfit),
        };
        state.open = None;
        state.reply = Some(reply);
        state.entries.push(Entry::Answered { sheet, answer, by: by.to_owned() });
        self.changed.notify_all();
        Ok(())
    }

    /// Tells the people in front of the consoles something that belongs into no report.
    pub fn aside(&self, text: String) {
        self.state().entries.push(Entry::Aside(text));
        self.changed.notify_all();
    }

    /// The dialogue is over; faces that follow it end.
    pub fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        state.open = None;
        self.changed.notify_all();
    }

    /// Puts a question on the desk and waits for its answer.
    fn ask(&self, question: Question) -> Reply {
        let mut state = self.state();
        state.number += 1;
        let sheet = Arc::new(Sheet { number: state.number, question });
        state.open = Some(Arc::clone(&sheet));
        state.reply = None;
        state.entries.push(Entry::Asked(sheet));
        self.changed.notify_all();
        loop {
            if let Some(reply) = state.reply.take() {
                return reply;
            }
            if state.is_closed {
                return Reply::Stop;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Progress for Desk {
    fn event(&self, event: Event) {
        let now = self.started.elapsed();
        self.state().meter.take(&event, now);
    }
}

/// Asks at a desk: whoever is there may answer.
pub struct Asking(pub Arc<Desk>);

impl Asking {
    fn ask<T>(&self, question: Question, given: impl FnOnce(Reply) -> Option<T>) -> io::Result<Answer<T>> {
        match self.0.ask(question) {
            Reply::Back => Ok(Answer::Back),
            Reply::Stop => Ok(Answer::Stop),
            // The desk takes fitting answers only.
            reply => Ok(given(reply).map_or(Answer::Stop, Answer::Given)),
        }
    }
}

impl Prompter for Asking {
    fn show(&mut self, text: &str) -> io::Result<()> {
        self.0.state().entries.push(Entry::Shown(text.to_owned()));
        self.0.changed.notify_all();
        Ok(())
    }

    fn read(&mut self, screen: &Screen) -> io::Result<Answer<()>> {
        Asking::ask(self, Question::Read(screen.clone()), |_| Some(()))
    }

    fn choose(&mut self, choice: &Choice) -> io::Result<Answer<usize>> {
        Asking::ask(self, Question::Choice(choice.clone()), |reply| match reply {
            Reply::Choice(index) => Some(index),
            _ => None,
        })
    }

    fn ask(&mut self, words: &Words) -> io::Result<Answer<String>> {
        Asking::ask(self, Question::Words(words.clone()), |reply| match reply {
            Reply::Words(text) => Some(text.trim().to_owned()),
            _ => None,
        })
    }

    fn secret(&mut self, words: &Words) -> io::Result<Answer<Secret>> {
        Asking::ask(self, Question::Secret(words.clone()), |reply| match reply {
            Reply::Secret(secret) => Some(secret),
            _ => None,
        })
    }

    fn hands_files(&self) -> bool {
        true
    }

    fn receive(&mut self, screen: &Screen) -> io::Result<Answer<Incoming>> {
        Asking::ask(self, Question::File(screen.clone()), |reply| match reply {
            Reply::File(file) => Some(file),
            _ => None,
        })
    }

    fn send(&mut self, screen: &Screen, name: &str) -> io::Result<Answer<Inlet>> {
        Asking::ask(self, Question::Taker(screen.clone(), name.to_owned()), |reply| match reply {
            Reply::Taker(inlet) => Some(inlet),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::question::Offer;
    use super::*;
    use std::thread;
    use std::time::Duration;

    fn words(id: &'static str) -> Words {
        Words::new(Screen::new(id, "Words", "Type it."))
    }

    /// Waits until a question is open.
    fn open(desk: &Desk) -> Arc<Sheet> {
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(20) {
            if let Some(sheet) = desk.open() {
                return sheet;
            }
            thread::yield_now();
        }
        panic!("no question was asked");
    }

    #[test]
    fn the_first_fitting_answer_is_taken_and_later_ones_are_told() {
        let desk = Desk::new();
        let asking = Arc::clone(&desk);
        let guide = thread::spawn(move || {
            let options = vec![Offer::new("first", "1st"), Offer::new("second", "2nd")];
            let screen = Screen::new("choose-box", "A box", "Which one?").first();
            Asking(asking).choose(&Choice { screen, options, default: None }).unwrap()
        });
        let sheet = open(&desk);
        assert_eq!(desk.answer(sheet.number, Reply::Choice(2), "a"), Err(Refused::Unfit));
        assert_eq!(desk.answer(sheet.number, Reply::Words("2".into()), "a"), Err(Refused::Unfit));
        assert_eq!(desk.answer(sheet.number, Reply::Back, "a"), Err(Refused::Unfit));
        assert_eq!(desk.answer(sheet.number, Reply::Choice(1), "a"), Ok(()));
        assert_eq!(desk.answer(sheet.number, Reply::Choice(0), "b"), Err(Refused::Late));
        assert_eq!(guide.join().unwrap(), Answer::Given(1));
        let Some(Entry::Answered { answer, by, .. }) = desk.since(1).pop() else { panic!("nothing was answered") };
        assert_eq!((answer.as_str(), by.as_str()), ("second", "a"));
    }

    #[test]
    fn a_passphrase_reaches_the_guide_and_stays_nowhere() {
        let desk = Desk::new();
        let asking = Arc::clone(&desk);
        let guide = thread::spawn(move || Prompter::secret(&mut Asking(asking), &words("passphrase")).unwrap());
        let sheet = open(&desk);
        assert_eq!(desk.answer(sheet.number, Reply::Secret(Secret::new(Vec::new())), "a"), Err(Refused::Unfit));
        desk.answer(sheet.number, Reply::Secret(Secret::new(b"correct horse".to_vec())), "a").unwrap();
        let Answer::Given(secret) = guide.join().unwrap() else { panic!("it was given") };
        assert_eq!(secret.reveal(), b"correct horse");
        assert!(!format!("{:?}", desk.since(0)).contains("horse"));
    }

    #[test]
    fn a_closed_desk_ends_its_faces_and_stops_its_guide() {
        let desk = Desk::new();
        let asking = Arc::clone(&desk);
        let guide = thread::spawn(move || Prompter::ask(&mut Asking(asking), &words("consent")).unwrap());
        open(&desk);
        let following = Arc::clone(&desk);
        let face = thread::spawn(move || following.wait(1).is_none());
        desk.close();
        assert!(face.join().unwrap());
        assert_eq!(guide.join().unwrap(), Answer::Stop);
    }
}
