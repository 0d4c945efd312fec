"""Notifications, kept with the rest of the state."""
import types

from . import load, save


class Notification:
    @staticmethod
    def get(key):
        return types.SimpleNamespace(**load()['notifications'][key])

    @staticmethod
    def update_or_create(**kwargs):
        state = load()
        state['notifications'][kwargs['id']] = kwargs
        save(state)
