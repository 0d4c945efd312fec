"""Every app with data: how to give it some that can be recognised, and how to ask it afterwards.

`seed` brings the data in through the app's own ways, `look` asks the app and returns answers by question. The answers of
the box that the backup was made of are the truth that the restored box's answers have to equal, so a question is asked
in a way that every release answers alike: what somebody using the app sees, not where a release keeps it.
"""

APPS = {}


def app(name):
    """Registers a class with `seed` and `look` for an app."""

    def register(kind):
        APPS[name] = kind
        return kind

    return register


# Why an app is not among these, for the table.
UNPROVEN = {
    "nextcloud": "its program is a container image that only the internet has",
    "homeassistant": "its program is a container image that only the internet has",
    "matrixsynapse": "no Debian release here carries its package",
    "i2p": "no Debian release here carries its package",
}
