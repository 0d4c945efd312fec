//! FAT12, FAT16 and FAT32 (Microsoft, "FAT: General Overview of On-Disk Format", 1.03).

use super::ReadAt;
use super::block::Block;
use crate::model::disk::{FilesystemKind, FilesystemState, Signature};
use std::io;

const ATTRIBUTE_VOLUME: u8 = 0x08;
const ATTRIBUTE_DIRECTORY: u8 = 0x10;
const ATTRIBUTE_LONG_NAME: u8 = 0x0f;
/// A volume label is among the first entries of the root directory; more clusters than this are not searched.
const MOST_CLUSTERS: usize = 64;

struct Layout {
    cluster: u64,
    fat: u64,
    root: Root,
    data: u64,
    is_fat32: bool,
}

enum Root {
    At(u64, u64),
    Cluster(u32),
}

/// Recognises FAT.
pub fn probe(volume: &dyn ReadAt) -> io::Result<Option<Signature>> {
    let Some(boot) = Block::read(volume, 0, 512)? else { return Ok(None) };
    let Some(layout) = layout(&boot) else { return Ok(None) };
    let extended = if layout.is_fat32 { 0x40 } else { 0x24 };
    let serial = boot.le32(extended + 3).filter(|_| matches!(boot.u8(extended + 2), Some(0x28 | 0x29)));
    let uuid = serial.filter(|serial| *serial != 0).map(|id| format!("{:04X}-{:04X}", id >> 16, id & 0xffff));
    let in_boot = boot.text(extended + 7, 11).filter(|label| label != "NO NAME" && boot.u8(extended + 2) == Some(0x29));
    let label = root_label(volume, &layout)?.or(in_boot);
    // Bit 0 of the byte before the extended signature: mounted, or not unmounted cleanly.
    let dirty = boot.u8(extended + 1).is_none_or(|flags| flags & 1 != 0);
    let state = if dirty { FilesystemState::Unknown } else { FilesystemState::Clean };
    Ok(Some(Signature { kind: FilesystemKind::Vfat, uuid, label, state }))
}

fn layout(boot: &Block) -> Option<Layout> {
    let jump = matches!(boot.u8(0)?, 0xeb | 0xe9);
    if !jump || !boot.has(510, &[0x55, 0xaa]) || boot.has(3, b"NTFS    ") || boot.has(3, b"EXFAT   ") {
        return None;
    }
    let sector = u64::from(boot.le16(11)?);
    let per_cluster = u64::from(boot.u8(13)?);
    let reserved = u64::from(boot.le16(14)?);
    let fats = u64::from(boot.u8(16)?);
    let media = boot.u8(21)?;
    if ![512, 1024, 2048, 4096].contains(&sector)
        || !per_cluster.is_power_of_two()
        || reserved == 0
        || !(1..=2).contains(&fats)
        || !(media == 0xf0 || media >= 0xf8)
    {
        return None;
    }
    let is_fat32 = boot.le16(22)? == 0;
    let fat_sectors = if is_fat32 { u64::from(boot.le32(36)?) } else { u64::from(boot.le16(22)?) };
    let root_entries = u64::from(boot.le16(17)?);
    if fat_sectors == 0 || (is_fat32 && root_entries != 0) || (!is_fat32 && root_entries == 0) {
        return None;
    }
    let root_start = (reserved + fats * fat_sectors) * sector;
    let root_length = (root_entries * 32).next_multiple_of(sector);
    Some(Layout {
        cluster: per_cluster * sector,
        fat: reserved * sector,
        root: if is_fat32 { Root::Cluster(boot.le32(44)?) } else { Root::At(root_start, root_length) },
        data: root_start + root_length,
        is_fat32,
    })
}

/// The label that the root directory holds; it is the one that people see and change.
fn root_label(volume: &dyn ReadAt, layout: &Layout) -> io::Result<Option<String>> {
    let mut cluster = match layout.root {
        Root::At(start, length) => return Ok(label_in(volume, start, length)?.0),
        Root::Cluster(first) => first & 0x0fff_ffff,
    };
    for _ in 0..MOST_CLUSTERS {
        if !(2..0x0fff_fff7).contains(&cluster) {
            break;
        }
        let start = layout.data + (u64::from(cluster) - 2) * layout.cluster;
        let (label, ended) = label_in(volume, start, layout.cluster)?;
        if label.is_some() || ended {
            return Ok(label);
        }
        let Some(link) = Block::read(volume, layout.fat + u64::from(cluster) * 4, 4)? else { break };
        cluster = link.le32(0).unwrap_or(0) & 0x0fff_ffff;
    }
    Ok(None)
}

/// The label in one run of directory entries, and whether the directory ends in it.
fn label_in(volume: &dyn ReadAt, start: u64, length: u64) -> io::Result<(Option<String>, bool)> {
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let Some(entries) = Block::read(volume, start, length)? else { return Ok((None, true)) };
    for at in (0..entries.bytes().len()).step_by(32) {
        let (first, attributes) = (entries.u8(at).unwrap_or(0), entries.u8(at + 11).unwrap_or(0));
        if first == 0 {
            return Ok((None, true));
        }
        let is_label = attributes & (ATTRIBUTE_VOLUME | ATTRIBUTE_DIRECTORY) == ATTRIBUTE_VOLUME
            && attributes & ATTRIBUTE_LONG_NAME != ATTRIBUTE_LONG_NAME;
        if first != 0xe5 && is_label {
            return Ok((entries.text(at, 11), true));
        }
    }
    Ok((None, false))
}
