//! What the user sees when something stops: what happened, in which state the data is, and what to do next.
//!
//! Built once, at the top, from the stages' errors. How it ended decides the exit code.

use crate::export::ExportError;
use crate::grow::GrowError;
pub use crate::model::cause::chain;
use crate::model::ending::Ending;
use crate::model::plan::{Blocker, BlockerKind};
use crate::model::state::DataState;
use crate::restore::RestoreError;
use crate::restore::journal::JournalError;
use crate::salvage::SalvageError;
use crate::source::ReadError;
use crate::survey::SurveyError;
use crate::survey::target::TargetError;
use crate::verify::VerifyError;
use serde::Serialize;

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
            RestoreError::Waits => {
                (Ending::Busy, "start the box: it finishes that by itself, and 'lifeboat status' shows how far it is")
            }
            RestoreError::Committing(_) => (Ending::Usage, "run 'lifeboat commit' again to finish it"),
            RestoreError::Committed(_) | RestoreError::Undone(_) => {
                (Ending::Usage, "there is nothing left to do; 'lifeboat plan' begins another restore")
            }
            RestoreError::NeedsRunningBox(_) => (
                Ending::Usage,
                "start the box normally and run '/var/lib/lifeboat/bin/lifeboat undo --onto /' there; nothing was changed",
            ),
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
            RestoreError::Writing { source, .. }
            | RestoreError::Target { source, .. }
            | RestoreError::Journal(JournalError::Io { source, .. }) => match source.kind() {
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => (
                    Ending::NoSpace,
                    "make room on the box and run 'lifeboat resume', or 'lifeboat undo', which makes room by itself",
                ),
                _ => (Ending::Interrupted, "check the box's disk, then run 'lifeboat resume' or 'lifeboat undo'"),
            },
            RestoreError::ReadBack { .. } | RestoreError::Journal(_) => {
                (Ending::Interrupted, "check the box's disk, then run 'lifeboat resume' or 'lifeboat undo'")
            }
        };
        Failure { ending, sentence: chain(error), state, advice: advice.into() }
    }
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

impl From<GrowError> for Failure {
    fn from(error: GrowError) -> Failure {
        let (ending, state) = match &error {
            GrowError::Stopped(_) | GrowError::Short => (Ending::Interrupted, DataState::OldDataActive),
            GrowError::Other(_) => (Ending::Usage, DataState::Untouched),
            GrowError::Sys(_) | GrowError::Own(_) => (Ending::Failed, DataState::Untouched),
            _ => (Ending::RefusedTarget, DataState::Untouched),
        };
        Failure { ending, state, sentence: chain(&error), advice: error.advice().into() }
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
            ReadError::NeedsPassphrase(_) => (
                Ending::WrongPassphrase,
                "name a file that holds it with --passphrase-file, or in an answer file the passphrase itself; on a terminal it is \
                 asked for",
            ),
            ReadError::WrongPassphrase(_) => (
                Ending::WrongPassphrase,
                "look for the passphrase that was set in FreedomBox (System, Backups); capitals and blanks count",
            ),
            ReadError::NeedsKeyFile(_) | ReadError::BadKeyFile(_) => {
                (Ending::WrongPassphrase, "name the key file, or what 'borg key export' wrote, with --key-file")
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

impl From<SalvageError> for Failure {
    fn from(error: SalvageError) -> Failure {
        const AGAIN: &str = "nothing that was read is lost: run the same command again, it goes on where it stopped";
        let (ending, advice) = match error {
            SalvageError::Refused(error) => return error.into(),
            SalvageError::NoMap(_) | SalvageError::BadMap { .. } => {
                (Ending::Usage, "name another file for the image; an existing one is never replaced")
            }
            SalvageError::NoImage(_) => (Ending::Usage, "put the image beside it, or name another file for the image"),
            SalvageError::Busy(_) => (Ending::Busy, "wait until it is finished, or stop it"),
            SalvageError::NoSpace { .. } => (Ending::NoSpace, "name a folder on a larger disk"),
            SalvageError::Empty(_) => {
                (Ending::Failed, "take the disk out and put it in again, or try another reader, cable or computer")
            }
            SalvageError::Gone(_) => (
                Ending::Failed,
                "take the disk out, let it cool down and put it in again, then run the same command again: it goes on \
                 where it stopped",
            ),
            SalvageError::Sys(ref error) => match error.source.kind() {
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => (
                    Ending::Failed,
                    "make room where the image is and run the same command again: it goes on where it stopped",
                ),
                std::io::ErrorKind::FileTooLarge => (
                    Ending::Failed,
                    "the disk there cannot hold files that long: format it with exFAT or ext4, or use another one",
                ),
                _ => (Ending::Failed, AGAIN),
            },
        };
        Failure::untouched(ending, chain(&error), advice)
    }
}

impl From<ExportError> for Failure {
    fn from(error: ExportError) -> Failure {
        let (ending, advice) = match error {
            ExportError::Read(error) => return error.into(),
            ExportError::Name(_) => (Ending::Usage, "name the file with one of these endings"),
            ExportError::Exists(_) => (Ending::Usage, "name another file; an existing one is never replaced"),
            ExportError::Inside(_) => (Ending::Usage, "name a file on another disk"),
            ExportError::Damaged { .. } | ExportError::Incomplete => (
                Ending::VerificationFailed,
                "run 'lifeboat verify' to see all of them; --accept-damage writes the file without them",
            ),
            ExportError::Writing { ref source, .. } if source.kind() == std::io::ErrorKind::FileTooLarge => (
                Ending::Failed,
                "the disk there cannot hold files that long: format it with exFAT or ext4, or use another one",
            ),
            ExportError::Writing { ref source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                (Ending::NoSpace, "make room there, or name a file on another disk")
            }
            ExportError::Writing { .. } | ExportError::ReadBack(_) => {
                (Ending::Failed, "check the medium that the file is written to, or name a file on another one")
            }
        };
        Failure::untouched(ending, chain(&error), advice)
    }
}
