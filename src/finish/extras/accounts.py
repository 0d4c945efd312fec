"""People of an old box come onto this one: into the directory, into FreedomBox's own list, with their keys for SSH.

A part of driver.py. Creates only: who is here already stays exactly as he is, so nobody is locked out of this box.
"""
import base64
import grp
import json
import os
import pathlib
import pwd
import subprocess
import tempfile

TITLE, APP, MADE = 'Restore: user accounts', 'users', 'Their passwords are those of the old box.'
USERS, GROUPS = 'ou=users,dc=thisbox', 'ou=groups,dc=thisbox'
OPTIONS = ['-Q', '-Y', 'EXTERNAL', '-H', 'ldapi:///']
# FreedomBox puts everybody into the group "users".
EVERYBODY = 100
FIRST = 10000
# By this, somebody is known whom an interrupted run made: the rest is then still to be done.
MARK = 'Brought over from another box by Lifeboat'


def directory(program, *words, text=''):
    done = subprocess.run([program, *OPTIONS, *words], input=text, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        raise RuntimeError(f'{program} ended with status {done.returncode}: {" ".join(done.stdout.split())[-200:]}')
    return done.stdout


def lines(name, *attributes):
    """One record of LDIF, whatever is in the values."""
    code = lambda value: base64.b64encode(value.encode()).decode()  # noqa: E731
    return '\n'.join([f'dn:: {code(name)}'] + [
        f'{key}: {value}' if key in ('changetype', 'add') else f'{key}:: {code(str(value))}' for key, value in attributes
    ]) + '\n'


def found(base, *wanted):
    pairs = ''.join(f'({key}={value})' for key, value in zip(wanted[::2], wanted[1::2]))
    said = directory('ldapsearch', '-LLL', '-o', 'ldif-wrap=no', '-b', base, f'(&{pairs})', 'dn')
    return any(line.startswith('dn:') for line in said.splitlines())


def taken(base, key):
    said = directory('ldapsearch', '-LLL', '-o', 'ldif-wrap=no', '-b', base, f'({key}=*)', key)
    return {int(line.split(':')[1]) for line in said.splitlines() if line.startswith(f'{key}: ')}


def number(wanted, base, key, look):
    """The old number where it is free, so that files keep their owner; else the next one."""
    used = taken(base, key)
    try:
        look(wanted)
        used.add(wanted)
    except KeyError:
        pass
    if wanted >= FIRST and wanted not in used:
        return wanted
    return max(used | {FIRST - 1}) + 1


def forget():
    """The names that were not there a moment ago may still be remembered as missing."""
    for kind in ('passwd', 'group'):
        subprocess.run(['nscd', f'--invalidate={kind}'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


def make(person):
    name = person['name']
    uid = number(person['number'], USERS, 'uidNumber', pwd.getpwuid)
    fields = [('objectClass', 'top'), ('objectClass', 'account'), ('objectClass', 'posixAccount'), ('cn', name),
              ('uid', name), ('uidNumber', uid), ('gidNumber', EVERYBODY), ('homeDirectory', person['home']),
              ('loginShell', person['shell']), ('gecos', 'User account'), ('description', MARK)]
    if person['password']:
        fields.append(('userPassword', person['password']))
    directory('ldapadd', text=lines(f'uid={name},{USERS}', *fields))
    return uid


def join(name, group):
    if not found(GROUPS, 'cn', group['name']):
        gid = number(group['number'], GROUPS, 'gidNumber', grp.getgrgid)
        directory('ldapadd', text=lines(f'cn={group["name"]},{GROUPS}', ('objectClass', 'posixGroup'),
                                        ('cn', group['name']), ('gidNumber', gid), ('description', 'Group account')))
    try:
        directory('ldapmodify', text=lines(f'cn={group["name"]},{GROUPS}', ('changetype', 'modify'),
                                           ('add', 'memberUid'), ('memberUid', name)))
    except RuntimeError as error:
        if 'exists' not in str(error):
            raise


def show(person):
    """The user of FreedomBox's pages."""
    from django.contrib.auth.models import Group, User
    web = person['web']
    if web is None or User.objects.filter(username=person['name']).exists():
        return
    user = User(username=person['name'], password=web['password'], email=web['email'], first_name=web['first_name'],
                last_name=web['last_name'], is_active=web['is_active'], is_superuser=web['is_superuser'])
    user.save()
    user.groups.set([Group.objects.get_or_create(name=group)[0] for group in web['groups']])


def give_keys(person, uid):
    if not person['keys']:
        return
    forget()
    home = pathlib.Path(person['home'])
    if not home.exists():
        subprocess.run(['mkhomedir_helper', person['name']], check=False)
    keys = home / '.ssh' / 'authorized_keys'
    if home.is_symlink() or not home.is_dir() or keys.parent.is_symlink() or keys.exists() or keys.is_symlink():
        return
    keys.parent.mkdir(mode=0o700, exist_ok=True)
    handle = os.open(keys, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, 'w', encoding='utf-8') as file:
        file.write(person['keys'])
    for place in (keys.parent, keys):
        os.chown(place, uid, EVERYBODY, follow_symlinks=False)


# Samba's library keeps one database open for good, so each is looked at by a process of its own.
READ = '''
import json, sys
from samba.samba3 import param, passdb
param.get_context().load(sys.argv[1])
old, found = passdb.PDB('tdbsam:' + sys.argv[2]), {}
for name in json.load(sys.stdin):
    try:
        user = old.getsampwnam(name)
    except passdb.error:
        continue
    found[name] = [user.nt_passwd.hex(), user.acct_ctrl, user.pass_last_set_time]
print(json.dumps(found))
'''
WRITE = '''
import json, sys
from samba.samba3 import param, passdb
param.get_context().load(sys.argv[1])
new = passdb.PDB('tdbsam')
for name, (password, control, since) in json.load(sys.stdin).items():
    try:
        user = new.getsampwnam(name)
    except passdb.error:
        # 16: an account of a person. It gets a number of this box.
        new.create_user(name, 16)
        user = new.getsampwnam(name)
    user.nt_passwd, user.acct_ctrl, user.pass_last_set_time = bytes.fromhex(password), control, since
    new.update_sam_account(user)
    print(name)
'''
CONFIGURATION = '/etc/samba/smb.conf'


def samba(program, *words, text):
    done = subprocess.run(['/usr/bin/python3', '-c', program, CONFIGURATION, *words], input=text, text=True, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode:
        raise RuntimeError(f'Samba says: {" ".join(done.stderr.split())[-200:]}')
    return done.stdout


def give_passwords(raw, made, came):
    """Samba's passwords of those who were made, by their names: each box numbers its people in its own way."""
    with tempfile.TemporaryDirectory() as folder:
        old = os.path.join(folder, 'passdb.tdb')
        with os.fdopen(os.open(old, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), 'wb') as file:
            file.write(base64.b64decode(raw))
        given = samba(WRITE, text=samba(READ, old, text=json.dumps(made))).split()
    missing = sorted(set(made) - set(given))
    if missing:
        came['notes'].append(f'For the shares of Samba the password has to be set again: {", ".join(missing)}.')


def bring(wanted, came, box):
    """Who was made, who was here before, and what did not work."""
    made, here, failed = came['made'], came['here'], came['failed']
    groups, reason = wanted['groups'], box.reason
    for person in wanted['people']:
        name = person['name']
        try:
            begun = found(USERS, 'description', MARK, 'uid', name)
            if begun or not (found(USERS, 'uid', name) or known(name)):
                forget()
                uid = pwd.getpwnam(name).pw_uid if begun else make(person)
                for group in groups:
                    if name in group['members']:
                        join(name, group)
                show(person)
                give_keys(person, uid)
                made.append(name)
            else:
                here.append(name)
        except Exception as error:
            failed[name] = reason(error)
    forget()
    if made and wanted.get('samba'):
        try:
            give_passwords(wanted['samba'], made, came)
        except Exception as error:
            came['notes'].append(f'For the shares of Samba the passwords have to be set again ({reason(error)}).')


def known(name):
    try:
        pwd.getpwnam(name)
        return True
    except KeyError:
        return False
