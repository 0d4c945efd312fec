#!/usr/bin/env python3
"""The list of crates inside a program, in the form of cargo-auditable: zlib-compressed JSON in the ELF section `.dep-v0`,
which `cargo audit bin`, `rust-audit-info`, Trivy, Grype and others read.

auditable.py write PROGRAM TARGET MESSAGES OUT   writes PROGRAM with the list to OUT; MESSAGES is what cargo said as JSON
                                                 while it built the program, and has to name the same crates
auditable.py show PROGRAM                        prints the list
auditable.py check PROGRAM TARGET                compares it with Cargo.lock and with what cargo builds for the target

The section is not loaded when the program runs.
"""

import json
import pathlib
import struct
import sys
import zlib

import crates

SECTION = b".dep-v0"
# Fields of ELF headers by class: of the file from e_shoff on (offset, format), and of a section.
FILE_HEADER = {1: (32, "<I"), 2: (40, "<Q")}
COUNTS = {1: 46, 2: 58}
SECTION_HEADER = {1: "<10I", 2: "<2I4Q2I2Q"}
PROGBITS = 1


class Elf:
    """The sections of a little-endian program, of 32 or 64 bits."""

    def __init__(self, data):
        if data[:4] != b"\x7fELF" or data[5] != 1 or data[4] not in FILE_HEADER:
            raise ValueError("this is no program that can carry a list of crates")
        self.data, self.kind = data, data[4]
        at, form = FILE_HEADER[self.kind]
        (self.table,) = struct.unpack_from(form, data, at)
        length, count, self.names_index = struct.unpack_from("<3H", data, COUNTS[self.kind])
        self.form = SECTION_HEADER[self.kind]
        if length != struct.calcsize(self.form) or not self.names_index < count:
            raise ValueError("the table of sections is not readable")
        self.headers = [struct.unpack_from(self.form, data, self.table + length * nth) for nth in range(count)]

    def content(self, header):
        """Of a section: its offset and its length are the fifth and the sixth field."""
        return self.data[header[4] : header[4] + header[5]]

    def names(self):
        return self.content(self.headers[self.names_index])

    def section(self, name):
        """Its content, or None."""
        names = self.names()
        found = (header for header in self.headers if names[header[0] :].split(b"\0", 1)[0] == name)
        return next((self.content(header) for header in found), None)

    def with_section(self, name, content):
        """The same program with one section more, at its end."""
        if self.section(name) is not None:
            raise ValueError(f"the program has a section {name.decode()} already")
        # The table usually is the end of the file; there it makes room for the new one.
        is_last = self.table + len(self.headers) * struct.calcsize(self.form) == len(self.data)
        data = bytearray(self.data[: self.table] if is_last else self.data)
        headers = list(self.headers)
        names = self.names() + name + b"\0"
        headers.append((len(names) - len(name) - 1, PROGBITS, 0, 0, len(data), len(content), 0, 0, 1, 0))
        data += content
        old = headers[self.names_index]
        headers[self.names_index] = (*old[:4], len(data), len(names), *old[6:])
        data += names
        data += bytes(-len(data) % 8)
        at, form = FILE_HEADER[self.kind]
        struct.pack_into(form, data, at, len(data))
        struct.pack_into("<H", data, COUNTS[self.kind] + 2, len(headers))
        for header in headers:
            data += struct.pack(self.form, *header)
        return bytes(data)


def listing(linked, sources):
    """The list, as cargo-auditable orders it."""
    order = sorted(linked.uses)
    index = {crate: nth for nth, crate in enumerate(order)}
    packages = []
    for crate in order:
        source = sources[crate][0]
        package = {
            "name": crate[0], "version": crate[1],
            "source": "local" if source is None else "crates.io" if source == crates.CRATES_IO else source.partition("+")[0],
        }
        if linked.uses[crate]:
            package["dependencies"] = sorted(index[used] for used in linked.uses[crate])
        if crate == linked.root:
            package["root"] = True
        packages.append(package)
    return {"packages": packages}


def packed(document):
    # The zlib of Debian and Ubuntu makes the same bytes of the same text in all their releases.
    return zlib.compress(json.dumps(document, separators=(",", ":")).encode(), 9)


def read(program):
    """The list in a program."""
    section = Elf(program).section(SECTION)
    if section is None:
        raise ValueError("the program has no list of crates")
    return json.loads(zlib.decompress(section))


def require_compiled(linked, compiled):
    """Ends the program when cargo compiled others for the target than those that the list will name."""
    named, root = set(linked.uses), {linked.root}
    missing = named - compiled - root
    # A standard library that is built along has crates of its own.
    more = set() if any(name == "core" for name, _ in compiled) else compiled - named
    if missing or more:
        sys.exit(f"the list of crates is wrong: not compiled are {sorted(missing)}, not named are {sorted(more)}")


def write(program, target, messages, out):
    linked = crates.linked(crates.tree(target))
    require_compiled(linked, crates.compiled(pathlib.Path(messages).read_text(), target))
    document = listing(linked, crates.locked())
    path = pathlib.Path(out)
    path.write_bytes(Elf(pathlib.Path(program).read_bytes()).with_section(SECTION, packed(document)))
    path.chmod(0o755)


def show(program):
    print(json.dumps(read(pathlib.Path(program).read_bytes()), indent=1))


def check(program, target):
    found = read(pathlib.Path(program).read_bytes())
    wanted = listing(crates.linked(crates.tree(target)), crates.locked())
    if found != wanted:
        names = [{(each["name"], each["version"]) for each in document["packages"]} for document in (found, wanted)]
        sys.exit(f"{program}: too many are {sorted(names[0] - names[1])}, missing are {sorted(names[1] - names[0])}")
    print(f"{program} names its {len(found['packages'])} crates for {target}")


def main():
    commands = {"write": (write, 4), "show": (show, 1), "check": (check, 2)}
    command, count = commands.get(sys.argv[1] if len(sys.argv) > 1 else "", (None, 0))
    if command is None or len(sys.argv) != 2 + count:
        sys.exit(__doc__)
    try:
        command(*sys.argv[2:])
    except (OSError, ValueError, struct.error, zlib.error) as error:
        sys.exit(f"{sys.argv[2]}: {error}")


if __name__ == "__main__":
    main()
