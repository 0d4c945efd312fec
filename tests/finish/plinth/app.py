"""The apps of the box that is none."""
import os
import types

from . import BOX, load, note, save
from .modules.backups.components import BackupRestore, DatabaseRestore
from .daemon import Daemon
from .package import Packages

DUMP = '/var/lib/plinth/backups-data/miniflux-database.sql'


class App:
    apps = []

    def __init__(self, app_id, version, packages, component, user=None, folders=(), unit=None, web_name=None):
        self.app_id, self.user, self.folders = app_id, user, folders
        self.info = types.SimpleNamespace(version=version, is_essential=app_id == 'letsencrypt', name=app_id)
        self.packages = Packages(packages)
        self.components = {'packages': self.packages}
        if component:
            component.app = self
            self.components['backup'] = component
        if unit:
            self.components['daemon'] = Daemon(unit)
        if web_name:
            self.components['web'] = types.SimpleNamespace(web_name=web_name, kind='config', urls=[])

    @classmethod
    def list(cls):
        return cls.apps

    @classmethod
    def get(cls, app_id):
        for app in cls.apps:
            if app.app_id == app_id:
                return app
        raise KeyError(app_id)

    def get_components_of_type(self, kind):
        return [part for part in self.components.values() if isinstance(part, kind)]

    def needs_setup(self):
        return not load()['versions'].get(self.app_id)

    def is_enabled(self):
        return True

    def diagnose(self):
        broken = BOX / f'var/lib/plinth/broken-{self.app_id}'
        return [['always broken', 'failed'], [f'{self.app_id} answers', 'failed' if broken.exists() else 'passed']]

    def install(self):
        """What packages and setup do; a half of it may have been done before."""
        for package in self.packages.package_expressions:
            if not (BOX / f'var/cache/apt/archives/{package}.deb').exists():
                raise RuntimeError(f'{package} was not downloaded')
            if load()['versions'].get('torproxy'):
                raise RuntimeError(f'Tor does not reach the source of {package} yet')
        if (BOX / f'var/lib/plinth/refuse-{self.app_id}').exists():
            raise RuntimeError('the package says no')
        if self.user:
            for name, line in (('passwd', f'{self.user}:x:150:151::/:/bin/false\n'), ('group', f'{self.user}:x:151:\n')):
                path = BOX / 'etc' / name
                text = path.read_text(encoding='utf-8')
                if not text.startswith(self.user) and f'\n{self.user}:' not in text:
                    path.write_text(text + line, encoding='utf-8')
        for folder in self.folders:
            os.makedirs(BOX / folder, exist_ok=True)
            (BOX / folder / 'from-the-package').write_text('default\n', encoding='utf-8')
        state = load()
        state['databases'].setdefault(self.app_id, 'empty\n')
        state['versions'][self.app_id] = self.info.version
        save(state)
        note(f'install {self.app_id}')


def apps_init():
    App.apps = [
        App('letsencrypt', 4, [], BackupRestore(directories=['/etc/letsencrypt/'])),
        App('radicale', 4, ['radicale'], BackupRestore(directories=['/etc/radicale/', '/var/lib/radicale/'])),
        App('roundcube', 4, ['roundcube'], BackupRestore(files=['/etc/roundcube/freedombox-config.php'])),
        App('shaarli', 1, ['shaarli'], BackupRestore(directories=['/var/lib/shaarli/data'])),
        App('gitweb', 3, ['gitweb'], BackupRestore(directories=['/var/lib/git/'], delete_before=['/var/lib/git/']),
            user='gituser', folders=['var/lib/git']),
        App('miniflux', 2, ['miniflux', 'postgresql'],
            DatabaseRestore(files=['/etc/miniflux/freedombox.conf', DUMP], services=['miniflux']), folders=['etc/miniflux'],
            unit='miniflux'),
        App('wordpress', 4, ['wordpress'],
            DatabaseRestore(files=['/var/lib/plinth/backups-data/wordpress-database.sql'])),
        App('mediawiki', 13, [], None),
        # Its user is systemd's, and its package brings a folder where systemd wants a link.
        App('calibre', 3, ['calibre'], BackupRestore(directories=['/var/lib/private/calibre-server-freedombox/']),
            folders=['var/lib/calibre-server-freedombox'], unit='calibre.socket', web_name='calibre'),
        # Debian moved its data to where a user that systemd makes up has it.
        App('minetest', 2, ['minetest-server'],
            BackupRestore(directories=['/var/games/minetest-server/'], files=['/etc/minetest/minetest.conf'],
                          services=['minetest-server']),
            folders=['var/lib/luanti/default'], unit='minetest-server'),
        App('openvpn', 5, ['openvpn'], BackupRestore(directories=['/etc/openvpn/']), folders=['etc/openvpn/server']),
        App('tor', 8, ['tor'], BackupRestore(directories=['/etc/tor/instances/plinth/'])),
        # Once it is installed, packages come through Tor.
        App('torproxy', 2, ['tor', 'apt-transport-tor'], BackupRestore(directories=['/etc/tor/instances/fbxproxy/'])),
        App('security', 9, [], BackupRestore(files=['/etc/security/access.d/50freedombox.conf'])),
        # It backed its shares up once.
        App('samba', 6, ['samba'], BackupRestore(services=['smbd'])),
    ]


def apps_post_init():
    note('start')
