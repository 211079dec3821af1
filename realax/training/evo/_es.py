"""Evolution with evosax's algorithms."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from ..._arguments import Count, arguments, flag, function, keywords, whole
from ..._errors import check_key
from ..._finite import stays_finite
from ..._frozen import Frozen, freeze
from ..._template import Template
from ..._trees import where
from ..._types import EXECUTION, PRNGKeyArray, Tree
from ...policies import NormalizedPolicy, ObsStats
from ...tasks._base import begun, check_task, is_maximized, options_of
from ...tasks._minibatch import drawn
from ...tasks._randomness import draws
from .._base import AbstractTrainer
from .._callbacks import Callbacks, CallbacksLike
from .._checks import logger as a_logger, observers, record as a_record, trainable
from .._evaluate import (
    device_mesh,
    evaluate,
    on_every_device,
    put_on_every_device,
)
from ..observers import Logger, ProgressBar
from ._algorithm import Algorithm, algorithm as an_algorithm
from ._shaping import FitnessShaper, shaper as a_shaper
from ._state import ESMetrics, ESState
from ._strategy import Strategy


# After so many refused updates in a row the user is told.
_PATIENCE = 100
# No task means a larger fitness; squares of it would overflow single precision.
_ABSURD = 1e15


class EvosaxTrainer[P](AbstractTrainer[ESState[P], ESMetrics, P]):
    """Evolves any pytree or model by an algorithm of evosax.

    Each step is a generation: ask for a population, evaluate it, tell the fitness. The
    individual `i` in repetition `r` has a key of its own in every generation.

    **Arguments:**

    - `train_steps`: how many generations `train` runs.
    - `strategy`: the name of an evosax algorithm, such as `"CMA_ES"` or `"OpenES"`, or
        an instance of one.
    - `task`: a function `(params, key, data) -> (fitness, aux)`, or an `AbstractTask`.
    - `params_like`: any pytree, a whole model included. Evolution starts around it;
        only its floating-point arrays are evolved, the rest is kept. With a task that
        has `normalize_obs`, a `NormalizedPolicy` goes on from its statistics.
    - `fitness_shaper`: the direction and shaping of fitness. By default a task's own
        `maximize` decides, and a plain function is minimised.
    - `popsize`: individuals in a generation.
    - `eval_reps`: how often each is evaluated; the values are averaged.
    - `n_devices`: over how many devices the evaluation of a generation is spread; the
        algorithm runs whole on each. Keys, and so results but for the last bits of a
        few algorithms, do not depend on it. On CPU, call
        `jax.config.update("jax_num_cpu_devices", n)` before anything else uses jax.
        (There, it switches XLA's Shardy partitioner off, with which brax crashes.)
    - `es_kws`: for the algorithm's constructor. Where it takes an optimiser or a
        schedule of the deviation, `optimizer="adam"`, `learning_rate` and `std` are
        understood too.
    - `es_params`: values for some or all of the algorithm's parameters, by evosax's
        names. `trainer.es_params` holds all of them as array leaves.
    - `record`: what to keep of each state beside the metrics, as `data["record"]`.
    - `callbacks`: one observer, or several.
    - `logger`: one more of them.
    - `progress_bar`: whether to show one.

    By name, algorithms whose defaults in evosax hardly learn get others. Open_ES, ARS,
    ASEBO, ESMC, GuidedES, NoiseReuseES, PersistentES and SV_Open_ES: adam at 0.05 and
    deviation 0.1 instead of sgd or adam at 0.001 and deviation 1. SimpleGA,
    HillClimbing and SimulatedAnnealing: deviation 0.1 instead of 1. RandomSearch
    samples normally around `params_like`, with deviation 1. SV_CMA_ES and SV_Open_ES
    spread `popsize` over 4 populations. LM_MA_ES has its `c_c` clipped to 1. An
    instance is left as it is. `benchmarks/evolution_defaults.py` prints what each
    choice gives.

    **Raises:** `ValueError` or `TypeError` that names the argument and the remedy.

    Source: R. T. Lange, evosax: JAX-based Evolution Strategies, arXiv:2212.04180.
    """

    train_steps: int
    strategy: str | Algorithm = eqx.field(static=True)
    task: Callable[..., Any]
    params_like: P
    fitness_shaper: FitnessShaper
    popsize: int = eqx.field(static=True)
    eval_reps: int = eqx.field(static=True)
    n_devices: int = eqx.field(static=True, metadata=EXECUTION)
    es_kws: Frozen = eqx.field(static=True)
    es_params: Any
    record: Callable[[ESState[P]], Tree] | None
    callbacks: Callbacks

    @arguments(
        train_steps=whole(),
        strategy=an_algorithm,
        task=function("(params, key, data) -> (fitness, aux)"),
        params_like=trainable,
        fitness_shaper=a_shaper,
        popsize=whole(),
        eval_reps=whole(),
        n_devices=whole(),
        es_kws=keywords,
        record=a_record,
        callbacks=observers,
        logger=a_logger,
        progress_bar=flag,
    )
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
    ):
        check_task(task)
        size, devices = int(popsize), int(n_devices)
        if devices > 1:
            device_mesh(devices)
        if size % devices:
            below = size - size % devices
            raise ValueError(
                f"`popsize` must be a multiple of `n_devices={devices}`, but got "
                f"{size}. The nearest are {below or devices} and {below + devices}."
            )
        counts = begun(task) is not None  # refuses a decorated task that does
        if isinstance(params_like, NormalizedPolicy) and not counts:
            raise ValueError(
                "`params_like` is a `NormalizedPolicy`, whose statistics are not "
                "to be evolved. Give the task `normalize_obs=True` to go on with "
                "them, or evolve `params_like.policy`."
            )
        self.train_steps = int(train_steps)
        self.strategy = strategy
        self.task = task
        self.params_like = params_like
        self.fitness_shaper = fitness_shaper or FitnessShaper()
        self.popsize = size
        self.eval_reps = int(eval_reps)
        self.n_devices = devices
        self.es_kws = freeze(es_kws)
        self.es_params = self._strategy.full_params(es_params)
        self.record = record
        self.callbacks = Callbacks(
            callbacks, logger, ProgressBar() if progress_bar else None
        )

    @property
    def objective(self) -> tuple[str, Literal["min", "max"]]:
        """The best fitness so far; of a task that draws random numbers, the mean.

        There, the best so far is the luckiest. The task's `stochastic` says which.
        """
        metric = "mean_fitness" if draws(self.task) else "best_fitness"
        return metric, "max" if self._shaper.maximize else "min"

    @property
    def obs_stats(self) -> ObsStats | None:
        """The statistics of observations with which a run begins, if there are some."""
        if isinstance(self.params_like, NormalizedPolicy):
            return self.params_like.stats
        return begun(self.task)

    @property
    def compiler_options(self) -> dict[str, Any]:
        """Those of `task`."""
        return options_of(self.task)

    def placed(self, tree: Tree) -> Tree:
        """`tree` with its arrays whole on each of the `n_devices`.

        The trainer's own, a state, a key and data go through here before a run, so that
        it does not matter to which device they were committed.
        """
        return put_on_every_device(tree, self.n_devices)

    @property
    def _shaper(self) -> FitnessShaper:
        return self.fitness_shaper.directed(is_maximized(self.task))

    @property
    def _start(self) -> Any:
        """What is evolved: `params_like` without statistics of observations."""
        given = self.params_like
        return given.policy if isinstance(given, NormalizedPolicy) else given

    @property
    def _template(self) -> Template[Any]:
        return Template(self._start)

    @property
    def _strategy(self) -> Strategy:
        return Strategy(self.strategy, self.popsize, self._template.size, self.es_kws)

    def initialize(self, key: PRNGKeyArray, data: Tree = None) -> ESState[P]:
        """The state around `params_like`, before the first generation."""
        check_key(key)
        del data
        key, shuffle_key = jr.split(key)
        template, shaper = self._template, self._shaper
        flat, rest = template.flatten(self._start)
        state = ESState(
            step=jnp.zeros((), jnp.int32),
            es_state=self._strategy.init(key, flat, self.es_params),
            best_fitness=shaper.cost(jnp.asarray(jnp.inf, flat.dtype)),
            best_flat=flat,
            group=jnp.zeros((), jnp.int32),
            born=jnp.asarray(False),
            refused=jnp.zeros((), jnp.int32),
            longest_refused=jnp.zeros((), jnp.int32),
            shuffle_key=shuffle_key,
            obs_stats=self.obs_stats,
            best_stats=self.obs_stats,
            rest=rest,
            template=template,
        )
        return on_every_device(state, self.n_devices)

    def train_step(
        self, state: ESState[P], key: PRNGKeyArray, data: Tree = None
    ) -> tuple[ESState[P], ESMetrics]:
        """One generation."""
        shaper = self._shaper
        ask_key, eval_key, tell_key = jr.split(key, 3)
        population, es_state = self._ask(state, ask_key)
        # XLA would make the same random numbers again wherever they are used.
        population = jax.lax.optimization_barrier(population)
        keys = jr.split(eval_key, (self.popsize, self.eval_reps))
        task, data = drawn(self.task, data, state.shuffle_key, state.step)
        individuals = self._individuals(population, state)
        if state.obs_stats is not None:
            individuals = state.obs_stats.bind_population(individuals, self.popsize)
        values, aux = evaluate(task, individuals, keys, data, self.n_devices)
        stats = state.obs_stats
        if stats is not None:
            aux, moments = aux
            stats = stats.absorb(moments)
        fitness = jnp.mean(values, axis=-1)

        usable = jnp.isfinite(fitness) & (jnp.abs(fitness) <= _ABSURD)
        # A product is faster than a look at each number, and NaN where one of them is.
        tiny = jnp.finfo(population.dtype).tiny
        usable &= jnp.isfinite(population @ jnp.full(population.shape[-1], tiny))
        cost = shaper.cost(fitness)
        masked = jnp.where(usable, cost, jnp.inf)
        better = jnp.min(masked) < shaper.cost(state.best_fitness)

        def found() -> Any:
            best = jnp.argmin(masked)
            group = best // (self.popsize // self._strategy.groups)
            return fitness[best], population[best], group.astype(jnp.int32)

        best_fitness, best_flat, group = jax.lax.cond(
            better, found, lambda: (state.best_fitness, state.best_flat, state.group)
        )

        def replaced() -> Any:
            worst = jnp.max(jnp.where(usable, cost, -jnp.inf))
            return jnp.where(usable, fitness, shaper.cost(worst))

        told = jax.lax.cond(jnp.all(usable), lambda: fitness, replaced)
        told = shaper(population, told)
        after = self._tell(state, tell_key, population, told, es_state)
        accepted = jnp.any(usable) & stays_finite(state.es_state, after)
        refused = jnp.where(accepted, 0, state.refused + 1)

        metrics = ESMetrics(
            fitness=fitness,
            mean_fitness=jnp.mean(fitness, where=usable),
            best_fitness=best_fitness,
            failed=jnp.sum(~usable),
            rejected=~accepted,
            eval_data=aux,
        )
        after_all = ESState(
            step=state.step + 1,
            es_state=where(accepted, after, state.es_state),
            best_fitness=best_fitness,
            best_flat=best_flat,
            group=group,
            born=state.born | accepted,
            refused=refused,
            longest_refused=jnp.maximum(refused, state.longest_refused),
            shuffle_key=state.shuffle_key,
            obs_stats=stats,
            best_stats=where(better, state.obs_stats, state.best_stats),
            rest=state.rest,
            template=state.template,
        )
        return on_every_device(after_all, self.n_devices), metrics

    def params(self, state: ESState[P]) -> P:
        """The distribution's mean, or the best individual where there is none."""
        return state.best_params if self._strategy.population_based else state.mean

    def best_params(self, state: ESState[P]) -> P:
        """Return the best individual so far."""
        return state.best_params

    def warning(self, state: ESState[P]) -> str | None:
        """That the strategy has stood still for a hundred generations or more."""
        refused = int(np.asarray(state.longest_refused).max())
        if refused < _PATIENCE:
            return None
        return (
            f"{refused} updates in a row of {self._strategy.name} were refused, "
            "because no fitness was finite or its state would have turned NaN or "
            "infinite. Either it has converged, and fewer steps would do, or the task "
            'fails: look at `data["metrics"]["failed"]`.'
        )

    def _ask(
        self, state: ESState[P], key: PRNGKeyArray
    ) -> tuple[Float[Array, "pop dims"], Any]:
        strategy, params = self._strategy, self.es_params
        start, _ = self._template.flatten(self._start)
        if not strategy.population_based:
            return strategy.ask(key, state.es_state, params, start)
        return jax.lax.cond(
            state.born,
            lambda: strategy.ask(key, state.es_state, params, start),
            lambda: (strategy.first(key, start, params), state.es_state),
        )

    def _tell(
        self,
        state: ESState[P],
        key: PRNGKeyArray,
        population: Float[Array, "pop dims"],
        told: Float[Array, " pop"],
        es_state: Any,
    ) -> Any:
        if not self._strategy.population_based:
            return self._strategy.tell(key, population, told, es_state, self.es_params)
        return jax.lax.cond(
            state.born,
            lambda: self._strategy.tell(
                key, population, told, es_state, self.es_params
            ),
            lambda: self._strategy.begin(key, population, told, self.es_params),
        )

    def _individuals(
        self, population: Float[Array, "pop dims"], state: ESState[P]
    ) -> P:
        rest = jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, (self.popsize, *leaf.shape)), state.rest
        )
        return state.template.unflatten(population, rest)
