"""The initramfs: a newc cpio (Linux Documentation/driver-api/early-userspace/buffer-format.rst) and its kernel modules.

The same input always gives the same bytes: sorted names, uid and gid 0, one timestamp, inode numbers in order. The kernel
takes several archives one after the other, each compressed or not.
"""

import fnmatch
import lzma
import os
import pathlib
import re
import shutil
import stat
import subprocess
import tempfile


class Cpio:
    """A newc archive in memory; directories above a file are made as needed."""

    def __init__(self, epoch):
        self.epoch = epoch
        self.entries = {}

    def directory(self, path):
        parts = path.split("/")
        for depth in range(1, len(parts) + 1):
            self.entries.setdefault("/".join(parts[:depth]), (stat.S_IFDIR | 0o755, b"", (0, 0)))

    def file(self, path, data, mode=0o644):
        self._put(path, stat.S_IFREG | mode, data)

    def symlink(self, path, target):
        self._put(path, stat.S_IFLNK | 0o777, target.encode())

    def character_device(self, path, mode, device):
        self._put(path, stat.S_IFCHR | mode, b"", device)

    def _put(self, path, mode, data, device=(0, 0)):
        if "/" in path:
            self.directory(path.rpartition("/")[0])
        self.entries[path] = (mode, data, device)

    def write(self):
        out = bytearray()
        for inode, path in enumerate(sorted(self.entries), start=1):
            out += self._member(path, inode, *self.entries[path])
        out += self._member("TRAILER!!!", 0, 0, b"", (0, 0))
        return bytes(out + b"\0" * (-len(out) % 512))

    def _member(self, path, inode, mode, data, device):
        name = path.encode() + b"\0"
        links = 2 if stat.S_ISDIR(mode) else 1
        fields = (inode, mode, 0, 0, links, self.epoch, len(data), 0, 0, *device, len(name), 0)
        header = b"070701" + b"".join(b"%08X" % field for field in fields) + name
        return header + b"\0" * (-len(header) % 4) + data + b"\0" * (-len(data) % 4)


def module_patterns(folder, names):
    """The patterns of the lists `names`; one that begins with ! leaves out what others choose."""
    lines = "\n".join((folder / f"{name}.list").read_text() for name in names).splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def add_modules(cpio, programs, tree, patterns):
    """Puts the modules below `tree` (…/lib/modules/<version>) that match, and what they need, into `cpio`.

    They are decompressed: the whole archive compresses better, and the signature that lockdown checks stays valid.
    Returns how many there are.
    """
    version = tree.name
    names = {str(path.relative_to(tree / "kernel")): path for path in (tree / "kernel").rglob("*.ko*")}
    with tempfile.TemporaryDirectory() as scratch:
        full = pathlib.Path(scratch) / "full"
        (full / "lib/modules").mkdir(parents=True)
        shutil.copytree(tree, full / "lib/modules" / version, copy_function=os.symlink)
        depends, soft = _dependencies(_depmod(programs, full, version))
        chosen = set()
        unwanted = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
        queue = [name for name in names if _any(name, patterns) and not _any(name, unwanted)]
        by_module = {_module(name): name for name in names}
        while queue:
            name = queue.pop()
            if name not in chosen:
                chosen.add(name)
                queue += depends.get(name, [])
                queue += [by_module[other] for other in soft.get(_module(name), []) if other in by_module]

        small = pathlib.Path(scratch) / "small"
        base = small / "lib/modules" / version
        for name in sorted(chosen):
            data = names[name].read_bytes()
            if name.endswith(".xz"):
                data = lzma.decompress(data)
            elif not name.endswith(".ko"):
                raise ValueError(f'module "{name}" is compressed in an unknown way')
            target = base / "kernel" / f"{_bare(name)}.ko"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
            cpio.file(f"usr/lib/modules/{version}/kernel/{_bare(name)}.ko", data)
        for name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
            if (tree / name).exists():
                shutil.copy(tree / name, base / name)
        _depmod(programs, small, version)
        for name in ("modules.dep", "modules.alias", "modules.softdep", "modules.symbols", "modules.builtin"):
            cpio.file(f"usr/lib/modules/{version}/{name}", (base / name).read_bytes())
    return len(chosen)


def _depmod(programs, root, version):
    command = [*programs.command("depmod"), "--basedir", root, version]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return root / "lib/modules" / version


def _dependencies(tree):
    """From depmod's output: file → files it needs, and module → modules it would like to have."""
    depends, soft = {}, {}
    for line in (tree / "modules.dep").read_text().splitlines():
        name, _, needed = line.partition(":")
        depends[name.removeprefix("kernel/")] = [path.removeprefix("kernel/") for path in needed.split()]
    for line in (tree / "modules.softdep").read_text().splitlines():
        words = line.split()
        if words[:1] == ["softdep"]:
            soft[words[1].replace("-", "_")] = [w.replace("-", "_") for w in words[2:] if not w.endswith(":")]
    return depends, soft


def _any(name, patterns):
    return any(fnmatch.fnmatchcase(_bare(name), pattern) for pattern in patterns)


def _bare(name):
    return re.sub(r"\.ko(\.\w+)?$", "", name)


def _module(name):
    return _bare(name).rpartition("/")[2].replace("-", "_")
