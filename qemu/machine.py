"""One virtual machine: started as our own child, driven by text, ended by power-off or power cut.

Always QEMU's own translation (TCG): hardware virtualisation may be present and still be unable to run a plain kernel.
Only processes that this module started are ever signalled. Disks given with `keep=False` are not changed: the guest
writes to a throw-away overlay.
"""

import json
import os
import pathlib
import re
import select
import shutil
import socket
import subprocess
import time

import boards

# Terminal control that firmware and GRUB mix into the text.
CONTROL = re.compile(rb"\x1b(\[[0-9;?=]*[A-Za-z]|[()][A-Z0-9]|[=>78cM])|\r|\x00")
PANIC = re.compile(rb"Kernel panic - not syncing[^\n]*")
# Text mode of a PC: 32 KiB of characters and colours, 80 in a row; the kernel scrolls by showing another part of it.
TEXT_MEMORY, TEXT_LENGTH, COLUMNS = 0xB8000, 0x8000, 80
KEYS = {" ": "spc", "-": "minus", "_": "shift-minus", ".": "dot", "/": "slash", "\r": "ret", ",": "comma"}


class MachineError(Exception):
    """The machine did something else than the caller waited for."""


class Disk:
    """A disk image to attach: `file`, how (`usb`, `virtio`, `sd`), whether the guest's writes are kept, its sectors."""

    def __init__(self, file, bus="virtio", keep=False, serial="", sector=512, connected=True):
        self.file, self.bus, self.keep, self.serial = pathlib.Path(file), bus, keep, serial
        # A disk that is not connected can be plugged in later.
        self.sector, self.connected = sector, connected


class Machine:
    """A running machine; use it as a context manager, so that it never outlives the block.

    `work` is a directory for overlays, firmware variables and `console.log`. `board` is a name in `boards.BOARDS`.
    With `screen`, it has a screen and a keyboard, and no serial line at all. `kernel` (kernel, initramfs, command line)
    is started instead of what is on the disks. `clock` is the time that the machine believes in, 2001-01-01T00:00:00.
    With `page`, it has a network that reaches nothing, and port 443 of the machine is that port of ours.
    """

    def __init__(self, work, disks, board="uefi", memory=None, cores=None, echo=None, screen=False, page=None, kernel=None, clock=None):
        self.work = pathlib.Path(work)
        self.work.mkdir(parents=True, exist_ok=True)
        self.disks, self.board = disks, boards.BOARDS[board]
        self.memory, self.cores = memory or self.board.memory, cores or self.board.cores
        self.echo, self.screen, self.page, self.kernel, self.clock = echo, screen, page, kernel, clock
        self.child = self.log = self.started = self.monitor = None
        # Everything the console showed, without terminal control; `position` is how much of it was waited for.
        self.console = b""
        self.position = 0
        # How long the console was at which second.
        self._lengths = []
        self._partial = b""

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.cut_power()

    def command(self, serial="stdio"):
        """The QEMU command line, with `serial` as the console."""
        board = self.board
        line = [board.program, "-accel", "tcg,thread=multi", "-no-user-config", "-no-reboot", "-display", "none"]
        line += [*board.options, *self._firmware_options()]
        if not board.fixed:
            line += ["-smp", str(self.cores), "-m", str(self.memory)]
        if board.medium != "sd":
            line += ["-nodefaults", "-device", "virtio-rng-pci"]
            # With the screen first, it is where the firmware shows itself.
            line += ["-device", "VGA"] if self.screen else []
            line += ["-device", "qemu-xhci,id=xhci"]
            line += ["-device", "usb-kbd"] if self.screen else []
        line += ["-rtc", f"base={self.clock}"] if self.clock else []
        if self.page:
            forward = f"hostfwd=tcp:127.0.0.1:{self.page}-:443"
            line += ["-netdev", f"user,id=lan,restrict=on,{forward}", "-device", "virtio-net-pci,netdev=lan"]
        line += ["-serial", "none"] if self.screen else ["-serial", "null"] * board.serial + ["-serial", serial]
        line += ["-monitor", "none", "-qmp", f"unix:{_escape(self._socket())},server=on,wait=off"]
        for number, disk in enumerate(self.disks):
            line += self._blocks(number, disk)
            if disk.connected and disk.bus != "sd":
                line += ["-device", json.dumps(self._device(number, disk))]
        return line

    def start(self):
        command = self.command()
        self.console, self.position, self._lengths, self._partial = b"", 0, [], b""
        self.log = open(self.work / "console.log", "wb")
        self.started = time.monotonic()
        self.child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )
        os.set_blocking(self.child.stdout.fileno(), False)

    def uptime(self):
        """Seconds since the machine was switched on."""
        return time.monotonic() - self.started

    def when(self, pattern):
        """How many seconds after switching on the console showed what matches `pattern` (bytes)."""
        match = re.search(pattern, self.console)
        if not match:
            raise MachineError(f"the console never showed {pattern!r}:\n{self.tail()}")
        return next(seconds for length, seconds in self._lengths if length >= match.end())

    def wait(self, pattern, timeout):
        """Waits until `pattern` (a regular expression) shows up in text not waited for before; returns the match."""
        return self.wait_any([pattern], timeout)[1]

    def wait_any(self, patterns, timeout):
        """Like `wait`, for the first of several patterns: returns its index and the match."""
        expressions = [re.compile(p if isinstance(p, bytes) else p.encode(), re.MULTILINE) for p in patterns]
        end = time.monotonic() + timeout
        while True:
            found = [(m.start(), i, m) for i, e in enumerate(expressions) if (m := e.search(self.console, self.position))]
            if found:
                _, index, match = min(found, key=lambda item: item[0])
                self.position = match.end()
                return index, match
            if panic := PANIC.search(self.console):
                raise MachineError(f"the machine stopped: {panic.group().decode(errors='replace')}")
            if time.monotonic() > end:
                wanted = " or ".join(repr(p) for p in patterns)
                raise MachineError(f"waited {timeout:.0f} s for {wanted}; the console ends with:\n{self.tail()}")
            if not self._read(min(0.5, timeout)) and self.child.poll() is not None and not self._read(0):
                if not any(e.search(self.console, self.position) for e in expressions):
                    raise MachineError(f"the machine went off (QEMU's status {self.child.poll()}):\n{self.tail()}")

    def watch(self, seconds):
        """Lets time pass."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.child.poll() is None:
            self._read(0.2)

    def type(self, line):
        """Types `line` and Enter."""
        if self.screen:
            for letter in f"{line}\r":
                keys = KEYS.get(letter, f"shift-{letter.lower()}" if letter.isupper() else letter)
                self.order("send-key", keys=[{"type": "qcode", "data": key} for key in keys.split("-")], **{"hold-time": 40})
                time.sleep(0.12)
            return
        # A serial line has no flow control here: the guest loses bytes that come in one burst.
        for byte in f"{line}\r".encode():
            self.child.stdin.write(bytes([byte]))
            self.child.stdin.flush()
            time.sleep(0.01)

    def plug(self, number):
        """Connects a disk while the machine runs."""
        self.order("device_add", **self._device(number, self.disks[number]))

    def unplug(self, number):
        """Pulls a disk out, whatever it is doing."""
        self.order("device_del", id=f"disk{number}")

    def change_card(self, number, file):
        """Takes the card out of the slot of disk `number`, and puts another one in."""
        self.order("eject", device=f"disk{number}", force=True)
        self.watch(3)
        medium = {"filename": str(pathlib.Path(file).resolve()), "format": "raw"}
        self.order("blockdev-change-medium", device=f"disk{number}", **medium)

    def slow_down(self, number, rate=0, writes=0):
        """Lets a virtio disk take only so many bytes, or so many writes, in a second; 0 is as many as it can."""
        limits = {"bps": 0, "bps_rd": 0, "bps_wr": rate, "iops": 0, "iops_rd": 0, "iops_wr": writes}
        self.order("block_set_io_throttle", id=f"/machine/peripheral/disk{number}/virtio-backend", **limits)

    def screen_lines(self):
        """The lines of a PC's screen in text mode, also some that were scrolled off."""
        memory = self.work / "screen.bin"
        self.order("pmemsave", val=TEXT_MEMORY, size=TEXT_LENGTH, filename=str(memory.resolve()))
        text = memory.read_bytes()[::2].decode("cp437")
        rows = [text[at : at + COLUMNS].rstrip() for at in range(0, len(text), COLUMNS)]
        return [row for row in rows if row.strip("\0 ")]

    def wait_screen(self, pattern, timeout):
        """Waits until a line of the screen in text mode matches."""
        end = time.monotonic() + timeout
        while time.monotonic() < end and self.child.poll() is None:
            self.watch(1)
            if any(re.search(pattern, line) for line in self.screen_lines()):
                return
        raise MachineError(f"the screen does not show {pattern!r}:\n" + "\n".join(self.screen_lines()[-25:]))

    def picture(self, file):
        """Saves what the screen shows as a picture."""
        self.order("screendump", filename=str(pathlib.Path(file).resolve()))

    def order(self, command, **arguments):
        """Gives QEMU an order (its machine protocol) and returns the answer."""
        if self.monitor is None:
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(30)
            end = time.monotonic() + 30
            while True:
                try:
                    connection.connect(str(self._socket()))
                    break
                except OSError:
                    if time.monotonic() > end:
                        raise
                    time.sleep(0.1)
            self.monitor = (connection, connection.makefile("rw"))
            self._order("qmp_capabilities", {})
        return self._order(command, arguments)

    def _order(self, command, arguments):
        stream = self.monitor[1]
        stream.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        stream.flush()
        for line in stream:
            answer = json.loads(line)
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise MachineError(f"QEMU refused {command}: {answer['error']['desc']}")
        raise MachineError(f"QEMU gave no answer to {command}")

    def wait_off(self, timeout):
        """Waits until the machine has switched itself off, or, where QEMU does not imitate that, wants to be."""
        if self.board.stays_on:
            self.wait("switch it off now", timeout)
            self.cut_power()
            return
        end = time.monotonic() + timeout
        while self.child.poll() is None:
            if time.monotonic() > end:
                raise MachineError(f"the machine is still on after {timeout:.0f} s; the console ends with:\n{self.tail()}")
            self._read(0.5)
        self._read(0)
        if self.child.returncode:
            raise MachineError(f"QEMU ended with status {self.child.returncode}:\n{self.tail()}")

    def cut_power(self):
        """Ends the machine at once, as pulling the plug does. What the guest had not written is lost."""
        if self.child is None:
            return
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()
        self._read(0)
        self.child.stdin.close()
        self.child.stdout.close()
        self.log.close()
        if self.monitor:
            self.monitor[1].close()
            self.monitor[0].close()
        self.child = self.monitor = None

    def tail(self, lines=25):
        """The last lines of the console."""
        return "\n".join(self.console.decode(errors="replace").splitlines()[-lines:])

    def _read(self, timeout):
        """Takes what the console has; whether there was anything."""
        ready, _, _ = select.select([self.child.stdout], [], [], timeout)
        data = self.child.stdout.read() if ready else None
        if not data:
            return False
        self.log.write(data)
        self.log.flush()
        # A control sequence may be cut in two between reads.
        data = self._partial + data
        cut = data.rfind(b"\x1b", max(0, len(data) - 16))
        self._partial, data = (data[cut:], data[:cut]) if cut >= 0 and not CONTROL.match(data, cut) else (b"", data)
        text = CONTROL.sub(b"", data)
        self.console += text
        self._lengths.append((len(self.console), self.uptime()))
        if self.echo:
            self.echo(text.decode(errors="replace"))
        return True

    def _socket(self):
        # A socket's name may have 107 bytes only; a relative one is short.
        return pathlib.Path(os.path.relpath(self.work / "orders"))

    def _firmware_options(self):
        if self.kernel:
            kernel, initramfs, words, *tree = self.kernel
            line = ["-kernel", str(kernel), "-initrd", str(initramfs), "-append", words]
            return line + (["-dtb", str(tree[0])] if tree else [])
        board = self.board
        if board.bios:
            return ["-bios", board.bios]
        if not board.flash:
            return []
        found = boards.firmware(board)
        if found is None:
            raise MachineError(boards.missing(board))
        code, variables = found
        own = self.work / "firmware-variables"
        if not own.exists():
            shutil.copyfile(variables, own)
        flash = "if=pflash,format=raw"
        options = ["-drive", f"{flash},unit=0,readonly=on,file={code}"]
        return options + ["-drive", f"{flash},unit=1,file={_escape(own)}"]

    def _blocks(self, number, disk):
        """What the guest's disk is made of."""
        file, form = self._writable(number, disk)
        if disk.bus == "sd":
            return ["-drive", f"if=sd,id=disk{number},format={form},file={_escape(file)}"]
        place = {"driver": "file", "filename": str(file)}
        return ["-blockdev", json.dumps({"driver": form, "node-name": f"block{number}", "file": place})]

    def _device(self, number, disk):
        driver = {"usb": "usb-storage", "virtio": "virtio-blk-pci", "nvme": "nvme", "sata": "ide-hd"}[disk.bus]
        device = {"driver": driver, "id": f"disk{number}", "drive": f"block{number}"}
        if disk.connected:
            # Firmware starts the first disk that it can start.
            device["bootindex"] = number
        serial = disk.serial or ("none" if driver == "nvme" else "")
        if serial:
            device["serial"] = serial
        if disk.sector != 512:
            device |= {"logical_block_size": disk.sector, "physical_block_size": disk.sector}
        return device

    def _writable(self, number, disk):
        """The file that the guest writes to, and its format."""
        if disk.keep:
            return disk.file, "raw"
        overlay = self.work / f"disk{number}.qcow2"
        # A second start of the same machine finds what the first one wrote.
        if self.started is None or not overlay.exists():
            command = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", disk.file.resolve(), overlay]
            subprocess.run(command, check=True)
        return overlay, "qcow2"


def _escape(path):
    """A file name inside a QEMU option: a comma is doubled."""
    return str(path).replace(",", ",,")
