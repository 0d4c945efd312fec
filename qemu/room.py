"""More room on a box that was never started, and the power that goes in the middle of that."""

import dataclasses
import json
import os
import struct

import boards
from machine import MachineError
from stage import ROOT_OFFSET, as_root, booted, digest, prefix, run
from walk import ANSWER_TIMEOUT, Step, restore_everything, walk

# The image of the box, and how much longer the disk is that it was written to.
FRESH, MORE = 64, 1 << 30
# How many writes the disk takes in a second while the power is about to go.
WRITES = 4
# Of the sample's ext4.
BLOCK = 4096
# The superblock of an ext4 says by this bit that it is not whole.
ERRORS = 2


def more_room(stage, board="uefi", filesystem="ext4", fresh=FRESH):
    """The image of a box was written to a larger disk and never started: the backup does not fit, the guide offers the
    rest of the disk, and then it fits."""
    folder, whole, steps = fresh_box(stage, board, filesystem, fresh)
    before = digest(folder / "backup.img")
    with booted(stage, folder, board) as machine:
        walk(machine, steps)
        machine.wait_off(120)
        seconds = machine.uptime()
    assert digest(folder / "backup.img") == before, "the drive with the backup was written to"
    return {"grown": f"{fresh} MiB", "to": grown(stage, folder / "box.img", whole), "seconds": seconds}


def more_room_on_btrfs(stage, board="uefi"):
    """The same on btrfs, as FreedomBox's own images have it."""
    return more_room(stage, board, "btrfs", 160)


def power_cut_while_growing(stage, board="uefi", unmounted=False):
    """The power goes while the filesystem is made as long as the disk; the next start goes on, and nothing is lost."""
    folder, whole, steps = fresh_box(stage, board, "ext4", FRESH)
    box = folder / "box.img"
    if unmounted:
        only_unmounted(box, stage)
        os.truncate(box, whole)
    before = digest(folder / "backup.img")
    agreed = next(number for number, step in enumerate(steps) if step.id == "consent-grow")
    with booted(stage, folder, board) as machine:
        walk(machine, steps[:agreed])
        machine.wait(rb"^> \Z", ANSWER_TIMEOUT)
        machine.slow_down(1, writes=WRITES)
        machine.type(stage.hostname)
        inside(machine, box, whole, unmounted)
    assert superblock(box)[0] == FRESH << 20, "the filesystem had become longer already"
    left = after_a_start(folder, box)
    # Whatever is enough by now is not asked for again.
    again = [dataclasses.replace(step, optional=True) if step.id in ("no-space", "consent-grow") else step for step in steps]
    with booted(stage, folder, board) as machine:
        walk(machine, again)
        machine.wait_off(120)
    assert digest(folder / "backup.img") == before, "the drive with the backup was written to"
    to = grown(stage, box, whole)
    run("e2fsck", "-fn", f"{box}?offset={ROOT_OFFSET}")
    return {"cut": left >> 20, "to": to, "starts": 2}


def power_cut_while_growing_unmounted(stage, board="uefi"):
    """The same on an ext4 that no kernel makes longer while it is mounted: resize2fs itself is interrupted."""
    return power_cut_while_growing(stage, board, unmounted=True)


def fresh_box(stage, board, filesystem, fresh):
    """A box whose image was written to a larger disk: the folder, how long the disk is, and the walk."""
    stage.prepare(boards.BOARDS[board].arch, size=fresh, filesystem=filesystem, fresh=fresh)
    folder = stage.scene("more-room", board)
    whole = (folder / "box.img").stat().st_size + MORE
    os.truncate(folder / "box.img", whole)
    steps = restore_everything(stage.hostname)
    place = [step.id for step in steps].index("choose-apps") + 1
    steps[place:place] = [Step("no-space", option="the rest of its disk"), Step("consent-grow", text=stage.hostname)]
    return folder, whole, steps


def grown(stage, box, whole):
    """Checks a box that has all of its disk; how large its root filesystem is (MiB)."""
    end = end_of_root(box)
    assert whole - end < 2 << 20, f"the root partition ends {(whole - end) >> 20} MiB before the disk does"
    room = stage.check(box)
    assert room > 0.9 * (whole - ROOT_OFFSET), f"the root filesystem has {room >> 20} MiB"
    return room >> 20


def only_unmounted(box, stage):
    """Makes the box's filesystem anew, with a feature for which no kernel makes it longer while it is mounted."""
    table = json.loads(run("sfdisk", "--json", box))["partitiontable"]["partitions"][1]
    uuid = run("blkid", "-p", "-O", str(ROOT_OFFSET), "-o", "value", "-s", "UUID", box).decode().strip()
    root, part = box.parent / "root", box.parent / "part.img"
    root.mkdir(exist_ok=True)
    with open(part, "wb") as empty:
        empty.truncate(table["size"] * 512)
    as_root("mount", "-o", f"ro,loop,offset={ROOT_OFFSET}", box, root)
    try:
        features = ["-O", "sparse_super2", "-E", "num_backup_sb=2"]
        run(*prefix(), "mke2fs", "-q", "-t", "ext4", "-b", "4096", *features, "-L", "root", "-U", uuid, "-d", root, part)
    finally:
        as_root("umount", root)
    run("dd", f"if={part}", f"of={box}", "bs=1M", f"seek={ROOT_OFFSET >> 20}", "conv=notrunc", "status=none")
    part.unlink()


def inside(machine, box, whole, unmounted):
    """Waits until the partition is long and its filesystem is at work on that, but not done."""
    end = machine.uptime() + ANSWER_TIMEOUT
    while machine.uptime() < end:
        machine.watch(0.5)
        if b"[plan]" in machine.console:
            break
        # resize2fs says in the superblock that it is at work; the kernel writes what it will do to the journal first.
        if whole - end_of_root(box) < 2 << 20 and (superblock(box)[1] & ERRORS if unmounted else is_in_journal(box)):
            return
    raise MachineError(f"the moment to cut the power never came; the console ends with:\n{machine.tail()}")


def is_in_journal(box):
    """Whether the journal has a superblock of a longer filesystem than the one that stands in its place."""
    length = superblock(box)[0]
    with open(box, "rb") as disk:
        disk.seek(ROOT_OFFSET)
        raw = disk.read(length)
    marks = zip(raw[1024 + 56 :: BLOCK], raw[1024 + 57 :: BLOCK])
    places = (number * BLOCK + 1024 + 4 for number, mark in enumerate(marks) if mark == (0x53, 0xEF))
    return any(struct.unpack_from("<I", raw, place)[0] * BLOCK > length for place in places)


def after_a_start(folder, box):
    """How long the filesystem is (bytes) once its journal was replayed, on a copy."""
    seen = folder / "seen.img"
    # In a file of its own: e2fsck forgets the offset when it looks again after the replay.
    run("dd", f"if={box}", f"of={seen}", "bs=1M", f"skip={ROOT_OFFSET >> 20}", "conv=sparse", "status=none")
    run("sh", "-c", 'e2fsck -fy "$0" || test $? -lt 4', seen)
    length = superblock(seen, 0)[0]
    seen.unlink()
    return length


def superblock(file, offset=ROOT_OFFSET):
    """How long an ext4 is (bytes), and its state, as they stand on the disk."""
    with open(file, "rb") as disk:
        disk.seek(offset + 1024)
        raw = disk.read(1024)
    blocks, size, state = (struct.unpack_from(form, raw, at)[0] for form, at in (("<I", 4), ("<I", 24), ("<H", 58)))
    return blocks << 10 + size, state


def end_of_root(box):
    """Where the root partition ends (bytes), as the primary table says on the disk."""
    with open(box, "rb") as disk:
        disk.seek(1024 + 128)
        return (struct.unpack_from("<Q", disk.read(128), 40)[0] + 1) * 512
