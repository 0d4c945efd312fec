"""GRUB for PCs without UEFI: the boot sector's code and the core image that it loads.

Both come from the host's own GRUB packages: grub-mkimage and its modules have to be of one version. Secure Boot does
not exist there, so no signature is needed. The two are tied together as grub-install does it, without its need for a
real disk.
"""

import pathlib
import struct
import subprocess
import tempfile

SECTOR = 512
MODULES = pathlib.Path("/usr/lib/grub/i386-pc")
# Offsets in boot.img (grub-core/boot/i386/pc/boot.S): sector of the core image, drive, the check that some BIOSes need.
KERNEL_SECTOR, BOOT_DRIVE, DRIVE_CHECK = 0x5C, 0x64, 0x66
# Offset in the core image's first sector (diskboot.S): where the rest is, how long, and the segment it goes to.
BLOCK_LIST, LOAD_SEGMENT = 0x1F4, 0x820


def boot_code(label, modules, core_sector, room):
    """(code for the boot sector, core image), the core image made to lie at `core_sector`; at most `room` bytes."""
    with tempfile.TemporaryDirectory() as scratch:
        early, core = pathlib.Path(scratch) / "early.cfg", pathlib.Path(scratch) / "core.img"
        # BIOSes number disks as they like: the medium is found by its label.
        early.write_text(f"search --no-floppy --set=root --label {label}\nset prefix=($root)/boot/grub\n")
        command = ["grub-mkimage", "--format", "i386-pc", "--directory", MODULES, "--prefix", "/boot/grub"]
        command += ["--config", early, "--output", core, *modules]
        subprocess.run(command, check=True)
        image = bytearray(core.read_bytes())
    image += b"\0" * (-len(image) % SECTOR)
    if len(image) > room:
        raise ValueError(f"GRUB's core image has {len(image)} bytes, there is room for {room}")
    struct.pack_into("<QHH", image, BLOCK_LIST, core_sector + 1, len(image) // SECTOR - 1, LOAD_SEGMENT)
    code = bytearray((MODULES / "boot.img").read_bytes())
    struct.pack_into("<Q", code, KERNEL_SECTOR, core_sector)
    # The drive that the BIOS started from, whatever its number; no further check of that number.
    code[BOOT_DRIVE] = 0xFF
    code[DRIVE_CHECK : DRIVE_CHECK + 2] = b"\x90\x90"
    return bytes(code[:440]), bytes(image)
