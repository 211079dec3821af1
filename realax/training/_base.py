"""What a trainer is, and the only loop that drives one."""

# pyright: reportUnknownArgumentType=false
# pyright: reportUnknownLambdaType=false
# pyright: reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false

import abc
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, TypedDict

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr

from .._compiler import compiled
from .._errors import check_key, warn_user
from .._types import PRNGKeyArray, Step, Tree
from ._observed import is_traced, run_observed
from .observers import AbstractObserver, EarlyStopping, Stopped


class AbstractState(eqx.Module):
    """What a trainer carries from step to step: arrays only, `step` among them."""

    step: eqx.AbstractVar[Step]
    stopping: tuple[Any, ...] = eqx.field(default=(), kw_only=True)


class Record[M](TypedDict):
    """What a run leaves behind, each leaf with a leading axis of steps.

    - `metrics`: what `train_step` returned beside the state.
    - `record`: what the trainer's `record` chose; `None` where it was not given.
    - `stopped_at`: the step at which a run with `EarlyStopping` ended, shape `()`;
        `None` for one without.
    """

    metrics: M
    record: Tree
    stopped_at: Step | None


class AbstractTrainer[S: AbstractState, M, P](eqx.Module):
    """A way of training: a state, a step, and the parameters in the end.

    A subclass writes `initialize`, `train_step`, `params` and `objective`; driving them
    is done here, once. A trainer is a pytree: map over its array leaves, differentiate
    with respect to them, or put it into another trainer's task.

    The key of the step that starts at `state.step` is `fold_in(key, state.step)`, so
    that a run depends on the trainer, the key and the state, and not on how it was cut
    into calls and chunks.
    """

    train_steps: eqx.AbstractVar[int]
    record: eqx.AbstractVar[Callable[[S], Tree] | None]
    callbacks: eqx.AbstractVar[tuple[AbstractObserver, ...]]

    @property
    @abc.abstractmethod
    def objective(self) -> tuple[str, Literal["min", "max"]]:
        """The scalar metric that says how well it goes, and which way is better."""

    @abc.abstractmethod
    def initialize(self, key: PRNGKeyArray) -> S:
        """The state before the first step, `step` being 0.

        Its leaves have the types and shapes that `train_step` returns them with.
        """

    @abc.abstractmethod
    def train_step(self, state: S, key: PRNGKeyArray, data: Tree = None) -> tuple[S, M]:
        """One step.

        **Arguments:**

        - `state`: the state so far.
        - `key`: this step's own key.
        - `data`: what the run was called with.

        **Returns:** The next state, its `step` one higher, and the step's metrics: a
        dictionary of arrays.
        """

    @abc.abstractmethod
    def params(self, state: S) -> P:
        """The trained parameters, of the type that the user gave."""

    def complaint(self, state: S) -> str | None:
        """What the user is warned of after a run, or after a chunk of an observed one.

        `None`, by default and where all is well.
        """
        del state
        return None

    def placed(self, tree: Tree) -> Tree:
        """`tree` with its arrays on the devices that a run uses; as it is, by default.

        The trainer's own, a state, a key and data go through here before a run.
        """
        return tree

    @property
    def compiler_options(self) -> dict[str, Any]:
        """The options with which XLA compiles whole runs, values by name.

        None, by default; a trainer that has a task returns the task's.
        """
        return {}

    def train(
        self, state: S, key: PRNGKeyArray, data: Tree = None
    ) -> tuple[S, Record[M]]:
        """Train for `train_steps` more steps and keep every step's metrics.

        **Arguments:**

        - `state`: where to start; from `initialize`, or from an earlier run.
        - `key`: the run's key. With the same one, two runs of 50 steps are one of 100.
        - `data`: reaches every step unchanged.

        **Returns:** The final state, and the `Record` of all steps.

        **Raises:** `RuntimeError` if the trainer has observers and is being traced.
        """
        return self._drive(state, key, data, collect=True)

    def train_(self, state: S, key: PRNGKeyArray, data: Tree = None) -> S:
        """As `train`, in memory that does not grow with the number of steps."""
        state, _ = self._drive(state, key, data, collect=False)
        return state

    def init_and_train(
        self, key: PRNGKeyArray, data: Tree = None
    ) -> tuple[S, Record[M]]:
        """`train` from a fresh state. The key splits into its own and the run's."""
        state, run_key = self._begin(key)
        return self.train(state, run_key, data)

    def init_and_train_(self, key: PRNGKeyArray, data: Tree = None) -> S:
        """`train_` from a fresh state."""
        state, run_key = self._begin(key)
        return self.train_(state, run_key, data)

    def train_stream(
        self, state: S, key: PRNGKeyArray, batches: Iterable[Tree]
    ) -> tuple[S, Record[M]]:
        """`train` with new data in each step: a step for each batch.

        The next batch is fetched and put on the device while a step is computed.

        **Arguments:**

        - `state`, `key`: as for `train`.
        - `batches`: any iterable of trees of arrays, such as a PyTorch `DataLoader` or
            one of grain. Batches of another shape than the first compile once more.

        **Returns:** As `train`. The run ends with the last batch, or after
        `train_steps` steps if that is sooner.

        **Raises:** `RuntimeError` if the trainer is being traced.
        """
        return self._drive(state, key, None, collect=True, batches=iter(batches))

    def fit_stream(
        self, key: PRNGKeyArray, batches: Iterable[Tree]
    ) -> tuple[S, Record[M]]:
        """`train_stream` from a fresh state, as `init_and_train` is `train`."""
        state, run_key = self._begin(key)
        return self.train_stream(state, run_key, batches)

    def __call__(self, key: PRNGKeyArray, data: Tree = None) -> tuple[S, Record[M]]:
        """The same as `init_and_train`."""
        return self.init_and_train(key, data)

    def _begin(self, key: PRNGKeyArray) -> tuple[S, PRNGKeyArray]:
        check_key(key)
        init_key, run_key = jr.split(key)
        bare, init_key = self.placed((with_steps(_bare(self), 0), init_key))
        return _initialize(bare, init_key), run_key

    def _drive(
        self,
        state: S,
        key: PRNGKeyArray,
        data: Tree,
        *,
        collect: bool,
        batches: Iterator[Tree] | None = None,
    ) -> tuple[S, Any]:
        check_key(key)
        if state.step.shape != ():
            raise ValueError(
                f"`state` must be one state, but `state.step` has shape "
                f"{state.step.shape}. For several, map over them: "
                "`jax.vmap(trainer.train)(states, keys)`."
            )
        bare, state, key, data = self.placed((_bare(self), state, key, data))
        traced = is_traced(self, state, key, data)
        stopping = tuple(o for o in self.callbacks if isinstance(o, EarlyStopping))
        watching = tuple(o for o in self.callbacks if not isinstance(o, EarlyStopping))
        if traced and watching:
            raise RuntimeError(
                f"a {type(self).__name__} with observers ({_names(watching)}) is "
                "being traced by `jit`, `vmap`, `grad` or a task, where no host can "
                "watch. Attach observers to the outermost trainer only: build this one "
                "without `callbacks`, `logger` and `progress_bar`."
            )
        if traced and batches is not None:
            raise RuntimeError(
                f"a {type(self).__name__} is being traced by `jit`, `vmap`, `grad` or "
                "a task, where no host can fetch batches. Stream outside of them, or "
                "pass all of the data at once: `trainer.train(state, key, data)`."
            )
        if traced or not (self.callbacks or batches is not None):
            run = compiled(_run, {} if traced else self.compiler_options)
            state, rows = run(bare, stopping, state, key, data, collect)
            if not traced and (text := self.complaint(state)) is not None:
                warn_user(text)
            return state, self._finish(state, rows)
        end = int(state.step) + self.train_steps
        state, rows = run_observed(
            with_steps(self, end),
            with_steps(bare, 0),
            _step,
            (watching, stopping),
            state,
            key,
            data,
            collect,
            batches,
        )
        return state, self._finish(state, rows)

    def _finish(self, state: S, rows: Any) -> Any:
        """A `Record` of stacked rows: what `record` keeps has its own type again."""
        if rows is None:
            return None
        stops = any(isinstance(o, EarlyStopping) for o in self.callbacks)
        rows = {**rows, "stopped_at": state.step if stops else None}
        if self.record is None:
            return rows
        static = eqx.filter_eval_shape(self.record, state)
        static = eqx.filter(static, lambda x: not isinstance(x, jax.ShapeDtypeStruct))
        return {**rows, "record": eqx.combine(rows["record"], static)}


@eqx.filter_jit
def _initialize(trainer: Any, key: PRNGKeyArray) -> Any:
    return trainer.initialize(key)


def _run(
    trainer: Any,
    stopping: tuple[EarlyStopping, ...],
    state: Any,
    key: PRNGKeyArray,
    data: Tree,
    collect: bool,
) -> tuple[Any, Any]:
    def body(carry: Any, _: None) -> tuple[Any, Any]:
        carry, kept = _step(trainer, stopping, carry, key, data)
        return carry, kept if collect else None

    start = state, tuple(stop.begin() for stop in stopping)
    (end, _), rows = jax.lax.scan(body, start, None, length=trainer.train_steps)
    if stopping and collect:
        last = jnp.minimum(jnp.arange(trainer.train_steps), end.step - state.step - 1)
        rows = jax.tree.map(lambda row: row[last], rows)
    return end, rows


def _step(
    trainer: Any,
    stopping: tuple[EarlyStopping, ...],
    carry: tuple[Any, tuple[Stopped, ...]],
    key: PRNGKeyArray,
    data: Tree,
) -> tuple[Any, dict[str, Any]]:
    """One step with its own key: what is carried on, and what a `Record` keeps of it.

    Once a run is over, its state stands still.
    """

    def go(carry: Any) -> tuple[Any, dict[str, Any]]:
        state, stopped = carry
        state, metrics = trainer.train_step(state, jr.fold_in(key, state.step), data)
        stopped = tuple(
            stop.update(one, metrics, trainer.objective)
            for stop, one in zip(stopping, stopped, strict=True)
        )
        chosen = None if trainer.record is None else trainer.record(state)
        chosen = eqx.filter(chosen, eqx.is_array_like)
        return (state, stopped), {"metrics": metrics, "record": chosen}

    if not stopping:
        return go(carry)
    # Jitted and inlined, so that asking for the shapes does not trace it twice.
    go = jax.jit(go, inline=True)
    _, shapes = jax.eval_shape(go, carry)

    def stay(carry: Any) -> tuple[Any, dict[str, Any]]:
        return carry, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    over = functools.reduce(jnp.logical_or, [one.now for one in carry[1]])
    return jax.lax.cond(over, stay, go, carry)


def _bare(trainer: Any) -> Any:
    """`trainer` without observers: fresh ones must not compile the same run again."""
    if not trainer.callbacks:
        return trainer
    return eqx.tree_at(lambda t: t.callbacks, trainer, ())


def with_steps(trainer: Any, steps: int) -> Any:
    """`trainer` with another number of steps.

    What is compiled without them serves runs of every length.
    """
    return eqx.tree_at(lambda t: t.train_steps, trainer, steps)


def _names(observers: tuple[AbstractObserver, ...]) -> str:
    return ", ".join(type(observer).__name__ for observer in observers)
