"""Names as FreedomBox up to 23 has them."""
from plinth import load


def get_hostname():
    return load().get('hostname', 'freedombox')


def get_domainname():
    return load().get('domain', '')
