//! What stays on the box for its owner: the report, the log, and the words of the notification.
//!
//! The directory and its files are root's alone: what programs print may hold more than it should.

use super::driver::Log;
use crate::model::app::AppId;
use crate::model::finish::{AppProgress, Stand};
use crate::restore::{RestoreError, Standing, doing};
use crate::sys::dir::{self, Dir};
use std::io::Write;
use std::sync::{Arc, Mutex};

/// Where they lie.
const LOGS: &str = "var/log/lifeboat";
/// How many characters of a reason a notification shows.
const LONGEST_REASON: usize = 160;

/// Writes the report of a run for people and for programs, readable by root only.
pub fn keep_report(root: &Dir, text: &str, json: &[u8]) -> Result<(), RestoreError> {
    let logs = logs(root)?;
    for (name, content) in [(&b"report.txt"[..], text.as_bytes()), (b"report.json", json)] {
        let new = [name, b".new"].concat();
        let write = || -> std::io::Result<()> {
            if logs.stat_child(&new)?.is_some() {
                logs.remove_file(&new)?;
            }
            let mut file = logs.create_file(&new)?;
            file.write_all(content)?;
            dir::sync_file(&file)?;
            logs.replace(&new, name)
        };
        write().map_err(doing("writing the report"))?;
    }
    logs.sync().map_err(doing("writing the report"))
}

fn logs(root: &Dir) -> Result<Dir, RestoreError> {
    let failed = || doing(format!("opening \"{LOGS}\""));
    let mut at = root.again().map_err(failed())?;
    for name in LOGS.split('/') {
        at.make_child(name.as_bytes()).map_err(failed())?;
        at = at.child(name.as_bytes()).map_err(failed())?;
    }
    Ok(at)
}

/// The log of everything that FreedomBox and its packages said.
pub(super) fn open_log(root: &Dir) -> Result<Log, RestoreError> {
    let file = logs(root)?.append_file(b"finish.log").map_err(doing("opening the log"))?;
    let file = Mutex::new(file);
    Ok(Arc::new(move |line: &[u8]| {
        if let Ok(mut file) = file.lock() {
            // A log that cannot be written must not stop a restore.
            let _ = file.write_all(&[line, b"\n"].concat());
        }
    }))
}

/// Whom an account has to be made for.
pub(super) fn people_missing(names: &[String]) -> String {
    let names = names.join(", ");
    format!("The backup has data of people who have no account here: please create users with these names: {names}")
}

/// Title, message and severity of the notification.
pub(super) fn summary(all: &[Standing]) -> (String, String, &'static str) {
    let progress: Vec<&AppProgress> = all.iter().flat_map(|standing| &standing.progress).collect();
    let finished = progress.iter().filter(|app| app.stand == Stand::Finished).count();
    let in_place = all.iter().flat_map(|standing| &standing.done).count().saturating_sub(finished);
    let waiting: Vec<&&AppProgress> = progress.iter().filter(|app| app.stand == Stand::Waiting).collect();
    let lost: Vec<&&AppProgress> = progress.iter().filter(|app| app.stand == Stand::NotRestored).collect();
    let done = finished.saturating_add(in_place);
    let of = done.saturating_add(waiting.len()).saturating_add(lost.len());
    let mut title = format!("Restore: {done} of {of} apps restored");
    if !waiting.is_empty() {
        title += &format!(", {} waiting", waiting.len());
    }
    if !lost.is_empty() {
        title += &format!(", {} NOT restored", lost.len());
    }
    let mut message = String::new();
    for app in waiting.iter().chain(&lost) {
        let why = app.why.as_deref().unwrap_or("it is its turn soon");
        message += &format!("{}: {}. ", app.name, short(why));
    }
    // What is done and still lacks something must not look like the rest.
    let lacking: Vec<(&AppId, &str)> = progress.iter().filter_map(|app| Some((&app.name, attention(app)?))).collect();
    for (name, what) in &lacking {
        message += &format!("{name}: {}. ", short(what));
    }
    if waiting.is_empty() && lost.is_empty() {
        message += "The old data is kept for 14 days. ";
    } else if !waiting.is_empty() {
        message += "It goes on by itself. ";
    }
    message += "Details: /var/log/lifeboat/report.txt on the box.";
    let severity = match (waiting.is_empty() && lacking.is_empty(), lost.is_empty()) {
        (_, false) => "error",
        (false, _) => "warning",
        _ => "info",
    };
    (title, message, severity)
}

/// A reason as long as a notification has room for; the report has all of it.
fn short(reason: &str) -> String {
    let Some(room) = reason.char_indices().nth(LONGEST_REASON).and_then(|(end, _)| reason.get(..end)) else {
        return reason.to_owned();
    };
    let words = room.rsplit_once(char::is_whitespace).map_or(room, |(words, _)| words);
    format!("{} …", words.trim_end_matches([' ', ',', ';', ':', '.']))
}

/// What a finished app lacks, by its notes.
fn attention(app: &AppProgress) -> Option<&str> {
    let note = app.note.as_deref().filter(|_| app.stand == Stand::Finished)?;
    note.get(note.find("ATTENTION")?..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_reason_is_cut_between_words_and_the_cut_is_shown() {
        assert_eq!(short("too short to be cut"), "too short to be cut");
        let reason = "wörter, ".repeat(50);
        let cut = short(&reason);
        assert!(cut.chars().count() <= LONGEST_REASON + 2 && cut.ends_with("wörter …"), "{cut}");
        assert_eq!(short(&"x".repeat(500)), format!("{} …", "x".repeat(LONGEST_REASON)));
    }
}
