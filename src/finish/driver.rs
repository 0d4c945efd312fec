//! Talking with the child that drives FreedomBox: a small Python program, run by the box's own Python.
//!
//! Owns the protocol: one JSON line asks, one answers; see `driver.py`. A child that dies or falls silent is an error
//! of the request, never of the whole run. Secrets in what FreedomBox prints do not get into the log.

use super::machine::Machine;
use crate::model::extra::Extra;
use crate::restore::Numbers;
use crate::sys::command::Talk;
use crate::sys::host::Host;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The child's program and its parts.
const PROGRAM: [(&str, &str); 8] = [
    ("driver.py", include_str!("driver.py")),
    ("ground.py", include_str!("ground.py")),
    ("answers.py", include_str!("answers.py")),
    ("migrations.py", include_str!("migrations.py")),
    ("extras/accounts.py", include_str!("extras/accounts.py")),
    ("extras/names.py", include_str!("extras/names.py")),
    ("extras/networks.py", include_str!("extras/networks.py")),
    ("extras/backup_locations.py", include_str!("extras/backup_locations.py")),
];
/// How long the child may say nothing. Installing a large app takes minutes on a slow board; a child that hangs keeps
/// FreedomBox's pages away.
const PATIENCE: Duration = Duration::from_secs(2 * 3600);
/// How long the first setup of a new box is waited for; it took up to 142 s on a fast machine.
const FIRST_SETUP: Duration = Duration::from_secs(3600);

/// Where lines for the log go.
pub(super) type Log = Arc<dyn Fn(&[u8]) + Send + Sync>;

/// A running child with FreedomBox loaded.
pub(super) struct Driver {
    talk: Talk,
    /// Where the child's program lies; removed with it.
    folder: PathBuf,
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum DriverError {
    /// FreedomBox or the app refused; the sentence says why.
    #[error("{0}")]
    Refused(String),
    /// The child is gone or silent: it has to be started again.
    #[error("the program that drives FreedomBox {0}")]
    Gone(String),
}

/// What FreedomBox knows of an app.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Facts {
    /// Whether this version has it.
    pub(super) known: bool,
    /// Whether it is installed and set up.
    pub(super) is_set_up: bool,
    /// Whether this version backs it up.
    pub(super) has_backup: bool,
    /// What installing it needs.
    pub(super) packages: Vec<String>,
    /// What of that the package lists do not have.
    pub(super) missing: Vec<String>,
}

/// How an app answers.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Answers {
    /// Names of the diagnostics that fail.
    pub(super) failed: BTreeSet<String>,
    /// What fails and did not before, for people.
    pub(super) new: Vec<String>,
    /// Whether the app is switched on.
    pub(super) enabled: bool,
}

/// The name of an extra's part in Python.
fn part(extra: Extra) -> String {
    extra.as_str().replace('-', "_")
}

/// What came of one kind of extra, by names.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Brought {
    /// What is here now.
    pub(super) made: Vec<String>,
    /// What was here before and stays as it is.
    pub(super) here: Vec<String>,
    /// What is not here, and why; it is tried again.
    pub(super) failed: BTreeMap<String, String>,
    /// What never will be here, and why.
    pub(super) lost: BTreeMap<String, String>,
    /// What its owner should know besides: sentences.
    pub(super) notes: Vec<String>,
}

impl Brought {
    /// All of it in one sentence.
    pub(super) fn sentence(&self, extra: Extra) -> String {
        let mut parts = Vec::new();
        if !self.made.is_empty() {
            parts.push(format!("brought over: {}", self.made.join(", ")));
        }
        if !self.here.is_empty() {
            parts.push(format!("on this box already, and left as they are: {}", self.here.join(", ")));
        }
        let failed = self.failed.iter().chain(&self.lost);
        parts.extend(failed.map(|(name, why)| format!("{name} was NOT brought over: {why}")));
        parts.extend(self.notes.iter().map(|note| note.trim_end_matches('.').to_owned()));
        format!("{}: {}", extra.title(), parts.join("; "))
    }
}

/// What FreedomBox and the app's units say of a moment in which everything is stopped for the app's files.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Moment {
    /// Paths of the dumps that FreedomBox would import.
    pub(super) dumps: Vec<String>,
    /// State directories of the app's dynamic users, below `var/lib`.
    pub(super) states: Vec<String>,
}

/// The child, as soon as FreedomBox's first setup is over: before that a new box has no directory of people, and no app
/// can be installed. When an hour is over, the apps of every FreedomBox that are still not set up are named.
pub(super) fn await_first_setup(
    machine: &Machine,
    host: &Host,
    log: &Log,
) -> Result<(Driver, Vec<String>), DriverError> {
    let begun = Instant::now();
    let mut said = false;
    // Loading FreedomBox takes a slow board a while: one child asks again and again.
    let mut driver = None;
    loop {
        let asking = driver.take().map_or_else(|| Driver::start(machine, host, log, false), Ok);
        let looked = asking.and_then(|mut driver| driver.unready().map(|unready| (driver, unready)));
        let is_over = begun.elapsed() >= FIRST_SETUP;
        let unready = match looked {
            Ok((driver, unready)) if unready.is_empty() || is_over => return Ok((driver, unready)),
            Ok((asked, unready)) => {
                driver = Some(asked);
                unready.join(", ")
            }
            Err(error) if is_over => return Err(error),
            // Its database is not there or not complete yet.
            Err(_) => "everything".to_owned(),
        };
        if !said {
            (machine.talk)(&format!("waiting for FreedomBox's first setup ({unready})"));
            said = true;
        }
        std::thread::sleep(machine.pause);
    }
}

#[derive(Deserialize)]
struct Saved {
    dumps: Vec<String>,
}

impl Driver {
    /// Starts the child and lets it load FreedomBox. With `guarded`, the box is not switched off meanwhile.
    pub(super) fn start(machine: &Machine, host: &Host, log: &Log, guarded: bool) -> Result<Driver, DriverError> {
        let commands = machine.commands;
        let gone = |error: &dyn std::fmt::Display| DriverError::Gone(format!("cannot be started: {error}"));
        let folder = host.private_directory("driver").map_err(|error| gone(&error))?;
        let program = folder.join("driver.py");
        let write = || {
            std::fs::create_dir_all(folder.join("extras"))?;
            PROGRAM.into_iter().try_for_each(|(name, text)| std::fs::write(folder.join(name), text))
        };
        write().map_err(|error| gone(&error))?;
        let begin = |guarded: bool| -> Result<Driver, DriverError> {
            let python = [OsStr::new("-u"), program.as_os_str(), machine.at.as_os_str()];
            let log = log.clone();
            let log = Box::new(move |line: &[u8]| log(redact(&plain(&String::from_utf8_lossy(line))).as_bytes()));
            let talk = match guarded {
                false => commands.talk("python3", &python, log),
                true => {
                    let why = ["--what=shutdown:sleep:idle", "--mode=block", "--who=Lifeboat", "--why=Restoring apps"];
                    let mut args: Vec<&OsStr> = why.iter().map(OsStr::new).collect();
                    args.push(OsStr::new("python3"));
                    args.extend(python);
                    commands.talk("systemd-inhibit", &args, log)
                }
            };
            let talk = talk.map_err(|error| gone(&error))?;
            let mut driver = Driver { talk, folder: folder.clone() };
            driver.ask::<Value>(json!({"do": "load"}))?;
            Ok(driver)
        };
        match begin(guarded) {
            // Where nobody can hold the box back, the work is done all the same: it survives being switched off.
            Err(DriverError::Gone(_)) if guarded => {
                std::fs::create_dir_all(&folder).and_then(|()| write()).map_err(|error| gone(&error))?;
                begin(false)
            }
            other => other,
        }
    }

    /// Brings FreedomBox's database up to date and starts its apps' code. Only while its service is stopped.
    pub(super) fn begin(&mut self) -> Result<(), DriverError> {
        self.ask::<Value>(json!({"do": "start"})).map(drop)
    }

    /// Apps of every FreedomBox that its first setup has not reached yet.
    pub(super) fn unready(&mut self) -> Result<Vec<String>, DriverError> {
        self.ask(json!({"do": "unready"}))
    }

    pub(super) fn look(&mut self, app: &str) -> Result<Facts, DriverError> {
        self.ask(json!({"do": "look", "app": app}))
    }

    pub(super) fn numbers(&mut self, names: &(BTreeSet<String>, BTreeSet<String>)) -> Result<Numbers, DriverError> {
        self.ask(json!({"do": "numbers", "users": names.0, "groups": names.1}))
    }

    pub(super) fn install(&mut self, app: &str) -> Result<(), DriverError> {
        self.ask::<Value>(json!({"do": "install", "app": app})).map(drop)
    }

    /// Lets FreedomBox dump what the app's database or settings hold; the paths of the dumps.
    pub(super) fn save(&mut self, app: &str) -> Result<Vec<String>, DriverError> {
        self.ask::<Saved>(json!({"do": "save", "app": app})).map(|saved| saved.dumps)
    }

    /// FreedomBox's restore of one app. `place` puts the files in place when everything is stopped for it.
    pub(super) fn restore(
        &mut self,
        app: &str,
        place: &mut dyn FnMut(&Moment) -> Result<(), String>,
    ) -> Result<(), DriverError> {
        let mut why = None;
        let mut placing = |question: &Value| {
            let moment = serde_json::from_value::<Moment>(question.clone());
            let moment = moment.map_err(|error| format!("what the app needs was not understood: {error}"));
            let placed = moment.and_then(|moment| place(&moment));
            let answer = json!({"placed": placed.is_ok()});
            why = placed.err();
            answer
        };
        let asked = self.converse(&json!({"do": "restore", "app": app}), &mut placing);
        match (asked, why) {
            (Err(DriverError::Refused(_)), Some(why)) => Err(DriverError::Refused(why)),
            (other, _) => other.map(drop),
        }
    }

    /// Takes out what was imported here and not by FreedomBox; `kept` is the folder with what the app had before.
    pub(super) fn take_out(&mut self, app: &str, kept: &str) -> Result<(), DriverError> {
        self.ask::<Value>(json!({"do": "take_out", "app": app, "kept": kept})).map(drop)
    }

    /// Does what the app has to do with data of an older release; `placed` are the paths that were restored. What the
    /// owner should know of it, where there is anything.
    pub(super) fn migrate(&mut self, app: &str, placed: &[String]) -> Result<Option<String>, DriverError> {
        let answer: Value = self.ask(json!({"do": "migrate", "app": app, "placed": placed}))?;
        Ok(answer.get("note").and_then(Value::as_str).map(str::to_owned))
    }

    /// Whether the app answers, and uses what was `placed`; what fails and is not `known` is asked again until `patience`
    /// is over.
    pub(super) fn check(
        &mut self,
        app: &str,
        patience: Duration,
        known: &BTreeSet<String>,
        placed: &[String],
    ) -> Result<Answers, DriverError> {
        let asked =
            json!({"do": "check", "app": app, "patience": patience.as_secs(), "known": known, "placed": placed});
        self.ask(asked)
    }

    /// What of the app fails now; services that were started just now get until `patience` is over.
    pub(super) fn failing(&mut self, app: &str, patience: Duration) -> Result<BTreeSet<String>, DriverError> {
        let asked = json!({"do": "check", "app": app, "patience": 0, "settling": patience.as_secs(), "known": []});
        Ok(self.ask::<Answers>(asked)?.failed)
    }

    /// Makes of one kind of extra what is not here, and says so on FreedomBox's pages.
    pub(super) fn bring(&mut self, extra: Extra, wanted: &Value) -> Result<Brought, DriverError> {
        self.ask(json!({"do": "bring", "kind": part(extra), "wanted": wanted}))
    }

    pub(super) fn notify(&mut self, title: &str, message: &str, severity: &str) -> Result<(), DriverError> {
        self.ask::<Value>(json!({"do": "notify", "title": title, "message": message, "severity": severity})).map(drop)
    }

    fn ask<T: DeserializeOwned>(&mut self, request: Value) -> Result<T, DriverError> {
        let answer = self.converse(&request, &mut |_| json!({}))?;
        serde_json::from_value(answer)
            .map_err(|error| DriverError::Gone(format!("gave an answer of no sense: {error}")))
    }

    fn converse(&mut self, request: &Value, asked: &mut dyn FnMut(&Value) -> Value) -> Result<Value, DriverError> {
        let gone = |error: io::Error| match error.kind() {
            io::ErrorKind::TimedOut => DriverError::Gone("fell silent".into()),
            _ => DriverError::Gone(format!("cannot be talked to: {error}")),
        };
        self.talk.say(request.to_string().as_bytes()).map_err(gone)?;
        loop {
            let line = self.talk.hear(PATIENCE).map_err(gone)?;
            let line = line.ok_or_else(|| DriverError::Gone("ended before it answered".into()))?;
            let mut value: Value = serde_json::from_slice(&line)
                .map_err(|error| DriverError::Gone(format!("gave an answer of no sense: {error}")))?;
            if value.get("ask").is_some() {
                let answer = asked(&value);
                self.talk.say(answer.to_string().as_bytes()).map_err(gone)?;
            } else if let Some(error) = value.get("error") {
                return Err(DriverError::Refused(redact(error.as_str().unwrap_or("it did not work"))));
            } else {
                return Ok(value.get_mut("ok").map(Value::take).unwrap_or_default());
            }
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Takes colours and other signs for terminals out.
fn plain(line: &str) -> String {
    let mut text = String::new();
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\u{1b}' => drop(letters.by_ref().find(|end| end.is_ascii_alphabetic())),
            letter if letter.is_control() && letter != '\t' => {}
            letter => text.push(letter),
        }
    }
    text
}

/// Takes the values out of what looks like a secret: FreedomBox hides its own, the programs that it runs may not.
fn redact(line: &str) -> String {
    let mut text = String::new();
    let mut hides = false;
    for word in line.split_inclusive(char::is_whitespace) {
        let plain = word.trim_end();
        let (name, value) = match plain.find(['=', ':']) {
            Some(at) => plain.split_at(at.saturating_add(1)),
            None => (plain, ""),
        };
        let secret = ["pass", "secret", "token", "identified"].iter().any(|mark| name.to_lowercase().contains(mark));
        let follows = secret && value.trim_matches(['\'', '"']).is_empty() && plain.ends_with(['=', ':', '"', '\'']);
        if hides && !plain.is_empty() {
            text.push_str("(hidden) ");
            hides = plain == "BY" || plain == "by";
        } else if secret && !value.is_empty() {
            text.push_str(name);
            text.push_str("(hidden) ");
        } else {
            text.push_str(word);
            hides = follows || name.eq_ignore_ascii_case("identified");
        }
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_what_programs_print_do_not_reach_the_log() {
        for line in [
            "GRANT ALL TO x IDENTIFIED BY 'hunter2';",
            "password=hunter2 host=x",
            "PASSWORD: hunter2",
            "{\"encryption_passphrase\": \"hunter2\", \"x\": 1}",
            "BORG_PASSPHRASE=hunter2",
            "token: hunter2",
        ] {
            assert!(!redact(line).contains("hunter2"), "{line} -> {}", redact(line));
        }
        assert_eq!(redact("Setting up radicale (3.5) ..."), "Setting up radicale (3.5) ...");
    }
}
