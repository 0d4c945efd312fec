//! Memory for content on its way: one stretch that is given out from front to back and round again.
//!
//! Fresh memory costs more than most of what is done with it, because the kernel clears it page by page; this is fresh
//! once. What is given out lies together, belongs to whoever has it, and has to come back in the same order, in parts of
//! any length.

use bytes::BytesMut;

/// The memory that nobody has.
pub(super) struct Ring {
    length: usize,
    /// What is given out next.
    free: BytesMut,
    /// What came back at the begin of the stretch while `free` is at its end.
    back: BytesMut,
    /// The end of the stretch that was passed over because it was too short, and how much has to come back before it.
    passed: Option<(BytesMut, usize)>,
}

impl Ring {
    pub(super) fn new(length: usize) -> Ring {
        Ring { length, free: BytesMut::zeroed(length), back: BytesMut::new(), passed: None }
    }

    /// So many bytes with any content; `None` where that is more than lies together now.
    pub(super) fn take(&mut self, length: usize) -> Option<BytesMut> {
        if self.free.len() < length && self.passed.is_none() && self.back.len() >= length {
            let given_out = self.length - self.free.len() - self.back.len();
            let end = std::mem::replace(&mut self.free, std::mem::take(&mut self.back));
            self.passed = Some((end, given_out));
        }
        (self.free.len() >= length).then(|| self.free.split_to(length))
    }

    /// Takes back the oldest bytes that were given out.
    pub(super) fn give_back(&mut self, part: BytesMut) {
        match &mut self.passed {
            None => self.back.unsplit(part),
            Some((_, missing)) => {
                *missing = missing.saturating_sub(part.len());
                self.free.unsplit(part);
            }
        }
        if let Some((end, _)) = self.passed.take_if(|(_, missing)| *missing == 0) {
            self.free.unsplit(end);
        }
        if self.passed.is_none() && self.back.len() + self.free.len() == self.length {
            self.back.unsplit(std::mem::take(&mut self.free));
            self.free = std::mem::take(&mut self.back);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        /// Were a part joined to one that does not lie beside it, it would be copied, and its address change.
        #[test]
        fn what_comes_back_in_order_is_given_out_again_and_nothing_is_ever_copied(
            steps in proptest::collection::vec((any::<bool>(), 0usize..60), 1..300)
        ) {
            let mut ring = Ring::new(100);
            let begin = ring.free.as_ptr().addr();
            let mut out: VecDeque<BytesMut> = VecDeque::new();
            for (takes, length) in steps {
                if takes {
                    out.extend(ring.take(length));
                } else if let Some(mut part) = out.pop_front() {
                    let rest = part.split_off(length.min(part.len()));
                    ring.give_back(part);
                    if !rest.is_empty() {
                        out.push_front(rest);
                    }
                }
                let mut places: Vec<_> = out.iter().map(|part| (part.as_ptr().addr() - begin, part.len())).collect();
                places.retain(|(_, length)| *length > 0);
                places.sort_unstable();
                prop_assert!(places.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0), "{places:?}");
                prop_assert!(places.iter().all(|(at, length)| at + length <= 100), "{places:?}");
            }
            while let Some(part) = out.pop_front() {
                ring.give_back(part);
            }
            let whole = ring.take(100);
            prop_assert_eq!(whole.map(|whole| whole.as_ptr().addr()), Some(begin));
        }
    }
}
