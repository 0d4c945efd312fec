//! Terminals: a new one that a program can run on, and the raw form of those that are there.

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{ControlModes, OptionalActions, Winsize, tcgetattr, tcgetpgrp, tcsetattr, tcsetwinsize};
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// What every console can show.
const SIZE: Winsize = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };

/// A new terminal, of 24 lines with 80 columns: what is written to `outer` was typed, what is read was shown.
#[derive(Debug)]
pub struct Pair {
    /// The side of whoever shows it to people.
    pub outer: File,
    /// The terminal's name, for the program that runs on it.
    pub name: PathBuf,
}

/// Makes a new terminal.
pub fn pair() -> io::Result<Pair> {
    let outer = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&outer)?;
    unlockpt(&outer)?;
    tcsetwinsize(&outer, SIZE)?;
    let name = PathBuf::from(OsStr::from_bytes(ptsname(&outer, Vec::new())?.as_bytes()));
    Ok(Pair { outer: outer.into(), name })
}

/// Opens a terminal without making it the controlling one; never waits for a modem.
pub fn open(name: &Path) -> io::Result<File> {
    let flags = OFlags::NOCTTY | OFlags::NONBLOCK;
    let file = OpenOptions::new().read(true).write(true).custom_flags(flags.bits().cast_signed()).open(name)?;
    fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
    Ok(file)
}

/// Lets every byte through in both directions as it is. A stray XOFF from a cable that ends nowhere stops nothing.
pub fn make_raw(terminal: &File) -> io::Result<()> {
    let mut modes = tcgetattr(terminal)?;
    modes.make_raw();
    modes.control_modes |= ControlModes::CLOCAL | ControlModes::CREAD;
    modes.control_modes -= ControlModes::CRTSCTS;
    Ok(tcsetattr(terminal, OptionalActions::Now, &modes)?)
}

/// The process group that gets what is typed on it; `None` where it has none.
pub fn foreground(outer: &File) -> Option<i32> {
    tcgetpgrp(outer).ok().map(|group| group.as_raw_nonzero().get())
}
