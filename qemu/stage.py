"""Where scenes play: the image, the sample's disks and what is done with both, and a machine at its first question."""

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import uuid

import boards
from machine import Disk, Machine, MachineError
from walk import ANSWER_TIMEOUT, BOOT_TIMEOUT, Step, restore_everything, walk

PROJECT = pathlib.Path(__file__).resolve().parent.parent
SAMPLE = PROJECT / "tests/sample"
# Where the medium's file system begins, as mtools writes it.
FAT = "@@4M"
ROOT_OFFSET = (4 + 64) * 1024 * 1024
sys.path += [str(PROJECT / "image-build"), str(SAMPLE)]


class Stage:
    """Where scenes play: the image, the sample's disks, and a folder for what they leave."""

    def __init__(self, image, work):
        self.image, self.work = pathlib.Path(image), pathlib.Path(work)
        self.echo = None
        # Of starts whose times are compared.
        self.pairs = 1
        self.sample = self.work / "sample"

    def prepare(self, arch="amd64", size=0, filesystem="ext4", fresh=0, files=0):
        """Makes the sample box and the drive with a backup, once for each kind: architecture, MiB of a large file in the
        backup, the box's filesystem, for a box that was never started MiB of that, and how many small files more."""
        self.sample = self.work / f"sample-{arch}-{size}-{filesystem}-{fresh}-{files}"
        if not (self.sample / "backup.img").exists():
            command = [sys.executable, "-B", SAMPLE / "make.py", self.sample, "--disks", "--filesystem", filesystem]
            # The kernel mounts no two of btrfs that are called alike.
            command += ["--uuid", str(uuid.uuid4())] if filesystem == "btrfs" else []
            command += ["--never-booted", "--root-size", str(fresh)] if fresh else []
            run(*command, "--size", str(size), "--files", str(files), "--architecture", arch)
        expected = json.loads((self.sample / "expected.json").read_text())
        self.hostname = expected["box"]["hostname"]

    def image_for(self, board):
        """The image that this board starts from: some need a card of their own."""
        return self.image.parent / f"lifeboat-{board}.img" if boards.BOARDS[board].card else self.image

    def scene(self, name, board="uefi"):
        """A fresh folder with copies of the disks."""
        folder = self.work / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        copy(self.image_for(board), folder / "stick.img")
        for name in ("box.img", "backup.img"):
            copy(self.sample / name, folder / name)
        return folder

    def check(self, box):
        """Whether the box's disk is as it should be; the disk is opened read-only. Returns how large its root is (bytes)."""
        root = pathlib.Path(box).parent / "root"
        root.mkdir(exist_ok=True)
        as_root("mount", "-o", f"ro,loop,offset={ROOT_OFFSET}", box, root)
        try:
            result = subprocess.run(
                [*prefix(), sys.executable, "-B", SAMPLE / "check.py", root, self.sample / "expected.json"],
                stdout=subprocess.PIPE, text=True,
            )
            room = os.statvfs(root)
        finally:
            as_root("umount", root)
        if result.returncode:
            raise AssertionError(f"the box's disk is not as it should be:\n{result.stdout}")
        return room.f_blocks * room.f_frsize


def prefix():
    return [] if os.geteuid() == 0 else ["sudo"]


def run(*command, **more):
    return subprocess.run([str(word) for word in command], check=True, stdout=subprocess.PIPE, **more).stdout


def as_root(*command):
    run(*prefix(), *command)


def copy(source, target):
    run("cp", "--sparse=always", "--reflink=auto", source, target)


def digest(file):
    found = hashlib.sha256()
    with open(file, "rb") as data:
        while block := data.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def on_stick(stick, name):
    """A text file of the stick, or None."""
    found = subprocess.run(["mtype", "-i", f"{stick}{FAT}", f"::/{name}"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return found.stdout.decode() if found.returncode == 0 else None


def from_stick(stick, name, target):
    """Copies a file of the stick; `name` may be below any folder."""
    everything = run("mdir", "-b", "-/", "-i", f"{stick}{FAT}", "::/").decode().splitlines()
    found = [path for path in everything if path.endswith(f"/{name}")]
    if not found:
        raise MachineError(f"the medium has no {name}")
    run("mcopy", "-o", "-n", "-i", f"{stick}{FAT}", found[0], target)
    return target


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
    kind = boards.BOARDS[board]
    if kind.kernel:
        stick = folder / "stick.img"
        kernel, initramfs, tree = f"lifeboat/{kind.arch}/vmlinuz", f"lifeboat/{kind.arch}/initrd", kind.device_tree
        parts = [from_stick(stick, name, folder / name.rpartition("/")[2]) for name in (kernel, initramfs, tree)]
        words = on_stick(stick, kind.kernel)
        assert words, f"the medium has no {kind.kernel}"
        more["kernel"] = (*parts[:2], words.strip(), parts[2])
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


# What may be asked before everything else.
FIRST = [Step("language", option="English", optional=True), Step("keyboard", text="", optional=True)]


def stop_at(question, after=Step("after", option="(?i)power off")):
    """Stops the guide at its first question but the language, and goes on from there."""
    return [*FIRST, Step(question, text="q"), after]


def answers(stage, **more):
    """An answer file for the sample."""
    root = run("blkid", "-p", "-O", str(ROOT_OFFSET), "-o", "value", "-s", "UUID", stage.sample / "box.img").decode().strip()
    lines = {
        "choose-box": root, "choose-backup": "BAC0-0001", "choose-archive": "newest", "choose-apps": "all",
        "consent": stage.hostname, "after": "power-off",
    } | more
    return "".join(f'{key} = "{value}"\r\n' for key, value in lines.items() if value is not None).encode()


def in_shell(machine, command, until, timeout=300):
    """Stops the guide at its question, runs a command in the shell, and switches off."""
    machine.type("q")
    machine.wait(r"^\[after\]", 300)
    machine.wait(rb"^> \Z", 300)
    machine.type("2")
    machine.wait(r"# \Z", 300)
    machine.type(command)
    machine.wait(until, timeout)
    machine.type("poweroff -f")
    machine.wait_off(120)
