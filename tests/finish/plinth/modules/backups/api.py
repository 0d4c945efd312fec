"""Restoring, with hooks whose errors are only logged."""
import logging
import types

from plinth import app as app_module
from plinth import note

logger = logging.getLogger(__name__)


class Packet:
    def __init__(self, operation, scope, root, components=None, path=None, archive_comment=None):
        self.components, self.errors = components, []


def restore_apps(handler, app_ids=None, create_subvolume=True, backup_file=None, encryption_passphrase=None):
    (app_id, ) = app_ids
    app = app_module.App.get(app_id)
    packet = Packet('restore', 'apps', '/', [app.components['backup']])
    note(f'stop {app_id}')
    try:
        run_hooks('restore_pre', packet)
        handler(packet, encryption_passphrase=encryption_passphrase)
        run_hooks('restore_post', packet)
    finally:
        note(f'start {app_id}')


def run_hooks(hook, packet):
    for component in packet.components:
        try:
            getattr(component, hook)(packet)
        except Exception as exception:
            logger.exception('Error running hook %s: %s', hook, exception)
            packet.errors.append(types.SimpleNamespace(hook=hook, component=component))
