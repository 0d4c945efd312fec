"""Debian packages for the live image: fetched with an apt of their own, verified by Debian's signatures, unpacked.

Runs without root, never looks at or changes the host's package state, and never executes anything from a package.
"""

import configparser
import hashlib
import os
import pathlib
import re
import shutil
import subprocess

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# A kernel metapackage leads to these; everything else it depends on belongs to an installed system.
KERNEL_PART = re.compile(r"linux-(image|binary|modules|base)-[0-9]")


class FetchError(Exception):
    """The packages could not be fetched or verified."""


def mirror():
    """The archive to fetch from: $MIRROR, else what the host's own package sources name as Debian's."""
    if os.environ.get("MIRROR"):
        return os.environ["MIRROR"]
    targets = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(ORIGIN)|$(LABEL)|$(REPO_URI)"], capture_output=True, text=True
    ).stdout
    for line in targets.splitlines():
        origin, label, uri = line.split("|", 2)
        if (origin, label) == ("Debian", "Debian"):
            return uri
    raise FetchError(
        "this system's package sources name no Debian archive; set MIRROR to the address of one, for example "
        "MIRROR=https://<a Debian mirror near you>/debian"
    )


class Apt:
    """A private apt root in `home`: its own sources, lists, cache and an empty package state."""

    def __init__(self, home, suite, arch):
        self.home = home
        for part in ("etc/apt.conf.d", "etc/preferences.d", "etc/sources.list.d", "lists/partial", "archives/partial"):
            (home / part).mkdir(parents=True, exist_ok=True)
        (home / "status").write_text("")
        if not os.path.exists(KEYRING):
            raise FetchError(f'"{KEYRING}" is missing: install the package debian-archive-keyring')
        (home / "etc/sources.list.d/debian.sources").write_text(
            f"Types: deb\nURIs: {mirror()}\nSuites: {suite}\nComponents: main\n"
            f"Architectures: {arch}\nSigned-By: {KEYRING}\n"
        )
        (home / "apt.conf").write_text(
            f'Dir::Etc "{home}/etc/";\nDir::Etc::sourcelist "/dev/null";\n'
            f'Dir::Etc::sourceparts "{home}/etc/sources.list.d";\nDir::Etc::parts "{home}/etc/apt.conf.d";\n'
            f'Dir::State "{home}";\nDir::State::lists "{home}/lists/";\nDir::State::status "{home}/status";\n'
            f'Dir::Cache "{home}";\nDir::Cache::archives "{home}/archives/";\n'
            f'APT::Architecture "{arch}";\nAPT::Architectures {{ "{arch}"; }};\nAcquire::Languages "none";\n'
            # Fetching as another user would need a directory that user may write to.
            'APT::Sandbox::User "";\n'
        )

    def run(self, tool, *arguments, cwd=None):
        environment = dict(os.environ, APT_CONFIG=str(self.home / "apt.conf"), LC_ALL="C")
        done = subprocess.run([tool, *arguments], env=environment, cwd=cwd, capture_output=True, text=True)
        if done.returncode:
            raise FetchError(f"{tool} {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def kernel_packages(self, metapackage):
        """The packages that hold the kernel that `metapackage` stands for."""
        found, queue = [], [metapackage]
        while queue:
            depends = self.run("apt-cache", "depends", "--no-recommends", "--no-suggests", queue.pop())
            for name in re.findall(r"^ *Depends: (\S+)", depends, re.M):
                if KERNEL_PART.match(name) and name not in found:
                    found.append(name)
                    queue.append(name)
        if not found:
            raise FetchError(f'"{metapackage}" depends on no kernel package')
        return found


def fetch(definition: configparser.ConfigParser, arch, cache: pathlib.Path, refresh=False):
    """Packages of `definition`, unpacked below `cache`: the tree and the list of (name, version, sha256).

    A complete cache is used as it is, without network; `refresh` asks the archive for newer versions first.
    """
    wanted = definition["packages"]
    home = cache / f"{wanted['suite']}-{arch}"
    request = f"{wanted['kernel']} {wanted['others']} {wanted['libraries']}"
    lock, debs, tree = home / "packages.lock", home / "debs", home / "tree"
    if refresh or not _complete(lock, debs, request):
        apt = Apt(home / "apt", wanted["suite"], arch)
        apt.run("apt-get", "update", "--quiet", "--quiet")
        names = apt.kernel_packages(wanted["kernel"]) + f"{wanted['others']} {wanted['libraries']}".split()
        shutil.rmtree(debs, ignore_errors=True)
        debs.mkdir(parents=True)
        apt.run("apt-get", "download", "--quiet", "--quiet", *names, cwd=debs)
        _write_lock(lock, debs, request)
        shutil.rmtree(tree, ignore_errors=True)
    locked = _read_lock(lock)[1]
    marker = tree / ".complete"
    if not marker.exists() or marker.read_text() != lock.read_text():
        shutil.rmtree(tree, ignore_errors=True)
        tree.mkdir(parents=True)
        for deb in sorted(debs.glob("*.deb")):
            subprocess.run(["dpkg-deb", "--extract", deb, tree], check=True)
        marker.write_text(lock.read_text())
    return tree, [(name, version, digest) for name, version, digest, _ in locked]


def _write_lock(lock, debs, request):
    lines = [request]
    for deb in sorted(debs.glob("*.deb")):
        name, version = subprocess.run(
            ["dpkg-deb", "--show", "--showformat", "${Package} ${Version}", deb], capture_output=True, text=True, check=True
        ).stdout.split()
        lines.append(f"{name} {version} {_digest(deb)} {deb.name}")
    lock.write_text("\n".join(lines) + "\n")


def _read_lock(lock):
    request, *lines = lock.read_text().splitlines()
    return request, [line.split() for line in lines]


def _complete(lock, debs, request):
    if not lock.exists():
        return False
    locked_request, locked = _read_lock(lock)
    return locked_request == request and all(
        (debs / file).exists() and _digest(debs / file) == digest for _, _, digest, file in locked
    )


def _digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()
