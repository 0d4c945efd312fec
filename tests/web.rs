//! The page of the guide: a whole rescue on it, and what it does to visitors who mean no good.
//!
//! A browser of ours speaks to the real program over real TLS on the loopback interface. `tests/web` has the same with a
//! real browser.

// A test stops by panicking, also in its own functions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod common;
#[path = "common/page.rs"]
mod page;

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
fn every_answer_forbids_what_a_page_of_ours_does_not_need() {
    let idle = idle();
    let used = idle.page.code();
    let browser = Browser::inside(&idle.page);
    for path in ["/", "/now", "/report.txt", "/page.css", "/page.js", "/icon.svg", "/nothing"] {
        let reply = browser.get(path);
        let policy = reply.header("content-security-policy").unwrap();
        for part in ["default-src 'none'", "script-src 'self'", "form-action 'self'", "frame-ancestors 'none'"] {
            assert!(policy.contains(part) && !policy.contains("unsafe"), "{path}: {policy}");
        }
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(reply.header("x-frame-options"), Some("DENY"), "{path}");
        assert_eq!(reply.header("cache-control"), Some("no-store"), "{path}");
        assert_eq!(reply.header("referrer-policy"), Some("same-origin"), "{path}");
        assert!(reply.header("server").is_none(), "{path}");
        for foreign in ["http://", "//cdn", "style=", "onclick", "javascript:"] {
            let text = reply.body.replace("http://www.w3.org/2000/svg", "");
            assert!(!text.contains(foreign), "{path}: {foreign}");
        }
    }
    let mut other = Browser::new(&idle.page);
    let cookie = other.enter(&idle.page.next_code(&used));
    let cookie = cookie.header("set-cookie").unwrap();
    for part in ["__Host-lifeboat=", "Secure", "HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(cookie.contains(part), "{cookie}");
    }
}

#[test]
fn wrong_codes_have_to_wait_and_so_does_the_right_one_after_them() {
    let idle = idle();
    let code = idle.page.code();
    let mut browser = Browser::new(&idle.page);
    let mut seen = Vec::new();
    for wrong in ["", "2222-2222", "'; --", "<script>alert(1)</script>", &"9".repeat(4000), "22222222", "33333333"] {
        let reply = browser.enter(wrong);
        assert!(!reply.body.contains("<script>alert"), "{}", reply.body);
        assert!(reply.header("set-cookie").is_none());
        seen.push(reply.status);
    }
    assert_eq!(
        seen.iter().filter(|status| **status == 403).count() + seen.iter().filter(|status| **status == 429).count(),
        7
    );
    let refused = browser.enter(&code);
    assert_eq!(refused.status, 429, "{seen:?}: {refused:?}");
    let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=61).contains(&seconds), "{seconds}");
    std::thread::sleep(Duration::from_secs(seconds));
    assert_eq!(browser.enter(&code).status, 303);
}

#[test]
fn one_browser_is_in_and_only_the_next_code_takes_over() {
    let idle = idle();
    let used = idle.page.code();
    let mut first = Browser::new(&idle.page);
    assert_eq!(first.enter(&used).status, 303);
    let mut second = Browser::new(&idle.page);
    assert_eq!(second.enter(&used).status, 403);
    assert!(standing(&first).question().is_some());
    let next = idle.page.next_code(&used);
    assert_eq!(second.enter(&next).status, 303);
    assert!(standing(&second).question().is_some());
    assert!(first.get("/").body.contains("name=\"code\""));
    assert_eq!(first.get("/now").status, 403);
    // Leaving ends it, and the old cookie is worth nothing.
    let token = second.get("/").hidden("token");
    assert_eq!(second.post("/leave", &[("token", &token)]).status, 303);
    assert!(second.get("/").body.contains("name=\"code\""));
}

#[test]
fn forms_from_elsewhere_are_refused() {
    let idle = idle();
    let browser = Browser::inside(&idle.page);
    let asked = standing(&browser);
    let (token, number, own) = (asked.hidden("token"), asked.hidden("number"), browser.own());
    let body = format!("token={token}&number={number}&stop=1");
    let (host, cookie) = (format!("Host: {own}"), format!("Cookie: {}", browser.cookie));
    let with = |more: &[&str]| {
        let mut headers = vec![host.clone(), cookie.clone()];
        headers.extend(more.iter().map(|header| (*header).to_owned()));
        browser.send("POST", "/answer", &headers, body.as_bytes()).status
    };
    let origin = format!("Origin: https://{own}");
    assert_eq!(with(&[]), 403);
    assert_eq!(with(&["Origin: null"]), 403);
    assert_eq!(with(&["Origin: https://example.org"]), 403);
    assert_eq!(with(&[&format!("Origin: http://{own}")]), 403);
    assert_eq!(with(&["Origin: https://127.0.0.1"]), 403);
    assert_eq!(with(&[&origin, "Origin: https://example.org"]), 403);
    assert_eq!(with(&["Referer: https://example.org/"]), 403);
    assert_eq!(with(&[&origin, "Sec-Fetch-Site: cross-site"]), 403);
    assert_eq!(with(&[&origin, "Sec-Fetch-Site: same-site"]), 403);
    // The token of another session, none, two; no cookie.
    let headers = browser.headers();
    for body in [
        format!("number={number}&stop=1"),
        format!("token=&number={number}&stop=1"),
        format!("token={}&number={number}&stop=1", "0".repeat(64)),
        format!("token={token}&token={token}&number={number}&stop=1"),
    ] {
        assert_eq!(browser.send("POST", "/answer", &headers, body.as_bytes()).status, 403, "{body}");
    }
    let bare: Vec<String> = headers.iter().filter(|header| !header.starts_with("Cookie")).cloned().collect();
    assert_eq!(browser.send("POST", "/answer", &bare, body.as_bytes()).status, 403);
    // Nothing changes by a GET, and no other name leads here.
    assert_eq!(browser.get(&format!("/answer?token={token}&number={number}&stop=1")).status, 405);
    assert_eq!(browser.send("GET", "/leave", &headers, b"").status, 405);
    for host in ["Host: example.org", "Host: 127.0.0.1.example.org", "Host: "] {
        let reply = browser.send("GET", "/", &[host.to_owned(), cookie.clone()], b"");
        assert!(matches!(reply.status, 400 | 421), "{host}: {reply:?}");
    }
    assert_eq!(browser.send("GET", "/", std::slice::from_ref(&cookie), b"").status, 400);
    // After all of that the question is still the same one.
    let still = browser.question();
    assert_eq!(still.hidden("number"), number);
    // Browsers without origins say where the form was.
    assert_eq!(with(&[&format!("Referer: https://{own}/")]), 303);
}

#[test]
fn malformed_requests_end_only_themselves() {
    let idle = idle();
    let browser = Browser::inside(&idle.page);
    let number = standing(&browser).hidden("number");
    let host = format!("Host: {}\r\n", browser.own());
    let long = "a".repeat(40 << 10);
    let mut requests: Vec<Vec<u8>> = vec![
        b"\r\n\r\n".to_vec(),
        b"GET\r\n\r\n".to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        vec![0; 4096],
        vec![0xff; 4096],
        format!("GET /{long} HTTP/1.1\r\n{host}\r\n").into_bytes(),
        format!("GET / HTTP/1.1\r\n{host}X: {long}\r\n\r\n").into_bytes(),
        format!("GET / HTTP/1.1\r\n{host}{}\r\n", "X: y\r\n".repeat(500)).into_bytes(),
        format!("GET / HTTP/1.1\r\n{host}Bad Name: x\r\n\r\n").into_bytes(),
        format!("GET / HTTP/1.1\r\n{host}X: a\0b\r\n\r\n").into_bytes(),
        b"GET http://example.org/ HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n".to_vec(),
        format!("CONNECT example.org:443 HTTP/1.1\r\n{host}Connection: close\r\n\r\n").into_bytes(),
        format!("TRACE / HTTP/1.1\r\n{host}Connection: close\r\n\r\n").into_bytes(),
        format!("POST /code HTTP/1.1\r\n{host}Content-Length: -1\r\n\r\n").into_bytes(),
        format!("POST /code HTTP/1.1\r\n{host}Content-Length: 1\r\nContent-Length: 2\r\n\r\nab").into_bytes(),
        format!("POST /code HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\nzz\r\n").into_bytes(),
        format!("POST /code HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\nContent-Length: 4\r\nConnection: close\r\n\r\n0\r\n\r\n")
            .into_bytes(),
        format!("POST /code HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n").into_bytes(),
    ];
    // The same ones on every run.
    let mut numbers = common::rescue::Numbers(7);
    for _ in 0..40 {
        let mut request =
            format!("POST /answer HTTP/1.1\r\n{host}Content-Length: 9\r\nConnection: close\r\n\r\ntoken=abc")
                .into_bytes();
        for _ in 0..3 {
            let at = numbers.below(request.len());
            request[at] = numbers.below(256) as u8;
        }
        requests.push(request);
    }
    for request in requests {
        let reply = Reply::of(&idle.page.raw(&request));
        let shown = String::from_utf8_lossy(&request[..request.len().min(80)]).into_owned();
        assert!(matches!(reply.status, 0 | 400..=499), "{shown:?}: {reply:?}");
    }
    // What is no TLS at all.
    let mut plain = idle.page.tcp();
    plain.write_all(format!("GET / HTTP/1.1\r\n{host}\r\n").as_bytes()).unwrap();
    let mut back = Vec::new();
    let _ = plain.read_to_end(&mut back);
    assert!(!String::from_utf8_lossy(&back).contains("Lifeboat"));
    assert_eq!(standing(&browser).hidden("number"), number);
    assert!(!idle.page.err().contains("panicked"), "{}", idle.page.err());
}

#[test]
fn what_is_too_long_is_refused_before_it_is_read() {
    let idle = idle();
    let browser = Browser::inside(&idle.page);
    let asked = standing(&browser);
    let long = format!("token={}&number=1&answer={}", asked.hidden("token"), "a".repeat(20 << 10));
    assert_eq!(browser.send("POST", "/answer", &browser.headers(), long.as_bytes()).status, 413);
    let many = format!("token={}&{}", asked.hidden("token"), "a=b&".repeat(100));
    assert_eq!(browser.send("POST", "/answer", &browser.headers(), many.as_bytes()).status, 400);
    // A length that is only promised takes no memory and no time.
    let start = Instant::now();
    let promised = format!(
        "POST /code HTTP/1.1\r\nHost: {own}\r\nOrigin: https://{own}\r\nConnection: close\r\nContent-Length: 99999999999\r\n\r\na",
        own = browser.own()
    );
    assert_eq!(Reply::of(&idle.page.raw(promised.as_bytes())).status, 413);
    assert!(start.elapsed() < Duration::from_secs(14), "{:?}", start.elapsed());
    assert_eq!(standing(&browser).hidden("number"), asked.hidden("number"));
}

#[test]
fn slow_visitors_are_sent_away_and_hold_up_nobody() {
    let idle = idle();
    let browser = Browser::inside(&idle.page);
    standing(&browser);
    // All places that one visitor gets: half of them say nothing at all, half begin a request and go on one byte at a time.
    let mut silent: Vec<_> = (0..7).map(|_| idle.page.tcp()).collect();
    let mut slow: Vec<_> = (0..7).map(|_| idle.page.connect()).collect();
    let start = Instant::now();
    for stream in &mut slow {
        stream.write_all(b"GET / HT").unwrap();
        stream.flush().unwrap();
    }
    let mut gone = 0;
    while gone < slow.len() && start.elapsed() < Duration::from_secs(90) {
        gone = 0;
        for stream in &mut slow {
            let sent = stream.write_all(b"T").and_then(|()| stream.flush());
            gone += usize::from(sent.is_err());
        }
        assert_eq!(browser.get("/").status, 200, "somebody who is not slow");
        std::thread::sleep(Duration::from_secs(1));
    }
    assert_eq!(gone, slow.len(), "{:?}", start.elapsed());
    for stream in &mut silent {
        let mut back = [0; 16];
        assert!(!matches!(stream.read(&mut back), Ok(1..)), "it says nothing to who says nothing");
    }
    // A body that never comes.
    let own = browser.own();
    let begun = format!(
        "POST /code HTTP/1.1\r\nHost: {own}\r\nOrigin: https://{own}\r\nContent-Length: 9\r\nConnection: close\r\n\r\nco"
    );
    let start = Instant::now();
    assert_eq!(Reply::of(&idle.page.raw(begun.as_bytes())).status, 408);
    assert!(start.elapsed() < Duration::from_secs(60));
}

#[test]
fn one_visitor_cannot_take_all_places() {
    let idle = idle();
    let held: Vec<_> = (0..40).map(|_| idle.page.tcp()).collect();
    let mut refused = 0;
    for stream in &held {
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        refused += usize::from(matches!((&*stream).read(&mut [0; 1]), Ok(0)));
    }
    assert!((20..=30).contains(&refused), "{refused} of 40 were refused");
    drop(held);
    // It takes a moment until their places are free.
    let start = Instant::now();
    let browser = Browser::new(&idle.page);
    while browser.get("/").status != 200 {
        assert!(start.elapsed() < Duration::from_secs(60), "no place is free again");
        std::thread::sleep(Duration::from_millis(100));
    }
    let browser = Browser::inside(&idle.page);
    assert!(standing(&browser).question().is_some());
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

/// A guide on a sample whose backup is in nobody's hands but the browser's; the backup's bytes.
fn without_backup(folder: &Path) -> Option<(Page, Vec<u8>)> {
    let sample = sample(folder, &[])?;
    let backup = std::fs::read(sample.backup()).unwrap();
    std::fs::remove_file(sample.backup()).unwrap();
    std::fs::create_dir(folder.join("spare")).unwrap();
    Some((Page::start(LIFEBOAT.as_ref(), folder, &["--root", "box", "--root", "spare"]), backup))
}

/// The value of the option whose label holds `text`.
#[track_caller]
fn option(page: &Reply, text: &str) -> String {
    let labels = page.body.split("<label class=\"option\">").skip(1);
    let found = labels.into_iter().find(|label| label.split("</label>").next().unwrap().contains(text));
    let label = found.unwrap_or_else(|| panic!("no option '{text}': {}", page.body));
    label.split("value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
}

/// The head of a form with a file in it, and its body.
fn multipart(browser: &Browser, fields: &[(&str, &str)], name: &str, content: &[u8]) -> (Vec<String>, Vec<u8>) {
    let mut body = Vec::new();
    for (key, value) in fields {
        body.extend(format!("--BOUND\r\nContent-Disposition: form-data; name=\"{key}\"\r\n\r\n{value}\r\n").bytes());
    }
    let head = format!(
        "--BOUND\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\nContent-Type: \
         application/gzip\r\n\r\n"
    );
    body.extend(head.bytes());
    body.extend(content);
    body.extend(b"\r\n--BOUND--\r\n");
    let mut headers: Vec<String> =
        browser.headers().into_iter().filter(|header| !header.starts_with("Content-Type")).collect();
    headers.push("Content-Type: multipart/form-data; boundary=BOUND".into());
    (headers, body)
}

#[test]
fn a_backup_that_a_browser_sends_is_stored_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let Some((page, backup)) = without_backup(folder.path()) else { return };
    let spare = folder.path().join("spare");
    let is_empty = || std::fs::read_dir(&spare).unwrap().next().is_none();
    let browser = Browser::inside(&page);
    browser.give("choose-box", "0");
    let asked = browser.question();
    browser.give("no-backup", &option(&asked, "send a backup"));
    let asked = browser.question();
    assert!(!asked.body.contains("drive"), "{}", asked.body);
    looks("upload-to", &browser, folder.path());
    browser.give("upload-to", &option(&asked, "&quot;spare&quot;"));
    let asked = browser.question();
    looks("upload", &browser, folder.path());
    let (token, number) = (asked.hidden("token"), asked.hidden("number"));
    let send = |fields: &[(&str, &str)], name: &str, content: &[u8]| {
        let (headers, body) = multipart(&browser, fields, name, content);
        browser.send("POST", "/upload", &headers, &body).status
    };
    // Not from our form: nothing is taken.
    assert_eq!(send(&[("token", "0"), ("number", &number)], "a.tar.gz", b"x"), 403);
    assert_eq!(send(&[("number", &number), ("token", &token)], "a.tar.gz", b"x"), 400);
    assert_eq!(send(&[("token", &token), ("number", "99999")], "a.tar.gz", b"x"), 303);
    assert_eq!(send(&[("token", &token), ("number", &number)], "", b"x"), 303);
    assert!(is_empty());
    // No backup at all.
    let fields = |asked: &Reply| [("token", asked.hidden("token")), ("number", asked.hidden("number"))];
    let now = fields(&browser.question());
    assert_eq!(send(&[(now[0].0, &now[0].1), (now[1].0, &now[1].1)], "a.tar.gz", &vec![7; 300_000]), 303);
    let asked = browser.question();
    assert!(asked.body.contains("this is no backup that Lifeboat can read"), "{}", asked.body);
    assert!(is_empty());
    // Broken off in the middle.
    let now = fields(&asked);
    let (headers, body) = multipart(&browser, &[(now[0].0, &now[0].1), (now[1].0, &now[1].1)], "a.tar.gz", &backup);
    let head = format!("POST /upload HTTP/1.1\r\nContent-Length: {}\r\n{}\r\n\r\n", body.len(), headers.join("\r\n"));
    let mut stream = page.connect();
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&body[..body.len() / 2]).unwrap();
    stream.flush().unwrap();
    drop(stream);
    let start = Instant::now();
    let asked = loop {
        let asked = browser.question();
        if asked.hidden("number") != now[1].1 {
            break asked;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "{}", page.out());
        std::thread::sleep(Duration::from_millis(100));
    };
    assert!(asked.body.contains("broken off before its end; nothing of it was kept"), "{}", asked.body);
    assert!(is_empty());
    // Longer than any disk.
    let now = fields(&asked);
    let (headers, body) = multipart(&browser, &[(now[0].0, &now[0].1), (now[1].0, &now[1].1)], "a.tar.gz", b"x");
    let length = 1u64 << 50;
    let head = format!("POST /upload HTTP/1.1\r\nContent-Length: {length}\r\n{}\r\n\r\n", headers.join("\r\n"));
    let mut stream = page.connect();
    stream.write_all(&[head.as_bytes(), &body].concat()).unwrap();
    stream.flush().unwrap();
    let start = Instant::now();
    let asked = loop {
        let asked = browser.question();
        if asked.hidden("number") != now[1].1 {
            break asked;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "{}", page.out());
        std::thread::sleep(Duration::from_millis(100));
    };
    drop(stream);
    assert!(asked.body.contains("the file has no room there"), "{}", asked.body);
    assert!(is_empty());
    // The right one, under a name that leads elsewhere.
    let now = fields(&asked);
    let status = send(&[(now[0].0, &now[0].1), (now[1].0, &now[1].1)], "../../box/etc/my: backup.tar.gz", &backup);
    assert_eq!(status, 303);
    let asked = browser.give("choose-backup", "0");
    assert!(asked.body.contains("has arrived whole"), "{}", asked.body);
    let names: Vec<_> = std::fs::read_dir(&spare).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["my--backup.tar.gz"]);
    assert!(std::fs::read(spare.join("my--backup.tar.gz")).unwrap() == backup);
    // And it can be taken along again, as one file.
    browser.give("choose-archive", "0");
    let asked = browser.question();
    browser.give("choose-apps", &option(&asked, "take the backup along"));
    let asked = browser.question();
    assert!(asked.question().as_deref() == Some("download") && asked.body.contains("not encrypted"), "{}", asked.body);
    looks("download", &browser, folder.path());
    let body = format!("token={}&number={}", asked.hidden("token"), asked.hidden("number"));
    let head = format!(
        "POST /download HTTP/1.0\r\nContent-Length: {}\r\n{}\r\n\r\n",
        body.len(),
        browser.headers().join("\r\n")
    );
    let back = page.raw(format!("{head}{body}").as_bytes());
    let at = back.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let reply = Reply::of(&back[..at + 4]);
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/gzip")), "{reply:?}");
    let taken = folder.path().join("taken.tar.gz");
    std::fs::write(&taken, &back[at + 4..]).unwrap();
    let names = |file: &Path| {
        let output = Command::new("tar").arg("tzf").arg(file).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let mut names: Vec<String> = text.lines().map(|name| name.trim_end_matches('/').to_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&taken), names(&spare.join("my--backup.tar.gz")));
    let asked = browser.question();
    let sum = lifeboat::model::digest::Sha256Digest::of(&back[at + 4..]);
    assert!(asked.body.contains(&sum.to_string()), "{}", asked.body);
}

#[test]
fn a_passphrase_typed_on_the_page_opens_the_backup_and_stands_nowhere() {
    use common::repositories::{Repository, borgs, rich_tree};
    let Some(borg) = borgs().into_iter().next() else { return };
    let (small, folder) = (SmallBox::new(), tempfile::tempdir().unwrap());
    let secret = "Correct-Horse <b>&amp;";
    let repository = Repository::new(&borg, "repokey", secret);
    let content = folder.path().join("content");
    std::fs::create_dir(&content).unwrap();
    rich_tree(&content);
    repository.create("first", "none", &content);
    let place = repository.path();
    let roots = ["--root", small.root.to_str().unwrap(), "--root", place.parent().unwrap().to_str().unwrap()];
    let page = Page::start(LIFEBOAT.as_ref(), folder.path(), &roots);
    let browser = Browser::inside(&page);
    browser.give("choose-box", "0");
    browser.give("choose-backup", "0");
    let asked = browser.give("passphrase", "wrong horse");
    assert!(asked.body.contains("type=\"password\""), "{}", asked.body);
    let asked = browser.question();
    assert_eq!(asked.question().as_deref(), Some("passphrase-wrong"), "{}", asked.body);
    browser.give("passphrase-wrong", "1");
    let asked = browser.give("passphrase", secret);
    assert!(!asked.body.contains("type=\"password\""), "it is to be seen now");
    let asked = browser.question();
    assert_eq!(asked.question().as_deref(), Some("choose-archive"), "{}", asked.body);
    let report = browser.get("/report.txt").body;
    for (name, text) in [
        ("page", &asked.body),
        ("report", &report),
        ("out", &page.out()),
        ("err", &page.err()),
        ("status", &page.status()),
    ] {
        for part in ["Horse", "horse"] {
            assert!(!text.contains(part), "{name}: {text}");
        }
    }
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
