//! Access control lists in the kernel's binary form, as `system.posix_acl_access` and `_default` hold them.
//!
//! GNU tar with `--xattrs` as root stores them besides the text in `SCHILY.acl.*`. Format: `linux/posix_acl_xattr.h`, a
//! version, then entries of tag, permissions and id, little-endian.

const VERSION: [u8; 4] = [2, 0, 0, 0];

/// The list in text form with numeric ids, entries separated by commas (acl(5)); `None` when it is not one.
pub(super) fn to_text(raw: &[u8]) -> Option<Vec<u8>> {
    let entries = raw.strip_prefix(&VERSION)?;
    if entries.len() % 8 != 0 {
        return None;
    }
    let texts = entries.chunks_exact(8).map(|entry| {
        let &[tag_low, tag_high, perm_low, perm_high, a, b, c, d] = entry else { return None };
        let id = u32::from_le_bytes([a, b, c, d]);
        let who = match u16::from_le_bytes([tag_low, tag_high]) {
            0x01 => "user:".to_owned(),
            0x02 => format!("user:{id}"),
            0x04 => "group:".to_owned(),
            0x08 => format!("group:{id}"),
            0x10 => "mask:".to_owned(),
            0x20 => "other:".to_owned(),
            _ => return None,
        };
        let permissions = u16::from_le_bytes([perm_low, perm_high]);
        if permissions > 7 {
            return None;
        }
        let letter = |bit, letter| if permissions & bit != 0 { letter } else { '-' };
        Some(format!("{who}:{}{}{}", letter(4, 'r'), letter(2, 'w'), letter(1, 'x')))
    });
    texts.collect::<Option<Vec<_>>>().map(|texts| texts.join(",").into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binary_form_is_written_as_text_or_refused() {
        let entry = |tag: u16, permissions: u16, id: u32| {
            [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat()
        };
        let raw =
            [VERSION.to_vec(), entry(1, 6, u32::MAX), entry(2, 4, 4711), entry(0x10, 7, 0), entry(0x20, 0, 0)].concat();
        assert_eq!(to_text(&raw).unwrap(), b"user::rw-,user:4711:r--,mask::rwx,other::---");
        for bad in [&raw[1..], &raw[..raw.len() - 1], b"", &[VERSION.to_vec(), entry(3, 6, 0)].concat()] {
            assert_eq!(to_text(bad), None);
        }
    }
}
