//! Surveys and targets on disks made by the real tools, mounted by the kernel.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test panics when it fails, and its name is a sentence")]

#[path = "../common/disks.rs"]
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

mod places;
mod systems;
mod tables;
mod targets;

fn host(runtime: &TempDir) -> Host {
    Host::real(runtime.path())
}

fn look(host: &Host, places: &[Place]) -> Surveyed {
    survey(host, places, &|_| Ok(true)).unwrap()
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
