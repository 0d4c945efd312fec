"""The FreedomBox releases that boxes are made of, and the root filesystem of each.

A root is what a FreedomBox disk image holds before its first start: Debian with the `freedombox` package, no host keys,
no locked-in names. Roots, and boxes made of them, are subvolumes of one btrfs file, so that copies are free and the
filesystem is the one that real boxes have.
"""

import collections
import contextlib
import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess

import emulator

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parent.parent
# Everything slow is kept here.
CACHE = pathlib.Path(os.environ.get("LIFEBOAT_BOXES") or TOP / "build/freedombox").resolve()
# Only address space: the file is sparse.
ROOM = "60G"

# Debian's release, the suite that the package comes from, and Debian's name of the computers it is for.
Release = collections.namedtuple("Release", "debian suite architecture", defaults=["amd64"])
# By FreedomBox's version, which may be followed by what makes it another one.
RELEASES = {
    "23.6.2": Release("bookworm", "bookworm"),
    "25.9.3": Release("trixie", "trixie"),
    "25.9.3-arm64": Release("trixie", "trixie", "arm64"),
    "26": Release("trixie", "trixie-backports"),
}
PACKAGES = (
    "btrfs-progs dbus e2fsprogs ifupdown init iproute2 less nano netbase openssh-server python3 sudo systemd "
    "systemd-sysv udev"
).split()
COMPONENTS = "main contrib non-free-firmware"
# The registries' clocks are not ours.
APT = ["-oAcquire::Check-Valid-Until=false", "-oAcquire::Check-Date=false", "-oAPT::Sandbox::User=root"]
# Programs that all this is made with.
TOOLS = "apt-ftparchive btrfs mkfs.btrfs mmdebstrap nsenter systemd-nspawn unshare".split()
# What a disk image has that a plain installation has not.
FINISH = r"""
set -eu
passwd -l root
adduser --gecos fbx --disabled-password fbx
adduser fbx sudo
mkdir -p -m 755 /var/lib/freedombox
touch /var/lib/freedombox/is-freedombox-disk-image
rm -f /etc/ssh/ssh_host_* /var/lib/plinth/firstboot-wizard-secret
echo freedombox >/etc/hostname
apt-get clean
rm -rf /var/lib/apt/lists/*
"""


def run(*command, **options):
    """Runs a command that must succeed."""
    return subprocess.run([str(word) for word in command], check=True, **options)


def output(*command, **options):
    """What a command that must succeed prints."""
    return run(*command, capture_output=True, text=True, **options).stdout.strip()


def mirror():
    """The Debian mirror: `MIRROR`, else the host's own."""
    named = os.environ.get("MIRROR")
    return (named or output("bash", "-c", '. "$0"/image-build/prerequisites; debian_mirror', TOP)).rstrip("/")


@contextlib.contextmanager
def alone(*what):
    """Holds others back that would make the same at the same time: runs may go on side by side."""
    (CACHE / "locks").mkdir(parents=True, exist_ok=True)
    with open(CACHE / "locks" / "-".join(what), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def store():
    """The mounted btrfs with all roots and boxes."""
    at = CACHE / "store"
    if not os.path.ismount(at):
        at.mkdir(parents=True, exist_ok=True)
        file = CACHE / "store.btrfs"
        if not file.exists():
            partial = file.with_suffix(".new")
            run("truncate", "--size", ROOM, partial)
            run("mkfs.btrfs", "--quiet", partial)
            partial.rename(file)
        # A test's box may be lost with the machine; its speed matters more.
        run("mount", "-o", "loop,noatime,compress=zstd:1,commit=120,nobarrier", file, at)
    return at


def close():
    """Unmounts it, when no box uses it; also the way to find out is to try."""
    subprocess.run(["umount", CACHE / "store"], stderr=subprocess.DEVNULL, check=False)
    emulator.forget()


def obstacle():
    """Why boxes cannot be made and started on this machine; `None` where they can."""
    if os.geteuid() != 0:
        return "it has to be root"
    missing = [name for name in TOOLS if not shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")]
    if missing:
        return f"programs are missing: {' '.join(missing)}"
    mount = "umount --recursive /sys/fs/cgroup; umount --lazy /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup"
    tried = subprocess.run(
        ["unshare", "--mount", "--net", "--pid", "--fork", "--propagation", "private", "bash", "-c", mount],
        capture_output=True, text=True, check=False,
    )
    if tried.returncode:
        return f"no container can be started here: {' '.join(tried.stderr.split())[-200:]}"
    try:
        store()
    except subprocess.CalledProcessError as error:
        return f"no btrfs file can be mounted here: {error}"
    address = mirror()
    if not address:
        return "no Debian mirror is known; name one in MIRROR"
    for debian in dict.fromkeys(release.debian for release in RELEASES.values()):
        command = ["/usr/lib/apt/apt-helper", "download-file", f"{address}/dists/{debian}/InRelease", CACHE / "reached"]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            return f"the Debian mirror cannot be reached for {debian}"
    (CACHE / "reached").unlink()
    return None


def root_at(name):
    """Where a release's root is kept.

    Like a box's, directly in the top level of the filesystem, as Debian's installer places `@rootfs`: FreedomBox's
    first setup does not find the `.snapshots` of a root that lies deeper.
    """
    return store() / f"root-{name}"


def box_at(name):
    """Where a box's root is kept."""
    return store() / f"box-{name}"


def remove(subvolume):
    """Removes a subvolume, and those that were made inside it."""
    if not subvolume.exists():
        return
    for line in output("btrfs", "subvolume", "list", "-o", subvolume).splitlines():
        remove(store() / line.split(" path ", 1)[1])
    run("btrfs", "property", "set", subvolume, "ro", "false")
    run("btrfs", "subvolume", "delete", subvolume, stdout=subprocess.DEVNULL)


def snapshot(source, target):
    """Copies a subvolume; the one for snapshots inside it starts empty."""
    run("btrfs", "subvolume", "snapshot", source, target, stdout=subprocess.DEVNULL)
    inner = target / ".snapshots"
    if inner.is_dir():
        inner.rmdir()
        run("btrfs", "subvolume", "create", inner, stdout=subprocess.DEVNULL)
        inner.chmod(0o750)


def in_root(root, *command, **options):
    """Runs a command in a root that is not started, with the host's network."""
    script = (
        'for at in proc sys dev; do mount --rbind "/$at" "$0/$at" || exit; done;'
        'cp --remove-destination /etc/resolv.conf "$0/etc/resolv.conf" || exit; exec chroot "$0" "$@"'
    )
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    environment.update(options.pop("environment", {}))
    words = ["unshare", "--mount", "--propagation", "private", "bash", "-c", script, root, *command]
    return run(*words, env=environment, stdin=subprocess.DEVNULL, **options)


def install(root, suite, packages):
    """Installs packages in a root that is not started; no service is started."""
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    in_root(root, "apt-get", *APT, "--quiet=2", "update", stdout=subprocess.DEVNULL)
    in_root(
        root, "apt-get", *APT, "--quiet=2", "--assume-yes", "--target-release", suite, "install", *packages,
        stdout=subprocess.DEVNULL,
    )
    policy.unlink()


def apps(version):
    """The apps that a release has, whether its packages can be installed or not."""
    program = "freedombox" if (root(version) / "usr/bin/freedombox").exists() else "plinth"
    listed = in_root(root(version), program, "--list-apps", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return {line.strip() for line in listed.stdout.splitlines() if line.strip().replace("_", "").isalnum()}


def installed_version(version):
    """The version of the package in a release's root."""
    return output("dpkg-query", "--admindir", root(version) / "var/lib/dpkg", "-W", "-f", "${Version}", "freedombox")


def short(names):
    """A short name for a set of names."""
    return hashlib.sha256(" ".join(sorted(names)).encode()).hexdigest()[:8]


def root(version):
    """The root of a release that was never started; made where it is missing."""
    done = root_at(version)
    emulator.register(RELEASES[version].architecture)
    with alone("root", version):
        if not done.exists():
            make(version, done)
    return done


def make(version, done):
    """Makes the root of a release from Debian's packages."""
    debian, suite, architecture = RELEASES[version]
    print(f"making the root filesystem of FreedomBox {version} from Debian {suite}", flush=True)
    new = root_at(f"{version}.new")
    remove(new)
    run("btrfs", "subvolume", "create", new, stdout=subprocess.DEVNULL)
    # Their index takes minutes where all programs are emulated.
    slow = ["--dpkgopt=path-exclude=/usr/share/man/*"] if emulator.is_needed(architecture) else []
    include = ",".join(PACKAGES if suite != debian else [*PACKAGES, "freedombox"])
    run(
        "mmdebstrap", "--quiet", "--mode=root", "--variant=apt", "--format=directory", "--skip=check/empty,check/qemu",
        f"--architectures={architecture}", f"--components={COMPONENTS}", "--dpkgopt=force-unsafe-io", *slow,
        '--aptopt=Acquire::Check-Valid-Until "false"',
        '--aptopt=Acquire::Check-Date "false"', '--aptopt=Apt::Install-Recommends "true"', f"--include={include}",
        debian, new, mirror(),
    )
    if suite != debian:
        (new / "etc/apt/sources.list").write_text(
            f"deb {mirror()} {debian} {COMPONENTS}\ndeb {mirror()} {suite} {COMPONENTS}\n"
        )
        # Only FreedomBox itself comes from there, as on a box with its frequent updates.
        pin = new / "etc/apt/preferences.d/one-package"
        pin.write_text(f"Package: src:freedombox\nPin: release n={suite}\nPin-Priority: 995\n")
        install(new, debian, ["freedombox"])
        pin.unlink()
    in_root(new, "sh", "-c", FINISH, stdout=subprocess.DEVNULL)
    new.rename(done)
