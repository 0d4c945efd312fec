//! Which files lie on sectors that could not be read.
//!
//! Reads the image through its map, so that nothing of a lost sector is believed. A file is on the list when a byte of
//! its content is lost, or when it cannot be read otherwise; a folder when names in it may be missing.

use super::LostFile;
use super::kernel::{self, Loss};
use super::through::Readable;
use super::volume::{self, Stretch};
use crate::formats::ext4::content::Content;
use crate::formats::ext4::tree::Found;
use crate::formats::ext4::{Ext4Error, Filesystem, Inode, Kind};
use crate::formats::mapfile::{self, Map, State};
use crate::formats::{ReadAt, Slice, signature};
use crate::model::app::AppId;
use crate::model::finding::{Finding, Severity};
use crate::model::manifest;
use crate::model::path::RelPath;
use crate::model::size::ByteSize;
use crate::sys::file::Source;
use crate::sys::host::Host;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// What was lost.
#[derive(Default)]
pub(super) struct Losses {
    /// By volume and path.
    pub(super) files: Vec<LostFile>,
    /// Lost bytes of filesystems that could be read in which no file or folder lies.
    pub(super) unused: u64,
}

/// Finds what is lost on every filesystem that has lost sectors, in the image at `place`.
pub(super) fn find(host: &Host, place: &Path, image: &Readable<'_>, findings: &mut Vec<Finding>) -> Losses {
    let mut losses = Losses::default();
    let map = image.map;
    let apps = Apps::new();
    if map.is_rescued(0..map.length()) {
        return losses;
    }
    let volumes = volume::found(image);
    let listed = volume::of_table(image);
    if volumes != listed {
        let what = "its partition table cannot be read; the filesystems were found without it";
        findings.push(Finding::new(Severity::Damage, "the disk", what, ""));
    }
    for stretch in volumes {
        let end = stretch.start.saturating_add(stretch.length).min(map.length());
        if map.is_rescued(stretch.start..end) {
            continue;
        }
        let part = Slice::new(image, stretch.start, stretch.length);
        match Filesystem::open(&part) {
            Ok(filesystem) => {
                for note in filesystem.notes() {
                    findings.push(Finding::new(Severity::Damage, &stretch.name, note, ""));
                }
                let mut search = Search {
                    filesystem: &filesystem,
                    stretch: &stretch,
                    map,
                    unclaimed: map.clone(),
                    apps: &apps,
                    files: Vec::new(),
                };
                search.all(findings);
                let rest = search.unclaimed.areas(stretch.start..end).filter(|area| area.state != State::Rescued);
                losses.unused = losses.unused.saturating_add(rest.map(|area| area.length).sum());
                losses.files.append(&mut search.files);
            }
            Err(error) => match by_kernel(host, place, map, &stretch, &part, findings) {
                Some(found) => {
                    let of_apps = |loss: Loss| LostFile {
                        volume: stretch.name.clone(),
                        app: apps.of(&loss.path),
                        path: loss.path,
                        size: loss.size.map(ByteSize),
                        lost: ByteSize(loss.lost),
                        what: loss.what,
                    };
                    losses.files.extend(found.into_iter().map(of_apps));
                }
                None => findings.push(unknown(&stretch, &part, &error)),
            },
        }
    }
    losses.files.sort_by(|a, b| (&a.volume, &a.path).cmp(&(&b.volume, &b.path)));
    losses
}

/// What is lost of a filesystem that the kernel reads; `None` where it does not.
fn by_kernel(
    host: &Host,
    place: &Path,
    map: &Map,
    stretch: &Stretch,
    part: &dyn ReadAt,
    findings: &mut Vec<Finding>,
) -> Option<Vec<Loss>> {
    let found = signature::read(part).unwrap_or_default();
    let [signature] = found.as_slice() else { return None };
    let kind = Some(signature.kind).filter(|kind| kind.holds_files())?;
    let mut note = |severity, what: String| findings.push(Finding::new(severity, &stretch.name, what, ""));
    let source = Source::open(place).map_err(|error| note(Severity::Warning, error.to_string())).ok()?;
    let content = Arc::new(mapfile::Readable { image: source, map: map.clone() });
    match kernel::losses(host, place, (stretch, kind), content) {
        Ok((losses, snapshots)) => {
            if snapshots {
                note(Severity::Note, "its snapshots were not looked at".into());
            }
            Some(losses)
        }
        Err(error) => {
            note(Severity::Warning, format!("it cannot be opened: {error}"));
            None
        }
    }
}

/// It cannot be told which files of this volume are lost.
fn unknown(stretch: &Stretch, part: &dyn ReadAt, error: &Ext4Error) -> Finding {
    let found = signature::read(part).unwrap_or_default();
    let names: Vec<&str> = found.iter().map(|signature| signature.kind.name()).collect();
    let what = match (names.as_slice(), error) {
        ([], Ext4Error::NotExt) => "it has lost sectors, and nothing known lies on it".to_owned(),
        ([], error) => format!("it has lost sectors, and which files lie on them cannot be told: {error}"),
        (names, _) => {
            let names = names.join(" or ");
            format!("it has lost sectors, and which files lie on them cannot be told, because it is {names}")
        }
    };
    Finding::new(Severity::Damage, &stretch.name, what, "do not rely on files of it that you have not checked")
}

struct Search<'s> {
    filesystem: &'s Filesystem<'s>,
    stretch: &'s Stretch,
    map: &'s Map,
    // Lost stretches in which nothing was found so far.
    unclaimed: Map,
    apps: &'s Apps,
    files: Vec<LostFile>,
}

impl Search<'_> {
    fn all(&mut self, findings: &mut Vec<Finding>) {
        let filesystem = self.filesystem;
        let reached = filesystem.walk(&mut |found| self.look_at(&found));
        let mut unreadable = 0u64;
        filesystem.walk_lost(reached, &mut |found| self.look_at(&found), &mut |_| unreadable += 1);
        if unreadable > 0 {
            let what = format!(
                "{unreadable} blocks of its table of files are lost; files that they told of have no name here any more"
            );
            findings.push(Finding::new(Severity::Damage, &self.stretch.name, what, ""));
        }
    }

    fn look_at(&mut self, found: &Found<'_>) {
        match found {
            Found::Entry { path, inode } => {
                let lost = self.lost_of(inode);
                let what = self.why_unreadable(inode);
                // A folder of which a part is lost comes once more, with what cannot be read.
                if what.is_some() || lost > 0 && inode.kind != Kind::Directory {
                    self.list(path, Some(inode.size), lost, what);
                } else if path.starts_with(b"lost+found/#") && inode.kind == Kind::File {
                    let what = "its name or its folder is lost; its content is whole".to_owned();
                    self.list(path, Some(inode.size), 0, Some(what));
                }
            }
            Found::Unreadable { path, error, .. } => self.list(path, None, 0, Some(format!("it is lost: {error}"))),
            Found::Incomplete { path, error } => {
                self.list(path, None, 0, Some(format!("names in this folder are lost: {error}")));
            }
        }
    }

    /// Bytes of its content that are lost.
    fn lost_of(&mut self, inode: &Inode) -> u64 {
        let size = self.filesystem.superblock().block_size;
        let mut lost = 0u64;
        let (map, start) = (self.map, self.stretch.start);
        let unclaimed = &mut self.unclaimed;
        // What is the matter with the map of the file itself is told by `why_unreadable`.
        let _ = self.filesystem.extents(inode, &mut |extent| {
            let from = extent.logical.saturating_mul(size);
            let length = extent.length.saturating_mul(size).min(inode.size.saturating_sub(from));
            let place = start.saturating_add(extent.physical.saturating_mul(size));
            let range = place..place.saturating_add(length);
            let areas = map.areas(range.clone()).filter(|area| area.state != State::Rescued);
            if extent.written {
                lost = lost.saturating_add(areas.map(|area| area.length).sum());
                unclaimed.set(range.start, range.end - range.start, State::Rescued);
            }
            Ok(())
        });
        lost
    }

    /// Why more than some of its bytes cannot be read.
    fn why_unreadable(&self, inode: &Inode) -> Option<String> {
        let content = match inode.kind {
            Kind::File => Content::open(self.filesystem, inode).map(drop),
            Kind::Symlink => self.filesystem.target(inode).map(drop),
            _ => Ok(()),
        };
        if let Err(error) = content {
            return Some(format!("it cannot be read: {error}"));
        }
        self.filesystem.attributes(inode).err().map(|error| format!("its attributes are lost: {error}"))
    }

    fn list(&mut self, path: &[u8], size: Option<u64>, lost: u64, what: Option<String>) {
        self.files.push(LostFile {
            volume: self.stretch.name.clone(),
            path: path.to_vec(),
            app: self.apps.of(path),
            size: size.map(ByteSize),
            lost: ByteSize(lost),
            what,
        });
    }
}

/// Which app a path belongs to.
struct Apps(BTreeMap<RelPath, AppId>);

impl Apps {
    fn new() -> Apps {
        let places = |app: &'static manifest::Manifest| {
            app.backups.iter().flat_map(manifest::Backup::paths).map(|path| (path.clone(), app.id.clone()))
        };
        Apps(manifest::all().iter().flat_map(places).collect())
    }

    /// The app with the innermost place.
    fn of(&self, path: &[u8]) -> Option<AppId> {
        // Installers put a system into a subvolume with such a name.
        let path = [&b"@rootfs/"[..], b"@/"].iter().find_map(|name| path.strip_prefix(*name)).unwrap_or(path);
        let path = RelPath::parse(path).ok()?;
        let up = std::iter::successors(Some(path), RelPath::parent);
        up.filter_map(|place| self.0.get(&place)).next().cloned()
    }
}
