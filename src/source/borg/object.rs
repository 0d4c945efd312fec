//! One object from its place in a file to its checked plain content.

use super::Fault;
use super::storage::Storage;
use crate::formats::borg::compression::{Length, Unpacker};
use crate::formats::borg::envelope::Opener;
use crate::formats::borg::segment::HEAD;
use crate::formats::borg::{MANIFEST, ObjectId};

/// Decodes objects, one after the other, in memory that is used again. One per thread.
pub(super) struct Decoder<'a> {
    storage: &'a Storage,
    opener: &'a Opener,
    unpacker: Unpacker,
    entry: Vec<u8>,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(storage: &'a Storage, opener: &'a Opener) -> Decoder<'a> {
        Decoder { storage, opener, unpacker: Unpacker::default(), entry: Vec::new() }
    }

    /// Puts the plain content of an object into `plain`. `stored` is the object's length, 0 where it is not known.
    pub(super) fn decode(
        &mut self,
        id: &ObjectId,
        stored: u32,
        length: Length,
        plain: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        self.storage.read(id, stored, &mut self.entry)?;
        let object = self.entry.get_mut(HEAD..).unwrap_or_default();
        let packed = self.opener.open(object).map_err(Fault::bad)?;
        self.unpacker.unpack(packed, length, plain).map_err(Fault::bad)?;
        if *id != MANIFEST && self.opener.id(plain) != *id {
            return Err(Fault::Bad("its content is not what its id says".into()));
        }
        Ok(())
    }
}
