"""Services run when they are asked to."""
import contextlib


@contextlib.contextmanager
def service_ensure_running(name):
    yield
