"""Notifications, kept with the rest of the state."""
import re
import types

from . import load, save


class Notification:
    @staticmethod
    def get(key):
        def dismiss():
            state = load()
            state['notifications'][key]['dismissed'] = True
            save(state)

        return types.SimpleNamespace(**load()['notifications'][key], dismiss=dismiss)

    @staticmethod
    def update_or_create(**kwargs):
        # What FreedomBox's address to dismiss one takes: without it, every page with notifications is an error.
        if not re.fullmatch(r'[A-Za-z0-9-=]+', kwargs['id']):
            raise ValueError(f'no address for {kwargs["id"]}')
        state = load()
        state['notifications'][kwargs['id']] = kwargs
        save(state)
