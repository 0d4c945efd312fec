//! The headless front end: the dialogue of the guide as a page over HTTPS, for boxes without a screen.
//!
//! A face at the [`Desk`] like a console, with no power of its own: it shows what the guide says and hands in answers.
//! One thread of its own runs everything that is asynchronous; the guide stays synchronous. Whoever can read the code
//! on a console may come in, one browser at a time. Without a session nothing of the dialogue is told. Nothing changes
//! by a GET, every form carries a token of its session, and no byte comes from elsewhere. Everything works without
//! scripts; a script only shows progress sooner. What a visitor sends is limited in size and time.

mod announce;
mod certificate;
mod door;
mod form;
mod listen;
mod notice;
mod page;
mod parcel;
mod routes;
mod text;

use crate::failure::Failure;
use crate::model::desk::Desk;
use crate::model::ending::Ending;
use door::Door;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Where HTTPS is expected, and where browsers knock first.
const HTTPS: u16 = 443;
const HTTP: u16 = 80;
/// Browsers without a script look for the next page every three seconds.
const FAREWELL: Duration = Duration::from_secs(4);

/// How the page is reached.
#[derive(Debug, Clone)]
pub struct Options {
    /// Address and port; by default port 443 of all addresses.
    pub listen: Option<SocketAddr>,
    /// The name on the local network, without `.local`.
    pub name: String,
    /// The file that says how the page is reached and what it waits for.
    pub status: Option<PathBuf>,
}

/// What all visitors share.
struct Site {
    desk: Arc<Desk>,
    door: Mutex<Door>,
    /// Something to tell on the next page.
    remark: Mutex<Option<String>>,
    /// `freedombox-recovery.local`.
    host: String,
    port: u16,
    fingerprint: String,
    address: IpAddr,
}

impl Site {
    fn door(&self) -> MutexGuard<'_, Door> {
        self.door.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remark(&self) -> MutexGuard<'_, Option<String>> {
        self.remark.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A page that is served until the program ends.
pub struct Served(Arc<Site>);

impl Served {
    /// Whether a browser is in.
    pub fn is_used(&self) -> bool {
        self.0.door().is_taken()
    }

    /// Gives the browser that is in the time to fetch the last page.
    pub fn farewell(&self) {
        if self.is_used() {
            thread::sleep(FAREWELL);
        }
    }
}

/// Opens the page.
pub fn open(desk: &Arc<Desk>, options: &Options) -> Result<Served, Failure> {
    let failed = |what: &str, error: io::Error| {
        let advice = "end what uses this port, or name another address with --listen";
        Failure::untouched(Ending::Failed, format!("{what}: {error}"), advice)
    };
    let listener = bind(options.listen).map_err(|error| failed("opening the page's port", error))?;
    let address = listener.local_addr().map_err(|error| failed("opening the page's port", error))?;
    let host = format!("{}.local", options.name);
    let names = vec![host.clone(), "localhost".to_owned()];
    let certificate = certificate::make(names).map_err(|error| failed("making the page's certificate", error))?;
    let site = Arc::new(Site {
        desk: Arc::clone(desk),
        door: Mutex::new(Door::new().map_err(|error| failed("making the page's code", error))?),
        remark: Mutex::new(None),
        host,
        port: address.port(),
        fingerprint: certificate.fingerprint,
        address: address.ip(),
    });
    // A browser that is only given the name comes here first, and is sent on.
    let plain = (address.port() == HTTPS).then(|| TcpListener::bind((address.ip(), HTTP)).ok()).flatten();
    let status = options.status.clone();
    let name = options.name.clone();
    let served = Arc::clone(&site);
    let serve = move || {
        // The name is a convenience: where it cannot be announced, the addresses work.
        let announced = announce::announce(&name, address).ok();
        let _ = listen::serve(site, certificate.config, listener, plain, status);
        drop(announced);
    };
    thread::Builder::new().name("page".into()).spawn(serve).map_err(|error| failed("starting the page", error))?;
    Ok(Served(served))
}

fn bind(address: Option<SocketAddr>) -> io::Result<TcpListener> {
    if let Some(address) = address {
        return TcpListener::bind(address);
    }
    // Both kinds of addresses, or the old kind where the kernel has only that.
    TcpListener::bind((Ipv6Addr::UNSPECIFIED, HTTPS)).or_else(|_| TcpListener::bind((Ipv4Addr::UNSPECIFIED, HTTPS)))
}
