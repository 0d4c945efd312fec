//! One filesystem tree, read by the kernel or by Lifeboat itself.

use crate::formats::ext4::content::Content;
use crate::formats::ext4::{Ext4Error, Filesystem, Inode, Kind as Ext4Kind};
use crate::model::path::RelPath;
use crate::sys::dir::{self, Dir, Kind, Stat, Xattr};
use crate::sys::file::ForeignRoot;
use std::io::{self, Read};
use std::rc::Rc;

/// What is in a directory.
pub(super) struct Listing<L> {
    /// Names, sorted, with what leads to each.
    pub(super) links: Vec<(Vec<u8>, L)>,
    /// Why names may be missing.
    pub(super) damage: Option<io::Error>,
}

/// A tree of files. Links on the way to a start are resolved within the tree; below it none is followed.
pub(super) trait Tree {
    /// A file, directory or link that was found.
    type Node;
    /// Leads to a child.
    type Link;

    /// What lies at a path; a link at its end is not followed. `None` when nothing does.
    fn find(&self, path: &RelPath) -> io::Result<Option<Self::Node>>;
    /// What it is.
    fn stat<'n>(&self, node: &'n Self::Node) -> &'n Stat;
    /// The names in a directory.
    fn list(&self, node: &Self::Node) -> Listing<Self::Link>;
    /// The child of that name; `None` when it vanished.
    fn child(&self, name: &[u8], link: &Self::Link) -> io::Result<Option<Self::Node>>;
    /// A file's content.
    fn content<'t>(&'t self, node: &Self::Node) -> io::Result<Box<dyn Read + 't>>;
    /// A link's target.
    fn target(&self, node: &Self::Node) -> io::Result<Vec<u8>>;
    /// Attributes of a file or a directory, in the kernel's form.
    fn attributes(&self, node: &Self::Node) -> io::Result<Vec<Xattr>>;
}

/// What the kernel shows.
pub(super) struct Mounted(pub(super) ForeignRoot);

/// A name in an open directory.
pub(super) struct Name {
    directory: Rc<Dir>,
    name: Vec<u8>,
    stat: Stat,
}

impl Tree for Mounted {
    type Node = Name;
    type Link = Rc<Dir>;

    fn find(&self, path: &RelPath) -> io::Result<Option<Name>> {
        let parent = path.parent();
        let above = parent.as_ref().map_or(std::path::Path::new(""), RelPath::as_path);
        match self.0.directory(above)? {
            Some(directory) => self.child(path.file_name(), &Rc::new(directory)),
            None => Ok(None),
        }
    }

    fn stat<'n>(&self, node: &'n Name) -> &'n Stat {
        &node.stat
    }

    fn list(&self, node: &Name) -> Listing<Rc<Dir>> {
        let listed = node.directory.child(&node.name).and_then(|directory| Ok((directory.names()?, directory)));
        match listed {
            Ok((mut names, directory)) => {
                names.sort_unstable();
                let directory = Rc::new(directory);
                let links = names.into_iter().map(|name| (name, Rc::clone(&directory))).collect();
                Listing { links, damage: None }
            }
            Err(error) => Listing { links: Vec::new(), damage: Some(error) },
        }
    }

    fn child(&self, name: &[u8], directory: &Rc<Dir>) -> io::Result<Option<Name>> {
        let stat = directory.stat_child(name)?;
        Ok(stat.map(|stat| Name { directory: Rc::clone(directory), name: name.to_vec(), stat }))
    }

    fn content<'t>(&'t self, node: &Name) -> io::Result<Box<dyn Read + 't>> {
        Ok(Box::new(node.directory.read_file(&node.name)?))
    }

    fn target(&self, node: &Name) -> io::Result<Vec<u8>> {
        node.directory.read_link(&node.name)
    }

    fn attributes(&self, node: &Name) -> io::Result<Vec<Xattr>> {
        match node.stat.kind {
            Kind::File => dir::xattrs(node.directory.read_file(&node.name)?),
            Kind::Directory => dir::xattrs(node.directory.child(&node.name)?),
            _ => Ok(Vec::new()),
        }
    }
}

/// What Lifeboat reads itself.
pub(super) struct Unmounted<'f, 'a>(pub(super) &'f Filesystem<'a>);

impl Unmounted<'_, '_> {
    fn node(inode: Inode) -> (Inode, Stat) {
        let kind = match inode.kind {
            Ext4Kind::File => Kind::File,
            Ext4Kind::Directory => Kind::Directory,
            Ext4Kind::Symlink => Kind::Symlink,
            Ext4Kind::Fifo => Kind::Fifo,
            Ext4Kind::Socket => Kind::Socket,
            Ext4Kind::CharacterDevice | Ext4Kind::BlockDevice => Kind::Device,
        };
        let stat = Stat {
            kind,
            mode: inode.mode,
            uid: inode.uid,
            gid: inode.gid,
            size: inode.size,
            mtime: inode.mtime,
            dev: 0,
            ino: inode.number.into(),
            links: inode.links.into(),
            blocks: inode.sectors,
        };
        (inode, stat)
    }
}

fn failed(error: Ext4Error) -> io::Error {
    io::Error::other(error)
}

impl Tree for Unmounted<'_, '_> {
    type Node = (Inode, Stat);
    type Link = u32;

    fn find(&self, path: &RelPath) -> io::Result<Option<Self::Node>> {
        Ok(self.0.find_link(path.as_bytes()).map_err(failed)?.map(Self::node))
    }

    fn stat<'n>(&self, node: &'n Self::Node) -> &'n Stat {
        &node.1
    }

    fn list(&self, node: &Self::Node) -> Listing<u32> {
        let mut listing = Listing { links: Vec::new(), damage: None };
        self.0.names(&node.0, &mut |name| match name {
            Ok(name) => listing.links.push((name.name, name.inode)),
            Err(error) => listing.damage = Some(failed(error)),
        });
        listing.links.sort_unstable();
        listing
    }

    fn child(&self, _: &[u8], number: &u32) -> io::Result<Option<Self::Node>> {
        self.0.inode(*number).map(|inode| Some(Self::node(inode))).map_err(failed)
    }

    fn content<'t>(&'t self, node: &Self::Node) -> io::Result<Box<dyn Read + 't>> {
        Ok(Box::new(Content::open(self.0, &node.0).map_err(failed)?))
    }

    fn target(&self, node: &Self::Node) -> io::Result<Vec<u8>> {
        self.0.target(&node.0).map_err(failed)
    }

    fn attributes(&self, node: &Self::Node) -> io::Result<Vec<Xattr>> {
        let mut found = self.0.attributes(&node.0).map_err(failed)?;
        found.retain(|(name, _)| dir::is_data(name));
        Ok(found)
    }
}
