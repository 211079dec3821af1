"""Losses on batches of the data."""

from collections.abc import Callable
from typing import Any, SupportsIndex, cast

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from .._arguments import arguments, whole
from .._errors import describe
from .._keys import split
from .._types import PRNGKeyArray, Scalar, Step, Tree
from ._base import AbstractTask, map_jobs
from ._function import as_task
from ._observing import Evaluation, evaluated
from ._shuffle import batch_rows
from ._wrapper import AbstractWrapper


class Minibatch[P](AbstractWrapper[P]):
    """A loss on `batch_size` examples of the data in each step.

    `data` is a tree of arrays with a common leading axis of examples; the loss gets the
    same tree with an axis of `batch_size`. Trainers go through the data in passes, each
    in a new order: a pass uses each example exactly once, and a batch may end one pass
    and begin the next. All individuals of a generation get the same batch. A direct
    call of the task draws a batch by its key.

    **Arguments:**

    - `loss_fn`: `(params, key, data) -> (loss, aux)`, or an `AbstractTask`.
    - `batch_size`: the number of examples in a batch.

    **Raises:** `TypeError` or `ValueError`, as `as_task`, and for a `batch_size` that
    is not a positive integer.
    """

    loss_fn: AbstractTask[P]
    batch_size: int = eqx.field(static=True)

    @arguments(batch_size=whole())
    def __init__(
        self,
        loss_fn: Callable[[P, PRNGKeyArray, Any], tuple[Any, Any]],
        batch_size: SupportsIndex,
    ):
        self.loss_fn = as_task(loss_fn, "loss_fn")
        self.batch_size = cast(int, batch_size)

    @property
    def task(self) -> AbstractTask[P]:
        """The loss itself, which is evaluated on a batch."""
        return self.loss_fn

    @property
    def stochastic(self) -> bool:
        """True, because the loss differs from batch to batch."""
        return True

    def __call__(
        self, params: P, key: PRNGKeyArray, data: Tree = None
    ) -> tuple[Scalar, Tree]:
        """Evaluate the loss on a batch that is drawn by `key`."""
        batch, loss_key = self._drawn_by(key, data)
        return self.loss_fn.checked_call(params, loss_key, batch)

    def evaluate_and_observe(
        self, population: Any, keys: Key[Array, "pop reps"], data: Tree = None
    ) -> Evaluation:
        """Evaluate a population, with a batch for each of its keys."""

        def job(params: Any, key: PRNGKeyArray) -> Any:
            batch, loss_key = self._drawn_by(key, data)
            one = jax.tree.map(lambda x: x[None] if eqx.is_array(x) else x, params)
            result = evaluated(self.loss_fn, one, loss_key[None, None], batch)
            return jax.tree.map(lambda x: x[0, 0], result)

        return map_jobs(job, population, keys)

    def draw(
        self, data: Tree, key: PRNGKeyArray, step: Step
    ) -> tuple[AbstractTask[P], Tree]:
        """Return the loss itself, and the batch of a step."""
        return self.loss_fn, self.batch(data, key, step)

    def batch(self, data: Tree, key: PRNGKeyArray, step: Step) -> Tree:
        """Return the batch of a step.

        **Arguments:**

        - `data`: all examples.
        - `key`: the key of the order of the examples, the same in every step.
        - `step`: the number of batches before this one.

        **Raises:** `TypeError` or `ValueError` for data without a common leading axis,
        and for too few or too many examples.
        """
        examples = _examples(data)
        if self.batch_size > examples:
            raise ValueError(
                f"`batch_size` must be at most {examples}, the examples in `data`, but "
                f"got {self.batch_size}."
            )
        if examples >= 2**30:
            raise ValueError(
                f"`data` must hold fewer than 2**30 examples, but got {examples}."
            )
        rows = batch_rows(step, key, self.batch_size, examples)
        return jax.tree.map(lambda x: jnp.take(jnp.asarray(x), rows, axis=0), data)

    def _drawn_by(self, key: PRNGKeyArray, data: Tree) -> tuple[Tree, PRNGKeyArray]:
        batch_key, loss_key = split(key)
        return self.batch(data, batch_key, jnp.zeros((), jnp.int32)), loss_key


def _examples(data: Tree) -> int:
    """Return the length of the leading axis that all arrays of `data` share."""
    sizes = dict[int, str]()
    for path, leaf in jax.tree_util.tree_leaves_with_path(data):
        where = jax.tree_util.keystr(path) or "(root)"
        if not (eqx.is_array(leaf) or hasattr(leaf, "shape")) or jnp.ndim(leaf) == 0:
            raise TypeError(
                "`data` must hold arrays with a leading axis of examples, but got "
                f"{describe(leaf)} at `{where}`."
            )
        sizes.setdefault(jnp.shape(leaf)[0], where)
    if len(sizes) != 1:
        found = ", ".join(f"{size} at `{where}`" for size, where in sizes.items())
        raise ValueError(
            "`data` must hold arrays with one common leading axis of examples, but got "
            f"{found or 'no array'}. Pass it to the trainer: "
            "`trainer.init_and_train(key, data)`."
        )
    return next(iter(sizes))
