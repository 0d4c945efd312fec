//! One flipped bit or one cut anywhere, in every form of backup and in Lifeboat's own state: it is noticed before
//! anything that lives on the box changes, or it has no meaning.
//!
//! `LIFEBOAT_FLIPS=N` flips N bits and makes N/10 cuts for each form, `LIFEBOAT_SEED` chooses others; both are printed.

#![allow(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used, reason = "this is test code")]
#![allow(missing_docs, reason = "names of tests are sentences")]

mod common;

use common::archives::{RawTar, gzip, is_root, zstd};
use common::boxes::cannot_run;
use common::cases::number;
use common::ends::Ends;
use common::repositories::{Repository, borgs, noise};
use common::rescue::{Numbers, Rescue, SmallBox, Tree, assert_same, manifest, tree_without, write};
use std::fs;
use std::path::{Path, PathBuf};

/// Bits for each form where nothing else is said; a tenth of that many cuts.
const FLIPS: usize = 60;

/// A backup in one form: where it lies, the files that damage may hit, and how the program opens it.
struct Form {
    name: &'static str,
    place: PathBuf,
    more: Vec<String>,
    _keep: Option<Repository>,
}

impl Form {
    fn rescue(&self, root: &Path) -> Rescue {
        let mut rescue = Rescue::new(&self.place, root);
        rescue.more.extend(self.more.iter().cloned());
        rescue
    }

    /// Every file of the backup, with its length; in three rounds of four only what holds data, not what is a hint.
    fn files(&self, round: usize) -> Vec<(PathBuf, usize)> {
        let place =
            if self.place.is_dir() && !round.is_multiple_of(4) { self.place.join("data") } else { self.place.clone() };
        let walk = walkdir::WalkDir::new(place).sort_by_file_name().into_iter().map(Result::unwrap);
        walk.filter(|found| found.file_type().is_file())
            .map(|found| (found.path().to_owned(), found.metadata().unwrap().len() as usize))
            .filter(|(_, length)| *length > 0)
            .collect()
    }
}

const PAGE: &str = "<html>new</html>\n";

fn json() -> String {
    manifest(&[("tiddlywiki", 1, &["/var/lib/tiddlywiki"], &[]), ("gitweb", 4, &["/var/lib/git"], &[])])
}

fn tar() -> Vec<u8> {
    let tar = RawTar::new()
        .dir("var/lib/tiddlywiki")
        .file("var/lib/tiddlywiki/new.html", PAGE.repeat(3000).as_bytes())
        .dir("var/lib/git")
        .dir("var/lib/git/new.git")
        .file("var/lib/git/new.git/pack", &noise(11, 30_000))
        .hardlink("var/lib/git/new.git/again", "var/lib/git/new.git/pack")
        .symlink("var/lib/git/new.git/link", "/etc/localtime");
    tar.manifest(&json()).end()
}

fn forms(folder: &Path) -> Vec<Form> {
    let tar = tar();
    let mut forms = Vec::new();
    for (name, bytes) in [("tar.gz", gzip(&tar)), ("tar.zst", zstd(&tar, true)), ("tar", tar)] {
        let place = folder.join(format!("backup.{name}"));
        fs::write(&place, &bytes).unwrap();
        if name == "tar" {
            // Nothing in a plain tar file covers the content; the checksum beside it does.
            let digest = lifeboat::model::digest::Sha256Digest::of(&bytes);
            fs::write(folder.join("backup.tar.sha256"), format!("{digest}  backup.tar\n")).unwrap();
        }
        forms.push(Form { name, place, more: Vec::new(), _keep: None });
    }
    let tree = folder.join("tree");
    write(&tree.join("var/lib/tiddlywiki/new.html"), PAGE.repeat(3000).as_bytes());
    write(&tree.join("var/lib/git/new.git/pack"), &noise(11, 30_000));
    fs::hard_link(tree.join("var/lib/git/new.git/pack"), tree.join("var/lib/git/new.git/again")).unwrap();
    write(&tree.join("var/lib/plinth/backups-manifests/a.json"), json().as_bytes());
    if let Some(borg) = borgs().last() {
        for (name, mode) in [("borg, not encrypted", "none"), ("borg, encrypted", "repokey")] {
            let repository = Repository::new(borg, mode, "pass");
            repository.create("a", "lz4", &tree);
            let passphrase = folder.join("passphrase");
            fs::write(&passphrase, "pass\n").unwrap();
            let more = vec!["--passphrase-file".to_owned(), passphrase.to_str().unwrap().to_owned()];
            forms.push(Form { name, place: repository.path(), more, _keep: Some(repository) });
        }
    }
    forms
}

/// The box outside of Lifeboat's own directory; the directory above it changes its time when it is made.
fn live(root: &Path) -> Tree {
    let mut live = tree_without(root, &["var/lib/lifeboat"]);
    live.get_mut(Path::new("var/lib")).unwrap().mtime = (0, 0);
    live
}

/// Whether the damage was noticed; where it was not, the plan is the one of the whole backup, so it has no meaning.
fn is_noticed(form: &Form, root: &Path, old: &Tree, consent: &str, what: &str) -> bool {
    let planned = form.rescue(root).plan();
    assert!(![101, -1].contains(&planned.code), "{what}: {planned:?}");
    if planned.code == 0 && planned.json()["id"] == consent {
        return false;
    }
    let restored = form.rescue(root).restore(consent);
    assert!(![0, 1, 101, 130, -1].contains(&restored.code), "{what}: {restored:?}");
    assert!(restored.err.contains("State of your data: nothing on the box was changed."), "{what}: {restored:?}");
    assert_same(old, &live(root), what);
    true
}

/// Whether gzip itself finds nothing wrong with a file, and the same in it.
fn unzips_to(file: &Path, content: &[u8]) -> bool {
    let unzipped = std::process::Command::new("gzip").args(["--decompress", "--stdout"]).arg(file).output().unwrap();
    unzipped.status.success() && unzipped.stdout == content
}

#[test]
fn a_flipped_bit_or_a_cut_in_any_form_of_backup_is_noticed_or_has_no_meaning() {
    if !is_root() {
        eprintln!("SKIPPED: root is needed to restore owners");
        return;
    }
    let (flips, seed) = (number("LIFEBOAT_FLIPS", FLIPS), number("LIFEBOAT_SEED", 1));
    let folder = common::boxes::scratch();
    for form in forms(folder.path()) {
        let box_ = SmallBox::new();
        let old = live(&box_.root);
        let plan = form.rescue(&box_.root).plan().ends(0).json();
        let consent = plan["id"].as_str().unwrap();
        let mut numbers = Numbers(seed as u64);
        let (mut noticed, mut without_meaning) = (0, Vec::new());
        for round in 0..flips + flips / 10 {
            let files = form.files(round);
            let total: usize = files.iter().map(|(_, length)| length).sum();
            let mut at = numbers.below(total);
            let (file, at) = files
                .iter()
                .find_map(|(file, length)| {
                    if at < *length {
                        return Some((file, at));
                    }
                    at -= length;
                    None
                })
                .unwrap();
            let whole = fs::read(file).unwrap();
            let name = file.file_name().unwrap().to_string_lossy().into_owned();
            let what = if round < flips {
                let bit = numbers.below(8);
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                fs::write(file, bytes).unwrap();
                format!("{}: bit {bit} of byte {at} of {name}", form.name)
            } else {
                fs::write(file, &whole[..at]).unwrap();
                format!("{}: {name} cut at byte {at}", form.name)
            };
            match is_noticed(&form, &box_.root, &old, consent, &what) {
                true => noticed += 1,
                false => without_meaning.push((name, what, form.name == "tar.gz" && unzips_to(file, &tar()))),
            }
            fs::write(file, whole).unwrap();
        }
        println!(
            "{}: {noticed} of {} noticed (seed {seed}), {} without meaning",
            form.name,
            flips + flips / 10,
            without_meaning.len()
        );
        for (name, what, same) in &without_meaning {
            let allowed = match form.name {
                // Time and operating system in the header, bits that fill up the last byte, and which of two equal
                // places is repeated.
                "tar.gz" => *same,
                // Whether a frame has a checksum of its own, and the checksum, are the frame's.
                "tar.zst" | "tar" => false,
                // What is only a hint, and objects that a later one replaced.
                _ => !name.is_empty(),
            };
            assert!(allowed, "{what} was not noticed");
        }
        assert!(noticed * 2 > flips, "{}: {noticed} of {flips}", form.name);
        // The consent still holds for the whole backup: the refusals above were about the damage.
        form.rescue(&box_.root).restore(consent).ends(0);
        assert_eq!(fs::read(box_.root.join("var/lib/git/new.git/pack")).unwrap(), noise(11, 30_000), "{}", form.name);
    }
}

/// Whatever is wrong with Lifeboat's own records: either they are refused, or the end is a right one.
#[test]
fn a_flipped_bit_or_a_cut_in_lifeboats_own_state_never_ends_in_success_with_a_mixture() {
    if cannot_run() {
        return;
    }
    let (flips, seed) = (number("LIFEBOAT_FLIPS", FLIPS), number("LIFEBOAT_SEED", 1));
    let ends = Ends::new();
    let mut numbers = Numbers(seed as u64);
    let (mut refused, mut right) = (0, 0);
    for round in 0..flips + flips / 10 {
        let fresh = ends.scene.fresh();
        let fault = ["exchange.after:3:kill", "exchange.before:1:kill", "write.rename:9:kill"][round % 3];
        assert_eq!(ends.scene.restore(&fresh, Some(fault)).code, None);
        let own = fresh.join("var/lib/lifeboat/restores").join(&ends.scene.plan);
        let (journal, copy) = (own.join("journal"), own.join("journal-copy"));
        let own = [own.join("owners"), fresh.join("var/lib/lifeboat/interrupted")];
        let hit = [vec![journal.clone(), copy.clone()], vec![journal.clone()], vec![copy.clone()]]
            .into_iter()
            .chain(own.into_iter().map(|file| vec![file]))
            .filter(|files| files.iter().all(|file| fs::metadata(file).is_ok_and(|meta| meta.len() > 0)))
            .cycle()
            .nth(round / 3)
            .unwrap();
        let mut bytes = fs::read(&hit[0]).unwrap();
        let at = numbers.below(bytes.len());
        if round < flips {
            bytes[at] ^= 1 << numbers.below(8);
        } else {
            bytes.truncate(at);
        }
        hit.iter().for_each(|file| fs::write(file, &bytes).unwrap());
        let what = format!("{fault}, byte {at} of {hit:?}");
        let one_is_whole = hit == [journal] || hit == [copy];
        let before = common::boxes::live(&fresh);
        let status = ends.scene.on("status", &fresh, None);
        assert!(![None, Some(101)].contains(&status.code), "{what}: {status:?}");
        for command in ["resume", "undo"] {
            let run = ends.scene.on(command, &fresh, None);
            match run.code {
                Some(0) => {
                    let end = if command == "resume" { &ends.new_live } else { &ends.old_live };
                    assert_eq!(&common::boxes::live(&fresh), end, "{what}: {command} said it succeeded");
                    right += 1;
                }
                Some(code) => {
                    assert!(code != 101 && !run.stderr.is_empty(), "{what}: {run:?}");
                    // Half staged, it cannot go on without the backup, damaged or not.
                    let allowed = command == "resume" && fault.starts_with("write") && code == 18;
                    assert!(allowed || !one_is_whole, "{what}: {command} was refused: {run:?}");
                    let now = common::boxes::live(&fresh);
                    assert!(
                        now == before || now == ends.old_live || now == ends.new_live,
                        "{what}: {command}: {run:?}"
                    );
                    refused += 1;
                }
                None => panic!("{what}: {command} was killed"),
            }
            if run.code == Some(0) {
                break;
            }
        }
    }
    println!("Lifeboat's state: {} changes (seed {seed}), {refused} refusals, {right} right ends", flips + flips / 10);
    assert!(refused > 0 && right > 0);
}
