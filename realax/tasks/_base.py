"""The contract of tasks."""

import abc
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from .._callables import name_of
from .._errors import describe
from .._types import PRNGKeyArray, Scalar, Step, Tree
from ._randomness import uses_argument


SIGNATURE = "(params, key, data) -> (value, aux)"


if TYPE_CHECKING:

    class _Directed:
        """Outside of the dataclass: a class attribute would be taken for a field."""

        maximize: bool

else:

    class _Directed(eqx.Module):
        maximize: eqx.AbstractVar[bool]


class AbstractTask[P](_Directed, eqx.Module):
    """Maps parameters to a scalar value and auxiliary output.

    A subclass writes `__call__` and says its direction with `maximize`, and may
    override `evaluate` where it has a faster way for many parameters at once. A plain
    function `(params, key, data) -> (value, aux)` is a task too and is minimised:
    trainers make a `FunctionTask` of it by `as_task`.

    The properties below are overridden by a property or a class attribute, not by a
    field.
    """

    @abc.abstractmethod
    def __call__(
        self, params: P, key: PRNGKeyArray, data: Tree = None
    ) -> tuple[Scalar, Tree]:
        """One evaluation.

        **Arguments:**

        - `params`: the parameters or model under test.
        - `key`: all randomness comes from it.
        - `data`: the `data` of the trainer's run.

        **Returns:** The value, shape `()`, and aux: a tree of arrays, or `None`.
        """

    @property
    def stochastic(self) -> bool:
        """Whether the value depends on the key.

        By default this is read off the code of `__call__` and `evaluate`: True where
        one of them uses its keys. The best value so far of a task that draws random
        numbers is a lucky draw as well, so that evolution is judged by the means of
        its generations.
        """
        kind = type(self)
        own = kind.evaluate is not AbstractTask.evaluate
        return uses_argument(kind.__call__, 2) or (
            own and uses_argument(kind.evaluate, 2)
        )

    @property
    def differentiable(self) -> bool:
        """Whether training by gradient can learn from the value; True, by default.

        Gradient trainers refuse a task of which this is False.
        """
        return True

    @property
    def obstacle(self) -> str | None:
        """The reason why the task is not differentiable, as a sentence, or `None`."""
        return None if self.differentiable else "its `differentiable` is False."

    @property
    def compiler_options(self) -> dict[str, Any]:
        """XLA's options for runs on this task, values by name; none, by default.

        A trainer's whole runs are compiled with them. They are for speed, and a run
        may differ in its last bits with them; one that lets XLA assume that there is
        no NaN and no infinity takes away the trainer's guards against those.

        A trainer that is itself traced, by `jit`, `vmap`, `grad` or a task, is compiled
        without them: give them to the outermost `jax.jit(..., compiler_options=...)`.
        """
        return {}

    @property
    def display_name(self) -> str:
        """The task's name in messages, in backticks; its class by default."""
        return name_of(self)

    def draw(
        self, data: Tree, key: PRNGKeyArray, step: Step
    ) -> "tuple[AbstractTask[P], Tree]":
        """The task and the data of one step of training.

        Both stay as they are by default; a `Minibatch` gives its loss and a batch.

        **Arguments:**

        - `data`: the `data` of the trainer's run.
        - `key`: decides the order of the examples; the same in every step.
        - `step`: the number of steps before this one.
        """
        del key, step
        return self, data

    def checked_call(
        self, params: P, key: PRNGKeyArray, data: Tree = None
    ) -> tuple[Scalar, Tree]:
        """The result of `__call__`, the value in jax's default float dtype.

        **Raises:** `TypeError` for a result that is no `(value, aux)`, while tracing.
        """
        return checked_result(self(params, key, data), self.display_name)

    def evaluate(
        self, population: P, keys: Key[Array, "pop reps"], data: Tree = None
    ) -> tuple[Float[Array, "pop reps"], Tree]:
        """Evaluations of every individual of a population, several times each.

        **Arguments:**

        - `population`: parameters with a leading axis `pop` on every array.
        - `keys`: one key for each individual and repetition.
        - `data`: shared by all of them.

        **Returns:** The values, shape `(pop, reps)`, and the aux with the same two
        leading axes.
        """
        return map_jobs(
            lambda params, key: self.checked_call(params, key, data), population, keys
        )


def map_jobs(
    function: Callable[[Any, PRNGKeyArray], Tree],
    population: Tree,
    keys: Key[Array, "pop reps"],
) -> Any:
    """A function of `(params, key)` mapped over a population and its repetitions.

    **Returns:** A tree like the function's, with the leading axes `(pop, reps)`.
    """
    pop, reps = keys.shape
    arrays, static = eqx.partition(population, eqx.is_array)
    arrays = jax.tree.map(lambda leaf: jnp.repeat(leaf, reps, axis=0), arrays)

    def job(arrays: Any, key: PRNGKeyArray) -> Any:
        return function(eqx.combine(arrays, static), key)

    results = jax.vmap(job)(arrays, keys.reshape(pop * reps))
    return jax.tree.map(lambda leaf: leaf.reshape(pop, reps, *leaf.shape[1:]), results)


def checked_result(result: Any, name: str) -> tuple[Scalar, Tree]:
    """A task's `(value, aux)`, the value in jax's default float dtype.

    **Raises:** `TypeError` for anything else, which names the task by `name`.
    """
    if not (isinstance(result, tuple) and len(result) == 2):
        raise TypeError(
            f"{name} must return a pair {SIGNATURE}, but it returned "
            f"{describe(result)}. Return `value, None` where there is no aux."
        )
    value, aux = result
    if not (eqx.is_array_like(value) and jnp.shape(value) == ()):
        raise TypeError(
            f"the value that {name} returns must be a number of shape (), but "
            f"got {describe(value)}. Sum or average it: `jnp.mean(value)`."
        )
    check_arrays(aux, f"the aux of {name}")
    value = jnp.asarray(value)
    if jnp.issubdtype(value.dtype, jnp.complexfloating):
        raise TypeError(
            f"the value that {name} returns must be real, but got "
            f"{value.dtype}. Take `jnp.real` or `jnp.abs` of it."
        )
    return value.astype(jnp.result_type(float)), aux


def check_arrays(tree: Tree, what: str) -> None:
    """Refuse leaves that cannot be stacked over steps.

    **Raises:** `TypeError` that names the leaf by its path.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if not eqx.is_array_like(leaf):
            raise TypeError(
                f"{what} must hold arrays and numbers only, but got "
                f"{describe(leaf)} at `{jax.tree_util.keystr(path) or '(root)'}`. "
                "Keep names and settings outside of what is returned."
            )
