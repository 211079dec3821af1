"""The contract of tasks that run any Python on the host."""

import abc
from typing import Any, final

import equinox as eqx
import jax
from jax.core import Tracer
from jaxtyping import Array, Float, Key

from .._check import no_type_check
from .._errors import check_key
from .._parts import under_trace
from .._types import PRNGKeyArray, Scalar, Tree
from ..policies import ObsStats
from ._base import AbstractTask
from ._observing import AbstractObservingTask, Evaluation, obs_stats_of


class AbstractHostTask[P](AbstractObservingTask[P]):
    """A task that jax cannot trace, because its evaluation is any Python.

    Trainers that `ask`, `evaluate` and `tell` train on it as on any other: the first
    and the last are compiled, and the host evaluates between them. Only the outermost
    trainer can do that, so that `jit`, `vmap`, `grad` and other trainers refuse it.
    """

    @property
    @no_type_check
    def on_host(self) -> bool:
        """True."""
        return True

    @property
    def differentiable(self) -> bool:
        """False."""
        return False

    @property
    def obstacle(self) -> str | None:
        """The reason why the value is not differentiable, as a sentence."""
        return "it runs on the host, where jax takes no derivatives."

    @property
    def obs_stats(self) -> ObsStats | None:
        """The statistics before the first observation; `None` by default."""
        return None

    @abc.abstractmethod
    def evaluate_and_observe(
        self, population: Any, keys: Key[Array, "pop reps"], data: Tree = None
    ) -> Evaluation:
        """Evaluate a population on the host, and sum up the observations.

        **Arguments:**

        - `population`, `keys`, `data`: as for `evaluate`.

        **Returns:** The values, of shape `(pop, reps)`, the aux, and the moments of
        the observations if the task has `obs_stats`.
        """

    def __call__(
        self, params: P, key: PRNGKeyArray, data: Tree = None
    ) -> tuple[Scalar, Tree]:
        """Evaluate the parameters once, as `evaluate` does with this key.

        **Raises:** `RuntimeError` under `jit`, `vmap` and `grad`.
        """
        check_key(key)
        one = jax.tree.map(lambda x: x[None] if eqx.is_array(x) else x, params)
        values, aux = self.evaluate(one, key[None, None], data)
        return values[0, 0], jax.tree.map(lambda x: x[0, 0], aux)

    @no_type_check
    def evaluate(
        self, population: P, keys: Key[Array, "pop reps"], data: Tree = None
    ) -> tuple[Float[Array, "pop reps"], Tree]:
        """Evaluate every individual of a population, once for each of its keys.

        **Arguments:**

        - `population`: parameters with a leading axis `pop` on every array.
        - `keys`: one key for each individual and repetition.
        - `data`: handed to each evaluation.

        **Returns:** The values, of shape `(pop, reps)`, and the aux with the same two
        leading axes.

        **Raises:** `RuntimeError` under `jit`, `vmap` and `grad`.
        """
        result = self.evaluate_and_observe(population, keys, data)
        return result.values, result.aux


@no_type_check
def check_concrete(name: str, *trees: Any) -> None:
    """Refuse traced arrays in the evaluation of a task on the host.

    **Arguments:**

    - `name`: the class of the task, for the message.
    - `trees`: what is evaluated.

    **Raises:** `RuntimeError` with the remedy.
    """
    traced = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(trees))
    if traced or under_trace():
        raise RuntimeError(
            f"a `{name}` runs Python on the host, but got traced arrays: it is inside "
            "`jit`, `vmap`, `grad`, a compiled step or another trainer. Give it to the "
            'outermost trainer, such as `rx.EvosaxTrainer(100, "CMA_ES", task, '
            "params)`, and call that outside of them."
        )


@final
class HostOutline[P](AbstractObservingTask[P]):
    """The part of a task on the host that compiled steps know.

    It holds no code of the user, so that all tasks of one kind share a program.

    - `maximize`, `is_stochastic`, `name`, `stats`: properties of the task.
    """

    maximize: bool = eqx.field(static=True)
    is_stochastic: bool = eqx.field(static=True)
    name: str = eqx.field(static=True)
    stats: ObsStats | None

    @classmethod
    def of(cls, task: AbstractTask[Any]) -> "HostOutline[Any]":
        """Return the outline of a task."""
        stochastic, stats = task.stochastic, obs_stats_of(task)
        return cls(task.maximize, stochastic, task.display_name, stats)

    @property
    def on_host(self) -> bool:
        """True."""
        return True

    @property
    def stochastic(self) -> bool:
        """True if the value of the task depends on the key."""
        return self.is_stochastic

    @property
    def differentiable(self) -> bool:
        """False."""
        return False

    @property
    def obs_stats(self) -> ObsStats | None:
        """The statistics of the task before the first observation."""
        return self.stats

    @property
    def display_name(self) -> str:
        """The name of the task in messages."""
        return self.name

    def __call__(
        self, params: P, key: PRNGKeyArray, data: Tree = None
    ) -> tuple[Scalar, Tree]:
        """Refuse, because only the host can evaluate.

        **Raises:** `RuntimeError`.
        """
        raise self._refusal()

    def evaluate_and_observe(
        self, population: Any, keys: Key[Array, "pop reps"], data: Tree = None
    ) -> Evaluation:
        """Refuse, because only the host can evaluate.

        **Raises:** `RuntimeError`.
        """
        raise self._refusal()

    def _refusal(self) -> RuntimeError:
        return RuntimeError(
            f"{self.name} runs on the host, but a compiled program evaluates it. Only "
            "the outermost trainer can train on it: call `init_and_train` or `train` "
            "outside of `jit`, `vmap`, `grad` and other trainers."
        )


def outlined(trainer: Any) -> Any:
    """Return a trainer with the outline of its task, if that runs on the host."""
    task = getattr(trainer, "task", None)
    if not (isinstance(task, AbstractTask) and task.on_host):
        return trainer
    return eqx.tree_at(lambda t: t.task, trainer, HostOutline.of(task))
