"""How much of a small board's memory a large backup takes.

What may grow with a repository is what is kept of it: the index of its chunks, the list of its files, its segments; or, by
mistake, its content. Nobody waits for 10 GB on an imitated processor, so each has its own case: one repository has as
much of everything that is counted as one of 10 GB, in little content; the other has more content than the board has
memory, most of it in one file.
"""

import json
import os
import re
import shutil
import subprocess

import boards
from stage import PROJECT, answers, booted, copy, digest, in_shell, put_on_stick, run

BOARD = "armhf-uefi"
PASSPHRASE = "correct horse"
DRIVE_UUID = "5b1e7a60-0000-4000-8000-000000000006"
# In MiB, of 256: the most that the program may take, and the least that the system must still be able to give.
MOST, LEAST = 48, 64
# Of the content, in MiB.
LARGE = int(os.environ.get("LIFEBOAT_LARGE", "320"))
# A box of 10 GB with many photos and letters. Each small file is a chunk of its own; large ones are cut by borg every
# 2 MiB; a segment has 500 MiB.
FILES = 100_000
TEN_GB = {"files": FILES, "chunks": FILES + 10**10 // 2**21, "segments": -(-(10**10) // (500 * 2**20))}
# The same in little content: a large file is cut every 4 KiB, a segment is full at 4 MiB.
FILM, CUT, SEGMENT = 24, "10,16,12,4095", 4 << 20


def large_content(stage):
    """A borg repository with more content than the board has memory."""
    return restored(stage, "small-memory", LARGE)


def as_many_as_in_ten_gb(stage):
    """A borg repository with as many files, chunks and segments as one of 10 GB."""
    return restored(stage, "small-memory-many", FILM, FILES, TEN_GB)


def restored(stage, name, size, files=0, least=None):
    """Restores a repository of that content and measures what it takes of the memory; `least` is what the repository must have."""
    stage.prepare(boards.BOARDS[BOARD].arch, size, files=files)
    folder = stage.scene(name, BOARD)
    drive, counts = drive_with_repository(stage.sample, many=bool(files))
    for what, count in (least or {}).items():
        assert counts[what] >= count, f"the repository has {counts[what]} {what} only, one of 10 GB has {count}"
    copy(drive, folder / "backup.img")
    before = digest(folder / "backup.img")
    given = {"choose-backup": f"{DRIVE_UUID}/FreedomBoxBackups", "passphrase": PASSPHRASE, "after": None}
    put_on_stick(folder / "stick.img", "measured.toml", answers(stage, **given))
    put_on_stick(folder / "stick.img", "measured.sh", MEASURED.encode())
    with booted(stage, folder, BOARD) as machine:
        ready = "mkdir /run/s; mount -o ro $(findfs LABEL=LIFEBOAT) /run/s; cp /run/s/measured.* /run; umount /run/s; sh /run/measured.sh"
        in_shell(machine, ready, r"^code=0 ", 4 * 3600)
        took, peak, left = (int(re.search(rb"^code=0 .*%s=(\d+)" % name, machine.console, re.M)[1]) for name in (b"took", b"peak", b"least"))
    assert digest(folder / "backup.img") == before, "the drive with the backup was written to"
    stage.check(folder / "box.img")
    assert peak <= MOST * 1024, f"the program took {peak / 1024:.0f} MiB; at most {MOST} are allowed"
    assert left >= LEAST * 1024, f"{left / 1024:.0f} MiB were left; there must be {LEAST}"
    shutil.rmtree(folder)
    shown = ", ".join(f"{count} {what}" + (f" (10 GB: {least[what]})" if least else "") for what, count in counts.items() if what != "bytes")
    return {"repository": counts["bytes"] / 1e6, "counts": shown, "took": took, "peak": peak / 1024, "least": left / 1024}


# Both are sampled: the most that the program ever had, and the least that the system still could give.
MEASURED = """
begin=$(cut -d . -f 1 /proc/uptime)
while sleep 1; do
    for id in $(pidof lifeboat); do sed -n 's/^VmHWM:[^0-9]*//p' /proc/$id/status >>/run/peak; done
    sed -n 's/^MemAvailable:[^0-9]*//p' /proc/meminfo >>/run/least
done 2>/dev/null &
lifeboat guide --plain --answers /run/measured.toml
echo "code=$? took=$(($(cut -d . -f 1 /proc/uptime) - begin)) peak=$(sort -n /run/peak | tail -n 1 | cut -d ' ' -f 1) \
least=$(sort -n /run/least | head -n 1 | cut -d ' ' -f 1)"
"""


def drive_with_repository(sample, many=False):
    """Makes a drive with the sample's backup in an encrypted borg repository, once; returns it, and what the repository has."""
    image, told = sample / "repository.img", sample / "repository.json"
    if not told.exists():
        content = sample / "content"
        shutil.rmtree(content, ignore_errors=True)
        counts = repository(sample / "backup.tar.gz", content / "FreedomBoxBackups", many)
        image.unlink(missing_ok=True)
        with open(image, "wb") as empty:
            empty.truncate(counts["bytes"] * 5 // 4 + (64 << 20))
        run("mke2fs", "-q", "-t", "ext4", "-L", "BACKUPUSB", "-U", DRIVE_UUID, "-d", content, image, stderr=subprocess.STDOUT)
        shutil.rmtree(content)
        told.write_text(json.dumps(counts))
    return image, json.loads(told.read_text())


def repository(backup, place, many):
    """Makes a repository at `place`, cut into many chunks and segments or as borg does by itself; returns what it has."""
    place.mkdir(parents=True)
    environment = os.environ | {"BORG_PASSPHRASE": PASSPHRASE, "BORG_BASE_DIR": str(backup.parent)}
    more = {"env": environment, "stderr": subprocess.STDOUT}
    run(borg(), "init", "--encryption", "repokey", place, **more)
    if many:
        config = place / "config"
        text, changed = re.subn(r"(?m)^max_segment_size = .*$", f"max_segment_size = {SEGMENT}", config.read_text())
        assert changed == 1, f"borg wrote another configuration:\n{text}"
        config.write_text(text)
    run(borg(), "import-tar", *(["--chunker-params", CUT] if many else []), f"{place}::backup", backup, **more)
    told = json.loads(run(borg(), "info", "--json", place, env=environment))
    # What borg tells of an archive that it made from a tar counts each file twice.
    kinds = run(borg(), "list", "--format", "{type}{NL}", f"{place}::backup", env=environment).splitlines()
    written = [file for file in place.rglob("*") if file.is_file()]
    return {
        "bytes": sum(file.stat().st_size for file in written), "files": kinds.count(b"-"),
        "chunks": told["cache"]["stats"]["total_unique_chunks"],
        "segments": sum(file.parent.parent.name == "data" and file.name.isdigit() for file in written),
    }


def borg():
    """The borg that is there, or None."""
    return shutil.which("borg") or shutil.which(PROJECT / "build/borg/bin/borg")
