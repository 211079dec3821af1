"""Digests of the code of functions and classes, and the globals that it reads."""

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

from .._parts import strip_wrappers


# Folders of installed code, which is compared by name alone.
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
# Assignments that Python itself adds to the body of a class.
_ADDED_STORES = tuple(
    ("STORE_NAME", name)
    for name in ("__doc__", "__firstlineno__", "__static_attributes__")
)
_NO_OPS = ("EXTENDED_ARG", "CACHE", "NOP")
_DESCRIPTORS = (types.MemberDescriptorType, types.GetSetDescriptorType)


def is_user_code(code: types.CodeType) -> bool:
    """Return whether code belongs to the user and not to an installed package."""
    return _is_users(code.co_filename)


def digest_of(code: types.CodeType) -> str:
    """Return a digest of code without its comments, line numbers and docstring.

    The digest begins with the version of Python, because each version compiles code
    differently.
    """
    return f"{sys.implementation.cache_tag} {_analyze(code).digest[:12]}"


def globals_of(function: types.FunctionType) -> list[tuple[str, Any]]:
    """Return the global variables that a function reads, sorted by name.

    For a module of the user, the attributes that the function reads stand in its
    place.
    """
    found = dict[str, Any]()
    for name, *rest in _analyze(function.__code__).globals:
        if name not in function.__globals__:
            continue
        value = function.__globals__[name]
        for attribute in rest:
            if not _is_user_module(value) or not hasattr(value, attribute):
                break
            name, value = f"{name}.{attribute}", getattr(value, attribute)
        found[name] = value
    return sorted(found.items(), key=lambda pair: pair[0])


def methods_of(cls: type) -> list[tuple[str, Any]]:
    """Return the methods and attributes that a class of the user defines itself."""
    found = list[tuple[str, Any]]()
    # Instances have their own values of fields, which are compared elsewhere.
    fields = dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ()
    own = {field.name for field in fields}
    for name, item in sorted(vars(cls).items()):
        if isinstance(item, property):
            item = item.fget
        if isinstance(item, staticmethod | classmethod):
            item = item.__func__
        if isinstance(item, functools.cached_property):
            item = item.func
        item = strip_wrappers(item)
        if isinstance(item, types.FunctionType):
            # The methods that `dataclass` generates follow from the fields.
            if is_user_code(item.__code__) and item.__code__.co_filename != "<string>":
                found.append((name, item))
        elif name[:2] != "__" and name != "_abc_impl" and name not in own:
            if not isinstance(item, _DESCRIPTORS):
                found.append((name, item))
    return found


def is_user_class(cls: type) -> bool:
    """Return whether a class belongs to the user."""
    module = sys.modules.get(cls.__module__)
    file = getattr(module, "__file__", None)
    if file is None:  # a notebook, a prompt, or a built-in module
        return cls.__module__ == "__main__"
    return _is_users(file)


def _is_user_module(value: Any) -> bool:
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
    globals: frozenset[tuple[str, ...]]  # each name with the attributes read from it


@functools.lru_cache(maxsize=1024)
def _analyze(code: types.CodeType) -> _Code:
    """Digest code, instruction by instruction, and collect the globals that it reads.

    A constant counts where an instruction loads it, which leaves docstrings out.
    """
    counts = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount
    kinds = code.co_flags & (0x04 | 0x08 | 0x20 | 0x80 | 0x200)  # *args, generators
    lines = [repr((counts, kinds, code.co_names, code.co_freevars))]
    lines.append(repr(code.co_exceptiontable))
    read = set[tuple[str, ...]]()
    chain: tuple[str, ...] = ()
    steps = [step for step in dis.get_instructions(code) if step.opname not in _NO_OPS]
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
            inner = _analyze(step.argval)
            read |= inner.globals
            lines.append(f"{step.opname} {inner.digest}")
        elif not (
            after and after.opname == "STORE_NAME" and after.argval in _ADDED_STORES
        ):
            lines.append(f"{step.opname} {_constant_text(step.argval)}")
    return _Code(hashlib.sha256("\n".join(lines).encode()).hexdigest(), frozenset(read))


def _constant_text(value: Any) -> str:
    if isinstance(value, frozenset):  # its order differs between processes
        return f"set {sorted(map(repr, value))}"
    return repr(value)
