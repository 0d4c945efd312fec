//! Making the root filesystem of a box as large as its disk allows, as its first start would do it.

use super::digest::Sha256Digest;
use super::plan::PlanId;
use super::site::Free;
use super::size::ByteSize;
use serde::{Deserialize, Serialize};

/// What would be done, or was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Growth {
    /// What the user consents to.
    pub id: PlanId,
    /// How far it is.
    pub state: GrowthState,
    /// Host name of the box.
    pub hostname: String,
    /// Name of the disk or image.
    pub disk: String,
    /// Its length.
    pub disk_size: ByteSize,
    /// Kind of its partition table.
    pub table: String,
    /// Number of the root partition.
    pub partition: u32,
    /// First byte of the partition.
    pub start: u64,
    /// Kind of the root filesystem.
    pub filesystem: String,
    /// Its UUID.
    pub uuid: Option<String>,
    /// Its length now, or when this began.
    pub from: ByteSize,
    /// Its length afterwards; what is less than a block group at the end may stay unused.
    pub to: ByteSize,
    /// What is free at the moment, for the plan of a restore.
    #[serde(skip)]
    pub free: Option<Free>,
    /// What is free in addition afterwards, at least.
    #[serde(skip)]
    pub gain: Option<Free>,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GrowthState {
    /// It can be done.
    Possible,
    /// It was begun and interrupted.
    Begun,
    /// It is done.
    Done,
}

impl Growth {
    /// The id: of what is done to which disk, whichever part of it is done already.
    pub fn id_of(&self) -> PlanId {
        let what = (&self.uuid, &self.table, self.partition, self.start, self.disk_size, self.to);
        PlanId::of(Sha256Digest::of(format!("{what:?}").as_bytes()))
    }

    /// The free room of a filesystem afterwards, where `free` is that of the root filesystem.
    pub fn grown(&self, free: Free) -> Option<Free> {
        let (now, gain) = (self.free?, self.gain?);
        let inodes = free.inodes.map(|inodes| inodes.saturating_add(gain.inodes.unwrap_or(0)));
        (free == now).then_some(Free { bytes: free.bytes + gain.bytes, inodes })
    }
}
