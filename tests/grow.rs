//! More room on a box that was never started: its root partition and filesystem become as large as the disk, a power cut
//! at any point leaves a disk that the kernel reads, and where anything is unsure nothing is written.

#![allow(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used, reason = "this is test code")]
#![allow(missing_docs, reason = "names of tests are sentences")]

mod common;

use common::disks::{self, Loop, sh};
use common::rescue::{LIFEBOAT, Run, SmallBox, Tree, assert_same, tree_without};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

const MIB: u64 = 1 << 20;
/// Where the root partition begins, how long it is in the image, and how long the disk is that the image is written to.
const START: u64 = 32;
const ROOT: u64 = 128;
const DISK: u64 = 320;

const EXT4: &str = "mkfs.ext4 -q";
const BTRFS: &str = "mkfs.btrfs -q";
const TOOLS: [&str; 6] = ["mkfs.ext4", "mkfs.btrfs", "e2fsck", "resize2fs", "btrfs", "sfdisk"];

/// One at a time: the kernel does not mount two btrfs of the same name at once.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unable() -> bool {
    match disks::cannot_mount(&TOOLS) {
        Some(why) => eprintln!("SKIPPED: {why}"),
        None if !cfg!(feature = "faults") => eprintln!("SKIPPED: the program has no fault points"),
        None => return false,
    }
    true
}

/// The root filesystem of such a box, made once.
fn root_filesystem(make: &str) -> PathBuf {
    static MADE: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    let name = format!("grow-{}.img", make.split(' ').next().unwrap());
    let image = || {
        disks::filesystem(&Path::new(env!("CARGO_TARGET_TMPDIR")).join(name), ROOT, make, "", |root| {
            SmallBox::fill(root);
            // Its first start makes it.
            fs::remove_dir_all(root.join("var/lib/plinth")).unwrap();
            // Left by an earlier look; so the time of its parent stays.
            fs::create_dir_all(root.join("var/lib/lifeboat")).unwrap();
        })
    };
    made.entry(make.to_owned()).or_insert_with(image).clone()
}

/// A disk to which the image of a box was written that was never started.
struct Card {
    folder: tempfile::TempDir,
    image: PathBuf,
    sector_size: u32,
}

impl Card {
    fn new(table: &str, sector_size: u32, make: &str) -> Card {
        Self::new_with_parts(table, sector_size, make, &format!("start={START}MiB, size={ROOT}MiB"))
    }

    /// `parts` is the line of the root partition and whatever comes after it; `more` adds to its files.
    fn with(table: &str, sector_size: u32, make: &str, parts: &str, more: impl FnOnce(&Path)) -> Card {
        let card = Card::new_with_parts(table, sector_size, make, parts);
        let point = disks::Kernel::mount(&card.image, &format!("loop,offset={}", START * MIB));
        more(point.path());
        drop(point);
        disks::wait_for_loops(&card.image);
        card
    }

    fn new_with_parts(table: &str, sector_size: u32, make: &str, parts: &str) -> Card {
        let folder = tempfile::Builder::new().prefix("lifeboat-").rand_bytes(8).tempdir_in("/tmp").unwrap();
        let part = root_filesystem(make);
        let image = disks::blank(&folder.path().join("box.img"), START + ROOT + 2);
        let script = format!("label: {table}\nstart=1MiB, size=16MiB\n{parts}\n");
        if parts.contains("start=170MiB") {
            disks::blank(&image, DISK);
        }
        disks::sfdisk(&image, sector_size, &script);
        disks::blank_to(&image, DISK);
        sh(&format!(
            "dd if='{}' of='{}' bs=1M seek={START} conv=notrunc,sparse status=none",
            part.display(),
            image.display()
        ));
        Card { folder, image, sector_size }
    }

    fn grow(&self, more: &[&str], fault: Option<&str>) -> Run {
        grow(&self.image, more, fault)
    }

    /// The id that is shown.
    #[track_caller]
    fn id(&self) -> String {
        let run = self.grow(&["--json"], None);
        assert_eq!(run.code, 0, "{run:?}");
        run.json()["id"].as_str().unwrap().to_owned()
    }

    /// The files on it, without Lifeboat's own.
    fn files(&self) -> Tree {
        let attached = Loop::new(&self.image, &format!("--read-only --offset {}", START * MIB));
        let point = self.folder.path().join("point");
        fs::create_dir_all(&point).unwrap();
        sh(&format!("mount -o ro '{}' '{}'", attached.path().display(), point.display()));
        let files = tree_without(&point, &["var/lib/lifeboat", "lost+found"]);
        // A program that another test is just starting holds copies of open files for a moment.
        let unmounted = (0..100).any(|_| {
            let done = Command::new("/bin/umount").arg(&point).stderr(Stdio::null()).status().unwrap().success();
            if !done {
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
            done
        });
        assert!(unmounted, "{} is busy", point.display());
        files
    }

    /// What the partition table says of the root partition: first and length in bytes, UUID.
    fn root(&self) -> (u64, u64, String) {
        let json = disks::sfdisk_json(&self.image, self.sector_size);
        let part = &json["partitiontable"]["partitions"][1];
        let bytes = |field: &str| part[field].as_u64().unwrap() * u64::from(self.sector_size);
        let uuid = part["uuid"].as_str().unwrap_or("none").to_owned();
        (bytes("start"), bytes("size"), uuid)
    }

    /// Length of the root partition in MiB by the primary table alone: the kernel looks at no other.
    fn by_primary_table(&self) -> u64 {
        let alone = self.folder.path().join("alone.img");
        copy(&self.image, &alone);
        for end in [DISK, START + ROOT + 2] {
            disks::poke(&alone, end * MIB - u64::from(self.sector_size), &[0; 512]);
        }
        let json = disks::sfdisk_json(&alone, self.sector_size);
        let sectors = json["partitiontable"]["partitions"][1]["size"].as_u64().unwrap();
        sectors * u64::from(self.sector_size) / MIB
    }

    /// Whether it is as it was when it was copied.
    fn is_like(&self, other: &Path) -> bool {
        Command::new("/usr/bin/cmp").arg("-s").arg(&self.image).arg(other).status().unwrap().success()
    }

    /// A copy to compare with.
    fn copied(&self) -> PathBuf {
        let path = self.folder.path().join("before.img");
        copy(&self.image, &path);
        path
    }

    /// Everything that is promised of a box that has its room.
    #[track_caller]
    fn is_grown(&self, before: &Tree, kind: &str, what: &str) {
        let (start, size, _) = self.root();
        assert_eq!(start, START * MIB, "{what}");
        assert!(size > (DISK - START - 3) * MIB, "{what}: {size}");
        assert_eq!(self.by_primary_table(), size / MIB, "{what}");
        disks::wait_for_loops(&self.image);
        let attached = Loop::new(&self.image, &format!("--offset {start} --sizelimit {size}"));
        let node = attached.path().display();
        let length: u64 = match kind {
            EXT4 => {
                sh(&format!("e2fsck -fn '{node}'"));
                let read = sh(&format!("dumpe2fs -h '{node}' 2>&1"));
                let field = |name: &str| {
                    let line = read.lines().find(|line| line.starts_with(name)).unwrap();
                    line.split_whitespace().last().unwrap().parse::<u64>().unwrap()
                };
                field("Block count:") * field("Block size:")
            }
            _ => {
                sh(&format!("btrfs check --readonly '{node}' 2>&1"));
                let read = sh(&format!("btrfs inspect-internal dump-super '{node}'"));
                let line = read.lines().find(|line| line.starts_with("total_bytes")).unwrap();
                line.split_whitespace().last().unwrap().parse().unwrap()
            }
        };
        drop(attached);
        assert!(length <= size && length + 4 * MIB > size, "{what}: {length} of {size}");
        assert_same(before, &self.files(), what);
        let again = self.grow(&[], None);
        assert_eq!(again.code, 17, "{what}: {again:?}");
        assert!(again.err.contains("there is no free room behind"), "{what}: {again:?}");
    }
}

fn copy(from: &Path, to: &Path) {
    sh(&format!("cp --sparse=always '{}' '{}'", from.display(), to.display()));
}

fn grow(onto: &Path, more: &[&str], fault: Option<&str>) -> Run {
    let mut command = Command::new(LIFEBOAT);
    command.args(["grow", "--onto"]).arg(onto).args(more).stdin(Stdio::null()).env("LANG", "C");
    fault.map(|fault| command.env("LIFEBOAT_FAULT", fault));
    command.output().unwrap().into()
}

#[test]
fn a_box_that_was_never_started_gets_all_of_its_disk() {
    if unable() {
        return;
    }
    let _alone = alone();
    for (table, sector_size, kind) in
        [("gpt", 512, EXT4), ("gpt", 512, BTRFS), ("dos", 512, EXT4), ("dos", 512, BTRFS), ("gpt", 4096, EXT4)]
    {
        let what = format!("{table} {sector_size} {kind}");
        let card = Card::new(table, sector_size, kind);
        let (before, copied, uuid) = (card.files(), card.copied(), card.root().2);
        let shown = card.grow(&["--json"], None);
        assert_eq!(shown.code, 0, "{what}: {shown:?}");
        assert!(card.is_like(&copied), "{what}: looking wrote something");
        let shown = shown.json();
        assert_eq!((&shown["state"], &shown["partition"]), (&"possible".into(), &2.into()), "{what}: {shown}");
        let done = card.grow(&["--consent", &card.id()], None);
        assert_eq!(done.code, 0, "{what}: {done:?}");
        card.is_grown(&before, kind, &what);
        assert_eq!(card.root().2, uuid, "{what}: the partition has another name");
    }
}

/// Ends what a killed run left: its mounts.
fn clear(image: &Path) {
    let loops = disks::run("losetup", &["-nO".as_ref(), "NAME".as_ref(), "-j".as_ref(), image.as_os_str()]);
    for node in loops.lines() {
        let _ = Command::new("/bin/umount").arg(node.trim()).stderr(Stdio::null()).status();
    }
    disks::wait_for_loops(image);
}

#[test]
fn after_a_power_cut_at_any_step_the_disk_is_readable_and_the_same_command_goes_on() {
    if unable() {
        return;
    }
    let _alone = alone();
    for (table, kind) in [("gpt", EXT4), ("dos", BTRFS)] {
        let mut card = Card::new(table, 512, kind);
        let (before, id) = (card.files(), card.id());
        let whole = card.folder.path().join("whole.img");
        fs::rename(&card.image, &whole).unwrap();
        let writes = if table == "gpt" { 6 } else { 1 };
        let mut points: Vec<String> =
            ["grow.begun:1", "grow.table:1", "grow.filesystem:1", "write.rename:1", "write.rename:2"]
                .map(str::to_owned)
                .into_iter()
                .chain((1..=writes).flat_map(|n| [format!("patch.write:{n}"), format!("patch.written:{n}")]))
                .collect();
        if kind == EXT4 {
            points.push("grow.unmounted:1".to_owned());
        }
        for point in points {
            let what = format!("{table} {point}");
            let first = card.folder.path().join("first.img");
            copy(&whole, &first);
            let cut = grow(&first, &["--consent", &id], Some(&format!("{point}:kill")));
            // Where the kernel makes it longer while it is mounted, the other way is not gone.
            let is_cut = cut.code == -1 || (cut.code == 0 && point.starts_with("grow.unmounted"));
            assert!(is_cut, "{what}: it was not cut off: {cut:?}");
            // What is on the disk at this moment, not what an unmount writes.
            let image = card.folder.path().join("cut.img");
            copy(&first, &image);
            clear(&first);
            card.image = image;
            let seen = card.by_primary_table();
            assert!(seen == ROOT || seen > DISK - START - 3, "{what}: {seen}");
            // Looking still says what is there to do, under the same id.
            let done = card.grow(&["--consent", &id], None);
            // With the last record written, nothing was left to do.
            if done.code == 17 {
                let last = ["write.rename:2", "grow.filesystem:1", "grow.unmounted:1"];
                let is_last = last.contains(&point.as_str()) && done.err.contains("no free room");
                assert!(is_last, "{what}: {done:?}");
            } else {
                assert_eq!(done.code, 0, "{what}: {done:?}");
            }
            card.is_grown(&before, kind, &what);
        }
    }
}

#[test]
fn a_failing_disk_is_told_and_the_same_command_goes_on() {
    if unable() {
        return;
    }
    let _alone = alone();
    let card = Card::new("gpt", 512, EXT4);
    let (before, id) = (card.files(), card.id());
    for point in ["patch.write:4:eio", "grow.filesystem:1:eio", "write.sync:1:enospc"] {
        let run = card.grow(&["--consent", &id], Some(point));
        assert_eq!(run.code, 18, "{point}: {run:?}");
        assert!(run.err.contains("goes on where it stopped"), "{point}: {run:?}");
    }
    assert_eq!(card.grow(&["--consent", &id], None).code, 0);
    card.is_grown(&before, EXT4, "after three failures");
}

/// Runs debugfs on the root filesystem of a card.
fn debugfs(card: &Card, command: &str) {
    let attached = Loop::new(&card.image, &format!("--offset {} --sizelimit {}", START * MIB, ROOT * MIB));
    sh(&format!("debugfs -w -R '{command}' '{}' 2>&1", attached.path().display()));
    drop(attached);
    disks::wait_for_loops(&card.image);
}

#[test]
fn where_anything_is_unsure_the_disk_is_left_as_it_is() {
    if unable() {
        return;
    }
    let _alone = alone();
    let root = format!("start={START}MiB, size={ROOT}MiB");
    let filled = |more: &dyn Fn(&Path)| Card::with("gpt", 512, EXT4, &root, more);
    let plain = || Card::new("gpt", 512, EXT4);
    let behind =
        |kind: &str| Card::new_with_parts("gpt", 512, EXT4, &format!("{root}\nstart=170MiB, size=8MiB, {kind}"));
    let logical = "start=20MiB, size=230MiB, type=5\nstart=32MiB, size=128MiB";
    let cases: Vec<(&str, Card, &str)> = vec![
        ("swap behind it", behind("type=0657FD6D-A4AB-43C4-84E5-0933C84B4F4F"), "partition 3 lies behind it"),
        (
            "a logical partition",
            Card::new_with_parts("dos", 512, EXT4, &format!("{logical}\n# start=170MiB")),
            "extended",
        ),
        (
            "it was started",
            filled(&|root| {
                fs::create_dir_all(root.join("var/lib/plinth")).unwrap();
                disks::database(&root.join("var/lib/plinth/plinth.sqlite3"), "plinth");
            }),
            "the box was started before",
        ),
        (
            "a backup on the box",
            filled(&|root| disks::repository(&root.join("var/lib/freedombox/borgbackup"), &"ab".repeat(32))),
            "lies on the target itself",
        ),
        ("a filesystem with an error mark", plain(), "is marked as damaged"),
        ("errors in the filesystem", plain(), "has errors"),
        ("a damaged table", plain(), "partition table is damaged"),
        ("LUKS", plain(), "no FreedomBox is installed"),
        ("another kind", Card::new("gpt", 512, "mkfs.ext3 -q"), "cannot be made larger here (ext3)"),
    ];
    for (what, card, said) in cases {
        match what {
            "a filesystem with an error mark" => debugfs(&card, "ssv state 2"),
            "errors in the filesystem" => debugfs(&card, "sif /etc links_count 77"),
            // The entries of the primary table.
            "a damaged table" => disks::poke(&card.image, 1024 + 128, &[1; 8]),
            "LUKS" => disks::poke(&card.image, START * MIB, b"LUKS\xba\xbe\x00\x02"),
            _ => {}
        }
        if what == "LUKS" {
            disks::poke(&card.image, START * MIB + 1024 + 56, &[0; 2]);
        }
        let copied = card.copied();
        let mut run = card.grow(&["--json"], None);
        if run.code == 0 {
            // What only the checker finds is found before anything is written.
            run = card.grow(&["--consent", run.json()["id"].as_str().unwrap()], None);
        }
        assert_eq!(run.code, 17, "{what}: {run:?}");
        let said_all = run.err.replace("\n  ", " ");
        assert!(said_all.contains(said), "{what}: {run:?}");
        assert!(said_all.contains("nothing on the box was changed"), "{what}: {run:?}");
        assert!(card.is_like(&copied), "{what}: something was written");
    }
    let card = Card::new("gpt", 512, EXT4);
    let copied = card.copied();
    let run = card.grow(&["--consent", "0123456789abcdef"], None);
    assert_eq!(run.code, 2, "{run:?}");
    assert!(card.is_like(&copied));
    let run = grow(card.folder.path(), &[], None);
    assert_eq!(run.code, 17, "{run:?}");
}

/// Walks through the guide in plain lines.
fn walk(folder: &Path, program: &Path, answers: &str) -> Run {
    use std::io::Write as _;
    let mut command = Command::new(program);
    command.args(["guide", "--plain", "--language", "en", "--image", "box.img", "--root", "drive"]).current_dir(folder);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).env_remove("TERM").spawn().unwrap();
    // A program that ends early does not listen.
    let _ = child.stdin.take().unwrap().write_all(answers.as_bytes());
    child.wait_with_output().unwrap().into()
}

#[test]
fn the_guide_offers_the_room_of_the_disk_and_the_restore_fits_then() {
    if unable() {
        return;
    }
    let _alone = alone();
    let card = Card::with("dos", 512, EXT4, &format!("start={START}MiB, size={ROOT}MiB"), |root| {
        sh(&format!("head -c 60M /dev/zero >'{}'", root.join("srv-filler").display()));
    });
    let folder = card.folder.path();
    let program = common::rescue::program_on_medium(folder);
    let json = common::rescue::manifest(&[("tiddlywiki", 1, &["/var/lib/tiddlywiki"], &[])]);
    let data = common::repositories::noise(7, 40 << 20);
    let tar = common::archives::RawTar::new().manifest(&json).dir("var/lib/tiddlywiki");
    let backup = common::archives::gzip(&tar.file("var/lib/tiddlywiki/data", &data).end());
    fs::create_dir(folder.join("drive")).unwrap();
    common::archives::put(&folder.join("drive"), "backup.tar.gz", &backup);
    let before = card.files();
    // Without it, nothing fits; going back changes nothing, and a wrong name does not agree.
    let copied = card.copied();
    let run = walk(folder, &program, "1\n1\n1\n1\n1\nanother\nb\n1\nb\nq\n");
    assert_eq!(run.code, 14, "{run:?}");
    assert!(run.out.contains("[no-space]") && run.out.contains("[consent-grow]"), "{run:?}");
    assert!(card.is_like(&copied), "asking wrote something");
    // How much is missing depends on the version of mkfs.
    let missing = run.out.split(" more free space").next().unwrap().lines().last().unwrap().to_owned();
    let out = run.out.replace(&format!("{missing} more"), "SIZE more");
    common::transcript::looks(folder, "grow", &Run { out, ..run });
    let run = walk(folder, &program, "1\n1\n1\n1\n1\nfreedombox\n\n\nfreedombox\n");
    assert_eq!(run.code, 0, "{run:?}");
    let afterwards = run.out.split("The root filesystem of").nth(1).unwrap();
    assert!(!afterwards.contains("Nothing has been changed so far"), "{run:?}");
    let (start, size, _) = card.root();
    assert!(start == START * MIB && size > (DISK - START - 3) * MIB);
    let after = card.files();
    assert!(after.len() >= before.len());
    let point = disks::Kernel::mount(&card.image, &format!("loop,ro,offset={start}"));
    let kept = |name: &str| fs::metadata(point.path().join(name)).map(|meta| meta.len()).unwrap_or(0);
    assert!(kept("var/lib/lifeboat/growth.json") > 100, "nothing is kept of it on the box");
    let is_restored =
        [kept("var/lib/tiddlywiki/data"), kept("var/lib/lifeboat/parked/tiddlywiki/var/lib/tiddlywiki/data")];
    assert!(is_restored.contains(&(40 << 20)), "{is_restored:?}");
    for said in ["give the box the rest of its disk", "The box was never started", "This changes the box's disk"] {
        assert!(run.out.replace("\n  ", " ").contains(said), "{said}: {run:?}");
    }
    for line in run.out.lines().map(|line| line.trim_start_matches("> ")) {
        assert!(line.chars().count() <= 80 || !line.trim().contains(' '), "a line of {}: {line}", line.len());
    }
    assert!(!run.out.contains('\x1b'));
}
