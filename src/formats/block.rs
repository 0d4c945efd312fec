//! A block of foreign bytes with checked access to the numbers and names in it.

use super::ReadAt;
use std::io;

/// Largest block that a parser asks for at once.
pub const LARGEST_BLOCK: usize = 1 << 20;

/// Bytes read from one place; every access is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block(Vec<u8>);

impl Block {
    /// Reads exactly `length` bytes at `offset`; `None` when the source ends before that, or more than
    /// [`LARGEST_BLOCK`] was asked for.
    pub fn read(source: &(impl ReadAt + ?Sized), offset: u64, length: usize) -> io::Result<Option<Block>> {
        let end = offset.checked_add(length as u64);
        if length > LARGEST_BLOCK || end.is_none_or(|end| end > source.length()) {
            return Ok(None);
        }
        let mut bytes = vec![0; length];
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match source.read_at(offset.saturating_add(filled as u64), rest) {
                Ok(0) => return Ok(None),
                Ok(count) => filled = filled.saturating_add(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Some(Block(bytes)))
    }

    /// Bytes that are there already.
    pub fn of(bytes: Vec<u8>) -> Block {
        Block(bytes)
    }

    /// All bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// `length` bytes at `at`.
    pub fn part(&self, at: usize, length: usize) -> Option<&[u8]> {
        self.0.get(at..at.checked_add(length)?)
    }

    /// Whether `magic` is at `at`.
    pub fn has(&self, at: usize, magic: &[u8]) -> bool {
        self.part(at, magic.len()) == Some(magic)
    }

    fn array<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.part(at, N)?.try_into().ok()
    }

    /// One byte.
    pub fn u8(&self, at: usize) -> Option<u8> {
        self.0.get(at).copied()
    }

    /// A little-endian number.
    pub fn le16(&self, at: usize) -> Option<u16> {
        self.array(at).map(u16::from_le_bytes)
    }

    /// A little-endian number.
    pub fn le32(&self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_le_bytes)
    }

    /// A little-endian number.
    pub fn le64(&self, at: usize) -> Option<u64> {
        self.array(at).map(u64::from_le_bytes)
    }

    /// A big-endian number.
    pub fn be16(&self, at: usize) -> Option<u16> {
        self.array(at).map(u16::from_be_bytes)
    }

    /// A big-endian number.
    pub fn be32(&self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_be_bytes)
    }

    /// A text field that ends at its first NUL, trailing blanks dropped; `None` when nothing is left.
    pub fn text(&self, at: usize, length: usize) -> Option<String> {
        let field = self.part(at, length)?;
        let field = field.split(|&b| b == 0).next().unwrap_or_default().trim_ascii_end();
        (!field.is_empty()).then(|| crate::model::bytes::escape(field))
    }

    /// A UTF-16LE text field of `units` units that ends at its first NUL.
    pub fn utf16(&self, at: usize, units: usize) -> Option<String> {
        let field = self.part(at, units.checked_mul(2)?)?;
        let units = field.as_chunks::<2>().0.iter().map(|pair| u16::from_le_bytes(*pair)).take_while(|unit| *unit != 0);
        let text: String = char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
        (!text.is_empty()).then(|| crate::model::bytes::escape(text.as_bytes()))
    }

    /// Sixteen bytes written as a UUID in their order; `None` when all are zero.
    pub fn uuid(&self, at: usize) -> Option<String> {
        let raw: [u8; 16] = self.array(at)?;
        (raw != [0; 16]).then(|| uuid_text(raw))
    }

    /// A GUID as GPT and Microsoft store it: the first three fields are little-endian.
    pub fn guid(&self, at: usize) -> Option<[u8; 16]> {
        let mut raw: [u8; 16] = self.array(at)?;
        for field in [0..4, 4..6, 6..8] {
            raw.get_mut(field)?.reverse();
        }
        Some(raw)
    }
}

impl From<Vec<u8>> for Block {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

/// `8-4-4-4-12` lower-case digits.
pub fn uuid_text(raw: [u8; 16]) -> String {
    let digits = u128::from_be_bytes(raw);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        digits >> 96,
        (digits >> 80) & 0xffff,
        (digits >> 64) & 0xffff,
        (digits >> 48) & 0xffff,
        digits & 0xffff_ffff_ffff
    )
}
