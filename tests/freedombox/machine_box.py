"""A box in a virtual machine: the stick rescues its disk, then it starts from that disk as every box does.

Everything is emulated, so this is slow. The rescue is the guide's, answered over the serial console; what the box is asked
goes over its console too, and its pages are fetched from outside.
"""

import base64
import http.client
import shlex
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request

import chain
import disk
import judge
import release
import rescue
from box import ADMIN, PASSWORD, PATH, Box, BoxError
from sources import say

sys.path.insert(0, str(release.TOP / "qemu"))

from machine import Disk, Machine, MachineError
from walk import BOOT_TIMEOUT, LineEcho, Step, WalkError, restore_everything, walk

HOSTNAME = "freedombox"
# Pages that whoever is not signed in sees, and what is on them.
PAGES = {
    "radicale": (f"/radicale/{ADMIN}/family/dentist.ics", "Dentist for Zoë"),
    "gitweb": ("/gitweb/public-notes.git", "public-notes"),
    "wordpress": ("/wordpress/", "We moved house é"),
}


class Networked(Machine):
    """A machine with a network in which there is nobody else; its HTTPS port is reached at `port` of this host."""

    def __init__(self, *words, **options):
        super().__init__(*words, **options)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    def command(self, serial="stdio"):
        lan = f"user,id=lan,restrict=on,hostfwd=tcp:127.0.0.1:{self.port}-:443"
        return [*super().command(serial), "-netdev", lan, "-device", "virtio-net-pci,netdev=lan"]


class MachineBox(Box):
    """A running machine, asked like a box in a container."""

    can_do_more = False
    # As a machine it is; its time limits know that.
    is_emulated = False

    def __init__(self, machine):
        self.name, self.machine = HOSTNAME, machine
        self.folder = machine.work
        self.leader_seen = True

    leader = property(lambda self: self.leader_seen)

    def run(self, *command, user=None, check=True, seconds=1800, **_options):
        """Runs a command in the box; what it prints comes back over the console, in letters that nothing disturbs."""
        words = ["runuser", "-u", user, "--", *command] if user else command
        line = shlex.join(str(word) for word in ["env", f"PATH={PATH}", *words])
        self.machine.type(f"{line} >/run/said 2>/run/errors </dev/null; x=$?; base64 /run/said | sed s/^/@/; echo; echo =$x=$((6*7))=")
        begun = self.machine.position
        status = int(self.machine.wait(rb"^=(\d+)=42=", seconds)[1])
        told = self.machine.console[begun : self.machine.position]
        letters = b"".join(line[1:] for line in told.splitlines() if line.startswith(b"@"))
        said = base64.b64decode(letters).decode(errors="replace")
        if check and status:
            raise BoxError(f"{command[0]} ended with {status} in the machine: {said[-300:]}")
        return subprocess.CompletedProcess(command, status, said, "")


def rescued(work, stick, box, backup, chosen):
    """Boots the stick beside the box's disk and the drive, and walks through the guide; `chosen` apps, or all."""
    steps = restore_everything(HOSTNAME)
    if chosen:
        at = next(number for number, step in enumerate(steps) if step.id == "choose-apps")
        steps[at : at + 1] = [Step("choose-apps", option="some apps"), Step("app-names", text=" ".join(chosen))]
    drives = [Disk(stick, bus="usb", keep=True, serial="STICK"), Disk(box, keep=True, serial="BOX"),
              Disk(backup, bus="usb", keep=True, serial="BACKUP")]
    with Machine(work / "rescue", drives, echo=LineEcho()) as machine:
        machine.wait("Lifeboat is ready", 4 * BOOT_TIMEOUT)
        say(f"the stick was ready {machine.uptime():.0f} s after switching on")
        walk(machine, steps)
        machine.wait_off(600)
        say(f"the rescue took {machine.uptime():.0f} s from switching on to off")
        return round(machine.uptime())


def seen_from_outside(port, apps):
    """The pages of the restored apps, fetched over the network: by app what is wrong."""
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    token = base64.b64encode(f"{ADMIN}:{PASSWORD}".encode()).decode()
    wrong = {}
    for app in (app for app in PAGES if app in apps):
        path, has = PAGES[app]
        # Only what asks for a name and a password gets them.
        headers = {"Authorization": f"Basic {token}"} if app == "radicale" else {}
        asked = urllib.request.Request(f"https://127.0.0.1:{port}{path}", headers={"Host": "localhost", **headers})
        for _ in range(5):
            try:
                with urllib.request.urlopen(asked, timeout=120, context=trusting) as answer:
                    text = answer.read().decode(errors="replace")
                wrong[app] = None if has in text else f"{path} does not show '{has}'"
            except (OSError, http.client.HTTPException, urllib.error.URLError) as error:
                wrong[app] = f"{path}: {error}"
            if not wrong[app]:
                break
            time.sleep(20)
        print(f"from outside: {app}: {wrong[app] or f'{path} shows {has!r}'}", flush=True)
    return {app: why for app, why in wrong.items() if why}


def prove(source, onto, apps, chosen=(), stick=None):
    """The whole chain in virtual machines, of a backup of `apps`, of which the `chosen` ones are restored, else all.

    Ends with 0 where everything is as it should be.
    """
    begun = time.monotonic()
    found, truth, missing = chain.prepare(source, onto, list(apps))
    truth["truth"] = {app: answers for app, answers in truth["truth"].items() if app in (chosen or apps)}
    work = release.CACHE / "machine"
    work.mkdir(exist_ok=True)
    if stick is None:
        say("building the stick")
        build = [release.TOP / "image-build/build", "--arch", "amd64", "--own-program", "--quick"]
        release.run(*build, "--output", work / "image", "--binary", rescue.program())
        stick = work / "image/lifeboat-amd64.img"
    files = {name: work / f"{name}.img" for name in ("stick", "box", "backup", "packages")}
    release.run("cp", "--sparse=always", stick, files["stick"])
    release.run("cp", "--sparse=always", disk.make(onto), files["box"])
    disk.backup(files["backup"], found / "backup.tar.gz")
    disk.drive(files["packages"], onto)
    untouched = digest(files["backup"])
    say(f"rescuing a disk of FreedomBox {onto} with a backup of {source}, in an emulated machine")
    try:
        offline = rescued(work, files["stick"], files["box"], files["backup"], chosen)
        drives = [Disk(files["box"], keep=True, serial="BOX"), Disk(files["packages"], serial="PACKAGES")]
        with Networked(work / "box", drives, memory=2048) as machine:
            rows, state = finished(machine, truth, missing, source, onto)
            outside = seen_from_outside(machine.port, [row["app"] for row in rows if row["result"] == "works"])
            machine.type("systemctl poweroff")
            machine.wait_off(900)
    except (MachineError, WalkError) as error:
        print(f"FAIL: {error}")
        return 1
    with disk.mounted(files["box"]) as root:
        after = rescue.lifeboat("status", "--onto", root)
        report = (root / "var/log/lifeboat/report.txt").read_text()
    print(report)
    same = digest(files["backup"]) == untouched
    print(f"the drive with the backup: {'not changed' if same else 'CHANGED'}; plinth.service: {state['plinth']}; "
          f"half-installed packages: {state['dpkg'] or 'none'}")
    for row in rows:
        print(f"{row['app']}: {row['result']} {'; '.join(row['why'])}")
    good = all(row["result"] == "works" for row in rows) and not outside and same
    good = good and state["plinth"] == "active" and not state["dpkg"] and not (after.get("standing") or after).get("waiting")
    print(f"{'PASS' if good else 'FAIL'}: rescue {offline} s, {state['seconds']} s from the box's start to all apps done, "
          f"{time.monotonic() - begun:.0f} s in all")
    return 0 if good else 1


def finished(machine, truth, missing, source, onto):
    """Waits until the started machine has finished the restore; its apps, judged."""
    machine.wait("the shell is ready", 3600)
    say(f"the box was up {machine.uptime():.0f} s after switching on")
    box = MachineBox(machine)
    progress = rescue.wait(box, seconds=3 * 3600)
    seconds = round(machine.uptime())
    say(f"all apps are done {seconds} s after switching on: {rescue.seconds_of(box)}")
    box.wait_for_service(1800)
    roads = {"apps": [{"name": app, "road": "parked"} for app in truth["truth"]]}
    rows = judge.judge(box, truth, roads, progress, chain.baseline(onto))
    rows = [row for row in rows if row["app"] not in missing]
    print("FreedomBox shows:", rescue.notification(box), flush=True)
    return rows, {"seconds": seconds, "plinth": box.ask("systemctl", "is-active", "plinth"), "dpkg": box.ask("dpkg", "--audit")}


def digest(file):
    """The content of a file."""
    return release.output("sha256sum", file).split()[0]
