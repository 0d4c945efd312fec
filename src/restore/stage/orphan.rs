//! Hard links to files that are not restored: to another app's, or to none's.
//!
//! Such a file's content is fetched by a second reading of the backup, and the first of its names that is restored gets
//! it; the others become names of that one. In the sums of what the archive gave they stay the links that verification
//! saw.

use super::{Stager, Staging, Trouble};
use crate::model::digest::Sha256Digest;
use crate::model::entry::{Entry, EntryKind};
use crate::model::path::RelPath;
use crate::model::progress::Silent;
use crate::restore::RestoreError;
use crate::source::{Archive, ReadError, VisitError, Visitor};
use crate::verify::content_record;
use std::collections::BTreeMap;
use std::io::BufRead;

/// The links, by their paths, and the files that have the content.
#[derive(Debug, Default)]
pub(in crate::restore) struct Orphans(BTreeMap<RelPath, (RelPath, Entry)>);

impl Orphans {
    pub(super) fn has(&self, path: &RelPath) -> bool {
        self.0.contains_key(path)
    }

    pub(super) fn add(&mut self, entry: &Entry, to: &RelPath) {
        // A link to such a link is one to the same file.
        let file = self.0.get(to).map_or(to, |(file, _)| file).clone();
        self.0.insert(entry.path.clone(), (file, entry.clone()));
    }
}

/// Reads the backup once more and stages the links that were put off.
pub(in crate::restore) fn adopt(stager: &mut Stager<'_>, archive: &mut dyn Archive) -> Result<(), ReadError> {
    let mut wanted: BTreeMap<RelPath, Vec<Entry>> = BTreeMap::new();
    for (file, link) in std::mem::take(&mut stager.orphans).0.into_values() {
        wanted.entry(file).or_default().push(link);
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let mut adoption = Adoption { stager, wanted };
    let ending = archive.read(&mut adoption, &Silent);
    if adoption.stager.failure.is_none()
        && let Some((file, links)) = adoption.wanted.pop_first()
        && let Some(link) = links.first()
    {
        let why = format!("it is a hard link to \"{file}\", whose content is not in the backup");
        adoption.stager.failure = Some(RestoreError::Refused { path: link.path.clone(), why });
    }
    ending.map(drop)
}

struct Adoption<'a, 'b> {
    stager: &'a mut Stager<'b>,
    wanted: BTreeMap<RelPath, Vec<Entry>>,
}

impl Visitor for Adoption<'_, '_> {
    fn needs_content(&mut self, entry: &Entry) -> bool {
        self.wanted.contains_key(&entry.path)
    }

    fn visit(&mut self, entry: &Entry, content: &mut dyn BufRead) -> Result<(), VisitError> {
        if !matches!(entry.kind, EntryKind::File { .. }) {
            return Ok(());
        }
        let Some(links) = self.wanted.remove(&entry.path) else { return Ok(()) };
        let mut first: Option<&RelPath> = None;
        for link in &links {
            let kind = first.map_or(entry.kind.clone(), |first| EntryKind::HardLink { to: first.clone() });
            let staged = match self.stager.step_of(&link.path) {
                Some(index) => {
                    self.stager.stage_in(index, |stager, staging| stage_as(stager, staging, link, kind, content))
                }
                None => Ok(()),
            };
            self.stager.take_in(link, staged)?;
            first = first.or(Some(&link.path));
        }
        Ok(())
    }
}

/// Stages an entry as one of another kind, and counts it as what it is.
fn stage_as(
    stager: &mut Stager<'_>,
    staging: &mut Staging<'_>,
    link: &Entry,
    kind: EntryKind,
    content: &mut dyn BufRead,
) -> Result<(), Trouble> {
    let source = &staging.step.source.clone();
    let relative = link.path.relative_to(source).unwrap_or_default();
    // What it is called does not matter: it is taken out of the sum again.
    let mark = matches!(kind, EntryKind::File { .. }).then(|| Sha256Digest::of(b"orphan"));
    let stand_in = Entry { kind, fingerprint: mark, ..link.clone() };
    stager.stage(staging, &stand_in, content)?;
    staging.content.remove(content_record(source, relative, &stand_in.kind, mark));
    staging.content.add(content_record(source, relative, &link.kind, None));
    Ok(())
}
