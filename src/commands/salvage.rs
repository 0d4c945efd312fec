//! The command that copies a failing disk.

use super::unprinted;
use crate::cli::SalvageArgs;
use crate::failure::Failure;
use crate::model::ending::Ending;
use crate::model::progress::{Event, Progress};
use crate::render::Output;
use crate::salvage::{self, Request};
use crate::sys::host::Host;
use std::time::Duration;

/// `lifeboat salvage`.
pub fn salvage(host: &Host, output: &Output, args: &SalvageArgs, progress: &dyn Progress) -> Result<Ending, Failure> {
    let request = Request {
        disk: args.disk.clone(),
        to: args.to.clone(),
        patience: Duration::from_secs(args.patience.into()),
        retries: args.retries,
    };
    let salvaged = salvage::run(host, &request, progress)?;
    progress.event(Event::End);
    output.show(&salvaged).map_err(unprinted)?;
    Ok(if salvaged.is_whole() { Ending::Done } else { Ending::DoneWithLosses })
}
