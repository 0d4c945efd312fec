"""As since 23.14: what it was as a proxy went into an app of its own."""
from plinth import BOX

SETTINGS = BOX / 'etc/tor/instances/plinth/torrc'


def _remove_proxy():
    if (BOX / 'var/lib/plinth/refuse-proxy').exists():
        return
    lines = SETTINGS.read_text(encoding='utf-8').splitlines(keepends=True)
    SETTINGS.write_text(''.join(line for line in lines if not line.startswith('SocksPort ')), encoding='utf-8')
