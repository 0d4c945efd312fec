"""One virtual machine with a serial console: started as our own child, driven by text, ended by power-off or power cut.

Always QEMU's own translation (TCG): hardware virtualisation may be present and still be unable to run a plain kernel.
Only processes that this module started are ever signalled. Disks given with `keep=False` are not changed: the guest
writes to a throw-away overlay.
"""

import os
import pathlib
import re
import select
import shutil
import subprocess
import time

# Where Debian and Ubuntu put the firmware: (code, variables), 4 MiB builds first. "bios" is what QEMU has by itself.
FIRMWARE_PLACE = pathlib.Path("/usr/share/OVMF")
FIRMWARE = {
    "uefi": (("OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"), ("OVMF_CODE.fd", "OVMF_VARS.fd")),
    "secure-boot": (
        ("OVMF_CODE_4M.secboot.fd", "OVMF_VARS_4M.ms.fd"),
        ("OVMF_CODE.secboot.fd", "OVMF_VARS.ms.fd"),
    ),
}
# Terminal control that firmware and GRUB mix into the text.
CONTROL = re.compile(rb"\x1b(\[[0-9;?=]*[A-Za-z]|[()][A-Z0-9]|[=>78cM])|\r|\x00")
PANIC = re.compile(rb"Kernel panic - not syncing[^\n]*")


class MachineError(Exception):
    """The machine did something else than the caller waited for."""


class Disk:
    """A disk image to attach: `file`, how (`usb` or `virtio`), and whether the guest's writes are kept."""

    def __init__(self, file, bus="virtio", keep=False, serial=""):
        self.file, self.bus, self.keep, self.serial = pathlib.Path(file), bus, keep, serial


class Machine:
    """A running machine; use it as a context manager, so that it never outlives the block.

    `work` is a directory for overlays, firmware variables and `console.log`.
    """

    def __init__(self, work, disks, firmware="uefi", memory=1024, cores=2, echo=None):
        self.work = pathlib.Path(work)
        self.work.mkdir(parents=True, exist_ok=True)
        self.disks, self.firmware, self.memory, self.cores = disks, firmware, memory, cores
        self.echo = echo
        self.child = self.log = self.started = None
        # Everything the console showed, without terminal control; `position` is how much of it was waited for.
        self.console = b""
        self.position = 0
        self._partial = b""

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.cut_power()

    def command(self, serial="stdio"):
        """The QEMU command line, with `serial` as the console."""
        line = ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-smp", str(self.cores), "-m", str(self.memory)]
        line += ["-nodefaults", "-no-user-config", "-display", "none", "-vga", "none", "-no-reboot"]
        line += ["-serial", serial, "-monitor", "none", "-device", "virtio-rng-pci"]
        line += self._firmware_options()
        line += ["-device", "qemu-xhci"]
        for number, disk in enumerate(self.disks):
            # Firmware starts the first disk that it can start.
            options = f"drive=d{number},bootindex={number}" + (f",serial={disk.serial}" if disk.serial else "")
            file, form = self._writable(number, disk)
            device = {"usb": "usb-storage", "virtio": "virtio-blk-pci"}[disk.bus]
            line += ["-drive", f"file={_escape(file)},format={form},if=none,id=d{number},cache=writeback"]
            line += ["-device", f"{device},{options}"]
        return line

    def start(self):
        command = self.command()
        self.console, self.position, self._partial = b"", 0, b""
        self.log = open(self.work / "console.log", "wb")
        self.started = time.monotonic()
        self.child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )
        os.set_blocking(self.child.stdout.fileno(), False)

    def uptime(self):
        """Seconds since the machine was switched on."""
        return time.monotonic() - self.started

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

    def type(self, line):
        """Types `line` and Enter."""
        # A serial line has no flow control here: the guest loses bytes that come in one burst.
        for byte in f"{line}\r".encode():
            self.child.stdin.write(bytes([byte]))
            self.child.stdin.flush()
            time.sleep(0.01)

    def wait_off(self, timeout):
        """Waits until the machine has switched itself off."""
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
        self.child = None

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
        if self.echo:
            self.echo(text.decode(errors="replace"))
        return True

    def _firmware_options(self):
        if self.firmware == "bios":
            return ["-machine", "q35"]
        for code, variables in FIRMWARE[self.firmware]:
            if (FIRMWARE_PLACE / code).exists():
                own = self.work / "firmware-variables"
                if not own.exists():
                    shutil.copyfile(FIRMWARE_PLACE / variables, own)
                options = ["-machine", "q35"]
                if self.firmware == "secure-boot":
                    options = ["-machine", "q35,smm=on"]
                    options += ["-global", "driver=cfi.pflash01,property=secure,value=on"]
                flash = "if=pflash,format=raw"
                options += ["-drive", f"{flash},unit=0,readonly=on,file={FIRMWARE_PLACE / code}"]
                return options + ["-drive", f"{flash},unit=1,file={_escape(own)}"]
        raise MachineError(f"there is no {self.firmware} firmware in {FIRMWARE_PLACE}: install the package ovmf")

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
