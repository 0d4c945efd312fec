//! The description of one archive: a msgpack map with its times and the list of the pieces of its item stream.

use super::msgpack::Reader;
use super::{Malformed, ObjectId};

/// One archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Its name when it was made; the manifest's counts.
    pub name: Vec<u8>,
    /// When the backup began, ISO 8601 without a zone, in UTC.
    pub time: Vec<u8>,
    /// The pieces of the item stream, in order.
    pub items: Vec<ObjectId>,
}

/// Reads a description.
pub fn parse(raw: &[u8]) -> Result<Description, Malformed> {
    let mut reader = Reader::new(raw);
    let (mut version, mut name, mut time, mut items) = (None, None, None, None);
    for _ in 0..reader.map()? {
        match reader.raw()? {
            b"version" => version = Some(reader.int()?),
            b"name" => name = Some(reader.raw()?.to_vec()),
            b"time" => time = Some(reader.raw()?.to_vec()),
            b"items" => items = Some(reader.list(Reader::id)?),
            _ => reader.skip()?,
        }
    }
    match (version, name, time, items) {
        (Some(1), Some(name), Some(time), Some(items)) => Ok(Description { name, time, items }),
        (Some(1), ..) => Err(Malformed::new("a part of it is missing")),
        _ => Err(Malformed::new("it has an unknown version")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_description_has_a_time_and_items() {
        let raw =
            [&b"\x84\xa4name\xa1n\xa5items\x91\xda\x00\x20"[..], &[7; 32], b"\xa4time\xa3now\xa7version\x01"].concat();
        assert_eq!(
            parse(&raw).unwrap(),
            Description { name: b"n".to_vec(), time: b"now".to_vec(), items: vec![[7; 32]] }
        );
        assert!(parse(b"\x81\xa7version\x02").is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_description_or_an_error(raw in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse(&raw);
            let _ = parse(&[b"\x81\xa5items", &raw[..]].concat());
        }
    }
}
