"""Tasks made of any Python function."""

import inspect
from collections.abc import Callable
from typing import Any, Unpack, final

import equinox as eqx
import jax
import numpy as np

from .._arguments import arguments, flag
from .._callables import name_of, unwrapped
from .._check import no_type_check
from .._errors import describe
from .._workers import (
    BETWEEN,
    AbstractPlayer,
    AbstractWork,
    Batch,
    Begin,
    Failure,
    Outcome,
    Setup,
)
from ._host_options import HOST_CHECKS, HostOptions, check_sendable
from ._randomness import uses_argument
from ._workers_task import AbstractWorkersTask


_SIGNATURE = "(params, seed, data) -> (value, aux)"


def _a_function(phrase: str, value: Any) -> Any:
    """Check a function with the signature of host tasks."""
    if isinstance(value, type) or not callable(value):
        got = f"the class `{value.__name__}`" if isinstance(value, type) else None
        raise TypeError(
            f"{phrase} must be a function {_SIGNATURE}, but got "
            f"{got or describe(value)}."
        )
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):  # some builtins have no signature
        return value
    try:
        signature.bind(None, None, None)
    except TypeError as error:
        raise TypeError(
            f"{phrase} must have the signature {_SIGNATURE}, but "
            f"{name_of(unwrapped(value))} has {signature} ({error}). Add what is "
            "missing, for example `def loss(params, seed, data=None): ...`."
        ) from error
    return value


@final
class HostTask[P](AbstractWorkersTask[P]):
    """The value of any Python function, which jax cannot trace.

    A simulator in a subprocess, a model of another library, a loss in plain numpy: the
    trainers that `ask`, `evaluate` and `tell` train on it with the same observers and
    the same exact resume, and with as many workers as there are cores. Only the
    outermost trainer can: `jit`, `vmap`, `grad` and other trainers refuse it.

    **Arguments:**

    - `function`: `(params, seed, data) -> (value, aux)`. `params` is of the type of the
        user's own parameters, and holds numpy arrays, of which each call gets copies.
        `seed` is an `int` of 31 bits, the last ones of the evaluation's key: what is
        drawn at random must be drawn by it. `data` is that of the run, with numpy
        arrays. The value is one number, the aux a tree of numbers and arrays, or
        `None`.
    - `maximize`: whether a larger value is better. False by default.
    - `workers`, `backend`, `timeout`, `retries`, `errors`: keywords, which
        `HostOptions` describes.

    **Raises:** `TypeError` for another signature, and for a function that cannot be
    sent to a process; `ValueError` for other arguments; `ImportError` if the extra
    `realax[host]` or `realax[ray]` is missing.
    """

    function: Callable[..., Any] = eqx.field(static=True)
    upwards: bool = eqx.field(static=True)

    @arguments(function=_a_function, maximize=flag, **HOST_CHECKS)
    def __init__(
        self,
        function: Callable[[P, int, Any], tuple[Any, Any]],
        *,
        maximize: bool = False,
        **options: Unpack[HostOptions],
    ):
        super().__init__(options)
        self.function = function
        self.upwards = maximize
        if self.workers > 0 and self.backend != "threads":
            check_sendable("`function` of `HostTask`", function)

    @property
    def maximize(self) -> bool:
        """Whether a larger value is better."""
        return self.upwards

    @property
    def stochastic(self) -> bool:
        """True if the code of the function uses its seed, or cannot be inspected."""
        return uses_argument(self.function, 1)

    @property
    def display_name(self) -> str:
        """The name of the function in messages, in backticks."""
        return name_of(unwrapped(self.function))

    def work(self) -> AbstractWork:
        """Return the calls of the function."""
        return _Calls(self.function, self.display_name)


@final
class _Calls(AbstractWork):
    """Calls a function once for each job."""

    def __init__(self, function: Callable[..., Any], name: str):
        self.function = function
        self.name = name

    def open(self, setup: Setup) -> AbstractPlayer:
        """Return what makes the calls of a batch."""
        return _Caller(self.function, self.name, setup)


@final
class _Caller(AbstractPlayer):
    def __init__(self, function: Callable[..., Any], name: str, setup: Setup):
        self._function = function
        self._name = name
        self._setup = setup

    @no_type_check
    def play(self, batch: Batch, begin: Begin) -> list[Outcome | Failure]:
        """Return what the function returned for each job."""
        results = list[Outcome | Failure]()
        data, name = self._setup.data, self._name
        for i, (row, seed) in enumerate(zip(batch.rows, batch.seeds, strict=True)):
            params = self._setup.params(batch.arrays, row)
            begin(i)
            try:
                found = self._function(params, seed, data)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # of any package; some derive from it
                results.append(Failure.of(error))
                continue
            try:
                results.append(_checked(found, name))
            except TypeError as error:
                results.append(Failure.of(error, fatal=True))
        begin(BETWEEN)
        return results

    def close(self) -> None:
        """Do nothing, because it holds nothing."""


@no_type_check
def _checked(found: Any, name: str) -> Outcome:
    """Return the result of the user's function.

    **Raises:** `TypeError` for anything but a number and a tree of arrays.
    """
    if not (isinstance(found, tuple) and len(found) == 2):
        raise TypeError(
            f"{name} must return a pair {_SIGNATURE}, but got {describe(found)}. "
            "Return `None` as the aux if there is none."
        )
    value, aux = found
    if type(value) is not float:
        array = _numbers(value)
        if array is None or array.shape != () or array.dtype.kind == "c":
            raise TypeError(
                f"the value that {name} returns must be one real number, but got "
                f"{describe(value)}. Sum or average it: `float(np.mean(value))`."
            )
        value = float(array)
    if aux is None:
        return Outcome(value)
    leaves, structure = jax.tree.flatten(aux)
    arrays = [_numbers(leaf) for leaf in leaves]
    for (path, leaf), array in zip(
        jax.tree_util.tree_leaves_with_path(aux), arrays, strict=True
    ):
        if array is None:
            raise TypeError(
                f"the aux of {name} must hold arrays and numbers only, but got "
                f"{describe(leaf)} at `{jax.tree_util.keystr(path) or '(root)'}`. "
                "Keep names and settings outside of what is returned."
            )
    return Outcome(value, jax.tree.unflatten(structure, arrays))


@no_type_check
def _numbers(value: Any) -> np.ndarray | None:
    """Return a value as an array of numbers, or `None` if it is something else."""
    try:
        array = np.asarray(value)
    except Exception:  # whatever another library's array does
        return None
    if array.dtype.name in ("bfloat16", "float16"):
        array = array.astype(np.float32)
    return array if array.dtype.kind in "biufc" else None
