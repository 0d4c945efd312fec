"""One box: a copy of a release's root, started as a container with a network of its own.

The container boots the real systemd and FreedomBox. It has a private network namespace, so that its firewall is not
the host's, and a private tree of control groups, for hosts that still have the old one. It may not set the clock: that is
the host's, and even setting a time zone can move it. Only processes that were
started here are ever ended. `kill` is the power cut: everything that ran is gone at once.
"""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import time

import emulator
import packages
import release

ADMIN = "fbxadmin"
PASSWORD = "Recover-Me-2026!"
# In-box programs of the tests.
INSIDE = "/opt/tests"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

BOOT = """
umount --recursive /sys/fs/cgroup 2>/dev/null || umount --lazy /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup || exit 9
# Its own part of the tree: boxes that shared one would end each other's services.
mkdir --parents "/sys/fs/cgroup/box-$1" && echo $$ >"/sys/fs/cgroup/box-$1/cgroup.procs" || exit 9
export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
exec systemd-nspawn --quiet --register=no --keep-unit --machine="$1" --private-network --resolv-conf=off --timezone=off \
    --link-journal=no --console=pipe --capability=all --drop-capability=CAP_SYS_TIME --bind-ro="$2:$3" --bind-ro="$4:$5" --directory="$6" --boot \
    systemd.unit=multi-user.target
"""

# An interface that is not the loopback, from the box's start and for good: some servers wait for one, and without one
# apt finds no address of its own machine.
INTERFACE_UNIT = """[Unit]
Description=The test's own network interface
DefaultDependencies=no
Before=network-pre.target NetworkManager.service package-source.service plinth.service lifeboat-finish.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=ip link add lan type veth peer name cable
ExecStart=ip address add 192.168.77.2/24 dev lan
ExecStart=ip link set cable up
ExecStart=ip link set lan up
"""
UNMANAGED = "[keyfile]\nunmanaged-devices=interface-name:lan;interface-name:cable\n"
INTERFACE = "test-interface.service"


def busy():
    """How many times slower this machine is than an idle one."""
    return max(1.0, 1.5 * os.getloadavg()[0] / (os.cpu_count() or 1))


def last_json(text):
    """The value that a program in a box printed last; FreedomBox itself prints before it."""
    lines = [line for line in text.splitlines() if line.startswith(("{", "["))]
    if not lines:
        raise BoxError(f"no result was printed, only: {text[-300:]}")
    return json.loads(lines[-1])


class BoxError(Exception):
    """A box did something else than was asked of it."""


class Box:
    """A box by its name; `root` is the directory to restore onto while it is stopped."""

    # Whether several commands can be run in it at the same time.
    can_do_more = True

    def __init__(self, name):
        self.name = name
        self.root = release.box_at(name)
        self.folder = release.CACHE / "state" / name
        # Another package source than its release's.
        self.source = None

    @classmethod
    def new(cls, name, version, booted=False):
        """Makes a box: never started, or (`booted`) after the first start and the wizard."""
        box = cls(name)
        box.remove()
        box.folder.mkdir(parents=True)
        source = first_booted(version) if booted else release.root(version)
        release.snapshot(source, box.root)
        (box.folder / "version").write_text(version)
        if not booted:
            packages.put(box.root)
        # A test's box may be lost with the machine; its speed matters more.
        (box.root / "etc/dpkg/dpkg.cfg.d/unsafe-io").write_text("force-unsafe-io\n")
        if box.is_emulated:
            emulator.prepare(box.root, f"{INSIDE}/emulated")
        # Two boxes are never the same machine. Empty, not "uninitialized": that would enable every unit of Debian.
        (box.root / "etc/machine-id").write_text("")
        (box.root / INSIDE.lstrip("/")).mkdir(parents=True, exist_ok=True)
        return box

    @classmethod
    def copy(cls, name, other):
        """Makes a box that is like another, which is stopped."""
        if other.leader:
            raise BoxError(f"the box {other.name} runs; stop it first")
        box = cls(name)
        box.remove()
        box.folder.mkdir(parents=True)
        release.snapshot(other.root, box.root)
        (box.folder / "version").write_text(other.version)
        return box

    @property
    def version(self):
        """The release that it was made of."""
        return (self.folder / "version").read_text()

    @property
    def architecture(self):
        """Debian's name of the computers that it is for."""
        return release.RELEASES[self.version].architecture

    @property
    def is_emulated(self):
        """Whether its programs are run by QEMU."""
        return emulator.is_needed(self.architecture)

    @property
    def leader(self):
        """Process id of the box's first process; `None` while it is stopped."""
        try:
            pid = int((self.folder / "nspawn.pid").read_text())
            children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            is_ours = b"systemd-nspawn" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return None
        return int(children[0]) if children and is_ours else None

    def start(self, offline=False):
        """Starts it and waits for systemd."""
        if self.leader:
            raise BoxError(f"the box {self.name} runs already")
        emulator.register(self.architecture)
        wanted = self.root / "etc/systemd/system/multi-user.target.wants" / packages.SERVICE
        wanted.unlink(missing_ok=True)
        if not offline:
            wanted.symlink_to(f"/etc/systemd/system/{packages.SERVICE}")
        unit = self.root / "etc/systemd/system" / INTERFACE
        unit.write_text(INTERFACE_UNIT)
        (wanted.parent / INTERFACE).unlink(missing_ok=True)
        (wanted.parent / INTERFACE).symlink_to(f"/etc/systemd/system/{INTERFACE}")
        (self.root / "etc/NetworkManager/conf.d").mkdir(parents=True, exist_ok=True)
        (self.root / "etc/NetworkManager/conf.d/test.conf").write_text(UNMANAGED)
        source = self.source or packages.folder(self.version)
        source.mkdir(parents=True, exist_ok=True)
        words = ["unshare", "--mount", "--propagation", "private", "bash", "-c", BOOT, "boot"]
        words += [self.name, source, packages.INSIDE, release.HERE / "inside", INSIDE, self.root]
        with open(self.folder / "console.log", "wb") as log:
            child = subprocess.Popen(
                [str(word) for word in words], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                pass_fds=[held.fileno() for held in emulator.HELD],
            )
        (self.folder / "nspawn.pid").write_text(str(child.pid))
        self.wait(lambda: self.leader and self.ask("systemctl", "is-system-running") not in ("", "offline"), 60, "start")

    def wait(self, is_done, seconds, what, pause=1.0):
        """Waits until `is_done()`; gives up after `seconds`, which count less on a machine that has other work."""
        left, last = float(seconds) * (emulator.SLOW if self.is_emulated else 1), time.monotonic()
        while not is_done():
            now = time.monotonic()
            left, last = left - (now - last) / busy(), now
            if left < 0:
                raise BoxError(f"the box {self.name} did not {what} within {seconds} s, see {self.folder}/console.log")
            time.sleep(pause)

    def run(self, *command, user=None, check=True, **options):
        """Runs a command in the box as root or as `user`."""
        leader = self.leader
        if not leader:
            raise BoxError(f"the box {self.name} is stopped")
        words = ["nsenter", "--target", leader, "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--wdns=/"]
        words += ["env", "-i", f"PATH={PATH}", "HOME=/root", "LANG=C.UTF-8", "PYTHONDONTWRITEBYTECODE=1"]
        words += ["runuser", "-u", user, "--", *command] if user else command
        return subprocess.run(
            [str(word) for word in words], check=check, stdin=subprocess.DEVNULL, text=True, **options
        )

    def ask(self, *command, user=None):
        """What a command in the box prints; empty where it fails."""
        try:
            return self.run(*command, user=user, check=False, capture_output=True).stdout.strip()
        except BoxError:
            return ""

    def product(self, *words, user="plinth", **options):
        """Runs our program that uses FreedomBox's own code in the box."""
        return self.run("python3", f"{INSIDE}/product.py", *words, user=user, **options)

    def wait_for_setup(self, seconds=420):
        """Waits until FreedomBox set its essential apps up."""
        is_set_up = lambda: self.ask("python3", f"{INSIDE}/is_set_up.py") == "yes"  # noqa: E731
        self.wait(is_set_up, seconds, "set its essential apps up", pause=3)

    def wait_for_packages(self):
        """Waits until the package source can be reached."""
        reach = "import urllib.request; urllib.request.urlopen('%s/Packages').read(1); print('yes')" % packages.ADDRESS
        self.wait(lambda: self.ask("python3", "-c", reach) == "yes", 60, "reach its package source")

    def wait_for_service(self, seconds=240):
        """Waits until FreedomBox's service answers."""
        self.wait(lambda: self.ask("systemctl", "is-active", "plinth") == "active", seconds, "start FreedomBox's service")

    def online(self, on=True):
        """Lets the package source be reached, or not."""
        self.run("systemctl", "start" if on else "stop", packages.SERVICE)

    def stop(self):
        """Shuts it down."""
        leader = self.leader
        if not leader:
            return
        self.run("systemctl", "poweroff", check=False, capture_output=True)
        try:
            self.wait(lambda: not self.leader, 150, "power off", pause=0.3)
        except BoxError:
            self.kill()
            raise
        self.reap()

    def kill(self):
        """Cuts its power."""
        leader = self.leader
        if leader:
            os.kill(leader, signal.SIGKILL)
            self.wait(lambda: not self.leader, 30, "end", pause=0.1)
        self.reap()

    def reap(self):
        """Waits for the container's own process, where it is our child."""
        try:
            os.waitpid(int((self.folder / "nspawn.pid").read_text()), 0)
        except (OSError, ValueError):
            pass

    def remove(self):
        """Removes it."""
        self.kill()
        release.remove(self.root)
        shutil.rmtree(self.folder, ignore_errors=True)


def first_booted(version):
    """The root of a release after its first start, with an administrator and the wizard done; made where it is missing."""
    done = release.root_at(f"{version}.booted")
    with release.alone("booted", version):
        if not done.exists():
            start_first(version, done)
    return done


def start_first(version, done):
    """Starts a release's root for the first time, and does what the wizard does."""
    print(f"starting FreedomBox {version} for the first time", flush=True)
    begun = time.monotonic()
    box = Box.new(f"first-start-{version}", version)
    box.start()
    box.wait_for_setup()
    print(f"its essential apps were set up after {time.monotonic() - begun:.0f} s", flush=True)
    box.product("first-boot", ADMIN, PASSWORD)
    box.stop()
    box.root.rename(done)
    box.remove()
