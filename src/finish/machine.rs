//! The running box around FreedomBox: its service, its packages, its clock.
//!
//! Owns the order in which they are asked, never a decision about an app. Everything goes through `Commands`.

use crate::model::bytes;
use crate::restore::{RestoreError, doing};
use crate::sys::command::{Commands, Output};
use crate::sys::dir::Dir;
use crate::sys::fault;
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// The service that shows FreedomBox's pages and runs its setup; the same name in every version.
const SERVICE: &str = "plinth.service";
/// What root may have made in FreedomBox's own folder, and what belongs to the user `plinth`.
const OWN: [&str; 5] = [
    "var/lib/plinth/plinth.sqlite3",
    "var/lib/plinth/plinth.sqlite3-journal",
    "var/lib/plinth/django-secret.key",
    "var/lib/plinth/sessions",
    "var/lib/plinth/backups-manifests",
];
/// Answers to questions about configuration files: what is there stays.
const KEEP_FILES: [&str; 2] = ["--force-confdef", "--force-confold"];
/// How long another run of dpkg, for example unattended upgrades, is waited for.
const LOCK_SECONDS: &str = "DPkg::Lock::Timeout=1800";

/// The box that runs, with what it can be asked for.
pub(super) struct Machine<'a> {
    pub(super) commands: &'a dyn Commands,
    pub(super) root: &'a Dir,
    /// Where that root is.
    pub(super) at: &'a Path,
    pub(super) talk: &'a dyn Fn(&str),
    /// How long to wait between two looks; a test does not wait.
    pub(super) pause: Duration,
}

/// How packages were reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fetched {
    /// They lie on the box.
    Here,
    /// Not now: no network, or the package manager is in use. Says why.
    NotNow(String),
}

impl Machine<'_> {
    pub(super) fn run(&self, program: &str, args: &[&str]) -> io::Result<Output> {
        let args: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
        self.commands.run(program, &args)
    }

    fn say(&self, sentence: &str) {
        (self.talk)(sentence);
    }

    /// Whether a command ends well.
    fn is_so(&self, program: &str, args: &[&str]) -> bool {
        matches!(self.run(program, args), Ok(Output { status: Some(0), .. }))
    }

    /// Gives back to FreedomBox what root made in its folder: its service cannot start with a database of root's.
    pub(super) fn repair_owners(&self) -> Result<(), RestoreError> {
        let failed = || doing("giving FreedomBox's own files back to it");
        let Ok(Output { status: Some(0), stdout, .. }) = self.run("getent", &["passwd", "plinth"]) else {
            return Ok(());
        };
        let line = String::from_utf8_lossy(&stdout).into_owned();
        let mut fields = line.trim().split(':').skip(2);
        let number = |text: Option<&str>| text.and_then(|text| text.parse::<u32>().ok());
        let (Some(uid), Some(gid)) = (number(fields.next()), number(fields.next())) else { return Ok(()) };
        for path in OWN {
            let path = path.parse()?;
            let Some(stat) = self.root.stat(&path).map_err(failed())? else { continue };
            if stat.uid != uid {
                self.say(&format!("giving \"/{path}\" back to FreedomBox"));
                let at = self.root.parent(&path).map_err(failed())?;
                at.set_owner(path.file_name(), uid, gid).map_err(failed())?;
            }
        }
        Ok(())
    }

    /// Whether FreedomBox's service is up.
    fn is_up(&self) -> bool {
        self.is_so("systemctl", &["is-active", "--quiet", SERVICE])
    }

    /// Waits until FreedomBox's service is up; starts it where it gave up. `false` when it does not come.
    pub(super) fn await_service(&self, patience: Duration) -> bool {
        let begun = Instant::now();
        let mut tried = false;
        loop {
            if self.is_up() {
                return true;
            }
            let starting = self.run("systemctl", &["is-active", SERVICE]);
            let starting = starting.is_ok_and(|output| output.stdout.starts_with(b"activating"));
            if !starting && !tried {
                tried = true;
                self.start_service();
            }
            if begun.elapsed() >= patience {
                return false;
            }
            std::thread::sleep(self.pause);
        }
    }

    /// Stops FreedomBox's service: it keeps state in memory and would change the same database and packages.
    pub(super) fn stop_service(&self) -> Result<(), String> {
        fault::point("finish.stop").map_err(|error| error.to_string())?;
        self.say("stopping FreedomBox's service for the time of the work");
        match self.run("systemctl", &["stop", SERVICE]) {
            Ok(Output { status: Some(0), .. }) => Ok(()),
            Ok(output) => Err(format!("FreedomBox's service cannot be stopped: {}", last_words(&output))),
            Err(error) => Err(format!("FreedomBox's service cannot be stopped: {error}")),
        }
    }

    /// Starts FreedomBox's service without waiting for it.
    pub(super) fn start_service(&self) {
        // It may have failed too often in a row, when root had its database.
        let _ = self.run("systemctl", &["reset-failed", SERVICE]);
        match self.run("systemctl", &["--no-block", "start", SERVICE]) {
            Ok(Output { status: Some(0), .. }) => {}
            Ok(output) => self.say(&format!("starting FreedomBox's service did not work: {}", last_words(&output))),
            Err(error) => self.say(&format!("starting FreedomBox's service did not work: {error}")),
        }
    }

    /// Finishes what a power cut left half-installed; until then the package manager refuses everything.
    pub(super) fn repair_packages(&self) -> Result<(), String> {
        let audit = self.run("dpkg", &["--audit"]);
        let whole = audit.is_ok_and(|output| output.status == Some(0) && output.stdout.trim_ascii().is_empty());
        let updates = "var/lib/dpkg/updates".parse().ok().and_then(|path| self.root.dir(&path).ok());
        let quiet = updates.is_none_or(|updates| updates.names().is_ok_and(|names| names.is_empty()));
        if whole && quiet {
            return Ok(());
        }
        fault::point("finish.dpkg").map_err(|error| error.to_string())?;
        self.say("finishing an installation of packages that was interrupted");
        let [one, other] = KEEP_FILES;
        let configure = self.run("dpkg", &[one, other, "--configure", "-a"]);
        let options = KEEP_FILES.map(|option| format!("Dpkg::Options::={option}"));
        let [one, other] = &options;
        let fix =
            self.run("apt-get", &["-y", "-q", "-o", one, "-o", other, "-o", LOCK_SECONDS, "--fix-broken", "install"]);
        match (configure, fix) {
            (Ok(Output { status: Some(0), .. }), _) | (_, Ok(Output { status: Some(0), .. })) => Ok(()),
            (Ok(output), _) => Err(format!("packages are half-installed: {}", last_words(&output))),
            (Err(error), _) => Err(format!("packages are half-installed: {error}")),
        }
    }

    /// Fetches the lists of packages; every source has to answer.
    pub(super) fn refresh_packages(&self) -> Fetched {
        self.say("asking for the lists of packages");
        self.fetch(&["-q", "-o", "APT::Update::Error-Mode=any", "-o", LOCK_SECONDS, "update"])
    }

    /// Downloads packages and what they need, and installs nothing; FreedomBox keeps running.
    pub(super) fn download(&self, packages: &[String]) -> Fetched {
        let mut args = vec!["-y", "-q", "-o", LOCK_SECONDS, "--download-only", "install", "--"];
        args.extend(packages.iter().map(String::as_str));
        self.fetch(&args)
    }

    fn fetch(&self, args: &[&str]) -> Fetched {
        match self.run("apt-get", args) {
            Ok(Output { status: Some(0), .. }) => Fetched::Here,
            Ok(output) => Fetched::NotNow(last_words(&output)),
            Err(error) => Fetched::NotNow(error.to_string()),
        }
    }

    /// Whether the clock was set by the network, so that days can be counted by it.
    pub(super) fn has_right_clock(&self) -> bool {
        let said = self.run("timedatectl", &["show", "--property=NTPSynchronized", "--value"]);
        said.is_ok_and(|output| output.stdout.trim_ascii() == b"yes")
    }
}

/// The last lines that a program said, for people.
pub(super) fn last_words(output: &Output) -> String {
    let said = [output.stdout.as_slice(), b"\n", output.stderr.as_slice()].concat();
    let said = bytes::escape(&said.split(|&b| b == b'\n').map(<[u8]>::trim_ascii).collect::<Vec<_>>().join(&b' '));
    let words: Vec<&str> = said.split_whitespace().collect();
    let words = words.join(" ");
    // Errors of the package manager begin with this mark.
    let from = words.find("E: ").unwrap_or(0);
    let words = words.get(from..).unwrap_or_default();
    let short: String = words.chars().take(300).collect();
    match (short.is_empty(), output.status) {
        (true, Some(code)) => format!("it ended with status {code} and said nothing"),
        (true, None) => "it was ended by a signal".into(),
        (false, _) => short,
    }
}
