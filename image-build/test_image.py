#!/usr/bin/env python3
"""The image's parts, read by the original tools: cpio, the FAT checker, mtools, sfdisk."""

import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

import initramfs
import medium

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
        medium.write(path, self.FILES, "LIFEBOAT", "4c494645", "0c", 1_735_689_600, 0, (b"\xeb\x63", b"core"))
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

    def test_two_images_of_the_same_files_are_equal(self):
        os.environ["TZ"] = "Asia/Tokyo"
        try:
            self.assertEqual(self.image.read_bytes(), self.write("other").read_bytes())
        finally:
            del os.environ["TZ"]


if __name__ == "__main__":
    unittest.main()
