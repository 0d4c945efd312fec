//! The guided rescue: one question at a time, over the same stages as the commands.
//!
//! Has no power that the commands lack: it fills in what they get as arguments. Nothing is written before the plan was
//! shown and the box's name was typed.

use crate::failure::Failure;
use crate::model::app::AppId;
use crate::model::archive::{ArchiveId, BackupLocation};
use crate::model::bytes;
use crate::model::ending::Ending;
use crate::model::installation::Installation;
use crate::model::plan::Extra;
use crate::model::progress::Progress;
use crate::model::question::{Answer, Choice, Offer, Prompter, Unanswered, Words};
use crate::model::state::{DataState, RestoreState};
use crate::render::{View, text};
use crate::rescue::carry::{carry_out, resume, undo};
use crate::rescue::keyring::{Keyring, Unlocking};
use crate::rescue::prepare::{is_backup, learn, prepare};
use crate::rescue::reach;
use crate::rescue::{Backup, Done, Request, Status, places};
use crate::restore::{self, Consent};
use crate::source;
use crate::source::old_system::SYSTEM;
use crate::survey::target::Access;
use crate::survey::{self, Surveyed};
use crate::sys::dir::Dir;
use crate::sys::host::Host;
use std::path::{Path, PathBuf};

/// Walks the user through a rescue.
pub fn run(
    host: &Host,
    images: &[PathBuf],
    roots: &[PathBuf],
    prompter: &mut dyn Prompter,
    progress: &dyn Progress,
) -> Result<Ending, Failure> {
    let mut guide = Guide { host, prompter, progress, keyring: Keyring::default() };
    match guide.walk(images, roots) {
        Ok(ending) => Ok(ending),
        Err(Halt::Stop) => {
            let _ = guide.prompter.show("Stopped. Nothing has been changed.\n");
            Ok(Ending::Cancelled)
        }
        Err(Halt::Failed(failure)) => {
            // On a live medium the dialogue is all that the user sees.
            let _ = guide.prompter.show(&text::failure(&failure));
            Err(*failure)
        }
    }
}

struct Guide<'a> {
    host: &'a Host,
    prompter: &'a mut dyn Prompter,
    progress: &'a dyn Progress,
    /// Passphrases that were typed.
    keyring: Keyring,
}

/// Why the dialogue ends early.
enum Halt {
    /// The user said so.
    Stop,
    /// Something went wrong.
    Failed(Box<Failure>),
}

impl From<Failure> for Halt {
    fn from(failure: Failure) -> Halt {
        Halt::Failed(Box::new(failure))
    }
}

impl From<std::io::Error> for Halt {
    fn from(error: std::io::Error) -> Halt {
        if let Some(unanswered) = Unanswered::within(&error) {
            let advice = "complete the answer file, or start the guide without it";
            return Failure::untouched(Ending::Unanswered, unanswered.to_string(), advice).into();
        }
        let sentence = format!("talking to the terminal: {error}");
        Failure::untouched(Ending::Failed, sentence, "start the guide again on a terminal").into()
    }
}

impl Guide<'_> {
    fn walk(&mut self, images: &[PathBuf], roots: &[PathBuf]) -> Result<Ending, Halt> {
        self.prompter.show("Lifeboat looks at all disks. Nothing is changed.\n")?;
        let mut surveyed = survey::survey(self.host, &places(images, roots), &is_backup).map_err(Failure::from)?;
        self.prompter.show(&surveyed.survey.text())?;
        learn(&mut self.keyring.unlocking(None, 0), &surveyed.survey.installations);
        let box_ = self.choose_box(&surveyed)?;
        if let Some(ending) = self.settle_earlier(&mut surveyed, &box_)? {
            return Ok(ending);
        }
        let location = self.choose_backup(&surveyed, &box_)?;
        let archive = self.choose_archive(&location)?;
        let apps = self.choose_apps(location.path(), &archive)?;
        let onto = place_of(&surveyed, &box_);
        // The box is opened anew, for writing; only what the backup needs stays mounted.
        surveyed.keep_only(location.path());
        let args = Request {
            from: Backup::At(location.path().to_owned()),
            archive: Some(archive),
            onto,
            apps,
            extras: self.choose_extras(&location)?,
            accept_damage: false,
            program: None,
        };
        self.restore(args, surveyed, &box_)
    }

    fn choose_box(&mut self, surveyed: &Surveyed) -> Result<Installation, Halt> {
        let boxes = &surveyed.survey.installations;
        if boxes.is_empty() {
            let advice = "connect the disk or card with the installed FreedomBox and start again";
            return Err(Failure::untouched(Ending::RefusedTarget, "no FreedomBox system was found", advice).into());
        }
        let offer = |box_: &Installation| Offer {
            text: format!("{} on {}", text::installation(box_), box_.place),
            names: lasting_names(surveyed, &box_.place),
        };
        let options: Vec<Offer> = boxes.iter().map(offer).collect();
        let question = "Put the restored data ON which box? Nothing has been changed so far.";
        let index = self.choose("choose-box", question, &options)?;
        boxes.get(index).cloned().ok_or(Halt::Stop)
    }

    /// An interrupted restore comes first: nothing else may begin before it is finished or undone.
    fn settle_earlier(&mut self, surveyed: &mut Surveyed, box_: &Installation) -> Result<Option<Ending>, Halt> {
        let root = Dir::open(&box_.root)?;
        let standing = restore::standing(&root).map_err(|error| Failure::of_restore(&error, DataState::Unknown))?;
        drop(root);
        let Some(standing) = standing.filter(restore::Standing::is_open) else { return Ok(None) };
        let state = standing.state;
        self.prompter.show(&Status::of(Some(standing)).text())?;
        let forward = match state {
            RestoreState::Interrupted => Offer::new("go on with it", "go-on"),
            _ => Offer::new("leave it as it is", "leave"),
        };
        let options = [forward, Offer::new("undo it: put the old data back", "undo")];
        let answer = self.choose("earlier-restore", "An earlier restore is on this box. What now?", &options)?;
        let onto = place_of(surveyed, box_);
        surveyed.mounts.clear();
        match (answer, state) {
            (0, RestoreState::Interrupted) => self.report(resume(self.host, &onto, self.progress)?).map(Some),
            (0, _) => Ok(Some(Ending::Done)),
            _ => self.report(undo(self.host, &onto, self.progress)?).map(Some),
        }
    }

    fn choose_backup(&mut self, surveyed: &Surveyed, box_: &Installation) -> Result<BackupLocation, Halt> {
        // Another box that was ever started is as good as a backup of it, and fresher.
        let others = surveyed.survey.installations.iter().filter(|other| other.root != box_.root && other.booted);
        let others = others.map(|other| BackupLocation::OldSystem {
            path: place_of(surveyed, other),
            hostname: other.hostname.clone(),
            freedombox: other.freedombox.clone(),
        });
        let locations: Vec<BackupLocation> = surveyed.survey.locations.iter().cloned().chain(others).collect();
        if locations.is_empty() {
            let advice = "connect the disk with the backup and start again";
            return Err(Failure::untouched(Ending::NoBackup, "no backup was found", advice).into());
        }
        let options: Vec<Offer> = locations.iter().map(|location| named(surveyed, location)).collect();
        let index = self.choose("choose-backup", "Restore FROM which backup?", &options)?;
        locations.get(index).cloned().ok_or(Halt::Stop)
    }

    fn choose_archive(&mut self, location: &BackupLocation) -> Result<ArchiveId, Halt> {
        if let (BackupLocation::OldSystem { .. }, Ok(system)) = (location, SYSTEM.parse()) {
            return Ok(system);
        }
        let location = location.path();
        let mut archives = self.unlocked(|unlock| source::list(location, unlock).map_err(Failure::from))?.archives;
        archives.reverse();
        let mut options: Vec<Offer> = archives
            .iter()
            .map(|archive| {
                let name = archive.name.as_deref().unwrap_or(archive.id.as_str());
                let text = format!("{}, {} apps ({name})", text::time(archive.time.as_deref()), archive.apps.len());
                Offer { text, names: archive.name.iter().cloned().chain([archive.id.to_string()]).collect() }
            })
            .collect();
        if let Some(newest) = options.first_mut() {
            newest.names.push("newest".to_owned());
        }
        if options.is_empty() {
            let sentence = format!("\"{}\" holds no backup", location.display());
            let advice = "choose another backup";
            return Err(Failure::untouched(Ending::NoBackup, sentence, advice).into());
        }
        let index = self.choose("choose-archive", "Which of its backups? The newest comes first.", &options)?;
        archives.get(index).map(|archive| archive.id.clone()).ok_or(Halt::Stop)
    }

    fn choose_apps(&mut self, location: &Path, id: &ArchiveId) -> Result<Option<Vec<AppId>>, Halt> {
        let host = self.host;
        let summary = self.unlocked(|unlock| {
            let location = reach::location(host, location, unlock)?;
            let mut archive = reach::open(host, &location, Some(id), unlock)?;
            Ok(archive.summary()?)
        })?;
        let options = [Offer::new("all apps in the backup", "all"), Offer::new("some apps", "some")];
        if self.choose("choose-apps", "Restore which apps?", &options)? == 0 {
            return Ok(None);
        }
        let names: Vec<&str> = summary.apps.iter().map(|app| app.name.as_str()).collect();
        let question = format!("Type the names of the apps with blanks between them. There are: {}.", names.join(" "));
        loop {
            let typed = self.ask("app-names", &question)?;
            let chosen: Vec<AppId> = typed.split([' ', ',']).filter_map(|name| name.parse().ok()).collect();
            match chosen.iter().find(|name| !summary.apps.iter().any(|app| app.name == **name)) {
                Some(unknown) => self.prompter.show(&format!("The backup does not hold '{unknown}'.\n"))?,
                None if chosen.is_empty() => self.prompter.show("Please type at least one name, or q.\n")?,
                None => return Ok(Some(chosen)),
            }
        }
    }

    /// Only the disk of an old box holds more than apps.
    fn choose_extras(&mut self, location: &BackupLocation) -> Result<Vec<Extra>, Halt> {
        if !matches!(location, BackupLocation::OldSystem { .. }) {
            return Ok(Vec::new());
        }
        let options = [
            Offer::new("no, only the apps", "no"),
            Offer::new("yes: names, passwords, groups and SSH keys; who is on the new box stays as he is", "yes"),
        ];
        let wanted =
            self.choose("choose-accounts", "Bring the user accounts of the old box over as well?", &options)?;
        Ok(if wanted == 1 { vec![Extra::Accounts] } else { Vec::new() })
    }

    fn restore(&mut self, mut args: Request, surveyed: Surveyed, box_: &Installation) -> Result<Ending, Halt> {
        self.prompter.show("The backup is read to its end and compared with the box.\n")?;
        let (host, progress) = (self.host, self.progress);
        let prepared = self.unlocked(|unlock| prepare(host, &args, Access::Read, unlock, progress))?;
        self.prompter.show(&prepared.plan.text())?;
        if let Some(blocker) = prepared.plan.blockers.first() {
            return Err(Failure::blocked(blocker).into());
        }
        let id = prepared.plan.id.clone();
        // Let go of every read-only mount of the box before it is opened for writing.
        args.from = prepared.backup.clone();
        drop(prepared);
        if matches!(args.from, Backup::OnBox(_)) {
            drop(surveyed);
        }
        let question = format!(
            "This is the only step that changes the box. The old data is kept until you commit. To start, type the \
             name of the box: {}",
            box_.hostname
        );
        while self.ask("consent", &question)? != box_.hostname {
            self.prompter.show("That is not the name of the box. Nothing has been changed. Type q to stop.\n")?;
        }
        let prepared = self.unlocked(|unlock| prepare(host, &args, Access::Write, unlock, progress))?;
        let done = carry_out(self.host, prepared, &Consent::to(id), self.progress)?;
        let ending = self.report(done)?;
        self.prompter.show(&text::wrap(
            "",
            "[done] Finished. Remove the rescue medium and start the box normally. The old data is still on the box; \
             'lifeboat undo' brings it back.",
        ))?;
        Ok(ending)
    }

    /// Does what may need a passphrase, which is asked for until it is right.
    fn unlocked<T>(&mut self, work: impl FnOnce(&mut Unlocking<'_>) -> Result<T, Failure>) -> Result<T, Halt> {
        let mut unlocking = self.keyring.unlocking(Some(&mut *self.prompter), u32::MAX);
        let done = work(&mut unlocking);
        let is_stopped = done.is_err() && unlocking.was_stopped();
        if let Some(news) = self.keyring.news() {
            self.prompter.show(&text::wrap("", &news))?;
        }
        if is_stopped { Err(Halt::Stop) } else { Ok(done?) }
    }

    fn report(&mut self, done: Done) -> Result<Ending, Halt> {
        for note in &done.notes {
            self.prompter.show(&text::wrap("", note))?;
        }
        self.prompter.show(&done.status.text())?;
        Ok(done.ending)
    }

    fn choose(&mut self, id: &str, question: &str, options: &[Offer]) -> Result<usize, Halt> {
        match self.prompter.choose(&Choice { id, text: question, options })? {
            Answer::Given(index) => Ok(index),
            Answer::Stop => Err(Halt::Stop),
        }
    }

    fn ask(&mut self, id: &str, question: &str) -> Result<String, Halt> {
        match self.prompter.ask(&Words { id, text: question })? {
            Answer::Given(text) => Ok(text),
            Answer::Stop => Err(Halt::Stop),
        }
    }
}

/// A backup as people know it: its path on the disk, and the disk's label, instead of where it is mounted now.
fn named(surveyed: &Surveyed, location: &BackupLocation) -> Offer {
    let shown = text::location(location);
    let path = bytes::path::shown(location.path());
    let mut names: Vec<String> = match location {
        BackupLocation::BorgRepository { id, .. } => vec![id.clone()],
        BackupLocation::TarExport { .. } => Vec::new(),
        BackupLocation::OldSystem { hostname, .. } => vec![hostname.clone()],
    };
    let Some(held) = surveyed.holder(location.path()) else {
        names.push(path);
        return Offer { text: shown, names };
    };
    let mount = format!("{}/", held.mounted.path().display());
    // The disk alone is enough of a name where nothing else is on it.
    for name in lasting_names(surveyed, &held.volume) {
        names.push(format!("{name}/{}", path.replacen(&mount, "", 1)));
        names.push(name);
    }
    let volumes = surveyed.survey.disks.iter().flat_map(|disk| &disk.volumes);
    let volume = volumes.into_iter().find(|volume| volume.name == held.volume);
    let label = volume.and_then(|volume| volume.signatures.iter().find_map(|signature| signature.label.clone()));
    let on = label.map_or(held.volume.clone(), |label| format!("'{label}' ({})", held.volume));
    Offer { text: format!("{}, on {on}", shown.replacen(&mount, "", 1)), names }
}

/// By what a volume is known whatever it is connected to: the UUIDs of its filesystem and partition, and the serial
/// number of its disk. An image or a directory has its own name; a kernel name is none, it changes between starts.
fn lasting_names(surveyed: &Surveyed, name: &str) -> Vec<String> {
    for disk in &surveyed.survey.disks {
        let Some(volume) = disk.volumes.iter().find(|volume| volume.name == name) else { continue };
        let uuids = volume.signatures.iter().filter_map(|signature| signature.uuid.clone());
        let mut names: Vec<String> = uuids.chain(volume.partuuid.clone()).chain(disk.serial.clone()).collect();
        if name.starts_with('/') {
            names.push(name.to_owned());
        }
        return names;
    }
    vec![name.to_owned()]
}

/// How the chosen box is named to be opened again: its device or image, or the directory that was given.
fn place_of(surveyed: &Surveyed, box_: &Installation) -> PathBuf {
    let volumes = surveyed.survey.disks.iter().flat_map(|disk| &disk.volumes);
    let volume = volumes.into_iter().find(|volume| volume.name == box_.place);
    volume.map_or_else(|| box_.root.clone(), |volume| volume.path.clone())
}
