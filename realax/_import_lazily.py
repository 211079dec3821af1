"""Imports that are put off until a module is used."""

import contextlib
import importlib
import sys
from collections.abc import Generator
from types import ModuleType
from typing import Any, final


@contextlib.contextmanager
def imported_lazily(*names: str) -> Generator[None]:
    """Let `import` statements inside get modules that are imported when first used.

    For a package that imports a slow library at its top, for a few of its functions.
    Later imports get the modules themselves; those of other threads meanwhile do not.

    **Arguments:**

    - `names`: the full names of modules, with one dot at most, that are imported by
        `import name`, or `import name as other` if there is a dot. Those imported
        before stay as they are.
    """
    put_off = {name: _Later(name) for name in names if name not in sys.modules}
    sys.modules.update(put_off)
    try:
        yield
    finally:
        for name, module in put_off.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


@final
class _Later(ModuleType):
    """A module that is imported when one of its attributes is first used."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            sys.modules.pop(self.__name__, None)  # another thread may be faster
        return getattr(importlib.import_module(self.__name__), name)

    def __reduce__(self) -> Any:
        # Modules have no pickles of their own, and cloudpickle knows only their class.
        return importlib.import_module, (self.__name__,)
