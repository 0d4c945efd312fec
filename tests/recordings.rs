//! A whole guided rescue on each kind of terminal, recorded: what a person sees, and when.
//!
//! `cargo test --features faults --test recordings` writes the recordings to `build/recordings`, in the format of
//! asciinema (asciicast, version 2).

#![allow(clippy::print_stderr, clippy::unwrap_used, reason = "this is test code")]
#![allow(missing_docs, reason = "names of tests are sentences")]

mod common;

use common::archives::is_root;
use common::person::{Moment, Person, plain};
use common::rescue::{program_on_medium, sample};
use lifeboat::sys::terminal;
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

/// Terminals by their TERM, and whether they can do more than lines.
const TERMINALS: [(Option<&str>, bool); 4] =
    [(Some("linux"), true), (Some("vt100"), true), (Some("dumb"), false), (None, false)];
const ROWS: u16 = 24;
const COLUMNS: u16 = 80;
const MORE: &str = "-- press Enter to read on --";
const UNCHANGED: &str = "Nothing has been changed so far.";

/// Starts the guide on a terminal.
fn start(program: &Path, folder: &Path, term: Option<&str>, person: &Person) -> Child {
    let mut command = Command::new(program);
    command.args(["guide", "--language", "en", "--root", "box", "--root", "drive"]).current_dir(folder);
    command.env_remove("COLUMNS").env_remove("LC_ALL").env_remove("LC_CTYPE").env("LANG", "C.UTF-8");
    match term {
        Some(term) => command.env("TERM", term),
        None => command.env_remove("TERM"),
    };
    let terminal = terminal::open(&person.pair.name).unwrap();
    command.stdin(terminal.try_clone().unwrap()).stdout(terminal.try_clone().unwrap()).stderr(terminal);
    command.spawn().unwrap()
}

/// Answers in lines, by the id that each question shows; how many were asked.
fn answer_in_lines(person: &mut Person) -> usize {
    let mut count = 0;
    loop {
        let asked = person.reads("a question", |text| text.ends_with('>').then(|| text.to_owned()));
        count += 1;
        let id = asked.rsplit('[').next().unwrap().split(']').next().unwrap().to_owned();
        if id != "more" {
            assert!(asked.contains(UNCHANGED), "{id} does not say that nothing was changed: {asked}");
        }
        match id.as_str() {
            "choose-box" | "choose-backup" | "choose-archive" | "choose-apps" => person.types("1\r"),
            "more" | "plan" | "not-included" => person.types("\r"),
            "consent" => {
                person.types("freedombox\r");
                return count;
            }
            other => panic!("a question that this walk does not know: {other}: {asked}"),
        }
    }
}

/// Reads on until this question is there; all that was read.
fn pages_with(person: &mut Person, question: &str) -> String {
    let mut all = String::new();
    loop {
        let found = |text: &str| (text.contains(question) || text.contains(MORE)).then(|| text.to_owned());
        let page = person.reads(question, found);
        all += &page;
        if page.contains(question) {
            return all;
        }
        all.push(' ');
        person.waits_for_keys();
        person.types("\r");
    }
}

/// Answers with keys where the terminal can do that; how many questions were asked.
fn answer_with_keys(person: &mut Person) -> usize {
    // The first answer is chosen already, so that Enter takes it.
    let questions = [
        "Put the restored data ON which box?",
        "Restore FROM which backup?",
        "Which of its backups?",
        "Restore which apps?",
        "This is what would be done.",
        "This has to be done by hand afterwards.",
    ];
    for question in questions {
        let asked = pages_with(person, question);
        assert!(asked.contains(UNCHANGED), "'{question}' does not say that nothing was changed: {asked}");
        person.waits_for_keys();
        person.types("\r");
    }
    let last = "To start, type the name of the box";
    let asked = pages_with(person, last);
    assert!(asked.contains(UNCHANGED), "{asked}");
    person.types_keys("freedombox", "\r");
    questions.len() + 1
}

/// Writes a recording in asciinema's format; its path.
fn record(name: &str, moments: &[Moment]) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("build/recordings");
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(format!("guide-{name}.cast"));
    let mut file = std::fs::File::create(&path).unwrap();
    let title = format!("A guided rescue, TERM={name}");
    let head = json!({"version": 2, "width": COLUMNS, "height": ROWS, "title": title, "env": {"TERM": name}});
    writeln!(file, "{head}").unwrap();
    // What was shown while something was being typed is among the moments after it.
    let mut moments: Vec<&Moment> = moments.iter().collect();
    moments.sort_by_key(|moment| moment.at);
    for Moment { at, typed, text } in moments {
        writeln!(file, "{}", json!([at.as_secs_f64(), if *typed { "i" } else { "o" }, text])).unwrap();
    }
    path
}

/// Plays a recording on an emulated terminal; what it looks like at the end. No line may be longer than the terminal.
fn played(recording: &Path) -> vt100::Parser {
    let text = std::fs::read_to_string(recording).unwrap();
    let mut lines = text.lines();
    let head: Value = serde_json::from_str(lines.next().unwrap()).unwrap();
    assert!(head["version"] == 2 && head["width"] == COLUMNS && head["height"] == ROWS, "{head}");
    let mut terminal = vt100::Parser::new(ROWS, COLUMNS, 0);
    let mut before = 0.0;
    for line in lines {
        let (at, kind, text): (f64, String, String) = serde_json::from_str(line).unwrap();
        assert!(at >= before, "time goes backwards: {line}");
        before = at;
        if kind != "o" {
            continue;
        }
        // Line by line, so that none is gone before it was looked at.
        for piece in text.split_inclusive('\n') {
            terminal.process(piece.as_bytes());
            let screen = terminal.screen();
            let too_wide = (0..ROWS).find(|row| screen.row_wrapped(*row));
            assert!(too_wide.is_none(), "wider than the terminal: {}", screen.contents());
        }
    }
    terminal
}

/// The control sequences in what was shown, each kind once.
fn sequences(shown: &str) -> Vec<String> {
    let mut found: Vec<String> = shown
        .split('\x1b')
        .skip(1)
        .map(|after| {
            let end = after.find(|letter: char| letter.is_ascii_alphabetic()).map_or(after.len(), |at| at + 1);
            after[..end].trim_matches(|letter: char| letter.is_ascii_digit()).replace(char::is_numeric, "")
        })
        .collect();
    found.sort();
    found.dedup();
    found
}

#[test]
fn a_whole_rescue_is_recorded_on_every_terminal_and_keeps_its_promises() {
    if !is_root() {
        return eprintln!("SKIPPED: root is needed to restore owners");
    }
    for (term, capable) in TERMINALS {
        let name = term.unwrap_or("unset");
        let folder = tempfile::Builder::new().prefix("lifeboat-").rand_bytes(8).tempdir_in("/tmp").unwrap();
        let Some(sample) = sample(folder.path(), &[]) else { return };
        std::fs::create_dir(folder.path().join("drive")).unwrap();
        std::fs::copy(sample.backup(), folder.path().join("drive/backup.tar.gz")).unwrap();
        let program = program_on_medium(folder.path());
        let mut person = Person::new();
        let mut child = start(&program, folder.path(), term, &person);
        let asked = if capable { answer_with_keys(&mut person) } else { answer_in_lines(&mut person) };
        assert!(asked >= 7, "{name}: {asked} questions");
        let consented = person.seen.len();
        let code = person.sees_the_end_of(&mut child);
        let recording = record(name, &person.moments);
        assert_eq!(code, Some(0), "{name}: {}", person.seen);
        let (right, lines) = sample.check(&folder.path().join("box"));
        assert!(right, "{name}: {lines}\n{}", person.seen);
        eprintln!("{name}: {} in {:.1} s", recording.display(), person.moments.last().unwrap().at.as_secs_f64());

        // What happens is said in words, and nobody says any more that nothing was changed.
        let working = plain(&person.seen[consented..]);
        for said in ["writing beside the old data", "reading back what was written", "exchanging old and new data"] {
            assert!(working.contains(said), "{name}: nothing says '{said}': {working}");
        }
        assert!(!working.contains(UNCHANGED), "{name}: {working}");
        // The last screen says what happened, in which state the data is, and what comes next.
        let terminal = played(&recording);
        let screen = terminal.screen();
        let last = plain(&screen.contents());
        for said in [
            "the restored data is in place, the old data is still kept",
            "Finished: calibre,",
            "Waiting for the running box: ejabberd,",
            "[done] Finished.",
            "start the box normally",
        ] {
            assert!(last.contains(said), "{name}: the last screen does not say '{said}':\n{}", screen.contents());
        }
        assert!(!screen.hide_cursor() && screen.cursor_position().1 == 0, "{name}: how the terminal is left");
        // No byte but letters and ends of lines where the terminal can do no more; elsewhere only what every one can.
        match capable {
            false => {
                let odd = person.seen.chars().find(|letter| letter.is_control() && !['\r', '\n'].contains(letter));
                assert_eq!(odd, None, "{name}: {:?}", person.seen);
            }
            true => {
                let known = ["[A", "[B", "[K", "[J", "[m", "[?l", "[?h", "[C", "[D"];
                let odd: Vec<String> =
                    sequences(&person.seen).into_iter().filter(|it| !known.contains(&it.as_str())).collect();
                assert!(odd.is_empty(), "{name}: {odd:?}");
            }
        }
    }
}
