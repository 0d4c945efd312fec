//! The programs of an old system's PostgreSQL, which reads files of no other version: what is needed to start them on a
//! box that has another one.
//!
//! Owns which files these are: the server and what makes a dump, their libraries down to the loader, the few commands
//! that a script needs, and of the languages those that the clusters name. They are only read here; it is the running box
//! that starts them, where nothing but the cluster's copy is in reach (`finish/cluster`).

use crate::formats::elf;
use crate::model::cluster;
use crate::model::path::RelPath;
use crate::survey::files::Files;
use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// Larger files are no part of PostgreSQL: its largest library has 30 MB.
const LARGEST: u64 = 64 << 20;
/// Deepest folder among them.
const DEEPEST: usize = 8;
/// The commands, by the name that the script calls each.
const COMMANDS: [(&str, &str); 6] = [
    ("bin/sh", "bin/sh"),
    ("bin/cat", "bin/cat"),
    ("bin/chmod", "bin/chmod"),
    ("bin/grep", "bin/grep"),
    ("bin/rm", "bin/rm"),
    ("bin/tail", "bin/tail"),
];
/// What of PostgreSQL's own programs is needed.
const SERVER: [&str; 4] = ["postgres", "pg_ctl", "psql", "pg_dump"];
/// Where glibc has languages, each in a folder, or those that an administrator chose in one file. FreedomBox brings all of
/// them, 1.1 GB, and a server does not start without that of each of its databases, in files that its own glibc knows.
const LANGUAGES: &str = "usr/lib/locale";
const ARCHIVE: &str = "locale-archive";
/// The tables that all databases of a cluster share, that of the databases with their languages among them, and how long
/// one of them may be.
const SHARED: &str = "global";
const LARGEST_SHARED: u64 = 16 << 20;
/// Longest name of a language.
const LONGEST_NAME: usize = 63;
/// Of its libraries, what makes queries faster and needs a compiler's ones.
const COMPILER: &str = "llvmjit";

/// What takes a path with its content; a folder has none.
type Giving<'g, E> = dyn FnMut(&RelPath, Option<&[u8]>) -> Result<(), E> + 'g;

/// The programs of one version.
#[derive(Debug, Clone)]
pub(super) struct Programs {
    /// Where they are handed out.
    pub(super) root: RelPath,
    /// Below that, each file's name, with the one that it has on the system.
    pub(super) files: BTreeMap<String, String>,
}

/// Those that go with the clusters of a system, where it has them.
pub(super) fn of(files: &dyn Files, clusters: &[RelPath], architecture: &str) -> Vec<Programs> {
    let versions: BTreeSet<u32> = clusters.iter().filter_map(cluster::version).collect();
    let found = versions.into_iter().filter_map(|version| {
        let own: Vec<&RelPath> = clusters.iter().filter(|path| cluster::version(path) == Some(version)).collect();
        of_version(files, version, &own, architecture).ok().flatten()
    });
    found.collect()
}

fn of_version(
    files: &dyn Files,
    version: u32,
    clusters: &[&RelPath],
    architecture: &str,
) -> io::Result<Option<Programs>> {
    let triplet = match architecture {
        "amd64" => "x86_64-linux-gnu",
        "arm64" => "aarch64-linux-gnu",
        "armhf" => "arm-linux-gnueabihf",
        _ => return Ok(None),
    };
    let own = format!("usr/lib/postgresql/{version}");
    let mut wanted: Vec<(String, String)> = SERVER.iter().map(|name| format!("{own}/bin/{name}")).map(twice).collect();
    wanted.extend(COMMANDS.map(|(name, source)| (name.to_owned(), source.to_owned())));
    if wanted.iter().any(|(_, source)| !files.has(source)) {
        return Ok(None);
    }
    let libraries = files.names(&format!("{own}/lib"))?.into_iter().filter_map(|name| String::from_utf8(name).ok());
    let libraries = libraries.filter(|name| name.ends_with(".so") && !name.starts_with(COMPILER));
    wanted.extend(libraries.map(|name| twice(format!("{own}/lib/{name}"))));
    let mut found = BTreeMap::new();
    while let Some((name, source)) = wanted.pop() {
        if found.contains_key(&name) {
            continue;
        }
        // Of a damaged disk comes what can be read: not all of it may be needed.
        let Ok(Some(content)) = files.read(&source, LARGEST) else { continue };
        let needs = elf::needs(&content).unwrap_or_default();
        drop(content);
        if let Some(loader) = needs.loader.as_deref().and_then(|loader| loader.strip_prefix('/')) {
            wanted.push(twice(loader.to_owned()));
        }
        for library in needs.libraries.iter().filter(|library| !library.contains('/')) {
            let places = [format!("usr/lib/{triplet}/{library}"), format!("lib/{triplet}/{library}")];
            let source = places.into_iter().find(|place| files.has(place));
            // The loader is one of them, and has its own place. An extension of which a part is missing is none.
            wanted.extend(source.map(|source| (format!("usr/lib/{triplet}/{library}"), source)));
        }
        found.insert(name, source);
    }
    below(files, &format!("usr/share/postgresql/{version}"), 0, &mut found)?;
    languages(files, clusters, &mut found)?;
    let root = cluster::programs(version, architecture).map_err(io::Error::other)?;
    Ok(Some(Programs { root, files: found }))
}

/// Takes the languages that the clusters name.
fn languages(files: &dyn Files, clusters: &[&RelPath], found: &mut BTreeMap<String, String>) -> io::Result<()> {
    let mut named = BTreeSet::new();
    for folder in clusters.iter().map(|path| format!("{path}/{SHARED}")) {
        for name in files.names(&folder)?.into_iter().filter_map(|name| String::from_utf8(name).ok()) {
            let table = files.read(&format!("{folder}/{name}"), LARGEST_SHARED);
            named.extend(table.ok().flatten().iter().flat_map(|table| names_in(table)));
        }
    }
    for name in files.names(LANGUAGES)?.into_iter().filter_map(|name| String::from_utf8(name).ok()) {
        if named.contains(&plain(&name)) {
            below(files, &format!("{LANGUAGES}/{name}"), 0, found)?;
        }
    }
    let archive = format!("{LANGUAGES}/{ARCHIVE}");
    if files.has(&archive) {
        found.insert(archive.clone(), archive);
    }
    Ok(())
}

/// What in a table may be the name of a language. Before a text stands its length, which may look like a letter of it.
fn names_in(table: &[u8]) -> impl Iterator<Item = String> {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"._@-".contains(byte);
    let texts = table.split(move |byte| !is_part(byte)).filter(|text| (2..=LONGEST_NAME + 1).contains(&text.len()));
    let both = texts.flat_map(|text| [Some(text), text.get(1..)]).flatten();
    both.filter_map(|text| std::str::from_utf8(text).ok().map(plain))
}

/// A language's name as glibc compares it: `en_US.UTF-8` is `en_US.utf8`.
fn plain(name: &str) -> String {
    let Some((language, rest)) = name.split_once('.') else { return name.to_owned() };
    let (set, variant) = rest.split_at(rest.find('@').unwrap_or(rest.len()));
    let set: String = set.chars().filter(char::is_ascii_alphanumeric).map(|sign| sign.to_ascii_lowercase()).collect();
    format!("{language}.{set}{variant}")
}

fn twice(path: String) -> (String, String) {
    (path.clone(), path)
}

/// Takes all files in a folder.
fn below(files: &dyn Files, folder: &str, depth: usize, found: &mut BTreeMap<String, String>) -> io::Result<()> {
    for name in files.names(folder)?.into_iter().filter_map(|name| String::from_utf8(name).ok()) {
        let path = format!("{folder}/{name}");
        if files.has(&path) {
            found.insert(path.clone(), path);
        } else if depth < DEEPEST {
            // What is neither a file nor a folder has no names.
            below(files, &path, depth + 1, found).unwrap_or_default();
        }
    }
    Ok(())
}

impl Programs {
    /// Hands each out: a folder with `None`, a file with its content. Those that cannot be read are not there; then the
    /// server does not start, and says why.
    pub(super) fn each<E>(&self, files: &dyn Files, give: &mut Giving<'_, E>) -> Result<(), E> {
        let mut folders = BTreeSet::new();
        give(&self.root, None)?;
        for (name, source) in &self.files {
            let Ok(path) = self.root.join(name.as_bytes()) else { continue };
            for folder in path.ancestors() {
                let is_inner = folder != self.root && folder.is_within(&self.root);
                if is_inner && folders.insert(folder.clone()) {
                    give(&folder, None)?;
                }
            }
            if let Ok(Some(content)) = files.read(source, LARGEST) {
                give(&path, Some(&content))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages_are_found_by_each_way_to_write_them() {
        for (name, other) in [("C.UTF-8", "C.utf8"), ("de_DE.ISO-8859-15@euro", "de_DE.iso885915@euro"), ("C", "C")] {
            assert_eq!(plain(name), plain(other));
        }
        assert_ne!(plain("de_DE.UTF-8"), plain("de_DE"));
        // PostgreSQL 15 writes the length before each, older versions fill up with zeros.
        let table = b"\0\x19en_US.UTF-8\x19sv_SE.utf8\0\0ca_ES.UTF-8@valencia\x001de_DE.UTF-8\0";
        let found: Vec<String> = names_in(table).collect();
        for name in ["en_US.utf8", "sv_SE.utf8", "ca_ES.utf8@valencia", "de_DE.utf8"] {
            assert!(found.iter().any(|one| one == name), "{name}: {found:?}");
        }
    }
}
