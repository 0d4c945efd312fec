//! Repositories that a real FreedomBox made.

use super::*;

/// The real repositories, unpacked.
fn real(name: &str) -> Option<(tempfile::TempDir, std::path::PathBuf)> {
    let fixtures = fixtures()?;
    let folder = tempfile::tempdir().unwrap();
    common::archives::gnu_tar(&["-xf", fixtures.join(name).to_str().unwrap()], folder.path())?;
    let inside = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    Some((folder, inside))
}

#[test]
fn real_repositories_of_freedombox_are_listed_verified_and_equal_their_exports() {
    let (Some((_a, root)), Some((_b, disk)), Some(fixtures)) =
        (real("root-repo.tar"), real("disk-repo.tar"), fixtures())
    else {
        return;
    };
    let truth: serde_json::Value = serde_json::from_slice(&fs::read(fixtures.join("backups.json")).unwrap()).unwrap();
    let passphrase = truth["passphrase"].as_str().unwrap().to_owned();
    let mut compared = 0;
    for (name, path) in [("root", &root), ("disk", &disk)] {
        let before = fingerprint(path);
        let mut keys = Keys { passphrases: vec![passphrase.clone()], ..Keys::default() };
        let listing = source::list(path, &mut keys).unwrap();
        let apps = |summary: &ArchiveSummary| -> BTreeSet<String> {
            summary.apps.iter().map(|app| app.name.to_string()).collect()
        };
        let ours: BTreeMap<String, BTreeSet<String>> =
            listing.archives.iter().map(|archive| (archive.name.clone().unwrap(), apps(archive))).collect();
        let theirs: BTreeMap<String, BTreeSet<String>> = truth["archives"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|archive| archive["repo"] == name)
            .map(|archive| {
                let apps = archive["apps"].as_array().unwrap();
                let apps = apps.iter().map(|app| app.as_str().unwrap().to_owned()).collect();
                (archive["name"].as_str().unwrap().to_owned(), apps)
            })
            .collect();
        assert_eq!(ours, theirs);
        assert!(!ours.is_empty());
        assert_eq!(keys.asked, u32::from(name == "disk"));

        for summary in &listing.archives {
            let mut archive = source::open_location(path, Some(&summary.id), &mut keys).unwrap();
            let roots = lifeboat::model::manifest::roots();
            let scope = Scope { roots, apps: None, dumps: &[], skip: &lifeboat::rescue::prepare::skips };
            let verified = verify(archive.as_mut(), &scope, &mut NoObserver, &Silent).unwrap();
            assert!(verified.report.is_clean(), "{:?}", verified.report.findings);
            let file = format!("{name}-{}.tar.gz", summary.name.as_ref().unwrap().replace(' ', "_"));
            if fixtures.join(&file).exists() {
                let (exported, _) = collect(source::open(&fixtures.join(&file)).unwrap().as_mut()).unwrap();
                let (ours, _) = collect(archive.as_mut()).unwrap();
                assert_same(&ours, &exported);
                compared += 1;
            }
        }
        assert_eq!(fingerprint(path), before);
    }
    assert_eq!(compared, 3, "each exported archive was compared");
}

/// The same entries, up to what a tar file cannot hold.
fn assert_same(ours: &[(Entry, Sha256Digest)], exported: &[(Entry, Sha256Digest)]) {
    let plain = |entries: &[(Entry, Sha256Digest)]| -> Vec<(Entry, Sha256Digest)> {
        let simple = |(entry, digest): &(Entry, Sha256Digest)| {
            let mut entry = entry.clone();
            if let EntryKind::File { sparse, .. } = &mut entry.kind {
                *sparse = false;
            }
            // Borg's export keeps neither empty names, nor every digit of a time, nor the pieces that it was stored in.
            entry.mtime.nanos = 0;
            entry.fingerprint = None;
            entry.owner.user.get_or_insert_default();
            entry.owner.group.get_or_insert_default();
            (entry, *digest)
        };
        entries.iter().map(simple).collect()
    };
    let (ours, exported) = (plain(ours), plain(exported));
    assert_eq!(ours.len(), exported.len());
    for (a, b) in ours.iter().zip(&exported) {
        assert_eq!(a, b);
    }
}
