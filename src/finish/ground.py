"""What the parts of driver.py share: FreedomBox's modules of either name, the box's paths, and commands."""
import importlib
import importlib.util
import os
import pathlib
import subprocess
import sys

PACKAGE = 'freedombox' if importlib.util.find_spec('freedombox') else 'plinth'
# Where FreedomBox expects the dumps that it imports.
DUMPS = '/var/lib/plinth/backups-data/'


def module(name):
    return importlib.import_module(f'{PACKAGE}.{name}')


def reason(exception):
    """An exception and what caused it, in one line."""
    words = []
    while exception is not None and len(words) < 4:
        text = ' '.join(str(part) for part in exception.args if isinstance(part, (str, int))) or str(exception)
        words.append(f'{type(exception).__name__}: {" ".join(text.split())[:400]}')
        exception = exception.__cause__ or exception.__context__
    return '; '.join(words)


def inside(path):
    """A path of the box; its root is the first argument, and another than / only in tests."""
    return pathlib.Path((sys.argv[1:] or ['/'])[0]) / path.lstrip('/')


def run(*args, **options):
    options.setdefault('stdin', subprocess.DEVNULL)
    return subprocess.run(args, text=True, errors='replace', stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          check=False, **options)


def write(path, text, owner=None, mode=0o600):
    """A file whole or not at all, and for its owner's eyes only, where no other mode is given; root's, where no numbers of
    another are."""
    new = path.with_name(f'.{path.name}.new')
    new.unlink(missing_ok=True)
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, 'w', encoding='utf-8', errors='surrogateescape') as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    if owner:
        os.chown(new, *owner)
    os.chmod(new, mode)
    os.rename(new, path)


class Failed(Exception):
    """Says in its one argument what did not work."""


def must(*args, **options):
    done = run(*args, **options)
    sys.stderr.write(done.stdout)
    if done.returncode:
        raise Failed(f'{args[0]} ended with status {done.returncode}: {" ".join(done.stdout.split())[-300:]}')
    return done.stdout
