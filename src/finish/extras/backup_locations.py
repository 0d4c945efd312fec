"""Backup locations of an old box come onto this one, with their passphrases and schedules, in FreedomBox's own list.

A part of driver.py. A location that is here already stays as it is.
"""
import os
import pwd

TITLE, APP = 'Restore: backup locations', 'backups'
MADE = 'Disks are found under these names when they are connected.'
FOLDER = '/var/lib/plinth/.ssh'
KEY = 'id_ed25519'


def give_keys(keys, box):
    """Where the old box's key lies on this one; `None` where there is none."""
    account = pwd.getpwnam('plinth')
    owner = (account.pw_uid, getattr(account, 'pw_gid', account.pw_uid))
    folder = box.inside(FOLDER)
    if not folder.exists():
        folder.mkdir(mode=0o700)
        os.chown(folder, *owner)
    hosts = keys.get('known_hosts')
    if hosts:
        own = (folder / 'known_hosts').read_text(encoding='utf-8') if (folder / 'known_hosts').exists() else ''
        new = [line for line in hosts.splitlines() if line.strip() and line not in own.splitlines()]
        if new:
            box.write(folder / 'known_hosts', own + ('\n' if own and own[-1] != '\n' else '') + '\n'.join(new) + '\n', owner)
    if KEY not in keys:
        return None
    place = folder / KEY
    if place.exists() and place.read_text(encoding='utf-8') != keys[KEY]:
        # This box has a key of its own, which its own locations need.
        place = folder / f'{KEY}_old_box'
    box.write(place, keys[KEY], owner)
    if KEY + '.pub' in keys:
        box.write(place.with_name(place.name + '.pub'), keys[KEY + '.pub'], owner)
    return f'{FOLDER}/{place.name}'


def bring(wanted, came, box):
    store = box.module('modules.backups.store')
    paused, key, given = [], None, False
    for location in wanted['locations']:
        name = str(location.get('path', location.get('uuid')))
        try:
            own = store.get_storages() or {}
            if location['uuid'] in own or any(other.get('path') == name for other in own.values()):
                came['here'].append(name)
                continue
            if location.get('storage_type') == 'ssh':
                if not given:
                    key, given = give_keys(wanted['keys'], box), True
                if location.get('credentials', {}).get('ssh_keyfile') and key:
                    location['credentials']['ssh_keyfile'] = key
            location.setdefault('credentials', {})
            location.setdefault('added_by_module', 'backups')
            schedule = location.get('schedule') or {}
            if schedule.get('enabled') and not wanted['whole']:
                schedule['enabled'] = False
                paused.append(name)
            store.update_or_add(location)
            came['made'].append(name)
        except Exception as error:
            came['failed'][name] = f'{type(error).__name__}'
    if paused:
        came['notes'].append(f'Some apps were not restored, so the schedules of {", ".join(paused)} are switched off: '
                             'they would replace good backups in time. Switch them on in Backups when all is well.')
