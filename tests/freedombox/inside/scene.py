"""What the apps' tests are written with: FreedomBox's own functions, commands, files, databases, and a signed-in browser.

Runs in a box, as root. Whatever cannot be asked raises `Unlike`, with the reason in one line.
"""

import grp
import hashlib
import html
import http.cookiejar
import json
import os
import pathlib
import pwd
import re
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

import product

ADMIN = "fbxadmin"
PASSWORD = "Recover-Me-2026!"
HOST = "https://localhost"


class Unlike(Exception):
    """Something is not as it should be."""


def privileged(app):
    """The functions of an app that FreedomBox itself calls with root's rights."""
    return module(f"modules.{app}.privileged")


def module(name):
    """A module of the loaded FreedomBox."""
    if not hasattr(module, "app"):
        module.app = product.begin()
    return product.mod(name)


def run(*command, user=None, text=None, cwd="/", seconds=180, is_lenient=False):
    """What a command prints; one that fails raises, with its last words."""
    words = ["runuser", "-u", user, "--", *command] if user else list(command)
    options = {"input": text} if text is not None else {"stdin": subprocess.DEVNULL}
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, errors="replace", cwd=cwd, timeout=10 * seconds,
        check=False, **options,
    )
    if done.returncode and not is_lenient:
        said = " ".join((done.stderr + " " + done.stdout).split())[-300:]
        raise Unlike(f"{command[0]} ended with {done.returncode}: {said}")
    return done.stdout.strip()


def put(path, content, owner="root", mode=0o644):
    """Writes a file, with the folders that are missing, all of one owner."""
    path = pathlib.Path(path)
    missing = [folder for folder in path.parents if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir()
        chown(folder, owner)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    chown(path, owner)
    path.chmod(mode)


def chown(path, owner):
    """Gives a path to a user, given by name or number, and to that user's group."""
    user = pwd.getpwnam(owner) if isinstance(owner, str) else pwd.getpwuid(owner)
    os.chown(path, user.pw_uid, user.pw_gid)


def owner(path):
    """Owner, group and mode of a path, by name."""
    stat = os.lstat(path)
    try:
        user = pwd.getpwuid(stat.st_uid).pw_name
    except KeyError:
        user = "nobody known"
    try:
        group = grp.getgrgid(stat.st_gid).gr_name
    except KeyError:
        group = "nobody known"
    return f"{user}:{group} {stat.st_mode & 0o7777:o}"


def digest(path):
    """A file's content, as a digest."""
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()[:16]


def file(path):
    """A file's content, owner and mode."""
    return f"{digest(path)} {owner(path)}"


def first(*paths):
    """The first of these paths that exists; where an app's data lies depends on the release."""
    for path in paths:
        if os.path.exists(path):
            return path
    raise Unlike(f"there is no {' or '.join(paths)}")


def sqlite(path, query):
    """Rows of a SQLite database."""
    import sqlite3

    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
        return [list(row) for row in database.execute(query)]


def mysql(database, query):
    """Rows of a MySQL database, as text."""
    return run("mysql", "--batch", "--skip-column-names", "--execute", query, database)


def postgres(database, query):
    """Rows of a PostgreSQL database, as text."""
    return run("psql", "--no-align", "--tuples-only", "--quiet", "--command", query, database, user="postgres")


def runs(unit):
    """Whether a service runs."""
    state = patiently(lambda: run("systemctl", "is-active", unit), 20)
    return f"{unit} {state}"


def patiently(ask, seconds=60, pause=2):
    """Asks again and again until nothing is wrong; a service needs a while after it was started."""
    # The machine that the tests run on may have other work; its load is seen here too.
    end = time.monotonic() + seconds * min(5.0, max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)))
    while True:
        try:
            return ask()
        except (Unlike, OSError, ValueError) as wrong:
            if time.monotonic() > end:
                raise Unlike(str(wrong)) from wrong
            time.sleep(pause)


def greeting(port, say=b"", has=b"", size=4096):
    """Whether a TCP port answers; with `has`, whether the answer has that in it."""

    def ask():
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            if say:
                connection.sendall(say)
            if has and has not in (heard := connection.recv(size)):
                raise Unlike(f"port {port} answers {heard[:80]!r}")
        return "answers"

    return patiently(ask)


def certificate(port):
    """The fingerprint of the certificate that a TLS port shows."""
    pem = patiently(lambda: ssl.get_server_certificate(("127.0.0.1", port)))
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()[:16]


class Browser:
    """A browser in which a person, the administrator unless said otherwise, signs in to FreedomBox."""

    def __init__(self, user=ADMIN, password=PASSWORD):
        self.user, self.password = user, password
        trusting = ssl.create_default_context()
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        self.cookies = http.cookiejar.CookieJar()
        self.opener = urllib.request.build_opener(
            urllib.request.HTTPSHandler(context=trusting), urllib.request.HTTPCookieProcessor(self.cookies)
        )
        self.is_signed_in = False

    def open(self, url, data=None, headers=None, method=None, seconds=60):
        """The answer to a request, as status, address and text."""
        url = url if "://" in url else HOST + url
        body = urllib.parse.urlencode(data).encode() if isinstance(data, dict) else data
        # Whoever does not take a page is refused at once by OpenID Connect's sign-in, and not sent to it.
        usual = {"Referer": url, "Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
        request = urllib.request.Request(url, body, {**usual, **(headers or {})}, method=method)
        try:
            with self.opener.open(request, timeout=seconds) as answer:
                return answer.status, answer.url, answer.read().decode(errors="replace"), dict(answer.headers)
        except urllib.error.HTTPError as error:
            return error.code, url, error.read().decode(errors="replace"), dict(error.headers)

    def sign_in(self):
        """Signs in as a person does, once."""
        if self.is_signed_in:
            return self
        base = "/plinth" if self.open("/plinth/accounts/login/")[0] == 200 else "/freedombox"
        for page in (f"{base}/accounts/sso/login/", f"{base}/accounts/login/"):
            status, url, text, _ = self.open(page)
            if status == 200:
                break
        fields = dict(re.findall(r'name="(csrfmiddlewaretoken|next)"[^>]*value="([^"]*)"', text))
        fields = {name: html.unescape(value) for name, value in fields.items()}
        status, url, text, _ = self.open(url, {**fields, "username": self.user, "password": self.password})
        if status != 200 or 'name="password"' in text:
            raise Unlike(f"signing in to FreedomBox at {url} does not work (status {status})")
        self.is_signed_in = True
        return self


BROWSER = Browser()


def guest():
    """A browser in which somebody is signed in who is no administrator and in no group; no backup has this person."""
    person = "guest", "Visit-Me-2026!"
    run("python3", product.__file__, "guest", *person, ADMIN, PASSWORD, user="plinth")
    return Browser(*person).sign_in()


def page(path, has, signed_in=True, seconds=60):
    """Whether a page answers and has a text in it."""
    browser = BROWSER.sign_in() if signed_in else Browser()

    def ask():
        status, url, text, _ = browser.open(path)
        if status != 200 or has not in html.unescape(text):
            words = " ".join(re.sub(r"<[^>]*>", " ", text).split())[:120]
            raise Unlike(f"{path} answers {status} at {url} without '{has}': {words}")
        return f"shows '{has}'"

    return patiently(ask, seconds)


def fields(path, form_url=None):
    """The hidden fields of a page's form."""
    _, _, text, _ = BROWSER.sign_in().open(path)
    found = re.findall(r'<input[^>]*type="hidden"[^>]*>', text)
    pairs = [(re.search(r'name="([^"]*)"', tag), re.search(r'value="([^"]*)"', tag)) for tag in found]
    return {name[1]: html.unescape(value[1]) for name, value in pairs if name and value}


def basic(user=ADMIN, password=PASSWORD):
    """The header by which a program signs in."""
    import base64

    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def request(url, data=None, method=None, headers=None, good=(200, 201, 204, 207)):
    """What a program gets from an address, which must answer well."""
    if isinstance(data, (dict, list)):
        data, headers = json.dumps(data).encode(), {"Content-Type": "application/json", **(headers or {})}

    def ask():
        status, at, text, answered = Browser().open(url, data, headers, method)
        if status not in good:
            raise Unlike(f"{method or 'GET'} {url} answers {status}: {' '.join(text.split())[:120]}")
        return text, answered

    return patiently(ask, 45)
