"""The code of functions and classes as a digest, and the globals that it reads."""

import dataclasses
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

from .._parts import looked_through


# Where code is installed: it counts by its name.
_INSTALLED = tuple(
    f"{os.path.realpath(folder)}{os.sep}"
    for folder in {
        *(
            sysconfig.get_path(name)
            for name in ("stdlib", "platstdlib", "purelib", "platlib")
        ),
        *site.getsitepackages(),
        site.getusersitepackages(),
        str(pathlib.Path(__file__).parent.parent),
    }
)
# What Python itself puts into the body of a class.
_OF_CLASSES = tuple(
    ("STORE_NAME", name)
    for name in ("__doc__", "__firstlineno__", "__static_attributes__")
)
_NOTHING = ("EXTENDED_ARG", "CACHE", "NOP")
_DESCRIPTORS = (types.MemberDescriptorType, types.GetSetDescriptorType)


def is_users(code: types.CodeType) -> bool:
    """Whether code is the user's own, and not of an installed package."""
    return _is_users(code.co_filename)


def digest_of(code: types.CodeType) -> str:
    """A digest of what code does: no comments, line numbers or docstring.

    It begins with the version of Python, since each compiles code in its own way.
    """
    return f"{sys.implementation.cache_tag} {_read(code).digest[:12]}"


def globals_of(function: types.FunctionType) -> list[tuple[str, Any]]:
    """The global variables that a function reads, in the order of their names.

    Of the user's own modules, what the function reads of them.
    """
    found = dict[str, Any]()
    for name, *rest in _read(function.__code__).globals:
        if name not in function.__globals__:
            continue
        value = function.__globals__[name]
        for attribute in rest:
            if not _is_users_module(value) or not hasattr(value, attribute):
                break
            name, value = f"{name}.{attribute}", getattr(value, attribute)
        found[name] = value
    return sorted(found.items(), key=lambda pair: pair[0])


def methods_of(cls: type) -> list[tuple[str, Any]]:
    """The methods and attributes that a class of the user's defines itself."""
    found = list[tuple[str, Any]]()
    # An instance has its own values of these.
    fields = dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ()
    own = {field.name for field in fields}
    for name, item in sorted(vars(cls).items()):
        if isinstance(item, property):
            item = item.fget
        if isinstance(item, staticmethod | classmethod):
            item = item.__func__
        if isinstance(item, functools.cached_property):
            item = item.func
        item = looked_through(item)
        if isinstance(item, types.FunctionType):
            # A dataclass has methods that are made from its fields.
            if is_users(item.__code__) and item.__code__.co_filename != "<string>":
                found.append((name, item))
        elif name[:2] != "__" and name != "_abc_impl" and name not in own:
            if not isinstance(item, _DESCRIPTORS):
                found.append((name, item))
    return found


def is_users_class(cls: type) -> bool:
    """Whether a class is the user's own."""
    module = sys.modules.get(cls.__module__)
    file = getattr(module, "__file__", None)
    if file is None:  # a notebook or a prompt; or built in
        return cls.__module__ == "__main__"
    return _is_users(file)


def _is_users_module(value: Any) -> bool:
    file = getattr(value, "__file__", None)
    return isinstance(value, types.ModuleType) and file is not None and _is_users(file)


@functools.cache
def _is_users(file: str) -> bool:
    if file.startswith("<frozen"):
        return False
    return not os.path.realpath(file).startswith(_INSTALLED)


@dataclasses.dataclass(frozen=True)
class _Code:
    digest: str
    globals: frozenset[tuple[str, ...]]  # names, with the attributes read of them


@functools.lru_cache(maxsize=1024)
def _read(code: types.CodeType) -> _Code:
    """What code does, instruction by instruction.

    Constants count where they are loaded: that of a docstring is not.
    """
    counts = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount
    kinds = code.co_flags & (0x04 | 0x08 | 0x20 | 0x80 | 0x200)  # *args, generators
    lines = [repr((counts, kinds, code.co_names, code.co_freevars))]
    lines.append(repr(code.co_exceptiontable))
    read = set[tuple[str, ...]]()
    chain: tuple[str, ...] = ()
    steps = [step for step in dis.get_instructions(code) if step.opname not in _NOTHING]
    for step, after in zip(steps, [*steps[1:], None], strict=True):
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            chain = (step.argval,)
        elif chain and step.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            chain = (*chain, step.argval)
        else:
            chain = ()
        if chain:
            read.discard(chain[:-1])
            read.add(chain)
        if step.opcode not in dis.hasconst:
            lines.append(f"{step.opname} {step.arg}")
            continue
        if isinstance(step.argval, types.CodeType):
            inner = _read(step.argval)
            read |= inner.globals
            lines.append(f"{step.opname} {inner.digest}")
        elif not (
            after and after.opname == "STORE_NAME" and after.argval in _OF_CLASSES
        ):
            lines.append(f"{step.opname} {_constant(step.argval)}")
    return _Code(hashlib.sha256("\n".join(lines).encode()).hexdigest(), frozenset(read))


def _constant(value: Any) -> str:
    if isinstance(value, frozenset):  # in another order in each process
        return f"set {sorted(map(repr, value))}"
    return repr(value)
