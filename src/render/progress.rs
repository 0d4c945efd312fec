//! Progress while it works: a bar on a capable terminal, a line every few seconds anywhere else, JSON lines for programs.
//!
//! A clock of its own ticks, so that silence of the disk is seen as well: a bar and a program hear something every
//! second, also when nothing moves. All of them show the same [`Snapshot`].

use crate::failure::Failure;
use crate::model::ending::Ending;
use crate::model::meter::{Meter, Snapshot};
use crate::model::progress::{Event, Phase, Progress};
use crate::model::size::ByteSize;
use crate::t;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::fs::File;
use std::io::{IsTerminal, Write};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// After how long without a move it is said.
const IDLE: u64 = 20;

/// How progress is shown.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shown {
    /// Plain lines also on a capable terminal.
    pub plain: bool,
    /// JSON lines on standard error instead of text.
    pub json: bool,
    /// JSON lines on this open file descriptor as well.
    pub fd: Option<u32>,
}

/// The reporter that fits the terminal and what was asked for.
pub fn reporter(shown: Shown) -> Result<Reporter, Failure> {
    let capable = std::io::stderr().is_terminal() && std::env::var("TERM").is_ok_and(|term| term != "dumb");
    let mut faces: Vec<Box<dyn Face>> = Vec::new();
    match (shown.json, capable && !shown.plain) {
        (true, _) => faces.push(Box::new(Jsonl(std::io::stderr()))),
        (false, true) => faces.push(Box::new(Bar(None))),
        (false, false) => faces.push(Box::new(Lines { last: None })),
    }
    if let Some(fd) = shown.fd {
        let opened = File::options().append(true).open(format!("/proc/self/fd/{fd}"));
        let file = opened.map_err(|error| {
            let sentence = format!("opening the file descriptor {fd} for progress: {error}");
            Failure::untouched(Ending::Usage, sentence, "name one that is open for writing with --progress-fd")
        })?;
        faces.push(Box::new(Jsonl(file)));
    }
    Ok(Reporter::with(faces, Duration::from_millis(500)))
}

/// One way of showing progress.
trait Face: Send {
    /// A phase begins, or what was done ends (`None`).
    fn turn(&mut self, phase: Option<&Snapshot>);
    /// Time went by; at least once a second.
    fn tick(&mut self, snapshot: &Snapshot);
}

/// Takes events and shows them in its faces, until it is dropped.
pub struct Reporter {
    state: Arc<Mutex<State>>,
    /// Dropping it stops the clock.
    stop: Option<Sender<()>>,
    clock: Option<JoinHandle<()>>,
}

struct State {
    meter: Meter,
    started: Instant,
    /// Whether a phase runs.
    busy: bool,
    faces: Vec<Box<dyn Face>>,
}

impl State {
    fn snapshot(&self) -> Option<Snapshot> {
        self.meter.at(self.started.elapsed()).filter(|_| self.busy)
    }

    fn tick(&mut self) {
        if let Some(snapshot) = self.snapshot() {
            self.faces.iter_mut().for_each(|face| face.tick(&snapshot));
        }
    }

    fn turn(&mut self) {
        let snapshot = self.snapshot();
        self.faces.iter_mut().for_each(|face| face.turn(snapshot.as_ref()));
    }
}

impl Reporter {
    fn with(faces: Vec<Box<dyn Face>>, every: Duration) -> Reporter {
        let state = State { meter: Meter::default(), started: Instant::now(), busy: false, faces };
        let state = Arc::new(Mutex::new(state));
        let (stop, stopped) = channel::<()>();
        let ticking = Arc::clone(&state);
        let clock = std::thread::Builder::new().spawn(move || {
            while matches!(stopped.recv_timeout(every), Err(RecvTimeoutError::Timeout)) {
                ticking.lock().unwrap_or_else(PoisonError::into_inner).tick();
            }
        });
        // Without the thread the events alone are shown.
        Reporter { state, stop: Some(stop), clock: clock.ok() }
    }
}

impl Progress for Reporter {
    fn event(&self, event: Event) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = state.started.elapsed();
        if matches!(event, Event::Phase { .. } | Event::End) && state.busy {
            // The last amount of what ends.
            state.tick();
        }
        state.meter.take(&event, now);
        match event {
            Event::Phase { .. } => {
                state.busy = true;
                state.turn();
            }
            Event::End if state.busy => {
                state.busy = false;
                state.turn();
            }
            Event::End | Event::Advance { .. } | Event::App { .. } => {}
        }
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.event(Event::End);
        self.stop = None;
        if let Some(clock) = self.clock.take() {
            let _ = clock.join();
        }
    }
}

/// What a phase is called.
pub fn phase_name(phase: Phase) -> String {
    match phase {
        Phase::Survey => t!("looking at disks"),
        Phase::Export => t!("writing the file"),
        Phase::Upload => t!("taking the file that is sent"),
        Phase::Verify => t!("reading and checking the backup"),
        Phase::Compare => t!("comparing with the box"),
        Phase::Stage => t!("writing beside the old data"),
        Phase::ReadBack => t!("reading back what was written"),
        Phase::Exchange => t!("exchanging old and new data"),
        Phase::CleanUp => t!("cleaning up"),
        Phase::Order => t!("finding what matters most on the disk"),
        Phase::Salvage => t!("copying the disk, what matters most first"),
        Phase::Trim => t!("finding the edges of the bad areas"),
        Phase::Scrape => t!("reading bad areas sector by sector"),
        Phase::Retry => t!("trying the bad sectors again"),
        Phase::Losses => t!("finding the files on lost sectors"),
    }
}

/// How far it is, in words: amount, speed, time left, app.
pub fn amounts(snapshot: &Snapshot) -> String {
    let done = ByteSize(snapshot.bytes_done);
    // A salvage counts reads that failed, everything else files.
    let is_salvage = matches!(snapshot.phase, Phase::Salvage | Phase::Trim | Phase::Scrape | Phase::Retry);
    let counted = match (snapshot.files_done, is_salvage) {
        (0, _) => String::new(),
        (count, true) => format!(", {}", t!("{count} reads failed", count = count)),
        (count, false) => format!(", {}", t!("{count} files", count = count)),
    };
    let mut text = match (snapshot.total_bytes, snapshot.percent_done) {
        (Some(total), Some(percent)) => {
            let amount = t!("{percent} %, {done} of {total}", percent = percent, done = done, total = ByteSize(total));
            amount + &counted
        }
        _ => format!("{done}{counted}"),
    };
    if snapshot.seconds_idle >= IDLE {
        return format!("{text}, {}", t!("nothing has moved for {time}", time = duration(snapshot.seconds_idle)));
    }
    text += &format!(", {}/s", ByteSize(snapshot.bytes_per_second));
    if let Some(left) = snapshot.seconds_remaining {
        text += &format!(", {}", t!("about {time} left", time = duration(left)));
    }
    match &snapshot.app {
        Some(app) => format!("{text}, {app}"),
        None => text,
    }
}

/// A time span in one or two units.
pub fn duration(seconds: u64) -> String {
    match seconds {
        0..=90 => format!("{seconds} s"),
        91..=5400 => format!("{} min", seconds.div_ceil(60)),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// One plain line at the start of a phase and every few seconds.
struct Lines {
    last: Option<Instant>,
}

impl Lines {
    /// How often a plain line is written.
    const EVERY: Duration = Duration::from_secs(5);
}

impl Face for Lines {
    fn turn(&mut self, phase: Option<&Snapshot>) {
        if let Some(snapshot) = phase {
            self.last = Some(Instant::now());
            say(&format!("{} ...", phase_name(snapshot.phase)));
        }
    }

    fn tick(&mut self, snapshot: &Snapshot) {
        if self.last.is_none_or(|last| last.elapsed() >= Lines::EVERY) {
            self.last = Some(Instant::now());
            say(&super::text::wrap("  ", &format!("{}: {}", phase_name(snapshot.phase), amounts(snapshot))));
        }
    }
}

fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", line.trim_end());
}

/// One line that is drawn anew, below the name of each phase.
struct Bar(Option<ProgressBar>);

impl Face for Bar {
    fn turn(&mut self, phase: Option<&Snapshot>) {
        if let Some(old) = self.0.take() {
            old.finish_and_clear();
        }
        let Some(snapshot) = phase else { return };
        say(&format!("{} ...", phase_name(snapshot.phase)));
        let bar = ProgressBar::no_length().with_style(style());
        self.0 = Some(bar);
        self.tick(snapshot);
    }

    fn tick(&mut self, snapshot: &Snapshot) {
        if let Some(bar) = &self.0 {
            bar.set_message(amounts(snapshot));
            bar.tick();
        }
    }
}

/// One line that is never longer than the terminal: not every one goes on in the next line by itself, and what it does
/// then is not taken back with the line. ASCII only: not every console has other characters for it.
fn style() -> ProgressStyle {
    let style = ProgressStyle::with_template("{spinner} {wide_msg}");
    style.unwrap_or_else(|_| ProgressStyle::default_bar()).tick_chars("|/-\\ ")
}

/// One JSON object per line.
struct Jsonl<W>(W);

/// One line.
#[derive(Serialize)]
struct Line<'a> {
    message_type: &'static str,
    #[serde(flatten)]
    snapshot: &'a Snapshot,
}

impl<W: Write + Send> Jsonl<W> {
    fn write(&mut self, snapshot: &Snapshot) {
        let Ok(mut line) = serde_json::to_vec(&Line { message_type: "status", snapshot }) else { return };
        line.push(b'\n');
        // Nobody may be reading; the work goes on.
        let _ = self.0.write_all(&line).and_then(|()| self.0.flush());
    }
}

impl<W: Write + Send> Face for Jsonl<W> {
    fn turn(&mut self, phase: Option<&Snapshot>) {
        if let Some(snapshot) = phase {
            self.write(snapshot);
        }
    }

    fn tick(&mut self, snapshot: &Snapshot) {
        self.write(snapshot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_program_hears_of_each_phase_of_its_end_and_of_silence() {
        let written = Shared::default();
        let reporter = Reporter::with(vec![Box::new(Jsonl(written.clone()))], Duration::from_millis(20));
        reporter.event(Event::Phase { phase: Phase::Verify, total: Some(100) });
        reporter.event(Event::App { name: "radicale".parse().unwrap() });
        reporter.event(Event::Advance { bytes: 40, entries: 2 });
        // Nothing moves, and lines come all the same.
        std::thread::sleep(Duration::from_millis(300));
        reporter.event(Event::Advance { bytes: 60, entries: 1 });
        reporter.event(Event::End);
        let until_end = written.0.lock().unwrap().len();
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(written.0.lock().unwrap().len(), until_end, "after the end nothing is said");
        drop(reporter);
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(lines.len() >= 4, "{text}");
        assert!(lines.iter().all(|line| line["message_type"] == "status" && line["phase"] == "verify"), "{text}");
        let done: Vec<u64> = lines.iter().map(|line| line["bytes_done"].as_u64().unwrap()).collect();
        assert!(done.is_sorted() && done.contains(&40), "{done:?}");
        let last = lines.last().unwrap();
        assert!(last["percent_done"] == 100 && last["files_done"] == 3 && last["app"] == "radicale", "{last}");
    }

    #[test]
    fn amounts_are_words_with_speed_time_left_and_app() {
        let mut snapshot = Snapshot {
            phase: Phase::Stage,
            app: Some("radicale".parse().unwrap()),
            bytes_done: 512 << 20,
            total_bytes: Some(1 << 30),
            files_done: 1200,
            percent_done: Some(50),
            seconds_elapsed: 60,
            bytes_per_second: 8 << 20,
            seconds_remaining: Some(64),
            seconds_idle: 0,
        };
        let text = amounts(&snapshot);
        assert_eq!(text, "50 %, 512 MiB of 1.00 GiB, 1200 files, 8.00 MiB/s, about 64 s left, radicale");
        snapshot.seconds_idle = 100;
        assert!(amounts(&snapshot).ends_with("1200 files, nothing has moved for 2 min"), "{}", amounts(&snapshot));
        assert_eq!(duration(7300), "2 h 1 min");
    }
}
