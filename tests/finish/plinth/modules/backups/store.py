"""Backup locations."""
from plinth import load, save


def get_storages():
    return load()['storages']


def update_or_add(storage):
    for field in ('path', 'storage_type', 'added_by_module'):
        if field not in storage:
            raise ValueError(field)
    save(load() | {'storages': get_storages() | {storage['uuid']: storage}})
