"""Inspection of a task's code for the use of its key."""

import dis
import functools
import inspect
from types import FunctionType
from typing import Any

from .._callables import is_jitted


def uses_argument(function: Any, index: int) -> bool:
    """Return whether the code of a function uses a positional argument.

    `del` does not count as use. A callable whose code cannot be inspected counts as
    using all of its arguments.

    **Arguments:**

    - `function`: any callable. In `functools.partial`, jit and bound methods, the
        function inside is inspected.
    - `index`: the position of the argument in a call of `function`.
    """
    while not isinstance(function, FunctionType):
        if isinstance(function, functools.partial):
            index += len(function.args)
            function = function.func
        elif is_jitted(function):
            function = function.__wrapped__
        elif hasattr(function, "__func__"):  # a bound method, also equinox's
            index += 1
            function = function.__func__
        else:
            call = inspect.getattr_static(type(function), "__call__", None)
            if isinstance(function, type) or not isinstance(call, FunctionType):
                return True
            index += 1
            function = call
    return _reads(function, index)


def _reads(function: FunctionType, index: int) -> bool:
    code = function.__code__
    names = code.co_varnames
    if index < code.co_argcount:
        name = names[index]
    elif code.co_flags & inspect.CO_VARARGS:
        name = names[code.co_argcount + code.co_kwonlyargcount]
    else:
        return True
    if name in code.co_cellvars:  # an inner function uses it
        return True
    # Later versions of Python have instructions that load two, with a tuple of names.
    loads = (i.argval for i in dis.get_instructions(code) if "LOAD_FAST" in i.opname)
    return any(name in (one if isinstance(one, tuple) else (one,)) for one in loads)
