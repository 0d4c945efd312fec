//! A question as plain lines, the same for everybody who shows it in lines.

use super::text::{fold, wrap};
use crate::model::question::{Choice, Screen};
use crate::t;

/// How many answers are shown at once; the rest comes with 0.
pub const PAGE: usize = 10;

/// What stands above the answers: title, what there is to know, the question with its id.
pub fn head(screen: &Screen) -> String {
    let mut text = String::from("\n");
    text += &wrap("", &format!("== {} ==", screen.title));
    text += &fold(&screen.body);
    text + &wrap("", &format!("[{}] {}", screen.id, screen.text))
}

/// What stands below the answers: what happens next, and that nothing has been changed.
pub fn foot(screen: &Screen) -> String {
    let mut lines = String::new();
    if !screen.next.is_empty() {
        lines += &wrap("", &t!("Next: {what}", what = screen.next));
    }
    if screen.untouched {
        lines += &wrap("", &t!("Nothing has been changed so far."));
    }
    lines
}

/// The ways out of a question.
pub fn ways_out(screen: &Screen) -> String {
    let mut lines = String::new();
    if screen.back {
        lines += &wrap("  ", &format!("b) {}", t!("go back")));
    }
    lines + &wrap("  ", &format!("q) {}", t!("stop here")))
}

/// One page of numbered answers, which starts at `first`.
pub fn options(choice: &Choice, first: usize) -> String {
    let mut lines = String::new();
    for (at, option) in choice.options.iter().enumerate().skip(first).take(PAGE) {
        lines += &wrap("  ", &format!("{}) {}", at + 1, option.text));
    }
    let left = choice.options.len().saturating_sub(first.saturating_add(PAGE));
    if left > 0 {
        lines += &wrap("  ", &format!("0) {}", t!("{left} more", left = left)));
    }
    lines
}
