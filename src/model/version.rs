//! Debian package versions, ordered as dpkg orders them (Debian Policy 4.7, section 5.6.12).

use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::fmt;

/// A Debian version, `[epoch:]upstream[-revision]`; also orders bare FreedomBox versions such as `25.9.3`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(String);

impl Version {
    /// Takes any text: dpkg's order is total over all strings.
    pub fn new(text: &str) -> Self {
        Self(text.trim().to_owned())
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Only the upstream part, without epoch, revision and Debian's `+debNuM`, `~bpoN` suffixes.
    pub fn upstream(&self) -> Version {
        let (_, upstream, _) = self.split();
        let end = upstream.find(['+', '~']).unwrap_or(upstream.len());
        Version(upstream.get(..end).unwrap_or(upstream).to_owned())
    }

    fn split(&self) -> (u64, &str, &str) {
        let (epoch, rest) = match self.0.split_once(':') {
            Some((epoch, rest)) => (epoch.parse().unwrap_or(0), rest),
            None => (0, self.0.as_str()),
        };
        let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
        (epoch, upstream, revision)
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (self.split(), other.split());
        a.0.cmp(&b.0).then_with(|| compare_part(a.1, b.1)).then_with(|| compare_part(a.2, b.2))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Version {}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Compares alternating runs of non-digits (tilde before end before letters before the rest) and of digits.
fn compare_part(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        let (word_a, rest_a) = split_run(a, |c| !c.is_ascii_digit());
        let (word_b, rest_b) = split_run(b, |c| !c.is_ascii_digit());
        let words = (0..word_a.len().max(word_b.len()))
            .map(|i| weight(word_a.get(i)).cmp(&weight(word_b.get(i))))
            .find(|order| order.is_ne());
        let (digits_a, rest_a) = split_run(rest_a, |c| c.is_ascii_digit());
        let (digits_b, rest_b) = split_run(rest_b, |c| c.is_ascii_digit());
        let order = words.unwrap_or_else(|| number(digits_a).cmp(&number(digits_b)));
        if order.is_ne() || (rest_a.is_empty() && rest_b.is_empty()) {
            return order;
        }
        (a, b) = (rest_a, rest_b);
    }
}

fn split_run(text: &[u8], belongs: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    text.split_at(text.iter().position(|&c| !belongs(c)).unwrap_or(text.len()))
}

fn weight(c: Option<&u8>) -> u16 {
    match c {
        Some(b'~') => 0,
        None => 1,
        Some(c) if c.is_ascii_alphabetic() => 2 + u16::from(*c),
        Some(c) => 300 + u16::from(*c),
    }
}

/// Digit runs compare as numbers of any length: without leading zeros, the longer is the larger.
fn number(digits: &[u8]) -> (usize, &[u8]) {
    let (_, significant) = split_run(digits, |c| c == b'0');
    (significant.len(), significant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_order_as_dpkg_orders_them() {
        let ascending = [
            "0.9",
            "0.36.0",
            "19.16",
            "23.6.2+deb12u1",
            "25.9.3",
            "25.9.3+deb13u1",
            "25.10",
            "26.14~bpo13+1",
            "26.14",
            "1:0.1",
        ];
        for pair in ascending.windows(2) {
            assert!(Version::new(pair[0]) < Version::new(pair[1]), "{pair:?}");
        }
        assert_eq!(Version::new("1.0-0"), Version::new("1.0"));
        assert!(Version::new("1.0~~") < Version::new("1.0~"));
        assert!(Version::new("1.0a") < Version::new("1.0+"));
        assert_eq!(Version::new("26.15~bpo13+1").upstream().as_str(), "26.15");
        assert_eq!(Version::new("23.6.2+deb12u1").upstream().as_str(), "23.6.2");
    }
}
