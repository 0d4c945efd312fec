//! Progress on standard error: bars on a capable terminal, a line every few seconds anywhere else.

use crate::model::progress::{Event, Phase, Progress};
use crate::model::size::ByteSize;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How often a plain line is written.
const EVERY: Duration = Duration::from_secs(5);

/// The reporter that fits the terminal; lines where `plain` asks for them.
pub fn reporter(plain: bool) -> Box<dyn Progress> {
    let capable = std::io::stderr().is_terminal() && std::env::var("TERM").is_ok_and(|term| term != "dumb");
    if capable && !plain { Box::new(Bar::default()) } else { Box::new(Lines::default()) }
}

/// What a phase is called.
fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Survey => "looking at disks",
        Phase::Export => "writing the file",
        Phase::Verify => "reading and checking the backup",
        Phase::Compare => "comparing with the box",
        Phase::Stage => "writing beside the old data",
        Phase::ReadBack => "reading back what was written",
        Phase::Exchange => "exchanging old and new data",
        Phase::CleanUp => "cleaning up",
        Phase::Order => "finding what matters most on the disk",
        Phase::Salvage => "copying the disk, what matters most first",
        Phase::Trim => "finding the edges of the bad areas",
        Phase::Scrape => "reading bad areas sector by sector",
        Phase::Retry => "trying the bad sectors again",
        Phase::Losses => "finding the files on lost sectors",
    }
}

/// One plain line at the start of a phase and every few seconds.
#[derive(Default)]
struct Lines(Mutex<Option<Running>>);

struct Running {
    phase: Phase,
    total: Option<u64>,
    bytes: u64,
    entries: u64,
    started: Instant,
    last: Instant,
}

impl Progress for Lines {
    fn event(&self, event: Event) {
        let Ok(mut running) = self.0.lock() else { return };
        match event {
            Event::Phase { phase, total } => {
                say(&format!("{} ...", phase_name(phase)));
                let now = Instant::now();
                *running = Some(Running { phase, total, bytes: 0, entries: 0, started: now, last: now });
            }
            Event::Advance { bytes, entries } => {
                let Some(running) = running.as_mut() else { return };
                running.bytes = running.bytes.saturating_add(bytes);
                running.entries = running.entries.saturating_add(entries);
                if running.last.elapsed() >= EVERY {
                    running.last = Instant::now();
                    say(&running.line());
                }
            }
            Event::App { name } => say(&format!("  {name}")),
        }
    }
}

impl Running {
    fn line(&self) -> String {
        let rate = (self.bytes as f64 / self.started.elapsed().as_secs_f64().max(0.001)) as u64;
        let done = ByteSize(self.bytes);
        let amount = match self.total.filter(|total| *total > 0) {
            Some(total) => {
                let left = total
                    .saturating_sub(self.bytes)
                    .checked_div(rate)
                    .map_or(String::new(), |left| format!(", about {left} s left"));
                let failed = match self.phase {
                    Phase::Salvage | Phase::Trim | Phase::Scrape | Phase::Retry if self.entries > 0 => {
                        format!(", {} reads failed", self.entries)
                    }
                    _ => String::new(),
                };
                let part = self.bytes.saturating_mul(100) / total;
                format!("{done} of {} ({part} %){failed}{left}", ByteSize(total))
            }
            None => format!("{done}, {} entries", self.entries),
        };
        format!("  {}: {amount}, {}/s", phase_name(self.phase), ByteSize(rate))
    }
}

fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// One bar that is drawn anew in each phase.
#[derive(Default)]
struct Bar(Mutex<Option<ProgressBar>>);

impl Progress for Bar {
    fn event(&self, event: Event) {
        let Ok(mut bar) = self.0.lock() else { return };
        match event {
            Event::Phase { phase, total } => {
                if let Some(old) = bar.take() {
                    old.finish_and_clear();
                }
                let new = match total {
                    Some(total) => {
                        ProgressBar::new(total).with_style(style("{msg} [{bar:24}] {bytes}/{total_bytes} {eta}"))
                    }
                    None => ProgressBar::no_length().with_style(style("{msg} {bytes} {bytes_per_sec}")),
                };
                new.set_message(phase_name(phase));
                *bar = Some(new);
            }
            Event::Advance { bytes, .. } => {
                if let Some(bar) = bar.as_ref() {
                    bar.inc(bytes);
                }
            }
            Event::App { name } => {
                if let Some(bar) = bar.as_ref() {
                    bar.println(format!("  {name}"));
                }
            }
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Ok(Some(bar)) = self.0.lock().map(|mut bar| bar.take()) {
            bar.finish_and_clear();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    // ASCII only: not every console has the block characters.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}
