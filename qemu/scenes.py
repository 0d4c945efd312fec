"""What can happen to a rescue, one function per case: each boots the live image, does it, and looks at the result.

A scene gets a `Stage` and raises `MachineError`, `WalkError` or `AssertionError` when it went wrong; what it returns is
shown. The disks are copies: every scene starts from the same ones.
"""

import contextlib
import dataclasses
import gzip
import hashlib
import itertools
import json
import os
import pathlib
import re
import shutil
import socket
import statistics
import subprocess
import sys

import boards
import page
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

    def prepare(self, arch="amd64", size=0):
        """Makes the sample box and the drive with a backup, once for each architecture and size (MiB)."""
        self.sample = self.work / f"sample-{arch}-{size}"
        if not (self.sample / "backup.img").exists():
            command = [sys.executable, "-B", SAMPLE / "make.py", self.sample, "--disks", "--filesystem", "ext4"]
            run(*command, "--size", str(size), "--architecture", arch)
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
        more["kernel"] = (*parts[:2], kind.kernel, parts[2])
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
    folder = stage.scene(f"boot-{board}", board)
    with booted(stage, folder, board) as machine:
        walk(machine, stop_at("choose-box"))
        machine.wait_off(120)
    status = on_stick(folder / "stick.img", "status.txt")
    assert status and status.startswith("LIFEBOAT: STOPPED"), f"status.txt is {status!r}"
    return {"question": machine.first_question}


LANGUAGE = Step("language", option="English", optional=True)


def stop_at(question, after=Step("after", option="(?i)power off")):
    """Stops the guide at its first question but the language, and goes on from there."""
    return [LANGUAGE, Step(question, text="q"), after]


def restore(stage, board):
    """A whole rescue, checked from outside."""
    folder = stage.scene(f"restore-{board}", board)
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
    return "".join(f'{key} = "{value}"\r\n' for key, value in lines.items() if value is not None).encode()


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
    put_on_stick(folder / "stick.img", "answers.toml", answers(stage, **{"choose-box": "NO-SUCH-DISK"}))
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
        walk(machine, restore_everything(stage.hostname)[:-1], until=r"^\[after\]")
        assert b"The medium is not connected" in machine.console, "nobody was told that the log is missing"
        machine.wait(rb"^> \Z", 60)
        machine.plug(0)
        keep_log(machine)
        machine.type("3")
        machine.wait_off(120)
    stage.check(folder / "box.img")
    assert on_stick(folder / "stick.img", "status.txt").startswith("LIFEBOAT: DONE\r\n")
    return {}


def keep_log(machine):
    """Asks for the log files until the medium that was just plugged in is found."""
    for _ in range(10):
        machine.type("5")
        found = machine.wait_any(["The result is on the medium", "The medium is not connected"], 120)[0]
        machine.wait(rb"^> \Z", 60)
        if found == 0:
            return
        machine.watch(3)
    raise MachineError("the medium that was plugged in is not found")


def disks_swapped(stage, board="uefi"):
    """Only one slot: the stick starts, makes room for the box's disk, and comes back at the end."""
    folder = stage.scene("swapped")
    stick, box, backup = disks(folder, board)
    box.bus, box.connected = "usb", False
    look_again = Step("no-box", option="(?i)look again")
    with booted(stage, folder, board, [stick, box, backup]) as machine:
        walk(machine, [LANGUAGE, look_again], until=r"^\[no-box\]")
        machine.unplug(0)
        machine.watch(2)
        machine.plug(1)
        machine.watch(4)
        # A busy machine may take longer to see the disk.
        more = dataclasses.replace(look_again, optional=True)
        walk(machine, [look_again, *[more] * 8, *restore_everything(stage.hostname)[1:-1]], until=r"^\[after\]")
        machine.wait(rb"^> \Z", 60)
        machine.unplug(1)
        machine.watch(2)
        machine.plug(0)
        keep_log(machine)
        machine.type("3")
        machine.wait_off(120)
    stage.check(folder / "box.img")
    return {}


def power_cut_twice(stage, board="uefi"):
    """The power goes in the middle of the restore, and again while it goes on; the third start finishes it."""
    # Writing takes several seconds on any computer: the disk takes no more than so much of the backup's large file.
    stage.prepare(size=24)
    rate = 4 << 20
    folder = stage.scene("power-cut")
    usual = restore_everything(stage.hostname)
    ids = [step.id for step in usual]
    box, consent = ids.index("choose-box") + 1, ids.index("consent") + 1
    # Where the backup was not read to its end, it is chosen again.
    rest = [dataclasses.replace(step, optional=True) for step in usual[box:-1]]
    again = [*usual[:box], Step("earlier-restore", option="(?i)go on"), *rest, usual[-1]]
    writing = "writing beside the old data"
    with booted(stage, folder, board) as machine:
        machine.slow_down(1, rate)
        walk(machine, usual[:consent])
        machine.wait(writing, ANSWER_TIMEOUT)
        machine.watch(1)
    with booted(stage, folder, board) as machine:
        machine.slow_down(1, rate)
        walk(machine, again, until=writing)
        machine.watch(1)
    with booted(stage, folder, board) as machine:
        walk(machine, again)
        machine.wait_off(120)
    stage.check(folder / "box.img")
    return {"starts": 3}


def large_sectors(stage, board="uefi"):
    """Disks with sectors of 4 KiB: their partition tables and file systems count in other units."""
    folder = stage.scene("sectors")
    backup_in_large_sectors(folder / "backup.img")
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
    # Not every sfdisk can be told the size of the sectors; a loop device tells all.
    loop = run(*prefix(), "losetup", "--sector-size", "4096", "--find", "--show", image).decode().strip()
    try:
        command = [*prefix(), "sfdisk", "--quiet", "--wipe", "always", "--no-reread", "--no-tell-kernel", loop]
        run(*command, input="\n".join(lines).encode() + b"\n")
    finally:
        as_root("losetup", "--detach", loop)


def backup_in_large_sectors(image):
    """Makes the file system of the drive with the backup anew: no kernel mounts one of smaller sectors than the disk's."""
    place = f"{image}@@4M"
    files = run("mdir", "-b", "-i", place, "::/Downloads").decode().split()
    backup = run("mtype", "-i", place, files[0])
    part = image.with_name("part.img")
    with open(part, "wb") as empty:
        empty.truncate(image.stat().st_size - (5 << 20))
    run("mkfs.vfat", "-S", "4096", "-n", "BACKUPUSB", "-i", "BAC00001", part)
    run("mmd", "-i", part, "::/Downloads")
    run("mcopy", "-i", part, "-", files[0], input=backup)
    with open(image, "r+b") as whole:
        whole.seek(4 << 20)
        whole.write(part.read_bytes())


def only_network(stage, board="uefi"):
    """A board without screen and serial cable: the page is asked for on the stick, which also tells its code."""
    folder = stage.scene("network")
    stick = folder / "stick.img"
    # What a person makes on another computer: an empty folder.
    run("mmd", "-i", f"{stick}{FAT}", "::/page-on")
    before = digest(folder / "backup.img")
    port = free_port()
    steps = [step for step in restore_everything(stage.hostname) if step.id not in ("done", "after")]
    with booted(stage, folder, board, until=None, page=port) as machine:
        told = told_on_stick(machine, stick)
        browser = page.Browser(port, told)
        browser.enter()
        browser.walk(steps)
        end = browser.question()
        assert end.id == "ended", f"the page asks {end.id} at the end"
        report = browser.ask("GET", "/report.txt")[1]
        assert "done as far as possible" in report, f"the report does not say how it went:\n{report}"
        browser.walk([Step("ended", option="(?i)switch the computer off")])
        machine.wait_off(120)
        seconds = machine.uptime()
    assert digest(folder / "backup.img") == before, "the drive with the backup was written to"
    stage.check(folder / "box.img")
    status = on_stick(stick, "status.txt")
    assert status.startswith("LIFEBOAT: DONE\r\n"), status
    return {"seconds": seconds}


def told_on_stick(machine, stick):
    """How the page is reached, once the stick says it with an address."""
    end = machine.uptime() + ANSWER_TIMEOUT
    while machine.uptime() < end:
        machine.watch(1)
        told = page.Told.within(on_stick(stick, "status.txt"))
        if told and len(told.addresses) > 1:
            return told
    raise MachineError(f"the stick does not tell how the page is reached; the console ends with:\n{machine.tail()}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def screen_only(stage, board="bios"):
    """No serial line: the questions are on the screen, and a keyboard answers them."""
    folder = stage.scene("screen")
    machine = Machine(folder / "machine", disks(folder, board), board=board, screen=True)
    with machine:
        machine.wait_screen(r"^\[(language|choose-box)\]", BOOT_TIMEOUT)
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
    """A FreedomBox on a disk with the medium's own name is not offered, and refused when it is named by hand."""
    folder = stage.scene("no-target")
    # What a stick with both on it looks like.
    run("e2label", f"{folder / 'box.img'}?offset={ROOT_OFFSET}", "LIFEBOAT")
    before = digest(folder / "box.img")
    with booted(stage, folder, board) as machine:
        walk(machine, stop_at("no-box", Step("after", text="2")))
        machine.wait(r"# \Z", 30)
        machine.type("lifeboat plan --from $(findfs LABEL=BACKUPUSB) --onto /dev/vda; echo code=$?")
        machine.wait(r"^code=17", 120)
        machine.type("poweroff -f")
        machine.wait_off(60)
    assert digest(folder / "box.img") == before, "the medium was written to"
    return {}


def volumes(stage, board="uefi"):
    """The box on an LVM volume on a mirror that lost a disk, the backup behind a passphrase; looking changes nothing."""
    folder = stage.scene("volumes")
    part = folder / "part.img"
    with open(folder / "backup.img", "rb") as whole:
        whole.seek(4 << 20)
        part.write_bytes(whole.read()[: -(1 << 20)])
    secret = ["--object", "secret,id=s,data=correct-horse", "-o", "key-secret=s,iter-time=10"]
    (folder / "backup.img").unlink()
    run("qemu-img", "convert", "-f", "raw", "-O", "luks", *secret, part, folder / "backup.img")
    with open(folder / "mirror.img", "wb") as empty:
        empty.truncate(1 << 30)
    stick, box, backup = disks(folder, board)
    mirror = Disk(folder / "mirror.img", bus=boards.BOARDS[board].disks, keep=True, serial="MIRROR")
    move = (
        "mkdir -p /run/lock/lvm /run/mdadm && mdadm --create /dev/md0 --run --level=1 --raid-devices=2 missing /dev/vdb && "
        "lvm pvcreate /dev/md0 && lvm vgcreate box /dev/md0 && lvm lvcreate -Z n -W n -L 800M -n root box && "
        "dmsetup mknodes && cat /dev/vda2 >/dev/mapper/box-root && sync && echo moved=$?"
    )
    with booted(stage, folder, board, [stick, box, mirror]) as machine:
        in_shell(machine, move, r"^moved=0")
    before = digest(folder / "mirror.img"), digest(folder / "backup.img")
    # Only such a one can be plugged in later.
    box.bus, box.connected = "usb", False
    together = [stick, mirror, backup, box]
    with booted(stage, folder, board, together, until=r"^\[unlock\]") as machine:
        unlocked(machine)
        walk(machine, stop_at("choose-box"))
        machine.wait_off(120)
    assert (digest(folder / "mirror.img"), digest(folder / "backup.img")) == before, "looking changed a disk"
    with booted(stage, folder, board, together, until=r"^\[unlock\]") as machine:
        unlocked(machine)
        walk(machine, restore_everything(stage.hostname)[:-1], until=r"^\[after\]")
        machine.wait(rb"^> \Z", 60)
        machine.plug(3)
        machine.watch(8)
        machine.type("2")
        machine.wait(r"# \Z", 30)
        # Back onto a plain partition, for those who check it.
        machine.type("part=$(findfs LABEL=EFI); dd if=/dev/mapper/box-root of=${part%1}2 bs=1M count=768; sync; poweroff -f")
        machine.wait_off(120)
    assert digest(folder / "backup.img") == before[1], "the drive with the backup was written to"
    stage.check(folder / "box.img")
    return {}


def unlocked(machine):
    """Types the passphrase of the only encrypted volume, first a wrong one."""
    machine.wait(rb"^> \Z", 60)
    machine.type("wrong")
    machine.wait("does not open it", 120)
    machine.wait(rb"^> \Z", 60)
    machine.type("correct-horse")
    machine.wait("It is open", 120)
    assert b"correct-horse" not in machine.console, "the passphrase was shown"
    machine.walked = len(machine.console)


def in_shell(machine, command, until, timeout=300):
    """Stops the guide at its question, runs a command in the shell, and switches off."""
    machine.type("q")
    machine.wait(r"^\[after\]", 60)
    machine.wait(rb"^> \Z", 60)
    machine.type("2")
    machine.wait(r"# \Z", 30)
    machine.type(command)
    machine.wait(until, timeout)
    machine.type("poweroff -f")
    machine.wait_off(120)


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


SCENES = {
    "unattended": unattended,
    "unanswered": unattended_unanswered,
    "stick-pulled": stick_pulled,
    "disks-swapped": disks_swapped,
    "power-cut-twice": power_cut_twice,
    "disk-orders": disk_orders,
    "4k-sectors": large_sectors,
    "screen-only": screen_only,
    "only-network": only_network,
    "damaged-medium": damaged_medium,
    "medium-is-no-target": medium_is_no_target,
    "volumes": volumes,
    "small-memory": small_memory,
}
