"""The training loop: a step, the bare run, the chunk, and the observed run."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr

from .._check import no_type_check
from .._compile import compiled, readable_errors
from .._keys import split
from .._trees import strong, with_fields
from .._types import PRNGKeyArray, Tree
from ._callbacks import Callbacks
from ._carry import Carry, Row, Selected
from ._checks import check_record
from ._feed import AbstractData, AbstractFeed
from ._processes import AbstractProcesses
from ._rows import buffers_for, write_row
from ._session import open_session
from ._state import AbstractState
from ._state_check import check_state, check_step
from .observers import Run
from .stopping import Rules, with_counters


class Program(eqx.Module):
    """The trainer of a run, and the functions that are compiled with its step.

    - `trainer`: the trainer without its observers.
    - `selected`: the selections of the observers.
    - `collect`: whether the rows of the `Record` are kept.
    """

    trainer: Any
    collect: bool = eqx.field(static=True)
    selected: tuple[Selected, ...] = ()

    @property
    def rules(self) -> Rules:
        """The rules that end a run."""
        return self.trainer.callbacks.rules


def initialize(trainer: Any, key: PRNGKeyArray, data: Tree) -> Any:
    """Return the state before the first step."""
    return trainer.initialize(key, data)


def begun(trainer: Any, key: PRNGKeyArray, data: Tree) -> tuple[Any, PRNGKeyArray]:
    """Return the state before the first step, and the key of the run.

    This program may have options of XLA. `step`, which is compiled without them, finds
    `initialize` traced.

    **Arguments:**

    - `trainer`, `data`: as for `initialize`.
    - `key`: the key that is split into the state's and the run's.
    """
    init_key, run_key = split(key)
    state = compiled(initialize, {})(trainer, init_key, data)
    return strong(state) if isinstance(state, AbstractState) else state, run_key


def train_step(trainer: Any, state: Any, key: PRNGKeyArray, data: Tree) -> Any:
    """Make one step of a trainer."""
    return trainer.train_step(state, key, data)


@no_type_check  # shapes are no arrays
def trace_step(trainer: Any, state: Any, key: PRNGKeyArray, data: Tree) -> None:
    """Trace the step of the run that follows, which then finds it traced.

    **Arguments:**

    - `trainer`: the trainer with its rules.
    - `state`, `key`: the results of `begun`, of which only the shapes are needed.
    - `data`: the data of a step.
    """

    def first(trainer: Any, state: Any, key: PRNGKeyArray, data: Tree) -> Any:
        state = prepared(trainer, state)
        key = trainer.step_key(trainer.run_key(key), state)
        return _traced_step(trainer, state, key, data)

    eqx.filter_eval_shape(first, trainer, state, key, data)


def prepared(trainer: Any, state: Any) -> Any:
    """Return a state as a step or a checkpoint returns it, with the rules' counters."""
    state, rules = strong(state), trainer.callbacks.rules
    if rules or state.stopping:
        counters = with_counters(state.stopping, rules, trainer.objective)
        state = with_fields(state, stopping=counters)
    return state


def step(
    program: Program, carry: Carry, key: PRNGKeyArray, data: Tree
) -> tuple[Carry, Row]:
    """Make one step, unless the run is over.

    **Arguments:**

    - `carry`: the carry before the step.
    - `key`: what `trainer.run_key` made of the run's key.
    - `data`: the data of this step.

    **Returns:** The carry after the step, and its row. If the run is over, they are the
    same carry and a row of zeros.
    """
    trainer, rules = program.trainer, program.rules
    fresh = eqx.filter_eval_shape(compiled(initialize, {}), trainer, jr.key(0), data)
    check_state(carry.state, fresh, trainer)

    def go(state: Any) -> tuple[Carry, Row]:
        step_key = trainer.step_key(key, state)
        after, metrics = _traced_step(trainer, state, step_key, data)
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
    # Jitted and inlined, so that `eval_shape` does not trace it a second time.
    go = jax.jit(go, inline=True)
    _, shapes = jax.eval_shape(go, carry.state)

    def stay(state: Any) -> tuple[Carry, Row]:
        row = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        return Carry(state, carry.over), row

    return jax.lax.cond(carry.over, stay, go, carry.state)


def _traced_step(trainer: Any, state: Any, key: PRNGKeyArray, data: Tree) -> Any:
    return compiled(train_step, {}, inline=True)(trainer, state, key, data)


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

    **Returns:** The state after them, and the kept values of each step, stacked.
    """

    run_key = program.trainer.run_key(key)

    def body(carry: Carry, _: None) -> tuple[Carry, Tree]:
        carry, row = step(program, carry, run_key, data)
        return carry, row.kept

    start = Carry.of(state, program.rules)
    end, rows = jax.lax.scan(body, start, None, length=steps)
    if program.rules and program.collect:
        # A run that was over before keeps its first row.
        last = jnp.maximum(end.state.step - state.step - 1, 0)
        last = jnp.minimum(jnp.arange(steps), last)
        rows = jax.tree.map(lambda row: row[last], rows)
    return end.state, rows


def chunk(
    program: Program, carry: Carry, key: PRNGKeyArray, data: AbstractData, count: Any
) -> tuple[Carry, Row]:
    """Make `count` steps, or as many as the buffers can hold.

    The number is traced, so that one compilation suffices for every length.

    **Returns:** The carry after them, and the buffers with their rows.
    """

    run_key = program.trainer.run_key(key)

    # Jitted and inlined, so that `eval_shape` and the loop trace it only once.
    @jax.jit(inline=True)
    def one(carry: Carry, i: Any) -> tuple[Carry, Row]:
        return step(program, carry, run_key, data.of_step(i))

    def body(i: Any, loop: tuple[Carry, Row]) -> tuple[Carry, Row]:
        carry, buffers = loop
        carry, row = one(carry, i)
        return carry, write_row(buffers, i, row)

    _, shapes = jax.eval_shape(one, carry, count)
    buffers, capacity = buffers_for(shapes, data.most)
    return jax.lax.fori_loop(0, jnp.minimum(count, capacity), body, (carry, buffers))


def observed_run(
    program: Program,
    run: Run,
    callbacks: Callbacks,
    state: Any,
    feed: AbstractFeed,
    processes: AbstractProcesses,
) -> tuple[Any, Tree, Any]:
    """Make the steps of a run in chunks, and act on the host between them.

    **Arguments:**

    - `state`: the state from which the run starts, unless an observer restores one.
    - `feed`: the data of its steps.
    - `processes`: the processes of the run.

    **Returns:** The state after the last step, the kept values of each, stacked, and
    the `steps` of the state before the first one.
    """
    run_chunk = compiled(
        chunk, run.trainer.lone_xla_options, wait=False, reused=reused_by_chunk
    )
    key = run.trainer.placed(run.key)
    with open_session(run, callbacks, state, feed, processes) as session:
        session.restore()
        first = session.state.steps
        program = with_fields(program, selected=session.start())
        while session.unfinished:
            batch, count = session.next_chunk()
            with processes.computing(), readable_errors():
                carry, rows = run_chunk(program, session.carry, key, batch, count)
                session.wait_for(carry)
            session.show(carry, rows)
    if not program.collect:
        return session.state, None, first
    if session.kept:
        return session.state, session.rows(), first
    rows = _no_rows(program, session.carry, key, feed)
    return session.state, rows, first


def reused_by_run(program: Program, state: Any, *others: Any) -> Tree:
    """Return the arrays that a bare run writes over."""
    del program, others
    return state.reusable


@no_type_check
def reused_by_chunk(program: Program, carry: Carry, *others: Any) -> Tree:
    """Return the arrays that a chunk writes over."""
    del program, others
    return carry.state.reusable


def _no_rows(
    program: Program, carry: Carry, key: PRNGKeyArray, feed: AbstractFeed
) -> Tree:
    run_key = program.trainer.run_key(key)
    example = feed.example(carry.state)
    _, row = eqx.filter_eval_shape(step, program, carry, run_key, example)
    return jax.tree.map(lambda x: jnp.zeros((0, *x.shape), x.dtype), row.kept)
