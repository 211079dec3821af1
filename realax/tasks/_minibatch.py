"""A loss on a part of the data."""

import functools
import math
from collections.abc import Callable
from typing import Any, SupportsIndex, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Int, UInt32

from .._arguments import arguments, whole
from .._callables import unwrapped
from .._errors import describe
from .._types import PRNGKeyArray, Scalar, Step, Tree
from ..policies import ObsStats
from ._base import (
    AbstractTask,
    begun,
    check_task,
    checked_call,
    is_differentiable,
    is_maximized,
    obstacle,
    options_of,
)


_ROUNDS = 8
# Up to so many examples a sort is cheap, and its order is of all orders.
_FEW = 2048


class Minibatch[P](AbstractTask[P]):
    """A loss on `batch_size` examples of the data in each step.

    `data` is a tree of arrays with one leading axis of examples; the loss gets the same
    tree with an axis of `batch_size`. Trainers go through the data in one reshuffled
    pass after another: within a pass each example comes exactly once, and a batch may
    end one pass and begin the next. All individuals of a generation get the same batch.
    Called by itself, it draws a batch by its key.

    **Arguments:**

    - `loss_fn`: `(params, key, data) -> (loss, aux)`, or an `AbstractTask`.
    - `batch_size`: examples in a batch.

    **Raises:** `ValueError` or `TypeError` that names the argument and the remedy.
    """

    loss_fn: Callable[..., Any]
    batch_size: int = eqx.field(static=True)

    @arguments(batch_size=whole())
    def __init__(
        self,
        loss_fn: Callable[[P, PRNGKeyArray, Any], tuple[Any, Any]],
        batch_size: SupportsIndex,
    ):
        check_task(loss_fn, "loss_fn")
        self.loss_fn = loss_fn
        self.batch_size = cast(int, batch_size)

    @property
    def maximize(self) -> bool:
        """That of `loss_fn`."""
        return is_maximized(self.loss_fn)

    @property
    def stochastic(self) -> bool:
        """True: another batch has another loss."""
        return True

    @property
    def compiler_options(self) -> dict[str, Any]:
        """Those of `loss_fn`."""
        return options_of(self.loss_fn)

    @property
    def differentiable(self) -> bool:
        """That of `loss_fn`."""
        return is_differentiable(self.loss_fn)

    @property
    def _obstacle(self) -> str | None:
        return obstacle(self.loss_fn)

    def begin(self) -> ObsStats | None:
        """The statistics with which `loss_fn` begins, if it has some."""
        return begun(self.loss_fn)

    def __call__(
        self, params: P, key: PRNGKeyArray, data: Tree = None
    ) -> tuple[Scalar, Tree]:
        """The loss on a batch drawn by `key`."""
        batch_key, loss_key = jr.split(key)
        batch = self.batch(data, batch_key, jnp.zeros((), jnp.int32))
        return checked_call(self.loss_fn, params, loss_key, batch)

    def batch(self, data: Tree, key: PRNGKeyArray, step: Step) -> Tree:
        """The examples of a step.

        **Arguments:**

        - `data`: all examples.
        - `key`: decides the order; the same in every step.
        - `step`: how many batches came before.
        """
        examples = _examples(data)
        if self.batch_size > examples:
            raise ValueError(
                f"`batch_size` must be at most {examples}, the examples in `data`, but "
                f"got {self.batch_size}."
            )
        if examples >= 2**30:
            raise ValueError(
                f"`data` must hold fewer than 2**30 examples, not {examples}."
            )
        epoch, place = _passes(step, self.batch_size, examples)
        place += jnp.arange(self.batch_size, dtype=jnp.uint32)
        epoch += (place >= examples).astype(jnp.uint32)
        place = jnp.where(place >= examples, place - examples, place)
        rows = _shuffled(place, epoch, key, examples)
        return jax.tree.map(lambda x: jnp.take(jnp.asarray(x), rows, axis=0), data)


def drawn(
    task: Callable[..., Any], data: Tree, key: PRNGKeyArray, step: Step
) -> tuple[Callable[..., Any], Tree]:
    """What a trainer is to evaluate at a step: a `Minibatch`'s own loss and batch.

    **Arguments:**

    - `task`, `data`: of the trainer.
    - `key`: decides the order of examples; the same in every step.
    - `step`: how many batches came before.
    """
    inner = unwrapped(task)
    if not isinstance(inner, Minibatch):
        return task, data
    return inner.loss_fn, inner.batch(data, key, step)


def _passes(
    step: Step, batch_size: int, examples: int
) -> tuple[UInt32[Array, ""], UInt32[Array, ""]]:
    """`divmod(step * batch_size, examples)`, whose product may be beyond 32 bits."""
    # After `period` steps a whole number of passes is over.
    common = math.gcd(examples, batch_size)
    period, passes = examples // common, batch_size // common
    step = step.astype(jnp.uint32)
    epochs, rest = step // period * passes, step % period

    def digit(bit: str, epoch: Array, place: Array) -> tuple[Array, Array]:
        place = 2 * place + (rest if bit == "1" else 0)
        over = place // examples  # at most 2
        return 2 * epoch + over, place - over * examples

    epoch, place = jnp.zeros((2,), jnp.uint32)
    for bit in f"{batch_size:b}":
        epoch, place = digit(bit, epoch, place)
    return epochs + epoch, place


def _examples(data: Tree) -> int:
    """The length of the leading axis that all arrays of `data` share."""
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


def _shuffled(
    place: UInt32[Array, " batch"],
    epoch: UInt32[Array, " batch"],
    key: PRNGKeyArray,
    size: int,
) -> Int[Array, " batch"]:
    """Where `place` is in the permutation of `range(size)` that belongs to `epoch`.

    A Feistel network permutes the numbers of `2 * half` bits, and is applied again
    where it leaves the range, so that a batch costs its own size and not a sort of all.

    Source: J. Black, P. Rogaway, Ciphers with Arbitrary Finite Domains, CT-RSA 2002.
    """
    if size <= _FEW:
        sort = functools.partial(_sorted, key=key, size=size)
        first, second = jax.vmap(sort)(jnp.stack([epoch[0], epoch[0] + 1]))
        return jnp.where(epoch == epoch[0], first[place], second[place])
    half = max(1, math.ceil(math.log2(max(2, size)) / 2))
    mask = jnp.uint32(2**half - 1)
    secrets = jr.bits(key, (_ROUNDS,), jnp.uint32)

    def permute(x: UInt32[Array, " batch"]) -> UInt32[Array, " batch"]:
        left, right = x >> half, x & mask
        for secret in secrets:
            left, right = right, left ^ (_mixed(right, epoch, secret) & mask)
        return (left << half) | right

    def outside(x: UInt32[Array, " batch"]) -> Array:
        return jnp.any(x >= size)

    def again(x: UInt32[Array, " batch"]) -> UInt32[Array, " batch"]:
        return jnp.where(x >= size, permute(x), x)

    return jax.lax.while_loop(outside, again, permute(place)).astype(jnp.int32)


def _sorted(epoch: Array, key: PRNGKeyArray, size: int) -> Int[Array, " size"]:
    return jr.permutation(jr.fold_in(key, epoch), size)


def _mixed(x: Array, epoch: Array, secret: Array) -> UInt32[Array, " batch"]:
    """A number that looks independent for each `(x, epoch, secret)`.

    The finishing steps are those of MurmurHash3 (A. Appleby, public domain).
    """
    x = (x + epoch * jnp.uint32(0x9E3779B1)) ^ secret
    for _ in range(2):
        x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
        x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
        x = (x ^ (x >> 16)) + secret
    return x
