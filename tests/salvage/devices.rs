//! Real devices and image files, beside ddrescue.

use super::*;

#[test]
fn a_healthy_disk_is_copied_whole_and_its_zeros_take_no_room() {
    let folder = tempfile::tempdir().unwrap();
    let disk = blank(&folder.path().join("disk"), 20);
    poke(&disk, 5 << 20, &noise(1, 1 << 20));
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
    fs::write(&disk, noise(1, 3 << 20)).unwrap();
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
    fs::write(&other, &noise(1, 3 << 20)[..1 << 20]).unwrap();
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
    let content = noise(1, 24 << 20);
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
