//! How a run can end, and the exit code of each ending: the only table of exit codes there is.

use serde::Serialize;
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
    /// The answer file did not answer a question.
    Unanswered,
    /// The next boot has more to do later (only `finish`).
    Waiting,
    /// Cancelled by the user.
    Cancelled,
}

/// The exit codes: number and meaning. A number that is not listed means failure.
pub const EXIT_CODES: [(Ending, u8, &str); 17] = [
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
    (Ending::Unanswered, 21, "the answer file did not answer a question, nothing was written"),
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
