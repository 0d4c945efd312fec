"""Installing, as an operation that is joined."""
from . import app as app_module
from . import notification


class Operation:
    def __init__(self, app):
        self.app = app

    def join(self):
        self.app.install()
        notification.Notification.update_or_create(
            id=f'{self.app.app_id}-operation', title=self.app.app_id, message='App installed.', dismissed=False)


def run_setup_on_app(app_id, allow_install=True):
    app = app_module.App.get(app_id)
    return Operation(app) if app.needs_setup() else None
