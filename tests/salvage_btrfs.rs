//! `lifeboat salvage` on btrfs, which FreedomBox's images use: what matters comes first, the list of lost files is what
//! the kernel's own checksums say, and what survived is read, also without partition table, superblock or chunk tree.

#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::indexing_slicing, reason = "this is test code")]

mod common;

use common::boxes::scratch;
use common::disks::{Kernel, System, blank, cannot_mount, digest, filesystem, place, run, sfdisk, sh, system};
use common::failing::{BLOCK, BadDisk, Watched};
use common::repositories::noise;
use common::rescue::{Run, lifeboat};
use lifeboat::formats::mapfile::{Activity, Map};
use lifeboat::formats::{ReadAt, btrfs};
use lifeboat::model::progress::Silent;
use lifeboat::salvage::copy::{Copier, Effort, Keep};
use lifeboat::sys::SysError;
use lifeboat::sys::host::Host;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Where the partition begins on the disk, and how long both are, in MiB.
const PARTITION: u64 = 2 << 20;
const LENGTH: u64 = 300;

fn cannot() -> bool {
    let no_btrfs = !fs::read_to_string("/proc/filesystems").unwrap().contains("btrfs");
    let why = cannot_mount(&["mkfs.btrfs", "btrfs-map-logical", "sfdisk", "chattr"])
        .or(no_btrfs.then(|| "the kernel has no btrfs".to_owned()))
        .or((!Path::new("/dev/fuse").exists()).then(|| "the kernel has no FUSE".to_owned()));
    why.inspect(|why| eprintln!("SKIPPED: {why}")).is_some()
}

/// A file whose data has no checksums.
const UNCHECKED: &str = "var/lib/mysql/ibdata1";
const UNCHECKED_SEED: u64 = 77;

/// A disk with a FreedomBox on btrfs in its only partition.
struct BoxDisk {
    folder: tempfile::TempDir,
    disk: PathBuf,
}

impl BoxDisk {
    fn new() -> BoxDisk {
        let folder = tempfile::tempdir().unwrap();
        let part = filesystem(&folder.path().join("part"), LENGTH, "mkfs.btrfs -q", ",compress=zstd", |root| {
            system(root, &System { hostname: "old", fstab: "", tables: "plinth" });
            let put = |name: &str, content: &[u8]| {
                let path = root.join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, content).unwrap();
            };
            put("var/lib/plinth/firstboot-wizard-secret", &noise(1, 9000));
            put("var/lib/radicale/collections/calendar", &noise(2, 400_000));
            put("var/lib/radicale/collections/contacts", &noise(3, 90_000));
            put("home/me/photo", &noise(4, 5_000_000));
            put("usr/bin/program", &noise(5, 3_000_000));
            // Compressed, small enough to lie in metadata, and many.
            let text: String = (0..400_000).map(|number| format!("line {number}\n")).collect();
            put("home/me/text", text.as_bytes());
            (0..1500).for_each(|number| put(&format!("usr/share/doc/{number}"), &noise(1000 + number, 3000)));
            fs::create_dir_all(root.join("var/lib/mysql")).unwrap();
            File::create(root.join(UNCHECKED)).unwrap();
            sh(&format!("chattr +C {}", root.join(UNCHECKED).display()));
            put(UNCHECKED, &noise(UNCHECKED_SEED, 2_000_000));
            sh(&format!("sync -f {}", root.display()));
        });
        let disk = blank(&folder.path().join("disk"), LENGTH + 4);
        sfdisk(&disk, 512, &format!("label: gpt\nstart=4096, size={LENGTH}MiB\n"));
        place(&disk, PARTITION, &part);
        BoxDisk { folder, disk }
    }

    /// Where on the disk a block of noise lies.
    fn find(&self, content: &[u8]) -> u64 {
        let disk = fs::read(&self.disk).unwrap();
        let mut blocks = disk.chunks(BLOCK as usize).enumerate();
        let found = blocks.find(|(_, block)| block.starts_with(content));
        found.unwrap().0 as u64 * BLOCK
    }

    /// The disk with other bytes in its bad blocks: what has a checksum cannot be read there.
    fn changed(&self, bad: &[u64]) -> PathBuf {
        let copy = self.folder.path().join("changed");
        fs::copy(&self.disk, &copy).unwrap();
        let file = File::options().write(true).open(&copy).unwrap();
        for at in bad {
            file.write_all_at(&noise(at + 1, BLOCK as usize), *at).unwrap();
        }
        copy
    }
}

fn salvage(disk: &Path, to: &Path) -> Run {
    lifeboat(&["salvage".as_ref(), disk.as_os_str(), "--to".as_ref(), to.as_os_str(), "--json".as_ref()])
}

/// Path and lost bytes of each lost file.
fn lost_files(told: &serde_json::Value) -> BTreeMap<String, u64> {
    let files = told["files"].as_array().unwrap().iter();
    files.map(|file| (file["path"].as_str().unwrap().to_owned(), file["lost"].as_u64().unwrap())).collect()
}

/// How many bytes of each file the kernel cannot read.
fn unreadable(root: &Path) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for entry in walkdir::WalkDir::new(root).into_iter().map(Result::unwrap).filter(|e| e.file_type().is_file()) {
        let file = File::open(entry.path()).unwrap();
        let size = entry.metadata().unwrap().len();
        let blocks = (0..size).step_by(BLOCK as usize).map(|at| (at, BLOCK.min(size - at)));
        let bad = blocks.filter(|(at, length)| file.read_exact_at(&mut vec![0; *length as usize], *at).is_err());
        let lost: u64 = bad.map(|(_, length)| length).sum();
        if lost > 0 {
            found.insert(entry.path().strip_prefix(root).unwrap().to_str().unwrap().to_owned(), lost);
        }
    }
    found
}

#[test]
fn with_one_percent_bad_sectors_the_list_of_lost_files_is_what_the_checksums_say() {
    if cannot() {
        return;
    }
    let a_box = BoxDisk::new();
    let first = PARTITION / BLOCK;
    // Not a multiple of what lies between the two copies of metadata.
    let bad: Vec<u64> = (first + 40..first + (LENGTH << 20) / BLOCK).step_by(101).map(|block| block * BLOCK).collect();
    let image = a_box.folder.path().join("image");
    let told = {
        let failing = BadDisk::new(&a_box.disk, &bad);
        salvage(failing.path(), &image).ends(1).json()
    };
    assert_eq!(told["lost"], bad.len() as u64 * BLOCK, "{told}");
    let mut expected = {
        let options = format!("loop,ro,offset={PARTITION},sizelimit={}", LENGTH << 20);
        let mounted = Kernel::mount(&a_box.changed(&bad), &options);
        unreadable(mounted.path())
    };
    // The kernel takes any bytes for the content of the file without checksums.
    assert!(!expected.contains_key(UNCHECKED));
    let content = noise(UNCHECKED_SEED, 2_000_000);
    let disk = fs::read(&a_box.disk).unwrap();
    let blocks: Vec<&[u8]> = content.chunks(BLOCK as usize).collect();
    let is_lost = |at: &&u64| blocks.iter().any(|block| disk[**at as usize..].starts_with(block));
    let lost: u64 = bad.iter().filter(is_lost).count() as u64 * BLOCK;
    assert!(lost > 0);
    expected.insert(UNCHECKED.to_owned(), lost);
    assert!(expected.len() > 5, "{expected:?}");
    assert_eq!(lost_files(&told), expected);
    let said = told["files"].to_string();
    assert!(said.contains("\"app\":\"radicale\""), "{said}");
}

#[test]
fn without_table_superblock_and_a_copy_of_the_chunk_tree_a_salvaged_disk_is_read() {
    if cannot() {
        return;
    }
    let a_box = BoxDisk::new();
    let part = a_box.folder.path().join("part");
    let chunk_tree = PARTITION + chunk_tree(&part)[0];
    let calendar = a_box.find(&noise(2, 400_000)[10 * BLOCK as usize..][..BLOCK as usize]);
    let end = (LENGTH + 4) << 20;
    let ends = (1..6).map(|nth| end - nth * BLOCK);
    let image = a_box.folder.path().join("image");
    let bad: Vec<u64> = [0, BLOCK, PARTITION + 0x1_0000, chunk_tree, calendar].into_iter().chain(ends).collect();
    let told = {
        let failing = BadDisk::new(&a_box.disk, &bad);
        salvage(failing.path(), &image).ends(1).json()
    };
    let lost = BTreeMap::from([("var/lib/radicale/collections/calendar".to_owned(), BLOCK)]);
    assert_eq!(lost_files(&told), lost, "{told}");
    assert!(told["findings"].to_string().contains("its partition table cannot be read"), "{told}");
    // What survived is read, and the image stays as it is.
    let before = digest(&image);
    let found = lifeboat(&["survey", "--json", "--image", image.to_str().unwrap()]).ends(0).json();
    assert_eq!(found["installations"][0]["hostname"], "old", "{found}");
    assert_eq!(found["installations"][0]["freedombox"], "25.9.3", "{found}");
    assert!(found["findings"].to_string().contains("repaired in memory"), "{found}");
    assert_eq!(digest(&image), before);
    // A map that says nothing is not passed over: then nobody would know which zeros are none.
    fs::write(a_box.folder.path().join("image.map"), "# nothing\n").unwrap();
    let said = lifeboat(&["survey", "--image", image.to_str().unwrap()]).ends(20).err;
    assert!(said.contains("it cannot be used as the map"), "{said}");
}

/// Where the copies of the root of a filesystem's chunk tree lie.
fn chunk_tree(part: &Path) -> Vec<u64> {
    let part = part.to_str().unwrap();
    let said = run("btrfs", &["inspect-internal", "dump-super", part]);
    let root = said.lines().find_map(|line| line.strip_prefix("chunk_root\t")).unwrap().trim().to_owned();
    let copies = run("btrfs-map-logical", &["-l", &root, "-b", "4096", part]);
    let words: Vec<&str> = copies.split_whitespace().collect();
    words.windows(2).filter(|two| two[0] == "physical").map(|two| two[1].parse().unwrap()).collect()
}

/// Destroys the first block of each copy of the chunk tree.
fn lose_chunk_tree(part: &Path, copies: &[u64]) {
    let file = File::options().write(true).open(part).unwrap();
    copies.iter().for_each(|at| file.write_all_at(&noise(at + 1, BLOCK as usize), *at).unwrap());
}

#[test]
fn a_chunk_tree_that_is_lost_is_made_anew_as_it_was_or_not_at_all() {
    if cannot() {
        return;
    }
    for options in ["-m single", "-m dup", "-M", "-m dup -n 4096", "-m dup -n 65536"] {
        chunk_tree_is_made_anew(options);
    }
}

/// Newer filesystems keep what the chunks are for in a tree of its own.
#[test]
fn a_chunk_tree_is_made_anew_where_block_groups_have_a_tree_of_their_own() {
    let knows = || {
        let listed = Command::new("mkfs.btrfs").args(["-O", "list-all"]).output().unwrap();
        String::from_utf8_lossy(&[listed.stdout, listed.stderr].concat()).contains("block-group-tree")
    };
    if cannot() {
        return;
    }
    if !knows() {
        return eprintln!("SKIPPED: this mkfs.btrfs is older than 6.3 and makes no block-group-tree");
    }
    for options in ["-O block-group-tree", "-O block-group-tree -m single -n 4096"] {
        let part = chunk_tree_is_made_anew(options);
        let said = run("btrfs", &["inspect-internal", "dump-super", part.path().join("part").to_str().unwrap()]);
        assert!(said.contains("BLOCK_GROUP_TREE"), "{said}");
    }
}

/// Makes a filesystem, loses its chunk tree, and finds the same one again.
fn chunk_tree_is_made_anew(options: &str) -> tempfile::TempDir {
    let folder = scratch();
    let (part, copy) = (folder.path().join("part"), folder.path().join("copy"));
    filesystem(&part, 200, &format!("mkfs.btrfs -q {options}"), "", |root| {
        // More than one chunk.
        (0..4).for_each(|seed| fs::write(root.join(seed.to_string()), noise(seed, 12_000_000)).unwrap());
        fs::remove_file(root.join("1")).unwrap();
    });
    let volume = fs::read(&part).unwrap();
    assert!(btrfs::rebuilt(&&volume[..]).is_empty(), "{options}: nothing is lost");
    let tree = |path: &Path| run("btrfs", &["inspect-internal", "dump-tree", "-t", "chunk", path.to_str().unwrap()]);
    let (before, copies) = (tree(&part), chunk_tree(&part));
    if copies.len() == 2 {
        fs::copy(&part, &copy).unwrap();
        lose_chunk_tree(&copy, &copies[..1]);
        assert!(btrfs::rebuilt(&&fs::read(&copy).unwrap()[..]).is_empty(), "{options}: one copy is there");
    }
    fs::copy(&part, &copy).unwrap();
    lose_chunk_tree(&copy, &copies);
    let lost = fs::read(&copy).unwrap();
    let changes = btrfs::rebuilt(&&lost[..]);
    let places: Vec<u64> = changes.iter().map(|(at, _)| *at).collect();
    assert_eq!(places, copies, "{options}");
    let file = File::options().write(true).open(&copy).unwrap();
    changes.iter().for_each(|(at, leaf)| file.write_all_at(leaf, *at).unwrap());
    assert_eq!(tree(&copy), before, "{options}");
    run("btrfs", &["check", "--readonly", copy.to_str().unwrap()]);
    let mounted = Kernel::mount(&copy, "loop,ro");
    for seed in [0, 2, 3] {
        assert!(fs::read(mounted.path().join(seed.to_string())).unwrap() == noise(seed, 12_000_000), "{options}");
    }
    drop(mounted);
    // Where the device tree is lost as well, nobody knows.
    let mut without = lost.clone();
    let node = |owner: u8, block: &[u8]| block[0x58] == owner && block[0x59..0x60] == [0; 7] && block[0x64] == 0;
    let fsid = volume[0x1_0020..0x1_0030].to_vec();
    for block in without.chunks_mut(BLOCK as usize).filter(|block| block[0x20..0x30] == fsid[..] && node(4, block)) {
        block[0x70..0x90].copy_from_slice(&[0x5a; 32]);
    }
    assert!(btrfs::rebuilt(&&without[..]).is_empty(), "{options}: the device tree is damaged");
    // A superblock that says something else of the device does not belong to it.
    let mut other = lost;
    other[0x1_00d9] ^= 0x40;
    let sum = !ext4::parse::ext4_style_crc32c_le(!0, &other[0x1_0020..0x1_1000]);
    other[0x1_0000..0x1_0004].copy_from_slice(&sum.to_le_bytes());
    assert!(btrfs::rebuilt(&&other[..]).is_empty(), "{options}: the two say different things");
    folder
}

#[test]
fn a_disk_without_any_copy_of_the_chunk_tree_is_read_and_stays_as_it_is() {
    if cannot() {
        return;
    }
    let a_box = BoxDisk::new();
    let copies: Vec<u64> = chunk_tree(&a_box.folder.path().join("part")).into_iter().map(|at| PARTITION + at).collect();
    assert_eq!(copies.len(), 2);
    let calendar = a_box.find(&noise(2, 400_000)[10 * BLOCK as usize..][..BLOCK as usize]);
    let image = a_box.folder.path().join("image");
    let told = {
        let failing = BadDisk::new(&a_box.disk, &[copies[0], copies[1], calendar]);
        salvage(failing.path(), &image).ends(1).json()
    };
    let lost = BTreeMap::from([("var/lib/radicale/collections/calendar".to_owned(), BLOCK)]);
    assert_eq!(lost_files(&told), lost, "{told}");
    for (disk, at) in [(&a_box.disk, "the disk"), (&image, "its image")] {
        if disk == &a_box.disk {
            lose_chunk_tree(disk, &copies);
        }
        let before = digest(disk);
        let found = lifeboat(&["survey", "--json", "--image", disk.to_str().unwrap()]).ends(0).json();
        assert_eq!(found["installations"][0]["hostname"], "old", "{at}: {found}");
        assert_eq!(found["installations"][0]["freedombox"], "25.9.3", "{at}: {found}");
        assert!(found["findings"].to_string().contains("repaired in memory"), "{at}: {found}");
        assert_eq!(digest(disk), before, "{at}");
    }
}

/// An image in memory.
struct Medium(Vec<u8>);

impl Keep for Medium {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SysError> {
        self.0[offset as usize..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn save(&mut self, _: &Map, _: u64, _: Activity) -> Result<(), SysError> {
        Ok(())
    }

    fn read(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.0.as_slice().read_at(offset, buf)
    }
}

#[test]
fn secrets_and_app_data_are_read_before_anything_else_on_btrfs_too() {
    if cannot() {
        return;
    }
    let a_box = BoxDisk::new();
    let places = [(1, 0), (2, 5), (4, 700), (5, 600)].map(|(seed, block)| {
        let content = noise(seed, 5_000_000);
        a_box.find(&content[block * BLOCK as usize..][..BLOCK as usize])
    });
    let disk = Watched { content: fs::read(&a_box.disk).unwrap(), reads: RefCell::default() };
    let mut medium = Medium(vec![0; disk.content.len()]);
    let effort = Effort {
        cluster: BLOCK,
        sector: 512,
        skip: BLOCK,
        longest_skip: BLOCK,
        patience: Duration::from_secs(60),
        retries: 1,
        save_every: Duration::from_secs(3600),
    };
    let host = Host::real(a_box.folder.path().join("run"));
    let map = Map::new(disk.length());
    let mut copier = Copier::new(&disk, &mut medium, map, effort, &Silent);
    lifeboat::salvage::copy_disk(&host, &a_box.disk, &mut copier, &Silent).unwrap();
    let reads = disk.reads.borrow();
    let order = places.map(|place| reads.iter().position(|(at, end)| (*at..*end).contains(&place)).unwrap());
    assert!(order.is_sorted(), "a secret, app data, a user's file, a program: {order:?}");
    assert!(medium.0 == disk.content);
    // And each byte is asked for once.
    let asked: u64 = reads.iter().map(|(at, end)| end - at).sum();
    assert_eq!(asked, disk.length());
}
