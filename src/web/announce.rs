//! The page's name on the local network: multicast DNS, so that nobody has to know an address.

use mdns_sd::{IfKind, ServiceDaemon, ServiceInfo};
use std::io;
use std::net::SocketAddr;

/// Answers for the name as long as it is kept.
pub(super) struct Announced(ServiceDaemon);

impl Drop for Announced {
    fn drop(&mut self) {
        let _ = self.0.shutdown();
    }
}

/// Announces `name.local` on the networks that the page listens on.
pub(super) fn announce(name: &str, address: SocketAddr) -> io::Result<Announced> {
    let daemon = ServiceDaemon::new().map_err(io::Error::other)?;
    let announced = Announced(daemon);
    let daemon = &announced.0;
    let ip = address.ip();
    if ip.is_loopback() {
        // What only this machine can reach is told to nobody else.
        daemon.disable_interface(IfKind::All).map_err(io::Error::other)?;
        let own = if ip.is_ipv4() { IfKind::LoopbackV4 } else { IfKind::LoopbackV6 };
        daemon.enable_interface(own).map_err(io::Error::other)?;
    } else {
        daemon.disable_interface(vec![IfKind::LoopbackV4, IfKind::LoopbackV6]).map_err(io::Error::other)?;
    }
    let host = format!("{name}.local.");
    let own = if ip.is_unspecified() { String::new() } else { ip.to_string() };
    let service = ServiceInfo::new("_https._tcp.local.", name, &host, own.as_str(), address.port(), None);
    let mut service = service.map_err(io::Error::other)?;
    if ip.is_unspecified() {
        service = service.enable_addr_auto();
    }
    daemon.register(service).map_err(io::Error::other)?;
    Ok(announced)
}
