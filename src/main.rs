//! The program: reads the command line, runs it on this machine, and ends with the exit code of what happened.

use clap::Parser;
use lifeboat::{cli::Cli, commands, sys::host::Host};
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    ExitCode::from(commands::run(&Host::real("/run/lifeboat"), &cli).code())
}
