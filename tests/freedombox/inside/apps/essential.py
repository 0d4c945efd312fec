"""Apps that every FreedomBox has, with settings in their backup."""

import glob
import os
import pathlib
import re
import shutil

from apps import app
from scene import digest, file, module, owner, patiently, privileged, put, run


@app("datetime")
class DateTime:
    """The time zone."""

    def seed(self):
        run("timedatectl", "set-timezone", "Pacific/Auckland")

    def look(self):
        return {"zone": run("timedatectl", "show", "--property=Timezone", "--value")}


@app("dynamicdns")
class DynamicDns:
    """A domain; kept in FreedomBox's own database."""

    def seed(self):
        domain = {
            "service_type": "gnudip", "domain": "zoe.example.org", "server": "dyn.example.org", "username": "zoe",
            "password": "a-secret", "use_http_basic_auth": False, "disable_ssl_cert_check": False, "use_ipv6": False,
            "update_url": None, "disable_http_basic_auth": False,
        }
        module("modules.dynamicdns").set_config({"domains": {"zoe.example.org": domain}})
        module("kvstore").set("dynamicdns_enable", True)

    def look(self):
        domains = module("modules.dynamicdns").get_config()["domains"]
        one = domains.get("zoe.example.org", {})
        return {"domain": f"{one.get('domain')} {one.get('server')} {one.get('username')} {one.get('password')}"}


@app("letsencrypt")
class LetsEncrypt:
    """A certificate of a domain, as certbot keeps it."""

    home = "/etc/letsencrypt"

    def seed(self):
        name = "zoe.example.org"
        archive, live = f"{self.home}/archive/{name}", f"{self.home}/live/{name}"
        for folder in (archive, live, f"{self.home}/renewal"):
            os.makedirs(folder, exist_ok=True)
        run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "80", "-subj", f"/CN={name}",
            "-addext", f"subjectAltName=DNS:{name}", "-keyout", f"{archive}/privkey1.pem", "-out", f"{archive}/cert1.pem")
        shutil.copy(f"{archive}/cert1.pem", f"{archive}/chain1.pem")
        shutil.copy(f"{archive}/cert1.pem", f"{archive}/fullchain1.pem")
        lines = ["version = 2.0.0", f"archive_dir = {archive}"]
        for part in ("cert", "privkey", "chain", "fullchain"):
            link = pathlib.Path(f"{live}/{part}.pem")
            link.unlink(missing_ok=True)
            link.symlink_to(f"../../archive/{name}/{part}1.pem")
            lines.append(f"{part} = {link}")
        put(f"{self.home}/renewal/{name}.conf", "\n".join([*lines, "[renewalparams]", "authenticator = webroot", ""]))

    def look(self):
        seen = privileged("letsencrypt").get_status()["domains"].get("zoe.example.org", {})
        shown = run("openssl", "x509", "-noout", "-fingerprint", "-in", f"{self.home}/live/zoe.example.org/fullchain.pem")
        return {"FreedomBox sees": str(seen.get("certificate_available")), "certificate": shown.split("=")[-1][:29]}


@app("privacy")
class Privacy:
    """Whether use is reported."""

    def seed(self):
        privileged("privacy").set_configuration(enable_popcon=True)

    def look(self):
        return {"reported": str(privileged("privacy").get_configuration())}


@app("security")
class Security:
    """Who may sign in at the console."""

    file = "/etc/security/access.d/50freedombox.conf"

    def seed(self):
        # As FreedomBox wrote it: where it works by sudo, its own user has to be let in.
        put(self.file, "# test marker 121\n-:ALL EXCEPT root fbx plinth (admin) (sudo):ALL\n")

    def look(self):
        return {"file": file(self.file) if os.path.exists(self.file) else "missing"}


@app("snapshot")
class Snapshot:
    """How many snapshots are kept."""

    def seed(self):
        privileged("snapshot").set_config(["TIMELINE_LIMIT_WEEKLY=17"])

    def look(self):
        config = privileged("snapshot").get_config()
        listed = run("snapper", "--no-dbus", "get-config")
        found = re.search(r"TIMELINE_LIMIT_WEEKLY\s*\|\s*(\S+)", listed)
        return {"snapper": found[1] if found else "none", "FreedomBox": str(config.get("TIMELINE_LIMIT_WEEKLY", config.get("timeline_limit_weekly")))}


@app("ssh")
class Ssh:
    """The keys that clients know the box by."""

    def seed(self):
        for key in glob.glob("/etc/ssh/ssh_host_*"):
            os.unlink(key)
        run("ssh-keygen", "-A")
        run("systemctl", "restart", "ssh")

    def look(self):
        shown = patiently(lambda: run("ssh-keyscan", "-t", "ed25519", "127.0.0.1").split()[-1])
        return {"shows the key": shown, "owner": owner("/etc/ssh/ssh_host_ed25519_key")}


@app("upgrades")
class Upgrades:
    """Whether the box upgrades by itself."""

    def seed(self):
        privileged("upgrades").disable_auto()

    def look(self):
        return {"by itself": str(privileged("upgrades").check_auto()), "file": digest("/etc/apt/apt.conf.d/20auto-upgrades")}
