#!/usr/bin/env python3
"""Prints how Lifeboat restores backup files beside GNU tar; started by tests/measure, which has the words for it."""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "sample"))

import data
import timing

MIB = data.MIB
# What a restore should take at most, in times of what GNU tar takes to extract, and in MiB.
GOAL, MOST_MEMORY = 1.0, 32
# What restic would ask for.
RESTIC = {**os.environ, "RESTIC_PASSWORD": "measure"}
PACKERS = {"tar.gz": ("gzip",), "tar.zst": ("zstd", "--quiet", "-3", "--stdout")}


class Place:
    """The folder that everything lies in, and the programs."""

    def __init__(self, folder, options):
        self.folder, self.options = folder, options
        self.out, self.box, self.repository = folder / "out", folder / "box", folder / "restic"

    def empty(self):
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir()
        os.sync()
        return self.out

    def tar(self, backup, is_synced):
        """GNU tar, which finds out by itself how the backup is packed."""
        words = ["tar", "--extract", "--file", backup, "--directory", self.empty()]
        if is_synced:
            words = ["sh", "-c", 'tar --extract --file "$0" --directory "$1" && sync --file-system "$1"', backup, self.out]
        return timing.run(words)

    def freedombox(self, backup):
        """What FreedomBox does with an uploaded backup."""
        folders = [f"/{path}" for path in data.APPS.values()]
        return timing.run([sys.executable, "-B", HERE / "upload.py", backup, self.empty(), *folders])

    def restic(self, *words):
        return ["restic", "--quiet", "--no-cache", "--repo", self.repository, *words]

    def fill_restic(self, tree):
        """Backs the same data up with restic."""
        shutil.rmtree(self.repository, ignore_errors=True)
        for words in (self.restic("init"), self.restic("backup", "var")):
            subprocess.run(words, cwd=tree, env=RESTIC, check=True, stdout=subprocess.DEVNULL)

    def from_restic(self):
        """restic's restore of the same data from its own repository; it reads back what it wrote."""
        return timing.run(self.restic("restore", "latest", "--target", self.empty(), "--verify"), env=RESTIC)

    def verify(self, backup):
        return timing.run([self.options.program, "verify", backup])

    def extract(self, backup):
        return timing.run([self.options.bench, "extract", backup, self.empty()])

    def restore(self, backup):
        """A whole restore of all apps onto a fresh box."""
        shutil.rmtree(self.out, ignore_errors=True)
        subprocess.run(["cp", "-a", self.box, self.out], check=True)
        request = ("--from", backup, "--onto", self.out)
        plan = subprocess.run(
            [self.options.program, "plan", *request, "--json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        consent = json.loads(plan.stdout)["id"]
        os.sync()
        words = [self.options.program, "--json", "restore", *request, "--consent", consent]
        return timing.run(words, mark=b'"stage"')


def pack(tree, backup, packer):
    """An archive as FreedomBox's downloads are."""
    with open(backup, "wb") as file:
        tar = subprocess.Popen(["tar", "--create", "--directory", tree, "var"], stdout=subprocess.PIPE)
        subprocess.run(packer, stdin=tar.stdout, stdout=file, check=True)
        if tar.wait() != 0:
            sys.exit("tar could not make the backup")


def measure(place, backup):
    steps = {
        "tar": lambda: place.tar(backup, False),
        "tar+sync": lambda: place.tar(backup, True),
        "verify": lambda: place.verify(backup),
        "extract": lambda: place.extract(backup),
        "restore": lambda: place.restore(backup),
    }
    if backup.suffix == ".gz":
        steps["freedombox"] = lambda: place.freedombox(backup)
        steps["restic"] = place.from_restic
    runs = {what: [] for what in steps}
    for _ in range(place.options.runs):
        for what, step in steps.items():
            with open(backup, "rb") as file:
                while file.read(MIB):
                    pass
            runs[what].append(step())
    return runs


def rows_of(name, runs):
    for what, values in runs.items():
        times = timing.ratio(values, runs["tar"])
        cells = [f"{name}: {what}", f"{timing.median(values, 'wall'):.2f}", f"{times[0]:.2f}", f"{times[1]:.2f}-{times[2]:.2f}"]
        cells.append(f"{GOAL:g}" if what == "restore" else "")
        yield cells + [f"{timing.median(values, 'cpu'):.2f}", f"{timing.peak(values):.0f}"]
        if what == "restore":
            rest = timing.ratio(values, runs["tar"], "rest")
            cells = [f"{name}: of it, agreed", f"{timing.median(values, 'rest'):.2f}", f"{rest[0]:.2f}"]
            yield cells + [f"{rest[1]:.2f}-{rest[2]:.2f}", "", "", ""]


def parse_arguments():
    parser = argparse.ArgumentParser(prog="tests/measure")
    for program in ("program", "bench"):
        parser.add_argument(f"--{program}", required=True, type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, default=1024, metavar="MIB", help="of the data (default: 1024)")
    parser.add_argument("--files", type=int, default=5_000, help="how many in it (default: 5000)")
    parser.add_argument("--small-files", type=int, default=100_000, help="how many in the other backup (default: 100000)")
    parser.add_argument("--runs", type=int, default=5, help="how often (default: 5)")
    parser.add_argument("--folder", type=pathlib.Path, help="where to work (default: /var/tmp, a real disk as a rule)")
    options = parser.parse_args()
    options.program, options.bench = options.program.resolve(), options.bench.resolve()
    return options


def main():
    options = parse_arguments()
    folder = options.folder or pathlib.Path(os.environ.get("TMPDIR", "/var/tmp"))
    with tempfile.TemporaryDirectory(prefix="lifeboat-measure.", dir=folder) as work:
        place = Place(pathlib.Path(work), options)
        sample = [sys.executable, "-B", HERE.parent / "sample/make.py", place.folder / "sample", "--apps", ",".join(data.APPS)]
        subprocess.run(sample, check=True, stdout=subprocess.DEVNULL)
        (place.folder / "sample/box").rename(place.box)
        print(f"program: {options.program.stat().st_size} bytes; {os.cpu_count()} processors, "
              f"load before: {os.getloadavg()[0]:.1f}; in {folder}")
        rows = [["seconds", "median", "x tar", "from-to", "goal", "CPU", "peak MiB"]]
        small_size = max(1, options.small_files * 3 // 1024)
        for what, size, files, endings in (
            ("", options.size, options.files, ("tar.gz", "tar.zst")),
            ("small files, ", small_size, options.small_files, ("tar.gz",)),
        ):
            tree = place.folder / "tree"
            kinds = data.make(tree, size, files)
            backups = {ending: place.folder / f"backup.{ending}" for ending in endings}
            for ending, backup in backups.items():
                pack(tree, backup, PACKERS[ending])
                print(f"{what}{ending}: {kinds['files']} files, {(kinds['noise'] + kinds['text']) / MIB:.0f} MiB, "
                      f"packed {backup.stat().st_size / MIB:.0f} MiB")
            place.fill_restic(tree)
            shutil.rmtree(tree)
            for ending, backup in backups.items():
                rows += rows_of(f"{what}{ending}", measure(place, backup))
                backup.unlink()
        timing.table(rows)
        print(f"goals: a restore takes at most {GOAL} times as long as tar, memory at most {MOST_MEMORY} MiB")


if __name__ == "__main__":
    main()
