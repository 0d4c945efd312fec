//! The translations: every text has one in every language, and nothing is translated that is not there.

#![allow(clippy::unwrap_used, reason = "this is test code")]

use lifeboat::words::Language;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The literals of all sources, as the program has them.
struct Sources {
    /// The texts inside of `t!`.
    marked: BTreeMap<String, String>,
    /// Every literal.
    literals: BTreeSet<String>,
}

fn sources() -> Sources {
    let mut found = Sources { marked: BTreeMap::new(), literals: BTreeSet::new() };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = walkdir::WalkDir::new(&root).into_iter().map(Result::unwrap);
    for file in files.filter(|file| file.path().extension().is_some_and(|ending| ending == "rs")) {
        let text = std::fs::read_to_string(file.path()).unwrap();
        // Tests may say what they want.
        let code = text.split("\n#[cfg(test)]\nmod ").next().unwrap();
        let name = file.path().strip_prefix(&root).unwrap().display().to_string();
        for (before, literal) in literals(code) {
            if before.ends_with("t!(") && !before.ends_with("assert!(") && !is_longer_name(&before) {
                found.marked.insert(literal.clone(), name.clone());
            }
            found.literals.insert(literal);
        }
    }
    found
}

/// Whether another macro's name ends with the same letter: `assert!(`, `print!(`.
fn is_longer_name(before: &str) -> bool {
    before.trim_end_matches("t!(").ends_with(|letter: char| letter.is_alphanumeric() || letter == '_')
}

/// The string literals of a source with the code before each, without blanks. Comments are passed over.
fn literals(code: &str) -> Vec<(String, String)> {
    let (mut found, mut before, mut rest) = (Vec::new(), String::new(), code);
    while let Some(letter) = rest.chars().next() {
        if rest.starts_with("//") {
            rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
        } else if rest.starts_with("'\"'") || rest.starts_with("'\\\"'") {
            rest = &rest[rest[1..].find('\'').unwrap() + 2..];
        } else if letter == '"' {
            let (literal, after) = literal(&rest[1..]);
            found.push((std::mem::take(&mut before), literal));
            rest = after;
        } else {
            if !letter.is_whitespace() {
                before.push(letter);
            }
            rest = &rest[letter.len_utf8()..];
        }
    }
    found
}

/// One literal up to its closing quote, with its escapes resolved.
fn literal(text: &str) -> (String, &str) {
    let (mut literal, mut rest) = (String::new(), text);
    loop {
        let letter = rest.chars().next().unwrap();
        rest = &rest[letter.len_utf8()..];
        match letter {
            '"' => return (literal, rest),
            '\\' => {
                let escaped = rest.chars().next().unwrap();
                rest = &rest[escaped.len_utf8()..];
                match escaped {
                    '\n' => rest = rest.trim_start(),
                    'n' => literal.push('\n'),
                    other => literal.push(other),
                }
            }
            other => literal.push(other),
        }
    }
}

/// The names in braces.
fn places(text: &str) -> BTreeSet<&str> {
    text.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name).collect()
}

#[test]
fn every_text_is_translated_into_every_language() {
    let sources = sources();
    assert!(sources.marked.len() > 50, "the texts were not found: {}", sources.marked.len());
    let mut missing = Vec::new();
    for language in Language::ALL.into_iter().skip(1) {
        for (text, file) in &sources.marked {
            if !language.catalogue().contains_key(text) {
                missing.push(format!("{} ({file}): {text}", language.code()));
            }
        }
    }
    assert!(missing.is_empty(), "{} texts have no translation:\n{}", missing.len(), missing.join("\n"));
}

#[test]
fn no_translation_is_left_of_a_text_that_is_gone() {
    let sources = sources();
    for language in Language::ALL {
        for text in language.catalogue().keys() {
            assert!(sources.literals.contains(text), "{}: nobody says: {text}", language.code());
        }
    }
}

#[test]
fn all_languages_translate_the_same_texts_and_keep_their_values() {
    let german: BTreeSet<&String> = Language::German.catalogue().keys().collect();
    for language in Language::ALL.into_iter().skip(1) {
        let texts: BTreeSet<&String> = language.catalogue().keys().collect();
        assert_eq!(texts, german, "{}", language.code());
        for (text, translation) in language.catalogue() {
            assert_eq!(places(text), places(translation), "{}: {text}", language.code());
            assert!(!translation.trim().is_empty(), "{}: {text}", language.code());
        }
    }
}
