"""The observed run: compiled chunks of steps, with the host in between."""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.core import Tracer

from .._check import no_type_check
from .._compile import compiled, readable_errors
from .._errors import describe, warn_user
from .._parts import closes_over_tracer
from .._storage._fingerprint import content_digest
from .._types import PRNGKeyArray, Tree
from ._signals import deferred_signals
from ._stream import Constant, Stream
from .observers import AbstractObserver, EarlyStopping, check_selected, is_over


# How long a chunk is to take, in seconds: how soon Ctrl-C and observers act.
_CHUNK_SECONDS = 0.3
# What a chunk stacks is written into buffers of fixed size, so that chunks of every
# length share one compilation: at most so many steps, and about so many bytes.
_MAX_STEPS = 4096
_MAX_BYTES = 2**24


def is_traced(*trees: Any) -> bool:
    """Whether a run on `trees`, or this very place, is being traced.

    What it closes over counts: an optimiser made with a traced learning rate.
    """
    leaves = jax.tree.leaves(trees)
    if any(isinstance(x, Tracer) for x in [*leaves, jnp.zeros(())]):
        return True
    return closes_over_tracer(*trees)


def run_observed(
    trainer: Any,
    bare: Any,
    step: Callable[..., tuple[Any, Any]],
    callbacks: tuple[tuple[AbstractObserver, ...], tuple[EarlyStopping, ...]],
    state: Any,
    key: PRNGKeyArray,
    data: Tree,
    collect: bool,
    batches: Iterable[Tree] | None = None,
) -> tuple[Any, Any]:
    """Run up to the step `trainer.train_steps` in chunks, the observers looking on.

    **Arguments:**

    - `trainer`: the trainer with its observers.
    - `bare`: what of it is compiled: without observers, and for any number of steps.
    - `step`: the compiled part, `(bare, rules, state, key, data) -> (state, kept)`.
    - `callbacks`: those that watch, and the rules that end a run.
    - `state`, `key`, `data`, `collect`: as for `AbstractTrainer.train`.
    - `batches`: the `data` of each step in turn; the run ends where they do.

    **Returns:** The final state, and what was kept of all steps if `collect`.
    """
    observers, rules = callbacks
    run_chunk = compiled(_chunk, trainer.xla_options, wait=False)
    # What saves comes last: then no file of the others ends before what it saved.
    observers = tuple(sorted(observers, key=lambda observer: observer.saves))
    begun, end = int(state.step), trainer.train_steps
    kept: list[Any] = []
    started: list[AbstractObserver] = []
    error: BaseException | None = None
    with deferred_signals() as signals:
        feed = Constant(data)
        if batches is not None:
            feed = Stream(batches, signals.waiting, trainer.placed, bool(rules))
        try:
            _tell_data(observers, data, batches)
            for observer in sorted(observers, key=lambda observer: not observer.saves):
                started.append(observer)
                start = observer.on_start(trainer, state, key)
                state = _started(observer, start, state)
            selecting = tuple(map(_traced_half, observers))
            rows: Any = None
            length, done, warned = 1, int(state.step), False
            signals.answer()
            over = is_over(rules, state)
            # A run that was stopped before takes no batch.
            feed.begin(skip=done - begun, steps=0 if bool(over) else end - done)
            while done < end and not bool(over) and feed.ready():
                data = feed.data
                length = min(
                    length, feed.left, end - done, _to_boundary(observers, done)
                )
                began = time.perf_counter()
                with readable_errors():
                    after, rows, over = run_chunk(
                        (step, bare, rules, selecting, collect, feed.stacked),
                        state,
                        key,
                        (data, np.int32(feed.start)),
                        np.int32(length),
                    )
                    feed.look_ahead(functools.partial(_is_busy, after.step))
                    steps = np.arange(done, int(after.step)) + 1
                chunk = _rows(rows, len(steps))
                per_step = (time.perf_counter() - began) / len(steps)
                done += len(steps)
                feed.made(len(steps))
                # The first chunk also compiles, and tells little: bounded leaps. And a
                # clock may stand still.
                fits = int(_CHUNK_SECONDS / max(per_step, 1e-9))
                length = max(1, min(fits, 8 * len(steps)))
                kept.append(chunk["kept"])
                text = None if warned else trainer.warning(after)
                if text is not None:
                    warned = True
                    warn_user(text)
                for observer, seen in zip(observers, chunk["selected"], strict=True):
                    observer.on_chunk(steps, seen, after)
                # Only now: what all have seen is what may be saved after an error.
                state = after
                if done < end:
                    signals.answer()
            signals.finish()
        except BaseException as exception:
            error = exception
            raise
        finally:
            _end_all(started, state, error)
    if not collect:
        return state, None
    if not kept:
        example = feed.example()
        _, shapes = eqx.filter_eval_shape(step, bare, rules, state, key, example)
        return state, jax.tree.map(lambda x: jnp.zeros((0, *x.shape), x.dtype), shapes)
    return state, _joined(rows["kept"], kept)


def _tell_data(
    observers: tuple[AbstractObserver, ...], data: Tree, batches: Any
) -> None:
    """Tell those who ask what the data are: by their contents, which takes its time."""
    asking = [o for o in observers if type(o).on_data is not AbstractObserver.on_data]
    if asking:
        digest = None if batches is not None else content_digest(data)
        for observer in asking:
            observer.on_data(digest)


@no_type_check
def _is_busy(array: Any) -> bool:
    return not array.is_ready()


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
    names = [f.name for f in dataclasses.fields(observer) if f.metadata.get("host")]
    return eqx.tree_at(
        lambda o: [getattr(o, name) for name in names],
        observer,
        [None] * len(names),
        is_leaf=lambda x: x is None,
    )


@no_type_check
def _rows(buffers: Any, count: int) -> Any:
    """The first `count` rows of each buffer, as numpy arrays of their own."""

    @no_type_check
    def rows(buffer: Any) -> Any:
        keys = jnp.issubdtype(buffer.dtype, jax.dtypes.prng_key)
        data = jr.key_data(buffer) if keys else buffer
        return np.array(np.asarray(data)[:count])

    return jax.tree.map(rows, buffers)


def _joined(buffers: Any, chunks: list[Any]) -> Any:
    """The rows of all chunks as jax arrays of the buffers' types, keys among them.

    By numpy, because jax would compile a concatenation for each way of cutting a run.
    """

    @no_type_check
    def join(buffer: Any, *rows: Any) -> Any:
        whole = np.concatenate(rows)
        if jnp.issubdtype(buffer.dtype, jax.dtypes.prng_key):
            return jr.wrap_key_data(jax.device_put(whole), impl=jr.key_impl(buffer))
        return jax.device_put(whole)

    return jax.tree.map(join, buffers, *chunks)


@no_type_check
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
    except Exception as failure:
        if error is None:
            raise
        # What broke the run must not be hidden by what comes after it.
        warn_user(f"{type(observers[-1]).__name__}.on_end failed too: {failure!r}")
    finally:
        _end_all(observers[:-1], state, error)


def _chunk(
    fixed: tuple[Any, Any, Any, tuple[AbstractObserver | None, ...], bool, bool],
    state: Any,
    key: PRNGKeyArray,
    feed: tuple[Tree, Any],
    count: Any,
) -> tuple[Any, Any, Any]:
    """`count` steps, or as many as the buffers hold.

    Returned are the state after them, what was stacked of them, and whether the run is
    over.
    """
    step, bare, rules, observers, collect, stacked = fixed
    arrays, static = eqx.partition(state, eqx.is_array)
    batches, start = feed

    # Jitted and inlined, so that asking for the shapes and looping trace it only once.
    @jax.jit(inline=True)
    def one(arrays: Any, i: Any) -> tuple[Any, Any]:
        data = jax.tree.map(lambda x: x[start + i], batches) if stacked else batches
        state, kept = step(bare, rules, eqx.combine(arrays, static), key, data)
        selected = tuple(_selected(o, state, kept["metrics"]) for o in observers)
        row = {"kept": kept if collect else None, "selected": selected}
        return eqx.filter(state, eqx.is_array), row

    _, shapes = jax.eval_shape(one, arrays, count)
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))
    capacity = max(1, min(_MAX_STEPS, _MAX_BYTES // max(1, size)))
    buffers = jax.tree.map(
        lambda leaf: jnp.zeros((capacity, *leaf.shape), leaf.dtype), shapes
    )

    def body(i: Any, carry: Any) -> Any:
        arrays, buffers = carry
        arrays, row = one(arrays, i)
        return arrays, jax.tree.map(
            lambda buffer, leaf: buffer.at[i].set(leaf), buffers, row
        )

    arrays, buffers = jax.lax.fori_loop(
        0, jnp.minimum(count, capacity), body, (arrays, buffers)
    )
    state = eqx.combine(arrays, static)
    return state, buffers, is_over(rules, state)


def _selected(observer: AbstractObserver | None, state: Any, metrics: Any) -> Tree:
    if observer is None:
        return None
    selected = observer.select(state, metrics)
    check_selected(observer, selected)
    return selected
