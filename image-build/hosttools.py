"""The programs that the build runs, from Debian packages of the building machine's own architecture.

Each is started by the loader and with the libraries of its own packages, so nothing has to be installed, and what the
build makes does not depend on the versions that the building machine has.
"""

import subprocess


class Fetched:
    """Programs below `tree`, a folder with unpacked packages; `identity` says which."""

    def __init__(self, tree):
        loaders = sorted(tree.glob("usr/lib*/*/ld-linux-*.so.*")) + sorted(tree.glob("usr/lib/ld-linux-*.so.*"))
        if not loaders:
            raise FileNotFoundError(f'there is no loader in "{tree}"')
        self.tree, self.loader = tree, loaders[0].resolve()
        self.identity = (tree / ".complete").read_text()
        self.libraries = ":".join(str(path) for path in sorted(tree.glob("usr/lib/*-linux-*")))

    def command(self, name):
        """What to run instead of `name`."""
        for folder in ("usr/bin", "usr/sbin"):
            path = self.tree / folder / name
            if path.exists():
                # Some programs go by the name that they are called with.
                return [self.loader, "--library-path", self.libraries, "--argv0", name, path.resolve()]
        raise FileNotFoundError(f'there is no program "{name}" in "{self.tree}"')


class Installed:
    """The programs that the building machine has in its PATH."""

    def command(self, name):
        return [name]


def native_architecture():
    """Debian's name of the building machine's architecture."""
    done = subprocess.run(["dpkg", "--print-architecture"], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()
