//! One archive of a repository as an [`Archive`].

use super::ahead::Ahead;
use super::entry::{Meaning, meaning};
use super::items::{Items, Step};
use super::listing::{self, Listing};
use super::pipeline::{Closing, Pipeline};
use super::repository::{Named, Repository};
use crate::formats::backup_manifest::{self, LONGEST_MANIFEST};
use crate::formats::borg::ObjectId;
use crate::formats::borg::archive::{self, Description};
use crate::formats::borg::compression::Length;
use crate::formats::borg::item::Item;
use crate::formats::borg::tam::Tam;
use crate::model::archive::{ArchiveId, ArchiveSummary, Generation};
use crate::model::entry::{Entry, EntryKind};
use crate::model::finding::{Finding, Severity};
use crate::model::path::RelPath;
use crate::model::progress::{Event, Progress};
use crate::model::size::ByteSize;
use crate::source::scan::Scan;
use crate::source::{Archive, Ending, Proof, ReadError, VisitError, Visitor};
use bytes::BytesMut;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, Read};
use std::sync::Arc;

/// How much is handed out at a time.
const STEP: usize = 128 << 10;
/// Fewest and most threads that decode, the visitor's included.
const THREADS: (usize, usize) = (2, 16);
/// Fewest of them where each reading waits for another machine.
const THREADS_OF_REMOTE: usize = 4;
/// Most findings about damaged files, and about lost parts of the list; all of them are told to the visitor.
const MOST_FINDINGS: usize = 100;
/// How many damaged files are remembered by name, for the hard links to them.
const MOST_DAMAGED: usize = 100_000;

/// One archive.
pub(super) struct BorgArchive {
    repository: Arc<Repository>,
    id: ArchiveId,
    name: String,
    time: Option<String>,
    pieces: Vec<ObjectId>,
    findings: Vec<Finding>,
    scan: Option<Looked>,
}

/// What the list of files tells.
struct Looked {
    scan: Scan,
    bytes: u64,
}

impl BorgArchive {
    pub(super) fn open(repository: &Arc<Repository>, named: &Named) -> Result<BorgArchive, ReadError> {
        let name = named.shown_name();
        let damage = |what: String| ReadError::Corrupt { place: format!("in the description of '{name}'"), what };
        let (raw, tam) = repository.describe(named.object()).map_err(|fault| damage(fault.to_string()))?;
        let Description { time, items, .. } = archive::parse(&raw).map_err(|bad| damage(bad.to_string()))?;
        let time = std::str::from_utf8(&time).ok().map(|time| format!("{}Z", time.trim_end_matches('Z')));
        let time = time.and_then(|time| time.parse::<jiff::Timestamp>().ok()).map(|time| time.to_string());
        let mut findings = repository.findings().to_vec();
        match tam {
            Tam::Right => {}
            Tam::Missing => {
                let what = "the backup's description has no authentication; old versions of borg wrote none";
                findings.push(Finding::new(Severity::Note, &name, what, ""));
            }
            Tam::Wrong => {
                let what = "the authentication of the backup's description is wrong";
                let advice = "borg up to 1.2.4 does this when a backup is renamed; where none was, somebody may have \
                              changed which files belong to it";
                findings.push(Finding::new(Severity::Warning, &name, what, advice));
            }
        }
        let (repository, id) = (Arc::clone(repository), named.id.clone());
        let mut opened = BorgArchive { repository, id, name, time, pieces: items, findings, scan: None };
        // The list of files is small; what it tells is needed by all who open an archive. Damage shows when it is read.
        let _ = opened.look();
        Ok(opened)
    }

    /// Goes through the list of files once, and reads the content of FreedomBox's manifest only.
    fn look(&mut self) -> Result<(), ReadError> {
        if self.scan.as_ref().is_some_and(|looked| looked.scan.complete) {
            return Ok(());
        }
        let mut looked = Looked { scan: Scan::default(), bytes: 0 };
        let mut items = Items::new(&self.repository, &self.pieces);
        let mut walked = Ok(());
        let walked = loop {
            match items.next_item() {
                Some(Step::Item(item)) => look_at(&self.repository, *item, &mut looked),
                // What is lost may hold the manifest; what comes after it is looked at all the same.
                Some(Step::Lost(lost)) => walked = walked.and(Err(lost.into())),
                None => break walked,
            }
        };
        looked.scan.complete = walked.is_ok();
        self.scan = Some(looked);
        walked
    }

    /// Hands all entries to the visitor.
    fn walk(
        &self,
        pipeline: &Pipeline<'_>,
        listing: Listing,
        threads: usize,
        visitor: &mut dyn Visitor,
        progress: &dyn Progress,
    ) -> Result<Ending, ReadError> {
        let mut ahead = Ahead::new(&self.repository, pipeline, listing, threads);
        let mut losses = Losses { findings: self.findings.clone(), ..Losses::default() };
        while let Some(planned) = ahead.next_item(visitor)? {
            let entry = match planned.meaning {
                Meaning::Entry(entry) => *entry,
                Meaning::Lost(what) => {
                    losses.lose(&self.name, what);
                    visitor.lost();
                    continue;
                }
                Meaning::Nothing(why) => {
                    *losses.left_out.entry(why).or_insert(0u64) += 1;
                    let mut content = Content::new(&mut ahead, planned.chunks, None, progress);
                    content.is_needed = planned.is_needed;
                    content.drain();
                    continue;
                }
            };
            if planned.flags != 0 {
                *losses.left_out.entry("file flags (nodump, immutable, append-only) are not restored").or_insert(0) +=
                    1;
            }
            if let EntryKind::HardLink { to } = &entry.kind
                && losses.may_be_damaged(to)
            {
                losses.add(&entry, &format!("it is another name of '{to}', which is damaged"));
                visitor.damaged(&entry);
                continue;
            }
            let mut content = Content::new(&mut ahead, planned.chunks, planned.damage, progress);
            content.is_needed = planned.is_needed;
            let visited = match planned.is_needed {
                true => visitor.visit(&entry, &mut content),
                false => {
                    content.drain();
                    if content.damage.is_none() { visitor.visit(&entry, &mut content) } else { Ok(()) }
                }
            };
            if !matches!(visited, Err(VisitError::Stop)) {
                content.drain();
            }
            let damage = content.damage.take();
            match (visited, damage) {
                (Err(VisitError::Stop), _) => return Err(ReadError::Stopped),
                (Err(VisitError::Content(error)), None) => return Err(ReadError::Io(error)),
                (_, Some(what)) => {
                    losses.add(&entry, &what);
                    visitor.damaged(&entry);
                }
                (Ok(()), None) => {}
            }
            progress.event(Event::Advance { bytes: 0, entries: 1 });
        }
        Ok(Ending { proof: Proof::Checked(self.proof()), findings: losses.into_findings(&self.name) })
    }

    fn proof(&self) -> String {
        "the digest of every piece of content".to_owned()
    }
}

/// Takes one item of the list of files into account.
fn look_at(repository: &Repository, mut item: Item, looked: &mut Looked) {
    let chunks = item.chunks.take().unwrap_or_default();
    let size: u64 = chunks.iter().map(|chunk| u64::from(chunk.size)).sum();
    looked.bytes += size;
    item.chunks = Some(Vec::new());
    item.size = None;
    // What cannot be an entry is an error of reading, not of looking.
    let Ok(path) = RelPath::parse(&item.path) else { return };
    if !backup_manifest::is_manifest(&path) {
        return;
    }
    let Ok(Meaning::Entry(entry)) = meaning(&mut item, false) else { return };
    if !matches!(entry.kind, EntryKind::File { .. }) {
        return;
    }
    let (mut raw, mut piece) = (Vec::new(), Vec::new());
    let mut decoder = repository.decoder();
    for chunk in chunks {
        if raw.len() as u64 > LONGEST_MANIFEST {
            break;
        }
        match decoder.decode(&chunk.id, chunk.stored, Length::Exactly(chunk.size as usize), &mut piece) {
            Ok(()) => raw.extend_from_slice(&piece),
            Err(fault) => return looked.scan.miss_manifest(&path, entry.mtime, fault.to_string()),
        }
    }
    looked.scan.take_manifest(&path, entry.mtime, size, &raw);
}

impl Archive for BorgArchive {
    fn id(&self) -> &ArchiveId {
        &self.id
    }

    fn summary(&mut self) -> Result<ArchiveSummary, ReadError> {
        let walked = self.look();
        let scan = self.scan.as_ref().map(|looked| &looked.scan);
        let manifest = match (scan, walked) {
            (Some(scan), Ok(())) => scan.manifest()?,
            // Damage behind the manifest does not matter here.
            (Some(scan), Err(damage)) => Some(scan.manifest()?.ok_or(damage)?),
            (None, Err(damage)) => return Err(damage),
            (None, Ok(())) => None,
        };
        Ok(ArchiveSummary {
            id: self.id.clone(),
            name: Some(self.name.clone()),
            time: self.time.clone(),
            generation: manifest.map_or(Generation::None, |manifest| manifest.generation),
            apps: manifest.map(|manifest| manifest.apps.clone()).unwrap_or_default(),
            size: self.size(),
        })
    }

    fn read(&mut self, visitor: &mut dyn Visitor, progress: &dyn Progress) -> Result<Ending, ReadError> {
        let pipeline = Pipeline::new(&self.repository);
        let count = std::thread::available_parallelism().map_or(THREADS.0, |count| count.get());
        let fewest = if self.repository.is_remote() { THREADS_OF_REMOTE } else { THREADS.0 };
        let threads = count.clamp(fewest, THREADS.1);
        let mut ending = std::thread::scope(|scope| {
            // The scope waits for its threads, so they have to end however this one does.
            let _end = Closing(&pipeline);
            let (sink, listing) = listing::listing();
            let lister = std::thread::Builder::new().name("list".into());
            let (repository, pieces) = (&self.repository, &self.pieces);
            let read = move || listing::read(repository, pieces, &sink);
            lister.spawn_scoped(scope, read).map_err(ReadError::Io)?;
            for _ in 1..threads {
                let thread = std::thread::Builder::new().name("decode".into());
                thread.spawn_scoped(scope, || pipeline.work()).map_err(ReadError::Io)?;
            }
            self.walk(&pipeline, listing, threads, visitor, progress)
        })?;
        ending.findings.extend(self.scan.iter().flat_map(|looked| looked.scan.findings()));
        Ok(ending)
    }

    fn size(&self) -> Option<ByteSize> {
        self.scan.as_ref().filter(|looked| looked.scan.complete).map(|looked| ByteSize(looked.bytes))
    }
}

/// What is not restored, and why.
#[derive(Default)]
struct Losses {
    findings: Vec<Finding>,
    /// The first of the damaged files, and how many there are.
    damaged: BTreeSet<RelPath>,
    count: u64,
    /// How many parts of the list of files are lost.
    parts: usize,
    /// How many entries were left out for a reason.
    left_out: BTreeMap<&'static str, u64>,
}

impl Losses {
    fn add(&mut self, entry: &Entry, what: &str) {
        if self.damaged.len() < MOST_FINDINGS {
            let advice = "take this file from another backup";
            self.findings.push(Finding::new(Severity::Damage, entry.path.to_string(), what, advice));
        }
        // A path may come again.
        if self.damaged.len() >= MOST_DAMAGED || self.damaged.insert(entry.path.clone()) {
            self.count += 1;
        }
    }

    /// Takes a part of the list of files that cannot be read.
    fn lose(&mut self, name: &str, what: String) {
        self.parts += 1;
        if self.parts <= MOST_FINDINGS {
            let advice = "what it named is not in this backup any more; look for another one";
            self.findings.push(Finding::new(Severity::Damage, name, what, advice));
        }
    }

    /// Whether a file that came before is damaged. Where too many are to remember them, each may be.
    fn may_be_damaged(&self, path: &RelPath) -> bool {
        self.damaged.contains(path) || self.damaged.len() >= MOST_DAMAGED
    }

    fn into_findings(mut self, name: &str) -> Vec<Finding> {
        let more = [(self.count, "files are damaged"), (self.parts as u64, "parts of the list of files are lost")];
        for (count, what) in more.into_iter().filter(|(count, _)| *count > MOST_FINDINGS as u64) {
            let what = format!("{count} {what}, not all of them are listed");
            self.findings.push(Finding::new(Severity::Damage, name, what, ""));
        }
        for (why, count) in self.left_out {
            self.findings.push(Finding::new(Severity::Note, name, format!("{why} ({count} entries)"), ""));
        }
        self.findings
    }
}

/// The content of one entry on its way to the visitor.
struct Content<'a, 'b> {
    ahead: &'a mut Ahead<'b>,
    progress: &'a dyn Progress,
    /// Lengths of the pieces that were not taken yet, the last one first.
    left: Vec<u32>,
    /// What is left of the piece that was taken last.
    piece: BytesMut,
    damage: Option<String>,
    /// Whether the visitor had said that it will read it.
    is_needed: bool,
}

impl<'a, 'b> Content<'a, 'b> {
    fn new(ahead: &'a mut Ahead<'b>, mut left: Vec<u32>, damage: Option<String>, progress: &'a dyn Progress) -> Self {
        left.reverse();
        Self { ahead, progress, left, piece: BytesMut::new(), damage, is_needed: true }
    }

    /// Takes the next piece; `false` at the end. Damage is kept and does not end anything here.
    fn advance(&mut self) -> bool {
        let Some(size) = self.left.pop() else { return false };
        self.ahead.give_back(std::mem::take(&mut self.piece));
        match self.ahead.take() {
            Ok(piece) => self.piece = piece,
            Err(fault) => {
                self.damage.get_or_insert(format!("a piece of its content is lost: {fault}"));
            }
        }
        self.progress.event(Event::Advance { bytes: u64::from(size), entries: 0 });
        true
    }

    /// Takes and checks what the visitor did not read.
    fn drain(&mut self) {
        while self.advance() {}
        self.ahead.give_back(std::mem::take(&mut self.piece));
    }
}

impl Read for Content<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Content<'_, '_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.damage.is_none() && self.is_needed && self.piece.is_empty() {
            if !self.advance() {
                return Ok(&[]);
            }
        }
        if let Some(damage) = &self.damage {
            return Err(io::Error::new(io::ErrorKind::InvalidData, damage.clone()));
        }
        if !self.is_needed {
            return Err(io::Error::other("its content was not asked for"));
        }
        // In steps, so that what is done with one finds it in the processor's cache.
        Ok(self.piece.get(..STEP).unwrap_or(&self.piece))
    }

    fn consume(&mut self, count: usize) {
        let used = self.piece.split_to(count.min(self.piece.len()));
        self.ahead.give_back(used);
    }
}
