"""The new box before a restore: the system files by which a FreedomBox is recognised, in their real formats."""

import json

from apps import NEW_BOX_TIME, database
from tree import Tree

HOSTNAME = "freedombox"

# FreedomBox version → dpkg version, Debian release, code name, prefix of the database's tables.
RELEASES = {
    "23.6.2": ("23.6.2+deb12u1", "12", "bookworm", "plinth"),
    "25.9.3": ("25.9.3+deb13u1", "13", "trixie", "plinth"),
    "26.15": ("26.15~bpo13+1", "13", "trixie", "freedombox"),
}

STATIC = {"root": 0, "daemon": 1, "bin": 2, "sys": 3, "man": 6, "mail": 8, "www-data": 33, "nobody": 65534}
STATIC_GROUPS = {"root": 0, "daemon": 1, "bin": 2, "sys": 3, "adm": 4, "man": 12, "mail": 8, "sudo": 27, "www-data": 33}
STATIC_GROUPS |= {"shadow": 42, "nogroup": 65534}

# Package users get the next free number, so they differ between two boxes; a few numbers are even somebody else's.
OLD_USERS = STATIC | {"plinth": 105, "radicale": 106, "ejabberd": 112, "syncthing": 119}
OLD_GROUPS = STATIC_GROUPS | {"plinth": 108, "radicale": 109, "ejabberd": 115, "syncthing": 122}
NEW_USERS = STATIC | {"avahi": 106, "plinth": 112, "mysql": 119, "radicale": 121, "fbx": 1000}
NEW_GROUPS = STATIC_GROUPS | {"avahi": 109, "plinth": 115, "mysql": 122, "radicale": 127, "fbx": 1000}

SYSTEM_PACKAGES = ["apache2", "base-files", "libc6", "linux-image-amd64", "snapper", "systemd"]
ALWAYS_SET_UP = {"apache": 14, "avahi": 1, "backups": 4, "config": 5, "firewall": 5, "names": 4, "users": 8}


def dpkg_status(release, apps, machine):
    version = RELEASES[release][0]
    installed = {"freedombox": version} | {name: "1.0-1" for name in SYSTEM_PACKAGES}
    for app in apps:
        if app.installed:
            installed |= {name: "1.0-1" for name in app.packages}
    text = []
    for name in sorted(installed):
        architecture = machine if name in ("libc6", "systemd") else "all"
        text.append(
            f"Package: {name}\nStatus: install ok installed\nPriority: optional\nSection: misc\n"
            f"Maintainer: Sample <sample@example.org>\nArchitecture: {architecture}\nVersion: {installed[name]}\n"
            "Description: a package of the sample\n With a second line.\n .\n And a third one.\n"
        )
    for app in apps:
        if not app.installed:
            # Removed, but its configuration was not purged: not installed.
            text.append(f"Package: {app.packages[0]}\nStatus: deinstall ok config-files\nVersion: 0.9-1\nArchitecture: all\n")
    return "\n".join(text)


def plinth_database(release, apps):
    prefix = RELEASES[release][3]
    rows = dict(ALWAYS_SET_UP)
    for app in apps:
        if app.versions[release] is not None:
            rows[app.name] = app.versions[release] if app.installed else 0
    settings = {"firstboot_completed": 1, "domains": [], "network_storage": json.dumps({})}
    return database(
        f"CREATE TABLE {prefix}_module (name text NOT NULL PRIMARY KEY, setup_version integer NOT NULL)",
        f"CREATE TABLE {prefix}_kvstore (key text NOT NULL PRIMARY KEY, value_json text NOT NULL)",
        *(f"INSERT INTO {prefix}_module VALUES ('{name}', {version})" for name, version in sorted(rows.items())),
        *(f"INSERT INTO {prefix}_kvstore VALUES ('{key}', '{json.dumps(value)}')" for key, value in settings.items()),
    )


def accounts(users, groups):
    passwd = "".join(f"{name}:x:{uid}:{groups.get(name, 65534)}::/:/usr/sbin/nologin\n" for name, uid in users.items())
    group = "".join(f"{name}:x:{gid}:\n" for name, gid in groups.items())
    return passwd, group


def system(release, apps, filesystem, uuid, never_booted=False, architecture="amd64"):
    """The box's files that belong to no app; `filesystem` and `uuid` are those of its root, for fstab."""
    _, debian, codename, _ = RELEASES[release]
    passwd, group = accounts(NEW_USERS, NEW_GROUPS)
    tree = Tree(NEW_BOX_TIME)
    for folder in ("boot", "dev", "etc", "home", "media", "mnt", "opt", "proc", "run", "srv", "sys", "usr", "var"):
        tree.dir(folder)
    tree.dir("root", 0o700).dir("tmp", 0o1777).dir("boot/efi").dir("var/lib").dir("var/log").dir("var/tmp", 0o1777)
    for folder in ("bin", "lib", "sbin"):
        tree.dir(f"usr/{folder}").link(folder, f"usr/{folder}")
    name = f"Debian GNU/Linux {debian} ({codename})"
    tree.file(
        "usr/lib/os-release",
        f'PRETTY_NAME="{name}"\nNAME="Debian GNU/Linux"\nVERSION_ID="{debian}"\nVERSION="{debian} ({codename})"\n'
        f"VERSION_CODENAME={codename}\nID=debian\n",
    )
    tree.link("etc/os-release", "../usr/lib/os-release").file("etc/debian_version", f"{debian}.1\n")
    tree.file("etc/passwd", passwd).file("etc/group", group)
    tree.owned("root", "shadow").file("etc/shadow", "root:*:20000:0:99999:7:::\n", 0o640).owned("root")
    tree.file("etc/hostname", f"{HOSTNAME}\n").file("etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {HOSTNAME}\n")
    tree.file("etc/machine-id", "0123456789abcdef0123456789abcdef\n", 0o444)
    tree.file("etc/fstab", f"UUID={uuid} / {filesystem} defaults 0 1\nUUID=F00D-0001 /boot/efi vfat umask=0077 0 2\n")
    tree.dir("etc/systemd").dir("etc/systemd/system").dir("etc/systemd/system/multi-user.target.wants")
    tree.dir("etc/systemd/system/timers.target.wants").file("etc/systemd/system.conf", "[Manager]\n")
    tree.dir("usr/lib/systemd").dir("usr/lib/systemd/system")
    tree.file("usr/lib/systemd/system/plinth.service", "[Service]\nExecStart=/usr/bin/plinth\n")
    tree.link("etc/systemd/system/multi-user.target.wants/plinth.service", "/usr/lib/systemd/system/plinth.service")
    tree.dir("usr/share").dir("usr/share/freedombox")
    tree.dir("var/lib/dpkg").file("var/lib/dpkg/status", dpkg_status(release, apps, architecture))
    tree.file("var/lib/dpkg/arch", f"{architecture}\n")
    tree.dir("var/lib/freedombox").file("var/lib/freedombox/is-freedombox-disk-image", "")
    tree.dir("var/lib/private", 0o700)
    tree.owned("plinth").dir("var/lib/plinth").dir("var/lib/plinth/sessions", 0o700)
    if not never_booted:
        tree.file("var/lib/plinth/plinth.sqlite3", plinth_database(release, apps), 0o640)
    tree.owned("fbx").dir("home/fbx", 0o700).file("home/fbx/.profile", "# not in any backup\n")
    return tree
