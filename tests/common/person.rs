//! Somebody in front of a terminal: sees what a program shows there, types, and remembers when.
#![allow(dead_code, missing_docs, unreachable_pub, reason = "every test file takes what it needs")]
#![allow(clippy::unwrap_used, reason = "this is test code")]

use lifeboat::sys::terminal::{self, Pair};
use rustix::termios::{LocalModes, tcgetattr};
use std::fs::File;
use std::io::{Read, Write};
use std::process::Child;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// How long nothing may happen; far longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(300);

/// What was shown, or typed, and how long after the beginning.
pub struct Moment {
    pub at: Duration,
    pub typed: bool,
    pub text: String,
}

pub struct Person {
    pub pair: Pair,
    pub seen: String,
    pub moments: Vec<Moment>,
    begun: Instant,
    /// What came and when; nothing at all when no program has the terminal open.
    shown: Receiver<(Instant, Vec<u8>)>,
    /// A letter of which a part has come.
    partial: Vec<u8>,
    /// How much was waited for.
    read: usize,
}

impl Person {
    pub fn new() -> Person {
        let pair = terminal::pair().unwrap();
        let mut outer: File = pair.outer.try_clone().unwrap();
        let (sender, shown) = channel();
        std::thread::spawn(move || {
            let mut room = [0; 1024];
            loop {
                let count = outer.read(&mut room).unwrap_or(0);
                if sender.send((Instant::now(), room[..count].to_vec())).is_err() {
                    return;
                }
                if count == 0 {
                    // Nobody has opened the terminal yet, or nobody has it open any more.
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        });
        let (seen, moments, partial) = (String::new(), Vec::new(), Vec::new());
        Person { pair, seen, moments, begun: Instant::now(), shown, partial, read: 0 }
    }

    pub fn types(&mut self, text: &str) {
        // Before the answer to it can come.
        let at = self.begun.elapsed();
        self.pair.outer.write_all(text.as_bytes()).unwrap();
        self.moments.push(Moment { at, typed: true, text: text.to_owned() });
    }

    /// Waits until it was shown at any time.
    #[track_caller]
    pub fn sees(&mut self, text: &str) {
        self.waits(text, |person| person.seen.contains(text).then_some(()));
    }

    /// Waits for something in what was shown since the last call. A program may break its lines anywhere, and move the
    /// cursor between words.
    #[track_caller]
    pub fn reads<T>(&mut self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        let found = self.waits(what, |person| find(&plain(&person.seen[person.read..])));
        self.read = self.seen.len();
        found
    }

    /// Waits until the program takes single keys.
    #[track_caller]
    pub fn waits_for_keys(&mut self) {
        self.waits("a question that takes keys", |person| person.takes_keys().then_some(()));
    }

    /// Types a word into a question that shows each key by itself, then the last key alone.
    #[track_caller]
    pub fn types_keys(&mut self, word: &str, last: &str) {
        for letter in word.chars() {
            self.waits_for_keys();
            let before = self.seen.len();
            self.types(&letter.to_string());
            self.waits(word, |person| (person.seen.len() > before).then_some(()));
        }
        self.waits_for_keys();
        self.types(last);
    }

    fn takes_keys(&self) -> bool {
        tcgetattr(&self.pair.outer).is_ok_and(|modes| !modes.local_modes.contains(LocalModes::ICANON))
    }

    #[track_caller]
    fn waits<T>(&mut self, what: &str, done: impl Fn(&Person) -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = done(self) {
                return found;
            }
            assert!(Instant::now() < end, "'{what}' is not in {:?}", self.seen);
            if let Ok((at, piece)) = self.shown.recv_timeout(Duration::from_millis(10)) {
                self.takes(at, &piece);
            }
        }
    }

    /// Waits until the program has ended and everything that it showed was seen; its exit code.
    pub fn sees_the_end_of(&mut self, child: &mut Child) -> Option<i32> {
        let code = child.wait().unwrap().code();
        let ended = Instant::now();
        // What is still in the terminal comes before the word that nobody has it open any more.
        while let Ok((at, piece)) = self.shown.recv_timeout(PATIENCE) {
            if at > ended && piece.is_empty() {
                break;
            }
            self.takes(at, &piece);
        }
        code
    }

    fn takes(&mut self, at: Instant, piece: &[u8]) {
        self.partial.extend_from_slice(piece);
        let whole = match std::str::from_utf8(&self.partial) {
            Ok(text) => text.len(),
            // The rest of the letter comes with the next piece.
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            Err(_) => self.partial.len(),
        };
        let text: Vec<u8> = self.partial.drain(..whole).collect();
        if !text.is_empty() {
            let text = String::from_utf8_lossy(&text).into_owned();
            self.seen.push_str(&text);
            self.moments.push(Moment { at: at.duration_since(self.begun), typed: false, text });
        }
    }
}

/// The words of what was shown, with one space between them.
pub fn plain(shown: &str) -> String {
    let mut text = String::new();
    let mut rest = shown.chars().peekable();
    while let Some(letter) = rest.next() {
        if letter != '\x1b' {
            text.push(letter);
        } else if rest.next() == Some('[') {
            // A control sequence ends with its first letter.
            let _ = rest.by_ref().find(char::is_ascii_alphabetic);
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
