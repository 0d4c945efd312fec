//! How many cases a test tries, and which: a sample in every run of CI, the same each time, or all of them.
#![allow(dead_code, missing_docs, unreachable_pub, reason = "every test file takes what it needs")]
#![allow(clippy::print_stdout, reason = "this is test code")]

use std::time::Instant;

/// What the environment sets, or what is usual. What is no number is no wish for the usual one.
pub fn number<N: std::str::FromStr>(name: &str, usual: N) -> N {
    let Ok(text) = std::env::var(name) else { return usual };
    text.parse().unwrap_or_else(|_| panic!("{name} is no number: '{text}'"))
}

/// Whether every case is tried: `LIFEBOAT_ALL=1`.
pub fn all() -> bool {
    number("LIFEBOAT_ALL", 0) == 1
}

/// All cases, or every `step`-th; `LIFEBOAT_SEED` says from where.
pub fn sample<T: Clone>(cases: &[T], step: usize) -> Vec<T> {
    let step = if all() { 1 } else { step };
    cases.iter().skip(number("LIFEBOAT_SEED", 0) % step).step_by(step).cloned().collect()
}

/// Says how many were tried, and fails where one went wrong.
pub fn report(what: &str, begun: Instant, cases: usize, of: usize, wrong: &[String]) {
    let seed = number("LIFEBOAT_SEED", 0);
    println!("{what}: {cases} of {of} cases (seed {seed}) in {:.1} s", begun.elapsed().as_secs_f32());
    for line in wrong.iter().take(12) {
        println!(" - {line}");
    }
    assert!(wrong.is_empty(), "{} of {cases} cases went wrong", wrong.len());
}
