#!/usr/bin/env python3
"""assemble.py ARCH BINARY OUTPUT CACHE: makes OUTPUT/lifeboat-ARCH.img from the definition beside this file.

Needs no root and executes nothing that it puts into the image. `image-build/build` is the command for people.
"""

import argparse
import configparser
import hashlib
import pathlib
import subprocess
import sys
import time

import bios
import closure
import initramfs
import medium
import packages

DEFINITION = pathlib.Path(__file__).resolve().parent / "definition"
MIB = 1024 * 1024


def read_definition(name):
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",))
    parser.optionxform = str  # paths keep their case
    with open(DEFINITION / f"{name}.ini", encoding="utf-8") as file:
        parser.read_file(file)
    return parser


def only_match(tree, pattern):
    found = sorted(tree.glob(pattern))
    if len(found) != 1:
        sys.exit(f'"{pattern}" matches {len(found)} files of the packages, one is needed')
    return found[0]


def make_initramfs(image, machine, tree, binary):
    cpio = initramfs.Cpio(image.getint("image", "epoch"))
    for folder in ("dev", "mnt", "proc", "root", "run", "sys", "tmp", "usr/bin", "usr/sbin", "sbin"):
        cpio.directory(folder)
    cpio.symlink("lib", "usr/lib")
    # The kernel opens this one before /init can mount anything.
    cpio.character_device("dev/console", 0o600, (5, 1))
    for path, value in image["initramfs"].items():
        source, mode = value.split()
        cpio.file(path, (DEFINITION / source).read_bytes(), int(mode, 8))
    for path, value in machine["initramfs"].items():
        pattern, mode = value.split()
        cpio.file(path, only_match(tree, pattern).read_bytes(), int(mode, 8))
    tools = machine["tools"]
    for path, pattern in tools.items():
        cpio.file(path, only_match(tree, pattern).read_bytes(), 0o755)
    for path, library in closure.closure(tree, [only_match(tree, pattern) for pattern in tools.values()]).items():
        cpio.file(path, library.read_bytes(), 0o755)
    cpio.file("usr/bin/lifeboat", binary.read_bytes(), 0o755)
    patterns = initramfs.module_patterns(DEFINITION / "modules", machine["modules"]["lists"].split())
    count = initramfs.add_modules(cpio, only_match(tree, machine["modules"]["tree"]), patterns)
    return cpio.write(), count


def compress(data, level):
    command = ["zstd", f"-{level}", "--threads=1", "--quiet", "--stdout"]
    return subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True).stdout


def main():
    arguments = argparse.ArgumentParser(description="assembles the live image; see image-build/build")
    arguments.add_argument("arch")
    arguments.add_argument("binary", type=pathlib.Path)
    arguments.add_argument("output", type=pathlib.Path)
    arguments.add_argument("cache", type=pathlib.Path)
    arguments.add_argument("--refresh", action="store_true", help="fetch the newest packages")
    options = arguments.parse_args()

    # A dynamic program would start neither in the live system nor on the rescued box.
    if options.binary.read_bytes()[:4] == b"\x7fELF" and not closure.is_static(options.binary):
        sys.exit(f'"{options.binary}" is not a static program')
    started = time.monotonic()
    image, machine = read_definition("image"), read_definition(options.arch)
    try:
        tree, locked = packages.fetch(machine, options.arch, options.cache.resolve(), options.refresh)
    except packages.FetchError as error:
        sys.exit(f"fetching packages: {error}")

    try:
        plain, modules = make_initramfs(image, machine, tree, options.binary)
    except closure.MissingLibrary as error:
        sys.exit(f"collecting tools: {error}")
    packed = compress(plain, image.getint("image", "zstd_level"))
    here = f"lifeboat/{options.arch}"
    files = {path: (DEFINITION / source).read_bytes() for path, source in image["files"].items()}
    files |= {path: only_match(tree, pattern).read_bytes() for path, pattern in machine["files"].items()}
    files |= {path: files[source] for path, source in machine["copies"].items()}
    files[f"{here}/initrd"] = packed
    files[f"{here}/packages.txt"] = "".join(f"{' '.join(package)}\n" for package in locked).encode()
    # Notepad on the reader's side knows only this line end.
    for path in image["files"]:
        if path.endswith((".txt", ".toml")):
            files[path] = files[path].replace(b"\n", b"\r\n")
    # The live system compares its medium with this at each start.
    digests = (f"{hashlib.sha256(files[path]).hexdigest()}  {path}\n" for path in sorted(files))
    files["SHA256SUMS"] = "".join(digests).encode()

    label, loader = image["image"]["label"], (b"", b"")
    if machine.has_section("bios"):
        room = medium.LOADER_END - medium.LOADER_START
        modules_inside = machine["bios"]["modules"].split()
        loader = bios.boot_code(label, modules_inside, medium.LOADER_START // medium.SECTOR, room)

    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / f"lifeboat-{options.arch}.img"
    medium.write(
        path,
        files,
        label,
        image["image"]["volume_id"],
        machine["build"]["partition_type"],
        image.getint("image", "epoch"),
        image.getint("image", "spare") * MIB,
        loader,
    )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    print(f"{'kernel':10} {len(files[here + '/vmlinuz']) / 1e6:8.1f} MB")
    print(f"{'initramfs':10} {len(packed) / 1e6:8.1f} MB   ({len(plain) / 1e6:.1f} MB unpacked, {modules} modules)")
    print(f"{'lifeboat':10} {options.binary.stat().st_size / 1e6:8.1f} MB   (static, inside the initramfs)")
    print(f"{'content':10} {sum(map(len, files.values())) / 1e6:8.1f} MB   (all files on the medium)")
    print(f"{'image':10} {path.stat().st_size / 1e6:8.1f} MB   {path}")
    print(f"{'sha256':10} {digest}")
    print(f"assembled in {time.monotonic() - started:.1f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
