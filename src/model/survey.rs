//! What a survey found: disks, installed systems and places with backups.

use super::archive::BackupLocation;
use super::disk::Disk;
use super::finding::Finding;
use super::installation::Installation;
use serde::{Deserialize, Serialize};

/// The result of a survey. Paths in it are valid while the survey's mounts are held.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survey {
    /// Every disk and image that was looked at.
    pub disks: Vec<Disk>,
    /// Every FreedomBox system found on them.
    pub installations: Vec<Installation>,
    /// Every place that holds or may hold backups.
    pub locations: Vec<BackupLocation>,
    /// What could not be looked at, or is not as it should be.
    pub findings: Vec<Finding>,
}
