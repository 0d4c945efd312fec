//! The list of files, read and understood in a thread of its own: whoever takes their content has enough to do.
//!
//! Memory is bounded by the batches on their way, not by what the archive holds.

use super::entry::{Holes, Meaning, meaning};
use super::items::{Items, Step};
use super::repository::Repository;
use crate::formats::borg::ObjectId;
use crate::formats::borg::item::{Chunk, Item};
use crate::source::ReadError;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};

/// How many files go over together, because handing over costs more than understanding one, and how long they may be,
/// packed.
const BATCH: usize = 64;
const BATCH_LENGTH: usize = 512 << 10;
/// How many batches wait.
const MOST_WAITING: usize = 4;

/// What the list has at one place.
pub(super) struct Listed {
    pub(super) meaning: Meaning,
    /// BSD file flags.
    pub(super) flags: i128,
    pub(super) chunks: Vec<Chunk>,
    /// Why its content is not what was backed up, where that is known before.
    pub(super) damage: Option<String>,
    /// How long it is, packed.
    pub(super) length: usize,
}

/// Some of the list, and how it ended where that was the last of it.
#[derive(Default)]
struct Batch {
    listed: Vec<Listed>,
    length: usize,
    end: Option<Result<(), ReadError>>,
}

/// The end where the list is taken from.
pub(super) struct Listing {
    batches: Receiver<Batch>,
    listed: std::vec::IntoIter<Listed>,
    end: Option<Result<(), ReadError>>,
}

/// The two ends of a list: [`read`] fills the first one.
pub(super) fn listing() -> (Sink, Listing) {
    let (sink, batches) = sync_channel(MOST_WAITING);
    (Sink(sink), Listing { batches, listed: Vec::new().into_iter(), end: None })
}

/// The end where the list is put in.
pub(super) struct Sink(SyncSender<Batch>);

/// Whether there is more of the list.
pub(super) enum More {
    Listed(Listed),
    /// Not yet.
    Later,
    /// It is over.
    Nothing,
}

impl Listing {
    /// What comes next; waits for it where that `may_wait`.
    pub(super) fn next(&mut self, may_wait: bool) -> More {
        loop {
            if let Some(listed) = self.listed.next() {
                return More::Listed(listed);
            }
            if self.end.is_some() {
                return More::Nothing;
            }
            let batch = match self.batches.try_recv() {
                Err(TryRecvError::Empty) if !may_wait => return More::Later,
                Err(TryRecvError::Empty) => self.batches.recv().ok(),
                other => other.ok(),
            };
            // Who reads the list says when it is over; a list without an end is never taken for a whole one.
            let cut = || Err(ReadError::Io(std::io::Error::other("the thread that reads the list of files ended")));
            let batch = batch.unwrap_or_else(|| Batch { end: Some(cut()), ..Batch::default() });
            (self.listed, self.end) = (batch.listed.into_iter(), batch.end);
        }
    }

    /// How it ended; an error is told once.
    pub(super) fn end(&mut self) -> Result<(), ReadError> {
        self.end.as_mut().map_or(Ok(()), |end| std::mem::replace(end, Ok(())))
    }
}

/// Reads the whole list into `sink`, or until nobody takes it any more.
pub(super) fn read(repository: &Repository, pieces: &[ObjectId], sink: &Sink) {
    let mut items = Items::new(repository, pieces);
    let mut holes = Holes::default();
    let mut batch = Batch::default();
    let mut most = 1;
    while batch.end.is_none() {
        let understood = match items.next_item() {
            Some(Step::Item(item)) => understand(repository, *item, &mut holes),
            Some(Step::Lost(lost)) => Ok(Listed::lost(lost.to_string())),
            None => {
                batch.end = Some(Ok(()));
                break;
            }
        };
        match understood {
            Ok(listed) => {
                batch.length = batch.length.saturating_add(listed.length);
                batch.listed.push(listed);
            }
            Err(error) => batch.end = Some(Err(error)),
        }
        let is_full = batch.listed.len() >= most || batch.length >= BATCH_LENGTH;
        if is_full && batch.end.is_none() {
            // The threads that decode wait for the first ones.
            most = (most * 2).min(BATCH);
            if sink.0.send(std::mem::take(&mut batch)).is_err() {
                return;
            }
        }
    }
    // Nobody to take it is no loss.
    let _ = sink.0.send(batch);
}

impl Listed {
    /// In the place of items that cannot be read.
    fn lost(what: String) -> Listed {
        Listed { meaning: Meaning::Lost(what), flags: 0, chunks: Vec::new(), damage: None, length: 0 }
    }
}

fn understand(repository: &Repository, mut item: Item, holes: &mut Holes) -> Result<Listed, ReadError> {
    let mut damage = None;
    if let Some(healthy) = item.healthy.take() {
        // `borg check --repair` had put zeros in the place of pieces that were lost; they may have come back.
        if healthy.iter().all(|chunk| repository.has(&chunk.id)) {
            item.chunks = Some(healthy);
        } else {
            damage = Some("a piece of its content was lost, and 'borg check' put zeros in its place".to_owned());
        }
    }
    let is_sparse = holes.is_in(item.chunks.as_deref().unwrap_or_default(), |content| repository.id_of(content));
    let meaning = meaning(&mut item, is_sparse)?;
    let chunks = item.chunks.unwrap_or_default();
    Ok(Listed { meaning, flags: item.flags, chunks, damage, length: item.length })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(names: &[&str], end: Option<Result<(), ReadError>>) -> Batch {
        Batch { listed: names.iter().map(|name| Listed::lost((*name).to_owned())).collect(), length: 0, end }
    }

    /// All that is handed out, and how it ended.
    fn all(listing: &mut Listing) -> (Vec<String>, Result<(), ReadError>) {
        let mut names = Vec::new();
        while let More::Listed(listed) = listing.next(true) {
            if let Meaning::Lost(name) = listed.meaning {
                names.push(name);
            }
        }
        (names, listing.end())
    }

    #[test]
    fn all_batches_are_handed_out_in_order_up_to_the_end() {
        let (sink, mut listing) = listing();
        sink.0.send(batch(&["a", "b"], None)).unwrap();
        sink.0.send(batch(&[], None)).unwrap();
        sink.0.send(batch(&["c"], Some(Ok(())))).unwrap();
        let (names, end) = all(&mut listing);
        assert_eq!(names, ["a", "b", "c"]);
        assert!(end.is_ok() && matches!(listing.next(true), More::Nothing));
    }

    #[test]
    fn what_comes_before_an_error_is_handed_out_and_the_error_is_told_once() {
        let (sink, mut listing) = listing();
        let error = ReadError::Corrupt { place: "here".into(), what: "bad".into() };
        sink.0.send(batch(&["a"], Some(Err(error)))).unwrap();
        let (names, end) = all(&mut listing);
        assert_eq!(names, ["a"]);
        assert!(matches!(end, Err(ReadError::Corrupt { .. })) && listing.end().is_ok());
    }

    #[test]
    fn a_list_whose_reader_is_gone_before_the_end_is_not_taken_for_a_whole_one() {
        let (sink, mut listing) = listing();
        sink.0.send(batch(&["a"], None)).unwrap();
        assert!(matches!(listing.next(false), More::Listed(_)));
        assert!(matches!(listing.next(false), More::Later));
        drop(sink);
        assert!(matches!(all(&mut listing), (names, Err(ReadError::Io(_))) if names.is_empty()));
    }
}
