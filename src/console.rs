//! One dialogue on several consoles: the screen and every serial line of the live system.
//!
//! A program runs on a terminal of its own. What it shows appears on every console, and what is typed on any of them
//! goes to it; that terminal's echo lets everybody see what anybody types, and a passphrase nobody. So there is one
//! dialogue, however many people sit in front of it, and the first answer is the answer.
//!
//! Invariants: a console that is stuck or gone holds up nobody. Nothing that was typed before a question was shown
//! answers it: from Enter until the next unfinished line nobody is heard, but for Ctrl-C, and but for what a shell on
//! the terminal runs. For a moment after somebody pressed Enter, only that console is heard: two people who answer the same
//! question do not answer two.

use crate::sys::terminal::{self, Pair};
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// For how long only the console on which Enter was pressed is heard.
const TURN: Duration = Duration::from_secs(1);
/// After which silence an unfinished line is a question.
const SILENCE: Duration = Duration::from_millis(300);
/// How long a console rests before it is opened again.
const REST: Duration = Duration::from_secs(1);
/// How many pieces of output may wait for a slow console before it misses some.
const BACKLOG: usize = 256;
/// Longest transcript, in bytes.
const LONGEST_LOG: usize = 4 << 20;
/// How a question for a passphrase begins.
const SECRETS: [&[u8]; 2] = [b"[passphrase]", b"[new-passphrase]"];
/// What the key Ctrl-C types.
const CTRL_C: u8 = 3;

/// What is shown where.
#[derive(Debug, Clone)]
pub struct Sharing {
    /// The consoles.
    pub consoles: Vec<PathBuf>,
    /// The program with its arguments.
    pub program: Vec<OsString>,
    /// Where a copy of everything shown is appended.
    pub log: Option<PathBuf>,
    /// The file that says in one word what the dialogue does: `waiting` for an answer, or `working`.
    pub state: Option<PathBuf>,
}

/// Runs the program until its end.
pub fn share(sharing: &Sharing) -> io::Result<ExitStatus> {
    let Pair { outer, name } = terminal::pair()?;
    let inner = terminal::open(&name)?;
    let mut child = start(&sharing.program, &inner)?;
    let line = Arc::new(Mutex::new(Line::default()));
    let dialogue = i32::try_from(child.id()).unwrap_or(0);
    let ear = Arc::new(Ear { dialogue, line: Arc::clone(&line), floor: Mutex::default(), outer: outer.try_clone()? });
    let mut sinks = Vec::new();
    for (number, console) in sharing.consoles.iter().enumerate() {
        let (sink, pieces) = sync_channel(BACKLOG);
        sinks.push(sink);
        let (path, ear) = (console.clone(), Arc::clone(&ear));
        thread::spawn(move || write_to(&path, &pieces));
        let path = console.clone();
        thread::spawn(move || read_from(&path, number, &ear));
    }
    let log = sharing.log.as_ref().map(|path| OpenOptions::new().create(true).append(true).open(path)).transpose()?;
    let shown = Shown { _inner: inner, sinks, line: Arc::clone(&line), log, logged: 0, veil: Veil::default() };
    thread::spawn(move || shown.forward(outer));
    let mut known = "";
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        let word = line.lock().map_or("working", |line| line.state());
        if let Some(path) = sharing.state.as_ref().filter(|_| word != known) {
            // Only a light depends on it.
            let _ = std::fs::write(path, word);
            known = word;
        }
        thread::sleep(SILENCE / 2);
    };
    // What it said last is still on its way.
    thread::sleep(SILENCE);
    Ok(status)
}

/// Starts the program with the terminal as its controlling one, so that Ctrl-C reaches it.
fn start(program: &[OsString], terminal: &File) -> io::Result<std::process::Child> {
    let end = || terminal.try_clone().map(Stdio::from);
    Command::new("setsid").arg("-c").args(program).stdin(end()?).stdout(end()?).stderr(end()?).spawn()
}

/// The line that the program is showing.
#[derive(Debug, Default)]
struct Line {
    unfinished: bool,
    /// It was a question, which is open until Enter is pressed, also when a message comes after it.
    asks: bool,
    last: Option<Instant>,
}

impl Line {
    /// Takes what was shown.
    fn take(&mut self, piece: &[u8]) {
        let Some(last) = piece.last() else { return };
        // What is typed into an unfinished line comes back as its echo.
        let anew = !self.unfinished || piece.contains(&b'\n');
        self.unfinished = !matches!(last, b'\n' | b'\r');
        self.asks |= anew && self.unfinished;
        self.last = Some(Instant::now());
    }

    fn state(&self) -> &'static str {
        let silent = self.last.is_some_and(|last| last.elapsed() >= SILENCE);
        if self.asks && silent { "waiting" } else { "working" }
    }
}

fn is_enter(byte: &u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

/// Whose turn it is to type.
#[derive(Debug, Default)]
struct Floor {
    entered: Option<(usize, Instant)>,
}

impl Floor {
    /// Whether what was typed on a console counts.
    fn hears(&mut self, console: usize, typed: &[u8], now: Instant) -> bool {
        if self.entered.is_some_and(|(other, then)| other != console && now.duration_since(then) < TURN) {
            return false;
        }
        if typed.iter().any(is_enter) {
            self.entered = Some((console, now));
        }
        true
    }
}

/// Decides what of the typed text reaches the program.
struct Ear {
    /// The process group of the dialogue itself; a shell gives one of its own to what it runs.
    dialogue: i32,
    line: Arc<Mutex<Line>>,
    floor: Mutex<Floor>,
    outer: File,
}

impl Ear {
    fn hear(&self, console: usize, typed: &[u8]) -> io::Result<()> {
        let asked = self.line.lock().is_ok_and(|line| line.asks);
        let answers = asked || typed.contains(&CTRL_C) || terminal::foreground(&self.outer) != Some(self.dialogue);
        if !answers || !self.floor.lock().is_ok_and(|mut floor| floor.hears(console, typed, Instant::now())) {
            return Ok(());
        }
        if typed.iter().any(is_enter)
            && let Ok(mut line) = self.line.lock()
        {
            line.asks = false;
        }
        (&self.outer).write_all(typed)
    }
}

/// Everything that the program shows goes through here.
struct Shown {
    /// Keeps the terminal from ending between two programs on it.
    _inner: File,
    sinks: Vec<SyncSender<Arc<[u8]>>>,
    line: Arc<Mutex<Line>>,
    log: Option<File>,
    logged: usize,
    veil: Veil,
}

/// Keeps a passphrase out of the transcript, also where somebody chose to see what is typed.
#[derive(Debug, Default)]
struct Veil {
    /// How the present line begins.
    line: Vec<u8>,
    /// Whether the last question was for a passphrase.
    hides: bool,
}

impl Veil {
    /// What of a piece is kept.
    fn keep(&mut self, piece: &[u8]) -> Vec<u8> {
        let mut kept = Vec::with_capacity(piece.len());
        for &byte in piece {
            let is_typed = self.hides && self.line.starts_with(b">");
            if byte == b'\n' {
                if self.line.starts_with(b"[") {
                    self.hides = SECRETS.iter().any(|secret| self.line.starts_with(secret));
                }
                self.line.clear();
            } else if byte != b'\r' {
                if self.line.len() < 32 {
                    self.line.push(byte);
                }
                if is_typed {
                    continue;
                }
            }
            kept.push(byte);
        }
        kept
    }
}

impl Shown {
    fn forward(mut self, mut outer: File) {
        let mut room = [0; 4096];
        // The end of the terminal's last program shows as an error.
        while let Ok(count) = outer.read(&mut room) {
            let piece = room.get(..count).unwrap_or_default();
            if piece.is_empty() {
                break;
            }
            if let Ok(mut line) = self.line.lock() {
                line.take(piece);
            }
            self.keep(piece);
            let piece: Arc<[u8]> = piece.into();
            for sink in &self.sinks {
                let _ = sink.try_send(Arc::clone(&piece));
            }
        }
    }

    fn keep(&mut self, piece: &[u8]) {
        let piece = self.veil.keep(piece);
        if let Some(log) = self.log.as_mut().filter(|_| self.logged < LONGEST_LOG) {
            self.logged += piece.len();
            // There is no place to say that the transcript is incomplete; the dialogue goes on.
            let _ = log.write_all(&piece);
        }
    }
}

/// Opens a console, again and again until it is there.
fn opened(path: &Path) -> File {
    loop {
        // A file that is no terminal has no modes.
        match terminal::open(path) {
            Ok(file) => {
                let _ = terminal::make_raw(&file);
                return file;
            }
            Err(_) => thread::sleep(REST),
        }
    }
}

fn write_to(path: &Path, pieces: &Receiver<Arc<[u8]>>) {
    let mut console = opened(path);
    for piece in pieces {
        if console.write_all(&piece).is_err() {
            thread::sleep(REST);
            console = opened(path);
        }
    }
}

fn read_from(path: &Path, number: usize, ear: &Ear) {
    let mut console = opened(path);
    let mut room = [0; 256];
    loop {
        let Some(typed) = console.read(&mut room).ok().and_then(|count| room.get(..count)).filter(|t| !t.is_empty())
        else {
            thread::sleep(REST);
            console = opened(path);
            continue;
        };
        if ear.hear(number, typed).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_enter_only_that_console_is_heard_for_a_moment() {
        let (mut floor, start) = (Floor::default(), Instant::now());
        assert!(floor.hears(0, b"2", start) && floor.hears(1, b"1", start));
        assert!(floor.hears(0, b"\r", start));
        assert!(!floor.hears(1, b"\r", start + TURN / 2));
        assert!(floor.hears(0, b"free\r", start + TURN / 2));
        assert!(floor.hears(1, b"1", start + TURN * 2));
    }

    #[test]
    fn an_unfinished_line_is_a_question_until_enter_whatever_comes_after_it() {
        let mut line = Line::default();
        line.take(b"looking ...\r\n");
        assert!(!line.asks);
        line.take(b"[x] Which?\r\n> ");
        assert!(line.asks && line.state() == "working");
        line.last = Instant::now().checked_sub(SILENCE * 2);
        assert_eq!(line.state(), "waiting");
        line.take(b"\r\nA message from elsewhere.\r\n");
        assert!(line.asks);
        line.asks = false;
        // The echo of what was typed.
        line.unfinished = true;
        line.take(b"2");
        line.take(b"\r\nworking\r\n");
        assert!(!line.asks);
    }
}
