//! The shared console: one dialogue on several terminals, the first answer is the answer.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "this is test code")]
#![allow(missing_docs, reason = "names of tests are sentences")]

mod common;

use common::person::Person;
use common::rescue::LIFEBOAT;
use lifeboat::sys::terminal;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

fn share(people: &[&Person], folder: &std::path::Path, script: &str) -> Child {
    let consoles: Vec<&str> = people.iter().map(|person| person.pair.name.to_str().unwrap()).collect();
    let mut command = Command::new(LIFEBOAT);
    command.arg("console").arg("--on").arg(consoles.join(",")).arg("--log").arg(folder.join("log"));
    command.arg("--state").arg(folder.join("state")).args(["--", "sh", "-c", script]);
    command.stdin(Stdio::null()).spawn().unwrap()
}

#[test]
fn everybody_sees_the_question_and_the_first_answer_is_the_answer() {
    let folder = tempfile::tempdir().unwrap();
    let (mut one, mut other) = (Person::new(), Person::new());
    let script = "printf 'Which?\\n> '; read a; echo \"took $a\"; printf 'Really?\\n> '; read b; echo \"then $b\"";
    let mut child = share(&[&one, &other], folder.path(), script);
    one.sees("Which?\r\n> ");
    other.sees("Which?\r\n> ");
    one.types("first\r");
    other.sees("> first");
    // The other one answers the same question, a moment too late.
    other.types("second\r");
    other.sees("took first");
    one.sees("Really?");
    std::thread::sleep(Duration::from_millis(1200));
    other.types("yes\r");
    one.sees("> yes");
    one.sees("then yes");
    assert!(child.wait().unwrap().success());
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    assert!(log.contains("took first") && log.contains("then yes") && !log.contains("second"), "{log}");
}

#[test]
fn what_was_typed_before_a_question_does_not_answer_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut one = Person::new();
    let script = "echo working; sleep 2; printf 'Sure?\\n> '; read a; echo \"took <$a>\"";
    let mut child = share(&[&one], folder.path(), script);
    one.sees("working");
    one.types("too early\r");
    one.sees("Sure?\r\n> ");
    one.types("now\r");
    one.sees("took <now>");
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_passphrase_that_somebody_chose_to_see_is_kept_nowhere_either() {
    let folder = tempfile::tempdir().unwrap();
    let mut one = Person::new();
    let script = "printf '[passphrase] The backup is encrypted.\nType its passphrase:\n> '; read a; \
                  printf '[choose-apps] Which?\n> '; read b; echo \"took $b\"";
    let mut child = share(&[&one], folder.path(), script);
    one.sees("its passphrase:\r\n> ");
    one.types("correct horse\r");
    one.sees("> correct horse");
    one.sees("Which?\r\n> ");
    one.types("all\r");
    one.sees("took all");
    assert!(child.wait().unwrap().success());
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    assert!(!log.contains("horse") && log.contains("its passphrase:\r\n>\r\n[choose-apps]"), "{log:?}");
    assert!(log.contains("> all\r\ntook all"), "what is no secret is kept: {log:?}");
}

#[test]
fn a_passphrase_is_shown_to_nobody_and_kept_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let (mut one, mut other) = (Person::new(), Person::new());
    let script = "stty -echo; printf 'passphrase: '; read a; stty echo; echo; echo \"${#a} letters\"";
    let mut child = share(&[&one, &other], folder.path(), script);
    one.sees("passphrase: ");
    one.types("correct horse\r");
    other.sees("13 letters");
    one.sees("13 letters");
    assert!(child.wait().unwrap().success());
    assert!(!one.seen.contains("horse") && !other.seen.contains("horse"));
    assert!(!std::fs::read_to_string(folder.path().join("log")).unwrap().contains("horse"));
}

#[test]
fn a_console_that_nobody_reads_or_that_is_not_there_holds_up_nobody() {
    let mut one = Person::new();
    // Its other side is open, and never read: after some kilobytes a write to it would wait for ever.
    let stuck = terminal::pair().unwrap();
    let consoles = format!("{},{},/dev/no-such-console", one.pair.name.display(), stuck.name.display());
    let script = "i=0; while [ $i -lt 3000 ]; do echo a line of thirty letters or so; i=$((i + 1)); done; echo the end";
    let mut command = Command::new(LIFEBOAT);
    let mut child = command.args(["console", "--on", &consoles, "--", "sh", "-c", script]).spawn().unwrap();
    one.sees("the end");
    assert!(child.wait().unwrap().success());
}

#[test]
fn the_state_says_whether_somebody_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let mut one = Person::new();
    let mut child =
        share(&[&one], folder.path(), "echo busy; sleep 1; printf 'Sure?\\n> '; read a; echo busy again; sleep 2");
    let becomes = |word: &str| {
        let end = Instant::now() + Duration::from_secs(60);
        while std::fs::read_to_string(folder.path().join("state")).unwrap_or_default() != word {
            assert!(Instant::now() < end, "the state never became '{word}'");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    becomes("working");
    one.sees("Sure?");
    becomes("waiting");
    one.types("y\r");
    one.sees("busy again");
    becomes("working");
    assert!(child.wait().unwrap().success());
}
