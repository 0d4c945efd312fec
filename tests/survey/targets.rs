//! The disks of a machine, and what may be a target.

use super::*;

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
    let seen = survey(&host, &[Place::Image(medium.clone())], &|_| Ok(true)).unwrap();
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
fn of_two_disks_that_were_made_of_one_image_only_the_targets_own_is_touched() {
    needs!(disks::cannot_mount(&["sfdisk", "mke2fs", "mkfs.vfat", "losetup"]));
    let (folder, runtime) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let uuid = "0a0b0c0d-0000-4000-8000-000000000001";
    let image = gpt_box(folder.path(), "twin", 512, &format!("UUID={uuid} /srv ext4 defaults 0 2\n"));
    let data = disks::blank(&folder.path().join("data"), 4);
    disks::sh(&format!("mke2fs -q -t ext4 -U {uuid} {}", data.display()));
    disks::place(&image, 1 << 20, &data);
    let root = machine(folder.path(), &image, "");
    // The same once more, and first in the order of names.
    let twin = folder.path().join("other.img");
    disks::sh(&format!(
        "cp {image} {twin}; cd {root}; cp -a sys/block/sdz sys/block/sdy; mv sys/block/sdy/sdz2 sys/block/sdy/sdy2; \
         echo 8:500 >sys/block/sdy/dev; echo 8:502 >sys/block/sdy/sdy2/dev; cp dev/sdz2 dev/sdy2; ln -s {twin} dev/sdy",
        image = image.display(),
        twin = twin.display(),
        root = root.display()
    ));
    let others = || (disks::digest(&twin), disks::digest(&root.join("dev/sdy2")));
    let before = others();
    let disk = TargetSpec::Device(root.join("dev/sdz"));
    let target = target::open(&on(&root, &runtime), &disk, Access::Write).unwrap();
    fs::write(target.root.join("srv/mine"), "on the target").unwrap();
    target.release().unwrap();
    assert!(others() == before, "the other disk was written to");
    let own = fs::read(&image).unwrap();
    assert!(own.windows(13).any(|window| window == b"on the target"));
}

#[test]
fn a_backup_on_a_filesystem_that_the_box_mounts_is_refused_before_anything_is_written_to_it() {
    needs!(disks::cannot_mount(&["sfdisk", "mke2fs", "mkfs.vfat", "losetup"]));
    let folder = tempfile::tempdir().unwrap();
    let uuid = "0a0b0c0d-0000-4000-8000-000000000002";
    let image = gpt_box(folder.path(), "both", 512, &format!("UUID={uuid} /srv ext4 defaults 0 2\n"));
    let tree = folder.path().join("tree");
    disks::repository(&tree.join("FreedomBoxBackups"), ID);
    let data = disks::blank(&folder.path().join("data"), 4);
    disks::sh(&format!("mke2fs -q -t ext4 -U {uuid} -d {} {}", tree.display(), data.display()));
    disks::place(&image, 1 << 20, &data);
    let alone = gpt_box(folder.path(), "alone", 512, "");
    for image in [&image, &alone] {
        let root = Kernel::mount(image, "loop,offset=8388608,sizelimit=25165824");
        for name in ["passwd", "group"] {
            fs::write(root.path().join("etc").join(name), "root:x:0:0::/root:/bin/sh\n").unwrap();
        }
        fs::remove_dir_all(root.path().join("var/lib/freedombox/borgbackup")).unwrap();
    }
    assert_eq!(left_over(folder.path()), "");
    let path = image.to_str().unwrap();
    let mut restore = std::process::Command::new(env!("CARGO_BIN_EXE_lifeboat"));
    restore.args(["restore", "--from", path, "--onto", path, "--archive", ID, "--consent", "0123456789abcdef"]);
    let run = restore.output().unwrap();
    let said = String::from_utf8_lossy(&run.stderr).replace("\n  ", " ");
    assert!(run.status.code() == Some(17) && said.contains("lies on the target itself"), "{said}");
    let bytes = fs::read(&image).unwrap();
    assert!(bytes[1 << 20..5 << 20] == fs::read(&data).unwrap(), "the disk with the backup was written to");
    // Nor is a box restored onto itself, also where it is read without the kernel, because of its journal.
    let path = alone.to_str().unwrap();
    disks::run("debugfs", &["-w", "-R", "feature needs_recovery", &format!("{path}?offset=8388608")]);
    let mut plan = std::process::Command::new(env!("CARGO_BIN_EXE_lifeboat"));
    let run = plan.args(["plan", "--from", path, "--onto", path, "--archive", "installed-system"]).output().unwrap();
    let said = String::from_utf8_lossy(&run.stderr).replace("\n  ", " ");
    assert!(run.status.code() == Some(17) && said.contains("lies on the target itself"), "{said}");
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
