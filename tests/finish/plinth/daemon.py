"""The units of an app."""


class Daemon:
    def __init__(self, unit):
        self.unit = unit
