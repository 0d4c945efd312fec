"""What can happen to a rescue, one function per case: each boots the live image, does it, and looks at the result.

A scene gets a `Stage` and raises `MachineError`, `WalkError` or `AssertionError` when it went wrong; what it returns is
shown. The disks are copies: every scene starts from the same ones.
"""

import contextlib
import gzip
import hashlib
import itertools
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import boards
from machine import Disk, Machine, MachineError
from walk import ANSWER_TIMEOUT, BOOT_TIMEOUT, Step, restore_everything, walk

PROJECT = pathlib.Path(__file__).resolve().parent.parent
SAMPLE = PROJECT / "tests/sample"
# Where the medium's file system begins, as mtools writes it.
FAT = "@@4M"
ROOT_OFFSET = (4 + 64) * 1024 * 1024
sys.path.insert(0, str(PROJECT / "image-build"))


class Stage:
    """Where scenes play: the image, the sample's disks, and a folder for what they leave."""

    def __init__(self, image, work, scale=0):
        self.image, self.work, self.scale = pathlib.Path(image), pathlib.Path(work), scale
        self.echo = None
        self.sample = self.work / "sample"

    def prepare(self, arch="amd64"):
        """Makes the sample box and the drive with a backup, once for each architecture."""
        self.sample = self.work / f"sample-{arch}"
        if not (self.sample / "backup.img").exists():
            command = [sys.executable, "-B", SAMPLE / "make.py", self.sample, "--disks", "--filesystem", "ext4"]
            run(*command, "--size", str(self.scale), "--architecture", arch)
        expected = json.loads((self.sample / "expected.json").read_text())
        self.hostname = expected["box"]["hostname"]

    def scene(self, name):
        """A fresh folder with copies of the disks."""
        folder = self.work / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for file, target in ((self.image, "stick.img"), (self.sample / "box.img", "box.img"), (self.sample / "backup.img", "backup.img")):
            copy(file, folder / target)
        return folder

    def check(self, box):
        """Whether the box's disk is as it should be; the disk is opened read-only."""
        root = pathlib.Path(box).parent / "root"
        root.mkdir(exist_ok=True)
        as_root("mount", "-o", f"ro,loop,offset={ROOT_OFFSET}", box, root)
        try:
            result = subprocess.run(
                [*prefix(), sys.executable, "-B", SAMPLE / "check.py", root, self.sample / "expected.json"],
                stdout=subprocess.PIPE, text=True,
            )
        finally:
            as_root("umount", root)
        if result.returncode:
            raise AssertionError(f"the box's disk is not as it should be:\n{result.stdout}")


def prefix():
    return [] if os.geteuid() == 0 else ["sudo"]


def run(*command, **more):
    return subprocess.run([str(word) for word in command], check=True, stdout=subprocess.PIPE, **more).stdout


def as_root(*command):
    run(*prefix(), *command)


def copy(source, target):
    run("cp", "--sparse=always", "--reflink=auto", source, target)


def digest(file):
    return hashlib.sha256(pathlib.Path(file).read_bytes()).hexdigest()


def on_stick(stick, name):
    """A text file of the stick, or None."""
    found = subprocess.run(["mtype", "-i", f"{stick}{FAT}", f"::/{name}"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return found.stdout.decode() if found.returncode == 0 else None


def put_on_stick(stick, name, content):
    run("mcopy", "-D", "o", "-o", "-i", f"{stick}{FAT}", "-", f"::/{name}", input=content)


def disks(folder, board, **stick):
    """The stick, the box, the backup: in the order of a usual machine."""
    kind = boards.BOARDS[board]
    medium = folder / "stick.img"
    if kind.medium == "sd":
        # A card's size is a power of two.
        size = 1 << (medium.stat().st_size - 1).bit_length()
        os.truncate(medium, size)
    return [
        Disk(medium, bus=kind.medium, keep=True, serial="STICK", **stick),
        Disk(folder / "box.img", bus=kind.disks, keep=True, serial="BOX"),
        Disk(folder / "backup.img", bus="usb", keep=True, serial="BACKUP"),
    ]


@contextlib.contextmanager
def booted(stage, folder, board="uefi", machine_disks=None, until=rb"^> \Z", **more):
    """The live system at its first question."""
    machine = Machine(folder / "machine", machine_disks or disks(folder, board), board=board, echo=stage.echo, **more)
    with machine:
        machine.wait("Lifeboat is ready", BOOT_TIMEOUT)
        machine.ready = machine.uptime()
        if until:
            machine.wait(until, ANSWER_TIMEOUT)
            machine.first_question = machine.uptime()
            # The walk reads the questions by itself, from the first on.
            machine.position = 0
        yield machine


def finish(machine, stage):
    """The usual walk to its end."""
    walk(machine, restore_everything(stage.hostname))
    machine.wait_off(120)


def boot(stage, board):
    """Boots to the first question and switches off properly: (seconds to it)."""
    folder = stage.scene(f"boot-{board}")
    with booted(stage, folder, board) as machine:
        walk(machine, [Step(FIRST, text="q"), Step("after", option="(?i)power off")])
        machine.wait_off(120)
    status = on_stick(folder / "stick.img", "status.txt")
    assert status and status.startswith("LIFEBOAT: STOPPED"), f"status.txt is {status!r}"
    return {"question": machine.first_question}


# The first question of a dialogue in which one box and one backup are there.
FIRST = "choose-box"


def restore(stage, board):
    """A whole rescue, checked from outside."""
    folder = stage.scene(f"restore-{board}")
    before = digest(folder / "backup.img")
    with booted(stage, folder, board) as machine:
        finish(machine, stage)
        seconds = machine.uptime()
    assert digest(folder / "backup.img") == before, "the drive with the backup was written to"
    stage.check(folder / "box.img")
    return {"question": machine.first_question, "seconds": seconds}


def answers(stage, **more):
    """An answer file for the sample."""
    uuid = run("blkid", "-p", "-O", str(ROOT_OFFSET), "-o", "value", "-s", "UUID", stage.sample / "box.img").decode().strip()
    lines = {
        "choose-box": uuid, "choose-backup": "BAC0-0001", "choose-archive": "newest", "choose-apps": "all",
        "consent": stage.hostname, "after": "power-off",
    } | more
    return "".join(f'{key.replace("_", "-")} = "{value}"\r\n' for key, value in lines.items() if value is not None).encode()


def unattended(stage, board="uefi"):
    """Nobody there, and a dead clock: an answer file on the stick, a result on it, and the power is off."""
    folder = stage.scene("unattended")
    put_on_stick(folder / "stick.img", "answers.toml", answers(stage))
    with booted(stage, folder, board, until=None, clock="2001-01-01T00:00:00") as machine:
        machine.wait_off(ANSWER_TIMEOUT)
        seconds = machine.uptime()
    stage.check(folder / "box.img")
    status = on_stick(folder / "stick.img", "status.txt")
    assert status.startswith("LIFEBOAT: DONE\r\n"), status
    year = int(re.search(r"Written at (\d+)-", status).group(1))
    assert year >= 2025, f"it believes that the year is {year}"
    assert on_stick(folder / "stick.img", "answers.toml") is None, "it would be followed again at the next start"
    assert on_stick(folder / "stick.img", "answers-done.toml") is not None
    return {"seconds": seconds}


def unattended_unanswered(stage, board="uefi"):
    """An answer that fits nothing: nothing is written, and the stick says what is missing."""
    folder = stage.scene("unanswered")
    before = digest(folder / "box.img")
    put_on_stick(folder / "stick.img", "answers.toml", answers(stage, choose_box="NO-SUCH-DISK"))
    with booted(stage, folder, board, until=rb"^\[after\]") as machine:
        machine.wait(rb"^> \Z", 60)
        machine.type("3")
        machine.wait_off(120)
    status = on_stick(folder / "stick.img", "status.txt")
    assert status.startswith("LIFEBOAT: FAILED\r\n") and "21" in status and "choose-box" in status, status
    assert on_stick(folder / "stick.img", "answers.toml") is not None, "it is wanted for the next try"
    assert digest(folder / "box.img") == before, "the box was written to"
    return {}


def disk_orders(stage, board="uefi"):
    """The same answers, the disks in every order, beside another box that must stay as it is."""
    count = 0
    for order in itertools.permutations(range(3)):
        folder = stage.scene("orders")
        copy(stage.sample / "box.img", folder / "other.img")
        # A box of its own: another UUID, the same name.
        offset = f"?offset={ROOT_OFFSET}"
        run("tune2fs", "-U", "0a0b0c0d-0000-4000-8000-000000000009", f"{folder / 'other.img'}{offset}")
        before = digest(folder / "other.img"), digest(folder / "backup.img")
        put_on_stick(folder / "stick.img", "answers.toml", answers(stage))
        stick, box, backup = disks(folder, board)
        other = Disk(folder / "other.img", bus=boards.BOARDS[board].disks, keep=True, serial="OTHER")
        three = [(box, other, backup)[place] for place in order]
        with booted(stage, folder, board, [stick, *three], until=None) as machine:
            machine.wait_off(ANSWER_TIMEOUT)
        assert (digest(folder / "other.img"), digest(folder / "backup.img")) == before, f"order {order}: a wrong disk changed"
        stage.check(folder / "box.img")
        count += 1
    return {"orders": count}


def stick_pulled(stage, board="uefi"):
    """The stick is pulled at the first question, and comes back for the log files."""
    folder = stage.scene("pulled")
    with booted(stage, folder, board) as machine:
        machine.unplug(0)
        machine.watch(2)
        walk(machine, restore_everything(stage.hostname)[:-1])
        machine.wait(r"^\[after\]", ANSWER_TIMEOUT)
        assert b"The medium is not connected" in machine.console, "nobody was told that the log is missing"
        machine.wait(rb"^> \Z", 60)
        machine.plug(0)
        machine.watch(8)
        machine.type("5")
        machine.wait("The result is on the medium", 60)
        machine.wait(rb"^> \Z", 60)
        machine.type("3")
        machine.wait_off(120)
    stage.check(folder / "box.img")
    assert on_stick(folder / "stick.img", "status.txt").startswith("LIFEBOAT: DONE\r\n")
    return {}


def disks_swapped(stage, board="uefi"):
    """Only one slot: the stick starts, makes room for the box's disk, and comes back at the end."""
    folder = stage.scene("swapped")
    stick, box, backup = disks(folder, board)
    box.bus, box.connected = "usb", False
    with booted(stage, folder, board, [stick, box, backup]) as machine:
        machine.unplug(0)
        machine.watch(2)
        machine.plug(1)
        machine.watch(8)
        walk(machine, [Step("no-box", option="(?i)look again"), *restore_everything(stage.hostname)[:-1]])
        machine.wait(r"^\[after\]", ANSWER_TIMEOUT)
        machine.wait(rb"^> \Z", 60)
        machine.unplug(1)
        machine.watch(2)
        machine.plug(0)
        machine.watch(8)
        machine.type("5")
        machine.wait("The result is on the medium", 60)
        machine.wait(rb"^> \Z", 60)
        machine.type("3")
        machine.wait_off(120)
    stage.check(folder / "box.img")
    return {}


def power_cut_twice(stage, board="uefi"):
    """The power goes in the middle of the restore, and again while it goes on; the third start finishes it."""
    folder = stage.scene("power-cut")
    walked = restore_everything(stage.hostname)
    consent = next(at for at, step in enumerate(walked) if step.id == "consent")
    with booted(stage, folder, board) as machine:
        walk(machine, walked[: consent + 1])
        machine.wait("writing beside the old data", ANSWER_TIMEOUT)
        machine.watch(0.7)
    again = [
        Step(FIRST, option=re.escape(stage.hostname)),
        Step("earlier-restore", option="(?i)go on"),
    ]
    starts = 1
    for stay in (0.7, None):
        starts += 1
        with booted(stage, folder, board) as machine:
            if stay is not None:
                walk(machine, again)
                machine.watch(stay)
                continue
            # It may have to read the backup again, and then asks for it as at the first time.
            finish_again(machine, stage, again)
    stage.check(folder / "box.img")
    return {"starts": starts}


def finish_again(machine, stage, again):
    """Goes on with what was interrupted, in one step or with the backup at hand."""
    walk(machine, again)
    machine.wait(r"^\[after\]", ANSWER_TIMEOUT)
    machine.wait(rb"^> \Z", 60)
    machine.type("3")
    machine.wait_off(120)


def large_sectors(stage, board="uefi"):
    """Disks with sectors of 4 KiB: their partition tables count in other units."""
    folder = stage.scene("sectors")
    for name in ("box.img", "backup.img"):
        count_in_large_sectors(folder / name)
    stick, box, backup = disks(folder, board)
    box.sector = backup.sector = 4096
    with booted(stage, folder, board, [stick, box, backup]) as machine:
        finish(machine, stage)
    stage.check(folder / "box.img")
    return {}


def count_in_large_sectors(image):
    """Writes an image's partition table anew for sectors of 4 KiB; the content stays where it is."""
    table = json.loads(run("sfdisk", "--json", image))["partitiontable"]
    lines = [f"label: {table['label']}"]
    for part in table["partitions"]:
        uuid = f",uuid={part['uuid']}" if "uuid" in part else ""
        lines.append(f"start={part['start'] // 8},size={part['size'] // 8},type={part['type']}{uuid}")
    run("sfdisk", "--sector-size", "4096", "--quiet", "--wipe", "always", image, input="\n".join(lines).encode() + b"\n")


def screen_only(stage, board="bios"):
    """No serial line: the questions are on the screen, and a keyboard answers them."""
    folder = stage.scene("screen")
    machine = Machine(folder / "machine", disks(folder, board), board=board, screen=True)
    with machine:
        machine.wait_screen(rf"^\[{FIRST}\]", BOOT_TIMEOUT)
        machine.watch(3)
        machine.picture(folder / "screen.ppm")
        machine.type("q")
        machine.wait_screen(r"^\[after\]", 60)
        machine.type("3")
        machine.wait_off(120)
    return {}


def damaged_medium(stage, board="uefi"):
    """One byte of the stick is wrong: it says so by itself, on the console and in status.txt."""
    folder = stage.scene("damaged")
    text = bytearray(on_stick(folder / "stick.img", "README.txt").encode())
    text[100] ^= 1
    put_on_stick(folder / "stick.img", "README.txt", bytes(text))
    with booted(stage, folder, board) as machine:
        machine.position = 0
        machine.wait("medium is damaged: README.txt", 120)
        machine.watch(2)
        machine.type("q")
        machine.wait(r"^\[after\]", 60)
        machine.wait(rb"^> \Z", 60)
        machine.type("3")
        machine.wait_off(120)
    assert "medium is damaged: README.txt" in on_stick(folder / "stick.img", "status.txt")
    return {}


def medium_is_no_target(stage, board="uefi"):
    """A FreedomBox on the stick itself is not offered, and refused when it is named by hand."""
    folder = stage.scene("no-target")
    before = digest(folder / "box.img")
    # The box's root gets the medium's own name: that is what a stick with both looks like.
    run("e2label", f"{folder / 'box.img'}?offset={ROOT_OFFSET}", "LIFEBOAT")
    before = digest(folder / "box.img")
    with booted(stage, folder, board) as machine:
        assert b"is the medium" in machine.console or b"no FreedomBox system was found" in machine.console, machine.tail()
        shell = ["lifeboat", "plan", "--from", "/dev/sdb", "--onto", "/dev/vda"]
        machine.type("q")
        machine.wait(r"^\[after\]", 60)
        machine.wait(rb"^> \Z", 60)
        machine.type("2")
        machine.wait(r"# \Z", 30)
        machine.type(" ".join(shell) + "; echo code=$?")
        machine.wait(r"^code=17", 120)
        machine.type("poweroff -f")
        machine.wait_off(60)
    assert digest(folder / "box.img") == before, "the medium was written to"
    return {}


def start_times(stage, board="uefi"):
    """Power-on to the first question, and to the first line of the same kernel with an initramfs that only prints it."""
    folder = stage.scene("times")
    arch = boards.BOARDS[board].arch
    with booted(stage, folder, board) as machine:
        ours = machine.first_question
    bare = folder / "bare.img"
    copy(stage.image, bare)
    put_on_stick(bare, f"lifeboat/{arch}/initrd", bare_initramfs(arch))
    machine = Machine(folder / "bare", [Disk(bare, bus=boards.BOARDS[board].medium, keep=True), *disks(folder, board)[1:]], board=board)
    with machine:
        machine.wait("a line from the initramfs", BOOT_TIMEOUT)
        least = machine.uptime()
    return {"question": ours, "line": least, "ratio": ours / least}


def bare_initramfs(arch):
    """An initramfs that prints a line on every console and does nothing else."""
    import initramfs

    found = sorted((PROJECT / "build/cache/tree").glob(f"{arch}*/usr/bin/busybox"))
    if not found:
        raise MachineError(f"the packages of {arch} are not in build/cache: build the image first")
    archive = initramfs.Cpio(epoch=0)
    archive.character_device("dev/console", 0o600, (5, 1))
    archive.file("bin/busybox", found[-1].read_bytes(), 0o755)
    script = (
        "#!/bin/busybox sh\n/bin/busybox mount -t devtmpfs devtmpfs /dev\n/bin/busybox mkdir /sys\n"
        "/bin/busybox mount -t sysfs sysfs /sys\n"
        "for c in $(/bin/busybox cat /sys/class/tty/console/active); do echo a line from the initramfs >/dev/$c; done\n"
        "/bin/busybox sleep 1000\n"
    )
    archive.file("init", script.encode(), 0o755)
    return gzip.compress(archive.write(), mtime=0)


SCENES = {
    "unattended": unattended,
    "unanswered": unattended_unanswered,
    "stick-pulled": stick_pulled,
    "disks-swapped": disks_swapped,
    "power-cut-twice": power_cut_twice,
    "disk-orders": disk_orders,
    "4k-sectors": large_sectors,
    "screen-only": screen_only,
    "damaged-medium": damaged_medium,
    "medium-is-no-target": medium_is_no_target,
}
