#!/usr/bin/env python3
"""matrix.py IMAGE WORK [NAME…]: boots the live image on every computer that it is for, and plays what can happen.

Names are computers (boot to the first question), `restore:COMPUTER` (a whole rescue), `times:COMPUTER` (the first
question beside the least that any system with this kernel takes), and scenes, also as `SCENE:COMPUTER`; `qemu/matrix --list`
shows them, and `boots`, `restores` and `scenes` are all of a kind. Without names: everything that this image and this
machine can do. Prints one line for each, and a table at the end.
"""

import argparse
import pathlib
import subprocess
import sys
import time

import boards
import figures
import memory
import scenes
from machine import MachineError
from stage import FAT, Stage
from walk import LineEcho, WalkError


def architectures(image):
    """Which the image is for."""
    listing = subprocess.run(
        ["mdir", "-b", "-i", f"{image}{FAT}", "::/lifeboat"], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    return {line.strip().strip("/").rpartition("/")[2] for line in listing.splitlines()}


def everything():
    names = list(boards.BOARDS)
    names += [f"restore:{name}" for name in boards.BOARDS]
    # Where QEMU hands over kernel and initramfs, the time says nothing.
    names += [f"times:{name}" for name, board in boards.BOARDS.items() if not board.kernel]
    return names + list(scenes.SCENES)


def chosen(names):
    """The names that were asked for; `boots`, `restores` and `scenes` stand for all of their kind."""
    kinds = {
        "boots": list(boards.BOARDS), "restores": [f"restore:{name}" for name in boards.BOARDS], "scenes": list(scenes.SCENES),
    }
    return [each for name in names for each in kinds.get(name, [name])] or everything()


def play(stage, name):
    """Plays one; returns what it measured."""
    kind, _, board = name.rpartition(":")
    if kind == "restore":
        return scenes.restore(stage, board)
    if kind == "times":
        return figures.start_times(stage, board)
    if kind in scenes.SCENES:
        return scenes.SCENES[kind](stage, board)
    return scenes.SCENES[name](stage) if name in scenes.SCENES else scenes.boot(stage, name)


def why_not(name, stage, present):
    """Why it cannot be played here, or None."""
    called = memory.BOARD if name.startswith("small-memory") else name.rpartition(":")[2]
    board = boards.BOARDS.get(called) or boards.BOARDS["uefi"]
    if name.startswith("small-memory") and not memory.borg():
        return "there is no borg (package borgbackup)"
    if board.card and not stage.image_for(called).exists():
        return f"there is no {stage.image_for(called).name} (image-build/build --board {called})"
    if not board.card and board.arch not in present:
        return f"the image is not for {board.arch}"
    return boards.missing(board)


def shown(measured):
    words = {
        "question": "first question after {:.1f} s", "seconds": "all done after {:.0f} s", "starts": "{} starts",
        "orders": "{} orders", "line": "bare initramfs {:.1f} s", "ratio": "ratio {:.2f} (goal 1.5)", "pairs": "{}",
        "firmware": "firmware {:.1f} s", "loader": "loading {:.1f} s", "kernel": "kernel and unpacking {:.1f} s",
        "drivers": "drivers {:.1f} s", "dialogue": "dialogue {:.1f} s", "repository": "repository {:.0f} MB",
        "counts": "with {}",
        "took": "restored in {:.0f} s", "peak": "the program took {:.0f} MiB at most", "least": "{:.0f} MiB were left",
        "grown": "root of {}", "cut": "cut at {} MiB", "to": "grown to {} MiB",
    }
    return ", ".join(words[key].format(value) for key, value in measured.items())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", type=pathlib.Path)
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--echo", action="store_true", help="show what the machines' consoles show")
    parser.add_argument("--pairs", type=int, default=1, metavar="N", help="for times: measure so many pairs, show medians")
    options = parser.parse_intermixed_args()
    stage = Stage(options.image, options.work)
    stage.pairs = options.pairs
    if options.echo:
        stage.echo = LineEcho()
    options.work.mkdir(parents=True, exist_ok=True)
    present = architectures(options.image)
    rows, failed, skipped = [], 0, 0
    for name in chosen(options.names):
        started = time.monotonic()
        if why := why_not(name, stage, present):
            print(f"SKIPPED: {name}: {why}", flush=True)
            skipped += 1
            continue
        try:
            board = boards.BOARDS.get(name.rpartition(":")[2])
            stage.prepare(board.arch if board else "amd64")
            measured = play(stage, name)
            result = "ok"
        except (MachineError, WalkError, AssertionError, OSError, subprocess.CalledProcessError) as error:
            measured, result, failed = {}, "FAILED", failed + 1
            print(str(error), flush=True)
        rows.append((name, result, shown(measured), f"{time.monotonic() - started:.0f} s"))
        print(f"{result:7} {name} ({rows[-1][3]}) {rows[-1][2]}", flush=True)
    size = options.image.stat().st_size / 1e6
    print(f"\n{options.image.name}, {size:.0f} MB, for {', '.join(sorted(present))}; emulated, on this computer:\n")
    print("| case | result | measured | took |\n|---|---|---|---|")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print(f"\n{len(rows) - failed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
