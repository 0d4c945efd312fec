"""From the disk of an old box onto a new one: its apps, with databases that were never dumped, and what no backup holds."""

import contextlib
import json
import pathlib
import sqlite3

import chain
import judge
import rescue
import sources
from box import ADMIN, PASSWORD, Box, last_json
from sources import say

# Databases in PostgreSQL and MariaDB, where no other apps are named.
APPS = ["miniflux", "wordpress"]
# Downloads, and a share: that is in no backup.
TRANSMISSION, SAMBA = "transmission", "samba"
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
# Files that people and apps left there: what is in them, and who owns them on the old box.
FILES = {
    "home/alice/letters/to Zoë.txt": ("Dear Zoë\n", "alice:users"),
    "home/alice/.profile": ("# changed on the old box\n", "alice:users"),
    "srv/music/song.ogg": ("a song\n", "root:root"),
    "var/lib/freedombox/shares/group/plan.txt": ("the plan\n", "alice:freedombox-share"),
    "var/lib/transmission-daemon/downloads/debian.iso": ("an image\n", "debian-transmission:debian-transmission"),
}
# What the new box has in the same place, and keeps.
HAD = {"srv/music/other.ogg": "another song\n", "srv/music/song.ogg": "the new box's own song\n"}
BESIDE = "srv/music/song.ogg.from-old-box"

# What Samba has of her password.
SAMBA_PASSWORD = ("from samba.samba3 import param, passdb; param.get_context().load('/etc/samba/smb.conf');"
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


def owner_of(box, path):
    """Who owns a file, by the names of the running box."""
    return box.ask("stat", "--format=%U:%G", f"/{path}")


def make_old(source, apps):
    """A stopped box in use, whose power was cut and which never made a backup; with what its apps answered, and what
    Samba has of a password."""
    before, facts = sources.installed(source, sources.installable(source, sorted({*apps, SAMBA, TRANSMISSION}))[0])
    old = Box.copy(f"move-old-{source}", before)
    old.start()
    old.wait_for_setup()
    old.wait_for_service()
    seeded = last_json(old.run("python3", "/opt/tests/data.py", "seed", *facts["installed"], capture_output=True).stdout)
    if any(seeded.values()):
        say(f"no data: {seeded}")
    old.product("person", "alice", "Words-of-Alice-1", ADMIN, PASSWORD, capture_output=True)
    for path, (text, who) in FILES.items():
        script = 'mkdir --parents "$(dirname "$1")"; printf %s "$2" >"$1"; chown --recursive "$3" "$(dirname "$1")"; chmod 640 "$1"'
        old.run("sh", "-ec", script, "sh", f"/{path}", text, who)
    old.run("chown", "alice:users", "/home/alice")
    restored = [app for app in facts["installed"] if app != SAMBA]
    truth = judge.look(old, restored)
    checks = judge.diagnose(old, restored)
    samba = old.ask("python3", "-c", SAMBA_PASSWORD)
    # What was stored last is on the disk; where the servers' files stand at that moment, they find out by their logs.
    old.run("sync")
    old.kill()
    for dump in (old.root / "var/lib/plinth/backups-data").glob("*-database.sql"):
        dump.unlink()
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
    return old, {"truth": truth, "version": source, "diagnostics": checks}, samba


def move(source, onto, apps, _seed):
    """From an old box's disk onto a new one: apps without dumps, people with their passwords and files, names, networks,
    backup locations. Then all of it is undone on the running box."""
    old, facts, samba = make_old(source, apps or APPS)
    box = Box.new(f"move-new-{source}-{onto}", onto, booted=True)
    sources.installable(onto, [*facts["truth"], SAMBA])
    for path, text in HAD.items():
        (box.root / path).parent.mkdir(parents=True, exist_ok=True)
        (box.root / path).write_text(text)
    words = ["--from", old.root, "--onto", box.root, "--extras", "accounts,names,networks,backup-locations,folders"]
    plan = rescue.lifeboat("plan", *words, box=box)
    print("extras:", {one["extra"]: one["names"] for one in plan["extras"]})
    print("databases:", [step["destination"] for step in plan["steps"] if step["app"] == "databases"])
    rescue.lifeboat("restore", *words, "--consent", plan["id"], box=box)
    waiting = [box.root / f"var/lib/lifeboat/{one['extra']}.json" for one in plan["extras"]]
    rescue.start(box)
    progress = rescue.wait(box)
    box.wait(lambda: not any(path.exists() for path in waiting) and rescue.is_idle(box), 1500, "bring everything over", pause=3)
    box.wait_for_service()
    rows = judge.judge(box, facts, plan, progress, chain.baseline(onto))
    for row in rows:
        print(f"{row['app']}: {row['result']} {'; '.join(row['why'])}")
    held = [(f"{row['app']} works with what it held", row["result"] == "works") for row in rows]
    held += [*extras(box, onto, samba), *folders(box)]
    print(rescue.report(box))
    held += undone(box)
    for name, holds in held:
        print(f"{'ok    ' if holds else 'BROKEN'} {name}")
    good = all(holds for _, holds in held)
    box.stop()
    if good:
        box.remove()
        old.remove()
    print(f"{'PASS' if good else 'FAIL'}: an old box's disk, from {source} onto {onto}")
    return 0 if good else 1


def extras(box, onto, samba):
    """What no backup holds, on the new box."""
    connections = dict(
        line.rsplit(":", 1) for line in box.ask("nmcli", "--terse", "--fields", "NAME,AUTOCONNECT", "connection").splitlines()
    )
    ldap = ["ldapwhoami", "-x", "-D", "uid=alice,ou=users,dc=thisbox", "-w", "Words-of-Alice-1", "-H", "ldap://localhost"]
    return [
        ("alice logs in with her password", "alice" in box.ask(*ldap)),
        ("she is in her group", "admin" in box.ask("id", "--name", "--groups", "alice").split()),
        ("her password for Samba came", samba and samba == box.ask("python3", "-c", SAMBA_PASSWORD)),
        ("the box has the old name", box.ask("hostnamectl", "hostname", "--static") == "oldbox"),
        ("FreedomBox has the domain", kept(box, "domains") == ["example.org"] or onto == "23.6.2"),
        ("the network of the same name came switched off", connections.get("FreedomBox WAN (old box)") == "no"),
        ("the box's own network stays as it is", connections.get("FreedomBox WAN") == "yes"),
        ("the Wi-Fi may connect", connections.get("Home") == "yes"),
        ("FreedomBox has the backup location", (kept(box, "network_storage") or {}).get("old-one") == LOCATIONS["old-one"]),
        ("who was here logs in", ADMIN in box.ask("id", "--name", "--user", ADMIN)),
    ]


def folders(box):
    """The files of people and apps on the new box: whole, with their owners, and nothing replaced."""
    held = []
    for path, (text, who) in FILES.items():
        place = BESIDE if path in HAD else path
        held.append((f"/{place} came", content(box, place) == text))
        held.append((f"its owner is {who}: {owner_of(box, place)}", owner_of(box, place) == who))
    held += [(f"/{path} is as it was", content(box, path) == text) for path, text in HAD.items()]
    return held


def undone(box):
    """Undoes all of it on the running box, after alice went on with one of her letters."""
    changed = next(iter(FILES))
    before = content(box, changed)
    box.run("sh", "-c", f"printf more >>'/{changed}'")
    done = box.run(rescue.ON_BOX, "undo", "--onto", "/", "--plain", check=False, capture_output=True)
    print(f"undo ended with {done.returncode}: {done.stdout}{done.stderr}")
    box.wait_for_service()
    # Her folder came as a whole, so that all of it stays.
    home = str(pathlib.PurePath(changed).parents[1])
    stays = [path for path in FILES if path.startswith(f"{home}/")]
    gone = [BESIDE if path in HAD else path for path in FILES if path not in stays]
    return [
        # 19: rolled back.
        ("undo ended well", done.returncode in (0, 19)),
        *[(f"/{path} is gone", not (box.root / path).exists()) for path in gone],
        *[(f"/{path} is as it was", content(box, path) == text) for path, text in HAD.items()],
        ("what was changed since stays", content(box, changed) == f"{before}more"),
        ("and all that came with it", all((box.root / path).exists() for path in stays)),
        ("which is named", f"/{home}" in done.stdout + done.stderr),
        ("her account stays", "alice" in box.ask("id", "--name", "--user", "alice")),
    ]


def content(box, path):
    """What is in a file."""
    try:
        return (box.root / path).read_text()
    except OSError as error:
        return f"{error}"
