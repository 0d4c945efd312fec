"""What may happen to a box while it finishes a restore: cut power, no network, packages that are gone, the job again."""

import contextlib
import json
import os
import random
import shutil
import sqlite3
import statistics
import time

import chain
import judge
import packages
import rescue
import sources
from box import ADMIN, PASSWORD, Box
from sources import say


def begin(source, onto, apps):
    """A stopped box with the backup restored onto it, and what is known of it."""
    # A part of a backup that is there needs no other one.
    whole = sources.SMALL if set(apps) <= set(sources.SMALL) else apps
    backup, truth, missing = chain.prepare(source, onto, list(whole))
    truth["truth"] = {app: answers for app, answers in truth["truth"].items() if app in apps}
    box = Box.new(f"scenario-{os.getpid()}", onto, booted=True)
    plan = rescue.restore(box, backup / "backup.tar.gz", apps)
    return box, truth, missing, plan


def end(box, name, source_onto, plan, truth, expected=()):
    """Judges the apps; ends with 0 where all are as they should be."""
    progress = rescue.progress(box)
    box.wait_for_service()
    rows = judge.judge(box, truth, plan, progress, chain.baseline(source_onto[1]))
    bad = [row for row in rows if row["result"] != ("not restored" if row["app"] in expected else "works")]
    for row in rows:
        print(f"{row['app']}: {row['result']} {'; '.join(row['why'])}")
    audit = box.ask("dpkg", "--audit")
    service = box.ask("systemctl", "is-active", "plinth")
    print(f"plinth.service: {service}; half-installed packages: {audit or 'none'}")
    print(rescue.report(box))
    good = not bad and service == "active" and not audit
    box.stop()
    if good:
        box.remove()
    print(f"{'PASS' if good else 'FAIL'}: {name}")
    return 0 if good else 1


def cut(source, onto, apps, seed):
    """The power is cut three times at random moments of the work, then the box is left alone."""
    chance = random.Random(seed)
    box, truth, _, plan = begin(source, onto, apps)
    for number in range(3):
        rescue.start(box)
        box.wait(lambda: box.ask("systemctl", "is-active", rescue.UNIT) == "activating", 600, "begin to finish", pause=0.5)
        # FreedomBox's own start is over: from here on the job works.
        box.wait(lambda: is_working(box) or not waits(box), 900, "work on an app", pause=0.5)
        if not waits(box):
            say(f"all was done before the power was cut for the {number + 1}. time")
            break
        moment = chance.uniform(0, 25)
        time.sleep(moment)
        last = box.ask("journalctl", "--no-pager", "--output=cat", f"--unit={rescue.UNIT}", "--lines=1")
        box.kill()
        say(f"cut the power {moment:.1f} s into the work, at: {last}")
    rescue.start(box)
    rescue.wait(box)
    return end(box, "three power cuts, then all is restored", (source, onto), plan, truth)


def is_working(box):
    """Whether FreedomBox's service was stopped for the work."""
    return box.ask("systemctl", "is-active", "plinth") in ("inactive", "deactivating")


def waits(box):
    """Whether any app still waits."""
    return any(app["stand"] == "waiting" for app in rescue.progress(box).values())


def offline(source, onto, apps, _seed):
    """Without a network the apps that need packages wait; they go on by themselves when it is there."""
    box, truth, _, plan = begin(source, onto, apps)
    rescue.start(box, offline=True)
    box.wait(lambda: rescue.report(box) and rescue.is_idle(box), 900, "try without a network", pause=3)
    first = rescue.progress(box)
    for name, app in first.items():
        print(f"without a network: {name}: {app['stand']} {app['why'] or ''}")
    box.wait_for_service()
    note = rescue.notification(box)
    print("FreedomBox shows:", note and note["title"], "|", note and note["message"])
    if not any(app["stand"] == "waiting" for app in first.values()):
        print("FAIL: nothing waits, though no package can be reached")
        return 1
    box.online()
    begun = time.monotonic()
    # Without udev, NetworkManager manages no interface in a container: its script is called here as it does that. The
    # timer's next round is a quarter of an hour away.
    for words in (["link", "add", "uplink", "type", "veth", "peer", "name", "router"],
                  ["address", "add", "10.77.0.1/24", "dev", "uplink"], ["link", "set", "router", "up"],
                  ["link", "set", "uplink", "up"]):
        box.run("ip", *words)
    box.run("/etc/NetworkManager/dispatcher.d/90-lifeboat", "uplink", "up")
    box.wait(lambda: not rescue.is_idle(box) or not waits(box), 60, "go on when the network came", pause=0.5)
    print(f"began {time.monotonic() - begun:.0f} s after the network came")
    rescue.wait(box, seconds=1500)
    print(f"went on by itself; all done {time.monotonic() - begun:.0f} s after the network came")
    return end(box, "offline first, then online", (source, onto), plan, truth)


def again(source, onto, apps, _seed):
    """The same job three times has the same result, and the second and third do nothing."""
    box, truth, _, plan = begin(source, onto, apps)
    rescue.start(box)
    rescue.wait(box)
    seen = []
    for _ in range(2):
        box.wait_for_service()
        before = box.ask("systemctl", "show", "--property=ActiveEnterTimestampMonotonic", "plinth")
        begun = time.monotonic()
        done = box.run(rescue.ON_BOX, "finish", "--onto", "/", "--plain", check=False, capture_output=True)
        took = time.monotonic() - begun
        is_same = before == box.ask("systemctl", "show", "--property=ActiveEnterTimestampMonotonic", "plinth")
        print(f"again: ended with {done.returncode} after {took:.1f} s, plinth.service {'kept running' if is_same else 'was restarted'}")
        seen.append(done.returncode == 0 and is_same)
    if not all(seen):
        print("FAIL: the job did something again")
        return 1
    return end(box, "the same job three times", (source, onto), plan, truth)


def gone(source, onto, apps, _seed):
    """An app whose package is gone from the suite stops only itself, stays parked, and that is said."""
    victim = next(app for app in apps if app not in sources.ESSENTIAL and packages.own(onto, app))
    names = set(packages.own(onto, victim))
    box, truth, _, plan = begin(source, onto, apps)
    # Of its own: other boxes may use the release's at the same time.
    box.source = box.folder / "packages"
    shutil.copytree(packages.folder(onto), box.source, copy_function=os.link)
    index = (box.source / "Packages").read_text()
    kept = [part for part in index.split("\n\n") if part.split("\n")[0].removeprefix("Package: ") not in names]
    (box.source / "Packages").unlink()
    (box.source / "Packages").write_text("\n\n".join(kept))
    rescue.start(box)
    progress = rescue.wait(box)
    print(f"{victim}: {progress.get(victim)}")
    if not (progress[victim]["stand"] == "not-restored" and progress[victim]["parked"]):
        print("FAIL: it is not said that the app was not restored")
        return 1
    return end(box, f"the package of {victim} is gone", (source, onto), plan, truth, expected=[victim])


# What the owner did after the backup: commands in the box, by app.
SINCE = {
    "miniflux": ["runuser", "-u", "postgres", "--", "psql", "--quiet", "miniflux", "--command",
                 "update categories set title = 'Changed since' where title = 'News'"],
    "wordpress": ["mysql", "wordpress_fbx", "--execute", "update wp_posts set post_content = 'Changed since'"],
    "radicale": ["sed", "-i", "s/SUMMARY:.*/SUMMARY:Changed since/",
                 f"/var/lib/radicale/collections/collection-root/{ADMIN}/family/dentist.ics"],
    "minetest": ["bash", "-ec", "shopt -s nullglob globstar dotglob; for mark in /var/lib/private/luanti/**/marker.txt "
                 "/var/games/minetest-server/**/marker.txt; do echo 'changed since' >$mark; done"],
    "samba": ["net", "conf", "delshare", "family-test"],
    "tiddlywiki": ["sed", "-i", "s/4711/4711, changed since/", "/var/lib/tiddlywiki/Notes de Zoë.html"],
}


def undo(source, onto, apps, _seed):
    """A restore over apps in use is finished, then undone on the running box: they answer as before it, databases too."""
    backup, truth, _ = chain.prepare(source, onto, apps)
    before, facts = sources.installed(onto, sources.installable(onto, apps)[0])
    box = Box.copy("scenario-undo", before)
    box.start()
    box.wait_for_setup()
    box.wait_for_service()
    box.run("python3", "/opt/tests/data.py", "seed", *facts["installed"], capture_output=True)
    for app in (app for app in apps if app in SINCE):
        box.run(*SINCE[app], capture_output=True)
    box.run("systemctl", "restart", "radicale", check=False, capture_output=True)
    had = judge.look(box, facts["installed"])
    box.stop()
    plan = rescue.restore(box, backup / "backup.tar.gz", apps)
    rescue.start(box)
    rescue.wait(box)
    box.wait_for_service()
    restored = judge.look(box, facts["installed"])
    bad = {app: judge.differences(truth["truth"][app], restored[app]) for app in truth["truth"]}
    changed = [app for app in apps if app in SINCE and had[app] != restored[app]]
    print(f"restored: {'as in the backup' if not any(bad.values()) else bad}; others than before: {', '.join(changed)}")
    done = box.run(rescue.ON_BOX, "undo", "--onto", "/", "--plain", check=False, capture_output=True)
    print(f"undo ended with {done.returncode}: {done.stdout}{done.stderr}")
    box.wait_for_service()
    now = judge.look(box, facts["installed"])
    wrong = {app: judge.differences(had[app], now[app]) for app in had if had[app] != now[app]}
    for app in had:
        print(f"{app}: {plan_road(plan, app)}: {'as before the restore' if app not in wrong else wrong[app]}")
    audit = box.ask("dpkg", "--audit")
    good = not any(bad.values()) and len(changed) == len([app for app in apps if app in SINCE]) and not wrong and not audit
    # 19: rolled back.
    good = good and done.returncode in (0, 19)
    box.stop()
    if good:
        box.remove()
    print(f"{'PASS' if good else 'FAIL'}: undone on the running box")
    return 0 if good else 1


def plan_road(plan, app):
    """How the plan restores an app."""
    return next((one["road"] for one in plan["apps"] if one["name"] == app), "none")


def time_five(source, onto, apps, rounds, folder):
    """From the box's start to all apps done, several times; the median is kept beside the tables in `folder`."""
    found = []
    for number in range(rounds):
        box, _, _, _ = begin(source, onto, list(apps))
        begun = rescue.start(box)
        stands = {app: one["stand"] for app, one in rescue.wait(box).items()}
        took = round(time.monotonic() - begun)
        if any(stands.get(app) != "finished" for app in apps):
            print(f"FAIL: not all apps are done: {stands}; look at the box {box.name}")
            box.stop()
            return 1
        found.append({"seconds": took, "load": round(os.getloadavg()[1], 1), "apps": rescue.seconds_of(box)})
        print(f"round {number + 1}: {took} s from start to all done; {found[-1]}", flush=True)
        box.remove()
    median = round(statistics.median(one["seconds"] for one in found))
    facts = {"from": source, "onto": onto, "apps": list(apps), "median": median, "rounds": found, "processors": os.cpu_count()}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{source}-to-{onto}.time").write_text(json.dumps(facts, indent=1) + "\n")
    print(f"median of {rounds}: {median} s for {len(apps)} apps ({', '.join(apps)})")
    return 0


# A network of the old box, which every box has one of by the same name, and one that it joined.
NETWORKS = {
    "wan.nmconnection": "[connection]\nid=FreedomBox WAN\nuuid=0a0a0a0a-0000-4000-8000-000000000001\ntype=ethernet\n"
                        "interface-name=eth9\n\n[ipv4]\naddress1=10.9.8.7/24\nmethod=manual\n",
    "home.nmconnection": "[connection]\nid=Home\nuuid=0a0a0a0a-0000-4000-8000-000000000002\ntype=wifi\n\n[wifi]\n"
                         "ssid=Home\n\n[wifi-security]\nkey-mgmt=wpa-psk\npsk=of-the-neighbours\n",
}
LOCATIONS = {"old-one": {"uuid": "old-one", "path": "/media/USB/FreedomBoxBackups", "storage_type": "disk",
                         "added_by_module": "backups", "credentials": {"encryption_passphrase": "words of the old box"},
                         "schedule": {"enabled": True, "daily_to_keep": 5, "weekly_to_keep": 3, "monthly_to_keep": 3,
                                      "run_at_hour": 2, "unselected_apps": []}}}


# What Samba has of her password.
SAMBA = ("from samba.samba3 import param, passdb; param.get_context().load('/etc/samba/smb.conf');"
         "print(passdb.PDB('tdbsam').getsampwnam('alice').nt_passwd.hex())")


def keep(root, key, value):
    """Puts a value into the store of a stopped box, as FreedomBox keeps such: JSON inside of JSON."""
    with contextlib.closing(sqlite3.connect(root / "var/lib/plinth/plinth.sqlite3")) as database:
        tables = {row[0] for row in database.execute("select name from sqlite_master")}
        store = next(name for name in ("freedombox_kvstore", "plinth_kvstore") if name in tables)
        database.execute(f"insert or replace into {store} (key, value_json) values (?, ?)", (key, json.dumps(json.dumps(value))))
        database.commit()


def kept(box, key):
    """A value of a running box's store."""
    query = ("import json, sqlite3; d = sqlite3.connect('/var/lib/plinth/plinth.sqlite3');"
             "t = {r[0] for r in d.execute('select name from sqlite_master')};"
             "s = next(n for n in ('freedombox_kvstore', 'plinth_kvstore') if n in t);"
             f"r = d.execute('select value_json from ' + s + ' where key = ?', ('{key}',)).fetchone();"
             "print(json.loads(r[0]) if r else 'null')")
    return json.loads(box.ask("python3", "-c", query) or "null")


def move(source, onto, _apps, _seed):
    """From an old box's disk onto a new one: people with their passwords, names, networks, backup locations."""
    old, box = Box.new("scenario-old", source, booted=True), Box.new("scenario-move", onto, booted=True)
    old.start()
    old.wait_for_service()
    old.product("person", "alice", "Words-of-Alice-1", ADMIN, PASSWORD, capture_output=True)
    samba = old.ask("python3", "-c", SAMBA)
    old.stop()
    for name, text in NETWORKS.items():
        place = old.root / "etc/NetworkManager/system-connections" / name
        place.write_text(text)
        place.chmod(0o600)
    (old.root / "etc/hostname").write_text("oldbox\n")
    keep(old.root, "network_storage", LOCATIONS)
    if source == "23.6.2":
        (old.root / "etc/hosts").write_text("127.0.0.1 localhost\n127.0.1.1 oldbox.example.org oldbox\n")
    else:
        keep(old.root, "domains", ["example.org"])
    words = ["--from", old.root, "--onto", box.root, "--extras", "accounts,names,networks,backup-locations"]
    plan = rescue.lifeboat("plan", *words)
    print("extras:", {one["extra"]: one["names"] for one in plan["extras"]})
    rescue.lifeboat("restore", *words, "--consent", plan["id"])
    waiting = [box.root / f"var/lib/lifeboat/{one['extra']}.json" for one in plan["extras"]]
    rescue.start(box)
    box.wait(lambda: not any(path.exists() for path in waiting) and rescue.is_idle(box), 1500, "bring everything over", pause=3)
    box.wait_for_service()
    connections = dict(
        line.rsplit(":", 1) for line in box.ask("nmcli", "--terse", "--fields", "NAME,AUTOCONNECT", "connection").splitlines()
    )
    ldap = ["ldapwhoami", "-x", "-D", "uid=alice,ou=users,dc=thisbox", "-w", "Words-of-Alice-1", "-H", "ldap://localhost"]
    held = [
        ("alice logs in with her password", "alice" in box.ask(*ldap)),
        ("she is in her group", "admin" in box.ask("id", "--name", "--groups", "alice").split()),
        ("her password for Samba came", samba and samba == box.ask("python3", "-c", SAMBA)),
        ("the box has the old name", box.ask("hostnamectl", "hostname", "--static") == "oldbox"),
        ("FreedomBox has the domain", kept(box, "domains") == ["example.org"] or onto == "23.6.2"),
        ("the network of the same name came switched off", connections.get("FreedomBox WAN (old box)") == "no"),
        ("the box's own network stays as it is", connections.get("FreedomBox WAN") == "yes"),
        ("the Wi-Fi may connect", connections.get("Home") == "yes"),
        ("FreedomBox has the backup location", (kept(box, "network_storage") or {}).get("old-one") == LOCATIONS["old-one"]),
        ("who was here logs in", ADMIN in box.ask("id", "--name", "--user", ADMIN)),
    ]
    for name, holds in held:
        print(f"{'ok    ' if holds else 'BROKEN'} {name}")
    print(rescue.report(box))
    good = all(holds for _, holds in held)
    box.stop()
    if good:
        box.remove()
        old.remove()
    print(f"{'PASS' if good else 'FAIL'}: what no backup holds, from {source} onto {onto}")
    return 0 if good else 1


SCENARIOS = {"cut": cut, "offline": offline, "again": again, "gone": gone, "undo": undo, "move": move}
