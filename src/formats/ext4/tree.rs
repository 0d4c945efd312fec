//! Walks through a whole filesystem: every name, and what is in use without a name.

use super::Ext4Error;
use super::filesystem::{FIRST_FREE, Filesystem, ROOT};
use super::inode::{Inode, Kind};
use std::collections::BTreeMap;

/// Longest path that is walked into: longer ones come from damage.
const LONGEST_PATH: usize = 64 << 10;
/// Most names of one directory.
const MOST_NAMES: usize = 4 << 20;

/// What a walk comes to.
#[derive(Debug)]
pub enum Found<'w> {
    /// A name and what it names. A directory comes before what is in it, and a file with several names several times.
    Entry {
        /// The path below the filesystem's root, without a leading slash; empty for the root.
        path: &'w [u8],
        /// What it names.
        inode: &'w Inode,
    },
    /// A name whose inode cannot be read.
    Unreadable {
        /// The path.
        path: &'w [u8],
        /// The inode's number.
        number: u32,
        /// Why not.
        error: Ext4Error,
    },
    /// A directory of which a part cannot be read: names are missing.
    Incomplete {
        /// The path of the directory.
        path: &'w [u8],
        /// Why.
        error: Ext4Error,
    },
}

/// Which inodes a walk came to.
#[derive(Debug)]
pub struct Reached(Vec<u64>);

impl Reached {
    /// None so far. The superblock's number of inodes fits on the filesystem, and so takes little memory.
    fn new(filesystem: &Filesystem<'_>) -> Reached {
        let most = filesystem.volume().length() / filesystem.superblock().inode_size;
        let inodes = u64::from(filesystem.superblock().inodes).min(most);
        Reached(vec![0; usize::try_from(inodes / 64 + 1).unwrap_or(0)])
    }

    /// Whether it was there already.
    fn add(&mut self, number: u32) -> bool {
        let (word, bit) = (number as usize / 64, 1u64 << (number % 64));
        let Some(word) = self.0.get_mut(word) else { return true };
        std::mem::replace(word, *word | bit) & bit != 0
    }

    /// Whether an inode was reached.
    pub fn has(&self, number: u32) -> bool {
        self.0.get(number as usize / 64).is_some_and(|word| word & (1 << (number % 64)) != 0)
    }
}

/// A directory on the way: names that are still to come, and how long its own path is.
struct Level {
    names: std::vec::IntoIter<super::directory::Name>,
    path: usize,
}

impl Filesystem<'_> {
    /// Walks through everything below the root.
    pub fn walk(&self, visit: &mut dyn FnMut(Found<'_>)) -> Reached {
        let mut reached = Reached::new(self);
        self.walk_into(ROOT, b"", &mut reached, visit);
        reached
    }

    /// Walks through everything at and below an inode, whose path is given.
    pub fn walk_below(&self, number: u32, path: &[u8], visit: &mut dyn FnMut(Found<'_>)) {
        self.walk_into(number, path, &mut Reached::new(self), visit);
    }

    fn walk_into(&self, number: u32, path: &[u8], reached: &mut Reached, visit: &mut dyn FnMut(Found<'_>)) {
        let mut path = path.to_vec();
        let mut levels: Vec<Level> = self.enter(number, &path, reached, visit).into_iter().collect();
        while let Some(level) = levels.last_mut() {
            path.truncate(level.path);
            let Some(name) = level.names.next() else {
                levels.pop();
                continue;
            };
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&name.name);
            if name.inode < FIRST_FREE {
                let error = Ext4Error::damaged("the name leads to an inode of the filesystem's own");
                visit(Found::Unreadable { path: &path, number: name.inode, error });
                continue;
            }
            levels.extend(self.enter(name.inode, &path, reached, visit));
        }
    }

    /// Visits one inode; for a directory, what is in it.
    fn enter(
        &self,
        number: u32,
        path: &[u8],
        reached: &mut Reached,
        visit: &mut dyn FnMut(Found<'_>),
    ) -> Option<Level> {
        let inode = match self.inode(number) {
            Ok(inode) => inode,
            Err(error) => {
                reached.add(number);
                visit(Found::Unreadable { path, number, error });
                return None;
            }
        };
        let again = reached.add(number);
        if inode.kind == Kind::Directory && again {
            let error = Ext4Error::damaged("the directory has a second name");
            visit(Found::Unreadable { path, number, error });
            return None;
        }
        visit(Found::Entry { path, inode: &inode });
        if inode.kind != Kind::Directory {
            return None;
        }
        if path.len() > LONGEST_PATH {
            visit(Found::Incomplete { path, error: Ext4Error::damaged("the path is too long") });
            return None;
        }
        let mut names = Vec::new();
        let mut too_many = false;
        self.names(&inode, &mut |name| match name {
            Ok(name) if names.len() < MOST_NAMES => names.push(name),
            Ok(_) => too_many = true,
            Err(error) => visit(Found::Incomplete { path, error }),
        });
        if too_many {
            visit(Found::Incomplete { path, error: Ext4Error::damaged("it has too many names") });
        }
        Some(Level { names: names.into_iter(), path: path.len() })
    }

    /// Walks through what is in use and has no name that a walk came to, as `lost+found/#NUMBER`: lost directories with
    /// everything below them, then lost files. Parts of the inode table that cannot be read are told to `unreadable`.
    pub fn walk_lost(
        &self,
        mut reached: Reached,
        visit: &mut dyn FnMut(Found<'_>),
        unreadable: &mut dyn FnMut(Ext4Error),
    ) {
        // Directories with the one above each, and files.
        let mut directories = BTreeMap::new();
        let mut files = Vec::new();
        let per_group = u64::from(self.superblock().inodes_per_group);
        for group in 0..self.superblock().groups() {
            let written = match self.group(group) {
                Ok(found) => u64::from(found.inodes_written),
                Err(error) => {
                    unreadable(error);
                    continue;
                }
            };
            let mut failed_in = None;
            for nth in 0..written {
                let Ok(number) = u32::try_from(group * per_group + nth + 1) else { break };
                if reached.has(number) || number < FIRST_FREE || self.superblock().own_inodes.contains(&number) {
                    continue;
                }
                match self.find_inode(number) {
                    Ok(None) => {}
                    Ok(Some(inode)) if inode.is_attribute_value() => {}
                    Ok(Some(inode)) if inode.kind == Kind::Directory => {
                        directories.insert(number, self.parent(&inode).unwrap_or(0));
                    }
                    Ok(Some(inode)) => files.push(inode.number),
                    // A block of the table holds many inodes: one word for all of them.
                    Err(error @ Ext4Error::Io { .. }) => {
                        let block = nth * self.superblock().inode_size / self.superblock().block_size;
                        if failed_in.replace(block) != Some(block) {
                            unreadable(error);
                        }
                    }
                    Err(_) => {}
                }
            }
        }
        let tops = directories.iter().filter(|(_, above)| !directories.contains_key(above)).map(|(number, _)| *number);
        // Directories that lie in each other have no top: whichever comes first is one.
        let all = tops.chain(directories.keys().copied()).collect::<Vec<_>>();
        for number in all.into_iter().chain(files) {
            if !reached.has(number) {
                self.walk_into(number, format!("lost+found/#{number}").as_bytes(), &mut reached, visit);
            }
        }
    }
}
