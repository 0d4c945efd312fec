"""As in 25.9.3: its settings for certificates, which the last version had not."""
from plinth import BOX, load, note

SETTINGS = BOX / 'etc/openvpn/freedombox-keys/pki/vars'


def _write_easy_rsa_config():
    SETTINGS.write_text('set_var EASYRSA_BATCH "1"\n', encoding='utf-8')


def _is_renewable(name):
    return load().get('renewable') == name


def setup():
    _write_easy_rsa_config()
    note('openvpn set up')
