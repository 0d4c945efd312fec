//! Making the root filesystem of a box that was never started as large as its disk.
//!
//! A FreedomBox image that was just written to a card has 3 to 4 GB, however large the card is; the first start makes it
//! larger. A restore before that may need the room. Owns that one change of a disk: the table's entry first, in an order
//! that a power cut cannot tear ([`crate::formats::extend`]), then the filesystem ([`crate::sys::filesystem`]). No step
//! has to be undone, and the same call takes up what was interrupted: it looks at the disk and does what is missing.
//!
//! Refuses a disk on which it is not sure: a box that was started, a partition that is not the last one, encryption and
//! volume groups, a filesystem that is marked as damaged or in which the filesystem's own checker finds errors. What
//! holds a backup is for the caller to refuse. Never makes anything smaller, and never moves a file.

mod record;

use crate::formats::ext4::superblock::{self, Superblock};
use crate::formats::extend::{self, Extension, Fixed};
use crate::formats::{ReadAt, Slice, block::Block, btrfs};
use crate::model::disk::{FilesystemKind, FilesystemState};
use crate::model::growth::{Growth, GrowthState};
use crate::model::plan::PlanId;
use crate::model::site::Free;
use crate::model::size::ByteSize;
use crate::restore::RestoreError;
use crate::survey::disks;
use crate::survey::target::{self, Access, Target, TargetError, TargetSpec};
use crate::sys::dir::Dir;
use crate::sys::file::{Patched, Source};
use crate::sys::host::Host;
use crate::sys::mount::Extent;
use crate::sys::{SysError, block, fault, filesystem};
use record::Record;
use std::io;

/// Less than this is not worth a change of the partition table; FreedomBox itself asks for 10 MiB.
const LEAST: u64 = 64 << 20;

/// Why it is not done. The message is what is the matter; [`GrowError::advice`] helps.
#[derive(Debug, thiserror::Error)]
pub enum GrowError {
    /// A mounted directory was named.
    #[error("'{0}' is not a disk, and only a disk can be looked at as a whole")]
    Directory(String),
    /// It ran before.
    #[error(
        "the box was started before: it became as large as its disk then, and what is free since is free on purpose"
    )]
    Started,
    /// Encryption, a volume group, RAID, or a filesystem on the whole disk.
    #[error("the box's root is not a partition of its own on '{0}'")]
    NoPartition(String),
    /// Neither ext4 nor btrfs on one disk.
    #[error("the box's root filesystem is of a kind that cannot be made larger here ({0})")]
    Kind(String),
    /// Its superblock says so, or cannot be trusted.
    #[error("the box's root filesystem is marked as damaged")]
    Marked,
    /// The checker of the filesystem found errors.
    #[error("the box's root filesystem has errors: {0}")]
    Errors(SysError),
    /// The table does not allow it.
    #[error("the box's root partition cannot be made longer: {0}")]
    Fixed(#[from] Fixed),
    /// It reaches to the end.
    #[error("there is no free room behind the box's root partition")]
    NoRoom,
    /// What was consented to is not what would be done.
    #[error("what would be done is not what was shown under the id {0}")]
    Other(PlanId),
    /// It was done and had no effect.
    #[error("the box's root filesystem did not become larger")]
    Short,
    /// The target is refused.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The system refused an operation before anything was changed.
    #[error(transparent)]
    Sys(#[from] SysError),
    /// It stopped after it began.
    #[error("making the root filesystem of the box larger: {0}")]
    Stopped(#[source] Box<GrowError>),
    /// Lifeboat's own directory on the box.
    #[error(transparent)]
    Own(#[from] RestoreError),
}

impl GrowError {
    /// What the user can do.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Directory(_) => "name the disk that the box is on",
            Self::Started | Self::Kind(_) | Self::NoPartition(_) | Self::Fixed(_) | Self::NoRoom => {
                "use a larger disk, or leave apps out"
            }
            Self::Marked | Self::Errors(_) => "write the image to the disk once more: nothing is on it yet",
            Self::Other(_) => "look at it again: run 'lifeboat grow' without '--consent'",
            Self::Target(error) => error.advice(),
            Self::Short | Self::Sys(_) => "check the box's disk and try again",
            Self::Stopped(_) => "run the same command again, it goes on where it stopped; no file was changed",
            Self::Own(_) => "check the box's disk, then run the same command again",
        }
    }
}

/// What could be done to a target that is open for reading, and what there is to do.
struct Prospect {
    growth: Growth,
    extension: Extension,
}

/// What could be done to a target that is open; an error where nothing can be.
pub fn look(target: &Target) -> Result<Growth, GrowError> {
    Ok(prospect(target)?.growth)
}

fn prospect(target: &Target) -> Result<Prospect, GrowError> {
    let shown = || target.installation.place.clone();
    let site = target.site.as_ref().ok_or_else(|| GrowError::Directory(shown()))?;
    let (disk, volume) = (&site.disk, &site.volume);
    let (Some(table), Some(number)) = (&disk.table, volume.number) else {
        return Err(GrowError::NoPartition(disk.name.clone()));
    };
    let signature = volume.filesystem().ok_or_else(|| GrowError::NoPartition(disk.name.clone()))?;
    // Through the node of the partition where there is one: what the kernel wrote there is not seen through the disk.
    let extent = disks::extent(volume);
    let own = Source::open(&extent.path)?;
    let reading = |error: io::Error| SysError::new("reading", &extent.path, error);
    let size = size(&Slice::new(&own, extent.offset, extent.length), signature.kind).map_err(reading)?;
    let size = size.ok_or_else(|| GrowError::Kind(signature.kind.name().to_owned()))?;
    let whole = Source::open(&disk.path)?;
    let reading = |error: io::Error| SysError::new("reading", &disk.path, error);
    let extension = extend::last_partition(&whole, table, disk.sector_size, number).map_err(reading)??;
    let root = Dir::open(&target.root).map_err(reading)?;
    let room = root.room().map_err(reading)?;
    let mut growth = Growth {
        id: PlanId::of(crate::model::digest::Sha256Digest::of(b"")),
        state: GrowthState::Possible,
        hostname: target.installation.hostname.clone(),
        disk: disk.name.clone(),
        disk_size: disk.size,
        table: table.clone(),
        partition: number,
        start: extension.start,
        filesystem: signature.kind.name().to_owned(),
        uuid: signature.uuid.clone(),
        from: ByteSize(size.bytes),
        to: ByteSize(extension.length),
        free: Some(Free { bytes: ByteSize(room.bytes), inodes: room.inodes }),
        gain: None,
    };
    growth.id = growth.id_of();
    let added = extension.length.saturating_sub(size.bytes);
    growth.gain = Some(size.gain(added));
    let record = record::read(&root).map_err(reading)?.filter(|record| record.growth.id == growth.id);
    if let Some(record) = &record {
        growth.from = record.growth.from;
        growth.state = if record.done { GrowthState::Done } else { GrowthState::Begun };
    }
    if added < LEAST && extension.patches.is_empty() && growth.state == GrowthState::Begun {
        // Only the word that it is done is missing.
        return Ok(Prospect { growth, extension });
    }
    if added < LEAST {
        return Err(GrowError::NoRoom);
    }
    if growth.state != GrowthState::Begun {
        growth.state = GrowthState::Possible;
        if target.installation.booted {
            return Err(GrowError::Started);
        }
        if signature.state == FilesystemState::Damaged {
            return Err(GrowError::Marked);
        }
    }
    Ok(Prospect { growth, extension })
}

/// How long a filesystem is, and how many inodes it has.
struct Size {
    bytes: u64,
    inodes: Option<u64>,
}

impl Size {
    /// What `added` bytes give at least: nine tenths, the rest is for tables and for root.
    fn gain(&self, added: u64) -> Free {
        let inodes = self.inodes.map(|inodes| {
            let share = u128::from(inodes) * u128::from(added) * 9 / 10 / u128::from(self.bytes.max(1));
            u64::try_from(share).unwrap_or(u64::MAX)
        });
        Free { bytes: ByteSize(added / 10 * 9), inodes }
    }
}

/// The size of a filesystem that can be made larger; `None` of any other.
fn size(volume: &dyn ReadAt, kind: FilesystemKind) -> io::Result<Option<Size>> {
    match kind {
        FilesystemKind::Ext4 => {
            let Some(raw) = Block::read(volume, superblock::PLACE, superblock::LENGTH)? else { return Ok(None) };
            let Ok(found) = Superblock::parse(&raw) else { return Ok(None) };
            let bytes = found.blocks.checked_mul(found.block_size);
            Ok(bytes.map(|bytes| Size { bytes, inodes: Some(u64::from(found.inodes)) }))
        }
        FilesystemKind::Btrfs => Ok(btrfs::length_of_single(volume)?.map(|bytes| Size { bytes, inodes: None })),
        _ => Ok(None),
    }
}

/// Does it, or goes on with it. `time` is the present time, RFC 3339 UTC. The target must not be open.
pub fn grow(host: &Host, spec: &TargetSpec, consent: &PlanId, time: &str) -> Result<Growth, GrowError> {
    let target = target::open(host, spec, Access::Read)?;
    let Prospect { growth, extension } = prospect(&target)?;
    if growth.id != *consent {
        return Err(GrowError::Other(consent.clone()));
    }
    let Some(site) = target.site.clone() else { return Err(GrowError::Directory(growth.disk)) };
    target.release()?;
    let kind = site.volume.filesystem().map(|signature| signature.kind);
    let Some(kind) = kind else { return Err(GrowError::NoPartition(growth.disk)) };
    if site.volume.filesystem().is_some_and(|signature| signature.state == FilesystemState::NeedsRecovery) {
        // The kernel brings it up to date, as every start and every restore does; before that the checker sees errors.
        target::open(host, spec, Access::Write)?.release()?;
    }
    if growth.state != GrowthState::Begun {
        filesystem::check(host, &disks::extent(&site.volume), kind).map_err(GrowError::Errors)?;
    }
    let steps = || -> Result<Growth, GrowError> {
        // What is going to happen is written down first, with what it replaces.
        let whole = Source::open(&site.disk.path)?;
        let begun = Record::begin(&growth, time, &whole, &extension.patches)?;
        if growth.state == GrowthState::Begun && kind == FilesystemKind::Ext4 {
            filesystem::mend(host, &disks::extent(&site.volume))?;
        }
        write_record(host, spec, |_| Ok(begun.clone()))?;
        point("grow.begun")?;
        if !extension.patches.is_empty() {
            let disk = Patched::open(&site.disk.path)?;
            for patch in &extension.patches {
                disk.write(patch.place, &patch.bytes)?;
            }
        }
        point("grow.table")?;
        // The kernel has a node for each partition of a disk, and none for those of an image.
        if site.volume.path != site.disk.path {
            block::look_at_length(host, &site.disk.path, growth.partition)?;
        }
        let mut left = None;
        write_record(host, spec, |target| {
            left = filesystem::grow(host, &target.root, kind).err();
            Ok(Record { done: left.is_none(), ..begun.clone() })
        })?;
        point("grow.filesystem")?;
        match left {
            Some(_) if kind == FilesystemKind::Ext4 => {
                let extent = Extent { length: extension.length, ..disks::extent(&site.volume) };
                filesystem::grow_unmounted(host, &extent)?;
                point("grow.unmounted")?;
                write_record(host, spec, |_| Ok(Record { done: true, ..begun.clone() }))?;
            }
            Some(error) => return Err(error.into()),
            None => {}
        }
        Ok(Growth { state: GrowthState::Done, ..growth.clone() })
    };
    let done = steps().map_err(|error| GrowError::Stopped(Box::new(error)))?;
    let target = target::open(host, spec, Access::Read)?;
    match look(&target) {
        Err(GrowError::NoRoom) => Ok(done),
        Err(error) => Err(error),
        Ok(_) => Err(GrowError::Short),
    }
}

/// Opens the box for writing, does something there, and writes down what that says; done when it is on the disk.
fn write_record(
    host: &Host,
    spec: &TargetSpec,
    work: impl FnOnce(&Target) -> Result<Record, GrowError>,
) -> Result<(), GrowError> {
    let target = target::open(host, spec, Access::Write)?;
    let record = work(&target)?;
    let at = |error: io::Error| SysError::new("writing", &target.root, error);
    let root = Dir::open(&target.root).map_err(at)?;
    record.write(&crate::restore::own_directory(&root)?).map_err(at)?;
    root.sync_filesystem().map_err(at)?;
    drop(root);
    Ok(target.release()?)
}

/// What was done to the box below `root`, in a sentence for its papers.
pub fn remark(root: &Dir) -> Option<String> {
    let record = record::read(root).ok().flatten()?;
    let Growth { from, to, partition, disk, .. } = &record.growth;
    let time = &record.time;
    Some(if record.done {
        format!("its root filesystem was made larger from {from} to {to} on {time} (partition {partition} of '{disk}')")
    } else {
        format!("making its root filesystem larger from {from} to {to} was begun on {time} and is not finished")
    })
}

fn point(name: &str) -> Result<(), GrowError> {
    fault::point(name).map_err(|source| {
        GrowError::Sys(SysError { operation: "writing", subject: "the box's disk".to_owned(), source })
    })
}
