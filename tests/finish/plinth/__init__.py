"""Stands for FreedomBox's own package in tests: the calls that the driver makes, on a box that is a directory."""
import fcntl
import json
import grp
import os
import pathlib
import pwd
import types

BOX = pathlib.Path(os.environ['FAKE_BOX'])
# One at a time: an earlier driver may still be ending after its lifeboat was killed.
_lock = open(BOX.parent / 'driver.lock', 'w', encoding='utf-8')
fcntl.flock(_lock, fcntl.LOCK_EX)


def _number(name, file):
    for line in (BOX / 'etc' / file).read_text(encoding='utf-8').splitlines():
        if line.split(':')[0] == name:
            return int(line.split(':')[2])
    raise KeyError(name)


# The accounts are the box's, not this machine's.
pwd.getpwnam = lambda name: types.SimpleNamespace(pw_uid=_number(name, 'passwd'))
grp.getgrnam = lambda name: types.SimpleNamespace(gr_gid=_number(name, 'group'))
STORAGES = {'u0': {'uuid': 'u0', 'path': '/media/own', 'credentials': {'encryption_passphrase': 'its own'}}}
STATE = BOX / 'var/lib/plinth/fake.json'


def load():
    try:
        return json.loads(STATE.read_text(encoding='utf-8'))
    except FileNotFoundError:
        return {'versions': {'radicale': 4, 'letsencrypt': 4, 'roundcube': 4, 'shaarli': 1}, 'databases': {},
                'notifications': {}, 'migrated': [], 'log': [], 'storages': STORAGES}


def save(state):
    new = STATE.with_suffix('.new')
    new.write_text(json.dumps(state, indent=1, sort_keys=True), encoding='utf-8')
    os.replace(new, STATE)


def note(what):
    state = load()
    state['log'].append(what)
    save(state)


def machine():
    return json.loads(pathlib.Path(os.environ['FAKE_MACHINE']).read_text(encoding='utf-8'))
