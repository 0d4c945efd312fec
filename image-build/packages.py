"""Debian packages for the live image: fetched with an apt of their own, verified by Debian's signatures, unpacked.

Runs without root, never looks at or changes the host's package state, and never executes anything from a package.
"""

import functools
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# A kernel metapackage leads to these; everything else it depends on belongs to an installed system.
KERNEL_PART = re.compile(r"linux-(image|binary|modules|base)-")


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


class Group:
    """Packages that have to come from one suite together: one `[packages…]` section of a definition.

    `suites` in order of preference: a release whose package index cannot be verified today, or that lacks a package, is
    passed over for the next one. `libraries = yes` adds the libraries that the packages depend on.
    """

    def __init__(self, name, section, arch):
        self.name, self.arch = name, arch
        self.suites = section["suites"].split()
        self.components = section.get("components", "main")
        self.kernel = section.get("kernel", "")
        self.names = section.get("names", "").split()
        self.libraries = section.get("libraries", "no") == "yes"

    def request(self):
        parts = (self.arch, " ".join(self.suites), self.components, self.kernel, " ".join(self.names), self.libraries)
        return "; ".join(map(str, parts))


class Fetched:
    """A group as it lies in the cache: the suite it came from, its .deb files, and (name, version, sha256) of each."""

    def __init__(self, home):
        _, self.suite, *lines = (home / "packages.lock").read_text().splitlines()
        self._lines = [line.split() for line in lines]
        self.packages = [(name, version, digest) for name, version, digest, _ in self._lines]
        self.debs = [home / "debs" / file for _, _, _, file in self._lines]

    def unpack(self, tree):
        """Adds the files to the folder `tree`."""
        for deb in self.debs:
            extract(deb, tree)


def extract(deb, tree):
    """Adds the files of a package to the folder `tree`; those in /lib go where that link leads."""
    content = subprocess.run(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE, check=True).stdout
    command = ["tar", "--extract", "--keep-directory-symlink", "--no-same-owner", "--directory", tree]
    subprocess.run(command, input=content, check=True)


def fetch(group, cache, refresh=False):
    """`group` below `cache`, complete and verified. A complete cache is used as it is, without network; `refresh` asks
    the archive for newer versions first."""
    home = cache / "packages" / f"{group.arch}-{group.name}"
    if refresh or not _complete(home, group.request()):
        trouble = []
        for suite in group.suites:
            try:
                _download(group, suite, cache, home)
                break
            except FetchError as error:
                trouble.append(f"{suite}: {error}")
        else:
            raise FetchError("\n".join([f'no suite has the packages "{group.name}" for {group.arch}', *trouble]))
        for line in trouble:
            print(f"{group.arch}, {group.name}: taken from {suite}, not from {line.splitlines()[0]}", file=sys.stderr)
    return Fetched(home)


def unpacked(groups, tree):
    """The files of all `groups` (`Fetched`) in the folder `tree`, as on a system where /lib is /usr/lib."""
    marker = tree / ".complete"
    wanted = "\n".join(" ".join(package) for group in groups for package in group.packages)
    if not marker.exists() or marker.read_text() != wanted:
        shutil.rmtree(tree, ignore_errors=True)
        for name in ("bin", "sbin", "lib"):
            (tree / "usr" / name).mkdir(parents=True)
            (tree / name).symlink_to(f"usr/{name}")
        for group in groups:
            group.unpack(tree)
        marker.write_text(wanted)
    return tree


class Apt:
    """A private apt root in `home`: its own sources, lists, cache and an empty package state."""

    def __init__(self, home, suite, components, arch):
        self.home = home
        for part in ("etc/apt.conf.d", "etc/preferences.d", "etc/sources.list.d", "lists/partial", "archives/partial"):
            (home / part).mkdir(parents=True, exist_ok=True)
        (home / "status").write_text("")
        if not os.path.exists(KEYRING):
            raise FetchError(f'"{KEYRING}" is missing: install the package debian-archive-keyring')
        (home / "etc/sources.list.d/debian.sources").write_text(
            f"Types: deb\nURIs: {mirror()}\nSuites: {suite}\nComponents: {components}\n"
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
            # An index that could not be had or verified is an error, not a warning.
            'APT::Update::Error-Mode "any";\n'
        )

    def run(self, tool, *arguments, cwd=None):
        environment = dict(os.environ, APT_CONFIG=str(self.home / "apt.conf"), LC_ALL="C")
        done = subprocess.run([tool, *arguments], env=environment, cwd=cwd, capture_output=True, text=True)
        if done.returncode:
            first = next((line for line in done.stderr.splitlines() if line.startswith("E:")), done.stderr.strip())
            raise FetchError(f"{tool} {' '.join(arguments[:1])}: {first}")
        return done.stdout

    def depends(self, names):
        """The packages that any of `names` depends on; of alternatives the first."""
        found, alternative = set(), False
        listing = self.run("apt-cache", "depends", "--no-recommends", "--no-suggests", "--no-enhances", *names)
        for bar, package in re.findall(r"^ ([ |])(?:Pre)?Depends: (\S+)", listing, re.M):
            if not alternative and not package.startswith("<"):
                found.add(package.partition(":")[0])
            alternative = bar == "|"
        return found

    def follow(self, names, belongs):
        """The packages for which `belongs` holds that `names` depend on, directly or by such packages."""
        found, fresh = set(), set(names)
        while fresh:
            fresh = {name for name in self.depends(sorted(fresh)) if belongs(name)} - found - set(names)
            found |= fresh
        return sorted(found)


@functools.cache
def _index(cache, suite, components, arch):
    """An `Apt` with a fresh index, or why there is none; asked for once."""
    apt = Apt(cache / "apt" / f"{suite}-{arch}-{components.replace(' ', '-')}", suite, components, arch)
    try:
        apt.run("apt-get", "update", "--quiet", "--quiet")
    except FetchError as error:
        return error
    return apt


def _download(group, suite, cache, home):
    apt = _index(cache, suite, group.components, group.arch)
    if isinstance(apt, FetchError):
        raise apt
    names = list(group.names)
    if group.kernel:
        kernel = apt.follow([group.kernel], KERNEL_PART.match)
        if not kernel:
            raise FetchError(f'"{group.kernel}" depends on no kernel package')
        # Between the metapackages and what they stand for.
        names += [name for name in kernel if re.search(r"-[0-9]", name)]
    if group.libraries:
        names += [name for name in apt.follow(names, lambda name: name.startswith(("lib", "zlib"))) if name not in names]
    fresh = home / "fresh"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    apt.run("apt-get", "download", "--quiet", "--quiet", *names, cwd=fresh)
    lock = [group.request(), suite]
    for deb in sorted(fresh.glob("*.deb")):
        fields = ["dpkg-deb", "--show", "--showformat", "${Package} ${Version}", deb]
        name, version = subprocess.run(fields, capture_output=True, text=True, check=True).stdout.split()
        lock.append(f"{name} {version} {_digest(deb)} {deb.name}")
    shutil.rmtree(home / "debs", ignore_errors=True)
    fresh.rename(home / "debs")
    (home / "packages.lock").write_text("\n".join(lock) + "\n")


def _complete(home, request):
    lock = home / "packages.lock"
    if not lock.exists() or lock.read_text().splitlines()[0] != request:
        return False
    fetched = Fetched(home)
    return all(
        deb.exists() and _digest(deb) == digest for deb, (_, _, digest) in zip(fetched.debs, fetched.packages, strict=True)
    )


def _digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()
