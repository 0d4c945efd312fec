//! External programs: a fixed argument list, no shell, nothing on standard input, an empty environment.

use super::SysError;
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

/// What a program left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Exit status; `None` when a signal ended it.
    pub status: Option<i32>,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

/// Runs programs.
pub trait Commands: Send + Sync {
    /// Runs `program` with `args` and waits for its end.
    fn run(&self, program: &str, args: &[&OsStr]) -> io::Result<Output>;
}

/// Programs of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Programs;

impl Commands for Programs {
    fn run(&self, program: &str, args: &[&OsStr]) -> io::Result<Output> {
        // The search happens here, as the child has no PATH of the caller's choosing.
        let place = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"]
            .iter()
            .map(|folder| Path::new(folder).join(program))
            .find(|path| path.exists())
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the program is not installed"))?;
        let output = Command::new(place)
            .args(args)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_ALL", "C")
            .current_dir("/")
            .stdin(Stdio::null())
            .output()?;
        Ok(Output { status: output.status.code(), stdout: output.stdout, stderr: output.stderr })
    }
}

/// Runs a program that must end well, and returns its standard output.
pub fn succeed(commands: &dyn Commands, program: &'static str, args: &[&OsStr]) -> Result<Vec<u8>, SysError> {
    let failed = |source| SysError { operation: "running", subject: program.to_owned(), source };
    let output = commands.run(program, args).map_err(failed)?;
    if output.status == Some(0) {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let status = output.status.map_or_else(|| "a signal".to_owned(), |code| format!("status {code}"));
    Err(failed(io::Error::other(format!("it ended with {status}: {}", said.trim()))))
}
