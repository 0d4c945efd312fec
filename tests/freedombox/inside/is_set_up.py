"""Prints "yes" when every essential app of this FreedomBox is set up and its service runs. Runs in a box, as root."""

import shutil
import sqlite3
import subprocess

PROGRAM = shutil.which("freedombox") or "plinth"
DATABASE = "file:/var/lib/plinth/plinth.sqlite3?mode=ro"


def versions():
    """The set-up version of each app; empty before FreedomBox made its database."""
    try:
        with sqlite3.connect(DATABASE, uri=True) as database:
            for table in ("freedombox_module", "plinth_module"):
                try:
                    return dict(database.execute(f"select name, setup_version from {table}"))
                except sqlite3.OperationalError:
                    continue
    except sqlite3.OperationalError:
        pass
    return {}


def essential():
    """The names of the essential apps."""
    listed = subprocess.run([PROGRAM, "--list-apps", "essential"], capture_output=True, text=True, check=False).stdout
    return {word for word in listed.split() if word.replace("_", "").isalnum()}


have = versions()
# Asking FreedomBox takes seconds, looking into its database does not.
if len([name for name, version in have.items() if version]) < 15:
    print("no")
else:
    print("yes" if all(have.get(name) for name in essential()) else "no")
