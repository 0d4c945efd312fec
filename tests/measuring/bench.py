#!/usr/bin/env python3
"""Prints how Lifeboat reads borg repositories beside borg itself; started by tests/bench, which has the words for it."""

import argparse
import hashlib
import json
import os
import pathlib
import shutil
import stat
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "sample"))

import data
import timing

MODES = ("none", "repokey")
PASSPHRASE = "bench"
# What the figures should reach at least, by what is done and mode: how many times faster than borg.
GOALS = {"list": (10, 6), "verify": (2.5, 2.2), "extract": (2.4, 2.2), "verify, one core": (1.1, 1.1), "extract, one core": (1.1, 1.1)}
MOST_CPU, MOST_MEMORY, MOST_MEMORY_OF_MILLION = 1.15, 48, 128
MIB = data.MIB


class Place:
    """The folder that everything lies in, and the programs."""

    def __init__(self, folder, options):
        self.folder, self.options = folder, options
        self.tree, self.out, self.box = folder / "tree", folder / "out", folder / "box"
        self.passphrase = folder / "passphrase"
        self.passphrase.write_text(PASSPHRASE)
        (folder / "home").mkdir()
        self.env = dict(
            os.environ,
            BORG_BASE_DIR=str(folder / "home"),
            BORG_PASSPHRASE=PASSPHRASE,
            BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK="yes",
            LC_ALL="C.UTF-8",
        )

    def repository(self, mode):
        return self.folder / mode

    def borg(self, *words, cwd=None, wrap=()):
        return timing.run([*wrap, self.options.borg, *words], cwd=cwd, env=self.env)

    def ours(self, *words, wrap=()):
        return timing.run([*wrap, self.options.program, *words], env=self.env)

    def unlock(self, mode):
        return () if mode == "none" else ("--passphrase-file", self.passphrase)

    def empty(self):
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir()
        return self.out

    def make_repository(self, mode):
        """One archive of the tree, made by borg as FreedomBox makes it: compressed with lz4."""
        self.borg("init", "--encryption", mode, self.repository(mode))
        self.borg("create", "--compression", "lz4", f"{self.repository(mode)}::bench", "var", cwd=self.tree)

    def stored(self, mode):
        files = (self.repository(mode) / "data").rglob("*")
        return sum(file.stat().st_size for file in files if file.is_file())

    def restore(self, mode):
        """A whole restore of all apps onto a fresh box."""
        shutil.rmtree(self.out, ignore_errors=True)
        subprocess.run(["cp", "-a", self.box, self.out], check=True)
        request = ("--from", self.repository(mode), "--onto", self.out, *self.unlock(mode))
        plan = subprocess.run(
            [self.options.program, "plan", *request, "--json"], env=self.env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        return self.ours("restore", *request, "--consent", json.loads(plan.stdout)["id"])

    def extract(self, mode, wrap=()):
        out = self.empty()
        command = [*wrap, self.options.bench, "extract", self.repository(mode), out, PASSPHRASE]
        return timing.run(command, env=self.env)

    def borg_extract(self, mode, wrap=()):
        return self.borg("extract", f"{self.repository(mode)}::bench", cwd=self.empty(), wrap=wrap)


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest() if hasattr(hashlib, "file_digest") else hashlib.sha256(file.read()).digest()


def require_same(expected, found, whose):
    """Ends the program unless everything below `expected` is below `found`, byte by byte, with modes and times."""

    def look(root):
        entries = {}
        for folder, _, files in os.walk(root):
            for name in files:
                path = os.path.join(folder, name)
                meta = os.lstat(path)
                entries[os.path.relpath(path, root)] = (stat.S_IMODE(meta.st_mode), meta.st_size, meta.st_mtime_ns, path)
        return entries

    wanted, got = look(expected), look(found)
    for name in sorted(wanted.keys() | got.keys()):
        one, other = wanted.get(name), got.get(name)
        if one is None or other is None or one[:3] != other[:3] or digest(one[3]) != digest(other[3]):
            sys.exit(f"{whose}: '{name}' is not what was backed up")


def floor(rates, kinds, stored, mode, writes):
    """Seconds of one core that the unavoidable steps take: what borg's format demands to be checked and, for an
    extraction, written."""
    plain = kinds["noise"] + kinds["text"]
    seconds = plain / rates["sha256" if mode == "none" else "hmac"]
    seconds += kinds["text"] / rates["lz4"] + stored / rates["crc32"] + stored / rates["read"]
    if mode == "repokey":
        seconds += stored / rates["hmac"] + stored / rates["aes"]
    if writes:
        seconds += plain / rates["write"] + kinds["files"] / rates["make"]
    return seconds


def measure_rates(place):
    sample = next(iter(sorted((place.tree / "var/lib/tiddlywiki").iterdir())))
    told = subprocess.run([place.options.bench, "rates", sample, place.empty()], stdout=subprocess.PIPE, check=True)
    return json.loads(told.stdout)


def measure(place, mode, one_core):
    """All commands in turn, borg's and ours one after the other; the first turn also compares what was extracted."""
    repository = place.repository(mode)
    core = ("taskset", "--cpu-list", str(one_core))
    pairs = {
        "list": (
            lambda: place.borg("list", f"{repository}::bench"),
            lambda: place.ours("list", repository, *place.unlock(mode)),
        ),
        "verify": (
            lambda: place.borg("check", "--verify-data", repository),
            lambda: place.ours("verify", repository, *place.unlock(mode)),
        ),
        "extract": (lambda: place.borg_extract(mode), lambda: place.extract(mode)),
        "restore": (lambda: place.borg_extract(mode), lambda: place.restore(mode)),
        "verify, one core": (
            lambda: place.borg("check", "--verify-data", repository, wrap=core),
            lambda: place.ours("verify", repository, *place.unlock(mode), wrap=core),
        ),
        "extract, one core": (lambda: place.borg_extract(mode, core), lambda: place.extract(mode, core)),
    }
    runs, rates = {what: ([], []) for what in pairs}, []
    for turn in range(place.options.runs):
        if not place.options.small:
            rates.append(measure_rates(place))
        for what, pair in pairs.items():
            for side, (command, whose) in enumerate(zip(pair, ("borg", "lifeboat"))):
                runs[what][side].append(command())
                if turn == 0 and what in ("extract", "restore"):
                    below = [""] if what == "extract" or side == 0 else data.APPS.values()
                    for path in below:
                        require_same(place.tree / path, place.out / path, f"{mode}, {what}, {whose}")
    rates = {name: sorted(rate[name] for rate in rates)[len(rates) // 2] for name in (rates[0] if rates else ())}
    return runs, rates


def rows_of(mode, runs, rates, kinds, stored):
    """One line of the table for each thing that was measured."""
    for what, (borg, ours) in runs.items():
        faster, least, most = timing.ratio(borg, ours)
        goal = GOALS.get(what, (None, None))[MODES.index(mode)]
        cells = [f"{mode}: {what}", f"{timing.median(borg, 'wall'):.2f}", f"{timing.median(ours, 'wall'):.2f}"]
        cells += [f"{faster:.2f}", f"{least:.2f}-{most:.2f}", "" if goal is None else f"{goal:g}"]
        cells += [f"{timing.median(borg, 'cpu'):.2f}", f"{timing.median(ours, 'cpu'):.2f}"]
        if rates and what.split(",")[0] in ("verify", "extract"):
            lowest = floor(rates, kinds, stored, mode, what.startswith("extract"))
            cells += [f"{lowest:.2f}", f"{timing.median(ours, 'cpu') / lowest:.2f}"]
        else:
            cells += ["", ""]
        yield cells + [f"{timing.peak(borg):.0f}", f"{timing.peak(ours):.0f}"]


def print_million(place):
    """How much memory a backup of very many files takes."""
    kinds = data.make(place.tree, 512, 1_000_000)
    place.make_repository("none")
    print(f"{kinds['files']} files, {(kinds['noise'] + kinds['text']) / MIB:.0f} MiB; goal: {MOST_MEMORY_OF_MILLION} MiB")
    steps = {
        "list": lambda: place.ours("list", place.repository("none")),
        "verify": lambda: place.ours("verify", place.repository("none")),
        "restore": lambda: place.restore("none"),
    }
    rows = [["", "seconds", "CPU s", "peak MiB"]]
    for what, step in steps.items():
        run = step()
        rows.append([what, f"{run.wall:.1f}", f"{run.cpu:.1f}", f"{run.peak:.0f}"])
    timing.table(rows)
    for path in data.APPS.values():
        require_same(place.tree / path, place.out / path, "restore")
    print("everything restored is what was backed up")


def print_table(place, size, files):
    kinds = data.make(place.tree, size, files)
    plain = kinds["noise"] + kinds["text"]
    print(f"data: {kinds['files']} files, {plain / MIB:.0f} MiB, {100 * kinds['noise'] / plain:.0f} % do not compress")
    one_core = max(os.sched_getaffinity(0))
    head = ["seconds", "borg", "ours", "faster", "from-to", "goal", "borg CPU", "our CPU", "floor", "x floor", "borg MiB", "our MiB"]
    rows = [head]
    for mode in MODES:
        place.make_repository(mode)
        stored = place.stored(mode)
        runs, rates = measure(place, mode, one_core)
        rows += rows_of(mode, runs, rates, kinds, stored)
        if not rates:
            continue
        shown = ", ".join(f"{name} {rate / MIB:.0f}" for name, rate in rates.items() if name != "make")
        print(f"{mode}: {stored / MIB:.0f} MiB stored; one core, MiB/s: {shown}; makes {rates['make']:.0f} files/s")
    timing.table(rows)
    print(f"goals: CPU at most {MOST_CPU} times the floor, memory at most {MOST_MEMORY} MiB with two threads")
    print("what borg and Lifeboat extracted and restored is what was backed up, byte by byte")


def parse_arguments():
    parser = argparse.ArgumentParser(prog="tests/bench", formatter_class=argparse.RawDescriptionHelpFormatter)
    for program in ("program", "bench", "borg"):
        parser.add_argument(f"--{program}", required=True, type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, default=1536, metavar="MIB", help="of the reference data (default: 1536)")
    parser.add_argument("--files", type=int, default=10_000, help="how many (default: 10000)")
    parser.add_argument("--runs", type=int, default=5, help="pairs of runs (default: 5)")
    parser.add_argument("--small", action="store_true", help="a fiftieth of the data and one pair of runs: only to see that it works")
    parser.add_argument("--million", action="store_true", help="instead: the memory for a backup of 1,000,000 small files")
    parser.add_argument("--folder", type=pathlib.Path, help="where to work (default: /dev/shm where it has room)")
    options = parser.parse_args()
    for program in ("program", "bench", "borg"):
        setattr(options, program, getattr(options, program).resolve())
    return options


def main():
    options = parse_arguments()
    if options.small:
        options.size, options.files, options.runs = options.size // 50, options.files // 50, 1
    needed = (6 if not options.million else 20) * (512 if options.million else options.size) * MIB
    folder = options.folder or pathlib.Path("/dev/shm")
    if not folder.is_dir() or shutil.disk_usage(folder).free < needed:
        print(f"{folder} has no room for {needed / MIB:.0f} MiB; working in {tempfile.gettempdir()}, so disks count as well")
        folder = tempfile.gettempdir()
    with tempfile.TemporaryDirectory(prefix="lifeboat-bench.", dir=folder) as work:
        place = Place(pathlib.Path(work), options)
        sample = [sys.executable, "-B", HERE.parent / "sample/make.py", place.folder / "sample", "--apps", ",".join(data.APPS)]
        subprocess.run(sample, check=True)
        (place.folder / "sample/box").rename(place.box)
        version = subprocess.run([options.borg, "--version"], stdout=subprocess.PIPE, text=True, check=True)
        load = os.getloadavg()[0]
        print(f"{version.stdout.strip()}; {os.cpu_count()} processors, load before: {load:.1f}; in {folder}")
        if options.million:
            print_million(place)
        else:
            print_table(place, options.size, options.files)


if __name__ == "__main__":
    main()
