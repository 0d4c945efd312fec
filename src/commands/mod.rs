//! One file per command: calls the stages in their order and hands the value to `render`.

pub mod finish;
pub mod look;
pub mod write;

use crate::cli::{Cli, Command, PlanArgs};
use crate::failure::Failure;
use crate::guide;
use crate::model::ending::Ending;
use crate::render::{Output, progress, prompt};
use crate::rescue::{Backup, Request};
use crate::sys::host::Host;

/// Runs a command to its end and says how it ended.
pub fn run(host: &Host, cli: &Cli) -> Ending {
    let output = Output { json: cli.json };
    let progress = progress::reporter(cli.plain);
    let progress = progress.as_ref();
    let ended = match &cli.command {
        Command::Survey { image, root } => look::survey(host, &output, image, root),
        Command::List { location } => look::list(host, &output, location),
        Command::Verify { location, archive, apps } => {
            look::verify(host, &output, location, archive.as_ref(), apps.as_deref(), progress)
        }
        Command::Plan(args) => look::plan(host, &output, &request(args), progress),
        Command::Restore { plan, consent } => write::restore(host, &output, &request(plan), consent, progress),
        Command::Status(args) => look::status(host, &output, &args.onto),
        Command::Resume(args) => write::resume(host, &output, &args.onto, progress),
        Command::Undo(args) => write::undo(host, &output, &args.onto, progress),
        Command::Commit(args) => write::commit(host, &output, &args.onto, progress),
        Command::Finish(args) => finish::finish(host, &output, &args.onto, progress),
        Command::Guide { image, root } => {
            let mut prompter = prompt::prompter(cli.plain);
            guide::run(host, image, root, prompter.as_mut(), progress)
        }
    };
    match ended {
        Ok(ending) => ending,
        Err(failure) => {
            // The exit code tells it as well, where standard output is gone.
            let _ = output.show_failure(&failure);
            failure.ending
        }
    }
}

fn request(args: &PlanArgs) -> Request {
    let PlanArgs { from, archive, onto, apps, accept_damage, program } = args;
    Request {
        from: Backup::At(from.clone()),
        archive: archive.clone(),
        onto: onto.clone(),
        apps: apps.clone(),
        accept_damage: *accept_damage,
        program: program.clone(),
    }
}

/// Printing the result did not work: the reader went away, or the disk behind it is full.
fn unprinted(error: std::io::Error) -> Failure {
    Failure::untouched(Ending::Failed, format!("printing the result: {error}"), "run the command again")
}
