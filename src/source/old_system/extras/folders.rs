//! Where the files of an old system's people lie: their home folders, and the folders that apps share or load down to.
//!
//! What an app's own backup holds is not among them, nor is anything that a package could have put there.

use super::missing;
use crate::formats::fstab;
use crate::model::bytes;
use crate::model::finding::Finding;
use crate::model::manifest;
use crate::model::path::RelPath;
use crate::survey::files::Files;

/// Folders of which each entry counts by itself.
const ABOVE: [&str; 3] = ["home", "srv", "var/lib/freedombox/shares"];
/// Folders of apps with files that no backup holds.
const OF_APPS: [&str; 3] = ["var/lib/syncthing", "var/lib/transmission-daemon/downloads", "var/lib/deluged/Downloads"];
/// What lies beside the files of people and is none of theirs.
const NOT_THEIRS: [&[u8]; 4] = [b"lost+found", b".lifeboat", b".snapshots", b".Trash-0"];
/// Where the app Sharing lists its folders, and Samba those that were added by hand.
const SHARING: &str = "etc/apache2/conf-available/sharing-freedombox.conf";
const SAMBA: &str = "etc/samba/smb.conf";
const LONGEST: u64 = 1 << 20;
const SUBJECT: &str = "home and shared folders";

/// Finds them.
pub(super) fn read(files: &dyn Files, has: &dyn Fn(&RelPath) -> bool, findings: &mut Vec<Finding>) -> Vec<RelPath> {
    let mut all = Vec::new();
    for above in ABOVE {
        for path in entries(files, above, findings) {
            divide(files, path, &mut all, findings);
        }
    }
    let of_apps = OF_APPS.iter().filter_map(|path| path.parse::<RelPath>().ok());
    of_apps.filter(|path| has(path)).for_each(|path| divide(files, path, &mut all, findings));
    let known: Vec<RelPath> = ABOVE.iter().chain(&OF_APPS).filter_map(|path| path.parse().ok()).collect();
    for shared in shared(files) {
        if !known.iter().any(|path| shared.is_within(path)) && !is_of_app(&shared) {
            let what = format!("'/{shared}' is shared, and is not among the folders that are brought over");
            findings.push(missing(SUBJECT, what, "copy it by hand, or connect its disk to the new box"));
        }
    }
    for entry in fstab::parse(&files.read("etc/fstab", LONGEST).ok().flatten().unwrap_or_default()) {
        let Some(point) = entry.point.filter(|point| known.iter().any(|path| point.is_within(path))) else { continue };
        if !all.iter().any(|path| path.is_within(&point) || point.is_within(path)) {
            let what = format!("the system kept '/{point}' on another volume, of which nothing is here");
            findings.push(missing(SUBJECT, what, "connect its disk as well, or copy the files by hand"));
        }
    }
    all.sort();
    all.dedup();
    all
}

/// What lies directly in a folder.
fn entries(files: &dyn Files, above: &str, findings: &mut Vec<Finding>) -> Vec<RelPath> {
    let names = files.names(above).unwrap_or_else(|error| {
        let what = format!("'/{above}' cannot be read: {error}");
        findings.push(missing(SUBJECT, what, "save the disk first with 'lifeboat salvage'"));
        Vec::new()
    });
    let mut found = Vec::new();
    for name in names.iter().filter(|name| !NOT_THEIRS.contains(&name.as_slice())) {
        match RelPath::parse(&[above.as_bytes(), b"/", name].concat()) {
            Ok(path) => found.push(path),
            Err(error) => {
                let what = format!("'{}' in '/{above}' is no name: {error}", bytes::escape(name));
                findings.push(missing(SUBJECT, what, "copy it by hand"));
            }
        }
    }
    found
}

/// Takes a folder whole where no app has data in it, else what lies in it, one by one.
fn divide(files: &dyn Files, path: RelPath, all: &mut Vec<RelPath>, findings: &mut Vec<Finding>) {
    if is_of_app(&path) {
        return;
    }
    if !manifest::roots().iter().any(|root| root.is_within(&path)) {
        return all.push(path);
    }
    for inner in entries(files, &path.to_string(), findings) {
        divide(files, inner, all, findings);
    }
}

fn is_of_app(path: &RelPath) -> bool {
    manifest::roots().iter().any(|root| path.is_within(root))
}

/// Folders that are shared, by the apps' own lists.
fn shared(files: &dyn Files) -> Vec<RelPath> {
    let read = |path| files.read(path, LONGEST).ok().flatten().unwrap_or_default();
    let (sharing, samba) = (read(SHARING), read(SAMBA));
    let (sharing, samba) = (String::from_utf8_lossy(&sharing), String::from_utf8_lossy(&samba));
    let mut found = of_sharing(&sharing);
    found.extend(of_samba(&samba));
    found.sort();
    found.dedup();
    found
}

/// `Alias /share/music "/home/zoe/my music"`
fn of_sharing(text: &str) -> Vec<RelPath> {
    let path = |line: &str| {
        let (name, rest) = line.trim().split_once(char::is_whitespace)?;
        let (_, path) = rest.trim().split_once(char::is_whitespace).filter(|_| name.eq_ignore_ascii_case("Alias"))?;
        let path = path.trim();
        let path = path.strip_prefix('"').and_then(|path| path.strip_suffix('"')).unwrap_or(path);
        RelPath::parse_absolute(path.trim_end_matches('/').as_bytes()).ok()
    };
    text.lines().filter_map(path).collect()
}

/// `path = /srv/music`; the parts that Debian brings along are switched off, or hold no files of people.
fn of_samba(text: &str) -> Vec<RelPath> {
    let path = |line: &str| {
        let (key, value) = line.trim().split_once('=')?;
        let value = value.trim().trim_matches('"').trim_end_matches('/');
        let is_path = key.trim().eq_ignore_ascii_case("path") && !value.contains('%');
        RelPath::parse_absolute(value.as_bytes()).ok().filter(|_| is_path)
    };
    let debians = ["var/spool/samba", "var/tmp", "var/lib/samba/printers"];
    text.lines().filter_map(path).filter(|path| !debians.contains(&path.to_string().as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_found_in_the_lists_of_their_apps() {
        let text = "Alias /share/music \"/home/zoe/my music\"\n<Location /share/music>\n Include includes/x.conf\n</Location>\n\
                    alias /share/b /media/disk/b/\n";
        let shown: Vec<String> = of_sharing(text).iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["home/zoe/my music", "media/disk/b"]);
        let text =
            "[global]\n; path = /no\n[x]\n  Path = /srv/x\n[homes]\npath = /home/%u\n[p]\npath = /var/spool/samba\n";
        let shown: Vec<String> = of_samba(text).iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["srv/x"]);
    }
}
