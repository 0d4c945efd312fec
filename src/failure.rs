//! What the user sees when something stops: what happened, in which state the data is, and what to do next.
//!
//! Built once, at the top, from the stages' errors. The kind decides the exit code; the table of codes below is the
//! only one, and `--help` and README are held against it by a test.

use crate::model::plan::{Blocker, BlockerKind};
use crate::model::state::DataState;
use crate::plan::NOT_INCLUDED;
use crate::restore::RestoreError;
use crate::restore::journal::JournalError;
use crate::source::ReadError;
use crate::survey::SurveyError;
use crate::survey::target::TargetError;
use crate::verify::VerifyError;
use serde::Serialize;
use std::error::Error;
use std::fmt::Write as _;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// All done.
    Done,
    /// Done, with losses that were listed.
    DoneWithLosses,
    /// The command line was wrong.
    Usage,
    /// No backup was found.
    NoBackup,
    /// Another run works on the same box, or a restore there is not finished.
    Busy,
    /// The passphrase was wrong.
    WrongPassphrase,
    /// The box's FreedomBox is too old for the backup.
    VersionBlocked,
    /// Not enough space.
    NoSpace,
    /// Verification failed, nothing was written.
    VerificationFailed,
    /// The source is damaged, a part was restored.
    Partial,
    /// The target was refused.
    RefusedTarget,
    /// Interrupted; `resume` goes on.
    Interrupted,
    /// Rolled back: the old data is in place.
    RolledBack,
    /// Stopped by an error of a disk or of the system.
    Failed,
    /// The next boot has more to do later (only `finish`).
    Waiting,
    /// Cancelled by the user.
    Cancelled,
}

/// The exit codes: number and meaning. A number that is not listed means failure.
pub const EXIT_CODES: [(Ending, u8, &str); 16] = [
    (Ending::Done, 0, "all done"),
    (Ending::DoneWithLosses, 1, "done, with losses that were listed"),
    (Ending::Usage, 2, "the command line was wrong, nothing was done"),
    (Ending::NoBackup, 10, "no backup was found"),
    (Ending::Busy, 11, "another run is working on the box, or an earlier restore is not finished"),
    (Ending::WrongPassphrase, 12, "the passphrase was wrong"),
    (Ending::VersionBlocked, 13, "the box's FreedomBox is too old for the backup"),
    (Ending::NoSpace, 14, "not enough space, nothing was written"),
    (Ending::VerificationFailed, 15, "verification failed, nothing was written"),
    (Ending::Partial, 16, "the backup is damaged, a part was restored"),
    (Ending::RefusedTarget, 17, "the target was refused, nothing was written"),
    (Ending::Interrupted, 18, "interrupted; 'lifeboat resume' goes on, 'lifeboat undo' goes back"),
    (Ending::RolledBack, 19, "rolled back, the old data is in place"),
    (Ending::Failed, 20, "stopped by an error of a disk or of the system"),
    (Ending::Waiting, 75, "something still waits for the next attempt (only 'lifeboat finish')"),
    (Ending::Cancelled, 130, "cancelled by the user"),
];

impl Ending {
    /// The exit code.
    pub fn code(self) -> u8 {
        EXIT_CODES.iter().find(|(ending, ..)| *ending == self).map_or(20, |(_, code, _)| *code)
    }
}

/// The table of exit codes as `--help` prints it.
pub fn exit_code_help() -> String {
    let mut text = String::from("Exit codes (any other code means failure):\n");
    for (_, code, meaning) in EXIT_CODES {
        let _ = writeln!(text, "  {code:>3}  {meaning}");
    }
    text
}

/// A run that stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// How it ended.
    pub ending: Ending,
    /// What happened, one sentence without a full stop, in lower case.
    pub sentence: String,
    /// In which state the user's data is.
    pub state: DataState,
    /// What to do next.
    pub advice: String,
}

impl Failure {
    /// A failure before anything was written.
    pub fn untouched(ending: Ending, sentence: impl Into<String>, advice: impl Into<String>) -> Failure {
        Failure { ending, sentence: sentence.into(), state: DataState::Untouched, advice: advice.into() }
    }

    /// The plan cannot be carried out.
    pub fn blocked(blocker: &Blocker) -> Failure {
        let ending = match blocker.kind {
            BlockerKind::Damaged | BlockerKind::Containment => Ending::VerificationFailed,
            BlockerKind::Version => Ending::VersionBlocked,
            BlockerKind::Space => Ending::NoSpace,
            BlockerKind::Target => Ending::RefusedTarget,
            BlockerKind::Unfinished => Ending::Busy,
            BlockerKind::Nothing => Ending::NoBackup,
        };
        Failure::untouched(ending, blocker.what.clone(), blocker.advice.clone())
    }

    /// A restore, resume, undo or commit stopped; `state` is what the journal says.
    pub fn of_restore(error: &RestoreError, state: DataState) -> Failure {
        let (ending, advice) = match error {
            RestoreError::OtherPlan { .. } => (
                Ending::Usage,
                "the box or the backup changed since the plan was shown: run 'lifeboat plan' again and read it",
            ),
            RestoreError::Blocked(_) => (Ending::Usage, "run 'lifeboat plan' to see what to do"),
            RestoreError::Busy => (Ending::Busy, "wait until it is finished, or stop it"),
            RestoreError::Unfinished(_) => {
                (Ending::Busy, "run 'lifeboat status', then 'lifeboat resume', 'lifeboat undo' or 'lifeboat commit'")
            }
            RestoreError::Nothing => (Ending::Usage, "run 'lifeboat plan' and 'lifeboat restore' first"),
            RestoreError::Source(ReadError::NotABackup(_)) => (Ending::NoBackup, "name another backup"),
            RestoreError::Source(_) | RestoreError::SourceChanged { .. } => (
                Ending::VerificationFailed,
                "check the medium that holds the backup and run 'lifeboat verify'; 'lifeboat undo' removes what was staged",
            ),
            RestoreError::SourceNeeded => (
                Ending::Interrupted,
                "run 'lifeboat restore' again with the same backup, or 'lifeboat undo' to remove what was staged",
            ),
            RestoreError::Refused { .. } => (
                Ending::VerificationFailed,
                "leave the app out with --apps, or use another backup; 'lifeboat undo' removes what was staged",
            ),
            RestoreError::Unknown { .. } | RestoreError::Journal(JournalError::Damaged { .. }) => (
                Ending::Failed,
                "change nothing on the box; the old and the restored data are both under /var/lib/lifeboat",
            ),
            RestoreError::Writing { source, .. } | RestoreError::Target { source, .. } => match source.kind() {
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                    (Ending::NoSpace, "make room on the box and run 'lifeboat resume', or go back with 'lifeboat undo'")
                }
                _ => (Ending::Interrupted, "check the box's disk, then run 'lifeboat resume' or 'lifeboat undo'"),
            },
            RestoreError::ReadBack { .. } | RestoreError::Journal(_) => {
                (Ending::Interrupted, "check the box's disk, then run 'lifeboat resume' or 'lifeboat undo'")
            }
        };
        Failure { ending, sentence: chain(error), state, advice: advice.into() }
    }
}

/// The error and its causes as one sentence.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.ends_with(&inner_text) {
            let _ = write!(text, ": {inner_text}");
        }
        cause = inner.source();
    }
    text
}

impl From<SurveyError> for Failure {
    fn from(error: SurveyError) -> Failure {
        Failure::untouched(Ending::Failed, chain(&error), "check the disk's connection and try again")
    }
}

impl From<TargetError> for Failure {
    fn from(error: TargetError) -> Failure {
        let advice = error.advice();
        Failure::untouched(Ending::RefusedTarget, chain(&error), advice)
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Failure {
        let (ending, advice) = match &error {
            ReadError::NotABackup(_) => (Ending::NoBackup, "run 'lifeboat survey' to see which backups are in reach"),
            ReadError::Unsupported { .. } => (Ending::VerificationFailed, "use another backup"),
            ReadError::Corrupt { .. } | ReadError::Mismatch { .. } => {
                (Ending::VerificationFailed, "use another backup, or an earlier copy of this one")
            }
            ReadError::Io(_) | ReadError::Stopped => {
                (Ending::Failed, "check the medium that holds the backup and try again")
            }
        };
        Failure::untouched(ending, chain(&error), advice)
    }
}

impl From<VerifyError> for Failure {
    fn from(error: VerifyError) -> Failure {
        match error {
            VerifyError::Read(error) => error.into(),
            VerifyError::NoSuchApp(_) => {
                Failure::untouched(Ending::Usage, chain(&error), "run 'lifeboat list' to see what the backup holds")
            }
        }
    }
}

/// What no backup holds, as one sentence for reports.
pub fn not_included() -> String {
    NOT_INCLUDED.join("; ")
}
