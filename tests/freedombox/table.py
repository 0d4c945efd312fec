"""The table of apps and releases, as Markdown and as JSON."""

import json

SIGNS = {"works": "works", "not restored": "said: not restored"}


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
    name = f"{chain['from']}-to-{chain['onto']}" + ("" if chain["box"] == "set up" else "-" + chain["box"].replace(" ", "-"))
    (folder / f"{name}.json").write_text(json.dumps(chain, indent=1, ensure_ascii=False) + "\n")
    (folder / f"{name}.md").write_text(markdown(chain))
