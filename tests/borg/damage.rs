//! Damage is named, and costs no more than it must.

use super::*;

const SEVEN: [&str; 3] = ["var/lib/one/copy of 07", "var/lib/one/file 07", "var/lib/one/link to 07"];

#[test]
fn a_flipped_byte_damages_exactly_the_files_that_hold_it() {
    for borg in borgs() {
        for mode in ["none", "authenticated"] {
            let (repository, _tree) = two_apps(&borg, mode);
            let whole = check(&repository);
            assert_eq!(verdicts(&whole), [Verdict::Intact; 2]);
            assert!(damaged(&whole).is_empty());
            let (segment, at) = find(&repository, &noise(7, 64));
            flip(&segment, at + 12_345);
            let verified = check(&repository);
            assert_eq!(damaged(&verified), SEVEN.map(String::from).into(), "{:?}", verified.report.findings);
            assert_eq!(verdicts(&verified), [Verdict::Damaged, Verdict::Intact]);
            assert!(!verified.report.is_undamaged());
            let one: RelPath = "var/lib/one".parse().unwrap();
            assert_eq!(verified.contents.root(&one).unwrap().files, 29, "what is left is counted");
        }
    }
}

#[test]
fn what_borg_check_calls_damaged_is_called_damaged_and_nothing_else() {
    for borg in borgs() {
        let (repository, _tree) = two_apps(&borg, "repokey");
        assert!(repository.is_sound() && check(&repository).report.is_undamaged());
        let segment = repository.segments().into_iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
        let whole = fs::read(&segment).unwrap();
        for at in (200..whole.len()).step_by(whole.len() / 4) {
            flip(&segment, at);
            let is_sound = repository.is_sound();
            let archives = source::list(&repository.path(), &mut repository.keys()).map(|listing| listing.archives);
            let ours = archives.is_ok_and(|archives| archives.len() == 1) && check(&repository).report.is_undamaged();
            assert!(!is_sound && !ours, "byte {at}: borg {is_sound}, lifeboat {ours}");
            fs::write(&segment, &whole).unwrap();
        }
    }
}

#[test]
fn a_flipped_byte_anywhere_is_noticed_in_an_encrypted_repository() {
    for borg in borgs() {
        let (repository, _tree) = two_apps(&borg, "repokey");
        let segment = repository.segments().into_iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
        let whole = fs::read(&segment).unwrap();
        for at in (100..whole.len()).step_by(whole.len() / 9) {
            flip(&segment, at);
            let archives = source::list(&repository.path(), &mut repository.keys()).map(|listing| listing.archives);
            match archives.as_deref() {
                Ok([_]) => assert!(!check(&repository).report.is_undamaged(), "byte {at}"),
                Ok(_) => assert!(archives.unwrap().is_empty()),
                Err(error) => assert!(matches!(error, ReadError::Corrupt { .. }), "byte {at}: {error}"),
            }
            fs::write(&segment, &whole).unwrap();
        }
    }
}

#[test]
fn bytes_that_are_gone_cost_one_object_and_the_rest_is_found_again() {
    for borg in borgs() {
        let (repository, _tree) = two_apps(&borg, "none");
        let (segment, at) = find(&repository, &noise(7, 64));
        let mut raw = fs::read(&segment).unwrap();
        raw.drain(at + 5000..at + 6000);
        fs::write(&segment, raw).unwrap();
        let verified = check(&repository);
        assert_eq!(damaged(&verified), SEVEN.map(String::from).into(), "{:?}", verified.report.findings);
    }
}

#[test]
fn a_damaged_part_of_the_list_of_files_costs_the_app_whose_files_it_named_and_no_other() {
    let tree = tempfile::tempdir().unwrap();
    let lib = tree.path().join("var/lib");
    for app in ["one", "two"] {
        // Borg cuts the list into parts of up to 512 KiB: here less than half of one app's.
        for n in 0..4000 {
            write(&lib.join(format!("{app}/{n:04} {}", "long name ".repeat(15))), b"");
        }
    }
    write(&lib.join("plinth/backups-manifests/a.json"), MANIFEST.as_bytes());
    for borg in borgs() {
        let repository = Repository::new(&borg, "none", "");
        repository.create("a", "none", tree.path());
        let whole = check(&repository);
        assert_eq!(verdicts(&whole), [Verdict::Intact; 2]);
        let name = format!("var/lib/two/2000 {}", "long name ".repeat(15));
        let (segment, at) = find(&repository, name.as_bytes());
        flip(&segment, at + 3);
        let verified = check(&repository);
        assert_eq!(verdicts(&verified), [Verdict::Intact, Verdict::Damaged], "{:?}", verified.report.findings);
        assert!(!verified.report.is_undamaged());
        let said =
            verified.report.findings.iter().filter(|finding| finding.what.contains("of the list of files is lost"));
        assert_eq!(said.count(), 1, "{:?}", verified.report.findings);
        let two: RelPath = "var/lib/two".parse().unwrap();
        let files = verified.contents.root(&two).unwrap().files;
        assert!((1500..4000).contains(&files), "{files} of 4000 files were found around the damage");
    }
}

#[test]
fn a_cut_segment_takes_one_archive_and_leaves_the_other() {
    for borg in borgs() {
        let (repository, tree) = two_apps(&borg, "none");
        write(&tree.path().join("var/lib/two/new"), &noise(500, 50_000));
        repository.create("b", "none", tree.path());
        let (segment, at) = find(&repository, &noise(500, 64));
        let raw = fs::read(&segment).unwrap();
        fs::write(&segment, &raw[..at + 1000]).unwrap();
        let listing = listing(&repository);
        let names: Vec<&str> = listing.archives.iter().filter_map(|archive| archive.name.as_deref()).collect();
        assert_eq!(names, ["a"]);
        // Borg 1.1 has the list of archives in the same file, so that "b" is nowhere any more.
        let is_told = |finding: &Finding| match borg.version() < vec![1, 2] {
            true => finding.what.contains("list of archives is lost"),
            false => finding.subject == "b" && finding.severity == Severity::Damage,
        };
        assert!(listing.findings.iter().any(is_told), "{:?}", listing.findings);
        assert_eq!(verdicts(&check(&repository)), [Verdict::Intact; 2]);
    }
}

#[test]
fn archives_are_found_without_the_list_of_archives() {
    for borg in borgs() {
        for mode in ["none", "repokey", "keyfile-blake2"] {
            let (repository, tree) = two_apps(&borg, mode);
            repository.create("b", "lz4", tree.path());
            let expected = listing(&repository).archives;
            assert_eq!(expected.len(), 2);
            // The heads of all entries that put the list: kind 0, and an id of zeros.
            for segment in repository.segments() {
                let raw = fs::read(&segment).unwrap();
                for at in (8..raw.len().saturating_sub(60)).filter(|at| raw[*at..*at + 33] == [0; 33]) {
                    flip(&segment, at + 45);
                }
            }
            let listing = listing(&repository);
            assert_eq!(listing.archives, expected);
            assert!(listing.findings.iter().any(|finding| finding.what.contains("list of archives is lost")));
            assert_eq!(verdicts(&check(&repository)), [Verdict::Intact; 2]);
        }
    }
}

#[test]
fn pieces_that_borg_replaced_by_zeros_are_damage() {
    for borg in borgs() {
        let (repository, _tree) = two_apps(&borg, "none");
        let (segment, at) = find(&repository, &noise(107, 64));
        flip(&segment, at + 10);
        repository.run(&["check", "--repair", repository.path().to_str().unwrap()], Path::new("/"));
        let verified = check(&repository);
        assert!(damaged(&verified).contains("var/lib/two/file 07"), "{:?}", verified.report.findings);
        assert_eq!(verdicts(&verified), [Verdict::Intact, Verdict::Damaged]);
    }
}

#[test]
fn a_file_that_changes_under_the_reader_is_never_taken_for_another() {
    for borg in borgs() {
        let (repository, _tree) = two_apps(&borg, "none");
        let mut archive = open(&repository, "a");
        let (segment, at) = find(&repository, &noise(3, 64));
        let file = fs::OpenOptions::new().write(true).open(&segment).unwrap();
        file.write_all_at(b"another file's bytes", at as u64).unwrap();
        let roots = ["var/lib/one".parse().unwrap()];
        let scope = Scope { roots: &roots, apps: None, dumps: &[], skip: &|_| false };
        let verified = verify(archive.as_mut(), &scope, &mut NoObserver, &Silent).unwrap();
        assert_eq!(damaged(&verified), ["var/lib/one/file 03".to_owned()].into());
    }
}
