"""The table of apps and releases, as Markdown and as JSON."""

import json



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


def read(folder):
    """The chains that were written to a folder; what groups of apps went through is one chain. Of an app that went
    through one twice, the later run counts."""
    joined = {}
    for file in sorted(folder.glob("*.json"), key=lambda file: file.stat().st_mtime):
        chain = json.loads(file.read_text())
        known = joined.setdefault(title(chain), chain)
        if known is not chain:
            came = {row["app"] for row in chain["rows"]}
            known["rows"] = [row for row in known["rows"] if row["app"] not in came] + chain["rows"]
            for part, apps in chain["source"].items():
                known["source"][part].update(apps)
    for chain in joined.values():
        came = {row["app"] for row in chain["rows"]}
        for part, apps in chain["source"].items():
            chain["source"][part] = {app: why for app, why in apps.items() if app not in came}
        chain["counts"] = counts(chain["rows"])
    return sorted(joined.values(), key=title)


def title(chain):
    """A chain's name in the table of all."""
    return f"{chain['from']} → {chain['onto']}" + ("" if chain["box"] == "set up" else f", {chain['box']}")


HEAD = """# Apps that work again

Printed by `tests/freedombox/prove --table` from the runs that were made. A column is a chain: the backup is made by the
first FreedomBox and restored onto another box with the second one. "works": every question that the app's test asks was
answered as on the first box, and FreedomBox's diagnostics fail nowhere where they do not fail on the first box, or
without data, as well. In brackets, how long the box worked on the app, on a machine that had much other work.
"""


def all_chains(folder, unproven, tested):
    """The table of all apps and chains, and the reasons for what is not proven; `tested` are the apps with a test."""
    chains = read(folder)
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
    lines += ["", *(f"{title(chain)}: {chain['counts']}." for chain in chains), "", *times(folder)]
    reasons = {f"{name}, in FreedomBox {chain['from']}: {last_words(why)}" for chain in chains for part in ("not installed", "not seeded", "not answering")
               for name, why in chain["source"][part].items()}
    lines += ["Not proven, with the reason:", ""]
    told = {*names, *(name for chain in chains for part in chain["source"].values() for name in part)}
    left = sorted(set(tested) - told)
    lines += [f"- {', '.join(left)}: there is a test, and no run that was finished"] if left else []
    lines += [f"- {name}: {why}" for name, why in sorted(unproven.items())] + [f"- {reason}" for reason in sorted(reasons)]
    return "\n".join([*lines, "", *notes, ""])


def last_words(why):
    """The last line of what FreedomBox said, which may be a whole trace in one line."""
    lines = str(why).replace("\\n", "\n").strip("\n '\")").splitlines()
    return lines[-1].strip() if lines else "nothing"


def times(folder):
    """What `prove --time` measured, in words."""
    lines = []
    for file in sorted(folder.glob("*.time")):
        time = json.loads(file.read_text())
        rounds = ", ".join(f"{one['seconds']} s at load {one['load']}" for one in time["rounds"])
        lines += [f"From a box's start to {len(time['apps'])} apps done ({', '.join(time['apps'])}; `prove --time --from "
                  f"{time['from']} --onto {time['onto']}`): median {time['median']} s ({rounds}; {time['processors']} processors).", ""]
    return lines


def cell(row):
    """One app in one chain."""
    if row is None:
        return "–"
    took = f" ({row['seconds']} s)" if row.get("seconds") is not None else ""
    return row["result"] + took
