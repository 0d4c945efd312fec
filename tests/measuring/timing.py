"""Runs commands in turn and tells what they took: shared by tests/measure and tests/bench."""

import dataclasses
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of one command: seconds, seconds of all processors, greatest resident size in MiB, and the seconds that
    were left when it first said what was asked for."""

    wall: float
    cpu: float
    peak: float
    rest: float = 0.0


def run(command, cwd=None, env=None, ok=(0,), mark=None):
    """Runs a command; ends the program with what it said when its exit code is none of `ok`. With `mark`, bytes that it
    writes to its standard error, the moment of the first line with them is noted."""
    marked = None
    with tempfile.NamedTemporaryFile(mode="r") as told, tempfile.TemporaryFile(mode="w+") as said:
        # In between, because Python's own size would count as that of the command.
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        timed = ["/usr/bin/time", "-f", "%M", "-o", told.name, *map(os.fspath, command)]
        done = subprocess.Popen(timed, cwd=cwd, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE if mark else said)
        for line in done.stderr or ():
            said.write(line.decode(errors="replace"))
            if marked is None and mark in line:
                marked = time.perf_counter()
        done.wait()
        end, after = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        wall, rest = end - start, end - marked if marked else 0.0
        if done.returncode not in ok:
            said.seek(0)
            sys.exit(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{said.read()}")
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return Run(wall, cpu, int(told.read().split()[-1]) / 1024, rest)


def median(runs, field):
    """The median of one figure."""
    return statistics.median(getattr(run, field) for run in runs)


def peak(runs):
    """The greatest resident size of all runs, in MiB."""
    return max(run.peak for run in runs)


def ratio(base, runs, field="wall"):
    """How many times faster than `base`, run by run in turn: the median, and the least and greatest."""
    ratios = [getattr(first, field) / second.wall for first, second in zip(base, runs, strict=True)]
    return statistics.median(ratios), min(ratios), max(ratios)


def table(rows):
    """Prints rows of text with aligned columns; the first column to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [cell.ljust(width) if at == 0 else cell.rjust(width) for at, (cell, width) in enumerate(zip(row, widths))]
        print("  ".join(cells).rstrip())
    sys.stdout.flush()
