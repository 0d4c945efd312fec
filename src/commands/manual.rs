//! The manual page and the completions for shells, from the same definition as `--help`.

use super::unprinted;
use crate::cli::Cli;
use crate::failure::Failure;
use crate::model::ending::Ending;
use crate::render::Output;
use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

/// `lifeboat man`.
pub fn page(output: &Output, command: Option<&str>) -> Result<Ending, Failure> {
    let mut all = Cli::command();
    all.build();
    let chosen = match command {
        None => all,
        Some(name) => all.find_subcommand(name).cloned().ok_or_else(|| {
            Failure::untouched(Ending::Usage, format!("there is no command '{name}'"), "run 'lifeboat --help'")
        })?,
    };
    let mut page = Vec::new();
    Man::new(chosen).render(&mut page).map_err(unprinted)?;
    output.bytes(&page).map_err(unprinted)?;
    Ok(Ending::Done)
}

/// `lifeboat completions`.
pub fn completions(output: &Output, shell: Shell) -> Result<Ending, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "lifeboat", &mut script);
    output.bytes(&script).map_err(unprinted)?;
    Ok(Ending::Done)
}
