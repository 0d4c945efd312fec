//! How a volume is opened for reading: as it is, or through an overlay in memory.
//!
//! Through an overlay where its newest state is still in a journal, where it is damaged, and where it lies in an image
//! of a failing disk: then what was not read is an error, never the zeros that stand for it. The map of such an image
//! lies beside it, under its name and `.map`. In no case is anything written to the disk or the image.

use super::holder::same_device;
use crate::formats::mapfile::{self, Map, Readable, State};
use crate::formats::{ReadAt, Slice, btrfs};
use crate::model::disk::{FilesystemKind, FilesystemState};
use crate::sys::SysError;
use crate::sys::block::{self, Backing};
use crate::sys::file::{Source, device_number};
use crate::sys::host::Host;
use crate::sys::mount::{self, Extent, Mounted, Point};
use crate::sys::overlay::{Content, Overlay};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Opens a disk or an image; of an image with a map, only what the map says was read.
pub fn source(path: &Path) -> Result<Box<Content>, SysError> {
    let image = Source::open(path)?;
    Ok(match gaps(path, image.length())? {
        Some(map) => Box::new(Readable { image, map }),
        None => Box::new(image),
    })
}

/// The map of an image of which something is missing.
fn gaps(path: &Path, length: u64) -> Result<Option<Map>, SysError> {
    if device_number(path).is_some() {
        return Ok(None);
    }
    let mut name = OsString::from(path);
    name.push(".map");
    let place = PathBuf::from(name);
    let failed = |error: io::Error| SysError::new("reading", &place, error);
    let file = match File::open(&place) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(failed)?,
    };
    let mut text = Vec::new();
    file.take(mapfile::LONGEST).read_to_end(&mut text).map_err(failed)?;
    // Without it, nobody knows which zeros are none.
    let map = Map::parse(&text, length).map_err(|bad| {
        failed(io::Error::other(format!("it cannot be used as the map of the image beside it: {bad}")))
    })?;
    Ok((map.bytes(State::Rescued) < length).then_some(map))
}

/// Mounts an extent for reading.
pub(super) fn mount(
    host: &Host,
    extent: &Extent,
    (kind, state): (FilesystemKind, FilesystemState),
    subvolume: Option<&str>,
    point: Point<'_>,
) -> Result<Mounted, SysError> {
    let is_image = device_number(&extent.path).is_none();
    let content = source(&extent.path)?;
    let end = extent.offset.saturating_add(extent.length);
    let is_whole =
        !is_image || gaps(&extent.path, content.length())?.is_none_or(|map| map.is_rescued(extent.offset..end));
    let plain = |point| mount::read_only_with(host, extent, kind, subvolume, point);
    let is_recoverable =
        matches!(kind, FilesystemKind::Ext2 | FilesystemKind::Ext3 | FilesystemKind::Ext4 | FilesystemKind::Btrfs);
    let overlaid = || recovered(host, extent, kind, Arc::from(content), subvolume, point);
    match state {
        // A mount of our own is there: the same device is used again.
        _ if is_overlaid(host, extent) => plain(point),
        _ if !is_whole => overlaid(),
        FilesystemState::NeedsRecovery | FilesystemState::Damaged if is_recoverable => {
            overlaid().or_else(|_| plain(point))
        }
        _ => plain(point),
    }
}

/// Mounts an extent of a disk, whose bytes `content` gives, through an overlay.
pub fn recovered(
    host: &Host,
    extent: &Extent,
    kind: FilesystemKind,
    content: Arc<Content>,
    subvolume: Option<&str>,
    point: Point<'_>,
) -> Result<Mounted, SysError> {
    let part = Slice::new(&*content, extent.offset, extent.length);
    let changes: Vec<_> = match kind {
        FilesystemKind::Btrfs => btrfs::superblock_from_copy(&part).into_iter().chain(btrfs::rebuilt(&part)).collect(),
        _ => Vec::new(),
    };
    let overlay = Overlay::new(host, extent, content.clone(), &changes)?;
    mount::recovered(host, overlay, kind, subvolume, point)
}

/// Whether an overlay lies between an extent and where Lifeboat has it mounted.
pub(super) fn is_overlaid(host: &Host, extent: &Extent) -> bool {
    let of_extent = |one: &Backing| same_device(&one.path, &extent.path) && one.offset == extent.offset;
    block::loops(host).iter().any(|one| one.overlaid && of_extent(one))
}
