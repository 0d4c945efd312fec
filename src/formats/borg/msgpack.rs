//! MessagePack as borg 1.x writes it (the msgpack specification; "raw" strings hold text and bytes alike).
//!
//! A cursor over borrowed bytes: nothing is copied and nothing allocated, so an announced length costs nothing. Text is
//! bytes, because borg stores names that are no UTF-8 as they are.

use super::Malformed;

/// Deepest nesting that is followed.
const DEEPEST: usize = 32;

/// One value, or the head of one that holds others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// Nothing.
    Nil,
    /// A truth value.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// An integer beyond `i64`.
    Large(u64),
    /// A floating-point number, which borg never writes.
    Float,
    /// Text or bytes.
    Bytes(&'a [u8]),
    /// So many values follow.
    Array(u32),
    /// So many pairs of values follow.
    Map(u32),
}

/// Reads values one after the other.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    whole: &'a [u8],
    at: usize,
}

/// Why a value could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// The bytes end inside it.
    Short,
    /// It is not what was expected.
    Wrong(&'static str),
}

impl From<Trouble> for Malformed {
    fn from(trouble: Trouble) -> Malformed {
        Malformed::new(match trouble {
            Trouble::Short => "the data ends early",
            Trouble::Wrong(what) => what,
        })
    }
}

impl<'a> Reader<'a> {
    /// A reader at the start of `whole`.
    pub fn new(whole: &'a [u8]) -> Self {
        Self { whole, at: 0 }
    }

    /// How many bytes were read.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Whether everything was read.
    pub fn is_at_end(&self) -> bool {
        self.at >= self.whole.len()
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Trouble> {
        let end = self.at.checked_add(count).ok_or(Trouble::Short)?;
        let part = self.whole.get(self.at..end).ok_or(Trouble::Short)?;
        self.at = end;
        Ok(part)
    }

    fn number<const N: usize>(&mut self) -> Result<u64, Trouble> {
        Ok(self.take(N)?.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    }

    fn length<const N: usize>(&mut self) -> Result<u32, Trouble> {
        u32::try_from(self.number::<N>()?).map_err(|_| Trouble::Wrong("a length is too large"))
    }

    fn bytes(&mut self, length: u32) -> Result<Value<'a>, Trouble> {
        Ok(Value::Bytes(self.take(usize::try_from(length).map_err(|_| Trouble::Short)?)?))
    }

    /// The next value.
    pub fn value(&mut self) -> Result<Value<'a>, Trouble> {
        let [first] = *self.take(1)? else { return Err(Trouble::Short) };
        let low = u32::from(first & 0x0f);
        Ok(match first {
            0x00..=0x7f => Value::Int(i64::from(first)),
            0x80..=0x8f => Value::Map(low),
            0x90..=0x9f => Value::Array(low),
            0xa0..=0xbf => self.bytes(u32::from(first & 0x1f))?,
            0xc0 => Value::Nil,
            0xc1 => return Err(Trouble::Wrong("it has a value of a kind that does not exist")),
            0xc2 => Value::Bool(false),
            0xc3 => Value::Bool(true),
            0xc4 | 0xd9 => self.length::<1>().and_then(|length| self.bytes(length))?,
            0xc5 | 0xda => self.length::<2>().and_then(|length| self.bytes(length))?,
            0xc6 | 0xdb => self.length::<4>().and_then(|length| self.bytes(length))?,
            0xc7..=0xc9 | 0xd4..=0xd8 => return Err(Trouble::Wrong("it has an extension value")),
            0xca => self.take(4).map(|_| Value::Float)?,
            0xcb => self.take(8).map(|_| Value::Float)?,
            0xcc => unsigned(self.number::<1>()?),
            0xcd => unsigned(self.number::<2>()?),
            0xce => unsigned(self.number::<4>()?),
            0xcf => unsigned(self.number::<8>()?),
            0xd0 => Value::Int(i64::from(self.number::<1>()? as u8 as i8)),
            0xd1 => Value::Int(i64::from(self.number::<2>()? as u16 as i16)),
            0xd2 => Value::Int(i64::from(self.number::<4>()? as u32 as i32)),
            0xd3 => Value::Int(self.number::<8>()? as i64),
            0xdc => Value::Array(self.length::<2>()?),
            0xdd => Value::Array(self.length::<4>()?),
            0xde => Value::Map(self.length::<2>()?),
            0xdf => Value::Map(self.length::<4>()?),
            0xe0..=0xff => Value::Int(i64::from(first as i8)),
        })
    }

    /// Passes over one value with everything in it.
    pub fn skip(&mut self) -> Result<(), Trouble> {
        // How many values are left on each level; a level is left when its count is used up.
        let mut left = [0u64; DEEPEST];
        let mut depth = 0;
        loop {
            let inner = match self.value()? {
                Value::Array(count) => u64::from(count),
                Value::Map(count) => 2 * u64::from(count),
                _ => 0,
            };
            if inner > 0 {
                *left.get_mut(depth).ok_or(Trouble::Wrong("it is nested too deeply"))? = inner;
                depth += 1;
            }
            loop {
                let Some(outer) = depth.checked_sub(1) else { return Ok(()) };
                let Some(count) = left.get_mut(outer) else { return Ok(()) };
                if *count > 0 {
                    *count -= 1;
                    break;
                }
                depth = outer;
            }
        }
    }

    /// A value that must be bytes.
    pub fn raw(&mut self) -> Result<&'a [u8], Trouble> {
        match self.value()? {
            Value::Bytes(raw) => Ok(raw),
            _ => Err(Trouble::Wrong("something else stands where text is expected")),
        }
    }

    /// A value that must be bytes or nothing.
    pub fn raw_or_nil(&mut self) -> Result<Option<&'a [u8]>, Trouble> {
        match self.value()? {
            Value::Bytes(raw) => Ok(Some(raw)),
            Value::Nil => Ok(None),
            _ => Err(Trouble::Wrong("something else stands where text is expected")),
        }
    }

    /// A value that must be an id.
    pub fn id(&mut self) -> Result<super::ObjectId, Trouble> {
        self.raw()?.try_into().map_err(|_| Trouble::Wrong("an id does not have 32 bytes"))
    }

    /// A value that must be an integer. Borg writes one beyond 64 bits as bytes in two's complement, little-endian.
    pub fn int(&mut self) -> Result<i128, Trouble> {
        match self.value()? {
            Value::Int(value) => Ok(i128::from(value)),
            Value::Large(value) => Ok(i128::from(value)),
            Value::Bytes(raw) if (1..=16).contains(&raw.len()) => {
                let fill = if raw.last().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 };
                let mut wide = [fill; 16];
                wide.iter_mut().zip(raw).for_each(|(to, from)| *to = *from);
                Ok(i128::from_le_bytes(wide))
            }
            _ => Err(Trouble::Wrong("something else stands where a number is expected")),
        }
    }

    /// The head of a map: how many pairs follow.
    pub fn map(&mut self) -> Result<u32, Trouble> {
        match self.value()? {
            Value::Map(count) => Ok(count),
            _ => Err(Trouble::Wrong("something else stands where a map is expected")),
        }
    }

    /// The head of an array: how many values follow.
    pub fn array(&mut self) -> Result<u32, Trouble> {
        match self.value()? {
            Value::Array(count) => Ok(count),
            _ => Err(Trouble::Wrong("something else stands where a list is expected")),
        }
    }

    /// A list whose values are read by `each`; memory grows with what is there, not with what is announced.
    pub fn list<T>(&mut self, mut each: impl FnMut(&mut Self) -> Result<T, Trouble>) -> Result<Vec<T>, Trouble> {
        (0..self.array()?).map(|_| each(self)).collect()
    }
}

fn unsigned(value: u64) -> Value<'static> {
    i64::try_from(value).map_or(Value::Large(value), Value::Int)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_form_of_integer_and_text_is_read() {
        let cases: [(&[u8], i128); 10] = [
            (b"\x07", 7),
            (b"\xff", -1),
            (b"\xcc\xff", 255),
            (b"\xcd\x01\x00", 256),
            (b"\xd0\x80", -128),
            (b"\xd1\xff\xfe", -2),
            (b"\xd2\xff\xff\xff\xfd", -3),
            (b"\xd3\xff\xff\xff\xff\xff\xff\xff\xfc", -4),
            (b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", u64::MAX as i128),
            (b"\xa3\x00\x00\xff", -65536),
        ];
        for (raw, value) in cases {
            assert_eq!(Reader::new(raw).int(), Ok(value), "{raw:x?}");
        }
        for raw in [&b"\xa2hi"[..], b"\xd9\x02hi", b"\xda\x00\x02hi", b"\xdb\x00\x00\x00\x02hi", b"\xc4\x02hi"] {
            assert_eq!(Reader::new(raw).raw(), Ok(&b"hi"[..]));
        }
    }

    #[test]
    fn announced_lengths_beyond_the_end_are_short_and_deep_nesting_is_refused() {
        assert_eq!(Reader::new(b"\xdb\xff\xff\xff\xffx").raw(), Err(Trouble::Short));
        assert_eq!(Reader::new(b"\xdd\xff\xff\xff\xff").list(|reader| reader.int()), Err(Trouble::Short));
        assert!(matches!(Reader::new(&[0x91; 100]).skip(), Err(Trouble::Wrong(_))));
        let nested = [&[0x91; 20][..], &[0x01]].concat();
        assert_eq!(Reader::new(&nested).skip(), Ok(()));
    }

    #[test]
    fn skipping_ends_behind_the_value() {
        let raw = b"\x82\xa1a\x93\x01\x02\x90\xa1b\x80\x05";
        let mut reader = Reader::new(raw);
        reader.skip().unwrap();
        assert_eq!(reader.value(), Ok(Value::Int(5)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_values_or_an_error(raw in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut reader = Reader::new(&raw);
            while reader.value().is_ok() {}
            let mut reader = Reader::new(&raw);
            while reader.skip().is_ok() {}
            prop_assert!(reader.position() <= raw.len());
        }
    }
}
