//! What people and programs see: the only place that prints.
//!
//! The result goes to standard output, as text or, with `--json`, as the same value in JSON. Talk and progress go to
//! standard error. Text is plain lines of at most 80 columns; its meaning never depends on colour or on the cursor.

pub mod answers;
pub mod console;
pub mod drill;
pub mod growth;
pub mod plan;
pub mod progress;
pub mod prompt;
pub mod record;
pub mod salvage;
pub mod screen;
pub mod text;

use crate::failure::Failure;
use serde::Serialize;
use std::io::{self, Write};

/// A value that has a text view.
pub trait View: Serialize {
    /// The text, with a newline at the end.
    fn text(&self) -> String;
}

/// How results are printed.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// As JSON instead of text.
    pub json: bool,
}

impl Output {
    /// Prints a result.
    pub fn show<V: View>(&self, value: &V) -> io::Result<()> {
        if self.json {
            let mut out = io::stdout().lock();
            serde_json::to_writer_pretty(&mut out, value)?;
            return writeln!(out);
        }
        io::stdout().lock().write_all(value.text().as_bytes())
    }

    /// Prints what was made for another program.
    pub fn bytes(&self, bytes: &[u8]) -> io::Result<()> {
        io::stdout().lock().write_all(bytes)
    }

    /// Prints why a run stopped: for people on standard error, and with `--json` as a value on standard output too.
    pub fn show_failure(&self, failure: &Failure) -> io::Result<()> {
        if self.json {
            let mut out = io::stdout().lock();
            serde_json::to_writer_pretty(&mut out, &serde_json::json!({ "failure": failure }))?;
            writeln!(out)?;
        }
        io::stderr().lock().write_all(text::failure(failure).as_bytes())
    }

    /// Says something on standard error.
    pub fn say(&self, sentence: &str) {
        // Nobody can be told that standard error is gone.
        let _ = io::stderr().lock().write_all(text::wrap("", sentence).as_bytes());
    }
}
