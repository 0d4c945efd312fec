//! The fields of a header block.

use super::BLOCK;

/// Where the checksum lies in a header block (POSIX.1-2017, ustar).
const CHECKSUM: std::ops::Range<usize> = 148..156;

/// Whether the block's checksum is right. Old writers summed signed bytes; GNU tar accepts both, and so does this.
pub(super) fn checksum_is_right(block: &[u8; BLOCK]) -> bool {
    let Some(stored) = block.get(CHECKSUM).filter(|field| has_digits(field)).and_then(number) else { return false };
    let bytes = || block.iter().enumerate().map(|(at, &byte)| if CHECKSUM.contains(&at) { b' ' } else { byte });
    let unsigned: i64 = bytes().map(i64::from).sum();
    let signed: i64 = bytes().map(|byte| i64::from(i8::from_ne_bytes([byte]))).sum();
    stored == unsigned || stored == signed
}

/// Whether a number field holds a number at all; `number` reads a blank one as zero.
pub(super) fn has_digits(field: &[u8]) -> bool {
    field.first().is_some_and(|&first| first & 0x80 != 0) || field.iter().any(u8::is_ascii_digit)
}

/// A number field: octal digits after optional spaces, ended by a space, a NUL or the field; or, with the first bit
/// set, a big-endian two's complement number in the remaining bits (GNU base-256). Blank is zero.
pub(super) fn number(field: &[u8]) -> Option<i64> {
    let (&first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        let top = i128::from(first & 0x7f) - if first & 0x40 != 0 { 0x80 } else { 0 };
        let value = rest.iter().try_fold(top, |value, &byte| value.checked_mul(256).map(|v| v + i128::from(byte)))?;
        return i64::try_from(value).ok();
    }
    let digits = field.trim_ascii_start();
    let end = digits.iter().position(|&b| b == 0 || b == b' ').unwrap_or(digits.len());
    digits.get(..end)?.iter().try_fold(0i64, |value, &digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

/// A decimal number without sign, up to `i64::MAX`, as PAX records write it.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    let value = text.iter().try_fold(0u64, |value, &digit| match digit {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })?;
    (value <= i64::MAX as u64).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octal_and_base_256_numbers_are_read_with_their_sign() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"   644 \0"), Some(0o644));
        assert_eq!(number(b"77777777777"), Some(0o77777777777));
        assert_eq!(number(b"\0\0\0\0"), Some(0));
        assert_eq!(number(b"0000648\0"), None);
        assert_eq!(number(b"-1\0"), None);
        assert_eq!(number(&[0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]), Some(2 << 32));
        assert_eq!(number(&[0xff; 12]), Some(-1));
        assert_eq!(number(&[0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), None);
    }

    #[test]
    fn decimal_numbers_have_no_sign_and_end_at_i64_max() {
        assert_eq!(decimal(b"9223372036854775807"), Some(i64::MAX as u64));
        for bad in [&b"9223372036854775808"[..], b"", b"-1", b"+1", b"1 ", b"0x1"] {
            assert_eq!(decimal(bad), None);
        }
    }
}
