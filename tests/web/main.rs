//! The page of the guide: a whole rescue on it, and what it does to visitors who mean no good.
//!
//! A browser of ours speaks to the real program over real TLS on the loopback interface. `browse.mjs` beside this has the
//! same with a real browser.

// A test stops by panicking, also in its own functions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/page.rs"]
mod page;
mod sending;
mod strangers;

use common::rescue::{LIFEBOAT, SmallBox, assert_same, sample, tree};
use page::{Browser, Page, Reply};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// The question that is open now, word for word, as the report has it; without what differs from run to run.
#[track_caller]
fn looks(id: &str, browser: &Browser, folder: &Path) {
    let report = browser.get("/report.txt").body;
    let at = report.rfind(&format!("[{id}]")).unwrap_or_else(|| panic!("{id} is not in the report: {report}"));
    let begin = report[..at].rfind("\n== ").map_or(0, |at| at + 1);
    let text = report[begin..].replace(folder.to_str().unwrap(), "/tmp/FOLDER");
    // The answers are the disks of this machine, and how much is free on them.
    let text = text.split("\n  1) ").next().unwrap().trim_end().to_owned() + "\n";
    let is_size = |word: &str| word.parse::<f64>().is_ok() || ["B", "KiB", "MiB", "GiB", "TiB"].contains(&word);
    let words: Vec<&str> = text.split_inclusive([' ', '\n']).filter(|word| !is_size(word.trim_end())).collect();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/transcripts/screens/page-{id}.txt"));
    snapbox::assert_data_eq!(words.concat(), snapbox::Data::read_from(&file, None).raw());
}

/// A guide that found a box and no backup, so that it asks what now.
struct Idle {
    page: Page,
    _box: SmallBox,
    _folder: tempfile::TempDir,
}

fn idle() -> Idle {
    let (small, folder) = (SmallBox::new(), tempfile::tempdir().unwrap());
    let root = small.root.to_str().unwrap();
    let page = Page::start(LIFEBOAT.as_ref(), folder.path(), &["--root", root]);
    Idle { page, _box: small, _folder: folder }
}

/// The page with the question that the idle guide asks.
fn standing(browser: &Browser) -> Reply {
    browser.question()
}

/// The program that `LIFEBOAT_PROGRAM` names, as the tests of real boxes take it, or one that is built here.
fn static_program() -> Option<PathBuf> {
    if let Some(program) = std::env::var_os("LIFEBOAT_PROGRAM") {
        return Some(program.into());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = "x86_64-unknown-linux-musl";
    let mut cargo = Command::new(option_env!("CARGO").unwrap_or("cargo"));
    cargo.args(["build", "--quiet", "--bin", "lifeboat", "--target", target, "--target-dir"]);
    let output = cargo.arg(root.join("target")).current_dir(root).output();
    match output {
        Ok(output) if output.status.success() => Some(root.join("target").join(target).join("debug/lifeboat")),
        _ => {
            eprintln!("SKIPPED: no static program can be built");
            None
        }
    }
}

#[test]
fn a_whole_rescue_works_on_the_page_without_a_script() {
    if !common::archives::is_root() {
        eprintln!("SKIPPED: root is needed to restore owners");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let Some(sample) = sample(folder.path(), &[]) else { return };
    std::fs::create_dir(folder.path().join("drive")).unwrap();
    std::fs::copy(sample.backup(), folder.path().join("drive/backup.tar.gz")).unwrap();
    let Some(program) = static_program() else { return };
    let page = Page::start(&program, folder.path(), &["--root", "box", "--root", "drive"]);
    let used = page.code();
    let browser = Browser::inside(&page);
    browser.give("choose-box", "0");
    browser.give("choose-backup", "0");
    // A reload in the middle shows the same question; its answer counts once.
    let (first, again) = (browser.question(), browser.get("/"));
    assert_eq!(first.hidden("number"), again.hidden("number"));
    browser.give("choose-archive", "0");
    assert_eq!(browser.answer(&again, "0").status, 303);
    let asked = browser.question();
    assert_eq!(asked.question().as_deref(), Some("choose-apps"), "{}", asked.body);
    assert!(asked.body.contains("That question was answered already."), "{}", asked.body);
    browser.give("choose-apps", "0");
    assert!(browser.give("plan", "read").body.contains("tiddlywiki"));
    // There is a way back, until the consent.
    let asked = browser.question();
    let (token, number) = (asked.hidden("token"), asked.hidden("number"));
    assert_eq!(browser.post("/answer", &[("token", &token), ("number", &number), ("back", "1")]).status, 303);
    browser.give("plan", "read");
    browser.give("not-included", "read");
    let before = tree(&folder.path().join("box"));
    browser.give("consent", "another box");
    assert!(browser.question().body.contains("That is not the name of the box."));
    assert_same(&before, &tree(&folder.path().join("box")), "a wrong name");
    browser.give("consent", " freedombox ");
    let end = browser.question();
    assert_eq!(end.question().as_deref(), Some("ended"));
    assert!(end.body.contains("[done] Finished."), "{}", end.body);
    let (right, lines) = sample.check(&folder.path().join("box"));
    assert!(right, "{lines}");
    // Everybody else saw what was answered, and the next code.
    let out = page.out();
    assert!(out.contains("Answered (the page): freedombox") && out.contains(&page.next_code(&used)), "{out}");
    let report = browser.get("/report.txt");
    assert!(report.header("content-disposition").is_some_and(|value| value.starts_with("attachment")));
    for part in ["== The box ==\n[choose-box] Put the restored data ON", "> freedombox (the page)", "[done] Finished."]
    {
        assert!(report.body.contains(part), "{part}: {}", report.body);
    }
    browser.give("ended", "1");
    let last = browser.get("/");
    assert!(last.body.contains("Lifeboat has ended"), "{}", last.body);
    assert_eq!(page.end(), 0);
}

#[test]
fn the_dialogue_speaks_the_language_of_the_browser_that_came_in() {
    let (small, folder) = (SmallBox::new(), tempfile::tempdir().unwrap());
    let page = Page::start_asking(LIFEBOAT.as_ref(), folder.path(), &["--root", small.root.to_str().unwrap()]);
    let browser = Browser::new(&page);
    // The question is open on the consoles; the browser's own language is an answer to it.
    assert_eq!(browser.get("/").status, 200);
    let start = Instant::now();
    while !page.out().contains("[language]") {
        assert!(start.elapsed() < Duration::from_secs(60), "{}", page.out());
        std::thread::sleep(Duration::from_millis(50));
    }
    let headers = [browser.headers(), vec!["Accept-Language: de-AT,de;q=0.9,en;q=0.5".to_owned()]].concat();
    let body = format!("code={}", page.code());
    let reply = browser.send("POST", "/code", &headers, body.as_bytes());
    let cookie = reply.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let asked = Browser { page: &page, cookie }.question();
    assert!(asked.body.contains("lang=\"de\"") && asked.body.contains(">Weiter</button>"), "{}", asked.body);
}

#[test]
fn the_page_says_nothing_of_the_dialogue_without_a_session() {
    let idle = idle();
    let inside = Browser::inside(&idle.page);
    standing(&inside);
    let stranger = Browser { page: &idle.page, cookie: "__Host-lifeboat=00".into() };
    let shown = stranger.get("/");
    assert_eq!(shown.status, 200);
    assert!(
        shown.body.contains("name=\"code\"") && !shown.body.contains("No FreedomBox") && shown.question().is_none()
    );
    for path in ["/now", "/report.txt"] {
        assert_eq!(stranger.get(path).status, 403, "{path}");
    }
    for path in ["/answer", "/leave"] {
        assert_eq!(stranger.post(path, &[("token", ""), ("number", "1"), ("stop", "1")]).status, 403, "{path}");
    }
    for path in ["/status.txt", "/../etc/passwd", "/%2e%2e/etc/passwd", "/.git/config", "//"] {
        assert_eq!(stranger.get(path).status, 404, "{path}");
    }
}

#[test]
fn the_page_says_how_it_is_reached_and_only_to_those_in_front_of_it() {
    let idle = idle();
    let code = idle.page.code();
    let browser = Browser::inside(&idle.page);
    standing(&browser);
    idle.page.next_code(&code);
    let (status, out) = (idle.page.status(), idle.page.out());
    assert!(status.contains(".local:") && status.contains("\r\n"), "{status}");
    assert!(out.contains(&code), "{out}");
    assert!(status.lines().chain(out.lines()).all(|line| line.chars().count() <= 80), "{status}");
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(idle._folder.path().join("status.txt")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let cookie = browser.cookie.split_once('=').unwrap().1;
    let token = browser.get("/").hidden("token");
    let report = browser.get("/report.txt").body;
    for secret in [cookie, &token] {
        for (name, text) in [("status", &status), ("out", &out), ("err", &idle.page.err()), ("report", &report)] {
            assert!(!text.contains(secret), "{name}");
        }
    }
    assert!(!report.contains(&code) && !report.contains(&idle.page.code()), "{report}");
}

/// Asks the local network for an address as any resolver does (RFC 6762): a question to the group, and whatever comes back.
const RESOLVER: &str = r#"
import socket, struct, sys, time
name = sys.argv[1]
group, own = "224.0.0.251", socket.inet_aton("127.0.0.1")
asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asking.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
asking.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
asking.bind(("", 5353))
asking.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group) + own)
asking.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, own)
asking.settimeout(1)
labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\0"
question = struct.pack("!6H", 0, 0, 1, 0, 0, 0) + labels + struct.pack("!2H", 1, 1)
end = time.monotonic() + 60
while time.monotonic() < end:
    asking.sendto(question, (group, 5353))
    try:
        while True:
            reply = asking.recv(9000)
            at = reply.lower().find(labels.lower())
            # An answer, and an address record of this name: type 1, length 4.
            if len(reply) > 12 and reply[2] & 0x80 and at >= 0:
                record = reply[at + len(labels):]
                kind, _, _, length = struct.unpack("!HHIH", record[:10])
                if (kind, length) == (1, 4):
                    print(socket.inet_ntoa(record[10:14]))
                    sys.exit(0)
    except socket.timeout:
        pass
sys.exit("nobody answers for " + name)
"#;

#[test]
fn the_name_of_the_page_is_found_by_asking_the_local_network() {
    let idle = idle();
    let status = idle.page.status();
    let line = status.lines().find(|line| line.contains(".local:")).unwrap();
    let name = line.trim().trim_start_matches("https://").split(':').next().unwrap();
    let asked = Command::new("python3").args(["-c", RESOLVER, name]).output().unwrap();
    assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
    assert_eq!(String::from_utf8(asked.stdout).unwrap().trim(), "127.0.0.1");
}
