//! A backup and a passphrase that come from the browser.

use super::*;

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

/// The question that comes after the one with that number.
fn asked_after(page: &Page, browser: &Browser, number: &str) -> Reply {
    let start = Instant::now();
    loop {
        let asked = browser.question();
        if asked.hidden("number") != number {
            return asked;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "{}", page.out());
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_file_is_not_put_onto_another_box_which_may_be_what_is_restored_from() {
    let folder = tempfile::tempdir().unwrap();
    let Some(sample) = sample(folder.path(), &[]) else { return };
    std::fs::remove_file(sample.backup()).unwrap();
    let other = folder.path().join("other");
    SmallBox::fill(&other);
    std::fs::write(other.join("etc/hostname"), "attic\n").unwrap();
    for root in [&other, &folder.path().join("box")] {
        std::fs::create_dir_all(root.join("var/lib/freedombox")).unwrap();
    }
    let page = Page::start(LIFEBOAT.as_ref(), folder.path(), &["--root", "box", "--root", "other"]);
    let browser = Browser::inside(&page);
    browser.give("choose-box", "0");
    let asked = browser.question();
    browser.give("choose-backup", &option(&asked, "a file that you send"));
    let asked = browser.question();
    assert_eq!(asked.question().as_deref(), Some("upload-to"));
    let offers = asked.body.matches("the disk of the box").count();
    assert!(offers == 1 && !asked.body.contains("the disk of the box &quot;attic"), "{}", asked.body);
}

#[test]
fn a_file_is_not_put_onto_a_disk_with_what_may_be_a_backup_and_cannot_be_read() {
    if let Some(why) = common::disks::cannot_mount(&["mke2fs", "losetup"]) {
        eprintln!("SKIPPED: {why}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let Some(sample) = sample(folder.path(), &[]) else { return };
    let backup = std::fs::read(sample.backup()).unwrap();
    std::fs::remove_file(sample.backup()).unwrap();
    let mut words = vec!["--root".to_owned(), "box".to_owned()];
    for (label, bytes) in [("SPARE", &[][..]), ("TORN", &backup[..backup.len() / 2])] {
        let tree = folder.path().join(format!("{label}.tree"));
        std::fs::create_dir(&tree).unwrap();
        std::fs::write(tree.join(if bytes.is_empty() { "readme.txt" } else { "backup.tar.gz" }), bytes).unwrap();
        let image = common::disks::blank(&folder.path().join(label), 64);
        common::disks::sh(&format!("mke2fs -q -t ext4 -L {label} -d {} {}", tree.display(), image.display()));
        words.extend(["--image".to_owned(), label.to_owned()]);
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let page = Page::start(LIFEBOAT.as_ref(), folder.path(), &words);
    let browser = Browser::inside(&page);
    browser.give("choose-box", "0");
    let asked = browser.question();
    assert!(asked.body.contains("it may be a backup, and cannot be read"), "{}", asked.body);
    browser.give("no-backup", &option(&asked, "send a backup"));
    let asked = browser.question();
    assert_eq!(asked.question().as_deref(), Some("upload-to"));
    assert!(asked.body.contains("&#x27;SPARE&#x27;") || asked.body.contains("'SPARE'"), "{}", asked.body);
    assert!(!asked.body.contains("'TORN' (") && !asked.body.contains("TORN&#"), "{}", asked.body);
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
    let asked = asked_after(&page, &browser, &now[1].1);
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
    let asked = asked_after(&page, &browser, &now[1].1);
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
