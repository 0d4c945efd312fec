//! Items: what an archive says about one path each. A sequence of msgpack maps, cut into pieces anywhere.

use super::msgpack::{Reader, Trouble, Value};
use super::{Malformed, ObjectId};

/// Longest single item: a file of a terabyte in pieces of borg's usual size needs 25 MiB.
const LONGEST_ITEM: usize = 64 << 20;

/// A piece of a file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// The object.
    pub id: ObjectId,
    /// Length of the plain content.
    pub size: u32,
    /// Length of the stored object; 0 where it is not known.
    pub stored: u32,
}

/// One item; names and text are bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Item {
    /// The path without a leading slash.
    pub path: Vec<u8>,
    /// File type and permissions, as `stat` gives them.
    pub mode: u32,
    /// User id.
    pub uid: i128,
    /// Group id.
    pub gid: i128,
    /// User name.
    pub user: Option<Vec<u8>>,
    /// Group name.
    pub group: Option<Vec<u8>>,
    /// Modification time in nanoseconds since 1970.
    pub mtime: i128,
    /// Length of the content, where the item says it.
    pub size: Option<i128>,
    /// Target of a symbolic link, or first name of a hard link.
    pub source: Option<Vec<u8>>,
    /// The content of a file.
    pub chunks: Option<Vec<Chunk>>,
    /// What the content was before `borg check --repair` put zeros in its place.
    pub healthy: Option<Vec<Chunk>>,
    /// Extended attributes without access control lists.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Access control list, as text.
    pub acl_access: Option<Vec<u8>>,
    /// Default access control list, as text.
    pub acl_default: Option<Vec<u8>>,
    /// BSD file flags: 1 nodump, 2 immutable, 4 append-only.
    pub flags: i128,
    /// How long the item itself is, packed.
    pub length: usize,
    /// Whether it is a part of a file whose backup was interrupted.
    pub is_part: bool,
}

/// Puts items together from the pieces of the stream.
#[derive(Debug, Default)]
pub struct ItemStream {
    buffer: Vec<u8>,
    at: usize,
}

impl ItemStream {
    /// Appends the next piece.
    pub fn push(&mut self, piece: &[u8]) {
        self.buffer.drain(..self.at.min(self.buffer.len()));
        self.at = 0;
        self.buffer.extend_from_slice(piece);
    }

    /// The next item; `None` when another piece is needed.
    pub fn next_item(&mut self) -> Result<Option<Item>, Malformed> {
        let rest = self.buffer.get(self.at..).unwrap_or_default();
        let mut reader = Reader::new(rest);
        if rest.is_empty() {
            return Ok(None);
        }
        match parse(&mut reader) {
            Ok(mut item) => {
                item.length = reader.position();
                self.at += item.length;
                Ok(Some(item))
            }
            Err(Trouble::Short) if rest.len() <= LONGEST_ITEM => Ok(None),
            Err(Trouble::Short) => Err(Malformed::new("an item is too long")),
            Err(trouble) => Err(trouble.into()),
        }
    }

    /// Whether an item is only half there.
    pub fn is_open(&self) -> bool {
        self.at < self.buffer.len()
    }
}

fn parse(reader: &mut Reader<'_>) -> Result<Item, Trouble> {
    let mut item = Item::default();
    let (mut has_path, mut has_mode) = (false, false);
    for _ in 0..reader.map()? {
        match reader.raw()? {
            b"path" => {
                item.path = reader.raw()?.to_vec();
                has_path = true;
            }
            b"mode" => {
                item.mode =
                    u32::try_from(reader.int()?).map_err(|_| Trouble::Wrong("an item's mode is out of range"))?;
                has_mode = true;
            }
            b"uid" => item.uid = reader.int()?,
            b"gid" => item.gid = reader.int()?,
            b"user" => item.user = reader.raw_or_nil()?.map(<[u8]>::to_vec),
            b"group" => item.group = reader.raw_or_nil()?.map(<[u8]>::to_vec),
            b"mtime" => item.mtime = reader.int()?,
            b"size" => item.size = Some(reader.int()?),
            b"source" => item.source = Some(reader.raw()?.to_vec()),
            b"chunks" => item.chunks = chunks(reader)?,
            b"chunks_healthy" => item.healthy = chunks(reader)?,
            b"xattrs" => item.xattrs = xattrs(reader)?,
            b"acl_access" => item.acl_access = reader.raw_or_nil()?.map(<[u8]>::to_vec),
            b"acl_default" => item.acl_default = reader.raw_or_nil()?.map(<[u8]>::to_vec),
            b"bsdflags" => item.flags = reader.int()?,
            b"part" => {
                reader.skip()?;
                item.is_part = true;
            }
            _ => reader.skip()?,
        }
    }
    if has_path && has_mode { Ok(item) } else { Err(Trouble::Wrong("an item has no path or no mode")) }
}

fn chunks(reader: &mut Reader<'_>) -> Result<Option<Vec<Chunk>>, Trouble> {
    let count = match reader.value()? {
        Value::Nil => return Ok(None),
        Value::Array(count) => count,
        _ => return Err(Trouble::Wrong("an item's content is not a list")),
    };
    let length = |value: i128| u32::try_from(value).map_err(|_| Trouble::Wrong("a length in an item is out of range"));
    let mut chunks = Vec::new();
    for _ in 0..count {
        let fields = reader.array()?;
        if fields < 2 {
            return Err(Trouble::Wrong("a piece of an item's content is not described"));
        }
        let (id, size) = (reader.id()?, length(reader.int()?)?);
        let stored = if fields > 2 { length(reader.int()?)? } else { 0 };
        (3..fields).try_for_each(|_| reader.skip())?;
        if size as usize > super::LONGEST_CHUNK {
            return Err(Trouble::Wrong("a piece of an item's content is too long"));
        }
        chunks.push(Chunk { id, size, stored });
    }
    Ok(Some(chunks))
}

/// Names and values.
type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

fn xattrs(reader: &mut Reader<'_>) -> Result<Pairs, Trouble> {
    let count = match reader.value()? {
        Value::Nil => 0,
        Value::Map(count) => count,
        _ => return Err(Trouble::Wrong("an item's attributes are not a map")),
    };
    let mut pairs = Vec::new();
    for _ in 0..count {
        let name = reader.raw()?;
        if name.is_empty() || name.contains(&0) {
            return Err(Trouble::Wrong("an attribute has no name, or one with a NUL byte"));
        }
        pairs.push((name.to_vec(), reader.raw_or_nil()?.unwrap_or_default().to_vec()));
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Vec<u8> {
        let mut raw = b"\x85\xa4path\xa3a\xffb\xa4mode\xcd\x81\xa4\xa6chunks\x91\x93\xda\x00\x20".to_vec();
        raw.extend([9; 32]);
        raw.extend(b"\x05\x07\xa6xattrs\x81\xa6user.x\xc0\xa5later\x81\x01\x02");
        raw
    }

    #[test]
    fn an_item_cut_anywhere_is_put_together() {
        let raw = [sample(), sample()].concat();
        for cut in 0..raw.len() {
            let mut stream = ItemStream::default();
            let mut items = Vec::new();
            for piece in [&raw[..cut], &raw[cut..]] {
                stream.push(piece);
                while let Some(item) = stream.next_item().unwrap() {
                    items.push(item);
                }
            }
            assert_eq!(items.len(), 2);
            assert!(!stream.is_open());
            assert_eq!(items[0].path, b"a\xffb");
            assert_eq!(items[0].mode, 0o100644);
            assert_eq!(items[0].chunks, Some(vec![Chunk { id: [9; 32], size: 5, stored: 7 }]));
            assert_eq!(items[0].xattrs, [(b"user.x".to_vec(), vec![])]);
        }
    }

    #[test]
    fn an_item_that_never_ends_is_refused() {
        let mut stream = ItemStream::default();
        stream.push(b"\x81\xa4path\xdb\xff\xff\xff\xff");
        let piece = vec![0; 16 << 20];
        let asked = (0..10).take_while(|_| {
            stream.push(&piece);
            matches!(stream.next_item(), Ok(None))
        });
        assert_eq!(asked.count(), 3);
    }

    #[test]
    fn an_item_without_a_path_is_refused() {
        let mut stream = ItemStream::default();
        stream.push(b"\x81\xa4mode\x01");
        assert!(stream.next_item().is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_items_or_an_error(raw in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut stream = ItemStream::default();
            stream.push(&raw);
            while let Ok(Some(_)) = stream.next_item() {}
        }
    }
}
