//! What a long operation tells while it works. Stages report events; only `render` turns them into bars or lines.

use super::app::AppId;
use serde::{Deserialize, Serialize};

/// One step of progress. Numbers only grow within a phase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A new phase starts; `total` is its size in bytes where that is known.
    Phase {
        /// Which one.
        phase: Phase,
        /// Bytes that the phase will process.
        total: Option<u64>,
    },
    /// Work was done in the current phase.
    Advance {
        /// Bytes processed since the last event.
        bytes: u64,
        /// Entries processed since the last event.
        entries: u64,
    },
    /// The app that is being worked on.
    App {
        /// Its id.
        name: AppId,
    },
    /// The work is over, well or not: there is nothing to wait for any more.
    End,
}

/// The phases of a rescue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Looking at disks.
    Survey,
    /// Writing a backup as one file.
    Export,
    /// Taking a file that somebody sends.
    Upload,
    /// Reading a backup to its end.
    Verify,
    /// Comparing with the target.
    Compare,
    /// Writing into the staging area.
    Stage,
    /// Reading back what was written.
    ReadBack,
    /// Exchanging old and new data.
    Exchange,
    /// Removing or moving back data.
    CleanUp,
    /// Finding on a failing disk what matters most.
    Order,
    /// Copying what a failing disk gives easily.
    Salvage,
    /// Finding the edges of a failing disk's bad areas.
    Trim,
    /// Reading bad areas sector by sector.
    Scrape,
    /// Trying bad sectors again.
    Retry,
    /// Finding the files that lie on lost sectors.
    Losses,
}

/// Where events go. Implementations are cheap and never fail.
pub trait Progress: Sync {
    /// Takes one event.
    fn event(&self, event: Event);
}

/// Work that is watched: says that it is over when it is dropped, however that comes.
pub struct Watched<'a>(&'a dyn Progress);

impl<'a> Watched<'a> {
    /// The work that is done from here on.
    pub fn by(progress: &'a dyn Progress) -> Watched<'a> {
        Watched(progress)
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        self.0.event(Event::End);
    }
}

/// Nobody watches.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _: Event) {}
}
