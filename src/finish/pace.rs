//! How long things may take, and how often the scheduled start really tries again: sooner at first, then less and less
//! often, and at once when the network changed. Kept for this boot only, by the time since it, as a box's clock may jump.

use crate::sys::host::Host;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Pauses after the first, second, … attempt in vain, in minutes.
const PAUSES: [u64; 5] = [0, 15, 30, 60, 120];
const LONGEST: u64 = 240;
const FILE: &str = "pace.json";

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Pace {
    /// Attempts in vain since the last one that got on.
    vain: usize,
    /// Seconds since the boot at which the next attempt is due.
    due: u64,
    /// The routes at the last attempt.
    routes: String,
}

/// Whether the programs of this machine are a test's: its services never take time.
fn is_staged() -> bool {
    cfg!(feature = "faults") && std::env::var_os("LIFEBOAT_PROGRAMS").is_some()
}

/// How long to wait between two looks at a service.
pub(super) fn pause() -> Duration {
    if is_staged() { Duration::from_millis(10) } else { Duration::from_secs(5) }
}

/// How long an app may take to answer after its data came. A board with one slow core takes minutes for a first page.
pub(super) fn patience() -> Duration {
    if is_staged() { Duration::ZERO } else { Duration::from_secs(300) }
}

/// How long services that were installed just now may take until what they do not answer counts as usual for them.
pub(super) fn settling() -> Duration {
    if is_staged() { Duration::ZERO } else { Duration::from_secs(20) }
}

/// Whether an attempt is due.
pub(super) fn is_due(host: &Host) -> bool {
    let pace = read(host);
    uptime(host).is_none_or(|now| now >= pace.due) || routes(host) != pace.routes
}

/// Notes how an attempt ended: whether it got on with anything.
pub(super) fn note(host: &Host, got_on: bool) {
    let before = read(host);
    let vain = if got_on { 0 } else { before.vain.saturating_add(1) };
    let pause = PAUSES.get(vain).copied().unwrap_or(LONGEST).saturating_mul(60);
    let due = uptime(host).unwrap_or(0).saturating_add(pause);
    let pace = Pace { vain, due, routes: routes(host) };
    // Without the note it is only tried more often.
    let _ = serde_json::to_vec(&pace).map(|json| std::fs::write(host.runtime_file(FILE), json));
}

fn read(host: &Host) -> Pace {
    let text = std::fs::read(host.runtime_file(FILE)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

fn uptime(host: &Host) -> Option<u64> {
    let text = std::fs::read_to_string(host.proc("uptime")).ok()?;
    text.split(['.', ' ']).next()?.parse().ok()
}

/// The ways out of this machine: interface, destination and gateway of each route.
fn routes(host: &Host) -> String {
    let text = std::fs::read_to_string(host.proc("net/route")).unwrap_or_default();
    let lines = text.lines().skip(1).map(|line| line.split_whitespace().take(3).collect::<Vec<_>>().join(" "));
    lines.collect::<Vec<_>>().join(";")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::command::Programs;
    use crate::sys::host::SystemClock;
    use crate::sys::mount::KernelMounter;
    use std::fs;
    use std::sync::Arc;

    #[test]
    fn attempts_in_vain_become_rare_and_a_changed_network_is_tried_at_once() {
        let temp = tempfile::tempdir().unwrap();
        let run = temp.path().join("run");
        fs::create_dir_all(temp.path().join("proc/net")).unwrap();
        fs::create_dir(&run).unwrap();
        let host = Host::new(temp.path(), &run, Arc::new(KernelMounter), Arc::new(Programs), Arc::new(SystemClock));
        let at = |seconds: u64| fs::write(temp.path().join("proc/uptime"), format!("{seconds}.00 1.00\n")).unwrap();
        let mut attempts = 0;
        // A day of starts every 15 minutes.
        for minute in (1..24 * 60).step_by(15) {
            at(minute * 60);
            if is_due(&host) {
                attempts += 1;
                note(&host, false);
            }
        }
        assert!((6..=14).contains(&attempts), "{attempts} attempts on the first day");
        assert!(!is_due(&host));
        fs::write(temp.path().join("proc/net/route"), "Iface\nend0 00000000 0101A8C0 x\n").unwrap();
        assert!(is_due(&host));
        note(&host, true);
        assert!(is_due(&host), "after getting on it goes on");
    }
}
