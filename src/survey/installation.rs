//! Telling an installed FreedomBox from its files, without running any of them.
//!
//! dpkg's status file is the authority: the package `freedombox` (`plinth` before 0.46) in state "ok installed".

use super::files::Files;
use crate::formats::dpkg;
use crate::formats::os_release::OsRelease;
use crate::formats::plinth::{self, Plinth};
use crate::model::bytes;
use crate::model::disk::Volume;
use crate::model::finding::{Finding, Severity};
use crate::model::installation::Installation;
use crate::sys::file::ForeignRoot;
use crate::sys::host::Host;
use std::fs::OpenOptions;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const DATABASE: &str = "var/lib/plinth/plinth.sqlite3";
/// Configuration files that may name another database, in the order in which FreedomBox reads them.
const CONFIGURATIONS: [&str; 3] =
    ["usr/share/freedombox/freedombox.config", "etc/plinth/plinth.config", "etc/freedombox/freedombox.config"];
const LARGEST_STATUS: u64 = 64 << 20;
const LARGEST_DATABASE: u64 = 256 << 20;
const LARGEST_TEXT: u64 = 1 << 20;

/// An installed system, and what was noticed while looking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identified {
    /// The system.
    pub installation: Installation,
    /// What is not as it should be.
    pub findings: Vec<Finding>,
}

/// Directories of a filesystem that may be the root of a system: the filesystem's own root, and the subvolumes in
/// which installers put it.
pub fn candidates(root: &Path) -> Vec<PathBuf> {
    let subvolumes = ["@rootfs", "@"].map(|name| root.join(name));
    let present = subvolumes.into_iter().filter(|path| path.symlink_metadata().is_ok_and(|meta| meta.is_dir()));
    std::iter::once(root.to_path_buf()).chain(present).collect()
}

/// Looks whether a FreedomBox is installed below `root`. `place` names the volume for people.
pub fn identify(host: &Host, root: &Path, place: &str, volume: Option<&Volume>) -> io::Result<Option<Identified>> {
    let files = ForeignRoot::open(root).map_err(|error| error.source)?;
    identify_in(host, &files, root, place, volume)
}

/// Looks whether a FreedomBox is installed among `files`; `root` is where they are said to be.
pub fn identify_in(
    host: &Host,
    files: &dyn Files,
    root: &Path,
    place: &str,
    volume: Option<&Volume>,
) -> io::Result<Option<Identified>> {
    let Some(status) = files.open("var/lib/dpkg/status")? else { return Ok(None) };
    let packages = dpkg::packages(BufReader::new(status.take(LARGEST_STATUS)))?;
    let installed = |name: &str| packages.iter().find(|package| package.installed && package.name == name);
    let Some(freedombox) = installed("freedombox").or_else(|| installed("plinth")) else { return Ok(None) };
    let mut findings = Vec::new();
    let architecture = match packages.iter().find(|package| package.name == "dpkg" && package.architecture != "all") {
        Some(dpkg) => dpkg.architecture.clone(),
        None => first_line(files, "var/lib/dpkg/arch").unwrap_or_default(),
    };
    let release = match files.read("etc/os-release", LARGEST_TEXT) {
        Ok(Some(text)) => OsRelease::parse(&text),
        _ => files.read("usr/lib/os-release", LARGEST_TEXT)?.map(|text| OsRelease::parse(&text)).unwrap_or_default(),
    };
    let (booted, plinth) = database(host, files, place, &mut findings);
    findings.extend(plinth.strange.iter().map(|name| {
        Finding::new(
            Severity::Note,
            place,
            format!("FreedomBox's database has an app of the impossible name '{name}'"),
            "",
        )
    }));
    let signature = volume.and_then(|volume| volume.signatures.iter().find(|signature| signature.kind.holds_files()));
    Ok(Some(Identified {
        installation: Installation {
            place: place.to_owned(),
            root: root.to_path_buf(),
            filesystem: signature.map(|signature| signature.kind.name().to_owned()),
            uuid: signature.and_then(|signature| signature.uuid.clone()),
            architecture,
            suite: release.get("VERSION_CODENAME").unwrap_or_default().to_owned(),
            os: release.get("PRETTY_NAME").or(release.get("NAME")).unwrap_or_default().to_owned(),
            hostname: first_line(files, "etc/hostname").unwrap_or_default(),
            freedombox: freedombox.version.clone(),
            booted,
            wizard_done: plinth.wizard_done,
            disk_image: files.has("var/lib/freedombox/is-freedombox-disk-image"),
            apps: plinth.apps,
            passphrases: plinth.passphrases,
            web_users: plinth.web_users,
            locations: plinth.locations,
            domains: plinth.domains,
            settings: plinth.settings,
            packages: packages.iter().filter(|package| package.installed).map(|package| package.name.clone()).collect(),
        },
        findings,
    }))
}

fn first_line(files: &dyn Files, path: &str) -> Option<String> {
    let text = files.read(path, LARGEST_TEXT).ok()??;
    let mut lines = text.split(|&b| b == b'\n').map(<[u8]>::trim_ascii);
    lines.find(|line| !line.is_empty() && !line.starts_with(b"#")).map(bytes::escape)
}

/// Reads FreedomBox's database; whether it exists, and what it tells. Damage is a finding: the files of the apps can
/// be restored without it.
fn database(host: &Host, files: &dyn Files, place: &str, findings: &mut Vec<Finding>) -> (bool, Plinth) {
    let path = database_path(files);
    let damaged = |what: String| {
        let advice = "which apps are set up is not known; their packages tell what is installed";
        Finding::new(Severity::Damage, place, what, advice)
    };
    match copied(host, files, &path) {
        Ok(None) => (false, Plinth::default()),
        Ok(Some(copy)) => match copy.read() {
            Ok(plinth) => (true, plinth),
            Err(error) => {
                findings.push(damaged(error.to_string()));
                (true, Plinth::default())
            }
        },
        Err(error) => {
            findings.push(damaged(format!("copying FreedomBox's database: {error}")));
            (true, Plinth::default())
        }
    }
}

/// Where the database is: `store_file` of the last configuration that sets it, or the usual place.
fn database_path(files: &dyn Files) -> String {
    let mut path = DATABASE.to_owned();
    for name in CONFIGURATIONS {
        let Ok(Some(text)) = files.read(name, LARGEST_TEXT) else { continue };
        for line in String::from_utf8_lossy(&text).lines() {
            if let Some((key, value)) = line.split_once(['=', ':'])
                && key.trim() == "store_file"
            {
                // Old configurations write `%(data_dir)s/plinth.sqlite3`, which is the usual place.
                let value = value.trim();
                let plain = value.starts_with('/') && !value.contains(['%', '$']);
                path = if plain { value.trim_start_matches('/').to_owned() } else { DATABASE.to_owned() };
            }
        }
    }
    path
}

/// A private copy of a database, removed when dropped.
struct Copied {
    folder: PathBuf,
}

impl Copied {
    fn read(&self) -> Result<Plinth, plinth::PlinthError> {
        let database = rusqlite::Connection::open(self.folder.join("database"))?;
        plinth::read(&database)
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Copies the database with its rollback journal and write-ahead log, so that SQLite can recover it there. The `-shm`
/// file is an index of the log that SQLite makes anew.
fn copied(host: &Host, files: &dyn Files, path: &str) -> io::Result<Option<Copied>> {
    let Some(database) = files.open(path)? else { return Ok(None) };
    let folder = host.private_directory("databases").map_err(io::Error::other)?;
    let copy = Copied { folder };
    copy_into(database, &copy.folder.join("database"))?;
    for suffix in ["-journal", "-wal"] {
        if let Some(log) = files.open(&format!("{path}{suffix}"))? {
            copy_into(log, &copy.folder.join(format!("database{suffix}")))?;
        }
    }
    Ok(Some(copy))
}

fn copy_into(from: Box<dyn Read + '_>, to: &Path) -> io::Result<()> {
    let mut to = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    let copied = io::copy(&mut from.take(LARGEST_DATABASE + 1), &mut to)?;
    if copied > LARGEST_DATABASE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is longer than {LARGEST_DATABASE} bytes")));
    }
    Ok(())
}
