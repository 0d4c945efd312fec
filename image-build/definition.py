"""What an image consists of: `definition/image.ini` with the file of an architecture, and the boards."""

import configparser
import pathlib
import sys

FOLDER = pathlib.Path(__file__).resolve().parent / "definition"
ARCHITECTURES = ("amd64", "arm64", "armhf")


def architecture(name):
    """The definition for one architecture: what is common to all, with what is its own added."""
    return _read("image.ini", f"{name}.ini")


def common():
    return _read("image.ini")


def boards():
    return _read("boards.ini")


def section(parser, name):
    """The entries of a section that not every architecture has."""
    return dict(parser[name]) if parser.has_section(name) else {}


def matches(tree, patterns):
    """The files in `tree` that any of `patterns` (separated by white space) matches; at least one."""
    found = sorted({path for pattern in patterns.split() for path in tree.glob(pattern)})
    if not found:
        sys.exit(f'"{patterns}" matches no file of the packages')
    return found


def only_match(tree, patterns):
    found = matches(tree, patterns)
    if len(found) != 1:
        sys.exit(f'"{patterns}" matches {len(found)} files of the packages, one is needed')
    return found[0]


def files(parser, tree, name):
    """What the sections `name` and `name from packages` put onto the medium: path → bytes."""
    found = {path: (FOLDER / source).read_bytes() for path, source in section(parser, name).items()}
    # A person may open these with an editor that knows only this line end.
    found = {p: data.replace(b"\n", b"\r\n") if p.endswith((".txt", ".toml")) else data for p, data in found.items()}
    for path, patterns in section(parser, f"{name} from packages").items():
        if path.endswith("/"):
            found |= {f"{path}{file.name}".lstrip("/"): file.read_bytes() for file in matches(tree, patterns)}
        else:
            found[path] = only_match(tree, patterns).read_bytes()
    return found


def _read(*names):
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",))
    parser.optionxform = str  # paths keep their case
    for name in names:
        with open(FOLDER / name, encoding="utf-8") as file:
            parser.read_file(file)
    return parser
