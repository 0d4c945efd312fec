//! Disk images made by the real tools.
#![allow(clippy::unwrap_used, dead_code, missing_docs, unreachable_pub, reason = "every test file takes what it needs")]

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Why this machine cannot run a test, if it cannot: `tools` are missing, or mounting is not allowed.
pub fn lacks(tools: &[&str]) -> Option<String> {
    for tool in tools {
        let found = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].iter().any(|dir| Path::new(dir).join(tool).exists());
        if !found {
            return Some(format!("the program {tool} is not installed"));
        }
    }
    None
}

/// As [`lacks`], for tests that mount.
pub fn cannot_mount(tools: &[&str]) -> Option<String> {
    let uid = fs::read_to_string("/proc/self/status").unwrap();
    let root = uid.lines().any(|line| line.starts_with("Uid:\t0\t"));
    if !root || !Path::new("/dev/loop-control").exists() {
        return Some("root and loop devices are needed".into());
    }
    lacks(tools)
}

/// Runs a program that must end well; returns what it printed.
pub fn run(program: &str, args: &[impl AsRef<OsStr>]) -> String {
    let path = "/usr/sbin:/usr/bin:/sbin:/bin";
    let output = Command::new(program).args(args).env("PATH", path).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a shell line that must end well.
pub fn sh(line: &str) -> String {
    run("/bin/sh", &["-ec", line])
}

/// An empty, sparse file.
pub fn blank(path: &Path, mib: u64) -> PathBuf {
    File::create(path).unwrap().set_len(mib << 20).unwrap();
    path.to_path_buf()
}

/// Makes a file that long, as if what is in it was written to a larger disk.
pub fn blank_to(path: &Path, mib: u64) {
    File::options().write(true).open(path).unwrap().set_len(mib << 20).unwrap();
}

/// Partitions an image with an sfdisk script; other sectors than 512 bytes need a loop device (and so root).
pub fn sfdisk(image: &Path, sector_size: u32, script: &str) {
    let attached = Attached::new(image, sector_size);
    let mut child = Command::new("/usr/sbin/sfdisk")
        .args(["--quiet", "--no-reread", "--no-tell-kernel"])
        .arg(attached.as_ref().map_or(image, |attached| attached.0.as_path()))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// What sfdisk reads from an image, as JSON.
pub fn sfdisk_json(image: &Path, sector_size: u32) -> serde_json::Value {
    let attached = Attached::new(image, sector_size);
    let path = attached.as_ref().map_or(image, |attached| attached.0.as_path());
    serde_json::from_str(&run("sfdisk", &["--json".as_ref(), path.as_os_str()])).unwrap()
}

/// An image behind a loop device with sectors of another size than 512 bytes.
struct Attached(PathBuf);

impl Attached {
    fn new(image: &Path, sector_size: u32) -> Option<Self> {
        let line = format!("losetup --find --show --sector-size {sector_size} {}", image.display());
        (sector_size != 512).then(|| Self(PathBuf::from(sh(&line).trim())))
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        run("losetup", &["-d".as_ref(), self.0.as_os_str()]);
    }
}

/// Writes a file into an image at an offset.
pub fn place(image: &Path, offset: u64, part: &Path) {
    let mut to = File::options().write(true).open(image).unwrap();
    to.seek(SeekFrom::Start(offset)).unwrap();
    std::io::copy(&mut File::open(part).unwrap(), &mut to).unwrap();
}

/// Overwrites bytes of an image.
pub fn poke(image: &Path, offset: u64, bytes: &[u8]) {
    let mut to = File::options().write(true).open(image).unwrap();
    to.seek(SeekFrom::Start(offset)).unwrap();
    to.write_all(bytes).unwrap();
}

/// SHA-256 of a file.
pub fn digest(path: &Path) -> String {
    run("sha256sum", &[path]).split_whitespace().next().unwrap().to_owned()
}

/// What a sample system is to look like.
pub struct System<'a> {
    pub hostname: &'a str,
    pub fstab: &'a str,
    pub tables: &'a str,
}

/// Writes the files by which an installed FreedomBox is told below `root`.
pub fn system(root: &Path, system: &System<'_>) {
    for folder in
        ["etc", "usr/lib", "var/lib/dpkg", "var/lib/plinth", "var/lib/freedombox", "home", "root", "boot", "srv"]
    {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    let os = "PRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\nVERSION_CODENAME=trixie\nID=debian\n";
    fs::write(root.join("usr/lib/os-release"), os).unwrap();
    // Absolute on purpose: it must be resolved inside this root.
    let _ = std::os::unix::fs::symlink("/usr/lib/os-release", root.join("etc/os-release"));
    fs::write(root.join("etc/hostname"), format!("{}\n", system.hostname)).unwrap();
    fs::write(root.join("etc/fstab"), system.fstab).unwrap();
    fs::write(root.join("var/lib/freedombox/is-freedombox-disk-image"), "").unwrap();
    let status = "Package: dpkg\nStatus: install ok installed\nArchitecture: arm64\nVersion: 1.22.21\n\n\
        Package: freedombox\nStatus: install ok installed\nArchitecture: all\nVersion: 25.9.3\n\n\
        Package: ejabberd\nStatus: deinstall ok config-files\nArchitecture: all\nVersion: 24\n\n";
    fs::write(root.join("var/lib/dpkg/status"), status).unwrap();
    database(&root.join("var/lib/plinth/plinth.sqlite3"), system.tables);
}

/// A FreedomBox database with tables of one generation.
pub fn database(path: &Path, tables: &str) {
    let database = rusqlite::Connection::open(path).unwrap();
    database
        .execute_batch(&format!(
            "CREATE TABLE {tables}_module (name TEXT PRIMARY KEY, setup_version INTEGER);
             CREATE TABLE {tables}_kvstore (key TEXT PRIMARY KEY, value_json TEXT);
             INSERT INTO {tables}_module VALUES ('wiki', 3), ('ejabberd', 0);
             INSERT INTO {tables}_kvstore VALUES ('firstboot_completed', '1'), ('network_storage', '\"secret words\"');"
        ))
        .unwrap();
}

/// Writes a borg repository's outer form.
pub fn repository(folder: &Path, id: &str) {
    fs::create_dir_all(folder.join("data/0")).unwrap();
    fs::write(folder.join("config"), format!("[repository]\nversion = 1\nid = {id}\n")).unwrap();
}

/// Writes an archive with one member, made by GNU tar.
pub fn archive(path: &Path, member: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(member);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, "content").unwrap();
    run("tar", &[OsStr::new("-C"), folder.path().as_os_str(), "-caf".as_ref(), path.as_os_str(), member.as_ref()]);
}

/// Waits until no loop device is left of an image: the kernel lets go of one a moment after the unmount, later still
/// while another test lists all of them.
pub fn wait_for_loops(image: &Path) {
    for _ in 0..100 {
        if run("losetup", &["-j".as_ref(), image.as_os_str()]).is_empty() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

/// A new filesystem in a file of that length: what `make` makes of it, mounted with more options, and filled.
pub fn filesystem(path: &Path, mib: u64, make: &str, options: &str, fill: impl FnOnce(&Path)) -> PathBuf {
    let image = blank(path, mib);
    sh(&format!("{make} '{}'", image.display()));
    fill(Kernel::mount(&image, &format!("loop{options}")).path());
    wait_for_loops(&image);
    image
}

/// A loop device; it is detached when dropped.
pub struct Loop(pub PathBuf);

impl Loop {
    pub fn new(file: &Path, options: &str) -> Loop {
        Loop(sh(&format!("losetup {options} --find --show '{}'", file.display())).trim().into())
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("/sbin/losetup").arg("-d").arg(&self.0).status();
    }
}

/// A filesystem mounted by the kernel for a test; unmounted when dropped.
pub struct Kernel {
    pub point: tempfile::TempDir,
}

impl Kernel {
    pub fn mount(image: &Path, options: &str) -> Self {
        Self::try_mount(image, options).unwrap_or_else(|told| panic!("{told}"))
    }

    /// As [`Kernel::mount`], for a filesystem that the kernel may refuse: then what `mount` told.
    pub fn try_mount(image: &Path, options: &str) -> Result<Self, String> {
        let point = tempfile::tempdir().unwrap();
        wait_for_loops(image);
        let output = Command::new("/bin/mount").args(["-o", options]).arg(image).arg(point.path()).output().unwrap();
        if output.status.success() { Ok(Self { point }) } else { Err(String::from_utf8_lossy(&output.stderr).into()) }
    }

    pub fn path(&self) -> &Path {
        self.point.path()
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        // A loop device over one of its files lets go of it a moment after it was detached.
        for _ in 0..100 {
            let done = Command::new("/bin/umount").arg(self.point.path()).stderr(Stdio::null()).status();
            if done.is_ok_and(|status| status.success()) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}
