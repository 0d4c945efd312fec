#!/usr/bin/env python3
"""Make manifests/*.json from facts extracted from FreedomBox.

    manifests/generate.py FACTS            write the files beside this script
    manifests/generate.py --check FACTS    write nothing; exit 1 when a committed file differs

FACTS is a directory with

    fbx-manifest-history.json       {app: [{first_version, last_version, backup}]}: each app's backup manifest as its
                                    source had it, over all tagged versions
    fbx-apps-VERSION.json           {apps: {app: {...}}}: the apps of one release, as its own code builds them

What these do not carry is in facts/additions.json, which says where each fact was read. README.md describes the
output, schema.json defines it. The output depends on nothing but these inputs. Only the standard library is used.

Facts that contradict each other stop the run: the history must give, for each known release, what that release's own
code gave, and an app must be in exactly the releases between its first and its last version.
"""

import argparse
import json
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
SECTIONS = ('config', 'data', 'secrets')
BACKUPS_DATA = '/var/lib/plinth/backups-data'
PRIVATE = '/var/lib/private/'


class Contradiction(Exception):
    """Two facts cannot both be true."""


def version_key(version):
    """FreedomBox versions are dotted numbers; these order them as dpkg does."""
    if not re.fullmatch(r'[0-9]+(\.[0-9]+)*', version):
        raise Contradiction(f'{version!r} is not a FreedomBox version')
    return [int(number) for number in version.split('.')]


def normal_path(path):
    """An absolute path without doubled or trailing slashes."""
    names = [name for name in path.split('/') if name]
    if not path.startswith('/') or not names or {'.', '..'} & set(names):
        raise Contradiction(f'{path!r} is not a plain absolute path')
    return '/' + '/'.join(names)


def service(entry):
    """A unit name, or an Apache configuration."""
    if isinstance(entry, str):
        return {'kind': 'unit', 'name': entry}
    if entry.get('type') != 'apache':
        raise Contradiction(f'unknown kind of service {entry}')
    return {'kind': f'apache-{entry["kind"]}', 'name': entry['name']}


class Additions:
    """The facts kept by hand; counts what is used, so that none is misspelt and silently without effect."""

    def __init__(self, path):
        with path.open(encoding='utf-8') as file:
            self.tables = json.load(file)
        del self.tables['about']
        for table in self.tables.values():
            del table['about']
        self.unused = {(name, app) for name, table in self.tables.items() for app in table}

    def get(self, table, app, default=None):
        """The entry of an app in a table."""
        self.unused.discard((table, app))
        return self.tables[table].get(app, default)


def normal_backup(app, backup, additions):
    """A backup manifest in the form of the output, without its versions."""
    values = additions.get('placeholders', app, {})
    misfiled = additions.get('files_listed_as_directories', app, [])
    places = {'directories': {}, 'files': {}}
    for section in SECTIONS:
        part = backup.get(section) or {}
        for kind in places:
            for path in part.get(kind, []):
                path = normal_path(values.get(path, path))
                places['files' if path in misfiled else kind].setdefault(path, section)
    settings = backup.get('settings', [])
    if settings:
        places['files'].setdefault(settings_file(app), 'data')
    listed = {
        kind: [{'path': path, 'section': section} for path, section in sorted(paths.items())]
        for kind, paths in places.items()
    }
    return listed | {
        'settings': settings,
        'services': [service(entry) for entry in backup.get('services', [])],
        'delete_before_restore': [normal_path(path) for path in backup.get('delete_before_restore', [])],
    }


def settings_file(app):
    """Where FreedomBox keeps an app's settings while it makes or restores a backup."""
    return f'{BACKUPS_DATA}/{app}-settings.json'


def backup_ranges(app, history, releases, additions):
    """The app's manifests over the versions; neighbours that differ only in notation become one."""
    ranges = []
    for entry in sorted(history, key=lambda entry: version_key(entry['first_version'])):
        backup = normal_backup(app, entry['backup'], additions)
        if ranges and ranges[-1]['backup'] == backup:
            ranges[-1]['last_version'] = entry['last_version']
        else:
            ranges.append({
                'first_version': entry['first_version'],
                'last_version': entry['last_version'],
                'backup': backup,
            })
    until = additions.get('component_until', app)
    for version, apps in releases.items():
        if app not in apps or not ranges:
            continue
        if not apps[app]['backup_supported']:
            if not until or version_key(until) >= version_key(version):
                raise Contradiction(f'{app}: release {version} has no backup component')
            continue
        backup = normal_backup(app, apps[app]['backup'], additions)
        holding = [r for r in ranges if version_key(r['first_version']) <= version_key(version)]
        if not holding or holding[-1]['backup'] != backup:
            raise Contradiction(f'{app}: the history and release {version} do not agree')
    newest = list(releases)[-1]
    if ranges and until:
        ranges[-1]['last_version'] = until
    elif ranges and app in releases[newest]:
        ranges[-1]['last_version'] = None
    return [{key: entry[key] for key in ('first_version', 'last_version')} | entry['backup'] for entry in ranges]


def release_entry(version, app):
    """What one FreedomBox release says of the app."""
    return {
        'freedombox': version,
        'app_version': app['version'],
        'essential': app['is_essential'],
        'packages': sorted(app['packages']),
        'missing_packages': {suite: sorted(names) for suite, names in app['packages_missing_in_suite'].items()},
        'dropins': sorted(normal_path(path) for path in app['dropin_configs']),
        'hooks': app['hooks'],
        'daemons': [daemon['unit'] for daemon in app['daemons']],
    }


def dynamic_user(ranges):
    """State directories of units with DynamicUser: directories below /var/lib/private, or those of files there."""
    found = set()
    for entry in ranges:
        found |= {place['path'] for place in entry['directories'] if place['path'].startswith(PRIVATE)}
        found |= {place['path'].rpartition('/')[0] for place in entry['files'] if place['path'].startswith(PRIVATE)}
    return sorted(found)


def human_name(app, in_releases, additions):
    """The name that the newest release shows."""
    name = additions.get('names', app)
    if name is None:
        name = in_releases[list(in_releases)[-1]]['name'] if in_releases else app
    return name


def manifest(app, history, releases, additions):
    """The manifest of one app."""
    in_releases = {version: apps[app] for version, apps in releases.items() if app in apps}
    ranges = backup_ranges(app, history, releases, additions)
    entries = [release_entry(version, entry) for version, entry in in_releases.items()]
    dropins = {path for entry in entries for path in entry['dropins']}
    dropins |= {normal_path(path) for path in additions.get('dropins', app, [])}
    notes = {entry['ownership_notes']: None for entry in in_releases.values() if entry['ownership_notes']}
    renamed_from = [old for old, new in additions.tables['renamed_to'].items() if new == app]
    database = additions.get('databases', app)
    result = {
        'id': app,
        'name': human_name(app, in_releases, additions),
        'known_since': ranges[0]['first_version'] if ranges else additions.get('added_in', app),
        'removed_in': additions.get('removed_in', app),
        'renamed_from': renamed_from[0] if renamed_from else None,
        'renamed_to': additions.get('renamed_to', app),
        'backups': ranges,
        'releases': entries,
        'dropins': sorted(dropins),
        'renames': additions.get('renames', app, []),
        'ahead': additions.get('ahead', app, {}),
        'users': additions.get('users', app, []),
        'database': database,
        'settings_file': settings_file(app) if any(entry['settings'] for entry in ranges) else None,
        'imported_here': additions.get('imported_here', app, []),
        'dynamic_user': dynamic_user(ranges),
        'config_of_release': additions.get('config_of_release', app, []),
        'notes': list(notes) + additions.get('notes', app, []),
    }
    check(result, releases)
    return result


def check(app, releases):
    """Stops on facts that contradict each other."""
    def exists(version):
        return (app['known_since'] is None or version_key(version) >= version_key(app['known_since'])) and (
            app['removed_in'] is None or version_key(version) < version_key(app['removed_in']))

    known = {entry['freedombox'] for entry in app['releases']}
    for version in releases:
        if exists(version) != (version in known):
            raise Contradiction(f'{app["id"]}: wrong about being in {version}')
    paths = {place['path'] for entry in app['backups'] for kind in ('directories', 'files') for place in entry[kind]}
    if app['database'] and app['database']['dump'] not in paths:
        raise Contradiction(f'{app["id"]}: its dump was never backed up')

    if not set(app['ahead'].values()) <= {entry['first_version'] for entry in app['backups']}:
        raise Contradiction(f'{app["id"]}: no range begins with the version that a Debian release is ahead to')
    if not set(app['imported_here']) <= paths:
        raise Contradiction(f'{app["id"]}: what is imported here was never backed up')

    def inside(path, others):
        return any(path == other or path.startswith(other + '/') for other in others)

    for rename in app['renames']:
        new = [place['path'] for entry in app['backups'] for kind in ('directories', 'files') for place in entry[kind]
               if entry['first_version'] == rename['since']]
        if not inside(rename['from'], paths) or not inside(rename['to'], new):
            raise Contradiction(f'{app["id"]}: no range fits the move from {rename["from"]}')


def load(facts):
    """The history, and the releases in ascending order."""
    with (facts / 'fbx-manifest-history.json').open(encoding='utf-8') as file:
        history = json.load(file)
    releases = {}
    for path in facts.glob('fbx-apps-*.json'):
        with path.open(encoding='utf-8') as file:
            content = json.load(file)
        releases[content['freedombox_version']] = content['apps']
    if not releases:
        raise Contradiction(f'{facts} has no fbx-apps-*.json')
    return history, {version: releases[version] for version in sorted(releases, key=version_key)}


def generate(facts):
    """File name → content for all apps that any version had."""
    history, releases = load(facts)
    additions = Additions(HERE / 'facts' / 'additions.json')
    apps = sorted(set(history) | {app for entries in releases.values() for app in entries})
    files = {
        f'{app}.json': json.dumps(manifest(app, history.get(app, []), releases, additions),
                                  indent=2, ensure_ascii=False) + '\n'
        for app in apps
    }
    if additions.unused:
        raise Contradiction(f'facts without an app: {sorted(additions.unused)}')
    return files


def main():
    """Write or compare."""
    parser = argparse.ArgumentParser(description='Make manifests/*.json from facts extracted from FreedomBox.')
    parser.add_argument('facts', type=pathlib.Path, help='directory with the facts files')
    parser.add_argument('--check', action='store_true', help='only compare with the files that are there')
    arguments = parser.parse_args()
    try:
        files = generate(arguments.facts)
    except Contradiction as error:
        sys.exit(f'generate.py: {error}')
    present = {path.name for path in HERE.glob('*.json')} - {'schema.json'}
    wrong = sorted(present - set(files))
    for name, content in files.items():
        path = HERE / name
        if not path.exists() or path.read_text(encoding='utf-8') != content:
            wrong.append(name)
    if arguments.check:
        if wrong:
            sys.exit(f'generate.py: not as the facts say: {", ".join(sorted(wrong))}')
        print(f'{len(files)} manifests are as the facts say')
        return
    for name in wrong:
        if name in files:
            (HERE / name).write_text(files[name], encoding='utf-8')
        else:
            (HERE / name).unlink()
    print(f'{len(files)} manifests, {len(wrong)} changed')


if __name__ == '__main__':
    main()
