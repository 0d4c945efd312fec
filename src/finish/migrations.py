"""What single apps need around FreedomBox's own restore, and it does not do: bringing data of an older release up to date,
importing what it imports no more, and taking that out again.

Part of driver.py. Every step can be done again.
"""
import os
import pathlib
import re

from answers import unused, worlds
from ground import DUMPS, Failed, inside, module, must, run, write


def migrate_mediawiki(placed):
    module('modules.mediawiki.privileged').update()
    # Up to 26 the script runs as root and may leave files that the web server cannot write.
    must('chown', '--recursive', 'www-data:www-data', '/var/lib/mediawiki-db')


WORDPRESS = '''
define('WP_INSTALLING', true);
$_SERVER['HTTP_HOST'] = 'localhost';
$_SERVER['REQUEST_URI'] = '/wordpress/';
require '/usr/share/wordpress/wp-load.php';
require_once ABSPATH . 'wp-admin/includes/upgrade.php';
if (is_blog_installed()) {
    wp_upgrade();
    $theme = wp_get_theme();
    $other = WP_Theme::get_core_default_theme();
    if (!$theme->exists() && $other) {
        switch_theme($other->get_stylesheet());
        echo 'theme gone: ' . $theme->get_stylesheet() . ' -> ' . $other->get_stylesheet();
    }
}
'''


def relink(kept, shipped):
    """Debian's own parts of a program stand as links among the owner's: those of this release, not of the restored one."""
    for link in kept.iterdir() if kept.is_dir() else []:
        if link.is_symlink() and not link.exists() and os.readlink(link).startswith(f'{shipped}/'):
            link.unlink()
    for part in shipped.iterdir() if shipped.is_dir() and kept.is_dir() else []:
        if not os.path.lexists(kept / part.name):
            (kept / part.name).symlink_to(part)


def migrate_wordpress(placed):
    for kind in ('languages', 'plugins', 'themes'):
        relink(inside(f'/var/lib/wordpress/wp-content/{kind}'), inside(f'/usr/share/wordpress/wp-content/{kind}'))
    with module('action_utils').service_ensure_running('mysql'):
        said = must('runuser', '-u', 'www-data', '--', 'php', '-r', WORDPRESS, cwd='/')
    gone = re.search(r'theme gone: (\S+) -> (\S+)', said)
    return gone and f"the site's theme '{gone[1]}' is not in this release; it has the theme '{gone[2]}' now"


def migrate_minetest(placed):
    came = [world.name for world in worlds(placed)]
    notes = [f'its worlds came ({", ".join(came)}); the server plays one of them'] if len(came) > 1 else []
    settings = '/etc/luanti/default.conf'
    if settings in placed and settings not in module('modules.minetest.manifest').backup.get('config', {}).get('files', []):
        notes.append(f'its settings are in {settings}, which the server reads; the page of this FreedomBox shows and '
                     'changes others, which nothing reads')
    return '; '.join(notes) or None


def migrate_nextcloud(placed):
    privileged = module('modules.nextcloud.privileged')
    privileged._run_occ('upgrade', '--no-interaction')
    privileged._run_occ('maintenance:mode', '--off')


def migrate_roundcube(placed):
    update = inside('/usr/share/roundcube/bin/updatedb.sh')
    # Where it uses another database, the check says so.
    if update.exists() and not unused('roundcube'):
        must('runuser', '-u', 'www-data', '--', str(update), '--dir=/usr/share/roundcube/SQL', '--package=roundcube', cwd='/')


SHARES = f'{DUMPS}samba-shares-dump.conf'


# What FreedomBox sets for a share. Others can make Samba run any command as root.
SHARE_SETTINGS = {'path', 'comment', 'guest ok', 'read only', 'writeable', 'writable', 'browseable', 'valid users',
                  'force group', 'inherit permissions'}
SHARE_COMMAND = re.compile(r'mkdir -p -m 755 [\w/.% -]+')


def shares_in(dump):
    """The shares in what `net conf list` printed, each with the settings of it that FreedomBox does not make."""
    shares, strange = {}, []
    for line in dump.read_text(encoding='utf-8', errors='replace').splitlines():
        head = re.fullmatch(r'\[(.+)\]\s*', line)
        name, _, value = (part.strip() for part in line.partition('='))
        if head:
            strange = shares.setdefault(head[1], [])
        elif name and name.lower() not in SHARE_SETTINGS and not (name == 'preexec' and SHARE_COMMAND.fullmatch(value)):
            strange.append(name)
    shares.pop('global', None)
    return shares


def shares_here():
    return {name.lower() for name in must('net', 'conf', 'listshares').splitlines()}


def save_samba():
    inside(SHARES).parent.mkdir(exist_ok=True)
    write(inside(SHARES), must('net', 'conf', 'list'))
    return [SHARES]


def migrate_samba(placed):
    # FreedomBox has shares in its backups until 24.20 only. One that is here already stays as it is.
    if SHARES not in placed:
        return None
    here = shares_here()
    new = {name: strange for name, strange in shares_in(inside(SHARES)).items() if name.lower() not in here}
    came = [name for name, strange in new.items() if not strange]
    for name in came:
        must('net', 'conf', 'import', str(inside(SHARES)), name)
    notes = [f'its shares came ({", ".join(came)}), and are empty until the disks with their folders are here'] if came else []
    notes += [f'ATTENTION: its share {name} did NOT come: FreedomBox makes no share with {", ".join(strange)}, which may '
              'run commands' for name, strange in new.items() if strange]
    return '; '.join(notes) or None


def take_out_samba(kept):
    before = kept / pathlib.Path(SHARES).name
    if not before.exists() or not inside(SHARES).exists():
        return
    own, here = {name.lower() for name in shares_in(before)}, shares_here()
    for name in shares_in(inside(SHARES)):
        if name.lower() not in own and name.lower() in here:
            must('net', 'conf', 'delshare', name)


def migrate_sharing(placed):
    # Since 26 members of a group sign in by other means; FreedomBox rewrites the shares that it finds when it is set up.
    module('modules.sharing.privileged').setup()


OPENVPN = '/etc/openvpn/freedombox-keys/pki'


def migrate_openvpn(placed):
    # What FreedomBox does at its own upgrade: without its settings no profile can be fetched any more. Keys stay.
    privileged, settings = module('modules.openvpn.privileged'), inside(f'{OPENVPN}/vars')
    if not hasattr(privileged, '_write_easy_rsa_config') or not inside(OPENVPN).is_dir():
        return
    set_here = settings.exists() and re.search(r'^\s*set_var\s+EASYRSA_BATCH\b', settings.read_text(errors='replace'), re.M)
    if not set_here or privileged._is_renewable('server'):
        privileged.setup()


TORRC = '/etc/tor/instances/plinth/torrc'
# Where FreedomBox lets Tor be a proxy for others.
PROXY = re.compile(r'^\s*(?:SocksPort|TransPort|DNSPort)\s+\S*:(?:9050|9040|9053)\b', re.MULTILINE | re.IGNORECASE)


def migrate_tor(placed):
    # Since 23.14 the proxy is an app of its own, at the same ports. FreedomBox's own upgrade takes it out of this one.
    privileged, settings = module('modules.tor.privileged'), inside(TORRC)

    def is_proxy():
        return settings.is_file() and PROXY.search(settings.read_text(encoding='utf-8', errors='replace'))

    if not hasattr(privileged, '_remove_proxy') or not is_proxy():
        return None
    privileged._remove_proxy()
    if is_proxy():
        raise Failed(f'{TORRC} still has the proxy that is an app of its own now, Tor Proxy')
    if not module('app').App.get('torproxy').needs_setup():
        return None
    return 'as a proxy for other programs, Tor is the app Tor Proxy now: install that where you used it'


ACCESS = '/etc/security/access.d/50freedombox.conf'
# "Nobody but these, from anywhere." FreedomBox's own line has had its user in it for long; it is written no more.
NOBODY_BUT = re.compile(r'(\s*-\s*:\s*ALL\s+EXCEPT\s+)([^:]*)(:.*)', re.DOTALL)


def migrate_security(placed):
    # Up to Debian 12 such a line counts for sudo as well: without its user in it, FreedomBox could do nothing any more.
    path = inside(ACCESS)
    if ACCESS not in placed or path.is_symlink() or not path.is_file():
        return None
    lines = path.read_bytes().decode('utf-8', 'surrogateescape').splitlines(keepends=True)
    found = [NOBODY_BUT.fullmatch(line) for line in lines]
    shut_out = [bool(line) and 'plinth' not in line[2].split() for line in found]
    if not any(shut_out):
        return None
    lines = [f'{line[1]}plinth {line[2]}{line[3]}' if shut else own for own, line, shut in zip(lines, found, shut_out)]
    write(path, ''.join(lines), mode=path.stat().st_mode & 0o777)
    return f"FreedomBox's own user was let in by {ACCESS}, which would have kept it from working"


def migrate_ttrss(placed):
    update = inside('/usr/share/tt-rss/www/update.php')
    if update.exists():
        must('runuser', '-u', 'www-data', '--', 'php', str(update), '--update-schema=force-yes', cwd='/')


# By app; each returns the paths of what it wrote.
SAVES = {'samba': save_samba}
# By app; given the folder with what was there before.
TAKEN_OUT = {'samba': take_out_samba}
# By app; given the paths that were restored, each returns what the owner should know, or nothing.
MIGRATIONS = {
    'mediawiki': migrate_mediawiki,
    'minetest': migrate_minetest,
    'nextcloud': migrate_nextcloud,
    'openvpn': migrate_openvpn,
    'roundcube': migrate_roundcube,
    'samba': migrate_samba,
    'security': migrate_security,
    'sharing': migrate_sharing,
    'tor': migrate_tor,
    'ttrss': migrate_ttrss,
    'wordpress': migrate_wordpress,
}
