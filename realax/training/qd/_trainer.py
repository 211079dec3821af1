"""Quality diversity: archives of elites."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from ..._arguments import Count, arguments
from ..._check import no_type_check
from ..._errors import check_key
from ..._finite import stays_finite
from ..._frozen import Frozen
from ..._keys import fold_in, split
from ..._template import Template
from ..._trees import strong, where, with_fields
from ..._types import EXECUTION, PRNGKeyArray, Tree
from ...tasks import AbstractTask, Evaluation, as_task
from .._base import AbstractTrainer
from .._callbacks import Callbacks, CallbacksLike
from .._devices import divided, on_every_device, put_on_every_device
from .._evaluate import evaluate_population
from .._generation import Asked, generation
from .._host import Answer, first_answer
from .._options import frozen_options, own_or_of_task
from .._streak import PATIENCE, Streak
from .._usable import usable_of
from ..evo._checks import check_devices
from ..observers import Logger
from ._archive import AbstractArchive
from ._checks import QD_CHECKS, check_derivatives, check_start, check_statistics
from ._elites import Elites, Told, inserted, no_elites
from ._emitter import AbstractEmitter
from ._first import first_asked, with_first_population
from ._measures import descriptors_of, kept_of
from ._names import emitter_of
from ._slopes import Slopes, slopes_at
from ._state import QDMetrics, QDState


# Evaluations are numbered below 2**32 - 1, so that none has this key.
_DOMAIN = 2**32 - 1
# Archives are of little use if more than this share of descriptors is outside.
_MOST_OUTSIDE = 0.5


class QDTrainer[P](AbstractTrainer[QDState[P], QDMetrics, P]):
    """Fills an archive with the best individuals of every kind.

    A task returns a fitness and, in its aux, a descriptor: a few numbers that say what
    an individual does. An archive divides the space of descriptors into cells, each of
    which keeps its best individual, its elite. Each step is a generation: an emitter
    makes individuals from the elites (`ask`), they are evaluated (`evaluate`), and
    inserted (`tell`). The emitter is told with the archive after the insertion.

    An individual that fails never enters: one with a number, a fitness or a descriptor
    that is not finite, or with one of the latter two beyond 1e15. Of equally good ones,
    the first stays.

    **Arguments:**

    - `train_steps`: the number of generations of `train`.
    - `task`: a function `(params, key, data) -> (fitness, aux)`, or an `AbstractTask`.
        Its own direction decides which fitness is better; a plain function is
        minimised. Environment tasks have a `descriptor`.
    - `params_like`: any pytree, a whole model included, around which the first
        population is drawn; only its floating-point arrays are evolved.
    - `archive`: a `GridArchive`, a `CVTArchive`, an `UnstructuredArchive`, or one of
        your own.
    - `emitter`: `"iso_line"`, `"gaussian"`, `"cma_me"`, `"cma_me_opt"`,
        `"cma_me_rnd"`, `"cma_mae"`, `"omg_mega"`, `"cma_mega"`, an emitter such as
        `rx.CMAEmitter(emitters=15)`, one of qdax, or a tuple of these, of which each
        makes an equal part of every generation.
    - `popsize`: the number of individuals in a generation.
    - `eval_reps`: the number of evaluations of each, whose fitness and descriptors are
        averaged.
    - `qd_offset`: what is added to each elite's quality in the QD score, so that it is
        not negative, and a filled cell never counts less than an empty one.
    - `initializer`: a function `(key) -> parameters`, which draws each individual of
        the first population, in place of `params_like`.
    - `init_std`: the deviation of the first population around `params_like`, which is
        one of it.
    - `descriptor_fn`: makes the descriptor of the task's aux; by default it is
        `aux["descriptor"]`.
    - `keep`: the names of other entries of the aux to keep of each elite, as
        `state.archive.extras`.
    - `n_devices`: the number of devices over which the evaluation of a generation is
        divided. Results do not depend on it, except for the last bits of environments
        with large states.
    - `record`: a function of each state, whose values are kept as `data["record"]`.
    - `callbacks`: observers and stopping rules, one or several.
    - `logger`: a `Logger`, added to `callbacks`.
    - `progress_bar`: whether to add a `ProgressBar`.
    - `compiler_options`: XLA's options for whole runs, values by name; by default those
        of `task`.

    **Raises:** `ValueError` or `TypeError` that names the argument and the remedy; when
    a run is traced, for a task whose aux holds no descriptor of the archive's length.

    Source: J.-B. Mouret, J. Clune, Illuminating search spaces by mapping elites,
    arXiv:1504.04909.
    """

    train_steps: int
    task: AbstractTask[P]
    params_like: P | None
    archive: AbstractArchive
    emitter: AbstractEmitter
    popsize: int = eqx.field(static=True)
    eval_reps: int = eqx.field(static=True)
    qd_offset: Float[Array, ""]
    initializer: Callable[[PRNGKeyArray], P] | None
    init_std: Float[Array, ""]
    descriptor_fn: Callable[[Any], Any] | None
    keep: tuple[str, ...] = eqx.field(static=True)
    n_devices: int = eqx.field(static=True, metadata=EXECUTION)
    record: Callable[[QDState[P]], Tree] | None
    callbacks: Callbacks
    compiler_options: Frozen | None = eqx.field(static=True)

    @arguments(**QD_CHECKS)
    def __init__(
        self,
        train_steps: Count,
        task: Callable[[P, PRNGKeyArray, Any], tuple[Any, Any]],
        params_like: P | None = None,
        *,
        archive: AbstractArchive,
        emitter: Any = "iso_line",
        popsize: Count = 100,
        eval_reps: Count = 1,
        qd_offset: ArrayLike = 0.0,
        initializer: Callable[[PRNGKeyArray], P] | None = None,
        init_std: ArrayLike = 0.5,
        descriptor_fn: Callable[[Any], Any] | None = None,
        keep: str | Sequence[str] = (),
        n_devices: Count = 1,
        record: Callable[[QDState[P]], Tree] | None = None,
        callbacks: CallbacksLike = (),
        logger: Logger | None = None,
        progress_bar: bool = False,
        compiler_options: Mapping[str, Any] | None = None,
    ):
        check_start(params_like, initializer)
        check_devices(int(popsize), int(n_devices))
        self.task = as_task(task)
        check_statistics(self.task)
        self.train_steps = int(train_steps)
        self.params_like = params_like
        self.archive = archive
        self.emitter = emitter_of("`emitter` of `QDTrainer`", emitter)
        self.popsize = int(popsize)
        self.eval_reps = int(eval_reps)
        self.emitter.check(self.popsize)
        check_derivatives(self.emitter, self.task)
        self.qd_offset = jnp.asarray(qd_offset, jnp.result_type(float))
        self.initializer = initializer
        self.init_std = jnp.asarray(init_std, jnp.result_type(float))
        self.descriptor_fn = descriptor_fn
        self.keep = cast("tuple[str, ...]", keep)
        self.n_devices = int(n_devices)
        self.record = record
        self.callbacks = Callbacks.of(callbacks, logger, progress_bar)
        self.compiler_options = frozen_options(compiler_options, "QDTrainer")

    @property
    def objective(self) -> tuple[str, Literal["min", "max"]]:
        """The QD score."""
        return "qd_score", "max"

    @property
    def xla_options(self) -> dict[str, Any]:
        """The trainer's own `compiler_options`, or those of `task`."""
        return own_or_of_task(self.compiler_options, self.task)

    @property
    def evaluation_task(self) -> AbstractTask[Any]:
        """The task, which scores the best elite."""
        return self.task

    def placed(self, tree: Tree) -> Tree:
        """Return `tree` with its arrays on each of the `n_devices`."""
        return put_on_every_device(tree, self.n_devices)

    def initialize(self, key: PRNGKeyArray, data: Tree = None) -> QDState[P]:
        """Return the state with the first population, before the first generation.

        **Arguments:**

        - `key`: the key, split into the population's and that of `Minibatch`. The
            former is split into three: to draw it, to evaluate it, and to begin the
            emitter.
        - `data`: the data of the run, on which the population is evaluated; with
            `Minibatch`, on the batch of step 0.
        """
        check_key(key)
        data = first_answer(self, key, data)
        state, key = self._start_of(key)
        state = with_first_population(self, state, key, data)
        return on_every_device(state, self.n_devices)

    def ask_first(self, key: PRNGKeyArray) -> tuple[QDState[P], Asked]:
        """Ask for the first population.

        **Arguments:**

        - `key`: the key of `initialize`.

        **Returns:** The state from which it was asked, and the population.
        """
        state, key = self._start_of(key)
        return state, first_asked(self, state, key)

    def _start_of(self, key: PRNGKeyArray) -> tuple[QDState[P], PRNGKeyArray]:
        """Return the state with an empty archive, and the key of the population."""
        key, shuffle_key = split(key)
        make = self.initializer
        like = cast(P, self.params_like) if make is None else make(key)
        template = Template(like, "the result of `initializer`")
        flat, rest = template.flatten(like)
        state = QDState(
            step=jnp.zeros((), jnp.int32),
            elites=no_elites(self.archive, strong(flat), {}),
            emitter_state=None,
            outside=jnp.zeros((), flat.dtype),
            refusals=Streak.none(),
            shuffle_key=shuffle_key,
            rest=rest,
            template=template,
            maximize=self.task.maximize,
        )
        return state, key

    def train_step(
        self, state: QDState[P], key: PRNGKeyArray, data: Tree = None
    ) -> tuple[QDState[P], QDMetrics]:
        """Run one generation: `ask`, `evaluate`, `tell`.

        With a task on the host, the loop passes an `Answer` as `data`: what was asked
        and evaluated before.
        """
        if isinstance(data, Answer):
            return self.tell(state, data.asked, data.results)
        asked = self.ask(state, key, data)
        results = self.evaluate(state, asked, data)
        return self.tell(state, asked, results)

    def ask(self, state: QDState[P], key: PRNGKeyArray, data: Tree = None) -> Asked:
        """Ask the emitter for a generation.

        Compile it by `eqx.filter_jit(trainer.ask)`, because individuals may hold
        functions; likewise `evaluate` and `tell`.

        **Arguments:**

        - `state`: the state so far.
        - `key`: the step's own key.
        - `data`: the same as for `evaluate`, for an emitter that asks for derivatives.

        **Returns:** The generation, and the keys to evaluate it with.
        """
        ask_key, eval_key, tell_key = split(key, 3)
        slopes = functools.partial(self._slopes, state, eval_key, data)
        population, after = self.emitter.asked(
            ask_key, state.emitter_state, state.elites, self.popsize, slopes
        )
        return generation(state, population, after, self.eval_reps, eval_key, tell_key)

    @no_type_check
    def evaluate(
        self, state: QDState[P], asked: Asked, data: Tree = None
    ) -> Evaluation:
        """Evaluate a generation on the task.

        **Arguments:**

        - `state`: the state from which the generation was asked.
        - `asked`: from `ask`.
        - `data`: the data of the run.

        **Returns:** The values, shape `(pop, reps)`, and the aux.
        """
        task, data = self.task.draw(data, state.shuffle_key, state.step)
        return evaluate_population(
            task, asked.individuals, asked.keys, data, self.n_devices
        )

    def insert(
        self, state: QDState[P], asked: Asked, results: Evaluation
    ) -> tuple[Elites, Told]:
        """Return the archive with a generation inserted, and what became of it.

        **Arguments:**

        - `state`, `asked`, `results`: as for `tell`.
        """
        name, elites = self.task.display_name, state.elites
        jobs = (self.popsize, self.eval_reps)
        descriptor = descriptors_of(
            results.aux, self.descriptor_fn, elites.archive.dims, jobs, name
        )
        fitness = jnp.mean(results.values, axis=-1)
        usable = usable_of(asked.population, fitness, descriptor)
        quality = fitness if self.task.maximize else -fitness
        extras = kept_of(results.aux, self.keep, name)
        return inserted(elites, asked.population, quality, descriptor, usable, extras)

    def tell(
        self, state: QDState[P], asked: Asked, results: Evaluation
    ) -> tuple[QDState[P], QDMetrics]:
        """Insert a generation into the archive, and tell the emitter.

        **Arguments:**

        - `state`: the state from which the generation was asked.
        - `asked`: from `ask`.
        - `results`: from `evaluate`, or made elsewhere: `Evaluation(values, aux)`.

        **Returns:** The next state, and the generation's metrics.
        """
        elites, told = self.insert(state, asked, results)
        before = state.emitter_state
        emitted = self.emitter.tell(asked.tell_key, asked.es_state, told, elites)
        accepted = jnp.any(told.usable) & stays_finite(before, emitted)
        outside = told.usable & jax.vmap(elites.archive.outside)(told.descriptor)
        share = jnp.mean(outside, dtype=state.outside.dtype)
        after = with_fields(
            state,
            step=state.step + 1,
            elites=elites,
            emitter_state=where(accepted, emitted, before),
            outside=state.outside + (share - state.outside) / (state.step + 1),
            refusals=state.refusals.after(~accepted),
        )
        filled = elites.filled
        best = jnp.max(elites.quality)
        best = jnp.where(best > -jnp.inf, best, jnp.nan)
        offset = self.qd_offset.astype(best.dtype)
        return on_every_device(after, self.n_devices), QDMetrics(
            qd_score=jnp.sum(jnp.where(filled, elites.quality + offset, 0)),
            coverage=jnp.mean(filled, dtype=best.dtype),
            best_fitness=best if self.task.maximize else -best,
            added=jnp.sum(told.added, dtype=jnp.int32),
            failed=jnp.sum(~told.usable, dtype=jnp.int32),
            outside=jnp.sum(outside, dtype=jnp.int32),
        )

    def _slopes(
        self,
        state: QDState[P],
        key: PRNGKeyArray,
        data: Tree,
        points: Float[Array, "points dims"],
    ) -> Slopes:
        """Return the derivatives of the task at some points.

        **Arguments:**

        - `key`: the key of the generation's evaluations, which have others.
        """
        task, data = self.task.draw(data, state.shuffle_key, state.step)
        keys = split(fold_in(key, _DOMAIN), (len(points), self.eval_reps))
        dims, jobs = state.elites.archive.dims, (1, self.eval_reps)

        def measured(aux: Tree) -> Array:
            return descriptors_of(
                aux, self.descriptor_fn, dims, jobs, self.task.display_name
            )

        def part(split: Any, shared: Any) -> Slopes:
            (points, keys), (task, data, rest) = split, shared
            params_of = lambda flat: state.template.unflatten(flat, rest)
            return slopes_at(points, keys, task, data, params_of, measured)

        even = len(points) % self.n_devices == 0
        return divided(
            part,
            (points, keys),
            (task, data, state.rest),
            self.n_devices if even else 1,
        )

    def params(self, state: QDState[P]) -> P:
        """Return the elite with the best fitness."""
        return state.best_params

    def warning(self, state: QDState[P]) -> str | None:
        """Return a warning if most descriptors are outside, or all updates failed."""
        share = float(np.max(np.asarray(state.outside)))
        if share > _MOST_OUTSIDE:
            return (
                f"{share:.0%} of the descriptors were outside the bounds of the "
                "archive, and count as the nearest ones inside. Give the archive wider "
                "bounds: `state.descriptor` and the task show which ones."
            )
        refused = state.refusals.maximum
        if refused < PATIENCE:
            return None
        return (
            f"{refused} generations in a row had no usable individual, or would have "
            "turned the emitter's state NaN or infinite. The task fails: look at "
            '`data["metrics"]["failed"]`.'
        )
