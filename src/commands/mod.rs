//! One file per command: calls the stages in their order and hands the value to `render`.

pub mod backup;
pub mod finish;
pub mod guide;
pub mod look;
pub mod manual;
pub mod salvage;
pub mod write;

use crate::cli::{Cli, Command, DrillArgs, KeyArgs, PlanArgs};
use crate::console::{self, Sharing};
use crate::failure::Failure;
use crate::model::ending::Ending;
use crate::model::progress::Progress;
use crate::model::question::Prompter;
use crate::render::progress::Shown;
use crate::render::{Output, progress, prompt};
use crate::rescue::drill::DrillRequest;
use crate::rescue::keyring::{KeyPlaces, Keyring};
use crate::rescue::prepare::learn_from;
use crate::rescue::{Backup, Request};
use crate::source::Unlock;
use crate::sys::host::Host;
use crate::words::{self, Language};

/// How often a command asks for a passphrase.
const TRIES: u32 = 3;

/// Runs a command to its end and says how it ended.
pub fn run(host: &Host, cli: &Cli) -> Ending {
    let output = Output { json: cli.json };
    if let Some(language) = cli.language.or_else(of_environment) {
        words::choose(language);
    }
    let shown = Shown { plain: cli.plain, json: cli.json, fd: cli.progress_fd };
    let ended = progress::reporter(shown).and_then(|progress| carry_out(host, cli, &output, &progress));
    match ended {
        Ok(ending) => ending,
        Err(failure) => {
            // The exit code tells it as well, where standard output is gone.
            let _ = output.show_failure(&failure);
            failure.ending
        }
    }
}

/// Runs the dialogue of the live system; whoever started it only wants to know whether to start it again.
fn shared(sharing: &Sharing) -> Result<Ending, Failure> {
    let status = console::share(sharing).map_err(|error| {
        let sentence = format!("showing one dialogue on several consoles: {error}");
        Failure::untouched(Ending::Failed, sentence, "name terminals and a program that exist")
    })?;
    Ok(if status.success() { Ending::Done } else { Ending::Failed })
}

fn carry_out(host: &Host, cli: &Cli, output: &Output, progress: &dyn Progress) -> Result<Ending, Failure> {
    match &cli.command {
        Command::Survey { image, root } => look::survey(host, output, image, root),
        Command::List { location, deleted, keys } => {
            with_keys(host, output, keys, |unlock| look::list(host, output, location, *deleted, unlock))
        }
        Command::Verify { location, all: true, keys, .. } => {
            with_keys(host, output, keys, |unlock| look::verify_all(host, output, location, unlock, progress))
        }
        Command::Verify { location, archive, apps, keys, .. } => with_keys(host, output, keys, |unlock| {
            look::verify(host, output, location, archive.as_ref(), apps.as_deref(), unlock, progress)
        }),
        Command::Export { location, archive, file, accept_damage, keys } => with_keys(host, output, keys, |unlock| {
            write::export(host, output, location, archive.as_ref(), file, *accept_damage, unlock, progress)
        }),
        Command::Backup(args) => backup::backup(host, output, args, progress),
        Command::Salvage(args) => salvage::salvage(host, output, args, progress),
        Command::Plan(args) => {
            with_keys(host, output, &args.keys, |unlock| look::plan(host, output, &request(args), unlock, progress))
        }
        Command::Drill(args) => {
            with_keys(host, output, &args.keys, |unlock| look::drill(host, output, &rehearsal(args), unlock, progress))
        }
        Command::Restore { plan, consent, report } => with_keys(host, output, &plan.keys, |unlock| {
            let request = Request { papers: report.clone(), ..request(plan) };
            write::restore(host, output, &request, consent, unlock, progress)
        }),
        Command::Grow { onto, consent: None } => look::growth(host, output, onto),
        Command::Grow { onto, consent: Some(consent) } => write::grow(host, output, onto, consent),
        Command::Status(args) => look::status(host, output, &args.onto),
        Command::Resume(args) => write::resume(host, output, &args.onto, progress),
        Command::Undo { onto, leave_dumps } => write::undo(host, output, &onto.onto, *leave_dumps, progress),
        Command::Commit { onto, when_due: false } => write::commit(host, output, &onto.onto, progress),
        Command::Commit { onto, when_due: true } => finish::commit_when_due(host, output, &onto.onto, progress),
        Command::Finish { onto, scheduled } => finish::finish(host, output, &onto.onto, *scheduled, progress),
        Command::Console { on, log, state, program } => {
            let sharing =
                Sharing { consoles: on.clone(), program: program.clone(), log: log.clone(), state: state.clone() };
            shared(&sharing)
        }
        Command::Man { command } => manual::page(output, command.as_deref()),
        Command::Completions { shell } => manual::completions(output, *shell),
        Command::Guide(args) => guide::guide(host, args, cli.plain, progress),
    }
}

/// The language that the environment asks for, in the order of setlocale(3).
fn of_environment() -> Option<Language> {
    let names = ["LC_ALL", "LC_MESSAGES", "LANG"];
    let locale = names.iter().filter_map(|name| std::env::var(name).ok()).find(|value| !value.is_empty())?;
    Language::of(&locale)
}

/// Runs a command that may need a passphrase: with what the command line names, and on a terminal by asking.
fn with_keys<T>(
    host: &Host,
    output: &Output,
    args: &KeyArgs,
    run: impl FnOnce(&mut dyn Unlock) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let KeyArgs { passphrase_file, passphrase_fd, key_file, old_system } = args.clone();
    let mut keyring = Keyring::read(&KeyPlaces { passphrase_file, passphrase_fd, key_file })?;
    let mut prompter = prompt::on_terminal();
    let prompter: Option<&mut dyn Prompter> = match &mut prompter {
        Some(prompter) => Some(prompter.as_mut()),
        None => None,
    };
    let mut unlocking = keyring.unlocking(prompter, TRIES);
    if let Some(system) = old_system {
        learn_from(host, &system, &mut unlocking)?;
    }
    let ended = run(&mut unlocking);
    if let Some(news) = keyring.news() {
        output.say(&news);
    }
    ended
}

fn request(args: &PlanArgs) -> Request {
    let PlanArgs { from, archive, onto, apps, extras, accept_damage, program, keys: _ } = args;
    Request {
        from: Backup::At(from.clone()),
        archive: archive.clone(),
        onto: onto.clone(),
        apps: apps.clone(),
        extras: extras.clone(),
        accept_damage: *accept_damage,
        program: program.clone(),
        papers: None,
    }
}

fn rehearsal(args: &DrillArgs) -> DrillRequest {
    let DrillArgs { from, archive, onto, apps, max_age, program, keys: _ } = args;
    DrillRequest {
        from: from.clone(),
        archive: archive.clone(),
        onto: onto.clone(),
        apps: apps.clone(),
        program: program.clone(),
        max_age: *max_age,
    }
}

/// Printing the result did not work: the reader went away, or the disk behind it is full.
fn unprinted(error: std::io::Error) -> Failure {
    Failure::untouched(Ending::Failed, format!("printing the result: {error}"), "run the command again")
}
