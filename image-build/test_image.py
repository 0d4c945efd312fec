#!/usr/bin/env python3
"""The image's parts, read by the original tools: cpio, the FAT checker, mtools, sfdisk."""

import hashlib
import os
import pathlib
import shutil
import struct
import subprocess
import tempfile
import unittest
import zlib

import closure
import definition
import hosttools
import initramfs
import loader
import medium
import packages
import sbom

os.environ["PATH"] += ":/usr/sbin:/sbin"


def needs(*tools):
    missing = [tool for tool in tools if shutil.which(tool) is None]
    return unittest.skipIf(missing, f"SKIPPED: not installed: {', '.join(missing)}")


def output(*command, **more):
    return subprocess.run([str(word) for word in command], check=True, capture_output=True, **more).stdout


class Initramfs(unittest.TestCase):
    def archive(self):
        cpio = initramfs.Cpio(epoch=1_735_689_600)
        cpio.file("usr/bin/tool", b"#!/bin/sh\n", 0o755)
        cpio.file("init", b"odd", 0o755)
        cpio.symlink("lib", "usr/lib")
        cpio.directory("proc")
        return cpio

    @needs("cpio")
    def test_gnu_cpio_reads_names_modes_links_and_content(self):
        listing = output("cpio", "--list", "--verbose", "--numeric-uid-gid", input=self.archive().write()).decode()
        rows = {line.split()[8]: line for line in listing.splitlines()}
        self.assertEqual(sorted(rows), ["init", "lib", "proc", "usr", "usr/bin", "usr/bin/tool"])
        self.assertTrue(rows["usr/bin/tool"].startswith("-rwxr-xr-x"))
        self.assertTrue(rows["lib"].endswith("lib -> usr/lib"))
        self.assertTrue(all(line.split()[2:4] == ["0", "0"] for line in rows.values()))
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(
                ["cpio", "--extract", "--quiet", "--no-preserve-owner"], input=self.archive().write(), cwd=folder, check=True
            )
            self.assertEqual(pathlib.Path(folder, "usr/bin/tool").read_bytes(), b"#!/bin/sh\n")
            self.assertEqual(pathlib.Path(folder, "init").read_bytes(), b"odd")

    def test_the_order_of_adding_does_not_matter(self):
        other = initramfs.Cpio(epoch=1_735_689_600)
        other.directory("proc")
        other.symlink("lib", "usr/lib")
        other.file("init", b"odd", 0o755)
        other.file("usr/bin/tool", b"#!/bin/sh\n", 0o755)
        self.assertEqual(self.archive().write(), other.write())


@needs("mkfs.vfat", "fsck.vfat", "mcopy", "sfdisk")
class Medium(unittest.TestCase):
    FILES = {"EFI/BOOT/BOOTX64.EFI": b"MZ" * 5000, "README.txt": b"hello\r\n", "a/long name with spaces.txt": b"x"}

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.image = self.write("image")

    def tearDown(self):
        shutil.rmtree(self.folder)

    def write(self, name):
        path = self.folder / name
        loaders = {8192: b"board", medium.LOADER_START: b"core"}
        installed = hosttools.Installed()
        medium.write(path, installed, self.FILES, "LIFEBOAT", "4c494645", "0c", 1_735_689_600, 0, b"\xeb\x63", loaders)
        return path

    def test_the_partition_table_is_what_sfdisk_expects(self):
        dump = output("sfdisk", "--dump", self.image).decode()
        self.assertIn("label: dos", dump)
        self.assertIn("label-id: 0x4c494645", dump)
        self.assertRegex(dump, r"start= +8192, size= +\d+, type=c, bootable")

    def test_the_file_system_is_clean_and_holds_the_files(self):
        fat = self.folder / "fat"
        fat.write_bytes(self.image.read_bytes()[medium.PARTITION_START :])
        output("fsck.vfat", "-n", fat)
        for name, data in self.FILES.items():
            self.assertEqual(output("mcopy", "-i", fat, f"::/{name}", "-"), data)
        self.assertIn(b"LIFEBOAT", output("mdir", "-i", fat, "::/"))

    def test_the_loader_lies_where_the_boot_sector_looks(self):
        data = self.image.read_bytes()
        self.assertEqual(data[:2], b"\xeb\x63")
        self.assertEqual(data[medium.LOADER_START : medium.LOADER_START + 4], b"core")
        self.assertEqual(data[8192 : 8192 + 5], b"board")

    def test_a_loader_that_would_lie_on_another_or_in_the_partition_is_refused(self):
        for loaders in ({8192: bytes(2 * medium.MIB), medium.LOADER_START: b"core"}, {3 * medium.MIB: bytes(2 * medium.MIB)}):
            with self.assertRaisesRegex(ValueError, "does not fit"):
                path = self.folder / "bad"
                medium.write(path, hosttools.Installed(), {}, "LIFEBOAT", "4c494645", "0c", 0, 0, b"", loaders)

    def test_two_images_of_the_same_files_are_equal(self):
        os.environ["TZ"] = "Asia/Tokyo"
        try:
            self.assertEqual(self.image.read_bytes(), self.write("other").read_bytes())
        finally:
            del os.environ["TZ"]


class Modules(unittest.TestCase):
    def test_what_a_list_leaves_out_is_left_out_and_what_is_needed_comes_along(self):
        tree = pathlib.Path(tempfile.mkdtemp()) / "6.12-test"
        (tree / "kernel/lib").mkdir(parents=True)
        for name in ("wanted", "test_it", "needed"):
            (tree / f"kernel/lib/{name}.ko").write_bytes(name.encode())

        class Depmod:
            """Writes what depmod(8) finds out, for modules that are none."""

            def command(self, _):
                script = (
                    'd=$2/lib/modules/$3; : >$d/modules.alias; : >$d/modules.symbols; : >$d/modules.builtin; '
                    'echo "softdep wanted post: needed" >$d/modules.softdep; '
                    'for f in $(cd $d && find kernel -name "*.ko"); do echo "$f:"; done >$d/modules.dep'
                )
                return ["sh", "-c", script, "depmod"]

        cpio = initramfs.Cpio(0)
        self.assertEqual(initramfs.add_modules(cpio, Depmod(), tree, ["lib/*", "!lib/test_*", "!lib/needed"]), 2)
        names = sorted(pathlib.PurePosixPath(path).stem for path in cpio.entries if path.endswith(".ko"))
        self.assertEqual(names, ["needed", "wanted"])
        shutil.rmtree(tree.parent)


class Definition(unittest.TestCase):
    """The declarations agree with each other; whether the packages hold what they name, the build says."""

    def test_every_board_names_an_architecture_and_loaders_below_the_partition(self):
        boards = definition.boards()
        self.assertIn("lime2", boards.sections())
        for name in boards.sections():
            self.assertIn(boards[name]["arch"], definition.ARCHITECTURES, name)
            for line in boards[name]["loader"].splitlines():
                _, place = line.split()
                self.assertTrue(medium.SECTOR <= int(place) * 1024 < medium.PARTITION_START, name)
            self.assertIn(boards[name]["rom"], loader.LARGEST, name)
            # Its boot loader comes from packages that are fetched for boards alone.
            self.assertTrue(definition.architecture(boards[name]["arch"]).has_section("packages.boards"), name)

    def test_every_architecture_has_a_program_a_kernel_a_budget_and_its_lists_of_modules(self):
        for arch in definition.ARCHITECTURES:
            parser = definition.architecture(arch)
            self.assertIn(arch, definition.common()["budget"])
            self.assertTrue(parser["build"]["rust_target"].endswith(("musl", "musleabihf")))
            self.assertIn(f"lifeboat/{arch}/vmlinuz", parser["files from packages"])
            self.assertTrue(initramfs.module_patterns(definition.FOLDER / "modules", parser["modules"]["lists"].split()))
            for sources in ("files", "firmware"):
                for source in definition.section(parser, sources).values():
                    self.assertTrue((definition.FOLDER / source).is_file(), source)

    def test_every_language_of_the_guide_has_a_keyboard_and_the_kernels_own_is_the_first(self):
        layouts = definition.common()["keyboards"]
        self.assertEqual(next(iter(layouts)), "en-us")
        for language in ("en", "de", "fr", "es"):
            self.assertTrue(any(name.startswith(language) for name in layouts), language)
        for name, value in layouts.items():
            self.assertRegex(f"{name} {value}", r"^[a-z-]+ \w+/[\w-]+\.kmap\.gz \S.*$")


class Loader(unittest.TestCase):
    """Cards as U-Boot's own tools make them, and what is wrong with them; real ones: `image-build/build --check-boards`."""

    def old_image(self, data):
        header = bytearray(struct.pack(">7I4B32s", loader.OLD_IMAGE, 0, 0, len(data), 0, 0, zlib.crc32(data), 17, 2, 5, 0, b"U-Boot"))
        struct.pack_into(">I", header, 4, zlib.crc32(header))
        return bytes(header) + data

    def allwinner(self, size=8192):
        first = bytearray(os.urandom(size))
        struct.pack_into("<8sII", first, 4, b"eGON.BT0", loader.STAMP, size)
        struct.pack_into("<I", first, 12, sum(struct.unpack(f"<{size // 4}I", first)) % (1 << 32))
        return bytearray(8192) + first + bytes(32768 - size) + self.old_image(b"second" * 100) + bytes(4096)

    def am335x(self):
        first = bytearray(struct.pack("<II12x12s", 64, 12, b"CHSETTINGS") + b"\xff" * 32 + struct.pack("<I", 0xC0C0C0C1)).ljust(512, b"\0")
        first += struct.pack("<II", 70000, 0x402F0400)
        return bytearray(128 * 1024) + first.ljust(256 * 1024, b"\0") + self.old_image(b"second" * 100) + bytes(4096)

    def test_a_card_as_the_processor_wants_it_is_right(self):
        loader.check(bytes(self.allwinner()), "allwinner")
        loader.check(bytes(self.am335x()), "am335x")

    def test_u_boot_as_a_device_tree_is_right_too(self):
        card = self.allwinner()
        struct.pack_into(">II", card, 40 * 1024, loader.TREE, 600)
        loader.check(bytes(card), "allwinner")

    def test_every_damaged_byte_that_the_processor_reads_is_noticed(self):
        for rom, card, places in (
            ("allwinner", self.allwinner(), (8192, 8196, 8204, 8208, 12000, 40960, 40970, 41100)),
            ("am335x", self.am335x(), (131072 + 20, 131072 + 40, 131072 + 64, 131072 + 516, 384 * 1024 + 1, 384 * 1024 + 70)),
        ):
            for place in places:
                bad = bytearray(card)
                bad[place] ^= 0x10
                with self.assertRaises(loader.Unstartable, msg=f"{rom} {place}"):
                    loader.check(bytes(bad), rom)

    def test_a_first_part_that_is_too_large_and_one_at_another_place_are_refused(self):
        with self.assertRaisesRegex(loader.Unstartable, "the processor takes"):
            card = self.allwinner()
            struct.pack_into("<I", card, 8192 + 16, 65536)
            loader.check(bytes(card), "allwinner")
        with self.assertRaisesRegex(loader.Unstartable, "no mark"):
            loader.check(bytes(512) + bytes(self.allwinner()), "allwinner")


class Packages(unittest.TestCase):
    def group(self, suites):
        return packages.Group("tools", {"suites": suites, "names": "hello"}, "armhf")

    def setUp(self):
        self.cache = pathlib.Path(tempfile.mkdtemp())
        self.asked, self.original = [], packages._download

    def tearDown(self):
        packages._download = self.original
        shutil.rmtree(self.cache)

    def answer(self, good):
        def download(group, suite, _cache, home):
            self.asked.append(suite)
            if suite != good:
                raise packages.FetchError("the index is not what the signed list says")
            (home / "debs").mkdir(parents=True, exist_ok=True)
            (home / "debs/hello.deb").write_bytes(b"deb")
            digest = hashlib.sha256(b"deb").hexdigest()
            (home / "packages.lock").write_text(f"{group.request()}\n{suite}\nhello 2.10 {digest} hello.deb\n")

        packages._download = download

    def test_a_suite_that_cannot_be_verified_is_passed_over_for_the_next(self):
        self.answer("bookworm")
        self.assertEqual(packages.fetch(self.group("trixie bookworm forky"), self.cache).suite, "bookworm")
        self.assertEqual(self.asked, ["trixie", "bookworm"])

    def test_without_any_good_suite_the_reasons_are_named(self):
        self.answer("sid")
        with self.assertRaisesRegex(packages.FetchError, "trixie: the index .*\nbookworm: the index"):
            packages.fetch(self.group("trixie bookworm"), self.cache)

    def test_a_package_that_changed_in_the_cache_is_fetched_again(self):
        self.answer("trixie")
        for _ in range(2):
            packages.fetch(self.group("trixie"), self.cache)
        self.assertEqual(self.asked, ["trixie"])
        (self.cache / "packages/armhf-tools/debs/hello.deb").write_bytes(b"bed")
        packages.fetch(self.group("trixie"), self.cache)
        self.assertEqual(self.asked, ["trixie", "trixie"])

    @needs("dpkg-deb")
    def test_files_in_lib_land_where_the_link_leads(self):
        source = self.cache / "source"
        (source / "DEBIAN").mkdir(parents=True)
        (source / "lib/modules").mkdir(parents=True)
        (source / "lib/modules/x.ko").write_bytes(b"module")
        control = "Package: old\nVersion: 1\nArchitecture: all\nMaintainer: nobody\nDescription: old\n"
        (source / "DEBIAN/control").write_text(control)
        (source / "DEBIAN").chmod(0o755)
        deb = self.cache / "old.deb"
        output("dpkg-deb", "--root-owner-group", "--build", source, deb)

        class Old:
            packages = [("old", "1", "0")]

            def unpack(self, tree):
                packages.extract(deb, tree)

        tree = packages.unpacked([Old()], self.cache / "tree")
        self.assertEqual((tree / "usr/lib/modules/x.ko").read_bytes(), b"module")
        self.assertTrue((tree / "lib").is_symlink())


class Closure(unittest.TestCase):
    def test_programs_are_told_apart_by_their_architecture(self):
        self.assertIn(closure.architecture(pathlib.Path("/proc/self/exe")), definition.ARCHITECTURES)
        self.assertIsNone(closure.architecture(pathlib.Path(__file__)))


class Bill(unittest.TestCase):
    def test_every_component_has_its_checksum_and_address(self):
        debian = [("lvm2", "2.03.31-2+b1", "a" * 64, "trixie", "arm64")]
        found = {("used", "1.0", "MIT/Apache-2.0"), ("deep", "1.0", "")}
        document = sbom.bill("0.1.0", debian, found, {("used", "1.0"): "b" * 64}, [])
        rows = {component["name"]: component for component in document["components"]}
        self.assertEqual(rows["lvm2"]["purl"], "pkg:deb/debian/lvm2@2.03.31-2%2Bb1?arch=arm64&distro=trixie")
        self.assertEqual(rows["lvm2"]["hashes"][0]["content"], "a" * 64)
        self.assertEqual(rows["used"]["hashes"][0]["content"], "b" * 64)
        self.assertEqual(rows["used"]["licenses"], [{"expression": "MIT OR Apache-2.0"}])
        self.assertNotIn("licenses", rows["deep"])


if __name__ == "__main__":
    unittest.main()
