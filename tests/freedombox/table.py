"""The table of apps and releases, as Markdown and as JSON.

What `APPS.md` has of former runs, whose own tables another machine had, stays until the same app goes through the same
chain again.
"""

import json
import re


def markdown(chain):
    """One chain's table."""
    lines = [
        f"### FreedomBox {chain['from']} → {chain['onto']} ({chain['box']})", "",
        f"{chain['counts']}; {chain['total']} s from start to all apps done.", "",
        "| app | result | seconds | remarks |", "|---|---|---|---|",
    ]
    for row in chain["rows"]:
        why = "; ".join(row["why"]).replace("|", "\\|").replace("\n", " ")
        took = "" if row.get("seconds") is None else row["seconds"]
        lines.append(f"| {row['app']} | {row['result']} | {took} | {why[:300]} |")
    lines.append("")
    return "\n".join(lines)


def counts(rows):
    """How many apps have which result, in words."""
    found = {}
    for row in rows:
        found[row["result"]] = found.get(row["result"], 0) + 1
    return ", ".join(f"{number} {result}" for result, number in sorted(found.items(), key=lambda pair: -pair[1]))


def write(folder, chain):
    """Writes a chain's table beside those of the others."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{chain['from']}-to-{chain['onto']}-{chain['apps']}" + ("" if chain["box"] == "set up" else "-" + chain["box"].replace(" ", "-"))
    (folder / f"{name}.json").write_text(json.dumps(chain, indent=1, ensure_ascii=False) + "\n")
    (folder / f"{name}.md").write_text(markdown(chain))


def read(folder, former=""):
    """The chains that were written to a folder, and those of a `former` table; what groups of apps went through is one
    chain. Of an app that went through one twice, the later run counts."""
    joined = known(former)
    for file in sorted(folder.glob("*.json"), key=lambda file: file.stat().st_mtime):
        join(joined, json.loads(file.read_text()))
    for chain in joined.values():
        came = {row["app"] for row in chain["rows"]}
        for part, apps in chain["source"].items():
            chain["source"][part] = {app: why for app, why in apps.items() if app not in came}
        chain["counts"] = counts(chain["rows"])
    return sorted(joined.values(), key=title)


def join(joined, chain):
    """Adds a run to the chains by their titles."""
    before = joined.setdefault(title(chain), chain)
    if before is not chain:
        came = {row["app"] for row in chain["rows"]}
        before["rows"] = [row for row in before["rows"] if row["app"] not in came] + chain["rows"]
        for part, apps in chain["source"].items():
            before["source"][part].update(apps)


def known(text):
    """The chains of a table that was printed before, by their titles."""
    rows = [[cell.strip() for cell in line.strip("| \n").split("|")] for line in text.splitlines() if line.startswith("| ")]
    if not rows:
        return {}
    heads, found = rows[0][1:], {}
    why = {(app, head): (result, reason) for app, head, result, reason in re.findall(r"^- (\S+), ([^:]*→[^:]*): ([^:]*): (.*)$", text, re.M)}
    for head in heads:
        source, onto, box = re.fullmatch(r"(\S+) → ([^,]+)(?:, (.*))?", head).groups()
        chain = {"from": source, "onto": onto, "box": box or "set up", "rows": [],
                 "source": {part: {} for part in ("not installed", "not seeded", "not answering")}}
        chain["source"]["not installed"] = dict(
            line for line in re.findall(rf"^- (\S+), in FreedomBox {re.escape(source)}: (.*)$", text, re.M))
        found[head] = chain
    for app, *cells in rows[1:]:
        for head, cell in zip(heads, cells):
            result, seconds = re.fullmatch(r"(.*?)(?: \((\d+) s\))?", cell).groups()
            if result != "–":
                reason = why.get((app, head), ("", ""))[1]
                found[head]["rows"].append({
                    "app": app, "result": result, "seconds": int(seconds) if seconds else None, "why": [reason] if reason else []})
    return found


def title(chain):
    """A chain's name in the table of all."""
    return f"{chain['from']} → {chain['onto']}" + ("" if chain["box"] == "set up" else f", {chain['box']}")


HEAD = """# Apps that work again

Printed by `tests/freedombox/prove --table` from the runs that were made. A column is a chain: the backup is made by the
first FreedomBox and restored onto another box with the second one. "works": every question that the app's test asks was
answered as on the first box, and FreedomBox's diagnostics fail nowhere where they do not fail on the first box, or
without data, as well. In brackets, how long the box worked on the app, on a machine that had much other work.
"""


def all_chains(folder, unproven, tested, former=""):
    """The table of all apps and chains, and the reasons for what is not proven; `tested` are the apps with a test,
    `former` is a table of before."""
    chains = read(folder, former)
    if not chains:
        return ""
    names = sorted({row["app"] for chain in chains for row in chain["rows"]})
    heads = [title(chain) for chain in chains]
    lines = [HEAD, "| app | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    notes = []
    for name in names:
        cells = []
        for chain in chains:
            row = next((row for row in chain["rows"] if row["app"] == name), None)
            cells.append(cell(row))
            if row and row["result"] != "works":
                notes.append(f"- {name}, {title(chain)}: {row['result']}: {'; '.join(row['why'])[:300]}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", *(f"{title(chain)}: {chain['counts']}." for chain in chains), "", *times(folder, former)]
    reasons = {f"{name}, in FreedomBox {chain['from']}: {last_words(why)}" for chain in chains for part in ("not installed", "not seeded", "not answering")
               for name, why in chain["source"][part].items()}
    lines += ["Not proven, with the reason:", ""]
    # What one release does not have, another one's backup may hold.
    told = [{name for part in chain["source"].values() for name in part} for chain in chains]
    left = sorted(set(tested) - set(names) - set.intersection(*told))
    lines += [f"- {', '.join(left)}: there is a test, and no run that was finished"] if left else []
    lines += [f"- {name}: {why}" for name, why in sorted(unproven.items())] + [f"- {reason}" for reason in sorted(reasons)]
    return "\n".join([*lines, "", *notes, ""])


def last_words(why):
    """The last line of what FreedomBox said, which may be a whole trace in one line."""
    lines = str(why).replace("\\n", "\n").strip("\n '\")").splitlines()
    return lines[-1].strip() if lines else "nothing"


def times(folder, former):
    """What `prove --time` measured, in words; what the `former` table has of other chains stays."""
    here = [f"--from {file.stem.replace('-to-', ' --onto ')}`" for file in folder.glob("*.time")]
    lines = []
    for line in re.findall("^From a box's start to .*$", former, re.M):
        lines += [] if any(chain in line for chain in here) else [line, ""]
    for file in sorted(folder.glob("*.time")):
        time = json.loads(file.read_text())
        rounds = ", ".join(f"{one['seconds']} s at load {one['load']}" for one in time["rounds"])
        lines += [f"From a box's start to {len(time['apps'])} apps done ({', '.join(time['apps'])}; `prove --time --from "
                  f"{time['from']} --onto {time['onto']}`): median {time['median']} s ({rounds}; {time['processors']} processors; {time['date']}).", ""]
    return lines


def cell(row):
    """One app in one chain."""
    if row is None:
        return "–"
    took = f" ({row['seconds']} s)" if row.get("seconds") is not None else ""
    return row["result"] + took
