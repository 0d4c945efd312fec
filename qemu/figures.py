"""What is measured of the live system: how long a start takes, and how much memory a large backup."""

import gzip
import os
import re
import shutil
import statistics
import subprocess

import boards
from machine import Disk, Machine, MachineError
from stage import PROJECT, answers, booted, copy, digest, disks, from_stick, in_shell, put_on_stick, run
from walk import BOOT_TIMEOUT


def small_memory(stage, board="armhf-uefi"):
    """A borg repository many times larger than the memory is restored; measures what the program takes of it."""
    stage.prepare(boards.BOARDS[board].arch, LARGE)
    folder = stage.scene("small-memory", board)
    drive = drive_with_repository(stage.sample / "backup.tar.gz", folder / "backup.img")
    before = digest(folder / "backup.img")
    given = {"choose-backup": f"{drive}/FreedomBoxBackups", "passphrase": PASSPHRASE, "after": None}
    put_on_stick(folder / "stick.img", "measured.toml", answers(stage, **given))
    put_on_stick(folder / "stick.img", "measured.sh", MEASURED.encode())
    with booted(stage, folder, board) as machine:
        ready = "mkdir /run/s; mount -o ro $(findfs LABEL=LIFEBOAT) /run/s; cp /run/s/measured.* /run; umount /run/s; sh /run/measured.sh"
        in_shell(machine, ready, r"^code=0 ", 4 * 3600)
        took, peak, least = (int(re.search(rb"^code=0 .*%s=(\d+)" % name, machine.console, re.M)[1]) for name in (b"took", b"peak", b"least"))
    assert digest(folder / "backup.img") == before, "the drive with the backup was written to"
    stage.check(folder / "box.img")
    repository = sum(file.stat().st_size for file in (folder / "content").rglob("*") if file.is_file())
    shutil.rmtree(folder)
    return {"repository": repository / 1e6, "took": took, "peak": peak / 1024, "least": least / 1024}


# Of the large backup, in MiB.
LARGE = int(os.environ.get("LIFEBOAT_LARGE", "1024"))
PASSPHRASE = "correct horse"
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


def drive_with_repository(backup, image):
    """Makes a drive with the content of `backup` in an encrypted borg repository; returns its filesystem's UUID."""
    import disks

    content = image.parent / "content"
    repository = content / "FreedomBoxBackups"
    repository.mkdir(parents=True)
    more = {"env": os.environ | {"BORG_PASSPHRASE": PASSPHRASE, "BORG_BASE_DIR": str(image.parent)}, "stderr": subprocess.STDOUT}
    run(borg(), "init", "--encryption", "repokey", repository, **more)
    run(borg(), "import-tar", f"{repository}::backup", backup, **more)
    size = LARGE * 1024 * 1024 * 5 // 4 + (64 << 20)
    image.unlink(missing_ok=True)
    with open(image, "wb") as empty:
        empty.truncate(size)
    run("mke2fs", "-q", "-t", "ext4", "-L", "BACKUPUSB", "-U", disks.DRIVE_UUID, "-d", content, image, stderr=subprocess.STDOUT)
    return disks.DRIVE_UUID


def borg():
    """The borg that is there, or None."""
    return shutil.which("borg") or shutil.which(PROJECT / "build/borg/bin/borg")


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
