//! How the page is reached, for people in front of a console and for whoever reads `status.txt`.
//!
//! Told again whenever it changes: a network that comes later, a code that was used.

use super::{HTTPS, Site};
use crate::model::desk::Question;
use crate::render::progress::phase_name;
use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::interval;

const EVERY: Duration = Duration::from_millis(500);
/// Looks at the addresses each so many times.
const ADDRESSES: u32 = 4;

/// Tells it until the program ends.
pub(super) async fn tell(site: Arc<Site>, status: Option<PathBuf>) {
    let mut ticks = interval(EVERY);
    let (mut round, mut places) = (0u32, Vec::new());
    let (mut told, mut written) = (String::new(), String::new());
    loop {
        ticks.tick().await;
        if round.is_multiple_of(ADDRESSES) {
            places = reached_at(&site);
        }
        round = round.wrapping_add(1);
        let (code, is_taken) = {
            let door = site.door();
            (door.code(), door.is_taken())
        };
        let notice = notice(&site, &places, &code, is_taken);
        if notice != told {
            site.desk.aside(notice.clone());
            told = notice;
        }
        let Some(file) = &status else { continue };
        let now = format!("{}\n{told}", state(&site));
        // What cannot be written is tried again, and missed by nobody who sees a console.
        if now != written && write(file, &now).is_ok() {
            written = now;
        }
    }
}

fn notice(site: &Site, places: &[String], code: &str, is_taken: bool) -> String {
    let first = if is_taken {
        "A browser uses the page. To take over with another one:"
    } else {
        "Lifeboat can also be used from a browser on the same network:"
    };
    let mut text = format!("{first}\n");
    for place in places {
        text += &format!("  {place}\n");
    }
    if places.len() < 2 {
        text += "  (this computer has no network address yet)\n";
    }
    let (one, two) = site.fingerprint.split_at(site.fingerprint.len().min(48));
    text += &format!("  code: {code}\n");
    text += "The browser warns, because nobody vouches for a box at home. The certificate\n\
             that it shows has this SHA-256 fingerprint, or it is not this box:\n";
    text + &format!("  {one}\n  {two}\n")
}

/// What Lifeboat does or waits for, in one line.
fn state(site: &Site) -> String {
    if let Some(sheet) = site.desk.open() {
        let what = if matches!(sheet.question, Question::Secret(_)) { "a passphrase" } else { "an answer" };
        return format!("Lifeboat waits for {what} [{}].", sheet.question.screen().id);
    }
    match site.desk.work() {
        Some(work) => format!("Lifeboat is working: {}.", phase_name(work.phase)),
        None => "Lifeboat is working.".to_owned(),
    }
}

/// The addresses of the page, the name first.
fn reached_at(site: &Site) -> Vec<String> {
    let port = |host: String| match site.port {
        HTTPS => format!("https://{host}/"),
        port => format!("https://{host}:{port}/"),
    };
    let mut ips: Vec<IpAddr> = if site.address.is_unspecified() {
        let all = if_addrs::get_if_addrs().unwrap_or_default();
        all.into_iter().map(|interface| interface.ip()).filter(is_reachable).collect()
    } else {
        vec![site.address]
    };
    ips.sort();
    ips.dedup();
    let host = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    std::iter::once(site.host.clone()).chain(ips.iter().map(host)).map(port).collect()
}

fn is_reachable(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local(),
        // Browsers cannot name a link-local address with its interface.
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local(),
    }
}

/// Writes a file whole or not at all, with line ends that every editor understands. Only root may read it.
fn write(file: &Path, text: &str) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut new = file.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let _ = fs::remove_file(&new);
    let mut output = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    output.write_all(text.replace('\n', "\r\n").as_bytes())?;
    output.sync_all()?;
    fs::rename(&new, file)
}
