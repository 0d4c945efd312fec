//! Fault points: named places where a test cuts the power, fails a write or fills the disk.
//!
//! Compiled in for unit tests and with the feature `faults`; in the shipped program every point is an empty function.
//! `LIFEBOAT_FAULT=<point>:<n>:<action>` acts at the n-th time (from 1) that the point is reached. Actions: `kill`, `eio`,
//! `enospc`, `erofs`, `eintr`, and `short`, which is a disk that gets full in the middle of what is written. Where bytes
//! are written, `kill` and `short` let the first half of them through. `hold` waits for as long as the file
//! `LIFEBOAT_FAULT_HOLD` exists.
//! `LIFEBOAT_FAULT_TRACE=<file>` appends the name of every point that is reached, so that a test can list them all.

use std::io;

/// Passes the point `name`, or fails as the environment asks.
#[cfg(any(test, feature = "faults"))]
pub fn point(name: &str) -> io::Result<()> {
    write(name, &[], |_| Ok(()))
}

/// Passes the point `name` with `bytes` to be written.
#[cfg(any(test, feature = "faults"))]
pub fn write(name: &str, bytes: &[u8], mut write: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let Some(action) = action(name)? else { return write(bytes) };
    if ["kill", "short"].contains(&action.as_str()) {
        write(bytes.get(..bytes.len() / 2).unwrap_or_default())?;
    }
    match action.as_str() {
        // The nearest thing to a power cut that a process can do: no unwinding, no destructor, no flush.
        "kill" => {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            std::process::abort()
        }
        "eio" => Err(rustix::io::Errno::IO.into()),
        "enospc" | "short" => Err(rustix::io::Errno::NOSPC.into()),
        "erofs" => Err(rustix::io::Errno::ROFS.into()),
        "hold" => {
            let held = std::env::var_os("LIFEBOAT_FAULT_HOLD").unwrap_or_default();
            while std::path::Path::new(&held).exists() {
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
            write(bytes)
        }
        "eintr" => Err(rustix::io::Errno::INTR.into()),
        other => Err(io::Error::other(format!("unknown fault action {other}"))),
    }
}

/// What the environment asks for at this moment.
#[cfg(any(test, feature = "faults"))]
fn action(name: &str) -> io::Result<Option<String>> {
    use std::collections::BTreeMap;
    use std::io::{Error, Write as _};
    use std::sync::Mutex;

    static HITS: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());
    if let Some(file) = std::env::var_os("LIFEBOAT_FAULT_TRACE") {
        let mut trace = std::fs::OpenOptions::new().append(true).create(true).open(file)?;
        writeln!(trace, "{name}")?;
    }
    let Ok(wanted) = std::env::var("LIFEBOAT_FAULT") else { return Ok(None) };
    let mut parts = wanted.splitn(3, ':');
    let (Some(point), Some(count), Some(action)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(Error::other(format!("LIFEBOAT_FAULT is not point:n:action: {wanted}")));
    };
    if point != name {
        return Ok(None);
    }
    let mut hits = HITS.lock().map_err(|_| Error::other("a fault point panicked"))?;
    let hit = hits.entry(name.to_owned()).or_default();
    *hit += 1;
    Ok((count.parse() == Ok(*hit)).then(|| action.to_owned()))
}

/// Does nothing: this build has no fault points.
#[cfg(not(any(test, feature = "faults")))]
#[inline(always)]
#[allow(clippy::unnecessary_wraps, reason = "the same signature as the build with fault points")]
pub fn point(_name: &str) -> io::Result<()> {
    Ok(())
}

/// Writes: this build has no fault points.
#[cfg(not(any(test, feature = "faults")))]
#[inline(always)]
pub fn write(_name: &str, bytes: &[u8], mut write: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    write(bytes)
}
