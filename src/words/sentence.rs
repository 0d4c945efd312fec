//! Sentences that come with their values in them, such as failures and findings: told by their English form.
//!
//! The stages know no languages: what they say is English, made by `format!` from a literal. The literal is the key of the
//! translation, `{names}` and all; here a finished sentence is laid against the keys, its values are taken out and put
//! into the translation. A sentence that fits none stays as it is.

use super::Language;
use std::borrow::Cow;
use std::cmp::Reverse;
use std::sync::OnceLock;

/// A key with fewer letters of its own fits too much.
const FEWEST_LETTERS: usize = 10;

/// One key with places for values.
struct Pattern {
    /// What stands before, between and after the places.
    parts: Vec<&'static str>,
    /// The names of the places; empty ones are filled in their order.
    names: Vec<&'static str>,
    translation: &'static str,
}

/// The sentence in that language.
pub(super) fn told(language: Language, english: &str) -> Option<Cow<'_, str>> {
    let pattern = patterns(language).iter().find_map(|pattern| Some((pattern, pattern.values(english)?)));
    pattern.map(|(pattern, values)| Cow::Owned(pattern.filled(&values)))
}

fn patterns(language: Language) -> &'static [Pattern] {
    static PATTERNS: [OnceLock<Vec<Pattern>>; 4] = [const { OnceLock::new() }; 4];
    let slot = PATTERNS.get(language as usize).unwrap_or(&PATTERNS[0]);
    slot.get_or_init(|| {
        let all = language.catalogue().iter().filter_map(|(key, translation)| Pattern::of(key, translation));
        let mut all: Vec<Pattern> = all.collect();
        // The one that says most itself is meant.
        all.sort_by_key(|pattern| {
            Reverse((pattern.parts.iter().map(|part| part.len()).sum::<usize>(), pattern.parts.clone()))
        });
        all
    })
}

impl Pattern {
    fn of(key: &'static str, translation: &'static str) -> Option<Pattern> {
        let (mut parts, mut names, mut rest) = (Vec::new(), Vec::new(), key);
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}')?;
            parts.push(before);
            names.push(name);
            rest = after;
        }
        parts.push(rest);
        let letters: usize =
            parts.iter().map(|part| part.chars().filter(|letter| letter.is_alphabetic()).count()).sum();
        let is_clear = parts.iter().skip(1).rev().skip(1).all(|part| !part.is_empty());
        (!names.is_empty() && letters >= FEWEST_LETTERS && is_clear).then_some(Pattern { parts, names, translation })
    }

    /// The values in a sentence of this form.
    fn values<'t>(&self, sentence: &'t str) -> Option<Vec<&'t str>> {
        let mut parts = self.parts.iter();
        let mut rest = sentence.strip_prefix(*parts.next()?)?;
        let mut values = Vec::new();
        while let Some(part) = parts.next() {
            let value;
            (value, rest) = match parts.len() {
                0 => (rest.strip_suffix(*part)?, ""),
                _ => rest.split_once(*part)?,
            };
            values.push(value);
        }
        Some(values)
    }

    fn filled(&self, values: &[&str]) -> String {
        let mut unnamed = self.names.iter().zip(values).filter(|(name, _)| name.is_empty());
        let (mut text, mut rest) = (String::new(), self.translation);
        while let Some((before, after)) = rest.split_once('{') {
            let Some((name, after)) = after.split_once('}') else { break };
            let found = match name {
                "" => unnamed.next(),
                name => self.names.iter().zip(values).find(|(known, _)| **known == name),
            };
            let value = found.map_or("", |(_, value)| *value);
            text.push_str(before);
            // What went wrong below may be a sentence itself; a name is none.
            text.push_str(&if value.contains(' ') { super::translated(value) } else { Cow::Borrowed(value) });
            rest = after;
        }
        text + rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_taken_out_of_a_sentence_and_put_into_its_translation() {
        let pattern =
            Pattern::of("the system mounts {device} on '/{point}', not found", "„/{point}“: {device} fehlt").unwrap();
        let values = pattern.values("the system mounts UUID=1 on '/var/lib', not found").unwrap();
        assert_eq!(values, ["UUID=1", "var/lib"]);
        assert_eq!(pattern.filled(&values), "„/var/lib“: UUID=1 fehlt");
        assert!(pattern.values("the system mounts UUID=1, not found").is_none());
        assert!(Pattern::of("{time}, {apps} ({name})", "x").is_none(), "it would fit nearly everything");
        let unnamed = Pattern::of("make room, or leave out {}: --apps {}", "{} weglassen: --apps {}").unwrap();
        let values = unnamed.values("make room, or leave out a, b: --apps c").unwrap();
        assert_eq!(unnamed.filled(&values), "a, b weglassen: --apps c");
    }

    #[test]
    fn a_failure_within_a_failure_is_told_too() {
        let told = told(Language::German, "no FreedomBox is installed on '/mnt'").unwrap();
        assert_eq!(told, "auf „/mnt“ ist keine FreedomBox installiert");
    }
}
