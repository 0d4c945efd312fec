//! Text of fixed width as paragraphs that flow: what was broken for 80 columns is joined again.
//!
//! A broken line goes on two columns further in, with a word that had no room before. Everything else is a line of its
//! own and stays one.

use crate::render::text::WIDTH;
use maud::{Markup, html};

/// Deepest indentation that is shown.
const DEEPEST: usize = 6;

/// A line as it was meant: how far in it stands, and its text.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    depth: usize,
    text: String,
}

/// The lines as paragraphs.
pub(super) fn blocks(text: &str) -> Markup {
    html! {
        @for line in joined(text) {
            @if line.text.is_empty() { div.gap {} } @else { p class=(format!("i{}", line.depth)) { (line.text) } }
        }
    }
}

fn joined(text: &str) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    let (mut indent, mut width) = (0, 0);
    for raw in text.lines() {
        let content = raw.trim();
        let own = raw.chars().count() - raw.trim_start().chars().count();
        let word = content.split(' ').next().unwrap_or_default().chars().count();
        let goes_on = !content.is_empty() && own == indent + 2 && width > 0 && width + 1 + word > WIDTH;
        width = if content.is_empty() { 0 } else { raw.trim_end().chars().count() };
        match lines.last_mut().filter(|_| goes_on) {
            Some(last) => {
                last.text.push(' ');
                last.text += content;
            }
            None => {
                indent = own;
                lines.push(Line { depth: (own / 2).min(DEEPEST), text: content.to_owned() });
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::text::wrap;

    #[test]
    fn what_was_broken_is_joined_and_the_rest_stays() {
        let long = "word ".repeat(60).trim().to_owned();
        let text = format!("{}{}\n  short\n    deeper\nend\n", wrap("", &long), wrap("  ", &long));
        let expected = [(0, long.as_str()), (1, &long), (0, ""), (1, "short"), (2, "deeper"), (0, "end")];
        let expected: Vec<Line> =
            expected.into_iter().map(|(depth, text)| Line { depth, text: text.to_owned() }).collect();
        assert_eq!(joined(&text), expected);
    }

    #[test]
    fn text_of_a_disk_stays_text() {
        let shown = blocks("<script>alert(1)</script> & \"x\"\n").into_string();
        assert!(!shown.contains("<script>") && shown.contains("&lt;script&gt;"), "{shown}");
    }
}
