#!/usr/bin/env python3
"""Makes a sample FreedomBox, a backup of another one, and what a right restore of the one onto the other has.

OUTDIR/box/            root directory of the box before the restore
OUTDIR/backup.tar.gz   the backup, in the form of FreedomBox's download
OUTDIR/expected.json   what check.py compares a restored root with
OUTDIR/box.img         with --disks: the box's disk (GPT: EFI partition, root)
OUTDIR/backup.img      with --disks: a drive labelled BACKUPUSB that holds the backup

The same arguments make the same content. Owners need root; without it the program runs itself under fakeroot, and only
the disk images have the right owners then.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import shutil
import sys

import apps as sample
import box
import disks
import tree

BACKUP_RELEASE = "25.9.3"
MANIFEST_PATH = (
    "var/lib/plinth/backups-manifests/mediarootBACKUPUSBFreedomBoxBackups2025-10-30T0200110200.json"
)


def road(app, release, never_booted):
    """Which way a right restore takes for `app`, and why."""
    version = app.versions[release]
    if version is None:
        return "blocked", f"FreedomBox {release} has no such app"
    if app.versions[BACKUP_RELEASE] > version:
        return "blocked", "the backup is of a newer version of the app"
    if not app.installed:
        return "parked", "its packages are not installed"
    if app.imports:
        return "parked", "it has a database to import"
    if never_booted:
        return "parked", "FreedomBox has not set it up yet"
    return "in-place", "its packages are installed"


def stripped(paths):
    return [path.strip("/").encode() for path in paths]


def claimed(app):
    """Directories and files that the app's manifest names, relative."""
    parts = [app.manifest.get(part, {}) for part in ("config", "data", "secrets")]
    directories = [path for part in parts for path in stripped(part.get("directories", []))]
    files = [path for part in parts for path in stripped(part.get("files", []))]
    return directories, files


def inside(path, directories):
    return any(path == folder or path.startswith(folder + b"/") for folder in directories)


def moved(path, app, release):
    """Where a path of `app` is in that FreedomBox version."""
    before, after = app.moves.get(release, (None, None))
    return after + path[len(before) :] if before and inside(path, [before]) else path


def moved_entry(entry, app, release):
    return dataclasses.replace(
        entry, path=moved(entry.path, app, release), target=moved(entry.target, app, release)
    )


def entries_on_box(app, release):
    """What the new box holds for `app`: a directory that moved is a link to its new place."""
    links = tree.Tree(sample.NEW_BOX_TIME)
    if release in app.moves:
        before, after = (path.decode() for path in app.moves[release])
        links.link(before, os.path.relpath(after, os.path.dirname(before)))
    return [moved_entry(entry, app, release) for entry in app.box.entries] + links.entries


def backup_entries(apps):
    """The backup's members: each app's, in the manifest's order, then the manifest."""
    entries = [entry for app in apps for entry in app.backup.entries]
    listed = [{"name": app.name, "version": app.versions[BACKUP_RELEASE], "backup": app.manifest} for app in apps]
    last = tree.Tree(sample.BACKUP_TIME).owned("plinth").file(MANIFEST_PATH, json.dumps({"apps": listed}))
    return entries + last.entries


def expectation(apps, box_entries, options):
    """The content of expected.json."""
    described, replaced_directories, replaced_files = {}, [], []
    for app in apps:
        way, why = road(app, options.box, options.never_booted)
        directories, files = claimed(app)
        directories = [moved(path, app, options.box) for path in directories]
        dropins = set(stripped(app.kept))
        restored = [moved_entry(entry, app, options.box) for entry in app.backup.entries if entry.path not in dropins]
        entries = [tree.describe(entry) for entry in restored]
        if way == "in-place":
            replaced_directories += directories
            replaced_files += files
            entries += [tree.describe(entry) for entry in box_entries if entry.path in dropins]
        described[app.name] = {
            "road": way,
            "why": why,
            "directories": [tree.quoted(path) for path in directories],
            "dropins": [tree.quoted(path) for path in sorted(dropins)],
            "entries": entries if way != "blocked" else [],
        }
    kept = [
        tree.describe(entry)
        for entry in box_entries
        if not inside(entry.path, replaced_directories) and entry.path not in replaced_files
    ]
    return {
        "format": 1,
        "about": "paths are relative, bytes other than printable ASCII are written %XX; times are seconds since 1970",
        "box": {"freedombox": options.box, "hostname": box.HOSTNAME, "filesystem": options.filesystem},
        "apps": described,
        "kept": kept,
    }


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("outdir", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=1, help="changes the content of big files (default: 1)")
    parser.add_argument("--apps", help="only these, separated by commas")
    parser.add_argument("--size", type=int, default=0, metavar="MIB", help="adds one file of so many MiB")
    parser.add_argument("--files", type=int, default=0, metavar="N", help="adds so many small files")
    parser.add_argument("--box", choices=sorted(box.RELEASES), default="25.9.3", help="FreedomBox version of the box")
    parser.add_argument("--architecture", choices=("amd64", "arm64", "armhf"), default="amd64", help="of the box")
    parser.add_argument("--never-booted", action="store_true", help="a freshly written box, without a database")
    parser.add_argument("--disks", action="store_true", help="also make disk images")
    parser.add_argument("--filesystem", choices=("btrfs", "ext4"), default="btrfs", help="of the box's root")
    parser.add_argument("--root-size", type=int, metavar="MIB", help="of its filesystem (default: room for old and new data)")
    parser.add_argument("--uuid", default=disks.ROOT_UUID, help="of the box's root; the kernel mounts no two alike")
    parser.add_argument("--backup-filesystem", choices=("fat32", "ext4"), default="fat32", help="of the backup's drive")
    return parser.parse_args()


def main():
    options = parse_arguments()
    if os.geteuid() != 0:
        os.execvp("fakeroot", ["fakeroot", sys.executable, *sys.argv])
    os.umask(0o022)
    apps = sample.every_app(options.seed, options.size, options.files)
    if options.apps:
        wanted = options.apps.split(",")
        if unknown := set(wanted) - {app.name for app in apps}:
            sys.exit(f"make.py: the sample has no app called {', '.join(sorted(unknown))}")
        apps = [app for app in apps if app.name in wanted]

    present = [app for app in apps if app.versions[options.box] is not None]
    system = box.system(options.box, apps, options.filesystem, options.uuid, options.never_booted, options.architecture)
    box_entries = system.entries + [entry for app in present for entry in entries_on_box(app, options.box)]
    box_entries = tree.with_parents(box_entries, sample.NEW_BOX_TIME)

    out = options.outdir
    out.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(out / "box", ignore_errors=True)
    (out / "box").mkdir()
    tree.write_directory(out / "box", box_entries, box.NEW_USERS, box.NEW_GROUPS)
    tree.write_backup(out / "backup.tar.gz", backup_entries(apps), box.OLD_USERS, box.OLD_GROUPS)
    expected = expectation(apps, box_entries, options)
    (out / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
    if options.disks:
        # A restore holds old and new data at once, and a file system has an inode for every 16 KiB.
        room = options.root_size or 768 + 3 * options.size + options.files // 64
        disks.write_box(out / "box.img", out / "box", options.filesystem, options.uuid, room)
        disks.write_backup(out / "backup.img", out / "backup.tar.gz", options.backup_filesystem)


if __name__ == "__main__":
    main()
