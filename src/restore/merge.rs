//! Bringing folders of people into a living system: what is not there moves in, what is there stays.
//!
//! Nothing on the box is replaced or moved away. Where it has something else under the same name, the old one comes
//! beside it, under a name that says so. Every move is one rename onto a name that nothing has. All of them are written
//! down before the first is made, each with what the tree looks like then: undoing takes back what looks so still, and
//! leaves what somebody has changed since.

use super::exchange::Names;
use super::journal::Record;
use super::{Restore, RestoreError, doing, place, writing};
use crate::model::digest::TreeDigest;
use crate::model::path::RelPath;
use crate::model::plan::Step;
use crate::sys::dir::{self, Dir, Kind, Stat};
use crate::sys::{fault, tree};
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};

/// Ends the name of what comes beside something else.
const BESIDE: &[u8] = b".from-old-box";
/// Names that are tried where that one is taken.
const MOST_BESIDE: u32 = 9;
/// Longest name of most filesystems.
const LONGEST_NAME: usize = 255;
/// How often it is looked again what is missing: somebody may work in the folder meanwhile.
const ROUNDS: u32 = 5;
/// Most names that a record has.
const MOST_NAMED: usize = 20;
/// Deepest nesting followed: `PATH_MAX` allows no more.
const DEEPEST: usize = 2048;

/// One move, as it stands in a line of the step's list.
#[derive(Debug, Serialize, Deserialize)]
struct Move {
    from: RelPath,
    to: RelPath,
    /// What the tree looks like, by [`tree::shape`].
    shape: TreeDigest,
    beside: bool,
}

impl Restore {
    /// Brings in what the box lacks of a parked folder. Can be called again. What the box has no place for stays parked,
    /// and is an error that names it.
    pub fn merge(&mut self, step: &Step) -> Result<(), RestoreError> {
        self.make_parents(&step.destination)?;
        let failed = || writing(&step.destination);
        for _ in 0..ROUNDS {
            let mut look = Look { root: self.root(), moves: Vec::new(), stuck: Vec::new() };
            look.compare(&step.place(), &step.destination, 0).map_err(failed())?;
            let Look { moves, stuck, .. } = look;
            if moves.is_empty() {
                let filesystem = self.root().parent(&step.destination);
                filesystem.and_then(|at| at.sync_filesystem()).map_err(failed())?;
                if let Some((path, why)) = stuck.first() {
                    let what = format!("{} entries have no place on the box, the first: {why}", stuck.len());
                    return Err(writing(path)(io::Error::other(what)));
                }
                let beside: Vec<RelPath> =
                    self.noted(step)?.0.into_iter().filter(|own| own.beside).map(|own| own.to).collect();
                let (count, named) = (beside.len() as u64, beside.into_iter().take(MOST_NAMED).collect());
                return self.record(Record::Merged { step: step.id, beside: count, named });
            }
            self.note(step, &moves)?;
            for own in &moves {
                self.bring(own).map_err(writing(&own.to))?;
            }
        }
        Err(failed()(io::Error::other("somebody else keeps writing into the folder")))
    }

    /// Takes back what was brought in and nobody has changed since. Can be called again.
    pub(super) fn merge_back(&mut self, step: &Step) -> Result<(), RestoreError> {
        for own in self.noted(step)?.0.into_iter().rev() {
            let failed = || writing(&own.to);
            let names = self.names(&own).map_err(failed())?;
            match names {
                Names { live: Some(live), .. } if names.are_one() && live.kind != Kind::Directory => {
                    let at = self.root().parent(&own.to).map_err(failed())?;
                    at.remove_file(own.to.file_name()).and_then(|()| at.sync()).map_err(failed())?;
                }
                Names { staged: None, live: Some(_) } => {
                    let at = self.root().parent(&own.to).map_err(failed())?;
                    if tree::shape(&at, own.to.file_name()).map_err(failed())? != Some(own.shape) {
                        self.stayed.push(own.to);
                        continue;
                    }
                    let store = self.root().parent(&own.from).map_err(failed())?;
                    fault::point("merge.back").map_err(failed())?;
                    at.move_to(own.to.file_name(), &store, own.from.file_name()).map_err(failed())?;
                    at.sync().and_then(|()| store.sync()).map_err(failed())?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn names(&self, own: &Move) -> io::Result<Names> {
        Ok(Names { staged: self.root().stat(&own.from)?, live: self.root().stat(&own.to)? })
    }

    fn bring(&self, own: &Move) -> io::Result<()> {
        let names = self.names(own)?;
        let Some(staged) = names.staged else { return Ok(()) };
        let store = self.root().parent(&own.from)?;
        match names.live {
            // Half of a move that the power cut: the file is at both names.
            Some(_) if names.are_one() && staged.kind != Kind::Directory => store.remove_file(own.from.file_name()),
            // Somebody made one meanwhile: it is looked at again.
            Some(_) => Ok(()),
            None => {
                let at = self.root().parent(&own.to)?;
                fault::point("merge.before")?;
                store.move_to(own.from.file_name(), &at, own.to.file_name())?;
                fault::point("merge.after")
            }
        }
    }

    /// Writes moves down that are about to be made.
    fn note(&self, step: &Step, moves: &[Move]) -> Result<(), RestoreError> {
        let failed = || doing("writing down what comes into a folder");
        let directory = place::make_restore(self.root(), &self.plan().id)?;
        let whole = self.noted(step)?.1;
        let mut text = Vec::new();
        for own in moves {
            serde_json::to_writer(&mut text, own).map_err(|error| failed()(error.into()))?;
            text.push(b'\n');
        }
        let write = || -> io::Result<()> {
            let mut file = directory.append_file(&list(step))?;
            // What the power cut off there was never begun.
            file.set_len(whole)?;
            file.write_all(&text)?;
            dir::sync_file(&file)?;
            directory.sync()
        };
        write().map_err(failed())
    }

    /// The moves that were written down, and the length of that.
    fn noted(&self, step: &Step) -> Result<(Vec<Move>, u64), RestoreError> {
        let failed = || doing("reading what came into a folder");
        let directory = place::make_restore(self.root(), &self.plan().id)?;
        let mut text = Vec::new();
        match directory.read_file(&list(step)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => drop(other.and_then(|mut file| file.read_to_end(&mut text)).map_err(failed())?),
        }
        let (mut moves, mut whole) = (Vec::new(), 0);
        let mut lines = text.split_inclusive(|byte| *byte == b'\n').peekable();
        while let Some(line) = lines.next() {
            match serde_json::from_slice(line) {
                Ok(own) if line.ends_with(b"\n") => moves.push(own),
                Err(error) if lines.peek().is_some() => return Err(failed()(error.into())),
                // The power cut it off, and nothing of what it says was begun.
                _ => break,
            }
            whole += line.len() as u64;
        }
        Ok((moves, whole))
    }

    /// Removes the lists.
    pub(super) fn remove_lists(&self) -> Result<(), RestoreError> {
        let directory = place::make_restore(self.root(), &self.plan().id)?;
        let mut lists = self.plan().steps.iter().map(list);
        lists.try_for_each(|name| tree::remove(&directory, &name)).map_err(doing("removing lists of what was moved"))
    }
}

/// Where the moves of a step are written down, in the restore's directory.
fn list(step: &Step) -> Vec<u8> {
    format!("merged-{}", step.id).into_bytes()
}

/// Finds out what the box lacks. Changes nothing.
struct Look<'a> {
    root: &'a Dir,
    moves: Vec<Move>,
    /// What can be put nowhere, with the reason.
    stuck: Vec<(RelPath, &'static str)>,
}

impl Look<'_> {
    fn compare(&mut self, parked: &RelPath, live: &RelPath, depth: usize) -> io::Result<()> {
        let Some(own) = self.root.stat(parked)? else { return Ok(()) };
        match self.root.stat(live)? {
            None => self.bring(parked, live, own, false),
            Some(there) if (own.kind, there.kind) == (Kind::Directory, Kind::Directory) => {
                if depth == DEEPEST {
                    return Err(io::Error::other("directories are nested too deeply"));
                }
                let mut names = self.root.dir(parked)?.names()?;
                names.sort_unstable();
                for name in names {
                    match (parked.join(&name), live.join(&name)) {
                        (Ok(parked), Ok(live)) => self.compare(&parked, &live, depth + 1)?,
                        _ => self.stuck.push((live.clone(), "the path of what lies in it is too long")),
                    }
                }
                Ok(())
            }
            // Half of a move that the power cut: the file is at both names, and the parked one has to go.
            Some(there) if are_one(own, there) => self.bring(parked, live, own, false),
            Some(there) if self.is_same(parked, own, live, there)? => Ok(()),
            Some(_) => match self.free_name(live, own)? {
                Some(beside) => self.bring(parked, &beside, own, true),
                None => {
                    self.stuck.push((live.clone(), "there is another one, and no free name beside it"));
                    Ok(())
                }
            },
        }
    }

    fn bring(&mut self, parked: &RelPath, to: &RelPath, own: Stat, beside: bool) -> io::Result<()> {
        if self.root.parent(to)?.stat_self()?.dev != own.dev {
            self.stuck.push((to.clone(), "it would lie on another filesystem"));
            return Ok(());
        }
        let shape = tree::shape(&self.root.parent(parked)?, parked.file_name())?.unwrap_or_default();
        self.moves.push(Move { from: parked.clone(), to: to.clone(), shape, beside });
        Ok(())
    }

    /// Whether two that are not directories hold the same; owners and times do not count.
    fn is_same(&self, parked: &RelPath, own: Stat, live: &RelPath, there: Stat) -> io::Result<bool> {
        let (store, at) = (self.root.parent(parked)?, self.root.parent(live)?);
        let (from, to) = (parked.file_name(), live.file_name());
        Ok(match own.kind {
            kind if kind != there.kind => false,
            Kind::File if own.size == there.size => {
                tree::hash(store.read_file(from)?)? == tree::hash(at.read_file(to)?)?
            }
            Kind::Symlink => store.read_link(from)? == at.read_link(to)?,
            kind => kind == Kind::Fifo,
        })
    }

    /// A name beside something else that nothing has, or this one already, by half of a move.
    fn free_name(&self, live: &RelPath, own: Stat) -> io::Result<Option<RelPath>> {
        for number in 1..=MOST_BESIDE {
            let mut raw = [live.as_bytes(), BESIDE].concat();
            if number > 1 {
                raw.extend_from_slice(format!("-{number}").as_bytes());
            }
            match RelPath::parse(&raw) {
                Ok(path) if path.file_name().len() > LONGEST_NAME => return Ok(None),
                Ok(path) if self.root.stat(&path)?.is_none_or(|there| are_one(own, there)) => return Ok(Some(path)),
                Ok(_) => {}
                Err(_) => return Ok(None),
            }
        }
        Ok(None)
    }
}

fn are_one(staged: Stat, live: Stat) -> bool {
    Names { staged: Some(staged), live: Some(live) }.are_one()
}
