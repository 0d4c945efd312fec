//! The guide's page in a process of its own, and a browser without scripts that knows it by its certificate.
#![allow(dead_code, missing_docs, reason = "every test binary uses its own part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "this is test code")]
#![allow(unreachable_pub, reason = "it is shared by test binaries")]

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long anything on a busy machine may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// A guide with its page on a port of the loopback interface.
pub struct Page {
    child: Child,
    folder: PathBuf,
    pub port: u16,
}

impl Page {
    /// Starts the guide in `folder`, where its logs and its `status.txt` lie then.
    pub fn start(program: &Path, folder: &Path, args: &[&str]) -> Page {
        Page::start_asking(program, folder, &[args, &["--language", "en"]].concat())
    }

    /// The same, in no language yet.
    pub fn start_asking(program: &Path, folder: &Path, args: &[&str]) -> Page {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("lifeboat-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let log = |name: &str| Stdio::from(File::create(folder.join(name)).unwrap());
        let mut command = Command::new(program);
        command.args(["guide", "--plain", "--web", "--listen", "127.0.0.1:0", "--status", "status.txt"]);
        command.args(["--name", &name]).args(args).current_dir(folder).env("LANG", "C").env_remove("LC_ALL");
        let child = command.stdin(Stdio::null()).stdout(log("out.txt")).stderr(log("err.txt")).spawn().unwrap();
        let mut page = Page { child, folder: folder.to_owned(), port: 0 };
        let address = page.until("an address", |page| page.line("https://127.0.0.1:"));
        page.port = address.trim_end_matches('/').parse().unwrap();
        page
    }

    #[track_caller]
    fn until<T>(&self, what: &str, look: impl Fn(&Page) -> Option<T>) -> T {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(found) = look(self) {
                return found;
            }
            sleep(Duration::from_millis(50));
        }
        panic!("no {what}\nout: {}\nerr: {}\nstatus: {}", self.out(), self.err(), self.status());
    }

    /// What follows `start` on its line of `status.txt`.
    fn line(&self, start: &str) -> Option<String> {
        self.status().lines().find_map(|line| Some(line.trim().strip_prefix(start)?.to_owned()))
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.join(name)).unwrap_or_default()
    }

    pub fn status(&self) -> String {
        self.read("status.txt")
    }

    pub fn out(&self) -> String {
        self.read("out.txt")
    }

    pub fn err(&self) -> String {
        self.read("err.txt")
    }

    /// The code that stands in `status.txt`.
    pub fn code(&self) -> String {
        self.until("code", |page| page.line("code: "))
    }

    /// The code that follows `used`.
    pub fn next_code(&self, used: &str) -> String {
        self.until("next code", |page| page.line("code: ").filter(|code| code != used))
    }

    fn fingerprint(&self) -> String {
        let lines = self.status();
        let hex = |line: &&str| line.len() > 40 && line.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
        lines.lines().map(str::trim).filter(hex).collect()
    }

    /// Waits for the program to end; its exit code.
    pub fn end(mut self) -> i32 {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            sleep(Duration::from_millis(50));
        }
        panic!("it does not end: {}", self.out());
    }

    /// An encrypted connection. The certificate has to be the one whose fingerprint is told.
    pub fn connect(&self) -> Stream {
        let verifier = Arc::new(ByFingerprint(self.fingerprint()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        StreamOwned::new(connection, self.tcp())
    }

    /// A connection without anything.
    pub fn tcp(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends bytes, and gives everything that comes back until the connection ends.
    pub fn raw(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.connect();
        let _ = stream.write_all(bytes).and_then(|()| stream.flush());
        let mut back = Vec::new();
        // A connection that is ended in the middle is an error; what came before counts.
        let _ = stream.read_to_end(&mut back);
        back
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub type Stream = StreamOwned<ClientConnection, TcpStream>;

#[derive(Debug)]
struct ByFingerprint(String);

impl ServerCertVerifier for ByFingerprint {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let sum = lifeboat::model::digest::Sha256Digest::of(certificate).to_string();
        let told = self.0.replace(':', "").to_lowercase();
        if sum == told {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::Error::General("another one".into()))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// What came back.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Reply {
    pub fn of(bytes: &[u8]) -> Reply {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Reply { status, head: head.to_owned(), body: body.to_owned() }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The value of a hidden field.
    #[track_caller]
    pub fn hidden(&self, name: &str) -> String {
        let start = format!("type=\"hidden\" name=\"{name}\" value=\"");
        let (_, rest) = self.body.split_once(&start).unwrap_or_else(|| panic!("no field '{name}': {}", self.body));
        rest.split('"').next().unwrap().to_owned()
    }

    /// The id of the open question.
    pub fn question(&self) -> Option<String> {
        Some(self.body.split_once("data-id=\"")?.1.split('"').next()?.to_owned())
    }
}

/// A browser that runs no scripts and keeps one cookie.
pub struct Browser<'a> {
    pub page: &'a Page,
    pub cookie: String,
}

impl<'a> Browser<'a> {
    pub fn new(page: &'a Page) -> Browser<'a> {
        Browser { page, cookie: String::new() }
    }

    /// One that came in with the code of `status.txt`.
    #[track_caller]
    pub fn inside(page: &'a Page) -> Browser<'a> {
        let mut browser = Browser::new(page);
        let reply = browser.enter(&page.code());
        assert_eq!(reply.status, 303, "{reply:?}");
        browser
    }

    pub fn own(&self) -> String {
        format!("127.0.0.1:{}", self.page.port)
    }

    /// A request with a body, and headers as lines.
    pub fn send(&self, method: &str, path: &str, headers: &[String], body: &[u8]) -> Reply {
        let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
        for header in headers {
            head += &format!("{header}\r\n");
        }
        Reply::of(&self.page.raw(&[head.as_bytes(), b"\r\n", body].concat()))
    }

    /// The headers that a real browser sends with a form.
    pub fn headers(&self) -> Vec<String> {
        let own = self.own();
        let mut headers = vec![format!("Host: {own}"), format!("Origin: https://{own}")];
        headers.push("Content-Type: application/x-www-form-urlencoded".into());
        if !self.cookie.is_empty() {
            headers.push(format!("Cookie: other=1; {}", self.cookie));
        }
        headers
    }

    pub fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &self.headers(), b"")
    }

    pub fn post(&self, path: &str, fields: &[(&str, &str)]) -> Reply {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        self.send("POST", path, &self.headers(), body.as_bytes())
    }

    pub fn enter(&mut self, code: &str) -> Reply {
        let reply = self.post("/code", &[("code", code)]);
        if let Some(cookie) = reply.header("set-cookie") {
            self.cookie = cookie.split(';').next().unwrap().to_owned();
        }
        reply
    }

    /// Loads the page again and again until a question is open.
    #[track_caller]
    pub fn question(&self) -> Reply {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            let reply = self.get("/");
            assert_eq!(reply.status, 200, "{reply:?}");
            if reply.question().is_some() {
                return reply;
            }
            sleep(Duration::from_millis(100));
        }
        panic!("no question: {}", self.page.out());
    }

    /// Answers the question on a page.
    pub fn answer(&self, on: &Reply, answer: &str) -> Reply {
        let (token, number) = (on.hidden("token"), on.hidden("number"));
        self.post("/answer", &[("token", &token), ("number", &number), ("answer", answer)])
    }

    /// Waits for the question with this id and answers it; the page that asked it.
    #[track_caller]
    pub fn give(&self, id: &str, answer: &str) -> Reply {
        let asked = self.question();
        assert_eq!(asked.question().as_deref(), Some(id), "{}", asked.body);
        let reply = self.answer(&asked, answer);
        assert_eq!(reply.status, 303, "{reply:?}");
        asked
    }
}
