//! Backups, wherever they lie.

use super::*;

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
        survey(&host(&runtime), &[Place::Root(disk.to_path_buf())], &|path| Ok(!path.ends_with("b.tar"))).unwrap();
    assert_eq!(refused.survey.locations.len(), 6);
    // One of which nobody can tell is no place with a backup, and is named.
    let torn = |path: &Path| if path.ends_with("b.tar") { Err("it is cut off".to_owned()) } else { Ok(true) };
    let told = survey(&host(&runtime), &[Place::Root(disk.to_path_buf())], &torn).unwrap().survey;
    assert_eq!((told.locations.len(), told.findings.len()), (6, 1), "{:?}", told.findings);
    let [finding] = &told.findings[..] else { panic!("{:?}", told.findings) };
    assert!(finding.subject.ends_with("b.tar") && finding.what.ends_with("its list of apps: it is cut off"));
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
