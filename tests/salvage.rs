//! `lifeboat salvage`: everything that a failing disk still gives is in the image, nothing else is taken for it, and a
//! run that was cut off goes on.

#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::indexing_slicing, reason = "this is test code")]

mod common;

use common::disks::{Kernel, Loop, blank, cannot_mount, digest, filesystem, poke, run, sh};
use common::failing::{BLOCK, FailingDisk, cannot_fail};
use common::rescue::{Run, lifeboat};
use lifeboat::formats::ReadAt;
use lifeboat::formats::mapfile::{Activity, Map, State};
use lifeboat::model::progress::Silent;
use lifeboat::salvage::SalvageError;
use lifeboat::salvage::copy::{Copier, Effort, Keep};
use lifeboat::sys::SysError;
use lifeboat::sys::host::Host;
use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

const SECTOR: u64 = 512;

fn effort() -> Effort {
    Effort {
        cluster: 16 * SECTOR,
        sector: SECTOR,
        skip: 16 * SECTOR,
        longest_skip: 64 * SECTOR,
        patience: Duration::from_secs(60),
        retries: 1,
        save_every: Duration::ZERO,
    }
}

/// A disk in memory, some sectors of which cannot be read.
struct Disk {
    content: Vec<u8>,
    bad: BTreeSet<u64>,
    reads: Cell<u32>,
    failures: Cell<u32>,
    /// After so many reads, every read ends with this error.
    dies: Option<(u32, i32)>,
    /// How long a failing read takes.
    slow: Duration,
}

impl Disk {
    fn new(sectors: u64, bad: impl IntoIterator<Item = u64>) -> Disk {
        // No sector is like another, and none is all zeros.
        let content = (0..sectors).flat_map(|sector| (0..SECTOR).map(move |at| (sector * 7 + at % 251 + 1) as u8));
        let (reads, failures) = (Cell::new(0), Cell::new(0));
        let (dies, slow) = (None, Duration::ZERO);
        let mut bad: BTreeSet<u64> = bad.into_iter().filter(|sector| *sector < sectors).collect();
        if bad.len() as u64 == sectors {
            // A disk that gives nothing at all is another matter.
            bad.pop_last();
        }
        Disk { content: content.collect(), bad, reads, failures, dies, slow }
    }

    fn fail(&self, errno: i32) -> io::Error {
        self.failures.set(self.failures.get() + 1);
        std::thread::sleep(self.slow);
        io::Error::from_raw_os_error(errno)
    }

    /// The map that a patient run must end with.
    fn truth(&self) -> Map {
        let mut map = Map::new(self.length());
        map.set(0, self.length(), State::Rescued);
        for sector in &self.bad {
            map.set(sector * SECTOR, SECTOR, State::Bad);
        }
        map
    }
}

impl ReadAt for Disk {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.reads.set(self.reads.get() + 1);
        if let Some((after, errno)) = self.dies
            && self.reads.get() > after
        {
            return Err(self.fail(errno));
        }
        let first = offset / SECTOR;
        let end = (offset + buf.len() as u64).min(self.length());
        // As the kernel does it: what lies before the first bad sector is read.
        let good = match self.bad.range(first..end.div_ceil(SECTOR)).next() {
            Some(sector) if *sector == first => return Err(self.fail(5)),
            Some(sector) => sector * SECTOR,
            None => end,
        };
        let part = &self.content[offset as usize..good as usize];
        buf[..part.len()].copy_from_slice(part);
        Ok(part.len())
    }

    fn length(&self) -> u64 {
        self.content.len() as u64
    }
}

/// An image and a map, of which a power cut leaves what was saved.
struct Medium {
    volatile: Vec<u8>,
    lasting: Vec<u8>,
    map: String,
}

impl Medium {
    fn new(length: u64) -> Medium {
        let map = Map::new(length).render(&[], 0, Activity::Copying);
        Medium { volatile: vec![0; length as usize], lasting: vec![0; length as usize], map }
    }

    fn cut_power(&mut self) {
        self.volatile.clone_from(&self.lasting);
    }

    fn map(&self) -> Map {
        Map::parse(self.map.as_bytes(), self.lasting.len() as u64).unwrap()
    }

    /// Whether the image has what the map promises, and nothing where the map promises nothing.
    #[track_caller]
    fn is_honest(&self, disk: &Disk) {
        for area in self.map().areas(0..disk.length()).filter(|area| area.state == State::Rescued) {
            let range = area.start as usize..area.end() as usize;
            assert!(self.lasting[range.clone()] == disk.content[range], "wrong bytes at {area:?}");
        }
        for area in self.map().areas(0..disk.length()).filter(|area| area.state == State::Bad) {
            for sector in area.start / SECTOR..area.end() / SECTOR {
                assert!(disk.bad.contains(&sector), "sector {sector} is good and was given up");
            }
        }
    }
}

impl Keep for Medium {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SysError> {
        self.volatile[offset as usize..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn save(&mut self, map: &Map, position: u64, activity: Activity) -> Result<(), SysError> {
        self.lasting.clone_from(&self.volatile);
        self.map = map.render(&[], position, activity);
        Ok(())
    }

    fn read(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.volatile.as_slice().read_at(offset, buf)
    }
}

fn copy(disk: &Disk, medium: &mut Medium, effort: Effort, first: &[std::ops::Range<u64>]) -> Result<(), SalvageError> {
    let map = medium.map();
    Copier::new(disk, medium, map, effort, &Silent).run(first)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_good_sector_is_rescued_and_every_bad_one_is_known(
        sectors in 1u64..300,
        bad in proptest::collection::btree_set(0u64..300, 0..60),
        runs in proptest::collection::vec((0u64..300, 1u64..40), 0..3),
        first in proptest::collection::vec((0u64..150_000, 0u64..20_000), 0..4),
    ) {
        let runs = runs.iter().flat_map(|(start, length)| *start..start + length);
        let disk = Disk::new(sectors, bad.into_iter().chain(runs));
        let mut medium = Medium::new(disk.length());
        let first: Vec<_> = first.iter().map(|(start, length)| {
            let end = (start + length).min(disk.length());
            start - start % SECTOR..end
        }).filter(|range| range.start < range.end).collect();
        copy(&disk, &mut medium, effort(), &first).unwrap();
        medium.is_honest(&disk);
        prop_assert_eq!(medium.map(), disk.truth());
    }

    #[test]
    fn a_run_that_was_cut_off_anywhere_goes_on_to_the_same_end(
        sectors in 1u64..200,
        bad in proptest::collection::btree_set(0u64..200, 0..40),
        cuts in proptest::collection::vec((1u32..60, prop_oneof![Just(5), Just(6), Just(19)], 0u64..3), 0..6),
    ) {
        let mut disk = Disk::new(sectors, bad);
        let mut medium = Medium::new(disk.length());
        for (after, errno, saves) in cuts {
            disk.reads.set(0);
            disk.dies = Some((after, errno));
            let save_every = Duration::from_micros(saves * 50);
            // It stops, or it was done before.
            let ended = copy(&disk, &mut medium, Effort { save_every, ..effort() }, &[]);
            if disk.reads.get() > after {
                prop_assert!(matches!(ended, Err(SalvageError::Gone(_))), "{ended:?}");
            }
            medium.cut_power();
            medium.is_honest(&disk);
        }
        disk.dies = None;
        copy(&disk, &mut medium, effort(), &[]).unwrap();
        medium.is_honest(&disk);
        prop_assert_eq!(medium.map(), disk.truth());
    }
}

#[test]
fn a_disk_that_stops_answering_is_not_taken_for_a_disk_of_bad_sectors() {
    let mut disk = Disk::new(3000, [100, 1500]);
    disk.dies = Some((50, 5));
    let mut medium = Medium::new(disk.length());
    let ended = copy(&disk, &mut medium, effort(), &[]);
    assert!(matches!(ended, Err(SalvageError::Gone(_))), "{ended:?}");
    medium.is_honest(&disk);
    let map = medium.map();
    assert!(map.bytes(State::Rescued) > 40 * 16 * SECTOR, "what was read is kept");
    assert_eq!(map.bytes(State::Bad), 0, "nothing was given up");
    assert!(disk.failures.get() < 60, "it stopped soon: {}", disk.failures.get());
}

#[test]
fn a_disk_that_gives_nothing_at_all_is_an_error() {
    let mut disk = Disk::new(3000, []);
    disk.dies = Some((0, 5));
    let mut medium = Medium::new(disk.length());
    let ended = copy(&disk, &mut medium, effort(), &[]);
    assert!(matches!(ended, Err(SalvageError::Gone(_))), "{ended:?}");
    assert_eq!(medium.map(), Map::new(disk.length()), "nothing is known of it");
}

#[test]
fn a_bad_area_takes_no_longer_than_patience_and_the_rest_is_read() {
    // Half of the disk fails, and each failure takes its time.
    let mut disk = Disk::new(4000, 1000..3000);
    disk.slow = Duration::from_millis(3);
    let mut medium = Medium::new(disk.length());
    let short = Effort { patience: Duration::from_millis(60), retries: 0, ..effort() };
    copy(&disk, &mut medium, short, &[]).unwrap();
    medium.is_honest(&disk);
    let map = medium.map();
    assert_eq!(map.bytes(State::Rescued), 2000 * SECTOR, "everything good was read");
    let given_up = map.bytes(State::Bad);
    assert!(given_up > 0 && given_up < 1000 * SECTOR, "not every sector was tried: {given_up}");
    assert!(disk.failures.get() < 500, "{} failures", disk.failures.get());
    // More patience finishes it.
    disk.slow = Duration::ZERO;
    copy(&disk, &mut medium, effort(), &[]).unwrap();
    assert_eq!(medium.map(), disk.truth());
}

#[test]
fn what_is_wanted_first_is_read_first() {
    let mut disk = Disk::new(2000, [1999]);
    disk.dies = Some((3, 19));
    let mut medium = Medium::new(disk.length());
    let wanted = 800 * SECTOR..832 * SECTOR;
    let ended = copy(&disk, &mut medium, effort(), std::slice::from_ref(&wanted));
    assert!(matches!(ended, Err(SalvageError::Gone(_))), "{ended:?}");
    assert!(medium.map().is_rescued(wanted));
    medium.is_honest(&disk);
}

/// Bytes that look like nothing else, the same in every run.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn salvage(disk: &Path, to: &Path) -> Run {
    lifeboat(&["salvage".as_ref(), disk.as_os_str(), "--to".as_ref(), to.as_os_str(), "--json".as_ref()])
}

fn map_of(image: &Path, length: u64) -> Map {
    let mut name = image.as_os_str().to_owned();
    name.push(".map");
    Map::parse(&fs::read(name).unwrap(), length).unwrap()
}

#[test]
fn a_healthy_disk_is_copied_whole_and_its_zeros_take_no_room() {
    let folder = tempfile::tempdir().unwrap();
    let disk = blank(&folder.path().join("disk"), 20);
    poke(&disk, 5 << 20, &noise(1 << 20));
    // A length that is no multiple of anything.
    poke(&disk, (20 << 20) - 1, b"xyz");
    let before = digest(&disk);
    let out = folder.path().join("out");
    fs::create_dir(&out).unwrap();
    let told = salvage(&disk, &out).ends(0).json();
    let image = out.join("salvaged-disk.img");
    assert_eq!(told["image"], image.to_str().unwrap());
    assert_eq!((&told["rescued"], &told["lost"]), (&told["size"], &0.into()));
    assert_eq!(digest(&image), before);
    assert_eq!(digest(&disk), before);
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let meta = fs::metadata(&image).unwrap();
    assert!(meta.blocks() * 512 < 3 << 20, "{} sectors", meta.blocks());
    assert_eq!(meta.permissions().mode() & 0o777, 0o600, "a disk holds secrets");
    // Again: there is nothing left to do, and nothing changes.
    salvage(&disk, &out).ends(0);
    assert_eq!(digest(&image), before);
}

#[test]
fn what_exists_is_never_replaced_and_foreign_maps_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let disk = blank(&folder.path().join("disk"), 1);
    let image = folder.path().join("image");
    let map = folder.path().join("image.map");
    fs::write(&image, "a letter").unwrap();
    let said = salvage(&disk, &image).ends(2).err;
    assert!(said.contains("exists already"), "{said}");
    assert_eq!(fs::read(&image).unwrap(), b"a letter");
    for text in ["not a map", "0 +\n0 0x200000 +\n", "0 +\n0 16 +\n17 1 +\n"] {
        fs::write(&map, text).unwrap();
        salvage(&disk, &image).ends(2);
        assert_eq!(fs::read(&image).unwrap(), b"a letter", "{text}");
    }
    fs::remove_file(&image).unwrap();
    let said = salvage(&disk, &image).ends(2).err;
    assert!(said.contains("the map of an image that is not there"), "{said}");
    assert!(!image.exists());
    // Onto itself, into a device, from what is no disk.
    let said = salvage(&disk, &disk).ends(17).err;
    assert!(said.contains("lies on the disk that is to be salvaged"), "{said}");
    salvage(&disk, Path::new("/dev/null")).ends(17);
    salvage(folder.path(), &folder.path().join("other")).ends(17);
    let said = salvage(&folder.path().join("missing"), &folder.path().join("other")).said();
    assert!(said.contains("missing"), "{said}");
    assert!(!folder.path().join("other").exists());
}

#[test]
fn a_map_of_ddrescue_is_gone_on_with_and_ddrescue_goes_on_with_ours() {
    if let Some(why) = common::disks::lacks(&["ddrescue", "ddrescuelog"]) {
        eprintln!("SKIPPED: {why}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    fs::write(&disk, noise(3 << 20)).unwrap();
    let (image, map) = (folder.path().join("image"), folder.path().join("image.map"));
    let shown = |path: &Path| path.to_str().unwrap().to_owned();
    // ddrescue reads a part, we read the rest.
    run("ddrescue", &["-q", "-i", "1048576", "-s", "700000", &shown(&disk), &shown(&image), &shown(&map)]);
    assert!(map_of(&image, 3 << 20).bytes(State::Untried) > 1 << 20);
    salvage(&disk, &image).ends(0);
    assert_eq!(digest(&image), digest(&disk));
    // ddrescue's own log tool finds ours finished.
    run("ddrescuelog", &["-D", &shown(&map)]);
    // We have read a part, ddrescue reads the rest.
    let mut half = Map::new(3 << 20);
    half.set(0, 1 << 20, State::Rescued);
    half.set(1 << 20, 512, State::Bad);
    half.set((1 << 20) + 512, 65536, State::Unscraped);
    half.set(2 << 20, 65536, State::Untrimmed);
    let (other, other_map) = (folder.path().join("other"), folder.path().join("other.map"));
    fs::write(&other, &noise(3 << 20)[..1 << 20]).unwrap();
    fs::write(&other_map, half.render(&["of a test".into()], 1 << 20, Activity::Copying)).unwrap();
    run("ddrescue", &["-q", "-r1", &shown(&disk), &shown(&other), &shown(&other_map)]);
    assert_eq!(digest(&other), digest(&disk));
    run("ddrescuelog", &["-D", &shown(&other_map)]);
}

#[test]
fn a_device_with_bad_sectors_is_read_as_far_as_ddrescue_reads_it() {
    let why = cannot_fail().or_else(|| common::disks::lacks(&["ddrescue"]));
    if let Some(why) = why {
        eprintln!("SKIPPED: {why}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    let content = noise(24 << 20);
    fs::write(&whole, &content).unwrap();
    // One percent: single blocks, and longer runs at a begin, in the middle and at the end.
    let blocks = (24 << 20) / BLOCK;
    let single = (1..30).map(|nth| nth * 199 + 3);
    let bad: BTreeSet<u64> = single.chain(0..3).chain(3000..3030).chain(blocks - 2..blocks).collect();
    let bad: Vec<u64> = bad.into_iter().map(|block| block * BLOCK).collect();
    let disk = FailingDisk::new(&whole, &bad);
    let image = folder.path().join("image");
    let told = salvage(disk.path(), &image).ends(1).json();
    let lost = bad.len() as u64 * BLOCK;
    assert_eq!(told["lost"], lost, "{told}");
    let map = map_of(&image, 24 << 20);
    let mut truth = Map::new(24 << 20);
    truth.set(0, 24 << 20, State::Rescued);
    bad.iter().for_each(|at| truth.set(*at, BLOCK, State::Bad));
    assert_eq!(map, truth);
    let mut expected = content;
    bad.iter().for_each(|at| expected[*at as usize..][..BLOCK as usize].fill(0));
    assert!(fs::read(&image).unwrap() == expected, "good sectors as they are, bad ones as holes");
    // ddrescue itself, on the same device.
    let (other, other_map) = (folder.path().join("other"), folder.path().join("other.map"));
    run("ddrescue", &["-q".as_ref(), "-d".as_ref(), disk.path().as_os_str(), other.as_os_str(), other_map.as_os_str()]);
    assert_eq!(map_of(&other, 24 << 20), map);
    // Again: the bad sectors are tried once more, and stay bad.
    salvage(disk.path(), &image).ends(1);
    assert_eq!(map_of(&image, 24 << 20), truth);
    let said = lifeboat(&["salvage".as_ref(), disk.path().as_os_str(), "--to".as_ref(), image.as_os_str()]).ends(1).out;
    assert!(said.contains("LOST: ") && said.contains("from byte 0"), "{said}");
}

#[test]
fn the_failing_disk_itself_is_no_place_for_its_image() {
    if let Some(why) = cannot_mount(&["mkfs.ext4", "losetup", "sfdisk"]) {
        eprintln!("SKIPPED: {why}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let disk = blank(&folder.path().join("disk"), 32);
    run("mkfs.ext4", &["-q".as_ref(), disk.as_os_str()]);
    let device = Loop::new(&disk, "");
    {
        let mounted = Kernel::mount(device.path(), "rw");
        // Also where it is an image on a filesystem in a file on the disk.
        let inner = blank(&mounted.path().join("inner"), 8);
        run("mkfs.ext4", &["-q".as_ref(), inner.as_os_str()]);
        let inner = Kernel::mount(&inner, "loop,rw");
        for place in [mounted.path(), inner.path()] {
            let said = salvage(device.path(), &place.join("image")).ends(17).err;
            assert!(said.contains("lies on the disk that is to be salvaged"), "{said}");
        }
        // Another place, but the disk is being written to.
        let said = salvage(device.path(), &folder.path().join("image")).ends(17).err;
        assert!(said.contains("mounted for writing"), "{said}");
    }
    let other = blank(&folder.path().join("other"), 1);
    let said = salvage(&other, device.path()).ends(17).err;
    assert!(said.contains("no disk is ever overwritten"), "{said}");
    assert!(!folder.path().join("image").exists());
    drop(device);
    // A place on another partition of it.
    common::disks::sfdisk(&disk, 512, "label: gpt\nsize=8MiB\nsize=16MiB\n");
    let device = Loop::new(&disk, "--partscan");
    let part = |number: u32| PathBuf::from(format!("{}p{number}", device.path().display()));
    if !part(2).exists() {
        eprintln!("no partitions of loop devices here, so that part is left out");
        return;
    }
    run("mkfs.ext4", &["-q".as_ref(), part(2).as_os_str()]);
    let mounted = Kernel::mount(&part(2), "rw");
    for from in [device.path(), &part(1), &part(2)] {
        let said = salvage(from, &mounted.path().join("image")).ends(17).err;
        assert!(said.contains("lies on the disk that is to be salvaged"), "{}: {said}", from.display());
    }
}

/// A disk with a FreedomBox on its second partition, and blocks of it: the partition begins at 2 MiB.
struct BoxDisk {
    folder: tempfile::TempDir,
    system: PathBuf,
}

const PARTITION: u64 = 2 << 20;

impl BoxDisk {
    fn new() -> BoxDisk {
        let folder = tempfile::tempdir().unwrap();
        let system = filesystem(&folder.path().join("system"), 40, "mke2fs -q -F -t ext4 -b 4096", "", |root| {
            common::disks::system(root, &common::disks::System { hostname: "old", fstab: "", tables: "plinth" });
            let put = |name: &str, seed: usize, length: usize| {
                let path = root.join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, &noise(8 << 20)[seed..seed + length]).unwrap();
            };
            put("var/lib/radicale/collections/calendar", 1, 100_000);
            put("var/lib/radicale/collections/contacts", 200_003, 90_000);
            put("home/me/photo", 300_007, 2_000_000);
            put("home/me/letters/letter", 2_500_011, 8000);
            put("usr/bin/program", 3_000_017, 700_000);
            std::fs::hard_link(root.join("home/me/photo"), root.join("home/me/again")).unwrap();
        });
        // A new journal, in which no blocks of folders lie a second time.
        sh(&format!("tune2fs -O ^has_journal {0} && tune2fs -O has_journal {0}", system.display()));
        BoxDisk { folder, system }
    }

    fn disk(&self) -> PathBuf {
        let disk = blank(&self.folder.path().join("disk"), 44);
        common::disks::sfdisk(&disk, 512, "label: gpt\nstart=2048, size=1MiB\nstart=4096, size=40MiB\n");
        common::disks::place(&disk, PARTITION, &self.system);
        disk
    }

    /// Where the block of a file lies on the disk.
    fn block(&self, path: &str, nth: u64) -> u64 {
        let command = format!("bmap {path} {nth}");
        let block = run("debugfs", &["-R", &command, self.system.to_str().unwrap()]);
        PARTITION + block.trim().parse::<u64>().unwrap() * BLOCK
    }
}

/// The lost files as lines.
fn lost_files(told: &serde_json::Value) -> Vec<String> {
    let line = |file: &serde_json::Value| {
        let text = |key: &str| file[key].as_str().unwrap_or("-").to_owned();
        let what = text("what").split(':').next().unwrap().to_owned();
        format!("{} {} {} {what}", text("path"), text("app"), file["lost"])
    };
    told["files"].as_array().unwrap().iter().map(line).collect()
}

fn cannot_salvage_ext4() -> bool {
    let why = cannot_fail().or_else(|| common::disks::lacks(&["mke2fs", "debugfs", "sfdisk"]));
    why.inspect(|why| eprintln!("SKIPPED: {why}")).is_some()
}

#[test]
fn the_list_of_lost_files_is_exact() {
    if cannot_salvage_ext4() {
        return;
    }
    let a_box = BoxDisk::new();
    let disk = a_box.disk();
    let bad = [
        a_box.block("/var/lib/radicale/collections/calendar", 3),
        // The last block of a file, of which the file has only a part.
        a_box.block("/home/me/letters/letter", 1),
        a_box.block("/home/me/photo", 0),
        a_box.block("/home/me/photo", 100),
        // The folder itself; its file is found by its inode.
        a_box.block("/home/me/letters", 0),
    ];
    let failing = FailingDisk::new(&disk, &bad);
    let image = a_box.folder.path().join("image");
    let told = salvage(failing.path(), &image).ends(1).json();
    let letter = run("debugfs", &["-R", "stat /home/me/letters/letter", a_box.system.to_str().unwrap()]);
    let letter = letter.split_whitespace().nth(1).unwrap();
    assert_eq!(
        lost_files(&told),
        [
            "home/me/again - 8192 -".to_owned(),
            "home/me/letters - 0 names in this folder are lost".to_owned(),
            "home/me/photo - 8192 -".to_owned(),
            format!("lost+found/#{letter} - 3904 -"),
            "var/lib/radicale/collections/calendar radicale 4096 -".to_owned(),
        ],
        "{told}"
    );
    assert_eq!(told["lost"], 5 * BLOCK);
    // What a file does not use of its last block.
    assert_eq!(told["lost_unused"], 192, "{told}");
    let said = lifeboat(&["salvage".as_ref(), failing.path().as_os_str(), "--to".as_ref(), image.as_os_str()]).ends(1);
    assert!(said.out.contains("collections/calendar (radicale)"), "{}", said.out);
}

#[test]
fn lost_files_are_found_without_a_partition_table_and_without_a_superblock() {
    if cannot_salvage_ext4() {
        return;
    }
    let a_box = BoxDisk::new();
    let disk = a_box.disk();
    let calendar = a_box.block("/var/lib/radicale/collections/calendar", 3);
    let image = a_box.folder.path().join("image");
    {
        // Both copies of the table.
        let bad = [0, (44 << 20) - BLOCK, calendar];
        let failing = FailingDisk::new(&disk, &bad);
        let told = salvage(failing.path(), &image).ends(1).json();
        assert_eq!(lost_files(&told), ["var/lib/radicale/collections/calendar radicale 4096 -"], "{told}");
        assert!(told["findings"].to_string().contains("its partition table cannot be read"), "{told}");
    }
    // Without its only superblock, nobody can tell, and that is said.
    let failing = FailingDisk::new(&disk, &[PARTITION, calendar]);
    let told = salvage(failing.path(), &a_box.folder.path().join("other")).ends(1).json();
    assert_eq!(lost_files(&told), [] as [&str; 0]);
    assert!(told["findings"].to_string().contains("which files lie on them cannot be told"), "{told}");
}

#[test]
fn with_one_percent_bad_sectors_and_a_bad_journal_passphrases_and_apps_are_recovered() {
    if cannot_salvage_ext4() || cannot_mount(&[]).is_some() {
        return;
    }
    let a_box = BoxDisk::new();
    {
        let mounted = Kernel::mount(&a_box.system, "loop,rw");
        let database = rusqlite::Connection::open(mounted.path().join("var/lib/plinth/plinth.sqlite3")).unwrap();
        let location = serde_json::json!({"path": "/media/USB/FreedomBoxBackups", "storage_type": "disk",
            "credentials": {"encryption_passphrase": "correct horse"}});
        let storage = serde_json::Value::from(serde_json::json!({"u1": location}).to_string()).to_string();
        database.execute("UPDATE plinth_kvstore SET value_json = ?1 WHERE key = 'network_storage'", [storage]).unwrap();
        database.execute_batch("DELETE FROM plinth_module; INSERT INTO plinth_module VALUES ('radicale', 4)").unwrap();
    }
    common::disks::wait_for_loops(&a_box.system);
    let disk = a_box.disk();
    // More than one in a hundred of all blocks.
    let photo = (0..485).step_by(4).map(|nth| a_box.block("/home/me/photo", nth));
    let mut bad: Vec<u64> = photo.collect();
    let lost = bad.len() as u64 * BLOCK;
    bad.push(a_box.block("/var/lib/radicale/collections/calendar", 3));
    // The journal's own head: the kernel refuses to mount the disk.
    bad.push(a_box.block("<8>", 0));
    assert!(bad.len() as u64 * 100 >= (40 << 20) / BLOCK);
    let image = a_box.folder.path().join("image");
    let told = salvage(FailingDisk::new(&disk, &bad).path(), &image).ends(1).json();
    let mut files = lost_files(&told);
    files.retain(|line| line.starts_with("home") || line.starts_with("var"));
    let calendar = "var/lib/radicale/collections/calendar";
    let photos = ["again", "photo"].map(|name| format!("home/me/{name} - {lost} -"));
    assert_eq!(files, [&photos[..], &[format!("{calendar} radicale 4096 -")]].concat(), "{told}");
    // The passphrase, from the image.
    let host = lifeboat::sys::host::Host::real(a_box.folder.path().join("run"));
    let found = lifeboat::survey::survey(&host, &[lifeboat::survey::Place::Image(image.clone())], &|_| false).unwrap();
    let kept: Vec<&[u8]> =
        found.survey.installations[0].passphrases.iter().map(|passphrase| passphrase.reveal()).collect();
    assert_eq!(kept, [b"correct horse"]);
    drop(found);
    // The app: all that is not on the list is there, and what is on it is named.
    let shown = image.to_str().unwrap();
    let verified = lifeboat(&["verify", shown, "--archive", "installed-system", "--json"]).ends(15).json();
    let damaged: Vec<&str> = verified["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["severity"] == "damage")
        .filter_map(|finding| finding["subject"].as_str().filter(|subject| subject.contains('/')))
        .collect();
    assert_eq!(damaged, [calendar], "{verified}");
    let out = a_box.folder.path().join("out");
    fs::create_dir(&out).unwrap();
    let words = ["backup", "--from", shown, "--to", out.to_str().unwrap(), "--accept-damage", "--plain"];
    let said = lifeboat(&words).said();
    let made = walkdir::WalkDir::new(&out).into_iter().map(|entry| entry.unwrap().into_path());
    let file = made.into_iter().find(|path| path.to_string_lossy().ends_with(".tar.gz"));
    let file = file.unwrap_or_else(|| panic!("{said}"));
    let contacts = sh(&format!("tar -xOzf '{}' var/lib/radicale/collections/contacts | sha256sum", file.display()));
    let wanted = lifeboat::model::digest::Sha256Digest::of(&noise(8 << 20)[200_003..290_003]);
    assert!(contacts.starts_with(&wanted.to_string()), "{contacts}");
}

#[test]
fn secrets_and_app_data_are_read_before_anything_else() {
    if let Some(why) = cannot_mount(&["mke2fs", "debugfs", "sfdisk"]) {
        eprintln!("SKIPPED: {why}");
        return;
    }
    let a_box = BoxDisk::new();
    let content = fs::read(a_box.disk()).unwrap();
    let database = a_box.block("/var/lib/plinth/plinth.sqlite3", 0);
    let calendar = a_box.block("/var/lib/radicale/collections/calendar", 0);
    let photo = a_box.block("/home/me/photo", 400);
    let program = a_box.block("/usr/bin/program", 100);
    let disk = Watched { content, reads: RefCell::default() };
    let mut medium = Medium::new(disk.length());
    let map = medium.map();
    let effort = Effort { cluster: BLOCK, save_every: Duration::from_secs(3600), ..effort() };
    let host = Host::real(a_box.folder.path().join("run"));
    lifeboat::salvage::copy_disk(
        &host,
        Path::new("disk"),
        &mut Copier::new(&disk, &mut medium, map, effort, &Silent),
        &Silent,
    )
    .unwrap();
    let reads = disk.reads.borrow();
    let first = |place: u64| reads.iter().position(|(at, end)| (*at..*end).contains(&place)).unwrap();
    let order = [database, calendar, photo, program].map(first);
    assert!(order.is_sorted(), "{order:?}");
    assert!(medium.lasting == disk.content);
    // And each byte is asked for once.
    let asked: u64 = reads.iter().map(|(at, end)| end - at).sum();
    assert_eq!(asked, disk.length());
}

/// A disk that notes what is read of it.
struct Watched {
    content: Vec<u8>,
    reads: RefCell<Vec<(u64, u64)>>,
}

impl ReadAt for Watched {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.reads.borrow_mut().push((offset, offset + buf.len() as u64));
        self.content.as_slice().read_at(offset, buf)
    }

    fn length(&self) -> u64 {
        self.content.len() as u64
    }
}
