#!/usr/bin/env python3
"""sbom.py PACKAGES…: prints what the images consist of, as CycloneDX 1.5 JSON (cyclonedx.org).

Debian packages come from the `.packages.txt` files beside the images (name, version, sha256, suite, architecture),
crates from what cargo resolves for the three targets, with the checksums of Cargo.lock. The same input always gives the
same bytes.
"""

import json
import pathlib
import re
import subprocess
import sys

import definition

PROJECT = pathlib.Path(__file__).resolve().parent.parent


def crates(metadata):
    """(name, version, licence) of every crate that becomes part of the program: no tools of the build, no tests."""
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    found, queue = set(), [metadata["resolve"]["root"]]
    while queue:
        for dependency in nodes[queue.pop()]["deps"]:
            linked = any(kind["kind"] is None for kind in dependency["dep_kinds"])
            is_macro = any("proc-macro" in target["kind"] for target in packages[dependency["pkg"]]["targets"])
            if linked and not is_macro and dependency["pkg"] not in found:
                found.add(dependency["pkg"])
                queue.append(dependency["pkg"])
    return {(packages[id]["name"], packages[id]["version"], packages[id]["license"] or "") for id in found}


def checksums(lock):
    """(name, version) → sha256, from the text of Cargo.lock."""
    form = r'name = "([^"]+)"\nversion = "([^"]+)"\nsource = "[^"]+"\nchecksum = "([0-9a-f]{64})"'
    return {(name, version): digest for name, version, digest in re.findall(form, lock)}


def bill(version, debian, crates_found, digests, tools):
    """The document: `debian` (name, version, sha256, suite, architecture), `tools` (name, version)."""
    components = []
    for name, version_, digest, suite, arch in sorted(debian):
        purl = f"pkg:deb/debian/{name}@{_escaped(version_)}?arch={arch}&distro={suite}"
        components.append(_component("application", name, version_, purl, digest))
    for name, version_, licence in sorted(crates_found):
        purl = f"pkg:cargo/{name}@{_escaped(version_)}"
        component = _component("library", name, version_, purl, digests.get((name, version_)))
        if licence:
            component["licenses"] = [{"expression": re.sub(r"\s*/\s*", " OR ", licence)}]
        components.append(component)
    for name, version_ in sorted(tools):
        components.append(_component("library", name, version_, f"pkg:generic/{name}@{_escaped(version_)}", None))
    subject = {"type": "application", "name": "lifeboat", "version": version}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": subject},
        "components": components,
    }


def _component(kind, name, version, purl, digest):
    component = {"type": kind, "name": name, "version": version, "purl": purl, "bom-ref": purl}
    if digest:
        component["hashes"] = [{"alg": "SHA-256", "content": digest}]
    return component


def _escaped(version):
    return version.replace("%", "%25").replace("+", "%2B").replace(":", "%3A")


def main():
    debian = set()
    for file in map(pathlib.Path, sys.argv[1:]):
        debian |= {tuple(line.split()) for line in file.read_text().splitlines()}
    found, version = set(), None
    for arch in definition.ARCHITECTURES:
        target = definition.architecture(arch)["build"]["rust_target"]
        command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", target]
        metadata = json.loads(subprocess.run(command, cwd=PROJECT, stdout=subprocess.PIPE, check=True).stdout)
        found |= crates(metadata)
        root = metadata["resolve"]["root"]
        version = next(package["version"] for package in metadata["packages"] if package["id"] == root)
    rust = subprocess.run(["rustc", "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout.split()[1]
    zig = re.search(r"^ziglang==(\S+)", (PROJECT / "image-build/zig.txt").read_text(), re.M).group(1)
    digests = checksums((PROJECT / "Cargo.lock").read_text())
    # The C library inside the static programs is the musl that zig carries.
    document = bill(version, debian, found, digests, [("rust-std", rust), ("zig-musl", zig)])
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
