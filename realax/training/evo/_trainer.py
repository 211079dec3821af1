"""Evolution with evosax's algorithms."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from ..._arguments import Count, arguments, whole
from ..._check import no_type_check
from ..._errors import check_key
from ..._frozen import Frozen, freeze
from ..._keys import split
from ..._template import Template
from ..._trees import where, with_fields
from ..._types import EXECUTION, PRNGKeyArray, Tree
from ...policies import NormalizedPolicy, ObsStats
from ...tasks import AbstractTask, Evaluation, as_task
from ...tasks._directed import directed
from ...tasks._observing import obs_stats_of
from .._base import AbstractTrainer
from .._callbacks import Callbacks, CallbacksLike
from .._checks import record as a_record, trainable
from .._devices import on_every_device, put_on_every_device
from .._evaluate import evaluate_population
from .._generation import Asked, generation
from .._host import Answer, first_answer
from .._options import frozen_options, own_or_of_task
from ..log import default_es_metrics
from ..observers import Logger
from ._algorithm import Algorithm
from ._best import with_generation
from ._checks import CHECKS, check_devices, check_statistics
from ._first import first_asked, with_first_population
from ._guard import is_sound, refusal_warning, score
from ._shaping import FitnessShaper
from ._state import ESMetrics, ESState, initial_state
from ._strategy import Strategy


class EvosaxTrainer[P](AbstractTrainer[ESState[P], ESMetrics, P]):
    """Evolves any pytree or model by an algorithm of evosax.

    Each step is a generation: `ask` for it, `evaluate` it, `tell` the results.
    The individual `i` in repetition `r` has a key of its own in every generation.
    `initialize` evaluates the first population of a population-based algorithm, in
    addition to the `train_steps` generations.

    **Arguments:**

    - `train_steps`: the number of generations of `train`.
    - `strategy`: the name of an evosax algorithm, such as `"CMA_ES"` or `"OpenES"`, or
        an instance of one.
    - `task`: a function `(params, key, data) -> (fitness, aux)`, or an `AbstractTask`.
    - `params_like`: any pytree, a whole model included. Evolution starts around it;
        only its floating-point arrays are evolved, the rest is kept. With a task that
        has `normalize_obs`, a `NormalizedPolicy` goes on from its statistics.
    - `fitness_shaper`: the direction and shaping of fitness. By default a task's own
        `maximize` decides, and a plain function is minimised.
    - `popsize`: the number of individuals in a generation.
    - `eval_reps`: the number of evaluations of each, whose values are averaged.
    - `n_devices`: the number of devices over which the evaluation of a generation is
        divided; the algorithm runs on each. On several hosts, all of them:
        `jax.device_count()`. Results do not depend on it, except for the
        last bits of a few algorithms and of environments with large states. On CPU,
        call `jax.config.update("jax_num_cpu_devices", n)` before anything else uses
        jax. On CPU it switches off XLA's Shardy partitioner, which crashes on brax.
    - `es_kws`: keywords of the algorithm's constructor. `optimizer="adam"`,
        `learning_rate` and `std` stand for an optimiser and a schedule of the
        deviation, if it takes them.
    - `es_params`: values for some or all of the algorithm's parameters, by evosax's
        names. `trainer.es_params` holds all of them as array leaves.
    - `record`: a function of each state, whose values are kept as `data["record"]`.
    - `callbacks`: observers and stopping rules, one or several.
    - `logger`: a `Logger`, added to `callbacks`.
    - `progress_bar`: whether to add a `ProgressBar`.
    - `compiler_options`: XLA's options for whole runs, values by name; by default those
        of `task`.

    Algorithms by name whose defaults in evosax hardly learn get others. Open_ES, ARS,
    ASEBO, ESMC, GuidedES, NoiseReuseES, PersistentES and SV_Open_ES: adam at 0.05 and
    deviation 0.1 instead of sgd or adam at 0.001 and deviation 1. SimpleGA,
    HillClimbing and SimulatedAnnealing: deviation 0.1 instead of 1. RandomSearch
    samples normally around `params_like`, with deviation 1. SV_CMA_ES and SV_Open_ES
    divide `popsize` among 4 populations. LM_MA_ES has its `c_c` clipped to 1. An
    instance is left as it is. `benchmarks/evolution_defaults.py` compares the
    results.

    **Raises:** `ValueError` or `TypeError` that names the argument and the remedy.

    Source: R. T. Lange, evosax: JAX-based Evolution Strategies, arXiv:2212.04180.
    """

    train_steps: int
    strategy: str | Algorithm = eqx.field(static=True)
    task: AbstractTask[P]
    params_like: P
    fitness_shaper: FitnessShaper
    popsize: int = eqx.field(static=True)
    eval_reps: int = eqx.field(static=True)
    n_devices: int = eqx.field(static=True, metadata=EXECUTION)
    es_kws: Frozen = eqx.field(static=True)
    es_params: Any
    record: Callable[[ESState[P]], Tree] | None
    callbacks: Callbacks
    compiler_options: Frozen | None = eqx.field(static=True)

    @arguments(train_steps=whole(), params_like=trainable, record=a_record, **CHECKS)
    def __init__(
        self,
        train_steps: Count,
        strategy: str | Algorithm,
        task: Callable[[P, PRNGKeyArray, Any], tuple[Any, Any]],
        params_like: P,
        fitness_shaper: FitnessShaper | None = None,
        popsize: Count = 64,
        eval_reps: Count = 1,
        n_devices: Count = 1,
        *,
        es_kws: Mapping[str, Any] | None = None,
        es_params: Tree = None,
        record: Callable[[ESState[P]], Tree] | None = None,
        callbacks: CallbacksLike = (),
        logger: Logger | None = None,
        progress_bar: bool = False,
        compiler_options: Mapping[str, Any] | None = None,
    ):
        check_devices(int(popsize), int(n_devices))
        self.task = as_task(task)
        check_statistics(params_like, self.task)
        self.train_steps = int(train_steps)
        self.strategy = strategy
        self.params_like = params_like
        self.fitness_shaper = fitness_shaper or FitnessShaper()
        self.popsize = int(popsize)
        self.eval_reps = int(eval_reps)
        self.n_devices = int(n_devices)
        self.es_kws = freeze(es_kws)
        self.es_params = self.algorithm.full_params(es_params)
        self.record = record
        self.callbacks = Callbacks.of(callbacks, logger, progress_bar)
        self.compiler_options = frozen_options(compiler_options, "EvosaxTrainer")

    @property
    def objective(self) -> tuple[str, Literal["min", "max"]]:
        """The best fitness so far, or the mean for a task that draws random numbers.

        The best value of such a task is the luckiest. `stochastic` tells them apart.
        """
        metric = "mean_fitness" if self.task.stochastic else "best_fitness"
        return metric, "max" if self.shaper.maximize else "min"

    @property
    def obs_stats(self) -> ObsStats | None:
        """The statistics of observations with which a run begins, or `None`."""
        if isinstance(self.params_like, NormalizedPolicy):
            return self.params_like.stats
        return obs_stats_of(self.task)

    @property
    def xla_options(self) -> dict[str, Any]:
        """The trainer's own `compiler_options`, or those of `task`."""
        return own_or_of_task(self.compiler_options, self.task)

    @property
    def evaluation_task(self) -> AbstractTask[Any]:
        """The task, in the direction of the `fitness_shaper`."""
        return directed(self.task, self.shaper.maximize is True)

    def placed(self, tree: Tree) -> Tree:
        """Return `tree` with its arrays on each of the `n_devices`.

        It does not matter to which device they were committed before.
        """
        return put_on_every_device(tree, self.n_devices)

    def initialize(self, key: PRNGKeyArray, data: Tree = None) -> ESState[P]:
        """Return the state around `params_like`, before the first generation.

        For a population-based algorithm, a first population is evaluated here:
        `params_like` and others around it, with the deviation `std_init`, or 1. The
        best of them and the statistics of their observations are in the state. If no
        fitness is usable, all have the cost 1e15, so that any usable one is better.

        **Arguments:**

        - `key`: the key, split into the algorithm's and that of `Minibatch`. For a
            first population, the algorithm's is split into three: to draw it, to
            evaluate it, and to tell the algorithm.
        - `data`: the data of the run, on which a first population is evaluated; with
            `Minibatch`, on the batch of step 0.
        """
        check_key(key)
        data = first_answer(self, key, data)
        state, key = self._start_of(key)
        if self.algorithm.population_based:
            state = with_first_population(self, state, key, data)
        else:
            es_state = self.algorithm.init(key, state.best_flat, self.es_params)
            state = with_fields(state, es_state=es_state)
        return on_every_device(state, self.n_devices)

    def ask_first(self, key: PRNGKeyArray) -> tuple[ESState[P], Asked] | None:
        """Ask for the first population of a population-based algorithm.

        **Arguments:**

        - `key`: the key of `initialize`.

        **Returns:** The state from which it was asked, and the population. `None` for
        other algorithms.
        """
        if not self.algorithm.population_based:
            return None
        state, key = self._start_of(key)
        return state, first_asked(self, state, key)

    def train_step(
        self, state: ESState[P], key: PRNGKeyArray, data: Tree = None
    ) -> tuple[ESState[P], ESMetrics]:
        """Run one generation: `ask`, `evaluate`, `tell`.

        With a task on the host, the loop passes an `Answer` as `data`: what was asked
        and evaluated before.
        """
        if isinstance(data, Answer):
            return self.tell(state, data.asked, data.results)
        asked = self.ask(state, key)
        results = self.evaluate(state, asked, data)
        return self.tell(state, asked, results)

    def ask(self, state: ESState[P], key: PRNGKeyArray) -> Asked:
        """Ask the algorithm for a generation.

        Compile it by `eqx.filter_jit(trainer.ask)`, because individuals may hold
        functions; likewise `evaluate` and `tell`.

        **Arguments:**

        - `state`: the state so far.
        - `key`: the step's own key.

        **Returns:** The generation, and the keys to evaluate it with.
        """
        start, _ = self._template.flatten(self._start)
        ask_key, eval_key, tell_key = split(key, 3)
        population, es_state = self.algorithm.ask(
            ask_key, state.es_state, self.es_params, start
        )
        return generation(
            state, population, es_state, self.eval_reps, eval_key, tell_key
        )

    @no_type_check
    def evaluate(
        self, state: ESState[P], asked: Asked, data: Tree = None
    ) -> Evaluation:
        """Evaluate a generation on the task.

        **Arguments:**

        - `state`: the state from which the generation was asked.
        - `asked`: from `ask`.
        - `data`: the data of the run.

        **Returns:** The values, shape `(pop, reps)`, the aux, and with `normalize_obs`
        the moments of the observations.
        """
        task, data = self.task.draw(data, state.shuffle_key, state.step)
        return evaluate_population(
            task, asked.individuals, asked.keys, data, self.n_devices
        )

    def tell(
        self, state: ESState[P], asked: Asked, results: Evaluation
    ) -> tuple[ESState[P], ESMetrics]:
        """Tell the algorithm the results of a generation.

        **Arguments:**

        - `state`: the state from which the generation was asked.
        - `asked`: from `ask`.
        - `results`: from `evaluate`, or made elsewhere: `Evaluation(values)`.

        **Returns:** The next state, and the generation's metrics.
        """
        strategy, shaper = self.algorithm, self.shaper
        scores = score(asked.population, results.values, shaper)
        es_state = strategy.tell(
            asked.tell_key,
            asked.population,
            scores.shaped,
            asked.es_state,
            self.es_params,
        )
        accepted = is_sound(scores, state.es_state, es_state)
        after = with_fields(
            with_generation(state, asked, results, scores, shaper, strategy.groups),
            step=state.step + 1,
            es_state=where(accepted, es_state, state.es_state),
            refusals=state.refusals.after(~accepted),
        )
        return on_every_device(after, self.n_devices), ESMetrics(
            fitness=scores.fitness,
            mean_fitness=jnp.mean(scores.fitness, where=scores.usable),
            best_fitness=after.best_fitness,
            failed=jnp.sum(~scores.usable),
            rejected=~accepted,
            eval_data=results.aux,
        )

    def params(self, state: ESState[P]) -> P:
        """Return the distribution's mean, or the best individual if it has none."""
        return state.best_params if self.algorithm.population_based else state.mean

    def best_params(self, state: ESState[P]) -> P:
        """Return the best individual so far."""
        return state.best_params

    def log_row(self, state: ESState[P], metrics: ESMetrics) -> dict[str, Array]:
        """Return the row of `default_es_metrics`."""
        return default_es_metrics(state, metrics)[0]

    @no_type_check
    def warning(self, state: ESState[P]) -> str | None:
        """Return a warning if a hundred updates in a row were refused."""
        refused = state.refusals.maximum
        return refusal_warning(refused, self.algorithm.name) if refused else None

    @property
    def shaper(self) -> FitnessShaper:
        """The `fitness_shaper` in the direction of the task."""
        return self.fitness_shaper.directed(self.task.maximize)

    def _start_of(self, key: PRNGKeyArray) -> tuple[ESState[P], PRNGKeyArray]:
        """Return the state without one of the algorithm, and the algorithm's key."""
        key, shuffle_key = split(key)
        start = initial_state(self._start, self.obs_stats, self.shaper, shuffle_key)
        return start, key

    @property
    def _start(self) -> Any:
        """The tree to evolve: `params_like` without statistics of observations."""
        given = self.params_like
        return given.policy if isinstance(given, NormalizedPolicy) else given

    @property
    def _template(self) -> Template[Any]:
        return Template(self._start)

    @property
    def algorithm(self) -> Strategy:
        """The algorithm behind `strategy`."""
        return Strategy(self.strategy, self.popsize, self._template.size, self.es_kws)
