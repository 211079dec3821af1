"""Conversion of functions and other callables to tasks."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, final

import equinox as eqx

from .._callables import is_jitted, name_of, unwrapped
from .._check import no_type_check
from .._compile import checked_options
from .._errors import describe
from .._types import PRNGKeyArray, Scalar, Tree
from ._base import SIGNATURE, AbstractTask
from ._observing import obs_stats_of
from ._randomness import uses_argument


@final
class FunctionTask[P](AbstractTask[P]):
    """A plain function `(params, key, data) -> (value, aux)` as a task.

    It is minimised and can be trained by gradient. The function's own attributes
    `maximize`, `stochastic` and `compiler_options` are used if it has them. Those that
    `functools.wraps` copied from another task are ignored, because a decorator may
    change what is computed.

    **Arguments:**

    - `function`: any callable with that signature. `as_task` checks it first.
    """

    function: Callable[..., Any]

    # Unchecked, because `checked_call` has clearer errors.
    @no_type_check
    def __call__(
        self, params: P, key: PRNGKeyArray, data: Tree = None
    ) -> tuple[Scalar, Tree]:
        """Return the result of the function, unchanged."""
        return self.function(params, key, data)

    @property
    def maximize(self) -> bool:
        """The function's own `maximize`; False by default."""
        return bool(_own_attribute(self.function, "maximize", False))

    @property
    def stochastic(self) -> bool:
        """The function's own `stochastic`; by default, True if its code uses its key.

        A function whose code cannot be inspected counts as stochastic.
        """
        declared = getattr(unwrapped(self.function), "stochastic", None)
        if isinstance(declared, bool):
            return declared
        return uses_argument(self.function, 1)

    @property
    def differentiable(self) -> bool:
        """True, unless jit or `functools.partial` holds a non-differentiable task."""
        return self.obstacle is None

    @property
    def obstacle(self) -> str | None:
        """The obstacle of the task inside jit and `functools.partial`, or `None`."""
        inner = unwrapped(self.function)
        return inner.obstacle if isinstance(inner, AbstractTask) else None

    @property
    def compiler_options(self) -> dict[str, Any]:
        """The function's own `compiler_options`; none by default."""
        return _own_attribute(self.function, "compiler_options", {})

    @property
    def display_name(self) -> str:
        """The name of the function in messages, in backticks."""
        return name_of(unwrapped(self.function))


# Unchecked, because its own checks have clearer errors.
@no_type_check
def as_task[P](
    value: Callable[[P, PRNGKeyArray, Any], tuple[Any, Any]], argument: str = "task"
) -> AbstractTask[P]:
    """Convert a task or function to an `AbstractTask`.

    An `AbstractTask` is returned itself, without `jax.jit` or `eqx.filter_jit` around
    it, which compute the same. Any other callable becomes a `FunctionTask`.

    **Arguments:**

    - `value`: a task, or a function `(params, key, data) -> (value, aux)`.
    - `argument`: the name of the caller's argument, for messages.

    **Raises:** `TypeError` for a class instead of an instance, for an object that is
    not callable, for another signature, and for `compiler_options` of the wrong type;
    `ValueError` for a function that decorates a task with `normalize_obs`.
    """
    _check_callable(value, argument)
    inner = _computing_the_same(value)
    task: AbstractTask[Any]
    if isinstance(inner, AbstractTask):
        task = inner
    else:
        task = FunctionTask(_held(value))
        _refuse_hidden_statistics(value)
    checked_options(task.compiler_options, task.display_name)
    _check_signature(value, task.display_name, argument)
    return task


class _Decorated(functools.partial[Any]):
    """A decorated function in a field, which equals that of the same function.

    equinox follows the `__wrapped__` of a function in a field, and takes a decorated
    task for one whose arrays are lost. It does not look into a partial function.
    """

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Decorated) and other.func == self.func

    def __hash__(self) -> int:
        return hash(self.func)


def _held(function: Any) -> Any:
    """Return a function as it is kept in a field."""
    # The arrays of a module, such as one of `eqx.filter_jit`, are leaves of the task.
    if isinstance(function, eqx.Module) or not hasattr(function, "__wrapped__"):
        return function
    return _Decorated(function)


def _computing_the_same(function: Any) -> Any:
    """Return the callable inside jit and `functools.partial` without arguments."""
    while True:
        if is_jitted(function):
            function = function.__wrapped__
        elif isinstance(function, functools.partial) and not (
            function.args or function.keywords
        ):
            function = function.func
        else:
            return function


def _own_attribute(function: Callable[..., Any], name: str, otherwise: Any) -> Any:
    """Return an attribute of a function, unless `functools.wraps` copied it."""
    function = unwrapped(function)
    found = getattr(function, name, otherwise)
    copied = getattr(getattr(function, "__wrapped__", None), name, None)
    return otherwise if copied is not None and copied is found else found


def _refuse_hidden_statistics(function: Callable[..., Any]) -> None:
    inner = unwrapped(function)
    while callable(inner):
        if isinstance(inner, AbstractTask) and obs_stats_of(inner) is not None:
            raise ValueError(
                f"{name_of(unwrapped(function))} decorates a task with `normalize_obs`,"
                " whose statistics cannot reach it through a function. Subclass the "
                "task instead of decorating it, or normalise inside the policy."
            )
        wrapped = getattr(inner, "__wrapped__", None)
        inner = unwrapped(wrapped) if callable(wrapped) else None


def _check_callable(value: Any, argument: str) -> None:
    if isinstance(value, type):
        raise TypeError(
            f"`{argument}` must be a task, but got the class `{value.__name__}`. Make "
            f"an instance of it: `{value.__name__}(...)`."
        )
    if not callable(value):
        raise TypeError(
            f"`{argument}` must be a function {SIGNATURE} or a task, but got "
            f"{describe(value)}."
        )


def _check_signature(function: Callable[..., Any], name: str, argument: str) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some builtins have no signature
        return
    try:
        signature.bind(None, None, None)
    except TypeError as error:
        raise TypeError(
            f"`{argument}` must have the signature {SIGNATURE}, but {name} has "
            f"{signature} ({error}). Add what is missing, for example "
            "`def task(params, key, data=None): ...`."
        ) from error
