#!/usr/bin/env python3
"""walk.py STICK BOX BACKUP WORK HOSTNAME: boots the live image beside a box and a backup and walks the guided restore.

The walk is a table of prompt ids and answers. A question that the table does not expect, or expects elsewhere, ends it.
Exit 0: the guide came to its end and the machine was switched off; 1: it did not, the last line of stderr says why.
"""

import argparse
import dataclasses
import pathlib
import re
import subprocess
import sys

import boards
from machine import Disk, Machine, MachineError

BOOT_TIMEOUT = 600
# Verification and restore of the sample take seconds; a busy machine without virtualisation may be slow.
ANSWER_TIMEOUT = 900
# What stands under the first pages of a long text.
MORE = "-- press Enter to read on --"


@dataclasses.dataclass(frozen=True)
class Step:
    """What to answer to the prompt `id`: `text`, or the number of the option that matches `option`.

    An `optional` prompt may stay away. A `statement` is printed with its id and waits for no answer by itself.
    """

    id: str
    text: str = ""
    option: str = ""
    optional: bool = False
    statement: bool = False


def restore_everything(hostname):
    """Puts the only backup, with all its apps, onto the only box, then powers off."""
    return [
        Step("language", option="English", optional=True),
        Step("keyboard", text="", optional=True),
        Step("choose-box", option=re.escape(hostname)),
        Step("choose-backup", option=r"\.tar\.gz|BACKUPUSB"),
        Step("choose-archive", text="1", optional=True),
        Step("choose-apps", option=r"(?i)\ball\b"),
        Step("plan", text="", optional=True),
        Step("not-included", text="", optional=True),
        Step("consent", text=hostname),
        Step("done", text="", statement=True),
        Step("after", option=r"(?i)power off"),
    ]


class WalkError(Exception):
    """The dialogue went another way than the table."""


def option_number(step, question):
    """The number in front of the option that matches."""
    for number, label in re.findall(r"^\s*(\d+)[).:]\s+(.*)$", question, re.MULTILINE):
        if re.search(step.option, label):
            return number
    raise WalkError(f'question "{step.id}" offers nothing that matches "{step.option}"')


def walk(machine, steps, until=None):
    """Answers the questions in the table's order until the table ends, or until the text `until` shows up."""
    steps = list(steps)
    # An earlier walk on the same machine has read so much.
    machine.walked = getattr(machine, "walked", 0)
    while steps:
        patterns = [rb"^> \Z"] + ([until] if until else [])
        if machine.wait_any(patterns, ANSWER_TIMEOUT)[0] == 1:
            return
        text = machine.console[machine.walked :].decode(errors="replace")
        if text.endswith(f"{MORE}\n> "):
            # A long text comes a screenful at a time.
            machine.type("")
            continue
        machine.walked = len(machine.console)
        ids = re.findall(r"^\[([a-z][a-z0-9-]*)\]", text, re.MULTILINE)
        if not ids:
            raise WalkError("the guide asks without a prompt id")
        if ids[-1] == "more":
            # The rest of a long text comes with Enter; whatever was said before it waits for no answer.
            for identifier in ids[:-1]:
                if not advance(steps, identifier).statement:
                    raise WalkError(f'question "{identifier}" did not wait for its answer')
            machine.type("")
            continue
        for identifier in ids[:-1]:
            step = advance(steps, identifier)
            if not step.statement:
                raise WalkError(f'question "{identifier}" did not wait for its answer')
        step = advance(steps, ids[-1])
        question = text[text.rindex(f"[{step.id}]") :]
        machine.type(option_number(step, question) if step.option else step.text)


def advance(steps, identifier):
    """Takes the step called `identifier` from the front of the table, over optional ones."""
    while steps:
        step = steps.pop(0)
        if step.id == identifier:
            return step
        if not step.optional:
            raise WalkError(f'the guide asks "{identifier}" where "{step.id}" was expected')
    raise WalkError(f'the guide asks "{identifier}" after the last expected question')


class LineEcho:
    """Prints what the console shows, line by line, once the live system speaks."""

    def __init__(self):
        self.text, self.speaking = "", False

    def __call__(self, text):
        *lines, self.text = (self.text + text).split("\n")
        for line in lines:
            self.speaking = self.speaking or line.startswith("Lifeboat is looking")
            if self.speaking and line.strip():
                print(f"   | {line}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("stick", "box", "backup", "work"):
        parser.add_argument(name, type=pathlib.Path)
    parser.add_argument("hostname")
    parser.add_argument("--machine", choices=boards.BOARDS, default="uefi", help="which computer (default: uefi, a PC)")
    parser.add_argument("--interactive", action="store_true", help="put the console on this terminal; answer by hand")
    options = parser.parse_args()
    board = boards.BOARDS[options.machine]
    disks = [
        Disk(options.stick, bus=board.medium, keep=True, serial="STICK"),
        Disk(options.box, bus=board.disks, keep=True, serial="BOX"),
        Disk(options.backup, bus="usb", keep=True, serial="BACKUP"),
    ]
    echo = None if options.interactive else LineEcho()
    machine = Machine(options.work, disks, board=options.machine, echo=echo)
    if options.interactive:
        print("(Ctrl-A X switches the machine off, Ctrl-A H shows more keys)")
        return subprocess.call(machine.command(serial="mon:stdio"))
    try:
        with machine:
            machine.wait("Lifeboat is ready", BOOT_TIMEOUT)
            print(f"   (the live system was ready {machine.uptime():.0f} s after switching on)", flush=True)
            walk(machine, restore_everything(options.hostname))
            machine.wait_off(120)
    except (MachineError, WalkError) as error:
        first, _, rest = str(error).partition("\n")
        if rest:
            print(rest)
        sys.exit(f"walking through the guide: {first}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
