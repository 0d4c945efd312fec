//! Whether a terminal shows what is typed.

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use std::io;
use std::os::fd::AsFd;

/// Lets the terminal show what is typed, or not. A line's end is always shown.
pub fn set(terminal: impl AsFd, is_shown: bool) -> io::Result<()> {
    let mut modes = tcgetattr(&terminal)?;
    modes.local_modes.set(LocalModes::ECHO, is_shown);
    modes.local_modes.set(LocalModes::ECHONL, !is_shown);
    Ok(tcsetattr(terminal, OptionalActions::Now, &modes)?)
}
