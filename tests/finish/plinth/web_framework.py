"""Django is not needed here."""


def init():
    pass


def post_init():
    pass
