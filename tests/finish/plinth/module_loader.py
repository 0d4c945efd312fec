"""There is one module of apps."""


def include_urls():
    pass


def load_modules():
    pass
