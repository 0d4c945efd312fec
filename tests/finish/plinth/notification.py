"""Notifications, kept with the rest of the state."""
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
        state = load()
        state['notifications'][kwargs['id']] = kwargs
        save(state)
