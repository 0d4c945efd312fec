//! Counting and digesting what goes by, in one pass.

use super::record::content_record;
use super::span::Span;
use super::{Observer, RootContent, RootKind, Scope};
use crate::formats::dump::{Dump, Tail, is_dump};
use crate::model::bytes;
use crate::model::digest::Sha256Digest;
use crate::model::entry::{Entry, EntryKind};
use crate::model::finding::{Finding, Severity};
use crate::model::manifest;
use crate::model::path::RelPath;
use crate::model::progress::{Event, Progress};
use crate::model::size::ByteSize;
use crate::source::{VisitError, Visitor, for_each_piece};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::io::BufRead;

/// Most entries whose paths are remembered, to notice repeats and hard links to nothing: 36 MiB.
const MOST_REMEMBERED: usize = 1 << 20;
/// Most owner names that are kept for one root, and most dumps of databases.
const MOST_NAMES: usize = 1024;
/// Most findings about single entries.
const MOST_FINDINGS: usize = 100;
/// Where a link of FreedomBox's own configuration points.
const DROP_IN: &[u8] = b"/usr/share/freedombox/";

/// Visits every entry for some roots.
pub(super) struct Census<'a> {
    scope: &'a Scope<'a>,
    observer: &'a mut dyn Observer,
    progress: &'a dyn Progress,
    /// The root of which the progress was told last.
    told: Option<usize>,
    /// Where each root lies in `roots`.
    index: HashMap<Vec<u8>, usize>,
    pub(super) roots: Vec<RootContent>,
    /// For each root, where its entries stand.
    pub(super) spans: Vec<Option<Span>>,
    /// How many entries had gone by where others are lost.
    pub(super) gaps: Vec<u64>,
    /// How many entries went by completely.
    pub(super) entries: u64,
    /// The last of them.
    pub(super) last: Option<RelPath>,
    /// Database dumps that were seen.
    pub(super) dumps: BTreeMap<RelPath, Dump>,
    /// Roots with entries that are damaged or contradict others, which damages every app that has them.
    pub(super) broken: BTreeSet<RelPath>,
    pub(super) findings: Vec<Finding>,
    hasher: RandomState,
    /// Every path with a short form of its record, both hashed.
    remembered: HashMap<u64, u64>,
    /// The directory of the entry before, which was looked at.
    last_parent: Option<RelPath>,
    is_forgetful: bool,
    /// Files ahead whose content was asked for, although they have a fingerprint; their paths hashed.
    wanted: HashSet<u64>,
}

impl<'a> Census<'a> {
    pub(super) fn new(
        roots: &[RelPath],
        scope: &'a Scope<'a>,
        observer: &'a mut dyn Observer,
        progress: &'a dyn Progress,
    ) -> Self {
        let distinct: BTreeSet<&RelPath> = roots.iter().collect();
        let roots: Vec<RootContent> = distinct.into_iter().map(|path| RootContent::empty(path.clone())).collect();
        Self {
            scope,
            observer,
            progress,
            told: None,
            index: roots.iter().enumerate().map(|(at, root)| (root.path.as_bytes().to_vec(), at)).collect(),
            spans: vec![None; roots.len()],
            gaps: Vec::new(),
            roots,
            entries: 0,
            last: None,
            dumps: BTreeMap::new(),
            broken: BTreeSet::new(),
            findings: Vec::new(),
            hasher: RandomState::new(),
            remembered: HashMap::new(),
            last_parent: None,
            is_forgetful: false,
            wanted: HashSet::new(),
        }
    }

    /// The roots that contain `path`.
    fn containing(&self, path: &RelPath) -> Vec<usize> {
        let raw = path.as_bytes();
        let ends = raw.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at).chain([raw.len()]);
        ends.filter_map(|end| self.index.get(raw.get(..end)?).copied()).collect()
    }

    /// Says which app is being read, when it is another one.
    fn tell(&mut self, roots: &[usize]) {
        let root = roots.first().copied();
        if root.is_some() && root != self.told {
            self.told = root;
            let owner = root.and_then(|at| self.roots.get(at)).and_then(|root| manifest::owner(&root.path));
            owner.into_iter().for_each(|app| self.progress.event(Event::App { name: app.clone() }));
        }
    }

    fn is_dump(&self, entry: &Entry) -> bool {
        is_dump(&entry.path) || self.scope.dumps.iter().any(|(_, path)| *path == entry.path)
    }

    fn is_skipped(&self, entry: &Entry) -> bool {
        matches!(&entry.kind, EntryKind::Symlink { target } if target.starts_with(DROP_IN)) || (self.scope.skip)(entry)
    }

    /// Reads a file's content: its digest, and whether it ends as a dump must.
    fn read_content(content: &mut dyn BufRead) -> Result<(Sha256Digest, bool), VisitError> {
        let (mut hasher, mut tail) = (Sha256::new(), Tail::default());
        for_each_piece(content, VisitError::Content, |piece| {
            hasher.update(piece);
            tail.push(piece);
            Ok(())
        })?;
        Ok((Sha256Digest::from_hasher(hasher), tail.is_complete()))
    }

    /// Whether the same entry came before; one that says something else damages its path.
    fn is_repeat(&mut self, entry: &Entry, content: Option<Sha256Digest>) -> bool {
        let path = self.hasher.hash_one(entry.path.as_bytes());
        let record = content_record(&entry.path, b"", &entry.kind, content);
        let record = self.hasher.hash_one(record.as_bytes());
        match self.remembered.get(&path) {
            Some(known) if *known == record => return true,
            Some(_) => self.contradict(entry, "comes twice in the archive, with different content"),
            None if self.remembered.len() >= MOST_REMEMBERED => self.is_forgetful = true,
            None => {
                self.remembered.insert(path, record);
            }
        }
        false
    }

    /// Nothing can lie below a link or a file: an archive that says so would be followed out of its place.
    fn check_parents(&mut self, entry: &Entry) {
        let parent = entry.path.parent();
        if parent == self.last_parent {
            return;
        }
        for above in entry.path.ancestors() {
            let Some(known) = self.remembered.get(&self.hasher.hash_one(above.as_bytes())) else { continue };
            let directory = content_record(&above, b"", &EntryKind::Directory, None);
            if *known != self.hasher.hash_one(directory.as_bytes()) {
                self.contradict(entry, &format!("lies below '{above}', which is not a directory in the archive"));
                return;
            }
        }
        self.last_parent = parent;
    }

    fn check_hard_link(&mut self, entry: &Entry, to: &RelPath, roots: &[usize]) {
        let is_known = self.remembered.contains_key(&self.hasher.hash_one(to.as_bytes()));
        if !is_known && !self.is_forgetful {
            self.contradict(entry, "is a hard link to a file that does not come before it");
        }
        if roots.iter().filter_map(|&at| self.roots.get(at)).any(|root| !to.is_within(&root.path)) {
            let what = format!("is a hard link to '{to}', which belongs to another part of the backup");
            self.report(Severity::Warning, &entry.path, what);
        }
    }

    fn contradict(&mut self, entry: &Entry, what: &str) {
        let roots = self.containing(&entry.path);
        self.broken.extend(roots.iter().filter_map(|&at| self.roots.get(at)).map(|root| root.path.clone()));
        self.report(Severity::Damage, &entry.path, what.to_owned());
    }

    fn report(&mut self, severity: Severity, path: &RelPath, what: String) {
        if self.findings.len() < MOST_FINDINGS {
            self.findings.push(Finding::new(severity, path.to_string(), what, ""));
        } else if self.findings.len() == MOST_FINDINGS {
            let what = "there is more of this kind, which is not listed";
            self.findings.push(Finding::new(severity, "archive", what, ""));
        }
    }

    /// What remembering could not cover.
    pub(super) fn finish(&mut self) {
        if self.is_forgetful {
            let what = "the archive has so many entries that repeats among the last ones were not looked for";
            self.findings.push(Finding::new(Severity::Note, "archive", what, ""));
        }
    }
}

impl Visitor for Census<'_> {
    fn needs_content(&mut self, entry: &Entry) -> bool {
        if self.is_dump(entry) {
            return true;
        }
        let roots = if self.is_skipped(entry) { Vec::new() } else { self.containing(&entry.path) };
        let mut roots = roots.iter().filter_map(|&at| self.roots.get(at));
        if entry.fingerprint.is_none() {
            return roots.next().is_some();
        }
        let is_wanted = roots.any(|root| self.observer.needs_digest(&root.path, entry));
        if is_wanted {
            self.wanted.insert(self.hasher.hash_one(entry.path.as_bytes()));
        }
        is_wanted
    }

    fn visit(&mut self, entry: &Entry, content: &mut dyn BufRead) -> Result<(), VisitError> {
        let roots = if self.is_skipped(entry) { Vec::new() } else { self.containing(&entry.path) };
        self.tell(&roots);
        let is_dump = self.is_dump(entry);
        let is_wanted = self.wanted.remove(&self.hasher.hash_one(entry.path.as_bytes())) || entry.fingerprint.is_none();
        let mut digest = None;
        if matches!(entry.kind, EntryKind::File { .. }) && (is_dump || (is_wanted && !roots.is_empty())) {
            let (sum, complete) = Self::read_content(content)?;
            digest = Some(sum);
            if is_dump && self.dumps.len() < MOST_NAMES {
                self.dumps.insert(entry.path.clone(), Dump { is_complete: complete, written: entry.mtime });
            }
        }
        if let EntryKind::HardLink { to } = &entry.kind {
            self.check_hard_link(entry, to, &roots);
        }
        self.check_parents(entry);
        let fingerprint = entry.fingerprint.or(digest);
        if !self.is_repeat(entry, fingerprint) {
            for at in roots {
                let Some(root) = self.roots.get_mut(at) else { continue };
                root.add(entry, fingerprint);
                self.observer.seen(&root.path, entry, digest);
                let is_root = entry.path == root.path;
                if let Some(span) = self.spans.get_mut(at) {
                    *span = Some(Span::with(*span, self.entries, is_root));
                }
            }
        }
        self.entries += 1;
        self.last = Some(entry.path.clone());
        Ok(())
    }

    fn lost(&mut self) {
        self.gaps.push(self.entries);
    }

    fn damaged(&mut self, entry: &Entry) {
        if self.is_skipped(entry) {
            return;
        }
        let roots = self.containing(&entry.path);
        self.broken.extend(roots.iter().filter_map(|&at| self.roots.get(at)).map(|root| root.path.clone()));
        if self.is_dump(entry) {
            self.dumps.insert(entry.path.clone(), Dump { is_complete: false, written: entry.mtime });
        }
    }
}

impl RootContent {
    pub(super) fn empty(path: RelPath) -> Self {
        Self {
            path,
            kind: None,
            entries: 0,
            files: 0,
            bytes: ByteSize(0),
            digest: Default::default(),
            users: BTreeSet::new(),
            groups: BTreeSet::new(),
            people: BTreeSet::new(),
        }
    }

    fn add(&mut self, entry: &Entry, content: Option<Sha256Digest>) {
        let Some(relative) = entry.path.relative_to(&self.path) else { return };
        if relative.is_empty() {
            self.kind = Some(RootKind::of(&entry.kind));
        }
        self.entries += 1;
        if let EntryKind::File { size, .. } = entry.kind {
            self.files += 1;
            self.bytes += ByteSize(size);
        }
        self.digest.add(content_record(&self.path, relative, &entry.kind, content));
        for (names, name) in [(&mut self.users, &entry.owner.user), (&mut self.groups, &entry.owner.group)] {
            if let Some(name) = name.as_ref().filter(|_| names.len() < MOST_NAMES) {
                let name = bytes::escape(name);
                if !names.contains(&name) {
                    names.insert(name);
                }
            }
        }
        if self.people.len() < MOST_NAMES {
            self.people.extend(person(entry).map(bytes::escape));
        }
    }
}

/// Numbers of people: Debian's own from 1000 on, those in FreedomBox's directory from 10000 on. Above these are numbers
/// of services that systemd invents.
const PEOPLE: std::ops::Range<u32> = 1000..60000;
/// Where apps keep a folder for each person, named like him.
const FOLDERS: [&[u8]; 2] = [b"var/mail", b"var/lib/radicale/collections/collection-root"];

/// Whom an entry tells of.
fn person(entry: &Entry) -> Option<&[u8]> {
    let owner = entry.owner.user.as_deref().filter(|_| PEOPLE.contains(&entry.owner.uid));
    let is_folder = || entry.path.parent().is_some_and(|parent| FOLDERS.contains(&parent.as_bytes()));
    let name = owner.or_else(|| is_folder().then(|| entry.path.file_name()))?;
    let is_letter = |letter: &u8| letter.is_ascii_alphanumeric() || b"-_.@".contains(letter) || *letter >= 0x80;
    (!name.starts_with(b".") && name.iter().all(is_letter)).then_some(name)
}
