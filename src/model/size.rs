//! Sizes in bytes, shown for people in binary units.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign};

/// A number of bytes; arithmetic saturates, so a hostile size cannot wrap into a small one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// The difference, or zero.
    pub fn less(self, other: ByteSize) -> ByteSize {
        ByteSize(self.0.saturating_sub(other.0))
    }
}

impl Add for ByteSize {
    type Output = ByteSize;
    fn add(self, other: ByteSize) -> ByteSize {
        ByteSize(self.0.saturating_add(other.0))
    }
}

impl AddAssign for ByteSize {
    fn add_assign(&mut self, other: ByteSize) {
        *self = *self + other;
    }
}

impl Sum for ByteSize {
    fn sum<I: Iterator<Item = ByteSize>>(sizes: I) -> ByteSize {
        sizes.fold(ByteSize(0), Add::add)
    }
}

impl fmt::Display for ByteSize {
    /// Three significant digits: `512 B`, `1.50 MiB`, `29.8 GiB`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut unit = "B";
        let (mut whole, mut scale) = (self.0, 1u64);
        for next in ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"] {
            if whole < 1024 {
                break;
            }
            whole /= 1024;
            scale = scale.saturating_mul(1024);
            unit = next;
        }
        if scale == 1 {
            return write!(f, "{whole} B");
        }
        let hundredths = (u128::from(self.0 % scale) * 100) / u128::from(scale);
        match whole {
            0..10 => write!(f, "{whole}.{hundredths:02} {unit}"),
            10..100 => write!(f, "{whole}.{} {unit}", hundredths / 10),
            _ => write!(f, "{whole} {unit}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_people_say_them() {
        for (bytes, text) in
            [(0, "0 B"), (1023, "1023 B"), (1536, "1.50 KiB"), (32 << 30, "32.0 GiB"), (1_000_204_886_016, "931 GiB")]
        {
            assert_eq!(ByteSize(bytes).to_string(), text);
        }
        assert_eq!(ByteSize(u64::MAX) + ByteSize(1), ByteSize(u64::MAX));
    }
}
