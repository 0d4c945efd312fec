//! POSIX ACLs: from the text that archives carry to the value of `system.posix_acl_access` and `_default`.
//!
//! Text: acl(5) "long text form" and "short text form", entries separated by commas or newlines, `#` starts a comment;
//! archives add a fourth field with the numeric id (`user:NAME:rw-:UID`).
//! Value: Linux `include/uapi/linux/posix_acl_xattr.h`: u32 version 2, then per entry u16 tag, u16 permissions, u32 id,
//! little-endian, sorted by tag and id.

/// Why a text is not an ACL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the access control list entry '{0}' is not understood")]
pub struct BadAcl(String);

const VERSION: u32 = 2;
const NO_ID: u32 = u32::MAX;

/// Turns ACL text into the attribute's value. `number` maps a user (`true`) or group (`false`) name and the id from
/// the archive to this system's id.
pub fn attribute(text: &[u8], number: impl Fn(bool, &[u8], Option<u32>) -> u32) -> Result<Vec<u8>, BadAcl> {
    let mut entries = Vec::new();
    for line in text.split(|&b| b == b'\n' || b == b',') {
        let line = line.split(|&b| b == b'#').next().unwrap_or_default().trim_ascii();
        if !line.is_empty() {
            let entry = entry(line, &number).ok_or_else(|| BadAcl(crate::model::bytes::escape(line)))?;
            entries.push(entry);
        }
    }
    entries.sort_unstable();
    let mut value = VERSION.to_le_bytes().to_vec();
    for (tag, id, permissions) in entries {
        value.extend_from_slice(&tag.to_le_bytes());
        value.extend_from_slice(&permissions.to_le_bytes());
        value.extend_from_slice(&id.to_le_bytes());
    }
    Ok(value)
}

/// The text of an attribute's value, entries separated by commas: with a name and the number where `name` knows the user
/// (`true`) or group (`false`), else with the number alone. `None` when the value is no list.
pub fn text(value: &[u8], name: impl Fn(bool, u32) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    let entries = value.strip_prefix(&VERSION.to_le_bytes())?;
    if entries.len() % 8 != 0 {
        return None;
    }
    let mut text = Vec::new();
    for entry in entries.chunks_exact(8) {
        let &[tag_low, tag_high, permissions, 0, a, b, c, d] = entry else { return None };
        let id = u32::from_le_bytes([a, b, c, d]);
        let (tag, is_user) = match u16::from_le_bytes([tag_low, tag_high]) {
            1 => ("user", None),
            2 => ("user", Some(true)),
            4 => ("group", None),
            8 => ("group", Some(false)),
            16 => ("mask", None),
            32 => ("other", None),
            _ => return None,
        };
        if permissions > 7 {
            return None;
        }
        let letter = |bit, letter| if permissions & bit != 0 { letter } else { b'-' };
        let known = is_user.and_then(|is_user| name(is_user, id)).filter(|name| is_plain(name));
        if !text.is_empty() {
            text.push(b',');
        }
        text.extend_from_slice(tag.as_bytes());
        text.push(b':');
        match (&known, is_user) {
            (Some(name), _) => text.extend_from_slice(name),
            (None, Some(_)) => text.extend_from_slice(id.to_string().as_bytes()),
            (None, None) => {}
        }
        text.extend_from_slice(&[b':', letter(4, b'r'), letter(2, b'w'), letter(1, b'x')]);
        if known.is_some() {
            text.extend_from_slice(format!(":{id}").as_bytes());
        }
    }
    Some(text)
}

/// Whether a name can stand in the text, and is no number there.
fn is_plain(name: &[u8]) -> bool {
    let is_letter = |b: &u8| !matches!(b, b':' | b',' | b'#' | b'\n') && !b.is_ascii_whitespace();
    digits(name).is_none() && !name.is_empty() && name.iter().all(is_letter)
}

fn entry(line: &[u8], number: &impl Fn(bool, &[u8], Option<u32>) -> u32) -> Option<(u16, u32, u16)> {
    let mut fields = line.split(|&b| b == b':');
    let (tag, name, permissions) = (fields.next()?, fields.next()?, fields.next()?);
    let id = fields.next().and_then(digits);
    if fields.next().is_some() {
        return None;
    }
    let permissions = permission_bits(permissions)?;
    let (named_tag, plain_tag, is_user) = match tag {
        b"user" | b"u" => (2, 1, true),
        b"group" | b"g" => (8, 4, false),
        b"mask" | b"m" if name.is_empty() => return Some((16, NO_ID, permissions)),
        b"other" | b"o" if name.is_empty() => return Some((32, NO_ID, permissions)),
        _ => return None,
    };
    if name.is_empty() {
        return Some((plain_tag, NO_ID, permissions));
    }
    let id = id.or_else(|| digits(name));
    Some((named_tag, number(is_user, name, id), permissions))
}

fn digits(text: &[u8]) -> Option<u32> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn permission_bits(text: &[u8]) -> Option<u16> {
    let mut bits = 0;
    for letter in text {
        bits |= match letter {
            b'r' => 4,
            b'w' => 2,
            b'x' => 1,
            b'-' => 0,
            _ => return None,
        };
    }
    Some(bits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_acl_becomes_what_the_kernel_stores() {
        let text = b"user::rw-\nuser:lisa:rwx:1005\ngroup::r--\nmask::rwx\nother::---";
        let value = attribute(text, |is_user, name, id| {
            assert_eq!((is_user, name, id), (true, &b"lisa"[..], Some(1005)));
            77
        })
        .unwrap();
        assert_eq!(value.len(), 4 + 5 * 8);
        assert_eq!(&value[..4], &[2, 0, 0, 0]);
        assert_eq!(&value[12..20], &[2, 0, 7, 0, 77, 0, 0, 0]);
        assert!(attribute(b"user:x", |_, _, _| 0).is_err());
        assert!(attribute(b"mask:who:rwx", |_, _, _| 0).is_err());
    }

    #[test]
    fn what_the_kernel_stores_becomes_text_and_back() {
        let entry = |tag: u16, permissions: u16, id: u32| {
            [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat()
        };
        let entries =
            [entry(1, 6, NO_ID), entry(2, 4, 1005), entry(8, 5, 77), entry(16, 7, NO_ID), entry(32, 0, NO_ID)];
        let value = [VERSION.to_le_bytes().to_vec(), entries.concat()].concat();
        let numbers = text(&value, |_, _| None).unwrap();
        assert_eq!(numbers, b"user::rw-,user:1005:r--,group:77:r-x,mask::rwx,other::---");
        let names = text(&value, |is_user, id| Some(if is_user { b"lisa".to_vec() } else { id.to_string().into() }));
        let names = names.unwrap();
        assert_eq!(names, b"user::rw-,user:lisa:r--:1005,group:77:r-x,mask::rwx,other::---");
        for form in [numbers, names] {
            assert_eq!(attribute(&form, |_, _, id| id.unwrap()).unwrap(), value);
        }
        for bad in [&value[1..], &value[..value.len() - 1], b"", &[&value[..], &entry(3, 6, 0)].concat()] {
            assert_eq!(text(bad, |_, _| None), None);
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = attribute(&text, |_, _, id| id.unwrap_or(0));
        }
    }
}
