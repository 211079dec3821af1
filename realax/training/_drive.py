"""A run of a trainer, from the arguments of its methods to their results."""

from collections.abc import Iterable
from typing import Any

import equinox as eqx
import jax
import jax.random as jr

from .._compile import compiled
from .._errors import check_data, warn_user
from .._trees import strong, with_fields
from .._types import PRNGKeyArray, Tree
from ._callbacks import plain
from ._checks import check_one
from ._feed import AbstractFeed, Constant
from ._loop import Program, bare_run, initialize, observed_run
from ._stream import Stream
from ._tracing import check_traced, holds_tracer, is_traced
from .observers import Run
from .stopping import with_counters


def new_state(trainer: Any, key: PRNGKeyArray, data: Tree) -> tuple[Any, PRNGKeyArray]:
    """Return the state before the first step, and the key of the run.

    **Arguments:**

    - `trainer`: the trainer.
    - `key`: the key that is split into the state's and the run's.
    - `data`: the data of the run, or the first batch of a stream.
    """
    check_data(data)
    init_key, run_key = jr.split(key)
    trainer, init_key, data = trainer.placed((plain(trainer), init_key, data))
    return compiled(initialize, {})(trainer, init_key, data), run_key


def drive(
    trainer: Any,
    state: Any,
    key: PRNGKeyArray,
    data: Tree,
    batches: Iterable[Tree] | None = None,
    *,
    collect: bool,
) -> tuple[Any, Any]:
    """Make the steps of a run, in chunks if the host takes part, else in one scan.

    **Arguments:**

    - `trainer`: the trainer.
    - `state`: the state from which the run starts.
    - `key`: the run's key.
    - `data`: the data of every step, if `batches` is `None`.
    - `batches`: the data of one step after another.
    - `collect`: whether to keep the `Record`.

    **Returns:** The final state, and the `Record` or `None`.
    """
    check_data(data)
    check_one(state)
    callbacks, steps = trainer.callbacks, int(trainer.train_steps)
    rules = callbacks.rules
    state = strong(state)  # as a step or a checkpoint returns it
    if rules or state.stopping:
        counters = with_counters(state.stopping, rules, trainer.objective)
        state = with_fields(state, stopping=counters)
    program = Program(plain(trainer), rules, collect)
    program, state, key, data = trainer.placed((program, state, key, data))
    feed: AbstractFeed = Constant(data)
    if batches is not None:
        feed = Stream(batches, trainer.placed, one_by_one=bool(rules))
    if is_traced(program, state, key, data):
        check_traced(trainer, feed)
        state, rows = compiled(bare_run, {})(program, state, key, data, steps)
    elif callbacks or feed.needs_host:
        start = int(state.step)
        run = Run(trainer, program.trainer, key, start, start + steps, feed.digest)
        state, rows = observed_run(program, run, callbacks, state, feed)
    else:
        run = compiled(bare_run, trainer.xla_options)
        state, rows = run(program, state, key, data, steps)
        # The state is traced if a global variable of the task holds a traced array.
        if not holds_tracer(state) and (text := trainer.warning(state)) is not None:
            warn_user(text)
    return state, _record(trainer, state, rows)


def _record(trainer: Any, state: Any, rows: Any) -> Any:
    """Return stacked rows as a `Record`, with the user's types in `record`."""
    if rows is None:
        return None
    stops = bool(trainer.callbacks.rules)
    rows = {**rows, "stopped_at": state.step if stops else None}
    if trainer.record is None:
        return rows
    static = eqx.filter_eval_shape(trainer.record, state)
    static = eqx.filter(static, lambda x: not isinstance(x, jax.ShapeDtypeStruct))
    return {**rows, "record": eqx.combine(rows["record"], static)}
