//! One object from its place in a file to its checked plain content.

use super::Fault;
use super::blocks::{self, BLOCK, Block, Blocks, MARGIN, Piece};
use super::storage::{Storage, fill};
use crate::formats::borg::compression::{Length, METHOD, Unpacker, is_stored};
use crate::formats::borg::envelope::Opener;
use crate::formats::borg::item::Chunk;
use crate::formats::borg::segment::{self, Checksum, HEAD, Kind};
use crate::formats::borg::{LONGEST_ENTRY, MANIFEST, ObjectId};
use std::collections::VecDeque;
use std::ops::Range;

/// Pieces up to this length are not worth a block.
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
    /// What is only checked.
    block: Option<Block>,
}

/// Where the plain content lies: what was stored as it is needs no copy.
enum Place {
    Entry(Range<usize>),
    Plain,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(storage: &'a Storage, opener: &'a Opener) -> Decoder<'a> {
        Decoder { storage, opener, unpacker: Unpacker::default(), entry: Vec::new(), plain: Vec::new(), block: None }
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
        if self.is_stored(chunk) {
            let block = self.block.take().unwrap_or_else(blocks::fresh);
            self.block = self.stream(chunk, block, |block| block);
        }
        // Nothing is left of the block where something was not as expected.
        if self.block.is_none() || !self.is_stored(chunk) {
            self.read(&chunk.id, chunk.stored, Length::Exactly(chunk.size as usize))?;
        }
        self.storage.set_known_good(chunk);
        Ok(())
    }

    /// A piece of content, in blocks of the pool.
    pub(super) fn piece(&mut self, chunk: &Chunk, pool: &Blocks) -> Result<Piece, Fault> {
        let size = chunk.size as usize;
        if size > SHORT && self.is_stored(chunk) {
            let mut blocks = VecDeque::new();
            let last = self.stream(chunk, pool.take(), |full| {
                blocks.push_back(full);
                pool.take()
            });
            if last.is_some() {
                blocks.extend(last);
                return Ok(Piece::long(blocks, size));
            }
            blocks.into_iter().for_each(|block| pool.give_back(block));
        }
        let content = match self.read(&chunk.id, chunk.stored, Length::Exactly(size))? {
            Place::Entry(range) => self.entry.get(range).unwrap_or_default(),
            Place::Plain => self.plain.as_slice(),
        };
        Ok(if size > SHORT { Piece::copied(content, pool) } else { Piece::short(content.to_vec()) })
    }

    /// Whether an object's length says that its content is probably stored as it is.
    fn is_stored(&self, chunk: &Chunk) -> bool {
        let expected = self.opener.head() + METHOD + chunk.size as usize;
        chunk.stored <= LONGEST_ENTRY && chunk.stored as usize == expected
    }

    /// Goes through an object whose content is stored as it is: each block is read, checked, decrypted and summed up
    /// while it is in the processor's cache. `next` takes a full block and gives the next one; the last one is returned.
    ///
    /// `None` where anything is not as expected: [`read`](Self::read), which knows all ways, then finds out why.
    fn stream(&self, chunk: &Chunk, mut block: Block, mut next: impl FnMut(Block) -> Block) -> Option<Block> {
        let (size, object) = (chunk.size as usize, self.opener.head());
        let front = HEAD + object + METHOD;
        let (file, mut offset) = self.storage.find(&chunk.id, HEAD + chunk.stored as usize)?;
        let mut read = |part: &mut [u8]| {
            let is_whole = fill(&file, part, offset).is_ok_and(|got| got == part.len());
            offset += part.len() as u64;
            is_whole.then_some(())
        };
        let mut here = size.min(BLOCK);
        let begin = block.get_mut(MARGIN - front..MARGIN + here)?;
        read(begin)?;
        let head = segment::parse(begin).ok()?;
        if head.kind != Kind::Put(chunk.id) || head.size as usize != HEAD + chunk.stored as usize {
            return None;
        }
        let (mut checksum, mut sum) = (Checksum::default(), self.opener.identity());
        checksum.update(begin.get(4..)?);
        let (begin, rest) = begin.split_at_mut(HEAD + object);
        let mut opening = self.opener.begin(begin.get(HEAD..)?).ok()?;
        opening.open(rest);
        if !is_stored(rest) {
            return None;
        }
        sum.update(rest.get(METHOD..)?);
        let mut left = size - here;
        while left > 0 {
            block = next(block);
            here = left.min(BLOCK);
            let part = block.get_mut(MARGIN..MARGIN + here)?;
            read(part)?;
            checksum.update(part);
            opening.open(part);
            sum.update(part);
            left -= here;
        }
        (checksum.fits(&head) && opening.end().is_ok() && sum.finish() == chunk.id).then_some(block)
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
