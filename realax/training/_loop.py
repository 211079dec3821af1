"""The training loop: a step, the bare run, the chunk, and the observed run."""

from collections.abc import Iterable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr

from .._compile import compiled, readable_errors
from .._trees import with_fields
from .._types import PRNGKeyArray, Tree
from ._callbacks import Callbacks
from ._carry import Carry, Row, Selected
from ._checks import check_record
from ._feed import AbstractFeed, Data
from ._rows import buffers_for, written
from ._session import opened
from ._state_check import check_state, check_step
from .observers import Run
from .stopping import Rules


class Program(eqx.Module):
    """What is compiled, beside states, keys and data.

    - `trainer`: the trainer without its callbacks.
    - `rules`: those that end a run.
    - `selected`: what the observers see of each step.
    - `collect`: whether the rows of the `Record` are kept.
    """

    trainer: Any
    rules: Rules
    collect: bool = eqx.field(static=True)
    selected: tuple[Selected, ...] = ()


def initialize(trainer: Any, key: PRNGKeyArray, data: Tree) -> Any:
    """Return the state before the first step."""
    return trainer.initialize(key, data)


def step(
    program: Program, carry: Carry, key: PRNGKeyArray, data: Tree
) -> tuple[Carry, Row]:
    """Make one step with its own key. The state of a run that is over does not change.

    **Arguments:**

    - `carry`: where the run stands.
    - `key`: the run's key.
    - `data`: the data of this step.
    """
    trainer, rules = program.trainer, program.rules
    fresh = eqx.filter_eval_shape(compiled(initialize, {}), trainer, key, data)
    check_state(carry.state, fresh, trainer)

    def go(state: Any) -> tuple[Carry, Row]:
        result: Any = trainer.train_step(state, jr.fold_in(key, state.step), data)
        after, metrics = result
        check_step(after, state, trainer)
        counters = tuple(
            rule.update(one, metrics)
            for rule, one in zip(rules, state.stopping, strict=True)
        )
        after = with_fields(after, step=state.step + 1, stopping=counters)
        kept = _kept(trainer, after, metrics) if program.collect else None
        selected = tuple(select(after, metrics) for select in program.selected)
        return Carry.of(after, rules), Row(kept, selected)

    if not rules:
        return go(carry.state)
    # Jitted and inlined, so that asking for the shapes does not trace it twice.
    go = jax.jit(go, inline=True)
    _, shapes = jax.eval_shape(go, carry.state)

    def stay(state: Any) -> tuple[Carry, Row]:
        row = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        return Carry(state, carry.over), row

    return jax.lax.cond(carry.over, stay, go, carry.state)


def _kept(trainer: Any, state: Any, metrics: Any) -> dict[str, Tree]:
    if trainer.record is None:
        return {"metrics": metrics, "record": None}
    chosen = trainer.record(state)
    check_record(chosen)
    return {"metrics": metrics, "record": eqx.filter(chosen, eqx.is_array_like)}


def bare_run(
    program: Program, state: Any, key: PRNGKeyArray, data: Tree, steps: int
) -> tuple[Any, Tree]:
    """Make all steps in one scan.

    **Returns:** The state after them, and what was kept of each, stacked.
    """

    def body(carry: Carry, _: None) -> tuple[Carry, Tree]:
        carry, row = step(program, carry, key, data)
        return carry, row.kept

    start = Carry.of(state, program.rules)
    end, rows = jax.lax.scan(body, start, None, length=steps)
    if program.rules and program.collect:
        # At least the first row, of a run that was over before.
        last = jnp.maximum(end.state.step - state.step - 1, 0)
        last = jnp.minimum(jnp.arange(steps), last)
        rows = jax.tree.map(lambda row: row[last], rows)
    return end.state, rows


def chunk(
    program: Program, carry: Carry, key: PRNGKeyArray, data: Data, count: Any
) -> tuple[Carry, Row]:
    """Make `count` steps, or as many as the buffers hold.

    Their number is traced, so that one compilation serves every length.

    **Returns:** Where the run stands after them, and the buffers with their rows.
    """

    # Jitted and inlined, so that asking for the shapes and looping trace it only once.
    @jax.jit(inline=True)
    def one(carry: Carry, i: Any) -> tuple[Carry, Row]:
        return step(program, carry, key, data.of_step(i))

    def body(i: Any, now: tuple[Carry, Row]) -> tuple[Carry, Row]:
        carry, buffers = now
        carry, row = one(carry, i)
        return carry, written(buffers, i, row)

    _, shapes = jax.eval_shape(one, carry, count)
    buffers, capacity = buffers_for(shapes)
    return jax.lax.fori_loop(0, jnp.minimum(count, capacity), body, (carry, buffers))


def observed_run(
    program: Program,
    run: Run,
    callbacks: Callbacks,
    state: Any,
    data: Tree,
    batches: Iterable[Tree] | None,
) -> tuple[Any, Tree]:
    """Make the steps of a run in chunks, with the host in between.

    **Arguments:**

    - `state`: the state from which the run starts, unless an observer restores one.
    - `data`: the data of each step, unless there are `batches`, one for each.

    **Returns:** The state after the last step, and what was kept of each, stacked.
    """
    run_chunk = compiled(chunk, run.trainer.xla_options, wait=False)
    with opened(run, callbacks, state, data, batches) as session:
        program = with_fields(program, selected=session.start())
        while session.unfinished:
            batch, count = session.next_chunk()
            with readable_errors():
                carry, rows = run_chunk(program, session.carry, run.key, batch, count)
                session.wait_for(carry)
            session.show(carry, rows)
    if not program.collect:
        return session.state, None
    if session.kept:
        return session.state, session.rows()
    return session.state, _no_rows(program, session.carry, run.key, session.feed)


def _no_rows(
    program: Program, carry: Carry, key: PRNGKeyArray, feed: AbstractFeed
) -> Tree:
    _, row = eqx.filter_eval_shape(step, program, carry, key, feed.example())
    return jax.tree.map(lambda x: jnp.zeros((0, *x.shape), x.dtype), row.kept)
