//! One object from its place in a file to its checked plain content.

use super::Fault;
use super::storage::Storage;
use crate::formats::borg::compression::{Length, Unpacker};
use crate::formats::borg::envelope::Opener;
use crate::formats::borg::item::Chunk;
use crate::formats::borg::segment::HEAD;
use crate::formats::borg::{LONGEST_ENTRY, MANIFEST, ObjectId};
use std::ops::Range;

/// Pieces up to this length are copied out: a buffer is worth more.
pub(super) const SHORT: usize = 64 << 10;

/// Decodes objects, one after the other, in memory that is used again. One per thread.
pub(super) struct Decoder<'a> {
    storage: &'a Storage,
    opener: &'a Opener,
    unpacker: Unpacker,
    /// The object as it is stored; longer than that, with rubbish at its end.
    entry: Vec<u8>,
    /// What was unpacked.
    plain: Vec<u8>,
}

/// Where the plain content lies: what was stored as it is needs no copy.
enum Place {
    Entry(Range<usize>),
    Plain,
}

/// A piece of plain content.
#[derive(Default)]
pub(super) struct Piece {
    buffer: Vec<u8>,
    range: Range<usize>,
}

impl Piece {
    pub(super) fn bytes(&self) -> &[u8] {
        self.buffer.get(self.range.clone()).unwrap_or_default()
    }

    /// Its memory, to be used again.
    pub(super) fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }
}

impl<'a> Decoder<'a> {
    pub(super) fn new(storage: &'a Storage, opener: &'a Opener) -> Decoder<'a> {
        Decoder { storage, opener, unpacker: Unpacker::default(), entry: Vec::new(), plain: Vec::new() }
    }

    /// Puts the plain content of an object into `plain`. `stored` is the object's length, 0 where it is not known.
    pub(super) fn decode(
        &mut self,
        id: &ObjectId,
        stored: u32,
        length: Length,
        plain: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        std::mem::swap(&mut self.plain, plain);
        let place = self.read(id, stored, length);
        std::mem::swap(&mut self.plain, plain);
        if let Place::Entry(range) = place? {
            plain.clear();
            plain.extend_from_slice(self.entry.get(range).unwrap_or_default());
        }
        Ok(())
    }

    /// Checks a piece of content without handing it out; one that was found good before is not read again.
    pub(super) fn check(&mut self, chunk: &Chunk) -> Result<(), Fault> {
        if self.storage.is_known_good(chunk) {
            return Ok(());
        }
        self.read(&chunk.id, chunk.stored, Length::Exactly(chunk.size as usize))?;
        self.storage.set_known_good(chunk);
        Ok(())
    }

    /// A piece of content. A long one comes in one of the decoder's own buffers, which `exchange` changes for one of about
    /// that length: what is handed out holds little memory that nobody counts.
    pub(super) fn piece(
        &mut self,
        chunk: &Chunk,
        exchange: impl Fn(Vec<u8>, usize) -> Vec<u8>,
    ) -> Result<Piece, Fault> {
        let size = chunk.size as usize;
        if size > SHORT {
            let stored = HEAD + chunk.stored.min(LONGEST_ENTRY) as usize;
            self.entry = exchange(std::mem::take(&mut self.entry), stored);
            if stored < size {
                self.plain = exchange(std::mem::take(&mut self.plain), size);
            }
        }
        let place = self.read(&chunk.id, chunk.stored, Length::Exactly(size))?;
        let (buffer, range) = match place {
            Place::Entry(range) => (&mut self.entry, range),
            Place::Plain => (&mut self.plain, 0..size),
        };
        if size <= SHORT || buffer.capacity() > 8 * size {
            return Ok(Piece { buffer: buffer.get(range).unwrap_or_default().to_vec(), range: 0..size });
        }
        Ok(Piece { buffer: std::mem::take(buffer), range })
    }

    fn read(&mut self, id: &ObjectId, stored: u32, length: Length) -> Result<Place, Fault> {
        let size = self.storage.read(id, stored, &mut self.entry)?;
        let object = self.entry.get_mut(HEAD..size).unwrap_or_default();
        let packed = self.opener.open(object).map_err(Fault::bad)?;
        let start = size - packed.len();
        let content = self.unpacker.unpack_unless_stored(packed, length, &mut self.plain).map_err(Fault::bad)?;
        let (place, plain) = match content {
            Some(range) => {
                let plain = packed.get(range.clone()).unwrap_or_default();
                (Place::Entry(start + range.start..start + range.end), plain)
            }
            None => (Place::Plain, self.plain.as_slice()),
        };
        if *id != MANIFEST && self.opener.id(plain) != *id {
            return Err(Fault::Bad("its content is not what its id says".into()));
        }
        Ok(place)
    }
}
