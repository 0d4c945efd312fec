//! One object from its place in a file to its checked plain content.

use super::Fault;
use super::storage::{Storage, fill, make_room};
use crate::formats::borg::compression::{Length, METHOD, Unpacker, is_stored};
use crate::formats::borg::envelope::Opener;
use crate::formats::borg::item::Chunk;
use crate::formats::borg::segment::{self, Checksum, HEAD, Kind};
use crate::formats::borg::{LONGEST_ENTRY, MANIFEST, ObjectId};
use std::ops::Range;

/// Room before a piece of content: it is read with its object's head.
pub(super) const MARGIN: usize = 128;
/// How much is read, checked, decrypted and summed up at a time: what a processor's cache holds.
const STEP: usize = 128 << 10;

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
        if !self.is_stored(chunk) || self.stream(chunk, None).is_none() {
            self.read(&chunk.id, chunk.stored, Length::Exactly(chunk.size as usize))?;
        }
        self.storage.set_known_good(chunk);
        Ok(())
    }

    /// Puts a piece of content into `room`, behind its first [`MARGIN`] bytes.
    pub(super) fn fetch(&mut self, chunk: &Chunk, room: &mut [u8]) -> Result<(), Fault> {
        if self.is_stored(chunk) && self.stream(chunk, Some(room)).is_some() {
            return Ok(());
        }
        let packed = self.open(&chunk.id, chunk.stored)?;
        let plain = room.get_mut(MARGIN..).unwrap_or_default();
        let packed = self.entry.get(packed).unwrap_or_default();
        self.unpacker.unpack_exactly(packed, plain).map_err(Fault::bad)?;
        require(self.opener, &chunk.id, plain)
    }

    /// Whether an object's length says that its content is probably stored as it is.
    fn is_stored(&self, chunk: &Chunk) -> bool {
        let expected = self.opener.head() + METHOD + chunk.size as usize;
        chunk.stored <= LONGEST_ENTRY && chunk.stored as usize == expected
    }

    /// Goes through an object whose content is stored as it is, in steps that are read, checked, decrypted and summed up
    /// while they are in the processor's cache. The content ends up in `room`, behind its first [`MARGIN`] bytes; where
    /// there is none, each step takes the place of the one before.
    ///
    /// `None` where anything is not as expected: [`read`](Self::read), which knows all ways, then finds out why.
    fn stream(&mut self, chunk: &Chunk, room: Option<&mut [u8]>) -> Option<()> {
        let (size, object) = (chunk.size as usize, self.opener.head());
        let front = HEAD + object + METHOD;
        let length = HEAD + chunk.stored as usize;
        let (file, mut offset) = self.storage.find(&chunk.id, length)?;
        let is_kept = room.is_some();
        let room = match room {
            Some(room) => room,
            None => {
                make_room(&mut self.entry, MARGIN + STEP);
                &mut self.entry
            }
        };
        let (mut checksum, mut sum) = (Checksum::default(), self.opener.identity());
        let mut begun = None;
        let mut done = 0;
        while begun.is_none() || done < size {
            let here = (size - done).min(STEP);
            let at = if is_kept { MARGIN + done } else { MARGIN };
            // An object is read with its head.
            let start = if begun.is_none() { at.checked_sub(front)? } else { at };
            let part = room.get_mut(start..at + here)?;
            if fill(&file, part, offset).ok()? < part.len() {
                return None;
            }
            offset += part.len() as u64;
            let (opening, sealed) = match &mut begun {
                Some((_, opening)) => (opening, part),
                None => {
                    let head = segment::parse(part).ok()?;
                    if head.kind != Kind::Put(chunk.id) || head.size as usize != length {
                        return None;
                    }
                    let (entry, sealed) = part.split_at_mut(HEAD + object);
                    checksum.update(entry.get(4..)?);
                    (&mut begun.insert((head, self.opener.begin(entry.get(HEAD..)?).ok()?)).1, sealed)
                }
            };
            checksum.update(sealed);
            opening.open(sealed);
            if done == 0 && !is_stored(sealed) {
                return None;
            }
            sum.update(sealed.get(sealed.len() - here..)?);
            done += here;
        }
        let (head, opening) = begun?;
        (checksum.fits(&head) && opening.end().is_ok() && sum.finish() == chunk.id).then_some(())
    }

    /// Reads an object and opens it; says where in [`entry`](Self::entry) its packed content lies.
    fn open(&mut self, id: &ObjectId, stored: u32) -> Result<Range<usize>, Fault> {
        let size = self.storage.read(id, stored, &mut self.entry)?;
        let object = self.entry.get_mut(HEAD..size).unwrap_or_default();
        let packed = self.opener.open(object).map_err(Fault::bad)?;
        Ok(size - packed.len()..size)
    }

    fn read(&mut self, id: &ObjectId, stored: u32, length: Length) -> Result<Place, Fault> {
        let object = self.open(id, stored)?;
        let packed = self.entry.get(object.clone()).unwrap_or_default();
        let content = self.unpacker.unpack_unless_stored(packed, length, &mut self.plain).map_err(Fault::bad)?;
        let (place, plain) = match content {
            Some(range) => {
                let plain = packed.get(range.clone()).unwrap_or_default();
                (Place::Entry(object.start + range.start..object.start + range.end), plain)
            }
            None => (Place::Plain, self.plain.as_slice()),
        };
        require(self.opener, id, plain)?;
        Ok(place)
    }
}

/// That plain content is what its id says.
fn require(opener: &Opener, id: &ObjectId, plain: &[u8]) -> Result<(), Fault> {
    match *id == MANIFEST || opener.id(plain) == *id {
        true => Ok(()),
        false => Err(Fault::Bad("its content is not what its id says".into())),
    }
}
