"""A pause of Python's garbage collector."""

import contextlib
import gc
import threading
from collections.abc import Generator


_lock = threading.Lock()
_depth, _enabled = 0, True


@contextlib.contextmanager
def no_collections() -> Generator[None]:
    """Return a context in which Python looks for no cycles of garbage.

    A trace makes so many objects that Python looks through all that there are, a tenth
    of a second each time, and finds little: most objects of a trace go without it.
    """
    global _depth, _enabled
    with _lock:
        if _depth == 0:
            _enabled = gc.isenabled()
        _depth += 1
        gc.disable()
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0 and _enabled:
                gc.enable()
