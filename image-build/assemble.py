#!/usr/bin/env python3
"""assemble.py OUTPUT CACHE PROGRAM…: makes an image below OUTPUT from the definition beside this file.

PROGRAM is lifeboat as a static program, once for each architecture. Needs no root and executes nothing that it puts into
the image. `image-build/build` is the command for people.
"""

import argparse
import hashlib
import pathlib
import subprocess
import sys
import time

import closure
import definition
import grub
import hosttools
import initramfs
import keyboards
import loader
import medium
import packages

MIB = 1024 * 1024


class Workshop:
    """Packages and programs that the build uses, below a cache folder."""

    def __init__(self, cache, refresh=False, reuse=True, quick=False):
        self.cache, self.refresh, self.reuse = cache, refresh, reuse
        self.level = definition.common().getint("image", "zstd_level_quick" if quick else "zstd_level")
        self._programs = {}

    def group(self, parser, name, arch):
        """The packages of the section `packages.NAME`."""
        return packages.fetch(packages.Group(name, parser[f"packages.{name}"], arch), self.cache, self.refresh)

    def programs(self, suite=None):
        """The build's own programs, as `suite` has them."""
        if suite not in self._programs:
            section = dict(definition.common()["packages.host"])
            section["suites"] = suite or section["suites"]
            group = packages.Group(f"host-{section['suites']}", section, hosttools.native_architecture())
            tree = self.cache / "tree" / group.name
            host = packages.fetch(group, self.cache, self.refresh)
            self._programs[suite] = hosttools.Fetched(packages.unpacked([host], tree))
        return self._programs[suite]

    def compress(self, data):
        """zstd; the same data is compressed once only."""
        command = [*self.programs().command("zstd"), f"-{self.level}", "--threads=1", "--quiet", "--stdout"]
        key = hashlib.sha256(f"{self.programs().identity}\n{self.level}\n".encode() + data).hexdigest()
        kept = self.cache / "compressed" / key
        if not (self.reuse and kept.exists()):
            packed = subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True).stdout
            kept.parent.mkdir(parents=True, exist_ok=True)
            fresh = kept.with_suffix(".fresh")
            fresh.write_bytes(packed)
            fresh.rename(kept)
            return packed
        return kept.read_bytes()


class Machine:
    """One architecture's part of an image."""

    def __init__(self, workshop, arch, binaries, firmware, board):
        self.workshop, self.arch, self.binaries = workshop, arch, binaries
        self.parser = parser = definition.architecture(arch)
        self.epoch = parser.getint("image", "epoch")
        names = [name.partition(".")[2] for name in parser.sections() if name.startswith("packages.")]
        unwanted = {"host"} | (set() if firmware else {"firmware"}) | (set() if board else {"boards"})
        groups = {name: workshop.group(parser, name, arch) for name in names if name not in unwanted}
        self.tree = packages.unpacked(groups.values(), workshop.cache / "tree" / f"{arch}-{'-'.join(groups)}")
        self.packages = [(*package, group.suite) for group in groups.values() for package in group.packages]
        # grub-mkimage has to be of the same version as the modules.
        self.grub_programs = workshop.programs(groups["grub"].suite)
        self.firmware = firmware

    def files(self):
        """Everything of this architecture that lies on the medium: path → bytes."""
        found = definition.files(self.parser, self.tree, "files")
        if self.firmware:
            found |= definition.files(self.parser, self.tree, "firmware")
        label = self.parser["image"]["label"]
        if self.parser.has_section("efi"):
            efi = self.parser["efi"]
            found[efi["path"]] = grub.make(self.grub_programs, self.tree, "arm-efi", label, efi["modules"].split())
        if self.parser.has_section("u-boot"):
            found[self.parser["u-boot"]["path"]] = self._script(self.parser["u-boot"]["script"])
        here = f"lifeboat/{self.arch}"
        found[f"{here}/packages.txt"] = "".join(f"{' '.join(line)}\n" for line in sorted(self.packages)).encode()
        found[f"{here}/initrd"] = self._initramfs()
        return found

    def boot_code(self):
        """(code for the boot sector, what it loads), for machines whose firmware reads no files."""
        if not self.parser.has_section("bios"):
            return b"", {}
        room = medium.LOADER_END - medium.LOADER_START
        modules, sector = self.parser["bios"]["modules"].split(), medium.LOADER_START // medium.SECTOR
        label = self.parser["image"]["label"]
        code, core = grub.boot_code(self.grub_programs, self.tree, label, modules, sector, room)
        return code, {medium.LOADER_START: core}

    def _script(self, source):
        """A script in the form that U-Boot runs (mkimage(1), type script)."""
        command = self.workshop.programs().command("mkimage")
        fresh = self.workshop.cache / "boot.scr"
        command += ["-T", "script", "-C", "none", "-n", "Lifeboat", "-d", definition.FOLDER / source, fresh]
        environment = {"SOURCE_DATE_EPOCH": str(self.epoch), "PATH": "/usr/bin:/bin"}
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
        return fresh.read_bytes()

    def _initramfs(self):
        """Four archives: what comes from packages and seldom changes, the scripts, Lifeboat's program, and the programs
        of the other architectures, which stay compressed until a box needs one."""
        system, count = self._system()
        scripts = initramfs.Cpio(self.epoch)
        for path, value in self.parser["initramfs"].items():
            source, mode = value.split()
            scripts.file(path, (definition.FOLDER / source).read_bytes(), int(mode, 8))
        packed = {arch: self._program(binary) for arch, binary in self.binaries.items()}
        others = initramfs.Cpio(self.epoch)
        for arch in sorted(packed.keys() - {self.arch}):
            others.file(f"usr/share/lifeboat/{arch}/lifeboat.cpio.zst", packed[arch])
        system, others = system.write(), others.write()
        parts = [self.workshop.compress(system), self.workshop.compress(scripts.write()), packed[self.arch], others]
        # The kernel looks for the next archive at a multiple of four.
        parts = [part + b"\0" * (-len(part) % 4) for part in parts]
        sizes = " + ".join(f"{len(part) / 1e6:.1f}" for part in (parts[0] + parts[1], *parts[2:]))
        unpacked = len(system) + self.binaries[self.arch].stat().st_size + len(others)
        more = f"({sizes}: system, program, others; {unpacked / 1e6:.1f} MB unpacked, {count} modules)"
        report(f"{self.arch} initramfs", sum(map(len, parts)), more)
        return b"".join(parts)

    def _program(self, binary):
        """A program as an archive of its own, of this one file. The initramfs of the other architectures holds the same
        bytes as a file, so that the image's compression finds them again."""
        alone = initramfs.Cpio(self.epoch)
        alone.entries["usr/bin/lifeboat"] = (0o100755, binary.read_bytes(), (0, 0))
        return self.workshop.compress(alone.write())

    def _system(self):
        cpio = initramfs.Cpio(self.epoch)
        for folder in ("dev", "mnt", "proc", "root", "run", "sys", "tmp", "usr/bin", "usr/sbin", "sbin"):
            cpio.directory(folder)
        cpio.symlink("lib", "usr/lib")
        # The kernel opens this one before /init can mount anything.
        cpio.character_device("dev/console", 0o600, (5, 1))
        tools = {path: definition.only_match(self.tree, pattern) for path, pattern in self.parser["tools"].items()}
        for path, library in (tools | closure.closure(self.tree, tools.values())).items():
            cpio.file(path, library.read_bytes(), 0o755)
        for path, target in self.parser["links"].items():
            cpio.symlink(path, target)
        keyboards.add(cpio, self.workshop.programs(), self.tree, self.parser["keyboards"])
        lists = self.parser["modules"]["lists"].split()
        patterns = initramfs.module_patterns(definition.FOLDER / "modules", lists)
        tree = definition.only_match(self.tree, self.parser["modules"]["tree"])
        count = initramfs.add_modules(cpio, self.workshop.programs(), tree, patterns)
        return cpio, count


def check_boards(workshop):
    """Lays the loader of every board onto an empty card, and reads each as the board's processor does."""
    trees, bad = {}, 0
    boards = definition.boards()
    for name in boards.sections():
        board, arch = boards[name], boards[name]["arch"]
        if arch not in trees:
            group = workshop.group(definition.architecture(arch), "boards", arch)
            trees[arch] = packages.unpacked([group], workshop.cache / "tree" / f"{arch}-boards")
        card = bytearray(medium.PARTITION_START)
        try:
            for place, part in loader.places(board, trees[arch]).items():
                card[place : place + len(part)] = part
            if len(card) > medium.PARTITION_START:
                raise loader.Unstartable("the boot loader reaches into the partition")
            loader.check(bytes(card), board["rom"])
            print(f"ok      {name}")
        except loader.Unstartable as error:
            bad += 1
            print(f"FAILED  {name}: {error}")
    return bad == 0


def put_together(machines):
    """The files of all architectures on one medium; where two name the same path, they have to agree."""
    files = {}
    for machine in machines:
        for path, data in machine.files().items():
            if files.setdefault(path, data) != data:
                sys.exit(f'"{path}" is not the same for all architectures')
    # The live system compares its medium with this at each start.
    digests = (f"{hashlib.sha256(files[path]).hexdigest()}  {path}\n" for path in sorted(files))
    files["SHA256SUMS"] = "".join(digests).encode()
    return files


def told_apart(binaries):
    """Architecture → program, by what the programs say of themselves."""
    found = {}
    for binary in binaries:
        arch = closure.architecture(binary)
        # A dynamic program would start neither in the live system nor on the rescued box.
        if arch is None or not closure.is_static(binary):
            sys.exit(f'"{binary}" is not a static program for {", ".join(definition.ARCHITECTURES)}')
        if arch in found:
            sys.exit(f'"{binary}" and "{found[arch]}" are for the same architecture')
        found[arch] = binary
    return found


def compress_image(image, workshop, budget):
    """Writes IMAGE.xz; whether its size is within `budget` (MB)."""
    # The largest dictionary that the usual tools unpack with little memory: it spans the parts that are alike.
    command = [*workshop.programs().command("xz"), "-9", "--threads=1", "--keep", "--force", image]
    subprocess.run(command, check=True)
    size = image.with_suffix(".img.xz").stat().st_size
    report("compressed", size, f"{image}.xz (at most {budget} MB)")
    return size <= budget * 1e6


def report(what, size, more=""):
    print(f"{what:18} {size / 1e6:8.1f} MB   {more}".rstrip())


def main():
    arguments = argparse.ArgumentParser(description="assembles the live image; see image-build/build")
    arguments.add_argument("output", type=pathlib.Path)
    arguments.add_argument("cache", type=pathlib.Path)
    arguments.add_argument("binaries", type=pathlib.Path, nargs="*", metavar="PROGRAM")
    arguments.add_argument("--arch", default="all", choices=(*definition.ARCHITECTURES, "all"))
    arguments.add_argument("--board", default="", help="a board of definition/boards.ini")
    arguments.add_argument("--free", action="store_true", help="without firmware that is not free software")
    arguments.add_argument("--refresh", action="store_true", help="fetch the newest packages")
    arguments.add_argument("--no-reuse", action="store_true", help="compress everything anew")
    arguments.add_argument("--quick", action="store_true", help="compress little")
    arguments.add_argument("--compress", action="store_true", help="make the .img.xz too")
    arguments.add_argument("--check-boards", action="store_true", help="try the boot loader of every board, make nothing")
    options = arguments.parse_args()

    started = time.monotonic()
    workshop = Workshop(options.cache.resolve(), options.refresh, not options.no_reuse, options.quick)
    if options.check_boards:
        return None if check_boards(workshop) else "a board would not start from its card"
    binaries = told_apart(options.binaries)
    board = dict(definition.boards()[options.board]) if options.board else {}
    arch = board.get("arch", options.arch)
    # The universal one is the one for people: it has the plain name.
    name = f"lifeboat-{options.board or arch}" if options.board or arch != "all" else "lifeboat"
    architectures = definition.ARCHITECTURES if arch == "all" else (arch,)
    if missing := [each for each in architectures if each not in binaries]:
        sys.exit(f"a program for {', '.join(missing)} is needed")
    try:
        machines = [Machine(workshop, each, binaries, not options.free, options.board) for each in architectures]
        files = put_together(machines)
    except packages.FetchError as error:
        sys.exit(f"fetching packages: {error}")
    except closure.MissingLibrary as error:
        sys.exit(f"collecting tools: {error}")

    code, loaders = b"", {}
    if board:
        loaders = loader.places(board, machines[0].tree)
    else:
        code, loaders = next((parts for machine in machines if any(parts := machine.boot_code())), (code, loaders))

    image = definition.common()["image"]
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / f"{name}.img"
    medium.write(
        path,
        workshop.programs(),
        files,
        image["label"],
        image["volume_id"],
        image["partition_type"],
        int(image["epoch"]),
        int(image["spare"]) * MIB,
        code,
        loaders,
    )
    if board:
        try:
            with open(path, "rb") as card:
                loader.check(card.read(medium.PARTITION_START), board["rom"])
        except loader.Unstartable as error:
            path.unlink()
            sys.exit(f"the board would not start from this card: {error}")
    inside = sorted({(*package, machine.arch) for machine in machines for package in machine.packages})
    lines = "".join(f"{' '.join(package)}\n" for package in inside)
    (options.output / f"{name}.packages.txt").write_text(lines)
    for each in architectures:
        report(f"{each} kernel", len(files[f"lifeboat/{each}/vmlinuz"]))
    for each, binary in sorted(binaries.items()):
        report(f"{each} lifeboat", binary.stat().st_size, "(static)")
    report("content", sum(map(len, files.values())), "(all files on the medium)")
    report("image", path.stat().st_size, path)
    print(f"{'sha256':18} {hashlib.sha256(path.read_bytes()).hexdigest()}")
    print(f"assembled in {time.monotonic() - started:.1f} s", file=sys.stderr)
    if options.compress and not compress_image(path, workshop, definition.common().getint("budget", arch)):
        return "the compressed image is larger than its budget"
    return None


if __name__ == "__main__":
    sys.exit(main())
