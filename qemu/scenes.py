"""What can happen to a rescue, one function per case: each boots the live image, does it, and looks at the result.

A scene gets a `Stage` and raises `MachineError`, `WalkError` or `AssertionError` when it went wrong; what it returns is
shown. The disks are copies: every scene starts from the same ones.
"""

import dataclasses
import itertools
import json
import re
import socket

import boards
import memory
import page
from machine import Disk, Machine, MachineError
from room import more_room, more_room_on_btrfs, power_cut_while_growing, power_cut_while_growing_unmounted
from stage import (
    FAT, FIRST, ROOT_OFFSET, answers, as_root, booted, copy, digest, disks, finish, in_shell, on_stick, prefix,
    put_on_stick, run, stop_at,
)
from walk import ANSWER_TIMEOUT, BOOT_TIMEOUT, Step, restore_everything, walk


def boot(stage, board):
    """Boots to the first question and switches off properly: (seconds to it)."""
    folder = stage.scene(f"boot-{board}", board)
    with booted(stage, folder, board) as machine:
        walk(machine, stop_at("choose-box"))
        machine.wait_off(120)
    status = on_stick(folder / "stick.img", "status.txt")
    assert status and status.startswith("LIFEBOAT: STOPPED"), f"status.txt is {status!r}"
    return {"question": machine.first_question}


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
        walk(machine, [*FIRST, look_again], until=r"^\[no-box\]")
        machine.unplug(0)
        machine.watch(2)
        machine.plug(1)
        machine.watch(4)
        # A busy machine may take longer to see the disk.
        more = dataclasses.replace(look_again, optional=True)
        walk(machine, [look_again, *[more] * 8, *restore_everything(stage.hostname)[len(FIRST):-1]], until=r"^\[after\]")
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
    stage.prepare(boards.BOARDS[board].arch, size=24)
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
    """No serial line: the questions are on the screen, and a keyboard answers them, as its letters say."""
    folder = stage.scene("screen")
    machine = Machine(folder / "machine", disks(folder, board), board=board, screen=True)
    with machine:
        machine.wait_screen(r"^\[language\]", BOOT_TIMEOUT)
        machine.watch(3)
        machine.picture(folder / "screen.ppm")
        # German, and the layout that is proposed with it: z is where y is elsewhere.
        machine.type("2")
        machine.wait_screen(r"^\[keyboard\]", 60)
        machine.watch(2)
        machine.type("")
        machine.wait_screen(r"^\[choose-box\]", 60)
        machine.watch(2)
        machine.type("y")
        machine.wait_screen("^> z$", 60)
        machine.watch(2)
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


SCENES = {
    "unattended": unattended,
    "unanswered": unattended_unanswered,
    "stick-pulled": stick_pulled,
    "disks-swapped": disks_swapped,
    "more-room": more_room,
    "more-room-btrfs": more_room_on_btrfs,
    "more-room-cut": power_cut_while_growing,
    "more-room-cut-unmounted": power_cut_while_growing_unmounted,
    "power-cut-twice": power_cut_twice,
    "disk-orders": disk_orders,
    "4k-sectors": large_sectors,
    "screen-only": screen_only,
    "only-network": only_network,
    "damaged-medium": damaged_medium,
    "medium-is-no-target": medium_is_no_target,
    "volumes": volumes,
    "small-memory": memory.large_content,
    "small-memory-many": memory.as_many_as_in_ten_gb,
}
