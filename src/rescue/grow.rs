//! Making a box's root filesystem larger, for everybody who asks for it. A disk that holds a backup is never written to.

use super::carry::now;
use super::prepare::is_backup;
use crate::failure::Failure;
use crate::grow::{self, GrowError};
use crate::model::archive::BackupLocation;
use crate::model::bytes;
use crate::model::growth::Growth;
use crate::model::plan::PlanId;
use crate::survey::target::{self, Access, Target, TargetError, TargetSpec};
use crate::survey::{self, Place};
use crate::sys::host::Host;
use std::path::Path;

/// What could be done to a box; changes nothing.
pub fn look(host: &Host, onto: &Path) -> Result<Growth, Failure> {
    let target = target::open(host, &TargetSpec::of(onto)?, Access::Read)?;
    let growth = grow::look(&target)?;
    refuse_holder(host, target)?;
    Ok(growth)
}

/// Does it, or goes on with it.
pub fn grow(host: &Host, onto: &Path, consent: &PlanId) -> Result<Growth, Failure> {
    let spec = TargetSpec::of(onto)?;
    refuse_holder(host, target::open(host, &spec, Access::Read)?)?;
    Ok(grow::grow(host, &spec, consent, &now(host))?)
}

/// Refuses a disk on which a backup lies, in whichever partition.
fn refuse_holder(host: &Host, target: Target) -> Result<(), Failure> {
    let disk = target.site.as_ref().map(|site| site.disk.path.clone());
    target.release().map_err(GrowError::from)?;
    let Some(disk) = disk else { return Ok(()) };
    let surveyed = survey::survey(host, &[Place::Image(disk)], &is_backup)?;
    let mut backups = surveyed.survey.locations.iter();
    match backups.find(|found| !matches!(found, BackupLocation::OldSystem { .. })) {
        Some(found) => Err(TargetError::HoldsBackup { backup: bytes::path::shown(found.path()) }.into()),
        None => Ok(()),
    }
}
