"""Names as FreedomBox from 25 on has them; an older one has none of these calls."""
from plinth import BOX, load, save

if not (BOX / 'var/lib/plinth/older-freedombox').exists():

    def get_hostname():
        return load().get('hostname', 'freedombox')

    def set_hostname(name):
        save(load() | {'hostname': name})

    def domains_list():
        return load().get('domains', ['own.example'])

    def domain_add(name):
        save(load() | {'domains': domains_list() + [name]})
