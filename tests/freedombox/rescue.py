"""A rescue as its user does it: the program restores onto a stopped box, the box starts, and its next start finishes.

Everything is done by the program itself; here it is only called, waited for, and asked.
"""

import atexit
import functools
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

import emulator
import release
from box import BoxError, last_json

ON_BOX = "/var/lib/lifeboat/bin/lifeboat"
UNIT = "lifeboat-finish.service"
TARGET = "x86_64-unknown-linux-musl"


def program():
    """The static program: `LIFEBOAT_PROGRAM`, else built here."""
    if os.environ.get("LIFEBOAT_PROGRAM"):
        return pathlib.Path(os.environ["LIFEBOAT_PROGRAM"])
    release.run("cargo", "build", "--quiet", "--release", "--target", TARGET, cwd=release.TOP)
    return release.TOP / "target" / TARGET / "release/lifeboat"


def program_for(architecture):
    """The program for another architecture: beside the one here, or where `image-build/programs` puts it; `None` without."""
    places = [program().parent.parent, release.TOP / "build/programs"]
    return next((at for at in (place / architecture / "lifeboat" for place in places) if at.exists()), None)


def obstacle(version):
    """Why no box of this release can be made and rescued where others can; `None` where it can."""
    architecture = release.RELEASES[version].architecture
    if emulator.is_needed(architecture) and not program_for(architecture):
        return f"the program for it is not there; `image-build/programs {architecture}` makes it"
    return emulator.obstacle(architecture)


@functools.cache
def medium(architecture):
    """The program on a medium that has the one for another architecture as well, where the live image has it."""
    at = tempfile.TemporaryDirectory(prefix="lifeboat-medium-")
    atexit.register(at.cleanup)
    there = {f"share/lifeboat/{architecture}/lifeboat": program_for(architecture), "bin/lifeboat": program()}
    for name, source in there.items():
        target = pathlib.Path(at.name) / name
        target.parent.mkdir(parents=True)
        shutil.copy(source, target)
    return target


def lifeboat(*words, box=None, good=(0, 1)):
    """What the program prints as JSON, when it is called for `box`."""
    called = medium(box.architecture) if box and box.is_emulated else program()
    done = subprocess.run(
        [str(word) for word in [called, *words, "--json", "--plain"]],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )
    if done.returncode not in good:
        said = " ".join((done.stderr + done.stdout).split())[-600:]
        raise BoxError(f"lifeboat {words[0]} ended with {done.returncode}: {said}")
    return json.loads(done.stdout)


def restore(box, backup, apps=(), archive=None):
    """Restores a backup onto a stopped box; returns the plan."""
    words = ["--from", backup, "--onto", box.root]
    words += ["--apps", ",".join(apps)] if apps else []
    words += ["--archive", archive] if archive else []
    # A plan that leaves some apps out is a plan; its verdict is in what it says of them.
    plan = lifeboat("plan", *words, box=box)
    lifeboat("restore", *words, "--consent", plan["id"], box=box)
    return plan


def status(box):
    """Where the restore stands, by the program on the running box."""
    said = box.ask(ON_BOX, "status", "--onto", "/", "--json")
    return json.loads(said) if said.startswith("{") else {}


def progress(box):
    """The apps that the running box has to finish, by name."""
    said = status(box)
    return {app["name"]: app for app in (said.get("standing") or said).get("progress") or []}


def wait(box, seconds=3600, waiting=()):
    """Waits until nothing waits any more, except the apps in `waiting`; returns the progress of all apps."""
    found = {}

    def is_done():
        # A killed box that was started again asks the same.
        found.update(progress(box))
        left = {name for name, app in found.items() if app["stand"] == "waiting"}
        return bool(found) and left <= set(waiting) and is_idle(box)

    box.wait(is_done, seconds, "finish the restore", pause=3)
    return found


def is_idle(box):
    """Whether the job on the box is not at work now."""
    return box.ask("systemctl", "is-active", UNIT) not in ("active", "activating", "deactivating")


def seconds_of(box):
    """How long the running box worked on each app, by the times of its journal."""
    text = box.ask("journalctl", "--no-pager", "--output=json", f"--unit={UNIT}")
    begun, took = {}, {}
    for line in text.splitlines():
        entry = json.loads(line)
        app, _, what = str(entry.get("MESSAGE", "")).partition(": ")
        at = int(entry["__REALTIME_TIMESTAMP"]) / 1e6
        if what == "restoring":
            begun[app] = at
        elif app in begun:
            took[app] = round(at - begun[app])
    return took


def report(box):
    """The report that lies on the box for its owner."""
    return box.ask("cat", "/var/log/lifeboat/report.txt")


def notification(box):
    """What FreedomBox shows of it."""
    listed = last_json(box.product("notifications", capture_output=True).stdout)
    return next((note for note in listed if note["id"] == "lifeboat-restore"), None)


def start(box, offline=False):
    """Starts the box; returns when its first process did, by this machine's clock."""
    begun = time.monotonic()
    box.start(offline)
    return begun
