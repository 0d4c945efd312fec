"""A board's boot loader: where it goes on a card, and whether the board's processor would start it from there.

Nothing here starts a loader; a card is read as the program in the processor's ROM reads it, and then as the first part of
U-Boot (SPL) reads the second. Formats: U-Boot's include/sunxi_image.h, tools/omapimage.h and include/image.h.
"""

import struct
import zlib

import definition

KIB = 1024
# Allwinner: the header's sum is made with this number in the place of the sum.
STAMP = 0x5F0A6C39
# The most that the ROMs read: Allwinner's into 32 KiB of memory, TI's into what it leaves of its 128.
LARGEST = {"allwinner": 32 * KIB, "am335x": 109 * KIB}
# Where SPL looks for the second part.
SECOND_PART = {"allwinner": 40 * KIB, "am335x": 384 * KIB}
# Of an old U-Boot image and of a device tree, which a new one is.
OLD_IMAGE, TREE = 0x27051956, 0xD00DFEED


class Unstartable(Exception):
    """The board would not start from this card; says what is wrong."""


def places(board, tree):
    """Offset → bytes of what a board (a section of boards.ini) needs, from the unpacked packages in `tree`."""
    found = {}
    for line in board["loader"].splitlines():
        pattern, place = line.split()
        found[int(place) * KIB] = definition.only_match(tree, pattern).read_bytes()
    return found


def check(card, rom):
    """Whether a processor with this ROM starts from what lies before the first partition of `card` (bytes)."""
    {"allwinner": _allwinner, "am335x": _am335x}[rom](card)
    _second_part(card, SECOND_PART[rom])


def _allwinner(card):
    """The first part at 8 KiB: a jump, the mark, a sum over everything."""
    start = 8 * KIB
    mark, total, size = struct.unpack_from("<8sII", card, start + 4)
    if mark != b"eGON.BT0":
        raise Unstartable(f"there is no mark of Allwinner's loader at {start + 4}")
    _fits(size, "allwinner")
    words = struct.unpack_from(f"<{size // 4}I", card, start)
    if (sum(words) - total + STAMP) % (1 << 32) != total:
        raise Unstartable("the first part is not what its sum says")


def _fits(size, rom):
    if not 0 < size <= LARGEST[rom] or size % 4:
        raise Unstartable(f"the first part has {size} bytes, the processor takes {LARGEST[rom]}")


def _am335x(card):
    """The first part at 128 KiB: a table of contents with settings, then size and address."""
    start = 128 * KIB
    if card[start + 20 : start + 32].rstrip(b"\0") != b"CHSETTINGS":
        raise Unstartable(f"there is no table of contents of TI's loader at {start}")
    if card[start + 32 : start + 64] != b"\xff" * 32:
        raise Unstartable("the table of contents of TI's loader has no end")
    if struct.unpack_from("<I", card, start + 64)[0] != 0xC0C0C0C1:
        raise Unstartable("TI's loader has no settings")
    size, address = struct.unpack_from("<II", card, start + 512)
    if address != 0x402F0400:
        raise Unstartable(f"the first part goes to {address:#x}, where the processor has no memory for it")
    _fits(size, "am335x")


def _second_part(card, start):
    """U-Boot itself, as an old image with checksums, or as a device tree that holds it."""
    (mark,) = struct.unpack_from(">I", card, start)
    if mark == OLD_IMAGE:
        header = card[start : start + 64]
        total, size, data_total = (struct.unpack_from(">I", header, at)[0] for at in (4, 12, 24))
        if zlib.crc32(header[:4] + bytes(4) + header[8:]) != total:
            raise Unstartable("the header of U-Boot is not what its checksum says")
        if zlib.crc32(card[start + 64 : start + 64 + size]) != data_total:
            raise Unstartable("U-Boot is not what its checksum says, or something lies in it")
    elif mark == TREE:
        (size,) = struct.unpack_from(">I", card, start + 4)
        if not 40 < size <= len(card) - start:
            raise Unstartable(f"U-Boot's device tree would have {size} bytes")
    else:
        raise Unstartable(f"there is no U-Boot at {start}")
