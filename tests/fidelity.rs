//! What a restore puts onto a box is what GNU tar, run by root of that box, takes out of the same archive.
//!
//! The differences on purpose, all of them:
//! - A name that the box does not have: GNU tar uses the archive's number, which may be somebody else here. Lifeboat
//!   uses root, and the number only below `var/lib/private`, where systemd gives directories to their service.
//! - FreedomBox's own drop-in files: not restored, the box keeps those of its own version.
//! - Directories above what an archive holds: root's and 0755 in both, with the time of the restore.
//! - Times count in whole seconds here: the form of FreedomBox's downloads has no more.
//! - Paths that Lifeboat's manifests do not know for the app: not restored, and named in the plan.
//! - Apps that have to be installed first: below `var/lib/lifeboat/parked`.

#![allow(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used, reason = "this is test code")]
#![allow(missing_docs, reason = "names of tests are sentences")]

mod common;

use common::disks;

use common::archives::{RawTar, fixtures, gzip, is_root, put};
use common::rescue::*;
use lifeboat::model::digest::Sha256Digest;
use lifeboat::model::manifest as known;
use lifeboat::model::path::RelPath;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Whether the test can run; says why not.
fn can_run(tools: &[&str]) -> bool {
    if !is_root() {
        eprintln!("SKIPPED: root is needed to restore owners");
        return false;
    }
    match disks::lacks(tools) {
        Some(why) => {
            eprintln!("SKIPPED: {why}");
            false
        }
        None => true,
    }
}

/// Extracts with GNU tar as root of the box: with the box's users and groups in the place of this machine's.
fn gnu_tar_on_box(archive: &Path, box_: &Path, into: &Path, options: &[&str]) -> bool {
    let script = "mount --bind \"$1/etc/passwd\" /etc/passwd && mount --bind \"$1/etc/group\" /etc/group || exit 99
        cd \"$2\" && archive=$3 && shift 3 && exec tar -x -p --same-owner --force-local \"$@\" -f \"$archive\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).args([box_, into, archive]).args(options);
    let output = command.env("LC_ALL", "C").output().unwrap();
    if output.status.code() == Some(99) || output.stderr.starts_with(b"unshare") {
        eprintln!("SKIPPED: this machine allows no mounts of its own: {}", String::from_utf8_lossy(&output.stderr));
        return false;
    }
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    true
}

/// Numbers and names of an `etc/passwd` or `etc/group`.
fn names(table: &Path) -> BTreeMap<u32, String> {
    let text = fs::read_to_string(table).unwrap();
    text.lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .map(|fields| (fields[2].parse().unwrap(), fields[0].to_owned()))
        .collect()
}

/// One step of a plan.
struct Step {
    app: String,
    source: PathBuf,
    place: PathBuf,
    destination: PathBuf,
    carried: BTreeSet<PathBuf>,
}

fn steps(plan: &Value) -> Vec<Step> {
    let list = plan["steps"].as_array().unwrap().iter().filter(|step| step["action"] != "set-aside");
    list.map(|step| {
        let (app, destination) = (step["app"].as_str().unwrap(), unescaped(step["destination"].as_str().unwrap()));
        let place = match step["action"].as_str().unwrap() {
            "exchange" => destination.clone(),
            "park" => Path::new("var/lib/lifeboat/parked").join(app).join(&destination),
            other => panic!("unknown action {other}"),
        };
        let carried = step["carried"].as_array().unwrap().iter().map(|path| unescaped(path.as_str().unwrap()));
        let (source, carried) = (unescaped(step["source"].as_str().unwrap()), carried.collect());
        Step { app: app.to_owned(), source, place, destination, carried }
    })
    .collect()
}

fn rel(path: &Path) -> RelPath {
    RelPath::parse(path.as_os_str().as_bytes()).unwrap()
}

/// The tree with all paths below `from`, named relative to it.
fn below(tree: &Tree, from: &Path) -> Tree {
    let at = |path: &PathBuf| path.strip_prefix(from).ok().map(Path::to_owned);
    tree.iter().filter_map(|(path, node)| Some((at(path)?, node.clone()))).collect()
}

/// Compares every path of a plan's steps with what GNU tar extracted, and the box's tree before the restore. Returns
/// how many paths were compared.
fn assert_as_extracted(plan: &Value, extracted: &Tree, before: &Tree, root: &Path, archive: &Path) -> usize {
    let after = tree(root);
    let unknown = unknown_owners(archive, root);
    let mut compared = 0;
    for step in steps(plan) {
        let mut expected = below(extracted, &step.source);
        let drop_in = |path: &Path, node: &Node| {
            node.target.as_ref().is_some_and(|target| target.as_bytes().starts_with(b"/usr/share/freedombox/"))
                || known::is_dropin(&rel(&step.source.join(path)))
        };
        expected.retain(|path, node| !drop_in(path, node));
        for path in &step.carried {
            expected.insert(path.strip_prefix(&step.destination).unwrap().to_owned(), before[path].clone());
        }
        let found = below(&after, &step.place);
        let paths = |tree: &Tree| tree.keys().cloned().collect::<BTreeSet<_>>();
        assert_eq!(paths(&expected), paths(&found), "{}: the names at {}", step.app, step.place.display());
        for (path, wanted) in &expected {
            let mut wanted = wanted.clone();
            let mut got = found[path].clone();
            let archived = step.source.join(path);
            let private = step.destination.starts_with("var/lib/private");
            if let Some((user, group)) = unknown.get(&archived).filter(|_| !private) {
                wanted.uid = if *user { 0 } else { wanted.uid };
                wanted.gid = if *group { 0 } else { wanted.gid };
            }
            // A directory that the archive does not hold has the time of its making.
            let listed = unknown.contains_key(&archived) || step.carried.contains(&step.destination.join(path));
            (wanted.mtime.1, got.mtime.1) = (0, 0);
            if !listed && wanted.kind == 'd' {
                (wanted.mtime, got.mtime) = ((0, 0), (0, 0));
            }
            // The first name of a hard-linked file, as seen from the step.
            let first = |node: &Node, from: &Path| {
                node.same_as.as_ref().map(|name| rel(name).relative_to(&rel(from)).map(<[u8]>::to_vec))
            };
            assert_eq!(first(&wanted, &step.source), first(&got, &step.place), "{}: other names", archived.display());
            (wanted.same_as, got.same_as) = (None, None);
            assert_eq!(wanted, got, "{}: {}", step.app, archived.display());
            compared += 1;
        }
    }
    compared
}

/// For every path of an archive, whether the box lacks the name of its user and of its group.
fn unknown_owners(archive: &Path, root: &Path) -> BTreeMap<PathBuf, (bool, bool)> {
    let (entries, _) = common::archives::collect(&mut *lifeboat::source::open(archive).unwrap()).unwrap();
    let lists = [names(&root.join("etc/passwd")), names(&root.join("etc/group"))];
    let lacks = |list: usize, name: &Option<Vec<u8>>| {
        name.as_ref().is_some_and(|name| {
            !name.is_empty() && !lists[list].values().any(|known| known.as_bytes() == name.as_slice())
        })
    };
    let of = |owner: &lifeboat::model::entry::Owner| (lacks(0, &owner.user), lacks(1, &owner.group));
    entries
        .iter()
        .map(|(entry, _)| (PathBuf::from(OsStr::from_bytes(entry.path.as_bytes())), of(&entry.owner)))
        .collect()
}

/// What `truth.json` says of files must hold where the app's data is now.
fn assert_truth(truth: &Value, plan: &Value, root: &Path) -> usize {
    let (users, groups) = (names(&root.join("etc/passwd")), names(&root.join("etc/group")));
    let steps = steps(plan);
    let mut held = 0;
    for (app, facts) in truth["facts"].as_object().unwrap() {
        for fact in facts.as_array().unwrap().iter().filter(|fact| fact["kind"] == "file") {
            let path = Path::new(fact["path"].as_str().unwrap().trim_start_matches('/'));
            let of = |step: &&Step| step.app == *app && path.starts_with(&step.source);
            let Some(step) = steps.iter().find(of) else { continue };
            let at = match path.strip_prefix(&step.source).unwrap() {
                rest if rest.as_os_str().is_empty() => root.join(&step.place),
                rest => root.join(&step.place).join(rest),
            };
            let meta = fs::symlink_metadata(&at).unwrap_or_else(|error| panic!("{}: {error}", at.display()));
            let digest = Sha256Digest::of(&fs::read(&at).unwrap()).to_string();
            assert_eq!(digest, fact["sha256"].as_str().unwrap(), "{}", path.display());
            let mode = format!("0o{:o}", std::os::unix::fs::MetadataExt::mode(&meta) & 0o7777);
            assert_eq!(mode, fact["mode"].as_str().unwrap(), "{}", path.display());
            let owner = |table: &BTreeMap<u32, String>, number: u32, wanted: &str| {
                let known = table.values().any(|name| name == wanted);
                let is = table.get(&number).map(String::as_str);
                // An owner that the box does not have yet is root until the app is installed.
                assert_eq!(is, Some(if known { wanted } else { "root" }), "{}", path.display());
            };
            owner(&users, std::os::unix::fs::MetadataExt::uid(&meta), fact["user"].as_str().unwrap());
            owner(&groups, std::os::unix::fs::MetadataExt::gid(&meta), fact["group"].as_str().unwrap());
            held += 1;
        }
    }
    held
}

/// Exports of a real FreedomBox, and a skeleton of a box's root.
fn restore_real_archives(skeleton: &str) {
    let Some(folder) = fixtures() else { return };
    if !can_run(&["unshare", "mount", "tar", "xz"]) {
        return;
    }
    let truth: Value = serde_json::from_slice(&fs::read(folder.join("truth.json")).unwrap()).unwrap();
    let exports: Value = serde_json::from_slice(&fs::read(folder.join("backups.json")).unwrap()).unwrap();
    let (mut held, mut plain) = (0, BTreeSet::new());
    for export in exports["exports"].as_array().unwrap() {
        let archive = folder.join(export["file"].as_str().unwrap());
        let work = tempfile::tempdir().unwrap();
        let (root, plainly) = (work.path().join("box"), work.path().join("extracted"));
        fs::create_dir(&root).unwrap();
        fs::create_dir(&plainly).unwrap();
        let skeleton = folder.join(skeleton);
        disks::run("tar", &["-xJpf".as_ref(), skeleton.as_os_str(), "-C".as_ref(), root.as_os_str()]);
        if !gnu_tar_on_box(&archive, &root, &plainly, &[]) {
            return;
        }
        let (before, extracted) = (tree(&root), tree(&plainly));
        let (plan, run) = Rescue::new(&archive, &root).carry_out();
        assert!([0, 1].contains(&run.code), "{run:?}");
        assert_eq!(run.code == 1, plan["apps"].as_array().unwrap().iter().any(|app| app["road"] == "blocked"));
        let compared = assert_as_extracted(&plan, &extracted, &before, &root, &archive);
        assert!(compared > 0);
        let done: BTreeSet<&str> =
            plan["steps"].as_array().unwrap().iter().map(|s| s["app"].as_str().unwrap()).collect();
        println!("{}: {compared} paths of {} apps are as GNU tar extracts them", archive.display(), done.len());
        held += assert_truth(&truth, &plan, &root);
        plain.extend(["radicale", "tiddlywiki", "featherwiki", "sharing"].into_iter().filter(|app| done.contains(app)));
    }
    assert_eq!(plain.len(), 4, "{plain:?}");
    assert!(held >= 30, "{held} facts of truth.json hold");
}

#[test]
fn real_archives_onto_a_box_that_ran_are_as_gnu_tar_extracts_them() {
    restore_real_archives("skeleton-first-booted.tar.xz");
}

#[test]
fn real_archives_onto_a_fresh_box_are_as_gnu_tar_extracts_them() {
    restore_real_archives("skeleton-never-booted.tar.xz");
}

/// The sample, checked by its own checker, which shares no code with Lifeboat; and again after `undo`.
fn restore_sample(args: &[&str], lost: bool) {
    if !can_run(&[]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let Some(sample) = sample(folder.path(), args) else { return };
    let before = tree(&sample.root());
    let (plan, run) = Rescue::new(&sample.backup(), &sample.root()).carry_out();
    assert_eq!(run.code, i32::from(lost), "{run:?}");
    assert_eq!(plan["blockers"].as_array().unwrap().len(), 0);
    let (right, lines) = sample.check(&sample.root());
    assert!(right, "{args:?}:\n{lines}");
    assert!(lines.lines().filter(|line| line.starts_with("PASS")).count() >= 14, "{lines}");
    let root = sample.root();
    lifeboat(&["undo".as_ref(), "--onto".as_ref(), root.as_os_str()]).ends(0);
    let without_times = |mut tree: Tree| {
        tree.retain(|path, _| !path.starts_with("var/lib/lifeboat"));
        // Directories in which names were exchanged have a new time; nothing else may.
        tree.values_mut().filter(|node| node.kind == 'd').for_each(|node| node.mtime = (0, 0));
        tree
    };
    assert_same(&without_times(before), &without_times(tree(&root)), "undo");
}

#[test]
fn every_app_of_the_sample_is_restored_in_every_seed() {
    for seed in ["1", "2", "77"] {
        restore_sample(&["--seed", seed, "--size", "2"], false);
    }
}

#[test]
fn the_sample_is_restored_onto_a_box_that_never_ran() {
    restore_sample(&["--never-booted"], false);
}

#[test]
fn an_older_box_gets_only_what_it_can_use_and_the_rest_is_told() {
    restore_sample(&["--box", "23.6.2"], true);
}

#[test]
fn a_newer_box_gets_moved_data_at_its_new_place() {
    restore_sample(&["--box", "26.15"], false);
    restore_sample(&["--box", "26.15", "--never-booted"], false);
}

#[test]
fn a_restore_onto_an_image_of_a_disk_is_the_same_as_onto_a_directory() {
    let needed = ["mkfs.ext4", "mkfs.btrfs", "mkfs.vfat", "sfdisk", "losetup", "mcopy", "python3"];
    if let Some(why) = disks::cannot_mount(&needed) {
        eprintln!("SKIPPED: {why}");
        return;
    }
    for (filesystem, uuid) in
        [("ext4", "5b1e7a60-0000-4000-8000-00000000f001"), ("btrfs", "5b1e7a60-0000-4000-8000-00000000f002")]
    {
        let folder = tempfile::tempdir().unwrap();
        let args = ["--disks", "--filesystem", filesystem, "--uuid", uuid, "--backup-filesystem", "ext4"];
        let Some(sample) = sample(folder.path(), &args) else { return };
        let image = folder.path().join("box.img");
        let (_, run) = Rescue::new(&folder.path().join("backup.img"), &image).carry_out();
        assert_eq!(run.code, 0, "{filesystem}: {run:?}");
        // The kernel takes a loop device down a moment after its last user is gone.
        let gone = format!(
            "for try in $(seq 100); do losetup --noheadings -j {0} | grep -q . || exit 0; sleep 0.1; done; exit 1",
            image.display()
        );
        disks::sh(&gone);
        // Where the generator puts the root.
        let mounted = disks::Kernel::mount(&image, "ro,loop,offset=71303168");
        let (right, lines) = sample.check(mounted.path());
        drop(mounted);
        assert!(right, "{filesystem}:\n{lines}");
    }
}

/// A box of another FreedomBox version, made from a small one.
fn box_at(version: &str, suite: &str, packages: &[&str]) -> SmallBox {
    let box_ = SmallBox::new();
    let os = box_.root.join("usr/lib/os-release");
    fs::write(&os, fs::read_to_string(&os).unwrap().replace("trixie", suite)).unwrap();
    let path = box_.root.join("var/lib/dpkg/status");
    let mut status = fs::read_to_string(&path).unwrap().replace("25.9.3+deb13u1", version);
    for package in packages {
        status += &format!("Package: {package}\nStatus: install ok installed\nArchitecture: all\nVersion: 1\n\n");
    }
    fs::write(path, status).unwrap();
    let database = rusqlite::Connection::open(box_.root.join("var/lib/plinth/plinth.sqlite3")).unwrap();
    for app in if packages.is_empty() { &[][..] } else { &["minetest", "radicale", "mumble"] } {
        database.execute("INSERT OR REPLACE INTO plinth_module VALUES (?1, 1)", [app]).unwrap();
    }
    box_
}

#[test]
fn data_goes_where_the_boxs_version_has_it() {
    if !can_run(&[]) {
        return;
    }
    let json = manifest(&[
        ("minetest", 2, &["/var/games/minetest-server"], &["/etc/minetest/minetest.conf"]),
        ("radicale", 4, &["/etc/radicale", "/var/lib/radicale"], &[]),
        ("mumble", 2, &["/var/lib/mumble-server"], &["/etc/mumble-server.ini"]),
    ]);
    let tar = RawTar::new()
        .dir("var/games/minetest-server")
        .dir("var/games/minetest-server/.minetest")
        .dir("var/games/minetest-server/.minetest/worlds")
        .file("var/games/minetest-server/.minetest/worlds/map.sqlite", b"map")
        .file("etc/minetest/minetest.conf", b"creative_mode = true\n")
        .dir("etc/radicale")
        .file("etc/radicale/config", b"[auth]\n")
        .dir("var/lib/radicale")
        .dir("var/lib/radicale/collections")
        .file("var/lib/radicale/collections/event.ics", b"BEGIN:VCALENDAR\n")
        .dir("var/lib/mumble-server")
        .file("var/lib/mumble-server/mumble-server.sqlite", b"mumble")
        .file("etc/mumble-server.ini", b"welcometext=hello\n")
        .manifest(&json);
    let stays = [
        "var/games/minetest-server/.minetest/worlds/map.sqlite",
        "etc/minetest/minetest.conf",
        "var/lib/radicale/collections/event.ics",
        "etc/mumble-server.ini",
    ];
    let moved = [
        "var/lib/private/luanti/default/worlds/map.sqlite",
        "etc/luanti/default.conf",
        "var/lib/private/radicale/collections/event.ics",
        "etc/mumble/mumble-server.ini",
    ];
    let both = ["etc/radicale/config", "var/lib/mumble-server/mumble-server.sqlite"];
    // The servers of Debian 13 read other places than FreedomBox 25 tells; radicale's calendars move with FreedomBox.
    let ahead = ([moved[0], moved[1], stays[2], moved[3]], [stays[0], stays[1], moved[2], stays[3]]);
    let boxes = [
        ("25.9.3~bpo12+1", "bookworm", stays, moved),
        ("25.9.3+deb13u1", "trixie", ahead.0, ahead.1),
        ("26.15~bpo13+1", "trixie", moved, stays),
    ];
    for (version, suite, there, elsewhere) in boxes {
        let apps = ["minetest", "radicale", "mumble"].map(|app| known::find(&app.parse().unwrap()).unwrap());
        let version_number = lifeboat::model::version::Version::new(version);
        let packages: Vec<&str> =
            apps.iter().flat_map(|app| app.packages_at(&version_number)).map(String::as_str).collect();
        for installed in [true, false] {
            let box_ = box_at(version, suite, if installed { &packages } else { &[] });
            let file = put(box_.folder.path(), "backup.tar.gz", &gzip(&tar.clone().end()));
            let (plan, run) = Rescue::new(&file, &box_.root).carry_out();
            assert_eq!(run.code, 0, "{run:?}\n{plan:#}");
            let place = |path: &str| {
                let app = ["minetest", "radicale", "mumble"].into_iter().find(|app| path.contains(&app[..5]));
                let app = app.unwrap_or("minetest");
                match installed {
                    true => box_.root.join(path),
                    false => box_.root.join("var/lib/lifeboat/parked").join(app).join(path),
                }
            };
            for path in there.iter().chain(&both) {
                assert!(place(path).is_file(), "{version}, installed {installed}: {path} is there\n{plan:#}");
            }
            for path in elsewhere {
                assert!(!place(path).exists(), "{version}, installed {installed}: {path} is not there");
            }
        }
    }
}

#[test]
fn attributes_lists_capabilities_holes_and_links_are_as_gnu_tar_extracts_them() {
    if !can_run(&["unshare", "mount", "tar", "setfattr", "setfacl", "setcap", "getfacl"]) {
        return;
    }
    let box_ = SmallBox::new();
    let tree_ = box_.folder.path().join("old");
    let git = tree_.join("var/lib/git");
    for (path, content) in [("plain", &b"plain"[..]), ("listed", b"acl"), ("able", b"cap"), ("setuid", b"s"), ("", b"")]
    {
        match path {
            "" => fs::create_dir_all(git.join("empty")).unwrap(),
            name => write(&git.join(name), content),
        }
    }
    let json = manifest(&[("gitweb", 4, &["/var/lib/git"], &[])]);
    write(&tree_.join("var/lib/plinth/backups-manifests/x.json"), json.as_bytes());
    let script = "cd \"$0\"
        truncate -s 3M holes && printf middle | dd of=holes bs=1 seek=1500000 conv=notrunc status=none
        ln plain other-name && ln -s plain link && ln -s /etc/localtime away && ln -s missing dangling && mkfifo queue
        setfattr -n user.note -v 'a note' plain
        setfacl -m u:4711:rw,g:4712:r listed && setfacl -d -m u:33:rx empty
        setcap cap_net_bind_service=ep able
        chmod 4755 setuid && chmod 0 dangling-not-there 2>/dev/null || true
        chown 4711:4712 plain && chown -h 33:33 link && chmod 2770 empty && chmod 000 setuid && chmod 6711 setuid
        touch -h -d '2001-02-03 04:05:06' link plain && touch -d '1999-12-31 23:59:59' empty";
    if !Command::new("sh").args(["-ec", script]).arg(&git).status().unwrap().success() {
        eprintln!("SKIPPED: this filesystem keeps no attributes");
        return;
    }
    let file = box_.folder.path().join("backup.tar.gz");
    let options = ["--xattrs", "--xattrs-include=*", "--acls"];
    let mut pack = Command::new("tar");
    pack.args(["-cSz", "--format=posix", "--force-local"]).args(options).arg("-f").arg(&file).arg("-C").arg(&tree_);
    assert!(pack.arg("var").status().unwrap().success());
    let plainly = box_.folder.path().join("extracted");
    fs::create_dir(&plainly).unwrap();
    if !gnu_tar_on_box(&file, &box_.root, &plainly, &options) {
        return;
    }
    let (before, extracted) = (tree(&box_.root), tree(&plainly));
    let (plan, run) = Rescue::new(&file, &box_.root).carry_out();
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(assert_as_extracted(&plan, &extracted, &before, &box_.root, &file), 12);
    // What neither a stat nor a digest shows.
    let shown = |root: &Path, line: &str| {
        let output = Command::new("sh").args(["-c", line]).current_dir(root.join("var/lib/git")).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    for line in [
        "getfacl -n -R -P . 2>/dev/null",
        "getfattr -h -R -d -m - . 2>/dev/null",
        "getcap able",
        // Holes stay holes, to the piece in which content is copied.
        "test $(stat -c %b holes) -le 512 && echo small",
    ] {
        assert_eq!(shown(&plainly, line), shown(&box_.root, line), "{line}");
        assert!(!shown(&box_.root, line).is_empty(), "{line}");
    }
}

#[test]
fn a_restore_from_a_disk_image_leaves_nothing_mounted() {
    if let Some(why) = disks::cannot_mount(&["mke2fs", "mkfs.vfat", "sfdisk", "losetup", "python3"]) {
        eprintln!("SKIPPED: {why}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let uuid = "5b1e7a60-0000-4000-8000-00000000f003";
    let args = ["--disks", "--filesystem", "ext4", "--uuid", uuid, "--backup-filesystem", "ext4"];
    let Some(sample) = sample(folder.path(), &args) else { return };
    let drive = folder.path().join("backup.img");
    Rescue::new(&drive, &sample.root()).carry_out().1.ends(0);
    let left = format!(
        "for try in $(seq 30); do losetup --noheadings -j {0} | grep -q . || exit 0; sleep 0.1; done; losetup -j {0}",
        drive.display()
    );
    assert_eq!(disks::sh(&left), "");
}
