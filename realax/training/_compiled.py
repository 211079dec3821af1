"""How whole runs are compiled."""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx

from .._types import CompilerOptions


@functools.cache
def compiled(
    function: Callable[..., Any], options: CompilerOptions
) -> Callable[..., Any]:
    """`filter_jit`, the same one for the same function and options.

    **Arguments:**

    - `function`: what to compile.
    - `options`: XLA's. jax takes them for what is compiled as a whole only: none for a
        function that is called while another is traced.
    """
    kws: dict[str, Any] = {"compiler_options": dict(options)} if options else {}
    return eqx.filter_jit(function, **kws)
