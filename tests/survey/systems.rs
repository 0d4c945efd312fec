//! Installed systems: their filesystems, their databases, and what is wrong with them.

use super::*;

#[test]
fn a_box_in_a_gpt_image_is_found_and_the_image_stays_bit_identical() {
    needs!(disks::cannot_mount(&["sfdisk", "mke2fs", "mkfs.vfat", "losetup"]));
    for sector_size in [512, 4096] {
        let (folder, runtime) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = gpt_box(folder.path(), "testbox", sector_size, "");
        let before = disks::digest(&path);
        let host = host(&runtime);
        let found = look(&host, &image(&path));
        assert_eq!(found.survey.disks[0].table.as_deref(), Some("gpt"));
        assert_eq!(found.survey.disks[0].sector_size, sector_size);
        let [system] = found.survey.installations.as_slice() else { panic!("{:?}", found.survey) };
        assert_eq!(system.place, format!("{}#2", path.display()));
        assert_eq!((system.hostname.as_str(), system.suite.as_str()), ("testbox", "trixie"));
        assert_eq!((system.architecture.as_str(), system.freedombox.as_str()), ("arm64", "25.9.3"));
        assert_eq!(system.os, "Debian GNU/Linux 13 (trixie)");
        assert_eq!(system.filesystem.as_deref(), Some("ext4"));
        assert!(system.booted && system.wizard_done && system.disk_image);
        let apps: Vec<_> = system.apps.iter().map(|(app, version)| (app.as_str(), *version)).collect();
        assert_eq!(apps, [("ejabberd", 0), ("wiki", 3)]);
        assert!(system.packages.contains("freedombox") && !system.packages.contains("ejabberd"));
        let [BackupLocation::BorgRepository { path: repository, id, keyed, found_as }] =
            found.survey.locations.as_slice()
        else {
            panic!("{:?}", found.survey.locations)
        };
        assert_eq!((id.as_deref(), *keyed, *found_as), (Some(ID), Some(false), FoundAs::RootRepository));
        assert!(repository.join("config").exists(), "the mounts are held");
        let json = serde_json::to_string(&found.survey).unwrap();
        assert_eq!(serde_json::from_str::<lifeboat::model::survey::Survey>(&json).unwrap(), found.survey);
        assert!(!json.contains("secret words"));
        drop(found);
        assert_eq!(disks::digest(&path), before);
        assert_eq!(left_over(folder.path()), "");
        assert_eq!(left_over(runtime.path()), "");
    }
}

#[test]
fn a_dirty_journal_is_left_alone_and_told() {
    needs!(disks::cannot_mount(&["mke2fs", "losetup"]));
    for kind in ["ext3", "ext4"] {
        let (folder, runtime) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let live = disks::blank(&folder.path().join("live"), 32);
        disks::sh(&format!("mke2fs -q -t {kind} {}", live.display()));
        let copy = folder.path().join("copy");
        {
            let kernel = Kernel::mount(&live, "loop");
            disks::archive(&kernel.path().join("a.tar.gz"), "var/lib/x");
            disks::run("sync", &["-f".as_ref(), kernel.path().as_os_str()]);
            // An open file without a name is an orphan: a read-only mount of a writable device would remove it.
            let orphan = fs::File::create(kernel.path().join("orphan")).unwrap();
            orphan.set_len(1 << 20).unwrap();
            fs::remove_file(kernel.path().join("orphan")).unwrap();
            fs::write(kernel.path().join("late"), "x").unwrap();
            fs::File::open(kernel.path()).unwrap().sync_all().unwrap();
            fs::copy(&live, &copy).unwrap();
            drop(orphan);
        }
        let before = disks::digest(&copy);
        let host = host(&runtime);
        let found = look(&host, &image(&copy));
        assert_eq!(found.survey.disks[0].volumes[0].signatures[0].state, FilesystemState::NeedsRecovery, "{kind}");
        assert!(
            found.survey.findings.iter().any(|finding| finding.what.contains("journal")),
            "{:?}",
            found.survey.findings
        );
        drop(found);
        assert_eq!(disks::digest(&copy), before, "{kind}");
        // On a device of its own, too: the journal must stay as it is.
        let device = disks::sh(&format!("losetup --find --show {}", copy.display()));
        let device = PathBuf::from(device.trim());
        let found = look(&host, &image(&device));
        assert_eq!(found.mounts.len(), 1, "{:?}", found.survey.findings);
        drop(found);
        disks::run("losetup", &["-d".as_ref(), device.as_os_str()]);
        assert_eq!(disks::digest(&copy), before, "{kind} as device");
    }
}

#[test]
fn a_log_tree_of_btrfs_is_left_alone_and_told() {
    needs!(disks::cannot_mount(&["mkfs.btrfs", "losetup"]));
    let (folder, runtime) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let live = disks::blank(&folder.path().join("live"), 128);
    disks::sh(&format!("mkfs.btrfs -q {}", live.display()));
    let copy = folder.path().join("copy");
    {
        let kernel = Kernel::mount(&live, "loop,commit=300");
        disks::run("sync", &["-f".as_ref(), kernel.path().as_os_str()]);
        fs::write(kernel.path().join("late"), "x").unwrap();
        // Only this file is made durable: btrfs writes a log tree for it.
        fs::File::open(kernel.path().join("late")).unwrap().sync_all().unwrap();
        fs::copy(&live, &copy).unwrap();
    }
    let before = disks::digest(&copy);
    let host = host(&runtime);
    let found = look(&host, &image(&copy));
    assert_eq!(found.survey.disks[0].volumes[0].signatures[0].state, FilesystemState::NeedsRecovery);
    assert_eq!(found.mounts.len(), 1, "{:?}", found.survey.findings);
    drop(found);
    assert_eq!(disks::digest(&copy), before);
}

#[test]
fn the_default_subvolume_of_btrfs_is_the_system_and_not_the_one_before_a_rollback() {
    needs!(disks::cannot_mount(&["mkfs.btrfs", "btrfs", "losetup"]));
    let (folder, runtime) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = disks::blank(&folder.path().join("disk"), 128);
    disks::sh(&format!("mkfs.btrfs -q {}", path.display()));
    {
        let kernel = Kernel::mount(&path, "loop");
        disks::system(kernel.path(), &System { hostname: "before", fstab: "", tables: "plinth" });
        let top = kernel.path().display();
        disks::sh(&format!(
            "btrfs subvolume create {top}/.snapshots >/dev/null; mkdir {top}/.snapshots/1
             btrfs subvolume snapshot {top} {top}/.snapshots/1/snapshot >/dev/null
             echo after > {top}/.snapshots/1/snapshot/etc/hostname
             btrfs subvolume set-default {top}/.snapshots/1/snapshot"
        ));
    }
    let before = disks::digest(&path);
    let host = host(&runtime);
    let found = look(&host, &image(&path));
    let names: Vec<_> = found.survey.installations.iter().map(|system| system.hostname.as_str()).collect();
    assert_eq!(names, ["after"]);
    // The survey still holds its mount: the same filesystem can be read through it.
    let spec = TargetSpec::of(&path).unwrap();
    let target = target::open(&host, &spec, Access::Read).unwrap();
    assert_eq!(target.installation.hostname, "after");
    target.release().unwrap();
    drop(found);
    assert_eq!(disks::digest(&path), before);
    let target = target::open(&host, &spec, Access::Write).unwrap();
    fs::write(target.root.join("etc/written"), "x").unwrap();
    target.release().unwrap();
    let kernel = Kernel::mount(&path, "loop,subvolid=5");
    assert!(kernel.path().join(".snapshots/1/snapshot/etc/written").exists());
    assert!(!kernel.path().join("etc/written").exists());
}

#[test]
fn a_system_in_the_installers_subvolume_is_found() {
    needs!(disks::cannot_mount(&["mkfs.btrfs", "btrfs", "losetup"]));
    let (folder, runtime) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = disks::blank(&folder.path().join("disk"), 128);
    disks::sh(&format!("mkfs.btrfs -q -L both {}", path.display()));
    {
        let kernel = Kernel::mount(&path, "loop");
        let top = kernel.path().display();
        disks::sh(&format!(
            "btrfs subvolume create {top}/@rootfs >/dev/null; btrfs subvolume create {top}/@home >/dev/null"
        ));
        let fstab = "LABEL=both / btrfs subvol=@rootfs 0 0\nLABEL=both /home btrfs subvol=@home 0 0\n";
        disks::system(&kernel.path().join("@rootfs"), &System { hostname: "installed", fstab, tables: "freedombox" });
        fs::write(kernel.path().join("@home/mine"), "x").unwrap();
    }
    let host = host(&runtime);
    let target = target::open(&host, &TargetSpec::of(&path).unwrap(), Access::Read).unwrap();
    assert!(target.root.join("home/mine").exists());
    drop(target);
    let target = target::open(&host, &TargetSpec::of(&path).unwrap(), Access::Write).unwrap();
    assert!(target.root.ends_with("@rootfs"));
    fs::write(target.root.join("home/new"), "x").unwrap();
    assert_eq!(target.installation.apps.len(), 2);
    assert_eq!(target.installation.root, target.root);
}

/// Runs `change` on a box's database with the sqlite3 program and kills it before it ends.
fn killed_in_the_middle(database: &Path, change: &str) {
    use std::io::{BufRead, BufReader, Write};
    let mut child = std::process::Command::new("sqlite3")
        .arg(database)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    writeln!(input, "{change}\nSELECT 'reached';").unwrap();
    input.flush().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(output.any(|line| line.unwrap() == "reached"));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_database_that_was_cut_off_is_read_as_sqlite_recovers_it() {
    needs!(disks::lacks(&["sqlite3"]));
    let runtime = tempfile::tempdir().unwrap();
    for (tables, change, log, wiki, rows) in [
        // A hot journal: the change was being written into the database and must be rolled back.
        (
            "plinth",
            "PRAGMA cache_size = 5; PRAGMA cache_spill = 1; BEGIN; UPDATE plinth_module SET setup_version = 99;
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
             INSERT INTO plinth_module SELECT 'half' || i, 7 FROM n;",
            "-journal",
            3,
            2,
        ),
        // A write-ahead log: the change is committed, but only there.
        ("freedombox", "PRAGMA journal_mode = WAL; UPDATE freedombox_module SET setup_version = 4;", "-wal", 4, 2),
    ] {
        let root = tempfile::tempdir().unwrap();
        disks::system(root.path(), &System { hostname: "box", fstab: "", tables });
        let database = root.path().join("var/lib/plinth/plinth.sqlite3");
        killed_in_the_middle(&database, change);
        let log = database.with_file_name(format!("plinth.sqlite3{log}"));
        assert!(fs::metadata(&log).unwrap().len() > 512, "{log:?}");
        let before = (disks::digest(&database), disks::digest(&log));
        let found = look(&host(&runtime), &[Place::Root(root.path().to_path_buf())]);
        let system = &found.survey.installations[0];
        assert_eq!(system.apps.len(), rows, "{:?}", found.survey.findings);
        assert_eq!(system.apps[&"wiki".parse().unwrap()], wiki);
        assert!(system.wizard_done);
        assert_eq!((disks::digest(&database), disks::digest(&log)), before);
        assert_eq!(fs::read_dir(runtime.path().join("databases")).unwrap().count(), 0, "no copy is left");
    }
}

#[test]
fn a_damaged_database_is_a_finding_and_the_system_is_still_found() {
    let (root, runtime) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    disks::system(root.path(), &System { hostname: "box", fstab: "", tables: "plinth" });
    let database = root.path().join("var/lib/plinth/plinth.sqlite3");
    for content in [b"no database at all, though long enough to be looked at as one".repeat(20), vec![], {
        let mut bytes = fs::read(&database).unwrap();
        bytes[4096..].fill(0x5a);
        bytes
    }] {
        fs::write(&database, content).unwrap();
        let found = look(&host(&runtime), &[Place::Root(root.path().to_path_buf())]);
        let system = &found.survey.installations[0];
        assert!(system.booted && system.apps.is_empty() && !system.wizard_done);
        assert_eq!(found.survey.findings.len(), 1, "{:?}", found.survey.findings);
    }
}

#[test]
fn another_database_named_by_the_configuration_is_read() {
    let (root, runtime) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    disks::system(root.path(), &System { hostname: "box", fstab: "", tables: "plinth" });
    fs::create_dir_all(root.path().join("etc/plinth")).unwrap();
    fs::write(root.path().join("etc/plinth/plinth.config"), "[Path]\nstore_file = /srv/db.sqlite3\n").unwrap();
    fs::rename(root.path().join("var/lib/plinth/plinth.sqlite3"), root.path().join("srv/db.sqlite3")).unwrap();
    let found = look(&host(&runtime), &[Place::Root(root.path().to_path_buf())]);
    assert_eq!(found.survey.installations[0].apps.len(), 2);
}

#[test]
fn links_of_a_foreign_system_never_lead_out_of_it() {
    let (root, runtime) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    disks::system(root.path(), &System { hostname: "box", fstab: "", tables: "plinth" });
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("hostname"), "outside\n").unwrap();
    fs::remove_file(root.path().join("etc/hostname")).unwrap();
    for link in [
        outside.path().join("hostname"),
        PathBuf::from("../".repeat(20)).join(outside.path().strip_prefix("/").unwrap()).join("hostname"),
    ] {
        let _ = fs::remove_file(root.path().join("etc/hostname"));
        std::os::unix::fs::symlink(&link, root.path().join("etc/hostname")).unwrap();
        let found = look(&host(&runtime), &[Place::Root(root.path().to_path_buf())]);
        assert_eq!(found.survey.installations[0].hostname, "");
    }
}

#[test]
fn what_cannot_be_mounted_or_understood_is_a_finding() {
    needs!(disks::cannot_mount(&["mke2fs", "losetup", "mkfs.vfat"]));
    let (folder, runtime) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = disks::blank(&folder.path().join("disk"), 16);
    disks::sh(&format!("mke2fs -q -t ext4 {}", path.display()));
    // A volume label is covered by the superblock's checksum.
    disks::poke(&path, 1024 + 0x78, b"changed");
    let host = host(&runtime);
    let found = look(&host, &image(&path));
    assert_eq!(found.survey.disks[0].volumes[0].signatures[0].state, FilesystemState::Damaged);
    assert_eq!(found.survey.findings.len(), 1);
    drop(found);
    let both = disks::blank(&folder.path().join("both"), 40);
    disks::sh(&format!(
        "mkfs.vfat -F 32 {0} >/dev/null; mke2fs -q -t ext4 -O ^sparse_super2 {0}.ext4 32M",
        both.display()
    ));
    let ext4 = fs::read(folder.path().join("both.ext4")).unwrap();
    disks::poke(&both, 1024, &ext4[1024..2048]);
    let found = look(&host, &image(&both));
    let kinds: Vec<_> = found.survey.disks[0].volumes[0].signatures.iter().map(|one| one.kind).collect();
    assert_eq!(kinds, [FilesystemKind::Ext4, FilesystemKind::Vfat]);
    assert!(found.survey.findings.iter().any(|finding| finding.what.contains("ext4 and vfat")));
    assert!(survey(&host, &[Place::Image(folder.path().join("absent"))], &|_| Ok(true)).is_err());
    assert!(survey(&host, &[Place::Root(folder.path().join("absent"))], &|_| Ok(true)).is_err());
}

#[test]
fn the_real_systems_of_the_fixtures_are_told_rightly() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures/freedombox-25.9.3");
    if !fixtures.exists() {
        eprintln!("SKIPPED: the fixtures are not here");
        return;
    }
    for (name, wizard) in [("skeleton-first-booted", None), ("skeleton-never-booted", Some(false))] {
        let (root, runtime) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let archive = fixtures.join(format!("{name}.tar.xz"));
        disks::run("tar", &["-C".as_ref(), root.path().as_os_str(), "-xJf".as_ref(), archive.as_os_str()]);
        let found = look(&host(&runtime), &[Place::Root(root.path().to_path_buf())]);
        let system = &found.survey.installations[0];
        assert_eq!(system.freedombox.upstream().as_str(), "25.9.3");
        assert_eq!((system.suite.as_str(), system.architecture.as_str()), ("trixie", "amd64"));
        assert!(system.packages.len() > 400, "{}", system.packages.len());
        assert_eq!(system.booted, !system.apps.is_empty());
        if let Some(wizard) = wizard {
            assert_eq!(system.wizard_done, wizard);
        }
        eprintln!("{name}: {} apps, booted {}, wizard {}", system.apps.len(), system.booted, system.wizard_done);
    }
    let files = fs::read_dir(&fixtures).unwrap().map(|entry| entry.unwrap().path());
    let archives = files.filter(|path| path.to_str().unwrap().ends_with(".tar.gz")).count();
    let runtime = tempfile::tempdir().unwrap();
    let found = look(&host(&runtime), &[Place::Root(fixtures)]);
    let listed =
        found.survey.locations.iter().filter(|location| location.path().to_str().unwrap().ends_with(".tar.gz"));
    assert_eq!(listed.count(), archives);
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_a_parser_panic(seed in proptest::collection::vec(proptest::num::u8::ANY, 4096), magic in 0usize..16) {
        // Random bytes with the magic numbers in place, so that the parsers go on to what is behind them.
        let mut bytes: Vec<u8> = seed.iter().copied().cycle().take(0x1_2000).collect();
        let mut put = |at: usize, what: &[u8]| bytes[at..at + what.len()].copy_from_slice(what);
        if magic & 1 != 0 { put(510, &[0x55, 0xaa]); put(1024 + 0x38, &[0x53, 0xef]); put(0x10040, b"_BHRfS_M"); }
        if magic & 2 != 0 { put(3, b"NTFS    "); put(512, b"EFI PART"); put(0x8000, b"\x01CD001"); }
        if magic & 4 != 0 { put(3, b"EXFAT   "); put(0, b"\xeb"); put(4096, &0xa92b_4efcu32.to_le_bytes()); }
        if magic & 8 != 0 { put(0, b"LUKS\xba\xbe\0\x02"); put(24, b"LVM2 001"); put(4086, b"SWAPSPACE2"); }
        let _ = lifeboat::formats::signature::read(&bytes.as_slice()).unwrap();
        let _ = lifeboat::formats::table::read(&bytes.as_slice(), None, "disk").unwrap();
        let _ = lifeboat::formats::fstab::parse(&seed);
        let _ = lifeboat::formats::os_release::OsRelease::parse(&seed);
        proptest::prop_assert_eq!(bytes.as_slice().length(), 0x1_2000);
    }

    #[test]
    fn random_boot_sectors_with_plausible_fields_never_panic(fields in proptest::collection::vec(proptest::num::u8::ANY, 100), shift in 0u8..14, kind in 0usize..3) {
        let mut bytes = vec![0u8; 0x4000];
        bytes[..100].copy_from_slice(&fields);
        bytes[64..72].copy_from_slice(&fields[..8]);
        bytes[0] = 0xeb;
        bytes[11..13].copy_from_slice(&512u16.to_le_bytes());
        bytes[13] = 1 << (shift % 8);
        (bytes[16], bytes[21]) = (2, 0xf8);
        (bytes[108], bytes[109]) = (9 + shift % 4, shift);
        bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
        match kind {
            1 => bytes[3..11].copy_from_slice(b"NTFS    "),
            2 => bytes[3..11].copy_from_slice(b"EXFAT   "),
            _ => {}
        }
        let _ = lifeboat::formats::signature::read(&bytes.as_slice()).unwrap();
    }
}
