"""Which crates become part of the program for a target: what cargo itself would build into it, and nothing of its tests."""

import dataclasses
import json
import pathlib
import re
import subprocess

PROJECT = pathlib.Path(__file__).resolve().parent.parent
CRATES_IO = "registry+https://github.com/rust-lang/crates.io-index"


@dataclasses.dataclass(frozen=True)
class Linked:
    """The crates (name, version), and for each the ones that it uses."""

    root: tuple
    uses: dict


def tree(target):
    """What `cargo tree` says. `cargo metadata` is no help: it turns on what only the tests ask of a crate, too."""
    command = ["cargo", "tree", "--locked", "--target", target, "--edges", "no-dev,no-build,no-proc-macro", "--prefix", "depth"]
    return subprocess.run(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True, check=True).stdout


def linked(text):
    """The crates of the output of `tree`: a depth and a crate in each line, what one uses below its first mention."""
    above, uses = [], {}
    for depth, name, version in re.findall(r"^(\d+)(\S+) v(\S+)", text, re.M):
        del above[int(depth) :]
        uses.setdefault((name, version), set())
        if above:
            uses[above[-1]].add((name, version))
        above.append((name, version))
    return Linked(next(iter(uses)), uses)


def sources(lock):
    """(name, version) → (source, checksum) from the text of Cargo.lock; both are None for what is here."""
    found = {}
    for package in lock.split("[[package]]")[1:]:
        fields = dict(re.findall(r'^(\w+) = "([^"]*)"$', package, re.M))
        found[fields["name"], fields["version"]] = (fields.get("source"), fields.get("checksum"))
    return found


def locked():
    """The same of this project's Cargo.lock."""
    return sources((PROJECT / "Cargo.lock").read_text())


def compiled(messages, target):
    """(name, version) of the libraries that cargo's messages (JSON lines) name as compiled for the target."""
    found = set()
    for line in messages.splitlines():
        message = json.loads(line)
        if message["reason"] != "compiler-artifact" or "bin" in message["target"]["kind"]:
            continue
        if any(f"/{target}/" in file for file in message["filenames"]):
            # …#name@version, or …/name#version
            name, _, version = message["package_id"].rpartition("#")[2].rpartition("@")
            found.add((name or message["package_id"].rpartition("#")[0].rpartition("/")[2], version))
    return found
