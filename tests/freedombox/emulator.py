"""Programs for another computer, run by QEMU's user emulation: a root or a box of another architecture runs here.

The kernel starts the emulator wherever such a program is started, also in a container: it holds the emulator open since
it was registered (flag F). Debian registers its emulators without the flag C, so that programs like sudo would lose their
rights; a box needs them. With it, such a program of anybody here would get them too, so this is registered for the tests
only, and taken back when no box is left.
"""

import fcntl
import pathlib

# How the kernel names the computers that are emulated, by Debian's name.
MACHINES = {"arm64": "aarch64"}
# How many times slower they are.
SLOW = 10
KERNEL = pathlib.Path("/proc/sys/fs/binfmt_misc")
# Where Debian's packages tell what such a program begins with, and what runs it.
KNOWN = ("/usr/lib/binfmt.d/qemu-{}.conf", "/usr/lib/binfmt.d/qemu-{}-static.conf")
OWN = "freedombox-tests-"
# Who has it open needs what is registered; so do boxes, which may be there for longer than who started them.
LOCK = "/run/freedombox-tests-emulator"
HELD = []

# An emulated computer is slower than the time limits of a box's services assume.
PATIENCE = {
    "system/service.d/test-patience.conf": "[Service]\nTimeoutStartSec=infinity\n",
    "system.conf.d/test-patience.conf": "[Manager]\nDefaultTimeoutStartSec=3600\nDefaultDeviceTimeoutSec=3600\n",
}
# What the user emulation does not have are the system calls by which services get credentials and file trees of their own.
NONE = ("ImportCredential LoadCredential LoadCredentialEncrypted SetCredential ReadWritePaths ReadOnlyPaths "
        "InaccessiblePaths ExecPaths NoExecPaths TemporaryFileSystem BindPaths BindReadOnlyPaths").split()
OFF = ("PrivateTmp PrivateDevices PrivateNetwork PrivateUsers PrivateIPC PrivateMounts ProtectSystem ProtectHome "
       "ProtectKernelTunables ProtectKernelModules ProtectKernelLogs ProtectControlGroups ProtectClock ProtectHostname "
       "RestrictNamespaces").split()
PLAIN = ["[Service]", *(f"{name}=" for name in NONE), *(f"{name}=no" for name in OFF), "ProtectProc=default", "ProcSubset=all"]
# Nor does it pass messages to the packet filter on, or has the sockets that NetworkManager ends without.
FILTERS = [f"{name}{what}" for name in ("iptables", "ip6tables", "ebtables") for what in ("", "-save", "-restore")]


def is_needed(architecture):
    """Whether programs for it have to be emulated."""
    return architecture in MACHINES


def obstacle(architecture):
    """Why programs for it cannot be run here; `None` where they can."""
    if not is_needed(architecture):
        return None
    if not known(architecture):
        return f"nothing here runs programs for {architecture}; Debian's qemu-user-static does"
    return None if (KERNEL / "register").exists() else "binfmt_misc is not mounted"


def known(architecture):
    """The line by which Debian registers the emulator; `None` without."""
    places = [pathlib.Path(name.format(MACHINES[architecture])) for name in KNOWN]
    return next((place.read_text(encoding="ascii").strip() for place in places if place.exists()), None)


def register(architecture):
    """Has the kernel run programs for an architecture, where it needs to be told, as long as this process or what holds
    `HELD` too is there."""
    if not is_needed(architecture):
        return
    why = obstacle(architecture)
    if why:
        raise OSError(why)
    if not HELD:
        HELD.append(open(LOCK, "w", encoding="ascii"))
        fcntl.flock(HELD[0], fcntl.LOCK_SH)
    if not (KERNEL / f"{OWN}{architecture}").exists():
        # :name:M:offset:magic:mask:interpreter:flags
        offset, magic, mask, interpreter = known(architecture).split(":")[3:7]
        line = f":{OWN}{architecture}:M:{offset}:{magic}:{mask}:{interpreter}:POCF"
        (KERNEL / "register").write_text(line, encoding="ascii")


def forget():
    """Takes back what was registered, if nobody else needs it."""
    while HELD:
        HELD.pop().close()
    entries = list(KERNEL.glob(f"{OWN}*"))
    if not entries:
        return
    with open(LOCK, "w", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        for entry in entries:
            entry.write_text("-1", encoding="ascii")


def prepare(root, modules):
    """Has a box's services do without what is not there; `modules` is where it sees `inside/emulated`."""
    be_patient(root)
    firewall = f"[Service]\nEnvironment=PYTHONPATH={modules}\n"
    # Of two files with the same name, one would be left out.
    for name, text in {"service.d/test-emulated.conf": "\n".join([*PLAIN, ""]), "firewalld.service.d/test-filter.conf": firewall}.items():
        file = root / "etc/systemd/system" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    stand_ins = {f"etc/alternatives/{name}": "/usr/bin/true" for name in FILTERS}
    stand_ins |= {f"usr/local/bin/{name}": f"{modules}/{name}" for name in ("btrfs", "nmcli")}
    for name, chosen in stand_ins.items():
        (root / name).unlink(missing_ok=True)
        (root / name).symlink_to(chosen)


def be_patient(root):
    """Raises the time limits of a box's services to what an emulated one needs."""
    for name, text in PATIENCE.items():
        file = root / "etc/systemd" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
