//! Surveys and targets on disks made by the real tools, mounted by the kernel.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test panics when it fails, and its name is a sentence")]

#[path = "common/disks.rs"]
mod disks;

use disks::{Kernel, System};
use lifeboat::formats::ReadAt;
use lifeboat::model::archive::{BackupLocation, FoundAs};
use lifeboat::model::disk::{FilesystemKind, FilesystemState};
use lifeboat::survey::target::{self, Access, TargetError, TargetSpec};
use lifeboat::survey::{Place, Surveyed, survey};
use lifeboat::sys::host::Host;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const ID: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

macro_rules! needs {
    ($why:expr) => {
        if let Some(why) = $why {
            eprintln!("SKIPPED: {why}");
            return;
        }
    };
}

fn host(runtime: &TempDir) -> Host {
    Host::real(runtime.path())
}

fn look(host: &Host, places: &[Place]) -> Surveyed {
    survey(host, places, &|_| true).unwrap()
}

fn image(path: &Path) -> [Place; 1] {
    [Place::Image(path.to_path_buf())]
}

/// What is mounted or attached because of a directory or file; must be empty after a survey was dropped. The kernel lets
/// go of a loop device a moment after the unmount, so what stays is what is still there after ten seconds.
fn left_over(folder: &Path) -> String {
    let name = folder.to_str().unwrap();
    let look = || {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mounts: String = mounts.lines().filter(|line| line.contains(name)).collect();
        let loops = disks::sh("losetup --list --noheadings --output BACK-FILE,NAME");
        mounts + &loops.lines().filter(|line| line.contains(name)).collect::<String>()
    };
    for _ in 0..100 {
        if look().is_empty() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    look()
}

/// A disk with an ESP-like partition and an ext4 root, as an image file.
fn gpt_box(folder: &Path, name: &str, sector_size: u32, fstab: &str) -> PathBuf {
    let tree = folder.join(format!("{name}.tree"));
    disks::system(&tree, &System { hostname: name, fstab, tables: "plinth" });
    disks::repository(&tree.join("var/lib/freedombox/borgbackup"), ID);
    let root = disks::blank(&folder.join(format!("{name}.ext4")), 24);
    disks::sh(&format!("mke2fs -q -t ext4 -L rootfs -d {} {}", tree.display(), root.display()));
    let esp = disks::blank(&folder.join(format!("{name}.vfat")), 4);
    disks::sh(&format!("mkfs.vfat -n 'MY ESP' {} >/dev/null", esp.display()));
    let image = disks::blank(&folder.join(format!("{name}.img")), 40);
    let unit = u64::from(sector_size);
    let script = format!(
        "label: gpt\nstart={}, size={}, type=uefi\nstart={}, size={}, type=linux, name=\"root\"\n",
        (1 << 20) / unit,
        (4 << 20) / unit,
        (8 << 20) / unit,
        (24 << 20) / unit
    );
    disks::sfdisk(&image, sector_size, &script);
    disks::place(&image, 1 << 20, &esp);
    disks::place(&image, 8 << 20, &root);
    image
}

#[test]
fn every_signature_is_told_as_blkid_tells_it() {
    needs!(disks::lacks(&["mkfs.ext4", "mkfs.btrfs", "mkfs.vfat", "mkswap", "blkid"]));
    let folder = tempfile::tempdir().unwrap();
    let makers = [
        ("ext2", "mke2fs -q -t ext2 -L two", 16),
        ("ext3", "mke2fs -q -t ext3 -L three", 16),
        ("ext4", "mke2fs -q -t ext4 -L 'four words'", 16),
        ("ext4-old", "mke2fs -q -t ext4 -O ^metadata_csum,^64bit -L four", 16),
        ("btrfs", "mkfs.btrfs -q -L bee", 128),
        ("fat12", "mkfs.vfat -F 12 -n TWELVE", 4),
        ("fat16", "mkfs.vfat -F 16 -n SIXTEEN", 16),
        ("fat32", "mkfs.vfat -F 32 -n THIRTYTWO", 40),
        ("fat-bare", "mkfs.vfat -F 32", 40),
        ("exfat", "mkfs.exfat -L Labelled", 16),
        ("exfat-bare", "mkfs.exfat", 16),
        ("ntfs", "mkntfs -q -F -f -L Enntee", 16),
        ("xfs", "mkfs.xfs -q -f -L ex", 300),
        ("f2fs", "mkfs.f2fs -q -l eff", 64),
        ("swap", "mkswap -q -L swapped", 16),
        (
            "luks2",
            "cryptsetup luksFormat -q --type luks2 --label lucky --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --key-file /etc/hostname",
            32,
        ),
        ("luks1", "cryptsetup luksFormat -q --type luks1 --pbkdf-force-iterations 1000 --key-file /etc/hostname", 16),
        ("squashfs", "sh -c 'mksquashfs /etc/hostname $0 -quiet -no-progress -noappend >/dev/null'", 0),
        ("iso", "sh -c 'xorriso -as mkisofs -quiet -V ISOLABEL -o $0 /etc/hostname 2>/dev/null'", 0),
    ];
    let mut tried = 0;
    for (name, maker, mib) in makers {
        let tool = if maker.starts_with("sh ") {
            maker.split(['\'', ' ']).nth(3).unwrap()
        } else {
            maker.split(' ').next().unwrap()
        };
        if let Some(why) = disks::lacks(&[tool]) {
            eprintln!("SKIPPED: {name}: {why}");
            continue;
        }
        let path = folder.path().join(name);
        if mib > 0 {
            disks::blank(&path, mib);
        }
        disks::sh(&format!("{maker} {} >/dev/null", path.display()));
        let told = disks::run("blkid", &["-p", "-o", "export", path.to_str().unwrap()]);
        let told = |tag: &str| {
            told.lines().find_map(|line| line.strip_prefix(tag)?.strip_prefix('=')).map(|text| text.replace('\\', ""))
        };
        let found = lifeboat::formats::signature::read(&lifeboat::sys::file::Source::open(&path).unwrap()).unwrap();
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        let kind = told("TYPE").unwrap();
        assert_eq!(found[0].kind.name(), if kind == "crypto_LUKS" { "luks" } else { &kind }, "{name}");
        assert_eq!(found[0].uuid, told("UUID"), "{name}");
        assert_eq!(found[0].label, told("LABEL"), "{name}");
        let settled = [FilesystemState::Clean, FilesystemState::Unknown];
        assert!(settled.contains(&found[0].state), "{name}: {:?}", found[0].state);
        tried += 1;
    }
    assert!(tried >= 9, "only {tried}");
}

#[test]
fn partitions_are_where_the_partitioner_says() {
    needs!(disks::cannot_mount(&["sfdisk", "losetup"]));
    let folder = tempfile::tempdir().unwrap();
    let logical = "label: dos\nlabel-id: 0xdeadbeef\nsize=4M, type=83\nsize=20M, type=5\nsize=2M, type=83\n\nsize=3M, type=83\nsize=4M, type=82\n";
    let scripts = [
        (512, "label: gpt\nsize=4M\nsize=8M, name=\"home\"\nsize=2M\n"),
        (4096, "label: gpt\nsize=4M\nsize=8M, name=\"home\"\nsize=2M\n"),
        (512, logical),
    ];
    for (at, (sector_size, script)) in scripts.into_iter().enumerate() {
        let image = disks::blank(&folder.path().join(format!("{at}.img")), 64);
        disks::sfdisk(&image, sector_size, script);
        let source = lifeboat::sys::file::Source::open(&image).unwrap();
        let table = lifeboat::formats::table::read(&source, None, "disk").unwrap().unwrap();
        assert_eq!(table.sector_size, sector_size);
        let dump = disks::sfdisk_json(&image, sector_size);
        let parts = dump["partitiontable"]["partitions"].as_array().unwrap();
        let mut said: Vec<_> = parts
            .iter()
            // The container of logical partitions is no volume.
            .filter(|part| part["type"] != "5")
            .map(|part| {
                let number = part["node"]
                    .as_str()
                    .unwrap()
                    .rsplit(|c: char| !c.is_ascii_digit())
                    .next()
                    .unwrap()
                    .parse::<u32>()
                    .unwrap();
                let bytes = |field: &str| part[field].as_u64().unwrap() * u64::from(sector_size);
                (number, bytes("start"), bytes("size"), part["uuid"].as_str().map(str::to_lowercase))
            })
            .collect();
        said.sort();
        let ours: Vec<_> = table
            .entries
            .iter()
            .map(|entry| {
                (entry.number, entry.start, entry.length, (table.kind == "gpt").then(|| entry.partuuid.clone()))
            })
            .collect();
        assert_eq!(ours, said);
    }
}

#[test]
fn a_dead_primary_table_is_replaced_by_its_backup_also_on_a_larger_disk() {
    needs!(disks::lacks(&["sfdisk"]));
    let folder = tempfile::tempdir().unwrap();
    for (name, header_byte, grow) in [("header", 512 + 20, 0), ("entries", 1024 + 40, 0), ("grown", 512 + 20, 16)] {
        let image = disks::blank(&folder.path().join(name), 16);
        disks::sfdisk(&image, 512, "label: gpt\nsize=4M\nsize=8M\n");
        let read = || {
            let source = lifeboat::sys::file::Source::open(&image).unwrap();
            lifeboat::formats::table::read(&source, Some(512), "disk").unwrap()
        };
        let before = read().unwrap();
        disks::poke(&image, header_byte, &[0x5a; 4]);
        fs::OpenOptions::new().write(true).open(&image).unwrap().set_len((16 + grow) << 20).unwrap();
        let after = read().unwrap();
        assert_eq!(after.entries, before.entries, "{name}");
        assert_eq!((before.findings.len(), after.findings.len()), (0, 1));
        // A backup that is damaged as well is not believed.
        disks::poke(&image, (16 << 20) - 512 + 20, &[0x5a; 4]);
        assert_eq!(read(), None, "{name}");
    }
}

#[test]
fn a_huge_entry_count_with_a_right_checksum_is_refused() {
    needs!(disks::lacks(&["sfdisk"]));
    let folder = tempfile::tempdir().unwrap();
    let image = disks::blank(&folder.path().join("huge"), 16);
    disks::sfdisk(&image, 512, "label: gpt\nsize=4M\n");
    let mut bytes = fs::read(&image).unwrap();
    for header in [512, (16 << 20) - 512] {
        bytes[header + 80..header + 84].copy_from_slice(&0x8000_0000u32.to_le_bytes());
        bytes[header + 16..header + 20].copy_from_slice(&[0; 4]);
        let sum = crc32fast::hash(&bytes[header..header + 92]);
        bytes[header + 16..header + 20].copy_from_slice(&sum.to_le_bytes());
    }
    assert_eq!(lifeboat::formats::table::read(&bytes.as_slice(), Some(512), "disk").unwrap(), None);
}

#[test]
fn a_circle_of_logical_partitions_ends() {
    let mut bytes = vec![0u8; 1 << 20];
    let mut slot = |sector: usize, index: usize, kind: u8, start: u32, count: u32| {
        let at = sector * 512 + 446 + 16 * index;
        bytes[at + 4] = kind;
        bytes[at + 8..at + 12].copy_from_slice(&start.to_le_bytes());
        bytes[at + 12..at + 16].copy_from_slice(&count.to_le_bytes());
        bytes[sector * 512 + 510..sector * 512 + 512].copy_from_slice(&[0x55, 0xaa]);
    };
    slot(0, 0, 5, 10, 1000);
    slot(10, 0, 0x83, 1, 8);
    slot(10, 1, 5, 20, 100);
    slot(30, 0, 0x83, 1, 8);
    slot(30, 1, 5, 0, 100);
    let table = lifeboat::formats::table::read(&bytes.as_slice(), Some(512), "disk").unwrap().unwrap();
    assert_eq!(
        table.entries.iter().map(|entry| (entry.number, entry.start)).collect::<Vec<_>>(),
        [(5, 11 * 512), (6, 31 * 512)]
    );
    assert_eq!(table.findings.len(), 1);
}

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

#[test]
fn backups_are_found_wherever_people_put_them() {
    needs!(disks::lacks(&["tar"]));
    let (folder, runtime) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let disk = folder.path();
    disks::repository(&disk.join("FreedomBoxBackups"), ID);
    disks::repository(&disk.join("old/laptop/repo"), ID);
    for place in
        ["a.tar.gz", "1/2/3/4/5/6/deep.tgz", "1/2/3/4/5/6/7/too-deep.tgz", "b.tar", "FreedomBox-backups/x.tar.gz"]
    {
        let path = disk.join(place);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        disks::archive(&path, "var/lib/plinth/backups-manifests/x.json");
    }
    disks::archive(&disk.join("linux.tar.gz"), "linux-6.1/Makefile");
    fs::write(disk.join("fake.tar.gz"), "not gzip").unwrap();
    fs::write(disk.join("empty.tar"), "").unwrap();
    fs::write(disk.join("._a.tar.gz"), "macOS").unwrap();
    let odd = disk.join(std::ffi::OsStr::from_bytes(b"odd\xff name.tar"));
    fs::copy(disk.join("b.tar"), &odd).unwrap();
    std::os::unix::fs::symlink("/", disk.join("everything")).unwrap();
    std::os::unix::fs::symlink("a.tar.gz", disk.join("link.tar.gz")).unwrap();
    let found = look(&host(&runtime), &[Place::Root(disk.to_path_buf())]);
    let mut seen: Vec<_> = found
        .survey
        .locations
        .iter()
        .map(|location| {
            let found_as = match location {
                BackupLocation::TarExport { found_as, .. } | BackupLocation::BorgRepository { found_as, .. } => {
                    *found_as
                }
                BackupLocation::OldSystem { .. } => panic!("no system is here"),
            };
            (
                location.path().strip_prefix(fs::canonicalize(disk).unwrap()).unwrap().as_os_str().as_bytes().to_vec(),
                found_as,
            )
        })
        .collect();
    seen.sort_by(|a, b| a.0.cmp(&b.0));
    let expected: [(&[u8], FoundAs); 7] = [
        (b"1/2/3/4/5/6/deep.tgz", FoundAs::Download),
        (b"FreedomBox-backups/x.tar.gz", FoundAs::LegacyFolder),
        (b"FreedomBoxBackups", FoundAs::DiskRepository),
        (b"a.tar.gz", FoundAs::Download),
        (b"b.tar", FoundAs::Download),
        (b"odd\xff name.tar", FoundAs::Download),
        (b"old/laptop/repo", FoundAs::Repository),
    ];
    assert_eq!(seen, expected.map(|(path, kind)| (path.to_vec(), kind)));
    assert!(found.survey.findings.is_empty(), "{:?}", found.survey.findings);
    let json = serde_json::to_string(&found.survey).unwrap();
    assert_eq!(serde_json::from_str::<lifeboat::model::survey::Survey>(&json).unwrap(), found.survey);
    let refused =
        survey(&host(&runtime), &[Place::Root(disk.to_path_buf())], &|path| !path.ends_with("b.tar")).unwrap();
    assert_eq!(refused.survey.locations.len(), 6);
}

#[test]
fn on_an_installed_system_only_places_with_data_are_searched() {
    needs!(disks::lacks(&["tar"]));
    let (folder, runtime) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let root = folder.path();
    disks::system(root, &System { hostname: "box", fstab: "", tables: "plinth" });
    for place in [
        "root/a.tar.gz",
        "home/me/b.tar.gz",
        "var/lib/freedombox/backups-upload/c.tar.gz",
        "usr/share/doc/d.tar.gz",
        "top.tar",
    ] {
        let path = root.join(place);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        disks::archive(&path, "var/lib/x");
    }
    disks::repository(&root.join("var/lib/freedombox/backups"), ID);
    let found = look(&host(&runtime), &[Place::Root(root.to_path_buf())]);
    let mut names: Vec<_> =
        found.survey.locations.iter().map(|location| location.path().file_name().unwrap().to_str().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["a.tar.gz", "b.tar.gz", "backups", "c.tar.gz", "top.tar"]);
    let uploads = found
        .survey
        .locations
        .iter()
        .filter(|location| matches!(location, BackupLocation::TarExport { found_as: FoundAs::UploadLeftover, .. }));
    assert_eq!(uploads.count(), 1);
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
    assert!(survey(&host, &[Place::Image(folder.path().join("absent"))], &|_| true).is_err());
    assert!(survey(&host, &[Place::Root(folder.path().join("absent"))], &|_| true).is_err());
}

/// A tree of `/sys`, `/proc` and `/dev` with one disk whose node is an image file.
fn machine(folder: &Path, image: &Path, mountinfo: &str) -> PathBuf {
    let root = folder.join("machine");
    let disk = root.join("sys/block/sdz");
    for place in ["device", "queue", "sdz2"] {
        fs::create_dir_all(disk.join(place)).unwrap();
    }
    fs::create_dir_all(root.join("sys/block/loop0")).unwrap();
    fs::create_dir_all(root.join("proc/self")).unwrap();
    fs::create_dir_all(root.join("dev")).unwrap();
    fs::create_dir_all(root.join("sys/block/sr0")).unwrap();
    let sectors = fs::metadata(image).unwrap().len() / 512;
    for (name, value) in [
        ("size", sectors.to_string()),
        ("dev", "8:400".into()),
        ("removable", "1".into()),
        ("ro", "0".into()),
        ("queue/logical_block_size", "512".into()),
        ("device/vendor", "ACME    ".into()),
        ("device/model", "Stick 3000      ".into()),
        ("sdz2/partition", "2".into()),
        ("sdz2/dev", "8:402".into()),
        ("sdz2/start", "16384".into()),
        ("sdz2/size", "49152".into()),
    ] {
        fs::write(disk.join(name), format!("{value}\n")).unwrap();
    }
    fs::write(root.join("sys/block/sr0/size"), "0\n").unwrap();
    fs::write(root.join("proc/self/mountinfo"), mountinfo).unwrap();
    std::os::unix::fs::symlink(image, root.join("dev/sdz")).unwrap();
    // The partition's own node: a file with the same bytes.
    let bytes = fs::read(image).unwrap();
    fs::write(root.join("dev/sdz2"), &bytes[8 << 20..32 << 20]).unwrap();
    root
}

fn on(root: &Path, runtime: &TempDir) -> Host {
    use lifeboat::sys::{command::Programs, host::SystemClock, mount::KernelMounter};
    use std::sync::Arc;
    Host::new(root, runtime.path(), Arc::new(KernelMounter), Arc::new(Programs), Arc::new(SystemClock))
}

#[test]
fn the_disks_of_a_machine_are_listed_from_sysfs() {
    needs!(disks::cannot_mount(&["sfdisk", "mke2fs", "mkfs.vfat", "losetup"]));
    let (folder, runtime) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let image = gpt_box(folder.path(), "machine-box", 512, "");
    let root = machine(folder.path(), &image, "");
    let found = look(&on(&root, &runtime), &[Place::Machine]);
    let [disk] = found.survey.disks.as_slice() else { panic!("{:?}", found.survey.disks) };
    assert_eq!((disk.name.as_str(), disk.model.as_deref(), disk.removable), ("sdz", Some("ACME Stick 3000"), true));
    let names: Vec<_> = disk.volumes.iter().map(|volume| volume.name.as_str()).collect();
    // The kernel shows only the second; the first is still seen, as a part of the disk.
    assert_eq!(names, ["sdz#1", "sdz2"]);
    assert_eq!(disk.volumes[1].path, root.join("dev/sdz2"));
    assert_eq!(disk.volumes[0].signatures[0].label.as_deref(), Some("MY ESP"));
    assert!(disk.volumes[1].partuuid.is_some());
    assert_eq!(found.survey.installations[0].hostname, "machine-box");
    assert_eq!(found.survey.installations[0].place, "sdz2");
}

#[test]
fn a_volume_that_is_mounted_already_is_looked_at_where_it_is_and_is_no_target() {
    needs!(disks::cannot_mount(&["sfdisk", "mke2fs", "mkfs.vfat", "losetup"]));
    let (folder, runtime) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let image = gpt_box(folder.path(), "asleep", 512, "");
    let live = folder.path().join("live root");
    disks::system(&live, &System { hostname: "awake", fstab: "", tables: "plinth" });
    let point = live.to_str().unwrap().replace(' ', "\\040");
    let root = machine(folder.path(), &image, &format!("30 1 8:402 / {point} rw - ext4 /dev/sdz2 rw\n"));
    let host = on(&root, &runtime);
    let found = look(&host, &[Place::Machine]);
    let [system] = found.survey.installations.as_slice() else { panic!("{:?}", found.survey) };
    assert_eq!(system.hostname, "awake");
    assert_eq!(found.survey.disks[0].volumes[1].mounted_at, std::slice::from_ref(&live));
    assert!(fs::write(system.root.join("new"), "x").is_err(), "the view is read-only");
    for node in ["sdz", "sdz2"] {
        let error = target::open(&host, &TargetSpec::Device(root.join("dev").join(node)), Access::Write).unwrap_err();
        assert!(matches!(&error, TargetError::InUse { by, .. } if by.contains("live root")), "{error:?}");
    }
}

#[test]
fn the_disk_that_lifeboat_was_started_from_is_no_target() {
    needs!(disks::cannot_mount(&["sfdisk", "mke2fs", "mkfs.vfat", "losetup"]));
    let (folder, runtime) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let image = gpt_box(folder.path(), "stick", 512, "");
    let root = machine(folder.path(), &image, "30 1 8:402 / /run/lifeboat/medium ro - ext4 /dev/sdz2 ro\n");
    let error =
        target::open(&on(&root, &runtime), &TargetSpec::Device(root.join("dev/sdz2")), Access::Write).unwrap_err();
    assert!(matches!(error, TargetError::BootMedium(_)), "{error:?}");
}

#[test]
fn a_target_below_an_fstab_has_its_other_filesystems_mounted() {
    needs!(disks::cannot_mount(&["sfdisk", "mke2fs", "losetup"]));
    let (folder, runtime) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let fstab = "LABEL=rootfs / ext4 defaults 0 1\nLABEL=data /srv ext4 defaults 0 2\n/dev/sda4 /srv/inner ext4 defaults 0 2\n\
        UUID=absent /boot ext4 defaults 0 2\nLABEL=data /home ext4 noauto 0 2\n";
    let tree = folder.path().join("tree");
    disks::system(&tree, &System { hostname: "parts", fstab, tables: "plinth" });
    let path = disks::blank(&folder.path().join("disk.img"), 64);
    disks::sfdisk(
        &path,
        512,
        "label: dos\nstart=2048, size=32768\nstart=34816, size=20480\nstart=55296, size=2048, type=82\nstart=57344, size=20480\n",
    );
    let inner = folder.path().join("inner");
    fs::create_dir_all(folder.path().join("data/inner")).unwrap();
    fs::create_dir_all(&inner).unwrap();
    fs::write(inner.join("deepest"), "x").unwrap();
    for (label, source, mib, offset) in [
        ("rootfs", tree.clone(), 16, 2048),
        ("data", folder.path().join("data"), 10, 34816),
        ("inner", inner, 10, 57344),
    ] {
        let part = disks::blank(&folder.path().join(format!("{label}.ext4")), mib);
        disks::sh(&format!("mke2fs -q -t ext4 -L {label} -d {} {}", source.display(), part.display()));
        disks::place(&path, offset * 512, &part);
    }
    let before = disks::digest(&path);
    let host = host(&runtime);
    let spec = TargetSpec::of(&path).unwrap();
    let target = target::open(&host, &spec, Access::Read).unwrap();
    assert!(target.root.join("srv/inner/deepest").exists());
    assert!(fs::write(target.root.join("srv/new"), "x").is_err());
    assert!(target.findings.iter().any(|finding| finding.what.contains("UUID=absent")), "{:?}", target.findings);
    drop(target);
    assert_eq!(disks::digest(&path), before);
    assert_eq!(left_over(runtime.path()), "");
    let target = target::open(&host, &spec, Access::Write).unwrap();
    fs::write(target.root.join("srv/inner/new"), "x").unwrap();
    // Looking while it is open for writing sees the same files.
    let again = target::open(&host, &spec, Access::Read).unwrap();
    assert!(again.root.join("srv/inner/new").exists());
    assert!(fs::write(again.root.join("srv/inner/other"), "x").is_err());
    again.release().unwrap();
    target.release().unwrap();
    assert_eq!(left_over(runtime.path()), "");
    assert_eq!(left_over(&path), "");
}

#[test]
fn a_system_with_its_var_on_another_partition_is_one_system() {
    needs!(disks::cannot_mount(&["sfdisk", "mke2fs", "losetup"]));
    let (folder, runtime) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let fstab = "LABEL=rootfs / ext4 defaults 0 1\nPARTUUID=0x-none /home ext4 defaults 0 2\nLABEL=var /var ext4 defaults 0 2\n";
    let tree = folder.path().join("tree");
    disks::system(&tree, &System { hostname: "split", fstab, tables: "plinth" });
    disks::repository(&tree.join("var/lib/freedombox/borgbackup"), ID);
    fs::rename(tree.join("var"), folder.path().join("var")).unwrap();
    fs::create_dir(tree.join("var")).unwrap();
    let path = disks::blank(&folder.path().join("disk.img"), 40);
    disks::sfdisk(&path, 512, "label: dos\nstart=2048, size=32768\nstart=34816, size=32768\n");
    for (label, source, offset) in [("rootfs", tree, 2048), ("var", folder.path().join("var"), 34816)] {
        let part = disks::blank(&folder.path().join(format!("{label}.ext4")), 16);
        disks::sh(&format!("mke2fs -q -t ext4 -L {label} -d {} {}", source.display(), part.display()));
        disks::place(&path, offset * 512, &part);
    }
    let before = disks::digest(&path);
    let host = host(&runtime);
    let spec = TargetSpec::of(&path).unwrap();
    let found = look(&host, &image(&path));
    let [system] = found.survey.installations.as_slice() else { panic!("{:?}", found.survey) };
    assert_eq!((system.hostname.as_str(), system.apps.len()), ("split", 2));
    let target = target::open(&host, &spec, Access::Read).unwrap();
    assert_eq!(target.installation.hostname, "split");
    for location in &found.survey.locations {
        let seen = target.rebased(&host, location.path()).unwrap();
        assert_eq!(seen, target.root.join("var/lib/freedombox/borgbackup"));
        target.refuse_if_holds(&host, &seen).unwrap();
    }
    assert!(!found.survey.locations.is_empty());
    drop(target);
    drop(found);
    assert_eq!(disks::digest(&path), before);
    assert_eq!(left_over(runtime.path()), "");
    let target = target::open(&host, &spec, Access::Write).unwrap();
    fs::write(target.root.join("var/lib/new"), "x").unwrap();
    target.release().unwrap();
}

#[test]
fn a_missing_var_refuses_the_target() {
    needs!(disks::cannot_mount(&["mke2fs", "losetup"]));
    let (folder, runtime) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let fstab = "/dev/mapper/vg-var /var/lib/postgresql ext4 defaults 0 2\n";
    let tree = folder.path().join("tree");
    disks::system(&tree, &System { hostname: "lvm", fstab, tables: "plinth" });
    let path = disks::blank(&folder.path().join("disk"), 24);
    disks::sh(&format!("mke2fs -q -t ext4 -d {} {}", tree.display(), path.display()));
    let error = target::open(&host(&runtime), &TargetSpec::of(&path).unwrap(), Access::Read).unwrap_err();
    assert!(matches!(error, TargetError::MissingFilesystem { .. }), "{error}");
    assert!(!error.advice().is_empty());
    assert_eq!(left_over(runtime.path()), "");
}

#[test]
fn a_wrong_target_is_refused_and_not_changed() {
    needs!(disks::cannot_mount(&["sfdisk", "mke2fs", "mkfs.vfat", "losetup"]));
    let (folder, runtime) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let host = host(&runtime);
    let open = |path: &Path| target::open(&host, &TargetSpec::of(path).unwrap(), Access::Write).unwrap_err();
    // Not a FreedomBox.
    let empty = disks::blank(&folder.path().join("empty"), 16);
    disks::sh(&format!("mke2fs -q -t ext4 {}", empty.display()));
    let before = disks::digest(&empty);
    assert!(matches!(open(&empty), TargetError::NotFreedomBox(_)));
    assert!(matches!(open(folder.path()), TargetError::NotFreedomBox(_)));
    assert_eq!(disks::digest(&empty), before);
    // The medium that Lifeboat was started from, even when a box is on it.
    let tree = folder.path().join("tree");
    disks::system(&tree, &System { hostname: "box", fstab: "", tables: "plinth" });
    let medium = disks::blank(&folder.path().join("medium"), 24);
    disks::sh(&format!("mke2fs -q -t ext4 -L LIFEBOAT -d {} {}", tree.display(), medium.display()));
    let before = disks::digest(&medium);
    assert!(matches!(open(&medium), TargetError::BootMedium(_)));
    let seen = survey(&host, &[Place::Image(medium.clone())], &|_| true).unwrap();
    assert!(seen.survey.installations.is_empty(), "a box on the medium is offered: {:?}", seen.survey);
    assert!(seen.survey.findings.iter().any(|finding| finding.what.contains("own medium")));
    drop(seen);
    assert_eq!(disks::digest(&medium), before);
    // In use: mounted elsewhere, or behind a loop device.
    let busy = disks::blank(&folder.path().join("busy"), 24);
    disks::sh(&format!("mke2fs -q -t ext4 -d {} {}", tree.display(), busy.display()));
    {
        let _kernel = Kernel::mount(&busy, "loop,ro");
        assert!(matches!(open(&busy), TargetError::InUse { .. }));
    }
    let device = disks::sh(&format!("losetup --find --show {}", busy.display()));
    assert!(matches!(open(&busy), TargetError::InUse { .. }));
    disks::run("losetup", &["-d", device.trim()]);
    // A write-protected device.
    let device = disks::sh(&format!("losetup --read-only --find --show {}", busy.display()));
    let error = open(Path::new(device.trim()));
    assert!(matches!(error, TargetError::WriteProtected(_)), "{error:?}");
    disks::run("losetup", &["-d", device.trim()]);
    // Two systems on one disk.
    let two = gpt_box(folder.path(), "first", 512, "");
    disks::sfdisk(&two, 512, "label: dos\nstart=2048, size=14336\nstart=16384, size=49152\nstart=65536\n");
    let small = disks::blank(&folder.path().join("small"), 6);
    disks::sh(&format!("mke2fs -q -t ext4 -d {} {}", tree.display(), small.display()));
    disks::place(&two, 1 << 20, &small);
    let error = open(&two);
    assert!(
        matches!(&error, TargetError::Several { places, .. } if places.contains("#1") && places.contains("#2")),
        "{error}"
    );
}

#[test]
fn a_backup_on_the_target_itself_is_refused_outside_of_freedomboxs_own_folder() {
    needs!(disks::cannot_mount(&["mke2fs", "losetup"]));
    let (folder, runtime) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let host = host(&runtime);
    let tree = folder.path().join("tree");
    disks::system(&tree, &System { hostname: "box", fstab: "", tables: "plinth" });
    disks::repository(&tree.join("var/lib/freedombox/borgbackup"), ID);
    disks::archive(&tree.join("root/mine.tar.gz"), "var/lib/x");
    let outside = folder.path().join("outside.tar.gz");
    disks::archive(&outside, "var/lib/x");
    let path = disks::blank(&folder.path().join("disk"), 24);
    disks::sh(&format!("mke2fs -q -t ext4 -d {} {}", tree.display(), path.display()));
    // A directory as target.
    let target = target::open(&host, &TargetSpec::of(&tree).unwrap(), Access::Write).unwrap();
    target.refuse_if_holds(&host, &outside).unwrap();
    target.refuse_if_holds(&host, &tree.join("var/lib/freedombox/borgbackup")).unwrap();
    let refused = target.refuse_if_holds(&host, &tree.join("root/mine.tar.gz"));
    assert!(matches!(refused, Err(TargetError::HoldsBackup { .. })));
    // An image as target, with the backups that a survey found on it.
    let found = look(&host, &image(&path));
    let target = target::open(&host, &TargetSpec::of(&path).unwrap(), Access::Read).unwrap();
    target.refuse_if_holds(&host, &outside).unwrap();
    let place = |name: &str| found.survey.locations.iter().map(|l| l.path()).find(|path| path.ends_with(name)).unwrap();
    let refused = target.refuse_if_holds(&host, place("mine.tar.gz"));
    assert!(matches!(refused, Err(TargetError::HoldsBackup { .. })), "{refused:?}");
    let repository = place("borgbackup");
    let seen = target.rebased(&host, repository).unwrap();
    assert_eq!(seen, target.root.join("var/lib/freedombox/borgbackup"));
    target.refuse_if_holds(&host, &seen).unwrap();
    assert_eq!(target.rebased(&host, &outside), None);
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
