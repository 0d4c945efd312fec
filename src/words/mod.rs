//! What people read, in their language.
//!
//! The English text stands in the code and is the key to its translations, which lie beside this file in the form of
//! gettext (`de.po`, `fr.po`, `es.po`). `tests/words.rs` fails on a text without translation and on a translation
//! without text. What programs read (JSON, ids, names) is never translated.

mod sentence;

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Display;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

/// A text in the chosen language: `t!("{count} apps", count = 3)`. A name in braces stands for a value.
#[macro_export]
macro_rules! t {
    ($english:literal $(, $name:ident = $value:expr)* $(,)?) => {
        $crate::words::text($english, &[$((stringify!($name), &$value as &dyn std::fmt::Display)),*])
    };
}

/// A language that is spoken here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// The source of all others.
    English,
    /// Deutsch.
    German,
    /// Français.
    French,
    /// Español.
    Spanish,
}

impl Language {
    /// All of them, in the order in which they are offered.
    pub const ALL: [Language; 4] = [Language::English, Language::German, Language::French, Language::Spanish];

    /// Its code in ISO 639-1.
    pub fn code(self) -> &'static str {
        match self {
            Language::English => "en",
            Language::German => "de",
            Language::French => "fr",
            Language::Spanish => "es",
        }
    }

    /// Its name, in itself.
    pub fn name(self) -> &'static str {
        match self {
            Language::English => "English",
            Language::German => "Deutsch",
            Language::French => "Français",
            Language::Spanish => "Español",
        }
    }

    /// The one that a code or the name of a locale means: `de`, `de_AT.UTF-8`, `de-CH`.
    pub fn of(locale: &str) -> Option<Language> {
        let code = locale.split(['_', '-', '.', '@']).next()?.to_ascii_lowercase();
        Language::ALL.into_iter().find(|language| language.code() == code)
    }

    /// What its catalogue holds: English texts with their translations. Empty for English itself.
    pub fn catalogue(self) -> &'static HashMap<String, String> {
        static CATALOGUES: [OnceLock<HashMap<String, String>>; 4] = [const { OnceLock::new() }; 4];
        let source = match self {
            Language::English => "",
            Language::German => include_str!("de.po"),
            Language::French => include_str!("fr.po"),
            Language::Spanish => include_str!("es.po"),
        };
        let slot = CATALOGUES.get(self as usize).unwrap_or(&CATALOGUES[0]);
        slot.get_or_init(|| read(source))
    }
}

/// Reads a catalogue; the test sees to it that each can be read.
fn read(source: &str) -> HashMap<String, String> {
    if source.is_empty() {
        return HashMap::new();
    }
    let Ok(catalog) = polib::po_file::parse_from_reader(source.as_bytes()) else { return HashMap::new() };
    let messages = catalog.messages().filter(|message| message.is_translated());
    messages.filter_map(|message| Some((message.msgid().to_owned(), message.msgstr().ok()?.to_owned()))).collect()
}

/// The chosen language: 0 where none was chosen, else its place in the list and one.
static CHOSEN: AtomicU8 = AtomicU8::new(0);

/// Chooses the language of everything that is said from here on.
pub fn choose(language: Language) {
    CHOSEN.store(language as u8 + 1, Ordering::Relaxed);
}

/// The language that was chosen; `None` where nobody did.
pub fn chosen() -> Option<Language> {
    let at = usize::from(CHOSEN.load(Ordering::Relaxed)).checked_sub(1)?;
    Language::ALL.get(at).copied()
}

/// A text in the chosen language with its values put in. Use [`t!`].
pub fn text(english: &str, values: &[(&str, &dyn Display)]) -> String {
    let language = chosen().unwrap_or(Language::English);
    let mut rest = language.catalogue().get(english).map_or(english, String::as_str);
    let mut text = String::with_capacity(rest.len());
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        let value = after.split_once('}').and_then(|(name, after)| {
            let (_, value) = values.iter().find(|(known, _)| *known == name)?;
            Some((value, after))
        });
        match value {
            Some((value, after)) => {
                text.push_str(&value.to_string());
                rest = after;
            }
            None => {
                text.push('{');
                rest = after;
            }
        }
    }
    text + rest
}

/// The translation of a text that comes as a value, such as the advice of a failure, also where it has values in it;
/// itself where there is none.
pub fn translated(english: &str) -> Cow<'_, str> {
    let language = chosen().unwrap_or(Language::English);
    match language.catalogue().get(english) {
        Some(text) => Cow::Borrowed(text),
        None => sentence::told(language, english).unwrap_or(Cow::Borrowed(english)),
    }
}

/// A text in ASCII alone, for consoles that have no other letters.
pub fn ascii(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            'ä' => plain.push_str("ae"),
            'ö' => plain.push_str("oe"),
            'ü' => plain.push_str("ue"),
            'Ä' => plain.push_str("Ae"),
            'Ö' => plain.push_str("Oe"),
            'Ü' => plain.push_str("Ue"),
            'ß' => plain.push_str("ss"),
            'à' | 'â' | 'á' => plain.push('a'),
            'é' | 'è' | 'ê' | 'ë' => plain.push('e'),
            'î' | 'ï' | 'í' => plain.push('i'),
            'ô' | 'ó' => plain.push('o'),
            'ù' | 'û' | 'ú' => plain.push('u'),
            'À' | 'Á' => plain.push('A'),
            'É' | 'È' | 'Ê' => plain.push('E'),
            'Í' => plain.push('I'),
            'Ó' => plain.push('O'),
            'Ú' => plain.push('U'),
            'ç' => plain.push('c'),
            'Ç' => plain.push('C'),
            'ñ' => plain.push('n'),
            'Ñ' => plain.push('N'),
            'œ' => plain.push_str("oe"),
            '¿' | '¡' => {}
            '«' | '»' | '„' | '“' | '”' => plain.push('"'),
            '’' | '‘' => plain.push('\''),
            '–' | '—' => plain.push('-'),
            '…' => plain.push_str("..."),
            '\u{a0}' | '\u{202f}' => plain.push(' '),
            letter if letter.is_ascii() => plain.push(letter),
            _ => plain.push('?'),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_go_where_their_names_stand() {
        assert_eq!(text("{count} of {all}, {count}", &[("count", &3), ("all", &7)]), "3 of 7, 3");
        assert_eq!(text("a {brace} and {", &[("other", &1)]), "a {brace} and {");
    }

    #[test]
    fn locales_name_languages() {
        assert_eq!(Language::of("de_AT.UTF-8"), Some(Language::German));
        assert_eq!(Language::of("fr"), Some(Language::French));
        assert_eq!(Language::of("C.UTF-8"), None);
    }

    #[test]
    fn every_letter_of_the_catalogues_has_a_form_in_ascii() {
        for language in Language::ALL {
            for translation in language.catalogue().values().map(String::as_str).chain([language.name()]) {
                let plain = ascii(translation);
                assert_eq!(
                    plain.matches('?').count(),
                    translation.matches('?').count(),
                    "{}: {translation}",
                    language.code()
                );
            }
        }
    }
}
