"""Gives apps data and asks for it. Runs in a box, as root; the last line printed is the result, as JSON.

data.py seed APP…     {app: why it did not work, or null}
data.py look APP…     {app: {question: answer}}; an answer that could not be had begins with "ERROR: "
data.py names         {"apps": apps that have a test, "unproven": {app: why it has none}}
"""

import json
import os
import pathlib
import sys
import time
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import apps
import apps.essential
import apps.services
import apps.wikis


def reason(exception):
    """An exception, in one line."""
    words = " ".join(str(exception).split())[-300:]
    return words if type(exception).__name__ == "Unlike" else f"{type(exception).__name__}: {words}"


def seed(*names):
    """Gives each app its data."""
    said = {}
    for name in names:
        try:
            apps.APPS[name]().seed()
            said[name] = None
        except Exception as exception:
            traceback.print_exc()
            said[name] = reason(exception)
    return said


def look(*names):
    """Asks each app for its data."""
    said = {}
    for name in names:
        begun = time.monotonic()
        try:
            said[name] = {question: str(answer) for question, answer in apps.APPS[name]().look().items()}
        except Exception as exception:
            traceback.print_exc()
            said[name] = {"app": f"ERROR: {reason(exception)}"}
        print(f"looked at {name} for {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    return said


def names():
    """Which apps have a test."""
    return {"apps": sorted(apps.APPS), "unproven": apps.UNPROVEN}


if __name__ == "__main__":
    result = {"seed": seed, "look": look, "names": names}[sys.argv[1]](*sys.argv[2:])
    print(json.dumps(result, ensure_ascii=False))
    sys.stdout.flush()
    sys.stderr.flush()
    # FreedomBox leaves threads behind that would keep the process.
    os._exit(0)
