//! The guided rescue: one question at a time, over the same stages as the commands.
//!
//! A state machine: each [`State`] asks at most one question and says which state is next; going back is possible until
//! the user consents. Has no power that the commands lack: it fills in what they get as arguments. Nothing is written
//! before the plan was shown and the box's name was typed.

mod apps;
mod archive;
mod backup;
mod consent;
mod download;
mod earlier;
mod extras;
mod grow;
mod keyboard;
mod language;
mod naming;
mod plan;
mod stuck;
mod target;
mod upload;

use crate::deposit;
use crate::failure::Failure;
use crate::model::app::AppId;
use crate::model::archive::ArchiveId;
use crate::model::ending::Ending;
use crate::model::extra::Extra;
use crate::model::installation::Installation;
use crate::model::plan::{ExtraPlan, RestorePlan};
use crate::model::progress::{Event, Phase, Progress, Watched};
use crate::model::question::{Answer, Choice, Offer, Prompter, Screen, Unanswered, Words};
use crate::render::{View, text};
use crate::rescue::keyring::{Keyring, Left, Unlocking};
use crate::rescue::prepare::{is_backup, learn};
use crate::rescue::{Backup, Done, places};
use crate::survey::{self, Place, Surveyed};
use crate::sys::host::Host;
use crate::t;
use std::path::{Path, PathBuf};

/// Walks the user through a rescue.
pub fn run(
    host: &Host,
    images: &[PathBuf],
    roots: &[PathBuf],
    papers: Option<&Path>,
    prompter: &mut dyn Prompter,
    progress: &dyn Progress,
) -> Result<Ending, Failure> {
    let keyring = Keyring::default();
    let mut guide = Guide {
        host,
        images,
        roots,
        papers,
        prompter,
        progress,
        keyring,
        surveyed: None,
        is_stale: false,
        chosen: Chosen::default(),
        past: Vec::new(),
        has_asked: false,
        has_grown: false,
    };
    match guide.walk() {
        Ok(ending) => Ok(ending),
        Err(Halt::Stop) => {
            let said = match guide.has_grown {
                false => t!("Stopped. Nothing has been changed."),
                true => t!("Stopped. The box's filesystem was made larger; nothing else has been changed."),
            };
            let _ = guide.prompter.show(&text::wrap("", &said));
            Ok(Ending::Cancelled)
        }
        Err(Halt::Told(failure)) => Err(*failure),
        Err(Halt::Failed(failure)) => {
            // On a live medium the dialogue is all that the user sees.
            let _ = guide.prompter.show(&text::failure(&failure));
            Err(*failure)
        }
    }
}

/// The dialogue with everything that was answered so far.
struct Guide<'a> {
    host: &'a Host,
    images: &'a [PathBuf],
    roots: &'a [PathBuf],
    /// Where papers are kept besides those on the box.
    papers: Option<&'a Path>,
    prompter: &'a mut dyn Prompter,
    progress: &'a dyn Progress,
    /// Passphrases that were typed.
    keyring: Keyring,
    /// What was found, with its mounts; `None` before the first look, and when a box is written to.
    surveyed: Option<Surveyed>,
    /// Whether mounts of what was found were let go of since.
    is_stale: bool,
    chosen: Chosen,
    /// The states that asked something, in their order: the way back.
    past: Vec<State>,
    /// Whether the present state asked something.
    has_asked: bool,
    /// Whether the box's filesystem was made larger: the one thing that may be changed before the restore.
    has_grown: bool,
}

/// What was chosen.
#[derive(Default)]
struct Chosen {
    box_: Option<Installation>,
    location: Option<PathBuf>,
    /// Whether that is an installed system, whose data is the backup.
    is_system: bool,
    archive: Option<ArchiveId>,
    apps: Option<Vec<AppId>>,
    /// What the old box has besides apps.
    held: Vec<ExtraPlan>,
    /// What of it is wanted.
    extras: Vec<Extra>,
    accept_damage: bool,
    /// The plan that was shown, and where the backup is reached when the box is open for writing.
    plan: Option<(RestorePlan, Backup)>,
}

/// Where the dialogue is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In which language?
    Language,
    /// Looking at all disks.
    Look,
    /// Which box?
    Box,
    /// An earlier restore on it comes first.
    Earlier,
    /// Which backup?
    Backup,
    /// Where does a backup go that somebody sends?
    Upload,
    /// Which of its archives?
    Archive,
    /// All apps or some?
    Apps,
    /// Which ones?
    Names,
    /// This of an old box as well?
    Extra(Extra),
    /// Somebody takes the backup along as one file.
    Download,
    /// The backup is read and the plan is made.
    Check,
    /// The box gets more room.
    Grow,
    /// The plan is shown.
    Plan,
    /// What no backup holds is shown.
    NotIncluded,
    /// The one consent.
    Consent,
}

/// What a state leads to.
enum Turn {
    /// To another state; one can come back to this one if it asked something.
    To(State),
    /// To another state from which nothing leads back.
    Anew(State),
    /// To the question before.
    Back,
    /// To the end.
    End(Ending),
}

/// Why the dialogue ends early.
enum Halt {
    /// The user said so.
    Stop,
    /// Something went wrong, and the user was told.
    Told(Box<Failure>),
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
    fn walk(&mut self) -> Result<Ending, Halt> {
        let mut state = State::Language;
        loop {
            self.has_asked = false;
            match self.turn(state)? {
                Turn::To(next) => {
                    if self.has_asked {
                        self.past.push(state);
                    }
                    state = next;
                }
                Turn::Anew(next) => {
                    self.past.clear();
                    state = next;
                }
                Turn::Back => state = self.past.pop().unwrap_or(State::Look),
                Turn::End(ending) => return Ok(ending),
            }
        }
    }

    fn turn(&mut self, state: State) -> Result<Turn, Halt> {
        if self.is_stale && matches!(state, State::Box | State::Earlier | State::Backup | State::Upload) {
            let place = self.chosen.box_.take().map(|box_| box_.place);
            self.survey()?;
            let boxes = self.surveyed.iter().flat_map(|surveyed| &surveyed.survey.installations);
            self.chosen.box_ = boxes.into_iter().find(|box_| place.as_ref() == Some(&box_.place)).cloned();
        }
        match state {
            State::Language => self.choose_language(),
            State::Look => self.look(),
            State::Box => self.choose_box(),
            State::Earlier => self.settle_earlier(),
            State::Backup => self.choose_backup(),
            State::Upload => self.upload(),
            State::Archive => self.choose_archive(),
            State::Apps => self.choose_apps(),
            State::Names => self.name_apps(),
            State::Extra(extra) => self.choose_extra(extra),
            State::Download => self.download(),
            State::Check => self.check(),
            State::Grow => self.grow(),
            State::Plan => self.show_plan(),
            State::NotIncluded => self.show_not_included(),
            State::Consent => self.consent(),
        }
    }

    /// Looks at all disks, anew where it did before: a disk may have been connected or changed meanwhile.
    fn look(&mut self) -> Result<Turn, Halt> {
        self.chosen = Chosen::default();
        self.prompter.show(&text::wrap("", &t!("Lifeboat looks at all disks. Nothing is changed.")))?;
        self.survey()?;
        let text = self.surveyed.as_ref().map(|surveyed| surveyed.survey.text()).unwrap_or_default();
        self.prompter.show(&text)?;
        Ok(Turn::Anew(State::Box))
    }

    fn survey(&mut self) -> Result<(), Halt> {
        // What was mounted has to be let go of first.
        self.surveyed = None;
        self.is_stale = false;
        let _watched = Watched::by(self.progress);
        self.progress.event(Event::Phase { phase: Phase::Survey, total: None });
        let mut places = places(self.images, self.roots);
        // Where a backup may lie that somebody sent.
        places.extend(deposit::memory(self.host).is_dir().then(|| Place::Root(deposit::memory(self.host))));
        let surveyed = survey::survey(self.host, &places, &is_backup).map_err(Failure::from)?;
        learn(&mut self.keyring.unlocking(None, 0), &surveyed.survey.installations);
        self.surveyed = Some(surveyed);
        Ok(())
    }

    /// Does what may need a passphrase, which is asked for until it is right; `None` where the user went back.
    fn unlocked<T>(
        &mut self,
        work: impl FnOnce(&mut Unlocking<'_>) -> Result<T, Failure>,
    ) -> Result<Option<Result<T, Failure>>, Halt> {
        let mut unlocking = self.keyring.unlocking(Some(&mut *self.prompter), u32::MAX).guided();
        let done = work(&mut unlocking);
        let left = unlocking.left();
        if let Some(news) = self.keyring.news() {
            self.prompter.show(&text::wrap("", &news))?;
        }
        match (done, left) {
            (Err(_), Some(Left::Stopped)) => Err(Halt::Stop),
            (Err(_), Some(Left::Back)) => Ok(None),
            (done, _) => Ok(Some(done)),
        }
    }

    fn report(&mut self, done: Done) -> Result<Ending, Halt> {
        for note in &done.notes {
            self.prompter.show(&text::wrap("", note))?;
        }
        self.prompter.show(&done.status.text())?;
        Ok(done.ending)
    }

    /// A screen from which one can go back where there is something to go back to.
    fn screen(&self, id: &'static str, title: String, text: String) -> Screen {
        Screen { back: !self.past.is_empty(), untouched: !self.has_grown, ..Screen::new(id, title, text) }
    }

    /// Asks for one of several answers; `None` where the user goes back.
    fn choose(&mut self, screen: Screen, options: Vec<Offer>, default: Option<usize>) -> Result<Option<usize>, Halt> {
        self.has_asked = true;
        let answer = self.prompter.choose(&Choice { screen, options, default })?;
        given(answer)
    }

    /// Asks for words; `None` where the user goes back.
    fn ask(&mut self, words: &Words) -> Result<Option<String>, Halt> {
        self.has_asked = true;
        given(self.prompter.ask(words)?)
    }

    /// Shows what is only to be read; `None` where the user goes back.
    fn read(&mut self, screen: &Screen) -> Result<Option<()>, Halt> {
        self.has_asked = true;
        given(self.prompter.read(screen)?)
    }
}

fn given<T>(answer: Answer<T>) -> Result<Option<T>, Halt> {
    match answer {
        Answer::Given(answer) => Ok(Some(answer)),
        Answer::Back => Ok(None),
        Answer::Stop => Err(Halt::Stop),
    }
}
