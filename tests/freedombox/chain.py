"""One chain: a release's backup onto a fresh box of another release, and what became of each app."""

import time

import judge
import release
import rescue
import sources
from box import ADMIN, PASSWORD, Box
from sources import say


def prepare(source, onto, apps):
    """The backup, its truth, what the fresh apps of the other release say of themselves, and its missing apps."""
    wanted = apps or sources.tested()["apps"]
    backup = sources.backup(source, wanted)
    truth = sources.truth(backup)
    # Whether only a part of the backup is asked for.
    truth["in part"] = bool(set(truth["truth"]) - set(wanted))
    truth["truth"] = {app: answers for app, answers in truth["truth"].items() if app in wanted}
    _, missing = sources.installable(onto, list(truth["truth"]))
    return backup, truth, missing


def baseline(onto):
    """Tells FreedomBox's failed checks of apps on a box where they were just installed, before any data."""

    def ask(apps):
        say(f"FreedomBox's checks fail for {', '.join(apps)}; looking whether they do without data")
        return sources.anywhere_installed(onto, apps)["diagnostics"]

    return ask


def prove(source, onto, apps=(), is_new=False, from_borg=False):
    """Runs a chain; returns what to print of it."""
    backup, truth, missing = prepare(source, onto, list(apps))
    box = Box.new(f"onto-{onto}-{release.short([source, *apps])}", onto, booted=not is_new)
    say(f"restoring the backup of FreedomBox {source} onto a box with {onto}")
    begun = time.monotonic()
    plan = rescue.restore(box, backup / ("borg" if from_borg else "backup.tar.gz"), list(truth["truth"]) if truth["in part"] else ())
    offline = round(time.monotonic() - begun)
    begun = rescue.start(box)
    return await_and_judge(box, source, onto, apps, truth, missing, plan, is_new, offline, begun)


def await_and_judge(box, source, onto, apps, truth, missing, plan, is_new, offline, begun):
    """What becomes of the apps on a box that was started at `begun`, after a restore that took `offline` seconds."""
    progress = rescue.wait(box)
    total = round(time.monotonic() - begun)
    took = rescue.seconds_of(box)
    say(f"all apps are done after {total} s: {took}")
    box.wait_for_service()
    if is_new:
        box.product("first-boot", ADMIN, PASSWORD, capture_output=True)
    rows = judge.judge(box, truth, plan, progress, baseline(onto))
    for row in rows:
        row["seconds"] = took.get(row["app"])
        row["as expected"] = row["result"] in ("works", "no data") or (row["result"] == "not restored" and row["app"] in missing)
    from table import counts

    found = {
        "from": source, "onto": onto, "apps": release.short(apps), "box": "never started" if is_new else "set up", "restoring": offline,
        "total": total, "rows": rows, "counts": counts(rows), "report": rescue.report(box),
        "notification": rescue.notification(box), "missing": missing, "source": {
            part: truth[part] for part in ("not installed", "not seeded", "not answering")},
        "good": all(row["as expected"] for row in rows),
    }
    # What went wrong is looked at on the box itself.
    box.stop()
    if found["good"]:
        box.remove()
    return found


def unproven():
    """Apps with data that no chain can have, and why."""
    return sources.tested()["unproven"]


def table(folder):
    """The table of all chains that ran, here and before."""
    from table import all_chains

    return all_chains(folder, unproven(), sources.tested()["apps"], (release.HERE / "APPS.md").read_text())
