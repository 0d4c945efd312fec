//! Passphrases and keys.

use super::*;

#[test]
fn passphrases_are_tried_the_empty_one_first_and_each_failure_has_its_error() {
    let tree = tempfile::tempdir().unwrap();
    write(&tree.path().join("f"), b"x");
    for borg in borgs() {
        let open = Repository::new(&borg, "repokey", "");
        open.create("a", "lz4", tree.path());
        let mut keys = Keys::default();
        assert_eq!(source::list(&open.path(), &mut keys).unwrap().archives.len(), 1);
        assert_eq!(keys.asked, 0, "the empty passphrase needs no question");

        let locked = Repository::new(&borg, "repokey-blake2", "pässwörd ☂");
        locked.create("a", "lz4", tree.path());
        let list = |keys: &mut Keys| source::list(&locked.path(), keys);
        let mut several = Keys { passphrases: vec!["no".into(), "pässwörd ☂".into()], ..Keys::default() };
        assert_eq!(list(&mut several).unwrap().archives.len(), 1);
        let error = list(&mut Keys { passphrases: vec!["passwort".into()], ..Keys::default() }).unwrap_err();
        assert!(matches!(error, ReadError::WrongPassphrase(_)), "{error}");
        assert_eq!(Failure::from(error).ending, RunEnding::WrongPassphrase);
        let error = source::list(&locked.path(), &mut NoPassphrase).unwrap_err();
        assert!(matches!(error, ReadError::NeedsPassphrase(_)), "{error}");
        assert_eq!(Failure::from(error).ending.code(), 12);

        // The reason is told too where the repository is only found in a folder.
        let error = source::list(locked.home.path(), &mut NoPassphrase).unwrap_err();
        assert!(matches!(error, ReadError::NeedsPassphrase(_)), "{error}");
    }
}

#[test]
fn the_only_archive_needs_no_name_and_its_passphrase_is_asked_once() {
    let tree = tempfile::tempdir().unwrap();
    write(&tree.path().join("f"), b"x");
    for borg in borgs() {
        let repository = Repository::new(&borg, "repokey", "p");
        repository.create("a", "lz4", tree.path());
        let mut keys = Keys { passphrases: vec!["p".into()], ..Keys::default() };
        let open = |keys: &mut Keys| source::open_location(&repository.path(), None, keys);
        let mut only = open(&mut keys).unwrap();
        assert_eq!((only.summary().unwrap().name.as_deref(), keys.asked), (Some("a"), 1));

        repository.create("b", "lz4", tree.path());
        let listing = source::list(&repository.path(), &mut keys).unwrap();
        let error = open(&mut keys).map(|_| ()).unwrap_err().to_string();
        for archive in &listing.archives {
            assert!(error.contains(archive.id.as_str()), "{error}");
        }
    }
}

#[test]
fn keys_outside_of_the_repository_are_needed_and_checked() {
    let tree = tempfile::tempdir().unwrap();
    write(&tree.path().join("f"), b"x");
    for borg in borgs() {
        let repository = Repository::new(&borg, "keyfile", "p");
        repository.create("a", "lz4", tree.path());
        let passphrases = vec!["p".to_owned()];
        let list = |key_file| {
            let mut keys = Keys { passphrases: passphrases.clone(), key_file, asked: 0 };
            source::list(&repository.path(), &mut keys).map(|listing| listing.archives.len())
        };
        assert_eq!(list(repository.key_file()).unwrap(), 1);
        assert!(matches!(list(None), Err(ReadError::NeedsKeyFile(_))));
        assert!(matches!(list(Some(b"hello\n".to_vec())), Err(ReadError::BadKeyFile(_))));
        let other = Repository::new(&borg, "keyfile", "p");
        assert!(matches!(list(other.key_file()), Err(ReadError::BadKeyFile(_))));

        // An exported key opens a repository whose config lost it.
        let inside = Repository::new(&borg, "repokey", "p");
        inside.create("a", "lz4", tree.path());
        let export = inside.home.path().join("export");
        inside.run(&["key", "export", inside.path().to_str().unwrap(), export.to_str().unwrap()], Path::new("/"));
        let config = inside.path().join("config");
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, &text[..text.find("key = ").unwrap()]).unwrap();
        let mut keys = Keys { passphrases, key_file: Some(fs::read(&export).unwrap()), asked: 0 };
        assert_eq!(source::list(&inside.path(), &mut keys).unwrap().archives.len(), 1);
        fs::write(&config, text.replace("key = ", "key = AAAA")).unwrap();
        assert!(matches!(source::list(&inside.path(), &mut NoPassphrase), Err(ReadError::Corrupt { .. })));
    }
}

#[test]
fn the_program_takes_a_passphrase_from_a_file_or_a_descriptor_and_ends_with_12_otherwise() {
    let tree = tempfile::tempdir().unwrap();
    write(&tree.path().join("f"), b"x");
    for borg in borgs() {
        let repository = Repository::new(&borg, "repokey", "secret words ☂");
        repository.create("a", "lz4", tree.path());
        let file = repository.home.path().join("passphrase");
        fs::File::create(&file).unwrap().write_all("secret words ☂\n".as_bytes()).unwrap();
        let run = |args: &[&str], input: Option<&Path>| {
            let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_lifeboat"));
            command.arg("list").arg(repository.path()).args(args);
            match input {
                Some(path) => command.stdin(fs::File::open(path).unwrap()),
                None => command.stdin(std::process::Stdio::null()),
            };
            let output = command.output().unwrap();
            let text = [output.stdout, output.stderr].concat();
            assert!(!text.windows(12).any(|part| part == b"secret words"), "a passphrase is never shown");
            output.status.code().unwrap()
        };
        assert_eq!(run(&["--passphrase-file", file.to_str().unwrap()], None), 0);
        assert_eq!(run(&["--passphrase-fd", "0"], Some(&file)), 0);
        assert_eq!(run(&[], None), 12);
        fs::write(&file, "other").unwrap();
        assert_eq!(run(&["--passphrase-file", file.to_str().unwrap()], None), 12);
        assert_eq!(run(&["--passphrase-file", "/nowhere"], None), 2);
    }
}
