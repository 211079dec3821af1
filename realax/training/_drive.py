"""A run of a trainer, from the arguments of its methods to their results."""

import contextlib
from collections.abc import Generator, Iterable
from typing import Any

import equinox as eqx
import jax

from .._compile import compiled
from .._errors import check_data, warn_user
from .._trees import is_lost
from .._types import PRNGKeyArray, Tree
from ._begin import new_state, whole_run
from ._callbacks import plain
from ._checks import check_one
from ._devices import check_placement
from ._feed import AbstractFeed, Constant
from ._host import HostFeed, asks_host
from ._loop import Program, bare_run, observed_run, prepared
from ._processes import AbstractProcesses
from ._several_processes import processes_of
from ._stream import Stream, peek
from ._tracing import check_no_observers, check_traced, holds_tracer, is_traced
from .observers import Run


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
    - `state`: the state from which the run starts. `None` means a new one, and `key` is
        split into the state's and the run's.
    - `key`: the run's key.
    - `data`: the data of every step, if `batches` is `None`.
    - `batches`: the data of one step after another.
    - `collect`: whether to keep the `Record`.

    **Returns:** The final state, and the `Record` or `None`.
    """
    processes = processes_of(trainer, state, key, data)
    with contextlib.ExitStack() as stack:
        stack.enter_context(processes.watched())
        inputs = {"state": state, "key": key, "data": data}
        about = {"train_steps": trainer.train_steps, "collect": collect}
        inputs = processes.agree(trainer, inputs, about, batches is not None)
        state, key, data = inputs["state"], inputs["key"], inputs["data"]
        check_data(data)
        if asks_host(trainer):
            _check_host(trainer, batches)
        stack.enter_context(_claims(trainer, processes, state, key, data))
        if state is None:
            first = data
            if batches is not None:
                first, batches = peek(batches)
            kws = {"collect": collect, "streamed": batches is not None}
            state, key = new_state(trainer, key, first, processes, **kws)
        else:
            state = _own(state)
        return _run(trainer, state, key, data, batches, collect, processes)


@contextlib.contextmanager
def _claims(
    trainer: Any, processes: AbstractProcesses, *inputs: Any
) -> Generator[None]:
    """Hold what the observers claim, and refuse them in a run that is traced.

    **Arguments:**

    - `trainer`: the trainer.
    - `processes`: the processes of the run.
    - `inputs`: the state, the key and the data of the run.

    **Raises:** `RuntimeError` for observers in a run that is traced.
    """
    observers, rules = trainer.callbacks.observers, trainer.callbacks.rules
    with contextlib.ExitStack() as stack:
        if observers:
            if is_traced(plain(trainer), rules, *inputs):
                check_no_observers(trainer)

            def claim() -> None:
                for observer in reversed(observers):  # first those that save
                    observer.claim()
                    stack.callback(observer.release)

            processes.by_first(claim)
        yield


def _own(state: Any) -> Any:
    """Return a state of which the reusable part is a copy, for the user keeps it.

    **Raises:** `ValueError` for a state of which a run has written over that part.
    """
    kept = {id(leaf) for leaf in jax.tree.leaves(state.reusable)}
    if not kept:
        return state
    if is_lost(state):
        raise ValueError(
            f"`state` must be whole, but a run wrote over a part of this "
            f"{type(state).__name__}, such as its replay buffer, after an observer had "
            "seen it. Use the state that the run returned, or a checkpoint."
        )

    def own(leaf: Any) -> Any:
        return jax.device_put(leaf, may_alias=False) if id(leaf) in kept else leaf

    return jax.tree.map(own, state)


def _run(
    trainer: Any,
    state: Any,
    key: PRNGKeyArray,
    data: Tree,
    batches: Iterable[Tree] | None,
    collect: bool,
    processes: AbstractProcesses,
) -> tuple[Any, Any]:
    check_one(state)
    callbacks, steps = trainer.callbacks, int(trainer.train_steps)
    state = prepared(trainer, state)
    program = Program(plain(trainer, rules=True), collect)
    program, state, key, data = trainer.placed((program, state, key, data))
    check_placement(trainer=program.trainer, state=state, key=key, data=data)
    feed: AbstractFeed = Constant(data)
    if asks_host(trainer):
        feed = HostFeed(trainer, program.trainer, key, data)
    elif batches is not None:
        feed = Stream(batches, trainer.placed, one_by_one=bool(callbacks.rules))
    first = state.steps
    if is_traced(program, state, key, data):
        check_traced(trainer, feed)
        state, rows = compiled(bare_run, {})(program, state, key, data, steps)
    elif callbacks or feed.needs_host:
        start = int(state.step)
        end, streamed = start + steps, batches is not None
        seen = processes.readable((program.trainer, key, data, state))
        bare, key, data, state = seen
        run = Run(trainer, bare, key, start, end, data, streamed)
        state, rows, first = observed_run(
            program, run, callbacks, state, feed, processes
        )
    else:
        with processes.computing(whole=True):
            state, rows = whole_run(trainer)(program, state, key, data, steps)
        state, rows = processes.readable((state, rows))
        # The state is traced if a global variable of the task holds a traced array.
        if not holds_tracer(state) and (text := trainer.warning(state)) is not None:
            warn_user(text)
    return state, _record(trainer, state, rows, first)


def _check_host(trainer: Any, batches: Any) -> None:
    """Refuse what a run on the host cannot do.

    **Raises:** `ValueError`.
    """
    name = trainer.task.display_name
    if trainer.n_devices > 1:
        raise ValueError(
            f"`n_devices` must be 1 for {name}, which runs on the host, but got "
            f"{trainer.n_devices}. Its `workers` evaluate side by side."
        )
    if batches is not None:
        raise ValueError(
            f"`batches` cannot be streamed to {name}, which runs on the host. Pass "
            "`data` to `train`, or read each batch in the task itself."
        )


def _record(trainer: Any, state: Any, rows: Any, first: Any) -> Any:
    """Return stacked rows as a `Record`, with the user's types in `record`."""
    if rows is None:
        return None
    rows = trainer.settled(state, rows, first)
    stops = bool(trainer.callbacks.rules)
    rows = {**rows, "stopped_at": state.step if stops else None}
    if trainer.record is None:
        return rows
    static = eqx.filter_eval_shape(trainer.record, state)
    static = eqx.filter(static, lambda x: not isinstance(x, jax.ShapeDtypeStruct))
    return {**rows, "record": eqx.combine(rows["record"], static)}
