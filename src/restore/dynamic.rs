//! State directories of services whose user systemd makes up at each start (`DynamicUser=`): the data lies in
//! `var/lib/private/NAME`, and `var/lib/NAME` is a link to it that systemd makes. A directory in the link's place, as a
//! new package brings, keeps the service from starting once there is private data.
//!
//! Owns parking that directory beside the step's old data, the link, and both backwards. Makes no link where nothing
//! was, and removes no directory before `commit`.

use super::journal::Record;
use super::{Restore, RestoreError, doing, place, writing};
use crate::model::path::RelPath;
use crate::model::plan::{Step, parked};
use crate::sys::dir::Kind;
use crate::sys::{fault, tree};
use std::io;

/// Where the data lies.
const PRIVATE: &str = "var/lib/private";
/// Where everybody looks for it.
const PUBLIC: &str = "var/lib";

impl Restore {
    /// Parks the directories that stand where links to the step's data have to be, and makes the links. `states` are the
    /// state directories of the app's dynamic users, as its units name them. Can be called again.
    pub fn open_state(&mut self, step: &Step, states: &[RelPath]) -> Result<(), RestoreError> {
        for state in states {
            let below = |top: &str| RelPath::parse(&[top.as_bytes(), b"/", state.as_bytes()].concat());
            let (private, public) = (below(PRIVATE)?, below(PUBLIC)?);
            let is_ours = overlap(&step.destination, &private);
            let planned = self.plan().steps.iter().any(|other| other.destination == public);
            let there = self.root().stat(&private).map_err(doing(format!("looking at \"{private}\"")))?.is_some();
            if is_ours && there && !planned {
                self.open_one(step, state, &public)?;
            }
        }
        Ok(())
    }

    fn open_one(&mut self, step: &Step, state: &RelPath, public: &RelPath) -> Result<(), RestoreError> {
        let failed = || writing(public);
        let found = self.root().stat(public).map_err(failed())?.map(|stat| stat.kind);
        let noted = self.opened(step).contains(public);
        match found {
            Some(Kind::Directory) => {
                let store = aside(step, public);
                let store_parent = store.parent().ok_or_else(|| RestoreError::Unknown { path: store.clone() })?;
                let to = place::make_private(self.root(), &store_parent)?;
                let at = self.root().parent(public).map_err(failed())?;
                if !noted {
                    self.record(Record::Opening { step: step.id, path: public.clone() })?;
                }
                fault::point("open.before").map_err(failed())?;
                at.move_to(public.file_name(), &to, store.file_name())
                    .and_then(|()| to.sync())
                    .and_then(|()| at.sync())
                    .map_err(failed())?;
                fault::point("open.after").map_err(failed())?;
            }
            // The power was cut between the two.
            None if noted => {}
            // The link, or nothing: then systemd makes it.
            _ => return Ok(()),
        }
        let depth = state.components().count().saturating_sub(1);
        let target = [b"../".repeat(depth).as_slice(), b"private/", state.as_bytes()].concat();
        let at = self.root().parent(public).map_err(failed())?;
        at.make_symlink(public.file_name(), &target).and_then(|()| at.sync()).map_err(failed())
    }

    /// Brings the directories back that [`Restore::open_state`] parked. Can be called again.
    pub(super) fn close_state(&mut self, step: &Step) -> Result<(), RestoreError> {
        for public in self.opened(step) {
            let store = aside(step, &public);
            let failed = || writing(&public);
            if self.root().stat(&store).map_err(failed())?.is_none() {
                continue;
            }
            let at = self.root().parent(&public).map_err(failed())?;
            match at.stat_child(public.file_name()).map_err(failed())?.map(|stat| stat.kind) {
                None => {}
                Some(Kind::Symlink) => at.remove_file(public.file_name()).map_err(failed())?,
                Some(_) => return Err(RestoreError::Unknown { path: public }),
            }
            let from = self.root().parent(&store).map_err(failed())?;
            from.move_to(store.file_name(), &at, public.file_name()).and_then(|()| at.sync()).map_err(failed())?;
        }
        Ok(())
    }

    /// Removes what [`Restore::open_state`] parked, once nothing can be undone any more.
    pub(super) fn free_state(&self, step: &Step) -> Result<(), RestoreError> {
        for public in self.opened(step) {
            let store = aside(step, &public);
            let failed = || doing(format!("removing \"{store}\""));
            match self.root().parent(&store) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => tree::remove(&other.map_err(failed())?, store.file_name()).map_err(failed())?,
            }
        }
        Ok(())
    }

    fn opened(&self, step: &Step) -> Vec<RelPath> {
        let opened = self.records().iter().filter_map(|record| match record {
            Record::Opening { step: id, path } if *id == step.id => Some(path.clone()),
            _ => None,
        });
        opened.collect()
    }
}

/// Where the directory of a link's place is parked.
fn aside(step: &Step, public: &RelPath) -> RelPath {
    parked(&step.area, &step.app, public)
}

/// Whether a step brings all of a directory, a part of it, or more than it.
fn overlap(destination: &RelPath, directory: &RelPath) -> bool {
    destination.is_within(directory) || directory.is_within(destination)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_made_for_private_data_whether_all_of_it_is_restored_or_one_file() {
        let overlap = |one: &str, other: &str| overlap(&one.parse().unwrap(), &other.parse().unwrap());
        let state = "var/lib/private/shadowsocks-libev/freedombox";
        assert!(overlap(state, state));
        assert!(overlap(&format!("{state}/freedombox.json"), state));
        assert!(overlap("var/lib/private/shadowsocks-libev", state));
        assert!(!overlap("var/lib/private/shadowsocks-libev/fbxserver", state));
        assert!(!overlap(&format!("{state}-2"), state));
    }
}
