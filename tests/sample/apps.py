"""The apps of the sample: what the old box backed up, and what the new box holds for them before a restore.

Paths, packages and app versions are those of FreedomBox 25.9.3 in Debian 13; the content is made up.
"""

import dataclasses
import pathlib
import sqlite3
import tempfile

from tree import MIB, Noise, Tree

# 2025-10-30 02:00 UTC and two days before it.
BACKUP_TIME = 1761789600
OLD_BOX_TIME = BACKUP_TIME - 2 * 86400
NEW_BOX_TIME = BACKUP_TIME + 10 * 86400

DROPINS = "usr/share/freedombox"


@dataclasses.dataclass
class App:
    """One app. `manifest` is its part of the backup's manifest; `versions` its version in FreedomBox 23.6.2, 25.9.3
    and 26.15 (None: not in it); `installed` whether the new box has its packages; `kept` are paths inside its
    directories that a restore leaves as they are on the new box (FreedomBox's drop-ins); `moves` says by FreedomBox
    version where a directory went that became a link there."""

    name: str
    versions: dict
    packages: list
    manifest: dict
    backup: Tree
    box: Tree
    essential: bool = False
    installed: bool = True
    imports: bool = False
    kept: tuple = ()
    moves: dict = dataclasses.field(default_factory=dict)


def versions(bookworm, trixie, backports):
    return {"23.6.2": bookworm, "25.9.3": trixie, "26.15": backports}


def database(*statements):
    """The bytes of an SQLite file."""
    with tempfile.TemporaryDirectory() as scratch:
        path = pathlib.Path(scratch) / "db"
        connection = sqlite3.connect(path)
        for statement in statements:
            connection.execute(statement)
        connection.commit()
        connection.close()
        return path.read_bytes()


def certificate(name):
    """Text in the shape of a PEM file; nothing reads it."""
    body = "".join(f"{name} {line:04d}\n" for line in range(8))
    return f"-----BEGIN SAMPLE-----\n{body}-----END SAMPLE-----\n"


def event(uid, summary):
    return (
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//Lifeboat sample//EN\r\nBEGIN:VEVENT\r\n"
        f"UID:{uid}\r\nDTSTART:20251101T090000Z\r\nSUMMARY:{summary}\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
    )


def radicale():
    old, new = Tree(OLD_BOX_TIME), Tree(NEW_BOX_TIME)
    old.dir("etc/radicale").file("etc/radicale/config", "[auth]\ntype = http_x_remote_user\n[rights]\ntype = owner_only\n")
    old.file("etc/radicale/rights", "[root]\nuser: .+\ncollection:\npermissions: R\n")
    new.dir("etc/radicale").file("etc/radicale/config", "[auth]\ntype = none\n").file("etc/radicale/rights", "[root]\n")
    new.file("etc/radicale/users.local", "only on the new box\n")
    home = "var/lib/radicale/collections/collection-root"
    for tree in (old.owned("radicale"), new.owned("radicale")):
        tree.dir("var/lib/radicale", 0o750).dir("var/lib/radicale/collections", 0o750).dir(home, 0o750)
    calendar = f"{home}/zoë/Zoë's calendar – ⛵"
    old.dir(f"{home}/zoë", 0o750).dir(calendar, 0o2750)
    old.file(f"{calendar}/.Radicale.props", '{"tag": "VCALENDAR", "D:displayname": "Zoë"}', 0o640)
    for number in range(12):
        old.file(f"{calendar}/event-{number:02d}.ics", event(f"event-{number}", f"Treffen №{number}"), 0o640)
    old.dir(f"{home}/empty", 0o700)
    # A name beyond the 100 bytes of a tar header.
    old.file(f"{home}/zoë/{'long-' * 30}name.ics", event("long", "A long name"), 0o640)
    new.dir(f"{home}/someone", 0o750).file(f"{home}/someone/newer.ics", event("newer", "Only on the new box"), 0o640)
    paths = {"config": {"directories": ["/etc/radicale/"]}, "data": {"directories": ["/var/lib/radicale/"]}}
    packages = ["radicale", "uwsgi", "uwsgi-plugin-python3"]
    moves = {"26.15": (b"var/lib/radicale", b"var/lib/private/radicale")}
    return App("radicale", versions(2, 4, 7), packages, paths | {"services": ["uwsgi"]}, old, new, moves=moves)


def tiddlywiki():
    old, new = Tree(OLD_BOX_TIME).owned("www-data"), Tree(NEW_BOX_TIME).owned("www-data")
    old.dir("var/lib/tiddlywiki").file("var/lib/tiddlywiki/Notes de Zoë.html", "<html>notes</html>\n" * 400)
    # Not UTF-8: an upload from an old computer.
    old.file(b"var/lib/tiddlywiki/Gr\xfc\xdfe.html", "<html>Gr\u00fc\u00dfe</html>\n")
    old.file("var/lib/tiddlywiki/-rf *", "a name that a shell would misread\n").file("var/lib/tiddlywiki/empty.html", "")
    new.dir("var/lib/tiddlywiki").file("var/lib/tiddlywiki/Notes de Zoë.html", "<html>newer notes</html>\n")
    new.file("var/lib/tiddlywiki/new.html", "<html>only on the new box</html>\n")
    return App("tiddlywiki", versions(None, 1, 1), [], {"data": {"directories": ["/var/lib/tiddlywiki"]}}, old, new)


def sharing():
    path = "etc/apache2/conf-available/sharing-freedombox.conf"
    old = Tree(OLD_BOX_TIME).file(path, "Alias /share/photos /srv/photos\n", 0o640)
    new = Tree(NEW_BOX_TIME).file(path, "Alias /share/music /srv/music\n")
    new.file("etc/apache2/conf-available/security.conf", "ServerTokens Prod\n")
    service = {"type": "apache", "kind": "config", "name": "sharing-freedombox"}
    return App("sharing", versions(2, 3, 4), [], {"config": {"files": [f"/{path}"]}, "services": [service]}, old, new)


def letsencrypt():
    old, new = Tree(OLD_BOX_TIME), Tree(NEW_BOX_TIME)
    hook = "etc/letsencrypt/renewal-hooks/deploy/50-freedombox"
    for tree in (old, new):
        tree.dir("etc/letsencrypt").file("etc/letsencrypt/cli.ini", f"# {tree.mtime}\nmax-log-backups = 0\n")
        tree.dir("etc/letsencrypt/renewal-hooks").dir("etc/letsencrypt/renewal-hooks/deploy")
    # Before FreedomBox 23.11 this was a plain file; writing it through the link would damage the package.
    old.file(hook, "#!/bin/sh\necho a hook of an older FreedomBox\n", 0o755)
    new.link(hook, f"/{DROPINS}/{hook}")
    new.file(f"{DROPINS}/{hook}", "#!/usr/bin/python3\n# the packaged hook\n", 0o755)
    old.dir("etc/letsencrypt/accounts", 0o700).file("etc/letsencrypt/accounts/key.json", '{"kty": "none"}', 0o400)
    for base in ("archive", "live"):
        old.dir(f"etc/letsencrypt/{base}", 0o700).dir(f"etc/letsencrypt/{base}/box.example.org")
    for kind in ("cert", "chain", "fullchain", "privkey"):
        mode = 0o600 if kind == "privkey" else 0o644
        old.file(f"etc/letsencrypt/archive/box.example.org/{kind}1.pem", certificate(kind), mode)
        link = f"etc/letsencrypt/live/box.example.org/{kind}.pem"
        # certbot writes relative links; people who moved the directory once have absolute ones.
        inside = f"archive/box.example.org/{kind}1.pem"
        old.link(link, f"/etc/letsencrypt/{inside}" if kind == "chain" else f"../../{inside}")
    old.dir("etc/letsencrypt/renewal").file("etc/letsencrypt/renewal/box.example.org.conf", "version = 4.0.0\n")
    paths = {"secrets": {"directories": ["/etc/letsencrypt/"]}}
    return App("letsencrypt", versions(3, 4, 4), ["certbot", "openssl"], paths, old, new, essential=True, kept=(hook,))


def gitweb():
    old, new = Tree(OLD_BOX_TIME), Tree(NEW_BOX_TIME)
    for tree in (old, new):
        tree.dir("var/lib/git").owned("www-data")
    first = "var/lib/git/notes.git"
    for name in ("notes.git", "copy of notes.git"):
        base = f"var/lib/git/{name}"
        old.dir(base, 0o2775).file(f"{base}/HEAD", "ref: refs/heads/main\n").file(f"{base}/description", f"{name}\n")
        for folder in ("objects", "objects/pack", "refs", "refs/heads", "refs/tags", "branches"):
            old.dir(f"{base}/{folder}", 0o2775)
        pack = "objects/pack/pack-0123456789abcdef.pack"
        # A local clone shares the objects of its origin through hard links.
        if base == first:
            old.file(f"{base}/{pack}", b"PACK" + b"".join(Noise("pack", 96 * 1024).chunks()), 0o444)
        else:
            old.same(f"{base}/{pack}", f"{first}/{pack}")
    old.file("var/lib/git/notes.git/private", "")
    new.dir("var/lib/git/other.git", 0o2775).file("var/lib/git/other.git/HEAD", "ref: refs/heads/main\n")
    paths = {"data": {"directories": ["/var/lib/git"]}}
    return App("gitweb", versions(2, 3, 4), ["gitweb", "highlight"], paths, old, new)


def mediawiki(seed, size, files):
    settings = "etc/mediawiki/FreedomBoxSettings.php"
    old, new = Tree(OLD_BOX_TIME), Tree(NEW_BOX_TIME)
    new.link("etc/mediawiki/FreedomBoxStaticSettings.php", f"/{DROPINS}/etc/mediawiki/FreedomBoxStaticSettings.php")
    for tree, name in ((old, "Zoë's wiki"), (new, "A newer wiki")):
        tree.owned("www-data", "www-data").file(settings, f'<?php\n$wgSitename = "{name}";\n', 0o640)
        tree.owned("www-data").dir("var/lib/mediawiki-db", 0o750).dir("var/lib/mediawiki-db/locks", 0o750)
        pages = "CREATE TABLE page (page_id INTEGER PRIMARY KEY, page_title TEXT)"
        rows = f"INSERT INTO page (page_title) VALUES ('{name[0]}'), ('Main_Page')"
        tree.file("var/lib/mediawiki-db/my_wiki.sqlite", database(pages, rows), 0o600)
        tree.dir("var/lib/mediawiki/images", 0o700).file("var/lib/mediawiki/images/.htaccess", "AllowOverride None\n")
    old.dir("var/lib/mediawiki/images/4", 0o755).dir("var/lib/mediawiki/images/4/4a", 0o755)
    # Mostly holes on a real disk; the backup holds the zeros.
    holes = b"\0" * (2 * MIB) + b"data after a hole" + b"\0" * MIB
    old.file("var/lib/mediawiki/images/4/4a/Disk.img", holes)
    if size:
        old.file("var/lib/mediawiki/images/4/4a/Film.webm", Noise(f"film-{seed}", size * MIB))
    for number in range(files):
        folder = f"var/lib/mediawiki/images/{number // 500:04}"
        if number % 500 == 0:
            old.dir(folder)
        # No two are alike: a backup keeps each.
        old.file(f"{folder}/Photo of the garden {number}.jpg", Noise(f"photo-{seed}-{number}", 700 + number % 600))
    new.dir("var/lib/mediawiki")
    # The leftover of a database that ran: mixed with another database it would destroy it.
    new.file("var/lib/mediawiki-db/my_wiki.sqlite-wal", b"\x37\x7f\x06\x82" + b"\0" * 28, 0o600)
    manifest = {
        "config": {"files": [f"/{settings}"]},
        "data": {"directories": ["/var/lib/mediawiki-db/", "/var/lib/mediawiki/images/"]},
        "services": ["mediawiki-jobrunner"],
    }
    packages = ["imagemagick", "mediawiki", "php-sqlite3"]
    return App("mediawiki", versions(10, 13, 13), packages, manifest, old, new)


def calibre():
    home = "var/lib/private/calibre-server-freedombox"
    # systemd's DynamicUser: numbers without names, and another number on each box.
    old, new = Tree(OLD_BOX_TIME).owned("64238"), Tree(NEW_BOX_TIME).owned("61577")
    for tree, title in ((old, "Family"), (new, "Library")):
        tree.dir(home).dir(f"{home}/libraries").dir(f"{home}/libraries/{title}")
        tables = "CREATE TABLE books (id INTEGER PRIMARY KEY, title TEXT)"
        books = f"INSERT INTO books (title) VALUES ('{title}')"
        tree.file(f"{home}/libraries/{title}/metadata.db", database(tables, books))
    book = f"{home}/libraries/Family/Zoë/Lab Book (1)"
    old.dir(f"{home}/libraries/Family/Zoë").dir(book).file(f"{book}/Lab Book - Zoë.txt", "A book.\n")
    old.dir(f"{home}/.config", 0o700).file(f"{home}/.config/server-users.sqlite", database("CREATE TABLE users (n)"))
    manifest = {
        "data": {"directories": [f"/{home}/"]},
        "services": ["calibre-server-freedombox"],
        "delete_before_restore": [f"/{home}/"],
    }
    return App("calibre", versions(2, 3, 3), ["calibre"], manifest, old, new)


def wordpress():
    static = "etc/wordpress/freedombox-static.php"
    old, new = Tree(OLD_BOX_TIME), Tree(NEW_BOX_TIME)
    for tree, password in ((old, "old-secret"), (new, "new-secret")):
        tree.owned("root").dir("etc/wordpress").owned("root", "www-data")
        tree.file("etc/wordpress/database.php", f"<?php\n$dbpass='{password}';\n", 0o640).owned("root")
        tree.link(static, f"/{DROPINS}/{static}").dir("var/lib/wordpress").owned("www-data")
        tree.dir("var/lib/wordpress/wp-content").dir("var/lib/wordpress/wp-content/uploads")
    new.owned("root").file(f"{DROPINS}/{static}", "<?php\n// the packaged file\n")
    old.file("var/lib/wordpress/wp-content/uploads/Foto – Zoë.jpg", b"\xff\xd8\xff\xe0" + bytes(range(256)) * 40)
    old.owned("root").file("etc/wordpress/is_public", "")
    dump = "var/lib/plinth/backups-data/wordpress-database.sql"
    rows = "INSERT INTO `wp_posts` VALUES (1,'Ahoi, Zoë');\n"
    old.file(dump, f"-- dump of the old box\nCREATE DATABASE `wordpress_fbx`;\nUSE `wordpress_fbx`;\n{rows}-- Dump completed on 2026-11-23\n")
    manifest = {
        "secrets": {"directories": ["/etc/wordpress/"]},
        "data": {"files": [f"/{dump}", "/etc/wordpress/is_public"], "directories": ["/var/lib/wordpress/"]},
    }
    packages = ["default-mysql-server", "php", "php-imagick", "php-zip", "wordpress"]
    return App("wordpress", versions(3, 4, 4), packages, manifest, old, new, imports=True, kept=(static,))


def ssh():
    old, new = Tree(OLD_BOX_TIME), Tree(NEW_BOX_TIME)
    secrets = []
    for tree, box in ((old, "old"), (new, "new")):
        tree.file("etc/ssh/sshd_config.d/freedombox.conf", f"# {box} box\nPasswordAuthentication no\n")
        for kind in ("ecdsa", "ed25519", "rsa"):
            path = f"etc/ssh/ssh_host_{kind}_key"
            tree.file(path, certificate(f"{box} {kind}"), 0o600).file(f"{path}.pub", f"ssh-{kind} {box} root@box\n")
    for kind in ("ecdsa", "ed25519", "rsa"):
        secrets += [f"/etc/ssh/ssh_host_{kind}_key", f"/etc/ssh/ssh_host_{kind}_key.pub"]
    new.file("etc/ssh/sshd_config", "Include /etc/ssh/sshd_config.d/*.conf\nUsePAM yes\n")
    manifest = {"config": {"files": ["/etc/ssh/sshd_config.d/freedombox.conf"]}, "secrets": {"files": secrets}}
    return App("ssh", versions(3, 4, 4), ["openssh-server"], manifest, old, new, essential=True)


def datetime():
    old = Tree(OLD_BOX_TIME).link("etc/localtime", "/usr/share/zoneinfo/Europe/Berlin")
    new = Tree(NEW_BOX_TIME).link("etc/localtime", "/usr/share/zoneinfo/Etc/UTC")
    new.file("usr/share/zoneinfo/Etc/UTC", b"TZif2").file("usr/share/zoneinfo/Europe/Berlin", b"TZif2")
    manifest = {"data": {"files": ["/etc/localtime"]}, "services": ["systemd-timedated"]}
    return App("datetime", versions(2, 2, 2), ["systemd-timesyncd"], manifest, old, new, essential=True)


def syncthing():
    old = Tree(OLD_BOX_TIME).owned("syncthing")
    old.dir("var/lib/syncthing/.config", 0o700).dir("var/lib/syncthing/.config/syncthing", 0o700)
    old.file("var/lib/syncthing/.config/syncthing/config.xml", '<configuration version="37"/>\n', 0o600)
    old.dir("var/lib/syncthing/.local", 0o700).dir("var/lib/syncthing/.local/state", 0o700)
    old.file("var/lib/syncthing/.local/state/key.pem", certificate("syncthing"), 0o600)
    manifest = {
        "secrets": {"directories": ["/var/lib/syncthing/.config", "/var/lib/syncthing/.local"]},
        "services": ["syncthing@syncthing"],
    }
    return App("syncthing", versions(6, 7, 7), ["syncthing"], manifest, old, Tree(NEW_BOX_TIME), installed=False)


def ejabberd():
    old = Tree(OLD_BOX_TIME).owned("ejabberd")
    old.file("etc/ejabberd/ejabberd.yml", "hosts:\n  - box.example.org\n", 0o640).dir("var/lib/ejabberd", 0o700)
    old.file("var/lib/ejabberd/.erlang.cookie", "SAMPLECOOKIESAMPLECO", 0o400).dir("var/lib/ejabberd/queue")
    old.file("var/lib/ejabberd/roster.DAT", b"".join(Noise("roster", 6017).chunks()))
    old.owned("root").dir("etc/ejabberd/letsencrypt").dir("etc/ejabberd/letsencrypt/box.example.org")
    old.owned("ejabberd").file("etc/ejabberd/letsencrypt/box.example.org/ejabberd.pem", certificate("xmpp"), 0o600)
    manifest = {
        "config": {"files": ["/etc/ejabberd/ejabberd.yml"]},
        "secrets": {"directories": ["/etc/ejabberd/letsencrypt/"], "files": ["/etc/ejabberd/ejabberd.pem"]},
        "data": {"directories": ["/var/lib/ejabberd/"]},
        "services": ["ejabberd"],
    }
    return App("ejabberd", versions(6, 9, 10), ["ejabberd"], manifest, old, Tree(NEW_BOX_TIME), installed=False)


def every_app(seed, size=0, files=0):
    return [
        ejabberd(),
        calibre(),
        mediawiki(seed, size, files),
        radicale(),
        tiddlywiki(),
        sharing(),
        letsencrypt(),
        gitweb(),
        wordpress(),
        syncthing(),
        ssh(),
        datetime(),
    ]
