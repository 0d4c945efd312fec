//! User and group names of an installed system: passwd(5) and group(5).
//!
//! Only names and numbers are read. A line that is not of the form is left out, as the C library does.

use std::collections::HashMap;

/// Names to numbers, from one file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names(HashMap<Vec<u8>, u32>);

impl Names {
    /// Parses either file: the name is field 1, the number field 3. The first line of a name holds.
    pub fn parse(text: &[u8]) -> Names {
        let mut names = HashMap::new();
        for line in text.split(|&b| b == b'\n') {
            let mut fields = line.split(|&b| b == b':');
            let (Some(name), Some(_), Some(number)) = (fields.next(), fields.next(), fields.next()) else { continue };
            let number = std::str::from_utf8(number).ok().and_then(|digits| digits.parse().ok());
            if let (false, Some(number)) = (name.is_empty() || name.starts_with(b"#"), number) {
                names.entry(name.to_vec()).or_insert(number);
            }
        }
        Names(names)
    }

    /// The names by their numbers; the alphabetically first where several have one.
    pub fn by_number(&self) -> HashMap<u32, Vec<u8>> {
        let mut names: Vec<_> = self.0.iter().collect();
        names.sort_unstable_by(|a, b| b.cmp(a));
        names.into_iter().map(|(name, number)| (*number, name.clone())).collect()
    }

    /// The number of `name`.
    pub fn number(&self, name: &[u8]) -> Option<u32> {
        self.0.get(name).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_numbers_of_this_system() {
        let names = Names::parse(b"root:x:0:0:root:/root:/bin/bash\n#x:x:1:\nbad line\nwww-data:x:33:33::/:\nroot:x:9:9\nhuge:x:99999999999:1\n");
        assert_eq!(names.number(b"root"), Some(0));
        assert_eq!(names.number(b"www-data"), Some(33));
        assert_eq!(names.number(b"huge"), None);
        assert_eq!(names.number(b"#x"), None);
    }
}
