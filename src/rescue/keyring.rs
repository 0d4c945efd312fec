//! The passphrases of a run: given in a file, or typed once and then remembered for as long as the run lasts.
//!
//! Never shown, never written, and never taken from the command line or the environment, where others can see them.

use crate::failure::Failure;
use crate::model::ending::Ending;
use crate::model::question::{Answer, Choice, Offer, Prompter, Screen, Unanswered, Words};
use crate::model::secret::{LONGEST_SECRET, Secret};
use crate::source::Unlock;
use crate::t;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Longest key file; an exported key has less than 1 KiB.
const LONGEST_KEY: u64 = 64 << 10;

/// Where the command line says that passphrases and keys are.
#[derive(Debug, Clone, Default)]
pub struct KeyPlaces {
    /// A file that holds a passphrase.
    pub passphrase_file: Option<PathBuf>,
    /// An open file descriptor that gives a passphrase.
    pub passphrase_fd: Option<u32>,
    /// A key file or an exported key.
    pub key_file: Option<PathBuf>,
}

/// What opens encrypted backups.
#[derive(Debug, Default)]
pub struct Keyring {
    known: Vec<Secret>,
    key_file: Option<Vec<u8>>,
    /// Systems whose passphrases are among the known ones, and that the user was not told of.
    systems: Vec<String>,
    /// Whether a known passphrase was tried.
    tried: bool,
}

impl Keyring {
    /// Reads what the command line names.
    pub fn read(places: &KeyPlaces) -> Result<Keyring, Failure> {
        let mut keyring = Keyring::default();
        let fd = places.passphrase_fd.map(|fd| PathBuf::from(format!("/proc/self/fd/{fd}")));
        for path in places.passphrase_file.iter().chain(&fd) {
            let raw = read(path, LONGEST_SECRET as u64, "passphrase")?;
            keyring.known.push(Secret::of_file(raw));
        }
        if let Some(path) = &places.key_file {
            keyring.key_file = Some(read(path, LONGEST_KEY, "key file")?);
        }
        Ok(keyring)
    }

    /// What the user has to be told about passphrases that were tried; once for each system.
    pub fn news(&mut self) -> Option<String> {
        if !self.tried || self.systems.is_empty() {
            return None;
        }
        let names: Vec<String> = self.systems.drain(..).map(|name| format!("'{name}'")).collect();
        Some(t!(
            "The passphrases that {names} keeps for its backups were tried first.",
            names = names.join(&format!(" {} ", t!("and")))
        ))
    }

    /// Opens backups with what is known, and asks `prompter` up to `tries` times for each where that does not do.
    pub fn unlocking<'a>(&'a mut self, prompter: Option<&'a mut dyn Prompter>, tries: u32) -> Unlocking<'a> {
        Unlocking { keyring: self, prompter, tries, asked: 0, is_guided: false, left: None }
    }
}

fn read(path: &Path, limit: u64, what: &str) -> Result<Vec<u8>, Failure> {
    let failed = |error: io::Error| {
        let sentence = format!("reading the {what} from \"{}\": {error}", path.display());
        Failure::untouched(Ending::Usage, sentence, format!("name a file that holds the {what} and nothing else"))
    };
    let mut raw = Vec::new();
    File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut raw)).map_err(failed)?;
    if raw.len() as u64 > limit {
        return Err(failed(io::Error::other(format!("it is longer than {limit} bytes"))));
    }
    Ok(raw)
}

/// The passphrase for a new backup: from where the command line says, or typed twice.
pub fn new_passphrase(places: &KeyPlaces, prompter: Option<&mut dyn Prompter>) -> Result<Secret, Failure> {
    let none = "an encrypted backup needs a passphrase";
    if let Some(given) = Keyring::read(places)?.known.first() {
        let advice = "name a file that holds one";
        let is_empty = given.reveal().is_empty();
        return if is_empty { Err(Failure::untouched(Ending::Usage, none, advice)) } else { Ok(given.clone()) };
    }
    let Some(prompter) = prompter else {
        return Err(Failure::untouched(Ending::Usage, none, "name a file that holds one with --passphrase-file"));
    };
    let mut ask = |text: &str| match prompter.secret(&Words::new(Screen::new("new-passphrase", "", text).first())) {
        Ok(Answer::Given(secret)) if !secret.reveal().is_empty() => Ok(secret),
        _ => Err(Failure::untouched(Ending::Cancelled, "no passphrase was typed", "run the command again")),
    };
    loop {
        let first = ask("Type a passphrase for the backup, and keep it in another place than the backup:")?;
        if ask("Type it once more:")? == first {
            return Ok(first);
        }
    }
}

/// A keyring in use.
pub struct Unlocking<'a> {
    keyring: &'a mut Keyring,
    prompter: Option<&'a mut dyn Prompter>,
    tries: u32,
    /// How often the user was asked for the backup at hand.
    asked: u32,
    /// Whether the question is one of a dialogue, in which one can go back.
    is_guided: bool,
    left: Option<Left>,
}

/// How the user left a question without answering it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// To the question before.
    Back,
    /// For good.
    Stopped,
}

impl Unlocking<'_> {
    /// As one question of a dialogue: one can go back, and after a wrong passphrase choose to see what is typed.
    #[must_use]
    pub fn guided(self) -> Self {
        Unlocking { is_guided: true, ..self }
    }

    /// Whether the user did not want to answer, and what instead.
    pub fn left(&self) -> Option<Left> {
        self.left
    }

    /// Asks once.
    fn ask(&mut self, place: &str, again: bool) -> io::Result<Answer<Secret>> {
        let Some(prompter) = self.prompter.as_mut() else { return Ok(Answer::Stop) };
        let mut visible = false;
        if again && self.is_guided {
            let about = t!(
                "The backup could not be opened with what was typed. Capital letters, blanks and the layout of the keyboard count: y and z, digits and signs may be on other keys than usual. It is the passphrase that was set in FreedomBox (System, Backups) for this place. You can try as often as you like."
            );
            let screen = Screen::new("passphrase-wrong", t!("The passphrase is wrong"), t!("What now?")).about(about);
            let options = vec![
                Offer::new(t!("type it again"), "again"),
                Offer::new(t!("type it again, and show on the screen what I type"), "again-visible"),
            ];
            match prompter.choose(&Choice { screen, options, default: Some(0) })? {
                Answer::Given(at) => visible = at == 1,
                other => return Ok(other.map(|_| Secret::new(Vec::new()))),
            }
        }
        let asked = match self.is_guided {
            true => {
                t!("The backup at {place} is encrypted. Type its passphrase, or nothing to go back:", place = place)
            }
            false => t!("The backup at {place} is encrypted. Type its passphrase, or nothing to stop:", place = place),
        };
        let wrong = if again && !self.is_guided { t!("That passphrase is wrong.") + " " } else { String::new() };
        let screen = Screen::new("passphrase", t!("The backup is encrypted"), wrong + &asked);
        let screen = Screen { back: self.is_guided, ..screen };
        prompter.secret(&Words { visible, ..Words::new(screen) })
    }
}

impl Unlock for Unlocking<'_> {
    fn passphrase(&mut self, place: &str, attempt: u32) -> Option<Secret> {
        if attempt == 0 {
            self.asked = 0;
        }
        if self.asked == 0
            && let Some(known) = self.keyring.known.get(usize::try_from(attempt).ok()?)
        {
            self.keyring.tried = true;
            return Some(known.clone());
        }
        let again = self.asked > 0;
        if again {
            // What was typed last is wrong.
            self.keyring.known.pop();
        }
        if self.asked >= self.tries || self.left.is_some() {
            return None;
        }
        self.prompter.as_ref()?;
        match self.ask(place, again) {
            Ok(Answer::Given(secret)) if !secret.reveal().is_empty() => {
                self.asked += 1;
                self.keyring.known.push(secret.clone());
                return Some(secret);
            }
            Ok(Answer::Back) => self.left = Some(Left::Back),
            // Where an answer file does not have it, nobody has stopped: the passphrase is what is missing.
            Err(error) if Unanswered::within(&error).is_some() => {}
            _ => self.left = Some(Left::Stopped),
        }
        self.asked = 0;
        None
    }

    fn learn(&mut self, system: &str, passphrases: &[Secret]) {
        let keyring = &mut *self.keyring;
        let new: Vec<Secret> = passphrases.iter().filter(|secret| !keyring.known.contains(secret)).cloned().collect();
        if !new.is_empty() {
            keyring.systems.push(system.to_owned());
            keyring.known.extend(new);
        }
    }

    fn key_file(&self) -> Option<&[u8]> {
        self.keyring.key_file.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::question::Choice;

    struct Script(Vec<&'static str>);

    impl Prompter for Script {
        fn show(&mut self, _: &str) -> io::Result<()> {
            Ok(())
        }
        fn read(&mut self, _: &Screen) -> io::Result<Answer<()>> {
            Ok(Answer::Stop)
        }
        fn choose(&mut self, _: &Choice) -> io::Result<Answer<usize>> {
            Ok(Answer::Stop)
        }
        fn ask(&mut self, words: &Words) -> io::Result<Answer<String>> {
            assert_eq!(words.screen.id, "passphrase");
            Ok(if self.0.is_empty() { Answer::Stop } else { Answer::Given(self.0.remove(0).into()) })
        }
    }

    fn text(secret: Option<Secret>) -> Option<String> {
        secret.map(|secret| String::from_utf8(secret.reveal().to_vec()).unwrap())
    }

    #[test]
    fn what_was_typed_right_is_remembered_and_what_was_wrong_is_not() {
        let mut keyring = Keyring { known: vec![Secret::new(b"file".to_vec())], ..Keyring::default() };
        let mut script = Script(vec!["wrong", "right"]);
        let mut unlocking = keyring.unlocking(Some(&mut script), 9);
        for (attempt, answer) in (0..).zip(["file", "wrong", "right"]) {
            assert_eq!(text(unlocking.passphrase("x", attempt)).as_deref(), Some(answer));
        }
        for (attempt, answer) in (0..).zip([Some("file"), Some("right"), None]) {
            assert_eq!(text(unlocking.passphrase("y", attempt)).as_deref(), answer);
        }
        assert_eq!(unlocking.left(), Some(Left::Stopped));
    }

    #[test]
    fn after_the_last_try_nobody_is_asked() {
        let mut keyring = Keyring::default();
        let mut script = Script(vec!["a", "b", "c"]);
        let mut unlocking = keyring.unlocking(Some(&mut script), 2);
        let answers: Vec<_> = (0..4).map(|attempt| text(unlocking.passphrase("x", attempt)).is_some()).collect();
        assert_eq!(answers, [true, true, false, false]);
        assert!(Keyring::default().unlocking(None, 3).passphrase("x", 0).is_none());
    }
}
