#!/usr/bin/env python3
"""check.py says PASS for a restore made by GNU tar and FAIL for each planted fault. Needs root; skipped without."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

import check
import tree

HERE = pathlib.Path(__file__).resolve().parent
# GNU tar resolves owner names through /etc/passwd; in a mount namespace of its own that is the box's.
AS_ON_THE_BOX = 'mount --bind "$1/etc/passwd" /etc/passwd && mount --bind "$1/etc/group" /etc/group && shift && exec "$@"'


def run(*command, **more):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, **more)


def untar(box, backup, target, paths):
    target.mkdir(parents=True, exist_ok=True)
    extract = ("tar", "--extract", "--gzip", "--file", backup, "--directory", target, "--same-owner", "--same-permissions")
    # Each member by its own name, so that left-out ones stay left out.
    extract += ("--no-recursion",)
    done = run("unshare", "--mount", "sh", "-c", AS_ON_THE_BOX, "sh", box, *extract, "--", *paths)
    assert done.returncode == 0, done.stderr


def restore(box, backup, expected):
    """What Lifeboat is to do, by other means."""
    for name, app in expected["apps"].items():
        dropins = set(app["dropins"])
        paths = [os.fsdecode(tree.unquoted(e["path"])) for e in app["entries"] if e["path"] not in dropins]
        if app["road"] == "parked":
            untar(box, backup, box / os.fsdecode(check.PARKED) / name, paths)
        elif app["road"] == "in-place":
            saved = {path: os.readlink(box / path) for path in dropins}
            times = {path: os.lstat(box / path).st_mtime for path in dropins}
            for folder in app["directories"]:
                shutil.rmtree(box / folder)
            for path in paths:
                if (box / path).is_symlink() or (box / path).is_file():
                    (box / path).unlink()
            untar(box, backup, box, paths)
            for path, target in saved.items():
                os.symlink(target, box / path)
                os.utime(box / path, (times[path], times[path]), follow_symlinks=False)
    (box / "var/lib/lifeboat/bin").mkdir(parents=True, exist_ok=True)
    (box / "var/lib/lifeboat").chmod(0o700)
    (box / os.fsdecode(check.BINARY)).write_text("#!/bin/sh\n")
    (box / os.fsdecode(check.BINARY)).chmod(0o755)
    for unit, wants in check.UNITS.items():
        folder = box / os.fsdecode(check.UNIT_FOLDER)
        (folder / os.fsdecode(unit)).write_text("[Unit]\n")
        if wants:
            (folder / os.fsdecode(wants) / os.fsdecode(unit)).symlink_to(f"../{os.fsdecode(unit)}")


@unittest.skipIf(os.geteuid() != 0, "SKIPPED: setting owners and mount namespaces need root")
class Check(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        os.umask(0o022)
        cls.work = pathlib.Path(tempfile.mkdtemp())
        made = run(sys.executable, "-B", HERE / "make.py", cls.work, "--size", "2")
        assert made.returncode == 0, made.stderr
        cls.expected = json.loads((cls.work / "expected.json").read_text())
        run("cp", "-a", cls.work / "box", cls.work / "restored")
        restore(cls.work / "restored", cls.work / "backup.tar.gz", cls.expected)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.work)

    def setUp(self):
        self.root = self.work / "case"
        run("cp", "-a", self.work / "restored", self.root, check=True)

    def tearDown(self):
        shutil.rmtree(self.root)

    def verdict(self, root=None):
        return run(sys.executable, "-B", HERE / "check.py", root or self.root, self.work / "expected.json")

    def assert_fails(self, sentence):
        done = self.verdict()
        self.assertIn(sentence, done.stdout)
        self.assertEqual(done.returncode, 1)

    def test_a_restore_by_gnu_tar_passes(self):
        done = self.verdict()
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertNotIn("FAIL", done.stdout)

    def test_every_road_is_in_the_sample(self):
        self.assertEqual({app["road"] for app in self.expected["apps"].values()}, {"in-place", "parked"})

    def test_the_box_before_the_restore_fails(self):
        done = self.verdict(self.work / "box")
        self.assertEqual(done.returncode, 1)
        for name in self.expected["apps"]:
            self.assertIn(f"FAIL {name} ", done.stdout)
        self.assertIn("FAIL next boot", done.stdout)
        self.assertIn("PASS everything else", done.stdout)

    def test_the_old_boxs_number_as_owner_fails(self):
        os.chown(self.root / "var/lib/radicale", 106, 109)
        self.assert_fails("var/lib/radicale: user is avahi, should be radicale")

    def test_one_wrong_byte_fails(self):
        path = self.root / "var/lib/mediawiki/images/4/4a/Film.webm"
        times = os.stat(path)
        with open(path, "r+b") as file:
            file.seek(1_000_000)
            byte = file.read(1)[0]
            file.seek(1_000_000)
            file.write(bytes([byte ^ 1]))
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        self.assert_fails("Film.webm: content is")

    def test_a_missing_file_fails(self):
        os.unlink(os.path.join(os.fsencode(self.root), b"var/lib/tiddlywiki/Gr\xfc\xdfe.html"))
        self.assert_fails("var/lib/tiddlywiki/Gr%FC%DFe.html is missing")

    def test_a_missing_empty_directory_fails(self):
        (self.root / "var/lib/radicale/collections/collection-root/empty").rmdir()
        self.assert_fails("collection-root/empty is missing")

    def test_a_file_of_the_old_data_left_over_fails(self):
        (self.root / "var/lib/mediawiki-db/my_wiki.sqlite-wal").write_bytes(b"")
        self.assert_fails("var/lib/mediawiki-db/my_wiki.sqlite-wal should not be there")

    def test_a_wrong_mode_fails(self):
        (self.root / "etc/ssh/ssh_host_rsa_key").chmod(0o644)
        self.assert_fails("etc/ssh/ssh_host_rsa_key: mode is 0644, should be 0600")

    def test_a_lost_setgid_bit_fails(self):
        (self.root / "var/lib/git/notes.git/refs").chmod(0o775)
        self.assert_fails("refs: mode is 0775, should be 2775")

    def test_a_wrong_time_fails(self):
        os.utime(self.root / "etc/radicale/config", (1, 1))
        self.assert_fails("etc/radicale/config: time is 1,")

    def test_a_broken_hard_link_fails(self):
        path = self.root / "var/lib/git/copy of notes.git/objects/pack/pack-0123456789abcdef.pack"
        shutil.copy2(path, f"{path}.copy")
        os.chown(f"{path}.copy", *os.stat(path)[4:6])
        os.rename(f"{path}.copy", path)
        self.assert_fails("is no longer the same file as")

    def test_a_bent_symbolic_link_fails(self):
        path = self.root / "etc/localtime"
        path.unlink()
        path.symlink_to("/usr/share/zoneinfo/Etc/UTC")
        self.assert_fails("etc/localtime: target is /usr/share/zoneinfo/Etc/UTC")

    def test_a_replaced_dropin_fails(self):
        path = self.root / "etc/letsencrypt/renewal-hooks/deploy/50-freedombox"
        path.unlink()
        path.write_text("#!/bin/sh\n")
        self.assert_fails("50-freedombox: kind is file, should be symlink")

    def test_writing_through_a_dropin_fails(self):
        path = self.root / "usr/share/freedombox/etc/letsencrypt/renewal-hooks/deploy/50-freedombox"
        path.write_text("#!/bin/sh\n")
        self.assert_fails("FAIL everything else")

    def test_parked_data_put_in_place_fails(self):
        parked = self.root / "var/lib/lifeboat/parked/syncthing"
        shutil.rmtree(parked)
        self.assert_fails("FAIL syncthing (parked)")

    def test_a_parked_dropin_fails(self):
        (self.root / "var/lib/lifeboat/parked/wordpress/etc/wordpress/freedombox-static.php").write_text("")
        self.assert_fails("freedombox-static.php should not be there")

    def test_a_timer_that_is_not_enabled_fails(self):
        (self.root / "etc/systemd/system/timers.target.wants/lifeboat-finish.timer").unlink()
        self.assert_fails("lifeboat-finish.timer is not enabled")

    def test_parked_data_open_to_everybody_fails(self):
        (self.root / "var/lib/lifeboat").chmod(0o755)
        self.assert_fails("var/lib/lifeboat is open to others than root")

    def test_a_change_outside_the_apps_fails(self):
        (self.root / "var/lib/plinth/plinth.sqlite3").write_bytes(b"")
        self.assert_fails("(belongs to no restored app)")


@unittest.skipIf(shutil.which("fakeroot") is None, "SKIPPED: fakeroot is not installed")
class Make(unittest.TestCase):
    def test_equal_arguments_make_equal_backups_and_expectations(self):
        with tempfile.TemporaryDirectory() as work:
            for name in ("a", "b"):
                run("fakeroot", sys.executable, "-B", HERE / "make.py", f"{work}/{name}", check=True)
            for file in ("backup.tar.gz", "expected.json"):
                self.assertEqual(*(pathlib.Path(work, name, file).read_bytes() for name in ("a", "b")))

    def test_every_variant_of_the_box_can_be_made(self):
        with tempfile.TemporaryDirectory() as work:
            for variant in (["--box", "23.6.2"], ["--box", "26.15"], ["--never-booted"], ["--apps", "radicale,ssh"]):
                done = run("fakeroot", sys.executable, "-B", HERE / "make.py", work, *variant)
                self.assertEqual(done.returncode, 0, done.stderr)
                expected = json.loads(pathlib.Path(work, "expected.json").read_text())
                roads = {name: app["road"] for name, app in expected["apps"].items()}
                if "23.6.2" in variant:
                    self.assertEqual((roads["radicale"], roads["datetime"]), ("blocked", "in-place"))
                if "26.15" in variant:
                    self.assertEqual(roads["radicale"], "in-place")
                if "--never-booted" in variant:
                    self.assertEqual((roads["ssh"], roads["radicale"]), ("parked", "parked"))
                    self.assertFalse(pathlib.Path(work, "box/var/lib/plinth/plinth.sqlite3").exists())
                if "--apps" in variant:
                    self.assertEqual(sorted(roads), ["radicale", "ssh"])


if __name__ == "__main__":
    unittest.main()
