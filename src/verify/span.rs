//! Where in an archive a root's entries stand, to tell which roots a lost part of the list of files may have hit.

/// The numbers of the first and the last entry at or below a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    first: u64,
    last: u64,
    /// Whether the first is the root itself. Whoever writes an archive writes a directory before what lies in it.
    begins: bool,
}

impl Span {
    /// Takes the entry `number` in.
    pub(super) fn with(span: Option<Span>, number: u64, is_root: bool) -> Span {
        match span {
            Some(span) => Span { last: number, ..span },
            None => Span { first: number, last: number, begins: is_root },
        }
    }

    /// Whether something else was seen behind all of it, before the entry `end`.
    pub(super) fn is_before(self, end: u64) -> bool {
        self.last < end.saturating_sub(1)
    }

    /// Whether nothing of it can have been among entries that are lost between the entry before `gap` and `gap`.
    pub(super) fn is_clear_of(self, gap: u64) -> bool {
        self.is_before(gap) || (self.first >= gap && self.begins)
    }
}

#[cfg(test)]
mod tests {
    use super::Span;

    #[test]
    fn only_what_is_bounded_by_something_else_is_clear_of_a_gap() {
        let span = |first, last, begins| Span { first, last, begins };
        for (case, clear) in [
            (span(0, 3, true), true),
            (span(0, 4, true), false),
            (span(2, 9, true), false),
            (span(5, 9, true), true),
            (span(5, 9, false), false),
            (span(7, 9, false), false),
        ] {
            assert_eq!(case.is_clear_of(5), clear, "{case:?}");
        }
    }
}
