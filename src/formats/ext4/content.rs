//! The content of one inode, at any offset.

use super::extent::Extent;
use super::filesystem::Filesystem;
use super::inode::{CORE, Inode};
use super::{Ext4Error, short};
use crate::formats::ReadAt;
use std::io::{self, Read};

/// Most extents of one file that are kept in memory: 64 MiB of them.
const MOST_EXTENTS: usize = 2 << 20;

/// A file that can be read. Holes and what was never written are zeros.
#[derive(Debug)]
pub struct Content<'f, 'a> {
    filesystem: &'f Filesystem<'a>,
    size: u64,
    extents: Vec<Extent>,
    inline: Option<Vec<u8>>,
    position: u64,
}

impl<'f, 'a> Content<'f, 'a> {
    /// Finds where the content of an inode lies.
    pub fn open(filesystem: &'f Filesystem<'a>, inode: &Inode) -> Result<Self, Ext4Error> {
        inode.refuse_transformed()?;
        let mut content = Self { filesystem, size: inode.size, extents: Vec::new(), inline: None, position: 0 };
        if inode.is_inline() {
            let mut bytes = inode.core.to_vec();
            if inode.size > CORE as u64 {
                bytes.extend(filesystem.inline_rest(inode)?);
            }
            let length = usize::try_from(inode.size).ok().filter(|length| *length <= bytes.len());
            bytes.truncate(length.ok_or_else(short("a file in its inode"))?);
            content.inline = Some(bytes);
            return Ok(content);
        }
        filesystem.extents(inode, &mut |extent| {
            if content.extents.len() >= MOST_EXTENTS {
                return Err(Ext4Error::Unsupported("a file in more than two million pieces".into()));
            }
            content.extents.push(extent);
            Ok(())
        })?;
        Ok(content)
    }

    /// All of it, where it is no longer than `limit`.
    pub fn read_all(&mut self, limit: u64) -> Result<Vec<u8>, Ext4Error> {
        if self.size > limit {
            return Err(Ext4Error::damaged(format!("{} bytes where at most {limit} can be", self.size)));
        }
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes).map_err(|source| Ext4Error::Io { at: 0, source })?;
        Ok(bytes)
    }

    /// Reads from one extent or hole only; how many bytes that were.
    fn read_piece(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let size = self.filesystem.superblock().block_size;
        let left = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let wanted = buf.len().min(left);
        let block = offset / size;
        let at = self.extents.partition_point(|extent| extent.logical + extent.length <= block);
        let next = self.extents.get(at);
        let (end, extent) = match next {
            Some(extent) if extent.logical <= block => (extent.logical + extent.length, Some(*extent)),
            Some(extent) => (extent.logical, None),
            None => (u64::MAX, None),
        };
        let here = end.saturating_mul(size).saturating_sub(offset);
        let count = wanted.min(usize::try_from(here).unwrap_or(usize::MAX));
        let Some(buf) = buf.get_mut(..count) else { return Ok(0) };
        let Some(extent) = extent.filter(|extent| extent.written) else {
            buf.fill(0);
            return Ok(count);
        };
        let physical = extent.physical + (block - extent.logical);
        let within = offset % size;
        let blocks = within.saturating_add(count as u64).div_ceil(size);
        if self.filesystem.is_in_place(physical, blocks) {
            let volume = self.filesystem.volume();
            let place = physical.saturating_mul(size).saturating_add(within);
            return match volume.read_at(place, buf)? {
                0 if count > 0 => {
                    Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the volume ends inside of the file"))
                }
                read => Ok(read),
            };
        }
        // Content goes through the journal, too, where a filesystem was mounted with data=journal.
        let raw = self.filesystem.block(physical)?;
        let part = raw.bytes().get(usize::try_from(within).unwrap_or(usize::MAX)..).unwrap_or_default();
        let count = part.len().min(count);
        for (to, from) in buf.iter_mut().zip(part) {
            *to = *from;
        }
        Ok(count)
    }
}

impl ReadAt for Content<'_, '_> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        match &self.inline {
            Some(bytes) => bytes.as_slice().read_at(offset, buf),
            None => self.read_piece(offset, buf),
        }
    }

    fn length(&self) -> u64 {
        self.size
    }
}

impl Read for Content<'_, '_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.read_at(self.position, buf)?;
        self.position = self.position.saturating_add(count as u64);
        Ok(count)
    }
}
