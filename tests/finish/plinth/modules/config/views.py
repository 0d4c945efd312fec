"""Changing them."""
from plinth import load, save


def set_hostname(name):
    save(load() | {'hostname': name})


def set_domainname(name, old_name):
    save(load() | {'domain': name})
