//! Parsers of formats: bytes in, values out.
//!
//! Owns the knowledge of on-disk and file formats. Never opens anything: a parser gets a [`ReadAt`], a `Read` or
//! bytes, never a path. Every length in foreign bytes is checked against a limit before anything is allocated for it.

pub mod acl;
pub mod age;
pub mod backup_manifest;
pub mod block;
pub mod borg;
pub mod borg_config;
pub mod btrfs;
pub mod container;
pub mod dpkg;
pub mod dump;
pub mod elf;
pub mod exfat;
pub mod ext;
pub mod ext4;
pub mod extend;
pub mod fat;
pub mod fstab;
pub mod gpt;
pub mod keyfile;
pub mod lmdb;
pub mod magic;
pub mod mapfile;
pub mod mbr;
pub mod ntfs;
pub mod os_release;
pub mod passwd;
pub mod plinth;
pub mod scan;
pub mod signature;
pub mod slapd;
pub mod table;
pub mod tarball;

use std::io;

/// Bytes of known length that can be read at any place: a disk, a partition, an image file, a slice.
pub trait ReadAt {
    /// Reads at `offset`; fewer bytes than asked for only at the end or when the system pleases.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;

    /// Length in bytes.
    fn length(&self) -> u64;
}

impl ReadAt for &[u8] {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|start| self.get(start..)).unwrap_or_default();
        let count = rest.len().min(buf.len());
        for (to, from) in buf.iter_mut().zip(rest) {
            *to = *from;
        }
        Ok(count)
    }

    fn length(&self) -> u64 {
        self.len() as u64
    }
}

impl<T: ReadAt + ?Sized> ReadAt for &T {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        (**self).read_at(offset, buf)
    }

    fn length(&self) -> u64 {
        (**self).length()
    }
}

/// A part of something longer: a partition of a disk.
pub struct Slice<'a> {
    whole: &'a dyn ReadAt,
    start: u64,
    length: u64,
}

impl<'a> Slice<'a> {
    /// The part of `whole` from `start`; never reaches past the end of `whole`.
    pub fn new(whole: &'a dyn ReadAt, start: u64, length: u64) -> Self {
        Self { whole, start, length: length.min(whole.length().saturating_sub(start)) }
    }
}

impl ReadAt for Slice<'_> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let left = self.length.saturating_sub(offset);
        let count = usize::try_from(left).map_or(buf.len(), |left| left.min(buf.len()));
        match (self.start.checked_add(offset), buf.get_mut(..count)) {
            (Some(place), Some(part)) if count > 0 => self.whole.read_at(place, part),
            _ => Ok(0),
        }
    }

    fn length(&self) -> u64 {
        self.length
    }
}
