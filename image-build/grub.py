"""GRUB where Debian signs none: the boot sector's code and core image for BIOSes, and the program for 32-bit ARM's UEFI.

grub-mkimage puts GRUB's modules together; it and they have to be of one version, so both come from the same suite. For
BIOSes the two parts are tied together as grub-install does it, without its need for a real disk.
"""

import pathlib
import struct
import subprocess
import tempfile

SECTOR = 512
# Offsets in boot.img (grub-core/boot/i386/pc/boot.S): sector of the core image, drive, the check that some BIOSes need.
KERNEL_SECTOR, BOOT_DRIVE, DRIVE_CHECK = 0x5C, 0x64, 0x66
# Offset in the core image's first sector (diskboot.S): where the rest is, how long, and the segment it goes to.
BLOCK_LIST, LOAD_SEGMENT = 0x1F4, 0x820


def boot_code(programs, tree, label, modules, core_sector, room):
    """(code for the boot sector, core image), the core image made to lie at `core_sector`; at most `room` bytes."""
    image = bytearray(make(programs, tree, "i386-pc", label, modules))
    image += b"\0" * (-len(image) % SECTOR)
    if len(image) > room:
        raise ValueError(f"GRUB's core image has {len(image)} bytes, there is room for {room}")
    struct.pack_into("<QHH", image, BLOCK_LIST, core_sector + 1, len(image) // SECTOR - 1, LOAD_SEGMENT)
    code = bytearray((tree / "usr/lib/grub/i386-pc/boot.img").read_bytes())
    struct.pack_into("<Q", code, KERNEL_SECTOR, core_sector)
    # The drive that the BIOS started from, whatever its number; no further check of that number.
    code[BOOT_DRIVE] = 0xFF
    code[DRIVE_CHECK : DRIVE_CHECK + 2] = b"\x90\x90"
    return bytes(code[:440]), bytes(image)


def make(programs, tree, form, label, modules):
    """GRUB in the form `form`, with `modules` from the packages in `tree`; it finds the medium by its label."""
    with tempfile.TemporaryDirectory() as scratch:
        early, image = pathlib.Path(scratch) / "early.cfg", pathlib.Path(scratch) / "image"
        # Firmware numbers disks as it likes.
        early.write_text(f"search --no-floppy --set=root --label {label}\nset prefix=($root)/boot/grub\n")
        command = [*programs.command("grub-mkimage"), "--format", form, "--directory", tree / "usr/lib/grub" / form]
        command += ["--prefix", "/boot/grub", "--config", early, "--output", image, *modules]
        subprocess.run(command, check=True)
        return image.read_bytes()
