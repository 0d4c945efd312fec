//! The manifest: which archives a repository has. A msgpack map; `archives` maps names to ids and times.

use super::msgpack::{Reader, Trouble};
use super::{Malformed, ObjectId};

/// Most archives accepted.
const MOST_ARCHIVES: u32 = 400_000;

/// One line of the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The archive's name, as bytes.
    pub name: Vec<u8>,
    /// The id of its description.
    pub id: ObjectId,
}

/// Reads the manifest: its archives, in its order.
pub fn parse(raw: &[u8]) -> Result<Vec<Listed>, Malformed> {
    if raw.starts_with(&[0xc1; 4]) {
        return Err(Malformed::new("it was written by a later version of borg"));
    }
    let mut reader = Reader::new(raw);
    let (mut version, mut archives) = (None, None);
    for _ in 0..reader.map()? {
        match reader.raw()? {
            b"version" => version = Some(reader.int()?),
            b"archives" => archives = Some(archive_list(&mut reader)?),
            b"config" => {
                let before = reader.clone();
                reader.skip()?;
                check_features(before)?;
            }
            _ => reader.skip()?,
        }
    }
    match (version, archives) {
        (Some(1 | 2), Some(archives)) => Ok(archives),
        (Some(1 | 2), None) => Err(Malformed::new("it has no list of archives")),
        _ => Err(Malformed::new("it has an unknown version")),
    }
}

fn archive_list(reader: &mut Reader<'_>) -> Result<Vec<Listed>, Malformed> {
    let count = reader.map()?;
    if count > MOST_ARCHIVES {
        return Err(Malformed::new("it lists too many archives"));
    }
    let mut archives = Vec::new();
    for _ in 0..count {
        let name = reader.raw()?.to_vec();
        let mut id = None;
        for _ in 0..reader.map()? {
            match reader.raw()? {
                b"id" => id = Some(reader.id()?),
                _ => reader.skip()?,
            }
        }
        archives.push(Listed { name, id: id.ok_or(Trouble::Wrong("an archive has no id"))? });
    }
    Ok(archives)
}

/// Features that a reader must know; borg 1.x has none so far.
fn check_features(mut reader: Reader<'_>) -> Result<(), Malformed> {
    for _ in 0..reader.map()? {
        if reader.raw()? != b"feature_flags" {
            reader.skip()?;
            continue;
        }
        for _ in 0..reader.map()? {
            if reader.raw()? != b"read" {
                reader.skip()?;
                continue;
            }
            for _ in 0..reader.map()? {
                if reader.raw()? != b"mandatory" {
                    reader.skip()?;
                } else if reader.array()? > 0 {
                    return Err(Malformed::new("reading it needs a feature of a later version of borg"));
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn archives_come_with_names_and_ids() {
        let raw =
            [&b"\x82\xa8archives\x81\xa4n\xffme\x82\xa2id\xda\x00\x20"[..], &[7; 32], b"\xa4time\xa12\xa7version\x01"]
                .concat();
        assert_eq!(parse(&raw).unwrap(), [Listed { name: b"n\xffme".to_vec(), id: [7; 32] }]);
        assert!(parse(&raw[..raw.len() - 1]).is_err());
    }

    #[test]
    fn a_mandatory_feature_is_refused() {
        let raw =
            b"\x83\xa8archives\x80\xa6config\x81\xadfeature_flags\x81\xa4read\x81\xa9mandatory\x91\xa1x\xa7version\x01";
        assert!(parse(raw).unwrap_err().0.contains("feature"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_manifest_or_an_error(raw in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse(&raw);
            let _ = parse(&[b"\x82\xa8archives", &raw[..]].concat());
            let _ = parse(&[b"\x82\xa6config", &raw[..]].concat());
        }
    }
}
