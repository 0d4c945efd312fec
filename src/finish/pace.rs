//! How long things may take, and how often the scheduled start really tries again: sooner at first, then less and less
//! often, and at once when the network changed, unless it comes and goes all the time. Kept for this boot only, by the
//! time since it, as a box's clock may jump.

use crate::sys::host::Host;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Pauses after the first, second, … attempt in vain, in minutes.
const PAUSES: [u64; 5] = [0, 15, 30, 60, 120];
const LONGEST: u64 = 240;
/// Attempts in a row that a changed network caused, after which a changed network is not reason enough, for so many seconds.
const MOST_CHANGES: usize = 5;
const LEAST_PAUSE: u64 = 15 * 60;
const FILE: &str = "pace.json";
/// Whether there is a way to the internet, as NetworkManager told the script beside the units, where it looks for that.
const CONNECTIVITY: &str = "connectivity";

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Pace {
    /// Attempts in vain since the last one that got on.
    vain: usize,
    /// Seconds since the boot at which the next attempt is due.
    due: u64,
    /// Seconds since the boot at the end of the last attempt.
    at: u64,
    /// How many in a row only a changed network caused.
    restless: usize,
    /// The network when the last attempt began.
    network: String,
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

/// How long FreedomBox works after its start on what the restored apps brought: names, certificates, services.
pub(super) fn start() -> Duration {
    if is_staged() { Duration::ZERO } else { Duration::from_secs(45) }
}

/// Whether an attempt is due.
pub(super) fn is_due(host: &Host) -> bool {
    let pace = read(host);
    let Some(now) = uptime(host) else { return true };
    let may_follow = pace.restless < MOST_CHANGES || now >= pace.at.saturating_add(LEAST_PAUSE);
    now >= pace.due || (network(host) != pace.network && may_follow)
}

/// Whether the network that an attempt began with is another one by now, and no attempt is due for another reason. Who
/// starts the work while it is under way only finds it at work.
pub(super) fn has_changed(host: &Host) -> bool {
    let pace = read(host);
    network(host) != pace.network && pace.vain > 0 && is_due(host)
}

/// Notes how an attempt ended that began with that network: whether it got on with anything.
pub(super) fn note(host: &Host, got_on: bool, network: String) {
    let before = read(host);
    let vain = if got_on { 0 } else { before.vain.saturating_add(1) };
    let pause = PAUSES.get(vain).copied().unwrap_or(LONGEST).saturating_mul(60);
    let at = uptime(host).unwrap_or(0);
    let restless = if got_on || at >= before.due { 0 } else { before.restless.saturating_add(1) };
    let pace = Pace { vain, due: at.saturating_add(pause), at, restless, network };
    // Without the note it is only tried more often.
    let _ = host.make_runtime();
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

/// The ways out of this machine: interface, destination and gateway of each route, and where they lead to.
pub(super) fn network(host: &Host) -> String {
    let text = std::fs::read_to_string(host.proc("net/route")).unwrap_or_default();
    let lines = text.lines().skip(1).map(|line| line.split_whitespace().take(3).collect::<Vec<_>>().join(" "));
    let reaches = std::fs::read_to_string(host.runtime_file(CONNECTIVITY)).unwrap_or_default();
    [lines.collect::<Vec<_>>().join(";"), reaches.trim().to_owned()].join("|")
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
                note(&host, false, network(&host));
            }
        }
        assert!((6..=14).contains(&attempts), "{attempts} attempts on the first day");
        assert!(!is_due(&host));
        let routes = |gateway: &str| {
            fs::write(temp.path().join("proc/net/route"), format!("Iface\nend0 00000000 {gateway} x\n"))
        };
        routes("0101A8C0").unwrap();
        assert!(is_due(&host));
        note(&host, true, network(&host));
        assert!(is_due(&host) && !has_changed(&host), "after getting on it goes on");
        // Its router has no way out at first, and then it has.
        note(&host, false, network(&host));
        assert!(!is_due(&host));
        let began = network(&host);
        fs::write(run.join("connectivity"), "FULL\n").unwrap();
        assert!(is_due(&host));
        note(&host, false, began);
        assert!(has_changed(&host), "the network that came during the attempt was not there when it began");
        // A network that comes and goes every minute of a day.
        let begun = 25 * 60;
        let mut attempts = 0;
        for minute in 0..24 * 60 {
            at((begun + minute) * 60);
            routes(&format!("{minute:08X}")).unwrap();
            if is_due(&host) {
                attempts += 1;
                note(&host, false, network(&host));
            }
        }
        assert!((6..=105).contains(&attempts), "{attempts} attempts on a day with a bad network");
    }
}
