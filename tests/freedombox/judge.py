"""Whether an app works again: its answers are those of the box that the backup was made of, and nothing is newly broken.

The result of an app: `works`, `differs` (an answer is another), `broken` (no answer, or FreedomBox's diagnostics say so),
`not restored` (and said to be), `no data` (FreedomBox's backup of it is empty), `silent` (not restored, and called
finished).
"""

import re
from concurrent.futures import ThreadPoolExecutor

from box import last_json

# Asked at the same time: most of it is waiting for answers.
AT_ONCE = 3


def look(box, apps):
    """What the apps answer now."""
    return in_parts(lambda part: box.run("python3", "/opt/tests/data.py", "look", *part, capture_output=True), box, apps)


def diagnose(box, apps):
    """FreedomBox's failed checks, by app."""
    return in_parts(lambda part: box.product("diagnose", *part, user=None, capture_output=True), box, apps)


def in_parts(ask, box, apps):
    """What a program in the box says of apps, asked for some of them at a time."""
    number = AT_ONCE if box.can_do_more else 1
    parts = [part for part in (list(apps)[first::number] for first in range(number)) if part]
    with ThreadPoolExecutor(number) as pool:
        said = list(pool.map(lambda part: last_json(ask(part).stdout), parts))
    return {app: answer for answers in said for app, answer in answers.items()}


def judge(box, facts, plan, progress, baseline):
    """A row for each app of the truth; `facts` are what lies beside the backup.

    `baseline` tells FreedomBox's failed checks of apps that were just installed; only asked where a check fails here and
    did not on the first box.
    """
    truth, source, failed_first = facts["truth"], facts["version"], facts["diagnostics"]
    roads = {app["name"]: app for app in plan["apps"]}
    given_up = {name: app["why"] for name, app in progress.items() if app["stand"] == "not-restored"}
    blocked = {name: reason_of(app) for name, app in roads.items() if app["road"] not in ("in-place", "parked")}
    asked = [name for name in truth if name in roads and name not in given_up and name not in blocked]
    now = look(box, asked)
    checks = diagnose(box, asked)
    fresh = {name: [check for check in checks.get(name, []) if not was_failing(check, failed_first.get(name, []))] for name in asked}
    failing = [name for name in asked if fresh[name]]
    known = baseline(failing) if failing else {}
    rows = []
    for name in sorted(truth):
        row = {"app": name, "road": roads[name]["road"] if name in roads else "none", "why": []}
        if name in asked:
            left_out = LEFT_OUT.get((source, name), [])
            row["why"] = differences({q: a for q, a in truth[name].items() if q not in left_out}, now[name])
            errors = any(answer.startswith("ERROR: ") for answer in now[name].values())
            new = sorted(set(fresh[name]) - set(known.get(name, [])))
            row["why"] += [f"diagnostics: {check}" for check in new]
            row["result"] = "broken" if errors or new else "differs" if row["why"] else "works"
            row["why"] += [f"FreedomBox {source} has no {', no '.join(left_out)} of it in its backup"] if left_out else []
        else:
            why = given_up.get(name) or blocked.get(name)
            row["result"] = "no data" if why == "no-data" else "not restored" if why else "silent"
            row["why"] = [f"FreedomBox {source} backs nothing of it up" if why == "no-data" else why or "the plan does not name it"]
        rows.append(row)
    return rows


def was_failing(check, first):
    """Whether a check failed on the first box as well. Releases name one check differently; what asks the same domain of
    the tests, which no box reaches, is the same check."""
    domains = set(DOMAIN.findall(check))
    return check in first or any(domains & set(DOMAIN.findall(other)) for other in first)


DOMAIN = re.compile(r"[a-z0-9.-]+\.example\.org")


# What a release's own backup of an app leaves out, by release and app: the questions that ask for it.
LEFT_OUT = {("25.9.3", "minetest"): ["players", "world"], ("25.9.3", "mumble"): ["channel"]}


def reason_of(app):
    """What the plan says of an app that it leaves out."""
    return str(app.get("reason") or app.get("why") or app["road"])


def differences(before, now):
    """The answers that are others than before."""
    return [f"{question}: {now.get(question, now.get('app', 'no answer'))!r}, was {answer!r}"
            for question, answer in before.items() if now.get(question) != answer]
