"""What may happen to a box while it finishes a restore: cut power, no network, packages that are gone, the job again."""

import os
import pathlib
import random
import statistics
import sys
import time

import chain
import judge
import packages
import rescue
import sources
from box import Box, BoxError
from sources import say


def begin(source, onto, apps):
    """A stopped box with the backup restored onto it, and what is known of it."""
    backup, truth, missing = chain.prepare(source, onto, apps)
    box = Box.new("scenario", onto, booted=True)
    plan = rescue.restore(box, backup / "backup.tar.gz")
    return box, truth, missing, plan


def end(box, name, source_onto, plan, truth, expected=()):
    """Judges the apps; ends with 0 where all are as they should be."""
    progress = rescue.progress(box)
    before = chain.baseline(source_onto[1], list(truth["truth"]))
    box.wait_for_service()
    rows = judge.judge(box, truth["truth"], plan, progress, before, source_onto[0])
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
    # Until the timer's next round; what it starts is not started here.
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
    folder = packages.folder(onto)
    index = (folder / "Packages").read_text()
    names = set(packages.own(onto, victim))
    kept = [part for part in index.split("\n\n") if part.split("\n")[0].removeprefix("Package: ") not in names]
    hidden = folder / "Packages.all"
    os.replace(folder / "Packages", hidden)
    try:
        (folder / "Packages").write_text("\n\n".join(kept))
        box, truth, _, plan = begin(source, onto, apps)
        rescue.start(box)
        progress = rescue.wait(box)
        print(f"{victim}: {progress.get(victim)}")
        if not (progress[victim]["stand"] == "not-restored" and progress[victim]["parked"]):
            print("FAIL: it is not said that the app was not restored")
            return 1
        return end(box, f"the package of {victim} is gone", (source, onto), plan, truth, expected=[victim])
    finally:
        os.replace(hidden, folder / "Packages")


def time_five(source, onto, apps, rounds):
    """From the box's start to all apps done, several times."""
    took = []
    for number in range(rounds):
        box, _, _, _ = begin(source, onto, list(apps))
        begun = rescue.start(box)
        rescue.wait(box)
        took.append(time.monotonic() - begun)
        parts = rescue.seconds_of(box)
        print(f"round {number + 1}: {took[-1]:.0f} s from start to all done; {parts}", flush=True)
        box.remove()
    print(f"median of {rounds}: {statistics.median(took):.0f} s for {len(apps)} apps ({', '.join(apps)})")
    return 0


SCENARIOS = {"cut": cut, "offline": offline, "again": again, "gone": gone}
