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
    """One run of one command: seconds, seconds of all processors, greatest resident size in MiB."""

    wall: float
    cpu: float
    peak: float


def run(command, cwd=None, env=None, ok=(0,)):
    """Runs a command; ends the program with what it said when its exit code is none of `ok`."""
    with tempfile.NamedTemporaryFile(mode="r") as told, tempfile.TemporaryFile(mode="w+") as said:
        # In between, because Python's own size would count as that of the command.
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        timed = ["/usr/bin/time", "-f", "%M", "-o", told.name, *map(os.fspath, command)]
        done = subprocess.run(timed, cwd=cwd, env=env, stdout=subprocess.DEVNULL, stderr=said)
        wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode not in ok:
            said.seek(0)
            sys.exit(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{said.read()}")
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return Run(wall, cpu, int(told.read().split()[-1]) / 1024)


def median(runs, field):
    """The median of one figure."""
    return statistics.median(getattr(run, field) for run in runs)


def peak(runs):
    """The greatest resident size of all runs, in MiB."""
    return max(run.peak for run in runs)


def ratio(base, runs):
    """How many times faster than `base`, run by run in turn: the median, and the least and greatest."""
    ratios = [first.wall / second.wall for first, second in zip(base, runs, strict=True)]
    return statistics.median(ratios), min(ratios), max(ratios)


def table(rows):
    """Prints rows of text with aligned columns; the first column to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [cell.ljust(width) if at == 0 else cell.rjust(width) for at, (cell, width) in enumerate(zip(row, widths))]
        print("  ".join(cells).rstrip())
    sys.stdout.flush()
