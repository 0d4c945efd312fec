#!/usr/bin/env python3
"""The list of crates in a program: of the right crates, where other tools look for it, and without effect on the program."""

import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest
import zlib

import auditable
import crates

TREE = """0lifeboat v0.1.0 (/somewhere)
1used v1.0.0
2deep v2.0.0+more
1other v1.5.0
2used v1.0.0 (*)
2deep v2.0.0+more
"""
LOCK = """version = 4

[[package]]
name = "deep"
version = "2.0.0+more"
source = "registry+https://github.com/rust-lang/crates.io-index"
checksum = "d"

[[package]]
name = "lifeboat"
version = "0.1.0"
dependencies = [
 "used",
]

[[package]]
name = "other"
version = "1.5.0"
source = "git+https://example.org/other?rev=1#1"

[[package]]
name = "used"
version = "1.0.0"
source = "registry+https://github.com/rust-lang/crates.io-index"
checksum = "u"
"""
PACKAGES = [
    {"name": "deep", "version": "2.0.0+more", "source": "crates.io"},
    {"name": "lifeboat", "version": "0.1.0", "source": "local", "dependencies": [2, 3], "root": True},
    {"name": "other", "version": "1.5.0", "source": "git", "dependencies": [0, 3]},
    {"name": "used", "version": "1.0.0", "source": "crates.io", "dependencies": [0]},
]


def message(name, version, folder, kind="lib"):
    return (
        '{"reason": "compiler-artifact", "package_id": "registry+x#%s@%s", "target": {"kind": ["%s"]}, '
        '"filenames": ["/t/%s/release/deps/lib%s.rlib"]}' % (name, version, kind, folder, name)
    )


def small():
    """A 32-bit ARM program of which there is nothing but two sections: names, and one with text."""
    names = b"\0.text\0.shstrtab\0"
    text_at, names_at = 52, 56
    table = 76
    data = b"\x7fELF\x01\x01\x01" + bytes(9)
    data += struct.pack("<2H5I6H", 2, 40, 1, 0, 0, table, 0, 52, 32, 0, 40, 3, 2)
    data += b"code" + names.ljust(table - names_at, b"\0")
    rows = [(0,) * 10, (1, 1, 6, 0x1000, text_at, 4, 0, 0, 4, 0), (7, 3, 0, 0, names_at, len(names), 0, 0, 1, 0)]
    return data + b"".join(struct.pack("<10I", *row) for row in rows)


class Crates(unittest.TestCase):
    def test_the_list_is_what_the_tree_says_with_sources_of_the_lock(self):
        listing = auditable.listing(crates.linked(TREE), crates.sources(LOCK))
        self.assertEqual(listing, {"packages": PACKAGES})

    def test_the_libraries_of_the_target_are_told_from_those_of_the_build(self):
        messages = [message("used", "1.0", "arm"), message("macro", "1.0", "release"), message("lifeboat", "0.1.0", "arm", "bin")]
        messages += ['{"reason": "build-script-executed"}', message("core", "0.0.0", "arm").replace("x#core@", "x/core#")]
        found = crates.compiled("\n".join(messages), "arm")
        self.assertEqual(found, {("used", "1.0"), ("core", "0.0.0")})

    def test_a_list_that_differs_from_what_was_compiled_is_refused(self):
        linked = crates.linked(TREE)
        whole = set(linked.uses)
        auditable.require_compiled(linked, whole)
        # The crates of a standard library that is built along are not the program's.
        auditable.require_compiled(linked, whole | {("core", "0.0.0"), ("hashbrown", "0.1.0")})
        for wrong in (whole - {("deep", "2.0.0+more")}, whole | {("more", "1.0.0")}):
            with self.assertRaises(SystemExit):
                auditable.require_compiled(linked, wrong)

    @unittest.skipIf(shutil.which("cargo") is None, "SKIPPED: not installed: cargo")
    def test_what_cargo_says_of_this_program_fits_its_lock(self):
        lock = crates.locked()
        for target in ("x86_64-unknown-linux-musl", "aarch64-unknown-linux-musl", "armv7-unknown-linux-musleabihf"):
            linked = crates.linked(crates.tree(target))
            self.assertEqual(linked.root[0], "lifeboat")
            self.assertLessEqual(set(linked.uses), set(lock))
            names = {name for name, _ in linked.uses}
            self.assertLessEqual({"tar", "sha2", "rustix", "linux-raw-sys", "libsqlite3-sys", "tokio"}, names)
            # Of the tests, of the build, of the compiler.
            self.assertFalse({"proptest", "tempfile", "snapbox", "cc", "serde_derive", "x509-parser"} & names)


class Section(unittest.TestCase):
    def section_added(self, data):
        made = auditable.Elf(data).with_section(auditable.SECTION, auditable.packed({"packages": PACKAGES}))
        self.assertEqual(auditable.read(made), {"packages": PACKAGES})
        old, new = auditable.Elf(data), auditable.Elf(made)
        for nth, header in enumerate(old.headers):
            if nth != old.names_index:
                self.assertEqual(new.headers[nth], header)
                self.assertEqual(new.content(header), old.content(header))
        with self.assertRaisesRegex(ValueError, "already"):
            new.with_section(auditable.SECTION, b"")
        return made

    def test_programs_of_both_lengths_of_words_get_it_and_keep_the_rest(self):
        made = self.section_added(small())
        self.assertLess(len(made) - len(small()), 400)
        self.section_added(pathlib.Path(sys.executable).resolve().read_bytes())

    def test_what_is_written_after_the_table_stays(self):
        made = self.section_added(small() + b"the end")
        self.assertIn(b"the end", made)

    def test_a_program_with_the_list_runs_and_objcopy_finds_it(self):
        with tempfile.TemporaryDirectory() as folder:
            program, dump = pathlib.Path(folder, "program"), pathlib.Path(folder, "dump")
            program.write_bytes(self.section_added(pathlib.Path(shutil.which("cat")).resolve().read_bytes()))
            program.chmod(0o755)
            told = subprocess.run([program], input=b"runs", stdout=subprocess.PIPE, check=True)
            self.assertEqual(told.stdout, b"runs")
            if shutil.which("objcopy") is None:
                self.skipTest("SKIPPED: not installed: objcopy")
            subprocess.run(["objcopy", "--dump-section", f".dep-v0={dump}", program, "/dev/null"], check=True)
            self.assertEqual(zlib.decompress(dump.read_bytes()), zlib.decompress(auditable.packed({"packages": PACKAGES})))

    def test_what_is_no_such_program_is_refused(self):
        for data in (b"", b"#!/bin/sh\n" * 9, b"\x7fELF\x02\x02" + bytes(100), small()[:46] + bytes(40)):
            with self.assertRaises((ValueError, struct.error)):
                auditable.Elf(data)
        with self.assertRaisesRegex(ValueError, "no list"):
            auditable.read(small())


if __name__ == "__main__":
    unittest.main()
