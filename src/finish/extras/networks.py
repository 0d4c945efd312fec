"""Connections of an old box come onto this one, in NetworkManager's own files, without cutting off the box.

A part of driver.py. Only a Wi-Fi network that the box joins may connect by itself; all others come switched off, and a
connection that is here already stays as it is.
"""
import configparser
import io
import uuid

TITLE, APP = 'Restore: network connections', 'networks'
MADE = 'All but Wi-Fi connections are switched off until you activate them in Networks.'
FOLDER = '/etc/NetworkManager/system-connections'


def parse(text):
    file = configparser.RawConfigParser(delimiters=('=', ), comment_prefixes=('#', ), strict=False, default_section='')
    file.optionxform = str
    file.read_string(text)
    return file


def have(folder):
    """The ids and the UUIDs of the connections on this box."""
    ids, uuids = set(), set()
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        try:
            own = parse(path.read_text(encoding='utf-8'))['connection']
        except (OSError, KeyError, ValueError, configparser.Error):
            continue
        ids.add(own.get('id'))
        uuids.add(own.get('uuid'))
    return ids, uuids


def joins(file):
    """Whether it is a Wi-Fi network that the box joins, and does not make."""
    kind = file['connection'].get('type')
    return kind in ('wifi', '802-11-wireless') and any(
        file.has_section(name) and file[name].get('mode', 'infrastructure') == 'infrastructure'
        for name in ('wifi', '802-11-wireless'))


def adapt(file, ids, box):
    """Make it fit this box, which may have other adapters, and may be reached by a connection of that name."""
    own = file['connection']
    own.setdefault('uuid', str(uuid.uuid4()))
    # When it was last in use decides which of two connections is taken: here it never was.
    own.pop('timestamp', None)
    name, number = own.get('id'), 1
    while own.get('id') in ids:
        own['id'] = f'{name} (old box)' if number == 1 else f'{name} (old box, {number})'
        number += 1
    if not joins(file):
        own['autoconnect'] = 'false'
        return
    adapter = own.get('interface-name')
    if adapter and not box.inside(f'/sys/class/net/{adapter}').exists():
        own.pop('interface-name')
    for name in ('wifi', '802-11-wireless'):
        if file.has_section(name):
            file[name].pop('mac-address', None)


def put(file, folder, box):
    """Readable for root alone: NetworkManager takes no others."""
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    path = folder / f'{file["connection"]["uuid"]}.nmconnection'
    text = io.StringIO()
    file.write(text, space_around_delimiters=False)
    box.write(path, text.getvalue())
    return path


def bring(wanted, came, box):
    folder = box.inside(FOLDER)
    for connection in wanted['connections']:
        name = connection['name']
        try:
            file = parse(connection['text'])
            own = file['connection']
        except Exception as error:
            # Parsers quote what they do not understand, and that may be a password.
            came['lost'][name] = f'its file is not understood ({type(error).__name__})'
            continue
        try:
            ids, uuids = have(folder)
            if own.get('uuid') in uuids:
                came['here'].append(name)
                continue
            if '/' in own.get('uuid', ''):
                own.pop('uuid')
            adapt(file, ids, box)
            path = put(file, folder, box)
            # Where NetworkManager does not run now, it reads the file when it starts.
            box.run('nmcli', 'connection', 'load', str(path))
            came['made'].append(own.get('id', name))
        except OSError as error:
            came['failed'][name] = box.reason(error)
