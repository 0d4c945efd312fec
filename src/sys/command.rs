//! External programs: a fixed argument list, no shell, nothing on standard input, an empty environment.

use super::SysError;
use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

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

/// Hears what a program writes to standard error, line by line.
pub type Listener = Box<dyn Fn(&[u8]) + Send>;

/// Runs programs.
pub trait Commands: Send + Sync {
    /// Runs `program` with `args` and waits for its end.
    fn run(&self, program: &str, args: &[&OsStr]) -> io::Result<Output>;

    /// Starts `program` to talk with it by lines. What it writes to standard error goes to `log`.
    fn talk(&self, program: &str, args: &[&OsStr], log: Listener) -> io::Result<Talk>;
}

/// Programs of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Programs;

impl Commands for Programs {
    fn run(&self, program: &str, args: &[&OsStr]) -> io::Result<Output> {
        let output = prepare(program, args)?.stdin(Stdio::null()).output()?;
        Ok(Output { status: output.status.code(), stdout: output.stdout, stderr: output.stderr })
    }

    fn talk(&self, program: &str, args: &[&OsStr], log: Listener) -> io::Result<Talk> {
        let mut command = prepare(program, args)?;
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let taken = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(to), Some(from), Some(errors)) = taken else {
            return Err(io::Error::other("the program was started without pipes"));
        };
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(from).split(b'\n') {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        std::thread::spawn(move || {
            let lines = BufReader::new(errors).split(b'\n').map_while(Result::ok);
            lines.for_each(|line| log(&line));
        });
        Ok(Talk { child, to: Some(to), lines })
    }
}

/// The program with what every one gets.
fn prepare(program: &str, args: &[&OsStr]) -> io::Result<Command> {
    // The search happens here, as the child has no PATH of the caller's choosing.
    let place = folders()
        .iter()
        .map(|folder| folder.join(program))
        .find(|path| path.exists())
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the program is not installed"))?;
    let mut command = Command::new(place);
    command
        .args(args)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C.UTF-8")
        .env("HOME", "/root")
        // No package may ask a question: nobody is there to answer.
        .env("DEBIAN_FRONTEND", "noninteractive")
        .current_dir("/");
    Ok(command)
}

/// Where programs are looked for; a test puts others in their place.
fn folders() -> Vec<PathBuf> {
    #[cfg(feature = "faults")]
    if let Some(folder) = std::env::var_os("LIFEBOAT_PROGRAMS") {
        return vec![folder.into()];
    }
    ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from).to_vec()
}

/// A program that is running, with which lines are exchanged.
#[derive(Debug)]
pub struct Talk {
    child: Child,
    to: Option<ChildStdin>,
    lines: Receiver<io::Result<Vec<u8>>>,
}

impl Talk {
    /// Says a line to it.
    pub fn say(&mut self, line: &[u8]) -> io::Result<()> {
        let to = self.to.as_mut().ok_or_else(|| io::Error::other("the program was ended"))?;
        to.write_all(line)?;
        to.write_all(b"\n")?;
        to.flush()
    }

    /// Its next line; `None` when it ended, an error of kind `TimedOut` when it says nothing for that long.
    pub fn hear(&mut self, patience: Duration) -> io::Result<Option<Vec<u8>>> {
        match self.lines.recv_timeout(patience) {
            Ok(line) => line.map(Some),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

impl Drop for Talk {
    /// Nothing to read is what ends it; a program that does not end by itself is ended.
    fn drop(&mut self) {
        drop(self.to.take());
        for _ in 0..50 {
            match self.child.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(100)),
                _ => return,
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
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
