//! Repositories in the middle of something, and what else may be there.

use super::*;

#[test]
fn the_index_is_only_a_hint() {
    for borg in borgs() {
        let (repository, _tree) = two_apps(&borg, "repokey");
        let expected = read(&repository, "a").0;
        let index = fs::read_dir(repository.path()).unwrap().map(|entry| entry.unwrap().path());
        let index = { index }.find(|path| path.file_name().unwrap().as_bytes().starts_with(b"index.")).unwrap();
        let whole = fs::read(&index).unwrap();
        // Buckets that lead to other objects, and offsets past the end.
        let mut turned = whole.clone();
        turned[18..].chunks_exact_mut(40).for_each(|bucket| bucket[36] ^= 0x41);
        for garbage in [Some(turned), Some(noise(1, whole.len())), Some(whole[..whole.len() / 2].to_vec()), None] {
            match garbage {
                Some(garbage) => fs::write(&index, garbage).unwrap(),
                None => fs::remove_file(&index).unwrap(),
            }
            assert_eq!(read(&repository, "a").0, expected);
            assert_eq!(verdicts(&check(&repository)), [Verdict::Intact; 2]);
        }
    }
}

#[test]
fn an_unfinished_transaction_is_left_out_and_a_stale_lock_is_told() {
    for borg in borgs() {
        let (repository, _tree) = two_apps(&borg, "repokey");
        let expected = read(&repository, "a").0;
        let segments = repository.segments();
        let raw = fs::read(&segments[1]).unwrap();
        fs::write(segments[0].with_file_name("900"), &raw[..raw.len() / 2]).unwrap();
        let lock = repository.path().join("lock.exclusive");
        fs::create_dir(&lock).unwrap();
        fs::write(lock.join("gone@1234.99-0"), b"").unwrap();
        let before = fingerprint(&repository.path());
        let (entries, ending) = read(&repository, "a");
        assert_eq!(entries, expected);
        let said: Vec<Severity> = ending.findings.iter().map(|finding| finding.severity).collect();
        assert_eq!(said, [Severity::Warning, Severity::Note], "{:?}", ending.findings);
        assert_eq!(verdicts(&check(&repository)), [Verdict::Intact; 2]);
        assert_eq!(fingerprint(&repository.path()), before);
        // A pipe in the place of the list of locks is not waited for.
        let roster = repository.path().join("lock.roster");
        let _ = fs::remove_file(&roster);
        assert!(std::process::Command::new("mkfifo").arg(&roster).status().unwrap().success());
        assert_eq!(read(&repository, "a").0, expected);
    }
}

#[test]
fn deleted_archives_are_not_listed_and_the_others_are_whole() {
    for borg in borgs() {
        let tree = tempfile::tempdir().unwrap();
        rich_tree(tree.path());
        let repository = Repository::new(&borg, "repokey", "p");
        for name in ["one", "two", "three.checkpoint.1"] {
            write(&tree.path().join(format!("extra {name}")), &noise(77, 3000));
            repository.create(name, "lz4", tree.path());
        }
        repository.run(&["delete", &format!("{}::one", repository.path().display())], Path::new("/"));
        let listing = listing(&repository);
        let names: Vec<&str> = listing.archives.iter().filter_map(|archive| archive.name.as_deref()).collect();
        assert_eq!(names, ["two"]);
        assert!(listing.findings.iter().any(|finding| finding.what.contains("three.checkpoint.1")));
        let (entries, _) = read(&repository, "two");
        assert_like_disk(&entries, tree.path());
    }
}

#[test]
fn a_renamed_archive_is_read_and_a_wrong_authentication_is_told() {
    let tree = tempfile::tempdir().unwrap();
    write(&tree.path().join("f"), b"x");
    for borg in borgs() {
        let repository = Repository::new(&borg, "repokey", "p");
        repository.create("old", "lz4", tree.path());
        assert!(read(&repository, "old").1.findings.is_empty());
        repository.run(&["rename", &format!("{}::old", repository.path().display()), "new"], Path::new("/"));
        let (entries, ending) = read(&repository, "new");
        assert_like_disk(&entries, tree.path());
        // Borg 1.2.4 keeps the authentication of the old name; since 1.2.5 it is made anew.
        let warnings = ending.findings.iter().filter(|finding| finding.severity == Severity::Warning);
        let warned = warnings.filter(|finding| finding.what.contains("authentication")).count();
        assert_eq!(warned, usize::from(borg.version() < vec![1, 2, 5]), "{:?}", ending.findings);
    }
}

#[test]
fn repositories_of_attic_and_borg_2_are_refused_with_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let config = |version| format!("[repository]\nversion = {version}\nid = {}\n", "0f".repeat(32));
    for (name, version, magic) in [("attic", 1, "ATTICSEG"), ("borg 2", 2, "BORG_SEG")] {
        let path = folder.path().join(name);
        write(&path.join("config"), config(version).as_bytes());
        write(&path.join("data/0/0"), magic.as_bytes());
        for error in [
            source::list(&path, &mut NoPassphrase).unwrap_err(),
            source::open_location(&path, None, &mut NoPassphrase).err().unwrap(),
        ] {
            let words = error.to_string().to_lowercase();
            assert!(matches!(error, ReadError::Unsupported { .. }) && words.contains(name), "{words}");
        }
    }
}

#[test]
fn deleted_archives_are_found_on_request_until_the_repository_is_compacted() {
    let tree = tempfile::tempdir().unwrap();
    rich_tree(tree.path());
    for (borg, mode) in borgs().iter().zip(["none", "repokey"]) {
        let repository = Repository::new(borg, mode, "pass");
        repository.create("kept", "lz4", tree.path());
        write(&tree.path().join("later"), &noise(9, 300_000));
        repository.create("gone", "lz4", tree.path());
        let id = listing(&repository).archives.iter().find(|it| it.name.as_deref() == Some("gone")).unwrap().id.clone();
        let path = repository.path();
        repository.run(&["delete", &format!("{}::gone", path.display())], Path::new("/"));
        let before = fingerprint(&path);
        let listed = listing(&repository).archives;
        assert_eq!(listed.iter().map(|it| it.name.as_deref().unwrap()).collect::<Vec<_>>(), ["kept"]);
        let deleted = source::list_deleted(&path, &mut repository.keys()).unwrap().archives;
        if borg.version() < vec![1, 2] {
            // Older ones compact after every command.
            continue;
        }
        assert_eq!(deleted.iter().map(|it| &it.id).collect::<Vec<_>>(), [&id], "{borg:?} {mode}");
        let mut archive = source::open_location(&path, Some(&id), &mut repository.keys()).unwrap();
        let (entries, ending) = collect(archive.as_mut()).unwrap();
        assert!(ending.findings.is_empty(), "{:?}", ending.findings);
        assert_like_disk(&entries, tree.path());
        assert!(fingerprint(&path) == before, "nothing was written");
        repository.run(&["compact", "--threshold", "0", path.to_str().unwrap()], Path::new("/"));
        assert!(source::list_deleted(&path, &mut repository.keys()).unwrap().archives.is_empty());
        assert!(source::open_location(&path, Some(&id), &mut repository.keys()).is_err());
        fs::remove_file(tree.path().join("later")).unwrap();
    }
}
