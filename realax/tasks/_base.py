"""The contract of tasks."""

import abc
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from .._callables import name_of
from .._check import no_type_check
from .._errors import describe
from .._types import PRNGKeyArray, Scalar, Step, Tree
from ._randomness import uses_argument


SIGNATURE = "(params, key, data) -> (value, aux)"


if TYPE_CHECKING:

    class _Directed:
        """Declares `maximize` for type checkers.

        It stands outside the dataclass, which would treat it as a field.
        """

        maximize: bool

else:

    class _Directed(eqx.Module):
        maximize: eqx.AbstractVar[bool]


class AbstractTask[P](_Directed, eqx.Module):
    """Maps parameters to a scalar value and auxiliary output.

    A subclass defines `__call__` and its direction `maximize`, and may override
    `evaluate` if many parameters can be evaluated faster at once. A plain function
    `(params, key, data) -> (value, aux)` is a task too and is minimised: trainers
    convert it to a `FunctionTask` by `as_task`.

    Override the properties below by a property or a class attribute, not by a field.
    """

    @abc.abstractmethod
    def __call__(
        self, params: P, key: PRNGKeyArray, data: Tree = None
    ) -> tuple[Scalar, Tree]:
        """Evaluate the parameters once.

        **Arguments:**

        - `params`: the parameters or model under test.
        - `key`: the source of all randomness.
        - `data`: the `data` of the trainer's run.

        **Returns:** The value, of shape `()`, and the aux: a tree of arrays, or `None`.
        """

    @property
    def stochastic(self) -> bool:
        """True if the value depends on the key.

        By default the code of `__call__` and `evaluate` is inspected: True if one of
        them uses its keys. The best value of a task that draws random numbers is partly
        luck, so evolution is then judged by the mean of each generation.
        """
        kind = type(self)
        own = kind.evaluate is not AbstractTask.evaluate
        return uses_argument(kind.__call__, 2) or (
            own and uses_argument(kind.evaluate, 2)
        )

    @property
    def differentiable(self) -> bool:
        """True, the default, if gradient training can learn from the value.

        Gradient trainers refuse a task for which this is False.
        """
        return True

    @property
    def obstacle(self) -> str | None:
        """The reason why the task is not differentiable, as a sentence, or `None`."""
        return None if self.differentiable else "its `differentiable` is False."

    @property
    def on_host(self) -> bool:
        """True if its evaluation is Python that jax cannot trace; False by default."""
        return False

    @property
    def compiler_options(self) -> dict[str, Any]:
        """XLA's options for runs on this task, by name; none by default.

        Whole runs of a trainer are compiled with them. They make runs faster, and may
        change the last bits of a result. An option that lets XLA assume that there is
        no NaN and no infinity disables the trainer's guards against those.

        A trainer that is itself traced, by `jit`, `vmap`, `grad` or a task, is compiled
        without them: pass them to the outermost `jax.jit(..., compiler_options=...)`.
        """
        return {}

    @property
    def display_name(self) -> str:
        """The task's name in messages, in backticks; by default that of its class."""
        return name_of(self)

    @no_type_check
    def draw(
        self, data: Tree, key: PRNGKeyArray, step: Step
    ) -> "tuple[AbstractTask[P], Tree]":
        """Return the task and the data of one training step.

        By default both are unchanged; `Minibatch` returns its loss and a batch.

        **Arguments:**

        - `data`: the `data` of the trainer's run.
        - `key`: the key of the order of the examples, the same in every step.
        - `step`: the number of steps before this one.
        """
        del key, step
        return self, data

    def checked_call(
        self, params: P, key: PRNGKeyArray, data: Tree = None
    ) -> tuple[Scalar, Tree]:
        """Return the result of `__call__`, its value in jax's default float dtype.

        **Raises:** `TypeError`, while tracing, if the result is not `(value, aux)`.
        """
        return checked_result(self(params, key, data), self.display_name)

    def evaluate(
        self, population: P, keys: Key[Array, "pop reps"], data: Tree = None
    ) -> tuple[Float[Array, "pop reps"], Tree]:
        """Evaluate every individual of a population, once for each of its keys.

        **Arguments:**

        - `population`: parameters with a leading axis `pop` on every array.
        - `keys`: one key for each individual and repetition.
        - `data`: shared by all of them.

        **Returns:** The values, of shape `(pop, reps)`, and the aux with the same two
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
    """Map a function of `(params, key)` over a population and its repetitions.

    **Returns:** A tree like the function's result, with leading axes `(pop, reps)`.
    """
    pop, reps = keys.shape
    arrays, static = eqx.partition(population, eqx.is_array)
    arrays = jax.tree.map(lambda leaf: jnp.repeat(leaf, reps, axis=0), arrays)

    def job(arrays: Any, key: PRNGKeyArray) -> Any:
        return function(eqx.combine(arrays, static), key)

    results = jax.vmap(job)(arrays, keys.reshape(pop * reps))
    return jax.tree.map(lambda leaf: leaf.reshape(pop, reps, *leaf.shape[1:]), results)


def checked_result(result: Any, name: str) -> tuple[Scalar, Tree]:
    """Return a task's `(value, aux)`, the value in jax's default float dtype.

    **Raises:** `TypeError` for any other result. The message calls the task `name`.
    """
    value, aux = checked_pair(result, name, SIGNATURE)
    value = checked_value(value, (), f"the value that {name} returns")
    check_arrays(aux, f"the aux of {name}")
    return value, aux


def checked_pair(result: Any, name: str, pair: str) -> tuple[Any, Tree]:
    """Return the result of a task, after a check that it is a pair.

    **Arguments:**

    - `result`: anything.
    - `name`, `pair`: the function that returned it and its signature, for messages.

    **Raises:** `TypeError` for anything but a pair.
    """
    if not (isinstance(result, tuple) and len(result) == 2):
        raise TypeError(
            f"{name} must return a pair {pair}, but got {describe(result)}. Return "
            "`None` as the aux if there is none."
        )
    return result


def checked_value(value: Any, shape: tuple[int, ...], phrase: str) -> Array:
    """Return a value, or the values of a population, in jax's default float dtype.

    **Arguments:**

    - `value`: anything.
    - `shape`: the shape that it must have: `()`, or that of the population's keys.
    - `phrase`: its name in messages.

    **Raises:** `TypeError` for another shape, and for complex numbers.
    """
    if not eqx.is_array_like(value) or jnp.shape(value) != shape:
        expected = f"numbers of shape (pop, reps) = {shape}"
        remedy = "Return one for each of `keys`."
        if shape == ():
            expected = "a number of shape ()"
            remedy = "Sum or average it: `jnp.mean(value)`."
        raise TypeError(
            f"{phrase} must be {expected}, but got {describe(value)}. {remedy}"
        )
    value = jnp.asarray(value)
    if jnp.issubdtype(value.dtype, jnp.complexfloating):
        raise TypeError(
            f"{phrase} must be real, but got {value.dtype}. Take `jnp.real` or "
            "`jnp.abs`."
        )
    return value.astype(jnp.result_type(float))


def check_arrays(tree: Tree, what: str) -> None:
    """Refuse leaves that cannot be stacked over steps.

    **Raises:** `TypeError` that names the path of the first such leaf.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if not eqx.is_array_like(leaf):
            raise TypeError(
                f"{what} must hold arrays and numbers only, but got "
                f"{describe(leaf)} at `{jax.tree_util.keystr(path) or '(root)'}`. "
                "Keep names and settings outside of what is returned."
            )
