"""Whether an app answers: FreedomBox's own diagnostics, its pages, and the app itself behind the web server.

Part of driver.py. Changes nothing, but starts services that only run when somebody needs them, or that failed.
"""
import http.client
import os
import re
import socket
import ssl
import threading
import urllib.error
import urllib.parse
import urllib.request

from ground import inside, module, reason, run

# Seconds after which diagnostics are not waited for any more.
LONGEST_DIAGNOSTICS = 45


def units(app):
    """The app's own units."""
    kind = module('daemon').Daemon
    return [part.unit if '.' in part.unit else f'{part.unit}.service'
            for part in app.components.values() if isinstance(part, kind)]


def shown(unit, *properties):
    """Properties of a unit as systemd has them, drop-ins included."""
    said = run('systemctl', 'show', *(f'--property={name}' for name in properties), unit).stdout
    return dict(line.split('=', 1) for line in said.splitlines() if '=' in line)


def started_by_sockets(app):
    """Services that run only when somebody connects."""
    sockets = [unit for unit in units(app) if unit.endswith('.socket')]
    names = [name for unit in sockets for name in shown(unit, 'Triggers').get('Triggers', '').split()]
    # A socket that starts a service for each connection has no service to ask for.
    return [name for name in names if '@.' not in name]


def revive(app):
    """Starts the app's services that ended with a failure. FreedomBox restarts some whenever a domain or a certificate
    changes; one that meets half of a change fails, and nobody starts it again before the next boot."""
    for unit in units(app):
        if shown(unit, 'ActiveState').get('ActiveState') == 'failed':
            run('systemctl', 'reset-failed', unit)
            run('systemctl', 'start', unit)


def state_directories(app):
    """State directories, below /var/lib, of the app's services whose user systemd makes up."""
    names = []
    for unit in [*units(app), *started_by_sockets(app)]:
        facts = shown(unit, 'DynamicUser', 'StateDirectory')
        if facts.get('DynamicUser') == 'yes':
            names += [name.split(':')[0] for name in facts.get('StateDirectory', '').split()]
    return sorted(set(names))


def diagnose(app):
    """What FreedomBox's diagnostics call failed, by name. Some ask servers far away and wait for minutes where there is
    no network: what is not known by then counts as nothing."""
    failed, results = {}, []

    def ask():
        try:
            results.extend(app.diagnose())
        except Exception as exception:
            failed['diagnose'] = f'the diagnostics stopped: {reason(exception)}'

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(LONGEST_DIAGNOSTICS)
    if asking.is_alive():
        return {}
    for result in results:
        if isinstance(result, (list, tuple)):
            name, what, verdict = str(result[0]), str(result[0]), str(result[1])
        else:
            name, verdict = result.check_id, str(result.result)
            what = str(getattr(result, 'translated_description', result.description))
        if verdict in ('failed', 'error'):
            failed[name] = what
    return failed


def unused(app, placed=()):
    """Restored data that this box does not use; `placed` are the paths that were restored."""
    if app == 'minetest':
        return unread_worlds(worlds(placed))
    settings = inside('/etc/dbconfig-common/roundcube.conf')
    if app == 'roundcube' and settings.exists():
        kind = re.search(r"^dbc_dbtype='(\w*)'", settings.read_text(encoding='utf-8', errors='replace'), re.MULTILINE)
        if kind and kind.group(1) != 'sqlite3':
            return [f'Roundcube uses a {kind.group(1)} database on this box, not the restored one of SQLite; '
                    'no backup of FreedomBox holds that']
    return []


def worlds(placed):
    """The folders of Luanti's worlds below these paths."""
    return sorted(mark.parent for path in placed if inside(path).is_dir() for mark in inside(path).glob('worlds/*/world.mt'))


def unread_worlds(came):
    """Asks the server of Luanti itself: one of the worlds that came has to be the one whose files it has open. A world
    whose map is in no file of its own cannot be asked for."""
    unit = next((unit for unit in ('luanti-server.service', 'minetest-server.service')
                 if inside(f'/usr/lib/systemd/system/{unit}').exists()), None)
    kept = re.compile(r'^\s*backend\s*=\s*(sqlite3|leveldb)\s*$', re.MULTILINE)
    came = [world for world in came if kept.search((world / 'world.mt').read_text(encoding='utf-8', errors='replace'))]
    facts = shown(unit, 'UnitFileState', 'ActiveState', 'MainPID') if unit and came else {}
    if not facts or facts.get('UnitFileState') != 'enabled' and facts.get('ActiveState') != 'active':
        return []
    process = facts.get('MainPID', '0')
    if facts.get('ActiveState') != 'active' or process == '0':
        return [f'{unit} does not run']
    own = {(stat.st_dev, stat.st_ino) for world in came for part in world.rglob('*') for stat in [part.stat()]
           if part.is_file()}
    try:
        handles = os.scandir(inside(f'/proc/{process}/fd'))
        is_read = any((stat.st_dev, stat.st_ino) in own for stat in map(looked_at, handles) if stat)
    except OSError:
        is_read = False
    return [] if is_read else [f'{unit} plays none of the restored worlds ({", ".join(world.name for world in came)})']


def looked_at(handle):
    """What an open file is; `None` for one that was closed meanwhile."""
    try:
        return handle.stat()
    except OSError:
        return None


class Within(urllib.request.HTTPRedirectHandler):
    """Follows redirections inside the app only: FreedomBox's own login is not there while its service is stopped."""

    def redirect_request(self, request, page, code, message, headers, url):
        begun, leads = (urllib.parse.urlsplit(place).path.rstrip('/') for place in (request.get_full_url(), url))
        if not (leads + '/').startswith(begun + '/'):
            return None
        return super().redirect_request(request, page, code, message, headers, url)


def status(url, *handlers):
    """What a page answers with; the certificate of a box is its own."""
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=trusting), *handlers)
    try:
        with opener.open(url, timeout=60) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def fetch(app):
    """The app's pages that do not answer, or answer with an error of the server."""
    bad = {}
    for part in app.components.values():
        for url in getattr(part, 'urls', None) or []:
            url = str(url).replace('{host}', 'localhost')
            if not url.startswith(('http://', 'https://')):
                continue
            try:
                code = status(url, Within())
            except (OSError, ValueError) as error:
                bad[url] = f'{url} does not answer ({" ".join(str(error).split())[:200]})'
                continue
            if code >= 500:
                bad[url] = f'{url} answers with error {code}'
    return bad


def proxied(app):
    """Where the web server passes the app's requests on to, as its configuration says."""
    targets = []
    for part in app.components.values():
        configuration = inside(f'/etc/apache2/conf-enabled/{getattr(part, "web_name", "")}.conf')
        if getattr(part, 'kind', None) == 'config' and configuration.exists():
            text = configuration.read_text(encoding='utf-8', errors='replace')
            targets += re.findall(r'^[ \t]*ProxyPass[ \t]+(?:/\S*[ \t]+)?"?((?:https?:|unix:)[^\s"]+)', text, re.MULTILINE)
    return sorted(set(targets))


class Unmoved(urllib.request.HTTPRedirectHandler):
    """A redirection is an answer."""

    def redirect_request(self, *_):
        return None


def ask_uwsgi(path):
    """The status that a program behind a socket of uWSGI's protocol answers with, as it would to the web server."""
    asked = {'REQUEST_METHOD': 'GET', 'REQUEST_URI': '/', 'PATH_INFO': '/', 'SCRIPT_NAME': '', 'QUERY_STRING': '',
             'SERVER_PROTOCOL': 'HTTP/1.1', 'SERVER_NAME': 'localhost', 'SERVER_PORT': '443', 'HTTP_HOST': 'localhost',
             'REMOTE_ADDR': '127.0.0.1', 'wsgi.url_scheme': 'https'}
    words = b''.join(len(word).to_bytes(2, 'little') + word for pair in asked.items() for word in map(str.encode, pair))
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(str(inside(path)))
        connection.sendall(b'\0' + len(words).to_bytes(2, 'little') + b'\0' + words)
        line = connection.makefile('rb').readline(200)
    found = re.match(rb'HTTP/\S+ (\d{3})', line)
    if not found:
        raise ValueError('it ends without an answer')
    return int(found[1])


def unanswered(app):
    """What of the app itself does not answer, asked behind the web server: that one's own page, which asks who is there,
    says nothing of the app. Services that run only when they are needed are started."""
    bad = {}
    for service in started_by_sockets(app):
        begun = run('systemctl', 'start', service)
        if begun.returncode:
            bad[service] = f'{service} does not start ({" ".join(begun.stdout.split())[-200:]})'
    for target in proxied(app):
        place, _, url = target.rpartition('|')
        if place and not url.startswith('uwsgi:'):
            continue
        try:
            if place:
                code = ask_uwsgi(place.removeprefix('unix:'))
            else:
                code = status(url, urllib.request.ProxyHandler({}), Unmoved())
        except (OSError, ValueError, http.client.HTTPException) as error:
            bad[target] = f'{target} does not answer ({" ".join(str(error).split())[:200]})'
            continue
        if code >= 500:
            bad[target] = f'{target} answers with error {code}'
    return bad
