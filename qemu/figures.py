"""How long a start of the live system takes, beside the least that this kernel can."""

import gzip
import re
import statistics
import subprocess

import boards
from machine import Disk, Machine, MachineError
from stage import booted, copy, disks, from_stick, put_on_stick
from walk import BOOT_TIMEOUT


def start_times(stage, board="uefi"):
    """Power-on to the first question, part by part, and to the first line of the same kernel with an initramfs that only
    prints it: the medians of `stage.pairs` pairs, each measured one after the other."""
    pairs = [start_pair(stage, board) for _ in range(stage.pairs)]
    medians = {what: statistics.median(pair[what] for pair in pairs) for what in pairs[0]}
    ratios = [pair["ratio"] for pair in pairs]
    return medians | {"pairs": f"{len(pairs)} pairs, {min(ratios):.2f}-{max(ratios):.2f}"}


def start_pair(stage, board):
    folder = stage.scene(f"times-{board}", board)
    arch = boards.BOARDS[board].arch
    with booted(stage, folder, board) as machine:
        ours = machine.first_question
        loading, looking, ready = (machine.when(text) for text in (b"Loading Lifeboat", b"is looking for", b"is ready"))
        # The kernel counts from its own start.
        running = float(re.search(rb"ready after ([0-9.]+) seconds", machine.console).group(1))
    parts = {
        "firmware": loading, "loader": ready - running - loading, "kernel": looking - (ready - running),
        "drivers": ready - looking, "dialogue": ours - ready,
    }
    bare = folder / "bare.img"
    copy(stage.image_for(board), bare)
    put_on_stick(bare, f"lifeboat/{arch}/initrd", bare_initramfs(arch, folder, stage.image_for(board)))
    machine = Machine(folder / "bare", [Disk(bare, bus=boards.BOARDS[board].medium, keep=True), *disks(folder, board)[1:]], board=board)
    with machine:
        machine.wait("a line from the initramfs", BOOT_TIMEOUT)
        least = machine.uptime()
    return {"question": ours, **parts, "line": least, "ratio": ours / least}


def bare_initramfs(arch, folder, stick):
    """An initramfs that prints a line on every console and does nothing else."""
    import initramfs

    archive = initramfs.Cpio(epoch=0)
    archive.character_device("dev/console", 0o600, (5, 1))
    archive.file("bin/busybox", file_of_initramfs(from_stick(stick, f"{arch}/initrd", folder / "full"), "bin/busybox"), 0o755)
    script = (
        "#!/bin/busybox sh\n/bin/busybox mount -t devtmpfs devtmpfs /dev\n/bin/busybox mkdir /sys\n"
        "/bin/busybox mount -t sysfs sysfs /sys\n"
        "for c in $(/bin/busybox cat /sys/class/tty/console/active); do echo a line from the initramfs >/dev/$c; done\n"
        "/bin/busybox sleep 1000\n"
    )
    archive.file("init", script.encode(), 0o755)
    return gzip.compress(archive.write(), mtime=0)


def file_of_initramfs(initramfs, name):
    """A file of the first archive in a compressed initramfs (newc: 13 fields of 8 digits, padded to 4)."""
    # What follows after the compressed part makes zstd complain at the end.
    data = subprocess.run(["zstd", "-d", "-c", "-q", initramfs], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    at = 0
    while data[at : at + 6] == b"070701":
        size, length = int(data[at + 54 : at + 62], 16), int(data[at + 94 : at + 102], 16)
        begin = at + 110
        own = data[begin : begin + length - 1].decode()
        begin += length + -(110 + length) % 4
        if own == name:
            return data[begin : begin + size]
        at = begin + size + -size % 4
    raise MachineError(f"the initramfs has no {name}")
