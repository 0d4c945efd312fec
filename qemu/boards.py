"""The computers that QEMU imitates here: each with its processor, firmware, and where the medium is put in.

What a board of the table does not have, the machine cannot use: a card slot is no USB port.
"""

import dataclasses
import pathlib
import shutil

FIRMWARE = pathlib.Path("/usr/share")


@dataclasses.dataclass(frozen=True)
class Board:
    """One kind of computer.

    `flash` lists firmware as (code, variables) below /usr/share, best first; `bios` is one file for `-bios`. A board
    with `kernel` is started by QEMU itself, because it does not imitate what its processor does at power-on: the
    medium's kernel and initramfs are handed to it, with the command line in that file of the medium, and with that device
    tree. A board with `card` starts from an image of its own (`image-build/build --board`). `medium` and `disks` say how
    the two are connected.
    """

    about: str
    arch: str
    program: str
    options: tuple
    flash: tuple = ()
    bios: str = ""
    kernel: str = ""
    device_tree: str = ""
    card: bool = False
    medium: str = "usb"
    disks: str = "virtio"
    memory: int = 1024
    # One: of several, some starve on a busy computer, and the kernel stops over that.
    cores: int = 1
    # Which of the board's serial lines the live system speaks on.
    serial: int = 0
    # What would switch it off is not imitated: the live system says that somebody has to.
    stays_on: bool = False
    # Given by the board itself; QEMU takes no other value.
    fixed: bool = False


OVMF = (("OVMF/OVMF_CODE_4M.fd", "OVMF/OVMF_VARS_4M.fd"), ("OVMF/OVMF_CODE.fd", "OVMF/OVMF_VARS.fd"))
OVMF_SECURE = (
    ("OVMF/OVMF_CODE_4M.secboot.fd", "OVMF/OVMF_VARS_4M.ms.fd"),
    ("OVMF/OVMF_CODE.secboot.fd", "OVMF/OVMF_VARS.ms.fd"),
)
SECURE = ("-machine", "q35,smm=on", "-global", "driver=cfi.pflash01,property=secure,value=on")
VIRT64 = ("-machine", "virt", "-cpu", "cortex-a72")
# A 32-bit kernel without LPAE sees nothing above 4 GiB, where the machine would put its devices otherwise.
VIRT32 = ("-machine", "virt,highmem=off", "-cpu", "cortex-a15")

BOARDS = {
    "bios": Board("PC without UEFI", "amd64", "qemu-system-x86_64", ("-machine", "q35")),
    "uefi": Board("PC", "amd64", "qemu-system-x86_64", ("-machine", "q35"), flash=OVMF),
    "secure-boot": Board("PC with Secure Boot", "amd64", "qemu-system-x86_64", SECURE, flash=OVMF_SECURE),
    "arm64-uefi": Board(
        "64-bit ARM, UEFI", "arm64", "qemu-system-aarch64", VIRT64,
        flash=(("AAVMF/AAVMF_CODE.fd", "AAVMF/AAVMF_VARS.fd"),),
    ),
    "arm64-secure-boot": Board(
        "64-bit ARM, Secure Boot", "arm64", "qemu-system-aarch64", VIRT64,
        flash=(("AAVMF/AAVMF_CODE.ms.fd", "AAVMF/AAVMF_VARS.ms.fd"), ("AAVMF/AAVMF_CODE.fd", "AAVMF/AAVMF_VARS.ms.fd")),
    ),
    "arm64-u-boot": Board(
        "64-bit ARM, U-Boot", "arm64", "qemu-system-aarch64", VIRT64,
        bios="/usr/lib/u-boot/qemu_arm64/u-boot.bin", medium="virtio",
    ),
    "armhf-uefi": Board(
        "32-bit ARM, UEFI", "armhf", "qemu-system-arm", VIRT32,
        # What the smallest boards have.
        flash=(("AAVMF/AAVMF32_CODE.fd", "AAVMF/AAVMF32_VARS.fd"),), memory=256,
    ),
    "armhf-u-boot": Board(
        "32-bit ARM, U-Boot", "armhf", "qemu-system-arm", VIRT32,
        bios="/usr/lib/u-boot/qemu_arm/u-boot.bin", medium="virtio",
    ),
    # QEMU does not run the firmware of a Raspberry Pi, which reads the card, sets the clocks and starts the kernel. Without
    # its clock, the first serial line carries what the kernel prints and nothing else; the second one is whole.
    "raspi3b": Board(
        "Raspberry Pi 3", "arm64", "qemu-system-aarch64", ("-machine", "raspi3b"),
        kernel="cmdline.txt", device_tree="bcm2837-rpi-3-b.dtb",
        medium="sd", disks="usb", fixed=True, cores=4, serial=1,
    ),
    "cubieboard": Board(
        "Cubieboard (A10)", "armhf", "qemu-system-arm", ("-machine", "cubieboard"),
        card=True, medium="sd", disks="usb", memory=512, cores=1, stays_on=True,
    ),
}


def missing(board):
    """What this computer lacks to imitate that one, or None."""
    if shutil.which(board.program) is None:
        return f"{board.program} is not installed"
    if board.bios and not pathlib.Path(board.bios).exists():
        return f"there is no {board.bios} (package u-boot-qemu)"
    if board.flash and firmware(board) is None:
        return f"there is no firmware {board.flash[0][0]} in {FIRMWARE}"
    return None


def firmware(board):
    """The best firmware of the board that is there: its code, and fresh variables."""
    for code, variables in board.flash:
        if (FIRMWARE / code).exists() and (FIRMWARE / variables).exists():
            return FIRMWARE / code, FIRMWARE / variables
    return None
