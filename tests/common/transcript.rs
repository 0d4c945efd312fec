//! Screens of the guide as they are kept, word for word.
#![allow(dead_code, missing_docs, unreachable_pub, reason = "every test file takes what it needs")]
#![allow(clippy::unwrap_used, reason = "this is test code")]

use super::rescue::Run;
use snapbox::assert_data_eq;
use std::path::Path;

/// Compares a walk in `folder` with the one that is kept under this name: what appeared on the console, and how it ended.
#[track_caller]
pub fn looks(folder: &Path, name: &str, run: &Run) {
    // An answer that came through a pipe shows no line of its own.
    for line in run.said().lines().map(|line| line.trim_start_matches("> ")) {
        let alone = !line.trim().contains(' ');
        assert!(line.chars().count() <= 80 || alone, "a line of {} columns: {line}", line.chars().count());
    }
    assert!(!run.said().contains('\x1b'), "{run:?}");
    let text = format!("{}---\nexit code {}\n", run.out, run.code);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/transcripts/screens/{name}.txt"));
    assert_data_eq!(redacted(folder, &text), snapbox::Data::read_from(&file, None).raw());
}

/// Without what differs from run to run.
pub fn redacted(folder: &Path, text: &str) -> String {
    let text = text.replace(folder.to_str().unwrap(), "/tmp/FOLDER");
    let mut text = text;
    // What was made before midnight may be looked at after it.
    for hours in [0, 24] {
        let day = (jiff::Timestamp::now() - jiff::SignedDuration::from_hours(hours)).to_string();
        for used in ["last used", "zuletzt benutzt"] {
            text = text.replace(&format!("{used} {}", &day[..10]), &format!("{used} 2026-TO-DAY"));
        }
        // A repository is made by the test itself.
        while let Some(at) = text.find(&format!("{} ", &day[..10])).filter(|at| text[at + 16..].starts_with(" UTC")) {
            text.replace_range(at..at + 16, "2026-TO-DAY HH:MM");
        }
    }
    let mut words: Vec<String> = text.split_inclusive([' ', '\n']).map(str::to_owned).collect();
    for at in 0..words.len() {
        let bare = words[at].trim_end_matches(['\n', ' ', ':', '.', ',', ')']).trim_start_matches('(').to_owned();
        if bare.len() == 16 && bare.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            words[at] = words[at].replace(&bare, "PLAN-ID");
        }
        // How much is free on the machine that runs the test.
        if at >= 2 && words[at].trim_end().trim_end_matches('.') == "free" && words[at - 1].trim_end().ends_with('B') {
            words[at - 2] = "FREE ".into();
            words[at - 1].clear();
        }
    }
    words.concat()
}
