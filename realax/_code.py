"""The code of functions and classes as a digest, and the globals that it reads."""

# pyright: reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false

import dis
import functools
import hashlib
import os
import pathlib
import site
import sys
import sysconfig
import types
from typing import Any

from ._parts import looked_through


# Where code is installed: it counts by the versions of what is installed.
_INSTALLED = tuple(
    f"{os.path.realpath(folder)}{os.sep}"
    for folder in {
        *(sysconfig.get_path(n) for n in ("stdlib", "platstdlib", "purelib")),
        *site.getsitepackages(),
        site.getusersitepackages(),
        str(pathlib.Path(__file__).parent),
    }
)
_HAS_DOCSTRING = 0x4000000  # a flag of Python 3.13; before, it is always the first


def is_users(code: types.CodeType) -> bool:
    """Whether code is the user's own, and not of an installed package."""
    return _is_users(code.co_filename)


def digest_of(code: types.CodeType) -> str:
    """A digest of what code does: no comments, line numbers or docstring.

    It begins with the version of Python, since each compiles code in its own way.
    """
    return f"{sys.implementation.cache_tag} {_hash(code).hexdigest()[:12]}"


def globals_of(function: types.FunctionType) -> list[tuple[str, Any]]:
    """The global variables that a function reads, in the order of their names."""
    found = function.__globals__
    names = {name for name in _global_names(function.__code__) if name in found}
    return [(name, found[name]) for name in sorted(names)]


def methods_of(cls: type) -> list[tuple[str, Any]]:
    """The functions and plain attributes that a class of the user's defines itself."""
    found = list[tuple[str, Any]]()
    for name, item in sorted(vars(cls).items()):
        if isinstance(item, property):
            item = item.fget
        if isinstance(item, staticmethod | classmethod | functools.cached_property):
            item = getattr(item, "__func__", None) or getattr(item, "func", None)
        item = looked_through(item)
        if isinstance(item, types.FunctionType):
            # A dataclass has methods that are made from its fields.
            if is_users(item.__code__) and item.__code__.co_filename != "<string>":
                found.append((name, item))
        elif not name.startswith("_") and isinstance(item, int | float | str | tuple):
            found.append((name, item))
    return found


def is_users_class(cls: type) -> bool:
    """Whether a class is the user's own."""
    module = sys.modules.get(cls.__module__)
    file = getattr(module, "__file__", None)
    if file is None:  # a notebook or a prompt; or built in
        return cls.__module__ == "__main__"
    return _is_users(file)


@functools.cache
def _is_users(file: str) -> bool:
    if file.startswith("<frozen"):
        return False
    return not os.path.realpath(file).startswith(_INSTALLED)


def _hash(code: types.CodeType) -> Any:
    digest = hashlib.sha256(code.co_code)
    has_doc = sys.version_info < (3, 13) or code.co_flags & _HAS_DOCSTRING
    for i, constant in enumerate(code.co_consts):
        if i == 0 and has_doc and isinstance(constant, str):
            constant = None
        if isinstance(constant, types.CodeType):
            digest.update(_hash(constant).digest())
        else:
            if isinstance(constant, frozenset):  # in another order in each process
                constant = sorted(constant, key=repr)
            digest.update(repr(constant).encode())
    digest.update(repr(code.co_names).encode())
    return digest


@functools.lru_cache(maxsize=1024)
def _global_names(code: types.CodeType) -> frozenset[str]:
    names = {
        step.argval
        for step in dis.get_instructions(code)
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")
    }
    inner = (item for item in code.co_consts if isinstance(item, types.CodeType))
    return frozenset(names).union(*map(_global_names, inner))
