//! What an old system holds besides the data of its apps: one file for each kind.
//!
//! What cannot be read is a finding with what its owner can do, and never keeps the apps from being read.

mod accounts;
mod folders;
mod locations;
mod names;
mod networks;

use crate::model::extra::Extras;
use crate::model::finding::{Finding, Severity};
use crate::model::installation::Installation;
use crate::model::path::RelPath;
use crate::survey::files::Files;

/// Reads all of it. `has` tells whether anything lies at a path.
pub(super) fn read(
    files: &dyn Files,
    has: &dyn Fn(&RelPath) -> bool,
    system: &Installation,
    findings: &mut Vec<Finding>,
) -> Extras {
    Extras {
        accounts: accounts::read(files, system, findings),
        names: names::read(files, system),
        networks: networks::read(files, findings),
        locations: system.locations.clone(),
        keys: locations::keys(files, system, findings),
        folders: folders::read(files, has, findings),
    }
}

/// A finding about something that is not brought over.
fn missing(subject: &str, what: String, advice: &str) -> Finding {
    Finding::new(Severity::Warning, subject, what, advice)
}
