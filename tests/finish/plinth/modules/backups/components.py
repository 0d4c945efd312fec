"""What belongs to an app's backup, and its hooks."""
import shutil

from plinth import BOX, load, note, save


class BackupRestore:
    def __init__(self, directories=(), files=(), services=(), delete_before=()):
        self.config, self.secrets = {}, {}
        self.data = {'directories': list(directories), 'files': list(files)}
        self.services = list(services)
        self.delete_before_restore = list(delete_before)

    def backup_pre(self, packet):
        pass

    def restore_pre(self, packet):
        for path in self.delete_before_restore:
            shutil.rmtree(BOX / path.lstrip('/'))

    def restore_post(self, packet):
        note(f'hook {self.app.app_id}')


class DatabaseRestore(BackupRestore):
    """A database is a text; its dump is that text."""

    def dump(self):
        return BOX / self.data['files'][-1].lstrip('/')

    def backup_pre(self, packet):
        self.dump().parent.mkdir(exist_ok=True)
        self.dump().write_text(load()['databases'][self.app.app_id], encoding='utf-8')

    def restore_post(self, packet):
        super().restore_post(packet)
        if (BOX / 'var/lib/plinth/refuse-import').exists():
            raise RuntimeError('the server is down')
        state = load()
        state['databases'][self.app.app_id] = self.dump().read_text(encoding='utf-8')
        save(state)
