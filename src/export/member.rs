//! Entries as members of a tar archive, in the form of FreedomBox's downloads: GNU tar, no extended attributes.
//!
//! Names are written as the bytes that they are; a long one goes into a `././@LongLink` member before its own.
//! Source of the form: what `borg export-tar` writes (borg 1.4, `archiver.do_export_tar`), which FreedomBox's Backups
//! page sends, and GNU tar's manual, "GNU tar and POSIX tar", section "Basic Tar Format".

use crate::formats::tarball::BLOCK;
use crate::model::entry::{Entry, EntryKind};
use std::io::{self, Write};
use tar::{EntryType, Header};

/// Room for a name in a header.
const SHORT: usize = 100;
/// Room for the name of an owner, with the zero that ends it.
const OWNER: usize = 32;

/// Whether the name of an owner has room in a header.
pub(super) fn fits(name: &[u8]) -> bool {
    name.len() < OWNER
}

/// Writes what comes before the content of an entry.
pub(super) fn begin(output: &mut dyn Write, entry: &Entry) -> io::Result<()> {
    let mut name = entry.path.as_bytes().to_vec();
    let (kind, link, size) = match &entry.kind {
        EntryKind::File { size, .. } => (EntryType::Regular, &[][..], *size),
        EntryKind::Directory => {
            name.push(b'/');
            (EntryType::Directory, &[][..], 0)
        }
        EntryKind::Symlink { target } => (EntryType::Symlink, target.as_slice(), 0),
        EntryKind::HardLink { to } => (EntryType::Link, to.as_bytes(), 0),
        EntryKind::Fifo => (EntryType::Fifo, &[][..], 0),
    };
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(entry.mode);
    header.set_uid(entry.owner.uid.into());
    header.set_gid(entry.owner.gid.into());
    header.set_size(size);
    if let Some(gnu) = header.as_gnu_mut() {
        gnu.mtime = seconds(entry.mtime.secs);
        for (field, name) in [(&mut gnu.uname, &entry.owner.user), (&mut gnu.gname, &entry.owner.group)] {
            // A name that does not fit would be another name when cut; the number is left.
            put(field, name.as_deref().filter(|name| fits(name)).unwrap_or_default());
        }
    }
    for (bytes, kind) in [(link, EntryType::GNULongLink), (name.as_slice(), EntryType::GNULongName)] {
        if bytes.len() > SHORT {
            long(output, kind, bytes)?;
        }
    }
    let old = header.as_old_mut();
    put(&mut old.name, &name);
    put(&mut old.linkname, link);
    header.set_cksum();
    output.write_all(header.as_bytes())
}

/// Fills up the last block of `length` bytes of content.
pub(super) fn pad(output: &mut dyn Write, length: u64) -> io::Result<()> {
    let rest = (length % BLOCK as u64) as usize;
    let missing = if rest == 0 { 0 } else { BLOCK - rest };
    output.write_all([0; BLOCK].get(..missing).unwrap_or_default())
}

/// Ends the archive: two blocks of zeros.
pub(super) fn end(output: &mut dyn Write) -> io::Result<()> {
    output.write_all(&[0; 2 * BLOCK])
}

/// A member that carries a name which is too long for a header.
fn long(output: &mut dyn Write, kind: EntryType, bytes: &[u8]) -> io::Result<()> {
    let length = bytes.len() as u64 + 1;
    let mut header = Header::new_gnu();
    put(&mut header.as_old_mut().name, b"././@LongLink");
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(length);
    header.set_cksum();
    output.write_all(header.as_bytes())?;
    output.write_all(bytes)?;
    output.write_all(&[0])?;
    pad(output, length)
}

/// Puts as much of `bytes` into a field as fits; the rest of the field is zeros already.
fn put(field: &mut [u8], bytes: &[u8]) {
    for (to, from) in field.iter_mut().zip(bytes) {
        *to = *from;
    }
}

/// A time as twelve bytes: octal where it fits, else GNU tar's form for large and negative numbers (the first bit set,
/// the rest in two's complement).
fn seconds(secs: i64) -> [u8; 12] {
    let mut field = [0; 12];
    if (0..1 << 33).contains(&secs) {
        put(&mut field, format!("{secs:011o}").as_bytes());
    } else {
        let wide = i128::from(secs).to_be_bytes();
        put(&mut field, wide.get(4..).unwrap_or_default());
        if let Some(first) = field.first_mut() {
            *first |= 0x80;
        }
    }
    field
}
