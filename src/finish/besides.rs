//! What came of the rest besides apps, over the attempts of one run: of each thing, what the last attempt found.

use super::report::people_missing;
use crate::model::extra::Extra;
use crate::model::plan::PlanId;
use std::collections::BTreeSet;

/// What is to be said of it.
#[derive(Debug, Default)]
pub(super) struct Besides {
    extras: Vec<Brought>,
    people: Vec<(PlanId, Vec<String>)>,
}

#[derive(Debug)]
struct Brought {
    extra: Extra,
    sentence: String,
    has_lost: bool,
}

impl Besides {
    /// Notes what came of one kind of extra; `has_lost` is whether some of it can never come.
    pub(super) fn brought(&mut self, extra: Extra, sentence: String, has_lost: bool) {
        let brought = Brought { extra, sentence, has_lost };
        match self.extras.iter_mut().find(|known| known.extra == extra) {
            Some(known) => *known = brought,
            None => self.extras.push(brought),
        }
    }

    /// Notes of a restore who has data here and no account.
    pub(super) fn missing(&mut self, restore: PlanId, names: Vec<String>) {
        match self.people.iter_mut().find(|(known, _)| *known == restore) {
            Some((_, known)) => *known = names,
            None => self.people.push((restore, names)),
        }
    }

    /// Whether some of it can never come.
    pub(super) fn has_lost(&self) -> bool {
        self.extras.iter().any(|brought| brought.has_lost)
    }

    /// A sentence for each kind.
    pub(super) fn sentences(self) -> Vec<String> {
        let mut sentences: Vec<String> = self.extras.into_iter().map(|brought| brought.sentence).collect();
        let names: BTreeSet<String> = self.people.into_iter().flat_map(|(_, names)| names).collect();
        let names: Vec<String> = names.into_iter().collect();
        sentences.extend((!names.is_empty()).then(|| people_missing(&names)));
        sentences
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_second_attempt_says_nothing_twice_and_what_it_found_counts() {
        let (first, second) =
            ("00112233445566aa".parse::<PlanId>().unwrap(), "00112233445566bb".parse::<PlanId>().unwrap());
        let mut besides = Besides::default();
        besides.brought(Extra::Networks, "Home was NOT brought over".into(), true);
        besides.brought(Extra::Names, "names came".into(), false);
        besides.missing(first.clone(), names(&["dave", "carol"]));
        besides.missing(second.clone(), names(&["carol", "erin"]));
        // Two restores ask for one person, and are tried once more.
        besides.brought(Extra::Networks, "Home came".into(), false);
        besides.missing(first, names(&["carol"]));
        assert!(!besides.has_lost());
        assert_eq!(
            besides.sentences(),
            ["Home came".to_owned(), "names came".into(), people_missing(&names(&["carol", "erin"]))]
        );

        let mut besides = Besides::default();
        besides.missing(second.clone(), names(&["erin"]));
        besides.missing(second, Vec::new());
        assert!(besides.sentences().is_empty(), "whoever got an account meanwhile is asked for");
    }
}
