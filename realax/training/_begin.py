"""The state before the first step, and what is prepared of the run meanwhile."""

import contextlib
from typing import Any

import equinox as eqx
import jax
import jax.random as jr

from .._compile import Compiled, compiled, no_collections
from .._errors import check_data, describe
from .._parts import under_trace
from .._types import PRNGKeyArray, Tree
from ._callbacks import plain
from ._devices import check_placement, devices_of
from ._host import asks_host, first_answer
from ._loop import Program, bare_run, begun, prepared, reused_by_run, trace_step
from ._processes import AbstractProcesses
from ._state import AbstractState


def whole_run(trainer: Any) -> Compiled:
    """Return the compiled function that makes all steps of a run in one scan."""
    return compiled(bare_run, trainer.lone_xla_options, reused=reused_by_run)


def new_state(
    trainer: Any,
    key: PRNGKeyArray,
    data: Tree,
    processes: AbstractProcesses,
    *,
    collect: bool,
    streamed: bool,
) -> tuple[Any, PRNGKeyArray]:
    """Return the state before the first step, and the key of the run.

    **Arguments:**

    - `trainer`: the trainer.
    - `key`: the key that is split into the state's and the run's.
    - `data`: the data of the run, or the first batch of a stream.
    - `processes`: the processes of the run.
    - `collect`: whether the run keeps its rows.
    - `streamed`: whether its data are a stream.

    **Raises:** `TypeError` if `initialize` returns no state.
    """
    check_data(data)
    if asks_host(trainer):
        data = first_answer(trainer, jr.split(key)[0], data)
    bare, key, data = trainer.placed((plain(trainer), key, data))
    check_placement(trainer=bare, key=key, data=data)
    make = compiled(begun, {} if under_trace() else trainer.initial_xla_options)
    with no_collections():
        shapes = make.new_shapes(bare, key, data)
        if shapes is not None and _is_foreseeable(trainer, bare, key, data):
            with make.ahead(bare, key, data):
                if trainer.callbacks or streamed:
                    _trace_step(trainer, shapes, data)
                else:
                    _lower_run(trainer, shapes, data, collect)
    with processes.computing():
        state, key = processes.readable(make(bare, key, data))
    if not isinstance(state, AbstractState):
        raise TypeError(
            f"`{type(trainer).__name__}.initialize` must return a state, of a subclass "
            f"of `rx.AbstractState`, but got {describe(state)}."
        )
    trainer.check_new(state)
    return state, key


def _is_foreseeable(trainer: Any, *inputs: Any) -> bool:
    """Return whether the program of the run can be known from shapes.

    It cannot if the host answers within a step, or if arrays lie on several devices or
    on one of the user's choice.
    """
    arrays = (leaf for leaf in jax.tree.leaves(inputs) if isinstance(leaf, jax.Array))
    on_one = devices_of(trainer) in (None, 1) and not any(x.committed for x in arrays)
    return on_one and not asks_host(trainer)


def _trace_step(trainer: Any, shapes: Any, data: Tree) -> None:
    """Trace the step of an observed run. What observers select is not known yet."""
    state, key = shapes
    # An error of a step comes again from the run, after those of the state.
    with contextlib.suppress(Exception):
        trace_step(plain(trainer, rules=True), state, key, data)


def _lower_run(trainer: Any, shapes: Any, data: Tree, collect: bool) -> None:
    """Trace and lower the whole run, which then finds it lowered."""
    state, key = shapes
    with contextlib.suppress(Exception):
        state = eqx.filter_eval_shape(prepared, trainer, state)
        program = Program(plain(trainer, rules=True), collect)
        whole_run(trainer).lowered(program, state, key, data, int(trainer.train_steps))
