"""The medium: one MBR partition with one FAT32 file system, the form that UEFI, U-Boot and old BIOSes all read.

MBR and not GPT: a GPT's entries lie where some boards want their boot loader (8 KiB). A boot loader for BIOSes lies from
1 MiB to 2 MiB; the partition starts at 4 MiB. The same input always gives the same bytes.
"""

import os
import pathlib
import struct
import subprocess
import tempfile

SECTOR = 512
MIB = 1024 * 1024
LOADER_START, LOADER_END = 1 * MIB, 2 * MIB
PARTITION_START = 4 * MIB


def write(path, programs, files, label, volume_id, partition_type, epoch, spare, code=b"", loaders=()):
    """Writes the image `path` with `files` (medium path → bytes) and `spare` bytes of free space.

    For machines whose firmware reads no files: `code` goes into the boot sector, and each of `loaders` (offset → bytes)
    between it and the partition.
    """
    content = sum(len(data) for data in files.values())
    # FAT32 has at least 65525 clusters; with clusters of one sector that is 32 MiB.
    fat_size = max((content * 102 // 100 + spare + MIB) // MIB * MIB, 40 * MIB)
    environment = dict(
        os.environ, SOURCE_DATE_EPOCH=str(epoch), TZ="UTC", LC_ALL="C", MTOOLS_SKIP_CHECK="1", MTOOLSRC="/dev/null"
    )

    def run(name, *arguments):
        subprocess.run([*programs.command(name), *arguments], check=True, env=environment, stdout=subprocess.DEVNULL)

    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        fat = pathlib.Path(scratch) / "fat"
        with open(fat, "wb") as empty:
            empty.truncate(fat_size)
        # --invariant sets a volume id of its own, so it has to stand before -i.
        geometry = ("-F", "32", "-s", "1" if fat_size <= 256 * MIB else "8", "-h", str(PARTITION_START // SECTOR))
        run("mkfs.vfat", *geometry, "-n", label, "--invariant", "-i", volume_id, str(fat))
        folders = {str(parent) for name in files for parent in pathlib.PurePosixPath(name).parents} - {"."}
        for folder in sorted(folders):
            run("mmd", "-i", str(fat), f"::/{folder}")
        source = pathlib.Path(scratch) / "file"
        # What is large and partly the same stands together: that is how a compressor finds it.
        for name in sorted(files, key=lambda name: (not name.endswith("/initrd"), name)):
            source.write_bytes(files[name])
            # Without -m, mcopy stamps the file with SOURCE_DATE_EPOCH.
            run("mcopy", "-i", str(fat), str(source), f"::/{name}")
        with open(path, "wb") as image:
            image.truncate(PARTITION_START + fat_size)
            image.write(_boot_record(code, int(volume_id, 16), int(partition_type, 16), fat_size))
            end = SECTOR
            for offset, loader in sorted(dict(loaders).items()):
                if offset < end or offset + len(loader) > PARTITION_START:
                    raise ValueError(f"a boot loader of {len(loader)} bytes does not fit at {offset}")
                image.seek(offset)
                image.write(loader)
                end = offset + len(loader)
            with open(fat, "rb") as data:
                for offset in range(0, fat_size, MIB):
                    block = data.read(MIB)
                    if block.strip(b"\0"):
                        image.seek(PARTITION_START + offset)
                        image.write(block)


def _boot_record(code, disk_id, partition_type, size):
    """Sector 0: boot code, one active partition given by its sectors alone (cylinders are of no use here)."""
    record = bytearray(SECTOR)
    record[: len(code)] = code
    struct.pack_into("<I", record, 440, disk_id)
    beyond = b"\xfe\xff\xff"
    entry = (0x80, beyond, partition_type, beyond, PARTITION_START // SECTOR, size // SECTOR)
    struct.pack_into("<B3sB3sII", record, 446, *entry)
    record[510:] = b"\x55\xaa"
    return record
