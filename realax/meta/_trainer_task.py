"""Training as a task: the value of parameters is what a training with them reaches."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from .._arguments import arguments, flag, function, instance, optional
from .._errors import describe
from .._types import PRNGKeyArray, Scalar, Tree
from ..tasks import AbstractTask
from ..tasks._function import as_task
from ..training import AbstractTrainer
from ..training._metrics import entries_of, entry_of
from ._inside import check_inner
from ._places import Path, place_of, put


def _injection(phrase: str, value: Any) -> Any:
    """Check that a value is a path, or a function."""
    if isinstance(value, str):
        return value
    return function("(trainer, params) -> trainer")(phrase, value)


class TrainerTask[P](AbstractTask[P]):
    """Scores parameters by a training with them: training inside of training.

    ```python
    task = rx.TrainerTask(inner, inject="learning_rate")
    best, state, data = rx.evolve(jnp.array(0.01), task, key)
    ```

    It is a task like any other, for evolution and, if the inner run is differentiable,
    for gradients, at any depth. The key is the inner run's.

    **Arguments:**

    - `trainer`: the inner trainer. It has no observers.
    - `inject`: `(trainer, params) -> trainer`, such as
        `lambda t, p: eqx.tree_at(lambda t: t.learning_rate, t, p)`; or the path of a
        number of the trainer that the parameters become, such as `"learning_rate"`. A
        function of a module is compared by value, while a new lambda compiles anew.
    - `score`: `(metrics) -> value`, of metrics with a leading axis of steps; if `None`,
        the last value of the inner objective, its mean if it has other axes.
    - `maximize`: the direction; if `None`, that of the inner objective.

    The aux is `{"score": value}`, and what the inner `record` keeps as `"record"`.

    **Raises:** `TypeError` or `ValueError` for an inner trainer with observers, and for
    a path without a number.
    """

    trainer: AbstractTrainer[Any, Any, Any]
    inject: Callable[[Any, P], Any]
    score: Callable[[Any], Any] | None
    maximize: bool = eqx.field(static=True)

    @arguments(
        trainer=instance(AbstractTrainer, 'rx.OptaxTrainer(100, "adam", start, loss)'),
        inject=_injection,
        score=optional(function("(metrics) -> value")),
        maximize=optional(flag),
    )
    def __init__(
        self,
        trainer: AbstractTrainer[Any, Any, Any],
        inject: str | Callable[[Any, P], Any],
        score: Callable[[Any], Any] | None = None,
        *,
        maximize: bool | None = None,
    ):
        if isinstance(inject, str):
            place_of("`inject` of `TrainerTask`", trainer, inject)
            inject = Injected(Path(tuple(inject.split("."))))
        check_inner("TrainerTask", trainer)
        self.trainer = trainer
        self.inject = inject
        self.score = score
        inner = trainer.objective[1] == "max"
        self.maximize = inner if maximize is None else maximize

    @property
    def compiler_options(self) -> dict[str, Any]:
        """XLA's options of the inner trainer."""
        return self.trainer.xla_options

    @property
    def differentiable(self) -> bool:
        """True unless the inner trainer's own task is known not to be."""
        task = self.trainer.evaluation_task
        return task is None or as_task(task, "evaluation_task").differentiable

    @property
    def obstacle(self) -> str | None:
        """The reason why the inner trainer's task is not differentiable, or `None`."""
        task = self.trainer.evaluation_task
        return None if task is None else as_task(task, "evaluation_task").obstacle

    @property
    def stochastic(self) -> bool:
        """True, because the inner run draws by its key."""
        return True

    def __call__(
        self, params: P, key: PRNGKeyArray, data: Tree = None
    ) -> tuple[Scalar, Tree]:
        """Train from a new state, and score the metrics.

        **Arguments:**

        - `params`: what is put into the trainer.
        - `key`: the key of the inner run.
        - `data`: the data of the inner run.

        **Raises:** `TypeError` if `inject` returns no trainer.
        """
        trainer: Any = self.inject(self.trainer, params)
        if not isinstance(trainer, AbstractTrainer):
            raise TypeError(
                "`inject` of `TrainerTask` must return the trainer with the "
                f"parameters, but got {describe(trainer)}. For example: `lambda t, p: "
                "eqx.tree_at(lambda t: t.learning_rate, t, p)`."
            )
        _, record = trainer.init_and_train(key, data)
        metrics = record["metrics"]
        if self.score is not None:
            score: Any = self.score(metrics)
        else:
            curve = entry_of(entries_of(metrics), trainer.objective[0])
            score = jnp.mean(jnp.asarray(curve)[-1])
        if not eqx.is_array_like(score) or jnp.shape(score) != ():
            raise TypeError(
                "`score` of `TrainerTask` must return one number, but got "
                f"{describe(score)}. For example: `lambda metrics: "
                'metrics["loss"][-1]`.'
            )
        aux: dict[str, Any] = {"score": score}
        if record["record"] is not None:
            aux["record"] = eqx.filter(record["record"], eqx.is_array)
        return score, jax.tree.map(jnp.asarray, aux)


class Injected(eqx.Module):
    """Puts parameters into a trainer at a place.

    - `place`: finds the number that they replace.
    """

    place: Path

    def __call__(self, trainer: Any, params: Any) -> Any:
        """Return the trainer with the parameters."""
        return put(trainer, self.place, params)
