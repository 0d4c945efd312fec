//! What an old system holds besides the data of its apps: one file for each kind.
//!
//! What cannot be read is a finding with what its owner can do, and never keeps the apps from being read.

mod accounts;
mod locations;
mod names;
mod networks;

use crate::model::extra::Extras;
use crate::model::finding::{Finding, Severity};
use crate::model::installation::Installation;
use crate::survey::files::Files;

/// Reads all of it.
pub(super) fn read(files: &dyn Files, system: &Installation, findings: &mut Vec<Finding>) -> Extras {
    Extras {
        accounts: accounts::read(files, system, findings),
        names: names::read(files, system),
        networks: networks::read(files, findings),
        locations: system.locations.clone(),
        keys: locations::keys(files, system, findings),
    }
}

/// A finding about something that is not brought over.
fn missing(subject: &str, what: String, advice: &str) -> Finding {
    Finding::new(Severity::Warning, subject, what, advice)
}
