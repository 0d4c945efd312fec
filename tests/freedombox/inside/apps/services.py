"""Apps that are a server for other programs, and apps that only have settings."""

import glob
import importlib.util
import inspect
import json
import os
import pathlib
import re
import time

from apps import app
from scene import (
    ADMIN, PASSWORD, Unlike, basic, certificate, chown, digest, file, first, greeting, module, owner, page, patiently,
    privileged, put, request, run, runs, sqlite,
)

EVENT = (
    "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//test//EN\r\nBEGIN:VEVENT\r\nUID:dentist-2026\r\n"
    "DTSTAMP:20261101T090000Z\r\nDTSTART:20261201T090000Z\r\nDTEND:20261201T100000Z\r\nSUMMARY:Dentist for Zoë\r\n"
    "END:VEVENT\r\nEND:VCALENDAR\r\n"
)


@app("radicale")
class Radicale:
    """A calendar with one event, written and read over CalDAV."""

    calendar = f"https://localhost/radicale/{ADMIN}/family"

    def seed(self):
        request(f"{self.calendar}/", method="MKCALENDAR", headers=basic())
        request(f"{self.calendar}/dentist.ics", EVENT.encode(), "PUT", {**basic(), "Content-Type": "text/calendar"})

    def look(self):
        text, _ = request(f"{self.calendar}/dentist.ics", headers=basic())
        query = b'<propfind xmlns="DAV:"><prop><resourcetype/></prop></propfind>'
        listed, _ = request(f"{self.calendar}/", query, "PROPFIND", {**basic(), "Depth": "1"})
        return {"the event": re.search("SUMMARY:.*", text)[0].strip(), "is listed": str("dentist.ics" in listed)}


@app("ejabberd")
class Ejabberd:
    """A card and a roster entry of a user."""

    def seed(self):
        host = self.host()
        run("ejabberdctl", "set_vcard", ADMIN, host, "FN", "Zoe Test")
        run("ejabberdctl", "add_rosteritem", ADMIN, host, "bob", "example.org", "Bob", "Friends", "both")

    @staticmethod
    def host():
        return patiently(lambda: run("ejabberdctl", "registered_vhosts")).split()[0]

    def look(self):
        host = self.host()
        hello = f"<stream:stream to='{host}' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>"
        return {
            "hosts": host,
            "card": run("ejabberdctl", "get_vcard", ADMIN, host, "FN"),
            "roster": " ".join(run("ejabberdctl", "get_roster", ADMIN, host).split()),
            "XMPP": greeting(5222, hello.encode(), b"stream:stream"),
            "owner": owner("/var/lib/ejabberd"),
        }


@app("infinoted")
class Infinoted:
    """A document, and the certificate that clients know it by."""

    note = "/var/lib/infinoted/sync/note.xml"

    def seed(self):
        put(self.note, "<inf-text-session><buffer>shopping list</buffer></inf-text-session>\n", "infinoted")

    def look(self):
        return {
            "document": file(self.note), "service": runs("infinoted.service"), "port": greeting(6523),
            "certificate": digest("/etc/infinoted/infinoted-cert.pem"), "key": file("/etc/infinoted/infinoted-key.pem"),
        }


@app("email")
class Email:
    """A mail, delivered and read by the mail server."""

    def seed(self):
        text = f"From: zoe@example.org\nTo: {ADMIN}@localhost\nSubject: Moving day 1729\n\nThe boxes are packed.\n"
        run("doveadm", "mailbox", "create", "-u", ADMIN, "Keep", is_lenient=True)
        run("doveadm", "save", "-u", ADMIN, "-m", "Keep", text=text)
        module("modules.email.aliases").put(ADMIN, "zoe-test")

    def look(self):
        ask = ["doveadm", "fetch", "-u", ADMIN, "hdr.subject", "mailbox", "Keep", "all"]
        return {
            "the mail": patiently(lambda: run(*ask)),
            "alias": str([alias.name for alias in module("modules.email.aliases").get(ADMIN)]),
            "IMAP": greeting(143, has=b"* OK"), "SMTP": greeting(25, has=b"220"),
            "dovecot": runs("dovecot.service"), "rspamd": runs("rspamd.service"),
        }


@app("minidlna")
class Minidlna:
    """The folder with media."""

    def seed(self):
        os.makedirs("/srv/media", exist_ok=True)
        privileged("minidlna").set_media_dir("/srv/media")

    def look(self):
        os.makedirs("/srv/media", exist_ok=True)
        return {
            "folder": privileged("minidlna").get_media_dir(), "service": runs("minidlna.service"),
            "its page": page("http://127.0.0.1:8200/", "MiniDLNA", signed_in=False),
        }


def transmission(method, **arguments):
    """Asks Transmission through its own interface."""
    from scene import Browser

    url = "http://127.0.0.1:9091/transmission/rpc"
    data = json.dumps({"method": method, "arguments": arguments}).encode()

    def ask():
        browser = Browser()
        _, _, _, headers = browser.open(url, data)
        session = {name.lower(): value for name, value in headers.items()}["x-transmission-session-id"]
        status, _, text, _ = browser.open(url, data, {"X-Transmission-Session-Id": session})
        if status != 200:
            raise Unlike(f"its interface answers {status}")
        return json.loads(text)["arguments"]

    try:
        return patiently(ask)
    except KeyError as missing:
        raise Unlike(f"its interface does not answer as it should: {missing}") from missing


@app("transmission")
class Transmission:
    """A limit of speed, set and read through its interface."""

    def seed(self):
        transmission("session-set", **{"alt-speed-down": 4711})
        run("systemctl", "restart", "transmission-daemon")

    def look(self):
        limit = transmission("session-get")["alt-speed-down"]
        # Its mode is what each release's server gives it.
        return {"limit": str(limit), "owner": owner(os.path.realpath("/etc/transmission-daemon/settings.json")).split()[0]}


@app("deluge")
class Deluge:
    """A setting that its server reads and writes back at its end."""

    places = ("/var/lib/deluged/config/core.conf", "/var/lib/deluged/.config/deluge/core.conf", "/var/lib/deluged/.config/core.conf")

    def seed(self):
        run("systemctl", "restart", "deluged")
        patiently(lambda: first(*self.places))
        time.sleep(2)
        run("systemctl", "stop", "deluged")
        at = pathlib.Path(first(*self.places))
        text = at.read_text()
        at.write_text(re.sub(r'"max_active_downloading": \d+', '"max_active_downloading": 47', text))
        run("systemctl", "start", "deluged", "deluge-web")

    def look(self):
        run("systemctl", "restart", "deluged")
        runs("deluged.service")
        at = patiently(lambda: first(*self.places))
        found = re.search(r'"max_active_downloading": \d+', pathlib.Path(at).read_text())
        return {"setting": found[0] if found else "none", "service": runs("deluged.service"), "its page": page("/deluge/", "Deluge")}


@app("quassel")
class Quassel:
    """The certificate that clients know it by, and a file of its own."""

    def seed(self):
        put("/var/lib/quassel/marker", "quassel test\n", "quasselcore")

    def look(self):
        return {
            "marker": file("/var/lib/quassel/marker"), "certificate": digest("/var/lib/quassel/quasselCert.pem"),
            "service": runs("quasselcore.service"), "port": greeting(4242),
        }


@app("mumble")
class Mumble:
    """The name of the root channel, and the certificate that clients know it by."""

    database = "/var/lib/mumble-server/mumble-server.sqlite"

    def seed(self):
        # Without a domain FreedomBox gives it no certificate, and without one it does not start.
        home = "/var/lib/mumble-server"
        run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "80", "-subj", "/CN=zoe.example.org",
            "-keyout", f"{home}/privkey.pem", "-out", f"{home}/fullchain.pem")
        chown(f"{home}/privkey.pem", "mumble-server")
        chown(f"{home}/fullchain.pem", "mumble-server")
        privileged("mumble").change_root_channel_name("Living room 271")
        run("systemctl", "reset-failed", "mumble-server")
        run("systemctl", "restart", "mumble-server")

    def look(self):
        return {
            "channel": str(privileged("mumble").get_root_channel_name()), "service": runs("mumble-server.service"),
            "certificate": certificate(64738), "database": owner(first(self.database)),
        }


@app("minetest")
class Minetest:
    """A limit of players, and the world that the server has open."""

    configs = ("/etc/luanti/default.conf", "/etc/minetest/minetest.conf")
    roots = ("/var/lib/private/luanti", "/var/games/minetest-server", "/var/games/luanti-server", "/var/lib/luanti")

    def unit(self):
        for unit in ("luanti-server.service", "minetest-server.service"):
            if run("systemctl", "list-unit-files", "--no-legend", unit, is_lenient=True):
                return unit
        raise Unlike("there is no unit of the server")

    def find(self, name):
        """Where a file lies that the server of this release reads."""
        roots = [root for root in self.roots if ("luanti" in root) == ("luanti" in self.unit())]
        return [at for root in roots for at in glob.glob(f"{root}/**/{name}", recursive=True, include_hidden=True)]

    def world(self):
        found = self.find("world.mt")
        if not found:
            raise Unlike("there is no world")
        return pathlib.Path(found[0])

    def seed(self):
        privileged("minetest").configure(max_players=27)
        run("systemctl", "restart", self.unit())
        world = patiently(self.world)
        run("systemctl", "stop", self.unit())
        put(world.parent / "marker.txt", "diamonds at -12\n", world.owner() if world.owner() != "UNKNOWN" else "root")
        run("systemctl", "start", self.unit())

    def look(self):
        config = pathlib.Path(first(*self.configs)).read_text()
        players = re.search(r"^max_users\s*=\s*(\d+)", config, re.M)
        beside = patiently(self.played)
        return {
            "service": runs(self.unit()).split()[-1], "players": players[1] if players else "none",
            "world": digest(beside) if os.path.exists(beside) else "missing",
        }

    def played(self):
        """The mark beside the map that the running server itself has open."""
        process = run("systemctl", "show", "--property=MainPID", "--value", self.unit())
        handles = [os.path.realpath(at) for at in glob.glob(f"/proc/{process}/fd/*")]
        maps = [at for at in handles if os.path.basename(at) == "map.sqlite"]
        if not maps:
            raise Unlike("the server has no map open")
        return os.path.join(os.path.dirname(maps[0]), "marker.txt")


@app("syncthing")
class Syncthing:
    """The device's identity and a folder, asked through its interface."""

    @staticmethod
    def config():
        found = glob.glob("/var/lib/syncthing/.config/syncthing/config.xml") + glob.glob("/var/lib/syncthing/.local/state/syncthing/config.xml")
        if not found:
            raise Unlike("there is no configuration")
        return pathlib.Path(found[0]).read_text()

    def ask(self, path, data=None, method=None):
        text = patiently(self.config)
        key = re.search("<apikey>(.*?)</apikey>", text)[1]
        port = re.search(r"<address>[\d.]+:(\d+)</address>", text)
        return request(f"http://127.0.0.1:{port[1] if port else 8384}/rest/{path}", data, method, {"X-API-Key": key})[0]

    def seed(self):
        self.ask("config/folders", {"id": "photos-test", "label": "Photos 1618", "path": "/var/lib/syncthing/photos"}, "POST")

    def look(self):
        folders = json.loads(self.ask("config/folders"))
        return {
            "identity": json.loads(self.ask("system/status"))["myID"][:23],
            "folder": str([one["label"] for one in folders if one["id"] == "photos-test"]),
            "service": runs("syncthing@syncthing.service"),
        }


@app("openvpn")
class Openvpn:
    """The authority that clients' profiles were signed by, and a client's key."""

    def seed(self):
        patiently(lambda: first("/etc/openvpn/freedombox-keys/pki/ca.crt", "/etc/openvpn/freedombox-keys/ca.crt"), 200)
        privileged("openvpn").get_profile("zoe", "vpn.example.org")

    def look(self):
        # FreedomBox renews a certificate that ends within three years; the key in it stays.
        profile = privileged("openvpn").get_profile("zoe", "vpn.example.org")
        authority = first("/etc/openvpn/freedombox-keys/pki/ca.crt", "/etc/openvpn/freedombox-keys/ca.crt")
        shown = re.search("<cert>.*?(-----BEGIN CERT.*?)</cert>", profile, re.S)[1]
        return {
            "authority": digest(authority),
            "client's key": run("openssl", "x509", "-noout", "-pubkey", text=shown).strip().splitlines()[1],
            "its certificate": run("openssl", "verify", "-CAfile", authority, text=shown).strip(),
            "key's owner": owner(first("/etc/openvpn/freedombox-keys/pki/private/ca.key", "/etc/openvpn/freedombox-keys/ca.key")),
        }


@app("tor")
class Tor:
    """The address of the onion service, and that Tor is a proxy in one place: this app, or since 23.14 another one."""

    config = "/etc/tor/instances/plinth/torrc"

    def seed(self):
        pass

    def look(self):
        status = privileged("tor").get_status()
        is_proxy = bool(re.search("^SocksPort .*9050", pathlib.Path(self.config).read_text(), re.M))
        has_other = importlib.util.find_spec(module("modules").__name__ + ".torproxy") is not None
        return {
            "onion address": str((status.get("hidden_service") or {}).get("hostname")), "service": runs("tor@plinth.service"),
            "the proxy": "where this release has it" if is_proxy != has_other else f"here: {is_proxy}; in another app: {has_other}",
        }


@app("torproxy")
class TorProxy:
    """A setting of its instance."""

    config = "/etc/tor/instances/fbxproxy/torrc"

    def seed(self):
        with open(self.config, "a", encoding="utf-8") as config:
            config.write("\n# test marker\nMaxCircuitDirtiness 1234\n")
        run("systemctl", "restart", "tor@fbxproxy")

    def look(self):
        found = re.findall("^MaxCircuitDirtiness.*", pathlib.Path(self.config).read_text(), re.M)
        return {"setting": str(found), "service": runs("tor@fbxproxy.service"), "port": greeting(9050)}


@app("samba")
class Samba:
    """Shares; FreedomBox backs them up until 24.20."""

    def seed(self):
        os.makedirs("/srv/disk", exist_ok=True)
        run("net", "conf", "addshare", "family-test", "/srv/disk", "writeable=y", "guest_ok=n", "test share")

    def look(self):
        return {"shares": run("net", "conf", "listshares"), "service": runs("smbd.service")}


@app("coturn")
class Coturn:
    """The secret that other servers sign in with."""

    def seed(self):
        privileged("coturn").set_domain("turn.example.org")

    def look(self):
        import hashlib

        config = privileged("coturn").get_config()
        return {
            "secret": hashlib.sha256(str(config["static_auth_secret"]).encode()).hexdigest()[:16], "realm": str(config["realm"]),
            "service": runs("coturn.service"), "config": owner("/etc/coturn/freedombox.conf"),
        }


@app("bind")
class Bind:
    """A server to ask for names."""

    def seed(self):
        privileged("bind").configure("9.9.9.9 149.112.112.112")

    def look(self):
        import socket

        def ask():
            # "localhost", of type A
            query = bytes.fromhex("123401000001000000000000096c6f63616c686f73740000010001")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
                asked.settimeout(5)
                asked.sendto(query, ("127.0.0.1", 53))
                if asked.recv(512)[:2] != query[:2]:
                    raise Unlike("it does not answer")
            return "answers"

        return {"forwarders": " ".join(privileged("bind").get_config()["forwarders"].split()), "DNS": patiently(ask)}


@app("shadowsocks")
class Shadowsocks:
    """The server to use."""

    def seed(self):
        values = {"server": "192.0.2.7", "server_port": 8765, "method": "aes-256-gcm"}
        merge = privileged("shadowsocks").merge_config
        # The password is among the rest in older releases.
        if len(inspect.signature(merge).parameters) > 1:
            merge(values, "a secret")
        else:
            merge({**values, "password": "a secret"})

    def look(self):
        config = privileged("shadowsocks").get_config()
        return {"server": f"{config['server']}:{config['server_port']}", "secret": str(config["password"] == "a secret")}


@app("shadowsocksserver")
class ShadowsocksServer:
    """The password of clients."""

    def seed(self):
        pass

    def look(self):
        import hashlib

        at = first("/var/lib/private/shadowsocks-libev/fbxserver/fbxserver.json")
        config = json.loads(pathlib.Path(at).read_text())
        return {
            "secret": hashlib.sha256(config["password"].encode()).hexdigest()[:16],
            "service": runs("shadowsocks-libev-server@fbxserver.service"),
        }


@app("pagekite")
class Pagekite:
    """The name of the kite."""

    def seed(self):
        privileged("pagekite").set_config("pagekite.example.org:80", "zoe-test.pagekite.me", "a-secret")

    def look(self):
        config = privileged("pagekite").get_config()
        return {"kite": f"{config['kite_name']} {config['kite_secret']}"}
