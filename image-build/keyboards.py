"""Layouts of keyboards, in the form that busybox gives to the kernel (loadkmap): of every key what it means with which
others.
"""

import subprocess

FOLDER = "usr/share/lifeboat/keyboards"
# Where the sources of the layouts are in Debian's packages; they include parts of each other.
SOURCES = "usr/share/keymaps/i386"
PARTS = ("include", "qwerty", "qwertz", "azerty")


def add(cpio, programs, tree, layouts):
    """Puts `layouts` (name → path below SOURCES, a blank, title) into `cpio`, and a list of them."""
    listed = []
    for name, value in layouts.items():
        source, title = value.split(None, 1)
        cpio.file(f"{FOLDER}/{name}", made(programs, tree, source))
        listed.append(f"{name} {title}\n")
    cpio.file(f"{FOLDER}/list", "".join(listed).encode())


def made(programs, tree, source):
    """One layout."""
    home = tree / SOURCES
    # Nothing of the building machine's own.
    environment = {"LOADKEYS_INCLUDE_PATH": ":".join(str(home / part) for part in PARTS), "LC_ALL": "C.UTF-8"}
    command = [*programs.command("loadkeys"), "--bkeymap", home / source]
    done = subprocess.run(command, check=True, capture_output=True, env=environment)
    if not done.stdout.startswith(b"bkeymap"):
        raise ValueError(f'loadkeys made no layout of "{source}"')
    return done.stdout

