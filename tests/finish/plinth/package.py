"""Packages: in the lists or not, downloaded or not."""
from . import BOX


class MissingPackageError(Exception):
    pass


class Expression:
    def __init__(self, name):
        self.name = name

    def __str__(self):
        return self.name

    def actual(self):
        lists = BOX / 'var/lib/apt/lists/packages'
        if not lists.exists() or self.name not in lists.read_text(encoding='utf-8').split():
            raise MissingPackageError(self.name)
        return self.name


class Packages:
    def __init__(self, names):
        self.package_expressions = [Expression(name) for name in names]
