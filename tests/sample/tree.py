"""Entries of a file tree, written as a directory or as a tar archive. Paths are bytes, relative, without `./`."""

import contextlib
import dataclasses
import gzip
import hashlib
import io
import os
import random
import stat
import tarfile
import urllib.parse

MIB = 1024 * 1024


@dataclasses.dataclass(frozen=True)
class Noise:
    """`size` bytes that do not compress and depend on `seed` alone; for files too big to hold in memory."""

    seed: str
    size: int

    def chunks(self):
        source = random.Random(self.seed)
        for start in range(0, self.size, MIB):
            yield source.randbytes(min(MIB, self.size - start))

    def __len__(self):
        return self.size


@dataclasses.dataclass(frozen=True)
class Entry:
    """One file, directory, symbolic link or hard link, owned by names (or by a number where no name exists)."""

    path: bytes
    kind: str
    user: str
    group: str
    mode: int
    mtime: int
    data: object = b""
    target: bytes = b""

    def chunks(self):
        return self.data.chunks() if isinstance(self.data, Noise) else [self.data]

    def digest(self):
        digest = hashlib.sha256()
        for chunk in self.chunks():
            digest.update(chunk)
        return digest.hexdigest()


class Tree:
    """Collects entries; owner, modes and time come from the last `owned` call."""

    def __init__(self, mtime):
        self.entries, self.mtime = [], mtime
        self.user = self.group = "root"

    def owned(self, user, group=None):
        self.user, self.group = user, group or user
        return self

    def _add(self, path, kind, mode, **more):
        path = path.encode() if isinstance(path, str) else path
        # Each entry has a time of its own, so that mixed-up times are noticed.
        mtime = self.mtime + 61 * len(self.entries)
        self.entries.append(Entry(path, kind, self.user, self.group, mode, mtime, **more))
        return self

    def dir(self, path, mode=0o755):
        return self._add(path, "directory", mode)

    def file(self, path, data, mode=0o644):
        return self._add(path, "file", mode, data=data.encode() if isinstance(data, str) else data)

    def link(self, path, target):
        return self._add(path, "symlink", 0o777, target=os.fsencode(target))

    def same(self, path, target):
        """A hard link: another name of `target`, which is already there."""
        first = next(e for e in self.entries if e.path == target.encode())
        self._add(path, "hardlink", first.mode, data=first.data, target=first.path)
        self.entries[-1] = dataclasses.replace(self.entries[-1], mtime=first.mtime, user=first.user, group=first.group)
        return self


def with_parents(entries, mtime):
    """`entries` and the directories above them that are missing: root's, mode 755."""
    known = {entry.path for entry in entries}
    parents = Tree(mtime)
    for entry in entries:
        parts = entry.path.split(b"/")
        for depth in range(1, len(parts)):
            path = b"/".join(parts[:depth])
            if path not in known:
                known.add(path)
                parents.dir(path)
    # A directory stands before what is in it.
    return sorted(entries + parents.entries, key=lambda entry: (entry.kind == "hardlink", entry.path.split(b"/")))


def number(name, table):
    """The id of `name` in `table`, or the number that it is."""
    return int(name) if name.isdigit() else table[name]


def write_directory(root, entries, users, groups):
    """Writes `entries`, directories before what is in them, below `root` with owners from the tables."""
    for entry in entries:
        path = os.path.join(os.fsencode(root), entry.path)
        if entry.kind == "directory":
            os.mkdir(path)
        elif entry.kind == "symlink":
            os.symlink(entry.target, path)
        elif entry.kind == "hardlink":
            os.link(os.path.join(os.fsencode(root), entry.target), path)
            continue
        else:
            with open(path, "wb") as file:
                for chunk in entry.chunks():
                    file.write(chunk)
        os.chown(path, number(entry.user, users), number(entry.group, groups), follow_symlinks=False)
        if entry.kind != "symlink":
            os.chmod(path, entry.mode)
    for entry in reversed(entries):
        path = os.path.join(os.fsencode(root), entry.path)
        os.utime(path, (entry.mtime, entry.mtime), follow_symlinks=False)


class _Reader(io.RawIOBase):
    """The chunks of an entry as a file."""

    def __init__(self, chunks):
        self.chunks, self.rest = iter(chunks), b""

    def readable(self):
        return True

    def readinto(self, buffer):
        while not self.rest:
            try:
                self.rest = next(self.chunks)
            except StopIteration:
                return 0
        size = min(len(buffer), len(self.rest))
        buffer[:size], self.rest = self.rest[:size], self.rest[size:]
        return size


def write_backup(path, entries, users, groups):
    """A tar.gz in the form of FreedomBox's download: GNU format, names and numbers of the owners, no `./`."""
    kinds = {
        "directory": tarfile.DIRTYPE,
        "file": tarfile.REGTYPE,
        "symlink": tarfile.SYMTYPE,
        "hardlink": tarfile.LNKTYPE,
    }
    with contextlib.ExitStack() as stack:
        raw = stack.enter_context(open(path, "wb"))
        packed = stack.enter_context(gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=6, mtime=0))
        archive = stack.enter_context(
            tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT, errors="surrogateescape")
        )
        for entry in entries:
            info = tarfile.TarInfo(os.fsdecode(entry.path))
            info.type, info.mode, info.mtime = kinds[entry.kind], entry.mode, entry.mtime
            info.uid, info.gid = number(entry.user, users), number(entry.group, groups)
            info.uname = "" if entry.user.isdigit() else entry.user
            info.gname = "" if entry.group.isdigit() else entry.group
            info.linkname = os.fsdecode(entry.target)
            info.size = len(entry.data) if entry.kind == "file" else 0
            archive.addfile(info, io.BufferedReader(_Reader(entry.chunks())))


def quoted(path):
    """A path as ASCII text: bytes outside printable ASCII, and `%`, as %XX."""
    return urllib.parse.quote(path, safe="/ !\"#$&'()*+,-.:;<=>?@[]^_`{|}~\\")


def unquoted(text):
    return urllib.parse.unquote_to_bytes(text)


def describe(entry):
    """An entry as expected.json has it."""
    described = {"path": quoted(entry.path), "kind": "file" if entry.kind == "hardlink" else entry.kind}
    described |= {"user": entry.user, "group": entry.group, "mode": f"{entry.mode:04o}", "mtime": entry.mtime}
    if entry.kind == "symlink":
        described["target"] = quoted(entry.target)
    if entry.kind in ("file", "hardlink"):
        described |= {"size": len(entry.data), "sha256": entry.digest()}
    if entry.kind == "hardlink":
        described["same_file_as"] = quoted(entry.target)
    return described


KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink"}
