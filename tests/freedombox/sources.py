"""The boxes that backups are made of, and the backups: made once for each release, and kept.

Beside each backup lies the truth: what every app answered in the box that it was made of, after it got its data, and
which of FreedomBox's checks failed there.
"""

import json
import os
import re
import shutil
import sys
import threading
import time

import packages
import release
from box import ADMIN, PASSWORD, Box, BoxError, last_json

# Essential apps, which are there from the start.
ESSENTIAL = ["datetime", "dynamicdns", "letsencrypt", "privacy", "security", "snapshot", "ssh", "upgrades"]
# The first to be installed: later it would find MySQL and keep its data there, where no backup has it.
FIRST = ["roundcube"]
# The last: they lead the downloads of all others through Tor, which no box of the tests reaches.
LAST = ["tor", "torproxy"]
# The short chain: two databases, a hook, pages, settings.
SMALL = ("datetime", "gitweb", "miniflux", "radicale", "tiddlywiki", "wordpress")
# Apps that are on a box together: some would take others' ports, or route their downloads through Tor.
GROUPS = (
    ("bepasty", "calibre", "datetime", "featherwiki", "gitweb", "ikiwiki", "letsencrypt", "mediawiki", "radicale",
     "rssbridge", "shaarli", "sharing", "snapshot", "tiddlywiki", "wordpress"),
    ("bind", "coturn", "deluge", "ejabberd", "infinoted", "minetest", "minidlna", "mumble", "quassel", "samba",
     "syncthing", "transmission", "upgrades"),
    ("dynamicdns", "email", "kiwix", "miniflux", "openvpn", "privacy", "roundcube", "searx", "security", "sogo", "ssh",
     "ttrss", "zoph"),
    ("pagekite", "shadowsocks", "shadowsocksserver", "tor", "torproxy"),
)


def tested():
    """Apps that have a test, and why others have none."""
    return last_json(release.output(sys.executable, release.HERE / "inside/data.py", "names"))


def groups():
    """All apps that have a test, each in one group."""
    listed = sorted(app for group in GROUPS for app in group)
    if listed != tested()["apps"]:
        raise BoxError(f"the groups do not have each tested app once: {sorted(set(tested()['apps']) ^ set(listed))}")
    return GROUPS


def say(*words):
    """Talks to whoever watches."""
    print(time.strftime("%H:%M:%S"), *words, file=sys.stderr, flush=True)


def installable(version, apps):
    """Of these apps those that the release has, and why not, by app, for the others."""
    known = release.apps(version)
    refused = {app: "this release of FreedomBox has no such app" for app in apps if app not in known}
    there = [app for app in apps if app in known]
    refused.update(packages.fetch(version, [app for app in there if app not in ESSENTIAL]))
    return [app for app in there if app not in refused], refused


def installed(version, apps):
    """A stopped box of a release in which these apps are installed; made where it is missing.

    What FreedomBox's diagnostics say there, before any data, is what a new app's diagnostics may say.
    """
    box = Box(f"installed-{version}-{release.short(apps)}")
    note = box.folder / "installed.json"
    with release.alone(box.name):
        if not note.exists():
            install(box.name, version, apps, note)
    return box, json.loads(note.read_text())


def install(name, version, apps, note):
    """Makes a box in which apps are installed, and notes what became of them."""
    box = Box(name)
    # What an interrupted run installed is not installed again.
    box = box if box.root.exists() else Box.new(name, version, booted=True)
    if not box.leader:
        box.start()
    # So that the numbers of accounts are others than on the box that is restored onto.
    for number in range(7):
        box.run("useradd", "--system", f"before-{number}", check=False, capture_output=True)
    wanted = [app for app in apps if app not in ESSENTIAL]
    wanted.sort(key=lambda app: (app not in FIRST, app in LAST, app))
    box.wait_for_setup()
    box.wait_for_packages()
    box.run("apt-get", "--quiet=2", "update")
    say(f"installing {len(wanted)} apps on {name}")
    is_done = threading.Event()
    if "ejabberd" in wanted:
        threading.Thread(target=end_ejabberd, args=(box, is_done), daemon=True).start()
    done = box.product("install", *wanted, capture_output=True)
    is_done.set()
    said = {line["installed"]: line for line in map(json.loads, re.findall(r'^{"installed".*}$', done.stdout, re.M))}
    for app in wanted:
        say(f"{app}: {said[app]['seconds']} s {said[app]['why'] or ''}")
    failed = {app: one["why"] for app, one in said.items() if one["why"]}
    good = [app for app in apps if app not in failed]
    baseline = last_json(box.product("diagnose", *good, user=None, capture_output=True).stdout)
    box.stop()
    result = {"installed": good, "failed": failed, "diagnostics": baseline, "seconds": {a: o["seconds"] for a, o in said.items()}}
    note.write_text(json.dumps(result, indent=1))


def end_ejabberd(box, is_done):
    """ejabberd's setup waits five minutes for its server to end on systemd's signal; its own command ends it."""
    while not is_done.wait(10):
        if box.ask("systemctl", "show", "--property=SubState", "--value", "ejabberd").startswith("stop"):
            box.run("ejabberdctl", "stop", check=False, capture_output=True)


def anywhere_installed(version, apps):
    """What is known of a box of a release in which at least these apps are installed."""
    for note in sorted((release.CACHE / "state").glob(f"installed-{version}-*/installed.json")):
        facts = json.loads(note.read_text())
        if set(apps) <= set(facts["installed"]):
            return facts
    able, _ = installable(version, apps)
    return installed(version, able)[1]


def backup(version, apps):
    """The folder with a release's backup of these apps, and maybe of others: `backup.tar.gz`, `borg`, `truth.json`; made
    where there is none."""
    for note in sorted((release.CACHE / "backups" / version).glob("*/truth.json")):
        if set(apps) <= set(json.loads(note.read_text())["truth"]):
            return note.parent
    at = release.CACHE / "backups" / version / release.short(apps)
    with release.alone("backup", version, release.short(apps)):
        if not (at / "truth.json").exists():
            make_backup(version, apps, at)
    return at


def make_backup(version, apps, at):
    """Makes a box with data, its backup, and the truth."""
    able, refused = installable(version, apps)
    shutil.rmtree(at, ignore_errors=True)
    at.mkdir(parents=True)
    before, facts = installed(version, able)
    box = Box.copy(f"source-{version}-{release.short(apps)}", before)
    box.start()
    box.wait_for_setup()
    box.wait_for_service()
    seeded = last_json(box.run("python3", "/opt/tests/data.py", "seed", *facts["installed"], capture_output=True).stdout)
    for app, why in seeded.items():
        if why:
            say(f"{app} got no data: {why}")
    good = [app for app in facts["installed"] if not seeded[app]]
    truth = last_json(box.run("python3", "/opt/tests/data.py", "look", *good, capture_output=True).stdout)
    unasked = {app: answers for app, answers in truth.items() if any(a.startswith("ERROR: ") for a in answers.values())}
    for app, answers in unasked.items():
        say(f"{app} does not answer where its data was made: {answers}")
    good = [app for app in good if app not in unasked]
    checks = last_json(box.product("diagnose", *good, user=None, capture_output=True).stdout)
    box.run("mkdir", "--parents", "--mode=777", "/var/tmp/backup")
    done = box.product("backup", "/var/tmp/backup/backup.tar.gz", *good, capture_output=True)
    say(f"backed up {len(good)} apps of FreedomBox {version}: {last_json(done.stdout)}")
    box.stop()
    shutil.copy(box.root / "var/tmp/backup/backup.tar.gz", at / "backup.tar.gz")
    shutil.copytree(box.root / "var/lib/freedombox/borgbackup", at / "borg")
    box.remove()
    note = {
        "version": version, "package": release.installed_version(version), "truth": {app: truth[app] for app in good},
        "not installed": {**refused, **facts["failed"]}, "not seeded": {a: w for a, w in seeded.items() if w},
        "not answering": unasked, "diagnostics": checks, "admin": ADMIN, "password": PASSWORD,
    }
    (at / "truth.json.new").write_text(json.dumps(note, indent=1, ensure_ascii=False))
    os.replace(at / "truth.json.new", at / "truth.json")


def truth(backup):
    """What lies beside a backup."""
    return json.loads((backup / "truth.json").read_text())
