//! Handing a system's files to a visitor, as entries of an archive.

use super::names::{Attributes, People};
use super::tree::{Listing, Tree};
use crate::model::entry::{Entry, EntryKind, Mtime, Owner};
use crate::model::finding::{Finding, Severity};
use crate::model::path::RelPath;
use crate::model::progress::{Event, Progress};
use crate::source::content::Buffer;
use crate::source::{ReadError, VisitError, Visitor};
use crate::sys::dir::{Kind, Stat};
use std::collections::{BTreeSet, HashMap};
use std::io::{self, BufRead, Read};

/// Most findings about damaged files; all of them are told to the visitor.
const MOST_FINDINGS: usize = 100;
/// Deepest nesting followed: `PATH_MAX` allows no more.
const DEEPEST: usize = 2048;

/// One walk.
pub(super) struct Walk<'w, T: Tree> {
    pub(super) tree: &'w T,
    pub(super) people: &'w People,
    pub(super) visitor: &'w mut dyn Visitor,
    pub(super) progress: &'w dyn Progress,
    /// The first name of each file that has several, by device and inode.
    first: HashMap<(u64, u64), RelPath>,
    damaged: BTreeSet<RelPath>,
    findings: Vec<Finding>,
    /// How many sockets and devices there are; no backup holds them.
    left_out: u64,
    pub(super) bytes: u64,
    /// For the content of one file after the other.
    buffer: Buffer,
}

impl<'w, T: Tree> Walk<'w, T> {
    pub(super) fn new(
        tree: &'w T,
        people: &'w People,
        visitor: &'w mut dyn Visitor,
        progress: &'w dyn Progress,
    ) -> Self {
        let (first, damaged, findings) = (HashMap::new(), BTreeSet::new(), Vec::new());
        let buffer = Buffer::default();
        Self { tree, people, visitor, progress, first, damaged, findings, left_out: 0, bytes: 0, buffer }
    }

    /// Visits what is at and below a path; nothing there is no fault.
    pub(super) fn start(&mut self, path: &RelPath) -> Result<(), ReadError> {
        match self.tree.find(path) {
            Ok(Some(node)) => self.enter(path, &node, 0),
            Ok(None) => Ok(()),
            Err(error) => self.unreadable(path, &error),
        }
    }

    /// Visits a file, or without content a folder, that is not on the disk in this form.
    pub(super) fn made(
        &mut self,
        path: &RelPath,
        mode: u32,
        mtime: Mtime,
        content: Option<&[u8]>,
    ) -> Result<(), ReadError> {
        let root = || Some(b"root".to_vec());
        let entry = Entry {
            path: path.clone(),
            kind: match content {
                Some(content) => EntryKind::File { size: content.len() as u64, sparse: false },
                None => EntryKind::Directory,
            },
            mode,
            owner: Owner { uid: 0, gid: 0, user: root(), group: root() },
            mtime,
            xattrs: Vec::new(),
            acl_access: None,
            acl_default: None,
            fingerprint: None,
        };
        let visited = match content {
            Some(mut content) if self.visitor.needs_content(&entry) => self.visitor.visit(&entry, &mut content),
            _ => self.visitor.visit(&entry, &mut io::empty()),
        };
        self.went(visited, &entry, None)
    }

    /// What was noticed.
    pub(super) fn into_findings(mut self, name: &str) -> Vec<Finding> {
        if self.damaged.len() > MOST_FINDINGS {
            let what = format!("{} files cannot be read, not all of them are listed", self.damaged.len());
            self.findings.push(Finding::new(Severity::Damage, name, what, ""));
        }
        if self.left_out > 0 {
            let what = format!("sockets and devices are made anew by those who use them ({} entries)", self.left_out);
            self.findings.push(Finding::new(Severity::Note, name, what, ""));
        }
        self.findings
    }

    fn damage(&mut self, path: &RelPath, what: &str) {
        if self.damaged.len() < MOST_FINDINGS {
            let advice = "take it from a backup, or save the disk first with 'lifeboat salvage'";
            self.findings.push(Finding::new(Severity::Damage, path.to_string(), what, advice));
        }
        self.damaged.insert(path.clone());
    }

    fn enter(&mut self, path: &RelPath, node: &T::Node, depth: usize) -> Result<(), ReadError> {
        let stat = *self.tree.stat(node);
        let kind = match stat.kind {
            Kind::File => self.file(path, &stat),
            Kind::Directory => EntryKind::Directory,
            Kind::Symlink => match self.tree.target(node) {
                Ok(target) => EntryKind::Symlink { target },
                Err(error) => return self.unreadable(path, &error),
            },
            Kind::Fifo => EntryKind::Fifo,
            Kind::Socket | Kind::Device => {
                self.left_out += 1;
                return Ok(());
            }
        };
        let attributes = match self.tree.attributes(node).and_then(|found| self.people.attributes(found)) {
            Ok(attributes) => attributes,
            Err(error) => {
                self.unreadable(path, &error)?;
                // What is below it can be read all the same.
                if stat.kind != Kind::Directory {
                    return Ok(());
                }
                Attributes::default()
            }
        };
        let entry = Entry {
            path: path.clone(),
            kind,
            mode: if stat.kind == Kind::Symlink { 0o777 } else { stat.mode },
            owner: self.people.owner(stat.uid, stat.gid),
            mtime: stat.mtime,
            xattrs: attributes.xattrs,
            acl_access: attributes.acl_access,
            acl_default: attributes.acl_default,
            fingerprint: None,
        };
        match &entry.kind {
            EntryKind::HardLink { to } if self.damaged.contains(to) => {
                let what = format!("it is another name of '{to}', which cannot be read");
                self.damage(path, &what);
                self.visitor.damaged(&entry);
                Ok(())
            }
            EntryKind::File { size, .. } => self.visit_file(&entry, node, *size),
            EntryKind::Directory => {
                let visited = self.visitor.visit(&entry, &mut io::empty());
                self.went(visited, &entry, None)?;
                self.below(&entry, node, depth)
            }
            _ => {
                let visited = self.visitor.visit(&entry, &mut io::empty());
                self.went(visited, &entry, None)
            }
        }
    }

    /// A file, or another name of one that was visited.
    fn file(&mut self, path: &RelPath, stat: &Stat) -> EntryKind {
        if stat.links > 1 {
            if let Some(to) = self.first.get(&(stat.dev, stat.ino)) {
                return EntryKind::HardLink { to: to.clone() };
            }
            self.first.insert((stat.dev, stat.ino), path.clone());
        }
        EntryKind::File { size: stat.size, sparse: stat.blocks.saturating_mul(512) < stat.size }
    }

    fn visit_file(&mut self, entry: &Entry, node: &T::Node, size: u64) -> Result<(), ReadError> {
        if !self.visitor.needs_content(entry) {
            let visited = self.visitor.visit(entry, &mut io::empty());
            return self.went(visited, entry, None);
        }
        let opened = self.tree.content(node);
        let damage = opened.as_ref().err().map(ToString::to_string);
        let inner = opened.unwrap_or_else(|_| Box::new(io::empty()));
        let buffer = std::mem::take(&mut self.buffer);
        let mut content = Exact { inner, buffer, left: size, damage, progress: self.progress, seen: 0 };
        let visited = self.visitor.visit(entry, &mut content);
        if !matches!(visited, Err(VisitError::Stop)) {
            content.drain();
        }
        self.bytes = self.bytes.saturating_add(content.seen);
        let Exact { damage, mut buffer, .. } = content;
        buffer.clear();
        self.buffer = buffer;
        self.went(visited, entry, damage)
    }

    /// Takes note of how an entry went by.
    fn went(
        &mut self,
        visited: Result<(), VisitError>,
        entry: &Entry,
        damage: Option<String>,
    ) -> Result<(), ReadError> {
        match (visited, damage) {
            (Err(VisitError::Stop), _) => return Err(ReadError::Stopped),
            (Err(VisitError::Content(error)), None) => return Err(ReadError::Io(error)),
            (_, Some(what)) => {
                self.damage(&entry.path, &format!("it cannot be read whole: {what}"));
                self.visitor.damaged(entry);
            }
            (Ok(()), None) => {}
        }
        self.progress.event(Event::Advance { bytes: 0, entries: 1 });
        Ok(())
    }

    /// Something is there of which only the name can be read: the visitor meets a file that breaks off at once.
    fn unreadable(&mut self, path: &RelPath, error: &io::Error) -> Result<(), ReadError> {
        let entry = Entry {
            path: path.clone(),
            kind: EntryKind::File { size: 0, sparse: false },
            mode: 0o600,
            owner: Owner::default(),
            mtime: Mtime::default(),
            xattrs: Vec::new(),
            acl_access: None,
            acl_default: None,
            fingerprint: None,
        };
        if self.visitor.needs_content(&entry) {
            let damage = Some(error.to_string());
            let (inner, buffer) = (Box::new(io::empty()), Buffer::default());
            let mut content = Exact { inner, buffer, left: 0, damage, progress: self.progress, seen: 0 };
            if let Err(VisitError::Stop) = self.visitor.visit(&entry, &mut content) {
                return Err(ReadError::Stopped);
            }
        }
        self.damage(path, &format!("it cannot be read: {error}"));
        self.visitor.damaged(&entry);
        Ok(())
    }

    fn below(&mut self, entry: &Entry, node: &T::Node, depth: usize) -> Result<(), ReadError> {
        if depth == DEEPEST {
            self.damage(&entry.path, "folders are nested too deeply below it");
            self.visitor.damaged(entry);
            return Ok(());
        }
        let Listing { links, damage } = self.tree.list(node);
        for (name, link) in links {
            let path = match entry.path.join(&name) {
                Ok(path) => path,
                Err(error) => {
                    self.damage(&entry.path, &format!("the path of a name in this folder is too long: {error}"));
                    self.visitor.damaged(entry);
                    continue;
                }
            };
            match self.tree.child(&name, &link) {
                Ok(Some(child)) => self.enter(&path, &child, depth + 1)?,
                Ok(None) => {}
                Err(error) => self.unreadable(&path, &error)?,
            }
        }
        match damage {
            Some(error) => {
                let what = format!("names in this folder may be missing: {error}");
                self.damage(&entry.path, &what);
                self.visitor.damaged(entry);
                self.visitor.lost();
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// Exactly as many bytes as the file is said to have. What stops it is kept.
struct Exact<'a> {
    inner: Box<dyn Read + 'a>,
    buffer: Buffer,
    left: u64,
    damage: Option<String>,
    progress: &'a dyn Progress,
    seen: u64,
}

impl Exact<'_> {
    fn drain(&mut self) {
        while let Ok(length @ 1..) = self.fill_buf().map(<[u8]>::len) {
            self.consume(length);
        }
    }

    fn broken(damage: &str) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, damage)
    }
}

impl Read for Exact<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Exact<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if let Some(damage) = &self.damage {
            return Err(Self::broken(damage));
        }
        if self.left == 0 {
            return Ok(&[]);
        }
        let damage = match self.buffer.fill(&mut self.inner.by_ref().take(self.left)) {
            Ok(0) => "the file became shorter while it was read".to_owned(),
            Ok(_) => return Ok(self.buffer.rest()),
            Err(error) => error.to_string(),
        };
        let error = Self::broken(&damage);
        self.damage = Some(damage);
        Err(error)
    }

    fn consume(&mut self, count: usize) {
        self.buffer.consume(count);
        self.left = self.left.saturating_sub(count as u64);
        self.seen += count as u64;
        self.progress.event(Event::Advance { bytes: count as u64, entries: 0 });
    }
}
