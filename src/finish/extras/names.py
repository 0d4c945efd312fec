"""The host name and the domains of an old box become those of this one, by FreedomBox's own ways of changing them.

A part of driver.py. Its service is stopped meanwhile and its apps are started here, so that each learns the new name.
Up to 24 FreedomBox has one domain, from 25 on any number.
"""
import socket

TITLE, APP = 'Restore: host name and domains', 'names'
MADE = 'In the home network, this box is now found by the old name.'


class Never(Exception):
    """What this FreedomBox cannot have."""


def first(box, name, *places):
    """A function of FreedomBox, wherever this version has it."""
    for place in places:
        try:
            found = getattr(box.module(place), name, None)
        except ImportError:
            continue
        if found is not None:
            return found
    return None


def set_host(host, box):
    """Whether the box had another name."""
    current = first(box, 'get_hostname', 'modules.names', 'modules.config') or socket.gethostname
    if current() == host:
        return False
    change = first(box, 'set_hostname', 'modules.names', 'modules.names.views', 'modules.config.views')
    change(host)
    return True


def set_domain(domain, box):
    """Whether the box did not have the domain."""
    add = first(box, 'domain_add', 'modules.names')
    if add is not None:
        if domain in first(box, 'domains_list', 'modules.names')():
            return False
        # FreedomBox's service tells its apps of every domain when it starts again.
        add(domain)
        return True
    current = first(box, 'get_domainname', 'modules.names', 'modules.config')()
    if current == domain:
        return False
    if current:
        raise Never(f'this FreedomBox has one domain only, and that is {current}')
    first(box, 'set_domainname', 'modules.names', 'modules.names.views', 'modules.config.views')(domain, current)
    return True


def bring(wanted, came, box):
    """The host name first: older FreedomBoxes keep the domain behind it."""
    steps = [(wanted['host'], set_host)] if wanted['host'] else []
    for name, step in steps + [(domain, set_domain) for domain in wanted['domains']]:
        try:
            came['made' if step(name, box) else 'here'].append(name)
        except Never as never:
            came['lost'][name] = never.args[0]
        except Exception as error:
            came['failed'][name] = box.reason(error)
