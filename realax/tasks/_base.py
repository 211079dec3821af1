"""What a task is."""

import abc
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from .._callables import name_of, unwrapped
from .._compile import checked_options
from .._errors import describe
from .._types import PRNGKeyArray, Scalar, TaskFn, Tree
from ..policies import ObsStats
from ._randomness import uses_argument


_SIGNATURE = "(params, key, data) -> (value, aux)"


if TYPE_CHECKING:

    class _Directed:
        """Outside of the dataclass: a class attribute would be taken for a field."""

        maximize: bool

else:

    class _Directed(eqx.Module):
        maximize: eqx.AbstractVar[bool]


class AbstractTask[P](_Directed, eqx.Module):
    """Something to be good at: parameters in, a number and further results out.

    A plain function `(params, key, data) -> (value, aux)` is a task too and is
    minimised; a class says its direction with `maximize`, and may have a faster way of
    its own to `evaluate` many parameters.
    """

    @abc.abstractmethod
    def __call__(
        self, params: P, key: PRNGKeyArray, data: Tree = None
    ) -> tuple[Scalar, Tree]:
        """One evaluation.

        **Arguments:**

        - `params`: the parameters or model under test.
        - `key`: all randomness comes from it.
        - `data`: whatever the trainer's `data` was.

        **Returns:** The value, shape `()`, and aux: a tree of arrays, or `None`.
        """

    @property
    def stochastic(self) -> bool:
        """Whether the value depends on the key.

        By default it is found out from the code of `__call__` and `evaluate`: whether
        they use their keys. A property or a class attribute; not a field. The best
        value so far of a task that draws random numbers is a lucky draw as well, so
        that evolution is judged by its generations' means.
        """
        kind = type(self)
        own = kind.evaluate is not AbstractTask.evaluate
        return uses_argument(kind.__call__, 2) or (
            own and uses_argument(kind.evaluate, 2)
        )

    @property
    def compiler_options(self) -> dict[str, Any]:
        """XLA's options for runs on this task, values by name; none, by default.

        A property or a class attribute; not a field. A trainer's whole runs are
        compiled with them. They are for speed, and a run may differ in its last bits
        with them; one that lets XLA assume that there is no NaN and no infinity takes
        away the trainer's guards against those.

        A task around another has to forward them. A trainer that is itself traced, by
        `jit`, `vmap`, `grad` or a task, is compiled without them: give them to the
        outermost `jax.jit(..., compiler_options=...)`.
        """
        return {}

    @property
    def differentiable(self) -> bool:
        """Whether training by gradient can learn from its value; True, by default.

        A property or a class attribute; not a field. Gradient trainers refuse a task
        of which it is false. A task around another has to forward it.
        """
        return True

    @property
    def _obstacle(self) -> str | None:
        """Why it is not differentiable, in a sentence."""
        return None if self.differentiable else "its `differentiable` is False."

    def begin(self) -> ObsStats | None:
        """Statistics that grow from generation to generation, kept by the trainer.

        `None`, by default. Where there are some, `evaluate` is given the population
        with them bound to it, and returns its aux as a pair with the `Moments` it met.
        """
        return None

    def evaluate(
        self, population: P, keys: Key[Array, "pop reps"], data: Tree = None
    ) -> tuple[Float[Array, "pop reps"], Tree]:
        """Every individual of a population, several times.

        **Arguments:**

        - `population`: parameters with a leading axis `pop` on every array.
        - `keys`: one key for each individual and repetition.
        - `data`: shared by all of them.

        **Returns:** The values, shape `(pop, reps)`, and the aux with the same two
        leading axes.
        """
        return vmap_jobs(self, population, keys, data)


def vmap_jobs(
    task: TaskFn, population: Tree, keys: Key[Array, "pop reps"], data: Tree
) -> tuple[Float[Array, "pop reps"], Tree]:
    """`task` mapped over the flattened jobs of a population and its repetitions."""
    pop, reps = keys.shape
    arrays, static = eqx.partition(population, eqx.is_array)
    arrays = jax.tree.map(lambda leaf: jnp.repeat(leaf, reps, axis=0), arrays)

    def job(arrays: Any, key: PRNGKeyArray) -> tuple[Scalar, Tree]:
        return checked_call(task, eqx.combine(arrays, static), key, data)

    values, aux = jax.vmap(job)(arrays, keys.reshape(pop * reps))
    return values.reshape(pop, reps), jax.tree.map(
        lambda leaf: leaf.reshape(pop, reps, *leaf.shape[1:]), aux
    )


def checked_call(
    task: TaskFn, params: Tree, key: PRNGKeyArray, data: Tree
) -> tuple[Scalar, Tree]:
    """`task(params, key, data)`, refusing results that are no `(value, aux)`.

    **Raises:** `TypeError` that says what came, while tracing.
    """
    result: Any = task(params, key, data)
    if not (isinstance(result, tuple) and len(result) == 2):
        raise TypeError(
            f"{name_of(task)} must return a pair {_SIGNATURE}, but it returned "
            f"{describe(result)}. Return `value, None` where there is no aux."
        )
    value, aux = result
    if not (eqx.is_array_like(value) and jnp.shape(value) == ()):
        raise TypeError(
            f"the value that {name_of(task)} returns must be a number of shape (), but "
            f"got {describe(value)}. Sum or average it: `jnp.mean(value)`."
        )
    check_arrays(aux, f"the aux of {name_of(task)}")
    value = jnp.asarray(value)
    if jnp.issubdtype(value.dtype, jnp.complexfloating):
        raise TypeError(
            f"the value that {name_of(task)} returns must be real, but got "
            f"{value.dtype}. Take `jnp.real` or `jnp.abs` of it."
        )
    return value.astype(jnp.result_type(float)), aux


def check_arrays(tree: Tree, what: str) -> None:
    """Refuse leaves that can not be stacked over steps.

    **Raises:** `TypeError` that names the leaf by its path.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if not eqx.is_array_like(leaf):
            raise TypeError(
                f"{what} must hold arrays and numbers only, but got "
                f"{describe(leaf)} at `{jax.tree_util.keystr(path) or '(root)'}`. "
                "Keep names and settings outside of what is returned."
            )


def is_maximized(task: Callable[..., Any]) -> bool:
    """A task's direction; a plain function is minimised."""
    return bool(_said(task, "maximize", False))


def is_differentiable(task: Callable[..., Any]) -> bool:
    """Whether gradient training can learn from a task; from a plain function it can."""
    return obstacle(task) is None


def obstacle(task: Callable[..., Any]) -> str | None:
    """Why gradient training can not learn from a task; `None` where it can."""
    task = unwrapped(task)
    return task._obstacle if isinstance(task, AbstractTask) else None  # pyright: ignore[reportPrivateUsage]


def begun(task: Callable[..., Any]) -> ObsStats | None:
    """The statistics with which a task begins, if it has some.

    **Raises:** `ValueError` for a decorated task that has some.
    """
    inner = unwrapped(task)
    if isinstance(inner, AbstractTask):
        return inner.begin()
    wrapped = getattr(inner, "__wrapped__", None)
    if callable(wrapped) and begun(wrapped) is not None:
        raise ValueError(
            f"{name_of(inner)} decorates a task with `normalize_obs`, whose statistics "
            "can not reach it through a function. Subclass the task instead of "
            "decorating it, or normalise inside the policy."
        )
    return None


def options_of(task: Callable[..., Any]) -> dict[str, str]:
    """XLA's options that a task asks for, as text; a plain function asks for none.

    **Raises:** `TypeError` and `ValueError`, as `checked_options`.
    """
    said = _said(task, "compiler_options", {})
    return checked_options(said, name_of(unwrapped(task)))


def _said(task: Callable[..., Any], name: str, otherwise: Any) -> Any:
    """What a task says of itself. What `functools.wraps` copied is another's word."""
    task = unwrapped(task)
    said = getattr(task, name, otherwise)
    copied = getattr(getattr(task, "__wrapped__", None), name, None)
    return otherwise if copied is not None and copied is said else said


def check_task(task: Callable[..., Any], argument: str = "task") -> None:
    """Refuse callables that do not take `(params, key, data)`.

    **Raises:** `TypeError`; for bad `compiler_options`, as `options_of`.
    """
    if isinstance(task, type):
        raise TypeError(
            f"`{argument}` must be a task, but got the class `{task.__name__}`. Make "
            f"an instance of it: `{task.__name__}(...)`."
        )
    if not callable(task):
        raise TypeError(
            f"`{argument}` must be a function {_SIGNATURE} or a task, but got "
            f"{describe(task)}."
        )
    options_of(task)
    try:
        signature = inspect.signature(task)
    except (TypeError, ValueError):  # some builtins have no signature to look at
        return
    try:
        signature.bind(None, None, None)
    except TypeError as error:
        raise TypeError(
            f"`{argument}` must have the signature {_SIGNATURE}, but {name_of(task)} "
            f"has {signature} ({error}). Add what is missing, for example "
            "`def task(params, key, data=None): ...`."
        ) from error
