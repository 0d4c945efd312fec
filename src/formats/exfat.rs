//! exFAT (Microsoft, "exFAT file system specification", 2019).

use super::ReadAt;
use super::block::Block;
use crate::model::disk::{FilesystemKind, FilesystemState, Signature};
use std::io;

const VOLUME_LABEL: u8 = 0x83;
const VOLUME_DIRTY: u16 = 0x2;
const MEDIA_FAILURE: u16 = 0x4;
const LONGEST_LABEL: u8 = 11;

/// Recognises exFAT.
pub fn probe(volume: &dyn ReadAt) -> io::Result<Option<Signature>> {
    let Some(boot) = Block::read(volume, 0, 512)? else { return Ok(None) };
    let Some((signature, root)) = parse(&boot) else { return Ok(None) };
    // mkfs writes the label first; only the first 4 KiB of the root directory are searched.
    let label = Block::read(volume, root, 4096)?.and_then(|entries| {
        let at = (0..entries.bytes().len()).step_by(32).find(|&at| entries.u8(at) == Some(VOLUME_LABEL))?;
        let units = entries.u8(at + 1).filter(|units| *units <= LONGEST_LABEL)?;
        entries.utf16(at + 2, units.into())
    });
    Ok(Some(Signature { label, ..signature }))
}

fn parse(boot: &Block) -> Option<(Signature, u64)> {
    if !boot.has(3, b"EXFAT   ") || !boot.has(510, &[0x55, 0xaa]) {
        return None;
    }
    let (sector_shift, cluster_shift) = (boot.u8(108)?, boot.u8(109)?);
    if !(9..=12).contains(&sector_shift) || cluster_shift > 25 - sector_shift {
        return None;
    }
    let heap = u64::from(boot.le32(88)?) << sector_shift;
    let root = u64::from(boot.le32(96)?.checked_sub(2)?).checked_mul(1 << (sector_shift + cluster_shift))?;
    let serial = boot.le32(100)?;
    let flags = boot.le16(106)?;
    let state = match flags {
        flags if flags & MEDIA_FAILURE != 0 => FilesystemState::Damaged,
        flags if flags & VOLUME_DIRTY != 0 => FilesystemState::Unknown,
        _ => FilesystemState::Clean,
    };
    let uuid = Some(format!("{:04X}-{:04X}", serial >> 16, serial & 0xffff));
    let signature = Signature { kind: FilesystemKind::Exfat, uuid, label: None, state };
    Some((signature, heap.checked_add(root)?))
}
