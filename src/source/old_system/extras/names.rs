//! How an old system is called: its host name, and the domains that FreedomBox keeps for it.

use crate::model::extra::BoxNames;
use crate::model::installation::Installation;
use crate::survey::files::Files;

const HOSTS: &str = "etc/hosts";
const LARGEST: u64 = 1 << 20;
/// The address under which FreedomBox up to 24 keeps the domain, and Debian the host name.
const OWN_ADDRESS: &str = "127.0.1.1";

/// Reads both.
pub(super) fn read(files: &dyn Files, system: &Installation) -> BoxNames {
    let hosts = files.read(HOSTS, LARGEST).ok().flatten().unwrap_or_default();
    let mut domains: Vec<String> = Vec::new();
    for domain in system.domains.iter().cloned().chain(of_hosts(&String::from_utf8_lossy(&hosts))) {
        if is_domain(&domain) && !domains.contains(&domain) {
            domains.push(domain);
        }
    }
    BoxNames { host: Some(system.hostname.clone()).filter(|name| is_host(name)), domains }
}

/// The domains in a hosts file: `127.0.1.1 host.example.org host` means `example.org`.
fn of_hosts(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut fields = line.split('#').next().unwrap_or_default().split_whitespace();
        if fields.next() != Some(OWN_ADDRESS) {
            continue;
        }
        let names: Vec<&str> = fields.collect();
        let host = names.last().filter(|name| !name.contains('.'));
        for name in names.iter().filter(|name| name.contains('.')) {
            let after = host.and_then(|host| name.strip_prefix(*host)?.strip_prefix('.'));
            found.push(after.unwrap_or(name).to_ascii_lowercase());
        }
    }
    found
}

fn is_label(label: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_alphanumeric() || c == '-';
    (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-') && label.chars().all(is_letter)
}

fn is_host(name: &str) -> bool {
    is_label(name) && name != "localhost"
}

fn is_domain(name: &str) -> bool {
    // What Debian's installer writes where there is no domain.
    name.len() <= 253 && name.split('.').all(is_label) && !matches!(name, "localdomain" | "local" | "lan")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_domain_of_older_boxes_stands_in_their_hosts_file() {
        assert_eq!(of_hosts("127.0.0.1 localhost\n127.0.1.1 box.Example.org box # x\n"), ["example.org"]);
        assert_eq!(of_hosts("127.0.1.1 freedombox\n::1 a.example.org\n"), Vec::<String>::new());
        assert_eq!(of_hosts("127.0.1.1 one.example two.example\n"), ["one.example", "two.example"]);
        assert!(!is_domain("localdomain") && !is_domain("-a.org") && is_domain("a-b.example"));
        assert!(!is_host("a b") && !is_host("") && is_host("freedombox"));
    }
}
