"""Disk images of the sample, made without mounting anything: mkfs fills them from directories."""

import os
import pathlib
import shutil
import subprocess
import tempfile

MIB = 1024 * 1024
SECTOR = 512
FIRST = 4 * MIB
ESP_SIZE = 64 * MIB
# Where write_box puts the root file system, in bytes.
ROOT_OFFSET = FIRST + ESP_SIZE

DISK_UUID = "5b1e7a60-0000-4000-8000-000000000001"
ESP_PART_UUID = "5b1e7a60-0000-4000-8000-000000000002"
ROOT_PART_UUID = "5b1e7a60-0000-4000-8000-000000000003"
ROOT_UUID = "5b1e7a60-0000-4000-8000-000000000004"
DRIVE_UUID = "5b1e7a60-0000-4000-8000-000000000005"
ESP_TYPE = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
LINUX_ROOT_AMD64_TYPE = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"

# Where the tools are on systems whose users have no sbin in their PATH.
os.environ["PATH"] += ":/usr/sbin:/sbin"


def write_box(image, root, filesystem, uuid, room):
    """The box's disk as FreedomBox's own images have it: GPT, an EFI partition at 4 MiB, the root of `room` MiB behind it."""
    with tempfile.TemporaryDirectory(dir=image.parent) as scratch:
        scratch = pathlib.Path(scratch)
        esp, part = scratch / "esp", scratch / "root"
        _sparse(esp, ESP_SIZE)
        _run("mkfs.vfat", "-F", "32", "-n", "EFI", "--invariant", "-i", "F00D0001", esp)
        _sparse(part, room * MIB)
        if filesystem == "btrfs":
            _run("mkfs.btrfs", "--quiet", "--label", "root", "--uuid", uuid, "--rootdir", root, part)
        else:
            _run("mke2fs", "-q", "-t", "ext4", "-b", "4096", "-L", "root", "-U", uuid, "-d", root, part)
        # mkfs.btrfs --rootdir may have made the file bigger.
        size = -(-part.stat().st_size // MIB) * MIB
        _sparse(image, ROOT_OFFSET + size + MIB)
        table = (
            f"label: gpt\nlabel-id: {DISK_UUID}\nfirst-lba: 2048\n"
            f"start={FIRST // SECTOR},size={ESP_SIZE // SECTOR},type={ESP_TYPE},uuid={ESP_PART_UUID}\n"
            f"start={ROOT_OFFSET // SECTOR},size={size // SECTOR},type={LINUX_ROOT_AMD64_TYPE},"
            f"uuid={ROOT_PART_UUID}\n"
        )
        _run("sfdisk", "--quiet", image, input=table.encode())
        _insert(image, esp, FIRST)
        _insert(image, part, ROOT_OFFSET)


def write_backup(image, backup, filesystem):
    """A drive with one partition labelled BACKUPUSB that holds `backup` under the name a browser gives it."""
    size = -(-(backup.stat().st_size + 64 * MIB) // MIB) * MIB
    with tempfile.TemporaryDirectory(dir=image.parent) as scratch:
        part = pathlib.Path(scratch) / "part"
        _sparse(part, size)
        if filesystem == "fat32":
            # FAT knows no colons: browsers put an underscore there.
            name = "2025-10-30T02_00_11+02_00.tar.gz"
            _run("mkfs.vfat", "-F", "32", "-n", "BACKUPUSB", "--invariant", "-i", "BAC00001", part)
            _run("mmd", "-i", part, "::/Downloads")
            _run("mcopy", "-i", part, backup, f"::/Downloads/{name}")
            label, kind = "dos", "c"
        else:
            folder = pathlib.Path(scratch) / "content/Downloads"
            folder.mkdir(parents=True)
            shutil.copyfile(backup, folder / "2025-10-30T02:00:11+02:00.tar.gz")
            _run("mke2fs", "-q", "-t", "ext4", "-L", "BACKUPUSB", "-U", DRIVE_UUID, "-d", folder.parent, part)
            label, kind = "gpt", "L"
        _sparse(image, FIRST + size + MIB)
        table = f"label: {label}\nstart={FIRST // SECTOR},size={size // SECTOR},type={kind}\n"
        _run("sfdisk", "--quiet", image, input=table.encode())
        _insert(image, part, FIRST)


def _run(*command, **more):
    subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL, **more)


def _sparse(path, size):
    path.unlink(missing_ok=True)
    with open(path, "wb") as file:
        file.truncate(size)


def _insert(image, part, offset):
    with open(image, "r+b") as out, open(part, "rb") as data:
        while block := data.read(MIB):
            if block.strip(b"\0"):
                out.seek(offset)
                out.write(block)
            offset += len(block)
