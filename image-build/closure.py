"""The libraries that a dynamic program needs, found in unpacked packages without running anything.

ELF header, program headers and dynamic section (System V gABI, chapters 4 and 5), 64-bit and 32-bit, little-endian.
"""

import pathlib
import struct

PT_LOAD, PT_DYNAMIC, PT_INTERP = 1, 2, 3
DT_NEEDED, DT_STRTAB = 1, 5
# e_machine (gABI, chapter 4) of the architectures that there are images for.
MACHINES = {62: "amd64", 183: "arm64", 40: "armhf"}


class MissingLibrary(Exception):
    """A library that no fetched package holds."""


def closure(tree, programs):
    """Every library that `programs` (paths below `tree`) need, their loader included: path to install → file."""
    shelf = {}
    for path in sorted(tree.glob("usr/lib*/**/*.so*")):
        shelf.setdefault(path.name, path)
    found, queue = {}, [tree / program for program in programs]
    while queue:
        program = queue.pop()
        loader, needed = _needs(program.read_bytes())
        if loader:
            # /lib is a link to /usr/lib in the image.
            place = loader.lstrip("/")
            place = f"usr/{place}" if place.startswith("lib/") else place
            found[place] = _take(shelf, pathlib.PurePosixPath(loader).name, program)
        for name in needed:
            path = f"usr/lib/{name}"
            if path not in found:
                found[path] = _take(shelf, name, program)
                queue.append(found[path])
    return found


def architecture(program):
    """Debian's name of the architecture that a program is for, or None."""
    head = program.read_bytes()[:20]
    if head[:4] != b"\x7fELF" or len(head) < 20:
        return None
    return MACHINES.get(struct.unpack_from("<H", head, 18)[0])


def is_static(program):
    """Whether a program runs without a loader and without libraries."""
    return _needs(program.read_bytes()) == (None, [])


def _take(shelf, name, program):
    if name not in shelf:
        raise MissingLibrary(f'"{name}", which "{program.name}" needs, is in none of the fetched packages')
    return shelf[name].resolve()


def _needs(data):
    """The loader that a program asks for (or None) and the names of its libraries."""
    wide = data[4] == 2
    if data[:4] != b"\x7fELF" or data[5] != 1:
        raise ValueError("not a little-endian ELF file")
    table = struct.unpack_from("<Q" if wide else "<I", data, 32 if wide else 28)[0]
    size, count = struct.unpack_from("<HH", data, 54 if wide else 42)
    loader, dynamic, loads = None, None, []
    for index in range(count):
        at = table + index * size
        kind = struct.unpack_from("<I", data, at)[0]
        if wide:
            offset, address, _, length = struct.unpack_from("<QQQQ", data, at + 8)
        else:
            offset, address, _, length = struct.unpack_from("<IIII", data, at + 4)
        if kind == PT_INTERP:
            loader = data[offset : offset + length].rstrip(b"\0").decode()
        elif kind == PT_DYNAMIC:
            dynamic = (offset, length)
        elif kind == PT_LOAD:
            loads.append((address, offset, length))
    if dynamic is None:
        return loader, []
    width, form = (16, "<qQ") if wide else (8, "<iI")
    entries = [struct.unpack_from(form, data, dynamic[0] + at) for at in range(0, dynamic[1], width)]
    strings = next(value for tag, value in entries if tag == DT_STRTAB)
    base = next(offset + strings - address for address, offset, length in loads if address <= strings < address + length)
    names = [value for tag, value in entries if tag == DT_NEEDED]
    return loader, [data[base + name : data.index(b"\0", base + name)].decode() for name in names]
