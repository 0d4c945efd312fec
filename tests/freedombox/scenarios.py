"""What may happen to a box while it finishes a restore: cut power, no network, packages that are gone, the job again."""

import json
import os
import random
import shutil
import statistics
import time

import chain
import judge
import moving
import packages
import rescue
import sources
from box import ADMIN, Box
from sources import say


def prepare(source, onto, apps):
    """A backup with these apps, their truth, and what the other release cannot install of them."""
    # A part of a backup that is there needs no other one.
    whole = sources.SMALL if set(apps) <= set(sources.SMALL) else apps
    backup, truth, missing = chain.prepare(source, onto, list(whole))
    truth["truth"] = {app: answers for app, answers in truth["truth"].items() if app in apps}
    return backup, truth, missing


def begin(source, onto, apps):
    """A stopped box with the backup restored onto it, and what is known of it."""
    backup, truth, missing = prepare(source, onto, apps)
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
    backup, truth, _ = prepare(source, onto, apps)
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
    facts = {"from": source, "onto": onto, "apps": list(apps), "median": median, "rounds": found, "processors": os.cpu_count(),
             "date": time.strftime("%d %B %Y").lstrip("0")}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{source}-to-{onto}.time").write_text(json.dumps(facts, indent=1) + "\n")
    print(f"median of {rounds}: {median} s for {len(apps)} apps ({', '.join(apps)})")
    return 0


SCENARIOS = {"cut": cut, "offline": offline, "again": again, "gone": gone, "undo": undo, "move": moving.move}
