"""Apps with pages that people write or read."""

import contextlib
import glob
import os
import pathlib
import shutil

from apps import app
from scene import (
    ADMIN, BROWSER, HOST, PASSWORD, Browser, Unlike, basic, chown, fields, file, first, guest, mysql, owner, page, patiently,
    privileged, put, request, run, runs, sqlite,
)


@app("tiddlywiki")
class TiddlyWiki:
    """One page file of each wiki."""

    file = "/var/lib/tiddlywiki/Notes de Zoë.html"

    def seed(self):
        put(self.file, "<html><body>TiddlyWiki note 4711</body></html>\n", "www-data")

    def look(self):
        return {"its page": page("/tiddlywiki/Notes%20de%20Zo%C3%AB.html", "TiddlyWiki note 4711"), "file": file(self.file)}


@app("featherwiki")
class FeatherWiki:
    """One page file of each wiki."""

    def seed(self):
        put("/var/lib/featherwiki/Garden.html", "<html><body>Feather note 42</body></html>\n", "www-data")

    def look(self):
        return {
            "its page": page("/featherwiki/Garden.html", "Feather note 42"),
            "file": file("/var/lib/featherwiki/Garden.html"),
        }


@app("ikiwiki")
class Ikiwiki:
    """A wiki with one page of ours."""

    def seed(self):
        privileged("ikiwiki").create_wiki("FamilyWiki", ADMIN, PASSWORD)
        source = pathlib.Path("/var/lib/ikiwiki/FamilyWiki")
        put(source / "garden.mdwn", "The apple tree was planted in 1987.\n")
        shutil.copystat(source / "index.mdwn", source / "garden.mdwn") if (source / "index.mdwn").exists() else None
        stat = source.stat()
        os.chown(source / "garden.mdwn", stat.st_uid, stat.st_gid)
        privileged("ikiwiki").setup_site("FamilyWiki")

    def look(self):
        return {"its page": page("/ikiwiki/FamilyWiki/garden/", "apple tree was planted in 1987")}


@app("mediawiki")
class MediaWiki:
    """A page written by MediaWiki's own program, and an upload."""

    def seed(self):
        place = "/usr/share/mediawiki/maintenance"
        edit = [f"{place}/run.php", "edit"] if os.path.exists(f"{place}/run.php") else [f"{place}/edit.php"]
        words = ["--conf", "/etc/mediawiki/LocalSettings.php", "-u", "Admin", "-s", "test", "Grandma recipes"]
        run("php", *edit, *words, text="Grandma's page: fact 8848 ü\n")
        run("chown", "--recursive", "www-data:www-data", "/var/lib/mediawiki-db")
        put("/var/lib/mediawiki/images/photo.txt", "a small upload\n", "www-data")

    def look(self):
        return {
            "its page": page("/mediawiki/index.php?title=Grandma_recipes", "fact 8848 ü", signed_in=False),
            "upload": file("/var/lib/mediawiki/images/photo.txt"),
            "database": owner(first("/var/lib/mediawiki-db/my_wiki.sqlite")),
        }


@app("gitweb")
class Gitweb:
    """A public and a private repository, each with one commit."""

    def seed(self):
        run("git", "config", "--global", "--replace-all", "safe.directory", "*")
        for name, is_private in (("secret-recipes", True), ("public-notes", False)):
            privileged("gitweb").create_repo(name=name, description="test", owner="Zoe", is_private=is_private)
            work, git = "/tmp/work", ["git", "-c", "core.hooksPath=/dev/null"]
            shutil.rmtree(work, ignore_errors=True)
            run(*git, "clone", "--quiet", f"/var/lib/git/{name}.git", work)
            put(f"{work}/soup.txt", f"soup of {name}\n")
            author = ["-c", "user.name=Zoe", "-c", "user.email=zoe@example.org"]
            run(*git, "-C", work, "add", ".")
            run(*git, *author, "-C", work, "commit", "--quiet", "--message", name, "--date", "2026-11-01T10:00:00Z")
            run(*git, "-C", work, "push", "--quiet", "origin", "HEAD")
            run("chown", "--recursive", "www-data:www-data", f"/var/lib/git/{name}.git")

    def look(self):
        # Whom the server asks for a name is refused; on a machine's console git would wait for somebody to type one.
        git = ["env", "GIT_TERMINAL_PROMPT=0", "git", "-c", "http.sslVerify=false"]
        private = "https://{}:{}@localhost/gitweb/secret-recipes.git".format(ADMIN, PASSWORD.replace("!", "%21"))
        refused = run(*git, "ls-remote", f"{HOST}/gitweb/secret-recipes.git", is_lenient=True)
        return {
            "public commit": patiently(lambda: run(*git, "ls-remote", f"{HOST}/gitweb/public-notes.git", "HEAD")),
            "private commit": run("git", "-c", "safe.directory=*", "-C", "/var/lib/git/secret-recipes.git", "log", "--all", "--format=%H %s"),
            "private for strangers": refused or "refused",
            "owner": owner("/var/lib/git/secret-recipes.git"),
        }


@app("wordpress")
class WordPress:
    """A site with one post and one upload."""

    SCRIPT = r"""<?php $_SERVER['HTTP_HOST']='localhost'; $_SERVER['REQUEST_METHOD']='GET';
$_SERVER['SERVER_PROTOCOL']='HTTP/1.1'; $_SERVER['REQUEST_URI']='/wordpress/'; $_SERVER['HTTPS']='on';
define('WP_INSTALLING', true); require '/usr/share/wordpress/wp-load.php';
require_once ABSPATH.'wp-admin/includes/upgrade.php';
if (!is_blog_installed()) wp_install('The blog of Zoë','fbxadmin','zoe@example.org',false,'','Recover-Me-2026!');
echo wp_insert_post(['post_title'=>'We moved house é','post_content'=>'The post body 31337','post_status'=>'publish',
    'post_author'=>1,'post_date'=>'2026-11-01 10:00:00']);"""

    def seed(self):
        put("/tmp/seed.php", self.SCRIPT)
        run("php", "/tmp/seed.php")
        privileged("wordpress").set_public(True)
        put("/var/lib/wordpress/wp-content/uploads/2026/11/photo.txt", "an upload\n", "www-data")

    def look(self):
        return {
            "its page": page("/wordpress/", "We moved house é", signed_in=False),
            "database": mysql("wordpress_fbx", "select post_content from wp_posts where post_title like 'We moved%'"),
            "upload": file("/var/lib/wordpress/wp-content/uploads/2026/11/photo.txt"),
            "password": owner("/etc/wordpress/database.php"),
        }


@app("bepasty")
class Bepasty:
    """A paste, uploaded and fetched over HTTP with the passwords of its configuration."""

    name = "/var/lib/test-paste"

    def seed(self):
        passwords = privileged("bepasty").get_configuration()["PERMISSIONS"]
        word = next(word for word, rights in passwords.items() if "admin" in rights)
        import base64

        text = b"a paste: 2718\n"
        headers = {
            **basic("", word), "Content-Type": "text/plain", "Content-Filename": "note.txt",
            "Content-Range": f"bytes 0-{len(text) - 1}/{len(text)}",
        }
        _, answered = request("/bepasty/apis/rest/items", base64.b64encode(text), "POST", headers)
        # Which name it got is not in the app's backup, but in ours.
        put(f"{self.file()}", answered["Content-Location"].rsplit("/", 1)[-1])

    @staticmethod
    def file():
        return next(iter(glob.glob("/var/lib/bepasty")), "/var/lib/bepasty") + "/name-of-the-test"

    def look(self):
        name = pathlib.Path(self.file()).read_text()
        return {"its page": page(f"/bepasty/{name}", "a paste: 2718", signed_in=False)}


@app("shaarli")
class Shaarli:
    """An installed site with a title."""

    def seed(self):
        import re

        _, _, text, _ = BROWSER.sign_in().open("/shaarli/install")
        token = fields("/shaarli/install")
        data = {**token, "setlogin": ADMIN, "setpassword": PASSWORD, "title": "Bookmarks of Zoë 577"}
        for name, value in (("continent", "Europe"), ("city", "Berlin"), ("language", "en")):
            if re.search(f'name="{name}"', text):
                data[name] = value
        status, url, text, _ = BROWSER.open("/shaarli/install", data)
        if status >= 400:
            raise Unlike(f"installing shaarli answers {status} at {url}")

    def look(self):
        return {"its page": page("/shaarli/", "Bookmarks of Zoë 577"), "folder": owner("/var/lib/shaarli/data")}


@app("roundcube")
class Roundcube:
    """A user's settings in its SQLite database."""

    database = "/var/lib/dbconfig-common/sqlite3/roundcube/roundcube"

    def seed(self):
        import sqlite3

        query = "insert into users (username, mail_host, created, language) values ('zoe', 'localhost', '2026-11-01', 'de_DE')"
        # Closed, or the row would stay in SQLite's log beside the file, which FreedomBox's backup does not have.
        with contextlib.closing(sqlite3.connect(first(self.database))) as database:
            database.execute(query)
            database.commit()

    def look(self):
        users = sqlite(first(self.database), "select username, language from users where username = 'zoe'")
        return {"its page": page("/roundcube/", "Roundcube"), "user": str(users), "owner": owner(self.database)}


@app("rssbridge")
class RssBridge:
    """Whether strangers may use it."""

    def seed(self):
        privileged("rssbridge").set_public(True)

    def look(self):
        return {"its page": page("/rss-bridge/", "RSS-Bridge", signed_in=False)}


@app("zoph")
class Zoph:
    """An album."""

    @staticmethod
    def database():
        names = mysql("mysql", "show databases like 'zoph%'").split()
        if not names:
            raise Unlike("MySQL has no database of zoph")
        return names[0]

    def seed(self):
        mysql(self.database(), "insert into zoph_albums (album, album_description) values ('Test album', '31415')")

    def look(self):
        query = "select album, album_description from zoph_albums where album = 'Test album'"
        text, _ = request(f"{HOST}/zoph/", headers=basic())
        return {"album": mysql(self.database(), query), "its page": "shows Zoph" if "Zoph" in text else "shows something else"}


@app("sharing")
class Sharing:
    """A share that everybody may see, and some for groups; their content is in no backup, so the test brings it."""

    text = "shared hello 17"

    def seed(self):
        put("/srv/pub/hello.txt", f"{self.text}\n")
        privileged("sharing").add("pub", "/srv/pub", [], True)
        privileged("sharing").add("photos", "/srv/pub", ["admin"], False)
        privileged("sharing").add("films", "/srv/pub", ["freedombox-share", "admin"], False)
        # Nobody of the tests is in it.
        privileged("sharing").add("diary", "/srv/pub", ["freedombox-share"], False)

    def look(self):
        put("/srv/pub/hello.txt", f"{self.text}\n")
        return {
            "public": page("/share/pub/hello.txt", self.text, signed_in=False),
            "for the group": page("/share/photos/hello.txt", self.text),
            "for two groups": page("/share/films/hello.txt", self.text),
            "shown to others": str([name for name in ("photos", "films", "diary") if self.shows(name, Browser())]),
            # An administrator is no answer: since FreedomBox 26 that one sees what is shared with any group.
            "shown to who is in no group": str(self.shows("diary", guest())),
            "shares": str(sorted((share["name"], sorted(share["groups"])) for share in privileged("sharing").list_shares())),
        }

    def shows(self, name, browser):
        """Whether a share's file is shown."""
        return self.text in browser.open(f"/share/{name}/hello.txt")[2]


@app("calibre")
class Calibre:
    """A library with one book."""

    library = "/var/lib/calibre-server-freedombox/libraries/Family"
    unit = "calibre-server-freedombox.service"

    def seed(self):
        privileged("calibre").create_library("Family")
        run("systemctl", "stop", self.unit)
        put("/tmp/book.txt", "A tiny book\n")
        run("calibredb", "--with-library", self.library, "add", "--title", "Test Book", "--authors", "Zoe", "/tmp/book.txt")
        run("chown", "root:root", "/var/lib/private/calibre-server-freedombox")
        run("systemctl", "start", self.unit)

    def look(self):
        text, _ = request("http://127.0.0.1:8844/calibre/ajax/search/Family?query=title:Test")
        return {"service": runs(self.unit), "search finds": text.split('"book_ids"')[-1], "its page": page("/calibre/", "calibre")}


@app("miniflux")
class Miniflux:
    """A user with a feed in a category, asked through its interface."""

    api = "http://127.0.0.1:8788/miniflux/v1"

    def seed(self):
        from scene import greeting, postgres

        # Its tables come with its first start.
        greeting(8788)
        privileged("miniflux").create_admin_user(ADMIN, PASSWORD)
        postgres("miniflux", "insert into categories (user_id, title) select id, 'News' from users where username = 'fbxadmin'")
        postgres("miniflux", "insert into feeds (user_id, category_id, title, feed_url, site_url) select u.id, c.id, 'Feed 99',"
                 " 'http://127.0.0.1/feed.xml', 'http://127.0.0.1/' from users u join categories c on c.user_id = u.id"
                 " where c.title = 'News'")

    def look(self):
        import json

        feeds = json.loads(request(f"{self.api}/feeds", headers=basic())[0])
        return {
            "its feeds": str([(feed["title"], feed["category"]["title"]) for feed in feeds]),
            "service": runs("miniflux.service"),
            "its page": page("/miniflux/", "Miniflux"),
        }


@app("sogo")
class Sogo:
    """A user's profile."""

    def seed(self):
        from scene import postgres

        tables = postgres("sogo_fbx", "select tablename from pg_tables where schemaname = 'public'").split()
        if "sogo_user_profile" not in tables:
            postgres("sogo_fbx", "create table sogo_user_profile (c_uid varchar(255) primary key, c_defaults text, c_settings text);"
                     " alter table sogo_user_profile owner to sogo_fbx")
        postgres("sogo_fbx", "insert into sogo_user_profile (c_uid, c_defaults) values ('zoe', '{\"test\": 64}')")

    def look(self):
        from scene import postgres

        rows = postgres("sogo_fbx", "select c_uid, c_defaults from sogo_user_profile where c_uid = 'zoe'")
        return {"profile": rows, "service": runs("sogo.service"), "its page": page("/SOGo/", "SOGo")}


@app("ttrss")
class Ttrss:
    """A feed in its database."""

    @staticmethod
    def database():
        text = pathlib.Path("/etc/tt-rss/database.php").read_text()
        import re

        return re.search(r"dbname\s*=\s*['\"](\w+)", text)[1]

    def seed(self):
        from scene import postgres

        postgres(self.database(), "insert into ttrss_feeds (owner_uid, title, feed_url) values (1, 'Feed 98', 'http://127.0.0.1/')")

    def look(self):
        from scene import postgres

        rows = postgres(self.database(), "select title from ttrss_feeds where title = 'Feed 98'")
        return {"feed": rows, "its page": page("/tt-rss/", "Tiny Tiny RSS")}


@app("searx")
class Searx:
    """Whether strangers may use it."""

    def seed(self):
        privileged("searx").enable_public_access()

    def look(self):
        return {"its page": page("/searx/", "searx", signed_in=False)}


@app("kiwix")
class Kiwix:
    """A book, made here by zim-tools."""

    def seed(self):
        put("/tmp/zim/index.html", "<html><title>Kiwix test</title><body>Offline page 6174</body></html>\n")
        put("/tmp/zim/icon.png", bytes.fromhex(
            "89504e470d0a1a0a0000000d4948445200000030000000300800000000de1a38080000001449444154789c63601805a360148c"
            "825130080000b4000185fb7dd80000000049454e44ae426082"))
        run("apt-get", "--quiet=2", "--assume-yes", "install", "zim-tools")
        run("zimwriterfs", "--welcome=index.html", "--illustration=icon.png", "--language=eng", "--title=Test book",
            "--description=A book", "--creator=Zoe", "--publisher=Zoe", "--name=test-book", "--skip-libmagic-check",
            "/tmp/zim", "/tmp/test_book.zim")
        target = "/var/tmp/test_book.zim"
        shutil.copy("/tmp/test_book.zim", target)
        privileged("kiwix").add_package("test_book.zim", target)

    def look(self):
        return {
            "service": runs("kiwix-server-freedombox.service"),
            "its catalog": page("/kiwix/catalog/v2/entries", "Test book"),
        }
