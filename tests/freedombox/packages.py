"""The package source of a release: everything that its apps install, in one folder, served inside each box.

A box reaches it at an address of its own loopback device. Offline is the server stopped: to apt that is the same as a
mirror out of reach.
"""

import os
import subprocess

import release

ADDRESS = "http://127.0.0.1:8999"
SERVICE = "package-source.service"
# What a test needs beside an app's own packages.
BESIDE = {"kiwix": ["zim-tools"]}
# Where a box sees the folder.
INSIDE = "/srv/package-source"

UNIT = f"""[Unit]
Description=The test's own package source
After=network.target
Before=plinth.service lifeboat-finish.service

[Service]
ExecStart=/usr/bin/python3 -m http.server --bind 127.0.0.1 --directory {INSIDE} 8999

[Install]
WantedBy=multi-user.target
"""


def folder(version):
    """Where the packages of a release are kept."""
    return release.CACHE / "packages" / version


def fetch(version, apps):
    """Downloads the packages of `apps` with all that they need; those of an app that are there are not asked for again.

    Returns the apps that the release cannot install, each with apt's reason.
    """
    at = folder(version)
    (at / "partial").mkdir(parents=True, exist_ok=True)
    (at / "fetched").mkdir(exist_ok=True)
    with release.alone("packages", version):
        missing = [app for app in apps if not (at / "fetched" / app).exists()]
        if missing:
            add(version, missing)
    return refusals(version, apps)


def add(version, missing):
    """Downloads the packages of apps of which there are none yet."""
    at = folder(version)
    print(f"fetching the packages of {len(missing)} apps for FreedomBox {version}", flush=True)
    work = release.root_at(f"{version}.fetch")
    release.remove(work)
    release.snapshot(release.root(version), work)
    debian, suite, _ = release.RELEASES[version]
    suites = dict.fromkeys([debian, suite])
    lines = [f"deb {release.mirror()} {name} {release.COMPONENTS}\n" for name in suites]
    (work / "etc/apt/sources.list").write_text("".join(lines))
    (work / INSIDE.lstrip("/")).mkdir(parents=True)
    release.in_root(work, "apt-get", *release.APT, "--quiet=2", "update", stdout=subprocess.DEVNULL)
    said = {}
    for app in missing:
        names = dependencies(work, app)
        said[app] = download(work, at, names) if names else ""
        if not said[app] and app in BESIDE:
            download(work, at, BESIDE[app])
    release.remove(work)
    index = release.output("apt-ftparchive", "packages", ".", cwd=at)
    (at / "Packages.new").write_text(index + "\n")
    os.replace(at / "Packages.new", at / "Packages")
    # Only what the index has is there.
    for app, why in said.items():
        (at / "fetched" / app).write_text(why)


def refusals(version, apps):
    """The apps that cannot be installed, each with apt's reason."""
    said = {app: (folder(version) / "fetched" / app).read_text() for app in apps}
    return {app: why for app, why in said.items() if why}


def own(version, app):
    """The packages of an app that its release does not have from the start."""
    names = dependencies(release.root(version), app)
    return [name for name in names if list(folder(version).glob(f"{name}_*.deb"))]


def dependencies(root, app):
    """The packages that FreedomBox itself says an app needs; of alternatives the first."""
    program = "freedombox" if (root / "usr/bin/freedombox").exists() else "plinth"
    listed = release.in_root(root, program, "--list-dependencies", app, capture_output=True, text=True).stdout
    return [line.split("|")[0].strip() for line in listed.splitlines() if line.strip() and " INFO " not in line]


def download(root, at, names):
    """Downloads packages into `at`; the reason where apt refuses."""
    script = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'
    known = [name for name in names if is_known(root, name)]
    gone = sorted(set(names) - set(known))
    if gone:
        return f"no such package: {' '.join(gone)}"
    words = ["apt-get", *release.APT, f"-oDir::Cache::archives={INSIDE}", "--quiet=2", "--assume-yes"]
    chroot = ["chroot", root, *words, "--download-only", "install", *known]
    done = subprocess.run(
        [str(word) for word in ["unshare", "--mount", "bash", "-c", script, "bash", at, root / INSIDE[1:], *chroot]],
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"},
        capture_output=True, text=True, check=False,
    )
    return "" if done.returncode == 0 else done.stderr.strip().replace("\n", "; ")[-300:]


def is_known(root, name):
    """Whether the release has a package of this name."""
    shown = release.in_root(root, "apt-cache", "policy", name, capture_output=True, text=True).stdout
    return bool(shown.strip()) and "Candidate: (none)" not in shown


def put(root):
    """Makes the folder the only package source of a box."""
    for entry in (root / "etc/apt/sources.list.d").iterdir():
        entry.unlink()
    (root / "etc/apt/sources.list").write_text(f"deb [trusted=yes] {ADDRESS} ./\n")
    unit = root / "etc/systemd/system" / SERVICE
    unit.write_text(UNIT)
    wants = root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(exist_ok=True)
    (wants / SERVICE).unlink(missing_ok=True)
    (wants / SERVICE).symlink_to(f"/etc/systemd/system/{SERVICE}")
    (root / INSIDE.lstrip("/")).mkdir(parents=True, exist_ok=True)
    # No name can be resolved in a box without a network; asking must fail at once.
    resolver = root / "etc/resolv.conf"
    resolver.unlink(missing_ok=True)
    resolver.write_text("nameserver 127.0.0.1\n")
