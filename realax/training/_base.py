"""What a trainer is, and the only loop that drives one."""

import abc
from collections.abc import Callable, Iterable
from typing import Any, Literal, TypedDict

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax.core import Tracer
from jaxtyping import Array

from .._arguments import arguments, one_key
from .._check import no_type_check
from .._compile import compiled
from .._errors import check_data, check_key, describe, warn_user
from .._trees import with_fields
from .._types import PRNGKeyArray, Step, Tree
from ._checks import check_record
from ._observed import is_traced, run_observed
from ._state_check import check_state, check_step
from .observers import (
    AbstractObserver,
    EarlyStopping,
    Stopped,
    is_over,
    with_counters,
)


class AbstractState(eqx.Module):
    """What a trainer carries from step to step: arrays only.

    - `step`: the number of steps so far. The loop counts it.
    - `stopping`: the counters of early stopping, one for each rule. The loop keeps
        them too: a trainer leaves them out.
    """

    step: eqx.AbstractVar[Step]
    stopping: tuple[Stopped, ...] = eqx.field(default=(), kw_only=True)


def _one_state(phrase: str, value: Any) -> Any:
    if not isinstance(value, AbstractState):
        raise TypeError(
            f"{phrase} must be a state, as `initialize` returns, but got "
            f"{describe(value)}."
        )
    return value


def _batches(phrase: str, value: Any) -> Any:
    expected = f"{phrase} must be an iterable of batches"
    if isinstance(value, str | dict) or not hasattr(value, "__iter__"):
        raise TypeError(f"{expected}, but got {describe(value)}.")
    if eqx.is_array(value):
        raise TypeError(
            f"{expected}, but got {describe(value)}. Pass `data` to `train` for the "
            "same in each step, or a list of batches: `list(array)`, `[array]`."
        )
    return value


_checked = arguments(state=_one_state, key=one_key)
_streamed = arguments(state=_one_state, key=one_key, batches=_batches)
_begun = arguments(key=one_key)


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
    def initialize(self, key: PRNGKeyArray, data: Tree = None) -> S:
        """Return the state before the first step, with `step` 0.

        Its leaves have the types and shapes with which `train_step` returns them.

        **Arguments:**

        - `key`: the state's own key.
        - `data`: the data of the run, for a trainer that evaluates something here. Of a
            stream, its first batch.
        """

    @abc.abstractmethod
    def train_step(self, state: S, key: PRNGKeyArray, data: Tree = None) -> tuple[S, M]:
        """One step.

        **Arguments:**

        - `state`: the state so far.
        - `key`: this step's own key.
        - `data`: what the run was called with.

        **Returns:** The next state, and the step's metrics: a dictionary of arrays. The
        loop sets `step` one higher, whatever it is here.
        """

    @abc.abstractmethod
    def params(self, state: S) -> P:
        """The trained parameters, of the type that the user gave."""

    def best_params(self, state: S) -> P:
        """Return the parameters with the best value of the objective.

        By default the same as `params`, for a trainer that keeps none besides.
        """
        return self.params(state)

    def log_row(self, state: S, metrics: M) -> dict[str, Array]:
        """Return the numbers to log of a step; traced into the compiled step.

        By default the metrics that are single numbers.

        **Arguments:**

        - `state`: the state after the step.
        - `metrics`: what `train_step` returned beside it: a dictionary.
        """
        del state
        found: Any = metrics
        return {
            name: jnp.asarray(value)
            for name, value in found.items()
            if eqx.is_array_like(value) and jnp.ndim(value) == 0
        }

    def warning(self, state: S) -> str | None:
        """Return a warning for the user, or `None`, which is the default.

        It is asked for after a run, and after each chunk of an observed one.
        """
        del state
        return None

    def placed(self, tree: Tree) -> Tree:
        """`tree` with its arrays on the devices that a run uses; as it is, by default.

        The trainer's own, a state, a key and data go through here before a run.
        """
        return tree

    @property
    def xla_options(self) -> dict[str, Any]:
        """The options with which XLA compiles whole runs, values by name.

        None, by default. A trainer with a task returns its own `compiler_options`, or
        else the task's.
        """
        return {}

    @_checked
    def train(
        self, state: S, key: PRNGKeyArray, data: Tree = None
    ) -> tuple[S, Record[M]]:
        """Train for `train_steps` more steps and keep every step's metrics.

        **Arguments:**

        - `state`: where to start; from `initialize`, or from an earlier run.
        - `key`: the run's key. With the same one, two runs of 50 steps are one of 100.
        - `data`: reaches every step unchanged.

        **Returns:** The final state, and the `Record` of all steps.

        **Raises:** `RuntimeError` if the trainer has observers and is being traced;
        `TypeError` or `ValueError` for a state of another trainer.
        """
        return self._drive(state, key, data, collect=True)

    @_checked
    def train_(self, state: S, key: PRNGKeyArray, data: Tree = None) -> S:
        """As `train`, in memory that does not grow with the number of steps."""
        state, _ = self._drive(state, key, data, collect=False)
        return state

    @_begun
    def init_and_train(
        self, key: PRNGKeyArray, data: Tree = None
    ) -> tuple[S, Record[M]]:
        """`train` from a fresh state. The key splits into its own and the run's."""
        state, run_key = self._begin(key, data)
        return self.train(state, run_key, data)

    @_begun
    def init_and_train_(self, key: PRNGKeyArray, data: Tree = None) -> S:
        """`train_` from a fresh state."""
        state, run_key = self._begin(key, data)
        return self.train_(state, run_key, data)

    @_streamed
    def train_stream(
        self, state: S, key: PRNGKeyArray, batches: Iterable[Tree]
    ) -> tuple[S, Record[M]]:
        """`train` with new data in each step: a step for each batch.

        The next batches are fetched while steps are computed; several that have the
        same shapes are computed in one call of the device. With `EarlyStopping`, an
        iterator is asked for one batch after another, so that it stands behind the last
        one that was used.

        **Arguments:**

        - `state`, `key`: as for `train`.
        - `batches`: any iterable of trees of arrays, such as a PyTorch `DataLoader` or
            one of grain. Batches of other shapes than before compile once more.

        **Returns:** As `train`. The run ends with the last batch, or after
        `train_steps` steps if that is sooner.

        **Raises:** `RuntimeError` if the trainer is being traced.
        """
        return self._drive(state, key, None, collect=True, batches=batches)

    @arguments(key=one_key, batches=_batches)
    def fit_stream(
        self, key: PRNGKeyArray, batches: Iterable[Tree]
    ) -> tuple[S, Record[M]]:
        """`train_stream` from a fresh state, as `init_and_train` is `train`."""
        state, run_key = self._begin(key, None)
        return self.train_stream(state, run_key, batches)

    def __call__(self, key: PRNGKeyArray, data: Tree = None) -> tuple[S, Record[M]]:
        """The same as `init_and_train`."""
        return self.init_and_train(key, data)

    def _begin(self, key: PRNGKeyArray, data: Tree) -> tuple[S, PRNGKeyArray]:
        check_key(key)
        check_data(data)
        init_key, run_key = jr.split(key)
        bare, init_key, data = self.placed((with_steps(_bare(self), 0), init_key, data))
        return compiled(_initialize, {})(bare, init_key, data), run_key

    def _drive(
        self,
        state: S,
        key: PRNGKeyArray,
        data: Tree,
        *,
        collect: bool,
        batches: Iterable[Tree] | None = None,
    ) -> tuple[S, Any]:
        check_data(data)
        if state.step.shape != ():
            raise ValueError(
                f"`state` must be one state, but got one whose `step` has shape "
                f"{state.step.shape}. For several, map over them: "
                "`jax.vmap(trainer.train)(states, keys)`."
            )
        rules = tuple(o for o in self.callbacks if isinstance(o, EarlyStopping))
        watching = tuple(o for o in self.callbacks if not isinstance(o, EarlyStopping))
        if rules or state.stopping:
            counters = with_counters(state.stopping, rules, self.objective)
            state = with_fields(state, stopping=counters)
        bare, state, key, data = self.placed((_bare(self), state, key, data))
        traced = is_traced(bare, rules, state, key, data)
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
            run = compiled(_run, {} if traced else self.xla_options)
            state, rows = run(bare, rules, state, key, data, collect)
            # A global variable of the task may have held a traced array all the same.
            traced = traced or any(map(_is_tracer, jax.tree.leaves(state)))
            if not traced and (text := self.warning(state)) is not None:
                warn_user(text)
            return state, self._finish(state, rows)
        end = int(state.step) + self.train_steps
        state, rows = run_observed(
            with_steps(self, end),
            with_steps(bare, 0),
            _step,
            (watching, rules),
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


@no_type_check
def _is_tracer(leaf: Any) -> bool:
    return isinstance(leaf, Tracer)


def _initialize(trainer: Any, key: PRNGKeyArray, data: Tree) -> Any:
    return trainer.initialize(key, data)


def _run(
    trainer: Any,
    rules: tuple[EarlyStopping, ...],
    state: Any,
    key: PRNGKeyArray,
    data: Tree,
    collect: bool,
) -> tuple[Any, Any]:
    def body(state: Any, _: None) -> tuple[Any, Any]:
        state, kept = _step(trainer, rules, state, key, data)
        return state, kept if collect else None

    end, rows = jax.lax.scan(body, state, None, length=trainer.train_steps)
    if rules and collect:
        # At least the first row, of a run that was over before.
        last = jnp.maximum(end.step - state.step - 1, 0)
        last = jnp.minimum(jnp.arange(trainer.train_steps), last)
        rows = jax.tree.map(lambda row: row[last], rows)
    return end, rows


def _step(
    trainer: Any,
    rules: tuple[EarlyStopping, ...],
    state: Any,
    key: PRNGKeyArray,
    data: Tree,
) -> tuple[Any, dict[str, Any]]:
    """One step with its own key: the state after it, and what a `Record` keeps of it.

    Once a run is over, its state stands still.
    """
    fresh = eqx.filter_eval_shape(
        compiled(_initialize, {}), with_steps(trainer, 0), key, data
    )
    check_state(state, fresh, trainer)

    def go(state: Any) -> tuple[Any, dict[str, Any]]:
        result: Any = trainer.train_step(state, jr.fold_in(key, state.step), data)
        after, metrics = result
        check_step(after, state, trainer)
        counters = tuple(
            rule.update(one, metrics)
            for rule, one in zip(rules, state.stopping, strict=True)
        )
        after = with_fields(after, step=state.step + 1, stopping=counters)
        chosen = None
        if trainer.record is not None:
            chosen = trainer.record(after)
            check_record(chosen)
        chosen = eqx.filter(chosen, eqx.is_array_like)
        return after, {"metrics": metrics, "record": chosen}

    if not rules:
        return go(state)
    # Jitted and inlined, so that asking for the shapes does not trace it twice.
    go = jax.jit(go, inline=True)
    _, shapes = jax.eval_shape(go, state)

    def stay(state: Any) -> tuple[Any, dict[str, Any]]:
        return state, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    return jax.lax.cond(is_over(rules, state), stay, go, state)


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
