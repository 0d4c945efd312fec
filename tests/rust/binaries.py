#!/usr/bin/env python3
"""binaries.py LOG [OPTION…]: builds the Rust tests (`cargo test --no-run OPTION…`) and runs their programs, two at a time.

One such program keeps two processors busy only until its longest test is alone, and many wait for disks and servers. What
a program printed stands in LOG in one piece, in the same order each time. One that fails, crashes, hangs or ends
without saying how its tests went counts as a failure. The last line is "N passed, N failed, N skipped"; a test that
cannot run here prints "SKIPPED: why" and counts as skipped.
"""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

PROJECT = pathlib.Path(__file__).resolve().parent.parent.parent
# Their promise is about memory, or about time: nothing else may run beside them.
ALONE = ("borg_memory", "source_memory", "web")
# They take longest, so they begin first.
LONG = ("powercut", "crash", "borg", "finish")
# Seconds; the longest takes a few minutes on two processors, and much longer on a busy one.
PATIENCE = 3600
# KiB that have to be free for a second program.
ROOM = 3 << 20
RESULT = re.compile(r"^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored", re.M)


class Program:
    """One program with tests: how it is started, where its output goes, how it ended."""

    def __init__(self, name, command, log):
        self.name, self.command, self.log = name, command, log
        self.process, self.ended, self.seconds = None, "was not run", 0.0

    def run(self, patience):
        begun = time.monotonic()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with open(self.log, "wb") as log:
            # A process group of its own, so that an end of it ends what it started.
            self.process = subprocess.Popen(
                self.command, cwd=PROJECT, env=os.environ | {"CARGO_MANIFEST_DIR": str(PROJECT)},
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )
            try:
                status = self.process.wait(patience)
                self.ended = f"was ended by signal {-status}" if status < 0 else f"ended with {status}"
                self.ended = None if status == 0 else self.ended
            except subprocess.TimeoutExpired:
                self.end()
                self.ended = f"was ended after {patience} s"
        self.seconds = time.monotonic() - begun

    def end(self):
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def output(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def counts(self):
        """passed, failed, skipped."""
        output = self.output()
        results = RESULT.findall(output)
        passed, failed, ignored = (sum(int(result[which]) for result in results) for which in range(3))
        told = len(re.findall(r"^SKIPPED: ", output, re.M))
        if not failed and self.trouble():
            failed = 1
        return passed - told, failed, told + ignored

    def trouble(self):
        """What went wrong with the program itself, or None."""
        if self.ended is None and not RESULT.search(self.output()):
            return "ended without saying how its tests went"
        return self.ended


def build(options, logs):
    """Builds all; returns the programs, as `cargo test` orders them: the library, the program, each file of tests."""
    command = ["cargo", "test", "--no-run", "--message-format", "json-render-diagnostics", *options]
    with open(logs / "cargo-build.log", "wb") as log:
        told = subprocess.run(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=log)
    if told.returncode:
        sys.stdout.write((logs / "cargo-build.log").read_text(errors="replace")[-8000:])
        return None
    found = {}
    for line in told.stdout.splitlines():
        message = json.loads(line)
        if message["reason"] == "compiler-artifact" and message["executable"] and message["profile"]["test"]:
            target = message["target"]
            kind = ["lib", "bin", "test"].index(next(kind for kind in ("lib", "bin", "test") if kind in target["kind"]))
            name = target["name"] if kind == 2 else f"{target['name']} ({target['kind'][0]})"
            found[kind, name] = [message["executable"], "--show-output"]
    programs = [Program(name, command, logs / "cargo" / f"{name}.log") for (_, name), command in sorted(found.items())]
    if "--test" not in options:
        documents = ["cargo", "test", "--doc", *options, "--", "--show-output"]
        programs.append(Program("documentation", documents, logs / "cargo/documentation.log"))
    return programs


def at_a_time():
    """How many programs may run at once."""
    available = re.search(r"^MemAvailable: *(\d+)", pathlib.Path("/proc/meminfo").read_text(), re.M)
    return 2 if len(os.sched_getaffinity(0)) > 1 and available and int(available[1]) >= ROOM else 1


def run(programs, workers, patience=PATIENCE):
    """Runs all: so many at a time, then those that have to be alone."""
    alone = [program for program in programs if program.name in ALONE]
    waiting = sorted((program for program in programs if program not in alone), key=lambda program: program.name not in LONG)
    lock = threading.Lock()

    def work():
        while True:
            with lock:
                if not waiting:
                    return
                program = waiting.pop(0)
            program.run(patience)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(workers)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for program in alone:
            program.run(patience)
    finally:
        waiting.clear()
        for program in programs:
            program.end()


def report(programs, log):
    """Writes all output to one file and prints what went wrong; returns how many passed, failed and were skipped."""
    with open(log, "w") as whole:
        for program in programs:
            whole.write(f"     Running {program.name} ({program.seconds:.0f} s)\n{program.output()}")
            if trouble := program.trouble():
                whole.write(f"error: {program.name} {trouble}\n")
    for program in programs:
        if trouble := program.trouble():
            lines = [line for line in program.output().splitlines() if re.match(r"test .* FAILED|error|.*panicked at", line)]
            print("\n".join([*lines[:60], *program.output().splitlines()[-40:], f"FAILED  {program.name} {trouble}"]))
    return tuple(sum(each) for each in zip(*(program.counts() for program in programs)))


def main():
    log, options = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
    programs = build(options, log.parent)
    if programs is None:
        print("0 passed, 1 failed, 0 skipped")
        return 1
    run(programs, at_a_time())
    passed, failed, skipped = report(programs, log)
    for program in sorted(programs, key=lambda program: -program.seconds)[:8]:
        print(f"{program.seconds:6.0f} s  {program.name}")
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
