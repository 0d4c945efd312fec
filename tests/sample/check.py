#!/usr/bin/env python3
"""check.py ROOT EXPECTED.json: is ROOT what a right restore of the sample has? Prints PASS and FAIL lines; exit 1 on FAIL.

Looks at the disk only, with nothing of Lifeboat's own code: files, content, modes, owners by name through ROOT's own
accounts, times, hard links; nothing of the old data left in replaced directories; everything else untouched.
"""

import argparse
import hashlib
import json
import os
import stat
import sys

import tree

# The names that Lifeboat gives to what it leaves for the next boot.
PARKED = b"var/lib/lifeboat/parked"
STATE = b"var/lib/lifeboat"
BINARY = b"var/lib/lifeboat/bin/lifeboat"
UNIT_FOLDER = b"etc/systemd/system"
UNITS = {
    b"lifeboat-finish.service": None,
    b"lifeboat-finish.timer": b"timers.target.wants",
    b"lifeboat-guard.service": None,
    b"lifeboat-release.service": None,
    b"lifeboat-release.timer": b"timers.target.wants",
}


class Root:
    """A restored root directory."""

    def __init__(self, path):
        self.path = os.fsencode(path)
        self.users = self._names(b"etc/passwd")
        self.groups = self._names(b"etc/group")

    def _names(self, path):
        with open(self.at(path), encoding="utf-8") as file:
            fields = [line.split(":") for line in file if ":" in line]
        return {int(field[2]): field[0] for field in fields}

    def at(self, path):
        return os.path.join(self.path, path)

    def status(self, path):
        """lstat, or None where nothing is; a symbolic link on the way is not followed out of the root."""
        parts = path.split(b"/")
        for depth in range(1, len(parts)):
            parent = os.path.join(self.path, *parts[:depth])
            if os.path.islink(parent) and os.readlink(parent).startswith(b"/"):
                return None
        try:
            return os.lstat(self.at(path))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def names_below(self, path):
        """Relative paths of everything below `path`, itself included."""
        found = {path}
        for folder, folders, files in os.walk(self.at(path)):
            relative = os.path.relpath(folder, self.path)
            found |= {os.path.join(relative, name) for name in folders + files}
        return found

    def digest(self, path):
        digest = hashlib.sha256()
        with open(self.at(path), "rb") as file:
            while block := file.read(tree.MIB):
                digest.update(block)
        return digest.hexdigest()


def entry_faults(root, wanted, prefix=b"", owners=True):
    """What is wrong with one entry, as sentences."""
    path = prefix + tree.unquoted(wanted["path"])
    status = root.status(path)
    if status is None:
        return [f"{tree.quoted(path)} is missing"]
    faults = []

    def compare(what, is_value, should_be):
        if is_value != should_be:
            faults.append(f"{tree.quoted(path)}: {what} is {is_value}, should be {should_be}")

    kind = tree.KINDS.get(stat.S_IFMT(status.st_mode), "something else")
    compare("kind", kind, wanted["kind"])
    if faults:
        return faults
    if kind != "symlink":
        compare("mode", f"{stat.S_IMODE(status.st_mode):04o}", wanted["mode"])
    if owners:
        user, group = root.users.get(status.st_uid), root.groups.get(status.st_gid)
        compare("user", user or str(status.st_uid), wanted["user"])
        compare("group", group or str(status.st_gid), wanted["group"])
    if kind == "symlink":
        compare("target", tree.quoted(os.readlink(root.at(path))), wanted["target"])
    if kind == "file":
        compare("size", status.st_size, wanted["size"])
        compare("content", root.digest(path), wanted["sha256"])
        compare("time", int(status.st_mtime), wanted["mtime"])
    if "same_file_as" in wanted:
        first = root.status(prefix + tree.unquoted(wanted["same_file_as"]))
        if first is None or (first.st_dev, first.st_ino) != (status.st_dev, status.st_ino):
            faults.append(f"{tree.quoted(path)} is no longer the same file as {wanted['same_file_as']}")
    return faults


def leftovers(root, app, prefix=b""):
    """What is in the app's directories and should not be there."""
    wanted = {prefix + tree.unquoted(entry["path"]) for entry in app["entries"]}
    faults = []
    for folder in app["directories"]:
        path = prefix + tree.unquoted(folder)
        if root.status(path) is not None:
            faults += [f"{tree.quoted(extra)} should not be there" for extra in sorted(root.names_below(path) - wanted)]
    return faults


def app_faults(root, name, app):
    if app["road"] == "in-place":
        return [fault for entry in app["entries"] for fault in entry_faults(root, entry)] + leftovers(root, app)
    if app["road"] == "parked":
        # Its users may not exist yet: owners are settled when it is finished.
        prefix = PARKED + b"/" + name.encode() + b"/"
        faults = [fault for entry in app["entries"] for fault in entry_faults(root, entry, prefix, owners=False)]
        return faults + leftovers(root, app, prefix)
    return [f"{name} has parked data"] if root.status(PARKED + b"/" + name.encode()) else []


def handoff_faults(root, expected):
    faults = []
    waits = any(app["road"] == "parked" for app in expected["apps"].values())
    for unit, enabled_in in UNITS.items():
        if not waits and unit.startswith(b"lifeboat-finish"):
            continue
        path = UNIT_FOLDER + b"/" + unit
        status = root.status(path)
        if status is None or not stat.S_ISREG(status.st_mode) or not status.st_size:
            faults.append(f"{tree.quoted(path)} is missing or empty")
        if enabled_in:
            link = UNIT_FOLDER + b"/" + enabled_in + b"/" + unit
            if root.status(link) is None or os.path.basename(os.readlink(root.at(link))) != unit:
                faults.append(f"{tree.quoted(path)} is not enabled")
    status = root.status(BINARY)
    if status is None or not status.st_mode & 0o100:
        faults.append(f"{tree.quoted(BINARY)} is missing or not executable")
    status = root.status(STATE)
    # Parked data holds keys and passwords.
    if status is not None and (status.st_mode & 0o077 or status.st_uid):
        faults.append(f"{tree.quoted(STATE)} is open to others than root")
    return faults


def kept_faults(root, expected):
    faults = []
    for entry in expected["kept"]:
        found = entry_faults(root, entry)
        faults += [f"{fault} (belongs to no restored app)" for fault in found]
    return faults


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root")
    parser.add_argument("expected")
    parser.add_argument("--apps", help="only these were restored, separated by commas; the others are not looked at")
    options = parser.parse_args()
    with open(options.expected, encoding="utf-8") as file:
        expected = json.load(file)
    root = Root(options.root)
    chosen = options.apps.split(",") if options.apps else list(expected["apps"])
    checks = {f"{name} ({expected['apps'][name]['road']})": None for name in chosen}
    for label, name in zip(list(checks), chosen):
        checks[label] = app_faults(root, name, expected["apps"][name])
    checks["next boot"] = handoff_faults(root, expected)
    checks["everything else"] = kept_faults(root, expected)
    for label, faults in checks.items():
        print(f"{'FAIL' if faults else 'PASS'} {label}")
        for fault in faults[:20]:
            print(f"     {fault}")
        if len(faults) > 20:
            print(f"     … and {len(faults) - 20} more")
    return 1 if any(checks.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
