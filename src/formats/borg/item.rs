//! Items: what an archive says about one path each. A sequence of msgpack maps, cut into pieces anywhere.

use super::msgpack::{Reader, Trouble, Value};
use super::{Malformed, ObjectId};

/// Names of what an item says, one of which comes first; from the documentation of borg 1.4, "Internals", "Items".
const KEYS: [&[u8]; 26] = [
    b"acl_access",
    b"acl_default",
    b"acl_extended",
    b"acl_nfs4",
    b"atime",
    b"birthtime",
    b"bsdflags",
    b"chunks",
    b"chunks_healthy",
    b"ctime",
    b"deleted",
    b"gid",
    b"group",
    b"hardlink_master",
    b"hlid",
    b"mode",
    b"mtime",
    b"nlink",
    b"part",
    b"path",
    b"rdev",
    b"size",
    b"source",
    b"uid",
    b"user",
    b"xattrs",
];
/// A map's head and its first key are shorter than this.
const LONGEST_BEGIN: usize = 24;
/// Most extended attributes of one item: Linux lists no more than 64 KiB of names, each with an end and a namespace.
const MOST_XATTRS: u32 = 16 << 10;
/// What an attribute takes in memory besides its bytes.
const COST_OF_XATTR: usize = 64;
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
    /// How long the item itself is, packed, and what its attributes take in memory besides.
    pub length: usize,
    /// Whether it is a part of a file whose backup was interrupted.
    pub is_part: bool,
}

/// Puts items together from the pieces of the stream.
#[derive(Debug, Default)]
pub struct ItemStream {
    buffer: Vec<u8>,
    at: usize,
    /// Whether the start of an item has to be looked for: what stood before is lost.
    is_astray: bool,
}

impl ItemStream {
    /// Says that a piece is missing here: goes on with the first item that begins behind it.
    pub fn lose(&mut self) {
        self.buffer.clear();
        self.at = 0;
        self.is_astray = true;
    }

    /// Appends the next piece.
    pub fn push(&mut self, piece: &[u8]) {
        self.buffer.drain(..self.at.min(self.buffer.len()));
        self.at = 0;
        self.buffer.extend_from_slice(piece);
    }

    /// The next item; `None` when another piece is needed.
    pub fn next_item(&mut self) -> Result<Option<Item>, Malformed> {
        if self.is_astray {
            self.at = self.find();
        }
        let rest = self.buffer.get(self.at..).unwrap_or_default();
        let mut reader = Reader::new(rest);
        if rest.is_empty() {
            return Ok(None);
        }
        match parse(&mut reader) {
            Ok(mut item) => {
                self.at += reader.position();
                item.length = reader.position() + COST_OF_XATTR * item.xattrs.len();
                self.is_astray = false;
                Ok(Some(item))
            }
            Err(Trouble::Short) if rest.len() <= LONGEST_ITEM => Ok(None),
            Err(Trouble::Short) => Err(Malformed::new("an item is too long")),
            Err(trouble) => Err(trouble.into()),
        }
    }

    /// Where the first item begins that is whole, or that the next piece may make whole.
    fn find(&self) -> usize {
        let is_item = |at: &usize| {
            let rest = self.buffer.get(*at..).unwrap_or_default();
            begins_like_an_item(rest)
                && match parse(&mut Reader::new(rest)) {
                    Ok(_) => true,
                    Err(trouble) => trouble == Trouble::Short && rest.len() <= LONGEST_ITEM,
                }
        };
        (self.at..self.buffer.len()).find(is_item).unwrap_or(self.buffer.len())
    }

    /// Whether an item is only half there.
    pub fn is_open(&self) -> bool {
        self.at < self.buffer.len() && !self.is_astray
    }
}

/// Whether bytes begin with a map whose first key is one of an item, or with the begin of one.
fn begins_like_an_item(raw: &[u8]) -> bool {
    let mut reader = Reader::new(raw);
    match reader.map().and_then(|count| if count == 0 { Ok(&b""[..]) } else { reader.raw() }) {
        Ok(key) => KEYS.contains(&key),
        Err(trouble) => trouble == Trouble::Short && raw.len() < LONGEST_BEGIN,
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
    if count > MOST_XATTRS {
        return Err(Trouble::Wrong("an item has more attributes than a file can have"));
    }
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
    fn behind_a_lost_piece_items_are_found_again_wherever_it_was_cut() {
        let raw = sample();
        for cut in 0..=raw.len() {
            let mut stream = ItemStream::default();
            stream.push(&[&raw, &raw[..cut]].concat());
            assert!(stream.next_item().unwrap().is_some());
            stream.lose();
            let behind = [&raw[cut..], &raw, &raw].concat();
            let mut items = 0;
            for piece in behind.chunks(7) {
                stream.push(piece);
                while let Some(item) = stream.next_item().unwrap() {
                    assert_eq!(item.path, b"a\xffb");
                    items += 1;
                }
            }
            assert_eq!((items, stream.is_open()), (if cut == 0 { 3 } else { 2 }, false), "cut at {cut}");
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
