"""Drives the FreedomBox that is installed here, whatever its version: a child of lifeboat, which decides everything.

Speaks JSON lines on the standard input and output that it was started with. One line asks for something, one line
answers: {"ok": ...} or {"error": "..."}. While an app is restored, the answer is preceded by {"ask": "place", ...}, and
the next line says whether its files are in place. What FreedomBox itself prints goes to standard error.

Written against plinth 23.6 to 26.11 and freedombox 26.12 to 26.15; uses only what `plinth --setup` and the web pages use.
"""
import importlib
import json
import logging
import os
import re
import sys
import threading
import time

import ground
from answers import diagnose, fetch, revive, started_by_sockets, state_directories, unanswered, unused
from ground import DUMPS, PACKAGE, Failed, inside, module, must, reason, run
from migrations import MIGRATIONS, SAVES, TAKEN_OUT


class Errors(logging.Handler):
    """Keeps what FreedomBox logs instead of raising."""

    def __init__(self):
        super().__init__(level=logging.ERROR)
        self.seen = []

    def emit(self, record):
        caused = record.exc_info[1] if record.exc_info else None
        self.seen.append(reason(caused) if caused else ' '.join(record.getMessage().split())[:400])


class Box:
    """The installed FreedomBox."""

    def __init__(self, pipe_in, pipe_out):
        self.pipe_in, self.pipe_out = pipe_in, pipe_out
        self.is_started = False

    # The protocol.

    def say(self, value):
        self.pipe_out.write(json.dumps(value) + '\n')
        self.pipe_out.flush()

    def ask(self, value):
        self.say(value)
        line = self.pipe_in.readline()
        if not line:
            raise Failed('lifeboat went away')
        return json.loads(line)

    def serve(self):
        for line in self.pipe_in:
            request = json.loads(line)
            try:
                answer = getattr(self, 'do_' + request.pop('do'))(**request)
                self.say({'ok': answer})
            except Failed as failed:
                self.say({'error': failed.args[0]})
            except BaseException as exception:  # FreedomBox also raises SystemExit
                logging.getLogger('lifeboat').exception('it did not work')
                self.say({'error': reason(exception)})

    # Looking.

    def do_load(self):
        """Load FreedomBox as its own commands do, without changing anything."""
        cfg = module('cfg')
        cfg.read()
        module('log').init()
        module('web_framework').init()
        loader = module('module_loader')
        loader.include_urls()
        module('menu').init()
        loader.load_modules()
        module('app').apps_init()
        return {'package': PACKAGE}

    def do_unready(self):
        """Apps of every FreedomBox that its first setup has not reached yet."""
        return [app.app_id for app in module('app').App.list() if app.info.is_essential and app.needs_setup()]

    def do_start(self):
        """Bring its database up to date and start its apps, as its service does. Only while that is stopped."""
        if not self.is_started:
            module('web_framework').post_init()
            module('app').apps_post_init()
            self.is_started = True
        return {}

    def app(self, app_id):
        try:
            return module('app').App.get(app_id)
        except KeyError:
            return None

    def component(self, app):
        kind = module('modules.backups.components').BackupRestore
        return next((part for part in app.components.values() if isinstance(part, kind)), None)

    def do_look(self, app):
        """What FreedomBox knows of an app."""
        found = self.app(app)
        if found is None:
            return {'known': False}
        facts = {'known': True, 'is_set_up': not found.needs_setup(), 'has_backup': self.component(found) is not None,
                 'packages': [], 'missing': []}
        if not facts['is_set_up']:
            for part in found.get_components_of_type(module('package').Packages):
                for expression in self.expressions(part):
                    try:
                        facts['packages'].append(str(expression.actual()))
                    except Exception:  # MissingPackageError moved between versions
                        facts['missing'].append(str(expression))
        return facts

    @staticmethod
    def expressions(part):
        return part.package_expressions

    def do_numbers(self, users, groups):
        """The numbers of users and groups, also of those in the directory of people."""
        import grp
        import pwd
        found = {'users': {}, 'groups': {}}
        for name in users:
            try:
                found['users'][name] = pwd.getpwnam(name).pw_uid
            except (KeyError, ValueError):
                pass
        for name in groups:
            try:
                found['groups'][name] = grp.getgrnam(name).gr_gid
            except (KeyError, ValueError):
                pass
        return found

    # Working.

    def do_install(self, app):
        """Install and set up."""
        done = threading.Event()
        if app == 'ejabberd':
            threading.Thread(target=help_ejabberd, args=(done,), daemon=True).start()
        try:
            operation = module('setup').run_setup_on_app(app)
            if operation:
                operation.join()
        finally:
            done.set()
        if self.app(app).needs_setup():
            raise Failed('FreedomBox did not record it as set up')
        # FreedomBox shows ten notifications: one for each installed app would hide what is said of the restore.
        kind = module('notification').Notification
        try:
            kind.get(f'{app}-operation').dismiss()
        except KeyError:
            pass
        return {}

    def do_save(self, app):
        """Dump the database or the settings that the app has now; the paths of the dumps."""
        component = self.component(self.app(app))
        dumps = self.dumps(component)
        if not dumps and app in SAVES:
            return {'dumps': SAVES[app]()}
        for path in dumps:
            inside(path).unlink(missing_ok=True)
        packet = module('modules.backups.api').Packet('backup', 'apps', '/', [component])
        component.backup_pre(packet)
        written = [path for path in dumps if inside(path).exists()]
        if not written:
            raise Failed('FreedomBox wrote no dump')
        return {'dumps': written}

    @staticmethod
    def dumps(component):
        files = []
        for section in (component.config, component.data, component.secrets):
            files += [path for path in section.get('files', []) if path.startswith(DUMPS)]
        return files

    def do_restore(self, app):
        """FreedomBox's own restore of one app, with the files put in place by lifeboat."""
        api = module('modules.backups.api')
        component = self.component(self.app(app))
        # Lifeboat replaces whole directories and keeps the old ones.
        if hasattr(component, 'delete_before_restore'):
            component.delete_before_restore = []
        packets = []

        def handler(packet, encryption_passphrase=None):
            packets.append(packet)
            # FreedomBox stops the socket. A service that it started would go on with the old files.
            for service in started_by_sockets(self.app(app)):
                run('systemctl', 'stop', service)
            states = state_directories(self.app(app))
            answer = self.ask({'ask': 'place', 'dumps': self.dumps(component), 'states': states})
            if not answer.get('placed'):
                raise Failed('its files could not be put in place')

        errors = Errors()
        logger = logging.getLogger(api.__name__)
        logger.addHandler(errors)
        done = threading.Event()
        if app == 'ejabberd':
            threading.Thread(target=help_ejabberd, args=(done,), daemon=True).start()
        try:
            api.restore_apps(handler, app_ids=[app], create_subvolume=False, backup_file=None)
        finally:
            done.set()
            logger.removeHandler(errors)
            wake(component)
        failed = [str(error.hook) for packet in packets for error in packet.errors]
        if failed:
            raise Failed(f'FreedomBox\'s step {", ".join(failed)} failed: {"; ".join(errors.seen) or "no reason given"}')
        for path in self.dumps(component):
            if inside(path).exists() and path.endswith('.sql'):
                compare(inside(path))
        reload_web_server()
        return {}

    def do_take_out(self, app, kept):
        """Take out again what was imported here and not by FreedomBox: it does not do that either. `kept` is the folder
        with what the app had before."""
        step = TAKEN_OUT.get(app)
        if step is not None and not self.dumps(self.component(self.app(app))):
            step(inside(kept))
        return {}

    def do_migrate(self, app, placed):
        """What the app itself has to do with data of an older release, and FreedomBox does not do after a restore."""
        step = MIGRATIONS.get(app)
        return {'note': step(placed) if step is not None else None}

    def do_check(self, app, patience, known, settling=0, placed=()):
        """Whether the app answers: FreedomBox's own diagnostics, its pages, and the app itself behind the web server; and
        whether it uses what was `placed`. Failures that were `known` before count only where a page is behind them. A
        service that was started just now gets `settling` seconds to answer."""
        found = self.app(app)
        end, settled = time.monotonic() + patience, time.monotonic() + settling
        while True:
            failed, pages, silent = {}, {}, {}
            if found.is_enabled():
                revive(found)
                failed, pages, silent = diagnose(found), fetch(found), unanswered(found)
                failed.update(silent)
            new = [text for name, text in failed.items() if name not in known] + unused(app, placed)
            now = time.monotonic()
            if (not new and not pages or now >= end) and (not silent or now >= settled):
                return {'failed': sorted(failed), 'new': new + list(pages.values()), 'enabled': found.is_enabled()}
            time.sleep(5)

    def do_notify(self, title, message, severity):
        """Show a notification on FreedomBox's pages; one that is there already stays as it is."""
        kind = module('notification').Notification
        title, message = (text.replace('{', '(').replace('}', ')') for text in (title, message))
        try:
            shown = kind.get('lifeboat-restore')
            if (shown.title, shown.message) == (title, message):
                return {'new': False}
        except KeyError:
            pass
        kind.update_or_create(id='lifeboat-restore', app_id='backups', severity=severity, title=title, message=message,
                              actions=[{'type': 'dismiss'}], group='admin', dismissed=False)
        return {'new': True}

    def do_bring(self, kind, wanted):
        """Make of one kind of extra what is not here, and say so on FreedomBox's pages."""
        part = importlib.import_module(f'extras.{kind}')
        came = {'made': [], 'here': [], 'failed': {}, 'lost': {}, 'notes': []}
        part.bring(wanted, came, ground)
        failed = came['failed'] | came['lost']
        lines = [f'{name} was NOT brought over: {why}.' for name, why in failed.items()]
        if came['made']:
            lines.append(f'Brought over: {", ".join(came["made"])}. {part.MADE}')
        if came['here']:
            lines.append(f'Here before, and left as it is: {", ".join(came["here"])}.')
        lines += came['notes']
        # With any other sign in it, FreedomBox finds no address to dismiss it at, and shows an error in place of each page.
        name = f'lifeboat-{kind}'.replace('_', '-')
        module('notification').Notification.update_or_create(
            id=name, app_id=part.APP, severity='error' if failed else 'info', title=part.TITLE,
            message=' '.join(lines).replace('{', '(').replace('}', ')'), actions=[{'type': 'dismiss'}], group='admin',
            dismissed=False)
        return came


def help_ejabberd(done):
    """ejabberd does not end on systemd's signal while it is being set up; its own command ends it."""
    waited = 0
    while not done.wait(5):
        state = run('systemctl', 'show', '--property=SubState', '--value', 'ejabberd.service').stdout.strip()
        waited = waited + 5 if state.startswith('stop') else 0
        if waited >= 15:
            run('ejabberdctl', 'stop', timeout=60)
            waited = 0


def wake(component):
    """Start what is enabled and was left stopped: up to 23.19 an error in between leaves services stopped."""
    for service in component.services:
        if isinstance(service, str) and run('systemctl', 'is-enabled', '--quiet', service).returncode == 0:
            if run('systemctl', 'is-active', '--quiet', service).returncode != 0:
                # It may have failed too often in a row while its data was not there.
                run('systemctl', 'reset-failed', service)
                run('systemctl', 'start', service)


def reload_web_server():
    """Its configuration asks which files are there, such as WordPress's mark of a public site, only when it is read."""
    if run('systemctl', 'is-active', '--quiet', 'apache2.service').returncode == 0:
        must('systemctl', 'reload', 'apache2.service')


def compare(path):
    """An import that stops in the middle is no error for psql: count the tables of the dump and of the database."""
    wanted, name, engine = 0, None, None
    with open(path, encoding='utf-8', errors='replace') as dump:
        for line in dump:
            if line.startswith('CREATE TABLE '):
                wanted += 1
            elif engine is None and line.startswith('-- PostgreSQL database dump'):
                engine = 'postgresql'
            elif engine is None and re.match(r'-- (MySQL|MariaDB) dump|/\*M?!', line):
                engine = 'mysql'
            elif name is None:
                found = re.match(r'(?:\\connect|-- Current Database:|USE|-- Host: \S+ +Database:) +["`]?(\w+)', line)
                name = found.group(1) if found else None
    if not name or not engine:
        return
    if engine == 'mysql':
        query = f"select count(*) from information_schema.tables where table_schema = '{name}'"
        command = ['mysql', '--user', 'root', '--batch', '--skip-column-names', '--execute', query]
    else:
        query = "select count(*) from pg_tables where schemaname not in ('pg_catalog', 'information_schema')"
        command = ['runuser', '-u', 'postgres', '--', 'psql', '--tuples-only', '--no-align', '--command', query, name]
    with module('action_utils').service_ensure_running('mysql' if engine == 'mysql' else 'postgresql'):
        answer = run(*command, cwd='/')
    counted = answer.stdout.strip().splitlines()
    if answer.returncode or not counted or not counted[-1].isdigit():
        raise Failed(f'its database cannot be read after the import: {answer.stdout.strip()[-200:]}')
    if int(counted[-1]) < wanted:
        raise Failed(f'only {counted[-1]} of {wanted} tables of its database were imported')


def main():
    # The pipes become ours alone: what FreedomBox starts or prints never gets into them.
    pipe_in = os.fdopen(os.dup(0), encoding='utf-8')
    pipe_out = os.fdopen(os.dup(1), 'w', encoding='utf-8')
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    Box(pipe_in, pipe_out).serve()
    sys.stderr.flush()
    # FreedomBox leaves threads behind that never end.
    os._exit(0)


if __name__ == '__main__':
    main()
