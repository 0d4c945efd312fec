//! Opening a backup: a location becomes an [`Archive`] with entries, whatever its format.
//!
//! Never writes to a source, not even a lock or an access time where that can be helped. Never skips an entry that it
//! does not understand: that is an error which names the entry.
//!
//! [`open_location`] is the one way in: a file is one archive, a folder is searched ([`list`], [`find`]).

mod borg;
mod content;
mod location;
mod medium;
pub mod old_system;
mod scan;
mod sidecar;
mod stream;
mod tar_export;
mod unlock;
mod unpack;

pub use content::for_each_piece;
pub use location::{Listing, each, find, is_repository, list, list_deleted, open_location};
pub use tar_export::{open, open_file};
pub use unlock::{NoPassphrase, OnePassphrase, Unlock};

use crate::model::app::AppId;
use crate::model::archive::{ArchiveId, ArchiveSummary};
use crate::model::entry::Entry;
use crate::model::extra::Extras;
use crate::model::finding::Finding;
use crate::model::path::RelPath;
use crate::model::progress::Progress;
use crate::model::size::ByteSize;
use std::io::{self, BufRead};

/// One backup, opened read-only.
pub trait Archive {
    /// Its name in its location.
    fn id(&self) -> &ArchiveId;

    /// Its name, time and apps. May have to scan the whole archive once (FreedomBox writes the manifest last). Fails
    /// only when the manifest is damaged or lies behind the damage.
    fn summary(&mut self) -> Result<ArchiveSummary, ReadError>;

    /// Hands every entry to `visitor`, in archive order, each with its content, and reads to the true end.
    /// May be called again; each call starts from the beginning. Reports [`Advance`] events to `progress`, which add up
    /// to [`size`](Self::size).
    ///
    /// Borg archives a path once for every path to back up that contains it, so an honest archive may hold the same
    /// entry several times.
    ///
    /// Where a format proves each file by itself, damage of one file does not end the reading: the visitor is told with
    /// [`Visitor::damaged`], the ending has a finding, and the next entry follows.
    ///
    /// [`Advance`]: crate::model::progress::Event::Advance
    fn read(&mut self, visitor: &mut dyn Visitor, progress: &dyn Progress) -> Result<Ending, ReadError>;

    /// How many bytes [`read`](Self::read) will report, where that is known before.
    fn size(&self) -> Option<ByteSize>;

    /// Hands out the folders that it holds besides apps as well, from now on; its summary has them as one more app.
    fn add_folders(&mut self) {}

    /// Hands out the database servers' own files that these apps (all, where none are named) need, because no dump tells
    /// what they held, from now on; its summary has them as one more app. Returns where they lie.
    fn add_databases(&mut self, _apps: Option<&[AppId]>) -> Vec<RelPath> {
        Vec::new()
    }

    /// What it holds besides apps. No backup of FreedomBox holds any of that.
    fn extras(&self) -> Option<&Extras> {
        None
    }
}

/// Takes backups one by one, each with the name that is shown for it, or why it cannot be opened.
pub type Take<'a> = dyn FnMut(&str, Result<Box<dyn Archive>, ReadError>) + 'a;

/// What is done with the entries of an archive.
pub trait Visitor {
    /// Whether [`visit`](Self::visit) will read the content of this file. An archive may ask some entries ahead, at most
    /// once for each, and then hands out no content where the answer was no; it is checked all the same.
    fn needs_content(&mut self, _entry: &Entry) -> bool {
        true
    }

    /// Takes one entry. `content` yields exactly the file's bytes (nothing for other kinds), mostly where
    /// they lie, so that nothing is copied ([`for_each_piece`]); what is not read is skipped, but still checked. An error of `content` must be passed on as [`VisitError::Content`].
    fn visit(&mut self, entry: &Entry, content: &mut dyn BufRead) -> Result<(), VisitError>;

    /// Says that the content of this entry is damaged, and that what follows it is not. The entry was visited just
    /// before and its content ended with an error, unless its content was not needed or it is another name of a damaged
    /// file: these are not visited.
    fn damaged(&mut self, _entry: &Entry) {}

    /// Says that entries are lost between the one before and the next one, nobody knows which.
    fn lost(&mut self) {}
}

/// Why a visitor does not go on.
#[derive(Debug)]
pub enum VisitError {
    /// Reading the entry's content failed; the archive knows why.
    Content(io::Error),
    /// The visitor has its own reason and keeps it.
    Stop,
}

/// How reading to the end went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// What proves the content.
    pub proof: Proof,
    /// What was noticed on the way; damage only of single files.
    pub findings: Vec<Finding>,
}

/// What proves that the content is what was backed up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// A checksum over all content was present and right; the text says which.
    Checked(String),
    /// No checksum covers the content; the text says why.
    Unproven(String),
}

/// Why an archive could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The medium or the filesystem below failed.
    #[error("reading the backup: {0}")]
    Io(#[source] io::Error),
    /// The format has something that Lifeboat does not restore.
    #[error("{entry}: {what}")]
    Unsupported {
        /// The entry's name as text.
        entry: String,
        /// What is not supported.
        what: String,
    },
    /// The archive is damaged; nothing after this place can be trusted, and nothing before it is proven.
    #[error("the backup is damaged {place}: {what}")]
    Corrupt {
        /// Where: an offset or an entry, in words that fit after "damaged".
        place: String,
        /// What is wrong.
        what: String,
    },
    /// The archive could be read to its end, but a checksum over all of it is wrong: some bytes changed, nobody knows
    /// which.
    #[error("the backup is damaged at an unknown place: {what}")]
    Mismatch {
        /// Which checksum is wrong.
        what: String,
    },
    /// It is encrypted, and there was no passphrase to try.
    #[error("{0} is encrypted and needs a passphrase")]
    NeedsPassphrase(String),
    /// None of the passphrases opened it.
    #[error("the passphrase for {0} is wrong")]
    WrongPassphrase(String),
    /// Its key is not in it, and no file with it was given: the whole sentence.
    #[error("{0}")]
    NeedsKeyFile(String),
    /// The key file that was given does not fit.
    #[error("the key file cannot be used: {0}")]
    BadKeyFile(String),
    /// It is not a backup in any format that is known.
    #[error("{0}")]
    NotABackup(String),
    /// The visitor stopped.
    #[error("reading was stopped")]
    Stopped,
}
