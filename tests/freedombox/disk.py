"""A box as a disk that a computer starts from by itself, and the drives beside it.

As FreedomBox's own images are: GPT, an EFI partition at 4 MiB with Debian's signed boot loader, and a btrfs whose top
level is the root. What it holds is a release's root after its first start, and a kernel.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import emulator
import packages
import release
from box import INSIDE, first_booted

sys.path.insert(0, str(release.TOP / "tests/sample"))

import disks

KERNEL = ["linux-image-amd64", "initramfs-tools", "zstd", "grub-efi-amd64-signed", "shim-signed"]
LOADERS = {"usr/lib/shim/shimx64.efi.signed": "BOOTX64.EFI", "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed": "grubx64.efi"}
# Sparse: as much as a small card has.
ROOM = 8 << 30
# The drive with packages and the tests' own programs.
DRIVE = "TESTDRIVE"
AT = "/srv/test-drive"

# Not in fstab: a rescue would miss a disk that is named there.
DRIVE_UNIT = f"""[Unit]
Description=The test's own drive
DefaultDependencies=no
After=systemd-udevd.service dev-disk-by\\x2dlabel-{DRIVE}.device local-fs.target
Wants=dev-disk-by\\x2dlabel-{DRIVE}.device
Before={packages.SERVICE} plinth.service lifeboat-finish.service test-shell.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=mkdir --parents {AT} {packages.INSIDE} {INSIDE}
ExecStart=mount -o ro LABEL={DRIVE} {AT}
ExecStart=mount --bind {AT}/packages {packages.INSIDE}
ExecStart=mount --bind {AT}/tests {INSIDE}
"""
# Nobody can sign in at the console of a new FreedomBox; the test has to.
SHELL_UNIT = """[Unit]
Description=The test's own shell on the serial console
After=multi-user.target

[Service]
ExecStart=/bin/bash --norc --noprofile -c 'stty -echo; dmesg --console-off; echo; echo the shell is ready; exec /bin/bash --norc --noprofile'
StandardInput=tty-force
StandardOutput=tty
StandardError=null
TTYPath=/dev/ttyS0
Environment=TERM=dumb HOME=/root LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
Restart=always
"""
UNITS = {"test-drive.service": DRIVE_UNIT, "test-shell.service": SHELL_UNIT}
GRUB = """set timeout=1
menuentry "Debian" {{
 search --no-floppy --fs-uuid --set=root {uuid}
 linux {kernel} root=UUID={uuid} rw quiet systemd.show_status=no console=ttyS0
 initrd {initrd}
}}
"""


def bootable(version):
    """The root of a release after its first start, with a kernel and a boot loader; made where it is missing."""
    done = release.root_at(f"{version}.bootable")
    if done.exists():
        return done
    new = release.root_at(f"{version}.bootable.new")
    release.remove(new)
    release.snapshot(first_booted(version), new)
    print(f"installing a kernel in FreedomBox {version}", flush=True)
    debian = release.RELEASES[version].debian
    (new / "etc/apt/sources.list").write_text(f"deb {release.mirror()} {debian} {release.COMPONENTS}\n")
    (new / "etc/fstab").write_text(f"UUID={disks.ROOT_UUID} / btrfs compress=zstd:1 0 1\n")
    release.install(new, debian, KERNEL)
    release.in_root(new, "apt-get", "clean")
    shutil.rmtree(new / "var/lib/apt/lists")
    packages.put(new)
    wants = new / "etc/systemd/system/multi-user.target.wants"
    for name, text in UNITS.items():
        (new / "etc/systemd/system" / name).write_text(text)
        (wants / name).unlink(missing_ok=True)
        (wants / name).symlink_to(f"/etc/systemd/system/{name}")
    emulator.be_patient(new)
    getty = new / "etc/systemd/system/serial-getty@ttyS0.service"
    getty.unlink(missing_ok=True)
    getty.symlink_to("/dev/null")
    # What stands for a network device in a container; this machine has one.
    (wants / "test-interface.service").unlink(missing_ok=True)
    (new / "etc/NetworkManager/conf.d/test.conf").unlink(missing_ok=True)
    (new / "etc/machine-id").write_text("")
    new.rename(done)
    return done


def make(version):
    """The disk of a release, which is never changed; made where it is missing."""
    file = release.CACHE / "disks" / f"{version}.img"
    if file.exists():
        return file
    root = bootable(version)
    print(f"making a disk of FreedomBox {version}", flush=True)
    file.parent.mkdir(exist_ok=True)
    new = file.with_suffix(".new")
    new.unlink(missing_ok=True)
    size = ROOM - disks.ROOT_OFFSET - disks.MIB
    with open(new, "wb") as out:
        out.truncate(ROOM)
    table = (
        f"label: gpt\nfirst-lba: 2048\n"
        f"start={disks.FIRST // disks.SECTOR},size={disks.ESP_SIZE // disks.SECTOR},type={disks.ESP_TYPE}\n"
        f"start={disks.ROOT_OFFSET // disks.SECTOR},size={size // disks.SECTOR},type={disks.LINUX_ROOT_AMD64_TYPE}\n"
    )
    release.run("sfdisk", "--quiet", new, input=table.encode(), stdout=subprocess.DEVNULL)
    loader(root, new)
    device = release.output("losetup", "--find", "--show", f"--offset={disks.ROOT_OFFSET}", f"--sizelimit={size}", new)
    try:
        release.run("mkfs.btrfs", "--quiet", "--label", "root", "--uuid", disks.ROOT_UUID, device, stdout=subprocess.DEVNULL)
        with mounted(device, "compress=zstd:1") as at:
            release.run("btrfs", "subvolume", "create", at / ".snapshots", stdout=subprocess.DEVNULL)
            (at / ".snapshots").chmod(0o750)
            release.run("cp", "--archive", "--one-file-system", f"{root}/.", at)
            (at / "boot/grub").mkdir(exist_ok=True)
            kernel, initrd = (f"/boot/{next((at / 'boot').glob(kind)).name}" for kind in ("vmlinuz-*", "initrd.img-*"))
            (at / "boot/grub/grub.cfg").write_text(GRUB.format(uuid=disks.ROOT_UUID, kernel=kernel, initrd=initrd))
    finally:
        release.run("losetup", "--detach", device)
    new.rename(file)
    return file


def loader(root, file):
    """Fills the EFI partition: Debian's signed loaders, and where their menu is."""
    at = f"{file}@@{disks.FIRST}"
    with tempfile.TemporaryDirectory() as scratch:
        esp = pathlib.Path(scratch) / "esp"
        with open(esp, "wb") as out:
            out.truncate(disks.ESP_SIZE)
        release.run("mkfs.vfat", "-F", "32", "-n", "EFI", esp, stdout=subprocess.DEVNULL)
        release.run("dd", f"if={esp}", f"of={file}", "bs=1M", f"seek={disks.FIRST // disks.MIB}", "conv=notrunc,sparse", "status=none")
        menu = pathlib.Path(scratch) / "grub.cfg"
        menu.write_text(f"search.fs_uuid {disks.ROOT_UUID} root\nset prefix=($root)/boot/grub\nconfigfile $prefix/grub.cfg\n")
        release.run("mmd", "-i", at, "::/EFI", "::/EFI/BOOT", "::/EFI/debian")
        for packaged, name in LOADERS.items():
            release.run("mcopy", "-i", at, root / packaged, f"::/EFI/BOOT/{name}")
        release.run("mcopy", "-i", at, menu, "::/EFI/debian/grub.cfg")


class mounted:
    """A filesystem, mounted while the block runs: a device, or the root of a disk's file (then read-only)."""

    def __init__(self, what, options=""):
        is_file = pathlib.Path(what).is_file()
        self.options = f"ro,loop,offset={disks.ROOT_OFFSET}" if is_file else options
        self.what = what

    def __enter__(self):
        self.at = pathlib.Path(tempfile.mkdtemp(dir=release.CACHE))
        release.run("mount", "-o", self.options, self.what, self.at)
        return self.at

    def __exit__(self, *_):
        release.run("umount", self.at)
        self.at.rmdir()


def drive(file, version):
    """A drive with the packages of a release and the tests' own programs."""
    folder = packages.folder(version)
    used = sum(entry.stat().st_size for entry in folder.iterdir() if entry.is_file())
    with tempfile.TemporaryDirectory(dir=release.CACHE) as scratch:
        content = pathlib.Path(scratch)
        (content / "packages").mkdir()
        for entry in folder.iterdir():
            if entry.is_file():
                os.link(entry, content / "packages" / entry.name)
        shutil.copytree(release.HERE / "inside", content / "tests", ignore=shutil.ignore_patterns("__pycache__"))
        file.unlink(missing_ok=True)
        with open(file, "wb") as out:
            out.truncate(used + used // 8 + (128 << 20))
        release.run("mke2fs", "-q", "-t", "ext4", "-L", DRIVE, "-d", content, file, stdout=subprocess.DEVNULL)
    return file


def backup(file, archive):
    """A drive with a downloaded backup, as a browser saves it."""
    disks.write_backup(file, archive, "fat32")
    return file
