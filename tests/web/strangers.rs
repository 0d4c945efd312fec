//! Visitors who mean no good, or nothing at all.

use super::*;

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
