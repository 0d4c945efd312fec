#!/usr/bin/env python3
"""sbom.py PACKAGES…: prints what the images consist of, as CycloneDX 1.5 JSON (cyclonedx.org).

Debian packages come from the `.packages.txt` files beside the images (name, version, sha256, suite, architecture),
crates from what cargo builds into the program for the three targets, with the checksums of Cargo.lock. The same input
always gives the same bytes.
"""

import json
import pathlib
import re
import subprocess
import sys

import crates
import definition

PROJECT = pathlib.Path(__file__).resolve().parent.parent


def bill(version, debian, found, digests, tools):
    """The document: `debian` (name, version, sha256, suite, architecture), `found` (name, version, licence) of crates, `tools`
    (name, version)."""
    components = []
    for name, version_, digest, suite, arch in sorted(debian):
        purl = f"pkg:deb/debian/{name}@{_escaped(version_)}?arch={arch}&distro={suite}"
        components.append(_component("application", name, version_, purl, digest))
    for name, version_, licence in sorted(found):
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
    linked = [crates.linked(crates.tree(definition.architecture(arch)["build"]["rust_target"])) for arch in definition.ARCHITECTURES]
    command = ["cargo", "metadata", "--format-version", "1", "--locked"]
    metadata = json.loads(subprocess.run(command, cwd=PROJECT, stdout=subprocess.PIPE, check=True).stdout)
    licences = {(package["name"], package["version"]): package["license"] or "" for package in metadata["packages"]}
    found = {(*crate, licences[crate]) for each in linked for crate in each.uses.keys() - {each.root}}
    version = linked[0].root[1]
    rust = subprocess.run(["rustc", "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout.split()[1]
    zig = re.search(r"^ziglang==(\S+)", (PROJECT / "image-build/zig.txt").read_text(), re.M).group(1)
    digests = {crate: checksum for crate, (_, checksum) in crates.locked().items()}
    # The C library inside the static programs is the musl that zig carries.
    document = bill(version, debian, found, digests, [("rust-std", rust), ("zig-musl", zig)])
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
