//! The reader of ext2, ext3 and ext4 beside the kernel: the same tree to the last byte, on what mke2fs makes of odd
//! content in many versions of the format; and on damaged ones the right bytes or an error.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "this is test code"
)]

#[path = "../common/mod.rs"]
mod common;
mod damage;

use common::disks::{Kernel, cannot_mount, filesystem, poke, run, sh, wait_for_loops};
use common::repositories::noise;
use lifeboat::formats::ReadAt;
use lifeboat::formats::ext4::content::Content;
use lifeboat::formats::ext4::tree::Found;
use lifeboat::formats::ext4::{Ext4Error, Filesystem, Inode, Kind};
use lifeboat::model::digest::Sha256Digest;
use lifeboat::sys::file::Source;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// What is compared of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Record {
    kind: Kind,
    mode: u32,
    owner: (u32, u32),
    links: u64,
    size: u64,
    mtime: (i64, u32),
    device: Option<(u32, u32)>,
    content: Option<Sha256Digest>,
    target: Option<Vec<u8>>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

type Tree = BTreeMap<Vec<u8>, Record>;

fn kernel_tree(root: &Path) -> Tree {
    let mut tree = Tree::new();
    for entry in walkdir::WalkDir::new(root) {
        let entry = entry.unwrap();
        let meta = entry.metadata().unwrap();
        let kind = meta.file_type();
        let kind = match () {
            () if kind.is_file() => Kind::File,
            () if kind.is_dir() => Kind::Directory,
            () if kind.is_symlink() => Kind::Symlink,
            () if kind.is_fifo() => Kind::Fifo,
            () if kind.is_socket() => Kind::Socket,
            () if kind.is_char_device() => Kind::CharacterDevice,
            () => Kind::BlockDevice,
        };
        let path = entry.path();
        let is_device = matches!(kind, Kind::CharacterDevice | Kind::BlockDevice);
        let number = (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()));
        let record = Record {
            kind,
            mode: meta.mode() & 0o7777,
            owner: (meta.uid(), meta.gid()),
            links: meta.nlink(),
            size: if is_device { 0 } else { meta.len() },
            mtime: (meta.mtime(), meta.mtime_nsec() as u32),
            device: is_device.then_some(number),
            content: (kind == Kind::File).then(|| digest(&mut File::open(path).unwrap()).unwrap()),
            target: (kind == Kind::Symlink).then(|| fs::read_link(path).unwrap().as_os_str().as_bytes().to_vec()),
            xattrs: kernel_xattrs(path),
        };
        tree.insert(path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec(), record);
    }
    tree
}

fn digest(content: &mut dyn Read) -> io::Result<Sha256Digest> {
    let mut hasher = Sha256::new();
    let mut piece = vec![0; 1 << 20];
    loop {
        match content.read(&mut piece)? {
            0 => return Ok(Sha256Digest::from_hasher(hasher)),
            count => hasher.update(&piece[..count]),
        }
    }
}

fn kernel_xattrs(path: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut list = vec![0; 65536];
    let length = rustix::fs::llistxattr(path, &mut list[..]).unwrap_or(0);
    let names = list[..length].split(|&b| b == 0).filter(|name| !name.is_empty());
    let mut found: Vec<_> = names
        .map(|name| {
            let mut value = vec![0; 65536];
            let length = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value[..]).unwrap();
            (name.to_vec(), value[..length].to_vec())
        })
        .collect();
    found.sort();
    found
}

/// The record of an inode, or why it cannot be told.
fn record(filesystem: &Filesystem<'_>, inode: &Inode) -> Result<Record, Ext4Error> {
    let is_file = inode.kind == Kind::File;
    let of_content = || -> Result<_, Ext4Error> {
        let mut content = Content::open(filesystem, inode)?;
        digest(&mut content).map_err(|source| Ext4Error::Io { at: 0, source })
    };
    let is_device = inode.device().is_some();
    Ok(Record {
        kind: inode.kind,
        mode: inode.mode,
        owner: (inode.uid, inode.gid),
        links: inode.links.into(),
        size: if is_device { 0 } else { inode.size },
        mtime: (inode.mtime.secs, inode.mtime.nanos),
        device: inode.device(),
        content: if is_file { Some(of_content()?) } else { None },
        target: if inode.kind == Kind::Symlink { Some(filesystem.target(inode)?) } else { None },
        xattrs: filesystem.attributes(inode)?,
    })
}

/// What the reader sees, with what it could not read: paths with reasons.
fn own_tree(filesystem: &Filesystem<'_>) -> (Tree, Vec<String>) {
    let mut tree = Tree::new();
    let mut errors = Vec::new();
    filesystem.walk(&mut |found| match found {
        Found::Entry { path, inode } => match record(filesystem, inode) {
            Ok(record) => assert!(tree.insert(path.to_vec(), record).is_none(), "a path comes twice"),
            Err(error) => errors.push(format!("{}: {error}", path.escape_ascii())),
        },
        Found::Unreadable { path, error, .. } | Found::Incomplete { path, error } => {
            errors.push(format!("{}: {error}", path.escape_ascii()));
        }
    });
    (tree, errors)
}

#[track_caller]
fn same(name: &str, own: &Tree, kernel: &Tree) {
    for (path, record) in kernel {
        assert_eq!(own.get(path), Some(record), "{name}: {}", path.escape_ascii());
    }
    assert_eq!(own.len(), kernel.len(), "{name}: there is more than the kernel sees");
}

fn set_xattr(path: &Path, name: &str, value: &[u8]) -> bool {
    rustix::fs::lsetxattr(path, name, value, rustix::fs::XattrFlags::empty()).is_ok()
}

/// Everything odd that a filesystem can hold.
fn fill(root: &Path, names: u32) {
    let at = |name: &str| root.join(name);
    fs::create_dir_all(at("deep/er/and/deeper")).unwrap();
    fs::create_dir(at("many")).unwrap();
    for number in 0..names {
        fs::write(at(&format!("many/a name of some length, number {number}")), number.to_string()).unwrap();
    }
    fs::write(at("big"), noise(1, 3 << 20)).unwrap();
    fs::write(at("empty"), "").unwrap();
    for length in [1, 59, 60, 61, 100, 150, 1000, 4095, 4096, 4097] {
        fs::write(at(&format!("deep/er/{length}")), noise(length as u64, length)).unwrap();
    }
    // Holes, and a length that is no multiple of a block.
    let sparse = File::create(at("sparse")).unwrap();
    sparse.write_all_at(&noise(2, 5000), 3 << 20).unwrap();
    sparse.write_all_at(&noise(3, 100), 9 << 20).unwrap();
    sparse.set_len((12 << 20) + 7).unwrap();
    // Blocks of deleted files are what a fallocated range lies on.
    fs::write(at("old"), noise(4, 4 << 20)).unwrap();
    sh(&format!("sync -f {}", root.display()));
    fs::remove_file(at("old")).unwrap();
    sh(&format!("sync -f {}", root.display()));
    let allocated = File::create(at("allocated")).unwrap();
    if rustix::fs::fallocate(&allocated, rustix::fs::FallocateFlags::empty(), 0, 2 << 20).is_ok() {
        allocated.write_all_at(&noise(5, 70_000), 1 << 20).unwrap();
        let flags = rustix::fs::FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&allocated, flags, 2 << 20, 1 << 20).unwrap();
        // Many extents, so that the tree has a level more.
        let holes = File::options().write(true).open(at("big")).unwrap();
        let flags = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
        for nth in 0..340u64 {
            rustix::fs::fallocate(&holes, flags, nth * 8192, 4096).unwrap();
        }
    }
    fs::hard_link(at("empty"), at("deep/second name")).unwrap();
    fs::write(root.join(OsStr::from_bytes(b"not \xff utf-8 \xe4\n")), "x").unwrap();
    fs::write(at(&"n".repeat(255)), "long").unwrap();
    symlink("short", at("link")).unwrap();
    symlink("a".repeat(59), at("link59")).unwrap();
    symlink("b".repeat(60), at("link60")).unwrap();
    symlink("c".repeat(1000), at("link1000")).unwrap();
    sh(&format!("cd {} && mkfifo pipe && mknod tty c 5 1 && mknod sd b 259 70000", root.display()));
    std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    for (name, time) in [
        ("t1901", "1901-12-14 00:00:00.123456789"),
        ("t1969", "1969-12-31 23:59:58.999999999"),
        ("t2040", "2040-01-01 12:00:00.5"),
        ("t2100", "2100-02-03 04:05:06.000000001"),
        ("t2400", "2400-02-03 04:05:06"),
    ] {
        sh(&format!("TZ=UTC touch -d '{time}' {}", at(name).display()));
    }
    fs::write(at("owned"), "x").unwrap();
    std::os::unix::fs::chown(at("owned"), Some(100_000), Some(4_000_000_000)).unwrap();
    fs::set_permissions(at("owned"), fs::Permissions::from_mode(0o6751)).unwrap();
    set_xattr(&at("owned"), "user.small", b"value");
    set_xattr(&at("owned"), "user.medium", &noise(6, 700));
    set_xattr(&at("owned"), "user.empty", b"");
    set_xattr(&at("owned"), "trusted.secret", b"t");
    set_xattr(&at("deep"), "user.of a folder", b"f");
    // Only with values in inodes of their own.
    set_xattr(&at("empty"), "user.large", &noise(7, 20_000));
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    set_xattr(&at("big"), "security.capability", &capability);
    // Version 2; owner rw, user 1000 r, group r, mask r, others none.
    let mut list = vec![2u8, 0, 0, 0];
    for (tag, perm, id) in
        [(1u16, 6u16, u32::MAX), (2, 4, 1000), (4, 4, u32::MAX), (0x10, 4, u32::MAX), (0x20, 0, u32::MAX)]
    {
        list.extend(tag.to_le_bytes());
        list.extend(perm.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    set_xattr(&at("owned"), "system.posix_acl_access", &list);
    set_xattr(&at("deep/er"), "system.posix_acl_default", &list);
    fs::create_dir(at("removed")).unwrap();
    fs::remove_dir(at("removed")).unwrap();
}

/// What mke2fs is asked for, under a name.
const FORMATS: [(&str, &str); 12] = [
    ("Debian 12", "-t ext4 -b 4096"),
    ("Debian 13", "-t ext4 -b 4096 -O metadata_csum_seed,orphan_file"),
    ("everything", "-t ext4 -b 4096 -I 512 -O inline_data,large_dir,ea_inode,metadata_csum_seed"),
    ("small blocks", "-t ext4 -b 1024"),
    ("no checksums", "-t ext4 -O ^metadata_csum"),
    ("no checksums, 32 bits", "-t ext4 -O ^metadata_csum,^64bit,^uninit_bg"),
    ("groups with checksums, 32 bits", "-t ext4 -O ^metadata_csum,^64bit,uninit_bg -I 128"),
    ("meta groups", "-t ext4 -b 1024 -O meta_bg,^resize_inode,^flex_bg -g 8192"),
    ("clusters", "-t ext4 -b 4096 -O bigalloc -C 16384"),
    ("few copies", "-t ext4 -O sparse_super2 -N 20000"),
    ("ext3", "-t ext3 -b 1024"),
    ("ext2", "-t ext2 -b 2048"),
];

/// An image with odd content, by the kernel.
fn image(folder: &Path, options: &str, names: u32) -> PathBuf {
    let make = format!("mke2fs -q -F -N 12000 {options}");
    filesystem(&folder.join("image"), 96, &make, "", |root| fill(root, names))
}

/// What debugfs takes off an image. It makes neither devices nor second names, and leaves attributes behind.
fn debugfs_tree(folder: &Path, image: &Path) -> Tree {
    let to = folder.join("taken");
    fs::create_dir(&to).unwrap();
    run("debugfs", &["-R", &format!("rdump / {}", to.display()), image.to_str().unwrap()]);
    kernel_tree(&to)
}

/// How many files and links of the kernel's tree another one has with the same content.
fn equal(kernel: &Tree, other: &Tree) -> (usize, usize) {
    let content = |record: &Record| (record.content, record.target.clone());
    let files: Vec<_> = kernel.iter().filter(|(_, record)| matches!(record.kind, Kind::File | Kind::Symlink)).collect();
    let is_equal = |path: &Vec<u8>, record: &Record| other.get(path).map(content) == Some(content(record));
    (files.iter().filter(|(path, record)| is_equal(path, record)).count(), files.len())
}

fn cannot() -> bool {
    let why = cannot_mount(&["mke2fs", "losetup", "debugfs"]);
    why.inspect(|why| eprintln!("SKIPPED: {why}")).is_some()
}

#[test]
fn every_format_reads_as_the_kernel_reads_it() {
    if cannot() {
        return;
    }
    let columns = ["names", "ours", "files", "ours", "debugfs"];
    println!(
        "{:<32} {:>6} {:>6} {:>6} {:>6} {:>6}",
        "format", columns[0], columns[1], columns[2], columns[3], columns[4]
    );
    for (name, options) in FORMATS {
        let folder = tempfile::tempdir().unwrap();
        let image = image(folder.path(), options, if name == "Debian 12" { 6000 } else { 700 });
        let kernel = kernel_tree(Kernel::mount(&image, "loop,ro").path());
        wait_for_loops(&image);
        let source = Source::open(&image).unwrap();
        let filesystem = Filesystem::open(&source).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(filesystem.notes(), [] as [&str; 0], "{name}");
        let (own, errors) = own_tree(&filesystem);
        assert_eq!(errors, [] as [&str; 0], "{name}");
        same(name, &own, &kernel);
        // Nothing in use was missed.
        let reached = filesystem.walk(&mut |_| {});
        let mut lost = Vec::new();
        filesystem
            .walk_lost(reached, &mut |found| lost.push(format!("{found:?}")), &mut |error| panic!("{name}: {error}"));
        assert_eq!(lost, [] as [&str; 0], "{name}");
        // Counted, not demanded: debugfs is no promise of ours.
        let ((ours, files), (theirs, _)) = (equal(&kernel, &own), equal(&kernel, &debugfs_tree(folder.path(), &image)));
        println!("{name:<32} {:>6} {:>6} {files:>6} {ours:>6} {theirs:>6}", kernel.len(), own.len());
    }
}

#[test]
fn a_path_is_found_as_the_system_itself_would_find_it() {
    if cannot() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let image = filesystem(&folder.path().join("image"), 16, "mke2fs -q -F -t ext4", "", |root| {
        let at = |name: &str| root.join(name);
        fs::create_dir_all(at("a/b")).unwrap();
        fs::write(at("a/b/file"), "found").unwrap();
        symlink("/a/b", at("absolute")).unwrap();
        symlink("../../../../a/./b/", at("a/up")).unwrap();
        symlink("round", at("round")).unwrap();
    });
    let source = Source::open(&image).unwrap();
    let filesystem = Filesystem::open(&source).unwrap();
    let file = filesystem.find(b"a/b/file").unwrap().unwrap().number;
    for path in ["/a//b/./file", "absolute/file", "a/up/file", "a/../../a/b/file"] {
        assert_eq!(filesystem.find(path.as_bytes()).unwrap().map(|inode| inode.number), Some(file), "{path}");
    }
    assert!(filesystem.find(b"a/c").unwrap().is_none() && filesystem.find(b"a/b/file/x").unwrap().is_none());
    assert!(filesystem.find(b"round/x").is_err(), "a link to itself");
    assert_eq!(filesystem.find_link(b"absolute").unwrap().unwrap().kind, Kind::Symlink);
}
