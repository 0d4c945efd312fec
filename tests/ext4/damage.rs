//! Volumes in the middle of something, and damaged ones: the right bytes, or an error.

use super::*;

/// An image that is copied while the kernel writes to it, so that its newest state is in the journal.
fn dirty(folder: &Path, options: &str, mount: &str) -> PathBuf {
    let image = image(folder, options, 300);
    let copy = folder.join("copy");
    {
        let mounted = Kernel::mount(&image, &format!("loop,{mount}"));
        let at = |name: &str| mounted.path().join(name);
        fs::remove_file(at("many/a name of some length, number 7")).unwrap();
        fs::rename(at("deep/er"), at("moved")).unwrap();
        // With data in the journal, what looks like a header of the journal itself has to be escaped there.
        let mut content = noise(8, 300_000);
        for block in content.chunks_mut(1024) {
            block[..4].copy_from_slice(&0xc03b_3998_u32.to_be_bytes());
        }
        fs::write(at("new"), content).unwrap();
        fs::create_dir(at("new folder")).unwrap();
        // A folder's blocks that become a file's are revoked.
        fs::create_dir(at("passing")).unwrap();
        for number in 0..500 {
            fs::write(at(&format!("passing/{number}")), "x").unwrap();
        }
        sh(&format!("sync -f {}", mounted.path().display()));
        fs::remove_dir_all(at("passing")).unwrap();
        sh(&format!("sync -f {}", mounted.path().display()));
        fs::write(at("after"), noise(9, 1 << 20)).unwrap();
        sh(&format!("sync -f {}", mounted.path().display()));
        fs::copy(&image, &copy).unwrap();
    }
    wait_for_loops(&image);
    copy
}

#[test]
fn a_journal_is_replayed_in_memory_as_the_kernel_replays_it() {
    if cannot() {
        return;
    }
    for (name, options, mount) in [
        ("Debian 12", "-t ext4", "rw"),
        ("Debian 13", "-t ext4 -O metadata_csum_seed,orphan_file", "rw"),
        ("data in the journal", "-t ext4 -b 1024 -J size=8", "data=journal"),
        ("no checksums", "-t ext4 -O ^metadata_csum,^64bit", "data=journal"),
        ("ext3", "-t ext3 -b 1024", "rw"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let copy = dirty(folder.path(), options, mount);
        let before = common::disks::digest(&copy);
        let own = {
            let source = Source::open(&copy).unwrap();
            let filesystem = Filesystem::open(&source).unwrap();
            assert_eq!(filesystem.notes(), [] as [&str; 0], "{name}");
            assert!(filesystem.replayed() > 3, "{name}: there was something to replay");
            let (own, errors) = own_tree(&filesystem);
            assert_eq!(errors, [] as [&str; 0], "{name}");
            own
        };
        assert_eq!(common::disks::digest(&copy), before, "{name}: nothing was written");
        same(name, &own, &kernel_tree(Kernel::mount(&copy, "loop").path()));
        assert_ne!(common::disks::digest(&copy), before, "{name}: the kernel did replay");
    }
}

#[test]
fn without_its_superblock_and_descriptors_a_filesystem_is_read_by_their_copies() {
    if cannot() {
        return;
    }
    for (name, options) in [("ext4", "-t ext4 -b 1024"), ("ext3", "-t ext3 -b 1024")] {
        let folder = tempfile::tempdir().unwrap();
        let image = image(folder.path(), options, 300);
        let kernel = kernel_tree(Kernel::mount(&image, "loop,ro").path());
        wait_for_loops(&image);
        poke(&image, 1024, &[0xff; 1024]);
        let read = || {
            let source = Source::open(&image).unwrap();
            let filesystem = Filesystem::open(&source).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(filesystem.notes()[0].contains("a copy was used"), "{name}: {:?}", filesystem.notes());
            let (own, errors) = own_tree(&filesystem);
            assert_eq!(errors, [] as [&str; 0], "{name}");
            same(name, &own, &kernel);
        };
        read();
        // The descriptors of ext3 have no checksum, so that damage is not always told from a descriptor.
        poke(&image, 2 * 1024, &[0xff; 1024]);
        read();
    }
}

/// A volume in memory with places that cannot be read.
struct Broken<'a> {
    bytes: &'a [u8],
    bad: std::ops::Range<u64>,
}

impl ReadAt for Broken<'_> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let end = offset + buf.len() as u64;
        if offset < self.bad.end && self.bad.start < end {
            return Err(io::Error::from_raw_os_error(5));
        }
        self.bytes.read_at(offset, buf)
    }

    fn length(&self) -> u64 {
        self.bytes.len() as u64
    }
}

/// Compares what can be read of a damaged filesystem with what was there: nothing is other than it was, and what is
/// missing was told.
#[track_caller]
fn right_or_told(name: &str, volume: &dyn ReadAt, whole: &Tree) -> bool {
    let Ok(filesystem) = Filesystem::open(volume) else { return false };
    let (own, errors) = own_tree(&filesystem);
    for (path, record) in &own {
        assert_eq!(whole.get(path), Some(record), "{name}: {}", path.escape_ascii());
    }
    let complete = own.len() == whole.len();
    assert!(complete || !errors.is_empty() || !filesystem.notes().is_empty(), "{name}: something is missing untold");
    let reached = filesystem.walk(&mut |_| {});
    filesystem.walk_lost(reached, &mut |_| {}, &mut |_| {});
    complete
}

#[test]
fn damaged_structures_give_the_right_bytes_or_an_error() {
    if cannot() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let image = image(folder.path(), "-t ext4 -b 4096 -O metadata_csum_seed,orphan_file", 300);
    let mut bytes = fs::read(&image).unwrap();
    let (whole, blocks) = {
        let source = bytes.as_slice();
        let filesystem = Filesystem::open(&source).unwrap();
        let (tree, errors) = own_tree(&filesystem);
        assert!(errors.is_empty());
        // Content has no checksums, so only the blocks that files do not lie in are damaged.
        let size = filesystem.superblock().block_size;
        let mut blocks = vec![true; (source.length() / size) as usize];
        filesystem.walk(&mut |found| {
            if let Found::Entry { inode, .. } = found
                && inode.kind != Kind::Directory
            {
                filesystem
                    .extents(inode, &mut |extent| {
                        blocks[extent.physical as usize..(extent.physical + extent.length) as usize].fill(false);
                        Ok(())
                    })
                    .unwrap();
            }
        });
        let used = |at: &usize| blocks[*at] && bytes[at * 4096..][..4096].iter().any(|&b| b != 0);
        (tree, (0..blocks.len()).filter(used).collect::<Vec<_>>())
    };
    let mut random = noise(11, 8 * 400).as_chunks::<8>().0.to_vec();
    let mut harmless = 0;
    for nth in 0..80 {
        let mut undo = Vec::new();
        for _ in 0..4 {
            let number = u64::from_le_bytes(random.pop().unwrap());
            let block = blocks[number as usize % blocks.len()];
            let at = block * 4096 + (number >> 32) as usize % 4096;
            undo.push((at, bytes[at]));
            bytes[at] ^= (number >> 48) as u8 | 1;
        }
        harmless += u32::from(right_or_told(&format!("mutation {nth}"), &bytes.as_slice(), &whole));
        undo.into_iter().rev().for_each(|(at, byte)| bytes[at] = byte);
    }
    assert!(harmless < 80, "some of it was damage");
    // Places that cannot be read.
    for nth in 0..40u64 {
        let start = blocks[noise(nth + 1, 8)[..4].iter().fold(0, |sum, b| sum * 7 + *b as usize) % blocks.len()] as u64;
        let bad = start * 4096..(start + 1 + nth % 3) * 4096;
        right_or_told(&format!("bad block {start}"), &Broken { bytes: &bytes, bad }, &whole);
    }
    // An image that ends too early.
    for end in [bytes.len() / 2, bytes.len() / 4, 70_000, 3000, 1500, 100, 0] {
        right_or_told(&format!("cut at {end}"), &&bytes[..end], &whole);
    }
}

#[test]
fn damage_without_checksums_never_stops_the_reader() {
    if cannot() {
        return;
    }
    for options in ["-t ext4 -O ^metadata_csum,^64bit -b 1024", "-t ext3 -b 1024"] {
        let folder = tempfile::tempdir().unwrap();
        let make = format!("mke2fs -q -F {options}");
        let image = filesystem(&folder.path().join("image"), 24, &make, "", |root| {
            for name in ["a", "b/c/d", "b/e"] {
                fs::create_dir_all(root.join(name)).unwrap();
                fs::write(root.join(name).join("file"), noise(3, 400_000)).unwrap();
            }
            set_xattr(&root.join("a"), "user.x", &noise(1, 500));
        });
        let mut bytes = Vec::new();
        File::open(&image).unwrap().read_to_end(&mut bytes).unwrap();
        let used: Vec<usize> =
            (0..bytes.len() / 1024).filter(|at| bytes[at * 1024..(at + 1) * 1024].iter().any(|&b| b != 0)).collect();
        let random = noise(12, 8 * 4000);
        let mut random = random.as_chunks::<8>().0.iter().map(|raw| u64::from_le_bytes(*raw));
        for _ in 0..300 {
            let mut undo = Vec::new();
            for _ in 0..6 {
                let number = random.next().unwrap();
                let at = used[number as usize % used.len()] * 1024 + (number >> 32) as usize % 1024;
                undo.push((at, bytes[at]));
                bytes[at] = (number >> 48) as u8;
            }
            if let Ok(filesystem) = Filesystem::open(&bytes.as_slice()) {
                // A length out of thin air is a sparse file of petabytes: only its begin is read here.
                let reached = filesystem.walk(&mut |found| {
                    if let Found::Entry { inode, .. } = found {
                        let _ = filesystem.attributes(inode);
                        if let Ok(content) = Content::open(&filesystem, inode) {
                            let _ = io::copy(&mut content.take(1 << 20), &mut io::sink());
                        }
                    }
                });
                filesystem.walk_lost(reached, &mut |_| {}, &mut |_| {});
            }
            undo.into_iter().rev().for_each(|(at, byte)| bytes[at] = byte);
        }
    }
}

#[test]
fn what_lost_its_folder_is_found_by_its_inode() {
    if cannot() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let image = filesystem(&folder.path().join("image"), 32, "mke2fs -q -F -t ext4 -b 4096", "", |root| {
        fs::create_dir_all(root.join("var/lib/app")).unwrap();
        fs::write(root.join("var/lib/app/data"), "what matters").unwrap();
    });
    // The root directory's block is gone.
    let shown = image.to_str().unwrap();
    let block = run("debugfs", &["-R", "bmap <2> 0", shown]);
    poke(&image, block.trim().parse::<u64>().unwrap() * 4096, &[0xff; 4096]);
    let source = Source::open(&image).unwrap();
    let filesystem = Filesystem::open(&source).unwrap();
    let mut told = 0;
    let reached = filesystem.walk(&mut |found| told += u32::from(matches!(found, Found::Incomplete { .. })));
    assert_eq!(told, 1, "the root directory is incomplete");
    let mut found_files = Vec::new();
    filesystem.walk_lost(
        reached,
        &mut |found| {
            if let Found::Entry { path, inode } = found
                && inode.kind == Kind::File
            {
                let bytes = Content::open(&filesystem, inode).unwrap().read_all(100).unwrap();
                found_files.push((String::from_utf8(path.to_vec()).unwrap(), bytes));
            }
        },
        &mut |error| panic!("{error}"),
    );
    let [(path, bytes)] = found_files.as_slice() else { panic!("{found_files:?}") };
    assert!(path.starts_with("lost+found/#") && path.ends_with("/lib/app/data"), "{path}");
    assert_eq!(bytes, b"what matters");
}
