"""The reference data of tests/bench and tests/measure: three apps of a box, the same bytes for the same arguments.

By length, 60 % does not compress (packs of git), the rest shrinks to about a third (pages of databases and logs, and all
the small files, which are most of the files).
"""

import json
import os
import pathlib
import random

import tree

MIB = tree.MIB
APPS = {"gitweb": "var/lib/git", "tiddlywiki": "var/lib/tiddlywiki", "radicale": "var/lib/radicale"}
MANIFEST = "var/lib/plinth/backups-manifests/bench.json"
TIME = 1761789600
LONGEST_TEXT = 16 * 1024


class Text:
    """Bytes like logs and tables: few words in ever new orders, and numbers that do not shrink."""

    def __init__(self, seed):
        self.random = random.Random(f"text {seed}")
        letters = b"abcdefghijklmnopqrstuvwxyz,.:-= "
        self.words = [bytes(self.random.choices(letters, k=self.random.randint(60, 120))) for _ in range(256)]

    def take(self, size):
        parts = []
        while size > 0:
            words = self.random.choices(self.words, k=min(4096, size // 100 + 1))
            noise = self.random.randbytes(12 * len(words))
            block = b"".join(noise[12 * at : 12 * at + 12] + word for at, word in enumerate(words))[:size]
            parts.append(block)
            size -= len(block)
        return b"".join(parts)


def write(path, chunks, time):
    """A file from its pieces."""
    with open(path, "wb") as file:
        for chunk in chunks:
            file.write(chunk)
    os.utime(path, (time, time))


def split(random, total, shortest, longest):
    """Lengths that add up to `total`."""
    while total > 0:
        size = min(total, random.randint(shortest, longest))
        yield size
        total -= size


def make(root, mib, files, seed=1):
    """Writes the apps' folders below `root`; says how many bytes of each kind there are."""
    root = pathlib.Path(root)
    source, text = random.Random(f"sizes {seed}"), Text(seed)
    packs, pages = root / "var/lib/git/box.git/objects/pack", root / "var/lib/tiddlywiki"
    calendars = root / "var/lib/radicale/collections/collection-root"
    for folder in (packs, pages, calendars):
        folder.mkdir(parents=True)
    total, count, kinds = mib * MIB, 0, {"noise": 0, "text": 0}

    def add(folder, name, kind, chunks, size):
        nonlocal count
        write(folder / name, chunks, TIME + count)
        count += 1
        kinds[kind] += size

    for number, size in enumerate(split(source, total * 6 // 10, MIB, 48 * MIB)):
        add(packs, f"pack-{number:04}.pack", "noise", tree.Noise(f"{seed} {number}", size).chunks(), size)
    small = [source.randint(200, min(LONGEST_TEXT, max(201, total * 2 // 10 // files))) for _ in range(files - count)]
    for number, size in enumerate(split(source, max(0, total - kinds["noise"] - sum(small)), MIB, 32 * MIB)):
        pieces = (text.take(part) for part in split(source, size, MIB, MIB))
        add(pages, f"pages-{number:04}.db", "text", pieces, size)
    for number, size in enumerate(small[: max(0, files - count)]):
        folder = calendars / f"user-{number // 1000:03}"
        folder.mkdir(exist_ok=True)
        add(folder, f"event-{number:07}.ics", "text", [text.take(size)], size)
    apps = [
        {"name": name, "version": 1, "backup": {"data": {"directories": [f"/{path}"]}}} for name, path in APPS.items()
    ]
    manifest = root / MANIFEST
    manifest.parent.mkdir(parents=True)
    write(manifest, [json.dumps({"apps": apps}).encode()], TIME)
    return {"files": count, **kinds}
