//! Damaged backups: every flipped bit and every cut is found before anything that lives on the box changes.

#![allow(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used, reason = "this is test code")]
#![allow(missing_docs, reason = "names of tests are sentences")]

mod common;

use common::archives::{RawTar, gzip, is_root, put};
use common::rescue::{Numbers, Rescue, SmallBox, Tree, assert_same, manifest, tree_without};
use std::path::Path;

const OWN: [&str; 1] = ["var/lib/lifeboat"];

/// A backup with text and with bytes that do not pack.
fn backup() -> Vec<u8> {
    let mut numbers = Numbers(11);
    let noise: Vec<u8> = (0..30_000).map(|_| numbers.below(256) as u8).collect();
    let json = manifest(&[
        ("tiddlywiki", 1, &["/var/lib/tiddlywiki"], &[]),
        ("gitweb", 4, &["/var/lib/git"], &[]),
        ("sharing", 4, &[], &["/etc/apache2/conf-available/sharing-freedombox.conf"]),
    ]);
    let tar = RawTar::new()
        .dir("var/lib/tiddlywiki")
        .file("var/lib/tiddlywiki/new.html", "<html>new</html>\n".repeat(3000).as_bytes())
        .dir("var/lib/git")
        .dir("var/lib/git/new.git")
        .file("var/lib/git/new.git/pack", &noise)
        .hardlink("var/lib/git/new.git/again", "var/lib/git/new.git/pack")
        .symlink("var/lib/git/new.git/link", "/etc/localtime")
        .file("etc/apache2/conf-available/sharing-freedombox.conf", b"# new\n")
        .manifest(&json);
    gzip(&tar.end())
}

/// The box outside of Lifeboat's own directory; the directory above it changes its time when it is made.
fn live(root: &Path) -> Tree {
    let mut live = tree_without(root, &OWN);
    live.get_mut(Path::new("var/lib")).unwrap().mtime = (0, 0);
    live
}

/// Runs `plan` and `restore` with a damaged backup and the consent to the whole one's plan. Says which of the two, if
/// any, found nothing wrong; that is right only where the content is the same.
fn is_found(box_: &SmallBox, old: &Tree, file: &Path, consent: &str, what: &str) -> bool {
    let rescue = Rescue::new(file, &box_.root);
    let planned = rescue.plan();
    let same = planned.code == 0 && planned.json()["id"] == consent;
    // Some damage leaves whole apps: a plan for them is another plan, with another id, which nobody agreed to.
    if planned.code == 0 && !same {
        let plan = planned.json();
        let lost = plan["apps"].as_array().unwrap().iter().any(|app| app["road"] == "blocked");
        assert!(lost || plan["warnings"].as_array().is_some_and(|list| !list.is_empty()), "{what}: {plan}");
    }
    if same {
        return false;
    }
    let restored = rescue.restore(consent);
    assert!(![0, 1, 130, -1].contains(&restored.code), "{what}: {restored:?}");
    assert!(restored.err.contains("State of your data: nothing on the box was changed."), "{what}: {restored:?}");
    assert_same(old, &live(&box_.root), what);
    true
}

#[test]
fn two_hundred_flipped_bits_and_fifty_cuts_change_nothing_that_lives() {
    if !is_root() {
        eprintln!("SKIPPED: root is needed to restore owners");
        return;
    }
    let box_ = SmallBox::new();
    let whole = backup();
    let file = put(box_.folder.path(), "backup.tar.gz", &whole);
    let old = live(&box_.root);
    let plan = Rescue::new(&file, &box_.root).plan().ends(0).json();
    let consent = plan["id"].as_str().unwrap();
    let mut numbers = Numbers(2026);
    let (mut found, mut without_meaning) = (0, Vec::new());
    for round in 0..200 {
        let (at, bit) = (numbers.below(whole.len()), numbers.below(8));
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << bit;
        let name = format!("flip {round}: bit {bit} of byte {at}");
        std::fs::write(&file, &bytes).unwrap();
        match is_found(&box_, &old, &file, consent, &name) {
            true => found += 1,
            false => without_meaning.push(at),
        }
    }
    // Time, extra flags and operating system in the gzip header (RFC 1952, 2.3) say nothing about the content.
    assert!(without_meaning.iter().all(|at| (4..10).contains(at)), "{without_meaning:?}");
    for round in 0..50 {
        let at = match round {
            // The last bytes hold the checksum.
            0..8 => whole.len() - 1 - round,
            _ => numbers.below(whole.len()),
        };
        std::fs::write(&file, &whole[..at]).unwrap();
        assert!(is_found(&box_, &old, &file, consent, &format!("cut at byte {at}")), "cut at byte {at}");
        found += 1;
    }
    println!("{found} of 250 found, {} flips without meaning", without_meaning.len());
    assert_eq!(found + without_meaning.len(), 250);
    // The consent still holds for the whole backup: the refusals above were about the damage.
    std::fs::write(&file, &whole).unwrap();
    Rescue::new(&file, &box_.root).restore(consent).ends(0);
    assert!(box_.root.join("var/lib/git/new.git/pack").exists());
}
