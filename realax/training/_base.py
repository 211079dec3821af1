"""The contract of a trainer, and the six methods that run one."""

import abc
from collections.abc import Callable, Iterable
from typing import Any, Literal

import equinox as eqx
import jax
from jaxtyping import Array, Int

from .._arguments import arguments, one_key, whole
from .._errors import describe
from .._keys import fold_in
from .._types import PRNGKeyArray, Tree
from ..tasks import AbstractTask
from ._callbacks import Callbacks
from ._checks import a_state, batches as a_stream
from ._drive import drive
from ._state import AbstractState, Record
from .log import numbers_of


_checked = arguments(state=a_state, key=one_key)
_streamed = arguments(state=a_state, key=one_key, batches=a_stream)
_keyed = arguments(key=one_key)


class AbstractTrainer[S: AbstractState, M, P](eqx.Module):
    """A training method: an initial state, a step, and the trained parameters.

    A subclass defines `initialize`, `train_step`, `params` and `objective`; this class
    runs them. A trainer is a pytree: map over its array leaves, differentiate with
    respect to them, or put it into another trainer's task.

    The key of the step that starts at `state.step` is `fold_in(key, state.step)`. A run
    therefore depends on the trainer, the key and the state, and not on how it is
    divided into calls and chunks.
    """

    train_steps: eqx.AbstractVar[int]
    record: eqx.AbstractVar[Callable[[S], Tree] | None]
    callbacks: eqx.AbstractVar[Callbacks]

    def __check_init__(self) -> None:
        name = type(self).__name__
        callbacks: Any = self.callbacks
        if not isinstance(self.train_steps, jax.Array):  # of a trainer being traced
            whole()(f"`train_steps` of `{name}`", self.train_steps)
        if not isinstance(callbacks, Callbacks):
            raise TypeError(
                f"`callbacks` of `{name}` must be `rx.Callbacks`, but "
                f"got {describe(callbacks)}. Declare the field as `callbacks: "
                "rx.Callbacks = eqx.field(converter=rx.Callbacks, default=())`."
            )

    @property
    @abc.abstractmethod
    def objective(self) -> tuple[str, Literal["min", "max"]]:
        """The name of the metric to optimise, and `"min"` or `"max"`."""

    @abc.abstractmethod
    def initialize(self, key: PRNGKeyArray, data: Tree = None) -> S:
        """Return the state before the first step, with `step` 0.

        Its leaves have the types and shapes that `train_step` returns.

        **Arguments:**

        - `key`: the key of the state, independent of the run's key.
        - `data`: the data of the run, or the first batch of a stream, for a trainer
            that evaluates something here.
        """

    @abc.abstractmethod
    def train_step(self, state: S, key: PRNGKeyArray, data: Tree = None) -> tuple[S, M]:
        """Make one step.

        **Arguments:**

        - `state`: the state before the step.
        - `key`: the key of this step.
        - `data`: the data of this step.

        **Returns:** The next state, and the step's metrics: a dictionary of arrays. The
        loop sets the state's `step`, and ignores its value here.
        """

    def run_key(self, key: PRNGKeyArray) -> PRNGKeyArray:
        """Return what the keys of the steps are made of: by default the run's key.

        A trainer of runs side by side returns a key for each of them.

        **Arguments:**

        - `key`: the run's key.
        """
        return key

    def step_key(self, key: PRNGKeyArray, state: S) -> PRNGKeyArray:
        """Return the key of a step: by default `fold_in(key, state.step)`.

        **Arguments:**

        - `key`: the result of `run_key`.
        - `state`: the state before the step.
        """
        return fold_in(key, state.step)

    def evaluation_of(self, task: Any) -> Any:
        """Return the task by which an `Evaluator` that has its own scores `params`.

        By default it is that task. A trainer of runs side by side evaluates each.

        **Arguments:**

        - `task`: the user's task, for the parameters of one run.
        """
        return task

    @property
    def lanes(self) -> tuple[str, ...]:
        """The names of the runs side by side, if the trainer has some; else `()`.

        Then each metric, and each number of `log_row`, has a leading axis of them.
        """
        return ()

    def each_lane(
        self, function: Callable[[Any, Any], Any], state: S, metrics: M
    ) -> Any:
        """Return `function(state, metrics)`, of each lane if the trainer has lanes.

        **Arguments:**

        - `function`: what a user computes of a step, such as `metrics_fn` of `Logger`.
        - `state`, `metrics`: those of the step.

        **Returns:** Its result. With lanes, arrays have a leading axis of them.
        """
        return function(state, metrics)

    def settled(self, state: S, rows: Tree, first: Int[Array, "*lanes"]) -> Tree:
        """Return the rows of a run after its end, for its `Record`.

        By default they are unchanged. A trainer of runs side by side repeats the last
        row of those that ended early.

        **Arguments:**

        - `state`: the state after the run.
        - `rows`: the kept values of all steps, stacked.
        - `first`: the `steps` of the state before the first of them.
        """
        del state, first
        return rows

    @abc.abstractmethod
    def params(self, state: S) -> P:
        """Return the trained parameters, of the same type as the user's."""

    def best_params(self, state: S) -> P:
        """Return the parameters with the best value of the objective.

        By default they are those of `params`, for a trainer that keeps no others.
        """
        return self.params(state)

    @property
    def evaluation_task(self) -> AbstractTask[Any] | None:
        """The task on which `params` can be scored, for an `Evaluator`.

        Its `maximize` is the direction in which this trainer optimises it. It is `None`
        by default.
        """
        return None

    def log_row(self, state: S, metrics: M) -> dict[str, Array]:
        """Return the numbers to log of a step. It is traced into the compiled step.

        By default they are the metrics that are single numbers.

        **Arguments:**

        - `state`: the state after the step.
        - `metrics`: the metrics that `train_step` returned with it, a dictionary.
        """
        del state
        return numbers_of(metrics)

    def warning(self, state: S) -> str | None:
        """Return a warning for the user, or `None`, which is the default.

        It is called after a run, and after each chunk of a run with observers.
        """
        del state
        return None

    def check_new(self, state: S) -> None:
        """Refuse a new state from which no run can start; by default, accept it.

        It is called after `initialize` and before the run, where values of the state
        are known unless the run is traced.
        """
        del state

    def placed(self, tree: Tree) -> Tree:
        """Return `tree` with its arrays on the devices of the run.

        It is called with the trainer, a state, a key and data before a run. By default
        it returns them unchanged.
        """
        return tree

    @property
    def xla_options(self) -> dict[str, Any]:
        """XLA's options for the programs of whole runs, by name; none by default.

        A trainer with a task returns its own `compiler_options`, or else the task's.
        """
        return {}

    @property
    def lone_xla_options(self) -> dict[str, Any]:
        """Those for whole runs that are not lanes side by side; by default the same.

        They may suit the size of the arrays of one run, which several make larger.
        """
        return self.xla_options

    @property
    def initial_xla_options(self) -> dict[str, Any]:
        """XLA's options for the program of `initialize`, by name; none by default.

        They suit a state that takes longer to compile than to compute: on CPU, most
        learners switch XLA's optimisations off. Lanes side by side have none.
        """
        return {}

    @_checked
    def train(
        self, state: S, key: PRNGKeyArray, data: Tree = None
    ) -> tuple[S, Record[M]]:
        """Train for `train_steps` more steps and keep every step's metrics.

        **Arguments:**

        - `state`: the state from which to start, from `initialize` or an earlier run.
        - `key`: the run's key. Two runs of 50 steps with the same key equal one of 100.
        - `data`: the data of every step.

        **Returns:** The final state, and the `Record` of all steps.

        **Raises:** `RuntimeError` if the trainer has observers and is being traced;
        `TypeError` or `ValueError` for a state of another trainer.
        """
        return drive(self, state, key, data, collect=True)

    @_checked
    def train_(self, state: S, key: PRNGKeyArray, data: Tree = None) -> S:
        """Train as `train`, with memory that is independent of the number of steps."""
        state, _ = drive(self, state, key, data, collect=False)
        return state

    @_keyed
    def init_and_train(
        self, key: PRNGKeyArray, data: Tree = None
    ) -> tuple[S, Record[M]]:
        """Train from a new state. The key is split into the state's and the run's."""
        return drive(self, None, key, data, collect=True)

    @_keyed
    def init_and_train_(self, key: PRNGKeyArray, data: Tree = None) -> S:
        """Train from a new state, as `train_`."""
        state, _ = drive(self, None, key, data, collect=False)
        return state

    @_streamed
    def train_stream(
        self, state: S, key: PRNGKeyArray, batches: Iterable[Tree]
    ) -> tuple[S, Record[M]]:
        """Train with one step for each batch of a stream.

        The next batches are fetched while steps are computed, and several batches of
        equal shapes share one call of the device. With `EarlyStopping`, batches are
        fetched one at a time from an iterator, so that every fetched batch is used,
        with one exception: if `state` has been stopped before, no step is made, and one
        batch is fetched and lost, because the types of the empty `Record` depend on it.

        **Arguments:**

        - `state`, `key`: as for `train`.
        - `batches`: any iterable of trees of arrays, such as a `DataLoader` of PyTorch
            or grain. Batches of new shapes are compiled again.

        **Returns:** The same as `train`. The run ends with the last batch, or after
        `train_steps` steps if they are fewer.

        **Raises:** `RuntimeError` if the trainer is being traced.
        """
        return drive(self, state, key, None, batches, collect=True)

    @arguments(key=one_key, batches=a_stream)
    def fit_stream(
        self, key: PRNGKeyArray, batches: Iterable[Tree]
    ) -> tuple[S, Record[M]]:
        """Train from a new state, as `train_stream`."""
        return drive(self, None, key, None, batches, collect=True)

    def __call__(self, key: PRNGKeyArray, data: Tree = None) -> tuple[S, Record[M]]:
        """Train from a new state, as `init_and_train`."""
        return self.init_and_train(key, data)

    def __hash__(self) -> int:
        # `jax.jit` asks for the hash of a method, and with it of the trainer.
        try:
            return super().__hash__()
        except TypeError as error:
            raise TypeError(
                f"this {type(self).__name__} holds arrays and has no hash. Compile a "
                "method of it by `eqx.filter_jit(trainer.init_and_train)`, or by "
                "`jax.jit(lambda key: trainer.init_and_train(key))`."
            ) from error
