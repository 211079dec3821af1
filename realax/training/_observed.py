"""The observed run: compiled chunks of steps, with the host in between."""

# pyright: reportUnknownArgumentType=false
# pyright: reportUnknownLambdaType=false
# pyright: reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false

import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.core import Tracer

from .._errors import describe
from .._types import PRNGKeyArray, Tree
from .observers import AbstractObserver


# How long a chunk is to take, in seconds: how soon Ctrl-C and observers act.
_CHUNK_SECONDS = 0.3
# What a chunk stacks is written into buffers of fixed size, so that chunks of every
# length share one compilation: at most so many steps, and about so many bytes.
_MAX_STEPS = 4096
_MAX_BYTES = 2**24


def is_traced(*trees: Any) -> bool:
    """Whether any of `trees`, or this very place, is being traced."""
    leaves = jax.tree.leaves(trees)
    return any(isinstance(x, Tracer) for x in [*leaves, jnp.zeros(())])


def run_observed(
    trainer: Any,
    bare: Any,
    step: Callable[[Any, Any, PRNGKeyArray, Tree], tuple[Any, Any]],
    state: Any,
    key: PRNGKeyArray,
    data: Tree,
    collect: bool,
    batches: Iterator[Tree] | None = None,
) -> tuple[Any, Any]:
    """Run up to the step `trainer.train_steps` in chunks, the observers looking on.

    **Arguments:**

    - `trainer`: the trainer with its observers.
    - `bare`: what of it is compiled: without observers, and for any number of steps.
    - `step`: the compiled part, `(bare, state, key, data) -> (state, kept)`.
    - `state`, `key`, `data`, `collect`: as for `AbstractTrainer.train`.
    - `batches`: the `data` of each step in turn; the run ends where they do.

    **Returns:** The final state, and what was kept of all steps if `collect`.
    """
    observers: tuple[AbstractObserver, ...] = trainer.callbacks
    end = trainer.train_steps
    kept: list[Any] = []
    started: list[AbstractObserver] = []
    error: BaseException | None = None
    try:
        for observer in observers:
            started.append(observer)
            state = _started(observer, observer.on_start(trainer, state, key), state)
        selecting = tuple(map(_traced_half, observers))
        rows: Any = None
        length, done, warned = 1, int(state.step), False
        if batches is not None and (data := _next(batches)) is _END:
            raise ValueError(
                "`batches` must yield at least one batch, but it is empty. A generator "
                "that was gone through once is: make a new one for each run."
            )
        while done < end and data is not _END:
            length = min(length, end - done, _to_boundary(observers, done))
            length = length if batches is None else 1
            began = time.perf_counter()
            state, rows = _chunk(
                step, bare, selecting, state, key, data, np.int32(length), collect
            )
            if batches is not None and done + 1 < end:
                data = _next(batches)  # while the device computes
            steps = np.arange(done, int(state.step)) + 1
            chunk = _rows(rows, len(steps))
            per_step = (time.perf_counter() - began) / len(steps)
            done += len(steps)
            # The first chunk also compiles, and tells little: grow in bounded leaps.
            length = max(1, min(int(_CHUNK_SECONDS / per_step), 8 * len(steps)))
            kept.append(chunk["kept"])
            text = None if warned else trainer.complaint(state)
            if text is not None:
                warned = True
                warnings.warn(text, RuntimeWarning, stacklevel=5)
            for observer, selected in zip(observers, chunk["selected"], strict=True):
                observer.on_chunk(steps, selected, state)
    except BaseException as exception:
        error = exception
        raise
    finally:
        _end_all(started, state, error)
    if not collect:
        return state, None
    if not kept:
        _, shapes = eqx.filter_eval_shape(step, bare, state, key, data)
        return state, jax.tree.map(lambda x: jnp.zeros((0, *x.shape), x.dtype), shapes)
    return state, _joined(rows["kept"], kept)


_END = object()


def _next(batches: Iterator[Tree]) -> Any:
    """The next batch, on its way to the device; `_END` where there is none."""
    for batch in batches:
        return jax.device_put(
            jax.tree.map(lambda x: x if eqx.is_array(x) else np.asarray(x), batch)
        )
    return _END


def _started(observer: AbstractObserver, state: Any, before: Any) -> Any:
    if jax.tree.structure(state) != jax.tree.structure(before):
        raise TypeError(
            f"`{type(observer).__name__}.on_start` must return the state from which to "
            f"start, but {describe(state)} came. End it with `return state`."
        )
    return state


def _traced_half(observer: AbstractObserver) -> AbstractObserver | None:
    """What of an observer is compiled in: nothing where it selects nothing."""
    if type(observer).select is AbstractObserver.select:
        return None
    return eqx.tree_at(lambda o: o.every, observer, None, is_leaf=lambda x: x is None)


def _rows(buffers: Any, count: int) -> Any:
    """The first `count` rows of each buffer, as numpy arrays of their own."""

    def rows(buffer: Any) -> Any:
        keys = jnp.issubdtype(buffer.dtype, jax.dtypes.prng_key)
        data = jr.key_data(buffer) if keys else buffer
        return np.array(np.asarray(data)[:count])

    return jax.tree.map(rows, buffers)


def _joined(buffers: Any, chunks: list[Any]) -> Any:
    """The rows of all chunks as jax arrays of the buffers' types, keys among them.

    By numpy, because jax would compile a concatenation for each way of cutting a run.
    """

    def join(buffer: Any, *rows: Any) -> Any:
        whole = np.concatenate(rows)
        if jnp.issubdtype(buffer.dtype, jax.dtypes.prng_key):
            return jr.wrap_key_data(jax.device_put(whole), impl=jr.key_impl(buffer))
        return jax.device_put(whole)

    return jax.tree.map(join, buffers, *chunks)


def _to_boundary(observers: tuple[AbstractObserver, ...], done: int) -> int:
    """How many steps there are to the next multiple of some observer's `every`."""
    periods = [observer.every for observer in observers if observer.every is not None]
    return min((every - done % every for every in periods), default=_MAX_STEPS)


def _end_all(
    observers: list[AbstractObserver], state: Any, error: BaseException | None
) -> None:
    """End every observer, the others too where one fails."""
    if not observers:
        return
    try:
        observers[-1].on_end(state, error)
    finally:
        _end_all(observers[:-1], state, error)


@eqx.filter_jit
def _chunk(
    step: Callable[[Any, Any, PRNGKeyArray, Tree], tuple[Any, Any]],
    bare: Any,
    observers: tuple[AbstractObserver | None, ...],
    state: Any,
    key: PRNGKeyArray,
    data: Tree,
    count: Any,
    collect: bool,
) -> tuple[Any, Any]:
    """`count` steps, or as many as the buffers hold, and what was stacked of them."""
    arrays, static = eqx.partition(state, eqx.is_array)

    # Jitted and inlined, so that asking for the shapes and looping trace it only once.
    @jax.jit(inline=True)
    def one(arrays: Any) -> tuple[Any, Any]:
        state, kept = step(bare, eqx.combine(arrays, static), key, data)
        metrics = kept["metrics"]
        selected = tuple(
            None if o is None else o.select(state, metrics) for o in observers
        )
        row = {"kept": kept if collect else None, "selected": selected}
        return eqx.filter(state, eqx.is_array), row

    _, shapes = jax.eval_shape(one, arrays)
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))
    capacity = max(1, min(_MAX_STEPS, _MAX_BYTES // max(1, size)))
    buffers = jax.tree.map(
        lambda leaf: jnp.zeros((capacity, *leaf.shape), leaf.dtype), shapes
    )

    def body(i: Any, carry: Any) -> Any:
        arrays, buffers = carry
        arrays, row = one(arrays)
        return arrays, jax.tree.map(
            lambda buffer, leaf: buffer.at[i].set(leaf), buffers, row
        )

    arrays, buffers = jax.lax.fori_loop(
        0, jnp.minimum(count, capacity), body, (arrays, buffers)
    )
    return eqx.combine(arrays, static), buffers
